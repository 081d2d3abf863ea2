"""A backend: an array border and an ordered list of implementations."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from seqcore.errors import ArgumentError
from seqcore.ops import Array, Ops
from seqcore.spi.generic import Generic
from seqcore.spi.implementation import Implementation
from seqcore.spi.request import ArrayInfo, Capabilities, Request
from seqcore.spi.transforms import Transforms

F = TypeVar("F", bound=Callable[..., Any])


class Backend(ABC):
    """An engine behind the SPI.

    Attributes:
        name: The name under which it was announced in its `BackendSpec`.
        ops: The array functions, for the output contract: masks, merges, reversal.
        implementations: In order of preference; the first that does not refuse is taken.
        capabilities: What is supported; the runtime refuses the rest before it calls.
        transforms: The framework's own transformations, for a backend with native arrays.
    """

    name: str
    ops: Ops
    implementations: tuple[Implementation, ...]
    capabilities: Capabilities = Capabilities()
    transforms: Transforms | None = None

    @functools.cached_property
    def programs(self) -> dict[Any, Any]:
        """What the runtime has planned and compiled for this backend, by signature."""
        return {}

    @abstractmethod
    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        """Return a NumPy array, or an array of this backend, as one of the dtype on the device.

        `dtype` is one of the spec's, `"bool"` or `"int64"`.
        """

    @abstractmethod
    def to_numpy(self, array: Array) -> Any:
        """Return an array of this backend as a NumPy array on the host."""

    @abstractmethod
    def describe(self, array: Array) -> ArrayInfo:
        """Return what is known of an array of this backend without its values, as plain values."""

    @abstractmethod
    def version(self) -> str:
        """Return the version of the engine."""

    @abstractmethod
    def devices(self) -> tuple[str, ...]:
        """Return the devices at hand, the default one first."""

    def padded_shape(self, request: Request, batch: int, time: int) -> tuple[int, int]:
        """Return the batch and time to which a call is padded on the right; by default its own.

        For an engine that compiles for each shape: it answers with few of them. The padding is
        masked, and cut off from what is returned.
        """
        return batch, time

    def device(self, name: str) -> str:
        """Return the full name of a device that may be written in several ways.

        Raises:
            ArgumentError: if there is no such device, naming those there are.
        """
        if name not in self.devices():
            raise ArgumentError(
                f"device={name!r}: backend {self.name!r} has no such device here, expected one of "
                f"{', '.join(self.devices())}"
            )
        return name

    def copy(self, array: Array) -> Array:
        """Return a copy that later changes of `array` do not reach; itself if immutable."""
        return array

    def compile(self, request: Request, function: F) -> F:
        """Return `function`, pure in its array arguments, compiled if the engine does that.

        Args:
            request: What the function answers, with the backend's options in force.
            function: Takes and returns nested tuples and dicts of arrays and None.
        """
        return function

    def generic(self) -> Generic | None:
        """Return the implementation called "generic", if this backend has one."""
        for implementation in self.implementations:
            if isinstance(implementation, Generic) and implementation.name == Generic.name:
                return implementation
        return None
