"""Laws of data types (clauses DTYPE): one of them everywhere, and the arithmetic of half types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_same
from seqcore.conformance.calls import (
    BIDIRECTIONAL,
    CELLS,
    OTHERS,
    Call,
    Named,
    draw,
    flat,
    gates_of,
    gradients_by_name,
    gradients_of,
    implementations,
    linearized,
    outputs_of,
    results_of,
    structured,
)
from seqcore.conformance.deviations import unit_eps
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.errors import DtypeError
from seqcore.spec.dtypes import DTYPES, HALF_DTYPES, numpy_dtype
from seqcore.spec.layers import GRU, LSTM, AnyLayer, SimpleRNN
from seqcore.spec.outputs import state_names
from seqcore.spec.weights import weight_shapes

# One data type.


def one_dtype_for_everything(subject: Subject, given: tuple[str, AnyLayer]) -> None:
    """Outputs, states and gradients have the data type of the arguments."""
    dtype, layer = given
    call = draw(subject, layer, "one dtype", dtype=dtype, mask="holes")
    for name, value in results_of(subject, call).items():
        _require_dtype(value, dtype, f"{layer} in {dtype}: {name}")
    without = draw(subject, layer, "one dtype", dtype=dtype, state=False)
    for name, value in outputs_of(subject, without).items():
        _require_dtype(value, dtype, f"{layer} in {dtype}, no initial state: {name}")
    if subject.supports("gates"):
        for name, value in gates_of(subject, call).items():
            _require_dtype(value, dtype, f"{layer} in {dtype}: {name} of gates")


def _require_dtype(value: Any, dtype: str, what: str) -> None:
    received = np.asarray(value).dtype.name
    require(
        received == dtype,
        f"{what}: expected {dtype}, received {received}",
        expected=dtype,
        received=received,
    )


def two_dtypes_are_an_error(subject: Subject, dtype: str) -> None:
    """One argument of another data type than the rest, whichever it is, is a `DtypeError`."""
    call = draw(subject, CELLS["lstm"], "mixed dtypes", dtype=dtype)
    for other in DTYPES:
        if other != dtype:
            kind = numpy_dtype(other)
            for what, changed in _each_argument(call, lambda a, kind=kind: a.astype(kind)).items():
                with require_error(DtypeError, f"{what} of {other} among {dtype}"):
                    outputs_of(subject, changed)


def a_cotangent_of_another_dtype_is_an_error(subject: Subject, dtype: str) -> None:
    """A cotangent has the data type of its output, else it is a `DtypeError`."""
    call = draw(subject, CELLS["lstm"], "mixed dtypes, cotangents", dtype=dtype)
    _, pullback = linearized(subject, call)
    for other in DTYPES:
        if other != dtype:
            for index in range(len(call.cotangents)):
                mixed = list(call.cotangents)
                mixed[index] = mixed[index].astype(numpy_dtype(other))
                with require_error(DtypeError, f"a cotangent of {other} among {dtype}"):
                    pullback(tuple(mixed))


def _each_argument(call: Call, function: Any) -> dict[str, Call]:
    """Return the call with a function applied to one argument, for each of them."""
    found = {
        name: call.but(weights=call.weights | {name: function(value)})
        for name, value in call.weights.items()
    }
    found["x"] = call.but(x=function(call.x))
    for index, value in enumerate(call.state):
        states = list(call.state)
        states[index] = function(value)
        found[f"initial_state[{index}]"] = call.giving(initial_state=tuple(states))
    return found


for _dtype in DTYPES:
    # Float32 is what the other laws run in, so that its layers are at hand.
    law(
        "DTYPE-1",
        tier="smoke" if _dtype == "float32" else "standard",
        needs=(_dtype, "masks"),
        over={f"{_dtype}/lstm": (_dtype, CELLS["lstm"])},
    )(one_dtype_for_everything)
    law(
        "DTYPE-1",
        tier="full",
        needs=(_dtype, "masks"),
        over={
            f"{_dtype}/{name}": (_dtype, layer)
            for name, layer in {**CELLS, **OTHERS, "bidirectional": BIDIRECTIONAL}.items()
            if name != "lstm"
        },
    )(one_dtype_for_everything)
    law("DTYPE-1", needs=(_dtype,), over={_dtype: _dtype})(two_dtypes_are_an_error)
    law("DTYPE-1", needs=(_dtype, "gradients"), over={_dtype: _dtype})(
        a_cotangent_of_another_dtype_is_an_error
    )


# Sequences and other arrays.


def sequences_are_read_in_the_dtype_of_the_weights(subject: Subject, dtype: str) -> None:
    """Nested lists and tuples of numbers give what arrays of the weights' data type give."""
    call = draw(subject, CELLS["lstm"], "sequences", dtype=dtype)
    # A third is in no binary data type, so that each rounds it in its own way.
    rows = [[k / 3, 2, -1, 0.1] for k in range(5)]
    numbers: Any = [rows, rows[::-1], [[1, -2, 3, 0]] * 5]
    states: Any = [[[1 / 3, 2]] * 3, [[0, -1]] * 3]
    kind = numpy_dtype(dtype)
    arrays = call.but(x=np.array(numbers, kind)).giving(
        initial_state=tuple(np.array(state, kind) for state in states)
    )
    lists = call.but(x=numbers).giving(initial_state=states)  # of no array at all
    tuples = call.but(x=tuple(tuple(map(tuple, part)) for part in numbers)).giving(
        initial_state=tuple(states)
    )
    expected = outputs_of(subject, arrays)
    require_same(outputs_of(subject, lists), expected, f"lists beside weights of {dtype}")
    require_same(outputs_of(subject, tuples), expected, f"tuples beside weights of {dtype}")
    integers = call.but(x=[[[1, -2, 3, 0]] * 5] * 3)  # of Python's whole numbers
    expected = outputs_of(subject, call.but(x=np.array(integers.x, kind)))
    require_same(outputs_of(subject, integers), expected, f"integers beside weights of {dtype}")


