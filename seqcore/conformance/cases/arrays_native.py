"""Neutral and native arrays, and calls inside a framework's own transformations (clauses ARR).

A transformed call is judged as any other: its arrays are those of a `ValueCase`, and what comes out
is compared with the oracle's outputs and gradients. Only forward mode and second derivatives, which
the oracle lacks, are compared with gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import arguments, cotangents_of
from seqcore.conformance.calls import flat, structured
from seqcore.conformance.deviations import unit_eps
from seqcore.conformance.judge import judge
from seqcore.conformance.laws import Departure, law, require, require_bits, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import Observed, Packed, Run, ValueCase, Verdict
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import expectation
from seqcore.errors import ArgumentError, BackendBroken, PlanError
from seqcore.ops import Array, Arrays
from seqcore.registry import registry
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import output_names, state_names
from seqcore.spi import SPI_VERSION, Backend, BackendSpec, Transforms

_STEP = 2e-4
_DIFFERENCES = 1e-8
"""The step of a five-point difference in float64, and how exact that has to be; it is to 1e-10."""


def native_case(name: str, layer: Any, **fields: Any) -> ValueCase:
    """Return the arrays of a native call; a state is given, so that it has a gradient."""
    return ValueCase(id=f"native/{name}", clauses=(), layer=layer, state=True, **fields)


SMALL = native_case("small", SimpleRNN(2, **BOTH))
"""One call for all features and data types: an engine compiles it once for each."""

LSTM_HOLES = native_case("lstm-holes", LSTM(2, **BOTH), mask="holes")
LSTM_PLAIN = native_case("lstm", LSTM(2, **BOTH))
BOTH_WAYS = native_case("both-ways", Bidirectional(GRU(2, **BOTH)), mask="holes")
LAST_STEP = native_case(
    "last-step", SimpleRNN(3, return_state=True, go_backwards=True), mask="right"
)
STACK = native_case(
    "stack",
    Stack((Bidirectional(LSTM(2, return_sequences=True)), GRU(3, reset_after=False))),
    mask="lengths",
)
CASES = {"lstm": LSTM_PLAIN, "lstm-holes": LSTM_HOLES, "both-ways": BOTH_WAYS, "last": LAST_STEP}
_MORE = {
    "stack": STACK,
    "dead-row": native_case("dead-row", LSTM(2, mask_output="carry", **BOTH), mask="dead_row"),
    "poison": native_case("poison", GRU(2, **BOTH), mask="holes", poison=True),
    "merge-none": native_case("none", Bidirectional(LSTM(2, **BOTH), merge_mode="none")),
    "activations": native_case(
        "activations", LSTM(2, activation="relu", recurrent_activation="hard_sigmoid", **BOTH)
    ),
}
ALL_BUT_HOLES = {name: case for name, case in CASES.items() if case is not LSTM_HOLES} | _MORE


def transforms(subject: Subject) -> Transforms:
    """Return the backend's transformations."""
    found = subject.backend.transforms
    if found is None:
        raise Departure(
            f"backend {subject.name!r}: expected `transforms`, which show the feature declared "
            "supported, received none"
        )
    return found


