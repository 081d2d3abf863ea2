"""Layers as scans; under JAX's own autodiff, too, with the written backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax import lax

from seqcore.ops import Array, Arrays
from seqcore.spi import Generic, Request, Sequence

Run = Callable[[Any, Array, Array | None, Arrays], tuple[Sequence, Arrays]]


class Scan(Generic):
    """The generic equations, whose pullback JAX is told instead of deriving its own.

    JAX's own would keep and read more, and form the weights' gradients step by step inside the
    loop. The price is forward mode, which `custom_vjp` does not have.
    """

    name = "scan"

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        if request.gradient == "no":
            return super().run(request, prepared, x, mask, initial_state)
        return self._differentiable(request)(prepared, x, mask, initial_state)

    @functools.cache  # noqa: B019 - a backend lives as long as the process
    def _differentiable(self, request: Request) -> Run:
        """Return `run` with its pullback; one function a request, by which JAX keeps traces."""

        def run(
            prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
        ) -> tuple[Sequence, Arrays]:
            return Generic.run(self, request, prepared, x, mask, initial_state)

        def forward(
            prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
        ) -> tuple[tuple[Sequence, Arrays], Any]:
            sequence, final, residuals = self.vjp(request, prepared, x, mask, initial_state)
            return (sequence, final), (prepared, residuals)

        def backward(kept: Any, cotangents: tuple[Sequence, Arrays]) -> tuple[Any, ...]:
            prepared, residuals = kept
            d_weights, d_x, d_initial = self.pullback(request, prepared, residuals, *cotangents)
            # The half types' weights are prepared in float32, and so are their cotangents.
            d_prepared = {
                name: lax.convert_element_type(d, prepared[name].dtype)
                for name, d in d_weights.items()
            }
            return d_prepared, d_x, None, d_initial

        differentiable = jax.custom_vjp(run)
        differentiable.defvjp(forward, backward)
        return differentiable
