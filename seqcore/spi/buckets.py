"""Which shapes to compile for: the first few as they are, then buckets.

A compiler such as XLA compiles for each shape anew, which takes longer than thousands of calls.
Padding costs up to three times the call itself, half as much again on average, so only shapes that
vary are padded.
"""

from __future__ import annotations

import threading

from seqcore.spi.request import Request

EXACT = 8
"""How many different shapes a layer is compiled for as they are."""

_LEAST_TIME = 8


_MOST_REQUESTS = 1024


class Buckets:
    """The shapes seen for each request; what `Backend.padded_shape` answers where XLA compiles.

    A shape is treated alike for as long as its request is among the last `_MOST_REQUESTS`.
    """

    def __init__(self) -> None:
        self._exact: dict[Request, set[tuple[int, int]]] = {}
        self._lock = threading.Lock()

    def padded_shape(self, request: Request, batch: int, time: int) -> tuple[int, int]:
        """Return the shape to compile for: the batch to a power of two, the time to that or 3/4."""
        exact = self._exact.get(request)
        if exact is None or (batch, time) not in exact:
            with self._lock:
                exact = self._exact.get(request, set())
                while request not in self._exact and len(self._exact) >= _MOST_REQUESTS:
                    del self._exact[next(iter(self._exact))]
                self._exact[request] = exact
                if len(exact) < EXACT:
                    exact.add((batch, time))
        if (batch, time) in exact:
            return batch, time
        whole = _power_of_two(max(time, _LEAST_TIME))
        return _power_of_two(batch), whole * 3 // 4 if time <= whole * 3 // 4 else whole


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
