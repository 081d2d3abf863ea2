"""The parts of a plan: one implementation's part, and the compositions that the runtime owns.

Each node runs, differentiates and pulls back by the same four methods as an `Implementation`, over
arrays of the backend and nothing else, so that a whole plan can be compiled as one function.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from seqcore.ops import Array, Arrays, Ops
from seqcore.spec.layers import AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.outputs import output_units, state_names
from seqcore.spec.weights import attach, extract, parts
from seqcore.spi import GradientParts, Implementation, Request, Sequence


@dataclass(frozen=True, slots=True)
class Refusal:
    """An implementation that did not take a part, and why."""

    implementation: str
    reason: str


class Node(ABC):
    """One part of a plan; the methods are those of `Implementation` without the request."""

    @abstractmethod
    def prepare(self, weights: Mapping[str, Array]) -> Any:
        """Return the part's canonical weights (without prefix) in the form that `run` wants."""

    @abstractmethod
    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        """Return the sequence and the final state."""

    @abstractmethod
    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        """Return the sequence, the final state and what `pullback` needs."""

    @abstractmethod
    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        """Return the gradients of the weights by name, of x, and of the initial state."""


@dataclass(frozen=True, slots=True)
class Leaf(Node):
    """A part that one implementation runs."""

    implementation: Implementation
    request: Request
    refusals: tuple[Refusal, ...]

    def prepare(self, weights: Mapping[str, Array]) -> Any:
        return self.implementation.prepare(self.request, weights)

    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        return self.implementation.run(self.request, prepared, x, mask, state)

    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        return self.implementation.vjp(self.request, prepared, x, mask, state)

    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        return self.implementation.pullback(self.request, prepared, residuals, d_sequence, d_state)


@dataclass(frozen=True, slots=True)
class Reversed(Node):
    """A cell that reads backwards, as one that reads forwards over reversed steps."""

    inner: Node
    ops: Ops
    keep_order: bool
    refusals: tuple[Refusal, ...]

    def prepare(self, weights: Mapping[str, Array]) -> Any:
        return self.inner.prepare(weights)

    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        sequence, final = self.inner.run(prepared, *self._turn(x, mask), state)
        return self._order(sequence), final

    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        sequence, final, residuals = self.inner.vjp(prepared, *self._turn(x, mask), state)
        return self._order(sequence), final, residuals

    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        d_ordered = None if d_sequence is None else self._order(d_sequence)
        d_weights, d_x, d_initial = self.inner.pullback(prepared, residuals, d_ordered, d_state)
        return d_weights, self.ops.flip(d_x, 1), d_initial

    def _turn(self, x: Array, mask: Array | None) -> tuple[Array, Array | None]:
        return self.ops.flip(x, 1), None if mask is None else self.ops.flip(mask, 1)

    def _order(self, sequence: Array) -> Array:
        return self.ops.flip(sequence, 1) if self.keep_order else sequence


