"""Laws of the activations and of one cell's step (clauses ACT, RNN, LSTM, GRU, BIAS)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import random_weights
from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.samples import (
    BATCH,
    BOTH,
    FEATURES,
    FEW,
    TIME,
    UNITS,
    outputs_of,
    sample,
    zero_weights,
)
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError, WeightsError
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

Weights = dict[str, NDArray[Any]]

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

CELLS: dict[str, AnyCell] = {
    "rnn": SimpleRNN(UNITS, **BOTH),
    "lstm": LSTM(UNITS, **BOTH),
    "gru": GRU(UNITS, **BOTH),
    "gru-before": GRU(UNITS, reset_after=False, **BOTH),
}


# --- ACT -----------------------------------------------------------------------------------------


def _pointwise(activation: str) -> tuple[SimpleRNN, Weights]:
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
    require_close(y[~bad], expected[~bad], 8, activation)


@law("ACT-1")
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
    require_close(found, _each(SLOPES[activation], x), 8, f"derivative of {activation}")
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
    given = sample(subject, layer, "gates at kinks")
    random = subject.random("signs at kinks")
    gates = [index for index, name in enumerate(layer.gate_names) if name not in ("g", "n")]
    columns = np.concatenate([np.arange(UNITS) + index * UNITS for index in gates])
    weights = {name: value.copy() for name, value in given.weights.items()}
    for name, value in weights.items():
        value[..., columns] = 0
        if name == "bias":
            value[columns] = random.choice(np.array([-3, 3]), columns.size)
    y, pullback = subject.vjp(layer, weights, given.x, initial_state=given.state)
    found = pullback(np.ones_like(y)).weights["bias"]
    require(
        not found[columns].any(),
        f"{layer}: gradient of the gates' biases at the kink: expected 0",
        expected="0",
        received=found[columns],
    )
    weights["bias"][columns] *= np.float32(0.5)
    y, pullback = subject.vjp(layer, weights, given.x, initial_state=given.state)
    beside = pullback(np.ones_like(y)).weights["bias"]
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
        require_close(value[far], ends[far], 8, f"{activation}: {what} at huge arguments")
    _require_finite(found, f"{activation}: gradients at huge arguments")


@law("ACT-3", needs=("gradients",), over={"lstm": CELLS["lstm"], "gru": CELLS["gru"]})
def huge_pre_activations_saturate(subject: Subject, layer: AnyCell) -> None:
    """A cell whose gates all saturate gives bounded results, finite gradients and no warning."""
    given = sample(subject, layer, "huge pre-activations")
    random = subject.random("huge biases")
    weights = dict(given.weights)
    weights["bias"] = random.choice(np.array([-1e30, -1e4, 1e4, 1e30]), weights["bias"].shape)
    weights["bias"] = weights["bias"].astype(np.float32)
    with _silent(f"{layer} with huge biases"):
        outputs, pullback = subject.vjp(layer, weights, given.x, initial_state=given.state)
        found = pullback(tuple(np.ones_like(y) for y in outputs))
        y = subject.apply(layer, weights, given.x, initial_state=given.state)
    bound = max(1.0, *(float(np.abs(state).max()) for state in given.state)) + TIME
    for value in (*outputs, *y):
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
    subject: Subject, layer: AnyCell, draw: int
) -> tuple[Weights, NDArray[Any], list[NDArray[Any]]]:
    """Return integers: weights, x with one feature at each step, and an initial state."""
    random = subject.random(f"integers for {layer}, {draw}")

    def drawn(shape: tuple[int, ...]) -> NDArray[Any]:
        return random.integers(-1, 2, shape)

    weights = {name: drawn(shape) for name, shape in layer.weight_shapes(FEATURES).items()}
    x = np.zeros((BATCH, STEPS, FEATURES), np.int64)
    place = random.integers(0, FEATURES, (BATCH, STEPS, 1))
    np.put_along_axis(x, place, random.choice(np.array([-1, 1]), place.shape), 2)
    return weights, x, [drawn((BATCH, UNITS)) for _ in layer.state_names]


def _blocks(weights: Weights, names: tuple[str, ...]) -> dict[str, dict[str, NDArray[Any]]]:
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
    for draw in range(DRAWS):
        weights, x, state = _whole(subject, layer, draw)
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


def _forced(layer: AnyCell, weights: Weights, **gates: float) -> Weights:
    """Return weights with which some gates have one pre-activation, whatever x and h are."""
    forced = {name: value.copy() for name, value in weights.items()}
    for gate, value in gates.items():
        start = layer.gate_names.index(gate) * UNITS
        columns = slice(start, start + UNITS)
        for array in forced.values():
            array[..., columns] = 0
        forced["bias"][columns] = value
    return forced


def _at_every_step(x: NDArray[Any], state: NDArray[Any]) -> NDArray[Any]:
    """Return a state (batch, units) as a sequence that holds it."""
    return np.repeat(state[:, None], x.shape[1], 1)


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
    given = sample(subject, layer, "holding c")
    weights = _forced(layer, given.weights, i=SHUT, f=OPEN)
    _, _, c = subject.apply(layer, weights, given.x, initial_state=given.state)
    require_close(c, given.state[1], 8, f"{layer} with f=1, i=0: c")


@law("LSTM-3", "LSTM-4")
def many_rows_hold_c_for_many_steps(subject: Subject) -> None:
    """Sizes beyond the blocks in which an engine may work change nothing."""
    layer = LSTM_GATES["sigmoid"]
    given = sample(subject, layer, "holding c for long", batch=40, time=70)
    weights = _forced(layer, given.weights, i=SHUT, f=OPEN, o=OPEN)
    y, _, c = subject.apply(layer, weights, given.x, initial_state=given.state)
    held = _at_every_step(given.x, np.tanh(given.state[1].astype(np.float64)))
    require_close(c, given.state[1], FEW, f"{layer}, 40 rows, 70 steps, f=1, i=0: c")
    require_close(y, held, FEW, f"{layer}, 40 rows, 70 steps, f=o=1, i=0: y")


@law("LSTM-3", "LSTM-4", over=LSTM_GATES)
def a_shut_forget_gate_forgets_c(subject: Subject, layer: LSTM) -> None:
    """With f=0 and i=o=1 the cell state is the candidate, and h its activation."""
    given = sample(subject, layer, "forgetting c")
    weights = _forced(layer, given.weights, i=OPEN, f=SHUT, o=OPEN)
    g = slice(2 * UNITS, 3 * UNITS)
    weights["recurrent_kernel"][:, g] = 0
    y, h, c = subject.apply(layer, weights, given.x, initial_state=given.state)
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    expected = np.tanh(given.x.astype(np.float64) @ wide["kernel"][:, g] + wide["bias"][g])
    require_close(c, expected[:, -1], FEW, f"{layer} with f=0, i=1: c")
    require_close(y, np.tanh(expected), FEW, f"{layer} with f=0, i=o=1: y")
    require_close(h, np.tanh(expected[:, -1]), FEW, f"{layer} with f=0, i=o=1: h")


@law("LSTM-3", over=LSTM_GATES)
def open_gates_add_up(subject: Subject, layer: LSTM) -> None:
    """With f=1 and i=1 the cell state is the first one and all candidates since."""
    given = sample(subject, layer, "adding up")
    weights = _forced(layer, given.weights, i=OPEN, f=OPEN)
    g = slice(2 * UNITS, 3 * UNITS)
    weights["recurrent_kernel"][:, g] = 0
    _, _, c = subject.apply(layer, weights, given.x, initial_state=given.state)
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    added = np.tanh(given.x.astype(np.float64) @ wide["kernel"][:, g] + wide["bias"][g])
    expected = given.state[1].astype(np.float64) + added.sum(1)
    require_close(c, expected, FEW, f"{layer} with f=1, i=1: c")


@law("LSTM-4", over=LSTM_GATES)
def a_shut_output_gate_gives_zero(subject: Subject, layer: LSTM) -> None:
    """With o=0 the output is 0, and with f=1, i=0, o=1 it is the activation of the c held."""
    given = sample(subject, layer, "output gate")
    weights = _forced(layer, given.weights, o=SHUT)
    y, h, c = subject.apply(layer, weights, given.x, initial_state=given.state)
    require_close(y, np.zeros_like(y), 8, f"{layer} with o=0: y")
    require_close(h, np.zeros_like(h), 8, f"{layer} with o=0: h")
    require(bool(c.all()), f"{layer} with o=0: c: expected other than 0", received=c)
    weights = _forced(layer, given.weights, i=SHUT, f=OPEN, o=OPEN)
    y, _, _ = subject.apply(layer, weights, given.x, initial_state=given.state)
    held = _at_every_step(given.x, np.tanh(given.state[1].astype(np.float64)))
    require_close(y, held, FEW, f"{layer} with f=1, i=0, o=1: y")


@law("LSTM-2", "LSTM-4")
def each_activation_has_its_gates(subject: Subject) -> None:
    """`recurrent_activation` is that of i, f and o, `activation` that of g and of c."""
    layer = LSTM(UNITS, activation="relu", recurrent_activation="linear", **BOTH)
    given = sample(subject, layer, "activations of gates")
    i, f, o = -2.0, -1.0, -4.0
    state = (given.state[0], -np.abs(given.state[1]) - 1)
    # relu cuts g to 0, so that c = -c at each step, and leaves the negative gates alone.
    weights = _forced(layer, given.weights, i=i, f=f, g=-8.0, o=o)
    y, _, c = subject.apply(layer, weights, given.x, initial_state=state)
    signs = np.array([(-1.0) ** (t + 1) for t in range(TIME)], np.float32)
    expected = signs[:, None] * state[1][:, None]
    require_close(c, expected[:, -1], 8, f"{layer}: c with g cut to 0")
    require_close(y, o * np.maximum(expected, 0), 8, f"{layer}: y with c cut at 0")


@law("LSTM-5")
def the_forget_bias_is_in_the_weights_alone(subject: Subject) -> None:
    """With weights of zero f is 1/2, whatever `unit_forget_bias` is."""
    for flag in (True, False):
        layer = LSTM(UNITS, unit_forget_bias=flag, **BOTH)
        given = sample(subject, layer, "forget bias")
        _, _, c = subject.apply(layer, zero_weights(layer), given.x, initial_state=given.state)
        expected = given.state[1].astype(np.float64) / 2**TIME
        require_close(c, expected, 8, f"LSTM with weights of zero, unit_forget_bias={flag}: c")


@law("LSTM-5")
def given_weights_are_used_as_they_are(subject: Subject) -> None:
    """`unit_forget_bias` changes no result."""
    first, second = (LSTM(UNITS, unit_forget_bias=flag, **BOTH) for flag in (True, False))
    given = sample(subject, first, "forget bias as given")
    results = [subject.apply(layer, given.weights, given.x) for layer in (first, second)]
    for name, one, two in zip(("y", "h", "c"), *results, strict=True):
        require_close(two, one, FEW, f"LSTM without unit_forget_bias: {name}")


@law("GRU-4", over={**GRU_GATES, "before": BEFORE})
def an_open_update_gate_holds_h(subject: Subject, layer: GRU) -> None:
    """With z=1 the state stays what it was."""
    # Not bit for bit: `n + z * (h - n)` is the same formula, and rounds.
    given = sample(subject, layer, "holding h")
    weights = _forced(layer, given.weights, z=OPEN)
    y, h = subject.apply(layer, weights, given.x, initial_state=given.state)
    require_close(h, given.state[0], FEW, f"{layer} with z=1: h")
    require_close(y, _at_every_step(given.x, given.state[0]), FEW, f"{layer} with z=1: y")


@law("GRU-4", over={**GRU_GATES, "before": BEFORE})
def a_shut_update_gate_takes_the_candidate(subject: Subject, layer: GRU) -> None:
    """With z=0 and r=0 the state is `tanh(x @ K[n] + b[n])`."""
    given = sample(subject, layer, "taking the candidate")
    weights = _forced(layer, given.weights, z=SHUT, r=SHUT)
    n = slice(2 * UNITS, 3 * UNITS)
    wide = {name: value.astype(np.float64) for name, value in weights.items()}
    expected = np.tanh(given.x.astype(np.float64) @ wide["kernel"][:, n] + wide["bias"][n])
    y, h = subject.apply(layer, weights, given.x, initial_state=given.state)
    require_close(y, expected, FEW, f"{layer} with z=0, r=0: y")
    require_close(h, expected[:, -1], FEW, f"{layer} with z=0, r=0: h")


@law("GRU-2")
def the_recurrent_bias_is_inside_the_reset(subject: Subject) -> None:
    """With r=0 it has no effect, with r=1/2 half of it has, with r=1 all of it."""
    layer = GRU(UNITS, **BOTH)
    given = sample(subject, layer, "recurrent bias inside")
    n = slice(2 * UNITS, 3 * UNITS)
    for factor, pre_activation in {0.0: SHUT, 0.5: 0.0, 1.0: OPEN}.items():
        inside = _forced(layer, given.weights, r=pre_activation)
        outside = {name: value.copy() for name, value in inside.items()}
        outside["bias"][n] += np.float32(factor) * outside["recurrent_bias"][n]
        outside["recurrent_bias"][n] = 0
        one, two = (
            subject.apply(layer, weights, given.x, initial_state=given.state)
            for weights in (inside, outside)
        )
        for name, found, expected in zip(("y", "h"), one, two, strict=True):
            require_close(found, expected, FEW, f"{layer} with r={factor:g}: {name}")


@law("GRU-2", "GRU-3")
def both_resets_agree_where_nothing_is_reset(subject: Subject) -> None:
    """With r=1 both forms give the same, and with other r they do not."""
    after, before = GRU(UNITS, **BOTH), BEFORE
    given = sample(subject, after, "both resets")

    def results(weights: Weights) -> tuple[Any, Any]:
        merged = {name: weights[name] for name in ("kernel", "recurrent_kernel")}
        merged["bias"] = weights["bias"] + weights["recurrent_bias"]
        return (
            subject.apply(after, weights, given.x, initial_state=given.state),
            subject.apply(before, merged, given.x, initial_state=given.state),
        )

    one, two = results(_forced(after, given.weights, r=OPEN))
    for name, found, expected in zip(("y", "h"), two, one, strict=True):
        require_close(found, expected, FEW, f"GRU, reset before, with r=1: {name}")
    one, two = results(given.weights)
    require(
        float(np.abs(one.y - two.y).max()) > 1e-3,
        "GRU: expected another result with reset_after=False",
        expected=one.y,
        received=two.y,
    )


@law("GRU-3")
def the_reset_scales_h_before_the_product(subject: Subject) -> None:
    """With one unit's r at 0, its `h` reaches no candidate; with r=1 it reaches every one."""
    layer = BEFORE
    given = sample(subject, layer, "reset before")
    weights = _forced(layer, given.weights, z=SHUT, r=OPEN)
    weights["bias"][UNITS] = SHUT  # r of unit 0
    weights["recurrent_kernel"][1:, 2 * UNITS :] = 0  # candidates read the h of unit 0 alone
    deaf = {name: value.copy() for name, value in weights.items()}
    deaf["recurrent_kernel"][:, 2 * UNITS :] = 0
    one, two = (
        subject.apply(layer, each, given.x, initial_state=given.state) for each in (weights, deaf)
    )
    require_close(one.y, two.y, FEW, f"{layer}, reset before, with r=0 for unit 0: y")


