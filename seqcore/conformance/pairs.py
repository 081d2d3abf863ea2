"""How far backends are apart from one another, whatever the oracle says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from seqcore.conformance.judge import pairwise
from seqcore.conformance.model import Case, Observed, ValueCase
from seqcore.conformance.report.model import KINDS, Kind, Pair

_Place = tuple[str, str, Kind, str]


def pairs(
    cases: Iterable[Case], observed: Mapping[str, Mapping[str, Observed]], seed: int
) -> list[Pair]:
    """Return the largest difference between each two backends, by kind and data type.

    Args:
        cases: Those that were run.
        observed: By backend and case.
        seed: The seed of the run's arrays.
    """
    found: dict[_Place, tuple[float, int, str]] = {}
    for case in cases:
        results = {name: known[case.id] for name, known in observed.items() if case.id in known}
        if not isinstance(case, ValueCase) or len(results) < 2:
            continue
        for (first, second), apart in pairwise(case, results, seed).items():
            for kind in KINDS:
                if kind in apart:
                    place = (first, second, kind, case.dtype)
                    eps, count, where = found.get(place, (-1.0, 0, ""))
                    if apart[kind] > eps:
                        eps, where = apart[kind], case.id
                    found[place] = (eps, count + 1, where)
    return [
        Pair(
            first=first,
            second=second,
            kind=kind,
            dtype=dtype,
            eps=eps if math.isfinite(eps) else None,
            cases=count,
            case=where,
        )
        for (first, second, kind, dtype), (eps, count, where) in found.items()
    ]
