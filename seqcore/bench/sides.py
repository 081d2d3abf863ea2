"""Who runs a workload: the interface of a side, and the sides that are seqcore's own."""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from seqcore.bench.workloads import Workload
from seqcore.registry import registry
from seqcore.runtime import BoundLayer
from seqcore.runtime.inputs import choose_engine
from seqcore.spi.request import MaskKind
from seqcore.spi.soundness import version_of

MODES = ("inference", "train")
REFERENCE = "numpy"
"""The backend whose output every side's is compared with."""


class SideSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A side as the parent process names it to a worker.

    Attributes:
        name: Its name in the report. A peer's has a dot in it, which no backend's can have.
        factory: `"module:attribute"`, called in the worker.
        arguments: With what.
        environment: Variables that have to be set before the worker starts.
        modes: What it can be asked to do.
        backend: Whether it is a backend, which the verdict may name.
        padded: Whether it computes padded steps like any other.
    """

    name: str
    factory: str
    arguments: dict[str, Any] = {}
    environment: dict[str, str] = {}
    modes: tuple[str, ...] = MODES
    backend: bool = False
    padded: bool = False


class Side(ABC):
    """One engine with one workload, in its own process. A call returns when its work is done."""

    requires: ClassVar[tuple[str, ...]] = ()
    """Import names of what has to be installed."""

    environment: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Variables that have to be set before the process starts."""

    modes: ClassVar[tuple[str, ...]] = MODES

    @abstractmethod
    def setup(self, workload: Workload, threads: int) -> dict[str, str]:
        """Take a workload, and return what the report says of this side: versions and so on."""

    @abstractmethod
    def inference(self) -> object:
        """Run the layer once; in a stream, from the state of the call before."""

    @abstractmethod
    def train(self) -> object:
        """Run forward and back: ones as cotangents, gradients of all weights and of x."""

    @abstractmethod
    def output(self) -> NDArray[Any]:
        """Return the layer's output, (batch, time, units), from a zero state."""


class BackendSide(Side):
    """A backend: a bound layer on the backend's own arrays, so that no border copy counts."""

    def __init__(self, backend: str, padded: bool = False) -> None:
        """Take the backend's name; `padded` leaves out the lengths."""
        self._name = backend
        self._padded = padded

    def setup(self, workload: Workload, threads: int) -> dict[str, str]:
        """Bind the weights and bring the input into the backend's form."""
        data = workload.data()
        engine = choose_engine(str(workload.layer), self._name, {})
        self._backend = backend = engine.backend
        self._stream = workload.stream

        def native(value: NDArray[Any], dtype: str) -> Any:
            array = backend.asarray(value, dtype, engine.device)
            # A backend whose arrays belong to another one gets NumPy's, as its users would do.
            return array if registry.for_array(array) in (None, self._name) else value

        self._x = native(data.x, "float32")
        self._options: dict[str, Any] = {}
        if data.lengths is not None and not self._padded:
            self._options["lengths"] = native(data.lengths, "int64")
        # Of libraries that heed neither the environment nor the processors of the process.
        takes_threads = "threads" in registry.spec(self._name).options
        own = {"threads": min(threads, os.cpu_count() or 1)} if takes_threads else {}
        self._bound: BoundLayer = workload.layer.bind(data.weights, backend=self._name, **own)
        self._state: Any = None
        self._ones = tuple(
            native(np.ones(shape, np.float32), "float32") for shape in workload.output_shapes()
        )
        mask: MaskKind = "lengths" if self._options else "none"
        return {
            "version": version_of(backend),
            "device": engine.device,
            "arrays": f"{type(self._x).__module__.partition('.')[0]}.{type(self._x).__name__}",
            "inference": ", ".join(self._bound.explain(mask=mask).implementations()),
            "train": _planned(lambda: self._bound.explain(mask=mask, gradient="yes")),
        }

    def inference(self) -> object:
        """Call the bound layer."""
        outputs = self._run(self._state)
        if self._stream:
            self._state = outputs[1:]
        return self._done(outputs)

    def train(self) -> object:
        """Call the bound layer's `vjp`, and the pullback."""
        outputs, pullback = self._bound.vjp(self._x, **self._options)
        gradients = pullback(self._ones if isinstance(outputs, tuple) else self._ones[0])
        return self._done(gradients.weights.values()), outputs, gradients

    def output(self) -> NDArray[Any]:
        """Return the first output."""
        return self._numpy(self._run(None)[0])

    def _run(self, state: Any) -> tuple[Any, ...]:
        outputs = self._bound(self._x, initial_state=state, **self._options)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def _numpy(self, array: Any) -> NDArray[Any]:
        found: NDArray[Any] = (
            array if isinstance(array, np.ndarray) else self._backend.to_numpy(array)
        )
        return found

    def _done(self, arrays: Any) -> object:
        """Wait for work that the engine may do behind our back: look at one small result."""
        return self._numpy(min(arrays, key=lambda array: math.prod(array.shape)))


class Product(Side):
    """NumPy's float32 matrix product: the peak that other rates are shares of."""

    size = 2048

    def setup(self, workload: Workload, threads: int) -> dict[str, str]:
        """Make two matrices, of a size at which threads and blocking are at their best."""
        random = np.random.default_rng(0)
        shape = (self.size, self.size)
        self._a = random.standard_normal(shape, dtype=np.float32)
        self._b = random.standard_normal(shape, dtype=np.float32)
        self._out = np.empty(shape, np.float32)
        return {"version": np.__version__}

    def inference(self) -> object:
        """Multiply."""
        return np.matmul(self._a, self._b, out=self._out)

    def train(self) -> object:
        """Multiply: the peak is the same."""
        return self.inference()

    def output(self) -> NDArray[Any]:
        """Return the product, which nothing is compared with."""
        return self._out


PRODUCT = SideSpec(name="sgemm", factory="seqcore.bench.sides:Product")


def backend_sides(name: str, *, lengths: bool) -> Iterator[SideSpec]:
    """Yield a backend's sides: with lengths also the one that leaves them out, to compare with."""
    for padded in (False, True) if lengths else (False,):
        yield SideSpec(
            name=f"{name}.padded" if padded else name,
            factory="seqcore.bench.sides:BackendSide",
            arguments={"backend": name, "padded": padded},
            backend=not padded,
            padded=padded,
        )


def _planned(explain: Callable[[], Any]) -> str:
    from seqcore.errors import PlanError, UnsupportedFeature

    try:
        return ", ".join(explain().implementations())
    except (PlanError, UnsupportedFeature) as error:
        return f"none: {error}"