for _dtype in DTYPES:
    law("DTYPE-2", needs=(_dtype,), over={_dtype: _dtype})(
        sequences_are_read_in_the_dtype_of_the_weights
    )


@law("DTYPE-2", needs=("float32",))
def sequences_alone_are_read_as_float32(subject: Subject) -> None:
    """Where the weights are sequences too, or there are none, everything is float32."""
    layer = CELLS["lstm"]
    call = draw(subject, layer, "sequences alone")
    lists = {name: value.tolist() for name, value in call.weights.items()}
    states = [value.tolist() for value in call.state]
    found = subject.apply(layer, lists, call.x.tolist(), initial_state=states)
    for one, two in zip(flat(found), outputs_of(subject, call).values(), strict=True):
        require_bits(one, two, "weights, x and state as lists, against float32")
    fresh = layer(call.x.tolist(), backend=subject.name)
    for one, two in zip(flat(fresh), flat(layer(call.x, backend=subject.name)), strict=True):
        require_bits(one, two, "a list without weights, against float32")


@law("DTYPE-2", needs=("gradients",))
def cotangents_may_be_sequences(subject: Subject) -> None:
    """A cotangent given as a nested list is read in the data type of its output."""
    call = draw(subject, CELLS["lstm"], "cotangents as lists")
    _, pullback = linearized(subject, call)
    lists = tuple(d.tolist() for d in call.cotangents)
    found = gradients_by_name(call.layer, pullback(lists))
    expected = gradients_by_name(call.layer, pullback(structured(call.cotangents)))
    require_same(found, expected, "cotangents as lists")


REFUSED = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint64",
    "bool",
    "complex64",
    "complex128",
    "object",
    "longdouble",
    "str",
    "datetime64[s]",
)
"""Data types that no layer takes. On some platforms `longdouble` is float64, which one takes."""


@law("DTYPE-3", over={name: name for name in REFUSED})
def other_arrays_are_an_error(subject: Subject, name: str) -> None:
    """An array of another data type is a `DtypeError`, as `x`, weight or state."""
    if np.dtype(name) == np.float64:
        return
    call = draw(subject, CELLS["lstm"], "other arrays")

    def other(array: NDArray[Any]) -> NDArray[Any]:
        whole = np.abs(array * 10).astype(np.int64)
        return np.asarray(whole, name)

    for what, changed in _each_argument(call, other).items():
        with require_error(DtypeError, f"{what} of {name}"):
            outputs_of(subject, changed)
    everything = call.but(
        weights={key: other(value) for key, value in call.weights.items()}, x=other(call.x)
    ).giving(initial_state=tuple(other(value) for value in call.state))
    with require_error(DtypeError, f"all arguments of {name}"):
        outputs_of(subject, everything)


# Half types.

STEPS = 16

