"""With unroll=True, zero_output_for_mask=True has no effect: masked steps repeat the output before.

Usage: KERAS_BACKEND=torch python unroll_ignores_zero_output_for_mask.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(2, return_sequences=True, zero_output_for_mask=True, unroll=unroll)
    x = np.ones((1, 4, 3), "float32")
    mask = np.array([[True, True, False, False]])
    sequence = keras.ops.convert_to_numpy(layer(x, mask=mask))
    return np.zeros((2, 2)), sequence[0, 2:]


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
