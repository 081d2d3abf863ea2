"""A cell as one of ONNX's recurrent operators, which run all steps at once.

Their documentation: https://onnx.ai/onnx/operators/ (LSTM, GRU, RNN).
"""

from __future__ import annotations

from seqcore.interchange.onnx.node import OPERATORS, attributes, tensors
from seqcore.spec.layers import GRU, AnyCell

from seqcore_onnxruntime.forms import Form, Weights
from seqcore_onnxruntime.graph import Graph
from seqcore_onnxruntime.lengths import Lengths

_SATURATED = 18.0
"""Beyond it sigmoid and tanh are within 2e-8 of 0, 1 and -1.

ONNX Runtime's `GRU` takes the sigmoid of the reset gate to -2.4e-7 below it, and is exact at it.
"""


class Operators(Form):
    """`LSTM`, `GRU` and `RNN`, with which an engine runs all steps at once."""

    def __init__(self, dtype: str, *, portable: bool = False) -> None:
        """Take the data type, and whether the graph is for other engines than ONNX Runtime."""
        self.dtype = dtype
        self._portable = portable

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
        names = {
            name: graph.weight(f"{prefix}{name}", values)
            for name, values in tensors([cell], [weights]).items()
        }
        more = attributes(cell)
        if isinstance(cell, GRU) and not self._portable:
            more["clip"] = _SATURATED
        directions, after_time = graph.constant([0]), graph.constant([1])
        sequence, *final = graph.nodes(
            OPERATORS[type(cell)],
            1 + len(initial),
            x,
            names["W"],
            names["R"],
            names.get("B", ""),
            "" if lengths is None else lengths.counts,
            *(graph.node("Unsqueeze", state, directions) for state in initial),
            direction="reverse" if reverse else "forward",
            **more,
        )
        last = [graph.node("Squeeze", state, directions) for state in final]
        if lengths is not None:
            # ONNX says nothing of rows without a valid step, and ONNX Runtime answers zeros.
            last = [
                graph.node("Where", lengths.alive, after, before)
                for after, before in zip(last, initial, strict=True)
            ]
        return graph.node("Squeeze", sequence, after_time), tuple(last)
