"""A layer with go_backwards hands on its sequence reversed and its mask as it was.

The next layer then skips valid steps and reads padding.

Usage: KERAS_BACKEND=torch python mask_is_not_reversed_for_the_next_layer.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 3)).astype("float32")
    x[:, 3:] = 0
    mask = np.array([[True, True, True, False]])
    first = keras.layers.LSTM(2, return_sequences=True, go_backwards=True)
    second = keras.layers.GRU(2, unroll=unroll)
    reversed_sequence = keras.ops.convert_to_numpy(first(x, mask=mask))
    expected = second(reversed_sequence, mask=mask[:, ::-1].copy())
    model = keras.Sequential([keras.layers.Masking(), first, second])
    return keras.ops.convert_to_numpy(expected), keras.ops.convert_to_numpy(model(x))


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
