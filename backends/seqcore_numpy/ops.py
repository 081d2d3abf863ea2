"""The array functions over NumPy, with TF32 and bfloat16 products emulated (clauses PREC)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore.spec.dtypes import numpy_dtype


class NumpyOps(Ops):
    """Every function, on the CPU."""

    def __init__(self, round_input: Callable[[Array], Array] | None = None) -> None:
        """Take what both inputs of every product go through, if anything."""
        self._round_input = round_input

    def at(self, precision: str) -> Ops:
        return _AT[precision]

    def matmul(self, a: Array, b: Array) -> Array:
        if self._round_input is not None:
            a, b = self._round_input(a), self._round_input(b)
        return np.matmul(a, b)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        # A Python scalar takes the array's dtype; NumPy alone would widen bfloat16 for it.
        dtype = a.dtype if isinstance(a, np.ndarray) else b.dtype
        return np.where(condition, np.asarray(a, dtype), np.asarray(b, dtype))

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return np.concatenate(arrays, axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        return np.split(x, parts, -1)

    def swap(self, x: Array) -> Array:
        return np.swapaxes(x, 0, 1)

    def flip(self, x: Array, axis: int) -> Array:
        return np.flip(x, axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return np.reshape(x, shape)

    def sum(self, x: Array) -> Array:
        return np.sum(x, 0)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        return np.zeros(shape, like.dtype)

    def arange(self, stop: int, like: Array) -> Array:
        return np.arange(stop)

    def cast(self, x: Array, dtype: str) -> Array:
        return np.asarray(x, numpy_dtype(dtype))

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        steps = len(xs[0])
        stacked: list[NDArray[Any]] = []
        for index in reversed(range(steps)) if reverse else range(steps):
            carry, emitted = step(carry, tuple(x[index] for x in xs))
            if not stacked:
                stacked = [np.empty((steps, *value.shape), value.dtype) for value in emitted]
            for all_steps, value in zip(stacked, emitted, strict=True):
                all_steps[index] = value
        return carry, tuple(stacked)


def round_tf32(x: Array) -> Array:
    """Round float32 to the 10 explicit mantissa bits of TF32, to nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    half = np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32)
    # Adding to the bits of a NaN or of infinity would leave them; they are what they are.
    return np.where(np.isfinite(x), rounded, x)


def round_bfloat16(x: Array) -> Array:
    """Round float32 to the 7 explicit mantissa bits of bfloat16, to nearest, ties to even."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


_AT: dict[str, Ops] = {
    "highest": NumpyOps(),
    "tf32": NumpyOps(round_tf32),
    "bfloat16": NumpyOps(round_bfloat16),
}
