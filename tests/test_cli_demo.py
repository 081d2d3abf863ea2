"""`seqcore demo`: the seeds' walk-through, its figures, and the page."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, shell_fixture  # noqa: F401 - found by its name
from seqcore.ops import Ops
from seqcore.registry import registry
from seqcore.spi import Backend, Capabilities, Generic
from seqcore.spi.registration import BackendSpec
from seqcore_numpy.backend import NumpyBackend
from seqcore_numpy.ops import NumpyOps

# What the two seeds print, copied from them once more and in their own form.
FIRST = [
    [0.3590648, 0.3590648, 0.3590648, 0.70387346, 0.70387346, 0.70387346],
    [0.5511133, 0.5511133, 0.5511133, 0.5886358, 0.5886358, 0.5886358],
    [0.5911575, 0.5911575, 0.5911575, 0.39516988, 0.39516988, 0.39516988],
    [0.6303139, 0.6303139, 0.6303139, 0.21942243, 0.21942243, 0.21942243],
]
SECOND = [
    [0.35896602, 0.35896602, 0.35896602, 0.7037439, 0.7037439, 0.7037439],
    [0.5509713, 0.5509713, 0.5509713, 0.5884772, 0.5884772, 0.5884772],
    [0.5910032, 0.5910032, 0.5910032, 0.39501813, 0.39501813, 0.39501813],
    [0.6301636, 0.6301636, 0.6301636, 0.21932526, 0.21932526, 0.21932526],
]
TABLES = {"highest": ("first", FIRST), "tf32": ("second", SECOND)}

# Names and shapes of every output form that the seeds print, by class and flags.
FORMS = {
    ("SimpleRNN", False, False): {"y": [1, 3]},
    ("SimpleRNN", True, False): {"y": [1, 4, 3]},
    ("SimpleRNN", True, True): {"y": [1, 4, 3], "h": [1, 3]},
    ("SimpleRNN", False, True): {"y": [1, 3], "h": [1, 3]},
    ("LSTM", False, True): {"y": [1, 3], "h": [1, 3], "c": [1, 3]},
    ("LSTM", True, True): {"y": [1, 4, 3], "h": [1, 3], "c": [1, 3]},
    ("Bidirectional", False, True): {
        "y": [1, 6],
        **{name: [1, 3] for name in ("forward_h", "forward_c", "backward_h", "backward_c")},
    },
    ("Bidirectional", True, True): {
        "y": [1, 4, 6],
        **{name: [1, 3] for name in ("forward_h", "forward_c", "backward_h", "backward_c")},
    },
}


def test_every_output_form_of_the_seeds(shell: Shell) -> None:
    shapes = {}
    for shown in shell.ok("demo", "--json").json["layers"]:
        layer = sc.from_json(json.dumps(shown["layer"]))
        key = (type(layer).__name__, layer.return_sequences, layer.return_state)
        shapes[key] = {name: output["shape"] for name, output in shown["outputs"].items()}
        for output in shown["outputs"].values():
            assert list(np.shape(output["values"])) == output["shape"]
    assert len(shapes) == 12
    assert {key: shapes[key] for key in FORMS} == FORMS


@pytest.mark.parametrize("precision", TABLES)
def test_the_tables_are_within_2e_7_of_the_printed_figures(shell: Shell, precision: str) -> None:
    tutorial, figures = TABLES[precision]
    (table,) = [
        table
        for table in shell.ok("demo", "--json").json["tables"]
        if table["matmul_precision"] == precision
    ]
    assert table["tutorial"] == tutorial
    assert table["agrees"] is True
    last, every = sorted(table["forms"], key=lambda form: form["return_sequences"])
    expected = np.array(figures)
    joined = np.concatenate([expected[-1:, :3], expected[:1, 3:]], axis=1)
    states = {"forward_h": joined[:, :3], "backward_h": joined[:, 3:]}
    worst = 0.0
    for form, y in ((last, joined), (every, expected[None])):
        for name, figure in {"y": y, **states}.items():
            output = form["outputs"][name]
            assert np.abs(np.array(output["printed"]) - figure).max() == 0
            assert np.abs(np.array(output["computed"]) - figure).max() <= 2e-7
            # Figures are the shortest for their float32, so the difference is taken between those.
            both = (np.array(value, np.float32) for value in (output["computed"], figure))
            worst = max(worst, float(np.abs(np.subtract(*both, dtype=np.float64)).max()))
    assert table["largest_difference"] == worst


def test_the_two_tables_are_what_only_the_precision_tells_apart(shell: Shell) -> None:
    highest, tf32 = shell.ok("demo", "--json").json["tables"]
    first, second = (
        np.array(table["forms"][1]["outputs"]["y"]["computed"]) for table in (highest, tf32)
    )
    assert 1e-4 < np.abs(first - second).max() < 2e-4


def test_the_gates_make_the_states(shell: Shell) -> None:
    data = shell.ok("demo", "--json").json
    gates = {name: np.array(value) for name, value in data["gates"]["values"].items()}
    assert set(gates) == set("ifgoch")
    before = np.zeros(3)
    for step in range(4):
        i, f, g, o, c, h = (gates[name][step] for name in "ifgoch")
        np.testing.assert_allclose(c, f * before + i * g, atol=1e-6)
        np.testing.assert_allclose(h, o * np.tanh(c), atol=1e-6)
        before = c
    (lstm,) = [
        shown
        for shown in data["layers"]
        if shown["title"] == "LSTM" and set(shown["outputs"]) == {"y"}
        and len(shown["outputs"]["y"]["shape"]) == 3
    ]  # fmt: skip
    np.testing.assert_allclose(lstm["outputs"]["y"]["values"][0], gates["h"], atol=1e-6)


def test_the_text_shows_every_part(shell: Shell) -> None:
    out = shell.ok("demo").out
    assert out.count("layer = sc.") == 12
    assert "y, h, c = layer(x)" in out
    assert [f"step {step}, x = [" in out for step in range(4)] == [True] * 4
    assert "not numbers" in out
    for text in ("0.70387346", "0.21932526", "matmul_precision='tf32'", ": agrees"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 90


def test_an_option_reaches_the_layers(shell: Shell) -> None:
    plain, rounded = (
        shell.ok("demo", "--json", *option).json["gates"]["values"]["h"]
        for option in ([], ["--option", "matmul_precision=tf32"])
    )
    assert 0 < np.abs(np.subtract(plain, rounded)).max() < 0.01


class Page(HTMLParser):
    """What a test asks of a page: its elements, what it loads, and the text of each drawing."""

    VOID = frozenset({"meta", "rect", "path", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.drawings: list[tuple[str, list[str]]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == [], "elements were left open"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag == "svg":
            self.drawings.append(((dict(attributes).get("aria-labelledby") or ""), []))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "svg" in self._open and self._open[-1] == "text":
            self.drawings[-1][1].append(data)


@pytest.fixture
def page(shell: Shell) -> tuple[str, Page, Any]:
    result = shell.ok("demo", "--html", "demo.html", "--json")
    text = (shell.folder / "demo.html").read_text(encoding="utf-8")
    return text, Page(text), result.json


def test_the_page_needs_nothing_beside_itself(page: tuple[str, Page, Any]) -> None:
    text, parsed, _ = page
    tags = {tag for tag, _ in parsed.tags}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "base", "use"})
    loading = {"src", "href", "xlink:href", "srcset", "data", "action", "background"}
    assert all(loading.isdisjoint(attributes) for _, attributes in parsed.tags)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert re.search(r"https?://|url\(|@import|//\w", text) is None


def test_the_page_is_for_a_phone_dark_mode_and_readers_who_do_not_see_it(
    page: tuple[str, Page, Any],
) -> None:
    text, parsed, _ = page
    assert ("html", {"lang": "en"}) in parsed.tags
    assert 'name="viewport" content="width=device-width' in text
    assert "prefers-color-scheme: dark" in text
    ids = Counter(attributes["id"] for _, attributes in parsed.tags if "id" in attributes)
    assert set(ids.values()) == {1}
    for tag, attributes in parsed.tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            names = (attributes.get("aria-labelledby") or "").split()
            assert attributes.get("aria-label") or (names and set(names) <= set(ids))


def test_the_page_draws_every_gate_of_both_directions(page: tuple[str, Page, Any]) -> None:
    _, parsed, data = page
    drawn = {labels.split("-title")[0]: texts for labels, texts in parsed.drawings if labels}
    gates = data["gates"]["values"] | {
        name.replace(".", "-"): values
        for name, values in data["bidirectional_gates"]["values"].items()
    }
    assert set(drawn) == set(gates)
    assert len(gates) == 18
    for name, values in gates.items():
        # Units go down and steps across, and every cell says its number.
        numbers = [text for text in drawn[name] if "step" not in text and "unit" not in text]
        expected = [f"{value:.3f}".replace("-", "\u2212") for value in np.transpose(values).flat]
        assert numbers == expected


def test_a_page_that_cannot_be_written_leaves_nothing(shell: Shell) -> None:
    assert (
        "absent/demo.html: cannot be written" in shell("demo", "--html", "absent/demo.html").error
    )
    assert shell.files() == set()


class Limited(NumpyBackend):
    """NumPy, but for what it declares that it does not do."""

    name = "limited"
    capabilities = Capabilities(unsupported={"tf32": "no such unit", "gates": "a closed engine"})


def announced(backend: type[Backend]) -> BackendSpec:
    return BackendSpec(name=backend.name, factory="nowhere:make", spi="1.0")


def test_a_backend_says_what_it_does_not_support_in_its_place(shell: Shell) -> None:
    with registry.temporarily(announced(Limited), Limited):
        result = shell.ok("demo", "--backend", "limited", "--json", "--html", "demo.html")
        text = shell.ok("demo", "--backend", "limited").out
    page = (shell.folder / "demo.html").read_text(encoding="utf-8")
    highest, tf32 = result.json["tables"]
    assert highest["agrees"] is True
    assert "no such unit" in tf32["unsupported"]
    assert tf32["agrees"] is None
    for shown in (text, page):
        assert "no such unit" in shown
        assert "a closed engine" in shown
        assert "0.70387346" in shown
        assert "0.21932526" not in shown


class Wrong(NumpyBackend):
    """NumPy with a tanh that is a little off."""

    name = "wrong"

    def __init__(self) -> None:
        super().__init__()

        class Off(NumpyOps):
            def tanh(self, x: Any) -> Any:
                return super().tanh(x) * np.float32(1 + 1e-6)

            def at(self, precision: str) -> Ops:
                return self

        self.implementations = (Generic(Off()),)


def test_a_backend_that_computes_something_else_fails(shell: Shell) -> None:
    with registry.temporarily(announced(Wrong), Wrong):
        result = shell("demo", "--backend", "wrong")
    assert "backend 'wrong': the first table at matmul_precision='highest'" in result.error
    assert "DOES NOT AGREE" in result.out
