"""The array functions over JAX.

Outside a compiled function they meet NumPy arrays too, which the border hands on as they are
(see `seqcore_jax.backend`): what is made beside such an array is made by NumPy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore_jax.devices import default_device, device_of
from seqcore_jax.precision import Rounding, matmul, wide

_ROWS = 4
"""From this batch on the inputs are multiplied step by step.

One large product for all steps means an array of every pre-activation, written, read to add the
bias, written again and read once more; its fresh pages alone took 0.17 s of the 0.75 s of processor
time of an LSTM(512) over (64, 256, 256) on 2 cores. With few rows a product a step is the slower.
"""


class JaxOps(Ops):
    """Every function, on any device."""

    def __init__(self, product: Callable[[Array, Array], Array] = matmul) -> None:
        """Take the matrix product."""
        self._product = product

    def at(self, precision: str) -> Ops:
        return _AT[precision]

    def projects_ahead(self, batch: int) -> bool:
        return batch < _ROWS

    def matmul(self, a: Array, b: Array) -> Array:
        return self._product(a, b)

    def tanh(self, x: Array) -> Array:
        return lax.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        return lax.logistic(x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return jnp.where(condition, a, b)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return jnp.concatenate(arrays, axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        return jnp.split(x, parts, -1)

    def swap(self, x: Array) -> Array:
        return jnp.swapaxes(x, 0, 1)

    def flip(self, x: Array, axis: int) -> Array:
        return jnp.flip(x, axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return jnp.reshape(x, shape)

    def sum(self, x: Array) -> Array:
        return jnp.sum(x, 0)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        if isinstance(like, np.ndarray):
            return np.zeros(shape, like.dtype)
        if isinstance(like, jax.core.Tracer):
            with wide(like.dtype.name):
                return jnp.zeros(shape, like.dtype)
        device = device_of(like)
        return _zeros(shape, like.dtype, None if device == default_device() else device)

    def arange(self, stop: int, like: Array) -> Array:
        if isinstance(like, jax.core.Tracer):
            return jnp.arange(stop, dtype=jnp.int32)
        return np.arange(stop, dtype=np.int32)

    def cast(self, x: Array, dtype: str) -> Array:
        return lax.convert_element_type(x, jnp.dtype(dtype))

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        final, emitted = lax.scan(step, carry, xs, reverse=reverse)
        return final, emitted


@functools.lru_cache(maxsize=32)
def _zeros(shape: tuple[int, ...], dtype: np.dtype[Any], device: Any) -> Array:
    """Return zeros on a device; kept, for an eager operation costs as much as a small layer."""
    # Evaluated here and now even where the user's trace runs: a traced value must not be kept.
    with jax.ensure_compile_time_eval(), wide(dtype.name):
        return jnp.zeros(shape, dtype, device=device)


_AT: dict[str, Ops] = {
    "highest": JaxOps(),
    "tf32": JaxOps(Rounding(10).matmul),
    "bfloat16": JaxOps(Rounding(7).matmul),
}
