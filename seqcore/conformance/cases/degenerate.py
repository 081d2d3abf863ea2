"""Laws of degenerate sizes (clauses DEG)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike, require_right, require_same
from seqcore.conformance.calls import (
    BATCH,
    CELLS,
    TIME,
    UNITS,
    Call,
    Named,
    draw,
    flat,
    gradients_of,
    linearized,
    outputs_of,
    simple_rnn_step,
)
from seqcore.conformance.laws import law, require, require_bits, require_close
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import CLOSED_FORM
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import state_names

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
    found = [np.shape(value) for value in flat(result)]
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


def _all_valid(subject: Subject, batch: int, time: int) -> dict[str, dict[str, Any]]:
    """Return each way to say that all steps are valid, where there are masks at all."""
    ways: dict[str, dict[str, Any]] = {"alone": {}}
    if subject.supports("masks"):
        ways["mask"] = {"mask": np.ones((batch, time), bool)}
        ways["lengths"] = {"lengths": np.full(batch, time)}
    return ways


@law("DEG-1", over={name: name for name in LAYERS})
def no_rows_in_no_rows_out(subject: Subject, name: str) -> None:
    """With a batch of 0 everything has its usual shape with 0 rows, whatever else is given."""
    layer = LAYERS[name]
    for time in (TIME, 0):
        call = draw(subject, layer, "no rows", time=time).rows(slice(0))
        for way, others in _all_valid(subject, 0, time).items():
            for each, steps in ((layer, time), (_one_step(layer), None)):
                result = flat(subject.apply(each, call.weights, call.x, **call.given, **others))
                what = f"{each} with batch 0, time {time}, {way}"
                _require_shapes(result, _shapes(name, 0, steps), what)
                kinds = {value.dtype.name for value in result}
                require(
                    kinds == {"float32"},
                    f"{what}: expected float32, received {', '.join(sorted(kinds))}",
                )


@law("DEG-2", over={name: name for name in LAYERS})
def no_steps_give_the_initial_state(subject: Subject, name: str) -> None:
    """With time 0 a sequence has no steps, and the final state is the initial one."""
    layer = LAYERS[name]
    call = draw(subject, layer, "no steps", time=0)
    what = f"{layer} with time 0"
    for others in _all_valid(subject, BATCH, 0).values():
        result = subject.apply(layer, call.weights, call.x, **call.given, **others)
        _require_shapes(result, _shapes(name, BATCH, 0), what)
        found = dict(zip(state_names(layer), result[-len(call.state) :], strict=True))
        require_same(found, _states(call), what)
    without = draw(subject, layer, "no steps", time=0, state=False)
    require_same(outputs_of(subject, without), _states(without), f"{what}, no state")


def _states(call: Call) -> Named:
    """Return a call's initial state by the names of its outputs."""
    return dict(zip(state_names(call.layer), call.state, strict=True))


@law("DEG-2", over={mode: mode for mode in MERGES})
def one_step_of_no_steps_is_the_initial_h(subject: Subject, mode: str) -> None:
    """The single step is the initial `h`, merged where the layer merges."""
    layer = Bidirectional(LSTM(UNITS), mode)
    call = draw(subject, layer, "one step of none", time=0)
    result = flat(subject.apply(layer, call.weights, call.x, **call.given))
    expected = MERGES[mode](call.state[0], call.state[2])
    require(len(result) == len(expected), f"{layer}: expected {len(expected)} outputs")
    for one, two in zip(result, expected, strict=True):
        require_close(one, two, CLOSED_FORM, f"{layer} with time 0: y")
    cell = LSTM(UNITS)
    call = draw(subject, cell, "one step of none", time=0)
    require_same(outputs_of(subject, call), {"y": call.state[0]}, f"{cell} with time 0")


@law("DEG-3", over={name: name for name in ("lstm", "backwards", "unmerged", "stack")})
def one_step_drops_no_axis(subject: Subject, name: str) -> None:
    """With time 1, and with a batch of 1 too, every axis is there."""
    layer = LAYERS[name]
    for batch in (BATCH, 1) if name == "lstm" else (BATCH,):
        call = draw(subject, layer, "one step of one", batch=batch, time=1)
        whole = outputs_of(subject, call)
        what = f"{layer} with time 1"
        _require_shapes(tuple(whole.values()), _shapes(name, batch, 1), f"{what}, batch {batch}")
        one = outputs_of(subject, call.but(layer=_one_step(layer)))
        _require_shapes(tuple(one.values()), _shapes(name, batch, None), f"{what}, one step")
        expected = {key: y[:, 0] if y.ndim == 3 else y for key, y in whole.items()}
        require_alike(one, expected, call, what)


@law("DEG-3")
def one_step_is_the_equations_once(subject: Subject) -> None:
    """It starts from the initial state, in every direction."""
    for layer in (
        SimpleRNN(UNITS, **BOTH),
        SimpleRNN(UNITS, go_backwards=True, **BOTH),
        SimpleRNN(UNITS, go_backwards=True, keep_order=True, **BOTH),
    ):
        call = draw(subject, layer, "equations once", time=1)
        h = simple_rnn_step(call.weights, call.x[:, 0], *call.state)
        expected = {"y": h[:, None], "h": h}
        require_right(outputs_of(subject, call), expected, call, f"{layer} with time 1")


GATED = {name: CELLS[name] for name in ("lstm", "gru")}


