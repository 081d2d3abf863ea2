"""Equinox's `LSTMCell` and `GRUCell`, and the levels and directions that are built of them.

A cell has `weight_ih` (gates*units, features), `weight_hh` (gates*units, units) and, if at all,
`bias` (gates*units); its gates are i f g o and r z n. The GRU resets after the product, and has
the new gate's recurrent bias as `bias_n` (units). Each is used as `weight @ x`.

Equinox has no layer of several cells. Here a list of them is levels, and a pair is a forward and a
backward cell; by name, levels are `"0"`, `"1"` and so on, directions `"forward"` and `"backward"`:
`{"0": {"forward": {"weight_ih": ...}, "backward": {...}}, "1": {"weight_ih": ...}}`.

Source: https://docs.kidger.site/equinox/api/nn/rnn/
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import array, nested, shaped
from seqcore.interchange.gates import CELLS, canonical, joined, new_gate_apart, reordered
from seqcore.interchange.levels import Converted, Level, Weights, assemble, disassemble
from seqcore.interchange.places import arranged, by_path
from seqcore.interchange.terms import refuse, require
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

ORDERS: Mapping[type[AnyCell], str] = {LSTM: "ifgo", GRU: "rzn"}

_ARRAYS = ("weight_ih", "weight_hh", "bias", "bias_n")


def from_equinox(
    source: Any, *, return_sequences: bool = True, return_state: bool = False
) -> Converted:
    """Return the layer and the canonical weights of Equinox's cells.

    Args:
        source: A live cell, or its arrays by name, native or NumPy; a pair (forward, backward) of
            these; or a list of levels, each one of these; or all by name, as above.
        return_sequences: Of the layer returned.
        return_state: Of the layer returned.

    Raises:
        ConversionError: if it holds no cell, or anything else.
    """
    cells: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    others = []
    for path, leaf in by_path("from equinox", _named(source)).items():
        cell, _, name = path.rpartition("/")
        if name not in _ARRAYS:
            others.append(path)
        elif leaf is not None:
            cells[cell][name] = array(f"from equinox: {path}", leaf)
    if others or not cells:
        raise ConversionError(
            f"from equinox: received {', '.join(others[:4]) or 'nothing'}, expected weight_ih, "
            "weight_hh, bias and bias_n" + " and nothing beside them; remove those" * bool(cells)
        )
    levels = []
    for place in arranged("from equinox", cells):
        read = [_read(f"from equinox: {path or 'the cell'}", cells[path]) for path in place]
        both, weights = zip(*read, strict=True)
        levels.append(Level(both, weights))
    return assemble(levels, return_sequences=return_sequences, return_state=return_state)


def to_equinox(layer: Any, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arrays of Equinox's cells by name: of one, or of levels and directions of them.

    The levels `"0"`, `"1"` ... and the directions `"forward"`, `"backward"` are as above. A GRU's
    `bias` is the sum of its two for r and z.

    Raises:
        ConversionError: if Equinox's cells cannot hold the layer, naming the term: a SimpleRNN, a
            GRU that resets before the product, other activations, another `merge_mode`.
        WeightsError: if the weights are not the layer's.
    """
    levels = disassemble("equinox", layer, weights)
    found: dict[str, NDArray[Any]] = {}
    for index, level in enumerate(levels):
        if level.merge_mode != "concat":
            refuse("equinox", layer, f"merge_mode is {level.merge_mode!r}", "expected 'concat'")
        place = f"{index}/" if len(levels) > 1 else ""
        names = ("",) if len(level.cells) == 1 else ("forward/", "backward/")
        for name, cell, mine in zip(names, level.cells, level.weights, strict=True):
            for key, value in _written(cell, mine).items():
                found[f"{place}{name}{key}"] = value
    return nested(found)


def recognises(names: Collection[str]) -> bool:
    """Return whether arrays with these names are Equinox's cells, which have a `bias`."""
    last = {name.replace(".", "/").rpartition("/")[2] for name in names}
    return {"weight_ih", "weight_hh", "bias"} <= last <= set(_ARRAYS)


def _named(source: Any) -> Mapping[Any, Any]:
    """Return a cell, a pair, or a list of levels by name."""
    if not isinstance(source, list):
        return _level("from equinox", source)
    return {str(i): _level(f"from equinox: level {i}", one) for i, one in enumerate(source)}


