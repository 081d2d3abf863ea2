"""Haiku's params: read, written, run by Haiku's own cores, refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import haiku as hk
import jax
import numpy as np
import pytest

import seqcore as sc
from helpers import FEATURES, assert_same_bits, random_weights
from jax_family import SEQUENCES, X, assert_round_trip, assert_runs_alike, forms
from seqcore.interchange.haiku import from_haiku, level_names, recognises, to_haiku

CELLS: dict[str, Any] = {
    "rnn": partial(sc.SimpleRNN, activation="relu"),
    "lstm": sc.LSTM,
    "gru": partial(sc.GRU, reset_after=False),
}
RANDOM = np.random.default_rng(12)


def written(layer: Any, features: int = FEATURES) -> Any:
    return to_haiku(layer, random_weights(layer, RANDOM, features=features))


def unrolled(make: Any) -> Any:
    """A transformed function that unrolls a core over (batch, time, features)."""

    def function(x: Any) -> Any:
        core = make()
        return hk.dynamic_unroll(core, x, core.initial_state(len(x)), time_major=False)[0]

    return hk.without_apply_rng(hk.transform(function))


def params_of(make: Any, x: Any = X) -> Any:
    """Random numbers in the structure that Haiku itself makes."""
    shapes = jax.eval_shape(unrolled(make).init, jax.random.key(0), x)
    return jax.tree.map(lambda leaf: 0.6 * RANDOM.normal(size=leaf.shape), shapes)


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: hk.DeepRNN([hk.LSTM(3), hk.LSTM(2), hk.LSTM(3)]), forms(sc.LSTM)["stack"]),
        (lambda: hk.GRU(3), sc.GRU(3, reset_after=False, **SEQUENCES)),
        (lambda: hk.VanillaRNN(3), sc.SimpleRNN(3, activation="relu", **SEQUENCES)),
        (
            lambda: hk.VanillaRNN(3, double_bias=False, name="mine"),
            sc.SimpleRNN(3, activation="relu", **SEQUENCES),
        ),
    ],
    ids=["lstms", "gru", "rnn", "rnn_one_bias"],
)
def test_haikus_own_params(make: Any, layer: Any) -> None:
    with jax.enable_x64(True):
        params = params_of(make)
        native = jax.tree.map(jax.numpy.asarray, params)
        found = np.asarray(unrolled(make).apply(native, X))
    again, weights = from_haiku(params)
    assert again == layer
    assert np.abs(found).max() > 0.05
    np.testing.assert_allclose(layer.apply(weights, X), found, rtol=0, atol=1e-12)
    for name, value in from_haiku(native)[1].items():
        assert_same_bits(value, weights[name])


@pytest.mark.parametrize("cell", list(CELLS))
def test_what_is_written_runs_in_haiku_with_lengths(cell: str) -> None:
    layer = forms(CELLS[cell])["mixed"]
    weights = random_weights(layer, RANDOM)
    words = {"levels": level_names(layer, weights)}
    assert_runs_alike("haiku", to_haiku(layer, weights), layer, weights, **words)


@pytest.mark.parametrize("form", list(forms(sc.LSTM)))
@pytest.mark.parametrize("cell", list(CELLS))
def test_there_and_back(cell: str, form: str) -> None:
    """Bit for bit, but an LSTM's bias of the gate f."""
    layer = forms(CELLS[cell])[form]
    words = {"levels": level_names(layer, random_weights(layer, RANDOM))}
    rounded = ("bias",) if cell == "lstm" else ()
    assert_round_trip(to_haiku, partial(from_haiku, **words), layer, rounded)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_the_forget_bias_is_exact_from_a_half_on(dtype: str) -> None:
    weights = random_weights(sc.LSTM(50), RANDOM, dtype)
    bias = weights["bias"]
    bias[50:100] = np.exp(RANDOM.uniform(np.log(0.5), np.log(100), 50))
    found = from_haiku(to_haiku(sc.LSTM(50), weights))[1]["bias"]
    assert_same_bits(found, bias)
    bias[50:100] = RANDOM.uniform(-3, 0.5, 50)
    found = from_haiku(to_haiku(sc.LSTM(50), weights))[1]["bias"]
    assert_same_bits(found[:50], bias[:50])
    assert_same_bits(found[100:], bias[100:])
    off = np.abs(found - bias).astype(np.float64)
    assert 0 < off.max() <= 4 * float(jax.numpy.finfo(dtype).eps)


def test_a_layer_without_bias_adds_up_to_none() -> None:
    for cell in CELLS.values():
        layer, weights = from_haiku(written(cell(2, use_bias=False)), return_sequences=False)
        assert layer == cell(2)
        assert not weights["bias"].any()


