"""How a law is written: the decorator, and what a law calls to judge a result."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqcore.conformance import laws
from seqcore.conformance.laws import Departure, first_step, law, require_close
from seqcore.conformance.model import LawCase

EPS = 2.0**-23


def holds(subject: Any, *_: Any) -> None:
    pass


def made(monkeypatch: pytest.MonkeyPatch, *clauses: str, **options: Any) -> list[LawCase]:
    """The cases that `law` makes of a function, which the suite then knows nothing of."""
    monkeypatch.setattr(laws, "LAWS", [])
    law(*clauses, **options)(holds)
    return laws.LAWS


def test_a_law_is_a_case_for_each_of_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = made(monkeypatch, "RNN-1")
    assert one.id == "RNN-1/holds"
    two = made(monkeypatch, "RNN-1", "NAME-2", tier="full", over={"a": 1, "b": 2})
    assert [case.id for case in two] == ["RNN-1/holds/a", "RNN-1/holds/b"]
    assert {(case.clauses, case.tier) for case in two} == {(("RNN-1", "NAME-2"), "full")}


@pytest.mark.parametrize("clauses", [(), ("RNN-1", "NAME-2", "ACT-1")])
def test_a_law_has_one_or_two_clauses(
    monkeypatch: pytest.MonkeyPatch, clauses: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=f"received {len(clauses)} clauses, expected one or two"):
        made(monkeypatch, *clauses)


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        ({}, ("float32",)),
        ({"needs": ("masks",)}, ("float32", "masks")),
        ({"needs": ("bfloat16", "masks")}, ("bfloat16", "masks")),
        ({"arrays": False}, ()),
        ({"needs": ("gates",), "arrays": False}, ("gates",)),
    ],
)
def test_a_law_with_arrays_needs_their_data_type(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], needs: tuple[str, ...]
) -> None:
    (case,) = made(monkeypatch, "RNN-1", **options)
    assert case.needs == needs


def test_the_unit_is_that_of_what_is_expected() -> None:
    expected = np.array([[[0.0], [100.0], [0.0]]], np.float32)
    found = expected + np.array([[[0], [0], [600 * EPS]]], np.float32)
    require_close(found, expected, 6, "y")
    with pytest.raises(Departure, match=r"y: expected within 5\.9 eps, received 6 eps") as caught:
        require_close(found, expected, 5.9, "y")
    assert caught.value.finding.step == 2
    assert caught.value.finding.eps == 6
    assert caught.value.finding.limit == 5.9
    # The magnitude of what was found makes no unit larger.
    with pytest.raises(Departure):
        require_close(expected, found * 0, 6, "y")


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_another_data_type_is_a_departure_and_no_other_unit(dtype: str) -> None:
    expected = np.ones(3, np.float32)
    with pytest.raises(Departure, match=f"y: expected float32, received {dtype}"):
        require_close(expected.astype(dtype), expected, 1e9, "y")


def test_a_reference_in_float64_needs_the_data_type_of_the_result() -> None:
    reference = np.full(3, 1 / 3)
    require_close(reference.astype(np.float32), reference, 1, "y", dtype="float32")
    with pytest.raises(Departure, match="expected float64, received float32"):
        require_close(reference.astype(np.float32), reference, 1, "y")
    with pytest.raises(Departure, match="expected float32, received float16"):
        require_close(reference.astype(np.float16), reference, 1e9, "y", dtype="float32")


def test_nothing_is_close_to_nan_or_to_another_shape() -> None:
    one = np.ones((1, 1, 1), np.float32)
    with pytest.raises(Departure, match="received inf eps"):
        require_close(one * np.float32(np.nan), one, 1e9, "y")
    with pytest.raises(Departure, match="expected shape"):
        require_close(one[0], one, 1e9, "y")
    require_close(one * np.float32(np.nan), one * np.float32(np.nan), 0, "y")


def test_the_first_step() -> None:
    expected = np.zeros((2, 4, 1))
    found = expected.copy()
    found[1, 2] = 0.5
    found[0, 3] = 2
    assert first_step(found, expected) == 2
    assert first_step(found, expected, 1) == 3
    assert first_step(found, expected, 2) is None
    assert first_step(found[0], expected[0]) is None
