"""Data types, the rounding of half types at each step, and the precision of products."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    DTYPES,
    FEATURES,
    MASKS,
    MERGES,
    TIME,
    UNITS,
    Case,
    assert_same_bits,
    composites,
    flat,
    gradient_arrays,
    implementations,
    needs,
    random_cotangents,
    random_state,
)
from oracle import Oracle

HALVES = ("float16", "bfloat16")
LEVELS = {"tf32": 13, "bfloat16": 16}
EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


def layers() -> list[Case]:
    """Every cell and merge in every return form, and composites."""
    found = []
    for name, cell in CELLS.items():
        for sequences, state in itertools.product((False, True), repeat=2):
            flags = {"return_sequences": sequences, "return_state": state}
            found.append(Case(f"{name}-{sequences}-{state}", cell(**flags), "holes", True))
            found += [
                Case(f"{name}-{merge}-{sequences}", sc.Bidirectional(cell(**flags), merge), "holes")
                for merge in MERGES
            ]
    return found + composites()


@pytest.mark.clause("DTYPE-1")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", layers(), ids=lambda case: case.id)
def test_one_dtype_for_everything(case: Case, dtype: str) -> None:
    weights, x, others = case.arguments(dtype)
    outputs, pullback = case.layer.vjp(weights, x, **others)
    gradients = gradient_arrays(pullback(random_cotangents(outputs, np.random.default_rng(0))))
    applied = flat(case.layer.apply(weights, x, **others))
    assert {value.dtype for value in (*flat(outputs), *applied)} == {x.dtype}
    assert {value.dtype for value in gradients.values()} == {x.dtype}
    assert all(np.isfinite(value.astype(float)).all() for value in gradients.values())
    exact = Oracle().apply(case.layer, weights, x, **others)
    # In float64 for what the dtype holds: no precision is lost on the way beyond the rounding.
    for mine, wide in zip(applied, exact, strict=True):
        allowed = 40 * EPS[dtype] * max(1.0, np.abs(wide).max())
        assert np.abs(mine.astype(float) - wide).max() < allowed


@pytest.mark.clause("DTYPE-1")
@pytest.mark.parametrize(("mine", "other"), [*itertools.permutations(DTYPES, 2)])
def test_two_dtypes_are_an_error(mine: str, other: str) -> None:
    layer = sc.LSTM(UNITS)
    weights, x, _ = Case("mixed", layer).arguments(mine)
    state = random_state(layer, np.random.default_rng(0), mine)
    layer.apply(weights, x, initial_state=state)
    with pytest.raises(sc.DtypeError):
        layer.apply(weights, x.astype(DTYPES[other]))
    with pytest.raises(sc.DtypeError):
        layer.apply(weights | {"bias": weights["bias"].astype(DTYPES[other])}, x)
    with pytest.raises(sc.DtypeError):
        layer.apply(weights, x, initial_state=(state[0], state[1].astype(DTYPES[other])))


@pytest.mark.clause("DTYPE-2")
@pytest.mark.parametrize("dtype", DTYPES)
def test_sequences_are_read_in_the_dtype_of_the_weights(dtype: str) -> None:
    layer = sc.GRU(UNITS, **BOTH)
    weights, x, _ = Case("sequences", layer).arguments(dtype)
    numbers = [[[1, 2.5, -3, 4]] * 2] * BATCH
    found = layer.apply(weights, numbers, initial_state=[[[0, 1]] * BATCH])
    expected = layer.apply(
        weights,
        np.array(numbers, DTYPES[dtype]),
        initial_state=[np.array([[0, 1]] * BATCH, DTYPES[dtype])],
    )
    for one, two in zip(found, expected, strict=True):
        assert_same_bits(one, two)
    integers = layer.apply(weights, [[[1, 2, -3, 4]]])
    assert integers.y.dtype == x.dtype


@pytest.mark.clause("DTYPE-2")
@pytest.mark.clause("ARR-1")
def test_weights_as_sequences_are_read_as_float32() -> None:
    layer = sc.GRU(UNITS, **BOTH)
    weights, x, _ = Case("sequences", layer).arguments("float32")
    lists = {name: value.tolist() for name, value in weights.items()}
    found = layer.apply(lists, x.tolist())
    for one, two in zip(found, layer.apply(weights, x), strict=True):
        assert_same_bits(one, two)


@pytest.mark.clause("DTYPE-4")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_every_step_starts_from_the_rounded_state(
    name: str, implementation: str, dtype: str
) -> None:
    """Bit for bit: the whole is what the returned states give, step by step."""
    layer = CELLS[name](**BOTH)
    needs(implementation, layer, dtype=dtype)
    rng = np.random.default_rng(1)
    weights, _, _ = Case(f"{name}-half", layer).arguments(dtype)
    x = rng.normal(size=(BATCH, 30, FEATURES)).astype(DTYPES[dtype])
    whole = layer.apply(weights, x, implementation=implementation)
    state = None
    for t in range(30):
        step = layer.apply(
            weights, x[:, t : t + 1], initial_state=state, implementation=implementation
        )
        state = list(step[1:])
        assert_same_bits(whole.y[:, t], step.h)
    for one, two in zip(state, whole[1:], strict=True):
        assert_same_bits(one, two)


def nearest_half(dtype: str) -> Any:
    """The rounding of a float64 number to the half type, ties to even, by whole numbers."""
    digits = 11 if dtype == "float16" else 8

    def rounded(value: float) -> float:
        if value == 0 or not np.isfinite(value):
            return value
        exponent = np.frexp(value)[1]
        unit = 2.0 ** (max(exponent, -13 if dtype == "float16" else -125) - digits)
        return round(value / unit) * unit

    return rounded


@pytest.mark.clause("DTYPE-4")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", CELLS)
def test_half_types_against_the_evaluation_that_rounds_each_state(name: str, dtype: str) -> None:
    case = Case(f"{name}-rounds", sc.Bidirectional(CELLS[name](**BOTH), "ave"), "holes", True)
    weights, x, others = case.arguments(dtype)
    found = case.layer.apply(weights, x, **others)
    exact = Oracle(state=nearest_half(dtype)).apply(case.layer, weights, x, **others)
    equal = 0
    for mine, wide in zip(found, exact, strict=True):
        assert np.abs(mine.astype(float) - wide).max() < 4 * EPS[dtype]
        equal += int((mine.astype(float) == wide).sum())
    # Nearly all are the very same number; a tie may fall to the other side in float32.
    assert equal > 0.9 * sum(mine.size for mine in found)


@pytest.mark.clause("DTYPE-4")
def test_the_roundings_count_as_the_identity_in_the_pullback() -> None:
    """Half gradients are those of float64 to the half's precision, and not 0."""
    for name, dtype in itertools.product(CELLS, HALVES):
        case = Case(f"{name}-identity", CELLS[name](**BOTH))
        weights, x, _ = case.arguments(dtype)
        outputs, pullback = case.layer.vjp(weights, x)
        cotangents = random_cotangents(outputs, np.random.default_rng(2))
        found = gradient_arrays(pullback(cotangents))
        wide = {key: value.astype(np.float64) for key, value in weights.items()}
        _, pull = case.layer.vjp(wide, x.astype(np.float64))
        exact = gradient_arrays(pull(tuple(d.astype(np.float64) for d in cotangents)))
        for key, value in exact.items():
            scale = max(1.0, np.abs(value).max())
            assert np.abs(found[key].astype(float) - value).max() < 12 * EPS[dtype] * scale, key


