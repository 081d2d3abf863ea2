"""How far two arrays are apart, in eps: the unit in which limits and reports are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def unit_eps(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype."""
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def unit(reference: NDArray[Any], eps: float) -> float:
    """Return `eps * max(1, |reference|max)`."""
    known = np.abs(np.asarray(reference, np.float64))
    return eps * max(1.0, float(np.max(known, initial=0.0, where=np.isfinite(known))))


def differences(found: Any, reference: Any) -> NDArray[np.float64]:
    """Return `|found - reference|`, infinite where one alone is NaN or infinite, else never NaN."""
    a, b = np.asarray(found, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))


def deviations(found: Any, reference: NDArray[Any], eps: float) -> NDArray[np.float64]:
    """Return each element's deviation in units of the reference."""
    return differences(found, reference) / unit(reference, eps)


def worst(found: Any, reference: NDArray[Any], eps: float) -> float:
    """Return the largest deviation."""
    return float(np.max(deviations(found, reference, eps), initial=0.0))
