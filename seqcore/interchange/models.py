"""Models in files: which format a file is in, what it holds, and writing one."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from seqcore.errors import ArgumentError, ConversionError, FileError
from seqcore.interchange.arrays import flat, nested
from seqcore.interchange.formats import FORMATS, Format, named
from seqcore.interchange.levels import Weights
from seqcore.spec.layers import AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.weights import cells
from seqcore.weights import load, read_arrays, save, write_arrays

OWN = "seqcore"
"""The format of `seqcore.save`."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".keras", ".h5", ".onnx")
"""The files that are read and written; `.weights.h5` is an `.h5`."""

_METADATA = "seqcore.interchange"
"""The metadata of a file of arrays with the format's name, and the words that its arrays lack."""

_FLAGS = ("return_sequences", "return_state")
"""The words that say what a layer returns, not what it computes."""

_USUAL = {"activation": "tanh", "recurrent_activation": "sigmoid"}
"""The words that every reader takes for said, but of a SimpleRNN."""

_ALONE = "weights"
"""The name in a file of a structure that is one array."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it was read.

    Attributes:
        name: What it is called in messages: the file's name, or where the object is.
        format: The name of its format, `"seqcore"` for one of our own.
        layer: The layer.
        weights: Its canonical weights.
        structure: The framework's own structure, with NumPy arrays; None in our own format.
        words: What was said, or stands in the file, beside the structure.
    """

    name: str
    format: str
    layer: AnyLayer
    weights: Weights
    structure: Any = None
    words: Mapping[str, Any] = field(default_factory=dict)


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    words: Mapping[str, Any] | None = None,
) -> Model:
    """Read a model from a file. Nothing in it is executed.

    Args:
        path: The file; its suffix says what kind it is.
        format: The name of the format, where arrays alone don't tell.
        words: What the file leaves open: keyword arguments of the format's `from_...`.

    Raises:
        FileError: if the file is absent, truncated, or not what its suffix says.
        ConversionError: if it holds a term that no layer has, or leaves open what it means.
        ArgumentError: if there is no such format, or it does not take such a word.
    """
    file = _path(path)
    asked = None if format is None else _named(format)
    structure, metadata = _opened(file)
    remarks = _remarks(file, metadata)
    said = OWN if "seqcore.spec" in metadata else remarks.format
    if None not in (said, asked) and said != asked:
        raise ConversionError(
            f"{path}: says that it is in format {said}, and {asked} was asked for; leave it out"
        )
    found = said or asked or _recognised(file, structure)
    if found == OWN:
        _refuse_words(f"{path}: format {OWN}", words)
        layer, weights = load(file)
        return Model(str(path), OWN, layer, weights)
    chosen = FORMATS[found]
    _check_suffix(file, chosen)
    words = {**remarks.words, **(words or {})}
    try:
        if _ends(file, (".safetensors",)) and not chosen.flat:
            structure = nested(structure, "/" if any("/" in name for name in structure) else ".")
        layer, weights = chosen.read(structure, words)
    except ConversionError as error:
        raise ConversionError(f"{path}: {error}") from error
    return Model(str(path), chosen.name, layer, weights, structure, words)


def write(
    path: str | os.PathLike[str],
    layer: Any,
    weights: Mapping[str, Any],
    *,
    format: str | None = None,
    words: Mapping[str, Any] | None = None,
) -> str:
    """Write a layer with its weights to a file of another framework, as a whole or not at all.

    Args:
        path: The file; its suffix says what kind it is.
        layer: The layer.
        weights: Its canonical weights.
        format: The name of the format; by default that of the suffix, and seqcore's own for
            `.safetensors`.
        words: Keyword arguments of the format's `to_...`.

    Returns:
        The name of the format.

    Raises:
        ConversionError: if the format cannot hold the layer, naming the term.
        WeightsError: if the weights are not the layer's.
        FileError: if the file cannot be written, or is none of the format.
        ArgumentError: if there is no such format, or it does not take such a word.
    """
    file = _path(path)
    format = _usual(file) if format is None else _named(format)
    if format == OWN:
        if not _ends(file, (".safetensors",)):
            raise FileError(f"{path}: expected a file .safetensors for format {OWN}")
        _refuse_words(f"{path}: format {OWN}", words)
        save(file, layer, weights)
        return OWN
    chosen = FORMATS[format]
    _check_suffix(file, chosen)
    structure = chosen.write(layer, weights, words or {})
    match file.suffix.lower():
        case ".keras" | ".h5":
            from seqcore.interchange.keras.file import write_keras

            write_keras(file, layer, structure)
        case ".onnx":
            from seqcore.interchange.onnx.file import write_onnx

            write_onnx(file, structure)
        case ".safetensors":
            tree = structure if isinstance(structure, Mapping) else {_ALONE: structure}
            arrays = flat(f"to {chosen.name}", tree, chosen.separator)
            remarks = {"format": chosen.name, "words": said(chosen, layer, weights)}
            write_arrays(file, arrays, {_METADATA: json.dumps(remarks)})
        case _:
            from seqcore.interchange.pt_file import write_pt

            write_pt(file, structure)
    return chosen.name


