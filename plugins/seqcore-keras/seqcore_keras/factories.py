"""What the registration names: Keras is imported on the framework before anything else is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from seqcore_keras.process import run_keras_on

if TYPE_CHECKING:
    from seqcore.spi import Backend


def on_numpy() -> Backend:
    """Return `keras-numpy`."""
    run_keras_on("numpy")
    from seqcore_keras.backend import KerasBackend
    from seqcore_keras.on_numpy import NumPy

    return KerasBackend(NumPy())


def on_torch() -> Backend:
    """Return `keras-torch`."""
    run_keras_on("torch")
    from seqcore_keras.backend import KerasBackend
    from seqcore_keras.on_torch import Torch

    return KerasBackend(Torch())


def on_jax() -> Backend:
    """Return `keras-jax`."""
    run_keras_on("jax")
    from seqcore_keras.backend import KerasBackend
    from seqcore_keras.on_jax import Jax

    return KerasBackend(Jax())


def on_tensorflow() -> Backend:
    """Return `keras-tensorflow`."""
    run_keras_on("tensorflow")
    from seqcore_keras.backend import KerasBackend
    from seqcore_keras.on_tensorflow import TensorFlow

    return KerasBackend(TensorFlow())
