"""The JAX backend: its array border, its implementations, and how calls are compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqcore.errors import DtypeError
from seqcore.ops import Array
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spi import ArrayInfo, Backend, Buckets, Capabilities, Generic, Request
from seqcore_jax.devices import default_device, device_name, device_names, device_of, find_device
from seqcore_jax.ops import JaxOps
from seqcore_jax.precision import wide, x64_enabled
from seqcore_jax.scan import Scan
from seqcore_jax.transforms import JaxTransforms

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 2**31 - 1


class JaxBackend(Backend):
    """Layers on JAX.

    NumPy arrays that go to the default device stay NumPy arrays up to the compiled function, which
    takes them over faster than `device_put` does: an eager JAX operation costs as much as a small
    layer. They are copies, for JAX may read the memory of an array later, or keep it.
    """

    name = "jax"
    capabilities = Capabilities(
        not_implemented={
            "forward_mode": "the written backward pass hides it; implementation='generic' has it",
        }
    )

    def __init__(self) -> None:
        self.ops = JaxOps()
        self.implementations = (Scan(self.ops), Generic(self.ops))
        self.transforms = JaxTransforms()
        self._buckets = Buckets()

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        if isinstance(value, jax.core.Tracer):
            return _as_count(value) if dtype == "int64" else value
        if dtype == "int64":
            return np.asarray(value).astype(np.int32)
        if isinstance(value, jax.Array):
            if "+" in device or device_of(value) in (None, find_device(device)):
                return value
            return jax.device_put(value, find_device(device))
        kind = np.dtype(np.bool_) if dtype == "bool" else numpy_dtype(dtype)
        array = np.array(value, kind, order="C")
        if "+" in device or find_device(device) == default_device():
            return array
        with wide(dtype):
            return jax.device_put(array, find_device(device))

    def to_numpy(self, array: Array) -> Any:
        if isinstance(array, jax.Array) and array.dtype.name in _BY_DLPACK:
            device = device_of(array)
            if device is not None and device.platform == "cpu":
                # A fifth of the time of np.asarray; the copy, since JAX's arrays never change.
                view: Any = array.block_until_ready()
                return np.array(np.from_dlpack(view))
        return np.array(array)

    def describe(self, array: Array) -> ArrayInfo:
        if isinstance(array, jax.core.Tracer):
            # Nothing is known of its device; the arrays that it meets decide.
            return ArrayInfo(array.shape, _name(array.dtype), "", True, True)
        if not isinstance(array, jax.Array):
            raise DtypeError(f"received a {type(array).__name__} of JAX, expected a jax.Array")
        return ArrayInfo(array.shape, _name(array.dtype), _device_name(array))

    def version(self) -> str:
        return jax.__version__

    def devices(self) -> tuple[str, ...]:
        return device_names()

    def copy(self, array: Array) -> Array:
        if isinstance(array, jax.core.Tracer | np.ndarray):
            return array
        # It cannot change, but it can be deleted: a training step may donate its weights.
        with wide(array.dtype.name):
            return jnp.array(array, copy=True)

    def device(self, name: str) -> str:
        return device_name(find_device(name))

    def padded_shape(self, request: Request, batch: int, time: int) -> tuple[int, int]:
        if request.option("compile") is False:
            return batch, time
        return self._buckets.padded_shape(request, batch, time)

    def compile(self, request: Request, function: F) -> F:
        if request.option("compile") is False:
            run = inlined = _eager(function)
        else:
            # A function compiled within another's trace may not bring options of its own.
            options = _CPU_OPTIONS if request.device.partition(":")[0] == "cpu" else None
            run, inlined = jax.jit(function, compiler_options=options), jax.jit(function)
        under_trace = _in_float64(request, inlined) if request.dtype == "float64" else inlined

        def call(*arguments: Any) -> Any:
            if _traced(arguments):
                return under_trace(*arguments)
            # Now, even inside a trace of the user's, which no argument belongs to. What comes out
            # must not either: a bound layer keeps its prepared weights beyond it.
            with jax.ensure_compile_time_eval(), wide(request.dtype):
                return run(*arguments)

        return cast(F, call)


_CPU_OPTIONS = {"xla_cpu_prefer_vector_width": 512}
"""XLA's code for a processor uses half of AVX-512's width unless told otherwise.

Inference of LSTM(256) over (32, 100, 128) on 2 cores of an AMD EPYC took 0.90 of the time with it,
of LSTM(64) over (8, 2000, 32) 0.88; narrower processors ignore it.
"""

_BY_DLPACK = frozenset(("float64", "float32", "float16"))


def _traced(values: Any) -> bool:
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def _eager(function: Any) -> Any:
    def run(*arguments: Any) -> Any:
        return function(*jax.tree.map(jnp.asarray, arguments))

    return run


def _in_float64(request: Request, run: Any) -> Any:
    """Return `run` for traced arguments: its values and, later, its derivatives in float64."""

    def call(*arguments: Any) -> Any:
        with wide("float64"):
            return run(*arguments)

    def forward(*arguments: Any) -> Any:
        with wide("float64"):
            return jax.vjp(run, *arguments)

    def backward(pullback: Any, cotangents: Any) -> Any:
        # What passed through the user's own arithmetic came back as float32.
        with wide("float64"):
            return pullback(tuple(lax.convert_element_type(d, "float64") for d in cotangents))

    # JAX runs a backward pass after the call that led to it has returned, out of our context.
    guarded = jax.custom_vjp(call)
    guarded.defvjp(forward, backward)

    def choose(*arguments: Any) -> Any:
        if x64_enabled():
            return run(*arguments)
        return guarded(*arguments) if request.gradient == "unknown" else call(*arguments)

    return choose


def _as_count(lengths: Array) -> Array:
    """Return traced lengths as they can be compared with steps; the runtime clamps them."""
    if lengths.dtype.name in ("int64", "uint32", "uint64"):
        return jnp.clip(lengths, 0, _MOST).astype(jnp.int32)
    return lengths


def _device_name(array: Array) -> str:
    devices = array.devices()
    if len(devices) == 1:
        return device_name(next(iter(devices)))
    return "+".join(sorted(str(device) for device in devices))


@functools.cache
def _name(dtype: Any) -> str:
    return str(dtype.name)
