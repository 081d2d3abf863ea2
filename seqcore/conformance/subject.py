"""The backend under test, as the cases see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from seqcore.registry import registry
from seqcore.spec.layers import AnyLayer
from seqcore.spi import Backend, Capabilities


class Subject:
    """A backend by name; every call goes through the public methods of a layer.

    Attributes:
        name: The backend's name.
        backend: The backend.
        seed: The seed of the run, from which every random array follows.
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        """Take the name of a registered backend."""
        self.name = name
        self.backend: Backend = registry.get(name)
        self.seed = seed
        self._declared = self.backend.capabilities

    @property
    def capabilities(self) -> Capabilities:
        """What the backend declares, also while its gate is open."""
        return self._declared

    def supports(self, feature: str) -> bool:
        """Return whether a feature is declared supported."""
        return self._declared.reason(feature) is None

    def dtypes(self) -> tuple[str, ...]:
        """Return the data types declared supported, float32 first where it is one."""
        known = ("float32", "float64", "float16", "bfloat16")
        return tuple(dtype for dtype in known if self.supports(dtype))

    @contextmanager
    def ungated(self) -> Iterator[None]:
        """Let calls pass the library's gate: everything counts as supported."""
        self.backend.capabilities = Capabilities()
        try:
            yield
        finally:
            self.backend.capabilities = self._declared

    def apply(self, layer: AnyLayer, weights: Mapping[str, Any], x: Any, **given: Any) -> Any:
        """Run a layer on the backend; arguments and options are those of `Layer.apply`."""
        return layer.apply(weights, x, backend=self.name, **given)

    def vjp(self, layer: AnyLayer, weights: Mapping[str, Any], x: Any, **given: Any) -> Any:
        """Return the outputs and the pullback, as `Layer.vjp` does."""
        return layer.vjp(weights, x, backend=self.name, **given)

    def gates(self, layer: AnyLayer, weights: Mapping[str, Any], x: Any, **given: Any) -> Any:
        """Return the gates, as `Layer.gates` does."""
        return layer.gates(weights, x, backend=self.name, **given)

    def bind(self, layer: AnyLayer, weights: Mapping[str, Any], **options: Any) -> Any:
        """Bind a layer's weights, as `Layer.bind` does."""
        return layer.bind(weights, backend=self.name, **options)

    def random(self, label: str) -> np.random.Generator:
        """Return a generator that depends on the run's seed and the label, and nothing else."""
        return generator(self.seed, label)


def generator(seed: int, label: str) -> np.random.Generator:
    """Return a random generator for a seed and a label."""
    return np.random.default_rng([seed, *label.encode()])
