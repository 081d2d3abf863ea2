"""The NumPy backend with its generic implementation changed in one place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from seqcore.equations.cell import Cell
from seqcore.ops import Array, Arrays
from seqcore.registry import registry
from seqcore.spi import (
    ArrayInfo,
    Backend,
    Capabilities,
    Generic,
    GradientParts,
    Implementation,
    Ops,
    Request,
    Sequence,
)

Call = tuple[dict[str, Array], Array, "Array | None", Arrays]
"""The canonical weights, x, mask and initial state of one cell in one direction."""


class WrongBackend(Backend):
    """The NumPy backend's array border with other functions or implementations behind it."""

    name = "mutant"

    def __init__(
        self,
        *implementations: Implementation,
        ops: Ops | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        """Take what is wrong; by default nothing is."""
        self.honest = registry.get("numpy")
        self.ops = ops or self.honest.ops
        self.implementations = implementations or (Generic(self.ops),)
        self.capabilities = capabilities or self.honest.capabilities

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        return self.honest.asarray(value, dtype, device)

    def to_numpy(self, array: Array) -> Any:
        return self.honest.to_numpy(array)

    def describe(self, array: Array) -> ArrayInfo:
        return self.honest.describe(array)

    def version(self) -> str:
        return self.honest.version()

    def devices(self) -> tuple[str, ...]:
        return self.honest.devices()

    def copy(self, array: Array) -> Array:
        return self.honest.copy(array)


class Twisted(Generic):
    """The equations for one cell, with hooks where they can be bent.

    Each hook takes and returns what its default, which changes nothing, takes and returns.
    """

    def __init__(
        self,
        *,
        cell: Callable[[Request, Cell], Cell] = lambda _, cell: cell,
        before: Callable[[Request, Call], Call] = lambda _, call: call,
        after: Callable[[Request, Call, Sequence, Arrays], tuple[Sequence, Arrays]] = (
            lambda _, __, sequence, final: (sequence, final)
        ),
        cotangents: Callable[[Request, Sequence | None, Arrays], tuple[Sequence | None, Arrays]] = (
            lambda _, d_sequence, d_state: (d_sequence, d_state)
        ),
        gradients: Callable[[Request, GradientParts], GradientParts] = lambda _, parts: parts,
        ops: Ops | None = None,
    ) -> None:
        """Take the hooks.

        Args:
            cell: May replace a cell's equations, forward and backward.
            before: May change a call's arguments; not in place.
            after: May change its sequence and final state.
            cotangents: May change what the pullback gets.
            gradients: May change what the pullback returns.
            ops: The functions to compute with; NumPy's by default.
        """
        super().__init__(ops or registry.get("numpy").ops)
        self._bend_cell, self._before, self._after = cell, before, after
        self._cotangents, self._gradients = cotangents, gradients

    def _cell(self, request: Request, prepared: Any) -> Cell:
        return self._bend_cell(request, super()._cell(request, prepared))

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        call = self._before(request, (dict(prepared), x, mask, initial_state))
        return self._after(request, call, *super().run(request, *call))

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        call = self._before(request, (dict(prepared), x, mask, initial_state))
        sequence, final, residuals = super().vjp(request, *call)
        return *self._after(request, call, sequence, final), (call[0], residuals)

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        used, inner = residuals
        bent = self._cotangents(request, d_sequence, d_state)
        return self._gradients(request, super().pullback(request, used, inner, *bent))


def columns(weights: Mapping[str, Array], gates: int, order: tuple[int, ...]) -> dict[str, Array]:
    """Return the weights with the gate blocks of every array in another order."""

    def moved(array: Array) -> Array:
        blocks = np.split(array, gates, -1)
        return np.concatenate([blocks[index] for index in order], -1)

    return {name: moved(value) for name, value in weights.items()}
