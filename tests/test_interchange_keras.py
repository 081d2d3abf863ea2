"""Keras's layers, models, configs and weights, in and out, against Keras's own run in float64."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from keras_here import keras_here
from seqcore.interchange.keras import from_keras, keras_config, recognises, to_keras
from seqcore.interchange.modules import to_keras as to_layer
from seqcore.verify.own.keras import run

keras = keras_here()
L = keras.layers

BATCH, TIME, FEATURES = 3, 5, 3
LENGTHS = np.array([5, 1, 3])
MASK = np.arange(TIME) < LENGTHS[:, None]
BOTH = {"return_sequences": True, "return_state": True}
D = {"dtype": "float64"}


def filled(layer: Any) -> Any:
    """Return a Keras layer or model, built in float64 and with random weights."""
    rng = np.random.default_rng(0)
    if not layer.built:
        layer.build((None, None, FEATURES))
    layer.set_weights([rng.standard_normal(value.shape) / 2 for value in layer.get_weights()])
    return layer


def inputs() -> Any:
    return np.random.default_rng(1).standard_normal((BATCH, TIME, FEATURES))


def arrays(outputs: Any) -> list[Any]:
    return [np.asarray(value) for value in keras.tree.flatten(outputs)]


def assert_equal(layer: Any, weights: Any, expected: Any, **given: Any) -> None:
    outputs = layer.apply(weights, inputs(), backend="numpy", **given)
    found = list(outputs) if isinstance(outputs, tuple) else [outputs]
    assert len(found) == len(arrays(expected))
    for one, other in zip(found, arrays(expected), strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


LAYERS: dict[str, Callable[[], Any]] = {
    "rnn": lambda: L.SimpleRNN(4, **BOTH, **D),
    "rnn, relu, no bias": lambda: L.SimpleRNN(4, activation="relu", use_bias=False, **BOTH, **D),
    "lstm": lambda: L.LSTM(4, **BOTH, **D),
    "lstm, last": lambda: L.LSTM(4, **D),
    "lstm, hard_sigmoid": lambda: L.LSTM(4, recurrent_activation="hard_sigmoid", **BOTH, **D),
    "lstm, linear": lambda: L.LSTM(4, activation=None, **BOTH, **D),
    "lstm, backwards": lambda: L.LSTM(4, go_backwards=True, **BOTH, **D),
    "lstm, zeros": lambda: L.LSTM(4, zero_output_for_mask=True, **BOTH, **D),
    "lstm, dropout": lambda: L.LSTM(4, dropout=0.5, recurrent_dropout=0.5, **BOTH, **D),
    "gru": lambda: L.GRU(4, **BOTH, **D),
    "gru, no bias": lambda: L.GRU(4, use_bias=False, **BOTH, **D),
    "gru, before": lambda: L.GRU(4, reset_after=False, **BOTH, **D),
    "cell": lambda: L.RNN(L.GRUCell(4, **D), **BOTH, **D),
    "cells": lambda: L.RNN(
        L.StackedRNNCells([L.LSTMCell(4, **D), L.LSTMCell(4, **D), L.GRUCell(2, **D)], **D),
        go_backwards=True,
        **BOTH,
        **D,
    ),
    "both": lambda: L.Bidirectional(L.LSTM(4, **BOTH, **D), **D),
    "both, last": lambda: L.Bidirectional(L.GRU(4, **D), merge_mode="sum", **D),
    "both, mul": lambda: L.Bidirectional(L.SimpleRNN(4, **BOTH, **D), merge_mode="mul", **D),
    "both, ave": lambda: L.Bidirectional(L.GRU(4, **BOTH, **D), merge_mode="ave", **D),
    "both, unmerged": lambda: L.Bidirectional(L.GRU(4, **BOTH, **D), merge_mode=None, **D),
    "both, unlike": lambda: L.Bidirectional(
        L.LSTM(4, **BOTH, **D),
        backward_layer=L.GRU(2, reset_after=False, go_backwards=True, **BOTH, **D),
        **D,
    ),
    "both, cell": lambda: L.Bidirectional(L.RNN(L.LSTMCell(4, **D), **BOTH, **D), **D),
}


@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("name", LAYERS)
def test_live_layers_compute_the_same(name: str, masked: bool) -> None:
    source = filled(LAYERS[name]())
    layer, weights = from_keras(source)
    expected = source(inputs(), mask=keras.ops.convert_to_tensor(MASK) if masked else None)
    assert_equal(layer, weights, expected, lengths=LENGTHS if masked else None)


@pytest.mark.parametrize("name", LAYERS)
def test_there_and_back_bit_for_bit(name: str) -> None:
    source = filled(LAYERS[name]())
    layer, weights = from_keras(source)
    for one, other in zip(to_keras(layer, weights), source.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert one.flags.c_contiguous


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "cells"])
def test_what_keras_makes_of_our_config_computes_the_same(name: str) -> None:
    layer, weights = from_keras(filled(LAYERS[name]()))
    model = keras.saving.deserialize_keras_object(keras_config(layer, FEATURES, dtype="float64"))
    model.set_weights(to_keras(layer, weights))
    assert_equal(layer, weights, model.layers[0](inputs(), mask=MASK), lengths=LENGTHS)
    assert from_keras(model)[0] == layer


def chain_layers(**last: Any) -> list[Any]:
    return [
        L.LSTM(4, return_sequences=True, **D),
        L.Bidirectional(L.GRU(3, return_sequences=True, **D), **D),
        L.SimpleRNN(2, **last, **D),
    ]


def test_a_sequential_model() -> None:
    first, *others = chain_layers()
    model = filled(
        keras.Sequential(
            [
                keras.Input((None, FEATURES), dtype="float64"),
                L.Masking(**D),
                first,
                L.Dropout(0.5, **D),
                L.SpatialDropout1D(0.5, **D),
                *others,
            ]
        )
    )
    layer, weights = from_keras(model)
    members = (
        sc.LSTM(4, return_sequences=True, mask_output="carry"),
        sc.Bidirectional(sc.GRU(3, return_sequences=True)),
        sc.SimpleRNN(2, mask_output="carry"),
    )
    assert layer == sc.Stack(members)
    x = np.where(MASK[:, :, None], inputs(), 0)
    outputs = layer.apply(weights, x, lengths=LENGTHS, backend="numpy")
    np.testing.assert_allclose(outputs, np.asarray(model(x)), rtol=0, atol=1e-12)
    alone, _ = from_keras(model, name=first.name)
    assert alone == members[0]


@pytest.mark.parametrize("kind", [sc.SimpleRNN, sc.LSTM, sc.GRU])
def test_the_last_output_of_a_row_that_ends_in_padding(kind: Any) -> None:
    layer = kind(2)
    weights = layer.init(FEATURES, seed=1, dtype="float64")
    model = keras.saving.deserialize_keras_object(keras_config(layer, FEATURES, dtype="float64"))
    model.set_weights(to_keras(layer, weights))
    found = keras.ops.convert_to_numpy(model.layers[-1](inputs(), mask=MASK))
    expected = layer.apply(weights, inputs(), lengths=LENGTHS, backend="numpy")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def functional(*outputs: int, state: bool = True) -> Any:
    """Return a functional model of a masked chain, with some of the last layer's outputs."""
    given = keras.Input((None, FEATURES), dtype="float64")
    hidden = L.LSTM(4, return_sequences=True, **D)(L.Masking(**D)(given))
    last = L.LSTM(2, return_state=state, **D)(hidden)
    return filled(keras.Model(given, [last[index] for index in outputs] if outputs else last))


