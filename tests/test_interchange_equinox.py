"""Equinox's cells: live and by name, read, written, run by Equinox, refused."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import numpy as np
import pytest

import seqcore as sc
from helpers import FEATURES, assert_same_bits, random_weights
from jax_family import SEQUENCES, assert_round_trip, assert_runs_alike, forms
from seqcore.interchange.equinox import from_equinox, recognises, to_equinox

CELLS: dict[str, Any] = {"lstm": sc.LSTM, "gru": sc.GRU}
RANDOM = np.random.default_rng(13)


def written(layer: Any) -> Any:
    return to_equinox(layer, random_weights(layer, RANDOM))


def live(kind: Any, features: int, units: int, **options: Any) -> Any:
    """A live cell with random arrays."""
    shapes = eqx.filter_eval_shape(kind, features, units, key=jax.random.key(0), **options)
    return jax.tree.map(lambda leaf: 0.6 * RANDOM.normal(size=leaf.shape), shapes)


@pytest.mark.parametrize("cell", list(CELLS))
def test_what_is_written_runs_in_equinox_with_lengths(cell: str) -> None:
    layer = forms(CELLS[cell])["mixed"]
    weights = random_weights(layer, RANDOM)
    arrays = to_equinox(layer, weights)
    assert_runs_alike("equinox", arrays, layer, weights)
    listed = [arrays["0"], (arrays["1"]["forward"], arrays["1"]["backward"])]
    assert_runs_alike("equinox", listed, layer, weights)


def test_cells_without_bias_run_alike() -> None:
    for cell in CELLS.values():
        layer = cell(3, use_bias=False, **SEQUENCES)
        weights = random_weights(layer, RANDOM)
        arrays = to_equinox(layer, weights)
        assert set(arrays) == {"weight_ih", "weight_hh"}
        assert from_equinox(arrays)[0] == layer
        assert_runs_alike("equinox", arrays, layer, weights, None)


@pytest.mark.parametrize("form", list(forms(sc.LSTM)))
def test_there_and_back(form: str) -> None:
    assert_round_trip(to_equinox, from_equinox, forms(sc.LSTM)[form])


def test_a_grus_biases_of_z_and_r_are_summed_and_the_rest_kept() -> None:
    layer = sc.GRU(2, **SEQUENCES)
    weights = random_weights(layer, RANDOM)
    again, once = from_equinox(to_equinox(layer, weights))
    assert again == layer
    for name in ("kernel", "recurrent_kernel"):
        assert_same_bits(once[name], weights[name])
    bias, recurrent = weights["bias"], weights["recurrent_bias"]
    assert_same_bits(once["bias"], np.append(bias[:4] + recurrent[:4], bias[4:]))
    assert_same_bits(once["recurrent_bias"], np.append(np.zeros(4), recurrent[4:]))
    twice = from_equinox(to_equinox(layer, once))[1]
    for name, value in once.items():
        assert_same_bits(twice[name], value)


def test_live_cells_lists_and_pairs() -> None:
    first = live(eqx.nn.LSTMCell, FEATURES, 3)
    pair = live(eqx.nn.GRUCell, 3, 2), live(eqx.nn.LSTMCell, 3, 3, use_bias=False)
    source = [first, pair]
    layer, weights = from_equinox(source)
    gru, lstm = sc.GRU(2, **SEQUENCES), sc.LSTM(3, use_bias=False, **SEQUENCES)
    both = sc.Bidirectional(gru, backward_layer=lstm)
    assert layer == sc.Stack([sc.LSTM(3, **SEQUENCES), both], **SEQUENCES)
    assert from_equinox(first)[0] == sc.LSTM(3, **SEQUENCES)
    assert from_equinox(pair)[0] == both
    by_name = to_equinox(layer, weights)
    for name in ("weight_ih", "weight_hh"):
        assert_same_bits(by_name["1"]["backward"][name], getattr(pair[1], name))
    for name in ("weight_ih", "weight_hh", "bias", "bias_n"):
        assert_same_bits(by_name["1"]["forward"][name], getattr(pair[0], name))
    with jax.enable_x64(True):
        native = jax.tree.map(jax.numpy.asarray, source)
    for others in (native, by_name):
        again, found = from_equinox(others)
        assert again == layer
        for name, value in weights.items():
            assert_same_bits(found[name], value)


class OwnCell(eqx.nn.GRUCell):
    pass


CELL, GRU = written(sc.LSTM(2)), written(sc.GRU(2))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: live(OwnCell, 2, 2), "is OwnCell"),
        (lambda: [live(eqx.nn.Linear, 2, 2)], "level 0: is Linear"),
        (lambda: (CELL, 3), "backward: is int"),
        (lambda: (CELL, CELL, CELL), "is tuple"),
        (lambda: [[CELL]], "level 0: is list"),
        (list, "received nothing"),
        (lambda: {"0": CELL, "2": CELL}, "do not run from 0"),
        (lambda: {"forward": CELL}, "a forward and a backward cell"),
        (lambda: [CELL, CELL], r"layers\.1\.kernel has shape \(4, 8\)"),
        (lambda: CELL | {"weight_hr": np.ones(2)}, "received weight_hr.*beside them"),
        (lambda: {"weight_hh": CELL["weight_hh"]}, "weight_ih missing"),
        (lambda: CELL | {"weight_hh": np.ones((2, 2))}, r"weight_hh has shape \(2, 2\)"),
        (lambda: CELL | {"weight_hh": np.ones(8)}, "weight_hh has shape"),
        (lambda: CELL | {"weight_hh": np.ones((0, 0))}, "weight_hh has shape"),
        (lambda: CELL | {"weight_ih": np.ones((7, 4))}, "weight_ih has shape"),
        (lambda: CELL | {"bias": np.ones(7)}, "bias has shape"),
        (lambda: CELL | {"bias_n": np.ones(2)}, "has bias and bias_n, expected bias of"),
        (lambda: GRU | {"bias_n": None}, "has bias, expected bias and bias_n"),
        (lambda: GRU | {"bias_n": np.ones(3)}, "bias_n has shape"),
        (lambda: CELL | {"bias": np.ones(8, np.float32)}, "expected one dtype"),
        (lambda: CELL | {"bias": "x"}, "bias is str"),
    ],
)
def test_sources_that_are_refused(source: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_equinox(source())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (sc.SimpleRNN(2), "is a SimpleRNN"),
        (sc.GRU(2, reset_after=False), "reset_after is False"),
        (sc.LSTM(2, activation="relu"), "activation is 'relu'"),
        (sc.LSTM(2, recurrent_activation="hard_sigmoid"), "recurrent_activation is"),
        (sc.LSTM(2, go_backwards=True), "go_backwards is True"),
        (sc.Bidirectional(sc.LSTM(2), merge_mode="mul"), "merge_mode is 'mul'"),
    ],
    ids=str,
)
def test_layers_that_equinox_cannot_hold(layer: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        written(layer)


def test_names_are_recognised() -> None:
    assert recognises(["weight_ih", "weight_hh", "bias", "bias_n"])
    assert recognises(["0.weight_ih", "0.weight_hh", "0.bias"])
    assert not recognises(["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
    assert not recognises([])
