"""A layer as a `flax.nnx.Module`, its weights as parameters under their canonical names.

nnx joins no names: `layers.0.forward.kernel` is the parameter `kernel` of a module `forward` of the
module 0 in a list `layers`, and has the path `("layers", 0, "forward", "kernel")` in `nnx.state`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from seqcore.spec.layers import AnyLayer, Bidirectional, Stack
from seqcore.spec.weights import extract, parts
from seqcore_jax.precision import wide


def to_module(layer: AnyLayer, weights: Mapping[str, Any]) -> RecurrentModule:
    """Return a trainable module of a layer.

    Args:
        layer: The layer.
        weights: Its canonical weights, NumPy arrays or JAX's. They are copied; JAX's stay on their
            device.

    Raises:
        WeightsError: if the weights are not the layer's.
    """
    checked = layer.bind(weights, backend="jax").weights
    arrays = {
        name: weights[name] if isinstance(weights[name], jax.Array) else value
        for name, value in checked.items()
    }
    return RecurrentModule(layer, arrays)


class Weights(nnx.Module):
    """The parameters of a layer, or of a part of one."""

    def __init__(self, layer: AnyLayer, weights: Mapping[str, Any]) -> None:
        """Not for users; call `seqcore.to_flax`."""
        below = [Weights(part, extract(weights, prefix)) for prefix, part in parts(layer)]
        match layer:
            case Stack():
                self.layers = nnx.List(below)
            case Bidirectional():
                self.forward, self.backward = below
            case _:
                for name, value in weights.items():
                    setattr(self, name, nnx.Param(_copied(value)))


class RecurrentModule(Weights):
    """A seqcore layer that nnx splits, transforms, trains and saves as any other module.

    Its parameters have the canonical names: `kernel` (features, gates*units), `recurrent_kernel`
    (units, gates*units), `bias` and a GRU's `recurrent_bias` (gates*units); in a bidirectional
    layer below `forward` and `backward`, in a stack below `layers` and a number.

    Attributes:
        layer: The layer's description, which is static.
    """

    def __init__(self, layer: AnyLayer, weights: Mapping[str, Any]) -> None:
        """Not for users; call `seqcore.to_flax`."""
        super().__init__(layer, weights)
        self.layer = layer

    def canonical_weights(self) -> dict[str, jax.Array]:
        """Return the parameters by canonical name, as the methods of a layer take them."""
        # A restored state may have left NumPy arrays, which would run on another backend.
        return {name: _native(self._parameter(name)[...]) for name in self.layer.weight_shapes(1)}

    def __call__(
        self,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        **options: Any,
    ) -> Any:
        """Run the layer, within any transformation of nnx.

        Args:
            x: The input, (batch, time, features).
            mask: Booleans (batch, time), True at valid steps.
            lengths: Integers (batch,), instead of `mask`.
            initial_state: Arrays (batch, units) in the order of the returned state.
            **options: Those of `Layer.apply` on JAX, such as `implementation`.

        Returns:
            An array, or a named tuple of several in the order of the output contract.

        Raises:
            InputError: if an argument does not fit the layer.
        """
        given = {"mask": mask, "lengths": lengths, "initial_state": initial_state}
        return self.layer.apply(self.canonical_weights(), x, **given, **options)

    def _parameter(self, name: str) -> Any:
        found: Any = self
        for part in name.split("."):
            found = found[int(part)] if part.isdecimal() else getattr(found, part)
        return found


def _native(value: Any) -> jax.Array:
    if isinstance(value, jax.Array):
        return value
    return _copied(value)


def _copied(value: Any) -> jax.Array:
    with wide(value.dtype.name):
        return jnp.array(value, copy=True)