@pytest.mark.clause("DTYPE-5")
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_products_are_wide(dtype: str, implementation: str) -> None:
    """4096 ones add up to 4096; a half type's own sum would stop at 2048 or at 256."""
    layer = sc.SimpleRNN(1, activation="linear")
    needs(implementation, layer, dtype=dtype, gradient="yes")
    kind, many = DTYPES[dtype], 4096
    weights = {
        "kernel": np.ones((many, 1), kind),
        "recurrent_kernel": np.zeros((1, 1), kind),
        "bias": np.zeros(1, kind),
    }
    x = np.ones((1, 1, many), kind)
    assert float(layer.apply(weights, x, implementation=implementation)[0, 0]) == many
    # In the pullback: the kernel's and the bias's gradients are sums over rows and steps.
    weights["kernel"] = weights["kernel"][:1]
    y, pullback = layer.replace(return_sequences=True).vjp(
        weights, np.ones((64, 64, 1), kind), implementation=implementation
    )
    found = pullback(np.ones_like(y)).weights
    assert float(found["kernel"][0, 0]) == float(found["bias"][0]) == many


# Precision.


def rounded_by_hand(value: float, bits: int) -> float:
    """PREC-2 on one float32 number, with whole numbers."""
    (pattern,) = struct.unpack("<I", struct.pack("<f", value))
    if pattern & 0x7F800000 == 0x7F800000:
        return value
    low, kept = pattern % 2**bits, pattern >> bits
    half = 2 ** (bits - 1)
    kept += low > half or (low == half and kept % 2 == 1)
    (result,) = struct.unpack("<f", struct.pack("<I", kept << bits))
    return result


