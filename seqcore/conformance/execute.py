"""Running one case on one backend, in the process where the backend is."""

from __future__ import annotations

import time
import traceback
from typing import Any

import numpy as np

from seqcore.conformance.arrays import Arguments, arguments
from seqcore.conformance.laws import Departure
from seqcore.conformance.model import (
    Case,
    Finding,
    LawCase,
    Observed,
    Packed,
    Run,
    Status,
    ValueCase,
    Verdict,
)
from seqcore.conformance.subject import Subject, generator
from seqcore.errors import PlanError
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.outputs import output_names, state_names
from seqcore.spi.request import MaskKind


def execute(case: Case, subject: Subject) -> Observed | Verdict:
    """Run a case whose needs the subject supports, or whose gate is open.

    Returns:
        What a `ValueCase` gave, to be judged; or the verdict of a law, or of an exception.
    """
    start = time.perf_counter()
    status: Status = "pass"
    findings = []
    try:
        if isinstance(case, ValueCase):
            runs = list(_runs(case, subject))
            return Observed(runs, time.perf_counter() - start)
        assert isinstance(case, LawCase)
        case.check(subject)
    except Departure as departure:
        status, findings = "fail", [departure.finding]
    except Exception as error:  # noqa: BLE001 - a backend may raise anything
        kind = type(error).__name__
        status = "error"
        finding = Finding(
            message=f"{case.id}: expected a result, received {kind}: {error}",
            expected="a result",
            received=f"{kind}: {error}",
            traceback=traceback.format_exc(),
        )
        findings = [finding]
    return Verdict(status=status, findings=findings, seconds=time.perf_counter() - start)


def cotangents(case: ValueCase, seed: int, outputs: dict[str, Any]) -> tuple[Any, ...]:
    """Return the standard-normal cotangents of a case, one for each of its outputs' shapes."""
    random = generator(seed, (case.label or case.id) + ", cotangents")
    kind = numpy_dtype(case.dtype)
    return tuple(random.standard_normal(np.shape(y)).astype(kind) for y in outputs.values())


def _runs(case: ValueCase, subject: Subject) -> Any:
    given = arguments(case, subject.seed)
    names = [""]
    if case.everywhere:
        names += [implementation.name for implementation in subject.backend.implementations]
    for name in names:
        options: dict[str, Any] = {"matmul_precision": case.precision}
        if name:
            options["implementation"] = name
        kind: MaskKind = "any"
        if case.mask in ("none", "lengths"):
            kind = case.mask
        for call in ("apply", "vjp") if case.gradients else ("apply",):
            try:
                plan = case.layer.explain(
                    dtype=case.dtype,
                    mask=kind,
                    gradient="yes" if call == "vjp" else "no",
                    backend=subject.name,
                    **options,
                )
            except PlanError:
                if not name:
                    raise
                continue  # an implementation that does not take it
            ran = tuple(dict.fromkeys(plan.implementations()))
            if name and ran != (name,):
                raise Departure(
                    f"implementation={name!r}: expected a plan of it alone, received "
                    f"{', '.join(ran)}"
                )
            yield _run(case, subject, given, name, call, ran, options)


def _run(
    case: ValueCase,
    subject: Subject,
    given: Arguments,
    name: str,
    call: Any,
    plan: tuple[str, ...],
    options: dict[str, Any],
) -> Run:
    names = output_names(case.layer)
    if call == "apply":
        result = subject.apply(case.layer, given.weights, given.x, **given.given, **options)
        return Run(implementation=name, call=call, plan=plan, outputs=_named(case, names, result))
    result, pullback = subject.vjp(case.layer, given.weights, given.x, **given.given, **options)
    outputs = _named(case, names, result)
    drawn = cotangents(case, subject.seed, {n: p.array() for n, p in outputs.items()})
    found = pullback(drawn[0] if len(drawn) == 1 else drawn)
    gradients = {key: Packed.of(value) for key, value in found.weights.items()}
    gradients["x"] = Packed.of(found.x)
    for state, value in zip(state_names(case.layer), found.initial_state, strict=True):
        gradients[f"initial_state.{state}"] = Packed.of(value)
    return Run(implementation=name, call=call, plan=plan, outputs=outputs, gradients=gradients)


def _named(case: ValueCase, names: tuple[str, ...], result: Any) -> dict[str, Packed]:
    """Return outputs by the names of the contract, whose structure they must have."""
    if len(names) == 1:
        if isinstance(result, tuple):
            raise Departure(f"{case.layer}: expected one array, received {type(result).__name__}")
        return {names[0]: Packed.of(result)}
    fields = getattr(result, "_fields", None)
    if fields != names:
        raise Departure(
            f"{case.layer}: expected a named tuple of {', '.join(names)}, received "
            f"{type(result).__name__} of {fields}"
        )
    return {name: Packed.of(value) for name, value in zip(names, result, strict=True)}
