"""Wrong data types and roundings: DTYPE and PREC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, replaced
from seqcore.conformance.mutants.wrong import (
    Call,
    Given,
    SameOps,
    WrongBackend,
    equations,
    misread,
    twisted,
    weights_of,
    wrong,
    wrong_cell,
    wrong_gradients,
    wrong_ops,
)
from seqcore.equations import sequence
from seqcore.equations.cell import Cell
from seqcore.equations.gru import GRUResetBeforeCell
from seqcore.ops import Array, Arrays, Ops
from seqcore.runtime import inputs
from seqcore.spec.dtypes import HALF_DTYPES, compute_dtype, numpy_dtype
from seqcore.spec.layers import LSTM
from seqcore.spi import Backend, GradientParts, Request

# DTYPE-1: one data type.


def _wide_outputs(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Return what was computed, not what was asked for."""
    compute = numpy_dtype(compute_dtype(request.dtype))
    return y.astype(compute), tuple(state.astype(compute) for state in final)


def _wide_gradients(request: Request, parts: GradientParts) -> GradientParts:
    compute = numpy_dtype(compute_dtype(request.dtype))
    d_weights, d_x, d_initial = parts
    wide = {name: value.astype(compute) for name, value in d_weights.items()}
    return wide, d_x.astype(compute), tuple(d.astype(compute) for d in d_initial)


