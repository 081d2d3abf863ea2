"""Numbers that remember how they were made: reverse-mode differentiation over single numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from operator import mul
from typing import TypeAlias

Rounding: TypeAlias = Callable[[float], float]


class Number:
    """A number, the numbers it was made from, and its derivative by each of them."""

    __slots__ = ("adjoint", "parents", "product", "slopes", "tape", "value")

    def __init__(
        self,
        tape: Tape,
        value: float,
        parents: Sequence[Number] = (),
        slopes: Sequence[float] = (),
        product: bool = False,
    ) -> None:
        """Put the number on its tape; `product` marks an element of a matrix product."""
        self.tape, self.value = tape, value
        self.parents, self.slopes = parents, slopes
        self.product = product
        self.adjoint = 0.0
        tape.numbers.append(self)

    def __add__(self, other: Number) -> Number:
        return Number(self.tape, self.value + other.value, (self, other), (1.0, 1.0))

    def __mul__(self, other: Number) -> Number:
        a, b = self.value, other.value
        return Number(self.tape, a * b, (self, other), (b, a))

    def __rsub__(self, constant: float) -> Number:
        return Number(self.tape, constant - self.value, (self,), (-1.0,))

    def __truediv__(self, constant: float) -> Number:
        return Number(self.tape, self.value / constant, (self,), (1.0 / constant,))


class Tape:
    """Every number of one evaluation, in the order in which they were made.

    Attributes:
        numbers: Parents come before what is made from them.
        factors: Every number that was computed and then rounded as a factor of a product, as it
            was before; the pullback's come last.
    """

    def __init__(
        self, *, factor: Rounding | None = None, state: Rounding | None = None, noise: Noise | None
    ) -> None:
        """Take the roundings of factors of products and of states, and the noise."""
        self.numbers: list[Number] = []
        self.factors: list[float] = []
        self._factor, self._state, self._noise = factor, state, noise

    def leaf(self, value: float) -> Number:
        """Return a number that is made from nothing."""
        return Number(self, value)

    def total(self, numbers: Sequence[Number]) -> Number:
        """Return the sum of some numbers."""
        return Number(self, sum([n.value for n in numbers]), numbers, [1.0] * len(numbers))

    def dot(self, a: list[Number], b: list[Number]) -> Number:
        """Return one element of a matrix product, its factors rounded (PREC-3)."""
        left, right = [n.value for n in a], [n.value for n in b]
        if self._factor is not None:
            self.factors += [n.value for n in a if n.parents]
            left, right = list(map(self._factor, left)), list(map(self._factor, right))
        return Number(self, sum(map(mul, left, right)), a + b, right + left, product=True)

    def noisy(self, number: Number) -> Number:
        """Return a number as a computation with rounding might have it."""
        if self._noise is None:
            return number
        factor = self._noise()
        return Number(self, number.value * factor, (number,), (factor,))

    def kept(self, value: float) -> float | None:
        """Return a value as a computation with rounding might have kept it for the pullback.

        None without noise. Near its end an activation's derivative is a small difference of large
        numbers, so that this rounding shows there as it does nowhere else.
        """
        return None if self._noise is None else value * self._noise.kept()

    def rounded(self, number: Number) -> Number:
        """Return a state or output as its data type holds it; the derivative is 1 (DTYPE-4)."""
        if self._state is None:
            return number
        return Number(self, self._state(number.value), (number,), (1.0,))

    def pull_back(self, cotangents: Iterable[tuple[Number, float]]) -> None:
        """Set every number's `adjoint` to the derivative of the sum of `number * cotangent`."""
        for number in self.numbers:
            number.adjoint = 0.0
        for number, cotangent in cotangents:
            number.adjoint += cotangent
        factor = self._factor
        for number in reversed(self.numbers):
            adjoint = number.adjoint
            if adjoint == 0.0:
                continue
            if number.product and factor is not None:
                self.factors.append(adjoint)
                adjoint = factor(adjoint)  # PREC-4; the slopes are the rounded factors already.
            for parent, slope in zip(number.parents, number.slopes, strict=True):
                parent.adjoint += adjoint * slope


class Noise:
    """Factors of `1 + eps/2` and `1 - eps/2`, at random."""

    def __init__(self, eps: float, seed: int) -> None:
        """Take the distance from 1 to the next number, and a seed."""
        self._up, self._down = 1 + eps / 2, 1 - eps / 2
        self._random = random.Random(seed).random
        # Of its own, so that what a pullback needs changes nothing in the outputs.
        self._random_kept = random.Random(seed + 2**32).random

    def __call__(self) -> float:
        """Return the next factor."""
        return self._up if self._random() < 0.5 else self._down

    def kept(self) -> float:
        """Return the next factor of what is kept for the pullback."""
        return self._up if self._random_kept() < 0.5 else self._down


def rounding(bits: int, lowest: int, largest: float) -> Rounding:
    """Return the rounding to a floating-point format, to nearest, ties to even.

    Args:
        bits: The significant bits, the implicit one included.
        lowest: The exponent of the smallest normal number, as in `2**lowest`.
        largest: The largest finite number; beyond it lies infinity.
    """

    def round_to(value: float) -> float:
        if value == 0.0 or not math.isfinite(value):
            return value
        spacing = math.ldexp(1.0, max(math.frexp(value)[1] - 1, lowest) + 1 - bits)
        # Dividing by a power of two is exact, and `round` takes ties to even.
        result = round(value / spacing) * spacing
        return result if abs(result) <= largest else math.copysign(math.inf, value)

    return round_to
