"""The one array of `jax.experimental.rnn.lstm`, cuDNN's LSTM: in and out.

It holds, row by row, the weights of every direction of every level, `W_ih` (4*units, features) and
`W_hh` (4*units, units), and behind them all the biases, `b_ih` and `b_hh` (4*units) of each. The
gates are i f g o; a level's forward direction comes before its backward one.

Source: https://docs.jax.dev/en/latest/jax.experimental.rnn.html (layout in its source:
https://github.com/jax-ml/jax/blob/main/jax/experimental/rnn.py)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import added, array
from seqcore.interchange.levels import Converted, Level, assemble, disassemble
from seqcore.interchange.terms import refuse, require, require_alike
from seqcore.spec.layers import LSTM

NAME = "weights"
"""The array's name in a file, as `lstm` calls its argument."""


def from_jax_blob(
    blob: Any,
    *,
    features: int,
    units: int,
    layers: int = 1,
    bidirectional: bool = False,
    return_sequences: bool = True,
    return_state: bool = False,
) -> Converted:
    """Return the layer and the canonical weights of the array of `jax.experimental.rnn`.

    The bias is the sum of the two.

    Args:
        blob: The array (parameters,), native or NumPy, or a mapping with it alone.
        features: `input_size`.
        units: `hidden_size`.
        layers: `num_layers`; several become a `Stack`.
        bidirectional: As there.
        return_sequences: Of the layer returned.
        return_state: Of the layer returned.

    Raises:
        ConversionError: if it is no such array, or its size is another.
    """
    if isinstance(blob, Mapping):
        if len(blob) != 1:
            raise ConversionError(
                f"from jax-blob: received {len(blob)} arrays, expected one; give that one"
            )
        (blob,) = blob.values()
    values = array("from jax-blob: the array", blob)
    sizes: dict[str, Any] = {"features": features, "units": units, "layers": layers}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConversionError(f"from jax-blob: {name} is {size!r}, expected a positive integer")
    said: Any = bidirectional
    if not isinstance(said, bool):
        raise ConversionError(
            f"from jax-blob: bidirectional is {bidirectional!r}, expected True or False"
        )
    directions = 2 if bidirectional else 1
    # As a formula, for `layers` may be anything until the sizes agree.
    inputs = features + (layers - 1) * directions * units
    count = directions * 4 * units * (inputs + layers * units + layers * 2)
    if values.shape != (count,):
        raise ConversionError(
            f"from jax-blob: the array has shape {values.shape}, expected ({count},) for "
            f"features={features}, units={units}, layers={layers}, "
            f"bidirectional={bidirectional}"
        )
    columns = 4 * units
    widths = [features, *[directions * units] * (layers - 1)]
    shapes = [(columns, rows) for width in widths for rows in (width, units) * directions]
    products = columns * (inputs * directions + layers * directions * units)
    matrices = iter(_pieces(values[:products], shapes))
    biases = iter(values[products:].reshape(-1, 2, columns))
    levels = []
    for _ in range(layers):
        weights = []
        for _ in range(directions):
            kernel, recurrent, (bias, other) = next(matrices), next(matrices), next(biases)
            summed = added("from jax-blob: the array", bias, other)
            weights.append({"kernel": kernel.T, "recurrent_kernel": recurrent.T, "bias": summed})
        levels.append(Level((LSTM(units),) * directions, tuple(weights)))
    return assemble(levels, return_sequences=return_sequences, return_state=return_state)


def to_jax_blob(layer: Any, weights: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array (parameters,) that `jax.experimental.rnn.lstm` takes as `weights`.

    `b_hh` is zeros. It has the weights' dtype; cuDNN takes float32 alone.

    Raises:
        ConversionError: if cuDNN's LSTM cannot hold the layer, naming the term.
        WeightsError: if the weights are not the layer's.
    """
    levels = disassemble("jax-blob", layer, weights)
    matrices, biases = [], []
    for level in levels:
        if level.merge_mode != "concat":
            refuse("jax-blob", layer, f"merge_mode is {level.merge_mode!r}", "expected 'concat'")
        for cell, mine in zip(level.cells, level.weights, strict=True):
            if not isinstance(cell, LSTM):
                refuse("jax-blob", layer, f"a cell is {cell}", "expected an LSTM")
            require("jax-blob", cell, activation=("tanh",), recurrent_activation=("sigmoid",))
            require("jax-blob", cell, "reverse the input instead", go_backwards=(False,))
            zeros = np.zeros(4 * cell.units, mine["kernel"].dtype)
            matrices += [mine["kernel"].T.ravel(), mine["recurrent_kernel"].T.ravel()]
            biases += [mine.get("bias", zeros), zeros]
    require_alike("jax-blob", levels)
    return np.concatenate([*matrices, *biases])


def recognises(names: Collection[str]) -> bool:
    """Return whether this is one array with the name that a file gives it."""
    return set(names) == {NAME}


def _pieces(values: NDArray[Any], shapes: Sequence[tuple[int, int]]) -> Iterator[NDArray[Any]]:
    """Yield the matrices that stand one behind another in an array."""
    start = 0
    for rows, columns in shapes:
        yield values[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
