"""Layers as loops in a graph; under TensorFlow's own autodiff, too, with the written backward pass.

TensorFlow's own would stack every intermediate of the loop's body, and form the weights' gradients
step by step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from seqcore.ops import Array, Arrays
from seqcore.spi import Generic, Request, Sequence


class WhileLoop(Generic):
    """The generic equations, whose pullback TensorFlow is told instead of deriving its own."""

    name = "while_loop"

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        if request.gradient == "no":
            return super().run(request, prepared, x, mask, initial_state)
        names = tuple(prepared)
        count = len(names)
        masks = () if mask is None else (mask,)

        def forward(inputs: Arrays, masks: Arrays) -> tuple[Arrays, Any]:
            weights = dict(zip(names, inputs, strict=False))
            x, *state = inputs[count:]
            mask = masks[0] if masks else None
            sequence, final, kept = self.vjp(request, weights, x, mask, tuple(state))
            return (sequence, *final), kept

        def backward(inputs: Arrays, kept: Any, cotangents: Arrays) -> Arrays:
            weights = dict(zip(names, inputs, strict=False))
            d_weights, d_x, d_state = self.pullback(
                request, weights, kept, cotangents[0], cotangents[1:]
            )
            # The half types' weights are prepared in float32, and so are their cotangents.
            ours = (tf.cast(d_weights[name], weights[name].dtype) for name in names)
            return (*ours, d_x, *d_state)

        inputs = (*prepared.values(), x, *initial_state)
        sequence, *final = _told(forward, backward, inputs, masks)
        return sequence, tuple(final)


def _told(
    forward: Callable[[Arrays, Arrays], tuple[Arrays, Any]],
    backward: Callable[[Arrays, Any, Arrays], Arrays],
    inputs: Arrays,
    masks: Arrays,
) -> Arrays:
    """Return the first part of `forward(inputs, masks)`, differentiated by `backward`.

    What `forward` keeps is a constant to TensorFlow, so that gradients of gradients taken through
    `backward` as it stands would lack what flows through it, without a word. Those are therefore
    taken through the whole computation once more, by TensorFlow's own autodiff.

    Everything that a later gradient needs is handed on as an argument, and anew as a tensor of
    the graph that is made at the time: gradients of a `tf.function` are graphs of their own, which
    cannot reach into one another's closures.
    """
    count = len(inputs)

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*arguments: Array) -> Any:
        outputs, kept = forward(arguments[:count], arguments[count:])

        @tf.custom_gradient  # type: ignore[untyped-decorator]
        def pull(*given: Array) -> Any:
            cotangents, inputs = given[: len(outputs)], given[len(outputs) :][:count]

            def again(*d_gradients: Array) -> Any:
                differentiated = len(outputs) + count
                here = tuple(tf.identity(value) for value in given)
                with tf.GradientTape() as tape:
                    tape.watch(here[:differentiated])
                    inputs, masks = here[len(outputs) : differentiated], here[differentiated:]
                    _, kept = forward(inputs, masks)
                    gradients = backward(inputs, kept, here[: len(outputs)])
                seconds = tape.gradient(
                    gradients,
                    here[:differentiated],
                    output_gradients=d_gradients,
                    unconnected_gradients=tf.UnconnectedGradients.ZERO,
                )
                return (*seconds, *(None for _ in masks))

            return backward(inputs, kept, cotangents), again

        def back(*cotangents: Array) -> Any:
            gradients = pull(*cotangents, *(tf.identity(value) for value in arguments))
            return (*gradients, *(None for _ in masks))

        return outputs, back

    outputs: Arrays = run(*inputs, *masks)
    return outputs
