"""The numbers of a tensor in an ONNX model, taken only if they are all there.

Source: https://onnx.ai/onnx/api/classes.html#tensorproto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.spec.dtypes import numpy_dtype

DTYPES: Mapping[str, np.dtype[Any]] = {
    "FLOAT": numpy_dtype("float32"),
    "DOUBLE": numpy_dtype("float64"),
    "FLOAT16": numpy_dtype("float16"),
    "BFLOAT16": numpy_dtype("bfloat16"),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
}
"""The data types that are read, by ONNX's names."""

_FIELDS = {"FLOAT": "float_data", "DOUBLE": "double_data", "INT64": "int64_data"}
"""Where the numbers are if they are not in `raw_data`; the others' are in `int32_data`."""


def kind_named(number: int) -> str:
    """Return the name of a data type by ONNX's number, `""` if there is none."""
    from onnx import TensorProto

    types = TensorProto.DataType
    return types.Name(number) if number in types.values() else ""


def kind_of(tensor: Any) -> str:
    """Return the name of a tensor's data type, `""` if there is none."""
    return kind_named(tensor.data_type)


def count_of(subject: str, tensor: Any) -> int:
    """Return how many numbers a tensor has by its dimensions.

    Raises:
        ConversionError: if one of them is negative.
    """
    if any(size < 0 for size in tensor.dims):
        raise ConversionError(
            f"{subject}: has the dimensions {shown(tensor)}, expected none below 0"
        )
    return math.prod(tensor.dims)


def array_of(subject: str, tensor: Any) -> NDArray[Any]:
    """Return a `TensorProto` as an array; its dimensions are believed once the numbers are there.

    Raises:
        ConversionError: if it has not as many numbers as its dimensions say, or they are elsewhere.
    """
    from onnx import TensorProto

    kind = kind_of(tensor)
    if kind not in DTYPES:
        raise ConversionError(
            f"{subject}: has data of type {kind or tensor.data_type}, expected one of "
            f"{', '.join(DTYPES)}"
        )
    if tensor.data_location == TensorProto.EXTERNAL:
        raise ConversionError(
            f"{subject}: its numbers are in another file, beside the model; read the model from "
            "its path, not from bytes"
        )
    count, dtype = count_of(subject, tensor), DTYPES[kind]
    field = getattr(tensor, _FIELDS.get(kind, "int32_data"))
    raw = tensor.HasField("raw_data")
    expected, found = (count * dtype.itemsize, len(tensor.raw_data)) if raw else (count, len(field))
    if expected != found or len(tensor.dims) > 32:
        raise ConversionError(
            f"{subject}: holds {found} {'bytes' if raw else 'numbers'}, expected {expected} for "
            f"{kind} {shown(tensor)}; the file is damaged"
        )
    if raw:
        values: NDArray[Any] = np.frombuffer(tensor.raw_data, dtype)
    elif kind in ("FLOAT16", "BFLOAT16"):
        # The bits, each in an integer of its own.
        values = np.array(field, np.int64).astype(np.uint16).view(dtype)
    else:
        values = np.array(field, np.int32 if kind == "BOOL" else dtype).astype(dtype)
    return values.reshape(tuple(tensor.dims))


def shown(tensor: Any) -> str:
    """Return a tensor's dimensions for a message."""
    more = ", ..." if len(tensor.dims) > 8 else ""
    return f"({', '.join(map(str, tensor.dims[:8]))}{more})"
