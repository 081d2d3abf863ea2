"""What the methods of a layer do: apply, bind, vjp, and the call with fresh weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from seqcore.ops import Array
from seqcore.runtime.explanation import Explanation, check_question, explain_program
from seqcore.runtime.inputs import (
    Engine,
    Inputs,
    check_supported,
    choose_engine,
    possible_arrays,
    read_inputs,
    read_weights,
    require,
)
from seqcore.runtime.planned_call import Gradients, PlannedCall, make_request, plan_call
from seqcore.runtime.planning import make_program
from seqcore.spec.weights import initial_weights

Options = Mapping[str, Any]


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
    planned, arrays = plan_apply(layer, weights, x, mask, lengths, initial_state, backend, options)
    return planned.apply(arrays)


def plan_apply(
    layer: Any,
    weights: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> tuple[PlannedCall, dict[str, Array]]:
    """Return what `apply` runs, and the weights that it runs with."""
    values = possible_arrays(x, mask, lengths, initial_state, weights)
    engine = choose_engine(str(layer), backend, options, values)
    arrays, inputs = read_call(layer, engine, weights, x, mask, lengths, initial_state)
    return plan_call(layer, engine, inputs, "no"), arrays


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
    planned, arrays = plan_vjp(layer, weights, x, mask, lengths, initial_state, backend, options)
    return planned.vjp(planned.program.prepare(arrays))


def plan_vjp(
    layer: Any,
    weights: Any,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    backend: str | None,
    options: Options,
) -> tuple[PlannedCall, dict[str, Array]]:
    """Return what `vjp` runs, and the weights that it prepares for it."""
    values = possible_arrays(x, mask, lengths, initial_state, weights)
    engine = choose_engine(str(layer), backend, options, values)
    require(str(layer), engine.backend, "gradients")
    arrays, inputs = read_call(layer, engine, weights, x, mask, lengths, initial_state)
    return plan_call(layer, engine, inputs, "yes"), arrays


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
    weights = initial_weights(layer, inputs.x.shape[-1], 0, inputs.dtype)
    arrays = {
        name: engine.backend.asarray(value, inputs.dtype, inputs.device)
        for name, value in weights.items()
    }
    return plan_call(layer, engine, inputs, "no").apply(arrays)


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