def test_two_cores_may_be_levels_or_directions() -> None:
    layer = sc.Stack([sc.LSTM(4, **SEQUENCES)] * 2, **SEQUENCES)
    params = written(layer)
    assert list(params) == ["lstm/linear", "lstm_1/linear"]
    with pytest.raises(sc.ConversionError, match=r"levels or directions.*levels="):
        from_haiku(params)
    assert from_haiku(params, levels=["lstm", "lstm_1"])[0] == layer
    both = sc.Bidirectional(sc.LSTM(4, **SEQUENCES))
    assert from_haiku(params, levels=[["lstm", "lstm_1"]])[0] == both
    with pytest.raises(sc.ConversionError, match="levels="):
        from_haiku(written(both))


def test_a_pair_among_levels_may_be_levels_too() -> None:
    lstm = sc.LSTM(4, **SEQUENCES)
    layer = sc.Stack([lstm, sc.Bidirectional(lstm)], **SEQUENCES)
    params = written(layer)
    with pytest.raises(sc.ConversionError, match=r"levels or directions.*levels="):
        from_haiku(params)
    assert from_haiku(params, levels=["lstm", ["lstm_1", "lstm_2"]])[0] == layer
    # Of these sizes, no two in a row can be a pair.
    plain = sc.Stack([lstm, sc.LSTM(3, **SEQUENCES), sc.LSTM(5, **SEQUENCES)], **SEQUENCES)
    assert from_haiku(written(plain))[0] == plain


def test_cores_below_a_module_and_paths_as_names() -> None:
    params = {f"encoder/~/{name}": arrays for name, arrays in written(sc.LSTM(3)).items()}
    flat = {f"{name}/{key}": value for name, one in params.items() for key, value in one.items()}
    for source in (params, flat):
        assert from_haiku(source)[0] == sc.LSTM(3, **SEQUENCES)


LSTM, RNN = written(sc.LSTM(2)), written(sc.SimpleRNN(2, activation="relu"))
GRU = written(sc.GRU(2, reset_after=False))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, "received nothing"),
        (3, "received int"),
        (LSTM | {"head": {"w": np.ones((2, 2)), "b": np.ones(2)}}, "received head/w.*beside"),
        (LSTM | GRU, "which comes first.*levels="),
        ({"lstm/linear": LSTM["lstm/linear"], "lstm_2/linear": LSTM["lstm/linear"]}, "run from 0"),
        ({"lstm/linear": {"w": np.ones((6, 8))}}, "holds linear/w, expected"),
        ({"gru": {"w_i": np.ones((4, 6)), "w_h": np.ones((2, 6))}}, "holds w_h, w_i, expected"),
        ({"lstm/linear": {"w": np.ones((6, 8)), "b": np.ones(7)}}, r"b has shape \(7,\)"),
        ({"lstm/linear": {"w": np.ones((6, 8)), "b": np.ones((8, 1))}}, r"b has shape \(8, 1\)"),
        ({"lstm/linear": {"w": np.ones((1, 8)), "b": np.ones(8)}}, "linear/w has shape"),
        ({"lstm/linear": {"w": np.ones(8), "b": np.ones(8)}}, "linear/w has shape"),
        ({"gru": GRU["gru"] | {"w_h": np.ones((3, 6))}}, "w_h has shape"),
        ({"gru": GRU["gru"] | {"w_i": np.ones(6)}}, "w_i has shape"),
        (RNN | {"vanilla_rnn/linear_1": {"w": np.ones((2, 3))}}, "linear_1/w has shape"),
        ({"lstm/linear": {"w": "1", "b": np.ones(8)}}, "is str"),
        ({"gru": GRU["gru"] | {"b": np.ones(6, np.float32)}}, "expected one dtype"),
    ],
)  # fmt: skip
def test_params_that_are_refused(params: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_haiku(params)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (sc.GRU(2), "reset_after is True"),
        (sc.SimpleRNN(2), "activation is 'tanh'"),
        (sc.LSTM(2, activation="relu"), "activation is 'relu'"),
        (sc.LSTM(2, recurrent_activation="hard_sigmoid"), "recurrent_activation is"),
        (sc.LSTM(2, go_backwards=True), "go_backwards is True"),
        (sc.Bidirectional(sc.LSTM(2), merge_mode="ave"), "merge_mode is 'ave'"),
    ],
    ids=str,
)
def test_layers_that_haiku_cannot_hold(layer: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        written(layer)


def test_names_are_recognised() -> None:
    assert recognises(["lstm/linear/w", "lstm/linear/b"])
    assert recognises(["gru.w_i", "gru.w_h", "gru.b"])
    assert not recognises([])
    assert not recognises(["w_i", "w_h"])
    assert not recognises(["lstm/linear/w", "mlp/linear_0/w"])
