"""Laws of the activations and of one cell's step (clauses ACT, RNN, LSTM, GRU, BIAS)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike, require_right
from seqcore.conformance.arrays import random_weights
from seqcore.conformance.calls import (
    BATCH,
    CELLS,
    FEATURES,
    TIME,
    UNITS,
    Call,
    Named,
    copied,
    draw,
    gradients_of,
    linearized,
    outputs_of,
    wide,
    zero_weights,
)
from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import CLOSED_FORM
from seqcore.errors import SpecError, WeightsError
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

OPEN, SHUT = 1e4, -1e4
"""Biases at which every bounded activation has reached its end in each data type."""

FUNCTIONS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "sigmoid": lambda a: 1 / (1 + math.exp(-a)),
    "relu": lambda a: 0.0 if a <= 0 else a,
    "linear": lambda a: a,
    "hard_sigmoid": lambda a: min(max(a / 6 + 0.5, 0.0), 1.0),
}

SLOPES: dict[str, Callable[[float], float]] = {
    "tanh": lambda a: 1 - math.tanh(a) ** 2,
    "sigmoid": lambda a: math.exp(-a) / (1 + math.exp(-a)) ** 2,
    "relu": lambda a: 1.0 if a > 0 else 0.0,
    "linear": lambda a: 1.0,
    "hard_sigmoid": lambda a: 1 / 6 if -3 < a < 3 else 0.0,
}

KINKS = {"relu": (0.0,), "hard_sigmoid": (-3.0, 3.0)}
BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0), "hard_sigmoid": (0.0, 1.0)}

# --- ACT -----------------------------------------------------------------------------------------


def _pointwise(activation: str) -> tuple[SimpleRNN, Named]:
    """Return a layer whose output at each step is the activation of the first features."""
    layer = SimpleRNN(UNITS, activation=activation, return_sequences=True)
    weights = zero_weights(layer)
    weights["kernel"][:] = np.eye(FEATURES, UNITS)
    return layer, weights


def _points(subject: Subject, activation: str, special: tuple[float, ...]) -> NDArray[Any]:
    """Return arguments (batch, time, features), the special ones in each column first."""
    random = subject.random(f"arguments of {activation}")
    x = random.uniform(-5, 5, (BATCH * TIME, FEATURES)).astype(np.float32)
    x[: len(special)] = np.array(special, np.float32)[:, None]
    return x.reshape(BATCH, TIME, FEATURES)


def _each(function: Callable[[float], float], x: NDArray[Any]) -> NDArray[np.float64]:
    """Apply a function of numbers to the features that `_pointwise` reads."""
    values: NDArray[np.float64] = np.vectorize(function, otypes=[np.float64])(
        x[..., :UNITS].astype(np.float64)
    )
    return values


@law("ACT-1", over={name: name for name in FUNCTIONS})
def an_activation_is_its_formula(subject: Subject, activation: str) -> None:
    """Each of the five names gives its values, NaN included."""
    layer, weights = _pointwise(activation)
    kinks = KINKS.get(activation, ())
    x = _points(subject, activation, (0.0, *kinks, math.nan))
    y = subject.apply(layer, weights, x)
    expected = _each(FUNCTIONS[activation], np.nan_to_num(x))
    # NaN goes in and comes out; the state that it leaves spoils the later steps of that row.
    bad = np.logical_or.accumulate(np.isnan(x[..., :UNITS]).any(-1), 1)
    require(
        bool(np.isnan(y[np.isnan(x[..., :UNITS])]).all()),
        f"{activation}: expected NaN for NaN, received numbers",
        expected="NaN",
        received=y,
    )
    require_close(y[~bad], expected[~bad], CLOSED_FORM, activation, dtype="float32")


@law("ACT-1", arrays=False)
def other_names_are_no_activations(subject: Subject) -> None:
    """A name that is none of the five is an error."""
    for name in ("elu", "softsign", "Tanh", "swish", "hard_tanh", ""):
        with require_error(SpecError, f"activation={name!r}", "activation"):
            SimpleRNN(UNITS, activation=name)
        with require_error(SpecError, f"recurrent_activation={name!r}", "recurrent_activation"):
            LSTM(UNITS, recurrent_activation=name)


def _slopes(subject: Subject, activation: str, x: NDArray[Any]) -> NDArray[Any]:
    """Return the gradients of the sum of the activations with respect to their arguments."""
    layer, weights = _pointwise(activation)
    y, pullback = subject.vjp(layer, weights, x)
    found: NDArray[Any] = pullback(np.ones_like(y)).x[..., :UNITS]
    return found


@law("ACT-2", needs=("gradients",), over={name: name for name in SLOPES})
def the_derivative_is_that_of_the_formula(subject: Subject, activation: str) -> None:
    """The derivative is the ordinary one, and exactly 0 at a kink."""
    kinks = KINKS.get(activation, ())
    beside = tuple(kink + side for kink in kinks for side in (-0.01, 0.01))
    x = _points(subject, activation, (*kinks, *beside))
    found = _slopes(subject, activation, x)
    expected = _each(SLOPES[activation], x)
    require_close(found, expected, CLOSED_FORM, f"derivative of {activation}", dtype="float32")
    for kink in kinks:
        at = found[x[..., :UNITS] == np.float32(kink)]
        require(
            at.size > 0 and not at.any(),
            f"derivative of {activation} at {kink:g}: expected 0",
            expected="0",
            received=at,
        )


@law(
    "ACT-2",
    needs=("gradients",),
    over={
        "lstm": LSTM(UNITS, recurrent_activation="hard_sigmoid"),
        "gru": GRU(UNITS, recurrent_activation="hard_sigmoid"),
    },
)
def a_gate_at_its_kink_passes_no_gradient(subject: Subject, layer: AnyCell) -> None:
    """Gates with a pre-activation of exactly -3 or 3 have bias gradients of exactly 0."""
    call = draw(subject, layer, "gates at kinks")
    random = subject.random("signs at kinks")
    gates = [index for index, name in enumerate(layer.gate_names) if name not in ("g", "n")]
    columns = np.concatenate([np.arange(UNITS) + index * UNITS for index in gates])
    weights = copied(call.weights)
    for name, value in weights.items():
        value[..., columns] = 0
        if name == "bias":
            value[columns] = random.choice(np.array([-3, 3]), columns.size)
    call = call.but(weights=weights, cotangents=tuple(map(np.ones_like, call.cotangents)))
    found = gradients_of(subject, call)["gradient of bias"]
    require(
        not found[columns].any(),
        f"{layer}: gradient of the gates' biases at the kink: expected 0",
        expected="0",
        received=found[columns],
    )
    weights["bias"][columns] *= np.float32(0.5)
    beside = gradients_of(subject, call)["gradient of bias"]
    require(
        bool(beside[columns].any()),
        f"{layer}: gradient of the gates' biases inside the kinks: expected other than 0",
        expected="other than 0",
        received=beside[columns],
    )


HUGE = (1e2, 1e4, 1e10, 1e30, float(np.finfo(np.float32).max))


@law("ACT-3", needs=("gradients",), over={name: name for name in BOUNDS})
def huge_arguments_saturate(subject: Subject, activation: str) -> None:
    """Values at huge arguments are within their bounds, slopes finite, and nothing warns."""
    layer, weights = _pointwise(activation)
    low, high = BOUNDS[activation]
    x = _points(subject, activation, HUGE)
    x[-1] = -x[0]
    with _silent(f"{activation} of huge arguments"):
        outputs, pullback = subject.vjp(layer, weights, x)
        found = pullback(np.ones_like(outputs))
        y = subject.apply(layer, weights, x)
    for what, value in {"values": y, "values of vjp": outputs}.items():
        require(
            bool(((low <= value) & (value <= high)).all()),
            f"{activation}: {what} at huge arguments: expected {low:g} to {high:g}",
            expected=f"{low:g} to {high:g}",
            received=value,
        )
        ends = np.where(x[..., :UNITS] > 0, high, low)
        far = np.abs(x[..., :UNITS]) >= HUGE[0]
        what = f"{activation}: {what} at huge arguments"
        require_close(value[far], ends[far], CLOSED_FORM, what, dtype="float32")
    _require_finite(found, f"{activation}: gradients at huge arguments")


@law("ACT-3", needs=("gradients",), over={"lstm": CELLS["lstm"], "gru": CELLS["gru"]})
def huge_pre_activations_saturate(subject: Subject, layer: AnyCell) -> None:
    """A cell whose gates all saturate gives bounded results, finite gradients and no warning."""
    call = draw(subject, layer, "huge pre-activations")
    random = subject.random("huge biases")
    bias = random.choice(np.array([-1e30, -1e4, 1e4, 1e30]), call.weights["bias"].shape)
    call = call.but(weights=call.weights | {"bias": bias.astype(np.float32)})
    with _silent(f"{layer} with huge biases"):
        outputs, pullback = linearized(subject, call)
        found = pullback(tuple(np.ones_like(y) for y in outputs))
        plain = outputs_of(subject, call)
    bound = max(1.0, *(float(np.abs(state).max()) for state in call.state)) + TIME
    for value in (*outputs, *plain.values()):
        require(
            bool((np.abs(value) <= bound).all()),
            f"{layer} with huge biases: expected values within {bound:g}",
            expected=f"-{bound:g} to {bound:g}",
            received=value,
        )
    _require_finite(found, f"{layer}: gradients with huge biases")


@contextmanager
def _silent(what: str) -> Iterator[None]:
    """Depart where the block raises a floating-point warning."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        yield
    found = "; ".join(str(one.message) for one in seen if one.category is RuntimeWarning)
    require(
        not found,
        f"{what}: expected no floating-point warning, received {found}",
        expected="no warning",
        received=found,
    )


