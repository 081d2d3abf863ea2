"""What a name on the command line stands for: a file, or a Python object `module:attribute`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any

from seqcore.errors import ArgumentError
from seqcore.interchange.arrays import array
from seqcore.interchange.formats import FORMATS
from seqcore.interchange.levels import disassemble
from seqcore.interchange.models import OWN, Model, read
from seqcore.spec.layers import Layer
from seqcore.verify.verification import Function


def subject(
    name: str, *, format: str | None = None, words: Mapping[str, Any] | None = None
) -> Model | Function:
    """Return the model or the function that a name stands for.

    Args:
        name: The path of a file; or `module:attribute`, importable or in the working directory:
            a layer with its weights as a tuple, an `nn.RNN`, `nn.LSTM` or `nn.GRU`, or a function
            of x (batch, time, features) and lengths (batch,), NumPy arrays.
        format: The file's format, where it does not tell.
        words: What the file leaves open.

    Raises:
        ArgumentError: if the object cannot be imported, or is none of these.
        SeqcoreError: as `seqcore.interchange.models.read`.
    """
    module, separator, attribute = name.partition(":")
    # A path may have a colon in it; a module's name is made of identifiers.
    if not (separator and all(part.isidentifier() for part in module.split(".")) and attribute):
        return read(name, format=format, words=words)
    value = _imported(name)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Layer):
        layer, weights = value
        disassemble("verify", layer, weights)
        return Model(name, OWN, layer, dict(weights))
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.RNNBase | torch.nn.RNNCellBase):
        structure = {key: array(f"{name}: {key}", v) for key, v in value.state_dict().items()}
        said = {"activation": value.nonlinearity} if hasattr(value, "nonlinearity") else {}
        given = {**said, **(words or {})}
        layer, weights = FORMATS["torch"].read(value, given)
        return Model(name, "torch", layer, weights, structure, given)
    if callable(value):
        return Function(name, value)
    raise ArgumentError(
        f"{name}: is {type(value).__name__}, expected a layer with its weights, an nn.RNN, nn.LSTM "
        "or nn.GRU, or a function of x and lengths"
    )


def _imported(name: str) -> Any:
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return resolve_name(name)
    except Exception as error:  # the user's own module may raise anything
        raise ArgumentError(
            f"{name}: cannot be imported: {type(error).__name__}: {error}; expected "
            "module:attribute"
        ) from error
