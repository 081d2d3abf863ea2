"""A cell as ONNX's `Scan` over seqcore's own equations, one step at a time, in every data type."""

from __future__ import annotations

import numpy as np
from seqcore.equations.sequence import make_cell
from seqcore.ops import Arrays
from seqcore.spec.dtypes import compute_dtype, numpy_dtype
from seqcore.spec.layers import AnyCell

from seqcore_onnxruntime.forms import Form, Weights
from seqcore_onnxruntime.graph import Graph
from seqcore_onnxruntime.lengths import Lengths
from seqcore_onnxruntime.symbols import GraphOps, Symbol


class Steps(Form):
    """The product of all inputs at once, then a loop.

    A half type is computed in float32, and rounded where the specification says so. Its arrays are
    float32 in the graph, too: ONNX Runtime's Python interface takes no bfloat16.
    """

    def __init__(self, dtype: str, precision: str = "highest") -> None:
        """Take the layer's data type and the `matmul_precision`."""
        self.dtype = compute_dtype(dtype)
        self._rounds_to = dtype if dtype != self.dtype else None
        self._precision = precision

    def cell(
        self,
        graph: Graph,
        cell: AnyCell,
        weights: Weights,
        prefix: str,
        x: str,
        initial: tuple[str, ...],
        *,
        reverse: bool,
        lengths: Lengths | None,
    ) -> tuple[str, tuple[str, ...]]:
        ops = GraphOps(graph, self.dtype, self._precision)
        kind = numpy_dtype(self.dtype)
        named = {
            name: Symbol(
                graph.weight(prefix + name, np.array(value, kind, order="C")), ops, value.ndim
            )
            for name, value in weights.items()
        }
        equations = make_cell(cell, ops, named)
        over = [equations.project(Symbol(x, ops, 3))]
        if lengths is not None:
            over.append(Symbol(lengths.valid, ops, 3))

        def step(state: Arrays, at: Arrays) -> tuple[Arrays, Arrays]:
            new, _ = equations.step(at[0], state)
            new = tuple(self._round(ops, value) for value in new)
            if lengths is not None:
                pairs = zip(new, state, strict=True)
                new = tuple(ops.where(at[1], after, before) for after, before in pairs)
            return new, new[:1]

        states = tuple(Symbol(name, ops, 2) for name in initial)
        final, (sequence,) = ops.scan(step, states, tuple(over), reverse=reverse)
        return sequence.name, tuple(state.name for state in final)

    def rounded(self, graph: Graph, value: str) -> str:
        ops = GraphOps(graph, self.dtype)
        return self._round(ops, Symbol(value, ops, 3)).name

    def _round(self, ops: GraphOps, value: Symbol) -> Symbol:
        if self._rounds_to is None:
            return value
        rounded: Symbol = ops.cast(ops.cast(value, self._rounds_to), self.dtype)
        return rounded
