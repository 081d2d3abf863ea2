"""Appendix B of the specification in whole numbers: the stream of initial values, for the tests."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any

WORD, LONG = 2**32, 2**128


def key(seed: int, name: str, shape: tuple[int, ...], initializer: dict[str, Any]) -> int:
    """Stage 1. Floats have to be such that Python writes them as the specification does."""
    text = json.dumps(
        [seed, name, list(shape), dict(sorted(initializer.items()))],
        separators=(",", ":"),
        ensure_ascii=False,
    )
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "little")


def seed_words(number: int) -> list[int]:
    """Stage 2."""
    words = []
    while number:
        words.append(number % WORD)
        number //= WORD
    multiplier = 0x43B0D7E5

    def hashed(value: int) -> int:
        nonlocal multiplier
        value ^= multiplier
        multiplier = multiplier * 0x931E8875 % WORD
        value = value * multiplier % WORD
        return value ^ (value >> 16)

    def mix(a: int, b: int) -> int:
        m = (0xCA01F9DD * a - 0x4973F715 * b) % WORD
        return m ^ (m >> 16)

    pool = [hashed(words[k] if k < len(words) else 0) for k in range(4)]
    for s in range(4):
        for d in range(4):
            if d != s:
                pool[d] = mix(pool[d], hashed(pool[s]))
    for word in words[4:]:
        for d in range(4):
            pool[d] = mix(pool[d], hashed(word))
    out, multiplier = [], 0x8B51F9DD
    for k in range(8):
        value = pool[k % 4] ^ multiplier
        multiplier = multiplier * 0x58F38DED % WORD
        value = value * multiplier % WORD
        out.append(value ^ (value >> 16))
    return [out[2 * k] + (out[2 * k + 1] << 32) for k in range(4)]


class Stream:
    """Stages 3 and 4."""

    def __init__(self, number: int) -> None:
        w = seed_words(number)
        self.increment = (2 * (w[2] * 2**64 + w[3]) + 1) % LONG
        self.state = 0
        self._step()
        self.state = (self.state + w[0] * 2**64 + w[1]) % LONG
        self._step()

    def _step(self) -> None:
        self.state = (self.state * 0x2360ED051FC65DA44385DF649FCCF645 + self.increment) % LONG

    def raw(self) -> int:
        self._step()
        value = (self.state >> 64) ^ (self.state % 2**64)
        turn = self.state >> 122
        return ((value >> turn) | (value << (64 - turn))) % 2**64

    def uniform(self, count: int) -> list[float]:
        return [(self.raw() >> 11) * 2.0**-53 for _ in range(count)]

    def normal(self, count: int) -> list[float]:
        half = (count + 1) // 2
        radius = [math.sqrt(-2 * math.log(1 - u)) for u in self.uniform(half)]
        angle = [2 * math.pi * w for w in self.uniform(half)]
        pairs = list(zip(radius, angle, strict=True))
        return [*(r * math.cos(a) for r, a in pairs), *(r * math.sin(a) for r, a in pairs)][:count]
