"""A framework's own arrays: kind in is kind out, its autodiff passes, and contradictions.

The framework is a fake one, `fakeframe`: torch tensors under another name, run by the generic
implementation over functions written for them in `fakes.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from fakes import DEVICE, native_framework, registered
from helpers import BATCH, CELLS, MASKS, Case, assert_close, composites, flat, gradient_arrays
from helpers import random_cotangents as cotangents_for
from seqcore.registry import registry

torch = pytest.importorskip("torch", reason="torch, of whose tensors the fake framework is made")

EPS = 100


@pytest.fixture(scope="module")
def tensor() -> Iterator[type]:
    kind, backend = native_framework()
    with registered(backend, array_roots=("fakeframe",), options=DEVICE):
        yield kind


class Foreign:
    """An array of one more framework."""


Foreign.__module__ = "otherframe"


def native(kind: type, value: Any, *, gradient: bool = False) -> Any:
    return torch.tensor(np.asarray(value)).as_subclass(kind).requires_grad_(gradient)


def cases() -> list[Case]:
    cells = [
        Case(f"{n}-{mask}-native", sc.Bidirectional(cell(return_state=True)), mask, True)
        for n, cell in CELLS.items()
        for mask in ("none", "holes")
    ]
    return cells + composites()


def numbers_of(value: Any) -> Any:
    return value.detach().as_subclass(torch.Tensor).numpy()


@pytest.mark.clause("ARR-2")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_native_in_is_native_out(case: Case, tensor: type) -> None:
    """With the numbers of NumPy, whichever argument is native, the others being converted."""
    weights, x, others = case.arguments()
    expected = case.layer.apply(weights, x, **others)
    own = {name: native(tensor, value) for name, value in weights.items()}
    calls: list[tuple[Any, Any, Any]] = [
        (own, native(tensor, x), others),
        (weights, native(tensor, x), others),
        (own, x, others),
        ({**weights, next(iter(own)): next(iter(own.values()))}, x, others),
    ]
    if others["mask"] is not None:
        calls.append((weights, x, others | {"mask": native(tensor, others["mask"])}))
    if "initial_state" in others:
        mixed = [native(tensor, others["initial_state"][0]), *others["initial_state"][1:]]
        calls.append((weights, x, others | {"initial_state": mixed}))
    for w, each, rest in calls:
        found = case.layer.apply(w, each, **rest)
        assert len(flat(found)) == len(flat(expected))
        for one, two in zip(flat(found), flat(expected), strict=True):
            assert type(one) is tensor
            assert_close(numbers_of(one), two, EPS)


@pytest.mark.clause("ARR-1")
def test_neutral_in_is_neutral_out_on_that_backend_too(tensor: type) -> None:
    for case in cases()[:6]:
        weights, x, others = case.arguments()
        expected, pull = case.layer.vjp(weights, x, **others)
        cotangents = cotangents_for(expected, np.random.default_rng(0))
        outputs, pullback = case.layer.vjp(weights, x, backend="fakeframe", **others)
        applied = case.layer.apply(weights, x.tolist(), backend="fakeframe", **others)
        gradients = gradient_arrays(pullback(cotangents))
        for one, two, three in zip(flat(outputs), flat(applied), flat(expected), strict=True):
            assert type(one) is type(two) is np.ndarray
            assert_close(one, three, EPS)
            assert_close(two, three, EPS)
        for name, value in gradient_arrays(pull(cotangents)).items():
            assert type(gradients[name]) is np.ndarray
            assert_close(gradients[name], value, EPS)
        shown = case.layer.gates(weights, x, backend="fakeframe", **others)
        assert all(type(value) is np.ndarray for value in shown.values())


@pytest.mark.clause("ARR-2")
def test_native_everywhere_else(tensor: type) -> None:
    layer = sc.GRU(2, return_sequences=True, return_state=True)
    weights, x, _ = Case("everywhere", layer).arguments()
    mine = native(tensor, x)
    outputs, pullback = layer.vjp(weights, mine)
    gradients = pullback(cotangents_for(tuple(map(numbers_of, outputs)), np.random.default_rng(0)))
    values = [*outputs, *gradient_arrays(gradients).values()]
    values += layer.gates(weights, mine).values()
    values += layer.bind(weights, backend="fakeframe")(mine)
    values += layer(mine)
    for value in values:
        assert type(value) is tensor
    bound = layer.bind({name: native(tensor, value) for name, value in weights.items()})
    assert bound.backend == "fakeframe"
    assert all(type(value) is np.ndarray for value in bound.weights.values())
    with sc.use_backend("numpy"):  # a native array outranks the block
        assert type(layer.apply(weights, mine).y) is tensor
    empty = layer.apply(weights, mine[:0])
    assert type(empty.y) is tensor
    assert tuple(empty.y.shape) == (0, 5, 2)


@pytest.mark.clause("ARR-3")
def test_contradictions(tensor: type) -> None:
    layer = sc.LSTM(2)
    weights, x, _ = Case("contradictions", layer).arguments()
    mine = native(tensor, x)
    with pytest.raises(sc.ArgumentError, match=r"'numpy'.*'fakeframe'"):
        layer.apply(weights, mine, backend="numpy")
    with pytest.raises(sc.ArgumentError, match=r"fakeframe.*numpy"):
        layer.bind(weights, backend="numpy")(mine)
    with pytest.raises(sc.ArgumentError, match=r"'chip:0'.*'cpu'"):
        layer.apply(weights, mine, device="chip:0")
    assert type(layer.apply(weights, mine, backend="fakeframe", device="cpu")) is tensor
    _, other = native_framework()
    other.name = "otherframe"
    with registered(other, array_roots=("otherframe",)):
        for call in (
            lambda: layer.apply(weights, mine, mask=Foreign()),
            lambda: layer.apply(weights | {"bias": Foreign()}, mine),
            lambda: layer.apply(weights, mine, initial_state=(Foreign(), Foreign())),
            lambda: layer.apply(weights, mine, initial_state=[Foreign(), Foreign()]),
        ):
            with pytest.raises(sc.ArgumentError, match=r"fakeframe.*otherframe"):
                call()


@pytest.mark.clause("ARR-3")
def test_a_second_backend_of_the_same_arrays_takes_them_by_the_same_rule(tensor: type) -> None:
    """Whether its layer is bound or not; a backend that does not declare them never does."""
    layer = sc.LSTM(2, return_state=True)
    weights, x, _ = Case("second", layer).arguments()
    mine = native(tensor, x)
    expected = layer.apply(weights, mine)
    own = registry.get("fakeframe")

    class Second(type(own)):  # type: ignore[misc]
        name = "second"

    with registered(Second(), array_roots=("elseframe", "fakeframe")):
        bound = layer.bind(weights, backend="second")
        outputs, _ = bound.vjp(mine)
        for found in (layer.apply(weights, mine, backend="second"), bound(mine), outputs):
            for one, two in zip(found, expected, strict=True):
                assert type(one) is tensor
                assert torch.equal(one, two)
        assert bound.backend == "second"
        assert layer.bind({**weights, "bias": native(tensor, weights["bias"])}).backend == own.name
        with pytest.raises(sc.ArgumentError, match=r"fakeframe.*bound to numpy"):
            layer.bind(weights, backend="numpy")(mine)
    _, other = native_framework()
    other.name = "otherframe"
    with registered(other, array_roots=("otherframe",)):
        for call in (layer.bind(weights, backend="fakeframe"), layer.bind(weights)):
            with pytest.raises(sc.ArgumentError, match=r"fakeframe and of otherframe in one call"):
                call(mine, initial_state=(Foreign(), Foreign()))


@pytest.mark.clause("ARR-2")
def test_the_arrays_device_wins(tensor: type) -> None:
    """Arrays on two devices are an error; a device of the configuration gives way."""
    layer = sc.LSTM(2)
    weights, x, _ = Case("devices", layer).arguments()
    own = {name: native(tensor, value) for name, value in weights.items()}
    for value in own.values():
        value.place = "chip:1"
    mine = native(tensor, x)
    mine.place = "chip:0"
    with pytest.raises(sc.ArgumentError, match="chip:0 and chip:1"):
        layer.apply(own, mine)
    with sc.use_backend("fakeframe", device="cpu"):
        assert type(layer.apply(weights, mine)) is tensor


@pytest.mark.clause("ARR-4")
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_the_frameworks_own_differentiation(case: Case, tensor: type) -> None:
    weights, x, others = case.arguments()
    state = others.get("initial_state", ())
    expected, pullback = case.layer.vjp(weights, x, **others)
    cotangents = cotangents_for(expected, np.random.default_rng(1))
    own = {name: native(tensor, value, gradient=True) for name, value in weights.items()}
    mine = native(tensor, x, gradient=True)
    states = [native(tensor, value, gradient=True) for value in state]
    rest = dict(others)
    if states:
        rest["initial_state"] = states
    outputs = flat(case.layer.apply(own, mine, **rest))
    loss = sum(
        (value * torch.tensor(d)).sum() for value, d in zip(outputs, flat(cotangents), strict=True)
    )
    loss.backward()
    found = {**own, "x": mine, **{f"initial_state[{i}]": s for i, s in enumerate(states)}}
    wanted = gradient_arrays(pullback(cotangents))
    for name, value in found.items():
        assert_close(numbers_of(value.grad), wanted[name], EPS, name)


@pytest.mark.clause("MASK-2")
def test_hidden_lengths_are_clamped_and_not_looked_at(tensor: type) -> None:
    layer = sc.LSTM(2, return_sequences=True)
    weights, x, _ = Case("hidden", layer).arguments()
    hidden = native(tensor, np.array([9, -2, 3]))
    hidden.hidden = True
    found = layer.apply(weights, x, lengths=hidden)
    expected = layer.apply(weights, x, lengths=[5, 0, 3])
    assert_close(numbers_of(found), expected, EPS)
    seen = native(tensor, np.array([9, -2, 3]))
    with pytest.raises(sc.MaskError, match="-2 to 9"):
        layer.apply(weights, x, lengths=seen)


def test_native_arguments_are_checked_alike(tensor: type) -> None:
    layer = sc.LSTM(2)
    weights, x, _ = Case("checked", layer).arguments()
    mine = native(tensor, x)
    for error, call in (
        (sc.ShapeError, lambda: layer.apply(weights, mine[0])),
        (sc.DtypeError, lambda: layer.apply(weights, native(tensor, x.astype(int)))),
        (sc.DtypeError, lambda: layer.apply(weights, native(tensor, x.astype("f4")))),
        (
            sc.MaskError,
            lambda: layer.apply(weights, mine, mask=native(tensor, np.ones((BATCH, 5)))),
        ),
        (sc.MaskError, lambda: layer.apply(weights, mine, mask=native(tensor, MASKS["all"][:2]))),
        (sc.StateError, lambda: layer.apply(weights, mine, initial_state=native(tensor, x[:, 0]))),
    ):
        with pytest.raises(error, match=r"LSTM\(units=2\)"):
            call()
