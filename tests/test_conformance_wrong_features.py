"""Backends that declare too much or too little, bend a transformation, or err: laws catch them."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from law_cases import departures, laws, registered, verdict
from seqcore.conformance.cases import capabilities as laws_of_features
from seqcore.conformance.laws import Departure
from seqcore.conformance.mutants import replaced
from seqcore.conformance.mutants.wrong import WrongBackend
from seqcore.conformance.subject import Subject
from seqcore.errors import ShapeError
from seqcore.registry import registry
from seqcore.runtime import inputs
from seqcore.spec.layers import LSTM
from seqcore.spi import FEATURES, Backend, Capabilities, Transforms

pytestmark = [
    # PyTorch's decompositions use what PyTorch deprecates, and its compiler warns of what it lacks.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning"),
]


@contextlib.contextmanager
def framework(name: str, **changes: Any) -> Iterator[str]:
    """A backend with arrays of its own, with some attributes changed."""
    backend = copy.copy(registry.get(name))
    backend.__dict__.pop("programs", None)
    vars(backend).update(changes)
    with registry.standing_in(backend):
        yield name


def declaring(**changes: Any) -> Capabilities:
    """What the NumPy backend declares, and more."""
    own = registry.get("numpy").capabilities
    unsupported = {**own.unsupported, **changes}
    return Capabilities({name: why for name, why in unsupported.items() if why is not None})


def test_every_feature_has_cases_of_both_clauses() -> None:
    subject = Subject("numpy")
    needs = {need for case in laws("CAP-1/") for need in case.needs[:1]}
    assert needs == set(FEATURES)
    for feature in FEATURES:
        assert laws_of_features.cases_needing(subject, feature)


@pytest.mark.clause("CAP-2")
def test_a_feature_declared_lacking_that_works_is_found() -> None:
    (law,) = laws("CAP-2/what-is-not-supported-is-lacking")
    for feature in ("float16", "masks", "gradients", "gates", "tf32"):
        with registered(WrongBackend(capabilities=declaring(**{feature: "no"}))) as name:
            found = departures(name, [law])
        assert f"declares {feature} unsupported" in found[law.id]


def test_a_transformation_declared_lacking_that_works_is_found() -> None:
    pytest.importorskip("torch")
    (law,) = laws("CAP-2/what-is-not-supported-is-lacking")
    for feature in ("native_autodiff", "vmap", "forward_mode", "second_order"):
        declared = Capabilities(not_implemented={feature: "no", "compile": "no"})
        with framework("torch", capabilities=declared) as name:
            found = departures(name, [law])
        assert f"declares {feature} not-implemented" in found[law.id]


@pytest.mark.clause("CAP-1")
def test_a_transformation_declared_without_any_is_found() -> None:
    declared = declaring(native_autodiff=None, vmap=None, compile=None)
    with registered(WrongBackend(capabilities=declared)) as name:
        found = departures(name, laws("CAP-1/"))
    assert set(found) == {
        f"CAP-1/a-supported-feature-works/{feature}"
        for feature in ("native_autodiff", "vmap", "compile")
    }
    assert all("expected `transforms`" in message for message in found.values())


def test_a_gate_that_is_open_is_found() -> None:
    honest = inputs.require
    for feature, law in zip(
        laws_of_features.GATED, laws("CAP-2/what-is-not-supported-is-refused/"), strict=True
    ):
        if feature in ("gradients", "gates"):
            continue  # these are looked up in other modules

        def require(subject: str, backend: Backend, asked: str, feature: str = feature) -> None:
            if asked != feature:
                honest(subject, backend, asked)

        with replaced(inputs, "require", require):
            found = departures("numpy", [law])
        assert feature in found[law.id]


def test_work_before_the_error_is_found() -> None:
    subject = Subject("numpy")
    layer, x = LSTM(2), np.zeros((3, 5, 4), np.float32)
    weights = layer.init(4)
    with laws_of_features.no_work(subject), pytest.raises(Departure, match="before any work"):
        subject.apply(layer, weights, x)
    subject.apply(layer, weights, x)


class Bent(Transforms):
    """A framework's transformations with one of them bent."""

    def __init__(self, honest: Transforms, method: str, bend: Callable[[Any], Any]) -> None:
        self.honest = honest
        self.bent = method
        self.bend = bend

    def _call(self, method: str, *arguments: Any) -> Any:
        result = getattr(self.honest, method)(*arguments)
        return self.bend(result) if method == self.bent else result

    def array(self, value: Any) -> Any:
        return self.honest.array(value)

    def gradient(self, *arguments: Any) -> Any:
        return self._call("gradient", *arguments)

    def jvp(self, *arguments: Any) -> Any:
        return self._call("jvp", *arguments)

    def vmap(self, *arguments: Any) -> Any:
        return self._call("vmap", *arguments)

    def compile(self, function: Any) -> Any:
        return functools.partial(self._call, "compiled", function)

    def compiled(self, function: Any, *arguments: Any) -> Any:
        return function(*arguments)


