"""The TensorFlow backend: its array border, its implementations, and how calls are compiled."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import numpy as np
import tensorflow as tf

from seqcore.errors import DtypeError, ShapeError, UnsupportedFeature
from seqcore.ops import Array
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spi import ArrayInfo, Backend, Buckets, Capabilities, Request
from seqcore_tensorflow.compiling import Compiled, Eager
from seqcore_tensorflow.devices import device_name, device_names, find_device
from seqcore_tensorflow.generic import Plain
from seqcore_tensorflow.ops import TensorflowOps
from seqcore_tensorflow.tapes import FORWARD_MODE, recording, refuse_tangents
from seqcore_tensorflow.transforms import TensorflowTransforms
from seqcore_tensorflow.while_loop import WhileLoop

F = TypeVar("F")


class TensorflowBackend(Backend):
    """Layers on TensorFlow, op by op, as graphs and in a caller's own graph."""

    name = "tensorflow"
    capabilities = Capabilities(
        unsupported={
            "forward_mode": FORWARD_MODE,
        }
    )

    def __init__(self) -> None:
        self.ops = TensorflowOps()
        self.implementations = (WhileLoop(self.ops), Plain(self.ops))
        self.transforms = TensorflowTransforms()
        self._buckets = Buckets()

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        if not isinstance(value, tf.Tensor | tf.Variable):
            kind = numpy_dtype(dtype) if dtype not in ("bool", "int64") else np.dtype(dtype)
            with tf.device(find_device(device)):
                return tf.convert_to_tensor(np.asarray(value, kind))
        array = tf.cast(value, dtype) if dtype == "int64" else tf.convert_to_tensor(value)
        refuse_tangents(array)
        if not tf.executing_eagerly() or device_name(array.device) == device:
            return array
        with tf.device(find_device(device)):
            return tf.identity(array)

    def to_numpy(self, array: Array) -> Any:
        if isinstance(array, tf.Variable):
            array = tf.convert_to_tensor(array)
        if not isinstance(array, tf.__internal__.EagerTensor):
            raise UnsupportedFeature(
                "a call without tensors inside tf.function: its results are NumPy arrays and have "
                "no values yet; give x as a tensor"
            )
        return array.numpy()

    def describe(self, array: Array) -> ArrayInfo:
        if not isinstance(array, tf.Tensor | tf.Variable):
            raise DtypeError(_NOT_DENSE.format(type(array).__name__))
        if array.shape.rank is None or None in array.shape[2:]:
            raise ShapeError(
                f"received a tensor of shape {array.shape} inside tf.function, expected its rank "
                "and its last axis known while tracing, batch and time may be None; give "
                "tf.function an input_signature, or call tensor.set_shape(...) first"
            )
        shape = tuple(array.shape)
        return ArrayInfo(
            shape,
            array.dtype.name,
            device_name(array.device or ""),
            traced=not tf.executing_eagerly(),
            gradient=recording(),
        )

    def version(self) -> str:
        return str(tf.__version__)

    def devices(self) -> tuple[str, ...]:
        return device_names()

    def device(self, name: str) -> str:
        return device_name(find_device(name))

    def padded_shape(self, request: Request, batch: int, time: int) -> tuple[int, int]:
        # With "auto" XLA takes few shapes, and graphs take any.
        if request.option("compile") != "xla":
            return batch, time
        return self._buckets.padded_shape(request, batch, time)

    def compile(self, request: Request, function: F) -> F:
        device = find_device(request.device)
        how = request.option("compile")
        inner: Any = function
        if how == "off":
            return cast(F, Eager(inner, device))
        if how == "auto" and request.gradient == "unknown":
            # Gradients of gradients don't pass through what XLA has compiled.
            how = "graph"
        return cast(F, Compiled(inner, device, str(how or "auto")))


_NOT_DENSE = (
    "received a {0} of TensorFlow, expected a dense tf.Tensor or tf.Variable; a RaggedTensor is "
    "x.to_tensor() with lengths=x.row_lengths()"
)
