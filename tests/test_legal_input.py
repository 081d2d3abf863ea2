"""Input that is unusual and legal: nothing at all, odd layouts, saturated gates, many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
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
    MERGES,
    TIME,
    UNITS,
    Case,
    assert_close,
    assert_same_bits,
    composites,
    each_implementation,
    flat,
    gradient_arrays,
    implementations,
    needs,
    random_cotangents,
    random_state,
    random_weights,
    takes,
)
from oracle import Oracle


def degenerate_layers() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in CELLS.items():
        for sequences in (False, True):
            flags = {"return_sequences": sequences, "return_state": True}
            found[f"{name}-{sequences}"] = cell(**flags)
            found[f"{name}-{sequences}-r"] = cell(go_backwards=True, **flags)
            for merge in MERGES:
                found[f"{name}-{sequences}-{merge}"] = sc.Bidirectional(cell(**flags), merge)
    return found | {case.id: case.layer for case in composites() if case.mask == "none"}


LAYERS = degenerate_layers()


def call(layer: Any, batch: int, time: int, dtype: str = "float64") -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(1)
    weights = random_weights(layer, rng, dtype)
    x = rng.normal(size=(batch, time, FEATURES)).astype(weights_dtype(weights))
    return weights, x, random_state(layer, rng, dtype, batch)


def weights_dtype(weights: Any) -> Any:
    return next(iter(weights.values())).dtype


def shapes(layer: Any, weights: Any, batch: int, time: int) -> list[tuple[int, ...]]:
    """Of a full call, with other sizes put in."""
    x = np.zeros((7, 9, FEATURES))
    full = [value.shape for value in flat(layer.apply(weights, x))]
    return [tuple({7: batch, 9: time}.get(size, size) for size in shape) for shape in full]


@pytest.mark.clause("DEG-1")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_no_rows(layer: Any) -> None:
    weights, x, state = call(layer, 0, TIME)
    expected = shapes(layer, weights, 0, TIME)
    for others in (
        {},
        {"mask": np.ones((0, TIME), bool)},
        {"lengths": np.zeros(0, int)},
        {"initial_state": state},
    ):
        outputs = layer.apply(weights, x, **others)
        assert [value.shape for value in flat(outputs)] == expected
        assert {value.dtype for value in flat(outputs)} == {np.dtype(np.float64)}


@pytest.mark.clause("DEG-2")
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_no_steps(layer: Any, dtype: str) -> None:
    """The initial state comes out, merged where the layer merges."""
    weights, x, state = call(layer, BATCH, 0, dtype)
    for others in ({}, {"mask": np.ones((BATCH, 0), bool)}, {"lengths": np.zeros(BATCH, int)}):
        outputs = flat(layer.apply(weights, x, initial_state=state, **others))
        expected = Oracle().apply(layer, weights, x, initial_state=state)
        assert len(outputs) == len(expected)
        for mine, oracles in zip(outputs, expected, strict=True):
            assert mine.dtype == x.dtype
            assert mine.shape == oracles.shape
            wide = mine.astype(float)
            np.testing.assert_allclose(wide, oracles, rtol=2.0**-7, atol=2.0**-7)
        if layer.return_state:
            for mine, given in zip(outputs[-len(state) :], state, strict=True):
                assert_same_bits(mine, given)
    for mine in flat(layer.apply(weights, x)):
        assert not mine.astype(float).any()


@pytest.mark.clause("DEG-3")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_one_step(layer: Any) -> None:
    weights, x, state = call(layer, BATCH, 1)
    outputs = flat(layer.apply(weights, x, initial_state=state))
    expected = Oracle().apply(layer, weights, x, initial_state=state)
    for mine, oracles in zip(outputs, expected, strict=True):
        assert_close(mine, oracles, 50)
    one = flat(layer.apply(weights, x[:1], initial_state=[value[:1] for value in state]))
    assert [value.shape for value in one] == shapes(layer, weights, 1, 1)


@pytest.mark.clause("DEG-4")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
def test_gradients_over_nothing(layer: Any) -> None:
    rng = np.random.default_rng(2)
    for batch, time in ((0, TIME), (BATCH, 0), (0, 0)):
        weights, x, state = call(layer, batch, time)
        outputs, pullback = layer.vjp(weights, x, initial_state=state)
        cotangents = random_cotangents(outputs, rng)
        found = pullback(cotangents)
        for name, value in weights.items():
            assert_same_bits(found.weights[name], np.zeros_like(value))
        assert_same_bits(found.x, np.zeros_like(x))
        assert [d.shape for d in found.initial_state] == [s.shape for s in state]
        if batch == 0 or time:
            continue

        # Over no steps the outputs are functions of the initial state alone, by the merge.
        def loss(states: Any, given: Any = (weights, x, cotangents)) -> float:
            values = Oracle().apply(layer, *given[:2], initial_state=states)
            ds = flat(given[2])
            return float(sum((y * d).sum() for y, d in zip(values, ds, strict=True)))

        for index, value in enumerate(state):
            direction = rng.normal(size=value.shape)
            ahead, behind = (
                [v + by * direction if i == index else v for i, v in enumerate(state)]
                for by in (0.5, -0.5)
            )
            expected = loss(ahead) - loss(behind)  # exact: at most linear in one state
            assert_close((found.initial_state[index] * direction).sum(), expected, 200)


@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_degenerate_sizes_never_reach_an_implementation(
    name: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqcore.registry import registry

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("an implementation was called")

    for each in registry.get("numpy").implementations:
        for method in ("prepare", "run", "vjp", "pullback"):
            monkeypatch.setattr(type(each), method, never)
    layer = sc.Stack([sc.Bidirectional(CELLS[name](return_sequences=True)), sc.GRU(3)])
    for batch, time in ((0, 4), (4, 0), (0, 0)):
        weights, x, _ = call(layer, batch, time)
        y, pullback = layer.vjp(weights, x, implementation=implementation)
        pullback(np.zeros_like(y))
        layer.apply(weights, x, implementation=implementation)
        layer.bind(weights, implementation=implementation)(x)
        layer(x)


# Layouts.


def strided(array: Any) -> Any:
    wide = np.full(tuple(2 * size for size in array.shape), 99, array.dtype)
    part = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    part[...] = array
    return part


def negative(array: Any) -> Any:
    return array[..., ::-1].copy()[..., ::-1]


def every_negative(array: Any) -> Any:
    back = (slice(None, None, -1),) * array.ndim
    return np.ascontiguousarray(array[back])[back]


def read_only(array: Any) -> Any:
    array = array.copy()
    array.setflags(write=False)
    return array


def swapped(array: Any) -> Any:
    return array.astype(array.dtype.newbyteorder("S"))


def axes_moved(array: Any) -> Any:
    order = tuple(reversed(range(array.ndim)))
    return array.transpose(order).copy().transpose(order)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "strided": strided,
    "fortran": np.asfortranarray,
    "negative": negative,
    "every_negative": every_negative,
    "read_only": read_only,
    "big_endian": swapped,
    "axes_moved": axes_moved,
}


@pytest.mark.clause("LAYOUT-1")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CELLS)
def test_strides_do_not_matter(name: str, dtype: str, implementation: str, layout: str) -> None:
    case = Case(f"{name}-layout", sc.Bidirectional(CELLS[name](**BOTH)), "holes", True)
    needs(implementation, case.layer, dtype=dtype, mask="any", gradient="yes")
    weights, x, others = case.arguments(dtype)
    change = LAYOUTS[layout]
    other_weights = {key: change(value) for key, value in weights.items()}
    other = {
        "mask": change(others["mask"]) if layout != "big_endian" else others["mask"],
        "initial_state": [change(value) for value in others["initial_state"]],
    }
    results = []
    for w, each, rest in ((weights, x, others), (other_weights, change(x), other)):
        outputs, pullback = case.layer.vjp(w, each, implementation=implementation, **rest)
        cotangents = random_cotangents(outputs, np.random.default_rng(3))
        if each is not x:
            cotangents = tuple(change(d) for d in cotangents)
        applied = case.layer.apply(w, each, implementation=implementation, **rest)
        gradients = gradient_arrays(pullback(cotangents)).values()
        results.append([*outputs, *applied, *gradients])
    tolerance = 100 * np.finfo(dtype).eps
    for one, two in zip(*results, strict=True):
        assert two.dtype == dtype
        np.testing.assert_allclose(two, one, rtol=0, atol=tolerance)


@pytest.mark.clause("LAYOUT-1")
def test_zero_strides_and_lengths_of_any_layout() -> None:
    layer = sc.Bidirectional(sc.LSTM(UNITS, **BOTH))
    weights, x, _ = call(layer, BATCH, TIME)
    same = np.broadcast_to(x[:1, :1], x.shape)
    state = [np.broadcast_to(np.float64(0.25), (BATCH, UNITS))] * 4
    mask = np.broadcast_to(np.array([True, False, True, True, True]), (BATCH, TIME))
    found = layer.apply(weights, same, mask=mask, initial_state=state)
    expected = layer.apply(
        weights, same.copy(), mask=mask.copy(), initial_state=[v.copy() for v in state]
    )
    for one, two in zip(found, expected, strict=True):
        assert_close(one, two, 20)
    y, pullback = layer.replace(layer=sc.LSTM(UNITS)).vjp(weights, x)
    ones = np.broadcast_to(np.float64(1), y.shape)
    assert_close(pullback(ones).x, pullback(ones.copy()).x, 20)
    lengths = np.array([5, 9, 2, 9, 0])[::2]
    for kind in (np.int8, np.uint16, np.int64, np.dtype(">i4")):
        found = layer.apply(weights, x, lengths=lengths.astype(kind))
        other = layer.apply(weights, x, mask=np.arange(TIME) < lengths[:, None])
        assert_close(found.y, other.y, 4)


def test_memory_maps(tmp_path: Path) -> None:
    layer = sc.GRU(UNITS, **BOTH)
    weights, x, _ = call(layer, BATCH, TIME)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    for one, two in zip(layer.apply(weights, mapped), layer.apply(weights, x), strict=True):
        assert type(one) is np.ndarray
        assert_same_bits(one, two)


@pytest.mark.clause("ARR-1")
def test_sequences_for_every_argument_but_the_weights() -> None:
    layer = sc.LSTM(UNITS, **BOTH)
    weights, x, state = call(layer, BATCH, TIME)
    mask = MASKS["holes"]
    outputs, pullback = layer.vjp(weights, x, mask=mask, initial_state=state)
    cotangents = random_cotangents(outputs, np.random.default_rng(0))
    listed, pull = layer.vjp(
        weights,
        x.tolist(),
        mask=mask.tolist(),
        initial_state=[value.tolist() for value in state],
    )
    gradients = gradient_arrays(pull([d.tolist() for d in cotangents]))
    for one, two in zip(listed, outputs, strict=True):
        assert type(one) is np.ndarray
        assert_same_bits(one, two)
    for name, value in gradient_arrays(pullback(cotangents)).items():
        assert type(gradients[name]) is np.ndarray
        assert_same_bits(gradients[name], value)
    tuples = tuple(tuple(tuple(step) for step in row) for row in x.tolist())
    assert_same_bits(
        layer.apply(weights, tuples, lengths=(5, 0, 2)).y,
        layer.apply(weights, x, lengths=np.array([5, 0, 2])).y,
    )


# Saturation.


@pytest.mark.clause("ACT-3")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_saturated_gates_both_ways(name: str, implementation: str, sign: int, dtype: str) -> None:
    """No warning (each is an error here), no NaN, and gradients that are finite."""
    layer = CELLS[name](**BOTH)
    needs(implementation, layer, dtype=dtype, gradient="yes")
    weights, x, state = call(layer, BATCH, TIME, dtype)
    weights = {key: value * value.dtype.type(1e4) for key, value in weights.items()}
    weights["bias"][...] = sign * 1e6
    with np.errstate(all="raise", under="ignore"):
        outputs, pullback = layer.vjp(
            weights, 100 * x, initial_state=state, implementation=implementation
        )
        found = gradient_arrays(pullback(random_cotangents(outputs, np.random.default_rng(4))))
        layer.apply(weights, 100 * x, initial_state=state, implementation=implementation)
    for value in (*outputs, *found.values()):
        assert np.isfinite(value).all()
    assert np.abs(outputs.h).max() <= max(1, np.abs(state[0]).max())


# Purity.


def arrays_in(value: Any) -> Iterator[Any]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from arrays_in(one)
    elif isinstance(value, tuple | list):
        for one in value:
            yield from arrays_in(one)


def pure_cases() -> list[Case]:
    found = []
    for name, cell in CELLS.items():
        for pattern in ("none", "all", "holes"):
            layer = cell(mask_output="carry", **BOTH)
            found.append(Case(f"{name}-{pattern}-pure", layer, pattern, True))
            found.append(Case(f"{name}-{pattern}-one", cell(return_state=True), pattern, True))
            found += [
                Case(
                    f"{name}-{pattern}-{merge}-pure", sc.Bidirectional(layer, merge), pattern, True
                )
                for merge in ("concat", "sum", "none")
            ]
    return found + composites()


@pytest.mark.clause("PURE-1")
@pytest.mark.clause("PURE-2")
@pytest.mark.parametrize(("case", "name"), each_implementation(pure_cases(), "yes"))
def test_no_argument_is_changed_and_no_result_is_one(case: Case, name: str) -> None:
    weights, x, others = case.arguments()
    arguments = list(arrays_in([weights, x, others]))
    before = [value.tobytes() for value in arguments]
    chosen = {"implementation": name, **others}
    results: list[Any] = []
    for _ in range(2):
        results.append(list(arrays_in(case.layer.apply(weights, x, **chosen))))
        outputs, pullback = case.layer.vjp(weights, x, **chosen)
        cotangents = random_cotangents(outputs, np.random.default_rng(5))
        arguments += arrays_in(cotangents)
        before += [value.tobytes() for value in arrays_in(cotangents)]
        results.append(list(arrays_in(outputs)))
        results.extend([list(arrays_in(pullback(cotangents))) for _ in range(2)])
    assert [value.tobytes() for value in arguments] == before
    for index, one in enumerate(results):
        for mine in one:
            assert mine.flags.writeable
            assert not any(np.shares_memory(mine, value) for value in arguments)
            for other in results[index + 1 :]:
                assert not any(np.shares_memory(mine, value) for value in other)


@pytest.mark.clause("PURE-2")
@pytest.mark.parametrize("layer", LAYERS.values(), ids=list(LAYERS))
@pytest.mark.parametrize("size", [(0, 3), (2, 0)])
def test_results_over_nothing_are_the_callers_too(layer: Any, size: tuple[int, int]) -> None:
    weights, x, state = call(layer, *size)
    kept = [value.copy() for value in state]
    outputs, pullback = layer.vjp(weights, x, initial_state=state)
    cotangents = random_cotangents(outputs, np.random.default_rng(6))
    gradients = pullback(cotangents)
    for mine in (*flat(outputs), *arrays_in(list(gradients))):
        for value in (*arrays_in([weights, x, list(state)]), *flat(cotangents)):
            assert not np.shares_memory(mine, value)
        mine[...] = 9
    for value, before in zip(state, kept, strict=True):
        assert_same_bits(value, before)
    again = layer.apply(weights, x, initial_state=state)
    if size[1] == 0 and layer.return_state:
        for mine, before in zip(again[-len(kept) :], kept, strict=True):
            assert_same_bits(mine, before)


@pytest.mark.clause("PURE-2")
@pytest.mark.parametrize("name", implementations())
def test_writing_to_a_result_changes_no_later_one(name: str) -> None:
    for cell in CELLS.values():
        layer = sc.Bidirectional(cell(**BOTH))
        if not takes(name, layer, dtype="float64"):
            continue
        weights, x, state = call(layer, BATCH, TIME)
        bound = layer.bind(weights, implementation=name)
        first = [value.copy() for value in bound(x, initial_state=state)]
        for value in bound(x, initial_state=state):
            value.fill(7.0)
        for value in bound.weights.values():
            value.fill(7.0)
        for one, two in zip(bound(x, initial_state=state), first, strict=True):
            assert_same_bits(one, two)


@pytest.mark.clause("PURE-3")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("implementation", implementations())
def test_eight_threads_get_the_same_bits(implementation: str, dtype: str) -> None:
    """Calls of several signatures at the same time, on one bound layer and apart."""
    layers = [
        sc.Bidirectional(sc.LSTM(8, **BOTH)),
        sc.GRU(8, **BOTH),
        sc.Stack([sc.SimpleRNN(8, return_sequences=True), sc.LSTM(8)], **BOTH),
    ]
    jobs: list[Callable[[], Any]] = []
    for layer in layers:
        weights, x, state = call(layer, 4, 12, dtype)
        mask = np.random.default_rng(7).random((4, 12)) < 0.7
        bound = layer.bind(weights, implementation=implementation)

        def gradient(
            layer: Any = layer, weights: Any = weights, x: Any = x, mask: Any = mask
        ) -> Any:
            outputs, pullback = layer.vjp(weights, x, mask=mask, implementation=implementation)
            cotangents = random_cotangents(outputs, np.random.default_rng(8))
            return *outputs, *gradient_arrays(pullback(cotangents)).values()

        jobs += [
            lambda b=bound, x=x, m=mask: b(x, mask=m),
            lambda b=bound, x=x, s=state: b(x, initial_state=s),
            gradient,
        ]
    expected = [[value.tobytes() for value in flat(job())] for job in jobs]
    gate = threading.Barrier(8)

    def work(worker: int) -> bool:
        gate.wait(10)
        order = np.random.default_rng(worker).permutation(np.repeat(np.arange(len(jobs)), 4))
        return all([value.tobytes() for value in flat(jobs[k]())] == expected[k] for k in order)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.clause("PURE-3")
@pytest.mark.parametrize("case", composites(), ids=lambda case: case.id)
def test_the_same_call_gives_the_same_bits(case: Case) -> None:
    weights, x, others = case.arguments("float32")
    first = flat(case.layer.apply(weights, x, **others))
    for one, two in zip(flat(case.layer.apply(weights, x, **others)), first, strict=True):
        assert_same_bits(one, two)