@dataclass(frozen=True, slots=True)
class Both(Node):
    """A bidirectional layer, one direction after the other, merged."""

    layer: Bidirectional
    forward: Node
    backward: Node
    ops: Ops
    dtype: str
    refusals: tuple[Refusal, ...]

    def prepare(self, weights: Mapping[str, Array]) -> Any:
        return (
            self.forward.prepare(extract(weights, "forward.")),
            self.backward.prepare(extract(weights, "backward.")),
        )

    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        ahead, behind = split_state(self.layer, state)
        forward_y, forward_state = self.forward.run(prepared[0], x, mask, ahead)
        backward_y, backward_state = self.backward.run(prepared[1], x, mask, behind)
        y = merge(self.layer.merge_mode, self.ops, self.dtype, forward_y, backward_y)
        return y, forward_state + backward_state

    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        ahead, behind = split_state(self.layer, state)
        forward_y, forward_state, forward_kept = self.forward.vjp(prepared[0], x, mask, ahead)
        backward_y, backward_state, backward_kept = self.backward.vjp(prepared[1], x, mask, behind)
        y = merge(self.layer.merge_mode, self.ops, self.dtype, forward_y, backward_y)
        factors = (forward_y, backward_y) if self.layer.merge_mode == "mul" else None
        return y, forward_state + backward_state, (forward_kept, backward_kept, factors)

    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        forward_kept, backward_kept, factors = residuals
        d_forward, d_backward = (
            (None, None)
            if d_sequence is None
            else unmerge(self.layer, self.ops, self.dtype, d_sequence, factors)
        )
        ahead, behind = split_state(self.layer, d_state)
        forward_weights, forward_x, forward_state = self.forward.pullback(
            prepared[0], forward_kept, d_forward, ahead
        )
        backward_weights, backward_x, backward_state = self.backward.pullback(
            prepared[1], backward_kept, d_backward, behind
        )
        return (
            attach(forward_weights, "forward.") | attach(backward_weights, "backward."),
            forward_x + backward_x,
            forward_state + backward_state,
        )


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """A stack, member after member."""

    layer: Stack
    members: tuple[Node, ...]
    ops: Ops
    refusals: tuple[Refusal, ...]

    def prepare(self, weights: Mapping[str, Array]) -> Any:
        return tuple(
            node.prepare(extract(weights, prefix))
            for node, (prefix, _) in zip(self.members, parts(self.layer), strict=True)
        )

    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        final: Arrays = ()
        states = split_state(self.layer, state)
        for node, ready, member, mine in self._each(prepared, states):
            x, after = node.run(ready, x, mask, mine)
            mask = passed_on(member, self.ops, mask)
            final += after
        return x, final

    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        final: Arrays = ()
        kept: tuple[Any, ...] = ()
        states = split_state(self.layer, state)
        for node, ready, member, mine in self._each(prepared, states):
            x, after, residuals = node.vjp(ready, x, mask, mine)
            mask = passed_on(member, self.ops, mask)
            final, kept = final + after, (*kept, residuals)
        return x, final, kept

    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        d_weights: dict[str, Array] = {}
        d_initial: Arrays = ()
        d_states = split_state(self.layer, d_state)
        prefixes = [prefix for prefix, _ in parts(self.layer)]
        for index in reversed(range(len(self.members))):
            d_part, d_sequence, d_before = self.members[index].pullback(
                prepared[index], residuals[index], d_sequence, d_states[index]
            )
            d_weights = attach(d_part, prefixes[index]) | d_weights
            d_initial = d_before + d_initial
        return d_weights, d_sequence, d_initial

    def _each(self, prepared: Any, states: tuple[Arrays, ...]) -> Any:
        return zip(self.members, prepared, self.layer.layers, states, strict=True)


@dataclass(frozen=True, slots=True)
class Nothing(Node):
    """A layer over no step, or no row: what comes out follows from the spec (clauses DEG).

    No engine is asked: one aborts the process at batch 0.
    """

    layer: AnyLayer
    ops: Ops

    def prepare(self, weights: Mapping[str, Array]) -> Any:
        return dict(weights)

    def run(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays]:
        ops, sizes = self.ops, output_units(self.layer)
        link = self._link(prepared, x)
        empty = tuple(ops.zeros((*x.shape[:2], size), x) + link for size in sizes)
        # Added to, so that no result is the caller's own array.
        return (empty if len(empty) > 1 else empty[0]), tuple(value + link for value in state)

    def _link(self, prepared: Any, x: Array) -> Array:
        """Return a zero that the framework's autodiff sees depend on all inputs."""
        ops = self.ops
        total = ops.sum(ops.reshape(x, (-1, 1)))
        for value in prepared.values():
            total = total + ops.sum(ops.reshape(value, (-1, 1)))
        never = ops.arange(1, x) < 0
        return ops.where(never, total, 0.0)

    def vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        return *self.run(prepared, x, mask, state), x

    def pullback(
        self, prepared: Any, residuals: Any, d_sequence: Sequence | None, d_state: Arrays
    ) -> GradientParts:
        def zeros(value: Array) -> Array:
            return self.ops.zeros(tuple(value.shape), value)

        return (
            {name: zeros(value) for name, value in prepared.items()},
            zeros(residuals),
            tuple(value + 0 for value in d_state),
        )


