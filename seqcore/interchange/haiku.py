"""Haiku's `LSTM`, `GRU` and `VanillaRNN`: the params of a transformed function, in and out.

`params` is a mapping of modules' names to their arrays, each used as `x @ w`:

| module | arrays | gates |
|---|---|---|
| `lstm/linear` | `w` (features + units, 4*units), the input's rows first; `b` | i g f o |
| `gru` | `w_i` (features, 3*units), `w_h` (units, 3*units), `b` | z r a; `h = (1 - z)*h + z*a` |
| `vanilla_rnn/linear`, `/linear_1` | `w` and `b` of the input, of the state | `relu` |

The LSTM adds 1 to f before the sigmoid. The GRU resets before the product, and its z is 1 less
ours: the signs of z's columns change. The next module of a kind has `_1` after its name. Haiku has
no module of both directions: two cores are run by `hk.dynamic_unroll`, the second with
`reverse=True`.

Source: https://dm-haiku.readthedocs.io/en/latest/api.html#recurrent
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import added, array, shaped
from seqcore.interchange.gates import canonical, joined, reordered, split
from seqcore.interchange.levels import Converted, Level, Weights, assemble, disassemble
from seqcore.interchange.places import arranged, ask_levels, by_path
from seqcore.interchange.terms import refuse, require
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

ORDERS: Mapping[type[AnyCell], str] = {SimpleRNN: "", LSTM: "igfo", GRU: "zrn"}

_STEMS: Mapping[type[AnyCell], str] = {SimpleRNN: "vanilla_rnn", LSTM: "lstm", GRU: "gru"}
_NAMES: Mapping[type[AnyCell], tuple[str, ...]] = {
    LSTM: ("linear/w", "linear/b"),
    GRU: ("w_i", "w_h", "b"),
    SimpleRNN: ("linear/w", "linear/b", "linear_1/w", "linear_1/b"),
}
_ANY = frozenset(name for names in _NAMES.values() for name in names)


def from_haiku(
    params: Any,
    *,
    levels: Sequence[str | Sequence[str]] | None = None,
    return_sequences: bool = True,
    return_state: bool = False,
) -> Converted:
    """Return the layer and the canonical weights of Haiku's recurrent cores.

    Numbered modules of one kind are levels, as in a `DeepRNN`, where their sizes allow nothing
    else. A VanillaRNN's two biases are summed. The LSTM's forget bias is `b + 1`, rounded once, as
    Haiku rounds it in every call; so `to_haiku` returns the slice of f to within a rounding, and
    everything else bit for bit.

    Args:
        params: Mappings of arrays, native or NumPy, as `init` returns them.
        levels: Where names leave it open, the name of each level's module, such as `"lstm_1"`, or
            a pair of names, of the forward and the backward core.
        return_sequences: Of the layer returned.
        return_state: Of the layer returned.

    Raises:
        ConversionError: if the params hold no core, other modules beside them, or leave open what
            they mean.
    """
    if not isinstance(params, Mapping):
        raise ConversionError(
            f"from haiku: received {type(params).__name__}, expected the params of a transformed "
            "function, a mapping"
        )
    cores: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    others = []
    for path, leaf in by_path("from haiku", params).items():
        core, name = _split(path)
        if name:
            cores[core][name] = array(f"from haiku: {path}", leaf)
        else:
            others.append(path)
    if others or not cores:
        raise ConversionError(
            f"from haiku: received {', '.join(others[:4]) or 'nothing'}, expected the arrays of an "
            "LSTM, GRU or VanillaRNN" + " and nothing beside them; remove those" * bool(cores)
        )
    read = {core: _read(f"from haiku: {core}", found) for core, found in cores.items()}
    places = arranged("from haiku", read, levels)
    if levels is None and _may_have_pairs([read[core] for (core, *_) in places]):
        names = [core for place in places for core in place]
        ask_levels("from haiku", names, "they may be levels or directions")
    found = []
    for place in places:
        cells, weights = zip(*(read[core] for core in place), strict=True)
        found.append(Level(cells, weights))
    return assemble(found, return_sequences=return_sequences, return_state=return_state)


def to_haiku(layer: Any, weights: Mapping[str, Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the params of Haiku's cores, named as Haiku names them in the order made.

    That is for every level its core, or its forward and then its backward core. Haiku's LSTM adds
    1 to its forget bias, so 1 is subtracted: exactly where the bias is at least 0.5, as the usual
    1 is, and rounded once elsewhere, by at most half a unit in the last place of the difference.
    A bias that the layer has not is written as what adds up to zeros.

    Raises:
        ConversionError: if Haiku's cores cannot hold the layer, naming the term: a GRU that resets
            after the product, a SimpleRNN without relu, other activations, another `merge_mode`.
        WeightsError: if the weights are not the layer's.
    """
    found: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    levels = disassemble("haiku", layer, weights)
    cores = iter(core for names in _cores(levels) for core in names)
    for level in levels:
        if level.merge_mode != "concat":
            refuse("haiku", layer, f"merge_mode is {level.merge_mode!r}", "expected 'concat'")
        for cell, mine in zip(level.cells, level.weights, strict=True):
            core = next(cores)
            for path, value in _written(cell, mine).items():
                module, _, name = f"{core}/{path}".rpartition("/")
                found[module][name] = value
    return dict(found)


