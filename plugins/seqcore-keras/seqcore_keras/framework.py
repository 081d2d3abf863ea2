"""What differs between the frameworks that Keras runs on, as far as Keras leaves it to users."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

Tensors = tuple[Any, ...]
Forward = Callable[[Tensors], Tensors]
Pullback = Callable[[Tensors], Tensors]


class Framework(ABC):
    """A framework under Keras.

    Attributes:
        name: Keras's own name for it.
        version: Its version.
        no_gradients: Why it cannot differentiate, or "" where it can.
    """

    name: str
    version: str
    no_gradients: str = ""

    @abstractmethod
    def vjp(
        self, forward: Forward, inputs: Tensors, variables: Sequence[Any]
    ) -> tuple[Tensors, Pullback]:
        """Run a function of tensors and Keras variables, and return what differentiates it.

        Args:
            forward: Takes the inputs and reads the variables.
            inputs: Tensors that nobody else holds.
            variables: Keras variables.

        Returns:
            The outputs, and a function of their cotangents that may be called repeatedly and
            gives the gradients of the inputs, then those of the variables.
        """

    def numbers(self, dtype: str) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which this thread computes in `dtype`."""
        return contextlib.nullcontext()
