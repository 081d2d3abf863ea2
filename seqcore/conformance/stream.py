"""Appendix B of the specification in whole numbers: the stream of initial values of one weight.

Written from the appendix, without NumPy's generators, so that it can stand against the library.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping

_WORD, _LONG = 2**32, 2**128


def key(
    seed: int, name: str, shape: tuple[int, ...], type: str, parameters: Mapping[str, float]
) -> int:
    """Return the key of a weight (stage 1).

    Args:
        seed: The seed.
        name: The weight's full canonical name.
        shape: Its shape.
        type: The initializer's name.
        parameters: All its parameters, defaults included.
    """
    fields = {field: written(value) for field, value in parameters.items()}
    fields["type"] = json.dumps(type)
    described = ",".join(f'"{field}":{text}' for field, text in sorted(fields.items()))
    sizes = ",".join(str(size) for size in shape)
    text = f"[{seed},{json.dumps(name)},[{sizes}],{{{described}}}]"
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")


def written(value: float) -> str:
    """Return a parameter as the key's text has it."""
    digits = repr(float(value))  # the fewest that give back the number
    mantissa, _, exponent = digits.partition("e")
    if value == 0 or 1e-5 <= abs(value) < 1e16:
        return _positional(mantissa, exponent)
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def _positional(mantissa: str, exponent: str) -> str:
    """Return a number with a small negative exponent, or with none, without exponent."""
    if not exponent:
        return mantissa
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "")
    return f"{sign}0.{'0' * (-int(exponent) - 1)}{digits}"


class Stream:
    """The numbers that follow from a key (stages 2 to 4)."""

    def __init__(self, number: int) -> None:
        """Take the key."""
        w = _seed_words(number)
        self._increment = (2 * (w[2] * 2**64 + w[3]) + 1) % _LONG
        self._state = 0
        self._step()
        self._state = (self._state + w[0] * 2**64 + w[1]) % _LONG
        self._step()

    def uniform(self, count: int) -> list[float]:
        """Return the next uniform numbers."""
        return [(self._raw() >> 11) * 2.0**-53 for _ in range(count)]

    def normal(self, count: int) -> list[float]:
        """Return the next normal numbers."""
        half = (count + 1) // 2
        radius = [math.sqrt(-2 * math.log(1 - u)) for u in self.uniform(half)]
        angle = [2 * math.pi * w for w in self.uniform(half)]
        pairs = list(zip(radius, angle, strict=True))
        return [*(r * math.cos(a) for r, a in pairs), *(r * math.sin(a) for r, a in pairs)][:count]

    def _step(self) -> None:
        self._state = (self._state * 0x2360ED051FC65DA44385DF649FCCF645 + self._increment) % _LONG

    def _raw(self) -> int:
        self._step()
        value = (self._state >> 64) ^ (self._state % 2**64)
        turn = self._state >> 122
        return ((value >> turn) | (value << (64 - turn))) % 2**64


def _seed_words(number: int) -> list[int]:
    """Return the four words of a key (stage 2)."""
    words = []
    while number:
        words.append(number % _WORD)
        number //= _WORD
    words += [0] * (4 - len(words))
    hashed = _hash(0x43B0D7E5, 0x931E8875)
    pool = [hashed(word) for word in words[:4]]
    for source in range(4):
        for target in range(4):
            if target != source:
                pool[target] = _mix(pool[target], hashed(pool[source]))
    for word in words[4:]:
        for target in range(4):
            pool[target] = _mix(pool[target], hashed(word))
    spread = _hash(0x8B51F9DD, 0x58F38DED)
    out = [spread(pool[index % 4]) for index in range(8)]
    return [out[2 * index] + (out[2 * index + 1] << 32) for index in range(4)]


class _hash:
    """The function `hash` of stage 2, with its running multiplier."""

    def __init__(self, multiplier: int, factor: int) -> None:
        self._multiplier, self._factor = multiplier, factor

    def __call__(self, value: int) -> int:
        value ^= self._multiplier
        self._multiplier = self._multiplier * self._factor % _WORD
        value = value * self._multiplier % _WORD
        return value ^ (value >> 16)


def _mix(a: int, b: int) -> int:
    mixed = (0xCA01F9DD * a - 0x4973F715 * b) % _WORD
    return mixed ^ (mixed >> 16)
