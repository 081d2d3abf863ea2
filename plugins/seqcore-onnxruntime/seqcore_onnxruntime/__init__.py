"""seqcore's layers on ONNX Runtime, and as ONNX files.

import seqcore_onnxruntime

seqcore_onnxruntime.export(layer, weights, "model.onnx")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqcore_onnxruntime.exporting import export

__all__ = ["export"]


def __getattr__(name: str) -> Any:
    # Only when asked for: announcing the backend must import neither ONNX nor ONNX Runtime.
    if name != "export":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seqcore_onnxruntime.exporting import export

    return export
