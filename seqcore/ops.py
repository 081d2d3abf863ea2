"""The array functions that the generic code needs, as one abstract class.

The equations, the output contract and the planner's compositions are written over these and over
what every array library's arrays do by themselves: `+ - *`, comparison, basic slicing and
`.shape`. Axes are counted as NumPy counts them. None of the functions changes an argument.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from seqcore.errors import UnsupportedFeature

Array = Any
"""An array of whichever library the backend uses."""

Arrays = tuple[Array, ...]

Step = Callable[[Arrays, Arrays], tuple[Arrays, Arrays]]
"""`(carry, x at one step) -> (next carry, y at that step)`."""


class Ops(ABC):
    """What a new array library implements to run every layer (see `seqcore.spi.Generic`)."""

    def at(self, precision: str) -> Ops:
        """Return the same functions with `matmul` rounding its inputs to `precision`.

        Args:
            precision: `"highest"`, `"tf32"` or `"bfloat16"`.

        Raises:
            UnsupportedFeature: if this library has no such rounding.
        """
        if precision == "highest":
            return self
        raise UnsupportedFeature(
            f"{type(self).__name__}: matmul_precision={precision!r} is not available here, "
            "'highest' is; leave the option out or choose another backend"
        )

    def projects_ahead(self, batch: int) -> bool:
        """Return whether inputs are multiplied for all steps at once before the loop, or in it.

        Ahead is one large product, and an array that holds every pre-activation of the sequence.
        """
        return True

    @abstractmethod
    def matmul(self, a: Array, b: Array) -> Array:
        """Return the product `a @ b` of an array (..., m, k) and a matrix (k, n)."""

    @abstractmethod
    def tanh(self, x: Array) -> Array:
        """Return the hyperbolic tangent, elementwise."""

    def sigmoid(self, x: Array) -> Array:
        """Return the logistic function, elementwise; here through `tanh`, which cannot overflow."""
        return 0.5 * self.tanh(0.5 * x) + 0.5

    @abstractmethod
    def where(self, condition: Array, a: Array, b: Array) -> Array:
        """Return `a` where `condition` holds and `b` elsewhere, broadcasting; scalars allowed."""

    @abstractmethod
    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        """Return the arrays joined along `axis`."""

    @abstractmethod
    def split(self, x: Array, parts: int) -> Sequence[Array]:
        """Return `parts` equal pieces of the last axis."""

    @abstractmethod
    def swap(self, x: Array) -> Array:
        """Return `x` with its first two axes exchanged."""

    @abstractmethod
    def flip(self, x: Array, axis: int) -> Array:
        """Return `x` reversed along `axis`."""

    @abstractmethod
    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """Return `x` with another shape, in row-major order; one size may be -1."""

    @abstractmethod
    def sum(self, x: Array) -> Array:
        """Return the sum over the first axis."""

    @abstractmethod
    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        """Return zeros of the dtype and on the device of `like`.

        A size of None is one that a compiler's trace does not know: that of the same axis of
        `like`. Only libraries with such traces meet it.
        """

    def size(self, x: Array, axis: int) -> Any:
        """Return the size of an axis; an array where a trace hides it from Python."""
        return x.shape[axis]

    @abstractmethod
    def arange(self, stop: int, like: Array) -> Array:
        """Return the integers `0 .. stop - 1` on the device of `like`."""

    @abstractmethod
    def cast(self, x: Array, dtype: str) -> Array:
        """Return `x` as `"float64"`, `"float32"`, `"float16"` or `"bfloat16"`."""

    @abstractmethod
    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        """Run `step` over the first axis of `xs` and stack what it emits.

        Args:
            step: Takes the carry and one slice of each array of `xs`; returns the next carry,
                of the same shapes, and what to emit.
            carry: The carry before the first step.
            xs: Arrays of the same, non-zero, first size.
            reverse: Run from the last slice to the first; what is emitted stays aligned to `xs`.

        Returns:
            The carry after the last step run, and the emitted arrays, stacked on a new first axis.
        """