def test_a_functional_model() -> None:
    model = functional(state=False)
    layer, weights = from_keras(model)
    assert_equal(layer, weights, model(inputs()))
    assert from_keras(functional(0))[0] == layer
    again, more = from_keras((json.loads(model.to_json()), model.get_weights()))
    assert again == layer
    for name, value in weights.items():
        np.testing.assert_array_equal(more[name], value)


def test_functional_models_that_are_no_chain() -> None:
    with pytest.raises(sc.ConversionError, match="a stack returns every member's or none"):
        from_keras(functional(0, 1, 2))
    layer, _ = from_keras(functional(0, 1, 2), return_state=True)
    assert layer.return_state
    with pytest.raises(sc.ConversionError, match="in an order of its own"):
        from_keras(functional(1, 0))
    with pytest.raises(sc.ConversionError, match="2 of its last layer's outputs"):
        from_keras(functional(0, 1))
    given = keras.Input((None, FEATURES))
    one, other = L.LSTM(4), L.LSTM(4)
    with pytest.raises(sc.ConversionError, match="not those of one layer"):
        from_keras(keras.Model(given, [one(given), other(given)]))
    with pytest.raises(sc.ConversionError, match="Add is no recurrent layer"):
        from_keras(keras.Model(given, L.Add()([one(given), other(given)])))
    _, *state = L.LSTM(4, return_state=True, name="encoder")(given)
    decoder = keras.Model(given, L.LSTM(4, name="decoder")(given, initial_state=state))
    with pytest.raises(sc.ConversionError, match="more than one input, such as an initial_state"):
        from_keras(decoder)
    assert from_keras(decoder, name="decoder")[0].units == 4


