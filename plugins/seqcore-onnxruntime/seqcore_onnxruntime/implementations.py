"""The two ways in which the backend runs a layer, in order of preference."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from seqcore.ops import Array, Arrays
from seqcore.spec.dtypes import compute_dtype, numpy_dtype
from seqcore.spec.layers import AnyCell, SimpleRNN
from seqcore.spec.outputs import merges, state_names
from seqcore.spec.weights import cells
from seqcore.spi import Implementation, Request, Sequence

from seqcore_onnxruntime.forms import Form
from seqcore_onnxruntime.layers import lower
from seqcore_onnxruntime.masks import indices
from seqcore_onnxruntime.operators import Operators
from seqcore_onnxruntime.session import Session
from seqcore_onnxruntime.steps import Steps
from seqcore_onnxruntime.tame import is_tame


class Prepared:
    """A layer with its weights in the engine."""

    def __init__(
        self, request: Request, weights: Mapping[str, Array], form: Form, *, guarded: bool = False
    ) -> None:
        """Make the session; `guarded` is that of `lower`."""
        threads = request.option("threads")
        assert threads is None or isinstance(threads, int)
        graph = lower(request.layer, weights, form, request.mask, guarded=guarded)
        self._session = Session(graph, threads)
        self._states = [f"initial_{name}" for name in state_names(request.layer)]
        self._merges = merges(request.layer)

    def outputs(
        self, x: Array, mask: NDArray[np.bool_] | None, initial_state: Arrays
    ) -> list[Array]:
        """Run the graph, over arrays of its data type."""
        inputs = {"x": x, **dict(zip(self._states, initial_state, strict=True))}
        if mask is not None:
            inputs |= indices(mask, self._session.inputs)
        return self._session.run(inputs)

    def packed(self, outputs: list[Array]) -> tuple[Sequence, Arrays]:
        """Return the sequence or both sequences, and the final state."""
        first, *others = outputs
        if self._merges:
            return first, tuple(others)
        return (first, others[0]), tuple(others[1:])

    def run(
        self, x: Array, mask: NDArray[np.bool_] | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        """Run the layer."""
        return self.packed(self.outputs(x, mask, initial_state))


class Guarded:
    """A layer by operators, and by its equations where a NaN could arise, which they swallow."""

    def __init__(self, request: Request, weights: Mapping[str, Array]) -> None:
        """Prepare the operators; the equations are prepared when they are first needed."""
        self._request = request
        self._weights = {name: np.array(value) for name, value in weights.items()}
        self._operators: Prepared | None = None
        if all(map(is_tame, self._weights.values())):
            form = Operators(request.dtype)
            self._operators = Prepared(request, self._weights, form, guarded=True)

    @functools.cached_property
    def _equations(self) -> Prepared:
        return Prepared(self._request, self._weights, Steps(self._request.dtype))

    def run(
        self, x: Array, mask: NDArray[np.bool_] | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        """Run the layer by what is right for these numbers."""
        if self._operators is not None:
            *outputs, tame = self._operators.outputs(x, mask, initial_state)
            if tame:
                return self._operators.packed(outputs)
        return self._equations.run(x, mask, initial_state)


class ByOperators(Implementation):
    """A whole layer by ONNX's recurrent operators, the engine's own fast code."""

    name = "operators"

    def refuses(self, request: Request) -> str | None:
        if request.gradient == "yes":
            return "has no gradients"
        if request.dtype != "float32":
            return f"computes in float32, not {request.dtype}"
        if request.precision != "highest":
            return f"does not round the inputs of products to {request.precision}"
        reasons = (_refuses_cell(cell) for _, cell, _ in cells(request.layer, 1))
        return next(filter(None, reasons), None)

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        return Guarded(request, weights)

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        done: tuple[Sequence, Arrays] = prepared.run(x, mask, initial_state)
        return done


def _refuses_cell(cell: AnyCell) -> str | None:
    if isinstance(cell, SimpleRNN):
        return "leaves SimpleRNN to scan, which is faster than the engine's operator"
    for activation in (cell.activation, cell.recurrent_activation):
        if activation in ("relu", "linear"):
            return f"takes bounded activations, not {activation}: operators swallow its overflow"
    return None


class ByScan(Implementation):
    """A whole layer by seqcore's equations in ONNX's `Scan`, in every data type."""

    name = "scan"

    def refuses(self, request: Request) -> str | None:
        if request.gradient == "yes":
            return "has no gradients"
        if request.precision == "tf32":
            return "does not round the inputs of products to tf32"
        return None

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        return Prepared(request, weights, Steps(request.dtype, request.precision))

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        computed, dtype = numpy_dtype(compute_dtype(request.dtype)), numpy_dtype(request.dtype)
        x, *initial = (np.asarray(value, computed) for value in (x, *initial_state))
        y, state = prepared.run(x, mask, tuple(initial))

        def narrowed(value: Array) -> Array:
            return value.astype(dtype, copy=False)  # exact: the graph has rounded it

        y = tuple(map(narrowed, y)) if isinstance(y, tuple) else narrowed(y)
        return y, tuple(map(narrowed, state))
