"""The NumPy backend: its array border and its implementations."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcore.ops import Array
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spi import ArrayInfo, Backend, Capabilities, Generic
from seqcore_numpy.fused import Fused
from seqcore_numpy.ops import NumpyOps


class NumpyBackend(Backend):
    """Layers on NumPy, in place where that is written, by the generic path elsewhere."""

    name = "numpy"
    capabilities = Capabilities(
        unsupported={
            "native_autodiff": "NumPy has no autodiff; use vjp",
            "second_order": "NumPy has no autodiff",
            "vmap": "NumPy has no vectorising map",
            "forward_mode": "NumPy has no autodiff",
            "compile": "NumPy has no compiler",
        }
    )

    def __init__(self) -> None:
        self.ops = NumpyOps()
        self.implementations = (Fused(), Generic(self.ops))

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        kind = numpy_dtype(dtype) if dtype not in ("bool", "int64") else np.dtype(dtype)
        return np.asarray(value, kind)

    def to_numpy(self, array: Array) -> Any:
        return array

    def describe(self, array: Array) -> ArrayInfo:
        return ArrayInfo(array.shape, array.dtype.name, "cpu")

    def version(self) -> str:
        return np.__version__

    def devices(self) -> tuple[str, ...]:
        return ("cpu",)

    def copy(self, array: Array) -> Array:
        return np.array(array)
