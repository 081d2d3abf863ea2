"""Initial weights: where the numbers come from, that they stay the same, and what they are like."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import DTYPES, assert_same_bits
from seqcore.conformance.stream import Stream

INITIALIZERS: dict[str, Any] = {
    "zeros": sc.Zeros(),
    "ones": sc.Ones(),
    "constant": sc.Constant(0.3),
    "random_uniform": sc.RandomUniform(-0.1, 0.2),
    "random_normal": sc.RandomNormal(1.0, 0.25),
    "glorot_uniform": sc.GlorotUniform(),
    "orthogonal": sc.Orthogonal(1.5),
}


def kernel(initializer: Any, units: int = 3, features: int = 5, **options: Any) -> Any:
    """A GRU's kernel, (features, 3*units)."""
    layer = sc.GRU(units, kernel_initializer=initializer)
    return layer.init(features, **options)["kernel"]


@pytest.mark.clause("INIT-2")
@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.00001, "0.00001"),
        (1e-7, "1e-7"),
        (1.5e300, "1.5e300"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e16"),
        (-0.1, "-0.1"),
        (3.0, "3.0"),
        (0.0, "0.0"),
    ],
)
def test_how_a_parameter_is_written_in_the_key(value: float, written: str) -> None:
    text = f'[0,"kernel",[5,9],{{"maxval":2e300,"minval":{written},"type":"random_uniform"}}]'
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")
    (unit,) = Stream(number).uniform(1)
    found = kernel(sc.RandomUniform(value, 2e300), dtype="float64")[0, 0]
    assert found == pytest.approx(value + (2e300 - value) * unit, rel=1e-14)


FROZEN = [
    ("zeros", "0x0.0p+0", "10b2a66888c58a54"),
    ("ones", "0x1.0000000000000p+0", "24cac2760ec887a7"),
    ("constant", "0x1.3333340000000p-2", "e50ed117af2da5c1"),
    ("random_uniform", "0x1.47c4a60000000p-3", "4cfa38ea5473279f"),
    ("random_normal", "0x1.9453e40000000p-1", "1ccf83ae63773ef6"),
    ("glorot_uniform", "-0x1.e6bc540000000p-2", "d56176735567ef39"),
    ("orthogonal", "-0x1.0ff4c60000000p-1", "626db217acfbf419"),
]


# Bytes in float32, of a GRU's kernel (5, 9) with seed 11: the first number, and a digest of all.
@pytest.mark.clause("INIT-2")
@pytest.mark.clause("INIT-7")
@pytest.mark.parametrize(("name", "first", "digest"), FROZEN)
def test_frozen_bits(name: str, first: str, digest: str) -> None:
    values = kernel(INITIALIZERS[name], seed=11)
    assert values.dtype == np.float32
    assert float(values[0, 0]).hex() == first
    assert hashlib.sha256(values.astype("<f4").tobytes()).hexdigest()[:16] == digest


@pytest.mark.clause("INIT-2")
def test_the_values_depend_on_nothing_else() -> None:
    """Not on return flags, activation, other weights, or the backend at hand."""
    plain = sc.LSTM(3).init(5, seed=1)
    others = [
        sc.LSTM(3, return_sequences=True, return_state=True),
        sc.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", go_backwards=True),
        sc.LSTM(3, mask_output="carry"),
    ]
    for layer in others:
        for name, value in layer.init(5, seed=1).items():
            assert_same_bits(value, plain[name])
    bare = sc.LSTM(3, use_bias=False, recurrent_initializer="zeros").init(5, seed=1)
    assert_same_bits(bare["kernel"], plain["kernel"])
    both = sc.Bidirectional(sc.LSTM(3)).init(5, seed=1)
    alone = sc.Bidirectional(sc.LSTM(3), merge_mode="none", backward_layer=sc.GRU(2))
    assert_same_bits(alone.init(5, seed=1)["forward.kernel"], both["forward.kernel"])
    with sc.use_backend("numpy", matmul_precision="tf32"):
        for name, value in sc.LSTM(3).init(5, seed=1).items():
            assert_same_bits(value, plain[name])