CARRIES: dict[str, tuple[AnyLayer, dict[str, list[float]], float]] = {
    # Weights with which the state of one unit becomes exactly `state + scale * x` at each step:
    # gates that are 0, 0.5 or 1 exactly, and the linear activation.
    "rnn": (
        SimpleRNN(1, activation="linear", **BOTH),
        {"kernel": [1], "recurrent_kernel": [1], "bias": [0]},
        1.0,
    ),
    "lstm": (
        LSTM(1, activation="linear", recurrent_activation="hard_sigmoid", **BOTH),
        {"kernel": [0, 0, 1, 0], "recurrent_kernel": [0, 0, 0, 0], "bias": [9, 9, 0, 9]},
        1.0,
    ),
    "gru": (
        GRU(1, activation="linear", recurrent_activation="hard_sigmoid", **BOTH),
        {
            "kernel": [0, 0, 1],
            "recurrent_kernel": [0, 0, 1],
            "bias": [0, 9, 0],
            "recurrent_bias": [0, 0, 0],
        },
        0.5,
    ),
    "gru-before": (
        GRU(
            1,
            activation="linear",
            recurrent_activation="hard_sigmoid",
            reset_after=False,
            **BOTH,
        ),
        {"kernel": [0, 0, 1], "recurrent_kernel": [0, 0, 1], "bias": [0, 9, 0]},
        0.5,
    ),
}

ROUNDINGS = {
    # What is added at each step to 1 and some eps, all in eps.
    "below half": (0, 0.25),
    "below half, from an odd state": (5, 0.25),
    "a tie, down to even": (0, 0.5),
    "a tie, up to even": (3, 0.5),
    "above half": (0, 0.75),
    "below half of the finer numbers under 1": (0, -0.125),
}


def states_are_rounded_at_each_step(subject: Subject, given: tuple[str, str]) -> None:
    """A state to which less than half an eps is added at each step never grows.

    The increments and all states are exact, so that the results are, too: float32 states would
    grow, and truncated ones would not grow where these do.
    """
    dtype, name = given
    for label, (first, increment) in ROUNDINGS.items():
        call, eps = _counting(subject, dtype, name, increment, first)
        expected = (1 + eps * _states(first, increment)).astype(call.x.dtype)[None, :, None]
        found = outputs_of(subject, call)
        what = (
            f"{call.layer} in {dtype}: 1 + {first} eps and {STEPS} increments of {increment} eps "
            f"({label})"
        )
        require_bits(found["y"], expected, f"{what}: y")
        for state in list(found)[1:]:
            require_bits(found[state], expected[:, -1], f"{what}: {state}")


def roundings_count_as_the_identity(subject: Subject, given: tuple[str, str]) -> None:
    """Though a rounding swallows every increment, each has its gradient, and so has the state."""
    dtype, name = given
    call, _ = _counting(subject, dtype, name, 0.25)
    _, _, scale = CARRIES[name]
    kind = call.x.dtype
    d_y = np.zeros((1, STEPS, 1), kind)
    d_y[:, -1] = 1
    states = len(call.state)
    call = call.but(cotangents=(d_y, *(np.zeros((1, 1), kind) for _ in range(states))))
    found = gradients_of(subject, call)
    what = f"{call.layer} in {dtype}, {STEPS} increments that are rounded away"
    require_bits(found["gradient of x"], np.full((1, STEPS, 1), scale, kind), f"{what}: x")
    # The last state is the one from which the next step starts: c of an LSTM, else h.
    last = list(found)[-1]
    require_bits(found[last], np.ones((1, 1), kind), f"{what}: {last}")


def _states(first: int, increment: float) -> NDArray[np.float64]:
    """Return the states from 1 to 2, in eps above 1, to the nearest, ties to even."""
    states, state = [], float(first)
    for _ in range(STEPS):
        exact = state + increment
        state = round(exact) if exact >= 0 else round(2 * exact) / 2  # finer below 1
        states.append(state)
    return np.array(states, np.float64)


def _counting(
    subject: Subject, dtype: str, name: str, increment: float, first: int = 0
) -> tuple[Call, float]:
    """Return a call that adds `increment` eps at each step to a state of 1 and `first` eps."""
    layer, numbers, scale = CARRIES[name]
    states = len(state_names(layer))
    kind, eps = numpy_dtype(dtype), unit_eps(dtype)
    shapes = weight_shapes(layer, 1)
    weights = {key: np.array(value, kind).reshape(shapes[key]) for key, value in numbers.items()}
    call = draw(subject, layer, "counting", dtype=dtype, batch=1, time=STEPS, features=1)
    state = tuple(np.full((1, 1), 1 + first * eps, kind) for _ in range(states))
    x = np.full((1, STEPS, 1), increment * eps / scale, kind)
    return call.but(weights=weights, x=x).giving(initial_state=state), eps


def sums_of_products_are_wide(subject: Subject, dtype: str) -> None:
    """Sums of integers that a half type cannot hold on the way come out rounded once."""
    _require_wide_sums(subject, _sums(subject, dtype))


