"""What a value of an ONNX graph is, as far as rearranging goes; nothing is computed.

A `Tensor` is known by its pieces, the outputs of the nodes that it puts side by side, and by what
each of its axes is. Both are exact for every size of batch and time, and need no memory for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

ONE = "one"
"""An axis of size 1."""
PIECES = "pieces"
"""The axis along which several pieces stand, each with an axis of its own units."""
UNITS = "units"
"""The axis of the units of a single piece, or of each of several."""
JOINED = "joined"
"""The axis of the units of several pieces, one piece after the other."""
ROWS = "rows"
"""The axis of lengths: the rows of the batch."""

MOST = 256
"""The most pieces, axes or sizes that a value has; more is none of a layer's."""


@dataclass(frozen=True, slots=True)
class Source:
    """A graph's input.

    Attributes:
        name: Its name.
        kind: ONNX's number of its data type.
    """

    name: str
    kind: int


@dataclass(frozen=True, slots=True)
class Output:
    """What one direction of a recurrent node returns.

    Attributes:
        node: The number of the node.
        direction: The number of its direction.
        name: `"y"`, `"h"` or `"c"`.
        units: How many numbers it is at one step of one row.
        kind: ONNX's number of its data type.
        carried: Whether a step past the length holds the state, and not zero.
    """

    node: int
    direction: int
    name: str
    units: int
    kind: int
    carried: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """Outputs of two directions merged into one.

    Attributes:
        mode: The `merge_mode`.
        parts: The outputs.
    """

    mode: str
    parts: tuple[Output, Output]

    @property
    def units(self) -> int:
        """The units of each, and of the whole."""
        return self.parts[0].units

    @property
    def kind(self) -> int:
        """The data type of each, and of the whole."""
        return self.parts[0].kind


Piece = Source | Output | Merged


@dataclass(frozen=True, slots=True)
class Tensor:
    """Pieces side by side.

    Attributes:
        pieces: What it holds, in order.
        axes: What each axis is: one of the names above, or an axis of an input as `axis_of` names
            it, with a minus before it if its order is reversed.
    """

    pieces: tuple[Piece, ...]
    axes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Constant:
    """Numbers that the model holds."""

    array: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Zeros:
    """Zeros of any shape."""


@dataclass(frozen=True, slots=True)
class Given:
    """The numbers of graph inputs, in some other arrangement."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Integers that are sizes of axes: known, or by the name of an axis.

    Attributes:
        sizes: The integers.
        scalar: Whether there is one, without an axis.
    """

    sizes: tuple[int | str, ...]
    scalar: bool = False


@dataclass(frozen=True, slots=True)
class Marks:
    """What says which rows and steps are valid.

    Attributes:
        meaning: `"lengths"`; `"steps"`, the numbers of the steps; `"alive"`, whether a row has a
            valid step; `"valid"`, whether a step of a row is valid.
        axes: What each axis is.
        name: Of the graph's input that has the lengths.
    """

    meaning: str
    axes: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Computed:
    """What is more than a rearrangement.

    Attributes:
        origin: The first node that computed something, for messages.
    """

    origin: str


Value: TypeAlias = Tensor | Constant | Zeros | Given | Sizes | Marks | Computed


def axis_of(name: str, index: int) -> str:
    """Return what an axis of an input is called; as a number it stands for its size."""
    return f"{index}:{name}"  # the index first: a name may begin with a minus


def size_of(tensor: Tensor, axis: str, known: Mapping[str, int]) -> int | str:
    """Return the size of an axis, or its name if that is known only when the graph runs."""
    match axis:
        case "one":
            return 1
        case "pieces":
            return len(tensor.pieces)
        case "units":
            return _units(tensor.pieces[0])
        case "joined":
            return sum(map(_units, tensor.pieces))
        case _:
            name = axis.removeprefix("-")
            return known.get(name, name)


# --- rearranging ---------------------------------------------------------------------------------
# Each function returns None for what is no rearrangement of whole pieces.


def transposed(tensor: Tensor, permutation: Sequence[int]) -> Tensor | None:
    """Return the tensor with its axes in another order."""
    if sorted(permutation) != list(range(len(tensor.axes))):
        return None
    return replace(tensor, axes=tuple(tensor.axes[index] for index in permutation))


def without(axes: tuple[str, ...], gone: Sequence[int]) -> tuple[str, ...] | None:
    """Return axes without those of size 1 at these places."""
    places = {index % len(axes) for index in gone} if axes else set()
    if any(axes[index] != ONE for index in places):
        return None
    return tuple(axis for index, axis in enumerate(axes) if index not in places)


def with_ones(axes: tuple[str, ...], new: Sequence[int]) -> tuple[str, ...] | None:
    """Return axes with one of size 1 at each of these places of the result."""
    rank = len(axes) + len(new)
    places = {index % rank for index in new}
    if len(places) != len(new) or rank > MOST:
        return None
    old = iter(axes)
    return tuple(ONE if index in places else next(old) for index in range(rank))


def reshaped(
    tensor: Tensor, target: Sequence[int | str], known: Mapping[str, int]
) -> Tensor | None:
    """Return the tensor in another shape, if that joins pieces, parts them, or has other ones."""
    if len(target) > 8 or list(target).count(-1) > 1:
        return None
    axes = tuple(axis for axis in tensor.axes if axis != ONE)
    fitted = _fitted(tensor, axes, tuple(target), known)
    return None if fitted is None else replace(tensor, axes=fitted)


