"""Calls and descriptions that are errors (clauses ERR).

Each row of the tables is one wrong call: how a correct one is spoilt, the class that is raised, and
words that tell subject, what was received and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import arguments
from seqcore.conformance.calls import BATCH, FEATURES, TIME, UNITS, flat, structured
from seqcore.conformance.cases.arrays_native import (
    leaves,
    native_case,
    require_verdict,
    transforms,
)
from seqcore.conformance.cases.capabilities import no_work, verdict_of
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.model import ValueCase
from seqcore.conformance.subject import Subject
from seqcore.errors import (
    ArgumentError,
    DtypeError,
    MaskError,
    PlanError,
    ShapeError,
    SpecError,
    StateError,
    UnsupportedFeature,
    WeightsError,
)
from seqcore.registry import registry
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack

Call = dict[str, Any]
"""The arguments of a call: weights, x, and what is given by name."""

Change = Callable[[Call], object]

LAYER = LSTM(UNITS, return_sequences=True, return_state=True)
BOTH_WAYS = Bidirectional(GRU(UNITS, return_sequences=True))
STACK = Stack((LSTM(UNITS, return_sequences=True), GRU(3)))
NAME = str(LAYER)


@dataclass(frozen=True, slots=True)
class Bad:
    """One wrong call.

    Attributes:
        change: Spoils the arguments of a correct call.
        error: What is raised.
        words: What the message has: subject, received, expected.
        layer: What is called.
    """

    change: Change
    error: type[Exception]
    words: tuple[str, ...]
    layer: AnyLayer = LAYER


def put(**values: Any) -> Change:
    """Give other arguments."""
    return lambda call: call.update(values)


def x_as(change: Callable[[Any], Any]) -> Change:
    """Give another x."""
    return lambda call: call.update(x=change(call["x"]))


def weight(name: str, change: Callable[[Any], Any]) -> Change:
    """Give another weight, or one more."""
    return lambda call: call["weights"].update({name: change(call["weights"].get(name))})


def without(name: str) -> Change:
    """Leave out a weight."""
    return lambda call: call["weights"].pop(name)


def zeros(*shape: int, dtype: Any = np.float32) -> NDArray[Any]:
    """Return zeros."""
    return np.zeros(shape, dtype)


def _weights_as(dtype: Any) -> Change:
    return lambda call: call.update(
        weights={name: value.astype(dtype) for name, value in call["weights"].items()}
    )


_STATE = (zeros(BATCH, UNITS), zeros(BATCH, UNITS))
_RAGGED = [[[1.0] * FEATURES] * 2, [[1.0] * FEATURES] * 3]
_REAL = "float64, float32, float16, bfloat16"

SHAPES: Mapping[str, Bad] = {
    "x-of-rank-2": Bad(
        x_as(lambda x: x[0]),
        ShapeError,
        (NAME, "x", "(5, 4)", "(batch, time, features)"),
    ),
    "x-of-rank-4": Bad(
        x_as(lambda x: x[None]),
        ShapeError,
        (NAME, "x", "(1, 3, 5, 4)", "(batch, time, features)"),
    ),
    "other-features": Bad(x_as(lambda x: x[..., :3]), ShapeError, (NAME, "x", "3", "expected 4")),
    "no-features": Bad(x_as(lambda x: x[..., :0]), ShapeError, (NAME, "x", "(3, 5, 0)", "expect")),
    "ragged-x": Bad(put(x=_RAGGED), ShapeError, (NAME, "x", "different lengths")),
}

DTYPES: Mapping[str, Bad] = {
    "integer-x": Bad(x_as(lambda x: x.astype(np.int64)), DtypeError, (NAME, "x", "int", _REAL)),
    "boolean-x": Bad(x_as(lambda x: x > 0), DtypeError, (NAME, "x", "bool", _REAL)),
    "complex-x": Bad(x_as(lambda x: x.astype("c8")), DtypeError, (NAME, "x", "complex64", _REAL)),
    "object-x": Bad(x_as(lambda x: x.astype(object)), DtypeError, (NAME, "x", "object", _REAL)),
    "no-x": Bad(put(x=None), DtypeError, (NAME, "x", "NoneType", "expected")),
    "boolean-sequence": Bad(
        put(x=[[[True] * FEATURES]]), DtypeError, (NAME, "x", "bool", "expected")
    ),
    "complex-sequence": Bad(put(x=[[[1j] * FEATURES]]), DtypeError, (NAME, "x", "complex")),
    "x-unlike-weights": Bad(
        x_as(lambda x: x.astype(np.float64)),
        DtypeError,
        (NAME, "x is float64", "float32", "expected one dtype"),
    ),
    "weights-of-two-types": Bad(
        weight("bias", lambda w: w.astype(np.float64)),
        DtypeError,
        (NAME, "bias is float64", "float32", "expected one dtype"),
    ),
    "integer-weights": Bad(_weights_as(np.int64), DtypeError, (NAME, "kernel", "int", _REAL)),
    "state-unlike-x": Bad(
        put(initial_state=(_STATE[0].astype(np.float64), _STATE[1])),
        DtypeError,
        (NAME, "initial_state h is float64", "float32", "expected one dtype"),
    ),
    "integer-state": Bad(
        put(initial_state=(_STATE[0], _STATE[1].astype(np.int64))),
        DtypeError,
        (NAME, "initial_state c", "int", "expected"),
    ),
}

MASKS: Mapping[str, Bad] = {
    "mask-of-another-shape": Bad(
        put(mask=zeros(BATCH, TIME + 1, dtype=bool)),
        MaskError,
        (NAME, "mask", "(3, 6)", "(3, 5)"),
    ),
    "mask-time-first": Bad(
        put(mask=zeros(TIME, BATCH, dtype=bool)), MaskError, (NAME, "mask", "(5, 3)", "(3, 5)")
    ),
    "mask-that-would-broadcast": Bad(
        put(mask=zeros(1, TIME, dtype=bool)), MaskError, (NAME, "mask", "(1, 5)", "(3, 5)")
    ),
    "mask-with-one-axis-more": Bad(
        put(mask=zeros(BATCH, TIME, 1, dtype=bool)), MaskError, (NAME, "(3, 5, 1)", "(3, 5)")
    ),
    "integer-mask": Bad(
        put(mask=np.ones((BATCH, TIME), np.int64)),
        MaskError,
        (NAME, "mask", "int", "expected booleans"),
    ),
    "float-mask": Bad(
        put(mask=np.ones((BATCH, TIME), np.float32)),
        MaskError,
        (NAME, "mask", "float32", "expected booleans"),
    ),
    "lengths-of-another-shape": Bad(
        put(lengths=np.array([5, 5])), MaskError, (NAME, "lengths", "(2,)", "(3,)")
    ),
    "lengths-in-a-column": Bad(
        put(lengths=np.array([[5], [5], [5]])), MaskError, (NAME, "lengths", "(3, 1)", "(3,)")
    ),
    "float-lengths": Bad(
        put(lengths=np.array([5.0, 4.0, 3.0])),
        MaskError,
        (NAME, "lengths", "float", "expected integers"),
    ),
    "boolean-lengths": Bad(
        put(lengths=np.array([True, True, False])),
        MaskError,
        (NAME, "lengths", "bool", "expected integers"),
    ),
    "length-above-time": Bad(
        put(lengths=np.array([5, 6, 1])), MaskError, (NAME, "lengths", "6", "0 to 5")
    ),
    "negative-length": Bad(
        put(lengths=np.array([5, -1, 1])), MaskError, (NAME, "lengths", "-1", "0 to 5")
    ),
    "mask-and-lengths": Bad(
        put(mask=np.ones((BATCH, TIME), np.bool_), lengths=np.array([5, 5, 5])),
        MaskError,
        (NAME, "mask and lengths", "expected one"),
    ),
}

STATES: Mapping[str, Bad] = {
    "one-state-of-two": Bad(
        put(initial_state=_STATE[:1]), StateError, (NAME, "1", "expected 2", "h, c")
    ),
    "three-states-of-two": Bad(
        put(initial_state=(*_STATE, _STATE[0])), StateError, (NAME, "3", "expected 2", "h, c")
    ),
    "no-states": Bad(put(initial_state=()), StateError, (NAME, "0", "expected 2")),
    "bare-array-for-two": Bad(
        put(initial_state=_STATE[0]), StateError, (NAME, "1", "expected 2", "h, c")
    ),
    "states-in-one-array": Bad(
        put(initial_state=np.stack(_STATE)), StateError, (NAME, "1", "expected 2")
    ),
    "state-of-another-batch": Bad(
        put(initial_state=(_STATE[0][:2], _STATE[1])), StateError, (NAME, "h", "(2, 2)", "(3, 2)")
    ),
    "state-of-other-units": Bad(
        put(initial_state=(_STATE[0], zeros(BATCH, 3))), StateError, (NAME, "c", "(3, 3)", "(3, 2)")
    ),
    "state-that-would-broadcast": Bad(
        put(initial_state=(zeros(1, UNITS), _STATE[1])), StateError, (NAME, "h", "(1, 2)", "(3, 2)")
    ),
    "state-of-none": Bad(
        put(initial_state=(_STATE[0], None)), StateError, (NAME, "c", "None", "expected")
    ),
    "states-of-one-direction": Bad(
        put(initial_state=_STATE[:1]),
        StateError,
        ("Bidirectional", "1", "expected 2", "forward_h, backward_h"),
        BOTH_WAYS,
    ),
    "states-of-one-member": Bad(
        put(initial_state=_STATE),
        StateError,
        ("Stack", "2", "expected 3", "layers_0_h, layers_0_c, layers_1_h"),
        STACK,
    ),
}

WEIGHTS: Mapping[str, Bad] = {
    "missing": Bad(
        without("recurrent_kernel"),
        WeightsError,
        (NAME, "missing recurrent_kernel", "expected kernel"),
    ),
    "extra": Bad(
        weight("scale", lambda _: zeros(2)), WeightsError, (NAME, "scale", "expected kernel")
    ),
    "bias-without-use-bias": Bad(
        weight("bias", lambda _: zeros(4 * UNITS)),
        WeightsError,
        (NAME, "bias", "expected kernel"),
        LAYER.replace(use_bias=False),
    ),
    "recurrent-bias-reset-before": Bad(
        weight("recurrent_bias", lambda _: zeros(6)),
        WeightsError,
        ("GRU(units=2)", "recurrent_bias", "expected kernel"),
        GRU(2, reset_after=False),
    ),
    "kernel-of-fewer-columns": Bad(
        weight("kernel", lambda w: w[:, :-1]), WeightsError, (NAME, "kernel", "(4, 7)", "(4, 8)")
    ),
    "transposed-kernel": Bad(
        weight("kernel", lambda w: w.T.copy()), WeightsError, (NAME, "kernel", "(8, 4)", "8)")
    ),
    "transposed-recurrent-kernel": Bad(
        weight("recurrent_kernel", lambda w: w.T.copy()),
        WeightsError,
        (NAME, "recurrent_kernel", "(8, 2)", "(2, 8)"),
    ),
    "bias-in-a-row": Bad(
        weight("bias", lambda w: w[None]), WeightsError, (NAME, "bias", "(1, 8)", "(8,)")
    ),
    "no-mapping": Bad(
        put(weights=[zeros(4, 8)]), WeightsError, (NAME, "weights", "list", "expected")
    ),
    "no-array": Bad(weight("bias", lambda _: None), WeightsError, (NAME, "bias", "NoneType")),
    "without-prefix": Bad(
        lambda call: call.update(
            weights={n.rpartition(".")[2]: v for n, v in call["weights"].items()}
        ),
        WeightsError,
        ("Bidirectional", "forward.kernel", "expected"),
        BOTH_WAYS,
    ),
    "of-a-member": Bad(
        weight("backward.kernel", lambda w: w[:2]),
        WeightsError,
        ("Bidirectional", "backward.kernel", "(2, 6)", "(4, 6)"),
        BOTH_WAYS,
    ),
    "of-a-second-member": Bad(
        weight("layers.1.kernel", lambda w: w[:1]),
        WeightsError,
        ("Stack", "layers.1.kernel", "(1, 9)", "(2, 9)"),
        STACK,
    ),
}

OPTIONS: Mapping[str, Bad] = {
    "unknown": Bad(put(speed="high"), ArgumentError, ("speed", "expected")),
    "misspelt": Bad(
        put(matmul_precison="tf32"), ArgumentError, ("matmul_precison", "matmul_precision")
    ),
    "unknown-precision": Bad(
        put(matmul_precision="fp16"),
        ArgumentError,
        ("matmul_precision", "fp16", "highest, tf32, bfloat16"),
    ),
    "precision-that-is-no-text": Bad(
        put(matmul_precision=1), ArgumentError, ("matmul_precision", "1", "expected")
    ),
    "unknown-implementation": Bad(
        put(implementation="no-such-thing"), ArgumentError, ("no-such-thing", "expected")
    ),
    "of-another-library": Bad(put(training=True), ArgumentError, ("training", "leave it out")),
    "stateful": Bad(put(stateful=True), ArgumentError, ("stateful", "initial_state")),
    "of-the-layer": Bad(put(return_sequences=True), ArgumentError, ("return_sequences", "layer")),
}

TABLES: Mapping[str, Mapping[str, Bad]] = {
    "shapes": SHAPES,
    "data-types": DTYPES,
    "masks": MASKS,
    "states": STATES,
    "weights": WEIGHTS,
    "options": OPTIONS,
}


def correct_case(layer: AnyLayer) -> ValueCase:
    """Return the correct call behind the wrong ones."""
    return ValueCase(id="errors/correct", clauses=(), layer=layer, gradients=False)


def correct(subject: Subject, layer: AnyLayer) -> Call:
    """Return the arguments of a correct call."""
    given = arguments(correct_case(layer), subject.seed)
    return {"weights": given.weights, "x": given.x}


def spoilt(subject: Subject, bad: Bad) -> Call:
    """Return a wrong call."""
    call = correct(subject, bad.layer)
    bad.change(call)
    return call


def methods(subject: Subject) -> tuple[str, ...]:
    """Return the kinds of call that the backend has."""
    others = {"vjp": "gradients", "gates": "gates"}
    return ("apply", *(name for name, feature in others.items() if subject.supports(feature)))


def _raises(subject: Subject, bad: Bad, call: Call, how: str, *words: str) -> None:
    for method in methods(subject):
        with require_error(bad.error, f"{bad.layer}: {method} {how}", *words):
            getattr(subject, method)(bad.layer, **call)


def raises(subject: Subject, bad: Bad) -> None:
    """Every kind of call raises the error."""
    _raises(subject, bad, spoilt(subject, bad), "of a wrong call")


@law("ERR-4", tier="smoke", needs=("float32",), over={**SHAPES, **DTYPES})
def wrong_shapes_and_data_types(subject: Subject, bad: Bad) -> None:
    """A wrong shape raises `ShapeError`, a wrong data type `DtypeError`."""
    raises(subject, bad)


@law("ERR-4", needs=("float32", "gradients"))
def wrong_cotangents(subject: Subject) -> None:
    """A cotangent of another shape or data type raises, and says what its output is."""
    call = correct(subject, LAYER)
    (y, h, c), pullback = subject.vjp(LAYER, **call)
    rows: tuple[tuple[Any, type[Exception], tuple[str, ...]], ...] = (
        ((y[:2], h, c), ShapeError, ("(2, 5, 2)", "(3, 5, 2)")),
        ((y, h, c[:, :1]), ShapeError, ("(3, 1)", "(3, 2)")),
        ((y, h), ShapeError, ("2", "3")),
        (y, ShapeError, ("1", "3")),
        ((y.astype(np.float64), h, c), DtypeError, ("float64", "float32")),
        ((y, h.astype(np.int64), c), DtypeError, ("int64", "float32")),
        ((y, h, c > 0), DtypeError, ("bool", "float32")),
    )
    for wrong, error, words in rows:
        with require_error(error, f"{LAYER}: pullback of wrong cotangents", NAME, *words):
            pullback(wrong)


@law("ERR-5", tier="smoke", needs=("float32", "masks"), over=MASKS)
def wrong_masks(subject: Subject, bad: Bad) -> None:
    """A wrong mask or wrong lengths raise `MaskError`."""
    raises(subject, bad)


@law("ERR-6", tier="smoke", needs=("float32",), over=STATES)
def wrong_states(subject: Subject, bad: Bad) -> None:
    """A wrong initial state raises `StateError`."""
    raises(subject, bad)


@law("ERR-7", tier="smoke", needs=("float32",), over=WEIGHTS)
def wrong_weights(subject: Subject, bad: Bad) -> None:
    """A wrong weight raises `WeightsError`, which names it."""
    name = next(word for word in bad.words[1:] if not word.startswith("expected"))
    _raises(subject, bad, spoilt(subject, bad), "of wrong weights", name)


@law("ERR-7", needs=("float32",), over=WEIGHTS)
def wrong_weights_are_not_bound(subject: Subject, bad: Bad) -> None:
    """Binding wrong weights raises `WeightsError`."""
    with require_error(bad.error, f"{bad.layer}: bind of wrong weights"):
        subject.bind(bad.layer, spoilt(subject, bad)["weights"])


@law("ERR-8", tier="smoke", needs=("float32",), over=OPTIONS)
def wrong_options(subject: Subject, bad: Bad) -> None:
    """An unknown option or a wrong value raises `ArgumentError` in every kind of call."""
    raises(subject, bad)
    call = spoilt(subject, bad)
    weights, x = call.pop("weights"), call.pop("x")
    with require_error(bad.error, f"{bad.layer}: bind with a wrong option"):
        subject.bind(bad.layer, weights, **call)
    with require_error(bad.error, f"{bad.layer}: explain with a wrong option"):
        bad.layer.explain(backend=subject.name, **call)
    with require_error(bad.error, f"{bad.layer}: a call over no step with a wrong option"):
        subject.apply(bad.layer, weights, x[:, :0], **call)


@law("ERR-8", needs=("float32",))
def wrong_values_of_the_backends_own_options(subject: Subject) -> None:
    """Each option that the backend declares refuses what is not among its values."""
    call = correct(subject, LAYER)
    wrong = {"str": 1, "int": "one", "bool": "yes"}
    for name, option in registry.spec(subject.name).options.items():
        values: list[Any] = [wrong[option.type]]
        if option.choices or name == "device":
            values.append("no-such-value")
        for value in values:
            what = f"{LAYER}: apply with {name}={value!r}"
            with require_error(ArgumentError, what, name, str(value)):
                subject.apply(LAYER, **call, **{name: value})


@law("ERR-8", needs=("float32",))
def a_bound_layer_takes_no_options(subject: Subject) -> None:
    """Options were settled by `bind`: in a call of the bound layer each is an `ArgumentError`."""
    call = correct(subject, LAYER)
    bound = subject.bind(LAYER, call["weights"])
    for name, value in {"matmul_precision": "highest", "training": True, "speed": 1}.items():
        with require_error(ArgumentError, f"{LAYER}: a bound call with {name}", name):
            bound(call["x"], **{name: value})


@law(
    "ERR-8",
    needs=("float32",),
    over={"tf32": ("tf32", "tf32"), "bfloat16": ("bfloat16_products", "bfloat16")},
)
def a_precision_is_not_ignored(subject: Subject, choice: tuple[str, str]) -> None:
    """A lower precision changes the result or raises; nothing is accepted and ignored."""
    feature, precision = choice
    call = correct(subject, LAYER)
    if not subject.supports(feature):
        with require_error(UnsupportedFeature, f"{LAYER}: {precision}", subject.name, feature):
            subject.apply(LAYER, **call, matmul_precision=precision)
        return
    plain = flat(subject.apply(LAYER, **call))
    other = flat(subject.apply(LAYER, **call, matmul_precision=precision))
    require(
        not np.array_equal(plain[0], other[0]),
        f"{LAYER}: matmul_precision={precision!r}: expected factors rounded, received the bits of "
        "'highest'",
    )


@law("ERR-8", needs=("float32",))
def an_implementation_asked_for_is_the_one(subject: Subject) -> None:
    """`implementation=` gives a plan of that one alone, or raises."""
    for implementation in subject.backend.implementations:
        name = implementation.name
        try:
            plan = LAYER.explain(backend=subject.name, implementation=name)
        except PlanError:
            continue
        require(
            plan.implementations() == (name,),
            f"{LAYER}: implementation={name!r}: expected a plan of it alone, received "
            f"{', '.join(plan.implementations())}",
        )


# ERR-1: what messages say.


@law("ERR-1", needs=("float32", "masks"), over=TABLES)
def messages_name_what_is_wrong(subject: Subject, table: Mapping[str, Bad]) -> None:
    """A message names the subject, what was received and what was expected."""
    for name, bad in table.items():
        _raises(subject, bad, spoilt(subject, bad), name, *bad.words)


@law("ERR-1", tier="smoke", needs=("float32",))
def the_message_of_the_clause(subject: Subject) -> None:
    """The example of the clause names layer, weight, both shapes and what the axes are."""
    layer = LSTM(3)
    weights = arguments(native_case("message", layer, features=5), subject.seed).weights
    weights["kernel"] = weights["kernel"][:, :9]
    words = ("LSTM(units=3)", "kernel", "(5, 9)", "(5, 12)", "(features, 4*units)")
    with require_error(WeightsError, str(layer), *words):
        subject.apply(layer, weights, np.zeros((1, 1, 5), np.float32))


@law("ERR-1", needs=("native_autodiff", "float32", "masks"), over=TABLES)
def errors_of_native_arrays_are_the_same(subject: Subject, table: Mapping[str, Bad]) -> None:
    """Native arrays in a wrong call raise the class that NumPy arrays raise."""
    for name, bad in table.items():
        call = _native(subject, spoilt(subject, bad))
        _raises(subject, bad, call, f"of native arrays, {name}", *bad.words[:1])


def _native(subject: Subject, value: Any) -> Any:
    """Return a call with native arrays in the place of those NumPy arrays that can be."""
    if isinstance(value, dict):
        return {name: _native(subject, part) for name, part in value.items()}
    if isinstance(value, tuple):
        return tuple(_native(subject, part) for part in value)
    if type(value) is np.ndarray and value.dtype.kind in "biuf":
        return transforms(subject).array(value)
    return value


# ERR-2: before any work, and nothing is changed.


@law("ERR-2", needs=("float32", "masks"), over=TABLES)
def errors_come_before_any_work(subject: Subject, table: Mapping[str, Bad]) -> None:
    """No implementation is reached before the error."""
    for name, bad in table.items():
        if bad.change is OPTIONS["unknown-implementation"].change:
            continue  # which is found among those of the backend
        with no_work(subject):
            _raises(subject, bad, spoilt(subject, bad), name)


@law("ERR-2", needs=("float32", "masks"), over=TABLES)
def nothing_is_changed_by_an_error(subject: Subject, table: Mapping[str, Bad]) -> None:
    """After an error arguments are as before, and a correct call gives the same bits."""
    layers = tuple(dict.fromkeys(bad.layer for bad in table.values()))
    before = [_results(subject, layer) for layer in layers]
    for name, bad in table.items():
        call = spoilt(subject, bad)
        kept = _snapshot(call)
        _raises(subject, bad, call, name)
        same = kept == _snapshot(call)
        require(
            same, f"{bad.layer}: {name}: expected arguments as they were, received changed ones"
        )
    for layer, results in zip(layers, before, strict=True):
        what = f"{layer}: a correct call after errors"
        for found, expected in zip(_results(subject, layer), results, strict=True):
            require_bits(found, expected, what)
        require_verdict(verdict_of(correct_case(layer), subject), what, "outputs")


@law("ERR-2", needs=("float32", "gradients"))
def nothing_is_changed_by_a_wrong_cotangent(subject: Subject) -> None:
    """After a wrong cotangent the pullback gives what it gives."""
    (y, h, c), pullback = subject.vjp(LAYER, **correct(subject, LAYER))
    before = list(leaves(tuple(pullback((y, h, c)))))
    for wrong in ((y[:2], h, c), (y, h), (y, h, c.astype(np.float64))):
        with require_error(Exception, f"{LAYER}: pullback of a wrong cotangent"):
            pullback(structured(wrong))
    for found, expected in zip(leaves(tuple(pullback((y, h, c)))), before, strict=True):
        require_bits(found, expected, f"{LAYER}: the pullback after an error")


def _results(subject: Subject, layer: AnyLayer) -> tuple[Any, ...]:
    return flat(subject.apply(layer, **correct(subject, layer)))


def _snapshot(value: Any) -> Any:
    """Return a call's arrays, bit for bit, in a form that compares."""
    if isinstance(value, dict):
        return {name: _snapshot(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [_snapshot(part) for part in value]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return value.shape, value.dtype.name, value.tobytes()
    return repr(value)


# ERR-3: descriptions.

DESCRIPTIONS: Mapping[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "no-units": (lambda: LSTM(0), ("units", "0")),
    "negative-units": (lambda: GRU(-2), ("units", "-2")),
    "units-of-text": (lambda: GRU("3"), ("units", "3")),  # type: ignore[arg-type]
    "units-of-a-fraction": (lambda: GRU(2.5), ("units", "2.5")),  # type: ignore[arg-type]
    "units-of-a-boolean": (lambda: SimpleRNN(True), ("units", "True")),
    "activation": (lambda: LSTM(2, activation="tahn"), ("activation", "tahn", "tanh")),
    "recurrent-activation": (
        lambda: GRU(2, recurrent_activation="softsign"),
        ("recurrent_activation", "softsign"),
    ),
    "initializer": (
        lambda: LSTM(2, kernel_initializer="glorot"),
        ("kernel_initializer", "glorot"),
    ),
    "orthogonal-bias": (
        lambda: LSTM(2, bias_initializer="orthogonal"),
        ("bias_initializer", "orthogonal"),
    ),
    "merge-mode": (lambda: Bidirectional(LSTM(2), merge_mode="max"), ("merge_mode", "max")),
    "mask-output": (lambda: LSTM(2, mask_output="nan"), ("mask_output", "nan")),
    "flag-of-text": (
        lambda: LSTM(2, return_state="yes"),  # type: ignore[arg-type]
        ("return_state", "yes"),
    ),
    "unknown-argument": (lambda: _made(LSTM, 2, colour="red"), ("LSTM", "colour")),
    "stateful": (lambda: _made(LSTM, 2, stateful=True), ("LSTM", "stateful", "initial_state")),
    "unroll": (lambda: _made(GRU, 2, unroll=True), ("GRU", "unroll", "leave it out")),
    "dropout": (lambda: _made(LSTM, 2, dropout=0.5), ("LSTM", "dropout", "yourself")),
    "keep-order-alone": (lambda: LSTM(2, keep_order=True), ("keep_order", "go_backwards")),
    "member-both-ways": (lambda: Bidirectional(Bidirectional(LSTM(2))), ("Bidirectional",)),  # type: ignore[arg-type]
    "member-backwards": (lambda: Bidirectional(LSTM(2, go_backwards=True)), ("go_backwards",)),
    "members-with-other-flags": (
        lambda: Bidirectional(LSTM(2, return_sequences=True), backward_layer=LSTM(2)),
        ("return_sequences",),
    ),
    "merge-of-other-units": (
        lambda: Bidirectional(LSTM(2), backward_layer=LSTM(3), merge_mode="sum"),
        ("sum", "2", "3"),
    ),
    "empty-stack": (lambda: Stack(()), ("Stack",)),
    "inner-member-without-sequences": (lambda: Stack((LSTM(2), GRU(2))), ("return_sequences",)),
    "inner-member-unmerged": (
        lambda: Stack((Bidirectional(LSTM(2, return_sequences=True), merge_mode="none"), GRU(2))),
        ("merge_mode", "none"),
    ),
    "member-with-state": (lambda: Stack((LSTM(2, return_state=True),)), ("return_state",)),
    "last-member-with-sequences": (
        lambda: Stack((LSTM(2, return_sequences=True),)),
        ("return_sequences",),
    ),
    "stack-in-a-stack": (lambda: Stack((Stack((LSTM(2),)),)), ("Stack",)),  # type: ignore[arg-type]
    "init-of-no-features": (lambda: LSTM(2).init(0), ("features", "0")),
    "init-of-a-fraction": (lambda: LSTM(2).init(2.5), ("features", "2.5")),  # type: ignore[arg-type]
    "negative-seed": (lambda: LSTM(2).init(4, seed=-1), ("seed", "-1")),
    "large-seed": (lambda: LSTM(2).init(4, seed=2**64), ("seed", str(2**64))),
}


def _made(kind: Any, *arguments: Any, **others: Any) -> Any:
    return kind(*arguments, **others)


@law("ERR-3", arrays=False, tier="smoke", over=DESCRIPTIONS)
def descriptions_that_cannot_be(
    subject: Subject, row: tuple[Callable[[], Any], tuple[str, ...]]
) -> None:
    """A layer that cannot be raises `SpecError` when it is made, and names what is wrong."""
    make, words = row
    with require_error(SpecError, "a layer that cannot be", *words):
        make()
