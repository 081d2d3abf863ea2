"""What a backend declares, feature by feature: neither too much nor too little (clauses CAP)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from seqcore.conformance.arrays import arguments
from seqcore.conformance.cases import arrays_native
from seqcore.conformance.cases.arrays_native import SMALL, require_verdict
from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge
from seqcore.conformance.laws import Departure, law, require, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import TIERS, Case, Observed, Packed, Run, Tier, ValueCase, Verdict
from seqcore.conformance.subject import Subject
from seqcore.errors import UnsupportedFeature
from seqcore.spec.layers import GRU, LSTM
from seqcore.spi import FEATURES, Capabilities, Generic

_CELL = LSTM(2, **BOTH)

_MOST_CASES = 3
"""How many cases have to be right for a feature to count as one that the backend has."""


# CAP-1: what is declared supported works.


def _values(subject: Subject, **fields: Any) -> None:
    """Outputs and gradients are right by every implementation that takes the call."""
    gradients = subject.supports("gradients")
    case = replace(SMALL, everywhere=True, gradients=gradients, **fields)
    verdict = verdict_of(case, subject)
    require_verdict(verdict, f"{case.layer} in {case.dtype}, {case.precision!r}, {case.mask}")


def _gates(subject: Subject) -> None:
    """The gates' `h` is the layer's sequence."""
    case = ValueCase(
        id="capabilities/gates",
        clauses=(),
        layer=GRU(2, return_sequences=True),
        state=True,
        gradients=False,
    )
    given = arguments(case, subject.seed)
    named = subject.gates(case.layer, given.weights, given.x, **given.given)
    expected = ("h", "n", "r", "z")
    received = tuple(sorted(named))
    require(received == expected, f"{case.layer}: gates: expected {expected}, received {received}")
    run = Run(
        implementation="", call="apply", plan=(), outputs={"y": Packed.of(named["h"])}, gradients={}
    )
    require_verdict(judge(case, Observed([run]), subject.seed), f"{case.layer}: h of gates")


def _transformed(check: Callable[..., None], subject: Subject) -> None:
    """A transformation is right by every implementation that takes the call."""
    arrays_native.everywhere(subject, functools.partial(check, subject, SMALL))


# The laws of ARR-5 show transformations before the full tier, as the planner runs them.
_CHECKS: Mapping[str, tuple[Tier, tuple[str, ...], Callable[[Subject], None]]] = {
    "float64": ("standard", (), lambda on: _values(on, dtype="float64")),
    "float32": ("smoke", (), _values),
    "float16": ("standard", (), lambda on: _values(on, dtype="float16")),
    "bfloat16": ("standard", (), lambda on: _values(on, dtype="bfloat16")),
    "tf32": ("standard", ("float32",), lambda on: _values(on, precision="tf32")),
    "bfloat16_products": (
        "standard",
        ("float32",),
        lambda on: _values(on, precision="bfloat16"),
    ),
    "masks": ("standard", ("float32",), lambda on: _values(on, mask="holes")),
    "gradients": ("smoke", ("float32",), _values),
    "gates": ("smoke", ("float32",), _gates),
    "native_autodiff": (
        "standard",
        ("float32",),
        functools.partial(_transformed, arrays_native.gradients_are_ours),
    ),
    "second_order": (
        "full",
        ("float64", "gradients"),
        functools.partial(_transformed, arrays_native.second_derivatives_are_right),
    ),
    "vmap": (
        "full",
        ("float32",),
        functools.partial(_transformed, arrays_native.mapped_calls_are_right),
    ),
    "forward_mode": (
        "standard",
        ("float32", "gradients"),
        functools.partial(_transformed, arrays_native.tangents_are_right),
    ),
    "compile": (
        "full",
        ("float32",),
        functools.partial(_transformed, arrays_native.compiled_calls_are_right),
    ),
}
"""For each feature the tier of its case, what else that needs, and the call."""


def a_supported_feature_works(subject: Subject, check: Callable[[Subject], None]) -> None:
    """A call that uses the feature is right, by every implementation that takes it."""
    check(subject)


for _feature, (_tier, _others, _check) in _CHECKS.items():
    law("CAP-1", tier=_tier, needs=(_feature, *_others), over={_feature: _check})(
        a_supported_feature_works
    )


# CAP-2: what is not declared supported is refused, and is lacking.

_DTYPES = ("float64", "float32", "float16", "bfloat16")
_PRECISIONS = {"tf32": "tf32", "bfloat16_products": "bfloat16"}
_METHODS = {"gradients": "vjp", "gates": "gates"}
GATED = (*_DTYPES, *_PRECISIONS, "masks", *_METHODS)
"""The features whose calls the library refuses; transformations are the framework's own calls."""


class _NoWork(Generic):
    """An implementation that takes everything and must not be reached."""

    def _reached(self, *_: Any, **__: Any) -> Any:
        raise Departure("expected an error before any work, received a call of an implementation")

    prepare = run = vjp = pullback = gates = _reached


