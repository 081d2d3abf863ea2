"""Wrong masks: MASK."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, replaced
from seqcore.conformance.mutants.wrong import (
    Call,
    Given,
    SameOps,
    Twisted,
    WrongBackend,
    misread,
    twisted,
    wrong_ops,
)
from seqcore.equations.cell import Cell
from seqcore.ops import Array, Arrays
from seqcore.runtime import nodes, planning
from seqcore.spi import Backend, Request

# MASK-1: any mask.


def _masked_otherwise(bend: Any) -> Any:
    """Return a hook that gives a call another mask, where it has one."""

    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        return call if mask is None else (weights, x, bend(request, mask), state)

    return before


def _up_to_the_first_hole(request: Request, mask: Array) -> Array:
    return np.logical_and.accumulate(mask, 1)


def _counted(request: Request, mask: Array) -> Array:
    """Read a mask as its number of valid steps, as code for packed sequences does."""
    return np.arange(mask.shape[1]) < mask.sum(1)[:, None]


def _first_step_added(request: Request, mask: Array) -> Array:
    """Give a row without a valid step one, as engines do that cannot have a length of 0."""
    first = np.arange(mask.shape[1]) == 0
    return mask | (~mask.any(1)[:, None] & first)


def _late_backwards(request: Any, mask: Array) -> Array:
    """Shift the mask by one step where it is read backwards."""
    return np.roll(mask, 1, 1) if request.layer.go_backwards else mask


def _always(request: Request, mask: Array) -> Array:
    return np.ones_like(mask)


def _upside_down(request: Request, mask: Array) -> Array:
    return ~mask


twisted(
    "MASK-1", "a mask read up to its first hole", before=_masked_otherwise(_up_to_the_first_hole)
)
twisted("MASK-1", "a mask read as its number of valid steps", before=_masked_otherwise(_counted))
twisted(
    "MASK-1", "a row without a valid step given one", before=_masked_otherwise(_first_step_added)
)
twisted("MASK-1", "a mask that is ignored", before=_masked_otherwise(_always))
twisted("MASK-1", "a mask that is True at masked steps", before=_masked_otherwise(_upside_down))
twisted(
    "MASK-1",
    "a mask off by one in the backward direction",
    before=_masked_otherwise(_late_backwards),
)

# MASK-2: lengths.


def _one_more(request: Request, mask: Array) -> Array:
    """Read `t <= length` for `t < length`."""
    if request.mask != "lengths":
        return mask
    return np.concatenate([np.ones_like(mask[:, :1]), mask[:, :-1]], 1)


def _from_the_end(request: Any, mask: Array) -> Array:
    """Count the valid steps of a backward cell from the end that it begins with."""
    turned = request.mask == "lengths" and request.layer.go_backwards
    return mask[:, ::-1] if turned else mask


def _zero_is_all(request: Request, mask: Array) -> Array:
    return mask | ~mask.any(1)[:, None] if request.mask == "lengths" else mask


twisted("MASK-2", "lengths that count one step more", before=_masked_otherwise(_one_more))
twisted(
    "MASK-2", "lengths of a backward cell from its end", before=_masked_otherwise(_from_the_end)
)
twisted("MASK-2", "a length of 0 read as the whole row", before=_masked_otherwise(_zero_is_all))


@mutant("MASK-2", "mask and lengths taken together")
def _both() -> Iterator[Backend]:
    def first(layer: Any, given: Given) -> Given:
        return given if given.mask is None else given._replace(lengths=None)

    with misread(first):
        yield WrongBackend()


# MASK-3: the state at a masked step.


class _ChoosesStates(SameOps):
    """Sees the choice between the state after and before a step; see `sequence.forward`."""

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        states = np.ndim(a) == np.ndim(b) == 2 and condition.shape[-1] == 1
        return self.choose(condition, a, b) if states else super().where(condition, a, b)

    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        return super().where(valid, after, before)


@wrong_ops("MASK-3", "a carried state that is a rounding off")
class _Blended(_ChoosesStates):
    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        share = (~valid).astype(before.dtype)
        return after + share * (before - after)


@wrong_ops("MASK-3", "a state of 0 after a masked step")
class _Forgotten(_ChoosesStates):
    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        return np.where(valid, after, 0).astype(after.dtype)


class _CarriesFirstOnly(SameOps):
    """Lets every state but `h` go on at masked steps."""

    def scan(self, step: Any, carry: Arrays, xs: Arrays, *, reverse: bool = False) -> Any:
        if len(xs) != 2 or len(carry) < 2:
            return super().scan(step, carry, xs, reverse=reverse)
        always = np.ones_like(xs[1][0])

        def leaky(state: Arrays, at: Arrays) -> Any:
            new, emitted = step(state, at)
            acted, _ = step(state, (at[0], always))
            return (new[0], *acted[1:]), emitted

        return super().scan(leaky, carry, xs, reverse=reverse)


wrong_ops("MASK-3", "an LSTM that carries h alone")(_CarriesFirstOnly)


# MASK-4: the output at a masked step.


@mutant("MASK-4", "carried outputs where zeros are due")
def _never_zero() -> Iterator[Backend]:
    with replaced(planning, "zeroes_masked", lambda layer: False):
        yield WrongBackend()


@mutant("MASK-4", "zeros where carried outputs are due")
def _always_zero() -> Iterator[Backend]:
    with replaced(planning, "zeroes_masked", lambda layer: True):
        yield WrongBackend()


@mutant("MASK-4", "zeros at the steps of the mask that is not reversed")
def _zeros_elsewhere() -> Iterator[Backend]:
    with replaced(planning, "passed_on", lambda layer, ops, mask: mask):
        yield WrongBackend()


def _zero_first(request: Any, call: Call, y: Array, final: Arrays) -> Any:
    """Emit 0 before the first valid step, in the place of the initial state."""
    mask, layer = call[2], request.layer
    if mask is None:
        return y, final
    seen = np.logical_or.accumulate(mask[:, ::-1] if layer.go_backwards else mask, 1)
    if layer.go_backwards and layer.keep_order:
        seen = seen[:, ::-1]
    return np.where(seen[:, :, None], y, 0).astype(y.dtype), final


twisted("MASK-4", "0 before the first valid step, not the initial h", after=_zero_first)

# MASK-5: one step under a mask.


@mutant("MASK-5", "one step that is 0 where the last step is masked")
def _zero_last() -> Iterator[Backend]:
    honest = planning.Program._outputs

    def outputs(program: Any, sequence: Any, final: Any, mask: Any) -> Any:
        found = honest(program, sequence, final, mask)
        if program.return_sequences or mask is None:
            return found
        own = len(found) - len(final)
        shown = (y * mask[:, -1:].astype(y.dtype) for y in found[:own])
        return (*shown, *found[own:])

    with replaced(planning.Program, "_outputs", outputs):
        yield WrongBackend()


def _zero_dead_rows(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    mask = call[2]
    if mask is None:
        return y, final
    alive = mask.any(1)[:, None]
    return y, tuple(np.where(alive, state, 0).astype(state.dtype) for state in final)


def _step_before(request: Any, call: Call) -> Call:
    """Leave the last valid step out where masked steps follow it."""
    weights, x, mask, state = call
    if mask is None:
        return call
    ordered = mask[:, ::-1] if request.layer.go_backwards else mask
    after = np.logical_or.accumulate(ordered[:, ::-1], 1)[:, ::-1]
    last = ordered & ~np.concatenate([after[:, 1:], np.zeros_like(after[:, :1])], 1)
    last[:, -1] = False
    kept = ordered & ~last
    return weights, x, kept[:, ::-1] if request.layer.go_backwards else kept, state


twisted("MASK-5", "a row without a valid step that ends in 0", after=_zero_dead_rows)
twisted("MASK-5", "the state returned before the last valid step", before=_step_before)

# MASK-6: values under the mask.


@wrong_ops("MASK-6", "a state carried by multiplication, so that NaN under the mask spreads")
class _Multiplied(_ChoosesStates):
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        if np.ndim(a) == 3 and np.ndim(b) == 0:
            return a  # masked input, and what came of it
        return super().where(condition, a, b)

    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        share = valid.astype(after.dtype)
        return share * after + (1 - share) * before


@wrong_ops("MASK-6", "masked input multiplied by 0, so that NaN stays in gradients")
class _TimesZero(SameOps):
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        if np.ndim(a) == 3 and np.ndim(b) == 0:
            return a * condition.astype(a.dtype)
        return super().where(condition, a, b)


def _where_zero_is_due(request: Any, cell: Cell) -> Cell:
    """Clean masked input of the layers alone whose outputs are 0 there."""
    if request.layer.mask_output == "carry":
        cell.ops = _TimesZero().at(request.precision)
    return cell


twisted("MASK-6", "masked input cleaned where the output is 0 alone", cell=_where_zero_is_due)


@wrong_ops("MASK-6", "masked input cleaned of NaN and not of infinity")
class _NaNOnly(SameOps):
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        if np.ndim(a) == 3 and np.ndim(b) == 0:
            condition = condition | np.isinf(a)
        return super().where(condition, a, b)


@wrong_ops("MASK-6", "masked input that is finite taken as it is, in gradients")
class _FiniteStays(SameOps):
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        if np.ndim(a) == 2 and np.ndim(b) == 0:
            # The gradient of the pre-activation is not cut off: the kernel's gradient sees x.
            return super().where(condition | np.isfinite(a), a, b)
        if np.ndim(a) == 3 and np.ndim(b) == 0:
            return super().where(condition | np.isfinite(a), a, b)
        return super().where(condition, a, b)


# MASK-7: the gradient of masked input.


class _KeepsMask(Twisted):
    """Hands the mask to a hook for gradients."""

    def vjp(self, request: Any, prepared: Any, x: Any, mask: Any, initial_state: Any) -> Any:
        y, final, residuals = super().vjp(request, prepared, x, mask, initial_state)
        return y, final, (residuals, mask)

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> Any:
        inner, mask = residuals
        parts = super().pullback(request, prepared, inner, d_sequence, d_state)
        return parts if mask is None else self.bend(parts, mask)

    def bend(self, parts: Any, mask: Array) -> Any:
        raise NotImplementedError


class _TinyGradient(_KeepsMask):
    def bend(self, parts: Any, mask: Array) -> Any:
        d_weights, d_x, d_initial = parts
        tiny = np.asarray(1e-7, d_x.dtype)
        return d_weights, np.where(mask[:, :, None], d_x, tiny).astype(d_x.dtype), d_initial


class _CarriedGradient(_KeepsMask):
    def bend(self, parts: Any, mask: Array) -> Any:
        d_weights, d_x, d_initial = parts
        spread = np.roll(d_x, 1, 1)
        return d_weights, np.where(mask[:, :, None], d_x, spread), d_initial


@mutant("MASK-7", "a gradient of 1e-7 at masked input")
def _tiny() -> Iterator[Backend]:
    yield WrongBackend(_TinyGradient())


@mutant("MASK-7", "at masked input the gradient of the step before")
def _spread() -> Iterator[Backend]:
    yield WrongBackend(_CarriedGradient())


# MASK-8: the gradient through carried state.


def _behind(bend: Any) -> Any:
    """Return a hook that gives the pullback other functions."""

    def exchange(_: Request, cell: Cell) -> Cell:
        cell.ops = bend()
        return cell

    return exchange


class _Dropped(_ChoosesStates):
    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        return np.where(valid, after, 0).astype(after.dtype)


class _Acted(_ChoosesStates):
    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        return after


class _Halved(_ChoosesStates):
    def choose(self, valid: Array, after: Array, before: Array) -> Array:
        return np.where(valid, after, before / 2).astype(after.dtype)


twisted("MASK-8", "a cotangent that a masked step stops", cell_back=_behind(_Dropped))
twisted(
    "MASK-8", "a cotangent that a masked step changes as a valid one", cell_back=_behind(_Acted)
)
twisted("MASK-8", "a cotangent that a masked step halves", cell_back=_behind(_Halved))


@mutant("MASK-8", "a cotangent of an output that is 0 by the mask has effect")
def _heard() -> Iterator[Backend]:
    with replaced(planning.Program, "_pullback", _pullback_with(lambda program, d_y, mask: d_y)):
        yield WrongBackend()


@mutant("MASK-8", "a cotangent of a carried output has no effect")
def _deaf() -> Iterator[Backend]:
    def cut(program: Any, d_y: Any, mask: Any) -> Any:
        if isinstance(d_y, tuple):
            return tuple(cut(program, part, mask) for part in d_y)
        if mask is None:
            return d_y
        valid: Array = nodes.passed_on(program.layer, program.backend.ops, mask)
        return np.where(valid[:, :, None], d_y, 0).astype(d_y.dtype)

    with replaced(planning.Program, "_pullback", _pullback_with(cut)):
        yield WrongBackend()


def _pullback_with(masked: Any) -> Any:
    """Return `Program._pullback` with another treatment of a sequence's cotangent."""
    honest = planning.Program._pullback

    def pullback(program: Any, prepared: Any, kept: Any, cotangents: Any) -> Any:
        with replaced(planning.Program, "_masked", masked):
            return honest(program, prepared, kept, cotangents)

    return pullback
