"""With unroll=True and go_backwards, any mask is an error.

The steps of the mask are a tuple when it is to be reversed as a tensor.

Usage: KERAS_BACKEND=torch python unroll_backwards_with_a_mask_crashes.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 3)).astype("float32")
    layer = keras.layers.GRU(2, go_backwards=True, unroll=unroll)
    expected = keras.ops.convert_to_numpy(layer(x))
    try:
        received = keras.ops.convert_to_numpy(layer(x, mask=np.ones((1, 4), bool)))
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
    return expected, received


wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for unroll in (False, True):
    expected, received = compare(unroll)
    right = not isinstance(received, str) and np.allclose(received, expected, rtol=0, atol=1e-5)
    wrong += not right
    print(f"unroll={unroll}: {'right' if right else 'WRONG'}")
    print(f"  expected {np.asarray(expected).tolist()}")
    print(f"  received {received if isinstance(received, str) else np.asarray(received).tolist()}")
sys.exit(wrong > 0)
