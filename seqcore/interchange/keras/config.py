"""Keras's descriptions of layers, which are trees of plain values, read and written.

A description is `{"class_name": "LSTM", "config": {"units": 4, ...}}`, as Keras serialises it. Only
Keras's own recurrent layers are taken, and only their fields are read: nothing in a description is
looked up, imported or called.

Source: https://keras.io/api/layers/recurrent_layers/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError, SpecError
from seqcore.interchange.arrays import shaped
from seqcore.interchange.levels import Level, Weights
from seqcore.interchange.terms import refuse
from seqcore.spec.activations import ACTIVATIONS
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyMember, Bidirectional, SimpleRNN

Array = NDArray[Any]
Description = Mapping[str, Any]

CELLS: Mapping[str, type[AnyCell]] = {"SimpleRNN": SimpleRNN, "LSTM": LSTM, "GRU": GRU}
"""The cells by the names of Keras's layers."""

DEFAULTS = {"activation": "tanh", "recurrent_activation": "sigmoid"}
"""What Keras's layers have where nothing is said."""

MODELS = ("Sequential", "Functional", "Model")

# They prepare the input, or act in training alone.
_ASIDE = ("InputLayer", "Masking", "Dropout", "SpatialDropout1D")

# What Keras makes of a Masking layer in a functional model.
_MASK_OPERATIONS = ("NotEqual", "Any")

_READ = {
    "units",
    "activation",
    "recurrent_activation",
    "use_bias",
    "reset_after",
    "return_sequences",
    "return_state",
    "go_backwards",
    "zero_output_for_mask",
    "cell",
    "layer",
    "backward_layer",
    "merge_mode",
}

# How the layer is named, initialised, trained or run; none of it changes what it computes then.
_HARMLESS = {
    "name",
    "trainable",
    "dtype",
    "batch_input_shape",
    "kernel_initializer",
    "recurrent_initializer",
    "bias_initializer",
    "unit_forget_bias",
    "kernel_regularizer",
    "recurrent_regularizer",
    "bias_regularizer",
    "activity_regularizer",
    "kernel_constraint",
    "recurrent_constraint",
    "bias_constraint",
    "dropout",
    "recurrent_dropout",
    "seed",
    "unroll",
    "implementation",
    "use_cudnn",
}

_REFUSED = {
    "stateful": "layers keep no state between calls; set stateful=False and feed the returned "
    "state back as initial_state",
    "time_major": "arrays are (batch, time, features); set time_major=False",
}