@law("DEG-3", over=GATED)
def one_step_is_the_first_of_many(subject: Subject, layer: AnyCell) -> None:
    """The first step of a sequence is what the call with that step alone gives, both ways."""
    call = draw(subject, layer, "first of many")
    first = call.steps(slice(1))
    one = outputs_of(subject, first)
    begun = {"y": outputs_of(subject, call)["y"][:, :1]}
    require_alike(one, begun, first, f"{layer}, the first step alone")
    pair = Bidirectional(layer, merge_mode="none")
    prefixes = ("forward", "backward")
    weights = {
        f"{prefix}.{name}": value for prefix in prefixes for name, value in call.weights.items()
    }
    both = first.but(layer=pair, weights=weights).giving(initial_state=call.state * 2)
    expected = {f"{prefix}_{name}": value for prefix in prefixes for name, value in one.items()}
    require_alike(outputs_of(subject, both), expected, first, f"{pair} with time 1")


@law("MASK-5", "DEG-2", needs=("masks",), over=GATED)
def a_length_of_zero_is_a_row_without_steps(subject: Subject, layer: AnyCell) -> None:
    """Such a row gives what a call with no steps gives: its initial state."""
    call = draw(subject, layer, "length of zero", mask="lengths")
    lengths = call.given["lengths"].copy()
    lengths[0] = 0
    call = call.giving(lengths=lengths)
    found = outputs_of(subject, call)
    nothing = draw(subject, layer, call.label).row(0).steps(slice(0))
    without = outputs_of(subject, nothing)
    what = f"{layer}, row of length 0"
    first = {name: value[:1] for name, value in found.items()}
    expected = {"y": np.zeros_like(first["y"])} | {name: without[name] for name in _states(call)}
    require_same(first, expected, what)
    one_step = call.but(layer=layer.replace(return_sequences=False))
    y = outputs_of(subject, one_step)["y"]
    require_bits(y[0], call.state[0][0], f"{what}: y of one step")


GRADIENT_LAYERS = {
    name: LAYERS[name] for name in ("lstm", "gru", "bidirectional", "unmerged", "stack")
}


@law("DEG-4", needs=("gradients",), over=GRADIENT_LAYERS)
def gradients_of_nothing_have_their_shapes(subject: Subject, layer: AnyLayer) -> None:
    """Weights have gradients of zeros; x and states have gradients of their own shapes."""
    for batch, time in ((0, TIME), (BATCH, 0), (0, 0)):
        call = draw(subject, layer, "gradients of nothing", time=time).rows(slice(batch))
        outputs, pullback = linearized(subject, call)
        found = pullback(tuple(np.ones_like(y) for y in outputs))
        what = f"{layer} with batch {batch}, time {time}"
        require(
            set(found.weights) == set(call.weights),
            f"{what}: expected gradients of all weights",
            expected=", ".join(call.weights),
            received=", ".join(found.weights),
        )
        for name, value in call.weights.items():
            gradient = found.weights[name]
            require(
                gradient.shape == value.shape and not gradient.any(),
                f"{what}: gradient of {name}: expected zeros {value.shape}",
                expected=np.zeros_like(value),
                received=gradient,
            )
        expected = [call.x.shape, *(value.shape for value in call.state)]
        _require_shapes((found.x, *found.initial_state), expected, f"{what}: gradients")


@law("DEG-4", needs=("gradients",), over={mode: mode for mode in MERGES})
def with_no_steps_a_state_has_the_cotangents_of_its_outputs(subject: Subject, mode: str) -> None:
    """The gradient of a state is the sum over the outputs that are it, through the merge."""
    layer = Bidirectional(LSTM(UNITS, return_state=True), mode)
    call = draw(subject, layer, "cotangents of nothing", time=0)
    merged, states = call.cotangents[:-4], call.cotangents[-4:]
    forward, backward = call.state[0], call.state[2]
    parts: dict[str, Callable[[], tuple[Any, Any]]] = {
        "concat": lambda: (merged[0][:, :UNITS], merged[0][:, UNITS:]),
        "sum": lambda: (merged[0], merged[0]),
        "mul": lambda: (merged[0] * backward, merged[0] * forward),
        "ave": lambda: (merged[0] / 2, merged[0] / 2),
        "none": lambda: (merged[0], merged[-1]),
    }
    d_forward, d_backward = parts[mode]()
    expected = (states[0] + d_forward, states[1], states[2] + d_backward, states[3])
    _require_state_gradients(subject, call, expected)


@law("DEG-4", needs=("gradients",), over=GATED)
def with_no_steps_a_cell_passes_its_cotangents_on(subject: Subject, layer: AnyCell) -> None:
    """The gradient of each state of a cell is the cotangent of that state."""
    call = draw(subject, layer, "cotangents of a cell", time=0)
    _require_state_gradients(subject, call, call.cotangents[1:])
    single = draw(subject, layer.replace(return_sequences=False), call.label, time=0)
    y, h, *others = single.cotangents
    _require_state_gradients(subject, single, (y + h, *others))


def _require_state_gradients(subject: Subject, call: Call, expected: tuple[Any, ...]) -> None:
    """Depart unless the states of a call without steps have these gradients, and x an empty one."""
    found = gradients_of(subject, call)
    what = f"{call.layer} with time 0: gradient of"
    for name, value in zip(state_names(call.layer), expected, strict=True):
        state = f"initial_state.{name}"
        require_close(found[f"gradient of {state}"], value, CLOSED_FORM, f"{what} {state}")
    _require_shapes(found["gradient of x"], [call.x.shape], f"{what} x")
