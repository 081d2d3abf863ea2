"""The walk-through as one HTML page that needs nothing beside itself: no script, no other file."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib.resources import files
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.cli.heat_map import draw_legend, draw_map
from seqcore.cli.walkthrough import (
    MEANINGS,
    TOLERANCE,
    UNITS,
    Gates,
    Shown,
    Table,
    Walkthrough,
    X,
    code_lines,
    shortest,
)
from seqcore.cli.walkthrough_text import halves

_FORWARD, _BACKWARD = "forward.", "backward."


def page(walkthrough: Walkthrough) -> str:
    """Return the page."""
    return "\n".join(_page(walkthrough))


def _page(walkthrough: Walkthrough) -> Iterator[str]:
    style = files("seqcore.cli").joinpath("walkthrough.css").read_text(encoding="utf-8")
    engine = escape(f"{walkthrough.backend} {walkthrough.version}")
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>Recurrent layers, step by step</title>\n<style>\n{style}</style>\n</head>"
    yield "<body>\n<header>\n<h1>Recurrent layers, step by step</h1>"
    yield f'<p class="lead">Computed by seqcore on {engine}.</p>\n</header>\n<main>'
    yield from _input()
    yield from _lstm(walkthrough.gates)
    yield from _both(walkthrough.directions)
    yield from _layers(walkthrough.layers)
    yield from _tables(walkthrough.tables)
    yield "</main>"
    yield "<footer>Written by <code>seqcore demo --html</code>; the numbers in full precision: "
    yield "<code>seqcore demo --json</code>.</footer>\n</body>\n</html>"


def _input() -> Iterator[str]:
    steps, features = X.shape[1:]
    yield "<h2>The input</h2>"
    yield f"<p>One sequence of {steps} steps with {features} features each: an array of shape "
    yield f"<code>(batch, time, features) = {X.shape}</code>.</p>"
    columns = ["step", *(f"x{index}" for index in range(features))]
    yield from _table(columns, [[str(i), *map(shortest, row)] for i, row in enumerate(X[0])])


def _lstm(gates: Gates) -> Iterator[str]:
    yield f"<h2>Inside an LSTM with {UNITS} units</h2>"
    yield "<p>At every step three gates between 0 and 1 decide what is let in, kept and shown; the "
    yield "cell state <code>c</code> carries the memory along.</p>"
    yield '<dl class="gates">'
    for name, meaning in MEANINGS.items():
        yield f"<dt>{name}</dt><dd>{escape(meaning)}</dd>"
    yield "</dl>"
    if gates.unsupported is not None:
        yield _unsupported(gates.unsupported)
        return
    yield draw_legend()
    yield '<p class="note">How to read the maps: steps go across and units down. The bars of the '
    yield "gates <code>i&nbsp;f&nbsp;o</code>, which are never negative, start at the left. "
    yield "A full bar is 1, or the largest <code>c</code> where that is more. Weights: fresh, "
    yield "seed 0.</p>"
    yield from _maps(gates, "", "LSTM")


def _both(gates: Gates) -> Iterator[str]:
    yield "<h2>Inside a bidirectional LSTM</h2>"
    if gates.unsupported is not None:
        yield _unsupported(gates.unsupported)
        return
    yield "<p>Two LSTMs with weights of their own read the same steps. Both are drawn in the time "
    yield "of the input; the arrow shows in which order a direction reads.</p>"
    yield "<h3>Forward, from the first step to the last</h3>"
    yield from _maps(gates, _FORWARD, "forward LSTM")
    yield "<h3>Backward, from the last step to the first</h3>"
    yield from _maps(gates, _BACKWARD, "backward LSTM")


def _maps(gates: Gates, prefix: str, subject: str) -> Iterator[str]:
    # One scale for a gate in both directions, so that equal shades are equal values.
    yield '<div class="maps">'
    for name, meaning in MEANINGS.items():
        values = gates.values[prefix + name]
        alike = [np.abs(v).max() for key, v in gates.values.items() if key.endswith(name)]
        yield f"<figure><figcaption><b>{name}</b>{meaning.partition(':')[0]}</figcaption>"
        yield draw_map(
            f"{prefix}{name}".replace(".", "-") or name,
            f"{subject}: {meaning}",
            values,
            signed=name in "gch",
            scale=max(1.0, *map(float, alike)),
            backwards=prefix == _BACKWARD,
        )
        yield "</figure>"
    yield "</div>"


def _layers(layers: tuple[Shown, ...]) -> Iterator[str]:
    yield "<h2>What each layer returns</h2>"
    yield "<p>Weights: fresh, seed 0. The tutorials that print these forms drew theirs at random, "
    yield "without a seed: what can be compared is names and shapes, not numbers.</p>"
    for title, group in groupby(layers, key=lambda shown: shown.title):
        yield f"<h3>{escape(title)}</h3>"
        for shown in group:
            yield from _layer(shown)


def _layer(shown: Shown) -> Iterator[str]:
    shapes = ", ".join(f"{name} {value.shape}" for name, value in shown.outputs.items())
    lines = "".join(f"<span>{escape(line)}</span>" for line in code_lines(shown))
    yield f"<pre>{lines}</pre>"
    yield f"<details><summary>{escape(shapes)}</summary>"
    for name, value in shown.outputs.items():
        yield f"<pre>{escape(name)}\n{escape(_drawn(value))}</pre>"
    yield "</details>"


def _drawn(value: NDArray[Any]) -> str:
    return np.array2string(value, max_line_width=200)


def _tables(tables: tuple[Table, ...]) -> Iterator[str]:
    yield "<h2>Two tables to reproduce</h2>"
    yield "<p>Two tutorials print a bidirectional LSTM whose kernels are 0.1 everywhere, on this "
    yield "input. Their figures are 1.5e-4 apart, because the second ran on a device that rounds "
    yield "the inputs of products to TF32. Asked for the same precision, seqcore gives both.</p>"
    for table in tables:
        printed = table.printed
        yield f"<h3>The {printed.tutorial} tutorial, matmul_precision={printed.precision!r}</h3>"
        yield from _compared(table)


def _compared(table: Table) -> Iterator[str]:
    if table.unsupported is not None:
        yield _unsupported(table.unsupported)
        return
    for return_sequences, outputs in table.forms.items():
        yield f"<p><code>return_sequences={return_sequences}, return_state=True</code></p>"
        rows = [
            [name, step, *_figures(printed, computed)]
            for output in outputs
            for name, step, printed, computed in halves(output)
        ]
        yield from _table(["output", "step", "printed", "computed", "difference"], rows, text=1)
    kind, word = ("agrees", "Agrees") if table.agrees else ("differs", "Does not agree")
    yield f'<p><span class="{kind}">{word}:</span> the largest difference of all units is '
    yield f"{table.difference:.1e}, at most {TOLERANCE:.0e} is allowed.</p>"


def _figures(printed: NDArray[Any], computed: NDArray[Any]) -> tuple[str, str, str]:
    """Return the figures of the unit that differs most."""
    apart = np.abs(computed.astype(np.float64) - printed)
    unit = int(apart.argmax())
    return shortest(printed[unit]), shortest(computed[unit]), f"{apart[unit]:.1e}"


def _table(columns: list[str], rows: list[list[str]], text: int = 0) -> Iterator[str]:
    """Yield a table whose columns from `text` on are numbers."""
    head, *body = (
        "".join(_cell(tag, value, index >= text) for index, value in enumerate(values))
        for tag, values in [("th", columns), *(("td", row) for row in rows)]
    )
    yield '<div class="scroll" tabindex="0"><table>'
    yield f"<thead><tr>{head}</tr></thead><tbody>"
    for cells in body:
        yield f"<tr>{cells}</tr>"
    yield "</tbody></table></div>"


def _cell(tag: str, value: str, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f"<{tag}{kind}>{escape(value)}</{tag}>"


def _unsupported(reason: str) -> str:
    return f'<p class="note">Not computed: {escape(reason)}</p>'
