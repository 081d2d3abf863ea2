"""Levels of cells run on seqcore the right way, or wired as a port gets it wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.interchange.levels import Level

Array = NDArray[Any]
Named = dict[str, Array]

FINAL = "final"
"""The name of what a layer returns with `return_sequences=False`, beside `y` and the states."""


@dataclass(frozen=True, slots=True)
class Wiring:
    """How the levels are run; the defaults are right.

    Attributes:
        flips: Whether a backward direction's outputs are put back into the order of the input.
        reverses: Whether the backward direction reads the input reversed.
        lengths: Which directions know the lengths: `"both"`, `"forward"` or `"none"`.
        backward_first: Whether the backward direction's outputs come before the forward one's.
        last_step: Whether the output at the last step is taken for the joined final state.
        time_first: Whether the first axis of x is taken for time.
        swaps_states: Whether h and c are taken for one another in what is returned.
    """

    flips: bool = True
    reverses: bool = True
    lengths: str = "both"
    backward_first: bool = False
    last_step: bool = False
    time_first: bool = False
    swaps_states: bool = False


RIGHT = Wiring()


def run(levels: Sequence[Level], x: Array, lengths: Array | None, wiring: Wiring = RIGHT) -> Named:
    """Return the sequence `y`, every final state by its name, and the joined final state.

    Args:
        levels: The levels.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), or None.
        wiring: How they are run.
    """
    if wiring.time_first:
        x, lengths = x.swapaxes(0, 1), None
    outputs: Named = {}
    y = x
    for index, level in enumerate(levels):
        prefix = f"layers_{index}_" if len(levels) > 1 else ""
        y, final, states = _level(level, y, lengths, wiring)
        outputs |= {prefix + name: value for name, value in states.items()}
        outputs[FINAL] = final
    if wiring.last_step:
        outputs[FINAL] = y[:, -1]
    if wiring.time_first:
        y = y.swapaxes(0, 1)
    return {"y": y, **outputs}


def _level(
    level: Level, x: Array, lengths: Array | None, wiring: Wiring
) -> tuple[Array, Array, Named]:
    sequences: list[Array] = []
    finals: list[Array] = []
    states: Named = {}
    for index, (cell, weights) in enumerate(zip(level.cells, level.weights, strict=True)):
        turned = cell.go_backwards or (index == 1 and wiring.reverses)
        keeps = turned and (wiring.flips if index == 1 else cell.keep_order)
        layer = cell.replace(
            return_sequences=True, return_state=True, go_backwards=turned, keep_order=keeps
        )
        knows = wiring.lengths == "both" or (wiring.lengths == "forward" and index == 0)
        y, *state = layer.apply(weights, x, lengths=lengths if knows else None, backend="numpy")
        names = cell.state_names[::-1] if wiring.swaps_states else cell.state_names
        direction = ("forward_", "backward_")[index] if len(level.cells) > 1 else ""
        states |= {direction + name: value for name, value in zip(names, state, strict=True)}
        sequences.append(y)
        finals.append(state[0])
    if wiring.backward_first:
        sequences.reverse()
        finals.reverse()
    return _merged(level, sequences), _merged(level, finals), states


def _merged(level: Level, values: list[Array]) -> Array:
    if len(values) == 1:
        return values[0]
    match level.merge_mode:
        case "sum":
            return values[0] + values[1]
        case "mul":
            return values[0] * values[1]
        case "ave":
            return (values[0] + values[1]) / 2
        case _:  # what is not merged is compared side by side
            return np.concatenate(values, axis=-1)


def valid(values: Mapping[str, Array], lengths: Array | None) -> Named:
    """Return outputs with the steps beyond each row's length set to zero, which differ at will."""
    if lengths is None or "y" not in values:
        return dict(values)
    y = values["y"]
    within = np.arange(y.shape[1]) < np.asarray(lengths)[:, None]
    return {**values, "y": np.where(within[:, :, None], y, 0)}
