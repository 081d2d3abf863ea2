"""Laws of product precision (clauses PREC): what is rounded, how, and what is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import (
    CELLS,
    Call,
    Named,
    draw,
    gates_of,
    gradients_of,
    implementations,
    linearized,
    outputs_of,
    results_of,
)
from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import CLOSED_FORM
from seqcore.errors import UnsupportedFeature
from seqcore.spec.dtypes import DTYPES
from seqcore.spec.layers import GRU, AnyLayer, SimpleRNN

LOW_BITS = {"tf32": 13, "bfloat16": 16}
FEATURE = {"tf32": "tf32", "bfloat16": "bfloat16_products"}


def rounded(values: NDArray[Any], level: str) -> NDArray[np.float32]:
    """Return float32 numbers rounded by PREC-2, in whole numbers."""
    low = LOW_BITS[level]
    found = []
    for pattern in np.asarray(values, np.float32).view(np.uint32).ravel().tolist():
        kept, rest = divmod(pattern, 2**low)
        half = 2 ** (low - 1)
        finite = pattern & 0x7F800000 != 0x7F800000
        if finite and (rest > half or (rest == half and kept % 2)):
            kept += 1  # the carry goes into the exponent by itself
        found.append(kept * 2**low if finite else pattern)
    return np.array(found, np.uint32).view(np.float32).reshape(np.shape(values))


def _chosen(level: str) -> NDArray[np.float32]:
    """Return finite numbers on which roundings differ: ties, neighbours of ties, carries.

    None is subnormal, for processors may take such numbers as 0; none becomes infinite.
    """
    low = LOW_BITS[level]
    half, unit = 2 ** (low - 1), 2**low
    one, all_ones = 0x3F800000, 0x007FFFFF
    patterns = [
        one,
        one + half,  # a tie, down to even
        one + half - 1,
        one + half + 1,
        one + unit + half,  # a tie, up to even
        one + unit + half - 1,
        one + unit + half + 1,
        one + 1,
        one + unit - 1,
        one + all_ones,  # a carry through the whole mantissa into the exponent: 2
        one + all_ones - half,
        0x00800000 + half + 1,  # the smallest exponent
        0x00800000 + all_ones,
        0x0D800000 + half + 1,  # below float16's smallest number
        0x71800000 + unit + half,  # above its largest
        0x7F000000 + half + 1,  # the largest exponent
        0x4B7FFFFF,
        0x3EAAAAAB,
        0x40490FDB,
    ]
    positive = np.array(patterns, np.uint32).view(np.float32)
    return np.concatenate([positive, -positive, np.zeros(2, np.float32)])


INFINITE = np.array([0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000])
"""Patterns that become infinite, infinity, and NaN with a single bit at either end."""

WIDTH = 2 * 19 + 2
"""How many chosen numbers there are; also the batch and the units of the calls with them."""

CHOOSER = SimpleRNN(WIDTH, activation="linear")


class _Chooser:
    """A linear layer of one step, one feature and square state, which is one product at a time."""

    def __init__(self, subject: Subject, options: Mapping[str, Any]) -> None:
        """Take the options of each call."""
        self.subject = subject
        self.call = draw(subject, CHOOSER, "chooser", batch=WIDTH, time=1, features=1)
        self.call = self.call.giving(**options)

    def of(
        self,
        *,
        x: NDArray[Any] | None = None,
        kernel: NDArray[Any] | None = None,
        h: NDArray[Any] | None = None,
        recurrent_kernel: NDArray[Any] | None = None,
        bias: NDArray[Any] | None = None,
        d: NDArray[Any] | None = None,
    ) -> Call:
        """Return the call with some arrays; what is not given is zeros."""

        def whole(array: NDArray[Any] | None, *shape: int) -> NDArray[Any]:
            if array is None:
                return np.zeros(shape, np.float32)
            return np.asarray(array, np.float32).reshape(shape)

        weights = {
            "kernel": whole(kernel, 1, WIDTH),
            "recurrent_kernel": whole(recurrent_kernel, WIDTH, WIDTH),
            "bias": whole(bias, WIDTH),
        }
        return self.call.but(
            weights=weights,
            x=whole(x, WIDTH, 1, 1),
            cotangents=(whole(d, WIDTH, WIDTH),),
        ).giving(initial_state=(whole(h, WIDTH, WIDTH),))

    def y(self, **arrays: NDArray[Any]) -> NDArray[Any]:
        """Return the output of the call."""
        with np.errstate(all="ignore"):  # infinity is among the numbers
            return outputs_of(self.subject, self.of(**arrays))["y"]

    def gradients(self, **arrays: NDArray[Any]) -> Named:
        """Return the gradients of the call."""
        with np.errstate(all="ignore"):
            return gradients_of(self.subject, self.of(**arrays))


def _first_column(values: NDArray[Any]) -> NDArray[np.float32]:
    matrix = np.zeros((WIDTH, WIDTH), np.float32)
    matrix[:, 0] = values
    return matrix


def _first_row(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.ascontiguousarray(_first_column(values).T)


ONES = np.ones(WIDTH, np.float32)
IDENTITY = np.eye(WIDTH, dtype=np.float32)
FIRST = IDENTITY[0]


# Full precision.


@law("PREC-1", tier="smoke", over={"default": {}, "highest": {"matmul_precision": "highest"}})
def the_highest_level_rounds_nothing(subject: Subject, options: dict[str, str]) -> None:
    """Products of numbers with all their bits set keep them; TF32 would lose 13."""
    _require_full(_Chooser(subject, options))


@law("PREC-1", tier="full")
def no_implementation_rounds_at_the_highest_level(subject: Subject) -> None:
    """The same for every implementation that takes the call."""
    call = _Chooser(subject, {}).call
    for name, _ in implementations(subject, call, gradient=subject.supports("gradients")):
        _require_full(_Chooser(subject, {"implementation": name}))


def _require_full(chooser: _Chooser) -> None:
    random = chooser.subject.random("full products")
    a, b = (random.uniform(1, 2, WIDTH).astype(np.float32) for _ in range(2))
    exact = np.outer(a.astype(np.float64), b.astype(np.float64))
    h, recurrent = _first_column(a), _first_row(b)
    _require_product(chooser.y(x=a, kernel=b), exact, "x @ kernel")
    _require_product(chooser.y(h=h, recurrent_kernel=recurrent), exact, "h @ recurrent_kernel")
    if not chooser.subject.supports("gradients"):
        return
    diagonal, products = np.diag(a), np.diagonal(exact)
    found = chooser.gradients(x=b, kernel=b, d=diagonal)
    _require_product(found["gradient of kernel"], products[None], "kernel's gradient")
    _require_product(found["gradient of x"][:, 0, 0], products, "x's gradient")
    found = chooser.gradients(h=_first_column(b), recurrent_kernel=recurrent, d=diagonal)
    d_recurrent = found["gradient of recurrent_kernel"][0]
    _require_product(d_recurrent, products, "recurrent_kernel's gradient")
    d_h = found["gradient of initial_state.h"][:, 0]
    _require_product(d_h, products, "the initial state's gradient")


def _require_product(found: NDArray[Any], exact: NDArray[Any], what: str) -> None:
    """Depart unless numbers are single products that are rounded once or, emulated, a few times.

    With factors rounded to TF32 they are off by thousands of units, with factors of two bfloat16
    numbers by tens.
    """
    require_close(found, exact, CLOSED_FORM, f"{what}, of full products", dtype="float32")


SUMMED = 64


@law("PREC-1", needs=("float64",))
def float64_sums_are_float64(subject: Subject) -> None:
    """Sums of numbers that differ by 1e-12 keep the difference, in the pullback too."""
    layer = SimpleRNN(2, **BOTH)
    call = draw(subject, layer, "sums", dtype="float64", batch=3, time=1, features=SUMMED)
    random = subject.random("sums in float64")
    tiny = 1e-12 * random.standard_normal(call.x.shape)
    linear = call.but(
        layer=layer.replace(activation="linear"),
        weights={name: np.ones_like(value) for name, value in call.weights.items()},
        x=1 + tiny,
        cotangents=tuple(1 + 1e-12 * d for d in call.cotangents),
    ).giving(initial_state=(1 + 1e-12 * call.state[0],))
    found = results_of(subject, linear)
    y = linear.x.sum(-1) + linear.state[0].sum(-1, keepdims=True) + 1
    expected = {"y": np.repeat(y[:, :, None], 2, 2)}
    if subject.supports("gradients"):
        d_y, d_h = linear.cotangents
        d = d_y[:, 0] + d_h
        expected |= {
            "gradient of kernel": linear.x[:, 0].T @ d,
            "gradient of bias": d.sum(0),
            "gradient of x": np.repeat(d.sum(-1)[:, None, None], SUMMED, 2),
            "gradient of initial_state.h": np.repeat(d.sum(-1)[:, None], 2, 1),
        }
    # Two results: the sums here are rounded as those of the backend.
    require_alike(found, expected, linear, "sums of numbers near 1 in float64")


# The rounding.


def factors_are_rounded(subject: Subject, level: str) -> None:
    """Each factor of the forward products, times 1, is itself rounded, bit for bit."""
    _require_rounded_factors(_Chooser(subject, {"matmul_precision": level}), level)


def factors_that_are_not_finite(subject: Subject, level: str) -> None:
    """The largest numbers carry into infinity; infinity and NaN stay what they are."""
    chooser = _Chooser(subject, {"matmul_precision": level})
    values = np.ones(WIDTH, np.float32)
    values.view(np.uint32)[: len(INFINITE)] = INFINITE
    expected = rounded(values, level)
    y = chooser.y(x=values, kernel=ONES)
    require_bits(y[:, 0], expected, f"{level}: x, of numbers that are not finite or become so")
    y = chooser.y(x=ONES, kernel=values)
    require_bits(y[0], expected, f"{level}: kernel, of numbers that are not finite or become so")
    y = chooser.y(h=_first_column(values), recurrent_kernel=_first_row(ONES))
    require_bits(y[:, 0], expected, f"{level}: h, of numbers that are not finite or become so")


def _require_rounded_factors(chooser: _Chooser, level: str) -> None:
    values = _chosen(level)
    expected = rounded(values, level)
    # A zero that is added makes 0 of -0.
    expected = expected + np.float32(0)
    found = {
        "x": chooser.y(x=values, kernel=ONES)[:, 0],
        "kernel": chooser.y(x=ONES, kernel=values)[0],
        "h": chooser.y(h=_first_column(values), recurrent_kernel=_first_row(ONES))[:, 0],
        "recurrent_kernel": chooser.y(h=_first_column(ONES), recurrent_kernel=_first_row(values))[
            0
        ],
    }
    for name, value in found.items():
        require_bits(value + np.float32(0), expected, f"{level}: {name} times 1")


def nothing_but_factors_is_rounded(subject: Subject, level: str) -> None:
    """Products of rounded factors are summed in float32 in full, and biases and states kept."""
    chooser = _Chooser(subject, {"matmul_precision": level})
    values = _chosen(level)[:19]
    bias = np.resize(values, WIDTH)
    require_bits(chooser.y(bias=bias)[0], bias, f"{level}: bias")
    # Integers of 8 bits are kept by either level; their products and sums have up to 24.
    random = subject.random("integers")
    h, recurrent = (random.integers(-255, 256, (WIDTH, WIDTH)).astype(np.float32) for _ in "ab")
    y = chooser.y(h=h, recurrent_kernel=recurrent)
    exact = (h.astype(np.float64) @ recurrent.astype(np.float64)).astype(np.float32)
    require_bits(y, exact, f"{level}: a product of integers, which is exact in float32")


def elementwise_products_are_not_rounded(subject: Subject, given: tuple[str, AnyLayer]) -> None:
    """Where both kernels are 0 all levels give the same: gates, states and biases are in full."""
    level, layer = given
    call = draw(subject, layer, "no products")
    kernels = {name: value for name, value in call.weights.items() if name.endswith("kernel")}
    weights = call.weights | {name: np.zeros_like(value) for name, value in kernels.items()}
    call = call.but(weights=weights)
    expected = results_of(subject, call)
    found = results_of(subject, call.giving(matmul_precision=level))
    # The kernels' gradients are products, whose factors are not 0.
    unrounded = {
        name: value
        for name, value in expected.items()
        if name not in [f"gradient of {kernel}" for kernel in kernels]
    }
    require_alike(found, unrounded, call, f"{layer} with kernels 0 at {level}, against highest")


def the_reset_state_is_a_factor(subject: Subject, level: str) -> None:
    """In a GRU that resets before the product `r * h` is rounded, and not `h` before it."""
    layer = GRU(2, activation="linear", recurrent_activation="hard_sigmoid", reset_after=False)
    call = draw(subject, layer, "reset state", batch=1, time=1, features=1)
    unit = np.float32(2.0 ** (LOW_BITS[level] - 23))
    h = np.float32(1) + unit  # kept by the level; 0.75 of it is a tie
    # z is 0 and r is 0.75, so that y is the candidate, (r * h) @ R[n].
    weights = {
        "kernel": np.zeros((1, 6), np.float32),
        "recurrent_kernel": np.concatenate(
            [np.zeros((2, 4), np.float32), np.eye(2, dtype=np.float32)], 1
        ),
        "bias": np.array([-9, -9, 1.5, 1.5, 0, 0], np.float32),
    }
    state = np.full((1, 2), h, np.float32)
    y = outputs_of(
        subject,
        call.but(weights=weights).giving(initial_state=(state,), matmul_precision=level),
    )["y"]
    expected = rounded(np.full((1, 2), np.float32(0.75) * h, np.float32), level)
    require_bits(y, expected, f"{layer}, reset before the product, at {level}: 0.75 * h")


def factors_of_the_pullback_are_rounded(subject: Subject, level: str) -> None:
    """Each factor of the pullback's products, times 1, is itself rounded, bit for bit."""
    _require_rounded_pullback(_Chooser(subject, {"matmul_precision": level}), level)