def sums_of_products_are_wide_everywhere(subject: Subject, dtype: str) -> None:
    """The same for every implementation that takes the call."""
    call = _sums(subject, dtype)
    for _, forced in implementations(subject, call):
        _require_wide_sums(subject, forced, gradients=False)
    for _, forced in implementations(subject, call, gradient=True):
        _require_wide_sums(subject, forced)


MANY = 64


def _sums(subject: Subject, dtype: str) -> Call:
    layer = SimpleRNN(MANY, activation="linear")
    return draw(subject, layer, "wide sums", dtype=dtype, batch=MANY, time=1, features=MANY)


def _require_wide_sums(subject: Subject, call: Call, *, gradients: bool = True) -> None:
    """Depart unless the products of one step, forward and back, are exact and rounded once.

    The factors are integers up to 31 in magnitude, so that every sum is exact in float32, in
    whatever order, and few are in a half type.
    """
    kind = call.x.dtype
    random = subject.random("wide sums, integers")

    def integers(*shape: int) -> NDArray[np.float64]:
        return random.integers(-31, 32, shape).astype(np.float64)

    a, b, d = integers(MANY, MANY), integers(MANY, MANY), integers(MANY, MANY)
    zeros = np.zeros((MANY, MANY))
    forward = {
        "x @ kernel": (a, b, zeros, zeros),
        "h @ recurrent_kernel": (zeros, zeros, a, b),
    }
    for product, (x, kernel, h, recurrent) in forward.items():
        one = call.but(
            x=x[:, None].astype(kind),
            weights={
                "kernel": kernel.astype(kind),
                "recurrent_kernel": recurrent.astype(kind),
                "bias": np.zeros(MANY, kind),
            },
            cotangents=(d.astype(kind),),
        ).giving(initial_state=(h.astype(kind),))
        what = f"{call.layer} in {kind.name}: {product} of integers"
        require_bits(outputs_of(subject, one)["y"], (a @ b).astype(kind), what)
        if gradients and subject.supports("gradients"):
            found = gradients_of(subject, one)
            expected: Named = {
                "gradient of kernel": x.T @ d,
                "gradient of recurrent_kernel": h.T @ d,
                "gradient of x": (d @ kernel.T)[:, None],
                "gradient of initial_state.h": d @ recurrent.T,
            }
            for name, value in expected.items():
                require_bits(found[name], value.astype(kind), f"{what}: {name}")


def sums_over_steps_are_wide(subject: Subject, dtype: str) -> None:
    """A kernel's gradient, a sum over all steps, is rounded once and not at each step."""
    layer, numbers, _ = CARRIES["rnn"]
    call, _ = _counting(subject, dtype, "rnn", 0.25)
    kind = call.x.dtype
    random = subject.random("sums over steps")
    x, d = (random.integers(-63, 64, STEPS).astype(np.float64) for _ in range(2))
    weights = {
        key: np.array(value, kind).reshape(call.weights[key].shape)
        for key, value in (numbers | {"recurrent_kernel": [0]}).items()
    }
    d_y = d.reshape(1, STEPS, 1).astype(kind)
    given = call.but(
        weights=weights,
        x=x.reshape(1, STEPS, 1).astype(kind),
        cotangents=(d_y, np.zeros((1, 1), kind)),
    ).giving(initial_state=(np.zeros((1, 1), kind),))
    found = gradients_of(subject, given)
    before = np.concatenate([[0.0], x[:-1]])  # h is x, for the kernel is 1 and the other one 0
    for name, factor in (("kernel", x), ("recurrent_kernel", before)):
        expected = np.array([[np.sum(factor * d)]]).astype(kind)
        what = f"{layer} in {dtype}: the gradient of {name} over {STEPS} steps"
        require_bits(found[f"gradient of {name}"], expected, what)


for _dtype in HALF_DTYPES:
    for _name in CARRIES:
        _tier: Any = "standard" if _name in ("rnn", "lstm") else "full"
        _over = {f"{_dtype}/{_name}": (_dtype, _name)}
        law("DTYPE-4", tier=_tier, needs=(_dtype,), over=_over)(states_are_rounded_at_each_step)
        law("DTYPE-4", tier=_tier, needs=(_dtype, "gradients"), over=_over)(
            roundings_count_as_the_identity
        )
    law("DTYPE-5", needs=(_dtype,), over={_dtype: _dtype})(sums_of_products_are_wide)
    law("DTYPE-5", needs=(_dtype, "gradients"), over={_dtype: _dtype})(sums_over_steps_are_wide)
    law("DTYPE-5", tier="full", needs=(_dtype, "gradients"), over={_dtype: _dtype})(
        sums_of_products_are_wide_everywhere
    )
