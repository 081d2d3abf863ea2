"""Covering arrays: few rows in which every pair of levels of two factors meets.

A row starts from a pair that has not met, of the levels used least, and takes for every other
factor the level that meets most of the row for the first time. It is greedy, so that the first
rows bring most, and draws no random numbers, so that the rows are the same everywhere.

Source: the one-row-at-a-time scheme of Cohen, Dalal, Fredman and Patton, "The AETG system: an
approach to testing based on combinatorial design", IEEE Transactions on Software Engineering 23,
1997, without its random candidates.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

Factors = Mapping[str, Sequence[str]]
"""The levels of each factor, by name."""

Row = dict[str, str]
"""One level of every factor, or of some."""

Level = tuple[str, str]
Pair = tuple[Level, Level]


def covering(
    factors: Factors, allowed: Callable[[Row], bool] = lambda _: True, times: int = 1
) -> Iterator[Row]:
    """Yield different rows until every pair of levels that may meet has met.

    Args:
        factors: Those first that decide what the others may be.
        allowed: Says of some levels whether they may meet.
        times: How often every pair shall meet; a row that comes again is counted, not yielded.

    Raises:
        ValueError: if some levels may meet, but none of a further factor goes with them.
    """
    wanted = pairs(factors, allowed)
    met: Counter[Pair] = Counter()
    used: Counter[Level] = Counter()
    seen: set[tuple[str, ...]] = set()
    for goal in range(1, times + 1):
        while missing := [pair for pair in wanted if met[pair] < goal]:
            start = min(missing, key=lambda pair: used[pair[0]] + used[pair[1]])
            row = _row(factors, allowed, start, met, used, goal)
            met.update(itertools.combinations(row.items(), 2))
            used.update(row.items())
            if tuple(row.values()) not in seen:
                seen.add(tuple(row.values()))
                yield row


def pairs(factors: Factors, allowed: Callable[[Row], bool] = lambda _: True) -> list[Pair]:
    """Return every pair of levels of two factors that may meet, in the order of the factors."""
    return [
        ((one, a), (other, b))
        for one, other in itertools.combinations(factors, 2)
        for a, b in itertools.product(factors[one], factors[other])
        if allowed({one: a, other: b})
    ]


def _row(
    factors: Factors,
    allowed: Callable[[Row], bool],
    start: Pair,
    met: Counter[Pair],
    used: Counter[Level],
    goal: int,
) -> Row:
    order = list(factors)
    row = dict(start)

    def rank(name: str, level: str) -> tuple[int, int]:
        """Return how many of the row the level has met often enough, and how often it was used."""
        enough = 0
        for other in row.items():
            mine = (name, level)
            after = order.index(name) > order.index(other[0])
            enough += met[(other, mine) if after else (mine, other)] >= goal
        return enough, used[(name, level)]

    for name in order:
        if name not in row:
            possible = [level for level in factors[name] if allowed({**row, name: level})]
            if not possible:
                raise ValueError(f"covering: no level of {name!r} goes with {row}")
            ranks = [rank(name, level) for level in possible]
            row[name] = possible[ranks.index(min(ranks))]
    return {name: row[name] for name in order}
