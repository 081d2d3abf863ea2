"""Keras on NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from seqcore.errors import UnsupportedFeature

from seqcore_keras.framework import Forward, Framework, Pullback, Tensors


class NumPy(Framework):
    """NumPy, which has no autodiff."""

    name = "numpy"
    version = np.__version__
    no_gradients = "Keras has no gradients on NumPy"

    def vjp(
        self, forward: Forward, inputs: Tensors, variables: Sequence[Any]
    ) -> tuple[Tensors, Pullback]:
        raise UnsupportedFeature(self.no_gradients)
