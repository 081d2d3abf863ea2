"""Keras's recurrent layers, and models that are a chain of them: their weights, in and out.

Each cell has `kernel` (features, gates*units), `recurrent_kernel` (units, gates*units) and with
`use_bias` a `bias` (gates*units), in the order i f g o and z r n, which are the canonical weights.
A GRU that resets after the product has one `bias` (2, 3*units), whose rows are `bias` and
`recurrent_bias`. The forward direction comes before the backward one.

Source: https://keras.io/api/layers/recurrent_layers/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any

from numpy.typing import NDArray

from seqcore.errors import ConversionError, SpecError
from seqcore.interchange.arrays import array, leaves
from seqcore.interchange.keras.config import (
    Description,
    Flags,
    Part,
    Words,
    check_holds,
    described,
    levels,
    member,
    members,
    model_description,
    ordered,
    weight_count,
)
from seqcore.interchange.keras.shapes import LAYERS, from_list, from_paths, recognises
from seqcore.interchange.levels import Converted, Level, assemble, disassemble
from seqcore.interchange.modules import from_module
from seqcore.interchange.terms import refuse
from seqcore.spec.activations import ACTIVATIONS
from seqcore.spec.layers import AnyLayer, Layer, Stack
from seqcore.spec.outputs import merges, state_names

__all__ = ["chain", "from_keras", "keras_config", "recognises", "to_keras"]

_SUBJECT = "from keras"


def from_keras(
    source: Any,
    *,
    layer: AnyLayer | str | None = None,
    name: str | None = None,
    reset_after: bool | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    return_sequences: bool | None = None,
    return_state: bool | None = None,
) -> Converted:
    """Return the layer and the canonical weights of Keras layers, or of their weights alone.

    Dropout, initializers, regularizers and constraints act in training and are not converted, nor
    how a layer runs (`unroll`, `implementation`, `use_cudnn`, a mixed dtype policy); `InputLayer`,
    `Masking` and `Dropout` layers are passed over, so give `apply` the mask.

    Args:
        source: A built SimpleRNN, LSTM, GRU, RNN or Bidirectional; a Sequential or functional model
            that is a chain of such layers; a pair of a config, as Keras serialises either, and
            weights, in a list or by the layers' names; a list of weights as `get_weights()` gives
            it; or weights by path, as files and variables name them.
        layer: Where the source is weights alone and their shapes leave open what they are: a layer
            of seqcore, or `"LSTM"`, `"GRU"`, `"SimpleRNN"` or `"Bidirectional"`, which all are.
        name: The one layer to convert, of a model that has others.
        reset_after: Of GRUs without a bias whose source does not say it.
        activation: Of weights alone, which don't say it; Keras's default is `"tanh"`.
        recurrent_activation: Of weights alone; Keras's default is `"sigmoid"`.
        return_sequences: Of the layer returned; by default as the source says, True for weights
            alone.
        return_state: Of the layer returned; by default as the source says, False for weights alone.

    A layer of `seqcore.to_keras` gives its own layer, with the weights as they are now.

    Weights alone are read as those of layers with Keras's defaults in all that is not said: masked
    steps carry the output, but in a Bidirectional, which concatenates.

    Raises:
        ConversionError: if the source holds what no layer is, other layers beside the recurrent
            ones, or leaves open what it means.
    """
    said = {
        "layer": layer,
        "name": name,
        "reset_after": reset_after,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
    }
    own = from_module(_SUBJECT, source, said, return_sequences, return_state)
    if own is not None:
        return own
    words = Words(activation, recurrent_activation, reset_after)
    found, outputs, version = _read(source, layer, name, words)
    read = []
    for index, part in enumerate(found):
        read.append(levels(_where(part, index, len(found)), part, words, version))
    alone = outputs is _WEIGHTS_ALONE
    flags = _flags(read, None if alone else outputs, return_state)
    if alone and not isinstance(layer, Layer):
        flags = Flags(return_sequences=True, return_state=False)
    try:
        return assemble(
            [level for some, _ in read for level in some],
            return_sequences=_chosen(return_sequences, flags.return_sequences),
            return_state=_chosen(return_state, flags.return_state),
        )
    except (ConversionError, SpecError) as error:
        raise ConversionError(f"{_SUBJECT}: {error}") from None


def to_keras(layer: Any, weights: Mapping[str, Any]) -> list[NDArray[Any]]:
    """Return the weights as `set_weights` of a Keras layer or model takes them.

    What it is set on is what `keras_config` describes: layers with the same options, one for each
    member of a stack.

    Raises:
        ConversionError: if Keras's layers cannot be what the layer is, naming the term.
        WeightsError: if the weights are not the layer's.
    """
    found = []
    for level in disassemble("keras", layer, weights):
        check_holds(level.cells)
        for cell, mine in zip(level.cells, level.weights, strict=True):
            found += ordered(cell, mine)
    return found


def keras_config(layer: Any, features: int, *, dtype: str = "float32") -> dict[str, Any]:
    """Return a Sequential model as Keras serialises it.

    `keras.saving.deserialize_keras_object` makes the model.

    Args:
        layer: The layer.
        features: The size of the last axis of the input.
        dtype: The data type of weights and computation.

    Raises:
        ConversionError: if Keras's layers cannot be what the layer is, naming the term.
    """
    if not isinstance(layer, Layer) or not isinstance(layer, AnyLayer):
        raise ConversionError(
            f"to keras: the first argument is {type(layer).__name__}, expected a layer"
        )
    *inner, last = layer.layers if isinstance(layer, Stack) else (layer,)
    if inner and layer.return_state:
        refuse(
            "keras",
            layer,
            "return_state is True, which gives every member's state",
            "set return_state=False, for a Sequential model returns the last member's alone",
        )
    returns = [Flags(True, False)] * len(inner)
    returns.append(Flags(layer.return_sequences, layer.return_state))
    found = [
        described(member, flags, dtype, f"layer_{index}")
        for index, (member, flags) in enumerate(zip([*inner, last], returns, strict=True))
    ]
    return model_description(found, features, dtype)


def chain(
    source: Any,
    *,
    layer: AnyLayer | str | None = None,
    name: str | None = None,
    reset_after: bool | None = None,
    activation: str | None = None,
    recurrent_activation: str | None = None,
) -> list[Part]:
    """Return the Keras layers that a source describes, each with its own weights, not converted.

    Arguments and errors are those of `from_keras`.
    """
    words = Words(activation, recurrent_activation, reset_after)
    found, _, _ = _read(source, layer, name, words)
    return found


_WEIGHTS_ALONE = -1
"""In the place of the number of a model's outputs, where weights say nothing of it."""


