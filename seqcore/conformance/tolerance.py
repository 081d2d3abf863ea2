"""How far a result may be from the oracle's: what rounding explains, measured on the oracle itself.

This is the specification's section "When two values are equal". No backend has a part in it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import Arguments, arguments
from seqcore.conformance.execute import cotangents
from seqcore.conformance.laws import differences, unit_eps
from seqcore.conformance.model import ValueCase
from seqcore.conformance.oracle import FACTOR_BITS, evaluate
from seqcore.conformance.tape import Noise
from seqcore.spec.dtypes import numpy_dtype

Kind: TypeAlias = Literal["outputs", "gradients"]
KINDS: tuple[Kind, ...] = ("outputs", "gradients")

NOISY_RUNS = 4
ADMITTED: Mapping[Kind, float] = {"outputs": 16.0, "gradients": 64.0}
"""The largest noise, in eps, with which results are judged by value."""
BUDGET: Mapping[Kind, tuple[float, float]] = {"outputs": (4.0, 8.0), "gradients": (8.0, 8.0)}
"""A result may deviate by the first number times the noise plus the second, in eps."""

MARGIN = 4.0
"""A factor of a product is in doubt where it is nearer to a tie of its rounding than this many
times the sum of its own noise and one eps of itself; the eps is the factors' then."""