def said(chosen: Format, layer: AnyLayer, weights: Mapping[str, Any]) -> dict[str, Any]:
    """Return the words that a format's arrays lack: what its `from_...` has to be told."""
    levels = len(layer.layers) if isinstance(layer, Stack) else 1
    first = layer.layers[0] if isinstance(layer, Stack) else layer
    prefix, cell, _ = next(cells(layer, 1))
    known: dict[str, Any] = {
        "return_sequences": layer.return_sequences,
        "return_state": layer.return_state,
        "features": int(weights[f"{prefix}kernel"].shape[0]),
        "units": cell.units,
        "layers": levels,
        "bidirectional": isinstance(first, Bidirectional),
    }
    # Where arrays do not say these, one word says them of all cells.
    known |= {
        field: getattr(each, field)
        for _, each, _ in cells(layer, 1)
        for field in ("activation", "recurrent_activation")
        if field in each.__struct_fields__
    }
    if chosen.arranges:
        known["levels"] = chosen.level_names(layer, weights)
    taken = inspect.signature(chosen.reader).parameters
    return {name: value for name, value in known.items() if name in taken}


def unsaid(
    path: str | os.PathLike[str], format: str, layer: AnyLayer, weights: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the words that `read` needs for what a file that `write` wrote computes."""
    if format == OWN or _ends(Path(path), (".safetensors", ".keras", ".onnx")):
        return {}  # it says them itself
    words = said(named(format), layer, weights)
    simple = any(isinstance(cell, SimpleRNN) for _, cell, _ in cells(layer, 1))
    return {
        name: value
        for name, value in words.items()
        if name not in _FLAGS and (simple or value != _USUAL.get(name))
    }


def _path(path: str | os.PathLike[str]) -> Path:
    try:
        found = Path(path)
    except TypeError:
        raise FileError(f"received {path!r}, expected the path of a file") from None
    if not found.name:
        raise FileError(f"received {os.fspath(path)!r}, expected the path of a file")
    return found


def _opened(file: Path) -> tuple[Any, Mapping[str, str]]:
    """Return what a file holds, and its metadata."""
    _usual(file)
    match file.suffix.lower():
        case ".keras" | ".h5":
            from seqcore.interchange.keras.file import read_keras

            return read_keras(file), {}
        case ".onnx":
            from seqcore.interchange.onnx.file import read_onnx

            return read_onnx(file), {}
        case ".safetensors":
            return read_arrays(file)
        case _:
            from seqcore.interchange.pt_file import read_pt

            return read_pt(file), {}


def _ends(file: Path, suffixes: tuple[str, ...]) -> bool:
    return file.name.lower().endswith(suffixes)


def _usual(file: Path) -> str:
    """Return the format that files with this suffix usually have.

    Raises:
        FileError: if none has.
    """
    if _ends(file, (".safetensors",)):
        return OWN
    for one in FORMATS.values():
        if _ends(file, one.suffixes):
            return one.name
    raise FileError(
        f"{file}: suffix {file.suffix or '(none)'}, expected one of {', '.join(SUFFIXES)}; rename "
        "the file if it is one of these"
    )


def _check_suffix(file: Path, chosen: Format) -> None:
    if not _ends(file, chosen.suffixes):
        raise FileError(
            f"{file}: expected a file {' or '.join(chosen.suffixes)} for format {chosen.name}"
        )


def _recognised(file: Path, structure: Any) -> str:
    """Return the format of a file's content.

    Raises:
        ConversionError: if no format has such names, or several have.
    """
    if not _ends(file, (".safetensors",)):
        return _usual(file)
    names = list(structure)
    found = [
        one for one in FORMATS.values() if ".safetensors" in one.suffixes and one.recognises(names)
    ]
    # Cells of one library may be named alike; reading them is one function.
    if len({one.module for one in found}) == 1:
        return found[0].name
    shown = ", ".join(names[:4]) or "nothing"
    raise ConversionError(
        f"{file}: holds {shown}{', ...' if len(names) > 4 else ''}, which "
        f"{' or '.join(one.name for one in found) or 'no format'} has; give format=, one of "
        f"{', '.join(FORMATS)}"
    )


class _Remarks(msgspec.Struct):
    """What a file that `write` wrote says of itself."""

    format: str | None = None
    words: dict[str, Any] = {}


def _remarks(file: Path, metadata: Mapping[str, str]) -> _Remarks:
    """Return what a file says of itself.

    Raises:
        FileError: if it is not what `write` writes.
    """
    try:
        remarks = msgspec.json.decode(metadata.get(_METADATA, "{}"), type=_Remarks)
        if remarks.format is not None:
            named(remarks.format).check(remarks.words)
    except (msgspec.MsgspecError, RecursionError, ArgumentError) as error:
        raise FileError(
            f"{file}: metadata {_METADATA!r} is not what seqcore writes: {error}; remove it"
        ) from None
    return remarks


def _named(name: str) -> str:
    """Return the name of a format, if there is such a one.

    Raises:
        ArgumentError: otherwise.
    """
    return OWN if name == OWN else named(name).name


def _refuse_words(subject: str, words: Mapping[str, Any] | None) -> None:
    """Raise an error for words about a file that says everything itself.

    Raises:
        ArgumentError: naming them.
    """
    if words:
        raise ArgumentError(f"{subject}: takes no {', '.join(words)}; leave it out")
