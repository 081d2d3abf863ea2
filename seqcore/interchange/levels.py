"""A layer as levels of cells: the form that every format is read into and written from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from seqcore.errors import ConversionError, SeqcoreError
from seqcore.runtime.inputs import neutral_weights
from seqcore.spec.layers import AnyCell, AnyLayer, AnyMember, Bidirectional, Layer, Stack
from seqcore.spec.weights import attach, extract, parts

Weights = dict[str, NDArray[Any]]
Converted = tuple[AnyLayer, Weights]
"""A layer and its canonical weights: what is read from every format."""


@dataclass(frozen=True, slots=True)
class Level:
    """One member of a stack: a cell, or a forward and a backward one.

    Attributes:
        cells: One cell or two, without a meaning in their return flags.
        weights: The canonical weights of each, without a prefix.
        merge_mode: How the outputs of two are merged.
    """

    cells: tuple[AnyCell, ...]
    weights: tuple[Weights, ...]
    merge_mode: str = "concat"


def assemble(
    levels: Sequence[Level], *, return_sequences: bool = True, return_state: bool = False
) -> Converted:
    """Return the layer of one level, or the stack of several, with its canonical weights.

    Raises:
        ConversionError: if the weights do not fit one another in size or dtype.
    """
    if len(levels) == 1:
        (level,) = levels
        return _fitting(_member(level, return_sequences, return_state), _named(level))
    *inner, last = levels
    members = [_member(level, True, False) for level in inner]
    layer = Stack(
        (*members, _member(last, return_sequences, False)),
        return_sequences=return_sequences,
        return_state=return_state,
    )
    weights: Weights = {}
    for (prefix, _), level in zip(parts(layer), levels, strict=True):
        weights |= attach(_named(level), prefix)
    return _fitting(layer, weights)


def disassemble(target: str, layer: Any, weights: Mapping[str, Any]) -> list[Level]:
    """Return the levels of a layer, with its weights checked and as NumPy arrays.

    Args:
        target: What is converted to, for messages.
        layer: The layer.
        weights: Its canonical weights, of any framework.

    Raises:
        ConversionError: if `layer` is none.
        WeightsError: if the weights are not the layer's.
        DtypeError: if they are not all of one of the spec's dtypes.
    """
    arrays = checked(target, layer, weights)
    members = parts(layer) if isinstance(layer, Stack) else (("", layer),)
    levels = []
    for prefix, member in members:
        mine = extract(arrays, prefix)
        if isinstance(member, Bidirectional):
            both = tuple(extract(mine, name) for name, _ in parts(member))
            assert member.merge_mode is not None
            levels.append(Level((member.forward, member.backward), both, member.merge_mode))
        else:
            assert isinstance(member, AnyCell)
            levels.append(Level((member,), (mine,)))
    return levels


def _fitting(layer: AnyLayer, weights: Weights) -> Converted:
    try:
        return layer, neutral_weights(layer, weights)
    except SeqcoreError as error:
        raise ConversionError(f"the weights found do not fit one another: {error}") from None


def checked(target: str, layer: Any, weights: Mapping[str, Any]) -> Weights:
    """Return the weights of a layer as NumPy arrays.

    Raises:
        ConversionError: if `layer` is none.
        WeightsError: if the weights are not the layer's.
        DtypeError: if they are not all of one of the spec's dtypes.
    """
    if not isinstance(layer, Layer) or not isinstance(layer, AnyLayer):
        raise ConversionError(
            f"to {target}: the first argument is {type(layer).__name__}, expected a layer and its "
            "weights"
        )
    return neutral_weights(layer, weights)


def _member(level: Level, return_sequences: bool, return_state: bool) -> AnyMember:
    flags = {"return_sequences": return_sequences, "return_state": return_state}
    cells = [cell.replace(**flags) for cell in level.cells]
    if len(cells) == 1:
        return cells[0]
    return Bidirectional(cells[0], merge_mode=level.merge_mode, backward_layer=cells[1])


def _named(level: Level) -> Weights:
    if len(level.cells) == 1:
        return dict(level.weights[0])
    forward, backward = level.weights
    return attach(forward, "forward.") | attach(backward, "backward.")
