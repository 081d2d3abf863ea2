"""Calls that are errors: the class, what the message says, and that nothing has happened.

Each row of the table is one wrong call. Its message names the subject, what was received and what
was expected; the words of the row are looked for in it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import BATCH, FEATURES, TIME, UNITS, random_state, random_weights

LAYER = sc.LSTM(UNITS, return_sequences=True, return_state=True)
BOTH_WAYS = sc.Bidirectional(sc.GRU(UNITS, return_sequences=True))
STACK = sc.Stack([sc.LSTM(UNITS, return_sequences=True), sc.GRU(3)])
NAME = f"LSTM(units={UNITS})"


def arguments(layer: Any = LAYER) -> dict[str, Any]:
    """A correct call."""
    rng = np.random.default_rng(0)
    return {
        "weights": random_weights(layer, rng, "float32"),
        "x": rng.normal(size=(BATCH, TIME, FEATURES)).astype(np.float32),
    }


@dataclass(frozen=True)
class Bad:
    """How a correct call is spoilt, and what then is said."""

    id: str
    change: Callable[[dict[str, Any]], object]
    error: type[Exception]
    words: tuple[str, ...]
    layer: Any = LAYER


def put(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda call: call.update(values)


def weight(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda call: call["weights"].update({name: change(call["weights"].get(name))})


def drop(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda call: call["weights"].pop(name)


def x_as(change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], object]:
    return lambda call: call.update(x=change(call["x"]))


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


STATE = (zeros(BATCH, UNITS), zeros(BATCH, UNITS))
RAGGED = [[[1.0] * FEATURES] * 2, [[1.0] * FEATURES] * 3]

SHAPES = [
    Bad("x of rank 2", x_as(lambda x: x[0]), sc.ShapeError,
        (NAME, "x has shape (5, 4)", "expected (batch, time, features)", "x[None]")),
    Bad("x of rank 4", x_as(lambda x: x[None]), sc.ShapeError,
        (NAME, "(1, 3, 5, 4)", "expected (batch, time, features)")),
    Bad("x of rank 0", put(x=np.float32(1.0) * np.ones((), np.float32)), sc.DtypeError, (NAME,)),
    Bad("x of rank 1", x_as(lambda x: x[0, 0]), sc.ShapeError, (NAME, "(4,)")),
    Bad("features that do not fit", x_as(lambda x: x[..., :3]), sc.ShapeError,
        (NAME, "x has 3 features", "expected 4")),
    Bad("no features", x_as(lambda x: x[..., :0]), sc.ShapeError,
        (NAME, "x has shape (3, 5, 0)", "expected")),
    Bad("a ragged sequence", put(x=RAGGED), sc.ShapeError,
        (NAME, "x", "different lengths", "pad")),
    Bad("an empty list", put(x=[]), sc.ShapeError, (NAME, "x has shape (0,)")),
]  # fmt: skip

DTYPES = [
    Bad("x of integers", x_as(lambda x: x.astype(np.int64)), sc.DtypeError,
        (NAME, "x is int64", "expected one of float64, float32, float16, bfloat16")),
    Bad("x of booleans", x_as(lambda x: x > 0), sc.DtypeError, (NAME, "x is bool", "expected")),
    Bad("x of complex numbers", x_as(lambda x: x.astype(np.complex64)), sc.DtypeError,
        (NAME, "x is complex64", "expected")),
    Bad("x of objects", x_as(lambda x: x.astype(object)), sc.DtypeError,
        (NAME, "x is object", "expected")),
    Bad("x of text", x_as(lambda x: x.astype(str)), sc.DtypeError, (NAME, "x is str", "expected")),
    Bad("x of long doubles", x_as(lambda x: x.astype(np.longdouble)), sc.DtypeError,
        (NAME, "expected")),
    Bad("x is None", put(x=None), sc.DtypeError, (NAME, "x is NoneType", "expected")),
    Bad("x is a text", put(x="input.npy"), sc.DtypeError, (NAME, "x is str", "expected")),
    Bad("a sequence of texts", put(x=[[["a"] * FEATURES]]), sc.DtypeError, (NAME, "x", "expected")),
    Bad("a sequence of booleans", put(x=[[[True] * FEATURES]]), sc.DtypeError,
        (NAME, "x", "bool", "expected")),
    Bad("a sequence with None", put(x=[[[None] * FEATURES]]), sc.DtypeError, (NAME, "x")),
    Bad("a sequence of complex numbers", put(x=[[[1j] * FEATURES]]), sc.DtypeError, (NAME, "x")),
    Bad("a masked array", x_as(np.ma.masked_invalid), sc.DtypeError,
        (NAME, "MaskedArray", "expected")),
    Bad("x of another dtype than the weights", x_as(lambda x: x.astype(np.float64)),
        sc.DtypeError, (NAME, "x is float64", "weights are float32", "expected one dtype")),
    Bad("weights of two dtypes", weight("bias", lambda w: w.astype(np.float64)), sc.DtypeError,
        (NAME, "bias is float64", "kernel is float32", "expected one dtype")),
    Bad("weights of integers",
        lambda call: call.update(
            weights={n: w.astype(int) for n, w in call["weights"].items()}
        ), sc.DtypeError, (NAME, "kernel is int64", "expected one of float64")),
    Bad("a state of another dtype",
        put(initial_state=(STATE[0].astype(np.float64), STATE[1])), sc.DtypeError,
        (NAME, "initial_state h is float64", "x is float32", "expected one dtype")),
    Bad("a state of integers", put(initial_state=(STATE[0].astype(int), STATE[1])),
        sc.DtypeError, (NAME, "initial_state h is int64", "expected")),
]  # fmt: skip

MASKS = [
    Bad("a mask of another shape", put(mask=zeros(BATCH, TIME + 1, dtype=bool)), sc.MaskError,
        (NAME, "mask has shape (3, 6)", "expected (3, 5) = (batch, time)")),
    Bad("a mask with time first", put(mask=zeros(TIME, BATCH, dtype=bool)), sc.MaskError,
        (NAME, "(5, 3)", "expected (3, 5)")),
    Bad("a mask with an axis too many", put(mask=zeros(BATCH, TIME, 1, dtype=bool)),
        sc.MaskError, (NAME, "(3, 5, 1)", "expected (3, 5)")),
    Bad("a mask that would broadcast", put(mask=zeros(1, TIME, dtype=bool)), sc.MaskError,
        (NAME, "(1, 5)", "expected (3, 5)")),
    Bad("a mask of integers", put(mask=zeros(BATCH, TIME, dtype=int)), sc.MaskError,
        (NAME, "mask is int64", "expected booleans")),
    Bad("a mask of numbers", put(mask=zeros(BATCH, TIME)), sc.MaskError,
        (NAME, "mask is float32", "expected booleans")),
    Bad("a ragged mask", put(mask=[[True] * 5, [True] * 4, [True]]), sc.MaskError,
        (NAME, "mask", "different lengths")),
    Bad("a mask that is no array", put(mask=True), sc.MaskError,
        (NAME, "mask is bool", "expected booleans")),
    Bad("lengths of another shape", put(lengths=np.array([5, 5])), sc.MaskError,
        (NAME, "lengths has shape (2,)", "expected (3,) = (batch,)")),
    Bad("lengths in a column", put(lengths=np.array([[5], [5], [5]])), sc.MaskError,
        (NAME, "(3, 1)", "expected (3,)")),
    Bad("lengths of floats", put(lengths=np.array([5.0, 4.0, 3.0])), sc.MaskError,
        (NAME, "lengths is float64", "expected integers")),
    Bad("lengths of booleans", put(lengths=np.array([True, True, False])), sc.MaskError,
        (NAME, "lengths is bool", "expected integers")),
    Bad("one length", put(lengths=5), sc.MaskError, (NAME, "lengths is int", "expected")),
    Bad("a length above the time", put(lengths=[5, 6, 1]), sc.MaskError,
        (NAME, "lengths go from 1 to 6", "expected 0 to 5")),
    Bad("a negative length", put(lengths=[5, -1, 1]), sc.MaskError,
        (NAME, "-1", "expected 0 to 5")),
    Bad("mask and lengths", put(mask=zeros(BATCH, TIME, dtype=bool), lengths=[1, 1, 1]),
        sc.MaskError, (NAME, "received mask and lengths", "expected one of them")),
]  # fmt: skip

STATES = [
    Bad("one state of two", put(initial_state=STATE[:1]), sc.StateError,
        (NAME, "initial_state has 1 array", "expected 2: (h, c)")),
    Bad("three states of two", put(initial_state=(*STATE, STATE[0])), sc.StateError,
        (NAME, "initial_state has 3 arrays", "expected 2: (h, c)")),
    Bad("a bare array for two states", put(initial_state=STATE[0]), sc.StateError,
        (NAME, "expected 2: (h, c)")),
    Bad("no states", put(initial_state=()), sc.StateError, (NAME, "0 arrays", "expected 2")),
    Bad("a state of another batch", put(initial_state=(STATE[0][:2], STATE[1])), sc.StateError,
        (NAME, "initial_state h has shape (2, 2)", "expected (3, 2) = (batch, units)")),
    Bad("a state of other units", put(initial_state=(STATE[0], zeros(BATCH, 3))), sc.StateError,
        (NAME, "initial_state c has shape (3, 3)", "expected (3, 2)")),
    Bad("a state that would broadcast", put(initial_state=(zeros(1, UNITS), STATE[1])),
        sc.StateError, (NAME, "(1, 2)", "expected (3, 2)")),
    Bad("a state of None", put(initial_state=(STATE[0], None)), sc.StateError,
        (NAME, "initial_state c is None", "expected an array")),
    Bad("states in one array", put(initial_state=np.stack(STATE)), sc.StateError,
        (NAME, "expected 2")),
    Bad("states of one direction", put(initial_state=STATE[:1]), sc.StateError,
        ("Bidirectional(GRU(units=2)", "1 array", "expected 2: (forward_h, backward_h)"),
        BOTH_WAYS),
    Bad("states of one member", put(initial_state=STATE), sc.StateError,
        ("Stack(", "2 arrays", "expected 3: (layers_0_h, layers_0_c, layers_1_h)"), STACK),
    Bad("a list of numbers for a single state", put(initial_state=[[0.0, 0.0]] * BATCH),
        sc.StateError, ("GRU(units=2)", "3 arrays", "expected 1: (h,)"), sc.GRU(2)),
]  # fmt: skip

WEIGHTS = [
    Bad("a missing weight", drop("recurrent_kernel"), sc.WeightsError,
        (NAME, "missing recurrent_kernel", "expected kernel, recurrent_kernel, bias")),
    Bad("an extra weight", weight("scale", lambda _: zeros(2)), sc.WeightsError,
        (NAME, "unknown scale", "expected kernel")),
    Bad("a misspelt weight",
        lambda call: call["weights"].update(kernal=call["weights"].pop("kernel")),
        sc.WeightsError, (NAME, "missing kernel", "unknown kernal", "did you mean 'kernel'")),
    Bad("bias where there is none", weight("bias", lambda _: zeros(8)), sc.WeightsError,
        ("GRU(units=2)", "unknown bias"), sc.GRU(2, use_bias=False)),
    Bad("recurrent bias where there is none", weight("recurrent_bias", lambda _: zeros(6)),
        sc.WeightsError, ("GRU(units=2)", "unknown recurrent_bias"),
        sc.GRU(2, reset_after=False)),
    Bad("a kernel of too few columns", weight("kernel", lambda w: w[:, :-1]), sc.WeightsError,
        (NAME, "kernel has shape (4, 7)", "expected (4, 8) = (features, 4*units)")),
    Bad("a transposed kernel", weight("kernel", lambda w: w.T), sc.WeightsError,
        (NAME, "kernel has shape (8, 4)", "expected (8, 8) = (features, 4*units)")),
    Bad("a kernel of rank 3", weight("kernel", lambda w: w[None]), sc.WeightsError,
        (NAME, "kernel has shape (1, 4, 8)", "expected")),
    Bad("a kernel without rows", weight("kernel", lambda w: w[:0]), sc.WeightsError,
        (NAME, "kernel has shape (0, 8)", "expected")),
    Bad("a transposed recurrent kernel", weight("recurrent_kernel", lambda w: w.T),
        sc.WeightsError,
        (NAME, "recurrent_kernel has shape (8, 2)", "expected (2, 8) = (units, 4*units)")),
    Bad("a bias of two rows", weight("bias", lambda w: np.stack([w, w])), sc.WeightsError,
        (NAME, "bias has shape (2, 8)", "expected (8,) = (4*units,)")),
    Bad("weights in a list", put(weights=[zeros(4, 8)]), sc.WeightsError,
        (NAME, "weights is list", "expected a mapping")),
    Bad("no weights", put(weights=None), sc.WeightsError, (NAME, "NoneType", "expected")),
    Bad("a weight of None", weight("bias", lambda _: None), sc.WeightsError,
        (NAME, "bias is NoneType", "expected an array")),
    Bad("weights without prefix", put(weights=random_weights(sc.GRU(2), np.random.default_rng(0))),
        sc.WeightsError, ("Bidirectional", "missing forward.kernel"), BOTH_WAYS),
    Bad("a member's weight misshapen", weight("backward.kernel", lambda w: w[:2]),
        sc.WeightsError,
        ("Bidirectional", "backward.kernel has shape (2, 6)", "expected (4, 6)"), BOTH_WAYS),
    Bad("a second member's weight misshapen", weight("layers.1.kernel", lambda w: w[:1]),
        sc.WeightsError, ("Stack", "layers.1.kernel has shape (1, 9)", "expected (2, 9)"), STACK),
]  # fmt: skip

OPTIONS = [
    Bad("an unknown option", put(speed="high"), sc.ArgumentError,
        ("numpy", "'speed' is not taken", "expected one of")),
    Bad("a misspelt option", put(matmul_precison="tf32"), sc.ArgumentError,
        ("numpy", "'matmul_precison' is not taken", "did you mean 'matmul_precision'")),
    Bad("an unknown precision", put(matmul_precision="fp16"), sc.ArgumentError,
        ("matmul_precision", "'fp16'", "expected one of highest, tf32, bfloat16")),
    Bad("a precision that is no text", put(matmul_precision=1), sc.ArgumentError,
        ("matmul_precision", "1", "expected")),
    Bad("an unknown implementation", put(implementation="genric"), sc.ArgumentError,
        ("'genric'", "did you mean 'generic'", "expected one of")),
    Bad("an argument of other libraries", put(training=True), sc.ArgumentError,
        ("'training' is not taken", "leave it out")),
    Bad("a stateful call", put(stateful=True), sc.ArgumentError,
        ("'stateful' is not taken", "initial_state")),
    Bad("a backend that is no name", put(backend=3), sc.ArgumentError,
        ("backend", "int", "expected")),
    Bad("a backend that is not there", put(backend="nunpy"), sc.BackendNotFound,
        ("'nunpy'", "did you mean 'numpy'", "expected one of")),
    Bad("tf32 in float64",
        lambda call: call.update(
            weights={n: w.astype(np.float64) for n, w in call["weights"].items()},
            x=call["x"].astype(np.float64),
            matmul_precision="tf32",
        ), sc.UnsupportedFeature, (NAME, "'tf32'", "float64", "expected float32")),
]  # fmt: skip


def spoilt(bad: Bad) -> dict[str, Any]:
    call = arguments(bad.layer)
    bad.change(call)
    return call


def snapshot(call: Any) -> Any:
    """The arrays of a call, bit for bit."""
    if isinstance(call, dict):
        return {name: snapshot(value) for name, value in call.items()}
    if isinstance(call, tuple | list):
        return [snapshot(value) for value in call]
    if isinstance(call, np.ndarray) and call.dtype != object:
        return call.shape, str(call.dtype), call.tobytes()
    return repr(call)


def check(bad: Bad, method: str) -> None:
    """The call raises as it says, changes nothing, and a correct call succeeds afterwards."""
    call = spoilt(bad)
    before = snapshot(call)
    with pytest.raises(sc.SeqcoreError) as caught:
        getattr(bad.layer, method)(**call)
    assert type(caught.value) is bad.error, caught.value
    message = str(caught.value)
    assert [word for word in bad.words if word not in message] == [], message
    assert snapshot(call) == before
    good = arguments(bad.layer)
    bad.layer.apply(**good)


def table(rows: list[Bad]) -> Any:
    methods = ("apply", "vjp", "gates")
    return pytest.mark.parametrize(
        ("bad", "method"),
        [pytest.param(bad, method, id=f"{bad.id}-{method}") for bad in rows for method in methods],
    )


@pytest.mark.clause("ERR-4")
@pytest.mark.clause("ERR-1")
@table(SHAPES)
def test_wrong_shapes(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-4")
@pytest.mark.clause("DTYPE-3")
@table(DTYPES)
def test_wrong_data_types(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-5")
@table(MASKS)
def test_wrong_masks(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-6")
@table(STATES)
def test_wrong_states(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-7")
@table(WEIGHTS)
def test_wrong_weights(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-8")
@table(OPTIONS)
def test_wrong_options(bad: Bad, method: str) -> None:
    check(bad, method)


@pytest.mark.clause("ERR-8")
@pytest.mark.parametrize(
    "bad", [bad for bad in OPTIONS if "tf32" not in bad.id], ids=lambda b: b.id
)
def test_wrong_options_of_bind_and_explain(bad: Bad) -> None:
    call = spoilt(bad)
    weights = call.pop("weights")
    del call["x"]
    with pytest.raises(bad.error):
        bad.layer.bind(weights, **call)
    with pytest.raises(bad.error):
        bad.layer.explain(**call)


@pytest.mark.clause("ERR-8")
@pytest.mark.parametrize("shape", [(0, TIME, FEATURES), (BATCH, 0, FEATURES)])
def test_wrong_options_over_nothing(shape: tuple[int, ...]) -> None:
    """Nothing is accepted and ignored, also where there is nothing to compute."""
    call = arguments() | {"x": np.zeros(shape, np.float32)}
    for wrong in ({"implementation": "genric"}, {"speed": 1}, {"matmul_precision": "fp16"}):
        with pytest.raises(sc.ArgumentError):
            LAYER.apply(**call, **wrong)


@pytest.mark.clause("ERR-8")
def test_a_bound_layer_takes_no_other_arguments_either() -> None:
    call = arguments()
    bound = LAYER.bind(call["weights"])
    for wrong in ({"training": True}, {"stateful": True}, {"matmul_precision": "tf32"}):
        (name,) = wrong
        for method in (bound, bound.vjp):
            with pytest.raises(sc.ArgumentError, match=f"'{name}' is not taken"):
                method(call["x"], **wrong)


@pytest.mark.parametrize("bad", SHAPES + DTYPES + MASKS + STATES, ids=lambda bad: bad.id)
def test_a_bound_layer_raises_the_same(bad: Bad) -> None:
    call = spoilt(bad)
    weights, x = call.pop("weights"), call.pop("x")
    classes = []
    for run in (
        lambda: bad.layer.apply(weights, x, **call),
        lambda: bad.layer.bind(weights)(x, **call),
        lambda: bad.layer.bind(weights).vjp(x, **call),
    ):
        with pytest.raises(sc.SeqcoreError) as caught:
            run()
        classes.append(type(caught.value))
    assert set(classes) == {bad.error}


@pytest.mark.clause("ERR-4")
@pytest.mark.clause("DTYPE-3")
def test_wrong_cotangents() -> None:
    call = arguments()
    (y, h, c), pullback = LAYER.vjp(**call)
    correct = pullback((y, h, c))
    rows: list[tuple[Any, type[Exception], str]] = [
        (
            (y[:2], h, c),
            sc.ShapeError,
            r"cotangent of y has shape \(2, 5, 2\), expected \(3, 5, 2\)",
        ),
        ((y, h, c[:, :1]), sc.ShapeError, r"cotangent of c has shape \(3, 1\), expected \(3, 2\)"),
        ((y, h), sc.ShapeError, "received 2 cotangents, expected 3"),
        (y, sc.ShapeError, "received 1 cotangents?, expected 3"),
        (
            (y.astype(np.float64), h, c),
            sc.DtypeError,
            "cotangent of y is float64, expected float32",
        ),
        ((y, h.astype(int), c), sc.DtypeError, "cotangent of h is int64, expected float32"),
        ((y, h > 0, c), sc.DtypeError, "cotangent of h is bool, expected float32"),
        ((y, None, c), sc.DtypeError, "cotangent of h is NoneType"),
    ]
    for wrong, error, words in rows:
        with pytest.raises(error, match=words) as caught:
            pullback(wrong)
        assert str(caught.value).startswith(NAME)
        again = pullback((y, h, c))
        np.testing.assert_array_equal(again.x, correct.x)


@pytest.mark.clause("ERR-2")
@pytest.mark.parametrize(
    "bad", SHAPES + DTYPES + MASKS + STATES + WEIGHTS + OPTIONS, ids=lambda bad: bad.id
)
def test_errors_come_before_any_work(bad: Bad, monkeypatch: pytest.MonkeyPatch) -> None:
    """No product is computed, and no argument is changed, before the error."""
    from seqcore_numpy.ops import NumpyOps

    def never(*_: Any) -> None:
        raise AssertionError("work was done")

    call = spoilt(bad)
    kept = copy.deepcopy(call)
    with monkeypatch.context() as patched:
        patched.setattr(NumpyOps, "matmul", never)
        patched.setattr(NumpyOps, "scan", never)
        with pytest.raises(bad.error):
            bad.layer.apply(**call)
    assert snapshot(call) == snapshot(kept)


@pytest.mark.clause("ERR-1")
def test_the_example_of_the_specification() -> None:
    layer = sc.LSTM(3)
    weights = layer.init(5)
    weights["kernel"] = weights["kernel"][:, :9]
    with pytest.raises(sc.WeightsError) as caught:
        layer.apply(weights, np.zeros((1, 1, 5), np.float32))
    assert str(caught.value).startswith(
        "LSTM(units=3): kernel has shape (5, 9), expected (5, 12) = (features, 4*units)"
    )


def test_the_call_with_fresh_weights_checks_alike() -> None:
    for x, error in (
        (np.zeros((2, 3)), sc.ShapeError),
        (np.zeros((2, 3, 0)), sc.ShapeError),
        (np.zeros((2, 3, 4), int), sc.DtypeError),
        (RAGGED, sc.ShapeError),
        (None, sc.DtypeError),
    ):
        with pytest.raises(error, match=r"LSTM\(units=2\)"):
            LAYER(x)
    with pytest.raises(sc.ArgumentError, match="'training' is not taken"):
        LAYER(np.zeros((1, 1, 1)), training=False)


@pytest.mark.clause("ERR-3")
@pytest.mark.parametrize(
    ("features", "options", "error", "words"),
    [
        (0, {}, sc.SpecError, "features is 0, expected a positive integer"),
        (-1, {}, sc.SpecError, "features is -1"),
        (2.5, {}, sc.SpecError, "features is 2.5"),
        ("4", {}, sc.SpecError, "features is '4'"),
        (True, {}, sc.SpecError, "features is True"),
        (4, {"seed": -1}, sc.SpecError, "seed is -1"),
        (4, {"seed": 2**64}, sc.SpecError, "seed is 18446744073709551616"),
        (4, {"seed": 0.5}, sc.SpecError, "seed is 0.5"),
        (4, {"seed": None}, sc.SpecError, "seed is None"),
        (4, {"dtype": "float8"}, sc.DtypeError, "'float8', expected one of float64"),
        (4, {"dtype": "int32"}, sc.DtypeError, "'int32'"),
        (4, {"dtype": None}, sc.DtypeError, "None"),
    ],
)
def test_wrong_arguments_of_init(
    features: Any, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        LAYER.init(features, **options)


def test_random_states_are_accepted() -> None:
    """The correct call behind the table is correct, with a state too."""
    for layer in (LAYER, BOTH_WAYS, STACK):
        state = random_state(layer, np.random.default_rng(1), "float32")
        layer.apply(**arguments(layer), initial_state=state)
