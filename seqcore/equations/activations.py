"""The activations and their derivatives (clauses ACT)."""

from __future__ import annotations

from seqcore.ops import Array, Ops


def activate(name: str, ops: Ops, x: Array) -> Array:
    """Return the activation of `x`."""
    match name:
        case "tanh":
            return ops.tanh(x)
        case "sigmoid":
            return ops.sigmoid(x)
        case "relu":
            # Not a maximum: a NaN stays a NaN, for `x <= 0` is False of it.
            return ops.where(x <= 0, 0.0, x)
        case "linear":
            return x
        case "hard_sigmoid":
            line = x / 6 + 0.5
            return ops.where(line <= 0, 0.0, ops.where(line >= 1, 1.0, line))
    raise AssertionError(name)


def slope(name: str, ops: Ops, y: Array) -> Array:
    """Return the derivative, from the activation's own value `y`; 0 at kinks.

    Every activation of the spec allows it, so that no pre-activation has to be kept.
    """
    # An array, for two scalars would leave `where` without a dtype; and not `y - y`, for a compiler
    # may turn `1 + (y - y)` into `(1 + y) - y`, which is 0 where y is large.
    zero = ops.zeros(tuple(y.shape), y)
    match name:
        case "tanh":
            return 1 - y * y
        case "sigmoid":
            return y * (1 - y)
        case "relu":
            return ops.where(y > 0, 1.0 + zero, zero)
        case "linear":
            return 1.0 + zero
        case "hard_sigmoid":
            return ops.where(y > 0, ops.where(y < 1, 1.0 / 6 + zero, zero), zero)
    raise AssertionError(name)
