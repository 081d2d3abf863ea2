"""What goes wrong when recurrent weights are moved: each known mistake, made on purpose.

A mistake is tried by making it: a right model's weights, or the way in which it is run, are changed
as the mistake would change them. If the outcome is what the port computes, the port has it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seqcore.interchange.gates import canonical, joined, reordered, split
from seqcore.interchange.levels import Level, Weights
from seqcore.spec.layers import GRU, LSTM, AnyCell
from seqcore.verify.wiring import RIGHT, Wiring

_Cell = tuple[AnyCell, Weights]
Change = Callable[[AnyCell, Weights], _Cell]

_Place = tuple[int, int]
"""A level, and which of its directions."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake, made in a model.

    Attributes:
        name: What it is, in a few words.
        cause: What happened, for whoever made it.
        remedy: What to do.
        levels: The model with the mistake in its weights.
        wiring: How the model with the mistake is run.
    """

    name: str
    cause: str
    remedy: str
    levels: tuple[Level, ...]
    wiring: Wiring = RIGHT


def mistakes(
    levels: Sequence[Level], *, padded: bool = True, origin: str = ""
) -> Iterator[Mistake]:
    """Yield a model with each known mistake that changes it: made everywhere, and in parts of it.

    Args:
        levels: The model.
        padded: Whether it runs with lengths.
        origin: The name of the format that it comes from, for the words.
    """
    levels = tuple(levels)
    for name, cause, remedy, wiring in _wirings(levels, padded):
        yield Mistake(name, cause, remedy, levels, wiring)
    parts = _parts(levels)
    for name, cause, remedy, change in _changes(levels, origin):
        changed = dict(_changed(levels, change))
        places: dict[frozenset[_Place], str] = {}
        for where, part in parts.items():
            # Of parts in which the same cells change, the smallest.
            places[part.intersection(changed)] = where
        for part, where in places.items():
            if part:
                what = f"{cause} ({where} alone)" if where else cause
                made = _with_cells(levels, {place: changed[place] for place in part})
                yield Mistake(name, what, remedy, made)
    paired = [i for i, level in enumerate(levels) if len(level.cells) == 2]
    for those in [paired, *([i] for i in paired if len(paired) > 1)] if paired else ():
        where = "" if those == paired else f" (layers.{those[0]} alone)"
        yield Mistake(
            "directions swapped",
            f"the forward cell has the backward one's weights, and the other way round{where}",
            "exchange the two",
            tuple(_swapped(level) if i in those else level for i, level in enumerate(levels)),
        )


def _wirings(levels: Sequence[Level], padded: bool) -> Iterator[tuple[str, str, str, Wiring]]:
    """Yield the mistakes in how a model is run, without those that it cannot have."""
    pairs = sum(len(level.cells) == 2 for level in levels)
    both, joined_last = pairs > 0, len(levels[-1].cells) == 2
    if both:
        yield (
            "unflipped backward direction",
            "the backward direction's outputs stand in the order in which it read the input",
            "reverse them in time before they are merged",
            Wiring(flips=False),
        )
        yield (
            "backward direction not reversed",
            "the backward cell reads the input from its first step",
            "reverse its input, and its outputs back",
            Wiring(reverses=False),
        )
        yield (
            "backward direction first",
            "the backward direction's outputs stand before the forward one's",
            "exchange the halves of the last axis",
            Wiring(backward_first="every"),
        )
    if joined_last and pairs > 1:
        yield (
            "backward direction first",
            "the last level's backward outputs stand before its forward ones",
            "exchange the halves of the last axis",
            Wiring(backward_first="last"),
        )
    if joined_last:
        yield (
            "backward direction left out",
            "the forward direction's outputs alone are returned",
            "return those of both",
            Wiring(backward=False),
        )
        yield (
            "last step taken for the joined final state",
            "out[:, -1] is returned, "
            + ("which for short rows is padding, and " if padded else "")
            + "in which the backward direction has seen one step only",
            "join the final states of both directions",
            Wiring(last_step="last"),
        )
    if joined_last and padded:
        yield (
            "last valid step taken for the joined final state",
            "out[rows, lengths - 1] is returned, in which the backward direction has seen one step",
            "join the final states of both directions",
            Wiring(last_step="valid"),
        )
    elif padded:
        yield (
            "last step taken for the final state",
            "out[:, -1] is returned, which for short rows is padding",
            "take the final state, or the step at each row's length",
            Wiring(last_step="last"),
        )
    if padded:
        for longer, cause in (
            (-1, "each row's last valid step is taken for padding"),
            (1, "the first step of each row's padding is taken for valid"),
        ):
            yield (
                "lengths off by one",
                cause,
                "step t is valid where t < length",
                Wiring(longer=longer),
            )
        yield (
            "lengths ignored",
            "the padding is read like input",
            "hand the lengths or the mask on",
            Wiring(lengths="none"),
        )
    if padded and both:
        yield (
            "unflipped backward direction",
            "in each row, the backward direction's outputs stand in the order in which it read it",
            "reverse them in time, within each row's length, before they are merged",
            Wiring(flips_within=True),
        )
        yield (
            "lengths ignored by the backward direction",
            "the backward direction starts in the padding",
            "reverse each row within its length",
            Wiring(lengths="forward"),
        )
    if padded and joined_last:
        yield (
            "lengths ignored by the last step",
            "out[:, -1] is returned, and the padding is read like input",
            "hand the lengths or the mask on, and join the final states of both directions",
            Wiring(lengths="none", last_step="last"),
        )
    wirings = (
        (Wiring(time_first=True), ""),
        (Wiring(time_first=True, last_step="last"), ", and out[:, -1] is returned"),
    )
    for wiring, more in wirings:
        yield (
            "batch and time swapped",
            f"the first axis of the input is taken for time{more}",
            "set batch_first, or swap the axes",
            wiring,
        )
    if any(isinstance(cell, LSTM) for level in levels for cell in level.cells):
        yield (
            "h and c swapped",
            "the cell state is taken for the hidden state",
            "exchange them: some libraries' order is (c, h)",
            Wiring(swaps_states=True),
        )


_OWNERS = {"torch": "torch's", "keras": "Keras's", "onnx": "ONNX's", "haiku": "Haiku's"}
"""How the library of a format is called here."""

_LIBRARIES = {
    "ifgo": "torch's, Keras's", "iofg": "ONNX's", "igfo": "Haiku's", "ifog": "Core ML's",
    "zrn": "Keras's, ONNX's", "rzn": "torch's, cuDNN's", "rnz": "Core ML's",
}  # fmt: skip
"""Whose an order of gates is."""

_KINDS = {
    "all weights": ("kernel", "recurrent_kernel", "bias", "recurrent_bias"),
    "the kernels": ("kernel", "recurrent_kernel"),
    "the recurrent kernel": ("recurrent_kernel",),
    "the kernel": ("kernel",),
    "the biases": ("bias", "recurrent_bias"),
}


_TWO = {"the input's bias": ("bias",), "the recurrent bias": ("recurrent_bias",)}
"""Of a cell that has both."""

_KERNELS = {
    "the kernels": ("kernel", "recurrent_kernel"),
    "the kernel": ("kernel",),
    "the recurrent kernel": ("recurrent_kernel",),
}


def _changes(levels: Sequence[Level], origin: str) -> Iterator[tuple[str, str, str, Change]]:
    """Yield the mistakes in a cell's weights, for the kinds of cells that there are."""
    kinds = dict.fromkeys(type(cell) for level in levels for cell in level.cells)
    two_biases = any("recurrent_bias" in mine for level in levels for mine in level.weights)
    for kind in kinds:
        yield from _orders(kind, _KINDS, origin)
    if two_biases:
        yield from _orders(GRU, _TWO, origin)
    yield (
        "transposed recurrent kernel",
        "each gate's recurrent kernel is transposed",
        "transpose it: h @ W and W @ h take it differently",
        _with(recurrent_kernel=_transposed),
    )
    yield (
        "transposed kernel",
        "each gate's kernel, which is square, is transposed",
        "transpose it: x @ W and W @ x take it differently",
        _with(kernel=_transposed),
    )
    for what, names in _KERNELS.items():
        yield (
            "reshaped kernel",
            f"the numbers of {what} were put into the other shape in the order that they had",
            "transpose instead of reshaping",
            _with(**dict.fromkeys(names, _reshaped)),
        )
    if LSTM in kinds:
        for sign, cause in (
            (-1, "the forget gate's bias lacks 1, which the source adds by itself or has in it"),
            (1, "the forget gate's bias has 1 too much, which the target adds by itself"),
        ):
            yield ("forget bias of 1", cause, "set it once", _forget(float(sign)))
    if two_biases:
        yield (
            "summed GRU biases",
            "the two biases were added up, and the new gate's recurrent one is not reset any more",
            "keep them apart: n = tanh(x W + b + r * (h U + rb))",
            _summed,
        )
        yield (
            "swapped GRU biases",
            "the input's and the recurrent bias stand in each other's place",
            "exchange the rows",
            _biases_swapped,
        )
        yield (
            "bias counted twice",
            "the recurrent bias was added to the input's, and handed on as well",
            "hand each on once",
            _doubled,
        )
    if GRU in kinds:
        yield (
            "reset form",
            "the reset gate acts on the other side of the recurrent product",
            "set reset_after (linear_before_reset) as the source has it; weights cannot mend it",
            _reset,
        )
        yield (
            "update gate the other way round",
            "h = (1 - z) * h + z * n was computed",
            "negate the update gate's columns and bias",
            _negated,
        )
    yield (
        "lost bias",
        "the biases are missing",
        "hand them on",
        _without("bias", "recurrent_bias"),
    )
    if two_biases:
        yield (
            "lost recurrent bias",
            "the recurrent bias (bias_hh) is missing",
            "hand it on",
            _without("recurrent_bias"),
        )
        yield (
            "lost input bias",
            "the input's bias (bias_ih) is missing",
            "hand it on",
            _without_input_bias,
        )
    for field, values in (
        ("recurrent_activation", ("sigmoid", "hard_sigmoid")),
        ("activation", ("tanh", "relu", "linear", "sigmoid")),
    ):
        for value in values:
            yield (
                "activation",
                f"{field} is {value}",
                "choose the source's",
                _activated(field, value),
            )


