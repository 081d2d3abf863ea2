"""Products in float32 at each `matmul_precision`, told to each product (clauses PREC).

TensorFlow has one switch for TF32, for the whole process, and it is on by default on a GPU. It
belongs to the user and stays as it is; what a product needs is done to its factors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from seqcore.ops import Array
from seqcore_tensorflow.devices import device_name, device_names

Product = Callable[[Array, Array], Array]


def in_full(a: Array, b: Array) -> Array:
    """Return the product of two matrices in their data type in full."""
    if a.dtype == tf.float32 and rounds_to_tf32():
        wide = tf.matmul(tf.cast(a, tf.float64), tf.cast(b, tf.float64))
        return tf.cast(wide, tf.float32)
    return tf.matmul(a, b)


def rounds_to_tf32() -> bool:
    """Return whether TensorFlow would round the factors of a product made here and now to TF32."""
    if device_names() == ("cpu",):
        return False
    if not tf.config.experimental.tensor_float_32_execution_enabled():
        return False
    # Any op shows where ops go; inside a trace that may be nowhere yet.
    return device_name(tf.zeros(()).device) != "cpu"


def of_rounded(round_factor: Callable[[Array], Array]) -> Product:
    """Return the product that rounds its factors first, and so do the products of its pullback."""

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def product(a: Array, b: Array) -> Any:
        def back(d: Array) -> tuple[Array, Array]:
            return product(d, tf.transpose(b)), product(tf.transpose(a), d)

        return tf.matmul(round_factor(a), round_factor(b)), back

    result: Product = product
    return result


def round_tf32(x: Array) -> Array:
    """Round float32 to the 10 explicit mantissa bits of TF32, to nearest, ties to even."""
    return _round(x, 13)


def round_bfloat16(x: Array) -> Array:
    """Round float32 to the 7 explicit mantissa bits of bfloat16, to nearest, ties to even."""
    return _round(x, 16)


def _round(x: Array, low: int) -> Array:
    """Round away the `low` last bits; in integers, for XLA may drop a cast there and back."""
    bits = tf.bitcast(x, tf.int32)
    odd = tf.bitwise.bitwise_and(tf.bitwise.right_shift(bits, low), 1)
    # A sum that runs over is only that of a NaN, which is replaced below.
    rounded = tf.bitwise.bitwise_and(bits + (odd + (2 ** (low - 1) - 1)), -(2**low))
    # Adding to the bits of a NaN or of infinity would leave them; they are what they are.
    return tf.where(tf.math.is_finite(x), tf.bitcast(rounded, tf.float32), x)
