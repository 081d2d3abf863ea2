"""Laws of cells that read backwards (clauses BACK)."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcore.conformance.arrays import Arguments
from seqcore.conformance.laws import law, require, require_close, require_error
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.samples import BOTH, FEW, FEW_IN_GRADIENTS, UNITS, sample
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

CELLS: dict[str, AnyCell] = {
    "rnn": SimpleRNN(UNITS, **BOTH),
    "lstm": LSTM(UNITS, **BOTH),
    "gru": GRU(UNITS, **BOTH),
}

PATTERNS: tuple[MaskPattern, ...] = ("none", "holes", "right")


def _turned(layer: AnyCell) -> AnyCell:
    return layer.replace(go_backwards=True)


def _kept(layer: AnyCell) -> AnyCell:
    return layer.replace(go_backwards=True, keep_order=True)


def _mask(given: Arguments, *, flipped: bool = False) -> dict[str, Any]:
    if not given.given.keys() & {"mask", "lengths"}:
        return {}
    return {"mask": np.flip(given.valid, 1) if flipped else given.valid}


@law("BACK-1", over=CELLS)
def reading_backwards_is_reading_flipped_input(subject: Subject, layer: AnyCell) -> None:
    """Sequence and state are those of the forward cell over flipped input and mask."""
    for pattern in PATTERNS:
        given = sample(subject, layer, "backwards", mask=pattern)
        found = subject.apply(
            _turned(layer), given.weights, given.x, initial_state=given.state, **_mask(given)
        )
        expected = subject.apply(
            layer,
            given.weights,
            np.flip(given.x, 1),
            initial_state=given.state,
            **_mask(given, flipped=True),
        )
        for name, one, two in zip(found._fields, found, expected, strict=True):
            require_close(one, two, FEW, f"{layer} backwards, mask {pattern!r}: {name}")


@law("BACK-1", needs=("gradients",))
def gradients_of_reading_backwards(subject: Subject) -> None:
    """The gradients are those over flipped input, that of the input flipped back."""
    layer = CELLS["lstm"]
    given = sample(subject, layer, "gradients backwards", mask="holes")
    found = _gradients(subject, _turned(layer), given, given.x, _mask(given))
    expected = _gradients(subject, layer, given, np.flip(given.x, 1), _mask(given, flipped=True))
    for name, value in expected.weights.items():
        require_close(
            found.weights[name], value, FEW_IN_GRADIENTS, f"{layer} backwards: gradient of {name}"
        )
    require_close(
        found.x, np.flip(expected.x, 1), FEW_IN_GRADIENTS, f"{layer} backwards: gradient of x"
    )
    for index, value in enumerate(expected.initial_state):
        what = f"{layer} backwards: gradient of initial_state[{index}]"
        require_close(found.initial_state[index], value, FEW_IN_GRADIENTS, what)


def _gradients(subject: Subject, layer: AnyCell, given: Arguments, x: Any, mask: Any) -> Any:
    outputs, pullback = subject.vjp(layer, given.weights, x, initial_state=given.state, **mask)
    random = subject.random("cotangents backwards")
    return pullback(tuple(random.standard_normal(y.shape).astype(y.dtype) for y in outputs))


@law("BACK-1", "BACK-2")
def the_reverse_of_the_reverse_is_the_whole(subject: Subject) -> None:
    """Flipped input read backwards is the input read forwards, in either order of output."""
    layer = CELLS["gru"]
    given = sample(subject, layer, "reverse of reverse", mask="right")
    flipped = np.flip(given.x, 1)
    mask = _mask(given, flipped=True)
    forward = subject.apply(
        layer, given.weights, given.x, initial_state=given.state, **_mask(given)
    )
    turned, kept = (
        subject.apply(each, given.weights, flipped, initial_state=given.state, **mask)
        for each in (_turned(layer), _kept(layer))
    )
    require_close(turned.y, forward.y, FEW, f"{layer}, flipped and backwards: y")
    require_close(np.flip(kept.y, 1), forward.y, FEW, f"{layer}, flipped, order kept: y")
    require_close(turned.h, forward.h, FEW, f"{layer}, flipped and backwards: h")
    require_close(kept.h, forward.h, FEW, f"{layer}, flipped, order kept: h")


@law("BACK-2", over=CELLS)
def keeping_the_order_flips_the_sequence_alone(subject: Subject, layer: AnyCell) -> None:
    """The sequence is in original time; states and single steps are as without."""
    for pattern in PATTERNS:
        given = sample(subject, layer, "order kept", mask=pattern)
        turned, kept = (
            subject.apply(each, given.weights, given.x, initial_state=given.state, **_mask(given))
            for each in (_turned(layer), _kept(layer))
        )
        what = f"{layer} backwards with keep_order, mask {pattern!r}"
        require_close(kept.y, np.flip(turned.y, 1), FEW, f"{what}: y")
        require(
            float(np.abs(kept.y - turned.y).max()) > 1e-3,
            f"{what}: expected y in another order than without",
            received=kept.y,
        )
        for name, one, two in zip(kept._fields[1:], kept[1:], turned[1:], strict=True):
            require_close(one, two, FEW, f"{what}: {name}")
        one = subject.apply(
            _kept(layer).replace(return_sequences=False, return_state=False),
            given.weights,
            given.x,
            initial_state=given.state,
            **_mask(given),
        )
        require_close(one, turned.h, FEW, f"{what}: y of one step")


@law("BACK-2")
def keeping_the_order_needs_a_reversed_cell(subject: Subject) -> None:
    """`keep_order=True` without `go_backwards=True` is an error."""
    for cell in (SimpleRNN, LSTM, GRU):
        with require_error(SpecError, f"{cell.__name__} with keep_order alone", "keep_order"):
            cell(UNITS, keep_order=True)


@law("BACK-3", over=CELLS)
def the_state_is_taken_after_the_first_step(subject: Subject, layer: AnyCell) -> None:
    """The final state belongs to step 0 of the input, and depends on it."""
    given = sample(subject, layer, "state backwards")
    for each, first, last in ((_turned(layer), -1, 0), (_kept(layer), 0, -1)):
        found = subject.apply(each, given.weights, given.x, initial_state=given.state)
        what = f"{layer} backwards, keep_order={each.keep_order}: h"
        require_close(found.h, found.y[:, first], FEW, what)
        require(
            float(np.abs(found.h - found.y[:, last]).max()) > 1e-3,
            f"{what}: expected it other than y at the input's last step",
            received=found.h,
        )


@law("BACK-3", over=CELLS)
def lengths_count_from_the_start_of_original_time(subject: Subject, layer: AnyCell) -> None:
    """`lengths` is the mask with the padding at the input's end, read backwards too."""
    given = sample(subject, layer, "lengths backwards", mask="lengths")
    for each in (_turned(layer), _kept(layer)):
        by_lengths, by_mask = (
            subject.apply(each, given.weights, given.x, initial_state=given.state, **way)
            for way in ({"lengths": given.given["lengths"]}, {"mask": given.valid})
        )
        for name, one, two in zip(by_mask._fields, by_lengths, by_mask, strict=True):
            require_close(one, two, FEW, f"{layer} backwards with lengths: {name}")
