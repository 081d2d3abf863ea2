"""Announces the ONNX Runtime backend."""

from seqcore.spi.registration import BackendSpec, Option, hookimpl


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the one backend of this module."""
    return [
        BackendSpec(
            name="onnxruntime",
            factory="seqcore_onnxruntime.backend:OnnxRuntimeBackend",
            spi="1.0",
            requires=("onnxruntime", "onnx"),
            options={
                "threads": Option(
                    type="int", help="threads of one call, 1 or more; none is for the engine"
                )
            },
            install_hint="pip install onnxruntime onnx",
            summary="ONNX Runtime on the CPU, inference only",
        )
    ]
