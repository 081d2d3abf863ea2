"""The data types and the product precisions of the spec (clauses DTYPE and PREC)."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from seqcore.errors import DtypeError

DTYPES = ("float64", "float32", "float16", "bfloat16")
HALF_DTYPES = ("float16", "bfloat16")
PRECISIONS = ("highest", "tf32", "bfloat16")

_NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
}


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Return NumPy's dtype object for one of `DTYPES`.

    Raises:
        DtypeError: if the name is none of them.
    """
    if dtype == "bfloat16" and dtype not in _NUMPY_DTYPES:
        import ml_dtypes

        _NUMPY_DTYPES[dtype] = np.dtype(ml_dtypes.bfloat16)  # 9 ms that most processes never need
    try:
        return _NUMPY_DTYPES[dtype]
    except (KeyError, TypeError):
        raise DtypeError(
            f"dtype: received {dtype!r}, expected one of {', '.join(DTYPES)}"
        ) from None


@functools.lru_cache(maxsize=64)
def dtype_name(dtype: np.dtype[Any]) -> str:
    """Return a dtype's name; NumPy puts it together each time, in 2 us."""
    return dtype.name


def compute_dtype(dtype: str) -> str:
    """Return the dtype in which a cell of that dtype computes: float32 for the half types."""
    return "float32" if dtype in HALF_DTYPES else dtype
