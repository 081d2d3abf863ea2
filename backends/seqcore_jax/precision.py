"""float64 without the process's flag, and products whose inputs are rounded (clauses PREC)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from seqcore.ops import Array

try:
    from jax import enable_x64
except ImportError:  # its place before jax 0.8
    from jax.experimental import enable_x64  # type: ignore[no-redef, attr-defined, unused-ignore]

_AS_IT_IS: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def x64_enabled() -> bool:
    """Return whether this thread computes in float64 as it is."""
    settings: Any = jax.config  # whose attributes no type checker sees
    return bool(settings.jax_enable_x64)


def wide(dtype: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which this thread computes in `dtype`.

    JAX reads and makes float64 as float32 unless a flag is set. The flag belongs to the user, so
    it is set for the length of our own work, in this thread only.
    """
    if dtype != "float64" or x64_enabled():
        return _AS_IT_IS
    context: contextlib.AbstractContextManager[Any] = enable_x64(True)
    return context


class Rounding:
    """Products of factors rounded to fewer mantissa bits, the pullback's too.

    Written out, because XLA ignores the setting on a CPU without a word, and differs from device
    to device elsewhere.
    """

    def __init__(self, mantissa_bits: int) -> None:
        """Take the explicit mantissa bits that are kept."""

        def rounded(x: Array) -> Array:
            return lax.reduce_precision(x, 8, mantissa_bits)

        # The derivative of rounding is 1 (PREC-4), where JAX's own rule would round again.
        self._factor = _with_tangent(rounded, lambda d: d)
        # The cotangent of a product is a factor of the pullback's products.
        self._product = _with_tangent(lambda y: y, rounded)

    def matmul(self, a: Array, b: Array) -> Array:
        """Return the product of the rounded factors."""
        return self._product(matmul(self._factor(a), self._factor(b)))


def matmul(a: Array, b: Array) -> Array:
    """Return `a @ b` in full precision, for an array (..., m, k) and a matrix (k, n)."""
    axes = (((a.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(a, b, axes, precision=lax.Precision.HIGHEST)


def _with_tangent(
    function: Callable[[Array], Array], tangent: Callable[[Array], Array]
) -> Callable[[Array], Array]:
    """Return `function` with the linear map `tangent` as its derivative, in either mode."""
    wrapped = jax.custom_jvp(function)
    wrapped.defjvp(lambda primals, tangents: (wrapped(*primals), tangent(*tangents)))
    return wrapped
