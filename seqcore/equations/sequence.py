"""A cell over a sequence: forward, and back-propagation through time (clauses MASK, GRAD).

`forward` keeps what `backward` needs in a flat tuple of arrays, so that a compiler can carry it
from one compiled function to the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from seqcore.equations.cell import Cell
from seqcore.equations.gru import GRUResetAfterCell, GRUResetBeforeCell
from seqcore.equations.lstm import LSTMCell
from seqcore.equations.simple_rnn import SimpleRNNCell
from seqcore.ops import Array, Arrays, Ops
from seqcore.spec.dtypes import compute_dtype
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN


class Saved(NamedTuple):
    """What the forward pass keeps for the backward pass; time comes first."""

    x: Array
    """The input, zero at masked steps, (time, batch, features)."""
    valid: Array | None
    """The mask, (time, batch, 1)."""
    before: Arrays
    """The state before every step, each (time, batch, units)."""
    gates: Arrays
    """The gates at every step, then whatever else the cell's pullback needs."""


def make_cell(layer: AnyCell, ops: Ops, weights: Mapping[str, Array]) -> Cell:
    """Return the layer's equations with its weights."""
    match layer:
        case SimpleRNN():
            return SimpleRNNCell(layer, ops, weights)
        case LSTM():
            return LSTMCell(layer, ops, weights)
        case GRU(reset_after=True):
            return GRUResetAfterCell(layer, ops, weights)
        case GRU():
            return GRUResetBeforeCell(layer, ops, weights)


def forward(
    cell: Cell,
    x: Array,
    mask: Array | None,
    initial: Arrays,
    *,
    reverse: bool,
    dtype: str,
    save: bool,
) -> tuple[Array, Arrays, Saved | None]:
    """Run a cell over a sequence.

    Args:
        cell: The equations, in the compute dtype.
        x: The input, (batch, time, features), time of at least 1.
        mask: Booleans (batch, time), or None.
        initial: The initial state, each (batch, units).
        reverse: Whether to process from the last step to the first. What is returned stays
            aligned to `x`.
        dtype: The layer's dtype, to which states are rounded at each step.
        save: Whether to keep what `backward` needs.

    Returns:
        `h` after every step, (batch, time, units), carried over at masked steps; the final state;
        what `backward` needs, if asked for.
    """
    ops = cell.ops
    x = ops.swap(x)
    valid = None
    if mask is not None:
        valid = ops.swap(mask)[:, :, None]
        # One cleaning here keeps NaN and inf under the mask out of everything that follows.
        x = ops.where(valid, x, 0.0)
    rounds = compute_dtype(dtype) != dtype
    ahead = ops.projects_ahead(x.shape[1])

    def step(state: Arrays, at: Arrays) -> tuple[Arrays, Arrays]:
        new, gates = cell.step(at[0] if ahead else cell.project(at[0]), state)
        if rounds:
            new = tuple(_round(ops, value, dtype) for value in new)
        if valid is not None:
            new = tuple(
                ops.where(at[1], after, before) for after, before in zip(new, state, strict=True)
            )
        return new, ((new[0], *state, *gates) if save else new[:1])

    inputs = cell.project(x) if ahead else x
    over = (inputs,) if valid is None else (inputs, valid)
    final, emitted = ops.scan(step, initial, over, reverse=reverse)
    h, *kept = emitted
    count = len(initial)
    saved = Saved(x, valid, tuple(kept[:count]), tuple(kept[count:])) if save else None
    return ops.swap(h), final, saved


def backward(
    cell: Cell, saved: Saved, d_sequence: Array | None, d_final: Arrays, *, reverse: bool
) -> tuple[dict[str, Array], Array, Arrays]:
    """Back-propagate through time.

    Args:
        cell: The equations, as in `forward`.
        saved: What `forward` kept.
        d_sequence: The cotangent of `h` at every step, (batch, time, units), or None for zeros.
        d_final: The cotangents of the final state, each (batch, units).
        reverse: As in `forward`.

    Returns:
        The gradients of the weights by name, of `x` (batch, time, features) and of the initial
        state.
    """
    ops = cell.ops
    count, kept = len(saved.before), len(saved.gates)
    over = saved.before + saved.gates
    if saved.valid is not None:
        over += (saved.valid,)
    if d_sequence is not None:
        over += (ops.swap(d_sequence),)

    def step_back(d_state: Arrays, at: Arrays) -> tuple[Arrays, Arrays]:
        previous, gates = at[:count], at[count : count + kept]
        if d_sequence is not None:
            d_state = (d_state[0] + at[-1], *d_state[1:])
        d_pre, d_previous = cell.step_back(d_state, gates, previous)
        if saved.valid is None:
            return d_previous, d_pre
        valid = at[count + kept]
        # Chosen afterwards: what a gate was at a masked step may be infinite, and zero times that
        # is no zero.
        pairs = zip(d_previous, d_state, strict=True)
        carried = tuple(ops.where(valid, acted, kept) for acted, kept in pairs)
        return carried, tuple(ops.where(valid, d, 0.0) for d in d_pre)

    d_initial, d_pre = ops.scan(step_back, d_final, over, reverse=not reverse)
    gates = saved.gates
    if saved.valid is not None:
        gates = tuple(ops.where(saved.valid, gate, 0.0) for gate in gates)
    d_weights, d_x = cell.weight_gradients(saved.x, saved.before[0], gates, d_pre)
    return d_weights, ops.swap(d_x), d_initial


def gates_by_name(
    layer: AnyCell, ops: Ops, saved: Saved, final: Arrays, *, reverse: bool
) -> dict[str, Array]:
    """Return every gate, and the state after every step, by name, each (batch, time, units).

    At a masked step no gate acted: the gates are NaN there, and the states are the carried ones.
    """
    named: dict[str, Any] = {}
    for name, gate in zip(layer.gate_names, saved.gates, strict=False):
        if saved.valid is not None:
            gate = ops.where(saved.valid, gate, math.nan)
        named[name] = gate
    # The order of the literature: c before h, for h is made from it.
    states = (
        _after(ops, before, last, reverse) for before, last in zip(saved.before, final, strict=True)
    )
    named |= sorted(zip(layer.state_names, states, strict=True))
    return {name: ops.swap(value) for name, value in named.items()}


def _round(ops: Ops, value: Array, dtype: str) -> Array:
    return ops.cast(ops.cast(value, dtype), compute_dtype(dtype))


def _after(ops: Ops, before: Array, final: Array, reverse: bool) -> Array:
    """Return the state after every step from that before it."""
    if reverse:
        return ops.concat([final[None], before[:-1]], 0)
    return ops.concat([before[1:], final[None]], 0)