def _narrow_state(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Return the final state of a float64 layer in float32."""
    if request.dtype != "float64":
        return y, final
    return y, tuple(state.astype(np.float32) for state in final)


twisted("DTYPE-1", "float32 out of a layer of a half type", after=_wide_outputs)
twisted("DTYPE-1", "float32 gradients of a layer of a half type", gradients=_wide_gradients)
twisted("DTYPE-1", "a float32 state out of a float64 layer", after=_narrow_state)


@mutant("DTYPE-1", "input cast to the weights' data type without a word")
def _silent() -> Iterator[Backend]:
    def bend(layer: Any, given: Given) -> Given:
        def cast(value: Any) -> Any:
            floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            return value.astype(given.dtype()) if floats else value

        return given.each(cast)._replace(weights=given.weights)

    with misread(bend):
        yield WrongBackend()


# DTYPE-2: Python sequences.


@mutant("DTYPE-2", "sequences read as float64, whatever the weights are")
def _wide_sequences() -> Iterator[Backend]:
    with _sequences_read(lambda value, dtype: np.asarray(value, np.float64)):
        yield WrongBackend()


@mutant("DTYPE-2", "sequences of integers read as integers")
def _integer_sequences() -> Iterator[Backend]:
    def read(value: Any, dtype: Any) -> Any:
        numbers = np.asarray(value)
        return numbers if numbers.dtype.kind == "i" else numbers.astype(dtype)

    with _sequences_read(read):
        yield WrongBackend()


@mutant("DTYPE-2", "sequences read as float32, whatever the weights are")
def _narrow_sequences() -> Iterator[Backend]:
    with _sequences_read(lambda value, dtype: np.asarray(value, np.float32)):
        yield WrongBackend()


def _sequences_read(read: Any) -> Any:
    def bend(layer: Any, given: Given) -> Given:
        return given.each(lambda v: read(v, given.dtype()) if isinstance(v, tuple | list) else v)

    return misread(bend)


# DTYPE-3: other arrays.


@mutant("DTYPE-3", "integer arrays cast without a word")
def _integers() -> Iterator[Backend]:
    with _taken("iu"):
        yield WrongBackend()


@mutant("DTYPE-3", "complex arrays taken for their real part")
def _complex() -> Iterator[Backend]:
    with _taken("c"):
        yield WrongBackend()


@mutant("DTYPE-3", "boolean and object arrays read as numbers")
def _others() -> Iterator[Backend]:
    with _taken("bO"):
        yield WrongBackend()


def _taken(kinds: str) -> Any:
    """Return a context in which arrays of some kinds are cast."""

    def bend(layer: Any, given: Given) -> Given:
        def lenient(value: Any) -> Any:
            taken = isinstance(value, np.ndarray) and value.dtype.kind in kinds
            return np.real(value).astype(np.float32) if taken else value

        return given.each(lenient)

    return misread(bend)


# DTYPE-4: half types, rounding.


@mutant("DTYPE-4", "half states not rounded at each step")
def _unrounded() -> Iterator[Backend]:
    with replaced(sequence, "_round", lambda ops, value, dtype: value):
        yield WrongBackend()


@mutant("DTYPE-4", "half states cut off, not rounded")
def _truncated() -> Iterator[Backend]:
    def cut(ops: Any, value: Array, dtype: str) -> Array:
        low = np.uint32(0xFFFF0000 if dtype == "bfloat16" else 0xFFFFE000)
        return (np.ascontiguousarray(value).view(np.uint32) & low).view(np.float32)

    with replaced(sequence, "_round", cut):
        yield WrongBackend()


def _one_rounding(request: Request, call: Call) -> Call:
    """Round the initial state coarsely, to seven bits in float16, too."""
    weights, x, mask, state = call
    if request.dtype != "float16":
        return call
    kind = numpy_dtype("bfloat16")
    return weights, x, mask, tuple(h.astype(np.float32).astype(kind).astype(h.dtype) for h in state)


twisted("DTYPE-4", "a float16 state held in bfloat16", before=_one_rounding)

# DTYPE-5: half types, products.


class _HalfSums(SameOps):
    """Adds the terms of a product one by one in a half type."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = numpy_dtype(kind)

    def matmul(self, a: Array, b: Array) -> Array:
        total = np.zeros((*a.shape[:-1], b.shape[-1]), self.kind)
        with np.errstate(over="ignore", invalid="ignore"):
            for k in range(a.shape[-1]):
                term = a[..., k, None] * b[k]
                total = (total.astype(a.dtype) + term).astype(self.kind)
        return total.astype(a.dtype)


def _half_sums(*dtypes: str, kind: str = "") -> Any:
    """Return a hook that gives cells of some data types sums in a half type, by default theirs."""

    def exchange(request: Request, cell: Cell) -> Cell:
        if request.dtype in dtypes:
            cell.ops = _HalfSums(kind or request.dtype)
        return cell

    return exchange


def _same(request: Request, cell: Cell) -> Cell:
    return cell


twisted("DTYPE-5", "float16 products summed in float16", cell=_half_sums("float16"))
twisted("DTYPE-5", "bfloat16 products summed in bfloat16", cell=_half_sums("bfloat16"))
twisted(
    "DTYPE-5",
    "bfloat16 products summed in float16",
    cell=_half_sums("bfloat16", kind="float16"),
)
twisted(
    "DTYPE-5",
    "half products of the pullback summed in the half type",
    cell=_same,
    cell_back=_half_sums(*HALF_DTYPES),
)

# PREC: roundings of float32.


def _tf32(x: Array) -> Array:
    """Round to 10 explicit mantissa bits, to nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    odd = (bits >> np.uint32(13)) & np.uint32(1)
    rounded = (bits + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), rounded.view(np.float32), x)


def _bfloat16(x: Array) -> Array:
    """Round to 7 explicit mantissa bits, to nearest, ties to even."""
    return x.astype(numpy_dtype("bfloat16")).astype(np.float32)


_ROUND = {"highest": lambda x: x, "tf32": _tf32, "bfloat16": _bfloat16}


class _Rounding(SameOps):
    """Products whose factors are rounded here."""

    def matmul(self, a: Array, b: Array) -> Array:
        if self.precision == "highest":
            return self.full(a, b)
        return self.full(self.rounded(a), self.rounded(b))

    def full(self, a: Array, b: Array) -> Array:
        return self.honest.at("highest").matmul(a, b)

    def rounded(self, x: Array) -> Array:
        return _ROUND[self.precision](x)


# PREC-1: levels.


@wrong_ops("PREC-1", "tf32 where the highest precision is asked for")
class _FastByDefault(SameOps):
    def matmul(self, a: Array, b: Array) -> Array:
        fast = self.precision == "highest" and a.dtype == np.float32
        return (self.honest.at("tf32") if fast else self.honest).matmul(a, b)


@wrong_ops("PREC-1", "float32 products inside a float64 layer")
class _SingleInside(SameOps):
    def matmul(self, a: Array, b: Array) -> Array:
        if a.dtype != np.float64:
            return super().matmul(a, b)
        with np.errstate(over="ignore", invalid="ignore"):
            return super().matmul(a.astype(np.float32), b.astype(np.float32)).astype(np.float64)


def _single_fused(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Return what fused code in float32 would give, where such code takes the layer."""
    layer = request.layer
    fused = isinstance(layer, LSTM) and (layer.activation, request.mask) == ("tanh", "none")
    if not fused or request.dtype != "float64":
        return y, final
    y, *states = (value.astype(np.float32).astype(np.float64) for value in (y, *final))
    return y, tuple(states)


twisted("PREC-1", "float32 inside an unmasked float64 LSTM of tanh", after=_single_fused)


@wrong_gradients("PREC-1", "tf32 in the pullback where the highest precision is asked for")
class _FastBehind(Cell):
    def __init__(self, layer: Any, ops: Ops, weights: Any) -> None:
        fast = weights["kernel"].dtype == np.float32
        super().__init__(layer, ops.at("tf32") if fast else ops, weights)


# PREC-2: rounding.


@wrong_ops("PREC-2", "tf32 factors cut off, not rounded")
class _CutTF32(_Rounding):
    def rounded(self, x: Array) -> Array:
        if self.precision != "tf32":
            return super().rounded(x)
        bits = np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFFE000)
        return np.where(np.isfinite(x), bits.view(np.float32), x)


