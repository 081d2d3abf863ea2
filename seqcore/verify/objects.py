"""What a name on the command line stands for: a file, or a Python object `module:attribute`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from seqcore.errors import ArgumentError
from seqcore.interchange.arrays import array
from seqcore.interchange.formats import FORMATS
from seqcore.interchange.levels import checked
from seqcore.interchange.models import OWN, SUFFIXES, Model, read
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
        words: What the file or the torch module leaves open.

    Raises:
        ArgumentError: if the object cannot be imported, is none of these, or leaves nothing open.
        SeqcoreError: as `seqcore.interchange.models.read`.
    """
    module, separator, attribute = name.partition(":")
    # A path may have a colon in it; a module's name is made of identifiers.
    if not (separator and all(part.isidentifier() for part in module.split(".")) and attribute):
        if not Path(name).suffix and not Path(name).exists():
            raise ArgumentError(
                f"{name}: is no file, expected one of {', '.join(SUFFIXES)}, or an object as "
                "module:attribute"
            )
        return read(name, format=format, words=words)
    value = _imported(name)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.nn.RNNBase | torch.nn.RNNCellBase):
        _refuse_format(name, format, "a torch module")
        return _torch(torch, name, value, words or {})
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Layer):
        _refuse_format(name, format, "a layer with its weights", words)
        layer, weights = value
        return Model(name, OWN, layer, checked(name, layer, weights))
    if callable(value):
        _refuse_format(name, format, "a function", words)
        return Function(name, value)
    raise ArgumentError(
        f"{name}: is {type(value).__name__}, expected a layer with its weights, an nn.RNN, nn.LSTM "
        "or nn.GRU, or a function of x and lengths"
    )


def _torch(torch: Any, name: str, module: Any, words: Mapping[str, Any]) -> Model:
    """Return the model that a torch module is."""
    layer, weights = FORMATS["torch"].read(module, words)
    structure = {key: array(f"{name}: {key}", v) for key, v in module.state_dict().items()}
    if isinstance(module, torch.nn.RNN | torch.nn.RNNCell):
        # Which a state_dict does not say.
        words = {**words, "activation": module.nonlinearity}
    return Model(name, "torch", layer, weights, structure, words)


def _refuse_format(
    name: str, format: str | None, what: str, words: Mapping[str, Any] | None = None
) -> None:
    """Raise an error for what was said of an object that says everything itself."""
    given = [*([] if format is None else [f"format {format}"]), *(words or {})]
    if given:
        raise ArgumentError(
            f"{name}: is {what}, and {', '.join(given)} was given for it, expected a file with "
            "that; leave it out"
        )


def _imported(name: str) -> Any:
    folder = os.getcwd()  # noqa: PTH109 - sys.path holds text
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return resolve_name(name)
    except (Exception, SystemExit) as error:  # the user's own module may raise anything
        raise ArgumentError(
            f"{name}: cannot be imported: {type(error).__name__}: {error}; expected "
            "module:attribute"
        ) from error
