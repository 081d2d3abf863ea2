"""A layer of the specification as Keras layers, option by option and weight by weight.

Nothing that Keras computes is corrected here. What Keras has no option for is not mapped:
`KerasLayers.refuses` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from seqcore.ops import Array
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, Stack
from seqcore.spec.outputs import state_names
from seqcore.spec.weights import parts


def tensor(value: Array) -> Any:
    """Return a NumPy array as a tensor of Keras's framework that shares no memory with it."""
    own = np.array(value, order="C")
    return keras.ops.convert_to_tensor(own, dtype=own.dtype.name)


def array(value: Any) -> Array:
    """Return a tensor as a NumPy array that shares no memory with it."""
    return keras.ops.convert_to_numpy(value)


class Chain:
    """One Keras layer, or several one after another, built and with their weights.

    Attributes:
        members: The Keras layers, each with the number of its states.
        variables: The Keras variables that hold the weights.

    Args:
        layer: A cell, a `Bidirectional` or a `Stack`.
        weights: The canonical weights.
        dtype: Keras's `dtype` of all layers.
        unroll: Keras's `unroll` of all layers.
    """

    def __init__(
        self, layer: AnyLayer, weights: Mapping[str, Array], dtype: str, *, unroll: bool
    ) -> None:
        self.members: list[tuple[Any, int]] = []
        self._cells: list[tuple[str, AnyCell, Any]] = []
        members = parts(layer) if isinstance(layer, Stack) else (("", layer),)
        for prefix, member in members:
            made = _keras_layer(member, dtype=dtype, unroll=unroll)
            cells = list(_cells(prefix, member, made))
            made.build((None, None, len(weights[f"{cells[0][0]}kernel"])))
            self.members.append((made, len(state_names(member))))
            self._cells += cells
        for prefix, _, keras_cell in self._cells:
            _assign(keras_cell, prefix, weights)
        self.variables = [v for _, _, keras_cell in self._cells for v in _variables(keras_cell)]

    def __call__(self, x: Any, mask: Any, state: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
        """Run the layers.

        The first layer is given the mask. To the others Keras hands it on, attached to the
        sequence, as it does in a model.

        Returns:
            The last layer's sequences, one or two, and all final states.
        """
        final: tuple[Any, ...] = ()
        given = {} if mask is None else {"mask": mask}
        sequences: tuple[Any, ...] = (x,)
        for made, count in self.members:
            mine, state = list(state[:count]), state[count:]
            outputs = made(sequences[0], initial_state=mine, **given)
            sequences, after = outputs[:-count], outputs[-count:]
            final += tuple(after)
            given = {}
        return tuple(sequences), final

    def by_name(self, gradients: Sequence[Any]) -> dict[str, Array]:
        """Return gradients of `variables`, in their order, by canonical name."""
        rest = iter(gradients)
        named = {}
        for prefix, cell, _ in self._cells:
            named[f"{prefix}kernel"] = array(next(rest))
            named[f"{prefix}recurrent_kernel"] = array(next(rest))
            if cell.use_bias:
                bias = array(next(rest))
                if _two_biases(cell):
                    bias, named[f"{prefix}recurrent_bias"] = np.array(bias[0]), np.array(bias[1])
                named[f"{prefix}bias"] = bias
        return named


def _keras_layer(layer: AnyLayer, **common: Any) -> Any:
    """Return an unbuilt Keras layer that returns its sequence and its state."""
    assert not isinstance(layer, Stack)
    if not isinstance(layer, Bidirectional):
        return _keras_recurrent(layer, layer.go_backwards, **common)
    merge_mode = None if layer.merge_mode == "none" else layer.merge_mode
    forward = _keras_recurrent(layer.forward, False, **common)
    # Where both members are alike, Keras makes the backward one itself.
    backward = None
    if layer.backward_layer is not None:
        backward = _keras_recurrent(layer.backward, True, **common)
    return keras.layers.Bidirectional(
        forward, merge_mode=merge_mode, backward_layer=backward, dtype=common["dtype"]
    )


def _keras_recurrent(cell: AnyCell, go_backwards: bool, **common: Any) -> Any:
    options: dict[str, Any] = {
        "units": cell.units,
        "activation": cell.activation,
        "use_bias": cell.use_bias,
        "go_backwards": go_backwards,
        "zero_output_for_mask": cell.mask_output == "zero",
        "return_sequences": True,
        "return_state": True,
        # The weights are given; initializers of Keras have no part in the specification.
        "kernel_initializer": "zeros",
        "recurrent_initializer": "zeros",
        "bias_initializer": "zeros",
        **common,
    }
    match cell:
        case LSTM():
            return keras.layers.LSTM(recurrent_activation=cell.recurrent_activation, **options)
        case GRU():
            return keras.layers.GRU(
                recurrent_activation=cell.recurrent_activation,
                reset_after=cell.reset_after,
                **options,
            )
    return keras.layers.SimpleRNN(**options)


def _cells(prefix: str, layer: AnyLayer, made: Any) -> Iterator[tuple[str, AnyCell, Any]]:
    """Yield the cells of a member: the prefix of their weights, the spec's, and Keras's."""
    if isinstance(layer, Bidirectional):
        yield f"{prefix}forward.", layer.forward, made.forward_layer.cell
        yield f"{prefix}backward.", layer.backward, made.backward_layer.cell
    else:
        assert not isinstance(layer, Stack)
        yield prefix, layer, made.cell


def _two_biases(cell: AnyCell) -> bool:
    return isinstance(cell, GRU) and cell.reset_after


def _variables(keras_cell: Any) -> list[Any]:
    weights = [keras_cell.kernel, keras_cell.recurrent_kernel]
    return weights if keras_cell.bias is None else [*weights, keras_cell.bias]


def _assign(keras_cell: Any, prefix: str, weights: Mapping[str, Array]) -> None:
    keras_cell.kernel.assign(tensor(weights[f"{prefix}kernel"]))
    keras_cell.recurrent_kernel.assign(tensor(weights[f"{prefix}recurrent_kernel"]))
    if keras_cell.bias is not None:
        bias = weights[f"{prefix}bias"]
        recurrent = weights.get(f"{prefix}recurrent_bias")
        both = bias if recurrent is None else np.stack([bias, recurrent])
        keras_cell.bias.assign(tensor(both))
