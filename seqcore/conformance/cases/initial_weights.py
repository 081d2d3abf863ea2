"""Laws of initial weights (clauses INIT)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from seqcore.config import use_backend
from seqcore.conformance.calls import FEATURES, UNITS, draw
from seqcore.conformance.deviations import differences
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.stream import Stream, key
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.initializers import (
    AnyInitializer,
    Constant,
    GlorotUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Zeros,
)
from seqcore.spec.layers import GRU, LSTM, AnyCell, Bidirectional, SimpleRNN, Stack

Values = Callable[[Stream, tuple[int, int]], Any]
"""What an initializer gives in float64 for a matrix, from its stream."""


def _glorot(stream: Stream, shape: tuple[int, int]) -> list[float]:
    limit = math.sqrt(6 / (shape[0] + shape[1]))
    return [limit * (2 * u - 1) for u in stream.uniform(math.prod(shape))]


def _orthogonal(gain: float) -> Values:
    """Return the law of Gram and Schmidt, whose R has a positive diagonal."""

    def values(stream: Stream, shape: tuple[int, int]) -> NDArray[Any]:
        rows, columns = shape
        drawn = np.reshape(stream.normal(rows * columns), (max(shape), min(shape)))
        basis: list[NDArray[Any]] = []
        for column in drawn.T:
            rest = column
            for _ in range(2):  # once more, for what rounding left
                rest = rest - sum((b * (b @ rest) for b in basis), np.zeros(len(rest)))
            basis.append(rest / math.sqrt(rest @ rest))
        q = gain * np.stack(basis, 1)
        return q if rows >= columns else q.T

    return values


DRAWN: dict[str, tuple[AnyInitializer, dict[str, float], Values]] = {
    "zeros": (Zeros(), {}, lambda _, shape: np.zeros(shape)),
    "ones": (Ones(), {}, lambda _, shape: np.ones(shape)),
    "constant": (Constant(0.3), {"value": 0.3}, lambda _, shape: np.full(shape, 0.3)),
    "random_uniform": (
        RandomUniform(-0.1, 0.2),
        {"minval": -0.1, "maxval": 0.2},
        lambda stream, shape: [-0.1 + (0.2 - -0.1) * u for u in stream.uniform(math.prod(shape))],
    ),
    "random_normal": (
        RandomNormal(1.0, 0.25),
        {"mean": 1.0, "stddev": 0.25},
        lambda stream, shape: [1.0 + 0.25 * v for v in stream.normal(math.prod(shape))],
    ),
    "glorot_uniform": (GlorotUniform(), {}, _glorot),
    "orthogonal": (Orthogonal(1.5), {"gain": 1.5}, _orthogonal(1.5)),
}


def _expected(type: str, seed: int, name: str, shape: tuple[int, int]) -> NDArray[np.float64]:
    _, parameters, values = DRAWN[type]
    return np.reshape(values(Stream(key(seed, name, shape, type, parameters)), shape), shape)


def _require_near(found: NDArray[Any], expected: NDArray[Any], what: str) -> None:
    """Depart unless float64 values agree but for their last bits."""
    require(
        found.dtype == np.float64 and found.shape == expected.shape,
        f"{what}: expected float64 {expected.shape}, received {found.dtype.name} {found.shape}",
    )
    worst = float(np.max(differences(found, expected), initial=0.0))
    require(
        worst <= 1e-12,
        f"{what}: expected the values of appendix B, received others by {worst:.3g}",
        expected=expected,
        received=found,
    )


# --- INIT-1 --------------------------------------------------------------------------------------


@law("INIT-1", arrays=False, tier="smoke")
def each_weight_has_its_initializer(subject: Subject) -> None:
    """The three fields give the two kernels and both biases."""
    layer = GRU(
        UNITS,
        kernel_initializer=Constant(1.0),
        recurrent_initializer=Constant(2.0),
        bias_initializer=Constant(3.0),
    )
    expected = {"kernel": 1.0, "recurrent_kernel": 2.0, "bias": 3.0, "recurrent_bias": 3.0}
    for name, value in layer.init(FEATURES).items():
        require(
            bool((value == expected[name]).all()),
            f"{layer}: {name}: expected {expected[name]} everywhere",
            expected=expected[name],
            received=value,
        )


@law("INIT-1", arrays=False, over={"rnn": SimpleRNN(3), "lstm": LSTM(3), "gru": GRU(3)})
def the_defaults_are_these(subject: Subject, layer: AnyCell) -> None:
    """A kernel is glorot_uniform, a recurrent kernel orthogonal over all gates, a bias zeros."""
    for name, value in layer.init(FEATURES, seed=2, dtype="float64").items():
        what = f"{layer}: {name} by default"
        if name == "kernel":
            _require_near(value, _expected("glorot_uniform", 2, name, value.shape), what)
        elif name == "recurrent_kernel":
            stream = Stream(key(2, name, value.shape, "orthogonal", {"gain": 1.0}))
            _require_near(value, np.asarray(_orthogonal(1.0)(stream, value.shape)), what)
        else:
            forget = value[3:6] if isinstance(layer, LSTM) else value[:0]
            require(
                not np.delete(value, range(3, 3 + forget.size)).any(),
                f"{what}: expected zeros",
                expected="zeros",
                received=value,
            )


# --- INIT-2 --------------------------------------------------------------------------------------


@law("INIT-2", arrays=False, over={type: type for type in DRAWN})
def the_values_are_those_of_the_stream(subject: Subject, type: str) -> None:
    """Seed, full name, shape and initializer make the key, whatever the weight belongs to."""
    initializer, _, _ = DRAWN[type]
    cell = GRU(3, kernel_initializer=initializer, return_sequences=True)
    layer = Stack((Bidirectional(cell), cell.replace(units=UNITS)), return_sequences=True)
    for seed in (0, 7, 2**64 - 1):
        weights = layer.init(FEATURES, seed=seed, dtype="float64")
        for name in ("layers.0.forward.kernel", "layers.0.backward.kernel", "layers.1.kernel"):
            expected = _expected(type, seed, name, weights[name].shape)
            _require_near(weights[name], expected, f"{type}, seed {seed}: {name}")


@law("INIT-2", arrays=False)
def the_values_depend_on_nothing_else(subject: Subject) -> None:
    """Not on other fields, other weights, the backend, or what was drawn before."""
    plain = LSTM(3).init(FEATURES, seed=1)
    others: tuple[AnyCell, ...] = (
        LSTM(3, **BOTH),
        LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", go_backwards=True),
        LSTM(3, mask_output="carry"),
        LSTM(3),
    )
    for layer in others:
        for name, value in layer.init(FEATURES, seed=1).items():
            require_bits(value, plain[name], f"{layer} with other fields: {name}")
    bare = LSTM(3, use_bias=False, recurrent_initializer="zeros").init(FEATURES, seed=1)
    require_bits(bare["kernel"], plain["kernel"], "LSTM with another recurrent kernel: kernel")
    with use_backend(subject.name):
        for name, value in LSTM(3).init(FEATURES, seed=1).items():
            require_bits(value, plain[name], f"LSTM where {subject.name} is chosen: {name}")


@law("INIT-2", arrays=False)
def seed_name_and_shape_count(subject: Subject) -> None:
    """Another seed, name or shape gives other values."""
    layer = Bidirectional(GRU(3))
    one, two = layer.init(FEATURES), layer.init(FEATURES, seed=1)
    wider = layer.init(FEATURES + 1)
    first = one["forward.kernel"].ravel()
    for what, other in {
        "seed": two["forward.kernel"].ravel(),
        "name": one["backward.kernel"].ravel(),
        "shape": wider["forward.kernel"].ravel()[: first.size],
    }.items():
        require(
            not np.isclose(first, other).any(),
            f"{layer}: expected other values with another {what}",
            expected="other values",
            received=other,
        )


@law("INIT-2", arrays=False)
def seeds_are_64_bits(subject: Subject) -> None:
    """A seed below 0 or above `2**64 - 1` is an error."""
    for seed in (-1, 2**64):
        with require_error(SpecError, f"seed {seed}", "seed"):
            LSTM(UNITS).init(FEATURES, seed=seed)


@law("INIT-2")
def a_call_without_weights_uses_seed_0(subject: Subject) -> None:
    """The values do not depend on the backend that runs them."""
    layer = LSTM(UNITS)
    x = draw(subject, layer, "fresh weights").x
    expected = subject.apply(layer, layer.init(FEATURES), x)
    require_bits(layer(x, backend=subject.name), expected, f"{layer} with fresh weights")


# --- INIT-3 to INIT-5 ----------------------------------------------------------------------------


@law("INIT-3", arrays=False)
def constant_and_random_values(subject: Subject) -> None:
    """The values are those of the formulas, and the parameters have their defaults."""
    for type in ("zeros", "ones", "constant", "random_uniform", "random_normal"):
        initializer, _, _ = DRAWN[type]
        found = GRU(3, kernel_initializer=initializer).init(5, seed=4, dtype="float64")["kernel"]
        _require_near(found, _expected(type, 4, "kernel", (5, 9)), type)
    for bare, full in (
        (Constant(), Constant(0.0)),
        (RandomUniform(), RandomUniform(-0.05, 0.05)),
        (RandomNormal(), RandomNormal(0.0, 0.05)),
    ):
        require(bare == full, f"{bare}: expected the defaults {full}", received=bare)


@law("INIT-3", arrays=False)
def parameters_that_cannot_be(subject: Subject) -> None:
    """Bounds in the wrong order, a negative deviation and what is not finite are errors."""
    wrong: dict[str, Callable[[], Any]] = {
        "minval": lambda: RandomUniform(1.0, 0.5),
        "stddev": lambda: RandomNormal(0.0, -0.1),
        "value": lambda: Constant(math.nan),
        "maxval": lambda: RandomUniform(0.0, math.inf),
        "mean": lambda: RandomNormal(-math.inf, 1.0),
        "gain": lambda: Orthogonal(math.nan),
    }
    for parameter, make in wrong.items():
        with require_error(SpecError, f"a wrong {parameter}", parameter):
            make()
    RandomUniform(0.5, 0.5)
    RandomNormal(0.0, 0.0)


@law("INIT-4", arrays=False)
def the_limit_counts_all_gates(subject: Subject) -> None:
    """Values reach `sqrt(6 / (rows + columns))` and do not pass it; a bias counts twice."""
    for layer in (GRU(40), LSTM(40), SimpleRNN(40)):
        kernel = layer.init(FEATURES, seed=1, dtype="float64")["kernel"]
        _require_near(
            kernel, _expected("glorot_uniform", 1, "kernel", kernel.shape), f"{layer}: kernel"
        )
    for cell in (GRU(40), LSTM(40, unit_forget_bias=False)):
        layer = cell.replace(bias_initializer="glorot_uniform")
        bias = layer.init(FEATURES, dtype="float64")["bias"]
        limit = math.sqrt(6 / (2 * bias.size))
        largest = float(np.abs(bias).max())
        require(
            0.9 * limit < largest <= limit,
            f"{layer}: bias: expected values up to {limit:.4g}, received up to {largest:.4g}",
            expected=limit,
            received=largest,
        )


@law("INIT-5", arrays=False, over={str(rows): rows for rows in (1, 4, 9, 20)})
def orthogonal_over_the_whole_matrix(subject: Subject, rows: int) -> None:
    """Rows or columns, whichever are fewer, are orthonormal, with the signs of the clause."""
    initializer, _, _ = DRAWN["orthogonal"]
    found = GRU(3, kernel_initializer=initializer).init(rows, dtype="float64")["kernel"]
    product = found @ found.T if rows <= 9 else found.T @ found
    _require_near(product, 1.5**2 * np.eye(min(rows, 9)), f"orthogonal ({rows}, 9): its square")
    _require_near(found, _expected("orthogonal", 0, "kernel", (rows, 9)), f"orthogonal ({rows}, 9)")


@law("INIT-5", arrays=False)
def a_bias_is_no_matrix(subject: Subject) -> None:
    """`orthogonal` for a bias is an error where there is a bias."""
    for cell in (SimpleRNN, LSTM, GRU):
        with require_error(SpecError, f"{cell.__name__} with an orthogonal bias", "orthogonal"):
            cell(UNITS, bias_initializer="orthogonal")
        cell(UNITS, bias_initializer="orthogonal", use_bias=False).init(FEATURES)


# --- INIT-6 and INIT-7 ---------------------------------------------------------------------------


@law(
    "INIT-6",
    arrays=False,
    over={
        "zeros": "zeros",
        "constant": Constant(0.25),
        "normal": RandomNormal(),
        "ones": "ones",
    },
)
def the_forget_slice_is_1(subject: Subject, initializer: Any) -> None:
    """The elements `units : 2*units` are 1, in every LSTM, and the others as initialized."""
    cell = LSTM(3, bias_initializer=initializer, return_sequences=True)
    plain = cell.replace(unit_forget_bias=False)
    require(LSTM(3).unit_forget_bias is True, "LSTM: expected unit_forget_bias=True by default")
    found, without = (
        Stack((each, Bidirectional(each)), return_sequences=True).init(FEATURES)
        for each in (cell, plain)
    )
    for name in ("layers.0.bias", "layers.1.forward.bias", "layers.1.backward.bias"):
        require(
            bool((found[name][3:6] == 1).all()),
            f"{cell}: {name}[3:6]: expected 1",
            expected="1",
            received=found[name],
        )
        others = np.r_[0:3, 6:12]
        require_bits(found[name][others], without[name][others], f"{cell}: {name} elsewhere")
    if initializer != "ones":
        require(
            not (without["layers.0.bias"][3:6] == 1).any(),
            f"{plain} without unit_forget_bias: expected other values than 1",
            received=without["layers.0.bias"],
        )


FROZEN = {
    "zeros": "10b2a66888c58a54",
    "ones": "24cac2760ec887a7",
    "constant": "e50ed117af2da5c1",
    "random_uniform": "4cfa38ea5473279f",
    "random_normal": "1ccf83ae63773ef6",
    "glorot_uniform": "d56176735567ef39",
    "orthogonal": "626db217acfbf419",
}
"""SHA-256 of the float32 bytes, little-endian, of a GRU's kernel (5, 9) with seed 11."""


