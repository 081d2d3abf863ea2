"""A cell as one of ONNX's recurrent operators, which run all steps at once.

Their documentation: https://onnx.ai/onnx/operators/ (LSTM, GRU, RNN).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

from seqcore_onnxruntime.forms import Form, Weights
from seqcore_onnxruntime.graph import Graph
from seqcore_onnxruntime.lengths import Lengths

_OPERATORS: Mapping[type[AnyCell], str] = {SimpleRNN: "RNN", LSTM: "LSTM", GRU: "GRU"}
_GATES: Mapping[type[AnyCell], str] = {SimpleRNN: "", LSTM: "iofg", GRU: "zrn"}
"""The order of ONNX's blocks, in our names."""

_ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "tanh": ("Tanh", (), ()),
    "sigmoid": ("Sigmoid", (), ()),
    "relu": ("Relu", (), ()),
    "linear": ("Affine", (1.0,), (0.0,)),
    "hard_sigmoid": ("HardSigmoid", (1 / 6,), (0.5,)),
}
"""Each activation as ONNX calls it, with its alpha and its beta where it takes them."""


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
            for name, values in _in_onnx_layout(cell, weights).items()
        }
        attributes = _attributes(cell)
        if isinstance(cell, GRU) and not self._portable:
            attributes["clip"] = _SATURATED
        directions, after_time = graph.constant([0]), graph.constant([1])
        sequence, *final = graph.nodes(
            _OPERATORS[type(cell)],
            1 + len(initial),
            x,
            names["W"],
            names["R"],
            names.get("B", ""),
            "" if lengths is None else lengths.counts,
            *(graph.node("Unsqueeze", state, directions) for state in initial),
            direction="reverse" if reverse else "forward",
            hidden_size=cell.units,
            **attributes,
        )
        last = [graph.node("Squeeze", state, directions) for state in final]
        if lengths is not None:
            # ONNX says nothing of rows without a valid step, and ONNX Runtime answers zeros.
            last = [
                graph.node("Where", lengths.alive, after, before)
                for after, before in zip(last, initial, strict=True)
            ]
        return graph.node("Squeeze", sequence, after_time), tuple(last)


def _attributes(cell: AnyCell) -> dict[str, Any]:
    """Return what the operator has to know beyond sizes and direction."""
    attributes: dict[str, Any] = {}
    if isinstance(cell, GRU):
        attributes["linear_before_reset"] = int(cell.reset_after)
    functions = _functions(cell)
    if functions == _functions(type(cell)(cell.units)):
        return attributes  # our defaults are the operators' own
    found = [_ACTIVATIONS[name] for name in functions]
    attributes["activations"] = [name for name, _, _ in found]
    alphas = [alpha for _, values, _ in found for alpha in values]
    betas = [beta for _, _, values in found for beta in values]
    if alphas:
        attributes |= {"activation_alpha": alphas, "activation_beta": betas}
    return attributes


def _functions(cell: AnyCell) -> list[str]:
    """Return the activations in the order in which the operator takes them."""
    match cell:
        case LSTM():
            return [cell.recurrent_activation, cell.activation, cell.activation]
        case GRU():
            return [cell.recurrent_activation, cell.activation]
        case SimpleRNN():
            return [cell.activation]


def _in_onnx_layout(cell: AnyCell, weights: Weights) -> dict[str, NDArray[Any]]:
    """Return W, R and B with a first axis of one direction, in memory of their own."""
    order = [cell.gate_names.index(gate) for gate in _GATES[type(cell)]] or [0]

    def blocks(values: NDArray[Any]) -> NDArray[Any]:
        """Return (1, gates*units, ...), the gates in ONNX's order."""
        ours = np.split(values.T, cell.blocks)
        return np.array([np.concatenate([ours[index] for index in order])], order="C")

    found = {"W": blocks(weights["kernel"]), "R": blocks(weights["recurrent_kernel"])}
    if cell.use_bias:
        bias = blocks(weights["bias"])
        recurrent = weights.get("recurrent_bias")
        other = np.zeros_like(bias) if recurrent is None else blocks(recurrent)
        found["B"] = np.concatenate([bias, other], axis=1)
    return found
