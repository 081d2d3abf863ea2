"""`seqcore.to_flax`: a layer as an nnx module that trains, compiles, splits, and is saved."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import seqcore as sc
from helpers import BOTH, FEATURES, LENGTHS, MASKS, assert_same_bits, flat, random_weights
from jax_family import SEQUENCES
from seqcore_jax.flax_module import RecurrentModule

LAYERS = {
    "lstm": sc.LSTM(2, **BOTH),
    "stack": sc.Stack(
        [sc.GRU(2, **SEQUENCES), sc.Bidirectional(sc.SimpleRNN(2, **SEQUENCES))], **BOTH
    ),
}
RANDOM = np.random.default_rng(15)
X = np.float32(RANDOM.normal(size=(3, 5, FEATURES)))


def weights_of(layer: Any, dtype: str = "float32") -> dict[str, Any]:
    return random_weights(layer, np.random.default_rng(16), dtype)


def assert_equal(found: Any, expected: Any) -> None:
    for one, other in zip(flat(found), flat(expected), strict=True):
        assert isinstance(one, jax.Array)
        assert_same_bits(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("name", list(LAYERS))
def test_it_is_the_layer_on_jax(name: str) -> None:
    layer = LAYERS[name]
    weights = weights_of(layer)
    module = sc.to_flax(layer, weights)
    state = [np.float32(RANDOM.normal(size=s.shape)) for s in flat(module(X))[1:]]
    for given in (
        {},
        {"lengths": LENGTHS},
        {"mask": MASKS["holes"]},
        {"initial_state": state},
        {"implementation": "generic", "lengths": LENGTHS},
    ):
        expected = layer.apply(weights, X, backend="jax", **given)
        assert_equal(module(X, **given), expected)
    assert_equal(module(jnp.asarray(X), lengths=jnp.asarray(LENGTHS)), module(X, lengths=LENGTHS))
    assert type(module(X)).__name__ == "Outputs"
    with pytest.raises(sc.MaskError):
        module(X, mask=MASKS["holes"], lengths=LENGTHS)


@pytest.mark.parametrize("name", list(LAYERS))
def test_parameters_have_the_canonical_names(name: str) -> None:
    layer = LAYERS[name]
    weights = weights_of(layer)
    module = sc.to_flax(layer, weights)
    found = nnx.to_flat_state(nnx.state(module, nnx.Param))
    names = {".".join(map(str, path)): value[...] for path, value in found}
    assert set(names) == set(module.canonical_weights()) == set(weights)
    for key, value in weights.items():
        assert_same_bits(np.asarray(names[key]), value)
        assert_same_bits(np.asarray(module.canonical_weights()[key]), value)
    assert len(jax.tree.leaves(nnx.state(module))) == len(weights)


@pytest.mark.parametrize("name", list(LAYERS))
def test_it_compiles_and_splits(name: str) -> None:
    module = sc.to_flax(LAYERS[name], weights_of(LAYERS[name]))
    expected = module(X, lengths=LENGTHS)

    @nnx.jit
    def run(module: Any, x: Any, lengths: Any) -> Any:
        return module(x, lengths=lengths)

    graph, state = nnx.split(module)
    assert hash(graph) == hash(nnx.split(sc.to_flax(LAYERS[name], weights_of(LAYERS[name])))[0])
    inside = jax.jit(lambda s, x: nnx.merge(graph, s)(x, lengths=LENGTHS))(state, X)
    for found in (run(module, X, LENGTHS), inside):
        for one, other in zip(flat(found), flat(expected), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)  # a few eps of float32


def test_gradients_are_the_layers() -> None:
    layer = sc.LSTM(2)
    weights = weights_of(layer, "float64")
    with jax.enable_x64(True):
        x = jnp.asarray(X, jnp.float64)
        module = sc.to_flax(layer, weights)

        def loss(module: Any) -> Any:
            return (module(x, lengths=LENGTHS) ** 2).sum()

        found = nnx.to_pure_dict(nnx.grad(loss)(module))
    outputs, pullback = layer.vjp(weights, np.float64(X), lengths=LENGTHS, backend="numpy")
    expected = pullback(2 * outputs).weights
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", list(LAYERS))
def test_training_and_restoring(name: str) -> None:
    """The loss falls; the state of a checkpoint gives the outputs of that moment."""
    layer = LAYERS[name]
    module = sc.to_flax(layer, layer.init(FEATURES))
    target = jnp.asarray(np.tanh(np.cumsum(X[..., :1], axis=1)))
    optimizer = nnx.Optimizer(module, optax.adam(0.05), wrt=nnx.Param)

    @nnx.jit
    def step(module: Any, optimizer: Any) -> Any:
        def loss(module: Any) -> Any:
            y = module(X, lengths=LENGTHS)[0]
            return ((y.mean(-1, keepdims=True) - target) ** 2).mean()

        value, gradients = nnx.value_and_grad(loss)(module)
        optimizer.update(module, gradients)
        return value

    before = float(step(module, optimizer))
    saved = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    expected = module(X)
    for _ in range(30):
        last = float(step(module, optimizer))
    assert last < 0.7 * before
    assert not np.array_equal(module(X)[0], expected[0])
    restored = sc.to_flax(layer, layer.init(FEATURES, seed=1))
    nnx.update(restored, saved)
    assert_equal(restored(X), expected)
    # What was trained runs anywhere.
    plain = layer.apply(module.canonical_weights(), X, lengths=LENGTHS)
    trained = jax.tree.map(np.asarray, module.canonical_weights())
    numpy = layer.apply(trained, X, lengths=LENGTHS, backend="numpy")
    np.testing.assert_allclose(plain[0], numpy[0], rtol=0, atol=1e-6)


def test_the_weights_are_copies_in_their_own_dtype() -> None:
    layer = sc.GRU(2)
    weights = weights_of(layer, "float64")
    module = sc.to_flax(layer, weights)
    before = {name: value.copy() for name, value in weights.items()}
    for value in weights.values():
        value[...] = 0
    for name, value in module.canonical_weights().items():
        assert value.dtype == np.float64
        assert_same_bits(np.asarray(value), before[name])
    native = sc.to_flax(layer, module.canonical_weights())
    for value in module.canonical_weights().values():
        value.delete()
    assert_same_bits(np.asarray(native.canonical_weights()["bias"]), before["bias"])
    assert native(np.float64(X)).dtype == np.float64


def test_the_way_back() -> None:
    layer = sc.Stack((sc.LSTM(2, return_sequences=True), sc.Bidirectional(sc.GRU(2))))
    weights = weights_of(layer)
    module = sc.to_flax(layer, weights)
    module.layers[0].bias[...] = jnp.ones(8)
    found, changed = sc.interchange.from_flax(module)
    assert found == layer
    for name, value in {**weights, "layers.0.bias": np.ones(8, np.float32)}.items():
        assert_same_bits(changed[name], value)


def test_wrong_arguments() -> None:
    with pytest.raises(sc.WeightsError, match="missing bias"):
        sc.to_flax(sc.LSTM(2), {k: v for k, v in weights_of(sc.LSTM(2)).items() if k != "bias"})
    with pytest.raises(sc.ConversionError, match="the first argument is dict"):
        sc.to_flax({}, sc.LSTM(2))  # type: ignore[arg-type]
    assert type(sc.to_flax(sc.LSTM(2), weights_of(sc.LSTM(2)))) is RecurrentModule
