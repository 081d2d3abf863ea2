"""What a cell's equations provide: `project`, `step`, `step_back` and the weights' gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from seqcore.equations.activations import activate, slope
from seqcore.ops import Array, Arrays, Ops


class Cell(ABC):
    """One cell with its weights, over one library's functions.

    Shapes in the comments and docstrings: x (time, batch, features); `projected` and every
    gradient with respect to a pre-activation (..., batch, gates*units); gates and states
    (..., batch, units).
    """

    def __init__(self, layer: Any, ops: Ops, weights: Mapping[str, Array]) -> None:
        """Take a `SimpleRNN`, `LSTM` or `GRU` and its canonical weights without prefix."""
        self.layer = layer
        self.ops = ops
        self.kernel = weights["kernel"]
        self.recurrent_kernel = weights["recurrent_kernel"]
        self.bias = weights.get("bias")
        self.recurrent_bias = weights.get("recurrent_bias")

    def project(self, x: Array) -> Array:
        """Return `x K + b` for all steps at once."""
        projected = self.ops.matmul(x, self.kernel)
        return projected if self.bias is None else projected + self.bias

    @abstractmethod
    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        """Return the next state, and what `step_back` needs beside the state before the step.

        The second part begins with the gates, in the order of the layer's `gate_names`.
        """

    @abstractmethod
    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        """Return the pullback of one step.

        Args:
            d_state: The gradient with respect to the step's new state.
            saved: The second part of what `step` returned.
            previous: The state before the step.

        Returns:
            The gradients with respect to the pre-activations, and to the previous state. The first
            of the former belongs to `projected`, the last to the recurrent product; where they
            are the same there is one.
        """

    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        """Return the gradients of the weights, by name, and of `x`, over all steps at once."""
        ops = self.ops
        d_projected, d_recurrent = rows(ops, d_pre[0]), rows(ops, d_pre[-1])
        gradients = {
            "kernel": ops.matmul(ops.swap(rows(ops, x)), d_projected),
            "recurrent_kernel": self.recurrent_kernel_gradient(previous_h, saved, d_recurrent),
        }
        if self.bias is not None:
            gradients["bias"] = ops.sum(d_projected)
        if self.recurrent_bias is not None:
            gradients["recurrent_bias"] = ops.sum(d_recurrent)
        return gradients, ops.matmul(d_pre[0], ops.swap(self.kernel))

    def recurrent_kernel_gradient(
        self, previous_h: Array, saved: Arrays, d_recurrent: Array
    ) -> Array:
        """Return the recurrent kernel's gradient; `d_recurrent` is (time*batch, gates*units)."""
        return self.ops.matmul(self.ops.swap(rows(self.ops, previous_h)), d_recurrent)

    def act(self, x: Array) -> Array:
        """Return the layer's activation of `x`."""
        return activate(self.layer.activation, self.ops, x)

    def ract(self, x: Array) -> Array:
        """Return the layer's recurrent activation of `x`."""
        return activate(self.layer.recurrent_activation, self.ops, x)

    def act_slope(self, y: Array) -> Array:
        """Return the derivative of the activation where its value is `y`."""
        return slope(self.layer.activation, self.ops, y)

    def ract_slope(self, y: Array) -> Array:
        """Return the derivative of the recurrent activation where its value is `y`."""
        return slope(self.layer.recurrent_activation, self.ops, y)


def rows(ops: Ops, x: Array) -> Array:
    """Return (time, batch, n) as (time*batch, n)."""
    return ops.reshape(x, (-1, x.shape[-1]))