def no_implementation_leaves_factors_unrounded(subject: Subject, level: str) -> None:
    """Forward and back, for every implementation that takes the call."""
    options = {"matmul_precision": level}
    call = _Chooser(subject, options).call
    for name, _ in implementations(subject, call):
        _require_rounded_factors(_Chooser(subject, options | {"implementation": name}), level)
    for name, _ in implementations(subject, call, gradient=True):
        _require_rounded_pullback(_Chooser(subject, options | {"implementation": name}), level)


def _require_rounded_pullback(chooser: _Chooser, level: str) -> None:
    values = _chosen(level)
    expected = rounded(values, level) + np.float32(0)
    column, row, ones = _first_column(values), _first_row(values), _first_column(ONES)
    # Both factors of each product: once the cotangent has the numbers, once the other one.
    of_cotangent = {
        "x": chooser.gradients(kernel=FIRST, d=column)["gradient of x"][:, 0, 0],
        "initial_state.h": chooser.gradients(recurrent_kernel=ones, d=column)[
            "gradient of initial_state.h"
        ][:, 0],
        "kernel": chooser.gradients(x=FIRST, d=row)["gradient of kernel"][0],
        "recurrent_kernel": chooser.gradients(h=np.outer(FIRST, FIRST), d=row)[
            "gradient of recurrent_kernel"
        ][0],
    }
    of_other = {
        "x": chooser.gradients(kernel=values, d=IDENTITY)["gradient of x"][:, 0, 0],
        "initial_state.h": chooser.gradients(recurrent_kernel=row, d=IDENTITY)[
            "gradient of initial_state.h"
        ][:, 0],
        "kernel": chooser.gradients(x=values, d=IDENTITY)["gradient of kernel"][0],
        "recurrent_kernel": chooser.gradients(h=column, d=IDENTITY)["gradient of recurrent_kernel"][
            0
        ],
    }
    for factor, found in (("the cotangent", of_cotangent), ("the other factor", of_other)):
        for name, value in found.items():
            what = f"{level}: the gradient of {name}, of {factor} times 1"
            require_bits(value + np.float32(0), expected, what)
    bias = chooser.gradients(d=row)["gradient of bias"]
    require_bits(bias + np.float32(0), values + np.float32(0), f"{level}: the gradient of bias")


