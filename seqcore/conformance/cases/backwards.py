"""Laws of cells that read backwards (clauses BACK)."""

from __future__ import annotations

import numpy as np

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import CELLS, UNITS, Call, draw, gradients_of, outputs_of
from seqcore.conformance.laws import law, require, require_error
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

BACKWARDS = {name: CELLS[name] for name in ("rnn", "lstm", "gru")}


def _turned(call: Call) -> Call:
    """Return the call of a cell that reads backwards."""
    return call.but(layer=call.layer.replace(go_backwards=True))


def _kept(call: Call) -> Call:
    """Return the same with the sequence in original time."""
    return call.but(layer=call.layer.replace(go_backwards=True, keep_order=True))


def _patterns(subject: Subject) -> tuple[MaskPattern, ...]:
    return ("none", "holes", "right") if subject.supports("masks") else ("none",)


@law("BACK-1", over=BACKWARDS)
def reading_backwards_is_reading_flipped_input(subject: Subject, layer: AnyCell) -> None:
    """Sequence and state are those of the forward cell over flipped input and mask."""
    for pattern in _patterns(subject):
        call = draw(subject, layer, "backwards", mask=pattern)
        found, expected = outputs_of(subject, _turned(call)), outputs_of(subject, call.flipped())
        require_alike(found, expected, call.flipped(), f"{layer} backwards, mask {pattern!r}")


@law("BACK-1", needs=("gradients", "masks"))
def gradients_of_reading_backwards(subject: Subject) -> None:
    """The gradients are those over flipped input, that of the input flipped back."""
    call = draw(subject, CELLS["lstm"], "gradients backwards", mask="holes")
    expected = gradients_of(subject, call.flipped())
    expected["gradient of x"] = np.flip(expected["gradient of x"], 1)
    found = gradients_of(subject, _turned(call))
    require_alike(found, expected, call.flipped(), f"{call.layer} backwards")


@law("BACK-1", "BACK-2", needs=("masks",))
def the_reverse_of_the_reverse_is_the_whole(subject: Subject) -> None:
    """Flipped input read backwards is the input read forwards, in either order of output."""
    call = draw(subject, CELLS["gru"], "reverse of reverse", mask="right")
    forward = outputs_of(subject, call)
    turned = outputs_of(subject, _turned(call.flipped()))
    require_alike(turned, forward, call, f"{call.layer}, flipped and backwards")
    kept = outputs_of(subject, _kept(call.flipped()))
    kept["y"] = np.flip(kept["y"], 1)
    require_alike(kept, forward, call, f"{call.layer}, flipped, order kept")


@law("BACK-2", over=BACKWARDS)
def keeping_the_order_flips_the_sequence_alone(subject: Subject, layer: AnyCell) -> None:
    """The sequence is in original time; states and single steps are as without."""
    for pattern in _patterns(subject):
        call = draw(subject, layer, "order kept", mask=pattern)
        turned, kept = (outputs_of(subject, each) for each in (_turned(call), _kept(call)))
        what = f"{layer} backwards with keep_order, mask {pattern!r}"
        require(
            float(np.abs(kept["y"] - turned["y"]).max()) > 1e-3,
            f"{what}: expected y in another order than without",
            received=kept["y"],
        )
        require_alike(kept, turned | {"y": np.flip(turned["y"], 1)}, call, what)
        flags = {"return_sequences": False, "return_state": False}
        one = outputs_of(subject, _kept(call.but(layer=layer.replace(**flags))))
        require_alike(one, {"y": turned["h"]}, call, f"{what}, one step")


@law("BACK-2", arrays=False)
def keeping_the_order_needs_a_reversed_cell(subject: Subject) -> None:
    """`keep_order=True` without `go_backwards=True` is an error."""
    for cell in (SimpleRNN, LSTM, GRU):
        with require_error(SpecError, f"{cell.__name__} with keep_order alone", "keep_order"):
            cell(UNITS, keep_order=True)


@law("BACK-3", over=BACKWARDS)
def the_state_is_taken_after_the_first_step(subject: Subject, layer: AnyCell) -> None:
    """The final state belongs to step 0 of the input, and depends on it."""
    call = draw(subject, layer, "state backwards")
    for each, first, last in ((_turned(call), -1, 0), (_kept(call), 0, -1)):
        found = outputs_of(subject, each)
        require_alike(found, {"h": found["y"][:, first]}, call, str(each.layer))
        require(
            float(np.abs(found["h"] - found["y"][:, last]).max()) > 1e-3,
            f"{each.layer}: h: expected it other than y at the input's last step",
            received=found["h"],
        )


@law("BACK-3", needs=("masks",), over=BACKWARDS)
def lengths_count_from_the_start_of_original_time(subject: Subject, layer: AnyCell) -> None:
    """`lengths` is the mask with the padding at the input's end, read backwards too."""
    call = draw(subject, layer, "lengths backwards", mask="lengths")
    for each in (_turned(call), _kept(call)):
        found, expected = outputs_of(subject, each), outputs_of(subject, each.masked(each.valid))
        require_alike(found, expected, call, f"{layer} backwards with lengths")
