"""Announces Keras on its four frameworks, one backend each."""

from seqcore.spi.registration import BackendSpec, Option, hookimpl

_FRAMEWORKS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}


@hookimpl
def seqcore_backends() -> list[BackendSpec]:
    """Return the four backends, of which a process can use one."""
    return [_spec(module, title) for module, title in _FRAMEWORKS.items()]


def _spec(module: str, title: str) -> BackendSpec:
    return BackendSpec(
        name=f"keras-{module}",
        factory=f"seqcore_keras.factories:on_{module}",
        spi="1.0",
        # On NumPy Keras imports JAX for the shapes of results.
        requires=("keras", "jax" if module == "numpy" else module),
        options={
            "unroll": Option(
                type="bool", default=False, help="whether Keras unrolls its loop over time"
            )
        },
        install_hint=f"pip install 'seqcore-keras[{module}]'",
        summary=f"Keras's own layers on {title}, as they are, to be tested",
    )