def level_names(layer: Any, weights: Mapping[str, Any]) -> list[str | tuple[str, ...]]:
    """Return what `from_haiku` takes as `levels` for what `to_haiku` returns."""
    names = _cores(disassemble("haiku", layer, weights))
    return [cores if len(cores) > 1 else cores[0] for cores in names]


def recognises(names: Collection[str]) -> bool:
    """Return whether arrays with these names are Haiku's cores."""
    return bool(names) and all(_split(name.replace(".", "/"))[1] for name in names)


def _cores(levels: Sequence[Level]) -> list[tuple[str, ...]]:
    """Return the names of the cores of each level."""
    made: Counter[str] = Counter()
    names = []
    for level in levels:
        cores = []
        for cell in level.cells:
            stem = _STEMS[type(cell)]
            cores.append(f"{stem}_{made[stem]}" if made[stem] else stem)
            made[stem] += 1
        names.append(tuple(cores))
    return names


def _split(path: str) -> tuple[str, str]:
    """Return a core's name and the name of its array, which is empty if there is no such array."""
    parts = path.split("/")
    for count in (2, 1):
        name = "/".join(parts[-count:])
        if name in _ANY and len(parts) > count:
            return "/".join(parts[:-count]), name
    return path, ""


def _read(subject: str, found: Mapping[str, NDArray[Any]]) -> tuple[AnyCell, Weights]:
    names = set(found)
    # A VanillaRNN with double_bias=False has one.
    complete = names | {"linear_1/b"} if "linear_1/w" in names else names
    kind = next((kind for kind in _NAMES if set(_NAMES[kind]) == complete), None)
    if kind is None:
        raise ConversionError(
            f"{subject}: holds {', '.join(sorted(names))}, expected linear/w and linear/b (LSTM), "
            "with linear_1/w as well (VanillaRNN), or w_i, w_h and b (GRU)"
        )
    (bias,) = (found["b" if kind is GRU else "linear/b"],)
    columns = bias.size if bias.ndim == 1 else 0
    if not columns or columns % kind.blocks:
        raise ConversionError(
            f"{subject}: b has shape {bias.shape}, expected ({kind.blocks}*units,)"
        )
    units = columns // kind.blocks
    if kind is LSTM:
        both = found["linear/w"]
        features = max(0, both.shape[0] - units) if both.ndim == 2 else 0
        shape = (features + units, columns)
        shaped(subject, "linear/w", both, shape, "(features + units, 4*units)")
        kernel, recurrent = both[:features], both[features:]
    else:
        names_of = ("w_i", "w_h") if kind is GRU else ("linear/w", "linear_1/w")
        kernel, recurrent = (found[name] for name in names_of)
        features = kernel.shape[0] if kernel.ndim == 2 else 0
        shaped(subject, names_of[0], kernel, (features, columns), "(features, columns)")
        shaped(subject, names_of[1], recurrent, (units, columns), "(units, columns)")
    if "linear_1/b" in found:
        other = shaped(subject, "linear_1/b", found["linear_1/b"], (columns,), "(units,)")
        bias = added(subject, bias, other)
    weights = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    if kind is SimpleRNN:
        return SimpleRNN(units, activation="relu"), weights
    theirs = ORDERS[kind]
    if kind is LSTM:
        weights["bias"] = _plus(bias, theirs, 1)
        return LSTM(units), _in_order(weights, theirs, canonical(LSTM))
    weights = {name: _negated(value, theirs) for name, value in weights.items()}
    return GRU(units, reset_after=False), _in_order(weights, theirs, canonical(GRU))


