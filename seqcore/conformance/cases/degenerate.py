"""Laws of degenerate sizes (clauses DEG)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.laws import law, require, require_bits, require_close
from seqcore.conformance.samples import (
    BATCH,
    BOTH,
    FEW,
    TIME,
    UNITS,
    outputs_of,
    sample,
)
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack

LAYERS: dict[str, AnyLayer] = {
    "rnn": SimpleRNN(UNITS, **BOTH),
    "lstm": LSTM(UNITS, **BOTH),
    "gru": GRU(UNITS, **BOTH),
    "backwards": LSTM(UNITS, go_backwards=True, **BOTH),
    "bidirectional": Bidirectional(LSTM(UNITS, **BOTH), backward_layer=GRU(UNITS, **BOTH)),
    "unmerged": Bidirectional(GRU(UNITS, **BOTH), merge_mode="none"),
    "stack": Stack((GRU(UNITS, return_sequences=True), Bidirectional(LSTM(UNITS))), **BOTH),
}

STEP_SIZES: dict[str, tuple[int, ...]] = {"bidirectional": (2 * UNITS,), "unmerged": (UNITS,) * 2}
"""The sizes of the outputs where they are not one of `units`."""

STATES = {"rnn": 1, "lstm": 2, "gru": 1, "backwards": 2, "bidirectional": 3, "unmerged": 2}

MERGES: dict[str, Callable[[NDArray[Any], NDArray[Any]], tuple[NDArray[Any], ...]]] = {
    "concat": lambda f, b: (np.concatenate([f, b], -1),),
    "sum": lambda f, b: (f + b,),
    "mul": lambda f, b: (f * b,),
    "ave": lambda f, b: ((f + b) / 2,),
    "none": lambda f, b: (f, b),
}


def _shapes(name: str, batch: int, time: int | None) -> list[tuple[int, ...]]:
    """Return the shapes of all outputs of one of `LAYERS`; without time, of one step."""
    sizes = (2 * UNITS,) if name == "stack" else STEP_SIZES.get(name, (UNITS,))
    steps = () if time is None else (time,)
    return [(batch, *steps, size) for size in sizes] + [(batch, UNITS)] * STATES.get(name, 5)


def _require_shapes(result: Any, expected: list[tuple[int, ...]], what: str) -> None:
    found = [np.shape(value) for value in outputs_of(result)]
    require(
        found == expected,
        f"{what}: expected the shapes {expected}, received {found}",
        expected=expected,
        received=found,
    )


def _one_step(layer: AnyLayer) -> AnyLayer:
    """Return one of `LAYERS` that returns a single step."""
    if not isinstance(layer, Bidirectional):
        return layer.replace(return_sequences=False)
    behind = layer.backward_layer
    return Bidirectional(
        layer.layer.replace(return_sequences=False),
        layer.merge_mode,
        None if behind is None else behind.replace(return_sequences=False),
    )


@law("DEG-1", over={name: name for name in LAYERS})
def no_rows_in_no_rows_out(subject: Subject, name: str) -> None:
    """With a batch of 0 everything has its usual shape with 0 rows, whatever else is given."""
    layer = LAYERS[name]
    for time in (TIME, 0):
        given = sample(subject, layer, "no rows", mask="valid", time=time)
        nothing = {
            "x": given.x[:0],
            "initial_state": tuple(value[:0] for value in given.state),
        }
        ways: dict[str, dict[str, Any]] = {
            "alone": {},
            "mask": {"mask": np.ones((0, time), bool)},
            "lengths": {"lengths": np.zeros(0, np.int64)},
        }
        for way, others in ways.items():
            for each, steps in ((layer, time), (_one_step(layer), None)):
                result = subject.apply(each, given.weights, **nothing, **others)
                what = f"{each} with batch 0, time {time}, {way}"
                _require_shapes(result, _shapes(name, 0, steps), what)
                kinds = {value.dtype.name for value in outputs_of(result)}
                require(
                    kinds == {"float32"},
                    f"{what}: expected float32, received {', '.join(sorted(kinds))}",
                )


@law("DEG-2", over={name: name for name in LAYERS})
def no_steps_give_the_initial_state(subject: Subject, name: str) -> None:
    """With time 0 a sequence has no steps, and the final state is the initial one."""
    layer = LAYERS[name]
    given = sample(subject, layer, "no steps", time=0)
    for others in ({}, {"mask": np.ones((BATCH, 0), bool)}, {"lengths": np.zeros(BATCH, int)}):
        result = subject.apply(layer, given.weights, given.x, initial_state=given.state, **others)
        what = f"{layer} with time 0"
        _require_shapes(result, _shapes(name, BATCH, 0), what)
        states = outputs_of(result)[-len(given.state) :]
        for index, (one, two) in enumerate(zip(states, given.state, strict=True)):
            require_bits(one, two, f"{what}: state {index}")
    zeros = subject.apply(layer, given.weights, given.x)
    for index, value in enumerate(outputs_of(zeros)[-len(given.state) :]):
        require_bits(value, np.zeros_like(value), f"{layer} with time 0, no state: state {index}")


@law("DEG-2", over={mode: mode for mode in MERGES})
def one_step_of_no_steps_is_the_initial_h(subject: Subject, mode: str) -> None:
    """The single step is the initial `h`, merged where the layer merges."""
    layer = Bidirectional(LSTM(UNITS), mode)
    given = sample(subject, layer, "one step of none", time=0)
    result = outputs_of(subject.apply(layer, given.weights, given.x, **given.given))
    expected = MERGES[mode](given.state[0], given.state[2])
    require(len(result) == len(expected), f"{layer}: expected {len(expected)} outputs")
    for one, two in zip(result, expected, strict=True):
        require_close(one, two, 8, f"{layer} with time 0: y")
    cell = LSTM(UNITS)
    given = sample(subject, cell, "one step of none", time=0)
    y = subject.apply(cell, given.weights, given.x, **given.given)
    require_bits(y, given.state[0], f"{cell} with time 0: y")


@law("DEG-3", over={name: name for name in ("lstm", "backwards", "unmerged", "stack")})
def one_step_drops_no_axis(subject: Subject, name: str) -> None:
    """With time 1, and with a batch of 1 too, every axis is there."""
    layer = LAYERS[name]
    for batch in (BATCH, 1) if name == "lstm" else (BATCH,):
        given = sample(subject, layer, "one step of one", batch=batch, time=1)
        whole = subject.apply(layer, given.weights, given.x, **given.given)
        _require_shapes(whole, _shapes(name, batch, 1), f"{layer} with time 1, batch {batch}")
        one = subject.apply(_one_step(layer), given.weights, given.x, **given.given)
        _require_shapes(one, _shapes(name, batch, None), f"{layer} with time 1, one step")
        for index, (step, sequence) in enumerate(
            zip(outputs_of(one), outputs_of(whole), strict=True)
        ):
            expected = sequence[:, 0] if sequence.ndim == 3 else sequence
            require_close(step, expected, FEW, f"{layer} with time 1: output {index}")


@law("DEG-3")
def one_step_is_the_equations_once(subject: Subject) -> None:
    """It starts from the initial state, in every direction."""
    for layer in (
        SimpleRNN(UNITS, **BOTH),
        SimpleRNN(UNITS, go_backwards=True, **BOTH),
        SimpleRNN(UNITS, go_backwards=True, keep_order=True, **BOTH),
    ):
        given = sample(subject, layer, "equations once", time=1)
        y, h = subject.apply(layer, given.weights, given.x, **given.given)
        wide = {name: value.astype(np.float64) for name, value in given.weights.items()}
        expected = np.tanh(
            given.x[:, 0].astype(np.float64) @ wide["kernel"]
            + given.state[0].astype(np.float64) @ wide["recurrent_kernel"]
            + wide["bias"]
        )
        require_close(y, expected[:, None], FEW, f"{layer} with time 1: y")
        require_close(h, expected, FEW, f"{layer} with time 1: h")


@law("DEG-3", over={"lstm": LSTM(UNITS, **BOTH), "gru": GRU(UNITS, **BOTH)})
def one_step_is_the_first_of_many(subject: Subject, layer: AnyCell) -> None:
    """The first step of a sequence is what the call with that step alone gives, both ways."""
    given = sample(subject, layer, "first of many")
    whole = subject.apply(layer, given.weights, given.x, **given.given)
    pair = Bidirectional(layer, merge_mode="none")
    weights = {
        prefix + name: value
        for prefix in ("forward.", "backward.")
        for name, value in given.weights.items()
    }
    first = given.x[:, :1]
    one = subject.apply(layer, given.weights, first, **given.given)
    both = subject.apply(pair, weights, first, initial_state=given.state * 2)
    require_close(one.y, whole.y[:, :1], FEW, f"{layer}: the first step alone")
    require_close(both.forward_y, one.y, FEW, f"{pair} with time 1: forward_y")
    require_close(both.backward_y, one.y, FEW, f"{pair} with time 1: backward_y")
    for index, (ahead, behind) in enumerate(
        zip(both[2 : 2 + len(given.state)], both[2 + len(given.state) :], strict=True)
    ):
        require_close(ahead, one[1 + index], FEW, f"{pair} with time 1: forward state {index}")
        require_close(behind, one[1 + index], FEW, f"{pair} with time 1: backward state {index}")


@law("MASK-5", "DEG-2", over={"lstm": LSTM(UNITS, **BOTH), "gru": GRU(UNITS, **BOTH)})
def a_length_of_zero_is_a_row_without_steps(subject: Subject, layer: AnyCell) -> None:
    """Such a row gives what a call with no steps gives: its initial state."""
    given = sample(subject, layer, "length of zero", mask="lengths")
    lengths = given.given["lengths"].copy()
    lengths[0] = 0
    result = subject.apply(
        layer, given.weights, given.x, lengths=lengths, initial_state=given.state
    )
    none = subject.apply(layer, given.weights, given.x[:, :0], initial_state=given.state)
    for name, one, two in zip(result._fields[1:], result[1:], none[1:], strict=True):
        require_bits(one[0], two[0], f"{layer}, row of length 0: {name}")
    require_bits(result.y[0], np.zeros_like(result.y[0]), f"{layer}, row of length 0: y")
    step = subject.apply(
        layer.replace(return_sequences=False),
        given.weights,
        given.x,
        lengths=lengths,
        initial_state=given.state,
    )
    require_bits(step.y[0], given.state[0][0], f"{layer}, row of length 0: y of one step")


GRADIENT_LAYERS = {
    name: LAYERS[name] for name in ("lstm", "gru", "bidirectional", "unmerged", "stack")
}


@law("DEG-4", needs=("gradients",), over=GRADIENT_LAYERS)
def gradients_of_nothing_have_their_shapes(subject: Subject, layer: AnyLayer) -> None:
    """Weights have gradients of zeros; x and states have gradients of their own shapes."""
    for batch, time in ((0, TIME), (BATCH, 0), (0, 0)):
        given = sample(subject, layer, "gradients of nothing", batch=BATCH, time=time)
        x, state = given.x[:batch], tuple(value[:batch] for value in given.state)
        outputs, pullback = subject.vjp(layer, given.weights, x, initial_state=state)
        found = pullback(tuple(np.ones_like(y) for y in outputs))
        what = f"{layer} with batch {batch}, time {time}"
        require(
            set(found.weights) == set(given.weights),
            f"{what}: expected gradients of all weights",
            expected=", ".join(given.weights),
            received=", ".join(found.weights),
        )
        for name, value in given.weights.items():
            gradient = found.weights[name]
            require(
                gradient.shape == value.shape and not gradient.any(),
                f"{what}: gradient of {name}: expected zeros {value.shape}",
                expected=np.zeros_like(value),
                received=gradient,
            )
        expected = [x.shape, *(value.shape for value in state)]
        _require_shapes((found.x, *found.initial_state), expected, f"{what}: gradients")


@law("DEG-4", needs=("gradients",), over={mode: mode for mode in MERGES})
def with_no_steps_a_state_has_the_cotangents_of_its_outputs(subject: Subject, mode: str) -> None:
    """The gradient of a state is the sum over the outputs that are it, through the merge."""
    layer = Bidirectional(LSTM(UNITS, return_state=True), mode)
    given = sample(subject, layer, "cotangents of nothing", time=0)
    outputs, pullback = subject.vjp(layer, given.weights, given.x, **given.given)
    random = subject.random("cotangents of nothing")
    drawn = tuple(random.standard_normal(y.shape).astype(np.float32) for y in outputs)
    merged, states = drawn[:-4], drawn[-4:]
    forward, backward = given.state[0], given.state[2]
    d_forward, d_backward = {
        "concat": lambda: (merged[0][:, :UNITS], merged[0][:, UNITS:]),
        "sum": lambda: (merged[0], merged[0]),
        "mul": lambda: (merged[0] * backward, merged[0] * forward),
        "ave": lambda: (merged[0] / 2, merged[0] / 2),
        "none": lambda: (merged[0], merged[-1]),
    }[mode]()
    expected = (states[0] + d_forward, states[1], states[2] + d_backward, states[3])
    found = pullback(drawn).initial_state
    for index, (one, two) in enumerate(zip(found, expected, strict=True)):
        require_close(one, two, 8, f"{layer} with time 0: gradient of state {index}")


@law("DEG-4", needs=("gradients",), over={"lstm": LSTM(UNITS, **BOTH), "gru": GRU(UNITS, **BOTH)})
def with_no_steps_a_cell_passes_its_cotangents_on(subject: Subject, layer: AnyCell) -> None:
    """The gradient of each state of a cell is the cotangent of that state."""
    given = sample(subject, layer, "cotangents of a cell", time=0)
    outputs, pullback = subject.vjp(layer, given.weights, given.x, **given.given)
    random = subject.random("cotangents of a cell")
    drawn = tuple(random.standard_normal(y.shape).astype(np.float32) for y in outputs)
    for index, (one, two) in enumerate(zip(pullback(drawn).initial_state, drawn[1:], strict=True)):
        require_close(one, two, 8, f"{layer} with time 0: gradient of state {index}")
    single = layer.replace(return_sequences=False)
    outputs, pullback = subject.vjp(single, given.weights, given.x, **given.given)
    drawn = tuple(random.standard_normal(y.shape).astype(np.float32) for y in outputs)
    expected = (drawn[0] + drawn[1], *drawn[2:])
    for index, (one, two) in enumerate(zip(pullback(drawn).initial_state, expected, strict=True)):
        require_close(one, two, 8, f"{single} with time 0: gradient of state {index}")
    _require_shapes(pullback(drawn).x, [given.x.shape], f"{single} with time 0: gradient of x")
