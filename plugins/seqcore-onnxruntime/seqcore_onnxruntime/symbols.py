"""seqcore's array functions over values of a graph: what calls them adds nodes.

So the equations of `seqcore.equations` write themselves down in ONNX.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from seqcore.ops import Array, Arrays, Ops, Step

from seqcore_onnxruntime.graph import KINDS, PAST_END, Graph


class Symbol:
    """An array in a graph.

    Attributes:
        name: Its name there.
        ops: The functions that work on it.
        shape: None for each size, which is known only when the graph runs.
    """

    def __init__(self, name: str, ops: GraphOps, rank: int) -> None:
        """Take the name of a value in the graph of `ops`."""
        self.name = name
        self.ops = ops
        self.shape = (None,) * rank

    def __add__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Add", self, other)

    def __radd__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Add", other, self)

    def __sub__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Sub", self, other)

    def __rsub__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Sub", other, self)

    def __mul__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Mul", self, other)

    def __rmul__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Mul", other, self)

    def __truediv__(self, other: Any) -> Symbol:
        return self.ops.elementwise("Div", self, other)

    def __le__(self, other: Any) -> Symbol:
        return self.ops.elementwise("LessOrEqual", self, other)

    def __ge__(self, other: Any) -> Symbol:
        return self.ops.elementwise("GreaterOrEqual", self, other)

    def __getitem__(self, key: Any) -> Symbol:
        """Return what basic slicing does, with steps of 1: slices, integers, and None."""
        result, axis = self, 0
        for part in key if isinstance(key, tuple) else (key,):
            if part is None:
                result = self.ops.inserted(result, axis)
            elif isinstance(part, int):
                result = self.ops.taken(result, axis, part)
                continue  # the next axis has come to this place
            elif part != slice(None):
                start = 0 if part.start is None else part.start
                stop = PAST_END if part.stop is None else part.stop
                result = self.ops.sliced(result, axis, start, stop, 1)
            axis += 1
        return result


class GraphOps(Ops):
    """The functions over symbols, which compute in one data type."""

    def __init__(self, graph: Graph, dtype: str, precision: str = "highest") -> None:
        """Take the graph, the data type, and the `matmul_precision`: highest or bfloat16."""
        self._graph = graph
        self._dtype = dtype
        self._precision = precision

    def elementwise(self, operator: str, *inputs: Any) -> Symbol:
        """Add a node over symbols and numbers that broadcast; numbers take the data type."""
        rank = max(len(value.shape) for value in inputs if isinstance(value, Symbol))
        kind = KINDS[self._dtype]
        names = [
            value.name if isinstance(value, Symbol) else self._graph.constant(value, kind)
            for value in inputs
        ]
        return self._add(operator, names, rank)

    def inserted(self, x: Symbol, axis: int) -> Symbol:
        """Return a symbol with one more axis."""
        return self._add("Unsqueeze", [x.name, self._integers(axis)], len(x.shape) + 1)

    def taken(self, x: Symbol, axis: int, index: int) -> Symbol:
        """Return one index of an axis, which is then gone."""
        names = [x.name, self._graph.constant(index)]
        return self._add("Gather", names, len(x.shape) - 1, axis=axis)

    def sliced(self, x: Symbol, axis: int, start: int, stop: int, step: int) -> Symbol:
        """Return a slice along one axis."""
        bounds = map(self._integers, (start, stop, axis, step))
        return self._add("Slice", [x.name, *bounds], len(x.shape))

    def matmul(self, a: Array, b: Array) -> Array:
        if self._precision != "highest":
            a, b = (self.cast(self.cast(x, self._precision), self._dtype) for x in (a, b))
        return self.elementwise("MatMul", a, b)

    def tanh(self, x: Array) -> Array:
        return self.elementwise("Tanh", x)

    def sigmoid(self, x: Array) -> Array:
        return self.elementwise("Sigmoid", x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self.elementwise("Where", condition, a, b)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return self._add("Concat", [x.name for x in arrays], len(arrays[0].shape), axis=axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        names = self._graph.nodes("Split", parts, x.name, axis=-1)
        return [Symbol(name, self, len(x.shape)) for name in names]

    def swap(self, x: Array) -> Array:
        rank = len(x.shape)
        return self._add("Transpose", [x.name], rank, perm=[1, 0, *range(2, rank)])

    def flip(self, x: Array, axis: int) -> Array:
        return self.sliced(x, axis, -1, -PAST_END, -1)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self._add("Reshape", [x.name, self._integers(*shape)], len(shape))

    def sum(self, x: Array) -> Array:
        names = [x.name, self._integers(0)]
        return self._add("ReduceSum", names, len(x.shape) - 1, keepdims=0)

    def size(self, x: Array, axis: int) -> Any:
        sizes = self._add("Shape", [x.name], 1)
        return self.sliced(sizes, 0, axis, axis + 1, 1)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        sizes = [
            self.size(like, axis).name if size is None else self._integers(size)
            for axis, size in enumerate(shape)
        ]
        whole = self._graph.node("Concat", *sizes, axis=0)
        zero = self._graph.constant(0, KINDS[self._dtype])
        return self._add("Expand", [zero, whole], len(shape))

    def arange(self, stop: int, like: Array) -> Array:
        return Symbol(self._integers(*range(stop)), self, 1)

    def cast(self, x: Array, dtype: str) -> Array:
        return self._add("Cast", [x.name], len(x.shape), to=KINDS[dtype])

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        around, body = self._graph, Graph(self._graph)
        before, slices = (
            tuple(Symbol(body.inner_input(), self, rank) for rank in ranks)
            for ranks in ([len(x.shape) for x in carry], [len(x.shape) - 1 for x in xs])
        )
        self._graph = body  # where the functions that `step` calls add their nodes
        try:
            after, emitted = step(before, slices)
        finally:
            self._graph = around
        for value in (*after, *emitted):
            body.inner_output(value.name, KINDS[self._dtype], len(value.shape))
        names = around.nodes(
            "Scan",
            len(after) + len(emitted),
            *(x.name for x in (*carry, *xs)),
            body=body.proto("step"),
            num_scan_inputs=len(xs),
            scan_input_directions=[int(reverse)] * len(xs),
            scan_output_directions=[int(reverse)] * len(emitted),
        )
        ranks = [len(x.shape) for x in after] + [len(x.shape) + 1 for x in emitted]
        results = tuple(Symbol(name, self, rank) for name, rank in zip(names, ranks, strict=True))
        return results[: len(after)], results[len(after) :]

    def _add(self, operator: str, names: list[str], rank: int, **attributes: Any) -> Symbol:
        return Symbol(self._graph.node(operator, *names, **attributes), self, rank)

    def _integers(self, *values: int) -> str:
        return self._graph.constant(list(values))
