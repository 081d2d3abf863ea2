"""What JAX's libraries have in common: their precision, levels and directions, and lengths."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import BackendNotInstalled

Array = NDArray[Any]
Named = dict[str, Array]
Direction = Callable[[Any, Array, Array | None, bool], tuple[Any, tuple[Any, ...]]]
"""Takes a cell, x, the lengths, and whether to run backwards; returns the sequence in original
time, and the final states in the order h, c."""


def library(name: str, package: str) -> Any:
    """Import a library.

    Raises:
        BackendNotInstalled: if it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BackendNotInstalled(f"{name} is not installed; pip install {package}") from error


def run_levels(
    levels: Sequence[Sequence[Any]], run: Direction, x: Array, lengths: Array | None
) -> Named:
    """Run levels of one cell, or of a forward and a backward one, each on what the last returned.

    Returns:
        The sequence of the last level, and all final states by name.
    """
    outputs: Named = {}
    with precision(x):
        for index, cells in enumerate(levels):
            sequences = []
            for backward, cell in enumerate(cells):
                y, states = run(cell, x, lengths, bool(backward))
                sequences.append(np.asarray(y))
                prefix = f"layers_{index}_" if len(levels) > 1 else ""
                if len(cells) > 1:
                    prefix += "backward_" if backward else "forward_"
                for name, state in zip("hc", states, strict=False):
                    outputs[prefix + name] = np.asarray(state)
            x = np.concatenate(sequences, axis=-1)
    return {"y": x, **outputs}


def by_length(run: Direction) -> Direction:
    """Return `run` for lengths, of which it knows nothing: rows of one length alone, cut at it."""

    def run_lengths(cell: Any, x: Array, lengths: Array | None, backward: bool) -> Any:
        if lengths is None:
            return run(cell, x, None, backward)
        whole: list[Array] = []
        for length in np.unique(lengths):
            rows = lengths == length
            y, states = run(cell, x[rows, :length], None, backward)
            padded = np.pad(y, ((0, 0), (0, x.shape[1] - length), (0, 0)))
            found = [padded, *map(np.asarray, states)]
            if not whole:
                whole = [np.zeros((len(lengths), *one.shape[1:]), one.dtype) for one in found]
            for place, values in zip(whole, found, strict=True):
                place[rows] = values
        return whole[0], tuple(whole[1:])

    return run_lengths


def precision(x: Array) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which JAX computes in the input's dtype."""
    if x.dtype != np.float64:
        return contextlib.nullcontext()
    jax = library("jax", "jax")
    if jax.__version_info__ < (0, 8):
        jax = library("jax.experimental", "jax")
    context: contextlib.AbstractContextManager[Any] = jax.enable_x64(True)
    return context
