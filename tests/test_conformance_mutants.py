"""The mutants, and the self-test that tries them: what it counts, and what it must not count."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from seqcore import LSTM
from seqcore.conformance import selftest, tolerance
from seqcore.conformance.cases import all_cases
from seqcore.conformance.clauses import clauses
from seqcore.conformance.laws import Departure, require
from seqcore.conformance.model import Case, LawCase
from seqcore.conformance.mutants import Mutant, Unavailable, all_mutants
from seqcore.conformance.mutants.beyond_values import BEYOND_VALUES
from seqcore.conformance.mutants.wrong import SameOps, Twisted, WrongBackend
from seqcore.conformance.selftest import Row, Score, coverage, self_test
from seqcore.conformance.subject import Subject
from seqcore.registry import registry
from seqcore.runtime import inputs, nodes, planned_call, planning
from seqcore.spi import Generic

LAYER = LSTM(3, return_sequences=True, return_state=True)


def results(name: str) -> list[np.ndarray[Any, Any]]:
    """Return everything that comes of one masked call on a backend."""
    random = np.random.default_rng(5)
    weights = {
        key: random.standard_normal(value.shape).astype("float32")
        for key, value in LAYER.init(4).items()
    }
    x = random.standard_normal((2, 5, 4), dtype="float32")
    mask = np.array([[True, False, True, True, False], [False, True, True, True, True]])
    given = {"mask": mask, "backend": name, "implementation": "generic"}
    outputs, pullback = LAYER.vjp(weights, x, **given)
    gradients = pullback(tuple(np.ones_like(y) for y in outputs))
    shown = LAYER.gates(weights, x, **given)
    plain = LAYER.apply(weights, x, **given)
    return [
        *plain,
        *outputs,
        *gradients.weights.values(),
        gradients.x,
        *gradients.initial_state,
        *shown.values(),
    ]


@contextmanager
def honest() -> Iterator[Any]:
    yield WrongBackend()


def law(check: Any, clause: str = "RNN-1", needs: tuple[str, ...] = ()) -> Case:
    return LawCase(id=f"{clause}/{check.__name__}", clauses=(clause,), check=check, needs=needs)


def tried(
    monkeypatch: pytest.MonkeyPatch, mutants: list[Mutant], cases: list[Case], **options: Any
) -> Score:
    monkeypatch.setattr(selftest, "all_mutants", lambda: tuple(mutants))
    monkeypatch.setattr(selftest, "all_cases", lambda: tuple(cases))
    return self_test(**options)


def test_every_mutant_is_killed() -> None:
    score = self_test()
    assert not score.faults(), score.table()
    assert len(score.by_value) >= 150
    assert all(row.value for row in score.by_value)
    assert BEYOND_VALUES.keys() <= {row.mutant for row in score.rows}
    assert {row.mutant for row in score.rows} == {one.name for one in all_mutants()}


@pytest.mark.parametrize(
    "backend",
    [
        lambda: WrongBackend(),
        lambda: WrongBackend(Twisted()),
        lambda: WrongBackend(ops=SameOps()),
        lambda: WrongBackend(Twisted(ops=SameOps())),
        lambda: WrongBackend(Generic(registry.get("numpy").ops)),
    ],
)
def test_without_a_twist_nothing_is_wrong(backend: Any) -> None:
    @contextmanager
    def made() -> Iterator[Any]:
        yield backend()

    expected = results("numpy")
    with Mutant("none", "RNN-1", made).registered() as name:
        found = results(name)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mutant", all_mutants(), ids=lambda one: f"{one.clause}: {one.name}")
def test_a_mutant_leaves_the_library_as_it_was(mutant: Mutant) -> None:
    owners = (inputs, nodes, planned_call, planning, planning.Program, planned_call.PlannedCall)
    before = [dict(vars(owner)) for owner in owners]
    names = registry.names()
    try:
        with mutant.registered() as name:
            assert registry.get(name) is not None
    except Unavailable:
        return
    assert [dict(vars(owner)) for owner in owners] == before
    assert registry.names() == names


def test_all_wrong_gate_orders_are_tried() -> None:
    orders = [one for one in all_mutants() if one.name.startswith("gates in the order")]
    assert len([one for one in orders if one.clause == "LSTM-1" and "alone" not in one.name]) == 23
    assert len([one for one in orders if one.clause == "GRU-1"]) == 5


def test_a_survivor_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(subject: Subject) -> None:
        pass

    score = tried(monkeypatch, [Mutant("harmless", "RNN-1", honest)], [law(nothing)])
    assert [row.mutant for row in score.survivors] == ["harmless"]
    assert "SURVIVED" in score.table()
    assert "0 of 1 mutants killed" in score.table()
    assert score.faults() == ["RNN-1: harmless: no case of the clause caught it"]


def test_only_cases_of_the_clause_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def sees_mutant(subject: Subject) -> None:
        require(subject.backend.version() != "wrong", "the backend is wrong")

    @contextmanager
    def wrong() -> Iterator[Any]:
        backend = WrongBackend()
        backend.version = lambda: "wrong"  # type: ignore[method-assign]
        yield backend

    mutant = Mutant("of another version", "RNN-1", wrong)
    assert tried(monkeypatch, [mutant], [law(sees_mutant, "BIAS-1")]).survivors
    score = tried(monkeypatch, [mutant], [law(sees_mutant)])
    assert [row.killed_by for row in score.killed] == ["RNN-1/sees_mutant"]


def test_a_case_that_the_honest_backend_fails_does_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def too_strict(subject: Subject) -> None:
        raise Departure("nothing is right")

    score = tried(monkeypatch, [Mutant("harmless", "RNN-1", honest)], [law(too_strict)])
    assert len(score.survivors) == 1
    assert score.doubtful == {"RNN-1/too_strict": "nothing is right"}
    assert "the honest backend fails it, too: nothing is right" in score.table()


def test_a_case_whose_needs_are_not_there_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(subject: Subject) -> None:
        raise Departure("nothing is right")

    cases = [law(breaks, needs=("native_autodiff",))]
    score = tried(monkeypatch, [Mutant("harmless", "RNN-1", honest)], cases)
    assert len(score.survivors) == 1
    assert not score.doubtful


def test_a_mutant_that_cannot_be_made_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def absent() -> Iterator[Any]:
        raise Unavailable("not here")
        yield

    def nothing(subject: Subject) -> None:
        pass

    score = tried(monkeypatch, [Mutant("absent", "RNN-1", absent)], [law(nothing)])
    assert score.rows[0].left_out == "not here"
    assert not score.survivors
    assert not score.killed


def test_a_mutant_said_to_be_beyond_values_is_not_caught_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "gates in the order i f o g"
    monkeypatch.setattr(selftest, "BEYOND_VALUES", {name: "of no reason"})
    score = self_test(only=["LSTM-1"])
    assert [fault for fault in score.faults() if "said to be beyond values" in fault]


def test_too_few_cases_that_are_judged_by_value_are_a_fault() -> None:
    score = Score(seed=0, rows=[], admitted=(94, 100))
    assert score.faults() == ["94 of 100 value cases are judged by value, expected 95%"]


def test_a_blunt_tolerance_lets_mutants_pass_the_value_cases(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mutant = next(one for one in all_mutants() if one.name == "tf32 with 11 mantissa bits")
    cases = [case for case in all_cases() if case.id.startswith("values/numbers/tf32/")]
    assert tried(monkeypatch, [mutant], cases).survivors == []
    blunt = {kind: (slope, 1e3 * least) for kind, (slope, least) in tolerance.BUDGET.items()}
    monkeypatch.setattr(tolerance, "BUDGET", blunt)
    tolerance.expected.cache_clear()
    try:
        score = tried(monkeypatch, [mutant], cases)
    finally:
        tolerance.expected.cache_clear()
    assert [row.mutant for row in score.survivors] == [mutant.name]


def test_only_chooses_clauses_and_groups() -> None:
    seen: list[Row] = []
    score = self_test(only=["MASK-7", "RNN"], progress=seen.append)
    assert seen == score.rows
    assert {row.clause for row in score.rows} == {"MASK-7", "RNN-1"}
    with pytest.raises(ValueError, match="MASK-99"):
        self_test(only=["MASK-99"])


def test_coverage_has_cases_and_mutants_of_every_clause() -> None:
    score = self_test(only=["RNN-1"])
    rows = {row.clause: row for row in coverage(score)}
    assert list(rows) == list(clauses())
    assert all(row.cases and row.mutants for row in rows.values())
    caught = rows["RNN-1"].mutants
    assert caught == {row.mutant: row.killed_by for row in score.rows}
