"""Keras on JAX."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import jax
import keras

from seqcore_keras.framework import Forward, Framework, Pullback, Tensors


class Jax(Framework):
    """JAX, differentiated by `jax.vjp` with the variables' values as arguments."""

    name = "jax"
    version = jax.__version__

    def vjp(
        self, forward: Forward, inputs: Tensors, variables: Sequence[Any]
    ) -> tuple[Tensors, Pullback]:
        def function(inputs: Tensors, values: Tensors) -> Tensors:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return forward(inputs)

        values = tuple(variable.value for variable in variables)
        outputs, pull = jax.vjp(function, inputs, values)

        def pullback(cotangents: Tensors) -> Tensors:
            d_inputs, d_values = pull(cotangents)
            return (*d_inputs, *d_values)

        return outputs, pullback

    def numbers(self, dtype: str) -> contextlib.AbstractContextManager[Any]:
        # JAX has no float64 unless a user asks for it; this asks, in this thread only.
        return jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext()
