"""`seqcore.pad`: sequences of different lengths side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import DTYPES, assert_close, assert_same_bits


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_lengths_and_zeros(dtype: str) -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=(time, 3)).astype(DTYPES[dtype]) for time in (2, 5, 0, 1)]
    x, lengths = sc.pad(parts)
    assert x.shape == (4, 5, 3)
    assert x.dtype == DTYPES[dtype]
    np.testing.assert_array_equal(lengths, [2, 5, 0, 1])
    assert lengths.dtype.kind == "i"
    for row, part in enumerate(parts):
        assert_same_bits(x[row, : len(part)], part)
        assert not x[row, len(part) :].astype(float).any()
    assert not any(np.shares_memory(x, part) for part in parts)


@pytest.mark.clause("MASK-2")
def test_padded_and_run_with_lengths_is_each_alone() -> None:
    rng = np.random.default_rng(1)
    parts = [rng.normal(size=(time, 3)) for time in (4, 1, 6)]
    layer = sc.Bidirectional(sc.LSTM(2, return_sequences=True, return_state=True))
    weights = layer.init(3, dtype="float64")
    x, lengths = sc.pad(parts)
    y, *states = layer.apply(weights, x, lengths=lengths)
    for row, part in enumerate(parts):
        alone = layer.apply(weights, part[None])
        assert_close(y[row, : len(part)], alone.y[0], 50)
        assert not y[row, len(part) :].any()
        for state, other in zip(states, alone[1:], strict=True):
            assert_close(state[row], other[0], 50)


def test_sequences_of_numbers_are_read_as_float32() -> None:
    x, lengths = sc.pad([[[1, 2]], [[3, 4], [5, 6.5]]])
    assert x.dtype == np.float32
    assert x.tolist() == [[[1, 2], [0, 0]], [[3, 4], [5, 6.5]]]
    assert lengths.tolist() == [1, 2]
    x, lengths = sc.pad(([[1.0]],))
    assert (x.shape, lengths.tolist()) == ((1, 1, 1), [1])


def test_all_empty() -> None:
    x, lengths = sc.pad([np.zeros((0, 3)), np.zeros((0, 3))])
    assert x.shape == (2, 0, 3)
    assert lengths.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("parts", "error", "words"),
    [
        ([], sc.ShapeError, "empty list, expected at least one sequence"),
        (np.zeros((2, 3, 4)), sc.ShapeError, "received ndarray, expected a list"),
        ("abc", sc.ShapeError, "received str, expected a list"),
        (None, sc.ShapeError, "received NoneType"),
        ([np.zeros(3)], sc.ShapeError, r"sequence 0 has shape \(3,\), expected \(time, features\)"),
        ([np.zeros((1, 2)), np.zeros((1, 1, 2))], sc.ShapeError, "sequence 1 has shape"),
        ([np.zeros((1, 2)), np.zeros((1, 3))], sc.ShapeError,
         "sequence 1 has 3 features, expected 2"),
        ([np.zeros((1, 2)), np.zeros((1, 2), np.float32)], sc.DtypeError,
         "sequence 1 is float32, expected float64"),
        ([np.zeros((1, 2), int)], sc.DtypeError, "sequence 0 is int64, expected one of float64"),
        ([np.zeros((1, 2), object)], sc.DtypeError, "sequence 0 is object"),
        ([[[1.0, 2.0], [3.0]]], sc.ShapeError, "sequence 0"),
        ([[["a", "b"]]], sc.ShapeError, "sequence 0"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_padded(parts: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        sc.pad(parts)
    assert str(caught.value).startswith("pad: ")
