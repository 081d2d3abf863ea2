"""JAX's own transformations of functions, for callers that know no framework."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from seqcore.ops import Array, Arrays
from seqcore.spi import Transforms
from seqcore_jax.precision import wide


class JaxTransforms(Transforms):
    """`grad`, `jvp`, `vmap` and `jit`; over float64 arrays with float64 enabled meanwhile.

    Without that JAX would compute the function's own arithmetic in float32.
    """

    def array(self, value: Any) -> Array:
        with wide(value.dtype.name):
            return jnp.array(value)

    def gradient(self, function: Callable[..., Array], arguments: Arrays) -> Arrays:
        with _as_wide_as(arguments):
            gradients: Arrays = jax.grad(function, tuple(range(len(arguments))))(*arguments)
            return gradients

    def jvp(
        self, function: Callable[..., Any], arguments: Arrays, tangents: Arrays
    ) -> tuple[Any, Any]:
        with _as_wide_as(arguments):
            outputs, derivatives = jax.jvp(function, arguments, tangents)
            return outputs, derivatives

    def vmap(self, function: Callable[..., Any], arguments: Arrays) -> Any:
        with _as_wide_as(arguments):
            return jax.vmap(function)(*arguments)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        compiled = jax.jit(function)

        def call(*arguments: Array) -> Any:
            with _as_wide_as(arguments):
                return compiled(*arguments)

        return call


def _as_wide_as(arguments: Arrays) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which this thread computes in the widest dtype of the arguments."""
    widest = max(arguments, key=lambda value: int(value.dtype.itemsize))
    return wide(str(widest.dtype.name))
