"""Judging what a backend returned for a `ValueCase`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.bounds import bounds
from seqcore.conformance.deviations import deviations, differences, unit, worst
from seqcore.conformance.laws import shown
from seqcore.conformance.model import Finding, Observed, Packed, Run, ValueCase, Verdict
from seqcore.conformance.tolerance import (
    KINDS,
    Array,
    Expected,
    Kind,
    expected,
)


def judge(case: ValueCase, observed: Observed, seed: int) -> Verdict:
    """Judge every run of a case against the oracle.

    Names, shapes, data types and what the specification calls exact are judged always. Values are
    judged where the case is admitted; where it is not, they have to be finite where the oracle's
    are and outputs within their `bounds`, and `worst` of the verdict has no entry for that kind.

    Args:
        case: The case.
        observed: What the backend returned.
        seed: The seed of the run's arrays.
    """
    known = expected(case, seed)
    findings: list[Finding] = []
    largest: dict[str, tuple[float, float]] = {}
    for run in observed.runs:
        for kind in KINDS:
            if kind == "gradients" and run.call != "vjp":
                continue
            judged = _Judged(case, known, run, kind, seed)
            findings += judged.findings()
            if judged.worst is not None:
                before = largest.get(kind, (-1.0, 1.0))
                largest[kind] = max(before, judged.worst, key=_share)
    return Verdict(
        status="fail" if findings else "pass",
        findings=findings,
        seconds=observed.seconds,
        plans=list(dict.fromkeys(name for run in observed.runs for name in run.plan)),
        worst=largest,
        judged=case.wild or all(map(known.admitted, known.noise)),
    )


def pairwise(
    case: ValueCase, observed: Mapping[str, Observed], seed: int
) -> dict[tuple[str, str], dict[str, float]]:
    """Return how far each two backends are apart, in eps, for each kind that is admitted.

    The runs compared are those whose implementation the planner chose. The unit is that of the
    oracle's arrays; what cannot be compared, for a missing array or another shape, is infinite.

    Args:
        case: The case.
        observed: By backend.
        seed: The seed of the run's arrays.
    """
    known = expected(case, seed)
    return {
        (a, b): {
            kind: _apart(known, kind, observed[a], observed[b])
            for kind in known.noise
            if known.admitted(kind)
        }
        for a, b in itertools.combinations(observed, 2)
    }


@dataclass(frozen=True, slots=True)
class Comparison:
    """One array of one run against the oracle's, in eps."""

    name: str
    eps: float
    limit: float


def comparisons(known: Expected, run: Run, kind: Kind) -> list[Comparison]:
    """Return how far each array of a run with the right names and shapes is from the oracle's."""
    arrays, found = _of_kind(known, kind), _found(run, kind)
    return [
        Comparison(name, worst(found[name].array(), array.reference, known.eps), array.limit)
        for name, array in arrays.items()
        if name in found and _fits(found[name], array)
    ]


