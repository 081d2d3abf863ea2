"""Counting false alarms over seeds."""

from __future__ import annotations

import pytest

from seqcore.conformance.alarms import main, tally
from seqcore.conformance.cases import all_cases, of_tier
from seqcore.conformance.mutants import all_mutants
from seqcore.conformance.subject import Subject

CASES = [case for case in of_tier(all_cases(), "smoke") if "LSTM-1" in case.clauses]


def test_a_right_backend_gives_none() -> None:
    seen: list[int] = []
    found = tally("numpy", CASES, range(3, 6), lambda _, seed: seen.append(seed))
    assert seen == [3, 4, 5]
    assert found.passed == 3 * len(CASES)
    assert found.alarms == []


def test_a_wrong_one_gives_them_with_seed_and_case() -> None:
    wrong = next(one for one in all_mutants() if one.clause == "LSTM-1")
    with wrong.registered() as name:
        found = tally(name, CASES, [7])
    assert found.alarms
    assert found.alarms[0].startswith(f"seed 7: {CASES[0].id}: ")


def test_what_is_not_supported_is_counted_apart() -> None:
    cases = [case for case in of_tier(all_cases(), "smoke") if "native_autodiff" in case.needs]
    assert cases
    assert not Subject("numpy").supports("native_autodiff")
    found = tally("numpy", cases, [0, 1])
    assert (found.passed, found.left_out, found.alarms) == (0, 2 * len(cases), [])


def test_the_command_prints_a_line_for_each_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tier", "smoke", "--seeds", "1", "--first", "4"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("numpy: 1 seeds, ")
    assert shown.out.endswith(" 0 alarms\n")
    assert "seed 4" in shown.err
