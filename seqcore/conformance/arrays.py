"""The random arrays of the cases: the same for a seed and a label, on every backend."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.model import MaskPattern, ValueCase
from seqcore.conformance.subject import generator
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import AnyLayer
from seqcore.spec.outputs import output_names, output_units, state_units
from seqcore.spec.weights import weight_shapes


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arrays of one call.

    Attributes:
        weights: By canonical name.
        x: (batch, time, features).
        valid: The mask (batch, time) in every case, all True where the call has none.
        given: The keyword arguments of the call: `mask` or `lengths`, and `initial_state`.
        state: The initial state, zeros where the call gives none.
    """

    weights: dict[str, NDArray[Any]]
    x: NDArray[Any]
    valid: NDArray[np.bool_]
    given: dict[str, Any]
    state: tuple[NDArray[Any], ...]


def arguments(case: ValueCase, seed: int) -> Arguments:
    """Return the arrays of a case."""
    random = generator(seed, case.label or case.id)
    kind = numpy_dtype(case.dtype)
    weights = random_weights(case.layer, random, case.features, case.dtype, case.scale)
    x = random.standard_normal((case.batch, case.time, case.features)).astype(kind)
    state = tuple(
        random.standard_normal((case.batch, units)).astype(kind)
        for units in state_units(case.layer)
    )
    valid, lengths = mask_of(case.mask, case.batch, case.time, random)
    given: dict[str, Any] = {}
    if lengths is not None:
        given["lengths"] = lengths
    elif case.mask != "none":
        given["mask"] = valid
    if case.state:
        given["initial_state"] = state
    else:
        state = tuple(np.zeros_like(value) for value in state)
    if case.poison:
        bad = np.array([np.nan, np.inf, -np.inf])[random.integers(0, 3, x.shape)]
        x = np.where(valid[:, :, None], x, bad.astype(kind))
    return Arguments(weights, x, valid, given, state)


def random_weights(
    layer: AnyLayer,
    random: np.random.Generator,
    features: int,
    dtype: str = "float32",
    scale: float = 0.6,
) -> dict[str, NDArray[Any]]:
    """Return standard-normal weights times `scale`, biases included."""
    return {
        name: (scale * random.standard_normal(shape)).astype(numpy_dtype(dtype))
        for name, shape in weight_shapes(layer, features).items()
    }


def output_shapes(layer: AnyLayer, batch: int, time: int) -> dict[str, tuple[int, ...]]:
    """Return the shape of everything that a layer returns, by name."""
    ahead = (batch, time) if layer.return_sequences else (batch,)
    shapes: list[tuple[int, ...]] = [(*ahead, units) for units in output_units(layer)]
    if layer.return_state:
        shapes += [(batch, units) for units in state_units(layer)]
    return dict(zip(output_names(layer), shapes, strict=True))


def cotangents(
    label: str, seed: int, shapes: Iterable[tuple[int, ...]], dtype: str
) -> tuple[NDArray[Any], ...]:
    """Return standard-normal cotangents, one for each output's shape."""
    random = generator(seed, f"{label}, cotangents")
    return tuple(random.standard_normal(shape).astype(numpy_dtype(dtype)) for shape in shapes)


def cotangents_of(case: ValueCase, seed: int) -> tuple[NDArray[Any], ...]:
    """Return the cotangents of a case."""
    shapes = output_shapes(case.layer, case.batch, case.time).values()
    return cotangents(case.label or case.id, seed, shapes, case.dtype)


def mask_of(
    pattern: MaskPattern, batch: int, time: int, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.int64] | None]:
    """Return the mask (batch, time) of a pattern and, for `"lengths"`, the lengths.

    Where there are rows enough, one has all steps valid, and padding differs from row to row; of
    lengths one is 0.
    """
    steps = np.arange(time)
    count = random.integers(1, max(time, 2), batch)
    count[-1:] = time
    match pattern:
        case "none" | "valid":
            return np.ones((batch, time), np.bool_), None
        case "right":
            return steps < count[:, None], None
        case "lengths":
            if batch > 2:
                count[0] = 0
            return steps < count[:, None], count
        case "left":
            return steps >= time - count[:, None], None
        case "all":
            return np.zeros((batch, time), np.bool_), None
    valid = random.random((batch, time)) < 0.6
    # A hole inside, a first step that is not, and a last one that is not, each in some row.
    for row in range(batch):
        valid[row, random.integers(time)] = True
        if time > 2:
            valid[row, (0, time // 2, time - 1)[row % 3]] = False
    if pattern == "dead_row":
        valid[:1] = False
    return valid, None
