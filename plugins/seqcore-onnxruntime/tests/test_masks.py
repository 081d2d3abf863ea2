"""The indices of a mask, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from seqcore_onnxruntime.masks import indices

NAMES = ("lengths", "order", "places", "places_ahead", "places_behind")


@pytest.fixture(params=[(1, 1), (3, 7), (8, 5)], ids=str)
def mask(request: pytest.FixtureRequest) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.random.default_rng(0).random(request.param) < 0.6
    found[-1] = False
    return found


def test_valid_steps_come_first_and_in_order(mask: NDArray[np.bool_]) -> None:
    batch, time = mask.shape
    found = indices(mask, NAMES)
    for row in range(batch):
        expected = [*np.flatnonzero(mask[row]), *np.flatnonzero(~mask[row])]
        assert (found["order"][:, row] - row * time).tolist() == expected
        assert found["lengths"][row] == mask[row].sum()


def test_places_undo_the_order(mask: NDArray[np.bool_]) -> None:
    found = indices(mask, NAMES)
    steps = np.arange(mask.size).reshape(mask.shape)
    np.testing.assert_array_equal(found["order"].reshape(-1)[found["places"]], steps)


@pytest.mark.parametrize("name", ["places_ahead", "places_behind"])
def test_masked_steps_have_the_place_of_the_state_that_is_carried(
    mask: NDArray[np.bool_], name: str
) -> None:
    batch, time = mask.shape
    found = indices(mask, NAMES)
    for row in range(batch):
        carried = time * batch + row  # the initial state's
        for step in range(time) if name == "places_ahead" else reversed(range(time)):
            if mask[row, step]:
                carried = found["places"][row, step]
            assert found[name][row, step] == carried


def test_only_what_is_asked_for_is_made(mask: NDArray[np.bool_]) -> None:
    assert list(indices(mask, ("x", "lengths", "order", "places"))) == [
        "lengths",
        "order",
        "places",
    ]
    assert list(indices(mask, ("x", "lengths"))) == ["lengths"]
