from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest

from seqcore.conformance.cases import check_cases, of_tier
from seqcore.conformance.cases.pairwise import FACTORS, STANDARD_ROWS, possible
from seqcore.conformance.cases.values import SMOKE, value_cases
from seqcore.conformance.coverage import covering, pairs
from seqcore.conformance.derived import needs_of, shared_out, shown_by, signatures, value_case
from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge
from seqcore.conformance.levels import CELLS, DIRECTIONS, FORMS, MASKS
from seqcore.conformance.model import Observed, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import expected
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack

CASES = value_cases()
STANDARD = of_tier(CASES, "standard")
BOTH = {"return_sequences": True, "return_state": True}

VALUE_CLAUSES = [
    "NAME-1",
    "NAME-2",
    "NAME-3",
    "NAME-4",
    "ACT-1",
    "ACT-2",
    "ACT-3",
    "RNN-1",
    "LSTM-1",
    "LSTM-2",
    "LSTM-3",
    "LSTM-4",
    "LSTM-5",
    "GRU-1",
    "GRU-2",
    "GRU-3",
    "GRU-4",
    "BIAS-1",
    "OUT-1",
    "OUT-2",
    "OUT-3",
    "OUT-5",
    "BI-1",
    "BI-2",
    "BI-3",
    "BI-4",
    "BACK-1",
    "BACK-2",
    "BACK-3",
    "MASK-1",
    "MASK-2",
    "MASK-3",
    "MASK-4",
    "MASK-5",
    "MASK-6",
    "MASK-7",
    "MASK-8",
    "DEG-3",
    "STACK-1",
    "STACK-2",
    "STACK-3",
    "STACK-4",
    "STATE-1",
    "STATE-2",
    "DTYPE-1",
    "DTYPE-4",
    "DTYPE-5",
    "PREC-1",
    "PREC-2",
    "PREC-3",
    "PREC-4",
    "GRAD-1",
    "GRAD-2",
    "GRAD-3",
    "GRAD-4",
]


def test_the_cases_are_sound() -> None:
    check_cases(CASES)


def test_a_case_answers_for_what_sets_it_apart_and_for_the_rarest_other() -> None:
    cases = shared_out(value_case(f"case {n}", LSTM(2), state=True) for n in range(12))
    shown = shown_by(cases[0])
    assert all(case.clauses[0] == shown[0] for case in cases)
    assert [case.clauses[1] for case in cases[: len(shown) - 1]] == list(shown[1:])
    (one,) = shared_out([value_case("one", LSTM(2), everywhere=True)])
    assert one.clauses == (shown[0], "CAP-1")


def test_the_crossing_is_full() -> None:
    crossing = {
        f"values/{cell}/{direction}/{form}/{state}/{mask}"
        for cell, direction, form, state, mask in itertools.product(
            CELLS, DIRECTIONS, FORMS, ("zeros", "state"), MASKS
        )
    }
    assert len(crossing) == 768
    assert crossing <= {case.id for case in STANDARD}


def test_few_signatures_are_compiled() -> None:
    known = {one for case in STANDARD for one in signatures(case)}
    assert len(known) <= 250
    assert len({one for case in of_tier(CASES, "smoke") for one in signatures(case)}) <= 60


def test_a_signature_is_what_an_engine_compiles() -> None:
    def one(layer: Any, **fields: Any) -> set[Any]:
        return set(signatures(value_case("one", layer, **fields)))

    base = one(LSTM(2, return_sequences=True), mask="holes")
    assert base == one(LSTM(2, **BOTH), mask="left", state=True)
    assert base.isdisjoint(one(LSTM(2), mask="holes"))
    assert base.isdisjoint(one(LSTM(2, return_sequences=True), mask="lengths"))
    assert base.isdisjoint(one(LSTM(2, return_sequences=True), mask="holes", batch=4))
    assert one(LSTM(2, return_sequences=True), mask="holes", gradients=False) < base


def test_every_clause_that_a_value_shows_has_its_case() -> None:
    cited = {clause for case in STANDARD for clause in case.clauses}
    assert cited == {*VALUE_CLAUSES, "CAP-1"}


def test_smoke_is_small_and_all_of_it_exists() -> None:
    assert {case.id for case in of_tier(CASES, "smoke")} == set(SMOKE)
    assert 30 <= len(SMOKE) <= 45


def test_every_kind_of_call_is_run_on_every_implementation() -> None:
    chosen = [case for case in STANDARD if case.everywhere]
    assert 25 <= len(chosen) <= 40
    assert {case.dtype for case in chosen} == {"float32", "float64", "float16", "bfloat16"}
    assert {case.precision for case in chosen} == {"highest", "tf32", "bfloat16"}
    assert {type(case.layer) for case in chosen} == {SimpleRNN, LSTM, GRU, Bidirectional, Stack}
    assert {"none", "lengths", "holes"} <= {case.mask for case in chosen}
    assert all("CAP-1" in case.clauses for case in chosen)


