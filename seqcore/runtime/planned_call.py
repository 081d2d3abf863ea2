"""A checked call with its plan, ready to run, and fitted to shapes that are compiled already."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from seqcore.ops import Array, Arrays, Ops
from seqcore.runtime.explanation import Explanation, explain_program
from seqcore.runtime.inputs import Engine, Inputs, canonical_shapes, read_cotangents
from seqcore.runtime.nodes import in_processing_order
from seqcore.runtime.planning import Program, computation, degenerate_program, make_program
from seqcore.spec.layers import AnyLayer
from seqcore.spec.outputs import output_names, pack, state_units
from seqcore.spi import Backend, Request
from seqcore.spi.request import GradientKind, MaskKind


class Gradients(NamedTuple):
    """What a pullback returns.

    Attributes:
        weights: The gradients of the weights, by canonical name.
        x: The gradient of the input, (batch, time, features).
        initial_state: The gradients of the initial state, each (batch, units), in its order.
    """

    weights: dict[str, Array]
    x: Array
    initial_state: Arrays


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One call whose arguments are sound.

    Attributes:
        layer: The layer.
        engine: Where it runs.
        program: The planned layer.
        inputs: The arrays, padded where the backend wants another shape.
        crop: What undoes the padding, or None where there is none.
    """

    layer: Any
    engine: Engine
    program: Program
    inputs: Inputs
    crop: Crop | None

    def explain(self) -> Explanation:
        """Return the plan that runs, in words."""
        program = self.program
        return explain_program(program.backend, self.layer, program.request, program.root)

    def apply(self, weights: Mapping[str, Array]) -> Any:
        """Run with canonical weights."""
        return self._pack(self.program.apply(weights, *self._arrays()))

    def run(self, prepared: Any) -> Any:
        """Run with weights that the program has prepared."""
        return self._pack(self.program.run(prepared, *self._arrays()))

    def vjp(self, prepared: Any) -> tuple[Any, Callable[[Any], Gradients]]:
        """Run with prepared weights and return the outputs with their pullback."""
        # The caller may write into these before the pullback; what else it needs as it was, an
        # implementation keeps itself.
        copy = self.engine.backend.copy
        x, mask, state = self._arrays()
        mask = None if mask is None else copy(mask)
        outputs, kept = self.program.vjp(prepared, x, mask, tuple(copy(h) for h in state))
        names = output_names(self.layer)
        device = self.inputs.device
        shown = self._shown(outputs[: len(names)])
        wanted = [self.engine.info(y) for y in shown]
        convert = converter(self.engine)

        def pullback(cotangents: Any) -> Gradients:
            given = read_cotangents(str(self.layer), self.engine, cotangents, names, wanted, device)
            if self.crop is not None:
                given = self.crop.padded(given)
            zeros = self.engine.backend.ops.zeros
            given += tuple(zeros(tuple(state.shape), state) for state in outputs[len(names) :])
            d_weights, d_x, d_state = self.program.pullback(prepared, kept, given)
            gradients = Gradients(
                # In canonical order, which a compiler may not keep.
                {name: convert(d_weights[name]) for name in canonical_shapes(self.layer, 1)},
                convert(d_x),
                tuple(convert(value) for value in d_state),
            )
            return gradients if self.crop is None else self.crop.gradients(gradients)

        return pack(names, shown), pullback

    def _arrays(self) -> tuple[Array, Array | None, Arrays]:
        return self.inputs.x, self.inputs.mask, self.inputs.state

    def _pack(self, outputs: Arrays) -> Any:
        """Return outputs in the form of the contract, without a final state it does not have."""
        names = output_names(self.layer)
        return pack(names, self._shown(outputs[: len(names)]))

    def _shown(self, outputs: Arrays) -> Arrays:
        """Return the call's part of the outputs as the caller gets them: native if it gave such.

        Converted before they are cropped: an engine may compile a slice, NumPy never does.
        """
        convert = converter(self.engine)
        shown = tuple(convert(y) for y in outputs)
        return shown if self.crop is None else self.crop.outputs(shown)


@dataclass(frozen=True, slots=True)
class KnownCall:
    """A call without a mask that was checked and planned, kept without its arrays.

    Attributes:
        engine: Where it runs.
        program: The planned layer.
        prepared: The weights as the program has prepared them.
        names: The names of the outputs.
        units: The units of the states.
        dtype: The dtype of x and of the states.
        device: Where they go.
    """

    engine: Engine
    program: Program
    prepared: Any
    names: tuple[str, ...]
    units: tuple[int, ...]
    dtype: str
    device: str

    @classmethod
    def of(cls, planned: PlannedCall, prepared: Any) -> KnownCall | None:
        """Return what can be said again, or None where it is more than running the program."""
        inputs = planned.inputs
        if inputs.traced or planned.crop is not None:
            return None
        return cls(
            planned.engine,
            planned.program,
            prepared,
            output_names(planned.layer),
            state_units(planned.layer),
            inputs.dtype,
            inputs.device,
        )

    def run(self, x: Any, initial_state: tuple[Any, ...]) -> Any:
        """Run with other arrays of the same shapes, dtypes and devices; no state is zeros."""
        backend, dtype, device = self.engine.backend, self.dtype, self.device
        x = backend.asarray(x, dtype, device)
        if initial_state:
            state = tuple([backend.asarray(value, dtype, device) for value in initial_state])
        else:
            state = tuple([backend.ops.zeros((x.shape[0], n), x) for n in self.units])
        outputs = self.program.run(self.prepared, x, None, state)
        convert = converter(self.engine)
        return pack(self.names, [convert(y) for y in outputs[: len(self.names)]])