@wrong_ops("PREC-2", "bfloat16 factors cut off, not rounded")
class _CutBfloat16(_Rounding):
    def rounded(self, x: Array) -> Array:
        if self.precision != "bfloat16":
            return super().rounded(x)
        bits = np.ascontiguousarray(x).view(np.uint32) & np.uint32(0xFFFF0000)
        return np.where(np.isfinite(x), bits.view(np.float32), x)


@wrong_ops("PREC-2", "ties rounded away from zero")
class _TiesAway(_Rounding):
    def rounded(self, x: Array) -> Array:
        low = np.uint32(13 if self.precision == "tf32" else 16)
        half = np.uint32(1) << (low - np.uint32(1))
        bits = np.ascontiguousarray(x).view(np.uint32)
        rounded = ((bits + half) >> low) << low
        return np.where(np.isfinite(x), rounded.view(np.float32), x)


@wrong_ops("PREC-2", "tf32 with 11 mantissa bits")
class _ElevenBits(_Rounding):
    def rounded(self, x: Array) -> Array:
        if self.precision != "tf32":
            return super().rounded(x)
        bits = np.ascontiguousarray(x).view(np.uint32)
        odd = (bits >> np.uint32(12)) & np.uint32(1)
        rounded = (bits + np.uint32(0x7FF) + odd) & np.uint32(0xFFFFF000)
        return np.where(np.isfinite(x), rounded.view(np.float32), x)


@wrong_ops("PREC-2", "tf32 through float16, whose exponents are fewer")
class _ThroughFloat16(_Rounding):
    def rounded(self, x: Array) -> Array:
        if self.precision != "tf32":
            return super().rounded(x)
        with np.errstate(over="ignore", under="ignore"):
            return x.astype(np.float16).astype(np.float32)


@wrong_ops("PREC-2", "a carry that is lost before the exponent")
class _LostCarry(_Rounding):
    def rounded(self, x: Array) -> Array:
        bits = np.ascontiguousarray(x).view(np.uint32)
        good = np.ascontiguousarray(super().rounded(x)).view(np.uint32)
        carried = (good & np.uint32(0x7F800000)) != (bits & np.uint32(0x7F800000))
        return np.where(carried, bits & np.uint32(0xFF800000), good).view(np.float32)


# PREC-3: where it applies.


@wrong_ops("PREC-3", "rounded weights and states that are not")
class _SecondOnly(_Rounding):
    def matmul(self, a: Array, b: Array) -> Array:
        return self.full(a, self.rounded(b))