def round_array(values: Any, bits: int) -> Any:
    flat_values = np.asarray(values, np.float32).ravel()
    rounded = [rounded_by_hand(float(value), bits) for value in flat_values]
    return np.array(rounded, np.float32).reshape(np.shape(values))


def patterns() -> Any:
    """Ties both ways, carries into the exponent, the ends of the range, NaN and infinities."""
    found = [0x3F800000 + offset for offset in (0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x3000)]
    found += [0x3F800000 + offset for offset in (0x7FFF, 0x8000, 0x8001, 0x18000, 0x17FFF)]
    found += [0x3FFFFFFF, 0x3FFFF000, 0x3FFF8000, 0x7F7FFFFF, 0x7F7FE000, 0x007FFFFF, 1, 0x1000]
    found += [0, 0x7F800000, 0x7FC00000, 0x7F800001, 0x00800000, 0x33D6BF95]
    random = np.random.default_rng(3).integers(0, 2**31, 200)
    both = np.array([*found, *random], np.uint32)
    return np.concatenate([both, both | np.uint32(0x80000000)]).view(np.float32)


@pytest.mark.clause("PREC-2")
@pytest.mark.parametrize("level", LEVELS)
def test_rounding_of_a_factor(level: str) -> None:
    """Times a kernel of 1 the factor itself comes out."""
    values = patterns()
    layer = sc.SimpleRNN(1, activation="linear", use_bias=False)
    weights = {"kernel": np.ones((1, 1), np.float32), "recurrent_kernel": np.zeros((1, 1), "f4")}
    with np.errstate(all="ignore"):
        x = layer.apply(weights, values[:, None, None], matmul_precision=level)[:, 0]
        kernel = [
            layer.apply(
                weights | {"kernel": np.array([[value]])},
                np.ones((1, 1, 1), np.float32),
                matmul_precision=level,
            )[0, 0]
            for value in values
        ]
    expected = round_array(values, LEVELS[level])
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(kernel, expected)


@pytest.mark.clause("PREC-1")
@pytest.mark.parametrize("name", CELLS)
def test_highest_is_the_default_and_in_full(name: str) -> None:
    case = Case(f"{name}-default", sc.Bidirectional(CELLS[name](**BOTH)), "holes", True)
    weights, x, others = case.arguments("float32")
    plain = case.layer.apply(weights, x, **others)
    named = case.layer.apply(weights, x, matmul_precision="highest", **others)
    exact = Oracle().apply(case.layer, weights, x, **others)
    for one, two, wide in zip(plain, named, exact, strict=True):
        assert_same_bits(one, two)
        assert np.abs(one - wide).max() < 2e-6
    for level in LEVELS:
        other = case.layer.apply(weights, x, matmul_precision=level, **others)
        assert np.abs(other.y - plain.y).max() > 1e-5
    with sc.use_backend("numpy", matmul_precision="tf32"):
        block = case.layer.apply(weights, x, **others)
    argument = case.layer.apply(weights, x, matmul_precision="tf32", **others)
    assert_same_bits(block.y, argument.y)