def test_a_config_in_every_form() -> None:
    for source in (filled(LAYERS["gru"]()), filled(LAYERS["both"]()), filled(LAYERS["cells"]())):
        expected, _ = from_keras(source)
        weights = source.get_weights()
        serialised = keras.saving.serialize_keras_object(source)
        for config in (source.get_config(), serialised, json.dumps(serialised)):
            assert from_keras((config, weights))[0] == expected
    model = filled(keras.Sequential([keras.Input((None, FEATURES)), *chain_layers()]))
    by_name = {layer.name: layer.get_weights() for layer in model.layers}
    expected, _ = from_keras(model)
    for config in (model.get_config(), model.to_json()):
        for weights in (model.get_weights(), by_name):
            assert from_keras((config, weights))[0] == expected
    name = model.layers[1].name
    assert from_keras((model.to_json(), by_name), name=name)[0] == expected.layers[1]


def some_weights(layer: Any, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(2)
    shapes = layer.weight_shapes(FEATURES)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


CARRY: Any = {"return_sequences": True, "mask_output": "carry"}

LISTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (sc.SimpleRNN(4, **CARRY), {}),
    "lstm, relu": (sc.LSTM(4, activation="relu", **CARRY), {"activation": "relu"}),
    "gru": (sc.GRU(4, **CARRY), {}),
    "gru, before": (sc.GRU(4, reset_after=False, **CARRY), {}),
    "gru, no bias": (
        sc.GRU(4, use_bias=False, reset_after=False, **CARRY),
        {"reset_after": False},
    ),
    "gru of as many units as features": (sc.GRU(FEATURES, **CARRY), {}),
    "lstm, hard": (
        sc.LSTM(4, recurrent_activation="hard_sigmoid", **CARRY),
        {"recurrent_activation": "hard_sigmoid"},
    ),
    "both": (sc.Bidirectional(sc.LSTM(4, return_sequences=True)), {}),
    "two both": (
        sc.Stack((sc.Bidirectional(sc.GRU(4, return_sequences=True)),) * 2, return_sequences=True),
        {},
    ),
    "mixed": (
        sc.Stack(
            (sc.LSTM(4, **CARRY), sc.GRU(2, **CARRY), sc.SimpleRNN(5, **CARRY)),
            return_sequences=True,
        ),
        {},
    ),
    "said to be a stack": (
        sc.Stack((sc.LSTM(FEATURES, **CARRY),) * 2, return_sequences=True),
        {"layer": "LSTM"},
    ),
    "said to be both": (
        sc.Bidirectional(sc.LSTM(FEATURES, return_sequences=True)),
        {"layer": "Bidirectional"},
    ),
    "said by a layer": (
        sc.Bidirectional(sc.LSTM(4, activation="relu"), "sum", sc.GRU(4)),
        {"layer": sc.Bidirectional(sc.LSTM(4, activation="relu"), "sum", sc.GRU(4))},
    ),
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_weights(name: str) -> None:
    expected, words = LISTS[name]
    weights = some_weights(expected)
    layer, found = from_keras(to_keras(expected, weights), **words)
    assert layer == expected
    for key, value in weights.items():
        np.testing.assert_array_equal(found[key], value)
    outputs = run(to_keras(expected, weights), words, inputs(), LENGTHS)
    sequence = layer.replace(return_sequences=True) if isinstance(layer, sc.Stack) else layer
    if sequence.return_sequences:
        ours = sequence.apply(found, inputs(), lengths=LENGTHS, backend="numpy")
        np.testing.assert_allclose(ours, outputs["y"], rtol=0, atol=1e-12)


def test_the_weights_are_the_callers_own() -> None:
    given = to_keras(sc.GRU(4), some_weights(sc.GRU(4)))
    _, weights = from_keras(given)
    for value in weights.values():
        assert not any(np.shares_memory(value, one) for one in given)


@pytest.mark.parametrize(
    ("layer", "words", "message"),
    [
        (sc.GRU(4, use_bias=False), {}, "give reset_after=True"),
        (sc.Stack([sc.LSTM(3, return_sequences=True), sc.LSTM(3)]), {},
         r"LSTM\(3\), LSTM\(3\) or Bidirectional\(LSTM\(3\)\); say which with layer='LSTM'"),
        (sc.Stack([sc.Bidirectional(sc.LSTM(4, return_sequences=True), "sum"), sc.LSTM(2)]), {},
         "merge_mode 'sum', 'mul' or 'ave', give the layer itself"),
        (sc.Bidirectional(sc.LSTM(4), backward_layer=sc.GRU(4)), {}, "give the layer itself"),
        (sc.LSTM(4), {"layer": "GRU"}, "are not those of GRU"),
        (sc.LSTM(4), {"layer": "Bidirectional"}, "are not those of Bidirectional"),
        (sc.LSTM(4), {"layer": "Lstm"}, "layer is 'Lstm', expected a layer of seqcore or one of"),
        (sc.LSTM(4), {"layer": sc.LSTM(3)}, r"kernel has shape \(3, 16\), expected \(3, 12\)"),
        (sc.LSTM(4), {"layer": sc.LSTM(4, use_bias=False)}, "1 more weights than LSTM has"),
        (sc.LSTM(4), {"layer": sc.LSTM(4, go_backwards=True, keep_order=True)}, "keep_order"),
        (sc.GRU(4), {"reset_after": False}, "reset_after=False was given for a layer with"),
        (sc.LSTM(4), {"activation": "swish"}, "activation is swish, expected one of tanh"),
        (sc.LSTM(4), {"name": "lstm"}, "which has no names"),
    ],
)  # fmt: skip
def test_lists_that_are_open_or_something_else(layer: Any, words: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_keras(to_keras(layer, some_weights(layer)), **words)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([], "weights of shapes none"),
        ([(3, 16)], "expected for each cell kernel"),
        ([(3, 16), (4, 20), (16,)], "expected for each cell kernel"),
        ([(3, 16), (4, 16), (12,)], "expected for each cell kernel"),
        ([(3, 16), (4, 16), (16,), (5, 1)], "expected for each cell kernel"),
        ([(3, 16), (4, 16), (16,), (9, 16), (4, 16), (16,)], "features are the units of the one"),
        ([(0, 0), (0, 0)], "expected for each cell kernel"),
        # A GRU's bias, or the kernel of a layer with two features.
        ([(2, 6), (2, 6), (2, 6), (2, 6), (2, 6), (2, 6)], "with or without a bias|or Bidirect"),
    ],
)
def test_shapes_that_are_no_layers(shapes: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_keras([np.ones(shape) for shape in shapes], reset_after=True)


def test_long_lists_take_no_longer_than_they_are() -> None:
    pair = [np.ones((2, 8)), np.ones((2, 8))]
    with pytest.raises(sc.ConversionError, match="say which with"):
        from_keras(pair * 5_000)


def built(layer: Any) -> Any:
    layer.build((None, None, FEATURES))
    return layer


def tanh(x: Any) -> Any:
    """Return something else than its namesake."""
    return x


class Own(L.LSTM):  # type: ignore[misc, name-defined]
    pass


class OwnCell(L.LSTMCell):  # type: ignore[misc, name-defined]
    pass


def sequential(*layers: Any) -> Any:
    return keras.Sequential([keras.Input((None, FEATURES)), *layers])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "not built": (lambda: L.LSTM(4), "build the Keras layer first"),
    "one's own activation": (
        lambda: built(L.LSTM(4, activation=tanh)),
        "activation is the function 'tanh' of",
    ),
    "one's own in a cell": (
        lambda: built(L.RNN(L.GRUCell(4, recurrent_activation=lambda x: x))),
        "recurrent_activation is the function '<lambda>'",
    ),
    "another activation": (
        lambda: built(L.LSTM(4, activation="silu")),
        "activation is silu, expected one of tanh",
    ),
    "a layer for an activation": (
        lambda: built(L.LSTM(4, activation=L.LeakyReLU())),
        "activation is 'LeakyReLU' and not one of Keras's own functions",
    ),
    "one's own layer": (lambda: built(Own(4)), "Own is not one of Keras's own layers"),
    "one's own cell": (lambda: built(L.RNN(OwnCell(4))), "OwnCell is a class of"),
    "another layer": (lambda: built(L.Dense(4)), "Dense is no recurrent layer"),
    "a head": (
        lambda: sequential(L.LSTM(4), L.Dense(2, name="head")),
        "layer 'head': Dense is no recurrent layer of Keras and would be lost",
    ),
    "a model in a model": (
        lambda: sequential(sequential(L.LSTM(4, return_sequences=True)), L.LSTM(4)),
        "Sequential is no recurrent layer",
    ),
    "a mask of outputs": (
        lambda: sequential(
            L.LSTM(4, return_sequences=True, name="first"), L.Masking(0.5), L.LSTM(4)
        ),
        "a Masking layer behind 'first'",
    ),
    "zeros for the last output": (
        lambda: built(L.LSTM(4, zero_output_for_mask=True)),
        "zero_output_for_mask=True with return_sequences=False returns zeros",
    ),
    "no layer": (lambda: sequential(L.Masking()), "without a recurrent layer"),
    "forward backwards": (
        lambda: built(
            L.Bidirectional(L.LSTM(4, go_backwards=True), backward_layer=L.LSTM(4))
        ),
        "layer: go_backwards is True, expected False",
    ),
    "cells in both directions": (
        lambda: built(L.Bidirectional(L.RNN([L.LSTMCell(4), L.LSTMCell(4)]))),
        "2 cells in one loop",
    ),
    "unmerged inside": (
        lambda: (
            {
                "layers": [
                    keras.saving.serialize_keras_object(one)
                    for one in (
                        L.Bidirectional(L.LSTM(4, return_sequences=True), merge_mode=None),
                        L.LSTM(4),
                    )
                ]
            },
            [
                *to_keras(sc.Bidirectional(sc.LSTM(4)), sc.Bidirectional(sc.LSTM(4)).init(3)),
                *to_keras(sc.LSTM(4), sc.LSTM(4).init(4)),
            ],
        ),
        "merge_mode='none'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_layer_is(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(sc.ConversionError, match=message):
        from_keras(make())


def test_a_stateful_layer() -> None:
    layer = L.LSTM(4, stateful=True)
    layer.build((2, 5, FEATURES))
    with pytest.raises(sc.ConversionError, match="stateful is True, layers keep no state"):
        from_keras(layer)


def lstm(**config: Any) -> Any:
    weights = to_keras(sc.LSTM(4), sc.LSTM(4).init(FEATURES))
    return {"class_name": "LSTM", "config": {"units": 4, **config}}, weights


def gru_no_bias() -> Any:
    config = {"units": 4, "use_bias": False}
    return {"class_name": "GRU", "config": config}, [np.ones((3, 12)), np.ones((4, 12))]


CONFIGS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "unknown field": (lstm(zoneout=0.1), {}, "zoneout is 0.1, it is not known here"),
    "time_major": (lstm(time_major=True), {}, "time_major is True, arrays are"),
    "units": (lstm(units=-4), {}, "units is -4"),
    "many units": (lstm(units=10**12), {}, r"kernel has shape \(3, 16\), expected \(3, 4000000"),
    "no boolean": (lstm(use_bias="yes"), {}, "use_bias is 'yes', expected True or False"),
    "activation": (lstm(activation=["tanh"]), {}, "activation is a list, expected one of"),
    "lambda": (
        lstm(activation={"class_name": "__lambda__", "config": {"value": "0wAA"}}),
        {},
        "'__lambda__' and not one of Keras's own functions",
    ),
    "function": (
        lstm(activation={"class_name": "function", "config": "tanh", "module": "os"}),
        {},
        "'tanh' and not one of Keras's own functions",
    ),
    "a Lambda layer": (
        ({"class_name": "Lambda", "module": "keras.layers", "config": {"function": "x"}}, []),
        {},
        "Lambda is no recurrent layer",
    ),
    "a registered class": (
        ({**lstm()[0], "module": "builtins", "registered_name": "mine>LSTM"}, lstm()[1]),
        {},
        "LSTM is a class of builtins",
    ),
    "too many": ((lstm()[0], [*lstm()[1], np.ones(2)]), {}, "1 more weights than LSTM has"),
    "too few": ((lstm()[0], lstm()[1][:2]), {}, r"2 weights where LSTM\(use_bias=True\) has 3"),
    "no list": ((lstm()[0], 3), {}, "the weights are int, expected a list of arrays"),
    "no arrays": ((lstm()[0], ["x"]), {}, "weight 0 is str, expected an array"),
    "integers": ((lstm()[0], [v.astype(int) for v in lstm()[1]]), {}, "int64"),
    "a name": (lstm(), {"name": "x"}, "no layer 'x', expected one of none"),
    "an activation": (lstm(), {"activation": "swish"}, "swish"),
    "a contradiction": (
        lstm(activation="relu"),
        {"activation": "tanh"},
        "activation='tanh' was given for a layer with activation='relu'; leave it out",
    ),
    "a layer": (lstm(), {"layer": "LSTM"}, "a source that says itself what it is; leave it out"),
    "no reset": (gru_no_bias(), {}, "resets before or after the recurrent product; give reset_"),
    "the slope of Keras 2": (
        ({**lstm(recurrent_activation="hard_sigmoid")[0], "keras_version": "2.15.0"}, lstm()[1]),
        {},
        "the hard_sigmoid of Keras 2.15.0, 0.2 x",
    ),
    "no config": (({"class_name": "LSTM"}, []), {}, "a description without class_name and config"),
    "nothing": (({}, []), {}, "the config is not one of a recurrent layer"),
    "no JSON": (("[" * 100_000, []), {}, "the config is not valid JSON"),
    "a list": (("[]", []), {}, "the config is list, expected a dict"),
    "no layers": (
        ({"class_name": "Sequential", "config": {"layers": 3}}, []),
        {},
        "Sequential without a list of layers",
    ),
    "one step inside": (
        (
            {"layers": [lstm()[0], {"class_name": "LSTM", "config": {"units": 4}}]},
            [*lstm()[1], np.ones((4, 16)), *lstm()[1][1:]],
        ),
        {},
        "layer 0 has return_sequences=False and return_state=False, and another layer follows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_that_no_layer_is(name: str) -> None:
    source, words, message = CONFIGS[name]
    with pytest.raises(sc.ConversionError, match=message):
        from_keras(source, **words)


def test_configs_inside_themselves() -> None:
    config: dict[str, Any] = {"class_name": "Bidirectional", "config": {}}
    config["config"]["layer"] = config
    with pytest.raises(sc.ConversionError, match="Bidirectional in a Bidirectional"):
        from_keras((config, lstm()[1] * 2))
    graph = [
        {
            "name": name,
            "class_name": "LSTM",
            "config": {},
            "inbound_nodes": [{"args": [{"config": {"keras_history": [other, 0, 0]}}]}],
        }
        for name, other in (("a", "b"), ("b", "a"))
    ]
    model = {"class_name": "Functional", "config": {"layers": graph, "output_layers": ["a", 0, 0]}}
    with pytest.raises(sc.ConversionError, match="has no beginning"):
        from_keras((model, []))


def test_words_for_what_an_old_config_leaves_open() -> None:
    config, weights = gru_no_bias()
    assert not from_keras((config, weights), reset_after=False)[0].reset_after
    assert from_keras(lstm(), activation="relu")[0].activation == "relu"
    layer, _ = from_keras(lstm(), return_sequences=True, return_state=True)
    assert (layer.return_sequences, layer.return_state) == (True, True)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (sc.LSTM(4, go_backwards=True, keep_order=True), "keep_order is True"),
        (sc.Bidirectional(sc.LSTM(4, mask_output="carry")), "mask_output is 'carry' in a Bidirec"),
    ],
)
def test_what_keras_cannot_hold(layer: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        to_keras(layer, layer.init(FEATURES))
    with pytest.raises(sc.ConversionError, match=message):
        keras_config(layer, FEATURES)


def test_mistakes_in_calls() -> None:
    with pytest.raises(sc.ConversionError, match="received int, expected a Keras layer or model"):
        from_keras(3)
    with pytest.raises(sc.ConversionError, match="the first argument is dict"):
        to_keras({}, sc.LSTM(4))  # type: ignore[arg-type]
    with pytest.raises(sc.ConversionError, match="the first argument is dict"):
        keras_config({}, 3)
    with pytest.raises(sc.WeightsError, match="missing bias"):
        to_keras(sc.LSTM(4), {k: v for k, v in sc.LSTM(4).init(3).items() if k != "bias"})
    stack = sc.Stack([sc.LSTM(4, return_sequences=True), sc.LSTM(4)], return_state=True)
    with pytest.raises(sc.ConversionError, match="gives every member's state"):
        keras_config(stack, FEATURES)
    assert len(to_keras(stack, stack.init(FEATURES))) == 6
    with pytest.raises(sc.ConversionError, match="has no layer 'x', expected one of"):
        from_keras(sequential(L.LSTM(4)), name="x")
    pair = sequential(L.LSTM(4, name="lstm")).to_json(), [np.ones(3)]
    with pytest.raises(sc.ConversionError, match="the weights are a list, which does not say"):
        from_keras(pair, name="lstm")


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
def test_other_dtypes_keep_their_bits(dtype: str) -> None:
    layer = sc.GRU(4, **CARRY)
    weights = {name: value.astype(sc.LSTM(1).init(1, dtype=dtype)["bias"].dtype)
               for name, value in some_weights(layer).items()}  # fmt: skip
    _, found = from_keras(to_keras(layer, weights))
    for name, value in weights.items():
        assert found[name].dtype == value.dtype
        assert found[name].tobytes() == value.tobytes()


def test_keras_variables_are_arrays() -> None:
    source = filled(LAYERS["gru"]())
    expected = from_keras(source)[1]
    for weights in (source.weights, [variable.value for variable in source.weights]):
        _, found = from_keras(weights)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)


def by_path(layers: list[Any]) -> dict[str, Any]:
    return {variable.path: np.asarray(variable) for one in layers for variable in one.weights}


def test_variables_by_path() -> None:
    model = filled(sequential(*chain_layers(return_sequences=True)))
    for name, source in (("both", LAYERS["both"]), ("gru, before", LAYERS["gru, before"])):
        source = filled(source())
        expected, weights = from_keras(source, return_state=False)
        given = by_path([source])
        assert recognises(given)
        assert recognises([path.replace("/", ".") for path in given])
        layer, found = from_keras(dict(reversed(given.items())))
        assert layer == expected, name
        for key, value in weights.items():
            np.testing.assert_array_equal(found[key], value)
    given = by_path(model.layers)
    with pytest.raises(sc.ConversionError, match="paths don't say their order; give the layer"):
        from_keras(given)
    expected, _ = from_keras(model)
    assert from_keras(given, layer=expected)[0] == expected
    one = model.layers[1]
    assert from_keras(given, name=one.name)[0] == expected.layers[1]


def test_members_are_counted_and_not_spelled() -> None:
    layer = sc.Stack((sc.LSTM(FEATURES, **CARRY),) * 12, return_sequences=True)
    weights = some_weights(layer)
    given = {}
    for index in range(12):
        name = f"lstm_{index}" if index else "lstm"
        mine = [
            weights[f"layers.{index}.{slot}"] for slot in ("kernel", "recurrent_kernel", "bias")
        ]
        given |= {f"layers/{name}/cell/vars/{slot}": value for slot, value in enumerate(mine)}
    given = dict(sorted(given.items()))
    assert list(given)[3].startswith("layers/lstm_1/")
    found, read = from_keras(given)
    assert found == layer
    for key, value in weights.items():
        np.testing.assert_array_equal(read[key], value)


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        (lambda g: g.update({"layers/dense/vars/0": np.ones((2, 2))}), {},
         r"holds layers/dense/vars/0 beside .* as in name='layers/lstm'"),
        (lambda g: g.pop("layers/lstm/cell/vars/1"), {}, "lacks its kernel or recurrent_kernel"),
        (lambda g: g.clear(), {}, "no weights of a recurrent layer"),
        (lambda g: None, {"name": "gru"}, "0 recurrent layers named 'gru'"),
        (lambda g: None, {"layer": "GRU"}, "layer='GRU' was given for weights of"),
        (lambda g: g.update({f"layers/lstm/forward_layer/cell/vars/{i}": np.ones((4, 16))
                             for i in range(2)}), {}, "expected one forward and one backward"),
        (lambda g: g.update({"layers/lstm/cell/vars/0:0": 3}), {}, "expected an array"),
    ],
)  # fmt: skip
def test_paths_that_are_something_else(change: Any, words: Any, message: str) -> None:
    kernel, recurrent, bias = to_keras(sc.LSTM(4), sc.LSTM(4).init(3))
    given = {f"layers/lstm/cell/vars/{i}": v for i, v in enumerate((kernel, recurrent, bias))}
    given["optimizer/vars/0"] = np.ones(3)
    change(given)
    with pytest.raises(sc.ConversionError, match=message):
        from_keras(given, **words)


