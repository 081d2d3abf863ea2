"""The pairwise map: the largest difference between any two backends, as tables with a tint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from seqcore.conformance.report.model import KINDS, Kind, Pair, Report
from seqcore.conformance.report.wording import number
from seqcore.spec.dtypes import DTYPES

ORACLE = "oracle"
"""The row of what every case is judged against."""

_PALEST, _DEEPEST = 0.06, 0.62
"""The tint's opacity at both ends of the scale; text stays legible on both."""


def heat_maps(report: Report) -> Iterator[str]:
    """Yield a map for each kind and data type that was compared."""
    pairs = [*report.pairs, *_against_the_oracle(report)]
    if not pairs:
        yield "<p>No case compared arrays.</p>"
        return
    finite = [pair.eps for pair in pairs if pair.eps]
    largest = max(finite, default=1.0)
    names = [ORACLE, *(one.name for one in report.backends)]
    for kind in KINDS:
        of_kind = [pair for pair in pairs if pair.kind == kind]
        if not of_kind:
            continue
        yield f'<h3>{kind.capitalize()}</h3><div class="maps">'
        order = [*DTYPES, *sorted({pair.dtype for pair in of_kind} - {*DTYPES})]
        for dtype in order:
            found = [pair for pair in of_kind if pair.dtype == dtype]
            if found:
                yield from _map(f"{kind}, {dtype}", dtype, names, found, largest)
        yield "</div>"


def _against_the_oracle(report: Report) -> Iterator[Pair]:
    for backend in report.backends:
        worst: dict[tuple[Kind, str], Pair] = {}
        for row in backend.rows:
            for kind, error in row.worst.items():
                known = worst.get((kind, row.dtype))
                count = 1 if known is None else known.cases + 1
                larger = known is None or _size(error.eps) > _size(known.eps)
                worst[kind, row.dtype] = Pair(
                    first=ORACLE,
                    second=backend.name,
                    kind=kind,
                    dtype=row.dtype,
                    eps=error.eps if larger or known is None else known.eps,
                    cases=count,
                    case=row.case if larger or known is None else known.case,
                )
        yield from worst.values()


def _map(
    label: str, title: str, names: Sequence[str], pairs: Sequence[Pair], largest: float
) -> Iterator[str]:
    known = {frozenset((pair.first, pair.second)): pair for pair in pairs}
    yield '<div class="scroll" tabindex="0"><table class="map">'
    yield f"<caption>{escape(title)}</caption>"
    yield f'<thead><tr><td aria-label="{escape(label)}"></td>'
    yield from (f'<th scope="col">{escape(name)}</th>' for name in names)
    yield "</tr></thead><tbody>"
    for row in names:
        yield f'<tr><th scope="row">{escape(row)}</th>'
        yield "".join(_cell(known.get(frozenset((row, name))), largest) for name in names)
        yield "</tr>"
    yield "</tbody></table></div>"


def _cell(pair: Pair | None, largest: float) -> str:
    if pair is None:
        return '<td class="none">–</td>'
    note = f"{pair.first} and {pair.second}, {pair.cases} compared; the largest: {pair.case}"
    return (
        f'<td style="--t:{_tint(pair.eps, largest):.2f}" title="{escape(note)}">'
        f"{number(pair.eps)}</td>"
    )


def _tint(eps: float | None, largest: float) -> float:
    if eps is None:
        return _DEEPEST
    share = math.log1p(eps) / math.log1p(largest)
    return _PALEST + (_DEEPEST - _PALEST) * min(1.0, share)


def _size(eps: float | None) -> float:
    return math.inf if eps is None else eps
