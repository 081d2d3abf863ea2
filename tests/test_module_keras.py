"""Layers as Keras layers: values, training, files, masks; on TensorFlow here, then elsewhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from keras_here import keras_here

keras = keras_here()
L = keras.layers

BATCH, TIME, FEATURES = 4, 6, 3
LENGTHS = np.array([6, 1, 4, 2])
MASK = np.arange(TIME) < LENGTHS[:, None]
BOTH: Any = {"return_sequences": True, "return_state": True}

LAYERS: dict[str, Any] = {
    "rnn": sc.SimpleRNN(4),
    "lstm": sc.LSTM(4, **BOTH),
    "gru, backwards": sc.GRU(4, go_backwards=True, **BOTH),
    "both, unmerged": sc.Bidirectional(sc.GRU(4, **BOTH), "none", sc.LSTM(2, **BOTH)),
    "stack": sc.Stack(
        [
            sc.Bidirectional(sc.GRU(4, return_sequences=True)),
            sc.LSTM(2, go_backwards=True),
        ],
        **BOTH,
    ),
}


def some_weights(layer: Any, dtype: str = "float64") -> dict[str, Any]:
    rng = np.random.default_rng(0)
    shapes = layer.weight_shapes(FEATURES)
    return {name: (rng.standard_normal(shape) / 2).astype(dtype) for name, shape in shapes.items()}


def inputs(dtype: str = "float64") -> Any:
    return np.random.default_rng(1).standard_normal((BATCH, TIME, FEATURES)).astype(dtype)


def several(outputs: Any) -> list[Any]:
    return [np.asarray(one) for one in (outputs if isinstance(outputs, tuple) else (outputs,))]


def states(layer: Any) -> list[Any]:
    rng = np.random.default_rng(2)
    outputs = layer.apply(some_weights(layer), inputs(), backend="numpy")
    return [rng.standard_normal(value.shape) for value in several(outputs) if value.ndim == 2]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("given", ["nothing", "mask", "lengths", "state"])
def test_values_are_those_of_the_layer(name: str, given: str) -> None:
    layer = LAYERS[name]
    options: dict[str, Any] = {
        "nothing": {},
        "mask": {"mask": MASK},
        "lengths": {"lengths": LENGTHS},
        "state": {"initial_state": states(layer)},
    }[given]
    made = sc.to_keras(layer, some_weights(layer))
    found = several(made(inputs(), **options))
    expected = several(layer.apply(some_weights(layer), inputs(), backend="numpy", **options))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", LAYERS)
def test_variables_shapes_and_symbolic_outputs(name: str) -> None:
    layer = LAYERS[name]
    weights = some_weights(layer)
    made = sc.to_keras(layer, weights)
    assert [variable.name for variable in made.trainable_weights] == [
        key.replace(".", "_") for key in weights
    ]
    for key, value in weights.items():
        np.testing.assert_array_equal(np.asarray(made.variable(key)), value)
    outputs = several(layer.apply(weights, inputs(), backend="numpy"))
    shapes = made.compute_output_shape((BATCH, TIME, FEATURES))
    assert (shapes if isinstance(shapes, list) else [shapes]) == [one.shape for one in outputs]
    symbolic = made(keras.Input((None, FEATURES), dtype="float64"))
    symbolic = symbolic if isinstance(symbolic, tuple) else (symbolic,)
    assert [one.shape[-1] for one in symbolic] == [one.shape[-1] for one in outputs]
    assert {one.dtype for one in symbolic} == {"float64"}


def mask_of(tensor: Any) -> Any:
    """Return the mask that Keras attached to a tensor, as the next layer gets it."""
    found = []

    class Reader(L.Layer):  # type: ignore[misc, name-defined]
        supports_masking = True

        def call(self, x: Any, mask: Any = None) -> Any:
            found.append(mask)
            return x

    Reader(dtype="float64")(tensor)
    return None if found[0] is None else np.asarray(found[0])


@pytest.mark.parametrize("given", ["lengths", "mask", "input"])
def test_the_mask_is_handed_on(given: str) -> None:
    x = np.where(MASK[:, :, None], inputs(), 0)
    for name, expected in (
        ("lstm", MASK),
        ("gru, backwards", MASK[:, ::-1]),
        ("stack", MASK[:, ::-1]),
        ("both, unmerged", MASK),
    ):
        made = sc.to_keras(LAYERS[name], some_weights(LAYERS[name]))
        if given == "input":
            outputs = made(L.Masking(dtype="float64")(x))
        else:
            outputs = made(x, **({"mask": MASK} if given == "mask" else {"lengths": LENGTHS}))
        sequences = [y for y in outputs if len(y.shape) == 3]
        assert len(sequences) == (2 if name == "both, unmerged" else 1)
        for y in sequences:
            np.testing.assert_array_equal(mask_of(y), expected)
        assert mask_of(outputs[-1]) is None
    last = sc.to_keras(LAYERS["rnn"], some_weights(LAYERS["rnn"]))
    assert mask_of(last(x, mask=MASK)) is None
    assert mask_of(made(x)[0]) is None


def test_lengths_reach_the_layers_behind() -> None:
    first = sc.LSTM(4, return_sequences=True, mask_output="carry")
    given = keras.Input((None, FEATURES), dtype="float64")
    counts = keras.Input((), dtype="int32")
    hidden = sc.to_keras(first, some_weights(first))(given, lengths=counts)
    model = keras.Model([given, counts], L.LSTM(2, dtype="float64")(hidden))
    x, garbage = inputs(), np.where(MASK[:, :, None], inputs(), 1e3)
    found = model.predict_on_batch([x, LENGTHS])
    np.testing.assert_array_equal(model.predict_on_batch([garbage, LENGTHS]), found)
    assert np.abs(model.predict_on_batch([x, np.full(BATCH, TIME)]) - found).max() > 1e-3


def test_a_mask_and_lengths_are_an_error() -> None:
    made = sc.to_keras(LAYERS["lstm"], some_weights(LAYERS["lstm"]))
    with pytest.raises(sc.ArgumentError, match=r"received a mask.*and lengths"):
        made(inputs(), mask=MASK, lengths=LENGTHS)


def task() -> tuple[Any, Any]:
    x = np.random.default_rng(3).standard_normal((64, TIME, FEATURES)).astype("float32")
    x[::2, 4:] = 0
    return x, np.tanh(x.sum((1, 2)))[:, None]


def model_of(layer: Any) -> Any:
    return keras.Sequential([keras.Input((None, FEATURES)), L.Masking(), layer, L.Dense(1)])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_fit_lowers_the_loss_and_files_restore_it(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    layer = sc.Stack([sc.Bidirectional(sc.GRU(4, return_sequences=True)), sc.LSTM(4)])
    made = sc.to_keras(layer, some_weights(layer, "float32"))
    model = model_of(made)
    model.compile(keras.optimizers.Adam(0.02), "mse", jit_compile=False)
    x, y = task()
    losses = model.fit(x, y, epochs=4, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    changed = [not np.array_equal(np.asarray(made.variable(name)), value)
               for name, value in some_weights(layer, "float32").items()]  # fmt: skip
    assert all(changed)
    before = model.predict_on_batch(x)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_on_batch(x), before)
    assert again.layers[1].layer == layer
    more = again.fit(x, y, epochs=1, batch_size=32, verbose=0).history["loss"]
    assert more[0] < losses[0]
    model.save_weights(tmp_path / "model.weights.h5")
    fresh = model_of(sc.to_keras(layer, layer.init(FEATURES)))
    fresh.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(fresh.predict_on_batch(x), before)


def test_gradients_are_those_of_the_layer() -> None:
    import tensorflow as tf

    layer = LAYERS["stack"]
    weights = some_weights(layer)
    made = sc.to_keras(layer, weights)
    x = tf.constant(inputs())
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = sum(tf.reduce_sum(y * y) for y in made(x, lengths=LENGTHS))
    variables = [made.variable(name).value for name in weights]
    found = tape.gradient(loss, [*variables, x])
    outputs, pullback = layer.vjp(weights, inputs(), lengths=LENGTHS, backend="numpy")
    expected = pullback(tuple(2 * y for y in outputs))
    for one, other in zip(found, [*expected.weights.values(), expected.x], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_a_config_makes_a_fresh_layer() -> None:
    made = sc.to_keras(LAYERS["lstm"], some_weights(LAYERS["lstm"], "float32"))
    made.trainable = False
    config = made.get_config()
    fresh = type(made).from_config(config)
    assert (fresh.layer, fresh.name, fresh.trainable) == (made.layer, made.name, False)
    outputs = several(fresh(inputs("float32"), lengths=LENGTHS))
    expected = made.layer.apply(
        made.layer.init(FEATURES), inputs("float32"), lengths=LENGTHS, backend="tensorflow"
    )
    for one, other in zip(outputs, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_weights_are_copied_and_may_be_tensors() -> None:
    layer = LAYERS["lstm"]
    weights = some_weights(layer)
    made = sc.to_keras(layer, weights)
    again = sc.to_keras(layer, {name: made.variable(name).value for name in weights})
    expected = several(again(inputs()))
    for name in weights:
        weights[name][...] = 0
        made.variable(name).assign(np.zeros(made.variable(name).shape))
    for one, other in zip(several(again(inputs())), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not any(one.any() for one in several(made(inputs())))


def test_half_types_and_mixed_precision() -> None:
    layer = sc.LSTM(4)
    for dtype in ("float16", "bfloat16"):
        weights = layer.init(FEATURES, dtype=dtype)
        found = sc.to_keras(layer, weights)(inputs("float32"))
        x = inputs("float32").astype(weights["bias"].dtype)
        expected = layer.apply(weights, x, backend="numpy").astype("float32")
        np.testing.assert_allclose(np.asarray(found).astype("float32"), expected, atol=2e-2)
        assert found.dtype.name == dtype
    mixed = type(sc.to_keras(layer, layer.init(2)))(layer, dtype="mixed_bfloat16")
    assert mixed(inputs("float32")).dtype.name == "bfloat16"
    assert {variable.dtype for variable in mixed.weights} == {"float32"}


def test_mistakes() -> None:
    with pytest.raises(sc.ConversionError, match="the first argument is dict"):
        sc.to_keras({}, sc.LSTM(4))  # type: ignore[arg-type]
    with pytest.raises(sc.WeightsError, match="missing"):
        sc.to_keras(sc.LSTM(4), {"kernel": np.ones((3, 16))})
    made = sc.to_keras(sc.LSTM(4), sc.LSTM(4).init(FEATURES))
    with pytest.raises(sc.InputError):
        made(np.ones((2, 3, FEATURES + 1), "float32"))
    with pytest.raises(sc.ShapeError, match=f"{FEATURES + 1} features, expected {FEATURES}"):
        made.build((None, None, FEATURES + 1))


def test_built_again_it_keeps_its_weights() -> None:
    layer = sc.LSTM(4)
    weights = some_weights(layer, "float32")
    made = sc.to_keras(layer, weights)
    made.build((None, None, FEATURES))
    found = made.canonical_weights()
    assert list(found) == list(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name].numpy(), value)


def test_the_way_back() -> None:
    layer = sc.Bidirectional(sc.GRU(4))
    weights = some_weights(layer, "float32")
    made = sc.to_keras(layer, weights)
    made.variable("forward.bias").assign_add(np.ones(12, "float32"))
    found, changed = sc.interchange.from_keras(made)
    assert found == layer
    expected = {**weights, "forward.bias": weights["forward.bias"] + np.float32(1)}
    for name, value in expected.items():
        np.testing.assert_array_equal(changed[name], value)


# The same on another of Keras's frameworks, which takes a process of its own.
ELSEWHERE = """
import sys
import keras
import numpy as np
import seqcore as sc

