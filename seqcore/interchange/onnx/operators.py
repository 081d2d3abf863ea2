"""The operators of ONNX that rearrange, merge or count: what each makes of the values it is given.

What an operator makes of more general values is not looked at: it returns None for what is not a
rearrangement of whole pieces.

Source: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from seqcore.interchange.onnx import values
from seqcore.interchange.onnx.tensor import DTYPES, array_of, kind_named, kind_of
from seqcore.interchange.onnx.values import (
    ONE,
    PIECES,
    Computed,
    Constant,
    Given,
    Marks,
    Sizes,
    Source,
    Tensor,
    Value,
    Zeros,
)

PAST_END = 2**31 - 1
"""What exporters write for the end of an axis, or more."""


def stored(subject: str, tensor: Any) -> Value:
    """Return a tensor of the model; of text and other types that are no weights' it is none."""
    if kind_of(tensor) not in DTYPES:
        return Computed(f"{subject} of type {kind_of(tensor) or tensor.data_type}")
    return Constant(array_of(f"from onnx: {subject}", tensor))


@dataclass(frozen=True, slots=True)
class Call:
    """One node of an operator that rearranges, merges or counts.

    Attributes:
        subject: What it is called in messages.
        known: The declared sizes of axes of inputs.
        attributes: Its attributes by name.
        inputs: Its inputs, None where one is left out.
        outputs: The number of its outputs.
    """

    subject: str
    known: Mapping[str, int]
    attributes: Mapping[str, Any]
    inputs: Sequence[Value | None]
    outputs: int

    @property
    def first(self) -> Value | None:
        """The first input."""
        return self.input(0)

    def input(self, index: int) -> Value | None:
        """Return an input, None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def several(self, name: str, index: int) -> tuple[int, ...] | None:
        """Return integers that are an attribute in old versions and an input in new ones."""
        if name in self.attributes:
            given = self.attributes[name]
            return tuple(given) if isinstance(given, Iterable) else (given,)
        return values.integers(self.input(index))


_Made: TypeAlias = Sequence[Value] | Value | None


def _identity(call: Call) -> _Made:
    return call.first


def _dropout(call: Call) -> _Made:
    training = call.input(2)
    if training is None or (isinstance(training, Constant) and not training.array.any()):
        return [call.first, Computed(call.subject)] if call.first is not None else None
    return None


def _constant_node(call: Call) -> _Made:
    match dict(call.attributes):
        case {"value": tensor, **others} if not others:
            return stored(call.subject, tensor)
        case {"value_int": number, **others} if not others:
            return Constant(np.array(number, np.int64))
        case {"value_ints": numbers, **others} if not others:
            return Constant(np.array(numbers, np.int64))
        case {"value_float": number, **others} if not others:
            return Constant(np.array(number, np.float32))
        case {"value_floats": numbers, **others} if not others:
            return Constant(np.array(numbers, np.float32))
    return None


def _cast(call: Call) -> _Made:
    to, value = call.attributes.get("to", 0), call.first
    dtype = DTYPES.get(kind_named(to))
    if dtype is None:
        return None
    whole = np.issubdtype(dtype, np.integer)
    match value:
        case Tensor(pieces=pieces) if {piece.kind for piece in pieces} == {to}:
            return value
        case Zeros():
            return value
        case Sizes() | Marks(meaning="lengths" | "steps") if whole and dtype.itemsize >= 4:
            return value
        case Constant(array=array) if whole == np.issubdtype(array.dtype, np.integer):
            with np.errstate(over="ignore"):
                new = array.astype(dtype)
            return Constant(new) if np.array_equal(new, array) else None  # exact, or computed
    return None


def _transpose(call: Call) -> _Made:
    value = call.first
    rank = _rank(value)
    permutation = tuple(call.attributes.get("perm", range(rank or 0)[::-1]))
    if rank is not None and sorted(permutation) != list(range(rank)):
        return None
    match value:
        case Constant(array=array):
            return Constant(array.transpose(permutation))
        case Tensor():
            return values.transposed(value, permutation)
    return loosely(value)


def _squeeze(call: Call) -> _Made:
    value, gone = call.first, call.several("axes", 1)
    rank = _rank(value)
    if call.input(1) is not None and gone is None:
        return None
    if gone is not None and rank is not None and not _within(gone, rank):
        return None
    match value:
        case Constant(array=array):
            places = tuple(index for index, size in enumerate(array.shape) if size == 1)
            gone = places if gone is None else tuple({index % array.ndim for index in gone})
            return Constant(array.squeeze(gone)) if set(gone) <= set(places) else None
        case Sizes(sizes=(size,), scalar=False):
            return Sizes((size,), scalar=True)
        case Tensor(axes=axes) | Marks(axes=axes) if gone is not None:
            left = values.without(axes, gone)
            return loosely(value) if left is None else replace(value, axes=left)
    # Without places, which axes have size 1 is not known before the graph runs.
    return loosely(value)


def _unsqueeze(call: Call) -> _Made:
    value, new = call.first, call.several("axes", 1)
    rank = _rank(value)
    if new is None or (rank is not None and not _within(new, rank + len(new))):
        return None
    if len({index % (len(new) + (rank or 0)) for index in new}) != len(new) and rank is not None:
        return None
    match value:
        case Constant(array=array) if array.ndim + len(new) <= 32:
            return Constant(np.expand_dims(array, new))
        case Sizes(sizes=sizes, scalar=True) if len(new) == 1:
            return Sizes(sizes)
        case Tensor(axes=axes) | Marks(axes=axes):
            more = values.with_ones(axes, new)
            return None if more is None else replace(value, axes=more)
    return loosely(value)


def _reshape(call: Call) -> _Made:
    value, target = call.first, values.numbers(call.input(1))
    if isinstance(value, Zeros | Given):
        return value
    rank = _rank(value)
    if target is None or rank is None:
        return None
    whole = bool(call.attributes.get("allowzero", 0))
    if not whole and any(size == 0 and index >= rank for index, size in enumerate(target)):
        return None
    match value:
        case Constant(array=array):
            known = values.integers(call.input(1))
            if known is None or len(known) > 32:
                return None
            shape = [array.shape[i] if not (n or whole) else n for i, n in enumerate(known)]
            try:
                return Constant(array.reshape(shape))
            except ValueError:
                return None
        case Tensor(axes=axes):
            sizes = [
                values.size_of(value, axes[i], call.known) if not (n or whole) else n
                for i, n in enumerate(target)
            ]
            return values.reshaped(value, sizes, call.known) or loosely(value)
    return None


def _concat(call: Call) -> _Made:
    axis = call.attributes.get("axis", 0)
    given = [value for value in call.inputs if value is not None]
    if not given or len(given) > values.MOST:
        return None
    arrays = [value.array for value in given if isinstance(value, Constant)]
    if len(arrays) == len(given):
        try:
            return Constant(np.concatenate(arrays, axis)) if _within([axis], 32) else None
        except ValueError:  # shapes that do not fit
            return None
    tensors = [value for value in given if isinstance(value, Tensor)]
    if len(tensors) == len(given) and all(values.outputs(tensor) for tensor in tensors):
        return values.concatenated(tensors, axis)
    parts = [values.numbers(value) for value in given]
    if all(part is not None for part in parts):
        sizes = tuple(size for part in parts for size in part or ())
        return Sizes(sizes) if len(sizes) <= values.MOST else None
    if all(isinstance(value, Zeros) for value in given):
        return Zeros()
    names = [names_of(value) for value in given]
    known = [name for name in names if name is not None]
    return Given(frozenset[str]().union(*known)) if len(known) == len(given) else None


def _slice(call: Call) -> _Made:
    value = call.first
    if isinstance(value, Zeros | Given):
        return value
    starts, ends = call.several("starts", 1), call.several("ends", 2)
    rank = _rank(value)
    if starts is None or rank is None:
        return None
    limits = ends if ends is not None else values.numbers(call.input(2))
    axes = call.several("axes", 3) or tuple(range(len(starts)))
    steps = call.several("steps", 4) or (1,) * len(starts)
    if limits is None or not len(starts) == len(limits) == len(axes) == len(steps):
        return None
    if not _within(axes, rank):
        return None
    for start, end, axis, step in zip(starts, limits, axes, steps, strict=True):
        value = _sliced(value, start, end, axis % rank, step, call.known)
    return value


def _sliced(
    value: Value | None,
    start: int,
    end: int | str,
    axis: int,
    step: int,
    known: Mapping[str, int],
) -> Value | None:
    match value:
        case Constant(array=array) if isinstance(end, int) and step:
            cut = [slice(None)] * array.ndim
            cut[axis] = slice(start, end, step)
            return Constant(array[tuple(cut)])
        case Sizes(sizes=sizes, scalar=False) if isinstance(end, int) and step == 1:
            return Sizes(sizes[start:end])
        case Tensor(axes=axes):
            size = values.size_of(value, axes[axis], known)
            if start == 0 and step == 1 and (end == size or _at_least(end, PAST_END)):
                return value
            if start == -1 and step == -1 and isinstance(end, int) and end <= -PAST_END:
                return values.turned(value, axis)
            if step == 1 and isinstance(end, int) and values.outputs(value):
                return values.chosen(value, axis, start, end)
            return loosely(value)
    return None


def _split(call: Call) -> _Made:
    value, sizes = call.first, call.several("split", 1)
    if isinstance(value, Zeros | Given):
        return value
    rank, axis = _rank(value), call.attributes.get("axis", 0)
    if rank is None or not _within([axis], rank) or call.outputs > values.MOST:
        return None
    match value:
        case Constant(array=array):
            size: int | str = array.shape[axis]
        case Tensor(axes=axes):
            size = values.size_of(value, axes[axis], call.known)
        case _:
            return None
    if not isinstance(size, int):
        return loosely(value)
    if sizes is None:
        if size % call.outputs:
            return None
        sizes = (size // call.outputs,) * call.outputs
    if sum(sizes) != size or min(sizes) < 0 or len(sizes) != call.outputs:
        return None
    ends = np.cumsum([0, *sizes]).tolist()
    pieces = itertools.pairwise(ends)
    found = [_sliced(value, start, end, axis % rank, 1, call.known) for start, end in pieces]
    return [one if one is not None else Computed(call.subject) for one in found]


def _gather(call: Call) -> _Made:
    value, index = call.first, call.input(1)
    if isinstance(value, Zeros | Given):
        return value
    rank, axis = _rank(value), call.attributes.get("axis", 0)
    chosen = values.integers(index)
    if rank is None or not _within([axis], rank) or not chosen or len(chosen) > values.MOST:
        return None
    axis %= rank
    scalar = isinstance(index, Constant) and index.array.ndim == 0
    match value:
        case Constant(array=array) if _within(chosen, array.shape[axis]):
            return Constant(array.take(chosen[0] if scalar else chosen, axis))
        case Sizes(sizes=sizes) if _within(chosen, len(sizes)):
            return Sizes(tuple(sizes[number] for number in chosen), scalar=scalar)
        case Tensor(axes=axes):
            if not values.outputs(value):
                return loosely(value)
            size = {ONE: 1, PIECES: len(value.pieces)}.get(axes[axis], 0)
            if not _within(chosen, size):
                return None
            parts = [
                values.chosen(value, axis, number % size, number % size + 1) for number in chosen
            ]
            taken = values.concatenated([part for part in parts if part is not None], axis)
            if taken is None or not scalar:
                return taken
            return replace(taken, axes=taken.axes[:axis] + taken.axes[axis + 1 :])
    return None


def _shape(call: Call) -> _Made:
    match call.first:
        case Tensor(axes=axes):
            sizes = [values.size_of(call.first, axis, call.known) for axis in axes]
        case Constant(array=array):
            sizes = list(array.shape)
        case _:
            return None
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(sizes))
    return Sizes(tuple(sizes[start:end]))


def _constant_of_shape(call: Call) -> _Made:
    tensor = call.attributes.get("value")
    value = Constant(np.zeros(1)) if tensor is None else stored(call.subject, tensor)
    return Zeros() if is_zero(value) else None


def _expand(call: Call) -> _Made:
    value = call.first
    return Zeros() if is_zero(value) else loosely(value)


def _range(call: Call) -> _Made:
    start, limit, step = (call.input(index) for index in range(3))
    if values.integers(start) != (0,) or values.integers(step) != (1,):
        return None
    match limit:
        case Sizes(sizes=(str() as axis,), scalar=True):
            return Marks("steps", (axis,))
    return None


def _greater(call: Call) -> _Made:
    match call.first:
        case Marks(meaning="lengths") as lengths if values.integers(call.input(1)) == (0,):
            return replace(lengths, meaning="alive")
    return None


def _less(call: Call) -> _Made:
    match call.first, call.input(1):
        case Marks(meaning="steps", axes=one), Marks(meaning="lengths", axes=other, name=name):
            rank = max(len(one), len(other))
            pairs = zip(_padded(one, rank), _padded(other, rank), strict=True)
            axes = [pair for pair in pairs if ONE in pair]
            if len(axes) == rank:
                return Marks("valid", tuple(b if a == ONE else a for a, b in axes), name)
    return None


def _where(_: Call) -> _Made:
    """What it makes of outputs depends on their nodes, and is looked at where these are known."""
    return None


def _add(call: Call) -> _Made:
    return _merge("sum", call.inputs)


def _mul(call: Call) -> _Made:
    for one, other in (call.inputs[:2], call.inputs[1::-1]):
        if isinstance(one, Tensor) and _is(other, 0.5):
            return _averaged(one)
    return _merge("mul", call.inputs)


def _div(call: Call) -> _Made:
    match call.first:
        case Tensor() as tensor if _is(call.input(1), 2):
            return _averaged(tensor)
    return None


def _mean(call: Call) -> _Made:
    return _merge("ave", call.inputs)


def _merge(mode: str, inputs: Sequence[Value | None]) -> Value | None:
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    return values.merged(mode, tensors) if len(tensors) == len(inputs) else None


def _averaged(tensor: Tensor) -> Value | None:
    match tensor.pieces:
        case (values.Merged(mode="sum", parts=parts),):
            return replace(tensor, pieces=(values.Merged("ave", parts),))
    return None


def _reduced(mode: str) -> Callable[[Call], _Made]:
    def made(call: Call) -> _Made:
        value, axes = call.first, call.several("axes", 1)
        if not isinstance(value, Tensor) or axes is None or len(axes) != 1:
            return None
        if not _within(axes, len(value.axes)):
            return None
        at = axes[0] % len(value.axes)
        if value.axes[at] != PIECES or len(value.pieces) != 2:
            return None
        parts = [values.chosen(value, at, index, index + 1) for index in range(2)]
        both = values.merged(mode, [part for part in parts if part is not None])
        if both is None or call.attributes.get("keepdims", 1):
            return both
        return replace(both, axes=both.axes[:at] + both.axes[at + 1 :])

    return made


OPERATORS: Mapping[str, Callable[[Call], _Made]] = {
    "Identity": _identity,
    "Dropout": _dropout,
    "Constant": _constant_node,
    "Cast": _cast,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Shape": _shape,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "Greater": _greater,
    "Less": _less,
    "Add": _add,
    "Sum": _add,
    "Mul": _mul,
    "Div": _div,
    "Where": _where,
    "Mean": _mean,
    "ReduceSum": _reduced("sum"),
    "ReduceMean": _reduced("ave"),
    "ReduceProd": _reduced("mul"),
}


def loosely(value: Value | None) -> Value | None:
    """Return zeros as zeros and inputs as given in another arrangement; all else is computed."""
    names = names_of(value)
    return value if isinstance(value, Zeros) else None if names is None else Given(names)


def names_of(value: Value | None) -> frozenset[str] | None:
    """Return the names of the inputs that a value is, in whatever arrangement."""
    if isinstance(value, Given):
        return value.names
    if isinstance(value, Tensor) and not values.outputs(value):
        return frozenset(piece.name for piece in value.pieces if isinstance(piece, Source))
    return None


def is_zero(value: Value | None) -> bool:
    """Return whether a value is zeros."""
    return isinstance(value, Zeros) or (isinstance(value, Constant) and not value.array.any())


def _rank(value: Value | None) -> int | None:
    match value:
        case Constant(array=array):
            return array.ndim
        case Tensor(axes=axes) | Marks(axes=axes):
            return len(axes)
        case Sizes(scalar=scalar):
            return 0 if scalar else 1
    return None


def _within(places: Iterable[int], size: int) -> bool:
    return all(-size <= place < size for place in places)


def _at_least(value: int | str, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _padded(axes: tuple[str, ...], rank: int) -> tuple[str, ...]:
    return (ONE,) * (rank - len(axes)) + axes


def _is(value: Value | None, number: float) -> bool:
    """Return whether a value is this number, which changes no shape."""
    return isinstance(value, Constant) and value.array.ndim == 0 and value.array.item() == number
