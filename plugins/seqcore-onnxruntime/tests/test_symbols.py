"""The functions over a graph's values, one by one, against NumPy's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from seqcore.ops import Ops
from seqcore.spi import HostOps

from seqcore_onnxruntime.graph import KINDS, Graph
from seqcore_onnxruntime.session import Session
from seqcore_onnxruntime.symbols import GraphOps, Symbol

FUNCTIONS: dict[str, Callable[[Ops, Any], Any]] = {
    "matmul": lambda ops, x: ops.matmul(x, x[0]),
    "tanh": lambda ops, x: ops.tanh(x),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "where": lambda ops, x: ops.where(x <= 0, 0.0, ops.where(x >= 1, x, 1 - x)),
    "concat": lambda ops, x: ops.concat([x, x * 2], -1),
    "split": lambda ops, x: ops.split(x, 2)[1],
    "swap": lambda ops, x: ops.swap(x),
    "swap of a matrix": lambda ops, x: ops.swap(ops.reshape(x, (-1, 4))),
    "flip": lambda ops, x: ops.flip(x, 1),
    "reshape": lambda ops, x: ops.reshape(x, (2, -1)),
    "sum": lambda ops, x: ops.sum(x),
    "zeros": lambda ops, x: ops.zeros((4, 2), x) + x[:, :, :2],
    "arange": lambda ops, x: ops.cast(ops.arange(4, x), "float64") + x,
    "size": lambda ops, x: ops.cast(ops.size(x, 2) + ops.arange(4, x), "float64") * x,
    "cast": lambda ops, x: ops.cast(ops.cast(x, "float16"), "float64"),
    "arithmetic": lambda ops, x: 1 - (2 + x - 3) * (0.5 * x) / 4 + x,
    "slices": lambda ops, x: x[1:, :, 1:3] * x[:-1, :, -3:-1] + x[-2:][:, 0, None, 2:3],
    "a new axis": lambda ops, x: x[:, :, :, None] * x[:, :, :, None],
    "scan": lambda ops, x: _summed(ops, x, reverse=False),
    "scan in reverse": lambda ops, x: _summed(ops, x, reverse=True),
}


def _summed(ops: Ops, x: Any, *, reverse: bool) -> Any:
    def step(carry: Any, at: Any) -> Any:
        return (carry[0] * 0.5 + at[0],), (carry[0] + at[1], carry[0])

    (last,), (first, second) = ops.scan(step, (x[0],), (x, x * 3), reverse=reverse)
    return first + second * 2 + last


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_is_numpys(function: Callable[[Ops, Any], Any]) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4, 4))
    graph = Graph()
    ops = GraphOps(graph, "float64")
    name = graph.input("x", KINDS["float64"], ("a", "b", "c"))
    result = function(ops, Symbol(name, ops, 3))
    graph.output("y", result.name, KINDS["float64"], ("d",) * len(result.shape))
    (found,) = Session(graph, None).run({"x": x})
    expected = function(HostOps(), x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)


def test_zeros_take_a_size_that_only_the_graph_knows() -> None:
    graph = Graph()
    ops = GraphOps(graph, "float64")
    x = Symbol(graph.input("x", KINDS["float64"], ("a", "b")), ops, 2)
    graph.output("y", ops.zeros((None, 5), x).name, KINDS["float64"], ("a", 5))
    (found,) = Session(graph, None).run({"x": np.ones((3, 2))})
    np.testing.assert_array_equal(found, np.zeros((3, 5)))


def test_factors_are_rounded_to_bfloat16_and_nothing_else_is() -> None:
    graph = Graph()
    ops = GraphOps(graph, "float32", "bfloat16")
    kind = KINDS["float32"]
    x = Symbol(graph.input("x", kind, ("n", "n")), ops, 2)
    graph.output("product", ops.matmul(x, x).name, kind, ("n", "n"))
    graph.output("sum", (x + 1).name, kind, ("n", "n"))
    value = np.full((1, 1), 1 + 2.0**-9 + 2.0**-20, np.float32)
    product, total = Session(graph, None).run({"x": value})
    assert product.item() == 1.0
    assert total.item() == np.float32(value + 1).item()
