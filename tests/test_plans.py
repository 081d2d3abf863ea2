"""Which implementation runs which part: declared, visible, and never found out by an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from fakes import Fake, Recording, registered
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    MASKS,
    MERGES,
    TIME,
    UNITS,
    Case,
    assert_close,
    composites,
    flat,
    gradient_arrays,
    implementations,
    random_cotangents,
)
from seqcore.spi import FEATURES as SPI_FEATURES
from seqcore.spi import Capabilities, Generic, Implementation, Request
from seqcore_numpy.ops import NumpyOps

OPS = NumpyOps()


def only_forwards(request: Request) -> str | None:
    return "reads forwards only" if request.layer.go_backwards else None


@pytest.fixture
def two() -> Iterator[tuple[Recording, Recording]]:
    """A backend `fake` with `fast`, for forward LSTMs without a mask, before `slow`."""

    def rule(request: Request) -> str | None:
        if not isinstance(request.layer, sc.LSTM):
            return "LSTM only"
        if request.mask == "any":
            return "takes lengths only"
        return only_forwards(request)

    fast, slow = Recording("fast", OPS, rule), Recording("slow", OPS)
    with registered(Fake(fast, slow)):
        yield fast, slow


def numbers(layer: Any) -> tuple[Any, Any]:
    weights, x, _ = Case("plans", layer).arguments()
    return weights, x


def test_the_first_that_does_not_refuse_runs(two: tuple[Recording, Recording]) -> None:
    fast, slow = two
    for layer, wanted in ((sc.LSTM(UNITS), fast), (sc.GRU(UNITS), slow)):
        weights, x = numbers(layer)
        y = layer.apply(weights, x, backend="fake")
        assert len(wanted.ran) == 1
        assert_close(y, layer.apply(weights, x), 50)
        wanted.ran.clear()
        assert not fast.ran + slow.ran
    plan = sc.GRU(UNITS).explain(backend="fake")
    assert plan.implementations() == ("slow",)
    assert [(r.implementation, r.reason) for r in plan.root.refusals] == [("fast", "LSTM only")]


def test_the_plan_of_a_composite_is_a_tree(two: tuple[Recording, Recording]) -> None:
    members = [sc.Bidirectional(sc.LSTM(2, return_sequences=True)), sc.GRU(3)]
    plan = sc.Stack(members).explain(backend="fake", dtype="float64", mask="lengths")
    root = plan.root
    assert (root.prefix, root.implementation) == ("", None)
    assert [part.prefix for part in root.parts] == ["layers.0.", "layers.1."]
    both, gru = root.parts
    assert [part.prefix for part in both.parts] == ["layers.0.forward.", "layers.0.backward."]
    assert plan.implementations() == ("fast", "slow", "slow")
    assert gru.implementation == "slow"
    assert {refusal.implementation for refusal in root.refusals} == {"fast", "slow"}
    assert "concat" in both.joined
    text = str(plan)
    for word in ("fake", "float64", "layers.0.backward", "reads forwards only", "mask lengths"):
        assert word in text
    data = json.loads(json.dumps(plan.to_data()))
    assert data["plan"]["parts"][0]["parts"][0]["implementation"] == "fast"
    assert data["plan"]["parts"][1]["refused"] == [
        {"implementation": "fast", "reason": "LSTM only"}
    ]


def test_what_runs_is_what_was_explained(two: tuple[Recording, Recording]) -> None:
    fast, slow = two
    for case in composites():
        plan = case.layer.explain(
            backend="fake", dtype="float64", mask="none" if case.mask == "none" else "any"
        )
        weights, x, others = case.arguments()
        found = case.layer.apply(weights, x, backend="fake", **others)
        assert len(fast.ran) == plan.implementations().count("fast")
        assert len(slow.ran) == plan.implementations().count("slow")
        for one, other in zip(
            flat(found), flat(case.layer.apply(weights, x, **others)), strict=True
        ):
            assert_close(one, other, 50)
        fast.ran.clear()
        slow.ran.clear()


def test_a_cell_that_reads_backwards_is_turned_where_nobody_takes_it() -> None:
    """Reversal is the runtime's: values, states, gradients and the kind of mask."""
    for name, cell in CELLS.items():
        for kept in (False, True):
            layer = cell(go_backwards=True, keep_order=kept, **BOTH)
            case = Case(f"{name}-{kept}-turned", layer, "right", True)
            weights, x, others = case.arguments()
            forward = Recording("forward", OPS, only_forwards)
            with registered(Fake(forward)):
                outputs, pullback = layer.vjp(weights, x, backend="fake", **others)
                applied = layer.apply(weights, x, backend="fake", **others)
                state = others["initial_state"]
                layer.apply(weights, x, backend="fake", lengths=[5, 2, 3], initial_state=state)
                assert {request.mask for request, *_ in forward.ran} == {"any"}
                plan = layer.explain(backend="fake")
                assert plan.root.implementation is None
                assert "reverses" in plan.root.joined
            expected, pull = layer.vjp(weights, x, **others)
            cotangents = random_cotangents(expected, np.random.default_rng(0))
            found = gradient_arrays(pullback(cotangents))
            for key, value in gradient_arrays(pull(cotangents)).items():
                assert_close(found[key], value, 100, key)
            for one, two, three in zip(outputs, applied, expected, strict=True):
                assert_close(one, three, 50)
                assert_close(two, three, 50)


