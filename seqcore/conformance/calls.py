"""A call with its arrays: how laws draw one, change it, make it, and name all that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance import levels
from seqcore.conformance.arrays import Arguments, arguments, cotangents_of
from seqcore.conformance.laws import NotJudged, require
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import MaskPattern, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import ADMITTED, Expected, Kind, expectation
from seqcore.errors import PlanError
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, Stack
from seqcore.spec.outputs import output_names, state_names, state_units

Named = dict[str, NDArray[Any]]

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2
"""All different, so that no axis can stand for another."""

CELLS: Mapping[str, AnyCell] = {name: make(UNITS, **BOTH) for name, make in levels.CELLS.items()}

BIDIRECTIONAL = Bidirectional(LSTM(UNITS, **BOTH))

STACK = Stack((GRU(UNITS, return_sequences=True), LSTM(UNITS)), **BOTH)

SMOKE: Mapping[str, AnyLayer] = {"lstm": CELLS["lstm"], "gru": CELLS["gru"]}
"""Those of `MAIN` in the smoke tier, which a compiling engine shall be through with quickly."""

LATER: Mapping[str, AnyLayer] = {"bidirectional": BIDIRECTIONAL}
"""Those that the standard tier adds."""

MAIN: Mapping[str, AnyLayer] = {**SMOKE, **LATER}
"""The layers of most laws: few, for a compiling engine compiles each of them."""

FEW: Mapping[str, AnyLayer] = {"lstm": CELLS["lstm"], "bidirectional": BIDIRECTIONAL}
"""Those of laws that need further shapes."""

OTHERS: Mapping[str, AnyLayer] = {
    "rnn": CELLS["rnn"],
    "gru-before": CELLS["gru-before"],
    "stack": STACK,
}
"""The layers that the full tier adds."""

_ARRAYS = ("mask", "lengths", "initial_state")
"""What a call may be given beside weights and `x`; all else are options."""


@dataclass(frozen=True)
class Call:
    """A layer and the arguments of one call.

    Attributes:
        label: From which the arrays follow.
        layer: The layer.
        weights: By canonical name.
        x: (batch, time, features).
        given: The call's other arguments and options.
        valid: The mask (batch, time), all True where the call has none.
        cotangents: One for each output.
    """

    label: str
    layer: AnyLayer
    weights: Named
    x: NDArray[Any]
    given: dict[str, Any]
    valid: NDArray[np.bool_]
    cotangents: tuple[NDArray[Any], ...]
    _known: dict[bool, Expected] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def dtype(self) -> str:
        """The data type of everything."""
        return str(self.x.dtype.name)

    @property
    def state(self) -> tuple[NDArray[Any], ...]:
        """The initial state, zeros where the call gives none."""
        given = self.given.get("initial_state")
        if given is not None:
            return tuple(given)
        units = state_units(self.layer)
        return tuple(np.zeros((len(self.x), size), self.x.dtype) for size in units)

    @property
    def options(self) -> dict[str, Any]:
        """What is given that is no array."""
        return {name: value for name, value in self.given.items() if name not in _ARRAYS}

    def but(self, **changes: Any) -> Call:
        """Return the call with other fields."""
        return replace(self, **changes)

    def giving(self, **given: Any) -> Call:
        """Return the call with other values for some of its arguments and options."""
        return self.but(given=self.given | given)

    def masked(self, valid: NDArray[np.bool_]) -> Call:
        """Return the call with another mask."""
        rest = {name: value for name, value in self.given.items() if name != "lengths"}
        return self.but(valid=valid, given=rest | {"mask": valid})

    def flipped(self) -> Call:
        """Return the call with its input, and its mask where it has one, in reverse."""
        turned = self.but(x=np.flip(self.x, 1))
        masked = self.given.keys() & {"mask", "lengths"}
        return turned.masked(np.flip(self.valid, 1)) if masked else turned

    def rows(self, rows: slice) -> Call:
        """Return the call with some of its rows, copied."""
        arrays = {name: self.given[name] for name in _ARRAYS if name in self.given}
        return self.but(
            x=self.x[rows].copy(),
            valid=self.valid[rows].copy(),
            given=self.given | {name: _each(value, rows) for name, value in arrays.items()},
            cotangents=_each(self.cotangents, rows),
        )

    def row(self, index: int) -> Call:
        """Return the call of one row alone."""
        return self.rows(slice(index, index + 1))

    def steps(self, steps: slice) -> Call:
        """Return the call, whose mask is no `lengths`, with some of its steps."""
        cut = self.but(
            x=self.x[:, steps],
            valid=self.valid[:, steps],
            cotangents=tuple(d[:, steps] if d.ndim == 3 else d for d in self.cotangents),
        )
        return cut.masked(cut.valid) if "mask" in self.given else cut

    def member(self, layer: AnyLayer, prefix: str, states: slice) -> Call:
        """Return the call of a member.

        Args:
            layer: The member.
            prefix: Of its weights' names.
            states: Which of the initial states are its own.
        """
        weights = {
            name[len(prefix) :]: value
            for name, value in self.weights.items()
            if name.startswith(prefix)
        }
        mine = self.but(layer=layer, weights=weights)
        return mine.giving(initial_state=self.state[states])

    def limit(self, kind: Kind, results: float = 1, name: str = "") -> float:
        """Return how many eps results may be off together, each by the budget of this call.

        The oracle's noise is measured with the arrays as they are when this is asked first.

        Args:
            kind: What is compared.
            results: 1 for a result and its exact value, 2 for two results.
            name: The output that is compared; of any other name the largest budget holds.

        Raises:
            NotJudged: if the call is too ill-conditioned to be compared by value.
        """
        known = self._expected(kind)
        if not known.admitted(kind):
            raise NotJudged(
                f"{self.layer}, call {self.label!r}: its {kind} have a noise of "
                f"{known.noise[kind]:.3g} eps, expected at most {ADMITTED[kind]:g}; draw it with "
                "another scale (`levels.scale_of`), or do not compare it by value"
            )
        own = known.outputs.get(name) if kind == "outputs" else None
        return results * (known.limit(kind) if own is None else own.limit)

    def _expected(self, kind: Kind) -> Expected:
        """Return what the oracle gives, with gradients where they were asked for."""
        gradients = kind == "gradients" or True in self._known
        if gradients not in self._known:
            given = Arguments(self.weights, self.x, self.valid, self.given, self.state)
            self._known[gradients] = expectation(
                self.layer,
                given,
                self.cotangents if gradients else None,
                precision=self.given.get("matmul_precision", "highest"),
            )
        return self._known[gradients]


def draw(
    subject: Subject,
    layer: AnyLayer,
    label: str,
    *,
    dtype: str = "float32",
    mask: MaskPattern = "none",
    state: bool = True,
    batch: int = BATCH,
    time: int = TIME,
    features: int = FEATURES,
    scale: float = 0.6,
) -> Call:
    """Return a call with random arrays; the same ones for a label and sizes."""
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
        scale=scale,
    )
    drawn = arguments(case, subject.seed)
    ups = cotangents_of(case, subject.seed)
    return Call(label, layer, drawn.weights, drawn.x, drawn.given, drawn.valid, ups)


def zero_weights(layer: AnyLayer) -> Named:
    """Return weights of zeros in float32."""
    shapes = layer.weight_shapes(FEATURES)
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


def wide(named: Mapping[str, NDArray[Any]]) -> Named:
    """Return arrays in float64, for what an equation makes of them."""
    return {name: value.astype(np.float64) for name, value in named.items()}


def simple_rnn_step(weights: Named, x: NDArray[Any], h: NDArray[Any]) -> NDArray[np.float64]:
    """Return what a SimpleRNN with tanh makes of a step, or of many at once, in float64."""
    known = wide(weights)
    pre_activation: NDArray[np.float64] = (
        x.astype(np.float64) @ known["kernel"]
        + h.astype(np.float64) @ known["recurrent_kernel"]
        + known["bias"]
    )
    return np.tanh(pre_activation)


def copied(named: Named) -> Named:
    """Return copies of arrays."""
    return {name: np.array(value) for name, value in named.items()}


def flat(outputs: Any) -> tuple[Any, ...]:
    """Return all outputs of a call, whether it has one or several."""
    return tuple(outputs) if isinstance(outputs, tuple) else (outputs,)


def structured(cotangents: tuple[Any, ...]) -> Any:
    """Return cotangents as a pullback takes them: one alone, several as a tuple."""
    return cotangents[0] if len(cotangents) == 1 else cotangents


def by_name(layer: AnyLayer, outputs: Any) -> Named:
    """Return the outputs of a call by their names."""
    names, arrays = output_names(layer), flat(outputs)
    require(
        len(arrays) == len(names),
        f"{layer}: expected {len(names)} outputs, received {len(arrays)}",
        expected=", ".join(names),
        received=f"{len(arrays)} arrays",
    )
    return dict(zip(names, arrays, strict=True))


def gradients_by_name(layer: AnyLayer, gradients: Any) -> Named:
    """Return all arrays of a `Gradients` by what they belong to."""
    named = {f"gradient of {name}": value for name, value in gradients.weights.items()}
    named["gradient of x"] = gradients.x
    for name, value in zip(state_names(layer), gradients.initial_state, strict=True):
        named[f"gradient of initial_state.{name}"] = value
    return named


def kind_of(name: str) -> Kind:
    """Return what a name of `results_of` stands for."""
    return "gradients" if name.startswith("gradient ") else "outputs"


def outputs_of(subject: Subject, call: Call) -> Named:
    """Return what `apply` gives, by name."""
    return by_name(call.layer, subject.apply(call.layer, call.weights, call.x, **call.given))


def gates_of(subject: Subject, call: Call) -> Named:
    """Return what `gates` gives."""
    return dict(subject.gates(call.layer, call.weights, call.x, **call.given))


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


def implementations(
    subject: Subject, call: Call, *, gradient: bool = False
) -> Iterator[tuple[str, Call]]:
    """Yield the call for each of the backend's implementations that takes it whole or in parts."""
    for implementation in subject.backend.implementations:
        forced = call.giving(implementation=implementation.name)
        try:
            call.layer.explain(
                dtype=call.dtype,
                mask="any" if "mask" in call.given else "none",
                gradient="yes" if gradient else "no",
                backend=subject.name,
                **forced.options,
            )
        except PlanError:
            continue
        yield implementation.name, forced


def _each(value: Any, rows: slice) -> Any:
    """Return the rows of an array, or of each array of a tuple."""
    if isinstance(value, tuple):
        return tuple(array[rows].copy() for array in value)
    return value[rows].copy()
