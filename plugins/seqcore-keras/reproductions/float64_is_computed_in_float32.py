"""A layer with dtype="float64" returns float64 numbers with the error of float32.

keras.ops casts to float32 on the way, without a word, on every backend but TensorFlow; on JAX also
where jax_enable_x64 is set, as it is here.

Usage: KERAS_BACKEND=torch python float64_is_computed_in_float32.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np

if keras.backend.backend() == "jax":
    import jax

    jax.config.update("jax_enable_x64", True)


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    layer = keras.layers.SimpleRNN(2, dtype="float64", unroll=unroll)
    layer.build((1, 4, 3))
    kernel, recurrent_kernel, bias = (rng.standard_normal(w.shape) for w in layer.weights)
    layer.set_weights([kernel, recurrent_kernel, bias])
    x = rng.standard_normal((1, 4, 3))
    h = np.zeros((1, 2))
    for step in range(4):
        h = np.tanh(x[:, step] @ kernel + h @ recurrent_kernel + bias)
    try:
        received = keras.ops.convert_to_numpy(layer(x))
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
    return h, received


wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for unroll in (False, True):
    expected, received = compare(unroll)
    right = not isinstance(received, str) and np.allclose(received, expected, rtol=0, atol=1e-13)
    wrong += not right
    print(f"unroll={unroll}: {'right' if right else 'WRONG'}")
    print(f"  expected {np.asarray(expected).tolist()}")
    print(f"  received {received if isinstance(received, str) else np.asarray(received).tolist()}")
sys.exit(wrong > 0)
