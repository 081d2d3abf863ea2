"""Layers, arguments and a comparison with NumPy, for several test modules."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqcore as sc
from numpy.typing import NDArray
from seqcore.compare.reference import Reference
from seqcore.spec.layers import AnyLayer
from seqcore.spec.outputs import output_names, state_units

BATCH, TIME, FEATURES = 4, 6, 3
ALL: dict[str, Any] = {"return_sequences": True, "return_state": True}
ACTIVATIONS = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid")
MERGES = ("concat", "sum", "mul", "ave", "none")
NOTHING = {"mask": None, "lengths": None, "initial_state": None}

CELLS: dict[str, Any] = {
    "rnn": sc.SimpleRNN(2, **ALL),
    "lstm": sc.LSTM(2, **ALL),
    "gru": sc.GRU(2, **ALL),
    "gru-before": sc.GRU(2, reset_after=False, **ALL),
}


def _layers() -> dict[str, Any]:
    found = dict(CELLS)
    for name, cell in CELLS.items():
        found[f"{name}-no-bias"] = cell.replace(use_bias=False)
        found[f"{name}-backwards"] = cell.replace(go_backwards=True)
        found[f"{name}-keep-order-carry"] = cell.replace(
            go_backwards=True, keep_order=True, mask_output="carry"
        )
    for mode, output in itertools.product(MERGES, ("zero", "carry")):
        forward, backward = (cell(2, mask_output=output, **ALL) for cell in (sc.LSTM, sc.GRU))
        both = sc.Bidirectional(forward, mode, backward_layer=backward)
        found[f"bidirectional-{mode}-{output}"] = both
    turning = sc.GRU(2, go_backwards=True, return_sequences=True)
    inner = sc.Bidirectional(sc.LSTM(2, return_sequences=True), "sum")
    for output in ("zero", "carry"):
        last = sc.LSTM(3, go_backwards=True, return_sequences=True, mask_output=output)
        found[f"stack-{output}"] = sc.Stack([inner, turning, inner, last], **ALL)
        found[f"stack-turned-{output}"] = sc.Stack(
            [turning, sc.Bidirectional(last.replace(go_backwards=False), "none")], **ALL
        )
    return found


LAYERS = _layers()

MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "lengths": {"lengths": np.array([TIME, 3, 0, 1])},
    "holes": {
        "mask": np.array(
            [
                [True, False, True, True, False, True],
                [False, False, True, False, True, True],
                [False] * TIME,
                [True, True, False, False, False, False],
            ]
        )
    },
}


def arguments(
    layer: AnyLayer, dtype: str = "float32", features: int = FEATURES
) -> tuple[dict[str, NDArray[Any]], NDArray[Any], tuple[NDArray[Any], ...]]:
    """Return random weights, x and initial state."""
    random = np.random.default_rng(0)

    def drawn(shape: tuple[int, ...]) -> NDArray[Any]:
        return random.standard_normal(shape)

    kind = layer.init(features, dtype=dtype)
    weights = {name: (0.6 * drawn(value.shape)).astype(value.dtype) for name, value in kind.items()}
    first = next(iter(weights.values())).dtype
    x = drawn((BATCH, TIME, features)).astype(first)
    return weights, x, tuple(drawn((BATCH, units)).astype(first) for units in state_units(layer))


def assert_close(
    layer: Any,
    weights: Mapping[str, NDArray[Any]],
    x: NDArray[Any],
    given: Mapping[str, Any],
    found: Any,
) -> None:
    """Compare all outputs of a layer that returns its state with NumPy's, as `sc.compare` does."""
    reference = Reference(layer, weights, x, NOTHING | given, precision="highest", seed=0)
    expected = layer.apply(weights, x, backend="numpy", **given)
    assert found._fields == output_names(layer)
    for name, one, other in zip(found._fields, found, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert reference.distance(name, one, other) <= 2 * reference.limits[name], name
