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

from seqcore.conformance.deviations import differences, unit, unit_eps, worst
from seqcore.conformance.model import Finding, LawCase, Tier
from seqcore.conformance.subject import Subject
from seqcore.spec.dtypes import DTYPES

LAWS: list[LawCase] = []
"""Every law of the modules imported so far, in the order of their definition."""


class NotJudged(Exception):
    """A law whose arrays, of this seed, are too sensitive to rounding; it stays in the suite."""


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
    arrays: bool = True,
    over: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a law of a function of the subject and, with `over`, of one of its values.

    Args:
        clauses: One or two clauses that are broken where the law does not hold.
        tier: The first tier that runs it.
        needs: The features that it uses.
        arrays: Whether it hands arrays to the backend. Where `needs` has no data type they are
            float32, which is a feature as any other.
        over: One case for each entry: its name, and what the function is called with.

    Raises:
        ValueError: if there is no clause, or there are more than two.
    """
    if not 1 <= len(clauses) <= 2:
        raise ValueError(f"law: received {len(clauses)} clauses, expected one or two")
    if arrays and not set(needs) & set(DTYPES):
        needs = ("float32", *needs)

    def register(function: Callable[..., None]) -> Callable[..., None]:
        name = f"{clauses[0]}/{function.__name__.replace('_', '-')}"
        checks: dict[str, Callable[..., None]] = {name: function}
        if over is not None:
            checks = {
                f"{name}/{key}": functools.partial(_call, function, value)
                for key, value in over.items()
            }
        LAWS.extend(
            LawCase(id=identifier, clauses=clauses, tier=tier, needs=needs, check=check)
            for identifier, check in checks.items()
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


def require_close(found: Any, expected: Any, eps: float, what: str, *, dtype: str = "") -> None:
    """Depart unless an array is within `eps` units of another (see the specification).

    Args:
        found: What the backend gave.
        expected: What it shall be. The unit is the data type's eps times the largest magnitude
            here, at least 1.
        eps: How many units it may be away.
        what: What is compared, for the message.
        dtype: The data type of `found`, where `expected` is a float64 reference; by default that
            of `expected`.
    """
    a, b = np.asarray(found), np.asarray(expected)
    dtype = dtype or b.dtype.name
    require(
        a.dtype.name == dtype,
        f"{what}: expected {dtype}, received {a.dtype.name}",
        expected=dtype,
        received=a.dtype.name,
    )
    require(
        a.shape == b.shape,
        f"{what}: expected shape {b.shape}, received {a.shape}",
        expected=b,
        received=a,
    )
    largest = worst(a, b, unit_eps(dtype))
    if not largest <= eps:
        raise Departure(
            f"{what}: expected within {eps:.3g} eps, received {largest:.3g} eps",
            expected=shown(b),
            received=shown(a),
            step=first_step(a, b, eps * unit(b, unit_eps(dtype))),
            eps=largest,
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


def first_step(found: Any, expected: Any, apart: float = 0.0) -> int | None:
    """Return the first index of axis 1 at which two sequences (batch, time, n) are further apart.

    Args:
        found: One sequence.
        expected: The other; where it has another shape there is no such index.
        apart: How far they may be apart.
    """
    a, b = np.asarray(found), np.asarray(expected)
    if a.shape != b.shape or a.ndim != 3:
        return None
    steps = np.flatnonzero((differences(a, b) > apart).any(axis=(0, 2)))
    return int(steps[0]) if steps.size else None


def shown(value: Any) -> str:
    """Return a value as a report shows it: short, with shape and dtype for an array."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.ndarray):
        text = np.array2string(value, precision=6, threshold=24, edgeitems=3)
        return f"{value.dtype.name} {value.shape}\n{text}"
    return repr(value)