@pytest.mark.clause("INIT-2")
def test_the_values_depend_on_seed_name_shape_and_initializer() -> None:
    plain = kernel("glorot_uniform", seed=0).ravel()
    assert not np.array_equal(plain, kernel("glorot_uniform", seed=1).ravel())
    assert not np.array_equal(plain, kernel("glorot_uniform", features=6).ravel()[:45])
    both = sc.Bidirectional(sc.GRU(3)).init(5)
    assert not np.array_equal(both["forward.kernel"], both["backward.kernel"])
    assert not np.array_equal(both["forward.kernel"].ravel(), plain)
    one, two = (kernel(sc.RandomUniform(-b, b)) / b for b in (1.0, 2.0))
    assert not np.allclose(one, two)


@pytest.mark.clause("INIT-2")
def test_another_process_gives_the_same_bits() -> None:
    code = (
        "import hashlib, seqcore as sc\n"
        "w = sc.Bidirectional(sc.LSTM(4)).init(3, seed=5)\n"
        "print(hashlib.sha256(b''.join(v.tobytes() for v in w.values())).hexdigest())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    weights = sc.Bidirectional(sc.LSTM(4)).init(3, seed=5)
    mine = hashlib.sha256(b"".join(value.tobytes() for value in weights.values())).hexdigest()
    assert done.stdout.strip() == mine


@pytest.mark.clause("INIT-1")
def test_which_initializer_gives_which_weight() -> None:
    layer = sc.GRU(
        2,
        kernel_initializer=sc.Constant(1.0),
        recurrent_initializer=sc.Constant(2.0),
        bias_initializer=sc.Constant(3.0),
    )
    weights = layer.init(4)
    assert {name: set(value.ravel().tolist()) for name, value in weights.items()} == {
        "kernel": {1.0},
        "recurrent_kernel": {2.0},
        "bias": {3.0},
        "recurrent_bias": {3.0},
    }


@pytest.mark.clause("INIT-1")
def test_the_defaults() -> None:
    for cell in (sc.SimpleRNN(3), sc.LSTM(3, unit_forget_bias=False), sc.GRU(3)):
        weights = cell.init(5, seed=2)
        named = cell.replace(
            kernel_initializer="glorot_uniform",
            recurrent_initializer="orthogonal",
            bias_initializer="zeros",
        )
        for name, value in named.init(5, seed=2).items():
            assert_same_bits(value, weights[name])
        assert not weights["bias"].any()
        assert not weights.get("recurrent_bias", np.zeros(1)).any()
        # The whole matrix at once: its rows are orthonormal, whatever the number of gates.
        r = weights["recurrent_kernel"].astype(np.float64)
        np.testing.assert_allclose(r @ r.T, np.eye(3), atol=1e-6)


@pytest.mark.clause("INIT-3")
def test_constant_values() -> None:
    assert set(kernel("zeros").ravel()) == {0.0}
    assert set(kernel("ones").ravel()) == {1.0}
    assert set(kernel(sc.Constant(-2.5)).ravel()) == {-2.5}
    assert set(kernel("constant").ravel()) == {0.0}
    assert sc.RandomUniform() == sc.RandomUniform(minval=-0.05, maxval=0.05)
    assert sc.RandomNormal() == sc.RandomNormal(mean=0.0, stddev=0.05)
    assert set(kernel(sc.RandomNormal(2.0, 0.0)).ravel()) == {2.0}
    assert set(kernel(sc.RandomUniform(0.5, 0.5)).ravel()) == {0.5}


@pytest.mark.clause("INIT-3")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sc.RandomUniform(1.0, 0.5), r"minval=1\.0 is above maxval=0\.5"),
        (lambda: sc.RandomNormal(0.0, -0.1), r"stddev=-0\.1 is negative"),
        (lambda: sc.Constant(float("nan")), "value is nan, expected a finite number"),
        (lambda: sc.RandomUniform(maxval=float("inf")), "maxval is inf"),
        (lambda: sc.RandomNormal(mean=float("-inf")), "mean is -inf"),
        (lambda: sc.Orthogonal(float("nan")), "gain is nan"),
        (lambda: sc.Constant("0.1"), "value is '0.1', expected a number"),
        (lambda: sc.Constant(True), "value is True, expected a number"),
        (lambda: sc.LSTM(2, kernel_initializer="glorot"), "did you mean 'glorot_uniform'"),
        (lambda: sc.LSTM(2, kernel_initializer=0.1), "received 0.1, expected an initializer"),
        (lambda: sc.LSTM(2, bias_initializer=None), "received None"),
        (lambda: sc.LSTM(2, bias_initializer=sc.Zeros), "expected an initializer"),
    ],
)
def test_initializers_that_cannot_be(make: Any, words: str) -> None:
    with pytest.raises(sc.SpecError, match=words):
        make()