@pytest.mark.clause("PREC-3")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_both_factors_of_every_product_are_rounded(
    name: str, implementation: str, level: str
) -> None:
    """And nothing else: the oracle rounds factors only, and sums in float64."""
    case = Case(f"{name}-factors", CELLS[name](**BOTH), "none", True)
    needs(implementation, case.layer, matmul_precision=level)
    weights, x, others = case.arguments("float32")
    found = case.layer.apply(
        weights, x, matmul_precision=level, implementation=implementation, **others
    )
    oracle = Oracle(factor=lambda value: rounded_by_hand(value, LEVELS[level]))
    expected = oracle.apply(case.layer, weights, x, **others)
    rows = [
        max(np.abs(one[row] - two[row]).max() for one, two in zip(found, expected, strict=True))
        for row in range(BATCH)
    ]
    # A factor at a tie may be rounded the other way after float32's own rounding, in one row.
    assert sorted(rows)[1] < 2e-6
    assert max(rows) < 0.01
    gates = case.layer.gates(weights, x, matmul_precision=level, **others)
    shown = oracle.gates(case.layer, weights, x, **others)
    for key, value in shown.items():
        assert np.median(np.abs(gates[key] - value)) < 1e-6


@pytest.mark.clause("PREC-3")
@pytest.mark.parametrize("name", CELLS)
def test_biases_gates_and_states_are_not_rounded(name: str) -> None:
    """Where no product is, the level changes no bit."""
    layer = CELLS[name](**BOTH)
    weights, _, _ = Case(f"{name}-biases", layer).arguments("float32")
    weights["recurrent_kernel"][...] = 0
    x = np.zeros((BATCH, TIME, FEATURES), np.float32)
    state = random_state(layer, np.random.default_rng(4), "float32")
    plain = layer.apply(weights, x, initial_state=state)
    for level in LEVELS:
        found = layer.apply(weights, x, initial_state=state, matmul_precision=level)
        for one, two in zip(found, plain, strict=True):
            assert_same_bits(one, two)


def torch_gradients(
    case: Case, weights: Any, x: Any, state: Any, cotangents: Any, bits: int
) -> dict[str, Any]:
    """The cells once more, in torch, by its autograd over products that round as PREC-4 says."""
    torch = pytest.importorskip("torch", reason="torch, whose autograd is compared with")

    def rounded(value: Any) -> Any:
        return torch.from_numpy(round_array(value.detach().numpy(), bits))

    class Product(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, a: Any, b: Any) -> Any:
            ctx.save_for_backward(rounded(a), rounded(b))
            return rounded(a) @ rounded(b)

        @staticmethod
        def backward(ctx: Any, d: Any) -> Any:
            a, b = ctx.saved_tensors
            return rounded(d) @ b.T, a.T @ rounded(d)

    product, sigmoid, tanh = Product.apply, torch.sigmoid, torch.tanh
    leaf = {
        name: torch.tensor(value, requires_grad=True)
        for name, value in {**weights, "x": x, **{f"s{i}": s for i, s in enumerate(state)}}.items()
    }
    states = [leaf[f"s{i}"] for i in range(len(state))]
    kernel, recurrent, bias = leaf["kernel"], leaf["recurrent_kernel"], leaf["bias"]
    sequence = []
    for t in range(x.shape[1]):
        projected = product(leaf["x"][:, t], kernel) + bias
        h = states[0]
        if isinstance(case.layer, sc.SimpleRNN):
            states = [tanh(projected + product(h, recurrent))]
        elif isinstance(case.layer, sc.LSTM):
            i, f, g, o = (projected + product(h, recurrent)).chunk(4, -1)
            c = sigmoid(f) * states[1] + sigmoid(i) * tanh(g)
            states = [sigmoid(o) * tanh(c), c]
        else:
            xz, xr, xn = projected.chunk(3, -1)
            if case.layer.reset_after:
                hz, hr, hn = (product(h, recurrent) + leaf["recurrent_bias"]).chunk(3, -1)
                z, r = sigmoid(xz + hz), sigmoid(xr + hr)
                n = tanh(xn + r * hn)
            else:
                hz, hr = product(h, recurrent[:, : 2 * UNITS]).chunk(2, -1)
                z, r = sigmoid(xz + hz), sigmoid(xr + hr)
                n = tanh(xn + product(r * h, recurrent[:, 2 * UNITS :]))
            states = [z * h + (1 - z) * n]
        sequence.append(states[0])
    outputs = (torch.stack(sequence, 1), *states)
    loss = sum((y * torch.tensor(d)).sum() for y, d in zip(outputs, cotangents, strict=True))
    loss.backward()
    return {
        name.replace("s", "initial_state[") + "]" if name in ("s0", "s1") else name: value.grad
        for name, value in leaf.items()
    }


