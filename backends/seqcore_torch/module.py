"""A layer as a `torch.nn.Module`, its weights as parameters under their canonical names.

torch has no dots in a parameter's name: `layers.0.forward.kernel` is the parameter `kernel` of a
module `forward` in a module `0` in a module `layers`.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seqcore.spec.layers import AnyLayer, Bidirectional
from seqcore.spec.weights import attach, extract
from seqcore_torch.backend import TorchBackend


def to_module(layer: AnyLayer, weights: Mapping[str, Any]) -> RecurrentModule:
    """Return a trainable module of a layer.

    Args:
        layer: The layer.
        weights: Its canonical weights, NumPy arrays or tensors. They are copied, the module is on
            the tensors' device, else on the CPU.

    Raises:
        WeightsError: if the weights are not the layer's.
    """
    checked = layer.bind(weights, backend="torch").weights
    device = next((str(v.device) for v in weights.values() if isinstance(v, Tensor)), "cpu")
    take = TorchBackend().asarray
    tensors = {name: take(value, value.dtype.name, device) for name, value in checked.items()}
    kind = BidirectionalModule if isinstance(layer, Bidirectional) else RecurrentModule
    return kind(layer, tensors)


class Weights(nn.Module):
    """The parameters below one prefix of a module."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        """Not for users; call `seqcore.to_torch`."""
        super().__init__()
        self._names = tuple(name for name in weights if "." not in name)
        for name in self._names:
            self.register_parameter(name, nn.Parameter(weights[name]))
        for prefix in dict.fromkeys(n.partition(".")[0] for n in weights if "." in n):
            inner = extract(weights, f"{prefix}.")
            kind = Weights
            if prefix == "forward":
                kind = ForwardWeights
            elif any(name.startswith("forward.") for name in inner):
                kind = BothWeights
            # Past `add_module`, which refuses the name `forward`.
            self._modules[prefix] = kind(inner)

    def canonical_weights(self) -> dict[str, Tensor]:
        """Return the parameters by canonical name, as the methods of a layer take them."""
        found: dict[str, Tensor] = {name: getattr(self, name) for name in self._names}
        for prefix, part in self._modules.items():
            if isinstance(part, Weights):
                found |= attach(part.canonical_weights(), f"{prefix}.")
        return found

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={tuple(getattr(self, name).shape)}" for name in self._names)


class RecurrentModule(Weights):
    """A seqcore layer that torch trains, moves, saves and loads as any other module.

    Its `state_dict` has the canonical names: `kernel` (features, gates*units), `recurrent_kernel`
    (units, gates*units), `bias` and a GRU's `recurrent_bias` (gates*units); in a bidirectional
    layer below `forward.` and `backward.`, in a stack below `layers.0.` and so on.

    `torch.compile` calls it as it is, outside of what is compiled. `torch.export` and
    `torch.jit.trace` do not take a bidirectional one, for they take the name `forward.` for the
    method; `seqcore.interchange` writes ONNX files.

    Attributes:
        layer: The layer's description.
    """

    def __init__(self, layer: AnyLayer, weights: Mapping[str, Tensor]) -> None:
        """Not for users; call `seqcore.to_torch`."""
        super().__init__(weights)
        self.layer = layer

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        x: Any,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        **options: Any,
    ) -> Any:
        """Run the layer, recorded by autograd.

        Args:
            x: The input, (batch, time, features).
            mask: Booleans (batch, time), True at valid steps.
            lengths: Integers (batch,), instead of `mask`.
            initial_state: Tensors (batch, units) in the order of the returned state.
            **options: Those of `Layer.apply` on torch, such as `implementation`.

        Returns:
            A tensor, or a named tuple of several in the order of the output contract.

        Raises:
            InputError: if an argument does not fit the layer.
        """
        given = {"mask": mask, "lengths": lengths, "initial_state": initial_state}
        return self.layer.apply(self.canonical_weights(), x, **given, **options)

    def extra_repr(self) -> str:
        return ", ".join(filter(None, (str(self.layer), super().extra_repr())))


# What follows lets a part have the name `forward`, by which torch calls a module. Who goes along
# the name of a parameter, as `get_parameter` and `torch.func.functional_call` do, has to find a
# module there.


class BidirectionalModule(RecurrentModule):
    """A bidirectional layer: its `forward` is that part, and runs the layer when it is called."""

    @property
    def forward(self) -> ForwardWeights:  # type: ignore[override]
        part = self._modules["forward"]
        assert isinstance(part, ForwardWeights)
        part.whole = weakref.ref(self)
        return part


class BothWeights(Weights):
    """The parameters of a bidirectional layer in a stack."""

    @property
    def forward(self) -> nn.Module | None:  # type: ignore[override]
        return self._modules["forward"]


class ForwardWeights(Weights):
    """The parameters of a forward direction; called, the bidirectional module that has it."""

    whole: weakref.ref[BidirectionalModule] | None = None
    """Not the module itself, so that no module holds itself alive."""

    def forward(self, *inputs: Any, **options: Any) -> Any:
        whole = None if self.whole is None else self.whole()
        if whole is None:
            raise NotImplementedError(
                "the forward direction's weights were called, expected a call of the whole module"
            )
        return RecurrentModule.forward(whole, *inputs, **options)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "whole"}
