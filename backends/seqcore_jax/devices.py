"""Devices by name: the platform, and `:index` behind it where that is not 0."""

from __future__ import annotations

import functools
from typing import Any

import jax

from seqcore.errors import ArgumentError
from seqcore.ops import Array


def default_device() -> Any:
    """Return the device that JAX uses where nothing says otherwise."""
    settings: Any = jax.config  # whose attributes no type checker sees
    chosen = settings.jax_default_device
    if chosen is None:
        return jax.local_devices()[0]
    return jax.local_devices(backend=chosen)[0] if isinstance(chosen, str) else chosen


@functools.cache
def device_name(device: Any) -> str:
    """Return a device's name, as in `"cpu"` or `"gpu:1"`."""
    index = jax.local_devices(backend=device.platform).index(device)
    return f"{device.platform}:{index}" if index else str(device.platform)


@functools.cache
def find_device(name: str) -> Any:
    """Return the device of that name.

    Raises:
        ArgumentError: if there is none.
    """
    platform, _, index = name.partition(":")
    try:
        return jax.local_devices(backend=platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError):
        raise ArgumentError(
            f"device={name!r}: JAX has no such device, expected one of {', '.join(device_names())}"
        ) from None


def device_names() -> tuple[str, ...]:
    """Return the names of all devices of this process, the default one first."""
    first = default_device()
    others = [device for device in jax.local_devices() if device != first]
    if first.platform != "cpu" and all(device.platform != "cpu" for device in others):
        others += jax.local_devices(backend="cpu")
    return tuple(device_name(device) for device in (first, *others))


def device_of(array: Array) -> Any:
    """Return the one device of a concrete array, or None where it is spread over several."""
    devices = array.devices()
    return next(iter(devices)) if len(devices) == 1 else None
