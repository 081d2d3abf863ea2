"""The walk-through as text, for a terminal 80 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.cli.walkthrough import (
    MEANINGS,
    TOLERANCE,
    UNITS,
    Compared,
    Gates,
    Shown,
    Table,
    Walkthrough,
    X,
    code_lines,
    shortest,
)

_RULE = "-" * 78


def draw(walkthrough: Walkthrough) -> str:
    """Return the whole walk-through."""
    return "\n".join(_lines(walkthrough))


def _lines(walkthrough: Walkthrough) -> Iterator[str]:
    yield f"seqcore on {walkthrough.backend} {walkthrough.version}"
    yield from _heading("The input")
    yield f"x {X.shape} = (batch, time, features): one sequence of 4 steps, 5 features each"
    yield from _indented(X)
    yield from _heading("What each layer returns")
    yield "Fresh weights, seed 0. The tutorials that print these forms drew theirs at random,"
    yield "without a seed: what can be compared is names and shapes, not numbers."
    for shown in walkthrough.layers:
        yield from _layer(shown)
    yield from _heading(f"Inside the LSTM({UNITS}), step by step")
    yield from _gates(walkthrough.gates)
    yield from _heading("Two tables to reproduce: a bidirectional LSTM, kernels 0.1 everywhere")
    for table in walkthrough.tables:
        yield from _table(table)


def _heading(title: str) -> Iterator[str]:
    yield ""
    yield title
    yield _RULE


def _layer(shown: Shown) -> Iterator[str]:
    yield ""
    yield from code_lines(shown)
    for name, value in shown.outputs.items():
        yield f"  {name} {value.shape}"
        yield from _indented(value)


def _indented(array: NDArray[Any]) -> Iterator[str]:
    for line in np.array2string(array, max_line_width=100).splitlines():
        yield f"    {line}"


def _gates(gates: Gates) -> Iterator[str]:
    if gates.unsupported is not None:
        yield gates.unsupported
        return
    for name, meaning in MEANINGS.items():
        yield f"  {name}  {meaning}"
    header = "".join(f"{f'unit {unit}':>12}" for unit in range(UNITS))
    for step, features in enumerate(X[0]):
        yield ""
        yield f"step {step}, x = {features}"
        yield f"   {header}"
        for name in MEANINGS:
            numbers = "".join(f"{value:12.7f}" for value in gates.values[name][step])
            yield f"  {name}{numbers}"


def _table(table: Table) -> Iterator[str]:
    printed = table.printed
    yield ""
    yield f"The {printed.tutorial} tutorial's, at matmul_precision={printed.precision!r}"
    if table.unsupported is not None:
        yield f"  not computed: {table.unsupported}"
        return
    for return_sequences, outputs in table.forms.items():
        yield f"  return_sequences={return_sequences}, return_state=True"
        yield f"    {'output':18}{'step':>5}{'printed':>13}{'computed':>13}{'difference':>12}"
        for output in outputs:
            yield from _compared(output)
    verdict = "agrees" if table.agrees else "DOES NOT AGREE"
    yield (
        f"  largest difference of all units: {table.difference:.1e}, at most {TOLERANCE:.0e} "
        f"allowed: {verdict}"
    )


def _compared(output: Compared) -> Iterator[str]:
    for name, step, printed, computed in halves(output):
        worst = np.abs(computed.astype(np.float64) - printed)
        unit = int(worst.argmax())
        yield (
            f"    {name:18}{step:>5}{shortest(printed[unit]):>13}{shortest(computed[unit]):>13}"
            f"{worst[unit]:12.1e}"
        )


def halves(output: Compared) -> Iterator[tuple[str, str, NDArray[Any], NDArray[Any]]]:
    """Yield an output in parts as large as a direction's units.

    Each part is its name, its step where there are several, and its figures printed and computed.
    """
    steps = output.printed.ndim == 3
    printed, computed = (
        value.reshape(-1, value.shape[-1]) for value in (output.printed, output.computed)
    )
    both = printed.shape[-1] == 2 * UNITS
    for start, name in ((0, " forward"), (UNITS, " backward")) if both else ((0, ""),):
        part = slice(start, start + UNITS)
        for step in range(len(printed)):
            shown = str(step) if steps else ""
            yield output.name + name, shown, printed[step, part], computed[step, part]
