"""Saving a layer with its weights, and loading it (clause DESC-5).

A file is in the safetensors format: a JSON header and raw numbers, no pickle. The header's
metadata holds `seqcore.format` (`"1"`) and `seqcore.spec`, the layer's JSON description.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import FileError, SeqcoreError
from seqcore.files import reading, replacing
from seqcore.runtime.inputs import neutral_weights, read_weights, reading_engine
from seqcore.spec.description import from_json, to_json
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import AnyLayer, Layer

FORMAT = "1"
_TAGS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_DTYPES = {tag: dtype for dtype, tag in _TAGS.items()}


def save(path: str | os.PathLike[str], layer: AnyLayer, weights: Mapping[str, Any]) -> None:
    """Write a layer and its canonical weights to one file, as a whole or not at all.

    Args:
        path: The file; by custom it ends in `.safetensors`.
        layer: The layer.
        weights: Its weights, NumPy arrays or native ones, of any of the spec's dtypes.

    Raises:
        WeightsError: if the weights are not the layer's.
        FileError: if the file cannot be written.
    """
    if not isinstance(layer, Layer):
        raise FileError(
            f"save: the second argument is {type(layer).__name__}, expected a layer: "
            "save(path, layer, weights)"
        )
    arrays = neutral_weights(layer, weights)
    metadata = {"seqcore.format": FORMAT, "seqcore.spec": to_json(layer)}
    write_arrays(path, arrays, metadata)


def load(path: str | os.PathLike[str]) -> tuple[AnyLayer, dict[str, NDArray[Any]]]:
    """Read a layer and its canonical weights from a file that `save` wrote.

    Nothing in the file is executed, and no more memory is used than the file is large, twice.

    Raises:
        FileError: if the file is absent, truncated, or not such a file.
    """
    arrays, metadata = read_arrays(path)
    layer = _described(path, metadata)
    try:
        checked, _, _, _ = read_weights(layer, reading_engine(str(layer)), arrays)
    except SeqcoreError as error:
        raise FileError(f"{path}: the weights do not fit the layer described: {error}") from None
    return layer, checked


def read_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read any safetensors file whose arrays have dtypes of the spec: the arrays and the metadata.

    Raises:
        FileError: if the file is absent, truncated, or not such a file.
    """
    from safetensors import SafetensorError, deserialize

    with reading(path) as (file, _):
        content = file.read()
    try:
        tensors = deserialize(content)  # type: ignore[no-untyped-call]
    except SafetensorError as error:
        raise FileError(
            f"{path}: not a safetensors file, or a truncated one: {error}; expected a file of "
            "seqcore.save, or of a library that writes safetensors"
        ) from None
    # The header is sound, now that the deserializer has been through it.
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    # By name, for the deserializer gives them in another order each time.
    arrays = {
        name: _array(path, name, tensor)
        for name, tensor in sorted(tensors, key=lambda pair: str(pair[0]))
    }
    return arrays, header.get("__metadata__") or {}


def write_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, NDArray[Any]],
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file, as a whole or not at all.

    Raises:
        FileError: if it cannot be written.
    """
    from safetensors.numpy import save as serialize

    # In row-major order, for the serializer writes memory as it finds it.
    ordered = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    with replacing(path) as file:
        file.write(serialize(ordered, dict(metadata)))


def _described(path: str | os.PathLike[str], metadata: Mapping[str, str]) -> AnyLayer:
    if "seqcore.spec" not in metadata:
        raise FileError(
            f"{path}: a safetensors file without the description of a layer, expected metadata "
            "'seqcore.spec'; write the file with seqcore.save"
        )
    found = metadata.get("seqcore.format")
    if found != FORMAT:
        raise FileError(f"{path}: file format {found!r}, expected {FORMAT!r}; update seqcore")
    try:
        return from_json(metadata["seqcore.spec"])
    except SeqcoreError as error:
        raise FileError(f"{path}: {error}") from None


def _array(path: str | os.PathLike[str], name: str, tensor: Mapping[str, Any]) -> NDArray[Any]:
    tag = tensor["dtype"]
    if tag not in _DTYPES:
        raise FileError(f"{path}: {name} has dtype {tag}, expected one of {', '.join(_DTYPES)}")
    flat = np.frombuffer(tensor["data"], numpy_dtype(_DTYPES[tag]))
    return flat.reshape(tensor["shape"])