def _read(
    source: Any, layer: Any, name: str | None, words: Words
) -> tuple[list[Part], int | None, str]:
    """Return Keras layers with their weights, how many outputs are used, and Keras's version."""
    if layer is not None and not isinstance(layer, Layer) and layer not in LAYERS:
        raise ConversionError(
            f"{_SUBJECT}: layer is {layer!r}, expected a layer of seqcore or one of "
            f"{', '.join(LAYERS)}"
        )
    keras = sys.modules.get("keras")
    if keras is not None and isinstance(source, keras.layers.Layer):
        description, weights = _live(keras, source, name)
    elif _is_pair(source):
        description, weights = _description(source[0]), source[1]
        if name is not None:
            description = member(_SUBJECT, description, name)
            weights = _of_name(weights, name)
    elif isinstance(source, Mapping) and "class_name" not in source:
        return from_paths(_SUBJECT, _by_path(source), name, layer, words), _WEIGHTS_ALONE, "3"
    elif isinstance(source, Sequence) and not isinstance(source, str | bytes):
        if name is not None:
            raise ConversionError(
                f"{_SUBJECT}: name={name!r} was given for a list of weights, which has no names; "
                "leave it out"
            )
        return from_list(_SUBJECT, _arrays(source), layer, words), _WEIGHTS_ALONE, "3"
    else:
        raise ConversionError(
            f"{_SUBJECT}: received {type(source).__name__}, expected a Keras layer or model, a "
            "list of weights, weights by path, or a pair of a config and weights"
        )
    if layer is not None:
        raise ConversionError(
            f"{_SUBJECT}: layer={layer!r} was given for a source that says itself what it is; "
            "leave it out"
        )
    version = description.get("keras_version", "3")
    found, outputs = members(_SUBJECT, description)
    return _dealt(found, weights), outputs, str(version)