def _fitted(
    tensor: Tensor, axes: tuple[str, ...], target: tuple[int | str, ...], known: Mapping[str, int]
) -> tuple[str, ...] | None:
    """Return what the axes of these sizes are, of which -1 is any size."""
    if not target:
        return None if axes else ()
    size, *rest = target
    choices: list[tuple[str, tuple[str, ...]]] = []
    if axes:
        choices.append((axes[0], axes[1:]))
    if axes[:2] == (PIECES, UNITS):
        choices.append((JOINED, axes[2:]))
    if axes[:1] == (JOINED,) and _alike(tensor.pieces):
        choices.append((PIECES, (UNITS, *axes[1:])))
    choices.append((ONE, axes))
    for axis, left in choices:
        if size in (-1, size_of(tensor, axis, known)):
            found = _fitted(tensor, left, tuple(rest), known)
            if found is not None:
                return (axis, *found)
    return None


def concatenated(tensors: Sequence[Tensor], at: int) -> Tensor | None:
    """Return several tensors one after the other along an axis."""
    first = tensors[0].axes
    if not -len(first) <= at < len(first):
        return None
    at %= len(first)
    pieces = tuple(piece for tensor in tensors for piece in tensor.pieces)
    along = {tensor.axes[at] if len(tensor.axes) == len(first) else "" for tensor in tensors}
    others = {_others(tensor.axes, at) for tensor in tensors}
    if len(others) != 1 or len(pieces) > MOST:
        return None
    if len(tensors) == 1:
        return tensors[0]
    if along <= {UNITS, JOINED} and PIECES not in first:
        return Tensor(pieces, (*first[:at], JOINED, *first[at + 1 :]))
    if along <= {ONE, PIECES} and UNITS in first and _alike(pieces):
        stands = all(len(t.pieces) == 1 or t.axes[at] == PIECES for t in tensors)
        return Tensor(pieces, (*first[:at], PIECES, *first[at + 1 :])) if stands else None
    return None


def chosen(tensor: Tensor, at: int, start: int, stop: int) -> Tensor | None:
    """Return what is at these places of an axis, if that is whole pieces."""
    axis, ends = tensor.axes[at], [0]
    if axis in (ONE, PIECES):
        ends = list(range(1 + (len(tensor.pieces) if axis == PIECES else 1)))
    elif axis in (UNITS, JOINED):
        for piece in tensor.pieces[: 1 if axis == UNITS else None]:
            ends.append(ends[-1] + _units(piece))
    size = ends[-1]
    start, stop, _ = slice(start, stop).indices(size)
    if start not in ends or stop not in ends or start >= stop:
        return None
    if axis in (ONE, UNITS):
        return tensor
    pieces = tensor.pieces[ends.index(start) : ends.index(stop)]
    alone = {PIECES: ONE, JOINED: UNITS}[axis] if len(pieces) == 1 else axis
    return Tensor(pieces, (*tensor.axes[:at], alone, *tensor.axes[at + 1 :]))


def turned(tensor: Tensor, at: int) -> Tensor | None:
    """Return the tensor in reverse order along an axis of an input."""
    axis = tensor.axes[at]
    if axis in (ONE, PIECES, UNITS, JOINED):
        return None
    other = axis[1:] if axis.startswith("-") else f"-{axis}"
    return replace(tensor, axes=(*tensor.axes[:at], other, *tensor.axes[at + 1 :]))


def merged(mode: str, tensors: Sequence[Tensor]) -> Tensor | None:
    """Return two outputs merged into one."""
    if len(tensors) != 2 or tensors[0].axes != tensors[1].axes:
        return None
    parts = tuple(piece for tensor in tensors for piece in tensor.pieces)
    if len(parts) != 2 or not _alike(parts):
        return None
    first, second = parts
    if not isinstance(first, Output) or not isinstance(second, Output):
        return None
    return Tensor((Merged(mode, (first, second)),), tensors[0].axes)


def changed(tensor: Tensor, change: Callable[[Output], Output]) -> Tensor | None:
    """Return the tensor with each of its outputs changed."""
    pieces: list[Piece] = []
    for piece in tensor.pieces:
        if isinstance(piece, Source):
            return None
        if isinstance(piece, Merged):
            first, second = piece.parts
            pieces.append(Merged(piece.mode, (change(first), change(second))))
        else:
            pieces.append(change(piece))
    return replace(tensor, pieces=tuple(pieces))


def outputs(tensor: Tensor) -> tuple[Output, ...]:
    """Return the outputs that a tensor holds, merged ones one by one."""
    found: list[Output] = []
    for piece in tensor.pieces:
        if isinstance(piece, Merged):
            found += piece.parts
        elif isinstance(piece, Output):
            found.append(piece)
    return tuple(found)


def numbers(value: Value | None) -> tuple[int | str, ...] | None:
    """Return the sizes or the few integers that a value is."""
    if isinstance(value, Sizes):
        return value.sizes
    if not isinstance(value, Constant) or value.array.ndim > 1 or value.array.size > MOST:
        return None
    whole = np.issubdtype(value.array.dtype, np.integer)
    return tuple(value.array.reshape(-1).tolist()) if whole else None


def integers(value: Value | None) -> tuple[int, ...] | None:
    """Return the few integers that a value is, if all are known."""
    found = numbers(value)
    if found is None:
        return None
    known = tuple(number for number in found if isinstance(number, int))
    return known if len(known) == len(found) else None


def _others(axes: tuple[str, ...], at: int) -> tuple[str, ...]:
    return axes[:at] + axes[at + 1 :]


def _units(piece: Piece) -> int:
    assert not isinstance(piece, Source)
    return piece.units


def _alike(pieces: Sequence[Piece]) -> bool:
    sizes = {None if isinstance(piece, Source) else piece.units for piece in pieces}
    return len(sizes) == 1 and None not in sizes
