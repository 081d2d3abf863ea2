"""The NumPy backend with its generic implementation changed in one place.

Most mutants are one line or one class: `twisted` bends what goes into the implementation or comes
out of it, `wrong_cell` the equations of one cell, `wrong_ops` the array functions.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

import numpy as np

from seqcore.conformance.mutants import mutant, replaced
from seqcore.equations.cell import Cell
from seqcore.ops import Array, Arrays, Ops, Step
from seqcore.registry import registry
from seqcore.runtime import calls
from seqcore.spi import (
    ArrayInfo,
    Backend,
    Capabilities,
    Generic,
    GradientParts,
    Implementation,
    Request,
    Sequence,
)

Call = tuple[dict[str, Array], Array, "Array | None", Arrays]
"""The canonical weights, x, mask and initial state of one cell in one direction."""


class Given(NamedTuple):
    """The arguments of `Layer.apply` and `Layer.vjp` as the caller gives them, not yet checked."""

    weights: Any
    x: Any
    mask: Any
    lengths: Any
    state: Any

    def each(self, change: Callable[[Any], Any]) -> Given:
        """Return them with a function applied to each weight, to x and to each state."""
        state = self.state
        if isinstance(state, tuple | list):
            state = tuple(map(change, state))
        weights = {name: change(value) for name, value in self.weights.items()}
        return self._replace(weights=weights, x=change(self.x), state=state)

    def dtype(self) -> Any:
        """Return the data type of the arrays among the weights, by default float32."""
        arrays = (value for value in self.weights.values() if isinstance(value, np.ndarray))
        return next((array.dtype for array in arrays), np.dtype(np.float32))


CellHook = Callable[[Request, Cell], Cell]

CellType = TypeVar("CellType", bound=type[Cell])
OpsType = TypeVar("OpsType", bound="type[SameOps]")


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
        cell: CellHook = lambda _, cell: cell,
        cell_back: CellHook | None = None,
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
            cell: May replace a cell's equations.
            cell_back: The same for the pullback, where that is another.
            before: May change a call's arguments; not in place.
            after: May change its sequence and final state.
            cotangents: May change what the pullback gets.
            gradients: May change what the pullback returns.
            ops: The functions to compute with; NumPy's by default.
        """
        super().__init__(ops or registry.get("numpy").ops)
        self._bend_cell, self._before, self._after = cell, before, after
        self._cotangents, self._gradients = cotangents, gradients
        self._behind: Generic = _Bent(self.ops, cell_back or cell)

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
        return self._gradients(request, self._behind.pullback(request, used, inner, *bent))


class _Bent(Generic):
    """The equations with other cells."""

    def __init__(self, ops: Ops, bend: CellHook) -> None:
        super().__init__(ops)
        self._bend = bend

    def _cell(self, request: Request, prepared: Any) -> Cell:
        return self._bend(request, super()._cell(request, prepared))


class SameOps(Ops):
    """NumPy's array functions, each of which a subclass may override.

    Attributes:
        honest: NumPy's own, at the precision asked for.
        precision: That precision.
    """

    def __init__(self) -> None:
        """Begin at the highest precision."""
        self.honest = registry.get("numpy").ops
        self.precision = "highest"

    def at(self, precision: str) -> Ops:
        moved = copy.copy(self)
        moved.honest, moved.precision = self.honest.at(precision), precision
        return moved

    def matmul(self, a: Array, b: Array) -> Array:
        return self.honest.matmul(a, b)

    def tanh(self, x: Array) -> Array:
        return self.honest.tanh(x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self.honest.where(condition, a, b)

    def concat(self, arrays: Any, axis: int) -> Array:
        return self.honest.concat(arrays, axis)

    def split(self, x: Array, parts: int) -> Any:
        return self.honest.split(x, parts)

    def swap(self, x: Array) -> Array:
        return self.honest.swap(x)

    def flip(self, x: Array, axis: int) -> Array:
        return self.honest.flip(x, axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self.honest.reshape(x, shape)

    def sum(self, x: Array) -> Array:
        return self.honest.sum(x)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        return self.honest.zeros(shape, like)

    def arange(self, stop: int, like: Array) -> Array:
        return self.honest.arange(stop, like)

    def cast(self, x: Array, dtype: str) -> Array:
        return self.honest.cast(x, dtype)

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        return self.honest.scan(step, carry, xs, reverse=reverse)


def wrong(clause: str, name: str, make: Callable[[], Backend]) -> None:
    """Make a mutant of a function that returns a wrong backend."""

    def live() -> Iterator[Backend]:
        yield make()

    mutant(clause, name)(live)


def misread(bend: Callable[[Any, Given], Given]) -> AbstractContextManager[None]:
    """Return a context in which a layer's calls read other arguments than they were given."""
    honest = calls.read_call

    def read(layer: Any, engine: Any, *arguments: Any) -> Any:
        return honest(layer, engine, *bend(layer, Given(*arguments)))

    return replaced(calls, "read_call", read)


def twisted(clause: str, name: str, **hooks: Any) -> None:
    """Make a mutant of the hooks of `Twisted`."""
    wrong(clause, name, lambda: WrongBackend(Twisted(**hooks)))


def wrong_cell(clause: str, name: str) -> Callable[[CellType], CellType]:
    """Make a mutant of a class of wrong equations; see `equations`."""

    def register(kind: CellType) -> CellType:
        twisted(clause, name, cell=equations(kind))
        return kind

    return register


def wrong_gradients(clause: str, name: str) -> Callable[[CellType], CellType]:
    """Make a mutant of a class of equations that is used in the pullback alone."""

    def register(kind: CellType) -> CellType:
        twisted(clause, name, cell=lambda _, cell: cell, cell_back=equations(kind))
        return kind

    return register


def wrong_ops(clause: str, name: str) -> Callable[[OpsType], OpsType]:
    """Make a mutant of a class of array functions."""

    def register(kind: OpsType) -> OpsType:
        wrong(clause, name, lambda: WrongBackend(ops=kind()))
        return kind

    return register


def equations(kind: type[Cell]) -> CellHook:
    """Return a hook for `Twisted` that puts a class of wrong equations in a cell's place.

    A subclass of one cell's class takes the place of that cell, a direct subclass of `Cell`
    overrides the methods of every cell.
    """

    def exchange(_: Request, cell: Cell) -> Cell:
        own = type(cell)
        if inspect.isabstract(kind):
            bent: type[Cell] = type(kind.__name__, (kind, own), {})
        elif issubclass(kind, own):
            bent = kind
        else:
            return cell
        return bent(cell.layer, cell.ops, weights_of(cell))

    return exchange


def weights_of(cell: Cell) -> dict[str, Array]:
    """Return the weights that a cell was made from."""
    weights = {"kernel": cell.kernel, "recurrent_kernel": cell.recurrent_kernel}
    if cell.bias is not None:
        weights["bias"] = cell.bias
    if cell.recurrent_bias is not None:
        weights["recurrent_bias"] = cell.recurrent_bias
    return weights


def columns(weights: Mapping[str, Array], gates: int, order: tuple[int, ...]) -> dict[str, Array]:
    """Return the weights with the gate blocks of every array in another order."""

    def moved(array: Array) -> Array:
        blocks = np.split(array, gates, -1)
        return np.concatenate([blocks[index] for index in order], -1)

    return {name: moved(value) for name, value in weights.items()}