def _level(subject: str, level: Any) -> Mapping[Any, Any]:
    if isinstance(level, tuple) and len(level) == 2:
        names = ("forward", "backward")
        return {
            name: _cell(f"{subject}: {name}", one) for name, one in zip(names, level, strict=True)
        }
    return _cell(subject, level)


def _cell(subject: str, cell: Any) -> Mapping[Any, Any]:
    equinox = sys.modules.get("equinox")
    if equinox is not None and type(cell) is equinox.nn.LSTMCell:
        return {name: getattr(cell, name) for name in _ARRAYS[:3]}
    if equinox is not None and type(cell) is equinox.nn.GRUCell:
        return {name: getattr(cell, name) for name in _ARRAYS}
    if not isinstance(cell, Mapping):
        raise ConversionError(
            f"{subject}: is {type(cell).__qualname__}, expected an eqx.nn.LSTMCell or GRUCell "
            "itself, its arrays by name, a pair (forward, backward), or a list of levels"
        )
    return cell


def _read(subject: str, found: Mapping[str, NDArray[Any]]) -> tuple[AnyCell, Weights]:
    missing = [name for name in ("weight_ih", "weight_hh") if name not in found]
    if missing:
        raise ConversionError(
            f"{subject}: {' and '.join(missing)} missing, expected weight_ih and weight_hh"
        )
    recurrent = found["weight_hh"]
    rows, units = recurrent.shape if recurrent.ndim == 2 else (0, 0)
    kind = CELLS.get(rows // units) if units and not rows % units else None
    if kind is None or kind is SimpleRNN:
        raise ConversionError(
            f"{subject}: weight_hh has shape {recurrent.shape}, expected (gates*units, units) with "
            "4 gates (LSTMCell) or 3 (GRUCell)"
        )
    given = found["weight_ih"]
    features = given.shape[-1] if given.ndim == 2 else 0
    shaped(subject, "weight_ih", given, (rows, features), "(gates*units, features)")
    expected = {"bias": (rows,), **({"bias_n": (units,)} if kind is GRU else {})}
    biases = [name for name in ("bias", "bias_n") if name in found]
    if biases and set(biases) != set(expected):
        raise ConversionError(
            f"{subject}: has {' and '.join(biases)}, expected {' and '.join(expected)} of a "
            f"{kind.__name__}Cell, or no bias"
        )
    for name in biases:
        shaped(subject, name, found[name], expected[name], "(gates*units,), or (units,) of bias_n")
    order = ORDERS[kind], canonical(kind)
    weights = {
        "kernel": reordered(given.T, *order),
        "recurrent_kernel": reordered(recurrent.T, *order),
    }
    if biases:
        weights["bias"] = reordered(found["bias"], *order)
    if "bias_n" in biases:
        zeros = np.zeros(units, recurrent.dtype)
        blocks = {"z": zeros, "r": zeros, "n": found["bias_n"]}
        weights["recurrent_bias"] = joined(blocks, canonical(kind))
    return kind(units, use_bias=bool(biases)), weights


def _written(cell: AnyCell, weights: Weights) -> Weights:
    """Return the arrays of one cell by name."""
    if isinstance(cell, SimpleRNN):
        refuse("equinox", cell, "is a SimpleRNN", "expected an LSTM or a GRU")
    require("equinox", cell, "Equinox's GRU resets after the product", reset_after=(True,))
    require("equinox", cell, activation=("tanh",), recurrent_activation=("sigmoid",))
    require("equinox", cell, "scan with reverse=True instead", go_backwards=(False,))
    ours, theirs = canonical(cell), ORDERS[type(cell)]
    found = {
        "weight_ih": reordered(weights["kernel"], ours, theirs).T,
        "weight_hh": reordered(weights["recurrent_kernel"], ours, theirs).T,
    }
    if "recurrent_bias" in weights:
        bias, found["bias_n"] = new_gate_apart(weights["bias"], weights["recurrent_bias"])
        found["bias"] = reordered(bias, ours, theirs)
    elif "bias" in weights:
        found["bias"] = reordered(weights["bias"], ours, theirs)
    return {name: np.ascontiguousarray(value) for name, value in found.items()}