def _orders(
    kind: type[AnyCell], what_moves: Mapping[str, tuple[str, ...]], origin: str
) -> Iterator[tuple[str, str, str, Change]]:
    ours = canonical(kind)
    for what, names in what_moves.items():
        for order in map("".join, itertools.permutations(ours)):
            if order != ours:
                cause = f"the gates of {what} stand as {_stand(order, ours, origin)}"
                yield "gate order", cause, "reorder the blocks", _order(kind, names, order)


def _stand(order: str, ours: str, origin: str) -> str:
    """Return which order is read as which, in the libraries that have such ones."""
    known = [
        (source, target)
        for source, target in itertools.permutations(_LIBRARIES, 2)
        if set(source) == set(target) == set(ours)
        and order == "".join(source[target.index(gate)] for gate in ours)
    ]
    # That of the library which the weights come from, if it has one that explains it.
    owner = _OWNERS.get(origin, "nobody's")
    known = [pair for pair in known if owner in _LIBRARIES[pair[0]]] or known
    pairs = [f"{_shown(source)} where {_shown(target)} is read" for source, target in known]
    return ", or ".join(pairs) or f"{' '.join(order)} where {' '.join(ours)} is read"


def _shown(order: str) -> str:
    return f"{' '.join(order)} ({_LIBRARIES[order]})"


