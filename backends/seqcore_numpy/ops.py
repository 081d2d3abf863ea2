"""The array functions over NumPy, with TF32 and bfloat16 products emulated (clauses PREC)."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np

from seqcore.ops import Array, Ops
from seqcore.spi import HostOps


class NumpyOps(HostOps):
    """Every function, with the inputs of products rounded if need be."""

    def __init__(self, round_input: Callable[[Array], Array] | None = None) -> None:
        """Take what both inputs of every product go through, if anything."""
        self._round_input = round_input

    def at(self, precision: str) -> Ops:
        return _AT[precision]

    def matmul(self, a: Array, b: Array) -> Array:
        if self._round_input is not None:
            a, b = self._round_input(a), self._round_input(b)
        return super().matmul(a, b)


def round_tf32(x: Array) -> Array:
    """Round float32 to the 10 explicit mantissa bits of TF32, to nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    half = np.uint32(0x0FFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    rounded = ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32)
    # Adding to the bits of a NaN or of infinity would leave them; they are what they are.
    return np.where(np.isfinite(x), rounded, x)


def round_bfloat16(x: Array) -> Array:
    """Round float32 to the 7 explicit mantissa bits of bfloat16, to nearest, ties to even."""
    return x.astype(ml_dtypes.bfloat16).astype(np.float32)


_AT: dict[str, Ops] = {
    "highest": NumpyOps(),
    "tf32": NumpyOps(round_tf32),
    "bfloat16": NumpyOps(round_bfloat16),
}