def split_state(layer: Bidirectional | Stack, state: Arrays) -> tuple[Arrays, ...]:
    """Return a composite layer's flat state as one tuple for each part."""
    pieces = []
    for _, part in parts(layer):
        count = len(state_names(part))
        pieces.append(state[:count])
        state = state[count:]
    return tuple(pieces)


def merge(mode: str | None, ops: Ops, dtype: str, forward_y: Array, backward_y: Array) -> Sequence:
    """Merge the two directions' outputs, sequences or single steps alike."""
    match mode:
        case "concat":
            return ops.concat([forward_y, backward_y], -1)
        case "sum":
            return forward_y + backward_y
        case "mul":
            return forward_y * backward_y
        case "ave":
            # Cast, for some libraries widen a half type that meets a Python number.
            return ops.cast((forward_y + backward_y) * 0.5, dtype)
    return forward_y, backward_y


def unmerge(
    layer: Bidirectional, ops: Ops, dtype: str, d_y: Sequence, factors: Any
) -> tuple[Array, Array]:
    """Return the pullback of `merge`; `factors` are its two inputs, needed for `"mul"` alone."""
    if layer.merge_mode == "none":
        d_forward, d_backward = d_y
        return d_forward, d_backward
    d_merged: Array = d_y
    match layer.merge_mode:
        case "concat":
            units = layer.forward.units
            return d_merged[..., :units], d_merged[..., units:]
        case "sum":
            return d_merged, d_merged
        case "mul":
            forward_y, backward_y = factors
            return d_merged * backward_y, d_merged * forward_y
        case "ave":
            half = ops.cast(d_merged * 0.5, dtype)
            return half, half
    raise AssertionError(layer.merge_mode)


def last_step(layer: AnyLayer, ops: Ops, dtype: str, final: Arrays) -> Sequence:
    """Return the output of `return_sequences=False`, which is made from the final state."""
    match layer:
        case Stack(layers=members):
            return last_step(members[-1], ops, dtype, split_state(layer, final)[-1])
        case Bidirectional():
            ahead, behind = split_state(layer, final)
            return merge(layer.merge_mode, ops, dtype, ahead[0], behind[0])
        case Recurrent():
            return final[0]


def last_step_back(
    layer: AnyLayer, ops: Ops, dtype: str, d_y: Sequence, final: Arrays, d_final: Arrays
) -> Arrays:
    """Return the cotangents of the final state, those of `last_step` added."""
    match layer:
        case Stack(layers=members):
            *others, last = split_state(layer, d_final)
            before = split_state(layer, final)[-1]
            mine = last_step_back(members[-1], ops, dtype, d_y, before, last)
            return tuple(value for piece in others for value in piece) + mine
        case Bidirectional():
            (forward_h, *_), (backward_h, *_) = split_state(layer, final)
            ahead, behind = split_state(layer, d_final)
            d_forward, d_backward = unmerge(layer, ops, dtype, d_y, (forward_h, backward_h))
            return (ahead[0] + d_forward, *ahead[1:], behind[0] + d_backward, *behind[1:])
        case Recurrent():
            return (d_final[0] + d_y, *d_final[1:])


def in_processing_order(layer: AnyLayer) -> bool:
    """Return whether the layer's output is reversed with respect to its input."""
    match layer:
        case Stack(layers=members):
            return sum(in_processing_order(member) for member in members) % 2 == 1
        case Bidirectional():
            return False
        case Recurrent():
            return layer.go_backwards and not layer.keep_order


def passed_on(layer: AnyLayer, ops: Ops, mask: Array | None) -> Array | None:
    """Return the mask of the layer's output: reversed where the steps are."""
    if mask is None or not in_processing_order(layer):
        return mask
    return ops.flip(mask, 1)


def zeroes_masked(layer: AnyLayer) -> bool:
    """Return whether the layer's output is zero at masked steps."""
    match layer:
        case Stack(layers=members):
            return zeroes_masked(members[-1])
        case Bidirectional():
            return zeroes_masked(layer.forward)
        case Recurrent():
            return layer.mask_output == "zero"