keras.utils.set_random_seed(0)
layer = sc.Bidirectional(sc.GRU(4))
rng = np.random.default_rng(0)
weights = {
    name: (rng.standard_normal(shape) / 2).astype("float32")
    for name, shape in layer.weight_shapes(3).items()
}
x = rng.standard_normal((64, 6, 3)).astype("float32")
x[::2, 4:] = 0
lengths = np.array([4, 6] * 32)
made = sc.to_keras(layer, weights)
expected = layer.apply(weights, x, lengths=lengths, backend="numpy")
found = keras.ops.convert_to_numpy(made(x, lengths=lengths))
assert np.abs(found - expected).max() < 2e-6, np.abs(found - expected).max()
assert "seqcore_tensorflow.backend" not in sys.modules
inputs = [keras.Input((None, 3)), keras.layers.Masking(), made, keras.layers.Dense(1)]
model = keras.Sequential(inputs)
model.compile(keras.optimizers.Adam(0.02), "mse")
y = np.tanh(x.sum((1, 2)))[:, None]
losses = model.fit(x, y, epochs=4, batch_size=32, verbose=0).history["loss"]
assert losses[-1] < 0.7 * losses[0], losses
model.save(sys.argv[1])
again = keras.saving.load_model(sys.argv[1])
np.save(sys.argv[2], model.predict(x, verbose=0))
assert np.array_equal(again.predict(x, verbose=0), np.load(sys.argv[2]))
"""


# Keras's own, of NumPy's newer protocol, when it saves.
PROTOCOL = "ignore:__array__ implementation:DeprecationWarning"


@pytest.mark.filterwarnings(PROTOCOL)
@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_on_other_frameworks_of_keras(framework: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed; Keras shall run on it")
    saved = tmp_path / "model.keras"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", PROTOCOL, "-c", ELSEWHERE, saved, tmp_path / "y.npy"],
        env={**os.environ, "KERAS_BACKEND": framework, "KERAS_HOME": str(tmp_path)}
        | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # And back here, on TensorFlow.
    rng = np.random.default_rng(0)
    layer = sc.Bidirectional(sc.GRU(4))
    for shape in layer.weight_shapes(3).values():
        rng.standard_normal(shape)
    x = rng.standard_normal((64, 6, 3)).astype("float32")
    x[::2, 4:] = 0
    found = keras.saving.load_model(saved, compile=False).predict_on_batch(x)
    np.testing.assert_allclose(found, np.load(tmp_path / "y.npy"), rtol=0, atol=2e-6)
