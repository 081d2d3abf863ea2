"""Arrays of any framework, and trees of them, as NumPy arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.runtime.inputs import reading_engine

SEPARATOR = "/"

_DEEPEST, _LARGEST = 32, 100_000


def array(subject: str, value: Any) -> NDArray[Any]:
    """Return one array of any framework as a NumPy array.

    What holds an array as its `value`, as the variables of Keras and Flax do, stands for it.

    Raises:
        ConversionError: if it is none.
    """
    found = _array(subject, value)
    if found is None:
        inner = getattr(value, "value", None)
        found = None if inner is None or callable(inner) else _array(subject, inner)
    if found is None:
        raise ConversionError(f"{subject} is {type(value).__name__}, expected an array")
    return found


def _array(subject: str, value: Any) -> NDArray[Any] | None:
    """Return an array of any framework as a NumPy array, and None for what is none."""
    if isinstance(value, np.ndarray):
        return None if isinstance(value, np.ma.MaskedArray) else value
    engine = reading_engine(subject, [value])
    # A framework's own objects are not all arrays.
    if engine.native and hasattr(value, "shape") and engine.info(value) is not None:
        return np.asarray(engine.backend.to_numpy(value))
    return None


def added(subject: str, first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of two biases that act as one.

    Raises:
        ConversionError: if the dtype has no number so large.
    """
    with np.errstate(over="ignore"):
        total: NDArray[Any] = first + second
    if np.any(np.isinf(total) & np.isfinite(first) & np.isfinite(second)):
        raise ConversionError(
            f"{subject}: the sum of the two biases is beyond {total.dtype.name}, expected smaller "
            "ones; cast them to float32"
        )
    return total


def leaves(subject: str, tree: Mapping[Any, Any], separator: str = SEPARATOR) -> dict[str, Any]:
    """Return what a tree of mappings holds, by path, the keys joined.

    Raises:
        ConversionError: if two have one path, or the tree is deeper or larger than a model's, as
            one that holds itself is.
    """
    found: dict[str, Any] = {}
    visits = 0

    def visit(branch: Mapping[Any, Any], prefix: str, depth: int) -> None:
        nonlocal visits
        visits += 1
        if depth > _DEEPEST or visits > _LARGEST:
            raise ConversionError(
                f"{subject}: a tree of more than {_DEEPEST} mappings in one another, or of more "
                f"than {_LARGEST}, expected a model's arrays; give its part with the layer alone"
            )
        for key, value in branch.items():
            path = f"{prefix}{key}"
            if isinstance(value, Mapping):
                visit(value, f"{path}{separator}", depth + 1)
            elif path in found:
                raise ConversionError(f"{subject}: holds {path} twice, expected one; rename one")
            else:
                found[path] = value

    visit(tree, "", 1)
    return found


def flat(
    subject: str, tree: Mapping[Any, Any], separator: str = SEPARATOR
) -> dict[str, NDArray[Any]]:
    """Return a tree of mappings as arrays by path, the keys joined.

    Raises:
        ConversionError: if a leaf is no array, or the tree is none of a model.
    """
    return {
        path: array(f"{subject}: {path}", leaf)
        for path, leaf in leaves(subject, tree, separator).items()
    }


def nested(arrays: Mapping[str, Any], separator: str = SEPARATOR) -> dict[str, Any]:
    """Return arrays by path as a tree of mappings.

    Raises:
        ConversionError: if one path goes on where another ends.
    """
    tree: dict[str, Any] = {}
    for path, value in arrays.items():
        *folders, name = path.split(separator)
        place: Any = tree
        for folder in folders:
            place = place.setdefault(folder, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict) or name in place:
            raise ConversionError(
                f"received {path} beside another array on its path, expected arrays at the ends of "
                "paths alone; rename one"
            )
        place[name] = value
    return tree


def shaped(
    subject: str, name: str, value: NDArray[Any], expected: tuple[int, ...], axes: str
) -> NDArray[Any]:
    """Return an array if it has the expected shape.

    Raises:
        ConversionError: otherwise; `axes` says what the sizes are.
    """
    if value.shape != expected:
        raise ConversionError(
            f"{subject}: {name} has shape {value.shape}, expected {expected} = {axes}"
        )
    return value
