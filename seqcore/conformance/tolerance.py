"""How far a result may be from the oracle's: what rounding explains, measured on the oracle itself.

This is the specification's section "When two values are equal". No backend has a part in it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import Arguments, arguments, cotangents_of
from seqcore.conformance.deviations import unit_eps, worst
from seqcore.conformance.model import ValueCase
from seqcore.conformance.oracle import FACTOR_BITS, evaluate
from seqcore.conformance.tape import Noise
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import AnyLayer

Kind: TypeAlias = Literal["outputs", "gradients"]
KINDS: tuple[Kind, ...] = ("outputs", "gradients")

NOISY_RUNS = 4
ADMITTED: Mapping[Kind, float] = {"outputs": 16.0, "gradients": 64.0}
"""The largest noise, in eps, with which results are judged by value."""
BUDGET: Mapping[Kind, tuple[float, float]] = {"outputs": (4.0, 8.0), "gradients": (8.0, 8.0)}
"""A result may deviate by the first number times the noise plus the second, in eps."""
CLOSED_FORM = BUDGET["outputs"][1]
"""The budget where the noise is 0: of a number that a few operations make of the arguments."""

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

    def limit(self, kind: Kind) -> float:
        """Return the largest limit of an array of a kind."""
        arrays = self.outputs if kind == "outputs" else self.gradients
        return max(array.limit for array in arrays.values())


@functools.lru_cache(maxsize=4096)
def expected(case: ValueCase, seed: int) -> Expected:
    """Return what a case shall return with the arrays of a seed."""
    given = arguments(case, seed)
    drawn = cotangents_of(case, seed) if case.gradients else None
    known = expectation(case.layer, given, drawn, precision=case.precision)
    return replace(known, wild=case.wild)


def expectation(
    layer: AnyLayer,
    given: Arguments,
    cotangents: Sequence[NDArray[Any]] | None,
    *,
    precision: str = "highest",
) -> Expected:
    """Return what a call shall return, with limits from the noise that was measured on it.

    Args:
        layer: The layer.
        given: The arrays; the data type is that of `x`.
        cotangents: One for each output, standard normal; None for no gradients.
        precision: `matmul_precision` (PREC).
    """
    dtype = given.x.dtype.name
    reference = _Evaluation(layer, given, cotangents, precision)
    eps = unit_eps(dtype)
    fine = coarse = _Measured(reference, eps)
    if not fine.settled["gradients"]:
        coarse = _Measured(reference, 2.0 ** (1 - FACTOR_BITS[precision]))
    chosen: dict[Kind, _Measured] = {
        kind: fine if fine.settled[kind] else coarse
        for kind in (KINDS[:1] if cotangents is None else KINDS)
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
    return Expected(outputs, gradients, eps, noise, evaluated.backwards)


class _Evaluation:
    """The oracle on a call, with noise or without.

    Attributes:
        arrays: The outputs and the gradients.
        factors: For each of them the factors that were rounded on the way (PREC-2).
    """

    def __init__(
        self,
        layer: AnyLayer,
        given: Arguments,
        cotangents: Sequence[NDArray[Any]] | None,
        precision: str,
        noise: Noise | None = None,
    ) -> None:
        self._call = layer, given, cotangents, precision
        self.precision = precision
        dtype = given.x.dtype.name
        self.evaluated = evaluate(layer, given, dtype=dtype, precision=precision, noise=noise)
        self.arrays: dict[Kind, dict[str, NDArray[np.float64]]] = {
            "outputs": self.evaluated.outputs,
            "gradients": {},
        }
        self.factors: dict[Kind, NDArray[np.float64]] = {"outputs": self.evaluated.factors()}
        if cotangents is not None:
            self.arrays["gradients"] = _held(self.evaluated.pullback(cotangents), dtype)
        self.factors["gradients"] = self.evaluated.factors()

    def noisy(self, noise: Noise) -> _Evaluation:
        """Return the same evaluation with noise."""
        found = _Evaluation(*self._call, noise)
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
