"""PyTorch's own transformations of functions, for callers that know no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from seqcore.ops import Array, Arrays
from seqcore.spi import Backend, Transforms


class TorchTransforms(Transforms):
    """Autograd for gradients, torch.func for the others, and torch.compile."""

    def __init__(self, backend: Backend) -> None:
        """Take the backend, whose border makes tensors of NumPy arrays."""
        self._backend = backend

    def array(self, value: Any) -> Array:
        return self._backend.asarray(value, value.dtype.name, "cpu")

    def gradient(self, function: Callable[..., Array], arguments: Arrays) -> Arrays:
        # Inside another call they have a history already, which must not be cut.
        leaves = tuple(
            value if value.requires_grad else value.detach().requires_grad_() for value in arguments
        )
        with torch.enable_grad():
            value = function(*leaves)
        gradients: Arrays = torch.autograd.grad(
            value, leaves, create_graph=True, allow_unused=True, materialize_grads=True
        )
        return gradients

    def jvp(
        self, function: Callable[..., Any], arguments: Arrays, tangents: Arrays
    ) -> tuple[Any, Any]:
        result = torch.func.jvp(function, arguments, tangents)
        return result[0], result[1]

    def vmap(self, function: Callable[..., Any], arguments: Arrays) -> Any:
        return torch.func.vmap(function)(*arguments)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # Without the whole function in one graph the layer would run as if it were not compiled.
        compiled: Callable[..., Any] = torch.compile(function, fullgraph=True)
        return compiled
