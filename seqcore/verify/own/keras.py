"""Keras weights run by Keras's own layers, with the mask that the lengths are."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import BackendNotInstalled, ConversionError
from seqcore.interchange.keras import chain

Named = dict[str, NDArray[Any]]

# What a description says of the layer's function; nothing else of it reaches Keras.
_CELL = ("units", "activation", "use_bias")
_OPTIONS = (
    *_CELL,
    "recurrent_activation",
    "reset_after",
    "go_backwards",
    "zero_output_for_mask",
)
_FLAGS = ("return_sequences", "return_state")
_CLASSES = (
    "SimpleRNN",
    "SimpleRNNCell",
    "LSTM",
    "LSTMCell",
    "GRU",
    "GRUCell",
    "RNN",
    "StackedRNNCells",
    "Bidirectional",
)


def run(
    structure: Any,
    words: Mapping[str, Any],
    x: NDArray[Any],
    lengths: NDArray[Any] | None,
) -> Named:
    """Return the sequence and the final states, as Keras's layers compute them one after another.

    Each layer is given the mask in the order of its own steps; a Keras model hands it on unreversed
    after `go_backwards` (keras issue 3737). Two sequences that a layer does not merge are side by
    side.

    Args:
        structure: As `from_keras` takes it, the arrays being NumPy's.
        words: Its keyword arguments.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if Keras is not installed, or what it runs on.
        ConversionError: if the structure describes no chain of Keras's layers.
    """
    keras = _keras()
    said = {name: value for name, value in words.items() if name not in _FLAGS}
    known = {name: value for name, value in words.items() if name in _OPTIONS and value is not None}
    mask = None if lengths is None else np.arange(x.shape[1]) < np.asarray(lengths)[:, None]
    states: list[Named] = []
    with _numbers(keras, x.dtype.name):
        y = keras.ops.convert_to_tensor(x, dtype=x.dtype.name)
        for part in chain(structure, **said):
            layer = _layer(keras, part.description, known, {"dtype": x.dtype.name})
            layer.build((None, None, y.shape[-1]))
            try:
                layer.set_weights(list(part.weights))
            except ValueError as error:
                raise ConversionError(f"keras: {error}") from error
            outputs = layer(y, mask=None if mask is None else keras.ops.convert_to_tensor(mask))
            sequences = outputs[: 1 + (part.description["config"].get("merge_mode", "") is None)]
            states += _named(keras, layer, outputs[len(sequences) :])
            y = keras.ops.concatenate(sequences, axis=-1) if len(sequences) > 1 else sequences[0]
            if mask is not None and part.description["config"].get("go_backwards"):
                mask = np.flip(mask, 1)
        found = {"y": keras.ops.convert_to_numpy(y)}
    for index, level in enumerate(states):
        prefix = f"layers_{index}_" if len(states) > 1 else ""
        found |= {prefix + name: value for name, value in level.items()}
    return found


def _layer(keras: Any, description: Any, words: Mapping[str, Any], common: dict[str, Any]) -> Any:
    """Return an unbuilt Keras layer or cell, made by its class from the options that matter."""
    name, config = description["class_name"], description["config"]
    if name not in _CLASSES:
        raise ConversionError(f"keras: {name} is no recurrent layer of Keras, expected one")
    options = {key: config[key] for key in _OPTIONS if key in config}
    options |= {key: value for key, value in words.items() if key not in options}
    if name == "Bidirectional":
        forward, backward = config["layer"], config.get("backward_layer")
        return keras.layers.Bidirectional(
            _layer(keras, forward, words, common),
            merge_mode=config.get("merge_mode", "concat"),
            backward_layer=backward and _layer(keras, backward, words, common),
            **common,
        )
    if name == "StackedRNNCells":
        cells = [_layer(keras, cell, words, common) for cell in config["cells"]]
        return keras.layers.StackedRNNCells(cells, **common)
    taken: tuple[str, ...] = () if name == "RNN" else _CELL
    if name.startswith(("LSTM", "GRU")):
        taken += ("recurrent_activation",)
    if name.startswith("GRU"):
        taken += ("reset_after",)
    if name != "RNN":
        # Weights are given; the usual orthogonal ones need what TensorFlow has not in bfloat16.
        common = {"recurrent_initializer": "zeros", **common}
    if name.endswith("Cell"):
        chosen = {key: value for key, value in options.items() if key in taken}
        return getattr(keras.layers, name)(**chosen, **common)
    taken += ("go_backwards", "zero_output_for_mask")
    chosen = {key: value for key, value in options.items() if key in taken}
    chosen |= {"return_sequences": True, "return_state": True, **common}
    if name == "RNN":
        return keras.layers.RNN(_layer(keras, config["cell"], words, common), **chosen)
    if name != "SimpleRNN":
        # The loop over the cell, whose numbers are the same everywhere.
        chosen["use_cudnn"] = False
    return getattr(keras.layers, name)(**chosen)


def _named(keras: Any, layer: Any, states: Any) -> list[Named]:
    """Return the final states of a layer, by name for each level."""
    values = iter([keras.ops.convert_to_numpy(value) for value in keras.tree.flatten(states)])
    if isinstance(layer, keras.layers.Bidirectional):
        both = (("forward_", layer.forward_layer.cell), ("backward_", layer.backward_layer.cell))
        return [
            {
                prefix + name: next(values)
                for prefix, cell in both
                for name in _state_names(keras, cell)
            }
        ]
    cells = layer.cell.cells if isinstance(layer.cell, keras.layers.StackedRNNCells) else None
    return [
        {name: next(values) for name in _state_names(keras, cell)} for cell in cells or [layer.cell]
    ]


def _state_names(keras: Any, cell: Any) -> str:
    return "hc" if isinstance(cell, keras.layers.LSTMCell) else "h"


def _keras() -> Any:
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise BackendNotInstalled(
            f"keras cannot be imported: {error}; pip install keras tensorflow, or install another "
            "framework that Keras runs on and name it in KERAS_BACKEND"
        ) from error


@contextlib.contextmanager
def _numbers(keras: Any, dtype: str) -> Iterator[None]:
    """Let Keras compute in `dtype`.

    Except on TensorFlow it computes products of float64 in float32, as a table of its own says
    (keras issues 23223 and 23704), and JAX has no float64 unless it is asked for.
    """
    backend = keras.backend.backend()
    if dtype != "float64" or backend == "tensorflow":
        yield
        return
    with contextlib.ExitStack() as stack:
        if backend == "jax":
            stack.enter_context(importlib.import_module("jax").enable_x64(True))
        table = importlib.import_module("keras.src.backend.common.dtypes").BIT64_TO_BIT32_DTYPE
        before = table["float64"]
        table["float64"] = "float64"
        try:
            yield
        finally:
            table["float64"] = before
