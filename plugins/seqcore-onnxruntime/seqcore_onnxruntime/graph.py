"""A graph of ONNX nodes while it is built: values are known by their names."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    helper,
    numpy_helper,
)

Shape = tuple[int | str, ...]
"""Sizes, and names for those that are known only when the graph runs."""

KINDS = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bfloat16": TensorProto.BFLOAT16,
}
"""ONNX's number of each data type."""

PAST_END = 2**31 - 1
"""An index behind the end of every axis."""

OPSET = 17
IR_VERSION = 8
"""Versions of 2022, which engines of all the years since take."""


class Graph:
    """Nodes in the order in which they were added, with inputs, outputs and weights.

    Attributes:
        inputs: The inputs by name.
        outputs: The outputs by name.
        weights: The large constants by name; a model declares them, and has them from outside.
    """

    def __init__(self, around: Graph | None = None) -> None:
        """Make an empty graph; inside another one it has that one's names and constants."""
        self.inputs: dict[str, ValueInfoProto] = {}
        self.outputs: dict[str, ValueInfoProto] = {}
        self.weights: dict[str, NDArray[Any]] = {}
        self._around = around
        self._numbers: Iterator[int] = itertools.count() if around is None else around._numbers
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}
        self._returned: dict[str, str] = {}

    def input(self, name: str, kind: int, shape: Shape) -> str:
        """Add an input, and return its name."""
        self.inputs[name] = helper.make_tensor_value_info(name, kind, shape)
        return name

    def inner_input(self) -> str:
        """Add an input of a graph inside another one, which has its type from there."""
        name = self._fresh("input")
        self.inputs[name] = ValueInfoProto(name=name)
        return name

    def weight(self, name: str, values: NDArray[Any]) -> str:
        """Add a large constant, and return its name."""
        self.weights[name] = values
        return name

    def constant(self, values: Any, kind: int = TensorProto.INT64) -> str:
        """Return the name of a small constant, of which there is one for equal values."""
        if self._around is not None:
            return self._around.constant(values, kind)
        array = np.asarray(values, helper.tensor_dtype_to_np_dtype(kind))
        words = [TensorProto.DataType.Name(kind), *array.ravel(), *array.shape[:1]]
        name = "_".join(map(str, words)).lower()
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and return that; an input that is left out is empty."""
        (output,) = self.nodes(operator, 1, *inputs, **attributes)
        return output

    def nodes(self, operator: str, count: int, *inputs: str, **attributes: Any) -> tuple[str, ...]:
        """Add a node with several outputs, and return them."""
        outputs = [self._fresh(operator.lower()) for _ in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, outputs, **attributes))
        return tuple(outputs)

    def output(self, name: str, value: str, kind: int, shape: Shape) -> None:
        """Return a value under a name."""
        self._return(name, value)
        self.outputs[name] = helper.make_tensor_value_info(name, kind, shape)

    def inner_output(self, value: str, kind: int, rank: int) -> None:
        """Return a value from a graph inside another one."""
        name = self._fresh("output")
        self._return(name, value)
        # Without a rank some versions of ONNX Runtime refuse it.
        self.outputs[name] = helper.make_tensor_value_info(name, kind, [None] * rank)

    def proto(self, name: str, *, inline: bool = False) -> GraphProto:
        """Return the graph; its weights are inside of it, or only declared."""
        nodes = _needed([_renamed(node, self._returned) for node in self._nodes], self.outputs)
        used = {value for node in nodes for value in _read(node)}
        held = _inside if inline else _outside
        weights = (held(weight, values) for weight, values in self.weights.items())
        constants = (value for name, value in self._constants.items() if name in used)
        return helper.make_graph(
            nodes,
            name,
            list(self.inputs.values()),
            list(self.outputs.values()),
            [*constants, *weights],
        )

    def _fresh(self, word: str) -> str:
        return f"{word}_{next(self._numbers)}"

    def _return(self, name: str, value: str) -> None:
        made = any(value in node.output for node in self._nodes)
        if not made or value in self._returned:  # a value has one name
            value = self.node("Identity", value)
        self._returned[value] = name


def model(graph: GraphProto, **more: Any) -> ModelProto:
    """Return a model of a graph of standard operators."""
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, **more)


def _needed(nodes: Sequence[NodeProto], outputs: Iterable[str]) -> list[NodeProto]:
    """Return the nodes that the outputs depend on."""
    wanted, needed = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            needed.append(node)
            wanted.update(_read(node))
    return needed[::-1]


def _read(node: NodeProto) -> Iterator[str]:
    """Yield the values that a node reads, those inside its graphs included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _read(inner)


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    renamed = NodeProto()
    renamed.CopyFrom(node)
    for values in (renamed.input, renamed.output):
        values[:] = [names.get(value, value) for value in values]
    return renamed


def _inside(name: str, values: NDArray[Any]) -> TensorProto:
    return numpy_helper.from_array(values, name)


def _outside(name: str, values: NDArray[Any]) -> TensorProto:
    """Return the declaration of a constant whose values are given beside the model."""
    declared = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
        dims=values.shape,
        data_location=TensorProto.EXTERNAL,
    )
    declared.external_data.add(key="location", value="given with the session")
    return declared
