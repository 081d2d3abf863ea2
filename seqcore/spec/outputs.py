"""The output contract: what a layer returns, in which order, under which names (clauses OUT).

Several outputs are a named tuple. Its class is made once for each tuple of names and pickles by
those names, so that the classes need no list: a stack of any depth has one.
"""

from __future__ import annotations

import functools
from collections import namedtuple
from collections.abc import Iterable
from typing import Any

from seqcore.spec.layers import AnyLayer, Bidirectional, Recurrent, Stack


def state_names(layer: AnyLayer) -> tuple[str, ...]:
    """Return the names of the layer's states, in the order of the contract."""
    match layer:
        case Stack(layers=members):
            return tuple(
                f"layers_{index}_{name}"
                for index, member in enumerate(members)
                for name in state_names(member)
            )
        case Bidirectional(forward=forward, backward=backward):
            return tuple(f"forward_{name}" for name in forward.state_names) + tuple(
                f"backward_{name}" for name in backward.state_names
            )
        case Recurrent():
            return layer.state_names


def state_units(layer: AnyLayer) -> tuple[int, ...]:
    """Return the units of the layer's states, in the order of the contract."""
    match layer:
        case Stack(layers=members):
            return tuple(units for member in members for units in state_units(member))
        case Bidirectional(forward=forward, backward=backward):
            return state_units(forward) + state_units(backward)
        case Recurrent():
            return (layer.units,) * len(layer.state_names)


def merges(layer: AnyLayer) -> bool:
    """Return whether the layer has one `y`; with merge_mode='none' it has two."""
    last = layer.layers[-1] if isinstance(layer, Stack) else layer
    return not (isinstance(last, Bidirectional) and last.merge_mode == "none")


def output_units(layer: AnyLayer) -> tuple[int, ...]:
    """Return the size of the last axis of each `y`."""
    match layer:
        case Stack(layers=members):
            return output_units(members[-1])
        case Bidirectional(merge_mode="none"):
            return (layer.forward.units, layer.backward.units)
        case Bidirectional(merge_mode="concat"):
            return (layer.forward.units + layer.backward.units,)
        case Bidirectional():
            return (layer.forward.units,)
        case Recurrent():
            return (layer.units,)


def output_names(layer: AnyLayer) -> tuple[str, ...]:
    """Return the names of everything that the layer returns."""
    names = ("y",) if merges(layer) else ("forward_y", "backward_y")
    return names + state_names(layer) if layer.return_state else names


def pack(names: tuple[str, ...], values: Iterable[Any]) -> Any:
    """Return one output as itself, several as a named tuple with those names."""
    values = tuple(values)
    return values[0] if len(names) == 1 else named_tuple(names)(*values)


@functools.cache
def named_tuple(names: tuple[str, ...]) -> Any:
    """Return the class of the outputs with those names."""
    # Frameworks that flatten named tuples rebuild them by calling the class with the values, so
    # it has to be an ordinary one; only pickling by reference cannot work, hence __reduce__.
    base = namedtuple("Outputs", names)  # type: ignore[misc]

    def reduce(self: Any) -> Any:
        return _unpickle, (names, tuple(self))

    return type("Outputs", (base,), {"__slots__": (), "__module__": __name__, "__reduce__": reduce})


def _unpickle(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return named_tuple(names)(*values)