def test_the_request_of_a_part() -> None:
    """The bare computation: initializers at their defaults and both return flags set."""
    taker = Recording("taker", OPS)
    with registered(Fake(taker)):
        layer = sc.Bidirectional(
            sc.LSTM(2, kernel_initializer="ones", unit_forget_bias=False, activation="relu"),
            merge_mode="sum",
        )
        weights, x = numbers(layer)
        layer.apply(weights, x, backend="fake", mask=MASKS["holes"])
    whole, ahead, behind = taker.asked
    assert isinstance(whole.layer, sc.Bidirectional)
    assert whole.layer.return_sequences
    assert whole.layer.return_state
    assert ahead.layer == sc.LSTM(
        2,
        activation="relu",
        return_sequences=True,
        return_state=True,
        kernel_initializer=sc.Zeros(),
        recurrent_initializer=sc.Zeros(),
        bias_initializer=sc.Zeros(),
    )
    assert behind.layer == ahead.layer.replace(go_backwards=True, keep_order=True)
    assert (ahead.dtype, ahead.device, ahead.precision) == ("float64", "cpu", "highest")
    assert (ahead.mask, ahead.gradient, ahead.traced) == ("any", "no", False)


def test_what_a_request_tells_of_the_call() -> None:
    taker = Recording("taker", OPS)
    layer = sc.GRU(2)
    weights, x, _ = Case("told", layer).arguments("float32")
    with registered(Fake(taker)):
        layer.apply(weights, x, backend="fake")
        layer.apply(weights, x, backend="fake", lengths=[1, 2, 3])
        layer.apply(weights, x, backend="fake", matmul_precision="tf32")
        layer.vjp(weights, x, backend="fake")
    told = [(r.mask, r.precision, r.gradient, r.dtype) for r in taker.asked]
    assert told == [
        ("none", "highest", "no", "float32"),
        ("lengths", "highest", "no", "float32"),
        ("none", "tf32", "no", "float32"),
        ("none", "highest", "yes", "float32"),
    ]


def test_what_arrives_at_an_implementation() -> None:
    """The initial state always, flat; a mask of booleans; never x of another dtype."""
    taker = Recording("taker", OPS)
    layer = sc.LSTM(2)
    weights, x = numbers(layer)
    with registered(Fake(taker)):
        layer.apply(weights, x.tolist(), backend="fake", lengths=[1, 2, 3])
    ((_, arrived, mask, state),) = taker.ran
    assert arrived.dtype == np.float64
    assert mask.dtype == bool
    assert mask.shape == (BATCH, TIME)
    assert [value.shape for value in state] == [(BATCH, 2)] * 2


def test_equal_computations_are_planned_once() -> None:
    taker = Recording("taker", OPS)
    with registered(Fake(taker)):
        for initializer in ("zeros", "ones"):
            layer = sc.GRU(2, kernel_initializer=initializer)
            weights, x = numbers(layer)
            layer.apply(weights, x, backend="fake")
            layer.apply(weights, x[:2, :3], backend="fake")
        assert len(taker.asked) == 1


# Forcing.


@pytest.mark.parametrize("name", implementations())
def test_a_forced_implementation_runs_alone_or_not_at_all(name: str) -> None:
    for case in [Case(n, cell(**BOTH)) for n, cell in CELLS.items()] + composites():
        question = {"implementation": name, "dtype": "float64", "backend": "numpy"}
        question["mask"] = "none" if case.mask == "none" else "any"
        weights, x, others = case.arguments()
        try:
            plan = case.layer.explain(**question)
        except sc.PlanError:
            with pytest.raises(sc.PlanError):
                case.layer.apply(weights, x, implementation=name, **others)
            continue
        assert set(plan.implementations()) == {name}
        case.layer.apply(weights, x, implementation=name, **others)


