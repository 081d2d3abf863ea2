"""The array of `jax.experimental.rnn`, run by the reference that JAX has beside cuDNN's LSTM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from seqcore.verify.own.jax_levels import Array, Named, library, precision


def run(structure: Any, words: Mapping[str, Any], x: Array, lengths: Array | None) -> Named:
    """Return the sequence and the final states, as `lstm_ref` computes them.

    Args:
        structure: As `from_jax_blob` takes it, the array being NumPy's.
        words: Its keyword arguments.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if JAX is not installed.
    """
    jnp, rnn = library("jax.numpy", "jax"), library("jax.experimental.rnn", "jax")
    if isinstance(structure, Mapping):
        (structure,) = structure.values()
    layers, both = words.get("layers", 1), bool(words.get("bidirectional", False))
    sizes = words["features"], words["units"], layers
    batch, time, _ = x.shape
    if lengths is None:
        lengths = np.full(batch, time)
    with precision(x):
        parameters = rnn.unpack_lstm_weights(jnp.asarray(structure), *sizes, both)
        zeros = jnp.zeros(((2 if both else 1) * layers, batch, words["units"]), x.dtype)
        counts = jnp.asarray(lengths, jnp.int32)
        y, h, c = rnn.lstm_ref(jnp.asarray(x), zeros, zeros, *parameters, counts, *sizes, 0.0, both)
        outputs = {"y": np.asarray(y)}
        # By level, forward before backward.
        for index in range(len(zeros)):
            level, backward = divmod(index, 2 if both else 1)
            prefix = f"layers_{level}_" if layers > 1 else ""
            if both:
                prefix += "backward_" if backward else "forward_"
            outputs |= {f"{prefix}h": np.asarray(h[index]), f"{prefix}c": np.asarray(c[index])}
    return outputs
