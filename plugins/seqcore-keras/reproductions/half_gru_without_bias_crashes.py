"""A GRU without bias in a half type is an error on JAX.

Zeros are added in its place, in float32 whatever the layer's type, and the loop over time does not
take a state whose type has changed. With unroll=True another way is taken, which is right.

Usage: KERAS_BACKEND=jax python half_gru_without_bias_crashes.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    x = np.ones((1, 3, 2), "float16")
    options = {"recurrent_initializer": "ones", "dtype": "float16", "unroll": unroll}
    zero_bias, no_bias = (keras.layers.GRU(1, use_bias=bias, **options) for bias in (True, False))
    zero_bias.build(x.shape)
    no_bias.build(x.shape)
    no_bias.set_weights(zero_bias.get_weights()[:2])
    expected = keras.ops.convert_to_numpy(zero_bias(x))
    try:
        received = keras.ops.convert_to_numpy(no_bias(x))
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
    return expected, received


wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for unroll in (False, True):
    expected, received = compare(unroll)
    right = not isinstance(received, str) and np.allclose(received, expected, rtol=0, atol=1e-2)
    wrong += not right
    print(f"unroll={unroll}: {'right' if right else 'WRONG'}")
    print(f"  expected {np.asarray(expected).tolist()}")
    print(f"  received {received if isinstance(received, str) else np.asarray(received).tolist()}")
sys.exit(wrong > 0)
