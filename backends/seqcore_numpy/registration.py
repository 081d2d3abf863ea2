"""Announces the NumPy backend."""

from seqcore.spi.registration import BackendSpec, hookimpl


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the one backend of this module."""
    return [
        BackendSpec(
            name="numpy",
            factory="seqcore_numpy.backend:NumpyBackend",
            spi="1.0",
            requires=("numpy",),
            install_hint="pip install numpy",
            summary="NumPy on the CPU, with written in-place forward and backward passes",
        )
    ]
