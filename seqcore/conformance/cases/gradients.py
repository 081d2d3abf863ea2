"""Laws of gradients (clauses GRAD): their structure, linearity, value and repeated use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike, require_same
from seqcore.conformance.calls import (
    BIDIRECTIONAL,
    CELLS,
    LATER,
    MAIN,
    OTHERS,
    SMOKE,
    Call,
    Named,
    by_name,
    copied,
    draw,
    flat,
    gradients_by_name,
    gradients_of,
    linearized,
    outputs_of,
    structured,
)
from seqcore.conformance.laws import law, require, require_bits
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN
from seqcore.spec.outputs import output_names, state_names, state_units
from seqcore.spec.weights import weight_shapes

UNLIKE = Bidirectional(
    LSTM(2, **BOTH), merge_mode="none", backward_layer=GRU(3, reset_after=False, **BOTH)
)

FORMS = {
    "one_output": LSTM(2),
    "sequence": LSTM(2, return_sequences=True),
    "state": LSTM(2, return_state=True),
    "both": LSTM(2, **BOTH),
    "unmerged": UNLIKE,
}


@law("GRAD-1", needs=("gradients",), over=FORMS)
def outputs_are_those_of_apply(subject: Subject, layer: AnyLayer) -> None:
    """The first thing that `vjp` returns has the structure and the values of `apply`."""
    call = draw(subject, layer, "outputs of vjp")
    applied = subject.apply(layer, call.weights, call.x, **call.given)
    outputs, _ = linearized(subject, call)
    names = output_names(layer)
    fields = getattr(outputs, "_fields", ("y",))
    require(
        isinstance(outputs, tuple) == isinstance(applied, tuple) and fields == names,
        f"{layer}: expected the outputs of vjp in the structure of apply's",
        expected=names,
        received=fields,
    )
    found, expected = by_name(layer, outputs), by_name(layer, applied)
    require_alike(found, expected, call, f"{layer}: outputs of vjp")


@law("GRAD-1", needs=("gradients",), over=FORMS)
def cotangents_have_the_structure_of_the_outputs(subject: Subject, layer: AnyLayer) -> None:
    """A single one is taken bare, several as a tuple or as the named tuple of the outputs."""
    call = draw(subject, layer, "structure of cotangents")
    outputs, pullback = linearized(subject, call)
    expected = gradients_by_name(layer, pullback(structured(call.cotangents)))
    if isinstance(outputs, tuple):
        named = type(outputs)(*call.cotangents)
        found = gradients_by_name(layer, pullback(named))
        require_same(found, expected, f"{layer}: cotangents as a named tuple")
    for index, cotangent in enumerate(call.cotangents):
        # Each output has a cotangent of its own: alone it has an effect, and not that of all.
        alone = [np.zeros_like(d) for d in call.cotangents]
        alone[index] = cotangent
        d_x = np.asarray(pullback(structured(tuple(alone))).x)
        name = output_names(layer)[index]
        require(bool(d_x.any()), f"{layer}: expected the cotangent of {name} to have an effect")
        same = np.array_equal(d_x, expected["gradient of x"])
        require(
            len(alone) == 1 or not same,
            f"{layer}: expected the cotangent of {name} alone to differ from all together",
        )


EQUAL = {
    # Two outputs that are the same numbers: a step of the first is the second.
    "sequence_and_h": (LSTM(2, **BOTH), "y", -1, "h"),
    "forward": (UNLIKE, "forward_y", -1, "forward_h"),
    "backward": (UNLIKE, "backward_y", 0, "backward_h"),
}


@law("GRAD-1", needs=("gradients",), over=EQUAL)
def cotangents_belong_to_their_outputs(
    subject: Subject, given: tuple[AnyLayer, str, int, str]
) -> None:
    """A cotangent of the last step and the same one of the final `h` have the same effect."""
    layer, sequence, step, state = given
    call = draw(subject, layer, "cotangents of equal outputs")
    names = output_names(layer)
    cotangent = call.cotangents[names.index(state)]

    def alone(name: str) -> Call:
        cotangents = tuple(np.zeros_like(d) for d in call.cotangents)
        target = cotangents[names.index(name)]
        (target[:, step] if name == sequence else target)[...] = cotangent
        return call.but(cotangents=cotangents)

    of_state, of_sequence = alone(state), alone(sequence)
    found, expected = gradients_of(subject, of_state), gradients_of(subject, of_sequence)
    what = f"{layer}: a cotangent of {state}, against one of step {step} of {sequence}"
    require_alike(found, expected, of_state, what)


@law("GRAD-2", tier="smoke", needs=("gradients",), over=SMOKE)
@law("GRAD-2", needs=("gradients",), over={**LATER, "unmerged": UNLIKE})
def gradients_have_the_structure_of_the_arguments(subject: Subject, layer: AnyLayer) -> None:
    """`Gradients(weights, x, initial_state)`: arrays by name, an array, a tuple of arrays."""
    _require_structure(subject, layer)


@law("GRAD-2", tier="full", needs=("gradients",), over=OTHERS)
def gradients_of_others_have_the_structure_of_the_arguments(
    subject: Subject, layer: AnyLayer
) -> None:
    """The same for further layers."""
    _require_structure(subject, layer)


def _require_structure(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "structure of gradients", state=False)
    _, pullback = linearized(subject, call)
    found = pullback(structured(call.cotangents))
    fields = ("weights", "x", "initial_state")
    require(
        isinstance(found, tuple) and getattr(found, "_fields", None) == fields,
        f"{layer}: expected a named tuple of {', '.join(fields)}",
        received=type(found).__name__,
    )
    batch, _, features = call.x.shape
    shapes = {name: np.shape(value) for name, value in found.weights.items()}
    expected: Any = weight_shapes(layer, features)
    require(
        shapes == expected,
        f"{layer}: expected the gradients of the weights in their shapes",
        expected=expected,
        received=shapes,
    )
    require(
        np.shape(found.x) == call.x.shape,
        f"{layer}: expected a gradient in the shape of x",
        expected=call.x.shape,
        received=np.shape(found.x),
    )
    expected = tuple((batch, units) for units in state_units(layer))
    received = tuple(np.shape(value) for value in found.initial_state)
    require(
        isinstance(found.initial_state, tuple) and received == expected,
        f"{layer}: expected a tuple of gradients of {', '.join(state_names(layer))}",
        expected=expected,
        received=received,
    )


@law("GRAD-3", needs=("gradients",), over=MAIN)
def gradients_are_linear_in_the_cotangents(subject: Subject, layer: AnyLayer) -> None:
    """Those of a weighted sum are the weighted sum; those of zeros are zeros."""
    call = draw(subject, layer, "linearity")
    other = draw(subject, layer, "linearity, other cotangents").cotangents
    _, pullback = linearized(subject, call)

    def gradients(cotangents: tuple[Any, ...]) -> Named:
        return copied(gradients_by_name(layer, pullback(structured(cotangents))))

    a, b = np.float32(0.75), np.float32(-1.5)
    mixed = call.but(
        cotangents=tuple(a * one + b * two for one, two in zip(call.cotangents, other, strict=True))
    )
    one, two = gradients(call.cotangents), gradients(other)
    expected = {name: a * one[name] + b * two[name] for name in one}
    require_alike(
        gradients(mixed.cotangents),
        expected,
        mixed,
        f"{layer}: cotangents {a}*one + {b}*other",
        results=1 + float(abs(a) + abs(b)),
    )
    zeros = gradients(tuple(np.zeros_like(d) for d in call.cotangents))
    for name, value in zeros.items():
        require(not value.any(), f"{layer}, cotangents 0: expected 0 as {name}", received=value)


@law("GRAD-3", needs=("gradients",), over=MAIN)
def gradients_of_weights_add_up_over_rows(subject: Subject, layer: AnyLayer) -> None:
    """A weight's gradient is the sum of those of the rows, each with its cotangents alone."""
    call = draw(subject, layer, "sum over rows")
    whole = gradients_of(subject, call)
    weights = [f"gradient of {name}" for name in call.weights]
    total = {name: np.zeros_like(whole[name]) for name in weights}
    for row in range(len(call.x)):
        alone = tuple(np.zeros_like(d) for d in call.cotangents)
        for target, d in zip(alone, call.cotangents, strict=True):
            target[row] = d[row]
        part = gradients_of(subject, call.but(cotangents=alone))
        total = {name: total[name] + part[name] for name in weights}
    rows = len(call.x)
    require_alike(whole, total, call, f"{layer}: against the sum over rows", results=1 + rows)


