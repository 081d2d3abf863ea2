"""The cases: calls with values to compare, and laws. Each module holds one group of subjects."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable

from seqcore.conformance.clauses import clauses
from seqcore.conformance.laws import LAWS
from seqcore.conformance.model import TIERS, Case, Tier
from seqcore.spi import FEATURES


@functools.cache
def all_cases() -> tuple[Case, ...]:
    """Return the suite's own cases, in a fixed order.

    Raises:
        ValueError: if a case or a clause is not as it must be; see `check_cases`.
    """
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    from seqcore.conformance.cases.values import value_cases

    cases = (*value_cases(), *LAWS)
    check_cases(cases)
    missing = [name for name in clauses() if not any(name in case.clauses for case in cases)]
    if missing:
        raise ValueError(f"clauses without a case: {', '.join(missing)}")
    return cases


def check_cases(cases: Iterable[Case]) -> None:
    """Check that cases have clauses that exist, features that exist, and identifiers of their own.

    Raises:
        ValueError: naming the case.
    """
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise ValueError(f"case {case.id!r}: the identifier is taken")
        seen.add(case.id)
        if not 1 <= len(case.clauses) <= 2:
            raise ValueError(
                f"case {case.id!r}: answers for {len(case.clauses)} clauses, expected one or two"
            )
        for name in case.clauses:
            if name not in clauses():
                raise ValueError(f"case {case.id!r}: no clause is called {name!r}")
        for feature in case.needs:
            if feature not in FEATURES:
                raise ValueError(f"case {case.id!r}: no feature is called {feature!r}")


def of_tier(cases: Iterable[Case], tier: Tier) -> tuple[Case, ...]:
    """Return the cases that a tier runs."""
    rank = TIERS.index(tier)
    return tuple(case for case in cases if TIERS.index(case.tier) <= rank)
