"""The formats by name, and the functions that read and write each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

import msgspec

from seqcore.errors import ArgumentError, ConversionError
from seqcore.interchange.levels import Converted
from seqcore.spec.naming import nearest


@dataclass(frozen=True, slots=True)
class Format:
    """One framework's way to hold a layer's weights.

    Attributes:
        name: Its name on the command line.
        summary: What it is, in a line.
        module: The module of `seqcore.interchange` that reads and writes it.
        suffixes: Of the files that hold it, the usual one first.
        chosen: What `to_...` is told, to write this format and no sibling of it.
        separator: What joins the names of a tree of arrays in a file of arrays.
        flat: Whether its structure is flat, with dots in the names.
        arranges: Whether names may leave open which cell is a level and which a direction; its
            `level_names` says it.
    """

    name: str
    summary: str
    module: str
    suffixes: tuple[str, ...]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    separator: str = "."
    flat: bool = False
    arranges: bool = False

    @property
    def reader(self) -> Callable[..., Converted]:
        """The function `from_...`."""
        function: Callable[..., Converted] = getattr(self._code(), f"from_{self.module}")
        return function

    def read(self, structure: Any, words: Mapping[str, Any]) -> Converted:
        """Return the layer and the canonical weights of the framework's own structure."""
        self.check(words)
        return self.reader(structure, **_complete(f"from {self.name}", self.reader, words))

    def check(self, words: Mapping[str, Any]) -> None:
        """Check that `from_...` takes these words.

        Raises:
            ArgumentError: naming one that it does not.
        """
        _check(f"from {self.name}", self.reader, words)

    def write(self, layer: Any, weights: Mapping[str, Any], words: Mapping[str, Any]) -> Any:
        """Return a layer and its canonical weights as the framework's own structure."""
        function: Callable[..., Any] = getattr(self._code(), f"to_{self.module}")
        words = {**self.chosen, **words}
        _check(f"to {self.name}", function, words)
        return function(layer, weights, **words)

    def level_names(self, layer: Any, weights: Mapping[str, Any]) -> list[Any]:
        """Return what `from_...` takes as `levels`, of a format that `arranges`."""
        names: list[Any] = self._code().level_names(layer, weights)
        return names

    def recognises(self, names: Collection[str]) -> bool:
        """Return whether arrays with these names are in this format."""
        answer: bool = self._code().recognises(names)
        return answer

    def _code(self) -> Any:
        return importlib.import_module(f"seqcore.interchange.{self.module}")


_ALL = (
    Format(
        "torch",
        "torch.nn.RNN, LSTM, GRU: a state_dict",
        "torch",
        (".pt", ".pth", ".ckpt", ".bin", ".safetensors"),
        flat=True,
    ),
    Format("keras", "Keras layers and models", "keras", (".keras", ".weights.h5", ".h5")),
    Format("onnx", "RNN, LSTM and GRU nodes", "onnx", (".onnx",)),
    Format("flax-nnx", "flax.nnx cells", "flax", (".safetensors",), {"api": "nnx"}),
    Format("flax-linen", "flax.linen cells: params", "flax", (".safetensors",), {"api": "linen"}),
    Format(
        "haiku",
        "Haiku's LSTM, GRU, VanillaRNN: params",
        "haiku",
        (".safetensors",),
        separator="/",
        arranges=True,
    ),
    Format("equinox", "equinox.nn.LSTMCell, GRUCell", "equinox", (".safetensors",)),
    Format("jax-blob", "the array of jax.experimental.rnn", "jax_blob", (".safetensors",)),
)

FORMATS: Mapping[str, Format] = {one.name: one for one in _ALL}
"""Every format of another framework, by name."""


def named(name: str) -> Format:
    """Return the format of that name.

    Raises:
        ArgumentError: if there is none.
    """
    if name not in FORMATS:
        raise ArgumentError(
            f"format: received {name!r}{nearest(name, FORMATS)}, expected one of "
            f"seqcore, {', '.join(FORMATS)}"
        )
    return FORMATS[name]


def _check(subject: str, function: Callable[..., Any], words: Mapping[str, Any]) -> None:
    """Check that a function has these keyword arguments, and takes such values for them.

    Raises:
        ArgumentError: naming one.
    """
    known = _keywords(function)
    types = get_type_hints(function)
    for name, value in words.items():
        if name not in known:
            raise ArgumentError(
                f"{subject}: {name!r} is not taken{nearest(name, known)}, expected "
                f"{', '.join(known) or 'none'}"
            )
        try:
            msgspec.convert(value, types[name])
        except msgspec.ValidationError as error:
            raise ArgumentError(f"{subject}: {name} is {value!r}: {error}") from None


def _complete(
    subject: str, function: Callable[..., Any], words: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Return the words, if they are all that a function has to be told.

    Raises:
        ConversionError: naming what is missing.
    """
    missing = [
        name
        for name, parameter in _keywords(function).items()
        if parameter.default is parameter.empty and name not in words
    ]
    if missing:
        raise ConversionError(
            f"{subject}: the arrays leave open {' and '.join(missing)}; give "
            f"{', '.join(f'{name}=' for name in missing)}"
        )
    return words


def _keywords(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the keyword arguments of a function."""
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