@contextmanager
def no_work(subject: Subject) -> Iterator[None]:
    """Depart where a call in the block gets as far as an implementation."""
    backend = subject.backend
    before = backend.implementations, backend.programs
    backend.implementations, backend.programs = (_NoWork(backend.ops),), {}
    try:
        yield
    finally:
        backend.implementations, backend.programs = before


@contextmanager
def declared(subject: Subject, capabilities: Capabilities) -> Iterator[None]:
    """Let the backend declare something else for the length of a block."""
    before = subject.backend.capabilities
    subject.backend.capabilities = capabilities
    try:
        yield
    finally:
        subject.backend.capabilities = before


def _calls(subject: Subject, feature: str) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield calls that need a feature, by name."""
    dtype = feature if feature in _DTYPES else "float32"
    case = ValueCase(id="capabilities/gate", clauses=(), layer=_CELL, dtype=dtype, mask="lengths")
    given = arguments(case, subject.seed)
    weights, x, valid, lengths = given.weights, given.x, given.valid, given.given["lengths"]
    options: list[dict[str, Any]] = [{}]
    names = ["apply", "vjp", "gates"]
    if feature in _PRECISIONS:
        options = [{"matmul_precision": _PRECISIONS[feature]}]
    elif feature == "masks":
        options = [{"mask": valid}, {"mask": np.ones_like(valid)}, {"lengths": lengths}]
    elif feature in _METHODS:
        names = [_METHODS[feature]]
    for other, name in _METHODS.items():
        if other != feature and name in names and not subject.supports(other):
            names.remove(name)
    for chosen in options:
        for name in names:
            method = getattr(subject, name)
            said = ", ".join((name, *chosen))
            yield said, functools.partial(method, _CELL, weights, x, **chosen)
    if feature in _DTYPES:
        yield "bind", functools.partial(subject.bind, _CELL, weights)
    elif feature in _PRECISIONS:
        yield "bind", functools.partial(subject.bind, _CELL, weights, **options[0])
    elif feature in ("masks", "gradients"):
        bound = subject.bind(_CELL, weights)
        if feature == "masks":
            yield "a bound layer", functools.partial(bound, x, mask=valid)
        else:
            yield "a bound layer's vjp", functools.partial(bound.vjp, x)


@law("CAP-2", needs=("float32",), over={feature: feature for feature in GATED})
def what_is_not_supported_is_refused(subject: Subject, feature: str) -> None:
    """Declared unsupported or not implemented, a feature's calls raise before any work."""
    reason = subject.capabilities.reason(feature)
    declarations = [subject.capabilities]
    if reason is None:
        reason = "declared so by the suite"
        declarations = [
            Capabilities(unsupported={feature: reason}),
            Capabilities(not_implemented={feature: reason}),
        ]
    calls = list(_calls(subject, feature))
    for capabilities in declarations:
        support = capabilities.support(feature)
        with declared(subject, capabilities), no_work(subject):
            for name, call in calls:
                what = f"{_CELL}: {name}, {feature} being {support}"
                with require_error(UnsupportedFeature, what, subject.name, feature):
                    call()


@law("CAP-2", arrays=False)
def what_is_not_supported_is_lacking(subject: Subject) -> None:
    """Past the library's check, what needs an undeclared feature raises or is wrong."""
    for feature in FEATURES:
        if subject.supports(feature):
            continue
        with subject.ungated():
            verdicts = (verdict_of(case, subject) for case in cases_needing(subject, feature))
            works = all(verdict.status == "pass" for verdict in verdicts)
        require(
            not works,
            f"backend {subject.name!r} declares {feature} {subject.capabilities.support(feature)}: "
            "expected that calls which need it raise or are wrong, received right results; "
            "declare it supported",
        )


def cases_needing(subject: Subject, feature: str) -> list[Case]:
    """Return up to three cases that need a feature, and as little else as can be that is lacking.

    Raises:
        ValueError: if the suite has none, so that nothing could show it.
    """
    from seqcore.conformance.cases import all_cases

    def lacking(case: Case) -> tuple[int, int]:
        others = sum(not subject.supports(need) for need in case.needs)
        return others, TIERS.index(case.tier)

    found = [
        case
        for case in all_cases()
        if feature in case.needs and not any(name.startswith("CAP-") for name in case.clauses)
    ]
    if not found:
        raise ValueError(f"no case needs {feature!r}, expected one")
    return sorted(found, key=lacking)[:_MOST_CASES]


def verdict_of(case: Case, subject: Subject) -> Verdict:
    """Run a case and judge it, here."""
    observed = execute(case, subject)
    if isinstance(observed, Verdict):
        return observed
    assert isinstance(case, ValueCase)
    return judge(case, observed, subject.seed)
