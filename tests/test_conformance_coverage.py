from __future__ import annotations

import itertools

import pytest

from seqcore.conformance.coverage import Row, covering, pairs

FACTORS = {"a": ("1", "2", "3", "4"), "b": ("x", "y", "z"), "c": ("u", "v"), "d": ("p", "q", "r")}


def never_4_with_z(row: Row) -> bool:
    return (row.get("a"), row.get("b")) != ("4", "z")


def test_every_pair_that_may_meet_meets() -> None:
    rows = list(covering(FACTORS, never_4_with_z))
    met = {pair for row in rows for pair in itertools.combinations(row.items(), 2)}
    assert met == set(pairs(FACTORS, never_4_with_z))
    assert (("a", "4"), ("b", "z")) not in met


def test_it_takes_few_rows() -> None:
    # 4 * 3 are needed for the two largest factors, of 72 in all.
    assert 12 <= len(list(covering(FACTORS))) <= 15


def test_more_coverings_bring_rows_that_differ() -> None:
    once = [tuple(row.items()) for row in covering(FACTORS)]
    thrice = [tuple(row.items()) for row in covering(FACTORS, times=3)]
    assert thrice[: len(once)] == once
    assert len(thrice) > 2 * len(once)
    assert len(set(thrice)) == len(thrice)


def test_rows_are_the_same_every_time_and_in_the_order_of_the_factors() -> None:
    rows = list(covering(FACTORS))
    assert rows == list(covering(FACTORS))
    assert all(tuple(row) == tuple(FACTORS) for row in rows)


def test_a_dead_end_is_named() -> None:
    with pytest.raises(ValueError, match="no level of 'd' goes with"):
        list(covering(FACTORS, lambda row: row.get("a") != "1" or "d" not in row))