@wrong_ops("PREC-3", "rounded states and weights that are not")
class _FirstOnly(_Rounding):
    def matmul(self, a: Array, b: Array) -> Array:
        return self.full(self.rounded(a), b)


@wrong_ops("PREC-3", "sums of products rounded, too")
class _RoundedSums(_Rounding):
    def matmul(self, a: Array, b: Array) -> Array:
        return self.rounded(super().matmul(a, b))


@wrong_ops("PREC-3", "gates and states rounded, too")
class _RoundedGates(_Rounding):
    def tanh(self, x: Array) -> Array:
        return self.rounded(super().tanh(x))


@wrong_cell("PREC-3", "only the product with the state rounded")
class _InputInFull(Cell):
    def project(self, x: Array) -> Array:
        product = self.ops.at("highest").matmul(x, self.kernel)
        return product if self.bias is None else product + self.bias


def _rounded_bias(request: Request, cell: Cell) -> Cell:
    if cell.bias is not None:
        cell.bias = _ROUND[request.precision](cell.bias)
    return cell


twisted("PREC-3", "the bias rounded, too", cell=_rounded_bias)


class _RoundedBeforeReset(GRUResetBeforeCell):
    """Rounds h before the reset gate scales it, not after."""

    precision = "highest"

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        xz, xr, xn = self.ops.split(projected, 3)
        hz, hr = self.ops.split(self.ops.matmul(h, self.gates_kernel), 2)
        z, r = self.ract(xz + hz), self.ract(xr + hr)
        rounded, full = _ROUND[self.precision], self.ops.at("highest")
        n = self.act(xn + full.matmul(r * rounded(h), rounded(self.candidate_kernel)))
        return (z * h + (1 - z) * n,), (z, r, n)


def _rounded_before_reset(request: Request, cell: Cell) -> Cell:
    bent = equations(_RoundedBeforeReset)(request, cell)
    if isinstance(bent, _RoundedBeforeReset):
        bent.precision = request.precision
    return bent


twisted("PREC-3", "h rounded before the reset gate, not after", cell=_rounded_before_reset)

# PREC-4: pullback.


def _in_full(request: Request, cell: Cell) -> Cell:
    cell.ops = cell.ops.at("highest")
    return cell


@wrong_gradients("PREC-4", "gradients of weights in full precision")
class _WeightsInFull(Cell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        full = type(self)(self.layer, self.ops.at("highest"), weights_of(self))
        return Cell.weight_gradients(full, x, previous_h, saved, d_pre)


def _cotangents_in_full(request: Request, cell: Cell) -> Cell:
    """Round the weights and states in a pullback's products, and not the cotangents."""
    if request.precision != "highest":
        cell.ops = _PlainCotangents().at(request.precision)
    return cell


class _PlainCotangents(_Rounding):
    """In `D @ B` the cotangent is the first factor, in `transpose(A) @ D` the second."""

    def matmul(self, a: Array, b: Array) -> Array:
        if a.flags.c_contiguous:
            return self.full(a, self.rounded(b))
        return self.full(self.rounded(a), b)


twisted("PREC-4", "a pullback in full precision", cell=_same, cell_back=_in_full)
twisted("PREC-4", "cotangents that are not rounded", cell=_same, cell_back=_cotangents_in_full)

# PREC-5: where it is available.


@mutant("PREC-5", "tf32 taken with float64, and ignored")
def _lenient() -> Iterator[Backend]:
    def checked(subject: Any, engine: Any, dtype: str) -> None:
        inputs.require(subject, engine.backend, dtype)

    with replaced(inputs, "check_supported", checked):
        yield WrongBackend(ops=_Deaf("tf32", "bfloat16"))


class _Deaf(SameOps):
    """Takes a precision and computes in full."""

    def __init__(self, *levels: str) -> None:
        super().__init__()
        self.levels = levels

    def at(self, precision: str) -> Ops:
        return super().at("highest" if precision in self.levels else precision)


wrong("PREC-5", "tf32 taken and ignored", lambda: WrongBackend(ops=_Deaf("tf32")))
wrong("PREC-5", "bfloat16 products taken and ignored", lambda: WrongBackend(ops=_Deaf("bfloat16")))
