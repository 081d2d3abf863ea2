"""A backend: Keras on one of its frameworks, with NumPy arrays in and out."""

from __future__ import annotations

import keras
from seqcore.spi import Capabilities, HostBackend

from seqcore_keras.framework import Framework
from seqcore_keras.implementation import KerasLayers

_UNSUPPORTED = {
    "tf32": "Keras has no option for the precision of products",
    "bfloat16_products": "Keras has no option for the precision of products",
    "gates": "Keras's layers do not return their gates",
}
_OWN_ARRAYS = ("native_autodiff", "second_order", "vmap", "forward_mode", "compile")


class KerasBackend(HostBackend):
    """Keras's layers, as they are. A data type that Keras takes is declared supported.

    Args:
        framework: What Keras runs on in this process.
    """

    def __init__(self, framework: Framework) -> None:
        self.name = f"keras-{framework.name}"
        self.implementations = (KerasLayers(framework),)
        unsupported = dict(_UNSUPPORTED)
        if framework.no_gradients:
            unsupported["gradients"] = framework.no_gradients
        self.capabilities = Capabilities(
            unsupported=unsupported,
            not_implemented=dict.fromkeys(_OWN_ARRAYS, "this backend takes NumPy arrays only"),
        )
        self._version = f"{keras.__version__}, {framework.name} {framework.version}"

    def version(self) -> str:
        return self._version
