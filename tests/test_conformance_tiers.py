"""Which clauses each tier tries, and how often: what leaves a tier shows in the table."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from seqcore.conformance.cases import all_cases
from seqcore.conformance.clauses import clauses
from seqcore.conformance.model import TIERS, ValueCase
from seqcore.spec.dtypes import DTYPES

TABLE = Path(__file__).with_name("cases_of_tiers.txt")


def table() -> str:
    """Return a line for each clause, and for each dtype of the value cases, with its cases."""
    counts = Counter(
        (subject, case.tier)
        for case in all_cases()
        for subject in (*case.clauses, *([case.dtype] if isinstance(case, ValueCase) else []))
    )
    lines = [f"{'':10}" + "".join(f"{tier:>10}" for tier in TIERS)]
    lines += [
        f"{subject:10}" + "".join(f"{counts[subject, tier]:10}" for tier in TIERS)
        for subject in (*clauses(), *DTYPES)
    ]
    return "\n".join(lines) + "\n"


def test_no_case_leaves_its_tier_unseen() -> None:
    message = f"write what test_conformance_tiers.table() returns into {TABLE.name}, and say why"
    assert table() == TABLE.read_text(encoding="utf-8"), message


def test_the_smoke_tier_tries_every_dtype_and_most_clauses() -> None:
    smoke = [case for case in all_cases() if case.tier == "smoke"]
    dtypes = {case.dtype for case in smoke if isinstance(case, ValueCase)}
    assert dtypes == set(DTYPES)
    tried = {clause for case in smoke for clause in case.clauses}
    assert len(tried) > len(clauses()) / 2, sorted(set(clauses()) - tried)
