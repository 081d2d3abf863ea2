"""What the methods of a layer do: apply, bind, vjp, and the call with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from seqcore.ops import Array, Arrays
from seqcore.runtime.explanation import Explanation, check_question, explain_program
from seqcore.runtime.inputs import (
    Engine,
    Inputs,
    check_supported,
    choose_engine,
    possible_arrays,
    read_cotangents,
    read_inputs,
    read_weights,
    require,
)
from seqcore.runtime.planning import Program, computation, degenerate_program, make_program
from seqcore.spec.layers import AnyLayer
from seqcore.spec.outputs import output_names, pack
from seqcore.spec.weights import initial_weights
from seqcore.spi import Request
from seqcore.spi.request import GradientKind

Options = Mapping[str, Any]


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


def apply(
    layer: Any,
    weights: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> Any:
    """Run a layer; see `Layer.apply`."""
    values = possible_arrays(x, mask, lengths, initial_state, weights)
    engine = choose_engine(str(layer), backend, options, values)
    arrays, inputs = read_call(layer, engine, weights, x, mask, lengths, initial_state)
    program = program_for(layer, engine, inputs, "no")
    outputs = program.apply(arrays, inputs.x, inputs.mask, inputs.state)
    return deliver(layer, engine, outputs)


def vjp(
    layer: Any,
    weights: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> tuple[Any, Callable[[Any], Gradients]]:
    """Run a layer and return its pullback; see `Layer.vjp`."""
    values = possible_arrays(x, mask, lengths, initial_state, weights)
    engine = choose_engine(str(layer), backend, options, values)
    require(str(layer), engine.backend, "gradients")
    arrays, inputs = read_call(layer, engine, weights, x, mask, lengths, initial_state)
    program = program_for(layer, engine, inputs, "yes")
    return run_vjp(layer, engine, program, program.prepare(arrays), inputs)


def call(
    layer: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> Any:
    """Run a layer with fresh weights; see `Layer.__call__`."""
    values = possible_arrays(x, mask, lengths, initial_state)
    engine = choose_engine(str(layer), backend, options, values)
    inputs = read_inputs(layer, engine, x, mask, lengths, initial_state, dtype=None, features=None)
    program = program_for(layer, engine, inputs, "no")
    weights = initial_weights(layer, inputs.x.shape[-1], 0, inputs.dtype)
    arrays = {
        name: engine.backend.asarray(value, inputs.dtype, inputs.device)
        for name, value in weights.items()
    }
    return deliver(layer, engine, program.apply(arrays, inputs.x, inputs.mask, inputs.state))


def explain(
    layer: Any,
    dtype: str,
    mask: Any,
    gradient: Any,
    backend: str | None,
    options: Options,
) -> Explanation:
    """Return the plan; see `Layer.explain`."""
    engine = choose_engine(str(layer), backend, options)
    return explain_on(layer, engine, dtype, mask, gradient)


def explain_on(layer: Any, engine: Engine, dtype: str, mask: Any, gradient: Any) -> Explanation:
    """Return the plan on an engine that is already chosen."""
    check_question(layer, dtype, mask, gradient)
    check_supported(str(layer), engine, dtype)
    if gradient == "yes":
        require(str(layer), engine.backend, "gradients")
    request = make_request(layer, engine, dtype, engine.device, mask, gradient, traced=False)
    program = make_program(engine.backend, layer, request, engine.forced)
    return explain_program(engine.backend, layer, request, program.root)


def program_for(layer: Any, engine: Engine, inputs: Inputs, gradient: GradientKind) -> Program:
    """Return the planned layer for checked inputs."""
    if inputs.mask is not None:
        require(str(layer), engine.backend, "masks")
    if inputs.empty:
        return degenerate_program(engine.backend, layer, inputs.dtype)
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
    return make_program(engine.backend, layer, request, engine.forced)


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


def run_vjp(
    layer: Any, engine: Engine, program: Program, prepared: Any, inputs: Inputs
) -> tuple[Any, Callable[[Any], Gradients]]:
    """Run a prepared program and return the outputs with their pullback."""
    outputs, kept = program.vjp(prepared, inputs.x, inputs.mask, inputs.state)
    names = output_names(layer)
    convert = converter(engine)

    def pullback(cotangents: Any) -> Gradients:
        given = read_cotangents(str(layer), engine, cotangents, names, outputs)
        zeros = engine.backend.ops.zeros
        given += tuple(zeros(tuple(state.shape), state) for state in outputs[len(names) :])
        d_weights, d_x, d_state = program.pullback(prepared, kept, given)
        return Gradients(
            {name: convert(value) for name, value in d_weights.items()},
            convert(d_x),
            tuple(convert(value) for value in d_state),
        )

    return deliver(layer, engine, outputs), pullback


def deliver(layer: Any, engine: Engine, outputs: Arrays) -> Any:
    """Return outputs in the form of the contract: native if native arrays were given.

    A final state that the layer does not return is left behind.
    """
    convert = converter(engine)
    names = output_names(layer)
    return pack(names, (convert(output) for output in outputs[: len(names)]))


def converter(engine: Engine) -> Callable[[Array], Any]:
    """Return what turns the backend's arrays into those that the caller gets."""
    return (lambda array: array) if engine.native else engine.backend.to_numpy


def read_call(
    layer: Any, engine: Engine, weights: Any, x: Any, mask: Any, lengths: Any, initial_state: Any
) -> tuple[dict[str, Array], Inputs]:
    """Check all arguments of a call and return them as arrays of the backend."""
    weights, dtype, features, infos = read_weights(layer, engine, weights)
    inputs = read_inputs(
        layer,
        engine,
        x,
        mask,
        lengths,
        initial_state,
        dtype=dtype,
        features=features,
        weight_infos=infos,
    )
    take = engine.backend.asarray
    return {name: take(value, dtype, inputs.device) for name, value in weights.items()}, inputs
