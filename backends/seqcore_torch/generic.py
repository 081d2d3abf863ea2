"""The generic implementation, kept apart from the caller's autodiff where it differentiates."""

from __future__ import annotations

from typing import Any

import torch

from seqcore.ops import Array, Arrays
from seqcore.spi import Generic, GradientParts, Request, Sequence


class TorchGeneric(Generic):
    """The equations over PyTorch; `run` is recorded by autodiff, `vjp` and `pullback` are not."""

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        with torch.no_grad():
            return super().vjp(request, prepared, x, mask, initial_state)

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        with torch.no_grad():
            return super().pullback(request, prepared, residuals, d_sequence, d_state)
