"""What the laws have in common: a call with its arrays, and all that comes out of it by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import arguments
from seqcore.conformance.laws import require_bits, require_close
from seqcore.conformance.model import MaskPattern, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.errors import PlanError
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import output_names, output_units, state_names, state_units

Named = dict[str, NDArray[Any]]

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}

CELLS: Mapping[str, AnyLayer] = {
    "simple_rnn": SimpleRNN(2, **BOTH),
    "lstm": LSTM(2, **BOTH),
    "gru": GRU(2, **BOTH),
    "gru_reset_before": GRU(2, reset_after=False, **BOTH),
}

BIDIRECTIONAL = Bidirectional(LSTM(2, **BOTH))

STACK = Stack((GRU(2, return_sequences=True), LSTM(2)), **BOTH)

MAIN: Mapping[str, AnyLayer] = {
    "lstm": CELLS["lstm"],
    "gru": CELLS["gru"],
    "bidirectional": BIDIRECTIONAL,
}
"""The layers of most laws: few, for a compiling engine compiles each of them."""

FEW: Mapping[str, AnyLayer] = {"lstm": CELLS["lstm"], "bidirectional": BIDIRECTIONAL}
"""Those of laws that need further shapes."""

OTHERS: Mapping[str, AnyLayer] = {
    "simple_rnn": CELLS["simple_rnn"],
    "gru_reset_before": CELLS["gru_reset_before"],
    "stack": STACK,
}
"""The layers that the full tier adds."""

OUTPUT_EPS, GRADIENT_EPS = 32.0, 128.0
"""How far results of two calls that are equal within rounding may be apart, in eps.

Each call may deviate by 4n + 8 and 8n + 8; for these layers `n` is near 1 and below 6.
"""


@dataclass(frozen=True)
class Call:
    """A layer and the arguments of one call.

    Attributes:
        layer: The layer.
        weights: By canonical name.
        x: (batch, time, features).
        given: The call's other arguments and options.
        valid: The mask (batch, time), all True where the call has none.
        cotangents: One for each output.
    """

    layer: AnyLayer
    weights: Named
    x: NDArray[Any]
    given: dict[str, Any]
    valid: NDArray[np.bool_]
    cotangents: tuple[NDArray[Any], ...] = field(default=())

    def but(self, **changes: Any) -> Call:
        """Return the call with other fields."""
        return replace(self, **changes)

    def giving(self, **given: Any) -> Call:
        """Return the call with other values for some of its arguments and options."""
        return replace(self, given=self.given | given)

    def masked(self, valid: NDArray[np.bool_]) -> Call:
        """Return the call with another mask."""
        rest = {name: value for name, value in self.given.items() if name != "lengths"}
        return replace(self, valid=valid, given=rest | {"mask": valid})


def draw(
    subject: Subject,
    layer: AnyLayer,
    label: str,
    *,
    dtype: str = "float32",
    mask: MaskPattern = "none",
    state: bool = True,
    batch: int = 3,
    time: int = 5,
    features: int = 4,
) -> Call:
    """Return a call with random arrays; the same ones for a label."""
    case = ValueCase(
        id=label,
        clauses=(),
        layer=layer,
        dtype=dtype,
        mask=mask,
        state=state,
        batch=batch,
        time=time,
        features=features,
    )
    drawn = arguments(case, subject.seed)
    random = subject.random(f"{label}, cotangents")
    cotangents = tuple(
        random.standard_normal(shape).astype(drawn.x.dtype)
        for shape in output_shapes(layer, batch, time)
    )
    return Call(layer, drawn.weights, drawn.x, drawn.given, drawn.valid, cotangents)


def output_shapes(layer: AnyLayer, batch: int, time: int) -> list[tuple[int, ...]]:
    """Return the shapes of everything that a layer returns."""
    ahead = (batch, time) if layer.return_sequences else (batch,)
    shapes: list[tuple[int, ...]] = [(*ahead, units) for units in output_units(layer)]
    if layer.return_state:
        shapes += [(batch, units) for units in state_units(layer)]
    return shapes


def flat(outputs: Any) -> tuple[Any, ...]:
    """Return all outputs of a call, whether it has one or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def structured(cotangents: tuple[Any, ...]) -> Any:
    """Return cotangents as a pullback takes them: one alone, several as a tuple."""
    return cotangents[0] if len(cotangents) == 1 else cotangents


def by_name(layer: AnyLayer, outputs: Any) -> Named:
    """Return the outputs of a call by their names."""
    return dict(zip(output_names(layer), flat(outputs), strict=True))


def gradients_by_name(layer: AnyLayer, gradients: Any) -> Named:
    """Return all arrays of a `Gradients` by what they belong to."""
    named = {f"gradient of {name}": value for name, value in gradients.weights.items()}
    named["gradient of x"] = gradients.x
    for name, value in zip(state_names(layer), gradients.initial_state, strict=True):
        named[f"gradient of initial_state.{name}"] = value
    return named


def outputs_of(subject: Subject, call: Call) -> Named:
    """Return what `apply` gives, by name."""
    return by_name(call.layer, subject.apply(call.layer, call.weights, call.x, **call.given))


def linearized(subject: Subject, call: Call) -> tuple[Any, Callable[[Any], Any]]:
    """Return what `vjp` gives: the outputs and the pullback."""
    outputs, pullback = subject.vjp(call.layer, call.weights, call.x, **call.given)
    return outputs, pullback


def gradients_of(subject: Subject, call: Call) -> Named:
    """Return what `vjp` and its pullback give, by name."""
    outputs, pullback = linearized(subject, call)
    named = {f"vjp's {name}": value for name, value in by_name(call.layer, outputs).items()}
    return named | gradients_by_name(call.layer, pullback(structured(call.cotangents)))


def results_of(subject: Subject, call: Call) -> Named:
    """Return the outputs of `apply` and, where there are gradients, all of `vjp`, by name."""
    named = outputs_of(subject, call)
    return named | gradients_of(subject, call) if subject.supports("gradients") else named


def require_same(found: Named, expected: Named, what: str) -> None:
    """Depart unless all arrays have the same bits."""
    for name, value in expected.items():
        require_bits(found[name], value, f"{what}: {name}")


def require_alike(found: Named, expected: Named, what: str) -> None:
    """Depart unless all arrays are equal within rounding."""
    for name, value in expected.items():
        eps = GRADIENT_EPS if name.startswith("gradient") else OUTPUT_EPS
        require_close(found[name], value, eps, f"{what}: {name}")


def copied(named: Named) -> Named:
    """Return copies of arrays."""
    return {name: np.array(value) for name, value in named.items()}


def implementations(
    subject: Subject, call: Call, *, gradient: bool = False
) -> Iterator[tuple[str, Call]]:
    """Yield the call for each of the backend's implementations that takes it whole or in parts."""
    dtype = call.x.dtype.name
    for implementation in subject.backend.implementations:
        forced = call.giving(implementation=implementation.name)
        options = {
            name: value
            for name, value in forced.given.items()
            if name not in ("mask", "lengths", "initial_state")
        }
        try:
            call.layer.explain(
                dtype=dtype,
                mask="any" if "mask" in call.given else "none",
                gradient="yes" if gradient else "no",
                backend=subject.name,
                **options,
            )
        except PlanError:
            continue
        yield implementation.name, forced