def larger(values: Any) -> Any:
    return tuple(1.0001 * value for value in values)


@pytest.mark.parametrize(
    ("method", "bend", "law"),
    [
        ("gradient", larger, "ARR-4/framework-gradients/lstm"),
        ("gradient", lambda found: (*found[:-1], 0 * found[-1]), "ARR-4/framework-gradients/lstm"),
        ("gradient", larger, "ARR-5/gradients-of-gradients-of-a-masked-lstm"),
        ("vmap", lambda found: tuple(y.flip(0) for y in found), "ARR-5/mapped-calls-of-a-masked"),
        ("jvp", lambda found: (found[0], larger(found[1])), "ARR-5/forward-mode/lstm-holes"),
        ("jvp", lambda found: (larger(found[0]), found[1]), "ARR-5/forward-mode/lstm-holes"),
    ],
)
def test_wrong_values_inside_a_transformation_are_found(
    method: str, bend: Callable[[Any], Any], law: str
) -> None:
    pytest.importorskip("torch")
    honest = registry.get("torch").transforms
    assert honest is not None
    (case,) = (case for case in laws(law) if case.id.startswith(law) and case.tier != "full")
    with framework("torch", transforms=Bent(honest, method, bend)) as name:
        assert verdict(name, case).status == "fail"


def test_wrong_values_inside_a_compiler_are_found() -> None:
    pytest.importorskip("torch")
    honest = registry.get("torch").transforms
    assert honest is not None
    (case,) = laws("ARR-5/compiled-calls/lstm-holes")

    class Compiling(Bent):
        def compile(self, function: Any) -> Any:
            return lambda *arguments: self.bend(function(*arguments))

    right, wrong = Compiling(honest, "", lambda found: found), Compiling(honest, "", larger)
    with framework("torch", transforms=right) as name:
        assert verdict(name, case).status == "pass"
    with framework("torch", transforms=wrong) as name:
        assert verdict(name, case).status == "fail"


def test_neutral_results_of_native_arrays_are_found() -> None:
    pytest.importorskip("torch")
    from seqcore.runtime import planned_call

    with replaced(planned_call, "converter", lambda engine: engine.backend.to_numpy):
        found = departures("torch", laws("ARR-2/"))
    assert "ARR-2/native-arrays-give-native-arrays" in found
    assert "ARR-2/one-native-array-is-enough" in found


def test_an_error_of_another_class_or_without_words_is_found() -> None:
    with replaced(inputs, "MaskError", ShapeError):
        found = departures("numpy", laws("ERR-5/"))
    assert set(found) == {case.id for case in laws("ERR-5/")}
    with replaced(inputs, "MaskError", functools.partial(_said, inputs.MaskError)):
        assert set(departures("numpy", laws("ERR-1/"))) == {
            "ERR-1/messages-name-what-is-wrong/masks"
        }
        assert departures("numpy", laws("ERR-5/")) == {}


def _said(kind: type[Exception], message: str) -> Exception:
    return kind("something is wrong with the mask")
