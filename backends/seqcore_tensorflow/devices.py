"""TensorFlow's devices under short names: `cpu`, `gpu:0`, `gpu:1`."""

from __future__ import annotations

import functools

import tensorflow as tf

from seqcore.errors import ArgumentError
from seqcore.spec.naming import nearest


@functools.cache
def device_names() -> tuple[str, ...]:
    """Return the devices at hand, the one that TensorFlow itself prefers first."""
    kinds = [device.device_type for device in tf.config.list_logical_devices()]
    gpus = kinds.count("GPU")
    return (*(f"gpu:{index}" for index in range(gpus)), "cpu")


@functools.lru_cache(maxsize=256)
def device_name(full: str) -> str:
    """Return the short name of a device as TensorFlow writes it; "" of none, as in a trace."""
    if not full:
        return ""
    kind, _, index = full.rpartition("/device:")[2].partition(":")
    return "cpu" if kind == "CPU" else f"{kind.lower()}:{index}"


@functools.lru_cache(maxsize=256)
def find_device(name: str) -> str:
    """Return how TensorFlow writes a device.

    Raises:
        ArgumentError: if there is no such device here.
    """
    short = "gpu:0" if name == "gpu" else "cpu" if name == "cpu:0" else name
    if short not in device_names():
        known = device_names()
        raise ArgumentError(
            f"device={name!r}: TensorFlow has no such device here{nearest(name, known)}, "
            f"expected one of {', '.join(known)}"
        )
    return "/device:CPU:0" if short == "cpu" else f"/device:{short.upper()}"
