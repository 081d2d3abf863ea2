"""Files of Keras models and weights, read and written without Keras.

A `.keras` file is a zip archive in which nothing is compressed, with `config.json` and
`model.weights.h5`. A file of weights, `.weights.h5`, is HDF5: `layers/lstm/cell/vars/0` and so on,
the layers named by their class and counted. An `.h5` of Keras 2 has the config in an attribute and
the weights by the layers' and the variables' names.

Nothing in a file is executed or decompressed, and reading one takes no more memory than the file,
twice.

Source: https://keras.io/guides/serialization_and_saving/
"""

from __future__ import annotations

import io
import itertools
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from seqcore.errors import FileError
from seqcore.files import reading, replacing
from seqcore.interchange.keras import keras_config
from seqcore.interchange.keras.hdf5 import LARGEST_TEXT, Hdf5, h5py
from seqcore.spec.layers import AnyLayer, Bidirectional, Stack
from seqcore.spec.weights import cells, extract

Array = NDArray[Any]

Structure = tuple[Mapping[str, Any], dict[str, list[Array]]] | dict[str, Array]
"""A model's config with its weights by the layers' names, or weights by path: `from_keras` takes
both."""

_CONFIG, _METADATA, _WEIGHTS = "config.json", "metadata.json", "model.weights.h5"

_VERSION = "3.0.0"
"""The version of Keras whose form of files is written."""


def read_keras(path: str | os.PathLike[str]) -> Structure:
    """Return what a file of Keras holds, as `from_keras` takes it.

    Args:
        path: A `.keras` file, or HDF5: a file of weights, or a whole model of Keras 2.

    Raises:
        FileError: if the file is absent, truncated, not such a file, or holds what Keras does not
            write.
    """
    with reading(path) as (file, size):
        start = file.read(4)
    place = Path(path)
    if start == b"PK\x03\x04":
        return _archive(place, size)
    with Hdf5(place, place, size) as content:
        return _legacy(place, content)


def write_keras(path: str | os.PathLike[str], layer: AnyLayer, weights: Sequence[Array]) -> None:
    """Write a file that Keras loads, as a whole or not at all.

    `keras.saving.load_model` reads a `.keras` file; `load_weights` of a Sequential model with one
    Keras layer for each member reads a `.weights.h5`.

    Args:
        path: The file, whose name ends in `.keras` or `.weights.h5`.
        layer: The layer.
        weights: What `to_keras` returns for it.

    Raises:
        FileError: if the file cannot be written, or has another suffix.
        ConversionError: if Keras's layers cannot be what the layer is, naming the term.
    """
    name = Path(path).name.lower()
    if not name.endswith((".keras", ".weights.h5")):
        raise FileError(
            f"{path}: expected a file .keras or .weights.h5; whole models in .h5 are those of "
            "Keras 2, and only read"
        )
    content = io.BytesIO()
    with h5py(path).File(content, "w") as file:
        for place, value in zip(_paths(layer), weights, strict=True):
            dataset = file.create_dataset(place, data=value)
            if value.dtype.name == "bfloat16":
                dataset.attrs["dtype"] = "bfloat16"
    if name.endswith(".weights.h5"):
        with replacing(path) as file:
            file.write(content.getvalue())
        return
    config = keras_config(layer, weights[0].shape[0], dtype=weights[0].dtype.name)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for entry, text in (
            (_METADATA, json.dumps({"keras_version": _VERSION}).encode()),
            (_CONFIG, json.dumps(config).encode()),
            (_WEIGHTS, content.getvalue()),
        ):
            # Not the time of writing, so that equal models are equal files.
            archive.writestr(zipfile.ZipInfo(entry), text)


def _archive(path: Path, size: int) -> Structure:
    """Return what a `.keras` file holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = _parsed(path, _CONFIG, _entry(path, archive, _CONFIG, size))
            metadata: Any = {}
            if _METADATA in archive.namelist():
                metadata = _parsed(path, _METADATA, _entry(path, archive, _METADATA, size))
            content = _entry(path, archive, _WEIGHTS, size)
    except (zipfile.BadZipFile, OSError, RuntimeError, ValueError, EOFError) as error:
        raise FileError(
            f"{path}: not a zip archive, or a truncated one: {error}; expected a file that Keras "
            "saved"
        ) from error
    version = metadata.get("keras_version", _VERSION)
    with Hdf5(path, io.BytesIO(content), size) as file:
        arrays = file.arrays(("layers", "_layer_checkpoint_dependencies"))
    weights = dict(_by_layer(config, arrays))
    return {**config, "keras_version": str(version)}, weights


def _entry(path: Path, archive: zipfile.ZipFile, name: str, size: int) -> bytes:
    """Return the content of one entry of a file of some size."""
    try:
        entry = archive.getinfo(name)
    except KeyError:
        found = ", ".join(archive.namelist()[:4]) or "nothing"
        raise FileError(
            f"{path}: a zip archive without {name}, expected one that Keras 3 saved; it holds "
            f"{found}"
        ) from None
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise FileError(
            f"{path}: {name} is compressed, and Keras compresses nothing; load it with Keras where "
            "you trust it, and save it again"
        )
    largest = size if name == _WEIGHTS else min(size, LARGEST_TEXT)
    if entry.file_size > largest:
        raise FileError(f"{path}: {name} has {entry.file_size} bytes, expected at most {largest}")
    return archive.read(entry)


def _parsed(path: Path, what: str, text: bytes | str) -> dict[str, Any]:
    """Return a mapping that is written as JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path}: {what} is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise FileError(f"{path}: {what} holds {type(found).__name__}, expected an object")
    return found


