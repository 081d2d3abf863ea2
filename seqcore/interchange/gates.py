"""The blocks of columns that hold a cell's gates, in the order that each format has them.

An order is a string with a letter for each block: `i f g o` of an LSTM, `z r n` of a GRU, as
`seqcore.spec` names them. A SimpleRNN has one block and the order `""`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.interchange.arrays import added
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

Array = NDArray[Any]

CELLS: Mapping[int, type[AnyCell]] = {1: SimpleRNN, 4: LSTM, 3: GRU}
"""The cells by the number of their blocks."""


def canonical(cell: AnyCell | type[AnyCell]) -> str:
    """Return the order of the canonical weights."""
    return "".join(cell.gate_names)


def reordered(values: Array, source: str, target: str) -> Array:
    """Return an array whose last axis has its blocks in another order."""
    if source == target:
        return values
    blocks = split(values, source)
    return joined(blocks, target)


def split(values: Array, order: str) -> dict[str, Array]:
    """Return the blocks of the last axis by gate."""
    return dict(zip(order, np.split(values, len(order), axis=-1), strict=True))


def joined(blocks: Mapping[str, Array], order: str) -> Array:
    """Return the blocks side by side along the last axis."""
    return np.concatenate([blocks[gate] for gate in order], axis=-1)


def new_gate_apart(bias: Array, recurrent_bias: Array) -> tuple[Array, Array]:
    """Return a GRU's biases as where only the new gate has two: the bias, and n's recurrent one.

    For z and r the two are added, where the recurrent one is not zero.
    """
    order = canonical(GRU)
    mine, recurrent = split(bias, order), split(recurrent_bias, order)
    for gate in "zr":
        if recurrent[gate].any():
            mine[gate] = added("the biases of z and r", mine[gate], recurrent[gate])
    return joined(mine, order), recurrent["n"]
