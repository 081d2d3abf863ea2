"""The in-place implementation: one cell in one direction, forward and back through time.

Each cell has a file of its own, tested against the generic implementation.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from seqcore.ops import Array, Arrays
from seqcore.spec.layers import GRU, LSTM, AnyCell, Recurrent, SimpleRNN
from seqcore.spec.weights import cell_shapes
from seqcore.spi import GradientParts, Implementation, Request, Sequence
from seqcore_numpy import gru, lstm, simple_rnn

_CELLS: Mapping[type[AnyCell], ModuleType] = {LSTM: lstm, GRU: gru, SimpleRNN: simple_rnn}


class Fused(Implementation):
    """Runs one cell step by step in preallocated memory, its gates by one product and one tanh."""

    name = "fused"

    def refuses(self, request: Request) -> str | None:
        layer = request.layer
        if not isinstance(layer, Recurrent):
            return "runs one cell in one direction"
        if request.dtype not in ("float32", "float64"):
            return f"computes in float32 and float64, not {request.dtype}"
        if request.precision != "highest":
            return f"does not round the inputs of products to {request.precision}"
        if layer.activation != "tanh":
            return f"activation is tanh, not {layer.activation}"
        if not isinstance(layer, SimpleRNN) and layer.recurrent_activation != "sigmoid":
            return f"recurrent_activation is sigmoid, not {layer.recurrent_activation}"
        if isinstance(layer, GRU) and not layer.reset_after:
            return "resets after the recurrent product, not before"
        return None

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        return _cell(request).prepare(**weights)

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        sequence, state, _ = self._forward(request, prepared, x, mask, initial_state, keep=False)
        return sequence, state

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        return self._forward(request, prepared, x, mask, initial_state, keep=True)

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        ordered = None if d_sequence is None else _in_order(request, d_sequence)
        d_weights, d_x, d_initial = _cell(request).pullback(prepared, residuals, ordered, d_state)
        # The gradient of a bias comes with the kernel's product, also where there is no bias.
        names = cell_shapes(_layer(request), d_x.shape[-1])
        return {name: d_weights[name] for name in names}, d_x, d_initial

    def _forward(
        self,
        request: Request,
        prepared: Any,
        x: Array,
        mask: Array | None,
        initial_state: Arrays,
        *,
        keep: bool,
    ) -> tuple[Array, Arrays, Any]:
        layer = _layer(request)
        sequence, state, residuals = _cell(request).forward(
            prepared, x, mask, initial_state, reverse=layer.go_backwards, keep=keep
        )
        return _in_order(request, sequence), state, residuals


def _layer(request: Request) -> AnyCell:
    assert isinstance(request.layer, AnyCell)
    return request.layer


def _cell(request: Request) -> ModuleType:
    return _CELLS[type(_layer(request))]


def _in_order(request: Request, sequence: Array) -> Array:
    """Exchange original and processing order, where the layer returns the latter."""
    layer = _layer(request)
    return np.flip(sequence, 1) if layer.go_backwards and not layer.keep_order else sequence
