"""Backends for tests: implementations that record and refuse, a framework with own arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqcore.registry import registry
from seqcore.spi import (
    ArrayInfo,
    Backend,
    BackendSpec,
    Capabilities,
    Generic,
    Implementation,
    Ops,
    Option,
    Request,
)
from seqcore.spi.version import SPI_VERSION
from seqcore_numpy.backend import NumpyBackend


class Recording(Implementation):
    """Runs by the generic implementation what a rule lets pass, and keeps what it was asked."""

    def __init__(
        self, name: str, ops: Ops, rule: Callable[[Request], str | None] = lambda _: None
    ) -> None:
        self.name = name
        self.rule = rule
        self.inner = Generic(ops)
        self.asked: list[Request] = []
        self.ran: list[tuple[Request, Any, Any, Any]] = []

    def refuses(self, request: Request) -> str | None:
        self.asked.append(request)
        return self.inner.refuses(request) or self.rule(request)

    def prepare(self, request: Request, weights: Any) -> Any:
        return self.inner.prepare(request, weights)

    def run(self, request: Request, prepared: Any, x: Any, mask: Any, initial_state: Any) -> Any:
        self.ran.append((request, x, mask, initial_state))
        return self.inner.run(request, prepared, x, mask, initial_state)

    def vjp(self, request: Request, prepared: Any, x: Any, mask: Any, initial_state: Any) -> Any:
        self.ran.append((request, x, mask, initial_state))
        return self.inner.vjp(request, prepared, x, mask, initial_state)

    def pullback(self, *arguments: Any) -> Any:
        return self.inner.pullback(*arguments)


class Fake(NumpyBackend):
    """The NumPy backend with implementations and capabilities of the test's own."""

    name = "fake"

    def __init__(
        self, *implementations: Implementation, capabilities: Capabilities | None = None
    ) -> None:
        super().__init__()
        self.implementations = implementations or (Generic(self.ops),)
        if capabilities is not None:
            self.capabilities = capabilities


@contextlib.contextmanager
def registered(backend: Backend, **spec: Any) -> Iterator[Any]:
    """Register a backend for the length of a block."""
    described = BackendSpec(name=backend.name, factory="tests:none", spi=SPI_VERSION, **spec)
    with registry.temporarily(described, lambda: backend):
        yield backend


def native_framework() -> tuple[type, Backend]:
    """A framework `fakeframe` whose arrays are torch tensors under another name, with autodiff."""
    import torch

    class Tensor(torch.Tensor):
        hidden = False
        place = "cpu"

    Tensor.__module__ = "fakeframe"

    def own(value: Any) -> Any:
        return value.as_subclass(Tensor)

    class TensorOps(Ops):
        def matmul(self, a: Any, b: Any) -> Any:
            return torch.matmul(a, b)

        def tanh(self, x: Any) -> Any:
            return torch.tanh(x)

        def where(self, condition: Any, a: Any, b: Any) -> Any:
            return torch.where(condition, a, b)

        def concat(self, arrays: Any, axis: int) -> Any:
            return torch.cat(tuple(arrays), axis)

        def split(self, x: Any, parts: int) -> Any:
            return torch.chunk(x, parts, -1)

        def swap(self, x: Any) -> Any:
            return torch.transpose(x, 0, 1)

        def flip(self, x: Any, axis: int) -> Any:
            return torch.flip(x, (axis,))

        def reshape(self, x: Any, shape: Any) -> Any:
            return torch.reshape(x, shape)

        def sum(self, x: Any) -> Any:
            return torch.sum(x, 0)

        def zeros(self, shape: Any, like: Any) -> Any:
            return own(torch.zeros(shape, dtype=like.dtype))

        def arange(self, stop: int, like: Any) -> Any:
            return own(torch.arange(stop))

        def cast(self, x: Any, dtype: str) -> Any:
            return x.to(getattr(torch, dtype))

        def scan(self, step: Any, carry: Any, xs: Any, *, reverse: bool = False) -> Any:
            count = len(xs[0])
            emitted: list[Any] = [None] * count
            for index in reversed(range(count)) if reverse else range(count):
                carry, emitted[index] = step(carry, tuple(x[index] for x in xs))
            return carry, tuple(torch.stack(parts) for parts in zip(*emitted, strict=True))

    class Framework(Backend):
        name = "fakeframe"

        def __init__(self) -> None:
            self.ops = TensorOps()
            self.implementations = (Generic(self.ops),)

        def asarray(self, value: Any, dtype: str, device: str) -> Any:
            if isinstance(value, Tensor):
                return value
            return own(torch.from_numpy(np.array(value, dtype)))

        def to_numpy(self, array: Any) -> Any:
            return array.detach().as_subclass(torch.Tensor).numpy()

        def describe(self, array: Any) -> ArrayInfo:
            dtype = str(array.dtype).removeprefix("torch.")
            return ArrayInfo(
                tuple(array.shape), dtype, array.place, array.hidden, array.requires_grad
            )

        def version(self) -> str:
            return "0"

        def devices(self) -> tuple[str, ...]:
            return ("cpu", "chip:0")

        def copy(self, array: Any) -> Any:
            return array.detach().clone()

    return Tensor, Framework()


DEVICE = {"device": Option(help="where it runs")}
