from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqcore.conformance import vectors
from seqcore.conformance.clauses import clauses
from seqcore.spec.layers import SimpleRNN

FOLDER = vectors.FOLDER
DOCUMENT = json.loads((FOLDER / "vectors.json").read_text("utf-8"))
FLAT = dict(np.load(FOLDER / "vectors.npz"))
CASES = {case["id"]: case for case in DOCUMENT["cases"]}


def array(place: dict[str, Any], name: str = "inputs") -> np.ndarray:
    size = int(np.prod(place["shape"]))
    return FLAT[name][place["at"] : place["at"] + size].reshape(place["shape"])


def agrees(found: np.ndarray, place: dict[str, Any]) -> bool:
    reference = array(place, "references")
    unit = DOCUMENT["eps"] * max(1.0, float(np.abs(reference).max(initial=0.0)))
    return found.shape == reference.shape and bool(
        np.all(np.abs(found - reference) <= place["limit"] * unit)
    )


def test_the_files_are_what_the_cases_give() -> None:
    document, arrays = vectors.make(vectors.vector_cases(), vectors.SEED)
    again = json.loads(json.dumps(document))
    limits, known_limits = _limits(again), _limits(DOCUMENT)
    assert limits == pytest.approx(known_limits, abs=2e-3)
    assert _without_limits(again) == _without_limits(DOCUMENT)
    np.testing.assert_array_equal(arrays["inputs"], FLAT["inputs"])
    np.testing.assert_allclose(arrays["references"], FLAT["references"], rtol=1e-12, atol=1e-14)


def test_the_bytes_are_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = vectors.vector_cases()[:3]
    monkeypatch.setattr(vectors, "vector_cases", lambda: few)
    for name in ("one", "two"):
        vectors.write(tmp_path / name)
    for file in ("vectors.json", "vectors.npz"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_they_are_small_and_many_sided() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 500_000
    assert len(CASES) > 50
    layers = {case["layer"]["type"] for case in CASES.values()}
    assert layers == {"SimpleRNN", "LSTM", "GRU", "Bidirectional", "Stack"}
    merges = {case["layer"].get("merge_mode") for case in CASES.values()}
    assert merges >= {"concat", "sum", "mul", "ave", "none"}
    for key in ("mask", "lengths", "initial_state", "gradients"):
        assert any(key in case for case in CASES.values()), key
    assert {name for case in CASES.values() for name in case["clauses"]} <= clauses().keys()


def test_every_number_belongs_to_one_array() -> None:
    for name, keys in {
        "inputs": ("weights", "initial_state", "cotangents"),
        "references": ("outputs", "gradients"),
    }.items():
        places = [p for case in CASES.values() for key in keys for p in case.get(key, {}).values()]
        if name == "inputs":
            places += [case["x"] for case in CASES.values()]
        at = 0
        for place in sorted(places, key=lambda place: place["at"]):
            assert place["at"] == at
            at += int(np.prod(place["shape"]))
        assert at == FLAT[name].size


def test_a_case_by_independent_code() -> None:
    case = CASES["values/lstm/forward/sequences-state/state/right"]
    weights = {name: array(place) for name, place in case["weights"].items()}
    h, c = (array(place) for place in case["initial_state"].values())
    ys = []
    for x, valid in zip(array(case["x"]).swapaxes(0, 1), np.array(case["mask"]).T, strict=True):
        a = x @ weights["kernel"] + h @ weights["recurrent_kernel"] + weights["bias"]
        i, f, g, o = np.split(a, 4, axis=1)
        new = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
        c = np.where(valid[:, None], new, c)
        h = np.where(valid[:, None], np.tanh(new) / (1 + np.exp(-o)), h)
        ys.append(np.where(valid[:, None], h, 0))
    found = {"y": np.stack(ys, 1), "h": h, "c": c}
    assert found.keys() == case["outputs"].keys()
    assert all(agrees(found[name], place) for name, place in case["outputs"].items())
    assert not agrees(found["y"][::-1], case["outputs"]["y"])


def test_the_example_of_the_page_runs() -> None:
    page = (Path(__file__).parents[1] / "docs" / "conformance-vectors.md").read_text("utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(code, "<example>", "exec"), names)
    place = DOCUMENT["cases"][0]["outputs"]["y"]
    reference = array(place, "references")
    assert names["agrees"](reference.astype(np.float32), place)
    assert not names["agrees"](reference + 1e-4, place)
    assert f"{len(CASES)} calls" in page


def test_a_case_that_is_not_judged_by_value_is_refused() -> None:
    case = vectors.vector_cases()[0]
    wild = dataclasses.replace(case, layer=SimpleRNN(9), time=60, scale=1.5)
    with pytest.raises(ValueError, match="ill-conditioned"):
        vectors.make((wild,), 0)


def _limits(document: dict[str, Any]) -> list[float]:
    return [
        place["limit"]
        for case in document["cases"]
        for kind in ("outputs", "gradients")
        for place in case.get(kind, {}).values()
    ]


def _without_limits(document: dict[str, Any]) -> str:
    def stripped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: stripped(item) for key, item in value.items() if key != "limit"}
        return [stripped(item) for item in value] if isinstance(value, list) else value

    return json.dumps(stripped(document))
