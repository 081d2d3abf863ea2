"""The array functions over TensorFlow, op by op and inside a trace alike.

Inside a trace a size may be unknown until the graph runs; it is then read where it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow as tf

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore_tensorflow.precision import (
    Product,
    in_full,
    of_rounded,
    round_bfloat16,
    round_tf32,
)

FOR_XLA: ContextVar[bool] = ContextVar("seqcore_tensorflow_for_xla", default=False)
"""Whether the graph being made is compiled by XLA, for shapes that are known."""

_ROWS = 4


class TensorflowOps(Ops):
    """Every function, on whichever device the arrays are."""

    def __init__(self, product: Product = in_full) -> None:
        """Take the product of two matrices."""
        self._product = product

    def at(self, precision: str) -> Ops:
        return _AT[precision]

    def projects_ahead(self, batch: int) -> bool:
        # In a graph one large product saves ops; XLA reads a slice of what that gave slower than it
        # multiplies the inputs of a step, unless there are few rows.
        return not FOR_XLA.get() or batch < _ROWS

    def matmul(self, a: Array, b: Array) -> Array:
        if len(a.shape) == 2:
            return self._product(a, b)
        # One product of matrices; as a batch of products it is several times slower.
        rows = tf.reshape(a, (-1, a.shape[-1]))
        return tf.reshape(self._product(rows, b), (*sizes(a)[:-1], b.shape[-1]))

    def tanh(self, x: Array) -> Array:
        return tf.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        return tf.sigmoid(x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        # A Python scalar takes the array's dtype; TensorFlow alone would make it float32.
        dtype = (a if tf.is_tensor(a) else b).dtype
        return tf.where(condition, tf.convert_to_tensor(a, dtype), tf.convert_to_tensor(b, dtype))

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return tf.concat(list(arrays), axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        pieces: Sequence[Array] = tf.split(x, parts, -1)
        return pieces

    def swap(self, x: Array) -> Array:
        return tf.transpose(x, (1, 0, *range(2, len(x.shape))))

    def flip(self, x: Array, axis: int) -> Array:
        return tf.reverse(x, (axis,))

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return tf.reshape(x, shape)

    def sum(self, x: Array) -> Array:
        return tf.reduce_sum(x, 0)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        # A size that a trace hides is that of the same axis of `like`.
        wanted: tuple[Any, ...] = shape
        if None in wanted:
            known = sizes(like)
            wanted = tuple(
                known[axis] if size is None else size for axis, size in enumerate(wanted)
            )
        return tf.zeros(wanted, like.dtype)

    def size(self, x: Array, axis: int) -> Any:
        return sizes(x)[axis]

    def arange(self, stop: int, like: Array) -> Array:
        return tf.range(tf.cast(stop, like.dtype))

    def cast(self, x: Array, dtype: str) -> Array:
        return tf.cast(x, dtype)

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        steps = sizes(xs[0])[0]
        if isinstance(steps, int):
            return self._steps(step, carry, xs, steps, reverse=reverse)
        emitted: list[Array] = []

        def some() -> tuple[Arrays, Arrays]:
            final, emitted[:] = self._steps(step, carry, xs, steps, reverse=reverse)
            return final, tuple(emitted)

        def none() -> tuple[Arrays, Arrays]:
            # Called after the other, which tells what there is to stack.
            batch = sizes(carry[0])[0]
            shapes = ([batch if size is None else size for size in y.shape[1:]] for y in emitted)
            empty = (
                tf.zeros((0, *shape), y.dtype) for shape, y in zip(shapes, emitted, strict=True)
            )
            return carry, tuple(empty)

        # The trace of a caller may turn out to have no step.
        final, stacked = tf.cond(steps > 0, some, none)
        return final, stacked

    def _steps(
        self, step: Step, carry: Arrays, xs: Arrays, steps: Any, *, reverse: bool
    ) -> tuple[Arrays, Arrays]:
        last = steps - 1

        def place(index: Any) -> Any:
            return last - index if reverse else index

        read = [_unstacked(x, steps) for x in xs]
        # The first step is run apart: it tells what there is to stack.
        carry, emitted = step(carry, tuple(x.read(place(0)) for x in read))
        if isinstance(steps, int) and steps == 1:
            return carry, tuple(value[None] for value in emitted)
        stacks = tuple(
            tf.TensorArray(value.dtype, steps, element_shape=value.shape).write(place(0), value)
            for value in emitted
        )

        def body(index: Any, carry: Arrays, stacks: tuple[Any, ...]) -> tuple[Any, Arrays, Any]:
            at = place(index)
            carry, emitted = step(carry, tuple(x.read(at) for x in read))
            written = (stack.write(at, value) for stack, value in zip(stacks, emitted, strict=True))
            return index + 1, carry, tuple(written)

        _, carry, stacks = tf.while_loop(
            lambda index, *_: index < steps,
            body,
            (tf.constant(1), tuple(carry), stacks),
            maximum_iterations=last,
        )
        return carry, tuple(stack.stack() for stack in stacks)


def sizes(x: Array) -> tuple[Any, ...]:
    """Return the shape of an array: integers, and tensors where a trace does not know them."""
    known = tuple(x.shape)
    if None not in known:
        return known
    shape = tf.shape(x)
    return tuple(shape[axis] if size is None else size for axis, size in enumerate(known))


def _unstacked(x: Array, steps: Any) -> Any:
    """Return an array whose slices along the first axis can be read one by one."""
    return tf.TensorArray(x.dtype, steps, element_shape=x.shape[1:]).unstack(x)


_AT: dict[str, Ops] = {
    "highest": TensorflowOps(),
    "tf32": TensorflowOps(of_rounded(round_tf32)),
    "bfloat16": TensorflowOps(of_rounded(round_bfloat16)),
}
