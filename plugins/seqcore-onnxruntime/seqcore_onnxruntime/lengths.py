"""Lengths inside a graph: which rows and which steps are valid."""

from __future__ import annotations

import functools

from onnx import TensorProto

from seqcore_onnxruntime.graph import Graph


class Lengths:
    """How many steps of each row are valid, the first ones; nodes are added when asked for."""

    def __init__(self, graph: Graph, name: str, x: str) -> None:
        """Take the names of the lengths, int64 (batch,), and of x, (batch, time, features)."""
        self._graph, self._name, self._x = graph, name, x

    @functools.cached_property
    def counts(self) -> str:
        """The lengths as ONNX's recurrent operators take them, int32 (batch,)."""
        return self._graph.node("Cast", self._name, to=TensorProto.INT32)

    @functools.cached_property
    def alive(self) -> str:
        """Which rows have a valid step, booleans (batch, 1)."""
        graph = self._graph
        some = graph.node("Greater", self._name, graph.constant(0))
        return graph.node("Unsqueeze", some, graph.constant([1]))

    @functools.cached_property
    def valid(self) -> str:
        """Which steps are valid, booleans (time, batch, 1)."""
        graph = self._graph
        time = graph.node("Squeeze", graph.node("Shape", self._x, start=1, end=2))
        steps = graph.node("Range", graph.constant(0), time, graph.constant(1))
        column = graph.node("Unsqueeze", steps, graph.constant([1]))
        before = graph.node("Less", column, self._name)
        return graph.node("Unsqueeze", before, graph.constant([2]))