@law("GRAD-3", needs=("gradients", "masks", "float64"), over=MAIN)
def gradients_are_slopes(subject: Subject, layer: AnyLayer) -> None:
    """In a random direction of each argument they are what differences of `apply` give."""
    _require_slopes(subject, layer)


@law("GRAD-3", tier="full", needs=("gradients", "masks", "float64"), over={**OTHERS, **FORMS})
def gradients_of_others_are_slopes(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers and forms of output."""
    _require_slopes(subject, layer)


def _require_slopes(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "slopes", dtype="float64", mask="dead_row")
    valid = call.valid.copy()
    valid[1] = True  # a row without a masked step, beside one without a valid one and holes
    call = call.masked(valid)
    random = subject.random("slopes, directions")
    found = gradients_of(subject, call)

    def total(moved: Call) -> float:
        outputs = outputs_of(subject, moved).values()
        pairs = zip(outputs, call.cotangents, strict=True)
        return float(sum(np.sum(y * d) for y, d in pairs))

    for name, (value, moved_by) in _arguments(call).items():
        direction = random.standard_normal(value.shape)
        # Of length 1, for the differences' own error grows with its fifth power.
        direction /= np.linalg.norm(direction)

        def along(step: float, by: Any = moved_by, direction: Any = direction) -> float:
            return total(by(step * direction))

        slope = _slope(along)
        mine = float(np.sum(found[f"gradient of {name}"] * direction))
        # The differences are good to about 1e-11.
        limit = 1e-10 * max(1.0, abs(slope))
        require(
            abs(mine - slope) <= limit,
            f"{layer}: gradient of {name}: expected the slope {slope:.12g} in a random direction, "
            f"received {mine:.12g}",
            expected=slope,
            received=mine,
        )


def _arguments(call: Call) -> dict[str, tuple[NDArray[Any], Callable[[Any], Call]]]:
    """Return every argument with a gradient, and what moves the call by a change of it."""

    def weight(name: str) -> Callable[[Any], Call]:
        return lambda d: call.but(weights=call.weights | {name: call.weights[name] + d})

    def state(index: int) -> Callable[[Any], Call]:
        def moved(d: Any) -> Call:
            states = list(call.state)
            states[index] = states[index] + d
            return call.giving(initial_state=tuple(states))

        return moved

    found = {name: (value, weight(name)) for name, value in call.weights.items()}
    found["x"] = call.x, lambda d: call.but(x=call.x + d)
    names = state_names(call.layer)
    for index, value in enumerate(call.state):
        found[f"initial_state.{names[index]}"] = value, state(index)
    return found


def _slope(function: Callable[[float], float], step: float = 1e-3) -> float:
    """Return the derivative at 0 by central differences of fourth order."""
    near = function(step) - function(-step)
    far = function(2 * step) - function(-2 * step)
    return (8 * near - far) / (12 * step)


@law("GRAD-3", needs=("gradients",))
def gradients_reach_every_step_of_every_row(subject: Subject) -> None:
    """Over 80 steps and 20 rows of a sum, each gradient is exactly the number it must be."""
    layer = SimpleRNN(1, activation="linear", return_state=True)
    batch, time = 20, 80
    call = draw(subject, layer, "a long sum", batch=batch, time=time, features=1)
    random = subject.random("a long sum, integers")
    # The state is the sum of all input so far: small integers, so that nothing is rounded.
    x = random.integers(-9, 10, (batch, time, 1)).astype(np.float32)
    weights = {name: np.ones_like(value) for name, value in call.weights.items()}
    weights["bias"][:] = 0
    d = random.integers(-9, 10, (batch, 1)).astype(np.float32)
    zeros = np.zeros((batch, 1), np.float32)
    call = call.but(weights=weights, x=x, cotangents=(d, zeros)).giving(initial_state=(zeros,))
    before = np.cumsum(x, 1) - x
    expected = {
        "gradient of x": np.repeat(d[:, None], time, 1),
        "gradient of initial_state.h": d,
        "gradient of kernel": np.sum(x * d[:, None], (0, 1))[:, None],
        "gradient of recurrent_kernel": np.sum(before * d[:, None], (0, 1))[:, None],
        "gradient of bias": np.sum(np.repeat(d, time, 1), (0, 1), keepdims=True)[0],
    }
    require_same(gradients_of(subject, call), expected, f"{layer}, a sum over {time} steps")


@law("GRAD-4", needs=("gradients",), over=MAIN)
def the_zero_initial_state_is_differentiated(subject: Subject, layer: AnyLayer) -> None:
    """Without an initial state the gradients are those with zeros given, and not zeros."""
    call = draw(subject, layer, "zero initial state", state=False)
    found = gradients_of(subject, call)
    expected = gradients_of(subject, call.giving(initial_state=call.state))  # zeros
    require_alike(found, expected, call, f"{layer} without an initial state")
    for name in state_names(layer):
        key = f"gradient of initial_state.{name}"
        value = found[key]
        require(bool((value != 0).all()), f"{layer}: expected {key} not 0", received=value)


@law("GRAD-5", needs=("gradients",), over={**MAIN, "rnn": CELLS["rnn"]})
def pullbacks_can_be_called_again(subject: Subject, layer: AnyLayer) -> None:
    """Two pullbacks, called in turn with several cotangents, give what each gives at first."""
    calls = [draw(subject, layer, f"repeated use, {index}") for index in range(2)]
    given = [structured(call.cotangents) for call in calls]

    def fresh(which: int, cotangents: Any) -> Named:
        _, pullback = linearized(subject, calls[which])
        return copied(gradients_by_name(layer, pullback(cotangents)))

    alone = {(which, d): fresh(which, given[d]) for which in range(2) for d in range(2)}
    pullbacks = [linearized(subject, call)[1] for call in calls]
    kept = []
    for which, d in ((0, 0), (0, 1), (1, 1), (0, 0), (1, 0), (0, 1), (1, 1)):
        found = gradients_by_name(layer, pullbacks[which](given[d]))
        require_same(found, alone[which, d], f"{layer}: a pullback called repeatedly")
        kept.append((found, alone[which, d]))
    for found, expected in kept:
        require_same(found, expected, f"{layer}: gradients returned before, after later calls")


@law("GRAD-5", needs=("gradients",), over={"bidirectional": BIDIRECTIONAL})
def outputs_stay_after_a_pullback(subject: Subject, layer: AnyLayer) -> None:
    """The outputs of `vjp` have the same bits after its pullback was called."""
    call = draw(subject, layer, "outputs after a pullback")
    outputs, pullback = linearized(subject, call)
    before = [np.array(y) for y in flat(outputs)]
    pullback(structured(call.cotangents))
    for name, y, value in zip(output_names(layer), flat(outputs), before, strict=True):
        require_bits(y, value, f"{layer}: {name} after the pullback")
