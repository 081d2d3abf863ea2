"""Sequences of different lengths, side by side in one array."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import DtypeError, ShapeError
from seqcore.registry import registry
from seqcore.spec.dtypes import DTYPES


def pad(parts: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return sequences padded with zeros on the right, and their lengths.

    Args:
        parts: A list of sequences, each (time, features) with a time of its own, 0 included:
            NumPy arrays of one dtype, or nested sequences of numbers, which are read as float32.

    Returns:
        `x`, (batch, time, features), with the time of the longest, and `lengths`, (batch,).

    Raises:
        ShapeError: if there are none, or their ranks or features differ.
        DtypeError: if their dtypes differ or are none of the spec's.
    """
    if isinstance(parts, np.ndarray) or not isinstance(parts, Sequence) or isinstance(parts, str):
        raise ShapeError(
            f"pad: received {type(parts).__name__}, expected a list of sequences, each "
            "(time, features)"
        )
    if not parts:
        raise ShapeError("pad: received an empty list, expected at least one sequence")
    arrays = [_array(index, part) for index, part in enumerate(parts)]
    features, dtype = arrays[0].shape[1], arrays[0].dtype
    for index, array in enumerate(arrays):
        if array.shape[1] != features:
            raise ShapeError(
                f"pad: sequence {index} has {array.shape[1]} features, expected {features}, those "
                "of the first"
            )
        if array.dtype != dtype:
            raise DtypeError(
                f"pad: sequence {index} is {array.dtype.name}, expected {dtype.name}, that of the "
                "first; cast it"
            )
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    x = np.zeros((len(arrays), int(lengths.max()), features), dtype)
    for row, array in zip(x, arrays, strict=True):
        row[: len(array)] = array
    return x, lengths


def _array(index: int, part: Any) -> NDArray[Any]:
    if isinstance(part, np.ma.MaskedArray) or registry.for_array(part) is not None:
        raise DtypeError(
            f"pad: sequence {index} is a {type(part).__name__} of "
            f"{type(part).__module__.partition('.')[0]}, expected a NumPy array or a nested "
            "sequence of numbers; convert it"
        )
    try:
        array = part if isinstance(part, np.ndarray) else np.asarray(part, np.float32)
    except (TypeError, ValueError):
        raise ShapeError(
            f"pad: sequence {index} is {type(part).__name__} that is no (time, features) array"
        ) from None
    if array.ndim != 2:
        raise ShapeError(
            f"pad: sequence {index} has shape {array.shape}, expected (time, features)"
        )
    if array.dtype.name not in DTYPES:
        raise DtypeError(
            f"pad: sequence {index} is {array.dtype.name}, expected one of {', '.join(DTYPES)}; "
            "cast it, as in part.astype('float32')"
        )
    return array
