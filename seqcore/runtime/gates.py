"""Every gate and state at every step, by the generic implementation (clauses GATES)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seqcore.errors import ArgumentError, UnsupportedFeature
from seqcore.ops import Array, Arrays
from seqcore.runtime.calls import Options, read_call
from seqcore.runtime.inputs import choose_engine, possible_arrays, require
from seqcore.runtime.nodes import in_processing_order, merge, passed_on, split_state
from seqcore.runtime.planned_call import converter, make_request
from seqcore.runtime.planning import computation
from seqcore.spec.layers import AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.weights import attach, extract, parts
from seqcore.spi import Generic, Request, Sequence

Named = dict[str, Array]


def gates(
    layer: Any,
    weights: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> Named:
    """Return every gate and state by name; see `Layer.gates`."""
    values = possible_arrays(x, mask, lengths, initial_state, weights)
    engine = choose_engine(str(layer), backend, options, values)
    require(str(layer), engine.backend, "gates")
    generic = engine.backend.generic()
    if generic is None:
        raise UnsupportedFeature(
            f"{layer}: backend {engine.backend.name!r} has no generic implementation to show "
            "gates with; choose another backend"
        )
    asked = engine.settings.origins.get("implementation") == "argument"
    if asked and engine.forced not in (None, generic.name):
        raise ArgumentError(
            f"{layer}: gates: implementation={engine.forced!r} was asked for, and gates come from "
            f"{generic.name!r} alone; leave the argument out"
        )
    arrays, inputs = read_call(layer, engine, weights, x, mask, lengths, initial_state)
    convert = converter(engine)
    if inputs.empty:
        shown = _shapes_only(layer, engine.backend.ops, inputs.x)
        return {name: convert(value) for name, value in shown.items()}

    def request(cell: AnyLayer) -> Request:
        kind = inputs.mask_kind
        return make_request(
            cell, engine, inputs.dtype, inputs.device, kind, "no", traced=inputs.traced
        )

    whole = computation(layer)
    walk = _Walk(generic, inputs.dtype, request)

    def show(weights: Mapping[str, Array], x: Array, mask: Array | None, state: Arrays) -> Named:
        return walk.layer(whole, weights, x, mask, state)[0]

    programs, key = engine.backend.programs, ("gates", request(whole))
    if key not in programs:
        programs[key] = engine.backend.compile(request(whole), show)
    named = programs[key](arrays, inputs.x, inputs.mask, inputs.state)
    return {name: convert(value) for name, value in named.items()}


class _Walk:
    """Goes through a layer part by part and collects what each cell shows."""

    def __init__(
        self, generic: Generic, dtype: str, request: Callable[[AnyLayer], Request]
    ) -> None:
        self._generic = generic
        self._dtype = dtype
        self._request = request

    def layer(
        self,
        layer: AnyLayer,
        weights: Mapping[str, Array],
        x: Array,
        mask: Array | None,
        state: Arrays,
    ) -> tuple[Named, Sequence]:
        """Return what the layer's cells show, by prefixed name, and the layer's sequence."""
        if isinstance(layer, Recurrent):
            request = self._request(layer)
            prepared = self._generic.prepare(request, weights)
            named, sequence, _ = self._generic.gates(request, prepared, x, mask, state)
            return named, sequence
        if isinstance(layer, Bidirectional):
            return self._both(layer, weights, x, mask, state)
        return self._chain(layer, weights, x, mask, state)

    def _both(
        self,
        layer: Bidirectional,
        weights: Mapping[str, Array],
        x: Array,
        mask: Array | None,
        state: Arrays,
    ) -> tuple[Named, Sequence]:
        ahead, behind = split_state(layer, state)
        back = layer.backward.replace(go_backwards=True, keep_order=True)
        forward, forward_y = self.layer(layer.forward, extract(weights, "forward."), x, mask, ahead)
        backward, backward_y = self.layer(back, extract(weights, "backward."), x, mask, behind)
        named = attach(forward, "forward.") | attach(backward, "backward.")
        return named, merge(layer.merge_mode, self._generic.ops, self._dtype, forward_y, backward_y)

    def _chain(
        self,
        layer: Stack,
        weights: Mapping[str, Array],
        x: Array,
        mask: Array | None,
        state: Arrays,
    ) -> tuple[Named, Sequence]:
        named: Named = {}
        turned = False
        ops = self._generic.ops
        for (prefix, member), mine in zip(parts(layer), split_state(layer, state), strict=True):
            shown, x = self.layer(member, extract(weights, prefix), x, mask, mine)
            if turned:  # this member saw the steps in reverse; what is shown is original time
                shown = {name: ops.flip(value, 1) for name, value in shown.items()}
            named |= attach(shown, prefix)
            mask = passed_on(member, ops, mask)
            turned ^= in_processing_order(member)
        return named, x


def _shapes_only(layer: AnyLayer, ops: Any, x: Array) -> Named:
    """Return what a layer shows over no step, or no row."""
    if isinstance(layer, Recurrent):
        names = (*layer.gate_names, *sorted(layer.state_names))
        return {name: ops.zeros((*x.shape[:2], layer.units), x) for name in names}
    return {
        prefix + name: value
        for prefix, part in parts(layer)
        for name, value in _shapes_only(part, ops, x).items()
    }