def _live(keras: Any, source: Any, name: str | None) -> tuple[Description, Any]:
    """Return the description and the weights of a live layer, or of a model's layer of a name."""
    kind = type(source)
    is_model = kind is keras.Sequential or (kind.__name__ == "Functional" and _is_keras(kind))
    if name is not None:
        inner = [one for one in source.layers if one.name == name] if is_model else []
        if len(inner) != 1:
            names = ", ".join(one.name for one in source.layers) if is_model else "none"
            raise ConversionError(
                f"{_SUBJECT}: {source.name!r} has no layer {name!r}, expected one of {names}"
            )
        return _live(keras, inner[0], None)
    if not is_model and getattr(keras.layers, kind.__name__, None) is not kind:
        raise ConversionError(
            f"{_SUBJECT}: {kind.__module__}.{kind.__name__} is not one of Keras's own layers, so "
            "its equations are not known here; expected SimpleRNN, LSTM, GRU, RNN, Bidirectional, "
            "or a Sequential or functional model of them, or a layer of seqcore.to_keras itself"
        )
    for one in source.layers if is_model else (source,):
        _check_functions(keras, one)
    try:
        config = source.get_config()
    except Exception as error:  # whatever a user's own cell or layer raises
        raise ConversionError(
            f"{_SUBJECT}: Keras cannot describe {source.name!r}, as where a cell is one's own: "
            f"{type(error).__name__}: {error}"
        ) from error
    weights = {one.name: one.get_weights() for one in source.layers} if is_model else None
    description = {
        "class_name": kind.__name__,
        "config": config,
        "keras_version": keras.__version__,
    }
    return description, source.get_weights() if weights is None else weights


def _check_functions(keras: Any, layer: Any) -> None:
    """Check that the activations of a live layer are Keras's, not one's own of the same name.

    Raises:
        ConversionError: otherwise; a config has nothing but the name.
    """
    layers = keras.layers
    if isinstance(layer, layers.Bidirectional):
        inner = [layer.forward_layer, layer.backward_layer]
    elif isinstance(layer, layers.RNN):
        inner = [layer.cell]
    elif isinstance(layer, layers.StackedRNNCells):
        inner = layer.cells
    else:
        inner = []
        gated = isinstance(layer, layers.LSTMCell | layers.GRUCell)
        if gated or isinstance(layer, layers.SimpleRNNCell):
            for field in ("activation", "recurrent_activation")[: 1 + gated]:
                function = getattr(layer, field)
                if isinstance(function, FunctionType) and not _is_keras(function):
                    raise ConversionError(
                        f"{_SUBJECT}: {layer.name!r}: {field} is the function "
                        f"{function.__name__!r} of {function.__module__}, which layers have not; "
                        f"expected one of {', '.join(ACTIVATIONS)}"
                    )
    for one in inner:
        _check_functions(keras, one)


def _is_keras(value: Any) -> bool:
    return str(value.__module__).split(".")[0] == "keras"


def _is_pair(source: Any) -> bool:
    return (
        isinstance(source, tuple | list)
        and len(source) == 2
        and isinstance(source[0], Mapping | str)
    )


def _description(config: Mapping[str, Any] | str) -> Description:
    """Return a description from a config as `get_config`, `to_json` or Keras's saving gives it."""
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{_SUBJECT}: the config is not valid JSON: {error}") from None
    if not isinstance(config, Mapping):
        raise ConversionError(f"{_SUBJECT}: the config is {type(config).__name__}, expected a dict")
    if "class_name" in config:
        return config
    for key, kind in _TELLING.items():
        if key in config:
            return {"class_name": kind, "config": config}
    raise ConversionError(
        f"{_SUBJECT}: the config is not one of a recurrent layer, expected units, cell, layer or "
        "layers in it, or {'class_name': ..., 'config': {...}}"
    )


