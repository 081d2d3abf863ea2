"""Running one case on one backend, in the process where the backend is."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from typing import Any, Literal

from seqcore.conformance.arrays import Arguments, arguments, cotangents
from seqcore.conformance.laws import Departure, NotJudged
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
from seqcore.conformance.subject import Subject
from seqcore.errors import PlanError
from seqcore.runtime import Gradients
from seqcore.runtime.calls import plan_apply, plan_vjp
from seqcore.spec.outputs import output_names, state_names


def execute(case: Case, subject: Subject) -> Observed | Verdict:
    """Run a case whose needs the subject supports, or whose gate is open.

    Returns:
        What a `ValueCase` gave, to be judged; or the verdict of a law, or of an exception.
    """
    start = time.perf_counter()
    status: Status = "pass"
    findings = []
    judged = True
    try:
        if isinstance(case, ValueCase):
            runs = list(_runs(case, subject))
            return Observed(runs, time.perf_counter() - start)
        assert isinstance(case, LawCase)
        case.check(subject)
    except Departure as departure:
        status, findings = "fail", [departure.finding]
    except NotJudged:
        judged = False
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
    seconds = time.perf_counter() - start
    return Verdict(status=status, findings=findings, seconds=seconds, judged=judged)


def _runs(case: ValueCase, subject: Subject) -> Iterator[Run]:
    given = arguments(case, subject.seed)
    names = [""]
    if case.everywhere:
        names += [implementation.name for implementation in subject.backend.implementations]
    calls: list[Literal["apply", "vjp"]] = ["apply"]
    # A case for gradients calls past a closed gate, too; others leave them out.
    if case.gradients and (subject.supports("gradients") or "gradients" in case.needs):
        calls.append("vjp")
    for name in names:
        for call in calls:
            try:
                yield _run(case, subject, given, name, call)
            except PlanError:
                if not name:
                    raise
                # An implementation that does not take it, which it may say.


def _run(
    case: ValueCase, subject: Subject, given: Arguments, name: str, call: Literal["apply", "vjp"]
) -> Run:
    options: dict[str, Any] = {"matmul_precision": case.precision}
    if name:
        options["implementation"] = name
    # In the two halves that the layer's own methods are made of: what runs is known by its plan.
    plan = plan_apply if call == "apply" else plan_vjp
    planned, weights = plan(
        case.layer,
        given.weights,
        given.x,
        given.given.get("mask"),
        given.given.get("lengths"),
        given.given.get("initial_state"),
        subject.name,
        options,
    )
    ran = tuple(dict.fromkeys(planned.explain().implementations()))
    if name and ran != (name,):
        raise Departure(
            f"{case.layer}, implementation={name!r}: expected a run of it alone, received "
            f"{', '.join(ran) or 'none'}"
        )
    gradients = {}
    if call == "apply":
        result = planned.apply(weights)
    else:
        result, pullback = planned.vjp(planned.program.prepare(weights))
    outputs = _named(case, output_names(case.layer), result)
    if call == "vjp":
        shapes = [y.shape for y in outputs.values()]  # as they are, right or wrong
        drawn = cotangents(case.label or case.id, subject.seed, shapes, case.dtype)
        gradients = _gradients(case, pullback(drawn[0] if len(drawn) == 1 else drawn))
    return Run(implementation=name, call=call, plan=ran, outputs=outputs, gradients=gradients)


def _gradients(case: ValueCase, found: Gradients) -> dict[str, Packed]:
    """Return gradients by weight name, `"x"` and `"initial_state.h"` and so on."""
    states = zip(state_names(case.layer), found.initial_state, strict=True)
    arrays = {**found.weights, "x": found.x}
    arrays |= {f"initial_state.{name}": value for name, value in states}
    return {name: Packed.of(value) for name, value in arrays.items()}


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
