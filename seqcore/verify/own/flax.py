"""Flax's cells run by `flax.linen.RNN` or `flax.nnx.RNN`, as the names of their arrays say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from seqcore.interchange.arrays import nested
from seqcore.interchange.places import by_path
from seqcore.verify.own.jax_levels import Array, Named, library, run_levels

_FUNCTIONS = {"linear": "identity"}
"""Where `jax.nn` calls a function otherwise."""


def run(structure: Any, words: Mapping[str, Any], x: Array, lengths: Array | None) -> Named:
    """Return the sequence and the final states, as Flax's modules compute them.

    Args:
        structure: As `from_flax` takes it, the arrays being NumPy's.
        words: Its keyword arguments.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if Flax is not installed.
    """
    library("flax", "flax")
    cells = dict(_cells(nested(by_path("flax", structure))))
    jax = library("jax", "jax")
    functions = {
        theirs: getattr(jax.nn, _FUNCTIONS.get(words[ours], words[ours]))
        for ours, theirs in (("activation", "activation_fn"), ("recurrent_activation", "gate_fn"))
        if words.get(ours)
    }

    def run_cell(path: str, x: Array, lengths: Array | None, backward: bool) -> Any:
        options = {
            "seq_lengths": None if lengths is None else jax.numpy.asarray(lengths, "int32"),
            "return_carry": True,
            "reverse": backward,
            "keep_order": backward,
        }
        tree, dtype = cells[path], {"dtype": x.dtype, "param_dtype": x.dtype}
        nnx = "dense_i" in tree or "if_" in tree
        make = _nnx if nnx else _linen
        carry, y = make(tree, functions | dtype)(jax.numpy.asarray(x), **options)
        # Flax carries (c, h).
        return y, carry[::-1] if isinstance(carry, tuple) else (carry,)

    return run_levels(_levels(list(cells), words.get("levels")), run_cell, x, lengths)


def _cells(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what holds products, with its path."""
    if any(isinstance(part, Mapping) and "kernel" in part for part in tree.values()):
        yield path, tree
        return
    for name, part in tree.items():
        if isinstance(part, Mapping):
            yield from _cells(part, f"{path}/{name}")


def _levels(paths: list[str], said: Any) -> list[list[str]]:
    if said is not None:
        asked = [[level] if isinstance(level, str) else level for level in said]
        return [[_under(paths, name) for name in level] for level in asked]
    levels: dict[tuple[int, ...], list[str]] = {}
    for path in sorted(paths, key=lambda path: "backward_rnn" in path):
        levels.setdefault(tuple(map(int, re.findall(r"\d+", path))), []).append(path)
    return [levels[number] for number in sorted(levels)]


def _under(paths: list[str], name: str) -> str:
    asked = f"/{name.replace('.', '/')}/"
    return next(path for path in paths if asked in f"{path}/")


def _linen(tree: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Return linen's RNN of a cell, to be called."""
    nn = library("flax.linen", "flax")
    kind = nn.LSTMCell if "if" in tree else nn.GRUCell if "ir" in tree else nn.SimpleCell
    recurrent = tree["h" if kind is nn.SimpleCell else "hi" if kind is nn.LSTMCell else "hr"]
    module = nn.RNN(kind(recurrent["kernel"].shape[0], **options))
    return lambda x, **call: module.apply({"params": {"cell": tree}}, x, **call)


def _nnx(tree: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Return nnx's RNN of a cell, to be called."""
    nnx = library("flax.nnx", "flax")
    recurrent = tree["dense_h" if "dense_h" in tree else "hi"]["kernel"]
    units, columns = recurrent.shape
    kinds = {4: nnx.OptimizedLSTMCell, 3: nnx.GRUCell, 1: nnx.SimpleCell}
    kind = kinds[columns // units] if "dense_h" in tree else nnx.LSTMCell
    features = tree["dense_i" if "dense_i" in tree else "ii"]["kernel"].shape[0]
    # Without drawing numbers that are replaced anyway.
    cell = nnx.eval_shape(lambda: kind(features, units, rngs=nnx.Rngs(0), **options))
    nnx.update(cell, tree)
    return nnx.RNN(cell)
