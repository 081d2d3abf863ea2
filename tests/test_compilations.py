"""Calls of many shapes: few compilations, and the same results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from seqcore.registry import registry
from seqcore.runtime.planning import Program, computation
from seqcore.spi import Request

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


def test_jax_is_asked_for_few_of_many_shapes() -> None:
    pytest.importorskip("jax")
    backend = registry.get("jax")
    # A signature of its own, that no other test has filled with shapes.
    request = Request(computation(sc.LSTM(977)), "float32", backend.devices()[0])
    first = list(dict.fromkeys(SHAPES))[:8]
    padded = [backend.padded_shape(request, *shape) for shape in SHAPES]
    assert [backend.padded_shape(request, *shape) for shape in first] == first
    assert len(set(SHAPES)) > 55
    assert len(set(padded)) < 40
    for (batch, time), (rows, steps) in zip(SHAPES, padded, strict=True):
        assert batch <= rows < 2 * batch + 1
        assert time <= steps <= max(8, 2 * time)
    # The same shape is padded alike for the life of the process: its results keep their bits.
    assert [backend.padded_shape(request, *shape) for shape in SHAPES] == padded


def test_jax_pads_nothing_that_it_does_not_compile() -> None:
    pytest.importorskip("jax")
    request = Request(computation(sc.LSTM(977)), "float32", "cpu", options=(("compile", False),))
    backend = registry.get("jax")
    assert [backend.padded_shape(request, *shape) for shape in SHAPES] == SHAPES


def test_tensorflow_takes_any_shape_with_one_graph() -> None:
    pytest.importorskip("tensorflow")
    layer = sc.LSTM(9)  # of a size that no other test has made graphs for
    bound = layer.bind(layer.init(FEATURES), backend="tensorflow", compile="graph")
    numpy = layer.bind(layer.init(FEATURES), backend="numpy")
    for batch, time in SHAPES[:12]:
        x = RANDOM.standard_normal((batch, time, FEATURES)).astype(np.float32)
        np.testing.assert_allclose(bound(x), numpy(x), rtol=0, atol=1e-6)
    programs = registry.get("tensorflow").programs.values()
    (program,) = (
        p for p in programs if isinstance(p, Program) and p.request.layer == computation(layer)
    )
    assert program.run.graphs == 1


def test_xla_pads_for_tensorflow_too() -> None:
    pytest.importorskip("tensorflow")
    layer = sc.GRU(4, return_sequences=True, return_state=True)
    weights = {n: RANDOM.standard_normal(s) for n, s in layer.weight_shapes(FEATURES).items()}
    xla = layer.bind(weights, backend="tensorflow", compile="xla")
    numpy = layer.bind(weights, backend="numpy")
    for batch, time in [(b, 9) for b in range(1, 9)] + [(13, 10), (14, 11)]:
        x = RANDOM.standard_normal((batch, time, FEATURES))
        for one, other in zip(flat(xla(x)), flat(numpy(x)), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-13)
    (padded,) = (
        p
        for p in registry.get("tensorflow").programs.values()
        if isinstance(p, Program)
        and p.request.layer == computation(layer)
        and p.request.option("compile") == "xla"
        and p.request.mask == "lengths"
    )
    assert padded.run.compilations == 1
