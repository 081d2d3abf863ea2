"""Which cases the smoke and standard tiers run: what leaves one shows as a change of the list."""

from __future__ import annotations

from pathlib import Path

from seqcore.conformance.cases import all_cases
from seqcore.conformance.clauses import clauses
from seqcore.conformance.model import ValueCase
from seqcore.spec.dtypes import DTYPES

LIST = Path(__file__).with_name("cases_of_tiers.txt")


def cases_of_tiers() -> str:
    """Return a line for each case that is not of the full tier alone."""
    lines = sorted(f"{case.tier:10}{case.id}" for case in all_cases() if case.tier != "full")
    return "\n".join(lines) + "\n"


def test_no_case_leaves_its_tier_unseen() -> None:
    now, then = (set(text.splitlines()) for text in (cases_of_tiers(), LIST.read_text("utf-8")))
    message = f"write what test_conformance_tiers.cases_of_tiers() returns into {LIST.name}"
    assert (sorted(then - now), sorted(now - then)) == ([], []), message


def test_the_smoke_tier_tries_every_dtype_and_most_clauses() -> None:
    smoke = [case for case in all_cases() if case.tier == "smoke"]
    dtypes = {case.dtype for case in smoke if isinstance(case, ValueCase)}
    assert dtypes == set(DTYPES)
    tried = {clause for case in smoke for clause in case.clauses}
    assert len(tried) > len(clauses()) / 2, sorted(set(clauses()) - tried)