def test_every_pair_of_levels_meets() -> None:
    rows = list(covering(FACTORS, possible, times=3))
    pairwise = [case for case in CASES if case.id.startswith("values/pairwise/")]
    assert len(rows) == len(pairwise) > 400
    wanted = set(pairs(FACTORS, possible))
    first = [
        pair for row in rows[:STANDARD_ROWS] for pair in itertools.combinations(row.items(), 2)
    ]
    assert len(set(first)) > 0.7 * len(wanted)
    every = {pair for row in rows for pair in itertools.combinations(row.items(), 2)}
    assert every == wanted


def test_needs_name_every_feature_in_use() -> None:
    case = value_case("one", LSTM(2), precision="bfloat16", mask="lengths", gradients=False)
    assert needs_of(case) == ("float32", "bfloat16_products", "masks")
    assert needs_of(value_case("two", LSTM(2), dtype="float16")) == ("float16",)
    assert needs_of(value_case("three", LSTM(2))) == ("float32", "gradients")


def test_an_engine_without_gradients_is_judged_by_nearly_all_outputs() -> None:
    compared = [case for case in STANDARD if case.gradients]
    left_out = [case for case in compared if "gradients" in case.needs]
    assert len(compared) > 300
    assert 20 <= len(left_out) <= 80


@pytest.mark.parametrize(
    ("layer", "fields", "cited", "others"),
    [
        (LSTM(2, **BOTH), {}, {"LSTM-1", "LSTM-5", "NAME-3", "GRAD-4"}, {"BI-1", "MASK-3"}),
        (LSTM(2, **BOTH), {"mask": "left"}, {"MASK-1", "MASK-3", "MASK-8"}, {"LSTM-1", "GRAD-3"}),
        (LSTM(2), {"mask": "lengths"}, {"MASK-2", "MASK-5"}, {"MASK-1", "MASK-4"}),
        (GRU(2, reset_after=False), {}, {"GRU-3"}, {"GRU-2"}),
        (GRU(2, use_bias=False), {}, {"BIAS-1", "GRU-2"}, set()),
        (Bidirectional(GRU(2)), {}, {"BI-3", "BI-4"}, {"BI-2", "GRU-1"}),
        (Bidirectional(GRU(2, **BOTH)), {"mask": "left"}, {"BI-2", "MASK-4"}, {"BI-4"}),
        (GRU(2, **BOTH), {"dtype": "float16", "mask": "left"}, {"DTYPE-4"}, {"MASK-3", "GRU-1"}),
        (GRU(2, **BOTH), {"precision": "tf32"}, {"PREC-3", "PREC-4"}, {"PREC-1", "GRU-1"}),
        (GRU(2, **BOTH), {"mask": "left", "poison": True}, {"MASK-6", "MASK-7"}, {"MASK-4"}),
        (SimpleRNN(2, go_backwards=True), {}, {"BACK-3"}, {"BACK-1", "RNN-1"}),
    ],
)
def test_a_case_shows_what_sets_it_apart(
    layer: Any, fields: dict[str, Any], cited: set[str], others: set[str]
) -> None:
    found = set(shown_by(value_case("one", layer, **fields)))
    assert cited <= found
    assert not others & found


@pytest.mark.parametrize("seed", [0, 1])
def test_nearly_all_cases_are_judged_by_value_and_can_fail(seed: int) -> None:
    tame = [case for case in STANDARD if not case.wild]
    known = [expected(case, seed) for case in tame]
    admitted = [all(map(one.admitted, one.noise)) for one in known]
    assert np.mean(admitted) >= 0.99
    sizes = [
        _largest(one)
        for one, case in zip(known, tame, strict=True)
        if case.mask != "all"  # which leaves nothing but zeros and the initial state
    ]
    assert max(sizes) < 1000, "a value this large would overflow in float16"
    assert np.mean(np.array(sizes) > 0.05) >= 0.98, "a wrong value that small would not show"


def test_one_case_of_each_group_catches_a_wrong_input() -> None:
    subject = Subject("numpy")
    groups = {
        case.id.split("/")[1]: case for case in STANDARD if case.mask != "all" and not case.wild
    }
    for case in groups.values():
        observed = execute(case, subject)
        assert isinstance(observed, Observed)
        assert judge(case, observed, subject.seed).status == "pass"
        other = execute(dataclasses.replace(case, label="other arrays"), subject)
        assert isinstance(other, Observed)
        assert judge(case, other, subject.seed).status == "fail", case.id


def _largest(known: Any) -> float:
    return max(float(np.abs(array.reference).max(initial=0)) for array in known.outputs.values())


def test_identifiers_tell_arrays_apart() -> None:
    assert len({case.id for case in CASES}) == len(CASES)
    assert not any(case.label for case in CASES)
    assert all(isinstance(case, ValueCase) for case in CASES)