@pytest.mark.clause("PREC-4")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_the_pullbacks_products_are_rounded_too(name: str, implementation: str, level: str) -> None:
    case = Case(f"{name}-pullback", CELLS[name](**BOTH), state=True)
    question = {"matmul_precision": level, "gradient": "yes"}
    needs(implementation, case.layer, **question)
    weights, x, others = case.arguments("float32")
    state = others["initial_state"]
    chosen = {"initial_state": state, "implementation": implementation}
    outputs, pullback = case.layer.vjp(weights, x, matmul_precision=level, **chosen)
    cotangents = random_cotangents(outputs, np.random.default_rng(5))
    found = gradient_arrays(pullback(cotangents))
    _, plain = case.layer.vjp(weights, x, **chosen)
    full = gradient_arrays(plain(cotangents))
    expected = torch_gradients(case, weights, x, state, cotangents, LEVELS[level])
    assert found.keys() == expected.keys()
    for key in found:
        wide = expected[key].numpy()
        # Far nearer than a pullback in full, or one that rounds one factor, could come; a factor
        # at a tie leaves room for little.
        distance = np.linalg.norm(full[key] - wide)
        assert np.linalg.norm(found[key] - wide) < 0.2 * distance, key


@pytest.mark.clause("PREC-5")
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
@pytest.mark.parametrize("level", LEVELS)
def test_levels_are_for_float32_only(level: str, dtype: str) -> None:
    layer = sc.LSTM(UNITS, return_sequences=True)
    weights, x, _ = Case("levels", layer).arguments(dtype)
    chosen = {"matmul_precision": level}
    empty = x[:0]
    for run in (
        lambda: layer.apply(weights, x, **chosen),
        lambda: layer.apply(weights, empty, **chosen),
        lambda: layer.vjp(weights, x, **chosen),
        lambda: layer.gates(weights, x, **chosen),
        lambda: layer.bind(weights, **chosen),
        lambda: layer(x, **chosen),
        lambda: layer.explain(dtype=dtype, **chosen),
    ):
        with pytest.raises(sc.UnsupportedFeature, match=rf"'{level}'.*{dtype}.*float32"):
            run()


def test_masks_reach_half_types_and_levels() -> None:
    layer = sc.GRU(UNITS, mask_output="carry", **BOTH)
    weights, x, _ = Case("half masks", layer).arguments("float32")
    x[~MASKS["holes"]] = np.nan
    for level in LEVELS:
        for value in layer.apply(weights, x, mask=MASKS["holes"], matmul_precision=level):
            assert np.isfinite(value).all()
