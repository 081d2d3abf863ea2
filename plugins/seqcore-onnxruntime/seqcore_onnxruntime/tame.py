"""Which numbers ONNX Runtime's recurrent operators take as the specification does.

`LSTM` and `GRU` with a bias make a plausible number of a NaN. Where no input, state or weight is
NaN, infinite or huge, and activations are bounded, no NaN arises on the way either. Such numbers
are called tame here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST = 1e30
"""For a sum of squares: a product of two such arrays is far below float32's largest number."""


def is_tame(array: NDArray[Any]) -> bool:
    """Return whether the squares of a float32 array add up to an ordinary number."""
    flat = array.reshape(-1)
    # Not dot, which warns of an overflow.
    return bool(np.einsum("i,i->", flat, flat) < MOST)
