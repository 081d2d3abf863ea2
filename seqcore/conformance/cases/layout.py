"""Laws of memory layout (clauses LAYOUT): equal numbers give equal results, however they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import (
    CELLS,
    MAIN,
    OTHERS,
    Call,
    by_name,
    draw,
    gates_of,
    implementations,
    results_of,
)
from seqcore.conformance.laws import law
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import AnyLayer

Lay = Callable[[NDArray[Any]], NDArray[Any]]


def _strided(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as every second element of a larger one, along every axis."""
    larger = np.zeros([2 * size for size in array.shape], array.dtype)
    larger[...] = 1  # what lies between must not be read
    view = larger[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def _column_major(array: NDArray[Any]) -> NDArray[Any]:
    return np.asfortranarray(array)


def _negative(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array as a view that runs backwards along every axis."""
    turn = tuple(slice(None, None, -1) for _ in array.shape)
    return np.ascontiguousarray(array[turn])[turn]


def _zero_stride(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array's first row, repeated without memory of its own."""
    return np.broadcast_to(array[:1], array.shape)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS: Mapping[str, Lay] = {
    "non-contiguous": _strided,
    "column-major": _column_major,
    "negative strides": _negative,
    "zero strides": _zero_stride,
    "read-only": _read_only,
}


@law("LAYOUT-1", needs=("masks",), over=MAIN)
def strides_do_not_matter(subject: Subject, layer: AnyLayer) -> None:
    """All arguments in each layout give what contiguous arrays give."""
    _require_any_layout(subject, draw(subject, layer, "layouts", mask="holes"))


@law("LAYOUT-1", needs=("masks",), over={"lstm": CELLS["lstm"]})
def no_argument_needs_a_layout(subject: Subject, layer: AnyLayer) -> None:
    """The same for each argument alone, the others contiguous."""
    call = draw(subject, layer, "layouts, one by one", mask="holes")
    _require_any_layout(subject, call, alone=True)


@law("LAYOUT-1", needs=("masks",), over={"lstm": CELLS["lstm"]})
def strides_do_not_matter_without_a_mask(subject: Subject, layer: AnyLayer) -> None:
    """The same without a mask and with lengths."""
    _require_any_layout(subject, draw(subject, layer, "layouts, no mask"))
    _require_any_layout(subject, draw(subject, layer, "layouts, lengths", mask="lengths"))


@law("LAYOUT-1", tier="full", needs=("masks", "gradients"), over={**CELLS, **OTHERS})
def strides_matter_to_no_implementation(subject: Subject, layer: AnyLayer) -> None:
    """The same for every implementation that takes the call."""
    call = draw(subject, layer, "layouts", mask="holes")
    _require_any_layout(subject, call)
    for _, forced in implementations(subject, call, gradient=True):
        _require_any_layout(subject, forced)


@law("LAYOUT-1", over={"lstm": CELLS["lstm"], "gru": CELLS["gru"]})
def strides_do_not_matter_to_a_bound_layer(subject: Subject, layer: AnyLayer) -> None:
    """A layer bound to weights of each layout, called with input of it, does the same."""
    call = draw(subject, layer, "layouts, bound")
    for name, laid, plain in _in_each_layout(call):
        expected = by_name(layer, subject.bind(layer, plain.weights)(plain.x, **plain.given))
        found = by_name(layer, subject.bind(layer, laid.weights)(laid.x, **laid.given))
        require_alike(found, expected, plain, f"{layer}: bound, all arguments {name}")


@law("LAYOUT-1", needs=("gates",), over={"lstm": CELLS["lstm"]})
def strides_do_not_matter_to_gates(subject: Subject, layer: AnyLayer) -> None:
    """`gates` takes every layout."""
    call = draw(subject, layer, "layouts, gates")
    for name, laid, plain in _in_each_layout(call):
        found, expected = gates_of(subject, laid), gates_of(subject, plain)
        require_alike(found, expected, plain, f"{layer}: gates, all arguments {name}")


def _require_any_layout(subject: Subject, call: Call, *, alone: bool = False) -> None:
    """Depart unless all arguments together and, if asked for, each alone may lie in any way."""
    of_call = results_of(subject, call)
    for which in (None, *_names(call)) if alone else (None,):
        for name, laid, plain in _in_each_layout(call, which):
            expected = of_call if plain is call else results_of(subject, plain)
            what = f"{call.layer}: {which or 'all arguments'}, {name}"
            require_alike(results_of(subject, laid), expected, plain, what)


def _in_each_layout(call: Call, which: str | None = None) -> Iterator[tuple[str, Call, Call]]:
    """Yield for each layout its name, the call in it, and contiguous arrays with its numbers."""
    for name, lay in LAYOUTS.items():
        # Without strides the numbers are not those of the call.
        plain = _laid(call, _plain(lay), which) if lay is _zero_stride else call
        yield name, _laid(call, lay, which), plain


def _plain(lay: Lay) -> Lay:
    return lambda array: np.array(lay(array), order="C")


def _names(call: Call) -> list[str]:
    others = [name for name in ("mask", "lengths", "initial_state") if name in call.given]
    return [*call.weights, "x", *others, "cotangents"]


def _laid(call: Call, lay: Lay, which: str | None = None) -> Call:
    """Return the call with one of its arguments, by default each, laid out in memory."""

    def laid(name: str, value: Any) -> Any:
        if which not in (None, name):
            return value
        return tuple(map(lay, value)) if isinstance(value, tuple) else lay(value)

    arguments = ("mask", "lengths", "initial_state")
    return call.but(
        weights={name: laid(name, value) for name, value in call.weights.items()},
        x=laid("x", call.x),
        cotangents=laid("cotangents", call.cotangents),
        given={
            name: laid(name, value) if name in arguments else value
            for name, value in call.given.items()
        },
    )
