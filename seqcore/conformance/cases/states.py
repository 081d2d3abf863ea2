"""Laws of initial and final states (clauses STATE)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from seqcore.conformance.arrays import Arguments
from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.samples import BATCH, BOTH, FEW, TIME, UNITS, sample
from seqcore.conformance.subject import Subject
from seqcore.errors import StateError
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack

PAIR = Bidirectional(LSTM(UNITS, **BOTH), backward_layer=GRU(UNITS + 1, **BOTH))
STACK = Stack((LSTM(UNITS, return_sequences=True), GRU(UNITS + 1)), **BOTH)

ORDERED: dict[str, tuple[AnyLayer, tuple[str, ...]]] = {
    "rnn": (SimpleRNN(UNITS, **BOTH), ("h",)),
    "lstm": (LSTM(UNITS, **BOTH), ("h", "c")),
    "gru": (GRU(UNITS, **BOTH), ("h",)),
    "bidirectional": (PAIR, ("forward_h", "forward_c", "backward_h")),
    "stack": (STACK, ("layers_0_h", "layers_0_c", "layers_1_h")),
}

CHUNKED: dict[str, AnyLayer] = {
    "rnn": SimpleRNN(UNITS, **BOTH),
    "lstm": LSTM(UNITS, **BOTH),
    "gru": GRU(UNITS, **BOTH),
    "stack": STACK,
}


@law("STATE-1", over=ORDERED)
def states_go_in_and_come_out_in_one_order(
    subject: Subject, pair: tuple[AnyLayer, tuple[str, ...]]
) -> None:
    """With every step masked each state comes out at the place at which it went in."""
    layer, names = pair
    given = sample(subject, layer, "order of states", mask="all")
    result = subject.apply(layer, given.weights, given.x, **given.given)
    require(
        len(result) == 1 + len(names),
        f"{layer}: expected {len(names)} states, received {len(result) - 1}",
        expected=", ".join(names),
        received=", ".join(result._fields[1:]),
    )
    for index, name in enumerate(names):
        require_bits(result[1 + index], given.state[index], f"{layer}: state {index}, {name}")


@law("STATE-1")
def h_is_the_first_state_of_an_lstm(subject: Subject) -> None:
    """`h` multiplies the recurrent kernel, and `c` the forget gate; `h` is the output."""
    layer = LSTM(UNITS, **BOTH)
    given = sample(subject, layer, "h before c")
    h, c = given.state
    weights = {name: np.zeros_like(value) for name, value in given.weights.items()}
    y, last_h, last_c = subject.apply(layer, weights, given.x, initial_state=given.state)
    # Gates of 1/2 and a candidate of 0 halve c at each step, and h has no effect.
    halved = c.astype(np.float64) / 2**TIME
    require_close(last_c, halved, 8, f"{layer} with weights of zero: c")
    require_close(last_h, np.tanh(halved) / 2, 8, f"{layer} with weights of zero: h")
    require_close(y[:, -1], last_h, FEW, f"{layer} with weights of zero: y")
    weights["recurrent_kernel"] = given.weights["recurrent_kernel"]
    zero = np.zeros_like(h)
    _, _, without = subject.apply(layer, weights, given.x, initial_state=(zero, c))
    _, _, with_h = subject.apply(layer, weights, given.x, initial_state=(h, c))
    require(
        float(np.abs(with_h - without).max()) > 1e-4,
        f"{layer}: expected another c from another initial h",
        received=with_h,
    )


@law("STATE-1", over={"bidirectional": (PAIR, 2), "stack": (STACK, 2)})
def a_state_reaches_its_member_alone(subject: Subject, pair: tuple[AnyLayer, int]) -> None:
    """Another state of the last member leaves the states of the first one as they were."""
    layer, index = pair
    given = sample(subject, layer, "state of a member")
    changed = list(given.state)
    changed[index] = changed[index] + np.float32(1)
    one = subject.apply(layer, given.weights, given.x, initial_state=given.state)
    two = subject.apply(layer, given.weights, given.x, initial_state=changed)
    for name, before, after in list(zip(one._fields, one, two, strict=True))[1 : 1 + index]:
        require_close(after, before, FEW, f"{layer}: {name} after a change of state {index}")
    require(
        float(np.abs(two[1 + index] - one[1 + index]).max()) > 1e-4,
        f"{layer}: expected another {one._fields[1 + index]} from another initial one",
        received=two[1 + index],
    )


@law("STATE-2", over={"rnn": CHUNKED["rnn"], "gru": CHUNKED["gru"]})
def a_single_state_may_come_bare(subject: Subject, layer: AnyLayer) -> None:
    """The bare array, a tuple of it and a list of it are the same, and not the same as none."""
    given = sample(subject, layer, "bare state")
    (state,) = given.state
    results = [
        subject.apply(layer, given.weights, given.x, initial_state=way)
        for way in (state, (state,), [state])
    ]
    for form, result in zip(("a tuple", "a list"), results[1:], strict=True):
        for name, one, two in zip(result._fields, result, results[0], strict=True):
            require_bits(one, two, f"{layer}, state in {form}: {name}")
    without = subject.apply(layer, given.weights, given.x)
    require(
        float(np.abs(without.y - results[0].y).max()) > 1e-3,
        f"{layer}: expected another y with an initial state than without",
        received=results[0].y,
    )


@law("STATE-2")
def a_list_is_always_the_list_of_states(subject: Subject) -> None:
    """Rows in a list are so many states, which is a wrong number; an LSTM takes no bare array."""
    layer = CHUNKED["gru"]
    given = sample(subject, layer, "list of states")
    (state,) = given.state
    for wrong in (list(state), tuple(state), state.tolist(), []):
        with require_error(StateError, f"{layer}, a {type(wrong).__name__} of {len(wrong)}"):
            subject.apply(layer, given.weights, given.x, initial_state=wrong)
    nested = subject.apply(layer, given.weights, given.x, initial_state=[state.tolist()])
    plain = subject.apply(layer, given.weights, given.x, initial_state=state)
    require_bits(nested.h, plain.h, f"{layer}, state as nested lists: h")
    two = CHUNKED["lstm"]
    given = sample(subject, two, "list of two states")
    for count in (1, 3):
        with require_error(StateError, f"{two}, {count} states"):
            states = (given.state * 2)[:count]
            subject.apply(two, given.weights, given.x, initial_state=states)
    with require_error(StateError, f"{two}, a bare array"):
        subject.apply(two, given.weights, given.x, initial_state=np.stack(given.state))


@law("STATE-2", over={"lstm": CHUNKED["lstm"], "bidirectional": PAIR})
def no_state_means_zeros(subject: Subject, layer: AnyLayer) -> None:
    """Without a state, with `None` and with zeros the results are the same."""
    given = sample(subject, layer, "no state")
    zeros = tuple(np.zeros_like(value) for value in given.state)
    expected = subject.apply(layer, given.weights, given.x, initial_state=zeros)
    for what, way in {"no state": {}, "None": {"initial_state": None}}.items():
        result = subject.apply(layer, given.weights, given.x, **way)
        for name, one, two in zip(result._fields, result, expected, strict=True):
            require_close(one, two, FEW, f"{layer}, {what}: {name}")


@law("STATE-2")
def without_a_state_the_first_step_is_of_x_alone(subject: Subject) -> None:
    """From zeros the recurrent product adds nothing."""
    layer = CHUNKED["rnn"]
    given = sample(subject, layer, "first step of x alone")
    wide = {name: value.astype(np.float64) for name, value in given.weights.items()}
    expected = np.tanh(given.x[:, 0].astype(np.float64) @ wide["kernel"] + wide["bias"])
    y, _ = subject.apply(layer, given.weights, given.x)
    require_close(y[:, 0], expected, FEW, f"{layer} without a state: y of step 0")


def _pieces(given: Arguments, at: int) -> Iterable[tuple[Any, dict[str, Any]]]:
    """Return input and mask up to a step, and from it on."""
    for part in (slice(None, at), slice(at, None)):
        yield given.x[:, part], {"mask": given.valid[:, part]} if "mask" in given.given else {}


def _check_chunks(
    subject: Subject, layer: AnyLayer, pattern: MaskPattern, splits: Iterable[int]
) -> None:
    given = sample(subject, layer, "chunks", mask=pattern)
    whole = subject.apply(layer, given.weights, given.x, **given.given)
    for at in splits:
        state, parts = given.state, []
        for x, mask in _pieces(given, at):
            y, *after = subject.apply(layer, given.weights, x, initial_state=state, **mask)
            state = tuple(after)
            parts.append(y)
        what = f"{layer}, mask {pattern!r}, split at step {at}"
        joined = np.concatenate(parts, 1)
        require_close(joined, whole[0], FEW, f"{what}: the sequences joined")
        for name, one, two in zip(whole._fields[1:], state, whole[1:], strict=True):
            require_close(one, two, FEW, f"{what}: {name}")


@law("STATE-3", over=CHUNKED)
def chunks_are_the_whole(subject: Subject, layer: AnyLayer) -> None:
    """Two calls, the second from the state of the first, give what one call gives."""
    _check_chunks(subject, layer, "none", (0, 2, TIME))


@law("STATE-3", over=CHUNKED)
def masked_chunks_are_the_whole(subject: Subject, layer: AnyLayer) -> None:
    """The same under a mask that is split in the same way."""
    _check_chunks(subject, layer, "dead_row", (2,))


@law(
    "STATE-3",
    tier="full",
    over={
        **CHUNKED,
        "gru-before": GRU(UNITS, reset_after=False, **BOTH),
        "carry": LSTM(UNITS, mask_output="carry", **BOTH),
        "three": Stack(
            (GRU(UNITS, return_sequences=True), LSTM(3, return_sequences=True), SimpleRNN(UNITS)),
            **BOTH,
        ),
    },
)
def chunks_at_every_split(subject: Subject, layer: AnyLayer) -> None:
    """The split may be at any step, 0 and `time` included, under any mask."""
    patterns: tuple[MaskPattern, ...] = ("none", "holes", "left", "right", "dead_row", "all")
    for pattern in patterns:
        _check_chunks(subject, layer, pattern, range(TIME + 1))


@law("STATE-3")
def one_step_calls_are_the_whole(subject: Subject) -> None:
    """As many calls as there are steps, each from the state of the one before."""
    layer = CHUNKED["lstm"]
    given = sample(subject, layer, "step by step")
    whole = subject.apply(layer, given.weights, given.x, **given.given)
    state, steps = given.state, []
    for t in range(TIME):
        y, *after = subject.apply(layer, given.weights, given.x[:, t : t + 1], initial_state=state)
        state = tuple(after)
        steps.append(y)
        require(
            y.shape == (BATCH, 1, UNITS),
            f"{layer}: expected (batch, 1, units), received {y.shape}",
            expected=(BATCH, 1, UNITS),
            received=y.shape,
        )
    require_close(np.concatenate(steps, 1), whole.y, FEW, f"{layer}, step by step: y")
    for name, one, two in zip(("h", "c"), state, whole[1:], strict=True):
        require_close(one, two, FEW, f"{layer}, step by step: {name}")
