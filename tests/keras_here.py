"""Keras in this process, on TensorFlow, whose float64 is float64."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from typing import Any
from unittest import mock

import pytest


def keras_here() -> Any:
    """Import Keras, on TensorFlow unless another test chose already; skip where it is absent."""
    for needed in ("keras", "tensorflow", "h5py"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed; it is compared with", allow_module_level=True)
    # Keras reads them at its first import; programs that tests start choose for themselves.
    home = tempfile.mkdtemp(prefix="keras-")
    with mock.patch.dict(os.environ, {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": home}):
        import keras
    if keras.backend.backend() != "tensorflow":
        pytest.skip("Keras runs on another framework in this process", allow_module_level=True)
    return keras
