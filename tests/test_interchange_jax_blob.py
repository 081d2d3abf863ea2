"""The array of jax.experimental.rnn: read, written, run by JAX's reference, refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from jax.experimental import rnn

import seqcore as sc
from helpers import FEATURES, assert_same_bits, random_weights
from jax_family import SEQUENCES, assert_round_trip, assert_runs_alike
from seqcore.interchange.jax_blob import from_jax_blob, recognises, to_jax_blob

UNITS = 3
RANDOM = np.random.default_rng(14)


def member(both: bool) -> Any:
    cell = sc.LSTM(UNITS, **SEQUENCES)
    return sc.Bidirectional(cell) if both else cell


def words(layers: int, both: bool) -> dict[str, Any]:
    return {"features": FEATURES, "units": UNITS, "layers": layers, "bidirectional": both}


def layer_of(layers: int, both: bool) -> Any:
    return member(both) if layers == 1 else sc.Stack([member(both)] * layers, **SEQUENCES)


SHAPES = [(layers, both) for layers in (1, 3) for both in (False, True)]


@pytest.mark.parametrize(("layers", "both"), SHAPES)
def test_the_size_and_there_and_back(layers: int, both: bool) -> None:
    layer = layer_of(layers, both)
    given = words(layers, both)
    blob = to_jax_blob(layer, random_weights(layer, RANDOM))
    assert blob.size == rnn.get_num_params_in_lstm(FEATURES, UNITS, layers, both)
    assert_round_trip(to_jax_blob, lambda blob: from_jax_blob(blob, **given), layer)


@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, True)])
def test_what_is_read_runs_in_jax_with_lengths(layers: int, both: bool) -> None:
    """With both biases random, which are summed."""
    given = words(layers, both)
    blob = 0.6 * RANDOM.normal(size=rnn.get_num_params_in_lstm(FEATURES, UNITS, layers, both))
    for source in (blob, {"weights": blob}):
        layer, weights = from_jax_blob(source, **given)
        assert layer == layer_of(layers, both)
    assert_runs_alike("jax_blob", blob, layer, weights, **given)


def test_what_is_written_runs_in_jax() -> None:
    layer = layer_of(2, True)
    weights = random_weights(layer, RANDOM)
    blob = to_jax_blob(layer, weights)
    assert_runs_alike("jax_blob", blob, layer, weights, **words(2, True))


def test_a_layer_without_bias_gets_zeros() -> None:
    weights = random_weights(sc.LSTM(UNITS, use_bias=False), RANDOM, "float32")
    blob = to_jax_blob(sc.LSTM(UNITS, use_bias=False), weights)
    layer, found = from_jax_blob(blob, **words(1, False), return_sequences=False)
    assert layer == sc.LSTM(UNITS)
    assert not found["bias"].any()
    assert_same_bits(found["kernel"], weights["kernel"])


BLOB = np.ones(rnn.get_num_params_in_lstm(FEATURES, UNITS, 1, False), np.float32)


@pytest.mark.parametrize(
    ("blob", "changes", "message"),
    [
        (BLOB[1:], {}, r"has shape \(107,\), expected \(108,\)"),
        (BLOB[None], {}, r"expected \(108,\)"),
        (BLOB, {"units": 2}, r"has shape \(108,\), expected \(64,\)"),
        (BLOB, {"layers": 10**15}, r"has shape \(108,\)"),
        (BLOB, {"features": 10**400}, r"has shape \(108,\)"),
        (BLOB, {"bidirectional": True}, r"expected \(216,\)"),
        (BLOB, {"units": 0}, "units is 0, expected a positive integer"),
        (BLOB, {"layers": True}, "layers is True"),
        (BLOB, {"features": 4.0}, "features is 4.0"),
        (BLOB, {"bidirectional": "no"}, "bidirectional is 'no'"),
        (BLOB.astype(np.int32), {}, "int32"),
        ({"a": BLOB, "b": BLOB}, {}, "received 2 arrays"),
        (None, {}, "is NoneType"),
    ],
)
def test_arrays_that_are_refused(blob: Any, changes: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_jax_blob(blob, **{**words(1, False), **changes})


UNLIKE = sc.Stack([sc.LSTM(2, **SEQUENCES), sc.LSTM(3)])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (sc.GRU(2), "a cell is GRU"),
        (UNLIKE, "units is 3"),
        (sc.Stack([sc.LSTM(2, **SEQUENCES), sc.Bidirectional(sc.LSTM(2))]), "bidirectional"),
        (sc.LSTM(2, activation="relu"), "activation is 'relu'"),
        (sc.LSTM(2, recurrent_activation="hard_sigmoid"), "recurrent_activation is"),
        (sc.LSTM(2, go_backwards=True), "go_backwards is True"),
        (sc.Bidirectional(sc.LSTM(2), merge_mode="sum"), "merge_mode is 'sum'"),
    ],
    ids=str,
)
def test_layers_that_it_cannot_hold(layer: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        to_jax_blob(layer, random_weights(layer, RANDOM))


def test_names_are_recognised() -> None:
    assert recognises(["weights"])
    assert not recognises(["weights", "biases"])
    assert not recognises([])
