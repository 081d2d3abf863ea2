"""TensorFlow's own transformations of functions, for callers that know no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from seqcore.ops import Array, Arrays
from seqcore.spi import Transforms


class TensorflowTransforms(Transforms):
    """Tapes, forward accumulators, `vectorized_map` and `tf.function`."""

    def array(self, value: Any) -> Array:
        return tf.convert_to_tensor(value)

    def gradient(self, function: Callable[..., Array], arguments: Arrays) -> Arrays:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        zero = tf.UnconnectedGradients.ZERO
        return tuple(tape.gradient(value, arguments, unconnected_gradients=zero))

    def jvp(
        self, function: Callable[..., Any], arguments: Arrays, tangents: Arrays
    ) -> tuple[Any, Any]:
        with tf.autodiff.ForwardAccumulator(list(arguments), list(tangents)) as forward:
            outputs = function(*arguments)
        return outputs, tf.nest.map_structure(forward.jvp, outputs)

    def vmap(self, function: Callable[..., Any], arguments: Arrays) -> Any:
        def mapped(one: Arrays) -> Any:
            return function(*one)

        return tf.vectorized_map(mapped, tuple(arguments), fallback_to_while_loop=False)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        compiled: Callable[..., Any] = tf.function(function, autograph=False)
        return compiled
