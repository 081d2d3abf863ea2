"""A NaN at a masked step does not reach the output, but it reaches every gradient.

The step is computed from it and then not selected; the gradient of what is not selected is 0 times
NaN. Padding with NaN or infinity makes all weights NaN after one update.

Usage: KERAS_BACKEND=torch python masked_nan_reaches_the_gradients.py
Exits with 1 while it is so on that backend. NumPy has no gradients.
"""

import sys

import keras
import numpy as np


def gradient_of_the_kernel(layer, x, mask):
    """Return the gradient of the sum of the layer's outputs."""
    layer.build(x.shape)
    kernel = layer.cell.kernel
    match keras.backend.backend():
        case "torch":
            layer(x, mask=mask).sum().backward()
            return keras.ops.convert_to_numpy(kernel.value.grad)
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                total = tf.reduce_sum(layer(x, mask=mask))
            return keras.ops.convert_to_numpy(tape.gradient(total, kernel.value))
        case "jax":
            import jax

            def total(value):
                with keras.StatelessScope([(kernel, value)]):
                    return layer(x, mask=mask).sum()

            return keras.ops.convert_to_numpy(jax.grad(total)(kernel.value))


def compare(unroll):
    keras.utils.set_random_seed(0)
    x = np.ones((1, 4, 3), "float32")
    mask = np.array([[True, True, True, False]])
    expected, received = (
        gradient_of_the_kernel(
            keras.layers.SimpleRNN(1, kernel_initializer="ones", unroll=unroll),
            np.where(mask[:, :, None], x, padding).astype("float32"),
            mask,
        )
        for padding in (0, np.nan)
    )
    return expected, received


if keras.backend.backend() == "numpy":
    sys.exit(0)
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
