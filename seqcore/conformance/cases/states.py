"""Laws of initial and final states (clauses STATE)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from seqcore.conformance.agreement import require_alike, require_right, require_same
from seqcore.conformance.calls import (
    BATCH,
    TIME,
    UNITS,
    draw,
    outputs_of,
    simple_rnn_step,
    zero_weights,
)
from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import CLOSED_FORM
from seqcore.errors import StateError
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import state_names

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


@law("STATE-1", needs=("masks",), over=ORDERED)
def states_go_in_and_come_out_in_one_order(
    subject: Subject, pair: tuple[AnyLayer, tuple[str, ...]]
) -> None:
    """With every step masked each state comes out at the place at which it went in."""
    layer, names = pair
    call = draw(subject, layer, "order of states", mask="all")
    result = subject.apply(layer, call.weights, call.x, **call.given)
    require(
        len(result) == 1 + len(names),
        f"{layer}: expected {len(names)} states, received {len(result) - 1}",
        expected=", ".join(names),
        received=", ".join(result._fields[1:]),
    )
    for index, name in enumerate(names):
        require_bits(result[1 + index], call.state[index], f"{layer}: state {index}, {name}")


@law("STATE-1")
def h_is_the_first_state_of_an_lstm(subject: Subject) -> None:
    """`h` multiplies the recurrent kernel, and `c` the forget gate; `h` is the output."""
    layer = LSTM(UNITS, **BOTH)
    drawn = draw(subject, layer, "h before c")
    h, c = drawn.state
    call = drawn.but(weights=zero_weights(layer))
    found = outputs_of(subject, call)
    what = f"{layer} with weights of zero"
    # Gates of 1/2 and a candidate of 0 halve c at each step, and h has no effect.
    halved = c.astype(np.float64) / 2**TIME
    for name, value in {"c": halved, "h": np.tanh(halved) / 2}.items():
        require_close(found[name], value, CLOSED_FORM, f"{what}: {name}", dtype="float32")
    require_alike(found, {"h": found["y"][:, -1]}, call, what)
    recurrent = {"recurrent_kernel": drawn.weights["recurrent_kernel"]}
    call = call.but(weights=call.weights | recurrent)
    with_h = outputs_of(subject, call)["c"]
    without = outputs_of(subject, call.giving(initial_state=(np.zeros_like(h), c)))["c"]
    require(
        float(np.abs(with_h - without).max()) > 1e-4,
        f"{layer}: expected another c from another initial h",
        received=with_h,
    )


@law("STATE-1", over={"bidirectional": (PAIR, 2), "stack": (STACK, 2)})
def a_state_reaches_its_member_alone(subject: Subject, pair: tuple[AnyLayer, int]) -> None:
    """Another state of the last member leaves the states of the first one as they were."""
    layer, index = pair
    call = draw(subject, layer, "state of a member")
    states = list(call.state)
    states[index] = states[index] + np.float32(1)
    before = outputs_of(subject, call)
    after = outputs_of(subject, call.giving(initial_state=states))
    names = list(before)[1:]
    first = {name: before[name] for name in names[:index]}
    require_alike(after, first, call, f"{layer}, after a change of state {index}")
    name = names[index]
    require(
        float(np.abs(after[name] - before[name]).max()) > 1e-4,
        f"{layer}: expected another {name} from another initial one",
        received=after[name],
    )


@law("STATE-2", over={"rnn": CHUNKED["rnn"], "gru": CHUNKED["gru"]})
def a_single_state_may_come_bare(subject: Subject, layer: AnyLayer) -> None:
    """The bare array, a tuple of it and a list of it are the same, and not the same as none."""
    call = draw(subject, layer, "bare state")
    (state,) = call.state
    bare = outputs_of(subject, call.giving(initial_state=state))
    for form, way in {"a tuple": (state,), "a list": [state]}.items():
        found = outputs_of(subject, call.giving(initial_state=way))
        require_same(found, bare, f"{layer}, state in {form}")
    without = outputs_of(subject, call.giving(initial_state=None))
    require(
        float(np.abs(without["y"] - bare["y"]).max()) > 1e-3,
        f"{layer}: expected another y with an initial state than without",
        received=bare["y"],
    )


@law("STATE-2")
def a_list_is_always_the_list_of_states(subject: Subject) -> None:
    """Rows in a list are so many states, which is a wrong number; an LSTM takes no bare array."""
    layer = CHUNKED["gru"]
    call = draw(subject, layer, "list of states")
    (state,) = call.state
    for wrong in (list(state), tuple(state), state.tolist(), []):
        with require_error(StateError, f"{layer}, a {type(wrong).__name__} of {len(wrong)}"):
            outputs_of(subject, call.giving(initial_state=wrong))
    nested = outputs_of(subject, call.giving(initial_state=[state.tolist()]))
    plain = outputs_of(subject, call.giving(initial_state=state))
    require_bits(nested["h"], plain["h"], f"{layer}, state as nested lists: h")
    layer = CHUNKED["lstm"]
    call = draw(subject, layer, "list of two states")
    for count in (1, 3):
        with require_error(StateError, f"{layer}, {count} states"):
            outputs_of(subject, call.giving(initial_state=(call.state * 2)[:count]))
    with require_error(StateError, f"{layer}, a bare array"):
        outputs_of(subject, call.giving(initial_state=np.stack(call.state)))


@law("STATE-2", over={"lstm": CHUNKED["lstm"], "bidirectional": PAIR})
def no_state_means_zeros(subject: Subject, layer: AnyLayer) -> None:
    """Without a state, with `None` and with zeros the results are the same."""
    call = draw(subject, layer, "no state", state=False)
    expected = outputs_of(subject, call.giving(initial_state=call.state))  # zeros
    for what, way in {"no state": call, "None": call.giving(initial_state=None)}.items():
        require_alike(outputs_of(subject, way), expected, call, f"{layer}, {what}")


@law("STATE-2")
def without_a_state_the_first_step_is_of_x_alone(subject: Subject) -> None:
    """From zeros the recurrent product adds nothing."""
    layer = CHUNKED["rnn"]
    call = draw(subject, layer, "first step of x alone", state=False)
    first = {"y": outputs_of(subject, call)["y"][:, 0]}
    expected = {"y": simple_rnn_step(call.weights, call.x[:, 0], *call.state)}
    require_right(first, expected, call, f"{layer} without a state, step 0")


def _check_chunks(
    subject: Subject, layer: AnyLayer, pattern: MaskPattern, splits: Iterable[int]
) -> None:
    call = draw(subject, layer, "chunks", mask=pattern)
    whole = outputs_of(subject, call)
    for at in splits:
        one = outputs_of(subject, call.steps(slice(at)))
        state = tuple(one[name] for name in state_names(layer))
        after = call.steps(slice(at, None)).giving(initial_state=state)
        two = outputs_of(subject, after)
        joined = two | {"y": np.concatenate([one["y"], two["y"]], 1)}
        what = f"{layer}, mask {pattern!r}, split at step {at}, the sequences joined"
        require_alike(joined, whole, call, what)


@law("STATE-3", over=CHUNKED)
def chunks_are_the_whole(subject: Subject, layer: AnyLayer) -> None:
    """Two calls, the second from the state of the first, give what one call gives."""
    _check_chunks(subject, layer, "none", (0, 2, TIME))


@law("STATE-3", needs=("masks",), over=CHUNKED)
def masked_chunks_are_the_whole(subject: Subject, layer: AnyLayer) -> None:
    """The same under a mask that is split in the same way."""
    _check_chunks(subject, layer, "dead_row", (2,))


@law(
    "STATE-3",
    tier="full",
    needs=("masks",),
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
    call = draw(subject, layer, "step by step")
    whole = outputs_of(subject, call)
    state, steps = call.state, []
    for t in range(TIME):
        step = call.steps(slice(t, t + 1)).giving(initial_state=state)
        y, *after = outputs_of(subject, step).values()
        state = tuple(after)
        steps.append(y)
        require(
            y.shape == (BATCH, 1, UNITS),
            f"{layer}: expected (batch, 1, units), received {y.shape}",
            expected=(BATCH, 1, UNITS),
            received=y.shape,
        )
    h, c = state
    found = {"y": np.concatenate(steps, 1), "h": h, "c": c}
    require_alike(found, whole, call, f"{layer}, step by step")
