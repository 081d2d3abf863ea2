"""What laws compare with, against what it stands for: the stream, the roundings, and the trap."""

from __future__ import annotations

import pickle

import ml_dtypes
import msgspec
import numpy as np
import pytest

from seqcore.conformance.cases import descriptions, precision
from seqcore.conformance.stream import Stream, key, written


@pytest.mark.clause("INIT-2")
def test_the_stream_is_pcg64() -> None:
    for number in (0, 1, 2**32, key(0, "kernel", (5, 12), "zeros", {})):
        raw = np.random.PCG64(number).random_raw(8) >> np.uint64(11)
        assert Stream(number).uniform(8) == (raw * 2.0**-53).tolist()


@pytest.mark.parametrize(
    "value", [0.0, 1e-5, -1e-5, 1.25e-5, 9.9e-6, 1e-7, 1.5e300, 5e-324, 1e15, 1e16, -0.1, 3.0]
)
def test_parameters_are_written_as_the_library_writes_them(value: float) -> None:
    assert written(value) == msgspec.json.encode(value).decode()


def test_the_roundings_are_those_of_ml_dtypes() -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(precision.rounded(numbers, "bfloat16"), expected)


def test_the_trap_springs_where_it_is_unpickled() -> None:
    pickle.loads(pickle.dumps(descriptions.Trap()))
    assert descriptions.EXECUTED == ["unpickled"]
    descriptions.EXECUTED.clear()
