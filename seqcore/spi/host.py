"""What seqcore provides to engines whose arrays are NumPy's: their functions and their border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spi.backend import Backend
from seqcore.spi.request import ArrayInfo


class HostOps(Ops):
    """Every function over NumPy arrays, for `matmul_precision="highest"`."""

    def matmul(self, a: Array, b: Array) -> Array:
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


class HostBackend(Backend):
    """An engine that takes and gives NumPy arrays, on the CPU.

    It is left to give a name, implementations, capabilities and the engine's version.
    """

    ops: Ops = HostOps()

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        kind = numpy_dtype(dtype) if dtype not in ("bool", "int64") else np.dtype(dtype)
        return np.asarray(value, kind)

    def to_numpy(self, array: Array) -> Any:
        return array

    def describe(self, array: Array) -> ArrayInfo:
        return ArrayInfo(array.shape, array.dtype.name, "cpu")

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def copy(self, array: Array) -> Array:
        return np.array(array)
