"""The NumPy backend: its implementations and what it declares."""

from __future__ import annotations

import numpy as np

from seqcore.spi import Capabilities, Generic, HostBackend
from seqcore_numpy.fused import Fused
from seqcore_numpy.ops import NumpyOps


class NumpyBackend(HostBackend):
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

    def version(self) -> str:
        return np.__version__
