"""How large an output can be, whatever the weights: what is left to judge where rounding decides.

A call that is chaotic has no value to compare with, but its states still lie where the activations
and the initial state keep them.
"""

from __future__ import annotations

import math

import numpy as np

from seqcore.conformance.arrays import arguments
from seqcore.conformance.deviations import unit_eps
from seqcore.conformance.model import ValueCase
from seqcore.spec.layers import GRU, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import output_names, state_names

_BOUNDED = ("tanh", "sigmoid", "hard_sigmoid")
"""Activations within -1 to 1."""
_GATES = ("sigmoid", "hard_sigmoid")
"""Those within 0 to 1, between which a gate interpolates."""

ROUNDING = 8.0
"""How many eps beyond its bound an output may be."""


def bounds(case: ValueCase, seed: int) -> dict[str, float]:
    """Return the largest magnitude that each output may have, by name; infinite where it is free.

    Args:
        case: The case.
        seed: The seed of the run's arrays, for the initial state.
    """
    given = arguments(case, seed).state
    names = state_names(case.layer)
    start = {
        name: float(np.max(np.abs(value.astype(np.float64)), initial=0.0))
        for name, value in zip(names, given, strict=True)
    }
    cells = _cells(case.layer)
    hidden = [name for name in names if name.endswith("h")]  # one of each cell, in its order
    limits = {name: _bound(cell, start[name]) for cell, name in zip(cells, hidden, strict=True)}
    wide = 1 + ROUNDING * unit_eps(case.dtype)
    shown = _shown(case.layer, [limits[name] for name in hidden])
    return {
        name: wide * (shown[name] if name in shown else limits.get(name, math.inf))
        for name in output_names(case.layer)
    }


def _bound(cell: AnyCell, start: float) -> float:
    """Return the largest magnitude of a cell's `h`, which a mask may keep at its start."""
    if cell.activation not in _BOUNDED:
        return math.inf
    if isinstance(cell, SimpleRNN):
        return max(1.0, start)
    gates = _GATES if isinstance(cell, GRU) else _BOUNDED
    return max(1.0, start) if cell.recurrent_activation in gates else math.inf


def _cells(layer: AnyLayer) -> list[AnyCell]:
    match layer:
        case Stack(layers=members):
            return [cell for member in members for cell in _cells(member)]
        case Bidirectional():
            return [layer.forward, layer.backward]
        case _:
            return [layer]


def _shown(layer: AnyLayer, limits: list[float]) -> dict[str, float]:
    """Return the bounds of the sequences or last steps, for those of the cells in their order."""
    last = layer.layers[-1] if isinstance(layer, Stack) else layer
    if not isinstance(last, Bidirectional):
        return {"y": limits[-1]}
    one, two = limits[-2:]
    if last.merge_mode == "none":
        return {"forward_y": one, "backward_y": two}
    match last.merge_mode:
        case "sum":
            return {"y": one + two}
        case "mul":
            return {"y": one * two}
        case "ave":
            return {"y": (one + two) / 2}
        case _:
            return {"y": max(one, two)}