class _Judged:
    """The outputs or the gradients of one run."""

    def __init__(self, case: ValueCase, known: Expected, run: Run, kind: Kind, seed: int) -> None:
        self._case, self._known, self._kind, self._seed = case, known, kind, seed
        self._arrays, self._found = _of_kind(known, kind), _found(run, kind)
        self._subject = f"{case.layer}, {run.call} by {' and '.join(run.plan)}"
        self._compared = comparisons(known, run, kind) if known.admitted(kind) else []

    @property
    def worst(self) -> tuple[float, float] | None:
        """The deviation that uses the largest share of its limit, and the limit."""
        pairs = [(one.eps, one.limit) for one in self._compared]
        return max(pairs, key=_share, default=None)

    def findings(self) -> list[Finding]:
        """Return everything that is wrong; of wrong values the worst array."""
        names, received = list(self._arrays), list(self._found)
        if sorted(names) != sorted(received):
            return [
                Finding(
                    message=f"{self._subject}: expected the {self._kind} {', '.join(names)}, "
                    f"received {', '.join(received) or 'none'}",
                    clause="OUT-5" if self._kind == "outputs" else "GRAD-2",
                    expected=", ".join(names),
                    received=", ".join(received),
                )
            ]
        return [
            *itertools.chain.from_iterable(map(self._form, names)),
            *itertools.chain.from_iterable(map(self._exact, names)),
            *self._values(),
        ]

    def _form(self, name: str) -> Iterator[Finding]:
        """Shape and data type."""
        array, found = self._arrays[name], self._found[name]
        if found.shape != array.reference.shape:
            yield self._finding(
                name, f"expected the shape {array.reference.shape}, received {found.shape}"
            )
        if found.dtype != self._case.dtype:
            yield self._finding(
                name,
                f"expected the data type {self._case.dtype}, received {found.dtype}",
                clause="DTYPE-1",
            )

    def _exact(self, name: str) -> Iterator[Finding]:
        """Zeros, carried states and the gradient of masked input."""
        array, packed = self._arrays[name], self._found[name]
        if not _fits(packed, array):
            return
        found = packed.array()
        wrong = array.exact & (found != array.reference.astype(found.dtype))
        if wrong.any():
            zero = bool(np.all(array.reference[wrong] == 0))
            what = "0" if zero else "the initial state's elements"
            clause = "MASK-7" if self._kind == "gradients" else "MASK-4" if zero else "MASK-3"
            yield self._difference(name, f"expected exactly {what} where masked", wrong, clause)
            return
        moved = _differs_from_first(found, array.identities)
        if moved.any():
            yield self._difference(
                name, "expected the bits of the state before at a masked step", moved, "MASK-3"
            )

    def _values(self) -> Iterator[Finding]:
        if not self._known.admitted(self._kind):
            limits = bounds(self._case, self._seed) if self._kind == "outputs" else {}
            for name in self._arrays:
                yield from self._beyond(name, limits.get(name, math.inf))
            return
        beyond = sorted(
            (one for one in self._compared if not one.eps <= one.limit),
            key=lambda one: _share((one.eps, one.limit)),
        )
        if not beyond:
            return
        one = beyond[-1]
        array, found = self._arrays[one.name], self._found[one.name].array()
        wrong = deviations(found, array.reference, self._known.eps) > one.limit
        others = f"; {len(beyond) - 1} other arrays are beyond it, too" if beyond[1:] else ""
        yield self._difference(
            one.name,
            f"expected within {one.limit:.3g} eps, received {one.eps:.3g} eps{others}",
            wrong,
            eps=one.eps,
            limit=one.limit,
        )

    def _beyond(self, name: str, bound: float) -> Iterator[Finding]:
        """What is not finite, or larger than any weights can make it."""
        array, packed = self._arrays[name], self._found[name]
        if not _fits(packed, array):
            return
        found = packed.array().astype(np.float64)
        endless = np.isfinite(array.reference) & ~np.isfinite(found)
        large = np.abs(found) > bound
        if endless.any():
            yield self._difference(name, "expected finite numbers", endless)
        elif large.any():
            message = f"expected magnitudes of at most {bound:.9g}, whatever the weights"
            yield self._difference(name, message, large)

    def _difference(
        self, name: str, message: str, wrong: NDArray[np.bool_], clause: str = "", **details: Any
    ) -> Finding:
        array = self._arrays[name]
        return self._finding(
            name,
            message,
            clause=clause,
            expected=shown(array.reference),
            received=shown(self._found[name].array()),
            step=self._step(name, wrong),
            **details,
        )

    def _finding(self, name: str, message: str, **details: Any) -> Finding:
        what = f"the gradient of {name}" if self._kind == "gradients" else name
        return Finding(message=f"{self._subject}: {what}: {message}", **details)

    def _step(self, name: str, wrong: NDArray[np.bool_]) -> int | None:
        """Return the first wrong step, in original time."""
        if wrong.ndim != 3:
            return None
        steps = np.flatnonzero(wrong.any(axis=(0, 2)))
        if self._kind == "outputs" and self._known.backwards:
            steps = wrong.shape[1] - 1 - steps
        return int(steps.min())


def _of_kind(known: Expected, kind: Kind) -> dict[str, Array]:
    return known.outputs if kind == "outputs" else known.gradients


def _found(run: Run, kind: Kind) -> dict[str, Packed]:
    return run.outputs if kind == "outputs" else run.gradients


def _fits(found: Packed, array: Array) -> bool:
    return found.shape == array.reference.shape and found.dtype in _FLOATS


_FLOATS = ("float64", "float32", "float16", "bfloat16")


def _share(pair: tuple[float, float]) -> float:
    eps, limit = pair
    return eps / limit


def _differs_from_first(found: NDArray[Any], identities: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where an element is not the first one that holds the same number."""
    _, first, inverse = np.unique(identities, return_index=True, return_inverse=True)
    origin = first[inverse].reshape(-1)
    flat = found.reshape(-1)
    differs = (flat != flat[origin]) & (origin != np.arange(flat.size))
    return np.asarray(differs.reshape(found.shape))


def _apart(known: Expected, kind: Kind, one: Observed, other: Observed) -> float:
    a, b = _planned(one, kind), _planned(other, kind)
    return max(
        _distance(a.get(name), b.get(name), array, known.eps)
        for name, array in _of_kind(known, kind).items()
    )


def _planned(observed: Observed, kind: Kind) -> dict[str, Packed]:
    call = "apply" if kind == "outputs" else "vjp"
    for run in observed.runs:
        if run.call == call and not run.implementation:
            return _found(run, kind)
    return {}


def _distance(a: Packed | None, b: Packed | None, array: Array, eps: float) -> float:
    if a is None or b is None or not (_fits(a, array) and _fits(b, array)):
        return float("inf")
    apart = differences(a.array(), b.array())
    return float(np.max(apart, initial=0.0)) / unit(array.reference, eps)