@law("GRU-3")
def resetting_before_takes_no_recurrent_bias(subject: Subject) -> None:
    """`recurrent_bias` is an extra weight with `reset_after=False`."""
    given = sample(subject, GRU(UNITS), "no recurrent bias")
    with require_error(WeightsError, "GRU, reset before, with recurrent_bias", "recurrent_bias"):
        subject.apply(BEFORE, given.weights, given.x)


# --- BIAS ----------------------------------------------------------------------------------------


@law("BIAS-1", over=CELLS)
def no_bias_is_a_bias_of_zero(subject: Subject, layer: AnyCell) -> None:
    """Without bias a cell computes what it computes with biases of zero."""
    bare = layer.replace(use_bias=False)
    given = sample(subject, layer, "no bias")
    weights = {name: value for name, value in given.weights.items() if "bias" not in name}
    zeros = {name: np.zeros_like(value) for name, value in given.weights.items()}
    expected = subject.apply(layer, zeros | weights, given.x, initial_state=given.state)
    found = subject.apply(bare, weights, given.x, initial_state=given.state)
    for name, one, two in zip(expected._fields, found, expected, strict=True):
        require_close(one, two, FEW, f"{layer} without bias: {name}")


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
    x = sample(subject, layer, "no bias arrays").x
    weights = random_weights(layer, subject.random("no bias arrays"), FEATURES)
    with require_error(WeightsError, f"{bare} without bias, with a bias", "bias"):
        subject.apply(bare, weights, x)
    fields: dict[str, Any] = {"bias_initializer": "ones"}
    if isinstance(bare, LSTM):
        fields["unit_forget_bias"] = False
    plain, other = bare.init(FEATURES, seed=3), bare.replace(**fields).init(FEATURES, seed=3)
    require(set(plain) == set(other), f"{bare} without bias: expected the same weights")
    for name, value in plain.items():
        require_bits(other[name], value, f"{bare} without bias, other bias fields: {name}")
    results = [outputs_of(subject.apply(each, plain, x)) for each in (bare, bare.replace(**fields))]
    for one, two in zip(*results, strict=True):
        require_close(two, one, FEW, f"{bare} without bias, other bias fields: results")