def _order(kind: type[AnyCell], names: Sequence[str], order: str) -> Change:
    def change(cell: AnyCell, weights: Weights) -> _Cell:
        if not isinstance(cell, kind):
            return cell, weights
        return cell, {
            name: reordered(value, canonical(kind), order) if name in names else value
            for name, value in weights.items()
        }

    return change


def _with(**functions: Callable[[AnyCell, Any], Any]) -> Change:
    def change(cell: AnyCell, weights: Weights) -> _Cell:
        return cell, {
            name: functions[name](cell, value) if name in functions else value
            for name, value in weights.items()
        }

    return change


def _reshaped(cell: AnyCell, values: Any) -> Any:
    if values.shape[0] == values.shape[1]:
        return values  # transposed, no more
    return np.ascontiguousarray(values.T).reshape(values.shape)


def _transposed(cell: AnyCell, values: Any) -> Any:
    if len(values) != cell.units:
        return values  # no port could take it for right
    return np.concatenate([block.T for block in np.split(values, cell.blocks, axis=1)], axis=1)


def _forget(amount: float) -> Change:
    def change(cell: AnyCell, weights: Weights) -> _Cell:
        if not isinstance(cell, LSTM) or not cell.use_bias:
            return cell, weights
        gates = split(weights["bias"], canonical(cell))
        gates["f"] = gates["f"] + gates["f"].dtype.type(amount)
        return cell, {**weights, "bias": joined(gates, canonical(cell))}

    return change