for _level, _feature in FEATURE.items():
    _over = {_level: _level}
    law("PREC-2", "PREC-3", needs=(_feature,), over=_over)(factors_are_rounded)
    law("PREC-2", needs=(_feature,), over=_over)(factors_that_are_not_finite)
    law("PREC-3", "PREC-2", needs=(_feature,), over=_over)(nothing_but_factors_is_rounded)
    law("PREC-3", "GRU-3", needs=(_feature,), over=_over)(the_reset_state_is_a_factor)
    law(
        "PREC-3",
        needs=(_feature,),
        over={f"{_level}/{name}": (_level, CELLS[name]) for name in ("lstm", "gru")},
    )(elementwise_products_are_not_rounded)
    law("PREC-4", needs=(_feature, "gradients"), over=_over)(factors_of_the_pullback_are_rounded)
    law("PREC-4", "PREC-3", tier="full", needs=(_feature, "gradients"), over=_over)(
        no_implementation_leaves_factors_unrounded
    )


# Where it is available.


def levels_are_for_float32(subject: Subject, dtype: str) -> None:
    """With another data type `"tf32"` and `"bfloat16"` raise `UnsupportedFeature`, at any door."""
    call = draw(subject, CELLS["lstm"], "levels", dtype=dtype)
    outputs_of(subject, call.giving(matmul_precision="highest"))
    for level in LOW_BITS:
        asked = call.giving(matmul_precision=level)
        what = f"matmul_precision={level!r} in {dtype}"
        with require_error(UnsupportedFeature, f"{what}: apply"):
            outputs_of(subject, asked)
        with require_error(UnsupportedFeature, f"{what}: vjp"):
            linearized(subject, asked)
        with require_error(UnsupportedFeature, f"{what}: gates"):
            gates_of(subject, asked)
        with require_error(UnsupportedFeature, f"{what}: bind"):
            subject.bind(asked.layer, asked.weights, matmul_precision=level)(asked.x)


for _dtype in DTYPES:
    if _dtype != "float32":
        law("PREC-5", needs=(_dtype,), over={_dtype: _dtype})(levels_are_for_float32)


@law("PREC-5", tier="smoke", needs=("float32",), over={level: level for level in LOW_BITS})
def a_level_is_honoured_or_refused(subject: Subject, level: str) -> None:
    """The option changes a product that it must change, or raises; it is never ignored."""
    chooser = _Chooser(subject, {"matmul_precision": level})
    value = np.float32(1) + np.float32(2.0**-9 + 2.0**-12)
    if not subject.supports(FEATURE[level]):
        with require_error(UnsupportedFeature, f"matmul_precision={level!r}, declared absent"):
            chooser.y(x=ONES * value, kernel=ONES)
        return
    y = chooser.y(x=ONES * value, kernel=ONES)
    require(
        bool((y != value).all()),
        f"matmul_precision={level!r}: expected {value!r} to be rounded before the product",
        expected=rounded(np.array([value]), level),
        received=y[0, :1],
    )
