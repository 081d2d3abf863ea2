"""In float16 the gradient of a weight, a sum over all steps, is rounded at every step.

The exact sums below are numbers of float16, and so is every term. What is received has lost the
small terms beside the large ones; over thousands of steps a sum of ones stops growing at 2048.

Usage: KERAS_BACKEND=torch python half_gradients_are_summed_in_half.py
Exits with 1 while it is so on that backend. NumPy has no gradients.
"""

import sys

import keras
import numpy as np

# h is x, for the kernel is 1 and the recurrent kernel 0.
X = np.array([4096, *[1] * 14, 4096], "float16")
SLOPES = np.array([1, *[1] * 14, -1], "float16")


def gradients(layer):
    """Return the gradients of sum(SLOPES * h) with respect to the two kernels."""
    variables = [layer.cell.kernel, layer.cell.recurrent_kernel]
    x = keras.ops.convert_to_tensor(X.reshape(1, -1, 1))
    slopes = keras.ops.convert_to_tensor(SLOPES.reshape(1, -1, 1))
    match keras.backend.backend():
        case "torch":
            (slopes * layer(x)).sum().backward()
            found = [variable.value.grad for variable in variables]
        case "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                total = tf.reduce_sum(slopes * layer(x))
            found = tape.gradient(total, [variable.value for variable in variables])
        case "jax":
            import jax

            def total(values):
                with keras.StatelessScope(list(zip(variables, values))):
                    return (slopes * layer(x)).sum()

            found = jax.grad(total)([variable.value for variable in variables])
    return [float(keras.ops.convert_to_numpy(value).item()) for value in found]


def compare(unroll):
    layer = keras.layers.SimpleRNN(
        1,
        activation=None,
        kernel_initializer="ones",
        recurrent_initializer="zeros",
        return_sequences=True,
        dtype="float16",
        unroll=unroll,
    )
    layer.build((1, len(X), 1))
    x, slopes = X.astype("float64"), SLOPES.astype("float64")
    expected = [np.sum(x * slopes), np.sum(x[:-1] * slopes[1:])]
    return expected, gradients(layer)


if keras.backend.backend() == "numpy":
    sys.exit(0)
wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for unroll in (False, True):
    expected, received = compare(unroll)
    right = np.array_equal(received, expected)
    wrong += not right
    print(f"unroll={unroll}: {'right' if right else 'WRONG'}")
    print(f"  expected {np.asarray(expected).tolist()}")
    print(f"  received {np.asarray(received).tolist()}")
sys.exit(wrong > 0)