def _summed(cell: AnyCell, weights: Weights) -> _Cell:
    if "recurrent_bias" not in weights:
        return cell, weights
    bias, other = weights["bias"], weights["recurrent_bias"]
    return cell, {**weights, "bias": bias + other, "recurrent_bias": np.zeros_like(other)}


def _biases_swapped(cell: AnyCell, weights: Weights) -> _Cell:
    if "recurrent_bias" not in weights:
        return cell, weights
    bias, other = weights["bias"], weights["recurrent_bias"]
    return cell, {**weights, "bias": other, "recurrent_bias": bias}


def _doubled(cell: AnyCell, weights: Weights) -> _Cell:
    if "recurrent_bias" not in weights:
        return cell, weights
    return cell, {**weights, "bias": weights["bias"] + weights["recurrent_bias"]}


def _without_input_bias(cell: AnyCell, weights: Weights) -> _Cell:
    if "recurrent_bias" not in weights:
        return cell, weights  # its one bias is that of "lost bias"
    return cell, {**weights, "bias": np.zeros_like(weights["bias"])}


def _reset(cell: AnyCell, weights: Weights) -> _Cell:
    if not isinstance(cell, GRU):
        return cell, weights
    other = cell.replace(reset_after=not cell.reset_after)
    weights = dict(weights)
    if cell.use_bias and cell.reset_after:
        weights["bias"] = weights["bias"] + weights.pop("recurrent_bias")
    elif cell.use_bias:
        weights["recurrent_bias"] = np.zeros_like(weights["bias"])
    return other, weights


def _negated(cell: AnyCell, weights: Weights) -> _Cell:
    if not isinstance(cell, GRU):
        return cell, weights
    order = canonical(cell)
    changed = {}
    for name, value in weights.items():
        gates = split(value, order)
        changed[name] = joined({**gates, "z": -gates["z"]}, order)
    return cell, changed


def _without(*names: str) -> Change:
    def change(cell: AnyCell, weights: Weights) -> _Cell:
        return cell, {
            name: np.zeros_like(value) if name in names else value
            for name, value in weights.items()
        }

    return change


def _activated(field: str, value: str) -> Change:
    def change(cell: AnyCell, weights: Weights) -> _Cell:
        if field not in cell.__struct_fields__:
            return cell, weights
        return cell.replace(**{field: value}), weights

    return change


def _changed(levels: Sequence[Level], change: Change) -> Iterator[tuple[_Place, _Cell]]:
    """Yield each cell that a change makes another, with its weights."""
    for i, level in enumerate(levels):
        for j, (cell, weights) in enumerate(zip(level.cells, level.weights, strict=True)):
            other, changed = change(cell, weights)
            if other != cell or not all(
                changed[name] is value or np.array_equal(changed[name], value)
                for name, value in weights.items()
            ):
                yield (i, j), (other, changed)


def _with_cells(levels: Sequence[Level], cells: Mapping[_Place, _Cell]) -> tuple[Level, ...]:
    """Return the levels with some cells in the place of others."""
    found = []
    for i, level in enumerate(levels):
        pairs = [
            cells.get((i, j), pair)
            for j, pair in enumerate(zip(level.cells, level.weights, strict=True))
        ]
        own, weights = zip(*pairs, strict=True)
        found.append(replace(level, cells=own, weights=weights))
    return tuple(found)


def _parts(levels: Sequence[Level]) -> Mapping[str, frozenset[_Place]]:
    """Return the parts of a model by name, as weights have it, the smallest last."""
    places = [(i, j) for i, level in enumerate(levels) for j in range(len(level.cells))]
    names = ("forward", "backward")
    paired = [place for place in places if len(levels[place[0]].cells) == 2]
    parts = {"": frozenset(places)}
    for j, name in enumerate(names):
        parts[name] = frozenset(place for place in paired if place[1] == j)
    if len(levels) > 1:
        for i in range(len(levels)):
            parts[f"layers.{i}"] = frozenset(place for place in places if place[0] == i)
        for i, j in paired:
            parts[f"layers.{i}.{names[j]}"] = frozenset({(i, j)})
    return parts


def _swapped(level: Level) -> Level:
    return replace(level, cells=level.cells[::-1], weights=level.weights[::-1])
