"""The implementation: whole layers, run by Keras."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras
from seqcore.ops import Array, Arrays
from seqcore.spec.layers import AnyLayer, Bidirectional, Stack
from seqcore.spec.weights import cells, parts
from seqcore.spi import GradientParts, Implementation, Request, Sequence

from seqcore_keras.framework import Framework
from seqcore_keras.layers import Chain, array, tensor


class KerasLayers(Implementation):
    """Runs a cell, a bidirectional layer or a stack as the Keras layers of the same names."""

    name = "layers"

    def __init__(self, framework: Framework) -> None:
        """Take what Keras runs on."""
        self._framework = framework

    def refuses(self, request: Request) -> str | None:
        if request.precision != "highest":
            return "Keras has no option for the precision of products"
        if request.gradient == "yes" and self._framework.no_gradients:
            return self._framework.no_gradients
        if any(cell.keep_order for _, cell, _ in cells(request.layer, 1)):
            return "Keras has no option for keeping the order"
        if request.mask != "none" and any(map(_carries, _bidirectionals(request.layer))):
            return "Keras has no option for the output of a Bidirectional at masked steps"
        return None

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        with self._scope(request):
            unroll = bool(request.option("unroll"))
            return Chain(request.layer, weights, request.dtype, unroll=unroll)

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        with self._scope(request):
            sequences, final = prepared(
                tensor(x), _optional(mask), [tensor(state) for state in initial_state]
            )
            return _arrays(sequences, final)

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        with self._scope(request):
            given = _optional(mask)

            def forward(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
                sequences, final = prepared(inputs[0], given, inputs[1:])
                return (*sequences, *final)

            inputs = (tensor(x), *map(tensor, initial_state))
            outputs, pullback = self._framework.vjp(forward, inputs, prepared.variables)
            split = len(outputs) - len(initial_state)
            return *_arrays(outputs[:split], outputs[split:]), (outputs, pullback)

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        with self._scope(request):
            outputs, pullback = residuals
            split = len(outputs) - len(d_state)
            if d_sequence is None:
                cotangents = [keras.ops.zeros_like(y) for y in outputs[:split]]
            else:
                pair = d_sequence if isinstance(d_sequence, tuple) else (d_sequence,)
                cotangents = [tensor(d) for d in pair]
            cotangents += [tensor(d) for d in d_state]
            d_x, *rest = pullback(tuple(cotangents))
            d_initial, d_variables = rest[: len(d_state)], rest[len(d_state) :]
            return prepared.by_name(d_variables), array(d_x), tuple(map(array, d_initial))

    @contextlib.contextmanager
    def _scope(self, request: Request) -> Iterator[None]:
        with keras.device(request.device), self._framework.numbers(request.dtype):
            yield


def _bidirectionals(layer: AnyLayer) -> list[Bidirectional]:
    members = [part for _, part in parts(layer)] if isinstance(layer, Stack) else [layer]
    return [member for member in members if isinstance(member, Bidirectional)]


def _carries(layer: Bidirectional) -> bool:
    return layer.forward.mask_output == "carry"


def _optional(mask: Array | None) -> Any:
    return None if mask is None else tensor(mask)


def _arrays(sequences: tuple[Any, ...], final: tuple[Any, ...]) -> tuple[Sequence, Arrays]:
    found = tuple(map(array, sequences))
    states = tuple(map(array, final))
    return (found[0], states) if len(found) == 1 else ((found[0], found[1]), states)
