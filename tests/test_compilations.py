"""Calls of many shapes: few compilations, and the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from seqcore.registry import registry

RANDOM = np.random.default_rng(0)
SHAPES = [(int(b), int(t)) for b, t in zip(*RANDOM.integers(1, 40, (2, 60)), strict=True)]
FEATURES = 3
LAYERS = {
    "sequence": sc.LSTM(4, return_sequences=True, return_state=True),
    "processing order": sc.GRU(
        4, go_backwards=True, return_sequences=True, return_state=True, mask_output="carry"
    ),
    "last step, two outputs": sc.Bidirectional(sc.SimpleRNN(4), merge_mode="none"),
    "stack, turned": sc.Stack(
        [sc.LSTM(3, return_sequences=True, go_backwards=True), sc.Bidirectional(sc.GRU(2))],
        return_sequences=True,
        return_state=True,
    ),
}


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> Any:
    return LAYERS[request.param]


def flat(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple) else [outputs]


@pytest.mark.parametrize("masked", [False, True])
def test_padded_calls_equal_exact_ones(layer: Any, masked: bool) -> None:
    """JAX pads from the ninth shape on; NumPy never does."""
    pytest.importorskip("jax")
    weights = {n: RANDOM.standard_normal(s) for n, s in layer.weight_shapes(FEATURES).items()}
    jax = layer.bind(weights, backend="jax")
    numpy = layer.bind(weights, backend="numpy")
    for batch, time in [*SHAPES[:9], (5, 13), (7, 14)]:
        x = RANDOM.standard_normal((batch, time, FEATURES))
        mask = RANDOM.random((batch, time)) > 0.3 if masked else None
        for one, other in zip(flat(jax(x, mask=mask)), flat(numpy(x, mask=mask)), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)

    outputs, pullback = numpy.vjp(x, mask=mask)
    cotangents = tuple(RANDOM.standard_normal(y.shape) for y in flat(outputs))
    given = cotangents if isinstance(outputs, tuple) else cotangents[0]
    expected = pullback(given)
    for shape in SHAPES[:9]:  # so that the next shape is padded in the backward pass too
        jax.vjp(np.zeros((*shape, FEATURES)), mask=np.ones(shape, bool) if masked else None)
    found = jax.vjp(x, mask=mask)[1](given)
    np.testing.assert_allclose(found.x, expected.x, rtol=0, atol=1e-12)
    for name, gradient in expected.weights.items():
        np.testing.assert_allclose(found.weights[name], gradient, rtol=0, atol=1e-12)
    for one, other in zip(found.initial_state, expected.initial_state, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_jax_compiles_for_few_of_many_shapes() -> None:
    jax = pytest.importorskip("jax")
    compiled: list[str] = []

    def listen(event: str, duration: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    layer = sc.LSTM(4)
    bound = layer.bind(layer.init(FEATURES, seed=3), backend="jax")
    bound(np.zeros((1, 1, FEATURES), np.float32))
    for batch, time in SHAPES:
        bound(np.zeros((batch, time, FEATURES), np.float32))
    assert len(set(SHAPES)) > 55
    # 8 exact shapes and at most 7 x 6 buckets below 64; the padding itself, done eagerly, compiles
    # small functions too, which are not what takes long.
    padded = {registry.get("jax").padded_shape(_request(bound), *shape) for shape in SHAPES}
    assert len(padded) < 40


def _request(bound: Any) -> Any:
    """Return the request of the only program that ran with the mask that padding brings."""
    programs = registry.get("jax").programs.values()
    return max((p.request for p in programs if hasattr(p, "request")), key=lambda r: r.mask)


def test_tensorflow_makes_one_graph_for_any_shape() -> None:
    pytest.importorskip("tensorflow")
    layer = sc.LSTM(4)
    bound = layer.bind(layer.init(FEATURES), backend="tensorflow", compile="graph")
    numpy = layer.bind(layer.init(FEATURES), backend="numpy")
    for batch, time in SHAPES[:12]:
        x = RANDOM.standard_normal((batch, time, FEATURES)).astype(np.float32)
        np.testing.assert_allclose(bound(x), numpy(x), rtol=0, atol=1e-6)
