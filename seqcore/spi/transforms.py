"""A framework's own transformations of functions, for callers that know no framework."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from seqcore.ops import Array, Arrays

Function = Callable[..., Any]


class Transforms(ABC):
    """What the conformance suite calls to see a backend inside its framework.

    A backend whose framework has none of one of these raises in that method, and declares the
    feature unsupported.
    """

    @abstractmethod
    def array(self, value: Any) -> Array:
        """Return a NumPy array as a native one, on the framework's default device."""

    @abstractmethod
    def gradient(self, function: Callable[..., Array], arguments: Arrays) -> Arrays:
        """Return the gradients of a scalar-valued function of arrays, by the framework's autodiff.

        Calls may be nested, for gradients of gradients.
        """

    @abstractmethod
    def jvp(self, function: Function, arguments: Arrays, tangents: Arrays) -> tuple[Any, Any]:
        """Return the outputs and, in their structure, their tangents, by forward mode."""

    @abstractmethod
    def vmap(self, function: Function, arguments: Arrays) -> Any:
        """Return the outputs for every index of the arguments' first axes, mapped, not looped."""

    @abstractmethod
    def compile(self, function: Function) -> Function:
        """Return the function as the framework's compiler or tracer makes it."""
