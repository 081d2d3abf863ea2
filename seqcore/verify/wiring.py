"""Levels of cells run on seqcore the right way, or wired as a port gets it wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from seqcore.equations.sequence import forward, make_cell
from seqcore.interchange.levels import Level, Weights
from seqcore.runtime.nodes import merge
from seqcore.spec.dtypes import compute_dtype, numpy_dtype
from seqcore.spec.layers import AnyCell
from seqcore.spi import HostOps

Array = NDArray[Any]
Named = dict[str, Array]
CellRun = Callable[[AnyCell, Weights, Array, Array | None], tuple[Array, Sequence[Array]]]
"""Takes a cell, its weights, x and the mask; returns the sequence and the final states."""

FINAL = "final"
"""The name of what a layer returns with `return_sequences=False`, beside `y` and the states."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the levels are run; the defaults are right.

    Attributes:
        flips: Whether a backward direction's outputs are put back into the order of the input.
        flips_within: Whether they are, but for each row's valid steps, which stay reversed.
        reverses: Whether the backward direction reads the input reversed.
        lengths: Which directions know the lengths: `"both"`, `"forward"` or `"none"`.
        longer: By how many steps each row is taken for longer than it is.
        backward_first: Where the backward direction's outputs come before the forward one's: in
            `"every"` level, in the `"last"`, or nowhere.
        backward: Whether the last level's backward direction is there.
        last_step: Which output is taken for the joined final state: that of the `"last"` step, of
            each row's last `"valid"` step, or none.
        time_first: Whether the first axis of x is taken for time.
        swaps_states: Whether h and c are taken for one another in what is returned.
    """

    flips: bool = True
    flips_within: bool = False
    reverses: bool = True
    lengths: Literal["both", "forward", "none"] = "both"
    longer: int = 0
    backward_first: Literal["", "every", "last"] = ""
    backward: bool = True
    last_step: Literal["", "last", "valid"] = ""
    time_first: bool = False
    swaps_states: bool = False

    @property
    def inner(self) -> Wiring:
        """The same for a level that is not the last."""
        swapped = self.backward_first == "every"
        return replace(self, backward=True, backward_first="every" if swapped else "")


RIGHT = Wiring()


def applied(cell: AnyCell, weights: Weights, x: Array, mask: Array | None) -> Any:
    """Run a cell on NumPy's backend, whatever the configuration says."""
    layer = cell.replace(return_sequences=True, return_state=True)
    y, *states = layer.apply(weights, x, mask=mask, backend="numpy", matmul_precision="highest")
    return y, states


def by_equations(cell: AnyCell, weights: Weights, x: Array, mask: Array | None) -> Any:
    """Run a cell by its equations alone, which for a few steps is quickest.

    What it returns at masked steps means nothing.
    """
    dtype = x.dtype.name
    wide = numpy_dtype(compute_dtype(dtype))
    wider = {name: value.astype(wide, copy=False) for name, value in weights.items()}
    made = make_cell(cell, _Alone(), wider)
    zeros = (np.zeros((len(x), cell.units), wide),) * len(cell.state_names)
    y, states, _ = forward(
        made, x.astype(wide), mask, zeros, reverse=cell.go_backwards, dtype=dtype, save=False
    )
    if cell.go_backwards and not cell.keep_order:
        y = y[:, ::-1]
    return y, states


class _Alone(HostOps):
    """NumPy's functions on one processor.

    The threads of a BLAS are slow to start, and slower where others work: a hundred times slower
    than a product with a single row is.
    """

    def matmul(self, a: Array, b: Array) -> Array:
        found: Array = np.einsum("...j,jk->...k", a, b)
        return found


def run(
    levels: Sequence[Level],
    x: Array,
    lengths: Array | None,
    wiring: Wiring = RIGHT,
    *,
    cell_run: CellRun = applied,
) -> Named:
    """Return the sequence `y`, every final state by its name, and the joined final state.

    Args:
        levels: The levels.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), or None.
        wiring: How they are run.
        cell_run: What runs a cell.
    """
    if wiring.time_first:
        x, lengths = x.swapaxes(0, 1), None
    mask = None
    if lengths is not None:
        known = np.asarray(lengths) + wiring.longer
        mask = np.arange(x.shape[1]) < known[:, None]
    outputs: Named = {}
    y = x
    for index, level in enumerate(levels):
        prefix = f"layers_{index}_" if len(levels) > 1 else ""
        last = index == len(levels) - 1
        y, final, states = _level(level, y, mask, wiring if last else wiring.inner, cell_run)
        outputs |= {prefix + name: value for name, value in states.items()}
        outputs[FINAL] = final
        if mask is not None and turned([level]):
            mask = mask[:, ::-1]
    if wiring.time_first:
        y = y.swapaxes(0, 1)
    if wiring.last_step == "last":
        outputs[FINAL] = y[:, -1]
    elif wiring.last_step == "valid" and lengths is not None:
        outputs[FINAL] = y[np.arange(len(y)), np.asarray(lengths) - 1]
    return {"y": y, **outputs}


def turned(levels: Sequence[Level]) -> bool:
    """Return whether the sequence that levels return is in the reverse order of the input's."""
    turns = (cell.go_backwards and not cell.keep_order for level in levels for cell in level.cells)
    return sum(turns) % 2 == 1


def _level(
    level: Level, x: Array, mask: Array | None, wiring: Wiring, cell_run: CellRun
) -> tuple[Array, Array, Named]:
    sequences: list[Array] = []
    finals: list[Array] = []
    states: Named = {}
    for index, (cell, weights) in enumerate(zip(level.cells, level.weights, strict=True)):
        knows = wiring.lengths == "both" or (wiring.lengths == "forward" and index == 0)
        if index == 1 and wiring.reverses:
            cell = cell.replace(go_backwards=True, keep_order=wiring.flips)
        y, state = cell_run(cell, weights, x, mask if knows else None)
        if index == 1 and wiring.flips_within and mask is not None:
            y = _reversed_within(y, mask)
        if wiring.swaps_states:
            state = state[::-1]
        direction = ("forward_", "backward_")[index] if len(level.cells) > 1 else ""
        names = (direction + name for name in cell.state_names)
        states |= dict(zip(names, state, strict=True))
        sequences.append(y)
        finals.append(state[0])
    if wiring.backward_first:
        sequences.reverse()
        finals.reverse()
    if not wiring.backward:
        sequences, finals = sequences[:1], finals[:1]
    return _merged(level, sequences), _merged(level, finals), states


def _reversed_within(y: Array, mask: Array) -> Array:
    """Return a sequence with each row's valid steps in reverse order."""
    y = y.copy()
    for row, valid_steps in zip(y, mask, strict=True):
        row[valid_steps] = row[valid_steps][::-1]
    return y


def _merged(level: Level, values: list[Array]) -> Array:
    if len(values) == 1:
        return values[0]
    # What is not merged is compared side by side.
    mode = "concat" if level.merge_mode == "none" else level.merge_mode
    merged: Any = merge(mode, HostOps(), values[0].dtype.name, *values)
    return np.asarray(merged)


def valid(levels: Sequence[Level], values: Mapping[str, Array], lengths: Array | None) -> Named:
    """Return outputs with the steps beyond each row's length set to zero, which differ at will."""
    if lengths is None or "y" not in values:
        return dict(values)
    y = values["y"]
    within = np.arange(y.shape[1]) < np.asarray(lengths)[:, None]
    if turned(levels):
        within = within[:, ::-1]
    return {**values, "y": np.where(within[:, :, None], y, 0)}
