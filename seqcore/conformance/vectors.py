"""Frozen vectors: calls with their results, for implementations that no Python reaches.

    python -m seqcore.conformance.vectors FOLDER

writes `vectors.json`, which describes the calls, and `vectors.npz`, which holds their numbers. The
format is documented in docs/conformance-vectors.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import arguments, cotangents_of
from seqcore.conformance.cases.values import value_cases
from seqcore.conformance.clauses import version
from seqcore.conformance.deviations import unit_eps
from seqcore.conformance.model import ValueCase
from seqcore.conformance.tolerance import Array, expected
from seqcore.spec.description import to_data
from seqcore.spec.outputs import state_names

FOLDER = Path(__file__).with_name("vectors")
FORMAT = "1"
SEED = 0

Place = dict[str, Any]
"""Where an array is: `at` in its flat array, and its `shape`."""


def vector_cases() -> tuple[ValueCase, ...]:
    """Return the calls that are frozen: small ones in float32, of everything a layer can be."""
    return tuple(case for case in value_cases() if _frozen(case))


def make(cases: tuple[ValueCase, ...], seed: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the document that describes calls, and the arrays that it points into."""
    inputs = _Flat("float32")
    references = _Flat("float64")
    described = [_described(case, seed, inputs, references) for case in cases]
    document = {
        "format": FORMAT,
        "specification": version(),
        "eps": unit_eps("float32"),
        "cases": described,
    }
    return document, {"inputs": inputs.array(), "references": references.array()}


def write(folder: Path) -> None:
    """Write both files, the same bytes whenever the cases are the same."""
    document, arrays = make(vector_cases(), SEED)
    folder.mkdir(parents=True, exist_ok=True)
    head = {name: value for name, value in document.items() if name != "cases"}
    lines = ",\n".join(json.dumps(case) for case in document["cases"])
    text = f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n'
    (folder / "vectors.json").write_text(text, encoding="utf-8", newline="\n")
    np.savez(folder / "vectors.npz", inputs=arrays["inputs"], references=arrays["references"])


class _Flat:
    """Arrays one after the other."""

    def __init__(self, dtype: str) -> None:
        self._dtype, self._parts, self._size = dtype, [np.zeros(0, dtype)], 0

    def place(self, value: Any) -> Place:
        """Add an array and return where it is."""
        array = np.asarray(value)
        assert array.dtype == self._dtype
        at, self._size = self._size, self._size + array.size
        self._parts.append(array.reshape(-1))
        return {"at": at, "shape": list(array.shape)}

    def array(self) -> NDArray[Any]:
        """Return them as one, little-endian."""
        joined = np.concatenate(self._parts)
        return joined.astype(joined.dtype.newbyteorder("<"))


_WHOLE = ("activations", "lengths", "merges", "no-bias")
"""Groups of cases that are frozen whole."""

_MORE = (
    "values/gru/bidirectional/last/state/dead_row",
    "values/gru-before/forward/sequences-state/zeros/right",
)
"""Cases beyond the smoke tier, which is small so that engines need not compile much."""


def _frozen(case: ValueCase) -> bool:
    _, group, *rest = case.id.split("/")
    if case.tier == "full" or (case.dtype, case.precision) != ("float32", "highest"):
        return False
    if group == "stacks":
        return "sequences-state" in rest or rest[-2:] == ["last", "left"]
    return case.tier == "smoke" or case.id in _MORE or group in _WHOLE


def _described(case: ValueCase, seed: int, inputs: _Flat, references: _Flat) -> dict[str, Any]:
    known, given = expected(case, seed), arguments(case, seed)
    if not all(map(known.admitted, known.noise)):
        raise ValueError(f"case {case.id!r}: too ill-conditioned to be compared by value")
    described: dict[str, Any] = {
        "id": case.id,
        "clauses": case.clauses,
        "layer": to_data(case.layer),
        "weights": {name: inputs.place(value) for name, value in given.weights.items()},
        "x": inputs.place(given.x),
    }
    for name in ("mask", "lengths"):
        if name in given.given:
            described[name] = given.given[name].tolist()
    if case.state:
        pairs = zip(state_names(case.layer), given.state, strict=True)
        described["initial_state"] = {name: inputs.place(value) for name, value in pairs}
    described["outputs"] = _placed(known.outputs, references)
    if case.gradients:
        values = {name: array.reference for name, array in known.outputs.items()}
        drawn = zip(values, cotangents_of(case, seed), strict=True)
        described["cotangents"] = {name: inputs.place(value) for name, value in drawn}
        described["gradients"] = _placed(known.gradients, references)
    return described


def _placed(arrays: Mapping[str, Array], references: _Flat) -> dict[str, Place]:
    return {
        name: {**references.place(array.reference), "limit": round(array.limit, 3)}
        for name, array in arrays.items()
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Write them to the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m seqcore.conformance.vectors")
    parser.add_argument("folder", type=Path, help="where to; it is made if it is not there")
    write(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    main()