@pytest.mark.clause("INIT-3")
def test_statistics() -> None:
    """Of 30,000 numbers; the bounds are five standard errors wide."""
    uniform = kernel(sc.RandomUniform(-1.0, 3.0), units=50, features=200, dtype="float64")
    assert uniform.min() >= -1.0
    assert uniform.max() < 3.0
    assert abs(uniform.mean() - 1.0) < 5 * (4 / math.sqrt(12)) / math.sqrt(uniform.size)
    assert abs(uniform.var() - 16 / 12) < 0.05
    normal = kernel(sc.RandomNormal(2.0, 0.5), units=50, features=200, dtype="float64")
    assert abs(normal.mean() - 2.0) < 5 * 0.5 / math.sqrt(normal.size)
    assert abs(normal.std() - 0.5) < 0.011
    z = (normal.ravel() - 2) / 0.5
    assert abs((np.abs(z) < 1).mean() - 0.6827) < 0.014
    assert abs((z**4).mean() - 3) < 0.3
    assert abs(np.corrcoef(z[:-1], z[1:])[0, 1]) < 0.03


@pytest.mark.clause("INIT-4")
@pytest.mark.parametrize(("features", "units"), [(1, 1), (3, 40), (200, 2)])
def test_glorot_uniform(features: int, units: int) -> None:
    values = kernel("glorot_uniform", units=units, features=features, dtype="float64")
    limit = math.sqrt(6 / (features + 3 * units))
    assert np.abs(values).max() <= limit
    if values.size > 100:
        assert np.abs(values).max() > 0.97 * limit
    layer = sc.GRU(40, bias_initializer="glorot_uniform")
    bias = layer.init(3, dtype="float64")["bias"]
    limit = math.sqrt(6 / 240)
    assert 0.95 * limit < np.abs(bias).max() <= limit


@pytest.mark.clause("INIT-5")
def test_orthogonal_is_for_matrices() -> None:
    for cell in (sc.SimpleRNN, sc.LSTM, sc.GRU):
        with pytest.raises(sc.SpecError, match="orthogonal"):
            cell(3, bias_initializer="orthogonal")
    # Without bias it has no effect (BIAS-1).
    sc.GRU(3, use_bias=False, bias_initializer="orthogonal").init(2)


