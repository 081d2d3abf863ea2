"""A layer with its weights, bound to a backend: prepared once, run many times."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from seqcore.errors import ArgumentError
from seqcore.registry import registry
from seqcore.runtime.calls import Options, explain_on
from seqcore.runtime.explanation import Explanation
from seqcore.runtime.inputs import (
    Engine,
    Inputs,
    check_supported,
    choose_device,
    choose_engine,
    framework,
    given_states,
    possible_arrays,
    read_inputs,
    read_weights,
    require,
)
from seqcore.runtime.planned_call import Gradients, KnownCall, PlannedCall, plan_call
from seqcore.runtime.planning import Program
from seqcore.spec.foreign import explain_unknown
from seqcore.spec.layers import AnyLayer, as_written

_MOST_KNOWN = 256
"""How many signatures of calls a bound layer keeps, the latest."""


class BoundLayer:
    """A layer with a snapshot of its weights in the backend's own form; made by `Layer.bind`.

    Backend and options are those in force when it was bound. Calls are pure and may come from
    several threads.
    """

    autograph_info__: ClassVar[Mapping[str, Any]] = {}  # for a call; see `as_written`

    def __init__(self, layer: AnyLayer, engine: Engine, weights: Mapping[str, Any]) -> None:
        """Not for users; call `Layer.bind`."""
        given, self._dtype, self._features, infos = read_weights(layer, engine, weights)
        check_supported(str(layer), engine, self._dtype)
        backend, settings = engine.backend, engine.settings
        device = choose_device(str(layer), engine, infos)
        self._layer = layer
        self._engine = Engine(backend, settings, native=False, placed_on=device)
        self._native = Engine(backend, settings, native=True, placed_on=device)
        # The snapshot: whatever form a plan prepares is made from these copies.
        self._weights = {
            name: backend.copy(backend.asarray(value, self._dtype, device))
            for name, value in given.items()
        }
        self._prepared: dict[int, tuple[Program, Any]] = {}
        self._known: dict[Hashable, KnownCall] = {}
        self._learning = threading.Lock()

    def __deepcopy__(self, memo: Any) -> BoundLayer:
        return self  # nothing of it changes

    def __reduce__(self) -> Any:
        raise ArgumentError(
            f"{self._layer}: a bound layer cannot be pickled, for it belongs to this process; "
            "pickle the layer and its weights and bind them again"
        )

    def __repr__(self) -> str:
        return f"BoundLayer({self._layer}, backend={self.backend!r}, dtype={self._dtype!r})"

    @as_written
    def __call__(
        self,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        **others: Any,
    ) -> Any:
        """Run the layer; arguments, result and errors are those of `Layer.apply`.

        Backend and options were settled by `bind`; any other argument is an `ArgumentError`.
        """
        self._refuse(others)
        signature = None
        if mask is None and lengths is None:
            states = given_states(initial_state)
            signature = self._signature(x, states) if states or initial_state is None else None
            known = self._known.get(signature)
            if known is not None:
                return known.run(x, states)
        engine, inputs = self._read(x, mask, lengths, initial_state)
        planned = plan_call(self._layer, engine, inputs, "no")
        prepared = self._prepare(planned)
        if signature is not None:
            self._learn(signature, planned, prepared)
        return planned.run(prepared)

    @as_written
    def vjp(
        self,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        **others: Any,
    ) -> tuple[Any, Callable[[Any], Gradients]]:
        """Run the layer and return `(outputs, pullback)`, as `Layer.vjp` does."""
        self._refuse(others)
        require(str(self._layer), self._engine.backend, "gradients")
        engine, inputs = self._read(x, mask, lengths, initial_state)
        planned = plan_call(self._layer, engine, inputs, "yes")
        return planned.vjp(self._prepare(planned))

    def explain(
        self,
        *,
        mask: Literal["none", "lengths", "any"] = "none",
        gradient: Literal["no", "yes", "unknown"] = "no",
    ) -> Explanation:
        """Return the plan, as `Layer.explain` does."""
        return explain_on(self._layer, self._engine, self._dtype, mask, gradient)

    @property
    def layer(self) -> AnyLayer:
        """The description."""
        return self._layer

    @property
    def backend(self) -> str:
        """The backend's name."""
        return self._engine.backend.name

    @property
    def weights(self) -> dict[str, np.ndarray[Any, Any]]:
        """A copy of the bound weights, by canonical name, as NumPy arrays."""
        to_numpy = self._engine.backend.to_numpy
        return {name: np.array(to_numpy(value)) for name, value in self._weights.items()}

    def _refuse(self, others: Mapping[str, Any]) -> None:
        for name in others:
            taken = ("x", "mask", "lengths", "initial_state")
            raise ArgumentError(explain_unknown(f"{self._layer}: a bound layer", name, taken))

    def _read(self, x: Any, mask: Any, lengths: Any, initial_state: Any) -> tuple[Engine, Inputs]:
        native = framework(self._layer, possible_arrays(x, mask, lengths, initial_state))
        if native is not None and not registry.takes_arrays_of(self.backend, native):
            raise ArgumentError(
                f"{self._layer}: received an array of {native}, and the layer is bound to "
                f"{self.backend}; convert it, or bind the layer there"
            )
        engine = self._engine if native is None else self._native
        inputs = read_inputs(
            self._layer,
            engine,
            x,
            mask,
            lengths,
            initial_state,
            dtype=self._dtype,
            features=self._features,
        )
        return engine, inputs

    def _signature(self, x: Any, states: tuple[Any, ...]) -> Hashable:
        """Return all that checks and plan depend on, or None if they have to look closer."""
        backend = self._engine.backend
        signature: list[Hashable] = []
        for array in (x, *states):
            if type(array) is np.ndarray:
                signature.append((array.shape, array.dtype))
            elif registry.for_array(array) == backend.name:
                signature.append(backend.describe(array))
            else:
                return None
        return tuple(signature)

    def _learn(self, signature: Hashable, planned: PlannedCall, prepared: Any) -> None:
        """Keep a call that was found sound, for a stream of steps that are all like it."""
        known = KnownCall.of(planned, prepared)
        if known is None:
            return
        with self._learning:
            if len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[signature] = known

    def _prepare(self, planned: PlannedCall) -> Any:
        """Return the weights as the program wants them, made on first use and kept."""
        program = planned.program
        if planned.inputs.traced:  # what is made inside a compiler's trace ends with it
            return program.prepare(self._weights)
        found = self._prepared.get(id(program))
        if found is None:
            # The program is kept beside, so that its id stays its own.
            found = self._prepared[id(program)] = (program, program.prepare(self._weights))
        return found[1]


def bind(layer: Any, weights: Any, backend: str | None, options: Options) -> BoundLayer:
    """Bind a layer's weights; see `Layer.bind`."""
    values = possible_arrays(None, None, None, None, weights)
    return BoundLayer(layer, choose_engine(str(layer), backend, options, values), weights)
