"""Announces the TensorFlow backend."""

from seqcore.spi.registration import BackendSpec, Option, hookimpl


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the one backend of this module."""
    return [
        BackendSpec(
            name="tensorflow",
            factory="seqcore_tensorflow.backend:TensorflowBackend",
            spi="1.0",
            requires=("tensorflow",),
            options={
                "device": Option(help="where NumPy arrays go, as 'cpu', 'gpu:0' or 'gpu:1'"),
                "compile": Option(
                    default="auto",
                    choices=("auto", "off", "graph", "xla"),
                    help="how calls run: op by op, as a graph, or compiled by XLA",
                ),
            },
            array_roots=("tensorflow",),
            install_hint="pip install tensorflow",
            summary="TensorFlow on CPU and GPU, as graphs or XLA, with a written backward pass",
        )
    ]
