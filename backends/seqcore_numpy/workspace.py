"""Scratch memory that is used again by later calls.

Fresh pages cost as much as the arithmetic of a mid-sized step: at batch 32, 100 steps and 256 units
their faults took 16 to 19 ms of a train step of some 65.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

KEPT_BYTES = 64 << 20
"""How much is kept for later calls. Larger arrays come in huge pages and gain little."""

_LINE = 64


class Workspace:
    """Scratch arrays of one call, or of one call's residuals.

    They go back for later calls when the workspace is closed or dies; nothing that a caller gets
    is ever made here. `list.append`, `list.pop` and `dict.setdefault` are atomic, so threads need
    no lock: no two hold the same array.
    """

    _kept: ClassVar[dict[int, list[NDArray[np.uint8]]]] = {}

    def __init__(self) -> None:
        self._taken: list[NDArray[np.uint8]] = []

    def __del__(self) -> None:
        self.close()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array with any contents, at the start of a cache line."""
        size = math.prod(shape) * dtype.itemsize
        # Sizes are rounded up by at most a 32nd, so that nearby ones share.
        quantum = max(4096, 1 << max(0, size.bit_length() - 6))
        room = -(-size // quantum) * quantum + _LINE
        try:
            block = self._kept[room].pop()
        except (KeyError, IndexError):
            block = np.empty(room, np.uint8)
        self._taken.append(block)
        start = -block.ctypes.data % _LINE
        return block[start : start + size].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give the arrays back; none of them may be used afterwards."""
        taken, self._taken = self._taken, []
        for block in taken:
            kept = sum(size * len(blocks) for size, blocks in list(self._kept.items()))
            if kept + block.nbytes <= KEPT_BYTES:
                self._kept.setdefault(block.nbytes, []).append(block)
