"""The last output of a row without a valid step is 0 where the state is the initial state.

With return_sequences=False the output is h after the last step, and so is the returned state.
Without unroll, NumPy and JAX give the initial h as both, PyTorch and TensorFlow give 0 as the
output; with unroll all four do.

Usage: KERAS_BACKEND=torch python masked_row_gives_zeros_as_last_output.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(2, return_state=True, unroll=unroll)
    x = np.ones((1, 3, 3), "float32")
    h = np.array([[0.25, -0.5]], "float32")
    nothing = np.zeros((1, 3), bool)
    last, state = layer(x, initial_state=h, mask=nothing)
    return keras.ops.convert_to_numpy(state), keras.ops.convert_to_numpy(last)


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
