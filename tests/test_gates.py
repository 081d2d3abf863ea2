"""Looking inside: every gate and state at every step, by name, in original time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    Case,
    assert_close,
    assert_same_bits,
    composites,
)
from oracle import Oracle

EPS = 50
NAMES = {"rnn": "h", "lstm": "ifgoch", "gru": "zrnh", "gru_before": "zrnh"}


def cases() -> list[Case]:
    found = []
    for name, cell in CELLS.items():
        for pattern in ("none", "holes", "dead_row"):
            for fields in (
                {},
                {"mask_output": "carry"},
                {"go_backwards": True},
                {"go_backwards": True, "keep_order": True},
                {"return_sequences": True},
            ):
                layer = cell(**fields)
                found.append(Case(f"{name}-{pattern}-{sorted(fields)}", layer, pattern, True))
            found.append(Case(f"{name}-{pattern}", sc.Bidirectional(cell()), pattern, True))
    return found + composites()


@pytest.mark.clause("GATES-1")
@pytest.mark.clause("GATES-2")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_gates_equal_the_scalar_evaluation(case: Case) -> None:
    """Values, shapes and names; the oracle keeps them by the time of the call's x."""
    weights, x, others = case.arguments()
    found = case.layer.gates(weights, x, **others)
    expected = Oracle().gates(case.layer, weights, x, **others)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].shape[:2] == (BATCH, TIME)
        assert_same_nan(found[name], value)
        assert_close(np.nan_to_num(found[name]), np.nan_to_num(value), EPS, name)


def assert_same_nan(one: Any, two: Any) -> None:
    np.testing.assert_array_equal(np.isnan(one), np.isnan(two))


@pytest.mark.clause("GATES-1")
@pytest.mark.parametrize("name", CELLS)
def test_names_in_the_order_of_the_equations(name: str) -> None:
    layer = CELLS[name]()
    weights = layer.init(FEATURES)
    x = np.zeros((1, 2, FEATURES), np.float32)
    assert list(layer.gates(weights, x)) == list(NAMES[name])
    stack = sc.Stack([sc.Bidirectional(CELLS[name](return_sequences=True)), CELLS[name]()])
    shown = stack.gates(stack.init(FEATURES), x)
    prefixes = ("layers.0.forward.", "layers.0.backward.", "layers.1.")
    assert list(shown) == [prefix + gate for prefix in prefixes for gate in NAMES[name]]
    assert {value.dtype.name for value in shown.values()} == {"float32"}


@pytest.mark.clause("GATES-2")
def test_shapes_do_not_depend_on_flags_and_steps_are_those_of_x() -> None:
    weights, x, _ = Case("flags", sc.LSTM(UNITS)).arguments()
    plain = sc.LSTM(UNITS).gates(weights, x)
    for flags in (BOTH, {"return_sequences": True}, {"return_state": True}):
        for name, value in sc.LSTM(UNITS, **flags).gates(weights, x).items():
            assert value.shape == (BATCH, TIME, UNITS)
            assert_same_bits(value, plain[name])
    backwards = sc.LSTM(UNITS, go_backwards=True, return_sequences=True)
    shown = backwards.gates(weights, x)
    y = backwards.apply(weights, x)
    assert_close(shown["h"], y[:, ::-1], 4)


@pytest.mark.clause("GATES-3")
@pytest.mark.parametrize("output", ["zero", "carry"])
@pytest.mark.parametrize("name", CELLS)
def test_masked_steps(name: str, output: str) -> None:
    case = Case(f"{name}-masked", CELLS[name](mask_output=output), "dead_row", True)
    weights, x, others = case.arguments()
    found = case.layer.gates(weights, x, **others)
    masked = ~MASKS["dead_row"]
    for gate in set(NAMES[name]) - {"h", "c"}:
        assert np.isnan(found[gate][masked]).all()
        assert not np.isnan(found[gate][~masked]).any()
    carried = case.layer.replace(mask_output="carry", return_sequences=True)
    assert_close(found["h"], carried.apply(weights, x, **others), 4)
    for state, initial in zip("hc", others["initial_state"], strict=False):
        for t in range(TIME):
            assert_same_bits(found[state][1, t], initial[1])


@pytest.mark.parametrize("shape", [(0, TIME), (BATCH, 0), (0, 0)])
def test_gates_over_nothing(shape: tuple[int, int]) -> None:
    layer = sc.Stack([sc.Bidirectional(sc.LSTM(2, return_sequences=True)), sc.GRU(3)])
    shown = layer.gates(layer.init(FEATURES), np.zeros((*shape, FEATURES), np.float32))
    full = layer.gates(layer.init(FEATURES), np.zeros((1, 1, FEATURES), np.float32))
    assert list(shown) == list(full)
    for name, value in shown.items():
        assert value.shape == (*shape, full[name].shape[-1])
        assert value.dtype == np.float32


@pytest.mark.clause("GATES-1")
def test_the_seeds_reading_of_the_gates() -> None:
    """f=0 forgets, i=1 takes g as it is, o=0 hides the cell: the limits that explain the layer."""
    layer = sc.LSTM(1, return_sequences=True, return_state=True)
    weights = {
        "kernel": np.zeros((1, 4)),
        "recurrent_kernel": np.zeros((1, 4)),
        "bias": np.array([800.0, -800.0, 0.7, -800.0]),
    }
    shown = layer.gates(weights, np.zeros((1, 3, 1)), initial_state=[np.ones((1, 1))] * 2)
    assert [float(shown[gate][0, 0, 0]) for gate in "ifo"] == [1.0, 0.0, 0.0]
    assert_close(shown["c"][0, :, 0], np.tanh([0.7] * 3), 4)
    assert not shown["h"].any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_gates_have_the_dtype_of_x(dtype: str) -> None:
    case = Case("gates dtype", sc.Bidirectional(sc.GRU(2)), "holes")
    weights, x, others = case.arguments(dtype)
    for value in case.layer.gates(weights, x, **others).values():
        assert value.dtype == x.dtype
