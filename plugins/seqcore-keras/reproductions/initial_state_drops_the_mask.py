"""A recurrent layer that is given an initial state ignores the mask that its input carries.

Without an initial state the mask of the Masking layer reaches the LSTM; with one, zeros included,
it does not, and padding is read as if it were data: by a decoder over padded sentences, for
example. As soon as there are two tensor arguments, Layer.__call__ looks for the attached mask under
the name "sequences_mask", and call() has no such argument.

Usage: KERAS_BACKEND=torch python initial_state_drops_the_mask.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 3)).astype("float32")
    x[:, 2:] = 0
    lstm = keras.layers.LSTM(2, unroll=unroll)
    masked = keras.layers.Masking()(x)
    expected = keras.ops.convert_to_numpy(lstm(masked))
    zeros = [np.zeros((1, 2), "float32")] * 2
    received = keras.ops.convert_to_numpy(lstm(masked, initial_state=zeros))
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
