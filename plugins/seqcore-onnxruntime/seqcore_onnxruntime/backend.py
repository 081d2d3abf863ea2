"""The ONNX Runtime backend: its implementations and what it declares."""

from __future__ import annotations

import onnxruntime
from seqcore.spi import Capabilities, HostBackend

from seqcore_onnxruntime.implementations import ByOperators, ByScan

_NO_AUTODIFF = "ONNX Runtime has no arrays and no autodiff of its own"


class OnnxRuntimeBackend(HostBackend):
    """Layers on ONNX Runtime's CPU engine, NumPy arrays in and out, inference only."""

    name = "onnxruntime"
    implementations = (ByOperators(), ByScan())
    capabilities = Capabilities(
        unsupported={
            "tf32": "ONNX has no operator that rounds to tf32 "
            "(https://onnx.ai/onnx/operators/onnx__Cast.html)",
            "gradients": "ONNX Runtime runs graphs forward only",
            "gates": "ONNX's recurrent operators return states and no gates "
            "(https://onnx.ai/onnx/operators/onnx__LSTM.html)",
            "native_autodiff": _NO_AUTODIFF,
            "second_order": _NO_AUTODIFF,
            "forward_mode": _NO_AUTODIFF,
            "vmap": "ONNX Runtime has no vectorising map",
            "compile": "ONNX Runtime's graphs are made by this backend, not by its user",
        }
    )

    def version(self) -> str:
        return str(onnxruntime.__version__)
