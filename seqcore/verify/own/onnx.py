"""An ONNX model run by ONNX Runtime, from its own bytes.

What is taken from seqcore's reading of the graph is only which input and output is which, and in
which order its axes are; were that wrong, the numbers would not agree.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import BackendNotInstalled, ConversionError
from seqcore.interchange.onnx import model_of
from seqcore.interchange.onnx.chain import chain_of
from seqcore.interchange.onnx.description import described
from seqcore.interchange.onnx.graph import Graph, read, short
from seqcore.interchange.onnx.values import ONE, PIECES, Merged, Tensor, outputs

Named = dict[str, NDArray[Any]]

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""The data types for which ONNX Runtime has recurrent operators."""

_INTEGERS = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}


def run(
    structure: Any, words: Mapping[str, Any], x: NDArray[Any], lengths: NDArray[Any] | None
) -> Named:
    """Return the sequence and the final states, as ONNX Runtime computes them.

    Only what the graph returns is there; a final h of both directions merged is `final`.

    Args:
        structure: As `from_onnx` takes it.
        words: Its keyword arguments; none matters here.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None. A graph without an input for them
            runs each row alone, cut at its length.

    Raises:
        BackendNotInstalled: if onnxruntime is not installed.
        ConversionError: if ONNX Runtime does not run the model, or not on such an input.
    """
    try:
        engine: Any = importlib.import_module("onnxruntime")
    except ModuleNotFoundError as error:
        raise BackendNotInstalled(
            "onnxruntime is not installed; pip install onnxruntime"
        ) from error
    model = model_of(structure)
    runner = _Runner(engine, model, read(model))
    if not x.shape[0] or not x.shape[1]:
        raise ConversionError(
            f"onnxruntime: x has the shape {x.shape}, and it ends the process on an axis of size "
            "0; expected a batch and steps"
        )
    rows, steps = x.shape[:2]
    counts = np.full(rows, steps) if lengths is None else np.asarray(lengths)
    runner.check(x, alone=lengths is not None and runner.graph.lengths is None)
    if lengths is not None and runner.graph.lengths is None:
        return _stacked(runner, x, counts)
    return runner.run(x, counts)


class _Runner:
    """A session, and what its inputs and outputs are."""

    def __init__(self, engine: Any, model: Any, graph: Graph) -> None:
        self.graph = graph
        chain = chain_of(graph)
        known = described(model, chain)
        self._chain = chain if known is None else known[1]
        self._names = self._chain.names()
        options = engine.SessionOptions()
        options.log_severity_level = 3  # errors, which are raised, too
        try:
            self._session = engine.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # theirs have no common class
            raise ConversionError(f"onnxruntime does not take the model: {error}") from error
        self._inputs = {entry.name: entry for entry in self._session.get_inputs()}
        kind = self._inputs[graph.x].type
        if kind not in _DTYPES:
            raise ConversionError(
                f"onnxruntime has no recurrent operators for {kind}, expected one of "
                f"{', '.join(_DTYPES)}"
            )
        unknown = set(self._inputs) - {graph.x, graph.lengths, *graph.states}
        if unknown:
            raise ConversionError(
                f"onnxruntime: the model has the inputs {', '.join(map(short, sorted(unknown)))}, "
                "which no recurrent node reads; expected x, lengths and initial states"
            )
        self.turned = self._chain.turned
        self._dtype = np.dtype(_DTYPES[kind])

    def check(self, x: NDArray[Any], *, alone: bool) -> None:
        """Check that the model takes an input of this size, or each of its rows alone."""
        sizes = {"batch": 1 if alone else x.shape[0], "time": x.shape[1]}
        fixed = {name: size for name, size in self.graph.fixed.items() if name in sizes}
        if any(size != sizes[name] for name, size in fixed.items()) or (alone and "time" in fixed):
            shown = ", ".join(f"{name} {size}" for name, size in fixed.items())
            rows = ", each row alone, for the model takes no lengths" if alone else ""
            raise ConversionError(
                f"onnxruntime: the model is for {shown} only, expected any, or batch "
                f"{sizes['batch']} and time {sizes['time']}{rows}; export it with dynamic axes"
            )

    def run(self, x: NDArray[Any], counts: NDArray[Any]) -> Named:
        """Run rows side by side, with their lengths where the graph takes them."""
        graph = self.graph
        order = [("batch", "time", "features").index(axis) for axis in graph.axes]
        given: Named = {graph.x: np.ascontiguousarray(x.astype(self._dtype).transpose(order))}
        if graph.lengths is not None:
            kind = self._inputs[graph.lengths].type
            given[graph.lengths] = counts.astype(_INTEGERS[kind])
        for name in graph.states:
            shape = [size if isinstance(size, int) else len(x) for size in self._inputs[name].shape]
            given[name] = np.zeros(shape, self._dtype)
        try:
            found = self._session.run(list(graph.outputs), given)
        except Exception as error:  # theirs have no common class
            raise ConversionError(
                f"onnxruntime does not run the model on x {x.shape}: {str(error)[:300]}"
            ) from error
        pairs = zip(graph.outputs.values(), found, strict=True)
        return self._named([(tensor, self._laid(tensor, value)) for tensor, value in pairs])

    def _laid(self, tensor: Tensor, value: NDArray[Any]) -> NDArray[Any]:
        """Return an output as (batch, time, units) or (batch, units), directions side by side."""
        axes = [axis.removeprefix("-") for axis in tensor.axes]
        value = value.squeeze(tuple(i for i, axis in enumerate(axes) if axis == ONE))
        axes = [axis for axis in axes if axis != ONE]
        ranks = {self.graph.batch: 0, self.graph.time: 1, PIECES: 2}
        order = sorted(range(len(axes)), key=lambda index: ranks.get(axes[index], 3))
        value = value.transpose(order)
        return value.reshape(*value.shape[: 1 + (self.graph.time in axes)], -1)

    def _named(self, laid: list[tuple[Tensor, NDArray[Any]]]) -> Named:
        """Return outputs by their names in the output contract."""
        found: Named = {}
        sides: dict[int, NDArray[Any]] = {}
        last = self._chain.links[-1]
        for tensor, value in laid:
            held = outputs(tensor)
            if held[0].name == "y":
                if len(held) == len(last.atoms):
                    found["y"] = value
                else:
                    sides[last.atoms.index((held[0].node, held[0].direction))] = value
            elif isinstance(tensor.pieces[0], Merged):
                found["final"] = value
            else:
                ends = np.cumsum([output.units for output in held])[:-1]
                for output, part in zip(held, np.split(value, ends, axis=-1), strict=True):
                    found[self._names[output.node, output.direction] + output.name] = part
        if sides:
            found["y"] = np.concatenate([sides[index] for index in sorted(sides)], axis=-1)
        return found


def _stacked(runner: _Runner, x: NDArray[Any], counts: NDArray[Any]) -> Named:
    """Run each row alone, up to its length."""
    rows = [
        runner.run(x[row : row + 1, :count], counts[row : row + 1])
        for row, count in enumerate(counts.tolist())
    ]
    found: Named = {}
    for name in rows[0]:
        parts = [row[name] for row in rows]
        if name == "y":
            y = np.zeros((*x.shape[:2], parts[0].shape[-1]), parts[0].dtype)
            for row, part in enumerate(parts):
                # In reverse order the padding comes first.
                start = x.shape[1] - part.shape[1] if runner.turned else 0
                y[row, start : start + part.shape[1]] = part[0]
            found[name] = y
        else:
            found[name] = np.concatenate(parts)
    return found
