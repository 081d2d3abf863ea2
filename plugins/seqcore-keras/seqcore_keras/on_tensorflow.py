"""Keras on TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from seqcore_keras.framework import Forward, Framework, Pullback, Tensors


class TensorFlow(Framework):
    """TensorFlow, eager, differentiated by a gradient tape."""

    name = "tensorflow"
    version = tf.__version__

    def vjp(
        self, forward: Forward, inputs: Tensors, variables: Sequence[Any]
    ) -> tuple[Tensors, Pullback]:
        values = [variable.value for variable in variables]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(inputs)
            outputs = forward(inputs)

        def pullback(cotangents: Tensors) -> Tensors:
            return tuple(
                tape.gradient(
                    outputs,
                    [*inputs, *values],
                    output_gradients=list(cotangents),
                    unconnected_gradients="zero",
                )
            )

        return outputs, pullback
