"""Keras in this process: it chooses one framework when it is first imported, and keeps it."""

from __future__ import annotations

import os
import sys

from seqcore.errors import BackendError

_VARIABLE = "KERAS_BACKEND"


def run_keras_on(framework: str) -> None:
    """Import Keras on a framework, unless it runs on that one already.

    Args:
        framework: Keras's own name for it: `"numpy"`, `"torch"`, `"jax"` or `"tensorflow"`.

    Raises:
        BackendError: if Keras runs on another framework in this process.
    """
    if "keras" not in sys.modules:
        before = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = framework
        try:
            import keras
        finally:
            # Keras has read it; programs that this one starts make their own choice.
            if before is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = before
    import keras

    running = keras.backend.backend()
    if running != framework:
        raise BackendError(
            f"Keras runs on {running} in this process, expected {framework}; Keras takes one "
            f"framework a process, so use backend 'keras-{framework}' in a process of its own"
        )