def _require_finite(gradients: Any, what: str) -> None:
    for value in (*gradients.weights.values(), gradients.x, *gradients.initial_state):
        require(
            bool(np.isfinite(value).all()),
            f"{what}: expected finite numbers",
            expected="finite numbers",
            received=value,
        )


# --- whole numbers -------------------------------------------------------------------------------
# With linear and relu activations and small integers all products and sums are exact in float32, in
# any order, so that the results have to be the integers that the equations give.

STEPS = 2
"""More steps of a linear LSTM would leave the integers that float32 holds."""

DRAWS = 5
"""Single integers may be equal by chance, and hide that they are exchanged."""


def _whole(
    subject: Subject, layer: AnyCell, number: int
) -> tuple[Named, NDArray[Any], list[NDArray[Any]]]:
    """Return integers: weights, x with one feature at each step, and an initial state."""
    random = subject.random(f"integers for {layer}, {number}")

    def drawn(shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(-1, 2, shape)

    weights = {name: drawn(shape) for name, shape in layer.weight_shapes(FEATURES).items()}
    x = np.zeros((BATCH, STEPS, FEATURES), np.int64)
    place = random.integers(0, FEATURES, (BATCH, STEPS, 1))
    np.put_along_axis(x, place, random.choice(np.array([-1, 1]), place.shape), 2)
    return weights, x, [drawn((BATCH, UNITS)) for _ in layer.state_names]


def _blocks(weights: Named, names: tuple[str, ...]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return every weight by gate: the columns `j*units : (j+1)*units` of gate number `j`."""
    return {
        weight: {
            gate: value[..., j * UNITS : (j + 1) * UNITS] for j, gate in enumerate(names or ("h",))
        }
        for weight, value in weights.items()
    }


def _check_whole(
    subject: Subject,
    layer: AnyCell,
    names: tuple[str, ...],
    step: Callable[[Any, NDArray[Any], list[NDArray[Any]]], list[NDArray[Any]]],
) -> None:
    """Compare a linear layer with its equations in integers, bit for bit."""
    for number in range(DRAWS):
        weights, x, state = _whole(subject, layer, number)
        given = {name: value.astype(np.float32) for name, value in weights.items()}
        first = tuple(value.astype(np.float32) for value in state)
        found = subject.apply(layer, given, x.astype(np.float32), initial_state=first)
        y = []
        for t in range(STEPS):
            state = step(_blocks(weights, names), x[:, t], state)
            y.append(state[0])
        expected = (np.stack(y, 1), *state)
        for name, value, whole in zip(("y", "h", "c"), found, expected, strict=False):
            assert np.abs(whole).max() < 2**24, "integers that float32 does not hold"
            # Zeros have no sign in the integers.
            require_bits(value + np.float32(0), whole.astype(np.float32), f"{layer}: {name}")


def _whole_activation(name: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return (lambda a: np.maximum(a, 0)) if name == "relu" else (lambda a: a)


@law("RNN-1", "NAME-2", over={"linear": "linear", "relu": "relu"})
def whole_numbers_of_an_rnn(subject: Subject, activation: str) -> None:
    """`h_t = activation(x_t @ K + h_{t-1} @ R + b)`, in integers."""
    act = _whole_activation(activation)

    def step(w: Any, x: NDArray[Any], state: list[NDArray[Any]]) -> list[NDArray[Any]]:
        h = x @ w["kernel"]["h"] + state[0] @ w["recurrent_kernel"]["h"] + w["bias"]["h"]
        return [act(h)]

    _check_whole(subject, SimpleRNN(UNITS, activation=activation, **BOTH), ("h",), step)


@law("LSTM-1", "NAME-3", over={"linear": "linear", "relu": "relu"})
def whole_numbers_of_an_lstm(subject: Subject, activation: str) -> None:
    """Every gate has its own columns, the same `h_{t-1}` and no `c`, in integers."""
    act = _whole_activation(activation)

    def step(w: Any, x: NDArray[Any], state: list[NDArray[Any]]) -> list[NDArray[Any]]:
        h, c = state
        i, f, g, o = (
            x @ w["kernel"][k] + h @ w["recurrent_kernel"][k] + w["bias"][k] for k in "ifgo"
        )
        c = f * c + i * act(g)
        return [o * act(c), c]

    layer = LSTM(UNITS, activation=activation, recurrent_activation="linear", **BOTH)
    _check_whole(subject, layer, ("i", "f", "g", "o"), step)


@law("GRU-1", "NAME-3", over={"after": True, "before": False})
def whole_numbers_of_a_gru(subject: Subject, reset_after: bool) -> None:
    """Every gate has its own columns; z and r have both biases, in integers."""

    def step(w: Any, x: NDArray[Any], state: list[NDArray[Any]]) -> list[NDArray[Any]]:
        (h,) = state
        kernel, recurrent, bias = w["kernel"], w["recurrent_kernel"], w["bias"]
        zero = dict.fromkeys("zrn", np.zeros(UNITS, np.int64))
        other = w.get("recurrent_bias", zero)
        z, r = (x @ kernel[k] + bias[k] + h @ recurrent[k] + other[k] for k in "zr")
        if reset_after:
            n = x @ kernel["n"] + bias["n"] + r * (h @ recurrent["n"] + other["n"])
        else:
            n = x @ kernel["n"] + bias["n"] + (r * h) @ recurrent["n"]
        return [z * h + (1 - z) * n]

    layer = GRU(
        UNITS,
        activation="linear",
        recurrent_activation="linear",
        reset_after=reset_after,
        **BOTH,
    )
    _check_whole(subject, layer, ("z", "r", "n"), step)


# --- gates at their ends -------------------------------------------------------------------------


def _forced(call: Call, **gates: float) -> Call:
    """Return a call whose gates have one pre-activation, whatever x and h are."""
    weights = copied(call.weights)
    for gate, value in gates.items():
        columns = _columns(call.layer, gate)
        for array in weights.values():
            array[..., columns] = 0
        weights["bias"][columns] = value
    return call.but(weights=weights)


def _columns(layer: Any, gate: str) -> slice:
    """Return where a gate's columns are in each weight."""
    start = layer.gate_names.index(gate) * layer.units
    return slice(start, start + layer.units)


def _candidates(call: Call, gate: str) -> NDArray[np.float64]:
    """Return what a gate that no `h` reaches is at each step: `tanh(x @ K[gate] + b[gate])`."""
    columns, known = _columns(call.layer, gate), wide(call.weights)
    pre_activation: NDArray[np.float64] = (
        call.x.astype(np.float64) @ known["kernel"][:, columns] + known["bias"][columns]
    )
    return np.tanh(pre_activation)


def _at_every_step(x: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
    """Return a state (batch, units) as a sequence that holds it."""
    return np.repeat(state[:, None], x.shape[1], 1)


def _deaf(call: Call, gate: str) -> Call:
    """Return the call with a gate that no `h` reaches."""
    weights = copied(call.weights)
    weights["recurrent_kernel"][:, _columns(call.layer, gate)] = 0
    return call.but(weights=weights)


LSTM_GATES = {
    "sigmoid": LSTM(UNITS, **BOTH),
    "hard-sigmoid": LSTM(UNITS, recurrent_activation="hard_sigmoid", **BOTH),
}
GRU_GATES = {
    "sigmoid": GRU(UNITS, **BOTH),
    "hard-sigmoid": GRU(UNITS, recurrent_activation="hard_sigmoid", **BOTH),
}
BEFORE = GRU(UNITS, reset_after=False, **BOTH)


@law("LSTM-3", over=LSTM_GATES)
def an_open_forget_gate_holds_c(subject: Subject, layer: LSTM) -> None:
    """With f=1 and i=0 the cell state stays what it was."""
    call = _forced(draw(subject, layer, "holding c"), i=SHUT, f=OPEN)
    c = outputs_of(subject, call)["c"]
    require_close(c, call.state[1], CLOSED_FORM, f"{layer} with f=1, i=0: c")


@law("LSTM-3", "LSTM-4")
def many_rows_hold_c_for_many_steps(subject: Subject) -> None:
    """Sizes beyond the blocks in which an engine may work change nothing."""
    layer = LSTM_GATES["sigmoid"]
    call = draw(subject, layer, "holding c for long", batch=40, time=70)
    h, c = call.state
    # A small c, so that the roundings of all steps are small beside 1, the unit.
    call = _forced(call, i=SHUT, f=OPEN, o=OPEN).giving(initial_state=(h, c / 8))
    c = call.state[1].astype(np.float64)
    expected = {"c": c, "y": _at_every_step(call.x, np.tanh(c))}
    # All rows are alike in what noise does to them.
    few = call.rows(slice(BATCH))
    what = f"{layer}, 40 rows, 70 steps, f=o=1, i=0"
    require_right(outputs_of(subject, call), expected, few, what)


@law("LSTM-3", "LSTM-4", over=LSTM_GATES)
def a_shut_forget_gate_forgets_c(subject: Subject, layer: LSTM) -> None:
    """With f=0 and i=o=1 the cell state is the candidate, and h its activation."""
    call = _forced(draw(subject, layer, "forgetting c"), i=OPEN, f=SHUT, o=OPEN)
    call = _deaf(call, "g")
    c = _candidates(call, "g")
    expected = {"c": c[:, -1], "y": np.tanh(c), "h": np.tanh(c[:, -1])}
    require_right(outputs_of(subject, call), expected, call, f"{layer} with f=0, i=o=1")


@law("LSTM-3", over=LSTM_GATES)
def open_gates_add_up(subject: Subject, layer: LSTM) -> None:
    """With f=1 and i=1 the cell state is the first one and all candidates since."""
    call = _deaf(_forced(draw(subject, layer, "adding up"), i=OPEN, f=OPEN), "g")
    added = _candidates(call, "g").sum(1)
    expected = {"c": call.state[1].astype(np.float64) + added}
    require_right(outputs_of(subject, call), expected, call, f"{layer} with f=1, i=1")


@law("LSTM-4", over=LSTM_GATES)
def a_shut_output_gate_gives_zero(subject: Subject, layer: LSTM) -> None:
    """With o=0 the output is 0, and with f=1, i=0, o=1 it is the activation of the c held."""
    call = draw(subject, layer, "output gate")
    found = outputs_of(subject, _forced(call, o=SHUT))
    for name in ("y", "h"):
        zeros = np.zeros_like(found[name])
        require_close(found[name], zeros, CLOSED_FORM, f"{layer} with o=0: {name}")
    c = found["c"]
    require(bool(c.all()), f"{layer} with o=0: c: expected other than 0", received=c)
    held = _forced(call, i=SHUT, f=OPEN, o=OPEN)
    expected = {"y": _at_every_step(call.x, np.tanh(call.state[1].astype(np.float64)))}
    require_right(outputs_of(subject, held), expected, held, f"{layer} with f=1, i=0, o=1")


@law("LSTM-2", "LSTM-4")
def each_activation_has_its_gates(subject: Subject) -> None:
    """`recurrent_activation` is that of i, f and o, `activation` that of g and of c."""
    layer = LSTM(UNITS, activation="relu", recurrent_activation="linear", **BOTH)
    i, f, o = -2.0, -1.0, -4.0
    call = draw(subject, layer, "activations of gates")
    h, c = call.state
    # relu cuts g to 0, so that c = -c at each step, and leaves the negative gates alone.
    call = _forced(call, i=i, f=f, g=-8.0, o=o).giving(initial_state=(h, -np.abs(c) - 1))
    found = outputs_of(subject, call)
    signs = np.array([(-1.0) ** (t + 1) for t in range(TIME)], np.float32)
    expected = signs[:, None] * call.state[1][:, None]
    require_close(found["c"], expected[:, -1], CLOSED_FORM, f"{layer}: c with g cut to 0")
    y = o * np.maximum(expected, 0)
    require_close(found["y"], y, CLOSED_FORM, f"{layer}: y with c cut at 0")


@law("LSTM-5")
def the_forget_bias_is_in_the_weights_alone(subject: Subject) -> None:
    """With weights of zero f is 1/2, whatever `unit_forget_bias` is."""
    for flag in (True, False):
        layer = LSTM(UNITS, unit_forget_bias=flag, **BOTH)
        call = draw(subject, layer, "forget bias").but(weights=zero_weights(layer))
        c = outputs_of(subject, call)["c"]
        expected = call.state[1] / np.float32(2**TIME)
        what = f"LSTM with weights of zero, unit_forget_bias={flag}: c"
        require_close(c, expected, CLOSED_FORM, what)


@law("LSTM-5")
def given_weights_are_used_as_they_are(subject: Subject) -> None:
    """`unit_forget_bias` changes no result."""
    first, second = (LSTM(UNITS, unit_forget_bias=flag, **BOTH) for flag in (True, False))
    call = draw(subject, first, "forget bias as given", state=False)
    found, expected = outputs_of(subject, call.but(layer=second)), outputs_of(subject, call)
    require_alike(found, expected, call, "LSTM without unit_forget_bias")


@law("GRU-4", over={**GRU_GATES, "before": BEFORE})
def an_open_update_gate_holds_h(subject: Subject, layer: GRU) -> None:
    """With z=1 the state stays what it was."""
    # Not bit for bit: `n + z * (h - n)` is the same formula, and rounds.
    call = _forced(draw(subject, layer, "holding h"), z=OPEN)
    (h,) = call.state
    expected = {"h": h, "y": _at_every_step(call.x, h)}
    require_right(outputs_of(subject, call), expected, call, f"{layer} with z=1")


@law("GRU-4", over={**GRU_GATES, "before": BEFORE})
def a_shut_update_gate_takes_the_candidate(subject: Subject, layer: GRU) -> None:
    """With z=0 and r=0 the state is `tanh(x @ K[n] + b[n])`."""
    call = _forced(draw(subject, layer, "taking the candidate"), z=SHUT, r=SHUT)
    n = _candidates(call, "n")
    found = outputs_of(subject, call)
    require_right(found, {"y": n, "h": n[:, -1]}, call, f"{layer} with z=0, r=0")


@law("GRU-2")
def the_recurrent_bias_is_inside_the_reset(subject: Subject) -> None:
    """With r=0 it has no effect, with r=1/2 half of it has, with r=1 all of it."""
    layer = GRU(UNITS, **BOTH)
    call = draw(subject, layer, "recurrent bias inside")
    n = _columns(layer, "n")
    for factor, pre_activation in {0.0: SHUT, 0.5: 0.0, 1.0: OPEN}.items():
        inside = _forced(call, r=pre_activation)
        weights = copied(inside.weights)
        weights["bias"][n] += np.float32(factor) * weights["recurrent_bias"][n]
        weights["recurrent_bias"][n] = 0
        found, expected = (
            outputs_of(subject, each) for each in (inside, inside.but(weights=weights))
        )
        require_alike(found, expected, inside, f"{layer} with r={factor:g}")


@law("GRU-2", "GRU-3")
def both_resets_agree_where_nothing_is_reset(subject: Subject) -> None:
    """With r=1 both forms give the same, and with other r they do not."""
    call = draw(subject, GRU(UNITS, **BOTH), "both resets")

    def results(after: Call) -> tuple[Named, Named]:
        weights = {name: after.weights[name] for name in ("kernel", "recurrent_kernel")}
        weights["bias"] = after.weights["bias"] + after.weights["recurrent_bias"]
        before = after.but(layer=BEFORE, weights=weights)
        return outputs_of(subject, after), outputs_of(subject, before)

    open_ = _forced(call, r=OPEN)
    one, two = results(open_)
    require_alike(two, one, open_, "GRU, reset before, with r=1")
    one, two = results(call)
    require(
        float(np.abs(one["y"] - two["y"]).max()) > 1e-3,
        "GRU: expected another result with reset_after=False",
        expected=one["y"],
        received=two["y"],
    )


@law("GRU-3")
def the_reset_scales_h_before_the_product(subject: Subject) -> None:
    """With one unit's r at 0, its `h` reaches no candidate; with r=1 it reaches every one."""
    layer = BEFORE
    call = _forced(draw(subject, layer, "reset before"), z=SHUT, r=OPEN)
    call.weights["bias"][UNITS] = SHUT  # r of unit 0
    candidates = call.weights["recurrent_kernel"][:, _columns(layer, "n")]
    candidates[1:] = 0  # they read the h of unit 0 alone
    one, two = (outputs_of(subject, each) for each in (call, _deaf(call, "n")))
    what = f"{layer}, reset before, with r=0 for unit 0"
    require_alike(one, {"y": two["y"]}, call, what)


@law("GRU-3")
def resetting_before_takes_no_recurrent_bias(subject: Subject) -> None:
    """`recurrent_bias` is an extra weight with `reset_after=False`."""
    call = draw(subject, GRU(UNITS), "no recurrent bias")
    with require_error(WeightsError, "GRU, reset before, with recurrent_bias", "recurrent_bias"):
        subject.apply(BEFORE, call.weights, call.x)


# --- BIAS ----------------------------------------------------------------------------------------


@law("BIAS-1", over=CELLS)
def no_bias_is_a_bias_of_zero(subject: Subject, layer: AnyCell) -> None:
    """Without bias a cell computes what it computes with biases of zero."""
    call = draw(subject, layer, "no bias")
    weights = {name: value for name, value in call.weights.items() if "bias" not in name}
    bare = call.but(layer=layer.replace(use_bias=False), weights=weights)
    zeros = call.but(weights=zero_weights(layer) | weights)
    found, expected = outputs_of(subject, bare), outputs_of(subject, zeros)
    require_alike(found, expected, bare, f"{layer} without bias")


@law("BIAS-1", over=CELLS)
def without_bias_there_are_no_bias_arrays(subject: Subject, layer: AnyCell) -> None:
    """A bias is an extra weight, and the fields about biases have no effect."""
    bare = layer.replace(use_bias=False)
    require(
        set(bare.weight_shapes(FEATURES)) == {"kernel", "recurrent_kernel"},
        f"{bare} without bias: expected kernel and recurrent_kernel alone",
        expected="kernel, recurrent_kernel",
        received=", ".join(bare.weight_shapes(FEATURES)),
    )
    call = draw(subject, layer, "no bias arrays", state=False).but(layer=bare)
    weights = random_weights(layer, subject.random("no bias arrays"), FEATURES)
    with require_error(WeightsError, f"{bare} without bias, with a bias", "bias"):
        subject.apply(bare, weights, call.x)
    fields: dict[str, Any] = {"bias_initializer": "ones"}
    if isinstance(bare, LSTM):
        fields["unit_forget_bias"] = False
    others = bare.replace(**fields)
    plain, other = bare.init(FEATURES, seed=3), others.init(FEATURES, seed=3)
    require(set(plain) == set(other), f"{bare} without bias: expected the same weights")
    for name, value in plain.items():
        require_bits(other[name], value, f"{bare} without bias, other bias fields: {name}")
    call = call.but(weights=plain)
    found, expected = outputs_of(subject, call.but(layer=others)), outputs_of(subject, call)
    require_alike(found, expected, call, f"{bare} without bias, other bias fields")