def _written(cell: AnyCell, weights: Weights) -> Weights:
    """Return the arrays of one core by name."""
    require("haiku", cell, "Haiku's GRU resets before the product", reset_after=(False,))
    activation = "relu" if isinstance(cell, SimpleRNN) else "tanh"
    require("haiku", cell, activation=(activation,), recurrent_activation=("sigmoid",))
    require("haiku", cell, "unroll with reverse=True instead", go_backwards=(False,))
    ours, theirs = canonical(cell), ORDERS[type(cell)]
    zeros = np.zeros(weights["kernel"].shape[1:], weights["kernel"].dtype)
    found = _in_order({"bias": zeros, **weights}, ours, theirs)
    kernel, recurrent, bias = found["kernel"], found["recurrent_kernel"], found["bias"]
    match cell:
        case LSTM():
            return {
                "linear/w": np.concatenate([kernel, recurrent]),
                "linear/b": _plus(bias, theirs, -1),
            }
        case GRU():
            return {
                "w_i": _negated(kernel, theirs),
                "w_h": _negated(recurrent, theirs),
                "b": _negated(bias, theirs),
            }
        case SimpleRNN():
            return {
                "linear/w": kernel,
                "linear/b": bias,
                "linear_1/w": recurrent,
                "linear_1/b": zeros,
            }


def _in_order(weights: Weights, source: str, target: str) -> Weights:
    return {
        name: np.ascontiguousarray(reordered(value, source, target))
        for name, value in weights.items()
    }


def _plus(bias: NDArray[Any], order: str, summand: int) -> NDArray[Any]:
    """Return an LSTM's bias with a summand on the gate f, in the bias's own dtype."""
    blocks = split(bias, order)
    return joined({**blocks, "f": blocks["f"] + bias.dtype.type(summand)}, order)


def _negated(values: NDArray[Any], order: str) -> NDArray[Any]:
    """Return a GRU's array with the signs of the gate z changed: 1 - sigmoid(x) = sigmoid(-x)."""
    blocks = split(values, order)
    return joined({**blocks, "z": -blocks["z"]}, order)


def _may_have_pairs(cores: Sequence[tuple[AnyCell, Weights]]) -> bool:
    """Return whether the sizes allow any two cores in a row to be two directions."""
    sizes = [(weights["kernel"].shape[0], cell.units) for cell, weights in cores]
    # Before each core: what the level before may give, and whether there was a pair.
    before: list[set[tuple[int, bool]]] = [set() for _ in range(len(sizes) + 1)]
    before[0].add((sizes[0][0], False))
    for index, (features, units) in enumerate(sizes):
        for given, paired in before[index]:
            if given != features:
                continue
            before[index + 1].add((units, paired))
            if index + 1 < len(sizes) and sizes[index + 1][0] == features:
                before[index + 2].add((units + sizes[index + 1][1], True))
    return any(paired for _, paired in before[-1])
