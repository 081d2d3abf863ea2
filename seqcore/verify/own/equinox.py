"""Equinox's cells run by `jax.lax.scan`, as its documentation says, rows cut at their lengths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqcore.interchange.arrays import nested
from seqcore.interchange.places import by_path
from seqcore.verify.own.jax_levels import Array, Named, by_length, library, run_levels


def run(structure: Any, words: Mapping[str, Any], x: Array, lengths: Array | None) -> Named:
    """Return the sequence and the final states, as Equinox's cells compute them.

    Args:
        structure: As `from_equinox` takes it, the arrays being NumPy's by name.
        words: Nothing that matters here.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if Equinox is not installed.
    """
    jax, eqx = library("jax", "jax"), library("equinox", "equinox")

    def run_cell(
        arrays: Mapping[str, Array], x: Array, lengths: Array | None, backward: bool
    ) -> Any:
        cell = _cell(jax, eqx, arrays)
        zeros = jax.numpy.zeros(cell.hidden_size, x.dtype)
        start = (zeros, zeros) if isinstance(cell, eqx.nn.LSTMCell) else zeros

        def step(state: Any, x: Any) -> Any:
            state = cell(x, state)
            return state, state[0] if isinstance(state, tuple) else state

        def row(x: Any) -> Any:
            return jax.lax.scan(step, start, x, reverse=backward)

        state, y = jax.vmap(row)(x)
        return y, state if isinstance(state, tuple) else (state,)

    levels = [_directions(member) for member in _members(structure)]
    return run_levels(levels, by_length(run_cell), x, lengths)


def _members(structure: Any) -> list[Any]:
    """Return the levels, in a list or by name."""
    if isinstance(structure, list):
        return structure
    if isinstance(structure, tuple):
        return [structure]
    tree = nested(by_path("equinox", structure))
    return [tree[key] for key in sorted(tree, key=int)] if "0" in tree else [tree]


def _directions(member: Any) -> list[Any]:
    """Return the cells of a level, a pair or by name."""
    if isinstance(member, tuple):
        return list(member)
    return [member["forward"], member["backward"]] if "forward" in member else [member]


def _cell(jax: Any, eqx: Any, arrays: Mapping[str, Array]) -> Any:
    """Return the cell with such arrays."""
    rows, units = arrays["weight_hh"].shape
    kind = eqx.nn.LSTMCell if rows == 4 * units else eqx.nn.GRUCell
    options = {"use_bias": "bias" in arrays, "key": jax.random.key(0)}
    features = arrays["weight_ih"].shape[1]
    cell = eqx.filter_eval_shape(kind, features, units, **options)
    names = list(arrays)
    return eqx.tree_at(
        lambda cell: [getattr(cell, name) for name in names],
        cell,
        [jax.numpy.asarray(arrays[name]) for name in names],
    )