@dataclass(frozen=True, slots=True)
class Crop:
    """Undoes padding on the right, which in processing order comes first.

    Attributes:
        batch: The rows of the call.
        steps: Its steps, where they are found in what the layer returns.
        width: The number of rows and steps with the padding.
        ops: The backend's functions.
    """

    batch: int
    steps: slice
    width: tuple[int, int]
    ops: Ops

    def outputs(self, outputs: Arrays) -> Arrays:
        """Return the call's part of sequences and states."""
        return tuple(
            y[: self.batch, self.steps] if len(y.shape) == 3 else y[: self.batch] for y in outputs
        )

    def padded(self, cotangents: Arrays) -> Arrays:
        """Return cotangents with zeros where the padding is."""
        before, after = self.steps.start, self.width[1] - self.steps.stop
        return tuple(
            _pad(self.ops, d, self.width[0] - self.batch, before, after) for d in cotangents
        )

    def gradients(self, gradients: Gradients) -> Gradients:
        """Return the call's part of the gradients."""
        time = self.steps.stop - self.steps.start
        return Gradients(
            gradients.weights,
            gradients.x[: self.batch, :time],
            tuple(d[: self.batch] for d in gradients.initial_state),
        )


def plan_call(layer: Any, engine: Engine, inputs: Inputs, gradient: GradientKind) -> PlannedCall:
    """Return the plan for checked inputs."""
    backend = engine.backend
    if gradient == "no" and (inputs.traced or inputs.recorded):
        gradient = "unknown"
    request = make_request(
        layer,
        engine,
        inputs.dtype,
        inputs.device,
        inputs.mask_kind,
        gradient,
        traced=inputs.traced,
    )
    if inputs.empty:
        program = degenerate_program(backend, layer, request)
        return PlannedCall(layer, engine, program, inputs, None)
    crop = None
    if not inputs.traced:
        batch, time = (int(size) for size in inputs.x.shape[:2])
        width = backend.padded_shape(request, batch, time)
        if width != (batch, time):
            start = width[1] - time if in_processing_order(layer) else 0
            crop = Crop(batch, slice(start, start + time), width, backend.ops)
            inputs = _fitted(inputs, backend, width)
            request = dataclasses.replace(request, mask=inputs.mask_kind)
    program = make_program(backend, layer, request, engine.forced)
    return PlannedCall(layer, engine, program, inputs, crop)


def make_request(
    layer: AnyLayer,
    engine: Engine,
    dtype: str,
    device: str,
    mask: Any,
    gradient: Any,
    *,
    traced: bool,
) -> Request:
    """Return what the planner asks."""
    own = {
        name: value
        for name, value in engine.settings.options.items()
        if name not in ("matmul_precision", "implementation", "device")
    }
    return Request(
        layer=computation(layer),
        dtype=dtype,
        device=device,
        precision=str(engine.settings.options.get("matmul_precision", "highest")),
        mask=mask,
        gradient=gradient,
        traced=traced,
        options=tuple(sorted(own.items())),
    )


def converter(engine: Engine) -> Callable[[Array], Any]:
    """Return what turns the backend's arrays into those that the caller gets."""
    return (lambda array: array) if engine.native else engine.backend.to_numpy


def _fitted(inputs: Inputs, backend: Backend, width: tuple[int, int]) -> Inputs:
    """Return inputs padded on the right; the padding is masked, so results are unchanged."""
    ops, take = backend.ops, backend.asarray
    batch, time = (int(size) for size in inputs.x.shape[:2])
    rows, steps = width[0] - batch, width[1] - time
    kind: MaskKind = inputs.mask_kind
    mask = inputs.mask
    if mask is None:
        kind = "lengths"
        mask = take(np.ones((batch, time), np.bool_), "bool", inputs.device)
    return dataclasses.replace(
        inputs,
        x=_pad(ops, inputs.x, rows, 0, steps),
        mask=_pad(ops, mask[:, :, None], rows, 0, steps)[:, :, 0],
        state=tuple(_pad(ops, value, rows, 0, 0) for value in inputs.state),
        mask_kind=kind,
    )


def _pad(ops: Ops, array: Array, rows: int, before: int, after: int) -> Array:
    """Return (batch, units) or (batch, time, n) with zero rows below, and zero steps around."""
    if isinstance(array, np.ndarray):  # where an engine takes them as they are, NumPy pads fastest
        steps = ((before, after), (0, 0)) if array.ndim == 3 else ((0, 0),)
        return np.pad(array, ((0, rows), *steps))
    if len(array.shape) == 3:
        for count, first in ((before, True), (after, False)):
            if count:
                zeros = ops.zeros((array.shape[0], count, array.shape[2]), array)
                array = ops.concat([zeros, array] if first else [array, zeros], 1)
    if rows:
        array = ops.concat([array, ops.zeros((rows, *array.shape[1:]), array)], 0)
    return array
