"""Keras on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seqcore_keras.framework import Forward, Framework, Pullback, Tensors


class Torch(Framework):
    """PyTorch, differentiated by its autograd."""

    name = "torch"
    version = torch.__version__

    def vjp(
        self, forward: Forward, inputs: Tensors, variables: Sequence[Any]
    ) -> tuple[Tensors, Pullback]:
        for tensor in inputs:
            tensor.requires_grad_()
        outputs = forward(inputs)
        sources = (*inputs, *(variable.value for variable in variables))

        def pullback(cotangents: Tensors) -> Tensors:
            return torch.autograd.grad(
                outputs, sources, cotangents, retain_graph=True, materialize_grads=True
            )

        return outputs, pullback