@pytest.mark.clause("ERR-8")
def test_forcing_one_that_refuses_or_is_not_there(two: tuple[Recording, Recording]) -> None:
    fast, slow = two
    layer = sc.Bidirectional(sc.GRU(UNITS))
    weights, x = numbers(layer)
    for run in (
        lambda **o: layer.apply(weights, x, **o),
        lambda **o: layer.vjp(weights, x, **o),
        lambda **o: layer.bind(weights, **o)(x),
        lambda **o: layer(x, **o),
        lambda **o: layer.explain(**o),
    ):
        with pytest.raises(sc.PlanError) as caught:
            run(backend="fake", implementation="fast")
        for word in ("GRU(units=2)", "'fake'", "fast: LSTM only", "implementation="):
            assert word in str(caught.value)
        with pytest.raises(sc.ArgumentError, match=r"'slwo'.*did you mean 'slow'.*fast, slow"):
            run(backend="fake", implementation="slwo")
    assert not fast.ran + slow.ran
    layer.apply(weights, x, backend="fake", implementation="slow")
    assert len(slow.ran) == 2
    assert not fast.ran


def test_no_implementation_at_all() -> None:
    with registered(Fake(Recording("none", OPS, lambda _: "on holiday"))):
        weights, x = numbers(sc.LSTM(2))
        with pytest.raises(sc.PlanError, match=r"LSTM\(units=2\).*none: on holiday"):
            sc.LSTM(2).apply(weights, x, backend="fake")


class Failing(Recording):
    def run(self, *_: Any) -> Any:
        raise NotImplementedError("the engine gave up")

    def vjp(self, *_: Any) -> Any:
        raise RuntimeError("the engine gave up")

    def pullback(self, *_: Any) -> Any:
        raise ZeroDivisionError("the engine gave up")


@pytest.mark.parametrize(
    "wrap", [lambda cell: cell, sc.Bidirectional, lambda cell: sc.Stack([cell])]
)
def test_an_exception_inside_an_implementation_propagates(wrap: Any) -> None:
    """Whatever it is; the next one in the order is not tried."""
    failing, sound = Failing("failing", OPS), Recording("sound", OPS)
    layer = wrap(sc.LSTM(2))
    weights, x = numbers(layer)
    with registered(Fake(failing, sound)):
        with pytest.raises(NotImplementedError, match="the engine gave up"):
            layer.apply(weights, x, backend="fake")
        with pytest.raises(RuntimeError, match="the engine gave up"):
            layer.vjp(weights, x, backend="fake")
        with pytest.raises(NotImplementedError):
            layer.bind(weights, backend="fake")(x)
    assert not sound.ran
    late = Failing("late", OPS)
    late.vjp = late.inner.vjp  # type: ignore[method-assign]
    with registered(Fake(late, sound)):
        y, pullback = layer.vjp(weights, x, backend="fake")
        with pytest.raises(ZeroDivisionError, match="the engine gave up"):
            pullback(np.ones_like(y))
    assert not sound.ran


def test_an_exception_while_refusing_propagates() -> None:
    def broken(_: Request) -> str | None:
        raise KeyError("a bug in refuses")

    weights, x = numbers(sc.GRU(2))
    with (
        registered(Fake(Recording("broken", OPS, broken), Recording("sound", OPS))),
        pytest.raises(KeyError, match="a bug in refuses"),
    ):
        sc.GRU(2).apply(weights, x, backend="fake")


class Whole(Implementation):
    """Takes bidirectional layers whole; merge, reversal and alignment are its own."""

    name = "whole"

    def __init__(self) -> None:
        self.layers: list[Any] = []

    def refuses(self, request: Request) -> str | None:
        return None if isinstance(request.layer, sc.Bidirectional) else "whole layers only"

    def run(self, request: Request, prepared: Any, x: Any, mask: Any, initial_state: Any) -> Any:
        self.layers.append(request.layer)
        assert set(prepared) == set(request.layer.weight_shapes(x.shape[-1]))
        y, *state = request.layer.apply(prepared, x, mask=mask, initial_state=initial_state)
        return y, tuple(state)


@pytest.mark.parametrize("merge", MERGES[:-1])
def test_a_whole_layer_is_offered_first(merge: str) -> None:
    whole = Whole()
    layer = sc.Bidirectional(sc.LSTM(2, return_state=True), merge_mode=merge)
    stack = sc.Stack([sc.Bidirectional(sc.GRU(2, return_sequences=True)), sc.GRU(2)])
    with registered(Fake(whole, Generic(OPS))):
        weights, x = numbers(layer)
        for one, two in zip(
            layer.apply(weights, x, backend="fake"), layer.apply(weights, x), strict=True
        ):
            assert_close(one, two, 50)
        assert len(whole.layers) == 1
        assert stack.explain(backend="fake").implementations() == ("whole", "generic")