# A config as `get_config()` gives it has no class; the first of these that it has tells it.
_TELLING = {
    "output_layers": "Functional",
    "layers": "Sequential",
    "merge_mode": "Bidirectional",
    "cell": "RNN",
    "reset_after": "GRU",
    "unit_forget_bias": "LSTM",
    "units": "SimpleRNN",
}


def _of_name(weights: Any, name: str) -> Any:
    if not isinstance(weights, Mapping):
        raise ConversionError(
            f"{_SUBJECT}: name={name!r} was given, and the weights are a list, which does not say "
            "whose they are; give them by the layers' names, {layer.name: layer.get_weights()}"
        )
    return weights.get(name, ())


def _dealt(found: Sequence[Description], weights: Any) -> list[Part]:
    """Return descriptions with their weights, from a list or by the layers' names."""
    if isinstance(weights, Mapping):
        dealt = []
        for index, one in enumerate(found):
            name = one["config"].get("name")
            if name not in weights:
                raise ConversionError(
                    f"{_SUBJECT}: no weights for layer {index}, {name!r}; expected a list of them "
                    "under that name"
                )
            dealt.append(Part(one, _arrays(weights[name])))
        return dealt
    left = list(_arrays(weights))
    dealt = []
    for index, one in enumerate(found):
        last = index == len(found) - 1
        # Whatever is left over goes to the last, whose reading says that it is too much.
        count = len(left) if last else weight_count(_SUBJECT, one)
        dealt.append(Part(one, tuple(left[:count])))
        del left[:count]
    return dealt


def _arrays(weights: Any) -> tuple[NDArray[Any], ...]:
    if not isinstance(weights, Sequence) or isinstance(weights, str | bytes):
        raise ConversionError(
            f"{_SUBJECT}: the weights are {type(weights).__name__}, expected a list of arrays"
        )
    return tuple(
        array(f"{_SUBJECT}: weight {index}", _unwrapped(value))
        for index, value in enumerate(weights)
    )


def _by_path(weights: Mapping[Any, Any]) -> dict[str, NDArray[Any]]:
    return {
        path: array(f"{_SUBJECT}: {path}", _unwrapped(value))
        for path, value in leaves(_SUBJECT, weights).items()
    }


def _unwrapped(value: Any) -> Any:
    """Return what a Keras variable holds; on TensorFlow it is none of TensorFlow's own."""
    keras = sys.modules.get("keras")
    return value.value if keras is not None and isinstance(value, keras.Variable) else value


def _where(part: Part, index: int, count: int) -> str:
    return (
        f"{_SUBJECT}: layer {index} ({part.description['class_name']})" if count > 1 else _SUBJECT
    )


def _flags(
    read: Sequence[tuple[list[Level], Flags]], outputs: int | None, return_state: bool | None
) -> Flags:
    """Return what a chain of layers returns, as Keras has it.

    Raises:
        ConversionError: if a layer before the last does not return its sequence alone, or no stack
            returns what the chain does.
    """
    *inner, (last, flags) = read
    for index, (_, one) in enumerate(inner):
        if not one.return_sequences or one.return_state:
            raise ConversionError(
                f"{_SUBJECT}: layer {index} has return_sequences={one.return_sequences} and "
                f"return_state={one.return_state}, and another layer follows; expected True, False"
            )
    if outputs is not None:
        made, _ = assemble(last, return_state=flags.return_state)
        sequences = 1 if merges(made) else 2
        if outputs == sequences:
            flags = Flags(flags.return_sequences, return_state=False)
        elif outputs != sequences + len(state_names(made)) * flags.return_state:
            raise ConversionError(
                f"{_SUBJECT}: the model returns {outputs} of its last layer's outputs, expected "
                "all, or no states"
            )
    if inner and flags.return_state and return_state is None:
        raise ConversionError(
            f"{_SUBJECT}: the model returns its last layer's state alone, and a stack returns "
            "every member's or none; give return_state=True or False"
        )
    return flags


def _chosen(said: bool | None, found: bool) -> bool:
    return found if said is None else said
