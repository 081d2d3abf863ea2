"""The derivative of hard_sigmoid in float64 is 1/6 in float32 on PyTorch.

It is torch.nn.functional.hardsigmoid's own: its value is right, its derivative is off by 5e-9.

Usage: KERAS_BACKEND=torch python float64_hard_sigmoid_has_a_float32_slope.py
Exits with 1 while it is so on that backend. NumPy has no gradients.
"""

import sys

import keras


def slope():
    """Return the derivative at 1."""
    match keras.backend.backend():
        case "torch":
            import torch

            x = torch.ones((), dtype=torch.float64, requires_grad=True)
            keras.activations.hard_sigmoid(x).backward()
            return float(x.grad)
        case "tensorflow":
            import tensorflow as tf

            x = tf.Variable(1.0, dtype="float64")
            with tf.GradientTape() as tape:
                y = keras.activations.hard_sigmoid(x)
            return float(tape.gradient(y, x))
        case "jax":
            import jax

            jax.config.update("jax_enable_x64", True)
            return float(jax.grad(keras.activations.hard_sigmoid)(1.0))


if keras.backend.backend() == "numpy":
    sys.exit(0)
expected, received = 1 / 6, slope()
right = abs(received - expected) < 1e-15
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
print(f"dtype=float64: {'right' if right else 'WRONG'}")
print(f"  expected {expected!r}")
print(f"  received {received!r}")
sys.exit(not right)
