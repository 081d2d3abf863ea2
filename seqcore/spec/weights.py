"""Canonical weights: their names, shapes and initial values (clauses NAME and INIT)."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import SpecError
from seqcore.spec.dtypes import HALF_DTYPES, numpy_dtype
from seqcore.spec.initializers import AnyInitializer, resolve
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.outputs import output_units

T = TypeVar("T")


def parts(layer: AnyLayer) -> tuple[tuple[str, AnyLayer], ...]:
    """Return a composite layer's parts with their prefixes; nothing for a single cell."""
    match layer:
        case Stack(layers=members):
            return tuple((f"layers.{index}.", member) for index, member in enumerate(members))
        case Bidirectional():
            return (("forward.", layer.forward), ("backward.", layer.backward))
        case Recurrent():
            return ()


def cells(layer: AnyLayer, features: int, prefix: str = "") -> Iterator[tuple[str, AnyCell, int]]:
    """Yield every cell in the layer as `(prefix, cell, its input's features)`."""
    if isinstance(layer, Recurrent):
        yield prefix, layer, features
    for name, part in parts(layer):
        yield from cells(part, features, prefix + name)
        if isinstance(layer, Stack):
            (features, *_) = output_units(part)


def extract(weights: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the weights below a prefix, without the prefix."""
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def attach(weights: Mapping[str, T], prefix: str) -> dict[str, T]:
    """Return the weights with a prefix before each name."""
    return {prefix + name: value for name, value in weights.items()}


def cell_shapes(cell: AnyCell, features: int) -> dict[str, tuple[int, ...]]:
    """Return one cell's weight shapes by name."""
    columns = cell.blocks * cell.units
    shapes: dict[str, tuple[int, ...]] = {
        "kernel": (features, columns),
        "recurrent_kernel": (cell.units, columns),
    }
    if cell.use_bias:
        shapes["bias"] = (columns,)
        if isinstance(cell, GRU) and cell.reset_after:
            shapes["recurrent_bias"] = (columns,)
    return shapes


def weight_shapes(layer: AnyLayer, features: int) -> dict[str, tuple[int, ...]]:
    """Return the canonical weights' shapes by name."""
    features = _count("features", features, 1)
    return {
        prefix + name: shape
        for prefix, cell, cell_features in cells(layer, features)
        for name, shape in cell_shapes(cell, cell_features).items()
    }


def weight_axes(cell: AnyCell) -> dict[str, str]:
    """Return what each weight's axes mean, for messages."""
    columns = f"{cell.blocks}*units" if cell.blocks > 1 else "units"
    return {
        "kernel": f"(features, {columns})",
        "recurrent_kernel": f"(units, {columns})",
        "bias": f"({columns},)",
        "recurrent_bias": f"({columns},)",
    }


def initial_weights(
    layer: AnyLayer, features: int, seed: int, dtype: str
) -> dict[str, NDArray[Any]]:
    """Return initial weights by canonical name; see `Layer.init`."""
    numpy_dtype(dtype)
    features = _count("features", features, 1)
    seed = _count("seed", seed, 0)
    if seed >= 2**64:
        raise SpecError(f"seed is {seed}, expected an integer from 0 to 2**64 - 1")
    weights: dict[str, NDArray[Any]] = {}
    for prefix, cell, cell_features in cells(layer, features):
        for name, shape in cell_shapes(cell, cell_features).items():
            try:
                values = _initializer(cell, name).values(seed, prefix + name, shape)
            except (MemoryError, ValueError) as error:  # ValueError: more than NumPy can index
                raise SpecError(
                    f"{layer}: {prefix + name} of shape {shape} does not fit into memory; "
                    "give fewer units"
                ) from error
            if name == "bias" and isinstance(cell, LSTM) and cell.unit_forget_bias:
                values[cell.units : 2 * cell.units] = 1.0
            weights[prefix + name] = _round(values, dtype)
    return weights


def _initializer(cell: AnyCell, name: str) -> AnyInitializer:
    field = {"kernel": "kernel_initializer", "recurrent_kernel": "recurrent_initializer"}.get(
        name, "bias_initializer"
    )
    return resolve(field, getattr(cell, field))


def _round(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    if dtype in HALF_DTYPES:
        # By way of float32, so that a half weight is the rounding of the float32 one everywhere.
        values = values.astype(np.float32)
    return values.astype(numpy_dtype(dtype))


def _count(name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        kind = "a positive integer" if least else "an integer of 0 or more"
        raise SpecError(f"{name} is {value!r}, expected {kind}")
    return number
