"""A Bidirectional layer of an LSTM and a GRU does not take back the states that it returns.

It takes such a pair and returns its three states. Given as initial_state, one half of the list, as
documented, goes to each direction: the forward LSTM, which has two states, is given one, and fails
with an IndexError.

Usage: KERAS_BACKEND=torch python bidirectional_splits_states_in_the_middle.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    options = {"return_state": True, "unroll": unroll}
    layer = keras.layers.Bidirectional(
        keras.layers.LSTM(2, **options),
        backward_layer=keras.layers.GRU(2, go_backwards=True, **options),
    )
    x = rng.standard_normal((1, 4, 3)).astype("float32")
    _, h, c, other_h = layer(x)
    forward, *_ = layer.forward_layer(x, initial_state=[h, c])
    backward, *_ = layer.backward_layer(x, initial_state=[other_h])
    expected = keras.ops.convert_to_numpy(keras.ops.concatenate([forward, backward], -1))
    try:
        output, *_ = layer(x, initial_state=[h, c, other_h])
        received = keras.ops.convert_to_numpy(output)
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
