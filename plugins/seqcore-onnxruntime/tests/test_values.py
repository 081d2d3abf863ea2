"""Numbers against NumPy's, by both implementations."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import seqcore as sc
from helpers import ALL, CELLS, LAYERS, MASKS, arguments, assert_close

from seqcore_onnxruntime.tame import is_tame

BOUNDED = {
    "lstm": sc.LSTM(3, **ALL),
    "gru": sc.GRU(3, **ALL),
    "both": sc.Bidirectional(sc.LSTM(3, **ALL)),
    "hard": sc.LSTM(3, recurrent_activation="hard_sigmoid", activation="sigmoid", **ALL),
    "stack": sc.Stack([sc.GRU(3, return_sequences=True), sc.LSTM(2, return_sequences=True)], **ALL),
}


@pytest.mark.parametrize("implementation", [None, "scan"])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_outputs_are_numpys(layer: Any, mask: str, implementation: str | None) -> None:
    weights, x, state = arguments(layer)
    given = {**MASKS[mask], "initial_state": state}
    found = layer.apply(weights, x, backend="onnxruntime", implementation=implementation, **given)
    assert_close(layer, weights, x, given, found)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_other_data_types_are_numpys(layer: Any, dtype: str) -> None:
    weights, x, state = arguments(layer, dtype)
    given = {**MASKS["holes"], "initial_state": state}
    found = layer.apply(weights, x, backend="onnxruntime", **given)
    assert_close(layer, weights, x, given, found)


@pytest.mark.parametrize("implementation", ["operators", "scan"])
@pytest.mark.parametrize("mask", ["lengths", "holes"])
@pytest.mark.parametrize("output", ["zero", "carry"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_row_without_a_valid_step_keeps_its_initial_state(
    cell: str, output: str, mask: str, implementation: str
) -> None:
    layer = CELLS[cell].replace(mask_output=output)
    weights, x, state = arguments(layer)
    y, *final = layer.apply(
        weights,
        x,
        backend="onnxruntime",
        implementation=implementation,
        initial_state=state,
        **MASKS[mask],
    )
    for after, before in zip(final, state, strict=True):
        np.testing.assert_array_equal(after[2], before[2])
    expected = state[0][2] if output == "carry" else np.zeros(layer.units)
    np.testing.assert_array_equal(y[2], np.broadcast_to(expected, y[2].shape))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
@pytest.mark.parametrize("where", ["x", "state", "weight"])
@pytest.mark.parametrize("layer", BOUNDED.values(), ids=BOUNDED)
def test_nan_infinity_and_overflow_go_through_the_equations(
    layer: Any, where: str, bad: float
) -> None:
    assert layer.explain(backend="onnxruntime").implementations() == ("operators",)
    weights, x, state = arguments(layer)
    place = {"x": x, "state": state[0], "weight": next(iter(weights.values()))}[where]
    place[(1,) * place.ndim] = bad
    with np.errstate(all="ignore"):
        expected = layer.apply(
            weights, x, initial_state=state, backend="numpy", implementation="generic"
        )
    found = layer.apply(weights, x, initial_state=state, backend="onnxruntime")
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    assert where == "weight" or all(np.isfinite(one[0]).all() for one in found)


@pytest.mark.parametrize("mask", ["lengths", "holes"])
def test_what_is_masked_may_be_nan(mask: str) -> None:
    layer = LAYERS["stack-carry"]
    weights, x, state = arguments(layer)
    given = {**MASKS[mask], "initial_state": state}
    valid = given.get("mask")
    if valid is None:
        valid = np.arange(x.shape[1]) < given["lengths"][:, None]
    expected = layer.apply(weights, x, backend="onnxruntime", **given)
    x[~valid] = np.nan
    found = layer.apply(weights, x, backend="onnxruntime", **given)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_bound_layer_serves_several_threads() -> None:
    layer = BOUNDED["stack"]
    weights, x, _ = arguments(layer)
    bound = layer.bind(weights, backend="onnxruntime")
    inputs = [x * scale for scale in np.linspace(0.1, 2, 40, dtype=np.float32)]
    inputs[7][0] = np.nan  # the equations, too, are prepared while others call
    expected = [layer.apply(weights, one, backend="onnxruntime") for one in inputs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(bound, inputs))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.y, other.y)


def test_results_outlive_their_bound_layer() -> None:
    layer = sc.LSTM(64, return_sequences=True)
    weights, x, _ = arguments(layer, features=32)
    bound = layer.bind(weights, backend="onnxruntime")
    kept = bound(x)
    expected = kept.copy()
    del bound
    for seed in range(5):
        layer.bind(layer.init(32, seed=seed), backend="onnxruntime")(x)
    np.testing.assert_array_equal(kept, expected)
    kept[...] = 0  # it is the caller's


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize(
    ("value", "tame"),
    [(0, True), (1e10, True), (1e16, False), (3e38, False), (np.inf, False), (np.nan, False)],
)
def test_tame_are_finite_numbers_of_ordinary_size(size: int, value: float, tame: bool) -> None:
    array = np.ones((2, size), np.float32)
    array[1, 1] = value
    assert is_tame(array) is tame
    assert is_tame(array[:, ::-1]) is tame