def test_names_of_others_are_not_recognised() -> None:
    assert not recognises([])
    for names in (
        sc.Bidirectional(sc.LSTM(4)).init(3),
        sc.Stack([sc.LSTM(4)]).init(3),
        ["weight_ih_l0", "weight_hh_l0"],
        ["cell/dense_i/kernel", "cell/dense_h/kernel", "cell/dense_h/bias"],
        ["params/OptimizedLSTMCell_0/hi/kernel"],
        ["lstm/lstm_cell/kernel", "dense/kernel"],
    ):
        assert not recognises(list(names))


def test_our_own_keras_layer_in_a_model_is_not_keras() -> None:
    """Alone it comes back, as the tests of the module show."""
    own = to_layer(sc.LSTM(4), sc.LSTM(4).init(3))
    model = keras.Sequential([keras.Input((None, 3)), own])
    with pytest.raises(sc.ConversionError, match="RecurrentLayer is a class of seqcore_tensorflow"):
        from_keras(model)
    with pytest.raises(sc.ConversionError, match=r"layer of seqcore\.to_keras itself"):
        from_keras(model, name=own.name)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
def test_keras_run_on_a_config_with_every_kind_of_layer(lengths: Any) -> None:
    model = filled(
        keras.Sequential(
            [
                keras.Input((None, FEATURES)),
                L.LSTM(4, return_sequences=True, go_backwards=True, **D),
                L.Bidirectional(L.GRU(2, return_sequences=True, **D), merge_mode="sum", **D),
                L.RNN([L.LSTMCell(3, **D), L.GRUCell(2, **D)], return_sequences=True, **D),
                L.Bidirectional(L.SimpleRNN(2, return_sequences=True, **D), merge_mode=None, **D),
            ]
        )
    )
    structure = keras.saving.serialize_keras_object(model), model.get_weights()
    layer, weights = from_keras(structure, return_sequences=True, return_state=True)
    ours = layer.apply(weights, inputs(), lengths=lengths, backend="numpy")._asdict()
    theirs = run(structure, {"return_state": True}, inputs(), lengths)
    sequences = [ours.pop("forward_y"), ours.pop("backward_y")]
    ours["y"] = np.concatenate(sequences, axis=-1)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert theirs[name].dtype == np.float64
        np.testing.assert_allclose(theirs[name], value, rtol=0, atol=1e-12, err_msg=name)