@pytest.mark.clause("INIT-6")
@pytest.mark.parametrize("initializer", ["zeros", sc.Constant(0.25), sc.RandomNormal(), "ones"])
def test_the_forget_slice(initializer: Any) -> None:
    units = 3
    assert sc.LSTM(units).unit_forget_bias is True
    biased = sc.LSTM(units, bias_initializer=initializer).init(2)["bias"]
    plain = sc.LSTM(units, bias_initializer=initializer, unit_forget_bias=False).init(2)["bias"]
    np.testing.assert_array_equal(biased[units : 2 * units], 1.0)
    np.testing.assert_array_equal(np.delete(biased, [3, 4, 5]), np.delete(plain, [3, 4, 5]))
    if initializer != "ones":
        assert not (plain[units : 2 * units] == 1).any()
    within = sc.Stack([sc.Bidirectional(sc.LSTM(units))]).init(2)
    for name in ("layers.0.forward.bias", "layers.0.backward.bias"):
        np.testing.assert_array_equal(within[name][units : 2 * units], 1.0)


@pytest.mark.clause("INIT-7")
@pytest.mark.parametrize("name", INITIALIZERS)
def test_rounding(name: str) -> None:
    """float32 from float64, and the half types by way of float32."""
    wide = kernel(INITIALIZERS[name], units=20, features=30, dtype="float64")
    single = kernel(INITIALIZERS[name], units=20, features=30)
    assert (wide.dtype, single.dtype) == (np.float64, np.float32)
    assert_same_bits(single, wide.astype(np.float32))
    for dtype in ("float16", "bfloat16"):
        half = kernel(INITIALIZERS[name], units=20, features=30, dtype=dtype)
        assert_same_bits(half, single.astype(DTYPES[dtype]))


@pytest.mark.clause("INIT-7")
def test_rounding_twice_where_it_shows() -> None:
    """1 + 2**-11 + 2**-30 is rounded down to 1 + 2**-11 and then, at the tie, to 1."""
    value = 1 + 2.0**-11 + 2.0**-30
    assert np.float16(value) == 1 + 2.0**-10
    assert kernel(sc.Constant(value), dtype="float16")[0, 0] == 1
    value = 1 + 2.0**-8 + 2.0**-30
    assert kernel(sc.Constant(value), dtype="bfloat16").astype(float)[0, 0] == 1


@pytest.mark.clause("NAME-2")
@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (sc.SimpleRNN(3), {"kernel": (5, 3), "recurrent_kernel": (3, 3), "bias": (3,)}),
        (sc.LSTM(3), {"kernel": (5, 12), "recurrent_kernel": (3, 12), "bias": (12,)}),
        (
            sc.GRU(3),
            {
                "kernel": (5, 9),
                "recurrent_kernel": (3, 9),
                "bias": (9,),
                "recurrent_bias": (9,),
            },
        ),
        (
            sc.GRU(3, reset_after=False),
            {"kernel": (5, 9), "recurrent_kernel": (3, 9), "bias": (9,)},
        ),
        (sc.GRU(3, use_bias=False), {"kernel": (5, 9), "recurrent_kernel": (3, 9)}),
    ],
    ids=str,
)
def test_weights_of_a_cell(layer: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    assert layer.weight_shapes(5) == shapes
    weights = layer.init(5)
    assert type(weights) is dict
    assert {name: value.shape for name, value in weights.items()} == shapes
    assert all(type(value) is np.ndarray for value in weights.values())


@pytest.mark.clause("NAME-4")
def test_prefixes() -> None:
    both = sc.Bidirectional(
        sc.LSTM(2, return_sequences=True),
        backward_layer=sc.GRU(3, use_bias=False, return_sequences=True),
    )
    stack = sc.Stack([both, sc.SimpleRNN(4)])
    assert stack.weight_shapes(6) == {
        "layers.0.forward.kernel": (6, 8),
        "layers.0.forward.recurrent_kernel": (2, 8),
        "layers.0.forward.bias": (8,),
        "layers.0.backward.kernel": (6, 9),
        "layers.0.backward.recurrent_kernel": (3, 9),
        "layers.1.kernel": (5, 4),
        "layers.1.recurrent_kernel": (4, 4),
        "layers.1.bias": (4,),
    }
    assert list(both.init(6)) == [
        name.removeprefix("layers.0.") for name in stack.init(6) if "layers.0" in name
    ]