def _by_layer(
    config: Mapping[str, Any], arrays: Mapping[str, Array]
) -> Iterator[tuple[str, list[Array]]]:
    """Yield a model's recurrent layers by name, each with its weights in Keras's order."""
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    found = [one for one in layers if isinstance(one, Mapping)] if isinstance(layers, list) else []
    for layer, name in zip(found, _counted(map(_class_of, found)), strict=True):
        options = layer.get("config")
        if not isinstance(options, Mapping):
            continue
        weights = []
        for root in ("layers", "_layer_checkpoint_dependencies"):
            for cell in _cells_in(options):
                slots = (f"{root}/{name}/{cell}/vars/{slot}" for slot in range(3))
                weights += [
                    arrays[slot] for slot in itertools.takewhile(arrays.__contains__, slots)
                ]
        yield str(options.get("name")), weights


def _cells_in(options: Mapping[str, Any]) -> list[str]:
    """Return the paths of a layer's cells in Keras's order, as its config says."""
    if "layer" in options:
        return ["forward_layer/cell", "backward_layer/cell"]
    cell = options.get("cell")
    inner = cell.get("config") if isinstance(cell, Mapping) else None
    several = inner.get("cells") if isinstance(inner, Mapping) else None
    if isinstance(several, list):
        names = map(_class_of, (one for one in several if isinstance(one, Mapping)))
        return [f"cell/cells/{name}" for name in _counted(names)]
    return ["cell"]


def _class_of(description: Mapping[str, Any]) -> str:
    """Return the name of a description's class as Keras has it in paths."""
    name = str(description.get("class_name"))
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _counted(names: Iterable[str]) -> list[str]:
    """Return names with the numbers that make them unique: `lstm`, `lstm_1`."""
    counts: Counter[str] = Counter()
    found = []
    for name in names:
        found.append(f"{name}_{counts[name]}" if counts[name] else name)
        counts[name] += 1
    return found


def _paths(layer: AnyLayer) -> Iterator[str]:
    """Yield the paths of a layer's weights in the order of `to_keras`."""
    members = layer.layers if isinstance(layer, Stack) else (layer,)
    names = _counted(_class_of({"class_name": type(member).__name__}) for member in members)
    for name, member in zip(names, members, strict=True):
        both = isinstance(member, Bidirectional)
        for prefix, cell, _ in cells(member, 1):
            where = f"layers/{name}/{prefix.removesuffix('.')}_layer" if both else f"layers/{name}"
            yield from (f"{where}/cell/vars/{slot}" for slot in range(2 + cell.use_bias))


def _legacy(path: Path, file: Hdf5) -> Structure:
    """Return what an HDF5 file holds: weights by path, or a whole model of Keras 2."""
    text = file.text("model_config")
    if text is None:
        return file.arrays()
    config = _parsed(path, "its attribute model_config", text)
    version = file.text("keras_version")
    arrays = file.arrays(("model_weights",))
    inner = config.get("config")
    layers = inner.get("layers") if isinstance(inner, Mapping) else None
    weights = {}
    for one in layers if isinstance(layers, list) else []:
        options = one.get("config") if isinstance(one, Mapping) else None
        if isinstance(options, Mapping):
            name = str(options.get("name"))
            weights[name] = _legacy_weights(options, extract(arrays, f"model_weights/{name}/"))
    return {**config, "keras_version": version or "2"}, weights


_SLOTS = ("kernel", "recurrent_kernel", "bias")


def _legacy_weights(options: Mapping[str, Any], arrays: Mapping[str, Array]) -> list[Array]:
    """Return a layer's weights in Keras's order, from a file that has them by variables' paths."""
    places = []
    for path, value in arrays.items():
        *folders, name = path.split("/")
        slot = name.partition(":")[0]
        # A folder of one's own name tells nothing; without the weights in it there are too few.
        found = [index for index, names in enumerate(_folders(options)) if names & set(folders)]
        if slot in _SLOTS and len(found) == 1:
            places.append((found[0], _SLOTS.index(slot), value))
    return [value for _, _, value in sorted(places, key=lambda place: place[:2])]


def _folders(options: Mapping[str, Any]) -> list[set[str]]:
    """Return the folders in which each cell of a layer can have its variables, in Keras's order."""
    if "layer" in options:
        forward = _name_of(options["layer"])
        backward = _name_of(options.get("backward_layer")) or f"backward_{forward}"
        return [{forward, f"forward_{forward}"}, {backward}]
    cell = options.get("cell")
    inner = cell.get("config") if isinstance(cell, Mapping) else None
    several = inner.get("cells") if isinstance(inner, Mapping) else None
    if isinstance(several, list):
        return [{_name_of(one)} for one in several]
    return [{str(options.get("name"))}]


def _name_of(description: Any) -> str:
    inner = description.get("config") if isinstance(description, Mapping) else None
    return str(inner.get("name", "")) if isinstance(inner, Mapping) else ""