@law("INIT-7", arrays=False, over={type: type for type in DRAWN})
def float32_and_below_are_rounded(subject: Subject, type: str) -> None:
    """float32 is rounded from float64, the half types from float32; the bits are known."""
    initializer, _, _ = DRAWN[type]
    layer = GRU(3, kernel_initializer=initializer)
    wide, single = (
        layer.init(5, seed=11, dtype=dtype)["kernel"] for dtype in ("float64", "float32")
    )
    require_bits(single, wide.astype(np.float32), f"{type}: float32")
    digest = hashlib.sha256(single.astype("<f4").tobytes()).hexdigest()[:16]
    require(
        digest == FROZEN[type],
        f"{type}: expected the known float32 bits, received others",
        expected=FROZEN[type],
        received=digest,
    )
    for dtype, kind in (("float16", np.float16), ("bfloat16", ml_dtypes.bfloat16)):
        half = layer.init(5, seed=11, dtype=dtype)["kernel"]
        require_bits(half, single.astype(kind), f"{type}: {dtype}")


@law("INIT-7", arrays=False)
def half_types_are_rounded_by_way_of_float32(subject: Subject) -> None:
    """A value just above a tie is rounded to it first, and then to even."""
    for dtype, value in {
        "float16": 1 + 2.0**-11 + 2.0**-30,
        "bfloat16": 1 + 2.0**-8 + 2.0**-30,
    }.items():
        layer = SimpleRNN(UNITS, kernel_initializer=Constant(value))
        found = layer.init(FEATURES, dtype=dtype)["kernel"].astype(np.float64)
        require(
            bool((found == 1).all()),
            f"constant {value!r} in {dtype}: expected 1",
            expected="1",
            received=found,
        )