@dataclass(frozen=True, slots=True)
class Array:
    """One array that a call shall return.

    Attributes:
        reference: What the oracle gives, float64.
        limit: How many eps a result may be away from it.
        exact: Where it is a zero or an initial state that no computation touches.
        identities: Equal where the array holds one number several times, as a carried state.
    """

    reference: NDArray[np.float64]
    limit: float
    exact: NDArray[np.bool_]
    identities: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a case shall return.

    Attributes:
        outputs: By field name.
        gradients: By weight name, `"x"` and `"initial_state.h"` and so on; empty where the case
            has none.
        eps: Of the data type.
        noise: For each kind the worst deviation of the noisy runs, in the eps of their noise: that
            of the data type or, where a factor of a product is in doubt, of the factors.
        backwards: Whether a sequence returned is in the reverse of original time.
        wild: Whether the case is one whose noise says little: where a gate may tip over, four
            noisy runs may all miss it.
    """

    outputs: dict[str, Array]
    gradients: dict[str, Array]
    eps: float
    noise: dict[Kind, float]
    backwards: bool
    wild: bool = False

    def admitted(self, kind: Kind) -> bool:
        """Return whether results of a kind are judged by value."""
        return not self.wild and self.noise[kind] <= ADMITTED[kind]


@functools.lru_cache(maxsize=4096)
def expected(case: ValueCase, seed: int) -> Expected:
    """Return what a case shall return with the arrays of a seed."""
    given = arguments(case, seed)
    reference = _Evaluation(case, given, seed)
    eps = unit_eps(case.dtype)
    fine = coarse = _Measured(reference, eps)
    if not fine.settled["gradients"]:
        coarse = _Measured(reference, 2.0 ** (1 - FACTOR_BITS[case.precision]))
    chosen: dict[Kind, _Measured] = {
        kind: fine if fine.settled[kind] else coarse
        for kind in (KINDS if case.gradients else KINDS[:1])
    }
    noise = {kind: max(one.noise[kind].values()) for kind, one in chosen.items()}
    limits = {
        kind: {name: limit(kind, n) * one.eps / eps for name, n in one.noise[kind].items()}
        for kind, one in chosen.items()
    }
    evaluated = reference.evaluated
    outputs = {
        name: Array(
            value,
            limits["outputs"][name],
            evaluated.untouched(name),
            evaluated.identities(name),
        )
        for name, value in evaluated.outputs.items()
    }
    gradients = {
        name: _gradient(name, value, max(limits["gradients"].values()), given.valid)
        for name, value in reference.arrays["gradients"].items()
    }
    evaluated.release()
    return Expected(outputs, gradients, eps, noise, evaluated.backwards, case.wild)


class _Evaluation:
    """The oracle on a case, with noise or without.

    Attributes:
        arrays: The outputs and the gradients.
        factors: For each of them the factors that were rounded on the way (PREC-2).
    """

    def __init__(
        self, case: ValueCase, given: Arguments, seed: int, noise: Noise | None = None
    ) -> None:
        self._given = case, given, seed
        self.precision = case.precision
        self.evaluated = evaluate(
            case.layer, given, dtype=case.dtype, precision=case.precision, noise=noise
        )
        outputs = self.evaluated.outputs
        self.arrays: dict[Kind, dict[str, NDArray[np.float64]]] = {
            "outputs": outputs,
            "gradients": {},
        }
        self.factors: dict[Kind, NDArray[np.float64]] = {"outputs": self.evaluated.factors()}
        if case.gradients:
            found = self.evaluated.pullback(cotangents(case, seed, outputs))
            self.arrays["gradients"] = _held(found, case.dtype)
        self.factors["gradients"] = self.evaluated.factors()

    def noisy(self, noise: Noise) -> _Evaluation:
        """Return the same evaluation with noise."""
        found = _Evaluation(*self._given, noise)
        found.evaluated.release()
        return found


class _Measured:
    """What noise of one eps does to a case.

    Attributes:
        eps: That of the noise.
        noise: By kind and name the worst deviation, in that eps.
        settled: By kind, whether noise cannot change how a factor is rounded.
    """

    def __init__(self, reference: _Evaluation, eps: float) -> None:
        self.eps = eps
        self.noise: dict[Kind, dict[str, float]] = {}
        self.settled: dict[Kind, bool] = {}
        runs = [reference.noisy(Noise(eps, seed)) for seed in range(NOISY_RUNS)]
        bits = FACTOR_BITS.get(reference.precision, 0)
        for kind in KINDS:
            self.noise[kind] = {
                name: max(worst(run.arrays[kind][name], value, eps) for run in runs)
                for name, value in reference.arrays[kind].items()
            }
            noisy = [run.factors[kind] for run in runs]
            self.settled[kind] = settled(reference.factors[kind], noisy, bits, eps)


def settled(
    reference: NDArray[np.float64], noisy: list[NDArray[np.float64]], bits: int, eps: float
) -> bool:
    """Return whether each factor is so far from a tie that noise cannot change its rounding.

    Args:
        reference: The factors before they are rounded to `bits` significant bits.
        noisy: The same with noise.
        bits: The implicit bit included.
        eps: That of the noise.
    """
    if any(factors.shape != reference.shape for factors in noisy):
        return False
    moved = np.max([np.abs(factors - reference) for factors in noisy], axis=0)
    spacing = np.ldexp(1.0, np.frexp(reference)[1] - bits)
    tie = np.abs(reference / spacing % 1 - 0.5) * spacing
    return bool(np.all(tie > MARGIN * (moved + eps * np.abs(reference))))


def limit(kind: Kind, noise: float) -> float:
    """Return how many eps a result may be away where the noise is `noise` eps."""
    slope, least = BUDGET[kind]
    return slope * noise + least


def unit(reference: NDArray[Any], eps: float) -> float:
    """Return `eps * max(1, |reference|max)`."""
    known = np.abs(np.asarray(reference, np.float64))
    return eps * max(1.0, float(np.max(known, initial=0.0, where=np.isfinite(known))))


def deviations(found: Any, reference: NDArray[Any], eps: float) -> NDArray[np.float64]:
    """Return each element's deviation in units of the reference."""
    return differences(found, reference) / unit(reference, eps)


def worst(found: Any, reference: NDArray[Any], eps: float) -> float:
    """Return the largest deviation."""
    return float(np.max(deviations(found, reference, eps), initial=0.0))


def _held(
    gradients: Mapping[str, NDArray[np.float64]], dtype: str
) -> dict[str, NDArray[np.float64]]:
    """Return gradients with infinity where a data type holds no number so large."""
    with np.errstate(over="ignore"):
        return {
            name: np.where(
                np.isinf(value.astype(numpy_dtype(dtype))), np.copysign(np.inf, value), value
            )
            for name, value in gradients.items()
        }


def _gradient(
    name: str, value: NDArray[np.float64], allowed: float, valid: NDArray[np.bool_]
) -> Array:
    # MASK-7 is the one exact statement about a gradient.
    exact = np.broadcast_to(~valid[:, :, None] if name == "x" else np.False_, value.shape)
    return Array(value, allowed, exact, np.arange(value.size).reshape(value.shape))
