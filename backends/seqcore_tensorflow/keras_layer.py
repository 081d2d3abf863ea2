"""A layer as a `keras.Layer`, its weights as Keras variables.

It serves Keras on TensorFlow, PyTorch, JAX and NumPy, so TensorFlow is not imported here: the
arrays that Keras hands on choose the engine. A variable's name is the canonical one with `_` for
`.`, which torch does not allow: `layers_0_forward_kernel`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from seqcore.errors import ArgumentError, ShapeError
from seqcore.spec.description import from_json
from seqcore.spec.layers import AnyLayer, Bidirectional, Stack
from seqcore.spec.outputs import output_units, state_units
from seqcore.spec.weights import cells


def to_layer(layer: AnyLayer, weights: Mapping[str, Any]) -> RecurrentLayer:
    """Return a trainable Keras layer.

    Args:
        layer: The layer.
        weights: Its canonical weights, NumPy arrays or those of the framework that Keras runs on.
            They are copied; their dtype is the Keras layer's.

    Raises:
        WeightsError: if the weights are not the layer's.
    """
    own = all(isinstance(value, np.ndarray) for value in weights.values())
    checked = layer.bind(weights, backend="numpy" if own else None).weights
    prefix, _, _ = next(cells(layer, 1))
    kernel = checked[f"{prefix}kernel"]
    made = RecurrentLayer(layer, dtype=kernel.dtype.name)
    made.build((None, None, len(kernel)))
    for name, value in checked.items():
        made.variable(name).assign(value)
    return made


@keras.saving.register_keras_serializable(package="seqcore")
class _MaskCarrier(keras.layers.Layer):  # type: ignore[misc]
    """Returns its input, with the mask attached that it is given."""

    supports_masking = True

    def call(self, inputs: Any, mask: Any = None) -> Any:
        return inputs


@keras.saving.register_keras_serializable(package="seqcore")
class RecurrentLayer(keras.layers.Layer):  # type: ignore[misc]
    """A seqcore layer that Keras trains, saves and loads as any other layer.

    It takes the mask that its input carries, and hands it on where it returns a sequence: reversed
    if its steps are. A saved model is loaded where this module has been imported, as
    `seqcore.to_keras` does.

    Attributes:
        layer: The layer's description.

    Args:
        layer: A layer of seqcore, or its JSON.
        **options: Keras's own, such as `name` and `dtype`.
    """

    def __init__(self, layer: AnyLayer | str, **options: Any) -> None:
        super().__init__(**options)
        self.layer = from_json(layer) if isinstance(layer, str) else layer
        self.supports_masking = True
        self._names: tuple[str, ...] = ()
        self._carrier = _MaskCarrier(dtype=self.dtype_policy, autocast=False)

    def build(self, input_shape: Any) -> None:
        """Make the variables, with the weights that the layer's `init` gives."""
        features = input_shape[-1]
        if self._names:  # with weights that were given
            known = self.weights[0].shape[0]
            if features != known:
                raise ShapeError(
                    f"{self.layer}: received an input of {features} features, expected {known}, "
                    "which the weights take"
                )
            return
        initial = self.layer.init(features, dtype=self.variable_dtype)
        self._names = tuple(initial)
        for name, value in initial.items():
            self.add_weight(
                name=name.replace(".", "_"),
                shape=value.shape,
                initializer=_given(value),
            )

    def variable(self, name: str) -> Any:
        """Return the Keras variable of a canonical name, once the layer is built."""
        return self.weights[self._names.index(name)]

    def canonical_weights(self) -> dict[str, Any]:
        """Return the weights by canonical name, as the methods of a layer take them."""
        return {
            name: variable.value for name, variable in zip(self._names, self.weights, strict=True)
        }

    def call(
        self, inputs: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None
    ) -> Any:
        """Run the layer.

        Args:
            inputs: (batch, time, features).
            mask: Booleans (batch, time), True at valid steps.
            lengths: Integers (batch,), instead of `mask`.
            initial_state: Arrays (batch, units) in the order of the returned state.

        Returns:
            One array, or a tuple of several in the order of the output contract.

        Raises:
            InputError: if an argument does not fit the layer.
        """
        if lengths is not None and mask is not None:
            raise ArgumentError(
                f"{self.layer}: received a mask, maybe from the layer before, and lengths, "
                "expected one of them"
            )
        given = {"mask": mask, "lengths": lengths, "initial_state": initial_state}
        outputs = self.layer.apply(self.canonical_weights(), inputs, **given)
        several = tuple(outputs) if isinstance(outputs, tuple) else (outputs,)
        if lengths is not None and self.layer.return_sequences:
            steps = keras.ops.arange(keras.ops.shape(inputs)[1], dtype="int32")
            ends = keras.ops.expand_dims(keras.ops.cast(lengths, "int32"), 1)
            valid = self._ordered(steps < ends)
            count = len(output_units(self.layer))
            carried = (self._carrier(y, mask=valid) for y in several[:count])
            several = (*carried, *several[count:])
        return several if isinstance(outputs, tuple) else several[0]

    def compute_mask(self, inputs: Any, previous_mask: Any = None) -> Any:
        """Return the mask of each output, or of the one."""
        shapes = self.compute_output_shape(inputs.shape)
        mask = None
        if previous_mask is not None and self.layer.return_sequences:
            mask = self._ordered(previous_mask)
        if not isinstance(shapes, list):
            return mask
        return [mask if len(shape) == 3 else None for shape in shapes]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the shape of each output in a list, or of the one."""
        batch, time = input_shape[0], input_shape[1]
        leading = (batch, time) if self.layer.return_sequences else (batch,)
        shapes = [(*leading, units) for units in output_units(self.layer)]
        if self.layer.return_state:
            shapes += [(batch, units) for units in state_units(self.layer)]
        return shapes if len(shapes) > 1 else shapes[0]

    def compute_output_spec(
        self, inputs: Any, mask: Any = None, lengths: Any = None, initial_state: Any = None
    ) -> Any:
        """Return a symbolic tensor for each output, or for the one."""
        shapes = self.compute_output_shape(inputs.shape)
        if not isinstance(shapes, list):
            return keras.KerasTensor(shapes, dtype=self.compute_dtype)
        return tuple(keras.KerasTensor(shape, dtype=self.compute_dtype) for shape in shapes)

    def get_config(self) -> dict[str, Any]:
        """Return what makes the layer again, without its weights."""
        return {**super().get_config(), "layer": self.layer.to_json()}

    def _ordered(self, mask: Any) -> Any:
        """Return a mask of the input in the order of the steps that are returned."""
        members = self.layer.layers if isinstance(self.layer, Stack) else (self.layer,)
        turns = sum(
            member.go_backwards and not member.keep_order
            for member in members
            if not isinstance(member, Bidirectional)
        )
        return keras.ops.flip(mask, 1) if turns % 2 else mask


def _given(value: np.ndarray[Any, Any]) -> Any:
    """Return a Keras initializer that gives these numbers."""

    def initializer(shape: Any, dtype: Any = None) -> Any:
        return keras.ops.convert_to_tensor(value, dtype=dtype)

    return initializer
