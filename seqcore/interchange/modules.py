"""A layer as a framework's own trainable module, which runs on seqcore's implementations.

Who offers them announces a function in the entry-point group `seqcore.modules`, under the name of
the framework: `function(layer, weights)` returns the module. It has the description as `layer`, and
`canonical_weights()` returns its weights as they are, by canonical name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqcore.errors import BackendError, BackendNotInstalled, ConversionError, WeightsError
from seqcore.interchange.levels import Converted, assemble, disassemble
from seqcore.runtime.inputs import neutral_weights
from seqcore.spec.layers import AnyLayer, Layer
from seqcore.spec.naming import nearest

ENTRY_POINT_GROUP = "seqcore.modules"


def to_module(framework: str, layer: Any, weights: Mapping[str, Any]) -> Any:
    """Return a layer with its weights as a module of a framework.

    Args:
        framework: Its name: `"torch"`, `"keras"`, `"flax"`, or what another distribution offers.
        layer: The layer.
        weights: Its canonical weights, NumPy arrays or the framework's own.

    Raises:
        BackendError: if nothing installed offers it, or two distributions do.
        BackendNotInstalled: if the framework is not installed.
        ConversionError: if `layer` is none.
        WeightsError: if the weights are not the layer's.
    """
    from importlib.metadata import entry_points

    if not isinstance(layer, Layer):
        raise ConversionError(
            f"to a module of {framework}: the first argument is {type(layer).__name__}, expected a "
            "layer and its weights"
        )
    if not isinstance(weights, Mapping):
        raise WeightsError(
            f"to a module of {framework}: weights is {type(weights).__name__}, expected a mapping "
            "of arrays by name, as layer.init(features) gives it"
        )
    offers = entry_points(group=ENTRY_POINT_GROUP)
    found = {entry.value: entry for entry in offers.select(name=framework)}
    if len(found) != 1:
        names = sorted(offers.names)
        what = f"{' and '.join(found)} both offer them" if found else "nothing offers them"
        raise BackendError(
            f"modules of {framework!r}{nearest(framework, names) if not found else ''}: {what}, "
            f"expected one of {', '.join(names)}"
        )
    (entry,) = found.values()
    try:
        make = entry.load()
    except ModuleNotFoundError as error:
        raise BackendNotInstalled(
            f"modules of {framework}: {error.name} is not installed; pip install {error.name}"
        ) from error
    return make(layer, weights)


def canonical_of(source: Any) -> Converted | None:
    """Return the layer and the weights, as they are now, of a module that `to_module` made.

    Returns:
        None for what is no such module.
    """
    layer, weights = (getattr(source, name, None) for name in ("layer", "canonical_weights"))
    # A class has these names, too, and is no module yet.
    if isinstance(source, type) or not isinstance(layer, Layer) or not callable(weights):
        return None
    assert isinstance(layer, AnyLayer)
    return layer, neutral_weights(layer, weights())


def from_module(
    subject: str,
    source: Any,
    words: Mapping[str, Any],
    return_sequences: bool | None,
    return_state: bool | None,
) -> Converted | None:
    """Return what `from_...` returns for a module that `to_module` made.

    Args:
        subject: What messages begin with.
        source: What may be one.
        words: What else was said; None for what was not.
        return_sequences: Of the layer returned; None for its own.
        return_state: Of the layer returned; None for its own.

    Returns:
        None for what is no such module.

    Raises:
        ConversionError: if something was said that the module says itself.
    """
    found = canonical_of(source)
    if found is None:
        return None
    given = [name for name, value in words.items() if value is not None]
    if given:
        raise ConversionError(
            f"{subject}: {' and '.join(given)} was given for a module of seqcore, which says "
            "itself what it is; leave it out"
        )
    layer, weights = found
    flags = {"return_sequences": return_sequences, "return_state": return_state}
    own = {name: getattr(layer, name) for name in flags}
    wanted = {name: own[name] if value is None else value for name, value in flags.items()}
    if wanted == own:
        return found
    return assemble(disassemble(subject, layer, weights), **wanted)


def to_torch(layer: Any, weights: Mapping[str, Any]) -> Any:
    """Return a `torch.nn.Module` that trains and runs the layer on seqcore's implementations.

    Its parameters have the canonical names. It is called as `module(x, mask=..., lengths=...,
    initial_state=...)`. For the weights as torch's own `nn.LSTM` holds them, see
    `seqcore.interchange.to_torch`.

    Raises:
        BackendNotInstalled: if torch is not installed.
        WeightsError: if the weights are not the layer's.
    """
    return to_module("torch", layer, weights)


def to_keras(layer: Any, weights: Mapping[str, Any]) -> Any:
    """Return a `keras.Layer` that trains and runs the layer on seqcore's implementations.

    It works on Keras's backend of this process and takes Keras's masks. For the weights as Keras's
    own layers hold them, see `seqcore.interchange.to_keras`.

    Raises:
        BackendNotInstalled: if Keras is not installed.
        WeightsError: if the weights are not the layer's.
    """
    return to_module("keras", layer, weights)


def to_flax(layer: Any, weights: Mapping[str, Any]) -> Any:
    """Return a `flax.nnx.Module` that trains and runs the layer on seqcore's implementations.

    For the weights as Flax's own cells hold them, see `seqcore.interchange.to_flax`.

    Raises:
        BackendNotInstalled: if Flax is not installed.
        WeightsError: if the weights are not the layer's.
    """
    return to_module("flax", layer, weights)
