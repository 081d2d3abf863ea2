"""Announces the JAX backend."""

from seqcore.spi.registration import BackendSpec, Option, hookimpl


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the one backend of this module."""
    return [
        BackendSpec(
            name="jax",
            factory="seqcore_jax.backend:JaxBackend",
            spi="1.0",
            requires=("jax", "jaxlib"),
            options={
                "device": Option(help="where NumPy arrays go, as 'cpu', 'gpu' or 'gpu:1'"),
                "compile": Option(
                    type="bool", default=True, help="whether calls are compiled by XLA"
                ),
            },
            array_roots=("jax", "jaxlib"),
            install_hint="pip install jax",
            summary="JAX on CPU, GPU and TPU, compiled, with a written backward pass",
        )
    ]
