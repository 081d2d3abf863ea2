"""Before the first valid step a sequence holds 0 where the state is the initial state.

With zero_output_for_mask=False a masked step repeats the output before it. Before the first step
that is the initial h, which is also what the state is that the layer returns. Without unroll, NumPy
and JAX emit the initial h, PyTorch and TensorFlow emit 0; with unroll all four emit 0.

Usage: KERAS_BACKEND=torch python masked_start_emits_zeros_in_a_sequence.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(2, return_sequences=True, return_state=True, unroll=unroll)
    x = np.ones((1, 3, 3), "float32")
    h = np.array([[0.25, -0.5]], "float32")
    nothing = np.zeros((1, 3), bool)
    sequence, state = layer(x, initial_state=h, mask=nothing)
    expected = keras.ops.convert_to_numpy(state)
    return expected, keras.ops.convert_to_numpy(sequence)[:, -1]


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
