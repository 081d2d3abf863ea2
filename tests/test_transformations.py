"""The transformations of our backends, which the suite differentiates and compiles with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqcore.registry import registry
from seqcore.spec.layers import LSTM


# PyTorch's decompositions use what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_transformations(name: str) -> None:
    pytest.importorskip(name)
    backend = registry.get(name)
    native, to_numpy = backend.transforms, backend.to_numpy
    assert native is not None
    a, b = np.array([1.0, 2.0]), np.array([3.0, -1.0])
    x, y = native.array(a), native.array(b)
    assert registry.for_array(x) == name
    assert backend.describe(x).dtype == "float64"

    def cost(x: Any, y: Any) -> Any:
        return backend.ops.sum(x * x * x * y)

    def slope(x: Any, y: Any) -> Any:
        return backend.ops.sum(native.gradient(cost, (x, y))[0] * y)

    first = native.gradient(cost, (x, y))
    np.testing.assert_allclose(to_numpy(first[0]), 3 * a**2 * b, rtol=1e-15)
    np.testing.assert_allclose(to_numpy(first[1]), a**3, rtol=1e-15)
    second = native.gradient(slope, (x, y))
    np.testing.assert_allclose(to_numpy(second[0]), 6 * a * b**2, rtol=1e-15)
    np.testing.assert_allclose(to_numpy(second[1]), 6 * a**2 * b, rtol=1e-15)
    unused = native.gradient(lambda x, y: backend.ops.sum(x), (x, y))[1]
    np.testing.assert_array_equal(to_numpy(unused), 0 * b)
    outputs, tangents = native.jvp(lambda x: (x * x, 3.0 * x), (x,), (y,))
    for value, expected in zip((*outputs, *tangents), (a**2, 3 * a, 2 * a * b, 3 * b), strict=True):
        np.testing.assert_allclose(to_numpy(value), expected, rtol=1e-15)
    several = native.array(np.stack([a, b]))
    (mapped,) = native.vmap(lambda x: (backend.ops.sum(x * x),), (several,))
    np.testing.assert_allclose(to_numpy(mapped), [5.0, 10.0], rtol=1e-15)


@pytest.mark.parametrize("name", ["tensorflow", "jax"])
def test_compilation_hides_values(name: str) -> None:
    pytest.importorskip(name)
    backend = registry.get(name)
    native = backend.transforms
    assert native is not None
    seen = []

    def function(x: Any) -> Any:
        seen.append(backend.describe(x).traced)
        return x * x

    found = native.compile(function)(native.array(np.array([3.0])))
    assert seen == [True]
    np.testing.assert_array_equal(backend.to_numpy(found), [9.0])


def test_lengths_are_checked_inside_torch_func() -> None:
    torch = pytest.importorskip("torch")
    layer = LSTM(2, return_sequences=True, return_state=True)
    weights = {key: torch.tensor(value) for key, value in layer.init(4).items()}
    lengths = torch.tensor([5, 2, 1])

    def cost(x: Any) -> Any:
        return layer.apply(weights, x, lengths=lengths)[0].sum()

    x = torch.randn(3, 5, 4)
    assert torch.func.grad(cost)(x)[1, 2:].count_nonzero() == 0
    lengths[0] = 6
    with pytest.raises(Exception, match="expected 0 to 5"):
        torch.func.grad(cost)(x)