# Capabilities.


def limited(feature: str, kind: str) -> Fake:
    return Fake(
        Recording("generic", OPS), capabilities=Capabilities(**{kind: {feature: "the reason"}})
    )


CALLS: dict[str, dict[str, Any]] = {
    "float64": {"dtype": "float64"},
    "float32": {"dtype": "float32"},
    "float16": {"dtype": "float16"},
    "bfloat16": {"dtype": "bfloat16"},
    "tf32": {"dtype": "float32", "matmul_precision": "tf32"},
    "bfloat16_products": {"dtype": "float32", "matmul_precision": "bfloat16"},
    "masks": {"mask": MASKS["holes"]},
    "gradients": {"method": "vjp"},
    "gates": {"method": "gates"},
}


@pytest.mark.clause("ERR-8")
@pytest.mark.clause("PREC-5")
@pytest.mark.parametrize("shape", [(BATCH, TIME), (0, TIME)])
@pytest.mark.parametrize("kind", ["unsupported", "not_implemented"])
@pytest.mark.parametrize("feature", CALLS)
def test_what_is_not_supported_is_refused_before_the_call(
    feature: str, kind: str, shape: tuple[int, int]
) -> None:
    asked = dict(CALLS[feature])
    method, dtype = asked.pop("method", "apply"), asked.pop("dtype", "float64")
    layer = sc.LSTM(2)
    weights, x, _ = Case("limited", layer).arguments(dtype)
    x = x[: shape[0]]
    if "mask" in asked:
        asked["mask"] = asked["mask"][: shape[0]]
    backend = limited(feature, kind)
    with registered(backend):
        with pytest.raises(sc.UnsupportedFeature) as caught:
            getattr(layer, method)(weights, x, backend="fake", **asked)
        for word in ("LSTM(units=2)", feature, "'fake'", "the reason", kind.replace("_", " ")):
            assert word in str(caught.value)
        others = {key for key in CALLS if key not in (feature, "masks") and key != dtype}
        if "float64" in others and feature not in ("gradients", "gates"):
            weights, x, _ = Case("limited", layer).arguments("float64")
            layer.apply(weights, x, backend="fake")
    assert len(backend.implementations[0].ran) <= 1


@pytest.mark.parametrize("reason", ["", " ", True, False])
def test_a_refusal_needs_a_reason(reason: Any) -> None:
    backend = Fake(Recording("mute", NumpyOps(), lambda _: reason))
    layer = sc.LSTM(2)
    with registered(backend), pytest.raises(sc.BackendBroken, match=r"refuses\(\) of 'mute'"):
        layer.apply(layer.init(3), np.zeros((1, 2, 3), np.float32), backend="fake")


def test_capabilities_name_known_features() -> None:
    with pytest.raises(ValueError, match="no feature is called 'speed'"):
        Capabilities(unsupported={"speed": "too slow"})
    with pytest.raises(ValueError, match="feature 'vmap': received 3, expected the reason"):
        Capabilities(unsupported={"vmap": 3})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="expected reasons by feature"):
        Capabilities(unsupported={"vmap"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="both unsupported and not implemented: vmap"):
        Capabilities(unsupported={"vmap": "why"}, not_implemented={"vmap": "why"})
    sound = Capabilities(unsupported={"vmap": "why"}, not_implemented={"compile": "not yet"})
    assert sound.support("vmap") == "unsupported"
    assert sound.support("compile") == "not-implemented"
    assert sound.support("masks") == "supported"
    assert sound.reason("masks") is None
    assert set(CALLS) < set(SPI_FEATURES)


def test_explain_checks_its_question() -> None:
    layer = sc.LSTM(2)
    for question, words in (
        ({"dtype": "float8"}, "dtype is 'float8'"),
        ({"mask": "length"}, r"mask is 'length' \(did you mean 'lengths'\?\)"),
        ({"gradient": True}, "gradient is True"),
    ):
        with pytest.raises(sc.ArgumentError, match=words):
            layer.explain(**question)
    with (
        registered(limited("gradients", "unsupported")),
        pytest.raises(sc.UnsupportedFeature, match="gradients"),
    ):
        layer.explain(backend="fake", gradient="yes")


def test_numpy_declares_what_it_has() -> None:
    plan = sc.LSTM(2).explain(backend="numpy", gradient="yes", mask="any")
    assert plan.backend == "numpy"
    assert plan.version == np.__version__
    assert plan.implementations()[0] in implementations()
    assert implementations()[-1] == "generic"