@dataclass(frozen=True, slots=True)
class Part:
    """One Keras layer of a chain, and its weights.

    Attributes:
        description: As Keras serialises it.
        weights: In Keras's order.
    """

    description: Description
    weights: tuple[Array, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """What was said beside a description, where it leaves it open, or None.

    Attributes:
        activation: Of every cell.
        recurrent_activation: Of every cell that has one.
        reset_after: Of every GRU.
    """

    activation: str | None = None
    recurrent_activation: str | None = None
    reset_after: bool | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """What a Keras layer returns."""

    return_sequences: bool
    return_state: bool


def members(subject: str, description: Description) -> tuple[list[Description], int | None]:
    """Return the recurrent layers of a model that is a chain of them, or of one layer.

    Returns:
        Their descriptions, and how many of the last one's outputs the model returns; None for all.

    Raises:
        ConversionError: if it is no chain, or another layer is in it.
    """
    name, config = _named(subject, description)
    if name not in MODELS:
        return [description], None
    layers = config.get("layers")
    if not isinstance(layers, list | tuple) or not all(isinstance(one, Mapping) for one in layers):
        raise ConversionError(f"{subject}: {name} without a list of layers in its config")
    outputs = None
    if name != "Sequential":
        layers, outputs = _chained(subject, config, layers)
    found: list[Description] = []
    for one in layers:
        if _is_recurrent(subject, one):
            found.append(one)
        elif found and one.get("class_name") == "Masking":
            raise ConversionError(
                f"{subject}: a Masking layer behind {found[-1]['config'].get('name')!r} masks by "
                "what that returns, which layers cannot; expected it before all of them"
            )
    if not found:
        raise ConversionError(
            f"{subject}: a model without a recurrent layer, expected SimpleRNN, LSTM, GRU, RNN or "
            "Bidirectional"
        )
    return found, outputs


def member(subject: str, description: Description, name: str) -> Description:
    """Return the one layer of a name in a model.

    Raises:
        ConversionError: if there is none, or it is no recurrent layer.
    """
    _, config = _named(subject, description)
    layers = config.get("layers")
    found = {}
    for one in layers if isinstance(layers, list | tuple) else []:
        _, inner = _named(subject, one)
        found[str(inner.get("name"))] = one
    if name not in found:
        raise ConversionError(
            f"{subject}: no layer {name!r}, expected one of {', '.join(found) or 'none'}"
        )
    _check_recurrent(f"{subject}: layer {name!r}", found[name])
    return {**found[name], "keras_version": description.get("keras_version", "3")}


def weight_count(subject: str, description: Description) -> int:
    """Return how many weights a recurrent layer has.

    Raises:
        ConversionError: if it is none, or no description of one.
    """
    name, config = _check_recurrent(subject, description)
    cells: list[tuple[str, Description]] = []
    if name == "Bidirectional":
        for where, one in _directions(subject, config):
            cells += _cells(where, *_check_recurrent(where, one))
    else:
        cells += _cells(subject, name, config)
    return sum(3 if _boolean(subject, one, "use_bias", True) else 2 for _, one in cells)


def levels(subject: str, part: Part, words: Words, version: str = "3") -> tuple[list[Level], Flags]:
    """Return one Keras layer as levels, and what it returns.

    Args:
        subject: What is read, for messages.
        part: The layer with its weights.
        words: What was said beside it.
        version: Of the Keras that wrote it.

    Raises:
        ConversionError: if a layer of the specification cannot be what it is, naming the term.
    """
    name, config = _check_recurrent(subject, part.description)
    _check_fields(subject, config)
    weights = list(part.weights)
    read = _Reader(words, version)
    found: list[Level]
    if name == "Bidirectional":
        found, flags = _bidirectional(subject, config, weights, read)
    else:
        flags = _flags(subject, config)
        cells = _cells(subject, name, config)
        backwards = _boolean(subject, config, "go_backwards", False)
        zero = _boolean(subject, config, "zero_output_for_mask", False)
        if zero and not flags.return_sequences:
            raise ConversionError(
                f"{subject}: zero_output_for_mask=True with return_sequences=False returns zeros "
                "for a row that ends in padding, where layers return its last valid output; "
                "expected zero_output_for_mask=False, which Keras returns that output with"
            )
        found = []
        for index, (kind, inner) in enumerate(cells):
            cell, own = read.cell(subject, kind, inner, weights)
            cell = cell.replace(
                # The first of several cells in one loop turns time round for all.
                go_backwards=backwards and index == 0,
                mask_output="zero" if zero else "carry",
            )
            found.append(Level((cell,), (own,)))
    if weights:
        shapes = ", ".join(str(value.shape) for value in weights[:3])
        raise ConversionError(
            f"{subject}: {len(weights)} more weights than {name} has, of shapes {shapes}, which "
            "would be lost; expected kernel, recurrent_kernel and bias of each cell"
        )
    return found, flags


def described(layer: AnyMember, flags: Flags, dtype: str, name: str) -> dict[str, Any]:
    """Return a member of a stack, or a layer alone, as Keras serialises it.

    Args:
        layer: The member.
        flags: What it returns, whatever its own flags say.
        dtype: Its data type.
        name: Its name.

    Raises:
        ConversionError: if Keras's layer cannot be what it is, naming the term.
    """
    common = {
        "dtype": dtype,
        "return_sequences": flags.return_sequences,
        "return_state": flags.return_state,
    }
    if not isinstance(layer, Bidirectional):
        check_holds((layer,))
        return _described_cell(layer, {"name": name, "go_backwards": layer.go_backwards, **common})
    check_holds((layer.forward, layer.backward))
    forward = {"name": f"forward_{name}", "go_backwards": False, **common}
    backward = {"name": f"backward_{name}", "go_backwards": True, **common}
    config = {
        "name": name,
        "dtype": dtype,
        "merge_mode": None if layer.merge_mode == "none" else layer.merge_mode,
        "layer": _described_cell(layer.forward, forward),
        "backward_layer": _described_cell(layer.backward, backward),
    }
    return _serialised("Bidirectional", config)


def model_description(found: Sequence[Description], features: int, dtype: str) -> dict[str, Any]:
    """Return a Sequential model of layers as Keras serialises it."""
    shape = [None, None, features]
    inputs = _serialised("InputLayer", {"name": "input", "batch_shape": shape, "dtype": dtype})
    config = {"name": "sequential", "trainable": True, "layers": [inputs, *found]}
    model = _serialised("Sequential", config)
    return {**model, "module": "keras", "build_config": {"input_shape": shape}}


def check_holds(cells: Sequence[AnyCell]) -> None:
    """Check that Keras has a layer of these cells: one, or a forward and a backward one.

    Raises:
        ConversionError: otherwise, naming the term.
    """
    for cell in cells:
        if cell.keep_order:
            instead = "set keep_order=False and reverse the output"
            refuse("keras", cell, "keep_order is True", instead)
        if len(cells) == 2 and cell.mask_output != "zero":
            refuse(
                "keras",
                cell,
                f"mask_output is {cell.mask_output!r} in a Bidirectional",
                "expected 'zero', for Keras's gives zeros at masked steps",
            )


def ordered(cell: AnyCell, weights: Weights) -> list[Array]:
    """Return one cell's weights in Keras's order and shapes."""
    found = [weights["kernel"], weights["recurrent_kernel"]]
    if "recurrent_bias" in weights:
        found.append(np.stack([weights["bias"], weights["recurrent_bias"]]))
    elif cell.use_bias:
        found.append(weights["bias"])
    return found


class _Reader:
    """Reads cells, with what was said beside their descriptions."""

    def __init__(self, words: Words, version: str) -> None:
        self._words = words
        self._version = version

    def cell(
        self, subject: str, name: str, config: Description, weights: list[Array]
    ) -> tuple[AnyCell, Weights]:
        """Return one cell and its weights, which are taken from the front of the list."""
        kind = CELLS[name]
        units = config.get("units")
        biased = _boolean(subject, config, "use_bias", True)
        options: dict[str, Any] = {"use_bias": biased}
        count = 3 if biased else 2
        if len(weights) < count:
            raise ConversionError(
                f"{subject}: {len(weights)} weights where {name}(use_bias={biased}) has {count}, "
                "expected kernel, recurrent_kernel and, with use_bias, bias; build the Keras layer "
                "first, by calling it or with layer.build((None, None, features))"
            )
        mine = weights[:count]
        del weights[:count]
        for field in DEFAULTS:
            if field in kind.__struct_fields__:
                options[field] = self._activation(subject, config, field)
        if kind is GRU:
            options["reset_after"] = self._reset_after(subject, config, mine)
        try:
            cell = kind(units, **options)  # type: ignore[arg-type]
        except SpecError as error:
            raise ConversionError(f"{subject}: {error}") from None
        return cell, _canonical(subject, cell, mine)

    def _activation(self, subject: str, config: Description, field: str) -> str:
        said = getattr(self._words, field)
        if field not in config:
            value: Any = DEFAULTS[field] if said is None else said
        else:
            value = config[field]
        name = _activation_name(value)
        if name not in ACTIVATIONS:
            raise ConversionError(
                f"{subject}: {field} is {name}, expected one of {', '.join(ACTIVATIONS)}"
            )
        if name == "hard_sigmoid" and self._version.startswith(("1", "2")):
            raise ConversionError(
                f"{subject}: {field} is the hard_sigmoid of Keras {self._version}, 0.2 x + 0.5, "
                "which layers have not; theirs is that of Keras 3, x / 6 + 0.5"
            )
        if said is not None and said != name:
            _contradicts(subject, field, said, name)
        return name

    def _reset_after(self, subject: str, config: Description, weights: Sequence[Array]) -> bool:
        said = self._words.reset_after
        found: bool | None = None
        if "reset_after" in config:
            found = _boolean(subject, config, "reset_after", True)
        elif len(weights) == 3:
            found = weights[2].ndim == 2
        if found is None and said is None:
            raise ConversionError(
                f"{subject}: a GRU without bias, and nothing says whether it resets before or "
                "after the recurrent product; give reset_after=True (Keras's default) or False"
            )
        if found is not None and said is not None and found != said:
            _contradicts(subject, "reset_after", said, found)
        return bool(said if found is None else found)


def _contradicts(subject: str, field: str, said: Any, found: Any) -> NoReturn:
    raise ConversionError(
        f"{subject}: {field}={said!r} was given for a layer with {field}={found!r}; leave it out"
    )


def _canonical(subject: str, cell: AnyCell, weights: Sequence[Array]) -> Weights:
    """Return a cell's weights by canonical name, in memory of their own."""
    kernel, recurrent_kernel, *bias = weights
    columns = cell.blocks * cell.units
    gates = f"{cell.blocks}*units" if cell.blocks > 1 else "units"
    features = kernel.shape[0] if kernel.ndim == 2 else 0
    shaped(subject, "kernel", kernel, (features, columns), f"(features, {gates})")
    expected = (cell.units, columns)
    shaped(subject, "recurrent_kernel", recurrent_kernel, expected, f"(units, {gates})")
    found = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if bias:
        if isinstance(cell, GRU) and cell.reset_after:
            shaped(subject, "bias", bias[0], (2, columns), f"(2, {gates}), as reset_after=True has")
            found["bias"], found["recurrent_bias"] = bias[0]
        else:
            found["bias"] = shaped(subject, "bias", bias[0], (columns,), f"({gates},)")
    return {name: np.array(value, order="C") for name, value in found.items()}


def _bidirectional(
    subject: str, config: Description, weights: list[Array], read: _Reader
) -> tuple[list[Level], Flags]:
    cells, parameters, flags = [], [], []
    # Without a backward layer of its own, Keras turns the forward one round.
    given = config.get("backward_layer") is not None
    for index, (inner_subject, one) in enumerate(_directions(subject, config)):
        turned = given and index == 1
        name, inner = _check_recurrent(inner_subject, one)
        _check_fields(inner_subject, inner)
        found = _cells(inner_subject, name, inner)
        if len(found) != 1:
            raise ConversionError(
                f"{inner_subject}: an RNN of {len(found)} cells in one loop, which a Bidirectional "
                "of the specification has not; expected one cell"
            )
        if _boolean(inner_subject, inner, "go_backwards", False) != turned:
            raise ConversionError(
                f"{inner_subject}: go_backwards is {not turned}, expected {turned}; the forward "
                "layer of a Bidirectional reads forwards"
            )
        cell, own = read.cell(inner_subject, *found[0], weights)
        cells.append(cell)
        parameters.append(own)
        flags.append(_flags(inner_subject, inner))
    if flags[0] != flags[1]:
        raise ConversionError(f"{subject}: layer and backward_layer have other return flags")
    merge_mode = config.get("merge_mode", "concat")
    if merge_mode is not None and not isinstance(merge_mode, str):
        raise ConversionError(f"{subject}: merge_mode is {merge_mode!r}, expected a string or None")
    # Whatever the members say, Keras zeroes the masked steps of both.
    return [Level(tuple(cells), tuple(parameters), merge_mode or "none")], flags[0]


def _directions(subject: str, config: Description) -> list[tuple[str, Any]]:
    """Return the forward and the backward layer of a Bidirectional, with what to call them."""
    forward, backward = config.get("layer"), config.get("backward_layer")
    return [
        (f"{subject}: layer", forward),
        (f"{subject}: backward_layer", forward if backward is None else backward),
    ]


def _cells(subject: str, name: str, config: Description) -> list[tuple[str, Description]]:
    """Return the cells of a layer in one direction, each as the name of its layer and config."""
    if name.removesuffix("Cell") in CELLS:
        return [(name.removesuffix("Cell"), config)]
    if name != "RNN":
        raise ConversionError(f"{subject}: {name} in a Bidirectional, expected one layer of a cell")
    kind, inner = _named(f"{subject}: cell", config.get("cell"))
    if kind == "StackedRNNCells":
        cells = inner.get("cells")
        if not isinstance(cells, list | tuple) or not cells:
            raise ConversionError(f"{subject}: StackedRNNCells without a list of cells")
        found = [_named(f"{subject}: cell {index}", one) for index, one in enumerate(cells)]
    else:
        found = [(kind, inner)]
    for kind, one in found:
        if kind.removesuffix("Cell") not in CELLS or not kind.endswith("Cell"):
            raise ConversionError(
                f"{subject}: the cell {kind} is not Keras's, expected SimpleRNNCell, LSTMCell or "
                "GRUCell"
            )
        _check_fields(subject, one)
    return [(kind.removesuffix("Cell"), one) for kind, one in found]


def _named(subject: str, description: Any) -> tuple[str, Description]:
    """Return the class and the config of a description, if its class is Keras's own.

    Raises:
        ConversionError: otherwise.
    """
    if not isinstance(description, Mapping):
        raise ConversionError(
            f"{subject}: {type(description).__name__}, expected the description of a Keras layer, "
            "{'class_name': ..., 'config': {...}}"
        )
    name, config = description.get("class_name"), description.get("config")
    if not isinstance(name, str) or not isinstance(config, Mapping):
        raise ConversionError(
            f"{subject}: a description without class_name and config, as Keras serialises a layer"
        )
    module = description.get("module")
    own = module is None or (isinstance(module, str) and module.split(".")[0] in _KERAS)
    if not own or description.get("registered_name") not in (None, name):
        raise ConversionError(
            f"{subject}: {name} is a class of {module or 'someone'}, whose equations are not "
            "known here; expected one of Keras's own layers"
        )
    return name, config


_KERAS = ("keras", "tf_keras", "tensorflow")


def _check_recurrent(subject: str, description: Any) -> tuple[str, Description]:
    name, config = _named(subject, description)
    if name in ("CuDNNLSTM", "CuDNNGRU"):
        raise ConversionError(
            f"{subject}: {name} is a layer of Keras 2 with weights of a form of its own, expected "
            f"the {name.removeprefix('CuDNN')} that Keras 2 loads those weights into; save that"
        )
    if name.removesuffix("Cell") not in CELLS and name not in ("RNN", "Bidirectional"):
        raise ConversionError(
            f"{subject}: {name} is no recurrent layer of Keras and would be lost; expected "
            "SimpleRNN, LSTM, GRU, RNN or Bidirectional; to convert one layer alone, give its "
            "name, as in name='lstm'"
        )
    return name, config


def _is_recurrent(subject: str, description: Description) -> bool:
    """Return whether a layer of a model is recurrent, or only prepares what others read.

    Raises:
        ConversionError: if it is neither.
    """
    name, config = _named(subject, description)
    if name in _ASIDE:
        return False
    _check_recurrent(f"{subject}: layer {config.get('name', name)!r}", description)
    return True


def _check_fields(subject: str, config: Description) -> None:
    for field, value in config.items():
        if field in _READ or field in _HARMLESS:
            continue
        # A term that is switched off says nothing, also one that a later Keras may have.
        if value is None or value is False:
            continue
        instead = _REFUSED.get(field, "it is not known here what it does; remove it")
        raise ConversionError(f"{subject}: {field} is {str(value)[:80]}, {instead}")


def _flags(subject: str, config: Description) -> Flags:
    return Flags(
        _boolean(subject, config, "return_sequences", False),
        _boolean(subject, config, "return_state", False),
    )


def _boolean(subject: str, config: Description, field: str, default: bool) -> bool:
    value = config.get(field, default)
    if not isinstance(value, bool):
        raise ConversionError(f"{subject}: {field} is {value!r}, expected True or False")
    return value


def _activation_name(value: Any) -> str:
    """Return the name of a built-in activation, or what stands in its place, for the message."""
    if value is None:
        return "linear"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        name, module = value.get("config"), value.get("module")
        own = isinstance(module, str) and module.split(".")[0] in _KERAS
        if value.get("class_name") == "function" and isinstance(name, str) and own:
            return name
        shown = name if isinstance(name, str) else value.get("class_name")
        return f"{shown!r} and not one of Keras's own functions by its name"
    return f"a {type(value).__name__}"


def _chained(
    subject: str, config: Description, layers: Sequence[Description]
) -> tuple[list[Description], int]:
    """Return the layers of a functional model in order, if they are a chain, and its outputs."""
    by_name: dict[str, Description] = {}
    for one in layers:
        name = one.get("name")
        if not isinstance(name, str) or name in by_name:
            raise ConversionError(f"{subject}: layers without names of their own")
        by_name[name] = one
    outputs = _outputs(subject, config)
    current: str | None = outputs[0][0]
    used: list[str] = []
    while current is not None:
        if current in used or current not in by_name:
            raise ConversionError(f"{subject}: the model's graph has no beginning")
        used.append(current)
        _is_recurrent(subject, by_name[current])
        current = _source(subject, by_name[current])
    for name, one in by_name.items():
        if name not in used and one.get("class_name") not in (*_MASK_OPERATIONS, "InputLayer"):
            raise ConversionError(
                f"{subject}: the model is no chain of layers: {name!r} "
                f"({one.get('class_name')}) is beside it; convert its layers one by one, each "
                "with name="
            )
    if [index for _, index in outputs] != list(range(len(outputs))):
        raise ConversionError(
            f"{subject}: the model returns some of its last layer's outputs, in an order of its "
            "own; expected the sequence or last output, alone or with all states"
        )
    return [by_name[name] for name in reversed(used)], len(outputs)


def _outputs(subject: str, config: Description) -> list[tuple[str, Any]]:
    """Return a functional model's outputs as `(layer, index)`, all of one layer."""
    found = config.get("output_layers")
    nodes = (
        [found]
        if isinstance(found, list | tuple) and found and isinstance(found[0], str)
        else found
    )
    outputs: list[tuple[str, Any]] = []
    for node in nodes if isinstance(nodes, list | tuple) else []:
        if not isinstance(node, list | tuple) or len(node) != 3 or not isinstance(node[0], str):
            outputs = []
            break
        outputs.append((node[0], node[2]))
    if not outputs or any(name != outputs[0][0] for name, _ in outputs):
        raise ConversionError(
            f"{subject}: a functional model whose outputs are not those of one layer; convert its "
            "layers one by one, each with name="
        )
    return outputs


def _source(subject: str, description: Description) -> str | None:
    """Return the name of the layer whose first output is a functional layer's input."""
    nodes = description.get("inbound_nodes")
    if not nodes and isinstance(nodes, list | tuple):
        return None
    where = f"{subject}: {description.get('name')!r}"
    if not isinstance(nodes, list | tuple) or len(nodes) != 1:
        raise ConversionError(f"{where} is used more than once, expected a chain of layers")
    node = nodes[0]
    if isinstance(node, list | tuple):  # as Keras 2 wrote it: [[name, node, index, {...}]]
        (first, *rest) = node or [None]
        history, others = (first[:3] if isinstance(first, list | tuple) else None), rest
        if isinstance(first, list | tuple) and len(first) > 3 and isinstance(first[3], Mapping):
            others = [*rest, *(v for k, v in first[3].items() if k != "mask")]
    else:
        arguments = node.get("args") if isinstance(node, Mapping) else None
        keywords = node.get("kwargs") if isinstance(node, Mapping) else None
        first, *rest = arguments if isinstance(arguments, list | tuple) and arguments else [None]
        history = _history(first)
        keywords = keywords if isinstance(keywords, Mapping) else {}
        others = [*rest, *(v for k, v in keywords.items() if k != "mask")]
    if any(isinstance(other, Mapping | list | tuple) for other in others):
        raise ConversionError(
            f"{where} has more than one input, such as an initial_state; expected the sequence "
            "alone; convert it alone, with name=, and give its initial_state to apply"
        )
    if (
        not isinstance(history, list | tuple)
        or len(history) != 3
        or not isinstance(history[0], str)
    ):
        raise ConversionError(f"{where} has no layer before it, expected a chain of layers")
    if history[2] != 0:
        raise ConversionError(f"{where} reads the state of {history[0]!r}, expected its sequence")
    return history[0]


def _history(tensor: Any) -> Any:
    inner = tensor.get("config") if isinstance(tensor, Mapping) else None
    return inner.get("keras_history") if isinstance(inner, Mapping) else None


def _described_cell(cell: AnyCell, config: dict[str, Any]) -> dict[str, Any]:
    """Return a layer in one direction as Keras serialises it, with some of its config given."""
    config |= {
        "units": cell.units,
        "activation": cell.activation,
        "use_bias": cell.use_bias,
        # Without sequences it would be the output of rows that end in padding.
        "zero_output_for_mask": cell.mask_output == "zero" and config["return_sequences"],
    }
    if not isinstance(cell, SimpleRNN):
        config["recurrent_activation"] = cell.recurrent_activation
    if isinstance(cell, GRU):
        config["reset_after"] = cell.reset_after
    return _serialised(type(cell).__name__, config)


def _serialised(name: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "module": "keras.layers",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }
