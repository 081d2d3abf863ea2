"""The implementation that seqcore provides: every cell and mask, from a library's `Ops`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqcore.equations.cell import Cell
from seqcore.equations.sequence import Saved, backward, forward, gates_by_name, make_cell
from seqcore.ops import Array, Arrays, Ops
from seqcore.spec.dtypes import compute_dtype
from seqcore.spec.layers import AnyCell, Recurrent
from seqcore.spi.implementation import GradientParts, Implementation, Sequence
from seqcore.spi.request import Request


class Generic(Implementation):
    """Runs one cell in one direction by the equations, over any library's functions.

    It refuses composites, which the planner then offers in parts, and nothing else.
    """

    name = "generic"

    def __init__(self, ops: Ops) -> None:
        """Take the library's functions."""
        self.ops = ops

    def refuses(self, request: Request) -> str | None:
        if not isinstance(request.layer, Recurrent):
            return "runs one cell in one direction"
        return None

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        return self._up(request, weights)

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        sequence, final, _ = self._forward(request, prepared, x, mask, initial_state, save=False)
        return sequence, final

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        return self._forward(request, prepared, x, mask, initial_state, save=True)

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        ops, layer = self.ops, _cell_layer(request)
        compute = compute_dtype(request.dtype)
        d_up = None if d_sequence is None else self._order(layer, ops.cast(d_sequence, compute))
        d_weights, d_x, d_initial = backward(
            self._cell(request, prepared),
            residuals,
            d_up,
            tuple(ops.cast(d, compute) for d in d_state),
            reverse=layer.go_backwards,
        )
        return (
            {name: ops.cast(d, request.dtype) for name, d in d_weights.items()},
            ops.cast(d_x, request.dtype),
            tuple(ops.cast(d, request.dtype) for d in d_initial),
        )

    def gates(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[dict[str, Array], Sequence, Arrays]:
        """Return every gate and state by name in original time, the sequence, the final state."""
        sequence, final, saved = self._forward(request, prepared, x, mask, initial_state, save=True)
        layer = _cell_layer(request)
        up = tuple(self.ops.cast(state, compute_dtype(request.dtype)) for state in final)
        named = gates_by_name(layer, self.ops, saved, up, reverse=layer.go_backwards)
        return (
            {name: self.ops.cast(value, request.dtype) for name, value in named.items()},
            sequence,
            final,
        )

    def _forward(
        self,
        request: Request,
        prepared: Any,
        x: Array,
        mask: Array | None,
        initial_state: Arrays,
        *,
        save: bool,
    ) -> tuple[Array, Arrays, Any]:
        ops, layer, dtype = self.ops, _cell_layer(request), request.dtype
        compute = compute_dtype(dtype)
        x = ops.cast(x, compute)
        sequence, final, saved = forward(
            self._cell(request, prepared),
            # Under a mask it is copied anyway, where masked steps are cleaned.
            self._own(x, dtype) if save and mask is None else x,
            mask,
            tuple(ops.cast(state, compute) for state in initial_state),
            reverse=layer.go_backwards,
            dtype=dtype,
            save=save,
        )
        if save:
            sequence = self._own(sequence, dtype)
        sequence = self._order(layer, ops.cast(sequence, dtype))
        return sequence, tuple(ops.cast(state, dtype) for state in final), saved

    def _cell(self, request: Request, prepared: Any) -> Cell:
        return make_cell(_cell_layer(request), self.ops.at(request.precision), prepared)

    def _order(self, layer: AnyCell, sequence: Array) -> Array:
        """Exchange original and processing order, where the layer returns the latter."""
        if layer.go_backwards and not layer.keep_order:
            return self.ops.flip(sequence, 1)
        return sequence

    def _up(self, request: Request, weights: Mapping[str, Array]) -> dict[str, Array]:
        compute = compute_dtype(request.dtype)
        up = {name: self.ops.cast(value, compute) for name, value in weights.items()}
        if request.gradient == "yes":
            return {name: self._own(value, request.dtype) for name, value in up.items()}
        return up

    def _own(self, value: Array, dtype: str) -> Array:
        """Return a copy, unless a cast has made one.

        Between `vjp` and `pullback` the caller may write into the input, the weights and the
        results, and the pullback needs them as they were. A compiler drops the product.
        """
        return value * 1 if compute_dtype(dtype) == dtype else value


def _cell_layer(request: Request) -> AnyCell:
    layer = request.layer
    assert isinstance(layer, AnyCell)
    return layer


__all__ = ["Generic", "Saved"]
