"""Bound layers: a snapshot of the weights, run many times, equal to `apply`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BOTH,
    CELLS,
    Case,
    assert_same_bits,
    composites,
    each_implementation,
    flat,
    gradient_arrays,
    implementations,
    random_cotangents,
    takes,
)


def cases() -> list[Case]:
    cells = [
        Case(f"{name}-{mask}-bound", cell(**BOTH), mask, True)
        for name, cell in CELLS.items()
        for mask in ("none", "holes")
    ]
    both = [Case(f"{name}-both", sc.Bidirectional(cell(**BOTH))) for name, cell in CELLS.items()]
    return cells + both + composites()


@pytest.mark.parametrize(("case", "name"), each_implementation(cases(), "yes"))
def test_a_bound_layer_equals_apply_and_vjp(case: Case, name: str) -> None:
    weights, x, others = case.arguments()
    bound = case.layer.bind(weights, implementation=name)
    chosen = {"implementation": name, **others}
    expected = case.layer.apply(weights, x, **chosen)
    found = bound(x, **others)
    assert type(found) is type(expected)
    for one, two in zip(flat(found), flat(expected), strict=True):
        assert_same_bits(one, two)
    outputs, pullback = case.layer.vjp(weights, x, **chosen)
    bound_outputs, bound_pullback = bound.vjp(x, **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(0))
    for one, two in zip(flat(bound_outputs), flat(outputs), strict=True):
        assert_same_bits(one, two)
    gradients = gradient_arrays(bound_pullback(cotangents))
    for key, value in gradient_arrays(pullback(cotangents)).items():
        assert_same_bits(gradients[key], value)


@pytest.mark.clause("PURE-1")
@pytest.mark.parametrize("name", implementations())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("used", [False, True])
def test_later_changes_of_the_weights_do_not_reach_it(name: str, dtype: str, used: bool) -> None:
    for cell in CELLS.values():
        layer = sc.Bidirectional(cell(**BOTH))
        if not takes(name, layer, dtype=dtype, gradient="yes"):
            continue
        weights, x, _ = Case("snapshot", layer).arguments(dtype)
        expected = [value.copy() for value in layer.apply(weights, x, implementation=name)]
        kept = {key: value.copy() for key, value in weights.items()}
        bound = layer.bind(weights, implementation=name)
        if used:
            bound(x)
            bound.vjp(x)
        for value in weights.values():
            value.fill(np.nan)
        weights.clear()
        for one, two in zip(bound(x), expected, strict=True):
            assert_same_bits(one, two)
        outputs, pullback = bound.vjp(x)
        _, expected_pullback = layer.vjp(kept, x, implementation=name)
        cotangents = random_cotangents(outputs, np.random.default_rng(1))
        gradients = gradient_arrays(expected_pullback(cotangents))
        for key, value in gradient_arrays(pullback(cotangents)).items():
            assert_same_bits(value, gradients[key])
        for key, value in bound.weights.items():
            assert_same_bits(value, kept[key])


@pytest.mark.clause("PURE-1")
def test_the_weights_it_shows_are_copies() -> None:
    layer = sc.GRU(2)
    weights, x, _ = Case("copies", layer).arguments("float32")
    bound = layer.bind(weights)
    before = bound(x)
    shown = bound.weights
    assert list(shown) == list(layer.weight_shapes(4))
    for value in shown.values():
        value.fill(0)
    shown.clear()
    assert_same_bits(bound(x), before)
    assert len(bound.weights) == 4


def test_what_it_tells_of_itself() -> None:
    layer = sc.LSTM(2, return_state=True)
    bound = layer.bind(layer.init(3), matmul_precision="tf32")
    assert isinstance(bound, sc.BoundLayer)
    assert bound.layer == layer
    assert bound.backend == "numpy"
    assert "LSTM(units=2)" in repr(bound)
    assert "numpy" in repr(bound)
    plan = bound.explain(mask="any", gradient="yes")
    assert isinstance(plan, sc.Explanation)
    assert (plan.backend, plan.precision, plan.mask, plan.gradient) == (
        "numpy",
        "tf32",
        "any",
        "yes",
    )
    with pytest.raises(sc.ArgumentError, match="mask is 'some'"):
        bound.explain(mask="some")  # type: ignore[arg-type]


@pytest.mark.clause("PREC-1")
def test_options_are_those_in_force_when_it_was_bound() -> None:
    layer = sc.LSTM(2)
    weights, x, _ = Case("in force", layer).arguments("float32")
    highest = layer.apply(weights, x)
    tf32 = layer.apply(weights, x, matmul_precision="tf32")
    assert not np.array_equal(highest, tf32)
    plain = layer.bind(weights)
    with sc.use_backend("numpy", matmul_precision="tf32"):
        within = layer.bind(weights)
        assert_same_bits(plain(x), highest)
    assert_same_bits(within(x), tf32)


def test_many_threads_on_the_first_use() -> None:
    """A bound layer prepares its weights on first use, which may be at the same time."""
    layer = sc.Bidirectional(sc.LSTM(4, **BOTH))
    weights, x, _ = Case("threads", layer).arguments()
    expected = [value.tobytes() for value in layer.apply(weights, x)]
    for _ in range(5):
        bound = layer.bind(weights)

        def run(_: int, bound: Any = bound) -> list[bytes]:
            return [value.tobytes() for value in bound(x)]

        with ThreadPoolExecutor(8) as pool:
            assert all(found == expected for found in pool.map(run, range(16)))


def test_weights_are_checked_when_it_is_bound() -> None:
    layer = sc.LSTM(2)
    weights = layer.init(3)
    with pytest.raises(sc.WeightsError, match="missing bias"):
        layer.bind({key: value for key, value in weights.items() if key != "bias"})
    with pytest.raises(sc.DtypeError):
        layer.bind(weights | {"bias": weights["bias"].astype(np.float64)})
    with pytest.raises(sc.BackendNotFound):
        layer.bind(weights, backend="nunpy")
    with pytest.raises(sc.ShapeError, match="expected 3"):
        layer.bind(weights)(np.zeros((1, 1, 4), np.float32))


def test_calls_like_an_earlier_one_equal_apply() -> None:
    # From the second call of a signature on, checks and plan are those of the first.
    layer = sc.LSTM(3, **BOTH)
    weights = layer.init(features=5, seed=0, dtype="float32")
    bound = layer.bind(weights)
    rng = np.random.default_rng(0)
    kept = []
    for _ in range(3):
        for batch, time in ((2, 4), (1, 1), (0, 4), (2, 0)):
            x = rng.standard_normal((batch, time, 5), dtype=np.float32)
            state = tuple(rng.standard_normal((2, batch, 3), dtype=np.float32))
            for given in (None, state, list(state)):
                found = bound(x, initial_state=given)
                kept.append((found, layer.apply(weights, x, initial_state=given)))
    for found, expected in kept:  # all at the end: no result may lie in another's memory
        assert type(found) is type(expected)
        for one, two in zip(found, expected, strict=True):
            assert_same_bits(one, two)


@pytest.mark.parametrize(
    "wrong",
    [
        {"x": np.zeros((2, 4, 5))},
        {"x": np.ma.masked_array(np.zeros((2, 4, 5), np.float32))},
        {"x": np.zeros((2, 4, 6), np.float32)},
        {"x": np.zeros((4, 5), np.float32)},
        {"initial_state": (np.zeros((2, 3), np.float32),)},
        {"initial_state": (np.zeros((2, 3), np.float32), None)},
        {"initial_state": (np.zeros((2, 3), np.float32), np.zeros((2, 3)))},
        {"initial_state": (np.zeros((2, 3), np.float32), np.zeros((1, 3), np.float32))},
        {"initial_state": np.zeros((2, 3), np.float32)},
        {"initial_state": ()},
        {"initial_state": []},
        {"mask": np.zeros((2, 5), np.bool_)},
        {"lengths": np.array([4, 5])},
        {"training": True},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_wrong_call_after_a_right_one_is_refused(wrong: dict[str, Any]) -> None:
    layer = sc.LSTM(3, **BOTH)
    weights = layer.init(features=5, seed=0)
    right = {"x": np.zeros((2, 4, 5), np.float32)}
    state = {"initial_state": (np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))}
    used, fresh = layer.bind(weights), layer.bind(weights)
    for _ in range(2):
        used(**right)
        used(**right, **state)
    messages = []
    for bound in (fresh, used):
        with pytest.raises(sc.SeqcoreError) as raised:
            bound(**(right | wrong))
        messages.append((type(raised.value), str(raised.value)))
    assert messages[0] == messages[1]


def test_only_the_latest_signatures_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("seqcore.runtime.bound._MOST_KNOWN", 2)
    layer = sc.GRU(3)
    weights = layer.init(features=5, seed=0)
    bound = layer.bind(weights)
    for time in (1, 2, 3, 4, 1, 2, 3, 4):
        x = np.full((2, time, 5), time, np.float32)
        assert_same_bits(bound(x), layer.apply(weights, x))
    # Nothing public shows it: what is not kept is checked anew and gives the same.
    assert [signature[0][0] for signature in bound._known] == [(2, 3, 5), (2, 4, 5)]