@dataclass(frozen=True, slots=True, repr=False)
class Native:
    """One call with native arrays, as a function of them.

    Attributes:
        subject: The backend.
        case: What is called.
        options: Options of the call.
        names: The names of the weights.
        values: Weights, x and states, as NumPy arrays.
        masks: The mask or the lengths, or nothing.
    """

    subject: Subject
    case: ValueCase
    options: Mapping[str, Any]
    names: tuple[str, ...]
    values: tuple[NDArray[Any], ...]
    masks: tuple[NDArray[Any], ...]

    @classmethod
    def of(cls, subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> Native:
        """Return the call of a case."""
        given = arguments(case, subject.seed)
        masks = tuple(given.given[name] for name in ("mask", "lengths") if name in given.given)
        values = (*given.weights.values(), given.x, *given.state)
        return cls(subject, case, options, tuple(given.weights), values, masks)

    def arrays(self) -> Arrays:
        """Return weights, x and states as native arrays."""
        return tuple(transforms(self.subject).array(value) for value in self.values)

    def native_masks(self) -> Arrays:
        """Return the mask or the lengths as a native array."""
        return tuple(transforms(self.subject).array(value) for value in self.masks)

    def arguments(self, *arrays: Array) -> tuple[dict[str, Array], Array, dict[str, Any]]:
        """Return weights, x and keyword arguments, from all arrays in order, masks last."""
        count = len(self.names)
        weights = dict(zip(self.names, arrays, strict=False))
        states = arrays[count + 1 : len(self.values)]
        given: dict[str, Any] = {"initial_state": states, **self.options}
        if arrays[len(self.values) :]:
            name = "lengths" if self.case.mask == "lengths" else "mask"
            given[name] = arrays[len(self.values)]
        return weights, arrays[count], given

    def outputs(self, *arrays: Array) -> Arrays:
        """Run the layer; all outputs, one or several."""
        weights, x, given = self.arguments(*arrays)
        return flat(self.subject.apply(self.case.layer, weights, x, **given))

    def cotangents(self) -> tuple[NDArray[Any], ...]:
        """Return the cotangents with which gradients are judged."""
        return cotangents_of(self.case, self.subject.seed)

    def loss(self) -> Callable[..., Array]:
        """Return the function whose gradients are those of the pullback at the cotangents."""
        factors = tuple(transforms(self.subject).array(d) for d in self.cotangents())
        ops = self.subject.backend.ops

        def function(*arrays: Array) -> Array:
            return dot(ops, self.outputs(*arrays), factors)

        return function

    def judge(self, outputs: Arrays, gradients: Arrays | None, what: str) -> None:
        """Depart unless native outputs and gradients are the oracle's."""
        names = output_names(self.case.layer)
        run = Run(
            implementation=str(self.options.get("implementation", "")),
            call="apply" if gradients is None else "vjp",
            plan=("native arrays",),
            outputs=dict(zip(names, self._packed(outputs), strict=True)),
            gradients={} if gradients is None else self._named(gradients),
        )
        judged = replace(self.case, gradients=gradients is not None, label=self.case.id)
        verdict = judge(judged, Observed([run]), self.subject.seed)
        require_verdict(verdict, self._called(what), *_kinds(run))

    def _named(self, gradients: Arrays) -> dict[str, Packed]:
        states = tuple(f"initial_state.{name}" for name in state_names(self.case.layer))
        return dict(zip((*self.names, "x", *states), self._packed(gradients), strict=True))

    def _packed(self, arrays: Arrays) -> list[Packed]:
        return [Packed.of(self.subject.backend.to_numpy(value)) for value in arrays]

    def _called(self, what: str) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"{self.case.layer}: {what}{options}"


def dot(ops: Any, arrays: Arrays, factors: Arrays) -> Array:
    """Return the sum of the products of all elements, a scalar."""
    parts = [ops.sum(ops.reshape(a * b, (-1,))) for a, b in zip(arrays, factors, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def require_verdict(verdict: Verdict, what: str, *kinds: str) -> None:
    """Depart with the first finding of a verdict, or where values of a kind were not judged."""
    for finding in verdict.findings:
        details = msgspec.structs.asdict(finding)
        raise Departure(f"{what}: {details.pop('message')}", **details)
    for kind in kinds:
        require(kind in verdict.worst, f"{what}: expected {kind} that can be judged by value")


def _kinds(run: Run) -> tuple[str, ...]:
    return ("outputs", "gradients") if run.call == "vjp" else ("outputs",)


def everywhere(subject: Subject, check: Callable[[Mapping[str, Any]], None]) -> None:
    """Make a check with the planner's choice, and with each implementation that takes the call."""
    check({})
    for implementation in subject.backend.implementations:
        try:
            check({"implementation": implementation.name})
        except PlanError:
            continue


# What the laws below and those of declared features check, with options of the call.


def gradients_are_ours(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> None:
    """Outputs are right, and so are gradients taken by the framework."""
    call = Native.of(subject, case, options)
    arrays, masks, loss = call.arrays(), call.native_masks(), call.loss()
    gradients = transforms(subject).gradient(lambda *given: loss(*given, *masks), arrays)
    call.judge(call.outputs(*arrays, *masks), gradients, "by the framework's own differentiation")


def compiled_calls_are_right(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> None:
    """Outputs and gradients are right inside the framework's compiler, masks hidden from us."""
    call = Native.of(subject, case, options)
    given = (*call.arrays(), *call.native_masks())
    outputs = transforms(subject).compile(call.outputs)(*given)
    call.judge(outputs, None, "inside the framework's compiler")
    if not subject.supports("native_autodiff"):
        return
    native, loss, known = transforms(subject), call.loss(), len(call.values)

    def gradients(*given: Array) -> Arrays:
        arrays, masks = given[:known], given[known:]
        return native.gradient(lambda *inner: loss(*inner, *masks), arrays)

    found = native.compile(gradients)(*given)
    call.judge(outputs, found, "differentiated inside the framework's compiler")


def _two(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> list[Native]:
    """Return two calls of the same shapes with different arrays."""
    return [
        Native.of(subject, replace(case, id=f"{case.id}/{index}", label=""), options)
        for index in range(2)
    ]


def _stacked(subject: Subject, calls: list[Native], field: str) -> Arrays:
    """Return the calls' arrays of one kind, each with those of the other on a new first axis."""
    pairs = zip(*(getattr(call, field) for call in calls), strict=True)
    return tuple(transforms(subject).array(np.stack(pair)) for pair in pairs)


def mapped_calls_are_right(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> None:
    """Outputs are right for each index of a map over all arguments, and over x alone."""
    calls = _two(subject, case, options)
    native, ours = transforms(subject), calls[0]
    stacked = (*_stacked(subject, calls, "values"), *_stacked(subject, calls, "masks"))
    outputs = native.vmap(ours.outputs, stacked)
    for index, call in enumerate(calls):
        call.judge(tuple(y[index] for y in outputs), None, f"mapped over all arguments, [{index}]")
    arrays, masks, count = ours.arrays(), ours.native_masks(), len(ours.names)

    def of_x(x: Array) -> Arrays:
        return ours.outputs(*arrays[:count], x, *arrays[count + 1 :], *masks)

    several = native.array(np.stack([ours.values[count], calls[1].values[count]]))
    ours.judge(tuple(y[0] for y in native.vmap(of_x, (several,))), None, "mapped over x")


def mapped_gradients_are_right(
    subject: Subject, case: ValueCase, options: Mapping[str, Any]
) -> None:
    """Gradients taken by the framework through a map over all arguments are right."""
    calls = _two(subject, case, options)
    native, ops, ours = transforms(subject), subject.backend.ops, calls[0]
    arrays, masks = _stacked(subject, calls, "values"), _stacked(subject, calls, "masks")
    pairs = zip(*(call.cotangents() for call in calls), strict=True)
    factors = tuple(native.array(np.stack(pair)) for pair in pairs)

    def loss(*given: Array) -> Array:
        return dot(ops, native.vmap(ours.outputs, (*given, *masks)), factors)

    outputs, gradients = native.vmap(ours.outputs, (*arrays, *masks)), native.gradient(loss, arrays)
    for index, call in enumerate(calls):
        y, slopes = (tuple(v[index] for v in values) for values in (outputs, gradients))
        call.judge(y, slopes, f"differentiated through a map, [{index}]")


def tangents_are_right(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> None:
    """In forward mode outputs are right, and tangents are the transpose of the pullback."""
    for dtype in dict.fromkeys((case.dtype, "float64")):
        if subject.supports(dtype):
            _tangents_are_right(subject, replace(case, dtype=dtype), options)


def _tangents_are_right(subject: Subject, case: ValueCase, options: Mapping[str, Any]) -> None:
    call = Native.of(subject, case, options)
    arrays, masks, random = call.arrays(), call.native_masks(), subject.random(f"{case.id} along")
    kind = call.values[0].dtype
    along = tuple(random.standard_normal(value.shape).astype(kind) for value in call.values)
    native, to_numpy = transforms(subject), subject.backend.to_numpy
    outputs, tangents = native.jvp(
        lambda *given: call.outputs(*given, *masks), arrays, tuple(map(native.array, along))
    )
    call.judge(outputs, None, "in forward mode")
    gradients = own_gradients(call, call.values)
    forward = _terms([to_numpy(value) for value in tangents], call.cotangents())
    backward = _terms(gradients, along)
    scale = max(1.0, float(np.abs(forward).sum()), float(np.abs(backward).sum()))
    apart = abs(float(forward.sum() - backward.sum())) / (unit_eps(case.dtype) * scale)
    given = arguments(case, subject.seed)
    known = expectation(case.layer, given, call.cotangents(), precision=case.precision)
    require(
        known.admitted("gradients"),
        f"{case.layer}: in forward mode: expected gradients that can be judged by value",
    )
    require(
        # Of each product one factor is a result; the eps are of the sum of all products' sizes.
        apart <= 2 * known.limit("gradients"),
        f"{case.layer}: in forward mode: expected <cotangents, tangents> = <gradients, directions>",
        expected=float(backward.sum()),
        received=float(forward.sum()),
    )


def second_derivatives_are_right(
    subject: Subject, case: ValueCase, options: Mapping[str, Any]
) -> None:
    """A gradient of a gradient is the derivative of our gradients, by differences in float64."""
    call = Native.of(subject, replace(case, dtype="float64", label=case.id), options)
    arrays, masks, random = call.arrays(), call.native_masks(), subject.random(f"{case.id} along")
    along = tuple(random.standard_normal(value.shape) for value in call.values)
    native, to_numpy, loss = transforms(subject), subject.backend.to_numpy, call.loss()
    directions = tuple(map(native.array, along))

    def slope(*given: Array) -> Array:
        gradients = native.gradient(lambda *inner: loss(*inner, *masks), given)
        return dot(subject.backend.ops, gradients, directions)

    found = native.gradient(slope, arrays)

    def moved(steps: int) -> list[NDArray[Any]]:
        shifted = (v + steps * _STEP * d for v, d in zip(call.values, along, strict=True))
        return own_gradients(call, tuple(shifted))

    points = zip(moved(-2), moved(-1), moved(1), moved(2), strict=True)
    names = (*call.names, "x", *state_names(case.layer))
    for name, second, (a, b, c, d) in zip(names, found, points, strict=True):
        expected = (a - 8 * b + 8 * c - d) / (12 * _STEP)
        received = np.asarray(to_numpy(second))
        scale = max(1.0, float(np.abs(expected).max()))
        require(
            received.shape == expected.shape
            and bool(np.all(np.abs(received - expected) <= _DIFFERENCES * scale)),
            f"{case.layer}: second derivative along {name}: expected differences of gradients",
            expected=expected,
            received=received,
        )


def own_gradients(call: Native, values: tuple[NDArray[Any], ...]) -> list[NDArray[Any]]:
    """Return the gradients of `vjp` at other values, in their order."""
    weights, x, given = call.arguments(*values, *call.masks)
    _, pullback = call.subject.vjp(call.case.layer, weights, x, **given)
    factors = call.cotangents()
    found = pullback(structured(factors))
    return [*(found.weights[name] for name in call.names), found.x, *found.initial_state]


def _terms(arrays: Any, factors: Any) -> NDArray[np.float64]:
    return np.concatenate(
        [
            (np.asarray(a, np.float64) * np.asarray(b, np.float64)).ravel()
            for a, b in zip(arrays, factors, strict=True)
        ]
    )


# The kinds of arrays.


def leaves(value: Any) -> Iterator[Any]:
    """Yield the arrays of a result: one, or those of nested tuples and mappings."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def _require_neutral(result: Any, what: str) -> None:
    for value in leaves(result):
        require(
            type(value) is np.ndarray,
            f"{what}: expected NumPy arrays, received {type(value).__name__}",
        )


def _require_native(subject: Subject, result: Any, like: Array, what: str) -> None:
    owner, device = registry.for_array(like), subject.backend.describe(like).device
    for value in leaves(result):
        require(
            registry.for_array(value) == owner,
            f"{what}: expected arrays of {owner} as given, received {type(value).__name__}",
        )
        found = subject.backend.describe(value).device
        require(
            found == device,
            f"{what}: expected arrays on {device!r} as given, received one on {found!r}",
        )


def _results(
    subject: Subject, layer: Any, weights: Any, x: Any, given: Any, factors: Any
) -> Iterator[tuple[str, Any]]:
    """Yield what each kind of call returns, with its name."""
    yield "apply", subject.apply(layer, weights, x, **given)
    if subject.supports("gradients"):
        outputs, pullback = subject.vjp(layer, weights, x, **given)
        yield "vjp", outputs
        yield "the pullback", tuple(pullback(structured(tuple(factors))))
    if subject.supports("gates"):
        yield "gates", subject.gates(layer, weights, x, **given)
    bound = subject.bind(layer, weights)
    yield "a bound layer", bound(x, **given)


@law("ARR-1", tier="smoke", needs=("float32", "masks"))
def numpy_arrays_give_numpy_arrays(subject: Subject) -> None:
    """Where all arguments are NumPy arrays, so are all results."""
    call = Native.of(subject, LSTM_HOLES, {})
    weights, x, given = call.arguments(*call.values, *call.masks)
    for name, result in _results(subject, call.case.layer, weights, x, given, call.cotangents()):
        _require_neutral(result, f"{call.case.layer}: {name} of NumPy arrays")


@law("ARR-1", needs=("float32", "masks"))
def sequences_are_arrays(subject: Subject) -> None:
    """Nested sequences in every place give NumPy arrays, those that the arrays give."""
    call = Native.of(subject, LSTM_HOLES, {})
    layer = call.case.layer
    weights, x, given = call.arguments(*call.values, *call.masks)
    lists = {name: value.tolist() for name, value in weights.items()}
    listed = {
        "initial_state": [value.tolist() for value in given["initial_state"]],
        "mask": given["mask"].tolist(),
    }
    factors = call.cotangents()
    here = _results(subject, layer, weights, x, given, factors)
    there = _results(
        subject, layer, lists, x.tolist(), listed, [value.tolist() for value in factors]
    )
    for (name, expected), (_, found) in zip(here, there, strict=True):
        _require_neutral(found, f"{layer}: {name} of sequences")
        for a, b in zip(leaves(found), leaves(expected), strict=True):
            require_bits(a, b, f"{layer}: {name} of sequences in the place of arrays")
    lengths = [call.case.time, 2, 1]
    given = {"initial_state": given["initial_state"], "lengths": lengths}
    found = subject.apply(layer, weights, x, **given)
    expected = subject.apply(layer, weights, x, **(given | {"lengths": np.array(lengths)}))
    for a, b in zip(found, expected, strict=True):
        require_bits(a, b, f"{layer}: apply with lengths as a list")


def neutral_arrays_keep_their_data_type(subject: Subject, case: ValueCase) -> None:
    """NumPy arrays give NumPy arrays of their own data type."""
    call = Native.of(subject, case, {})
    outputs = call.outputs(*call.values)
    gradients = own_gradients(call, call.values) if subject.supports("gradients") else ()
    _require_neutral(outputs, f"{case.layer}: apply of NumPy arrays")
    for value in (*outputs, *gradients):
        require(
            value.dtype == call.values[0].dtype,
            f"{case.layer}: expected {case.dtype} as given, received {value.dtype}",
        )


@law("ARR-1", needs=("float32",))
def no_steps_and_no_rows_give_numpy_arrays(subject: Subject) -> None:
    """Results that no engine computes are NumPy arrays, too."""
    call = Native.of(subject, LSTM_PLAIN, {})
    weights, x, _ = call.arguments(*call.values)
    for empty in (x[:0], x[:, :0]):
        result = subject.apply(call.case.layer, weights, empty)
        _require_neutral(result, f"{call.case.layer}: apply over {empty.shape}")


@law("ARR-2", needs=("native_autodiff", "float32", "masks"))
def native_arrays_give_native_arrays(subject: Subject) -> None:
    """All results are native and on the device of the arrays, whichever call it is."""
    _native_in_native_out(subject, LSTM_HOLES)


@law(
    "ARR-2",
    tier="full",
    needs=("native_autodiff", "float32", "masks"),
    over={"both-ways": BOTH_WAYS, "stack": STACK},
)
def native_arrays_give_native_arrays_of_other_layers(subject: Subject, case: ValueCase) -> None:
    """All results are native and on the device of the arrays, whichever call it is."""
    _native_in_native_out(subject, case)


def _native_in_native_out(subject: Subject, case: ValueCase) -> None:
    call = Native.of(subject, case, {})
    for device in subject.backend.devices()[:2]:

        def move(value: Any, device: str = device) -> Array:
            array = transforms(subject).array(value)
            return subject.backend.asarray(array, value.dtype.name, device)

        arrays = tuple(map(move, call.values))
        masks = call.native_masks()
        weights, x, given = call.arguments(*arrays, *masks)
        what = f"{case.layer} on {device}"
        for factors in (call.cotangents(), tuple(map(move, call.cotangents()))):
            for name, result in _results(subject, case.layer, weights, x, given, factors):
                _require_native(subject, result, x, f"{what}: {name}")
        call.judge(call.outputs(*arrays, *masks), None, f"of native arrays on {device}")


@law("ARR-2", needs=("native_autodiff", "float32", "masks"))
def one_native_array_is_enough(subject: Subject) -> None:
    """One native argument among neutral ones makes the call native, with the same values."""
    call = Native.of(subject, LSTM_HOLES, {})
    layer, native = call.case.layer, transforms(subject).array
    everything = (*call.values, *call.masks)
    for index, name in enumerate((*call.names, "x", "h", "c", "mask")):
        arrays = list(everything)
        arrays[index] = native(arrays[index])
        outputs = call.outputs(*arrays)
        what = f"{layer}: apply with {name} native"
        _require_native(subject, outputs, arrays[index], what)
        call.judge(outputs, None, f"with {name} native and the others NumPy arrays")
    weights, x, given = call.arguments(*everything)
    chosen = layer.apply(weights, native(x), **given)
    like = native(x)
    _require_native(subject, chosen, like, f"{layer}: apply without backend=")
    bound = subject.bind(layer, weights)
    _require_native(subject, bound(like, **given), like, f"{layer}: bound to NumPy arrays")
    listed = {name: value.tolist() for name, value in weights.items()}
    result = subject.apply(layer, listed, like, **given)
    _require_native(subject, result, like, f"{layer}: apply with sequences for weights")
    call.judge(flat(result), None, "with sequences for weights")


@law("ARR-2", needs=("native_autodiff", "float32"))
def no_steps_and_no_rows_give_native_arrays(subject: Subject) -> None:
    """Results that no engine computes are native, too."""
    call = Native.of(subject, LSTM_PLAIN, {})
    weights, x, _ = call.arguments(*call.arrays())
    for empty in (x[:0], x[:, :0]):
        result = subject.apply(call.case.layer, weights, empty)
        _require_native(subject, result, x, f"{call.case.layer}: apply over {empty.shape}")


def native_arrays_keep_their_data_type(subject: Subject, case: ValueCase) -> None:
    """Native arrays give their own data type, and its values."""
    call = Native.of(subject, case, {})
    outputs = call.outputs(*call.arrays())
    for value in outputs:
        found = subject.backend.describe(value).dtype
        require(
            found == case.dtype, f"{case.layer}: expected {case.dtype} as given, received {found}"
        )
    call.judge(outputs, None, f"of native arrays in {case.dtype}")


for _dtype in ("float64", "float16", "bfloat16"):
    _case = replace(SMALL, dtype=_dtype)
    law("ARR-1", "DTYPE-1", needs=(_dtype,), over={_dtype: _case})(
        neutral_arrays_keep_their_data_type
    )
    law("ARR-2", "DTYPE-1", needs=("native_autodiff", _dtype), over={_dtype: _case})(
        native_arrays_keep_their_data_type
    )


class _Elsewhere:
    """An array of a framework that the backend does not know."""

    __module__ = "seqcore_elsewhere"

    shape = (3, 5, 4)


@contextmanager
def _another_framework() -> Iterator[str]:
    """Register a backend with arrays of its own, which is never to be made."""

    def factory() -> Backend:
        raise BackendBroken("it was asked to run a call that has no business there")

    spec = BackendSpec(
        name="elsewhere",
        factory="seqcore_elsewhere:none",
        spi=SPI_VERSION,
        array_roots=("seqcore_elsewhere",),
    )
    with registry.temporarily(spec, factory):
        yield spec.name


@law("ARR-3", needs=("float32",))
def another_frameworks_array_is_refused(subject: Subject) -> None:
    """An array of another framework with this backend as the argument is an `ArgumentError`."""
    call = Native.of(subject, LSTM_PLAIN, {})
    weights, x, given = call.arguments(*call.values)
    with _another_framework() as other:
        for name in ("x", "mask", "initial_state", "kernel"):
            spoilt = dict(weights), x, dict(given)
            _put(spoilt, name, _Elsewhere())
            array, rest = _x_of(spoilt), spoilt[2]
            what = f"{call.case.layer}: {name} of another framework"
            with require_error(ArgumentError, what, other, subject.name):
                subject.apply(call.case.layer, spoilt[0], array, **rest)


@law("ARR-3", needs=("native_autodiff", "float32"))
def two_frameworks_are_refused(subject: Subject) -> None:
    """Native arrays of two frameworks in one call are an `ArgumentError`, wherever they stand."""
    call = Native.of(subject, LSTM_PLAIN, {})
    layer = call.case.layer
    weights, x, given = call.arguments(*call.arrays())
    owner = str(registry.for_array(x))
    with _another_framework() as other:
        for name in ("x", "mask", "lengths", "initial_state", "kernel"):
            spoilt = dict(weights), x, dict(given)
            _put(spoilt, name, _Elsewhere())
            array, rest = _x_of(spoilt), spoilt[2]
            what = f"{layer}: {name} of another framework than the other arrays"
            with require_error(ArgumentError, what, other, owner):
                layer.apply(spoilt[0], array, **rest)
            if subject.supports("gradients"):
                with require_error(ArgumentError, what, other, owner):
                    layer.vjp(spoilt[0], array, **rest)
        what = f"{layer}: backend= of another framework than the arrays"
        with require_error(ArgumentError, what, other, owner):
            layer.apply(weights, x, backend=other, **given)
        bound = subject.bind(layer, weights)
        with require_error(ArgumentError, f"{layer}: bound, then another framework's x", other):
            bound(_Elsewhere())


@law("ARR-3", needs=("native_autodiff", "float32"))
def another_device_is_refused(subject: Subject) -> None:
    """A native array with a device that is not its own is an `ArgumentError`."""
    call = Native.of(subject, LSTM_PLAIN, {})
    weights, x, given = call.arguments(*call.arrays())
    own = subject.backend.describe(x).device
    others = [name for name in subject.backend.devices() if name != own]
    # Where there is one device only, every other name is that of none.
    for device in others or ("nowhere",):
        what = f"{call.case.layer}: device={device!r} beside arrays on {own!r}"
        with require_error(ArgumentError, what, device):
            subject.apply(call.case.layer, weights, x, device=device, **given)


def _put(call: tuple[dict[str, Any], Any, dict[str, Any]], name: str, value: Any) -> None:
    weights, _, given = call
    if name == "kernel":
        weights[name] = value
    elif name == "initial_state":
        given[name] = (given[name][0], value)
    else:
        given[name] = value


def _x_of(call: tuple[dict[str, Any], Any, dict[str, Any]]) -> Any:
    return call[2].pop("x", call[1])


# The framework's transformations.


@law("ARR-4", tier="smoke", needs=("native_autodiff", "float32", "masks"))
def framework_gradients_of_a_masked_lstm(subject: Subject) -> None:
    """Gradients by the framework of weights, x and state are those of GRAD-3."""
    gradients_are_ours(subject, LSTM_HOLES, {})


@law(
    "ARR-4",
    needs=("native_autodiff", "float32", "masks"),
    over={name: case for name, case in ALL_BUT_HOLES.items() if name in CASES},
)
def framework_gradients(subject: Subject, case: ValueCase) -> None:
    """Gradients by the framework of weights, x and state are those of GRAD-3."""
    gradients_are_ours(subject, case, {})


@law("ARR-4", tier="full", needs=("native_autodiff", "float32", "masks"), over=_MORE)
def framework_gradients_of_other_layers(subject: Subject, case: ValueCase) -> None:
    """Gradients by the framework of weights, x and state are those of GRAD-3."""
    gradients_are_ours(subject, case, {})


@law(
    "ARR-4",
    needs=("native_autodiff", "float32"),
)
def what_is_not_differentiated_is_not_followed(subject: Subject) -> None:
    """A gradient with respect to one weight alone is the same, the others being NumPy arrays."""
    call = Native.of(subject, LSTM_PLAIN, {})
    loss, index = call.loss(), call.names.index("recurrent_kernel")

    def of_one(kernel: Array) -> Array:
        return loss(*call.values[:index], kernel, *call.values[index + 1 :])

    array = transforms(subject).array(call.values[index])
    (found,) = transforms(subject).gradient(of_one, (array,))
    gradients = [transforms(subject).array(value) for value in own_gradients(call, call.values)]
    gradients[index] = found
    call.judge(call.outputs(*call.arrays()), tuple(gradients), "of one weight alone")


@law(
    "ARR-5",
    needs=("compile", "float32", "masks"),
    over={"lstm-holes": LSTM_HOLES, "both-ways": BOTH_WAYS},
)
def compiled_calls(subject: Subject, case: ValueCase) -> None:
    """Inside the framework's compiler outputs and gradients are those of the plain call."""
    compiled_calls_are_right(subject, case, {})


@law(
    "ARR-5",
    tier="full",
    needs=("compile", "float32", "masks"),
    over={"lstm": LSTM_PLAIN, "last": LAST_STEP, **_MORE},
)
def compiled_calls_of_other_layers(subject: Subject, case: ValueCase) -> None:
    """Inside the framework's compiler outputs and gradients are those of the plain call."""
    compiled_calls_are_right(subject, case, {})


@law("ARR-5", needs=("vmap", "float32", "masks"))
def mapped_calls_of_a_masked_lstm(subject: Subject) -> None:
    """Under a vectorising map each index has what it has alone."""
    mapped_calls_are_right(subject, LSTM_HOLES, {})


@law(
    "ARR-5",
    tier="full",
    needs=("vmap", "native_autodiff", "float32", "masks"),
    over={"lstm-holes": LSTM_HOLES, "both-ways": BOTH_WAYS, "last": LAST_STEP},
)
def mapped_gradients(subject: Subject, case: ValueCase) -> None:
    """Gradients through a vectorising map are those that each index has alone."""
    mapped_gradients_are_right(subject, case, {})


@law(
    "ARR-5",
    tier="full",
    needs=("vmap", "float32", "masks"),
    over=ALL_BUT_HOLES,
)
def mapped_calls(subject: Subject, case: ValueCase) -> None:
    """Under a vectorising map each index has what it has alone."""
    mapped_calls_are_right(subject, case, {})


@law(
    "ARR-5",
    needs=("forward_mode", "gradients", "float32", "masks"),
    over={"lstm-holes": LSTM_HOLES, "both-ways": BOTH_WAYS},
)
def forward_mode(subject: Subject, case: ValueCase) -> None:
    """In forward mode tangents are those that belong to the gradients of GRAD-3."""
    tangents_are_right(subject, case, {})


@law(
    "ARR-5",
    tier="full",
    needs=("forward_mode", "gradients", "float32", "masks"),
    over={"lstm": LSTM_PLAIN, "last": LAST_STEP, **_MORE},
)
def forward_mode_of_other_layers(subject: Subject, case: ValueCase) -> None:
    """In forward mode tangents are those that belong to the gradients of GRAD-3."""
    tangents_are_right(subject, case, {})


@law("ARR-5", needs=("second_order", "gradients", "float64", "masks"))
def gradients_of_gradients_of_a_masked_lstm(subject: Subject) -> None:
    """Differentiated twice a layer gives the derivatives of the gradients of GRAD-3."""
    second_derivatives_are_right(subject, LSTM_HOLES, {})


@law(
    "ARR-5",
    tier="full",
    needs=("second_order", "gradients", "float64", "masks"),
    over={name: case for name, case in ALL_BUT_HOLES.items() if name != "poison"},
)
def gradients_of_gradients(subject: Subject, case: ValueCase) -> None:
    """Differentiated twice a layer gives the derivatives of the gradients of GRAD-3."""
    second_derivatives_are_right(subject, case, {})
