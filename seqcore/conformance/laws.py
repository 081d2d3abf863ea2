"""How a law is written: a function that is told the backend, and what it calls to judge it.

    @law("PURE-1", needs=("gradients",), over={"lstm": sc.LSTM(3), "gru": sc.GRU(3)})
    def arguments_stay_as_they_are(subject: Subject, layer: Layer) -> None:
        '''No call changes an argument.'''
        ...

makes the cases `PURE-1/arguments-stay-as-they-are/lstm` and `.../gru`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.model import Finding, LawCase, Tier
from seqcore.conformance.subject import Subject

LAWS: list[LawCase] = []
"""Every law of the modules imported so far, in the order of their definition."""


class Departure(Exception):
    """A law that does not hold. It never leaves the suite."""

    def __init__(self, message: str, **details: Any) -> None:
        """Take the fields of a `Finding`."""
        super().__init__(message)
        self.finding = Finding(message=message, **details)


def law(
    *clauses: str,
    tier: Tier = "standard",
    needs: tuple[str, ...] = (),
    over: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a law of a function of the subject and, with `over`, of one of its values.

    Args:
        clauses: At most two clauses that are broken where the law does not hold.
        tier: The first tier that runs it.
        needs: The features that it uses.
        over: One case for each entry: its name, and what the function is called with.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = f"{clauses[0]}/{function.__name__.replace('_', '-')}"
        if over is None:
            LAWS.append(LawCase(id=name, clauses=clauses, tier=tier, needs=needs, check=function))
            return function
        for key, value in over.items():
            check = functools.partial(_call, function, value)
            identifier = f"{name}/{key}"
            LAWS.append(
                LawCase(id=identifier, clauses=clauses, tier=tier, needs=needs, check=check)
            )
        return function

    return register


def _call(function: Callable[..., None], value: Any, subject: Subject) -> None:
    function(subject, value)


def require(holds: bool, message: str, *, expected: Any = "", received: Any = "") -> None:
    """Depart unless a condition holds."""
    if not holds:
        raise Departure(message, expected=shown(expected), received=shown(received))


def require_bits(found: Any, expected: Any, what: str) -> None:
    """Depart unless two arrays have the same dtype, shape and bits (NaN equals NaN)."""
    a, b = np.asarray(found), np.asarray(expected)
    same = a.dtype == b.dtype and a.shape == b.shape
    if same and np.ascontiguousarray(a).tobytes() != np.ascontiguousarray(b).tobytes():
        kind = np.dtype(f"u{a.dtype.itemsize}")
        bits = np.ascontiguousarray(a).view(kind) == np.ascontiguousarray(b).view(kind)
        same = bool(np.all(bits | ((a != a) & (b != b))))
    if not same:
        raise Departure(
            f"{what}: expected the same bits",
            expected=shown(b),
            received=shown(a),
            step=first_step(a, b),
        )


def require_close(found: Any, expected: Any, eps: float, what: str) -> None:
    """Depart unless an array is within `eps` units of another (see the specification).

    The unit is that of the dtype of `found` times the largest expected magnitude, at least 1.
    """
    a, b = np.asarray(found), np.asarray(expected)
    require(
        a.shape == b.shape,
        f"{what}: expected shape {b.shape}, received {a.shape}",
        expected=b,
        received=a,
    )
    worst = error_in_eps(a, b)
    if not worst <= eps:
        raise Departure(
            f"{what}: expected within {eps:g} eps, received {worst:.3g} eps",
            expected=shown(b),
            received=shown(a),
            step=first_step(a, b, eps),
            eps=worst,
            limit=eps,
        )


@contextmanager
def require_error(kind: type[Exception], what: str, *mentions: str) -> Iterator[None]:
    """Depart unless the block raises an error of a class, whose message mentions some words."""
    try:
        yield
    except Exception as error:
        message = str(error)
        if not isinstance(error, kind):
            raise Departure(
                f"{what}: expected {kind.__name__}, received {type(error).__name__}: {message}",
                expected=kind.__name__,
                received=f"{type(error).__name__}: {message}",
            ) from error
        lacking = [word for word in mentions if word not in message]
        if lacking:
            raise Departure(
                f"{what}: expected a message with {', '.join(lacking)}, received {message!r}",
                expected=", ".join(mentions),
                received=message,
            ) from error
    else:
        raise Departure(f"{what}: expected {kind.__name__}, received no error")


def unit_eps(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype."""
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def differences(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Return `|found - expected|`, infinite where one alone is NaN or infinite, else never NaN."""
    a, b = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(a - b)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isfinite(apart), apart, np.inf))


def error_in_eps(found: NDArray[Any], expected: NDArray[Any], dtype: str = "") -> float:
    """Return the largest difference in units of `eps * max(1, |expected|max)`."""
    known = np.abs(np.asarray(expected, np.float64))
    scale = max(1.0, float(np.max(known, initial=0.0, where=np.isfinite(known))))
    unit = unit_eps(dtype or np.asarray(found).dtype.name) * scale
    return float(np.max(differences(found, expected), initial=0.0)) / unit


def first_step(found: Any, expected: Any, eps: float = 0.0) -> int | None:
    """Return the first index of axis 1 at which two sequences (batch, time, n) differ."""
    a, b = np.asarray(found), np.asarray(expected)
    if a.shape != b.shape or a.ndim != 3:
        return None
    known = np.abs(np.asarray(b, np.float64))
    scale = max(1.0, float(np.max(known, initial=0.0, where=np.isfinite(known))))
    unit = 0.0 if eps == 0 else unit_eps(a.dtype.name) * scale
    steps = np.flatnonzero((differences(a, b) > eps * unit).any(axis=(0, 2)))
    return int(steps[0]) if steps.size else None


def shown(value: Any) -> str:
    """Return a value as a report shows it: short, with shape and dtype for an array."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        text = np.array2string(value, precision=6, threshold=24, edgeitems=3)
        return f"{value.dtype.name} {value.shape}\n{text}"
    return repr(value)
