"""Initializers and the initial weights they give (clauses INIT).

The numbers depend on the seed, the weight's name, its shape and the initializer, and on nothing
else. They come from raw PCG64 bits by the mapping below, because NumPy promises the stability of
its bit generators and not of its distributions.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seqcore.errors import SpecError
from seqcore.spec.naming import nearest

Float64s = NDArray[np.float64]


class _Bits:
    """Uniform and normal numbers from one PCG64 stream."""

    def __init__(self, seed: int, name: str, shape: tuple[int, ...], initializer: Initializer):
        import hashlib

        described = msgspec.json.encode([seed, name, shape, initializer], order="sorted")
        key = hashlib.sha256(described).digest()
        self._generator = np.random.PCG64(int.from_bytes(key, "little"))

    def uniform(self, size: int) -> Float64s:
        """Return numbers in [0, 1), multiples of 2**-53."""
        raw = np.asarray(self._generator.random_raw(size), dtype=np.uint64)
        return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, size: int) -> Float64s:
        """Return standard normal numbers, by the Box-Muller transform."""
        pairs = (size + 1) // 2
        radius = np.sqrt(-2.0 * np.log(1.0 - self.uniform(pairs)))
        angle = 2.0 * math.pi * self.uniform(pairs)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:size]


class Initializer(msgspec.Struct, frozen=True, tag=str.lower, forbid_unknown_fields=True):
    """Base of the initializers; frozen, comparable, written as `{"type": ..., ...}`."""

    def values(self, seed: int, name: str, shape: tuple[int, ...]) -> Float64s:
        """Return the initial values of one weight, in float64.

        Args:
            seed: Any integer from 0 to 2**64 - 1.
            name: The weight's canonical name, prefixes included.
            shape: The weight's shape.
        """
        bits = _Bits(seed, name, shape, self)
        return self._draw(bits, shape)

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        raise NotImplementedError


class Zeros(Initializer, frozen=True, tag="zeros"):
    """All zeros."""

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        return np.zeros(shape)


class Ones(Initializer, frozen=True, tag="ones"):
    """All ones."""

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        return np.ones(shape)


class Constant(Initializer, frozen=True, tag="constant"):
    """Every element is `value`."""

    value: float = 0.0

    def __post_init__(self) -> None:
        _check_finite(self)

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        return np.full(shape, float(self.value))


class RandomUniform(Initializer, frozen=True, tag="random_uniform"):
    """Uniform between `minval` and `maxval`."""

    minval: float = -0.05
    maxval: float = 0.05

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.minval > self.maxval:
            raise SpecError(
                f"RandomUniform: minval={self.minval} is above maxval={self.maxval}; "
                "give the smaller one as minval"
            )

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        unit = bits.uniform(math.prod(shape)).reshape(shape)
        return self.minval + (self.maxval - self.minval) * unit


class RandomNormal(Initializer, frozen=True, tag="random_normal"):
    """Normal with the given `mean` and standard deviation `stddev`."""

    mean: float = 0.0
    stddev: float = 0.05

    def __post_init__(self) -> None:
        _check_finite(self)
        if self.stddev < 0:
            raise SpecError(f"RandomNormal: stddev={self.stddev} is negative; give 0 or more")

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        return self.mean + self.stddev * bits.normal(math.prod(shape)).reshape(shape)


class GlorotUniform(Initializer, frozen=True, tag="glorot_uniform"):
    """Uniform within `sqrt(6 / (rows + columns))`, over the whole concatenated matrix.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010, equation 16.
    """

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        limit = math.sqrt(6.0 / max(1, shape[0] + shape[-1]))
        return limit * (2.0 * bits.uniform(math.prod(shape)).reshape(shape) - 1.0)


class Orthogonal(Initializer, frozen=True, tag="orthogonal"):
    """Orthonormal rows or columns, whichever are fewer, times `gain`, over the whole matrix.

    Source: Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning
    in deep linear neural networks", ICLR 2014. The signs of R's diagonal are fixed to be positive,
    so that the result does not depend on the QR routine.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        _check_finite(self)

    def _draw(self, bits: _Bits, shape: tuple[int, ...]) -> Float64s:
        if len(shape) != 2:
            raise SpecError(
                f"Orthogonal: a weight of shape {shape} is not a matrix; "
                "use it for a kernel, and 'zeros' or another initializer for a bias"
            )
        rows, columns = shape
        tall = bits.normal(rows * columns).reshape(max(shape), min(shape))
        q, r = np.linalg.qr(tall)
        q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
        result: Float64s = self.gain * (q if rows >= columns else q.T)
        return result


AnyInitializer = Zeros | Ones | Constant | RandomUniform | RandomNormal | GlorotUniform | Orthogonal

BY_NAME: dict[str, type[AnyInitializer]] = {
    "zeros": Zeros,
    "ones": Ones,
    "constant": Constant,
    "random_uniform": RandomUniform,
    "random_normal": RandomNormal,
    "glorot_uniform": GlorotUniform,
    "orthogonal": Orthogonal,
}


def resolve(subject: str, value: Any) -> AnyInitializer:
    """Return the initializer that a name or an initializer object means.

    Args:
        subject: What is being set, for the message.
        value: One of `BY_NAME`, or an initializer.

    Raises:
        SpecError: if it is neither.
    """
    if isinstance(value, AnyInitializer):
        return value
    if isinstance(value, str):
        if value in BY_NAME:
            return BY_NAME[value]()
        raise SpecError(
            f"{subject}: no initializer is called {value!r}{nearest(value, BY_NAME)}; "
            f"expected one of {', '.join(BY_NAME)}"
        )
    raise SpecError(
        f"{subject}: received {value!r}, expected an initializer such as "
        f"seqcore.GlorotUniform() or one of the names {', '.join(BY_NAME)}"
    )


def _check_finite(initializer: Initializer) -> None:
    for field in initializer.__struct_fields__:
        value = getattr(initializer, field)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SpecError(
                f"{type(initializer).__name__}: {field} is {value!r}, expected a number"
            )
        if not math.isfinite(value):
            raise SpecError(
                f"{type(initializer).__name__}: {field} is {value!r}, expected a finite number"
            )
        # One spelling of each number, so that Constant(1) and Constant(1.0) are one initializer.
        msgspec.structs.force_setattr(initializer, field, float(value))
