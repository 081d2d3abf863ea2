"""Planning: which implementation runs which part. Declared, never by exception."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from seqcore.errors import ArgumentError, BackendBroken, PlanError
from seqcore.ops import Array, Arrays
from seqcore.runtime.nodes import (
    Both,
    Chain,
    Leaf,
    Node,
    Nothing,
    Refusal,
    Reversed,
    in_processing_order,
    last_step,
    last_step_back,
    passed_on,
    zeroes_masked,
)
from seqcore.spec.initializers import Zeros
from seqcore.spec.layers import LSTM, AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.naming import nearest
from seqcore.spi import Backend, GradientParts, Implementation, Request, Sequence


def plan(backend: Backend, request: Request, implementation: str | None = None) -> Node:
    """Return the plan for a request: the first implementation that takes the whole, or its parts.

    Args:
        backend: Whose implementations are asked, in their order.
        request: What shall be run.
        implementation: The only one to ask, by name.

    Raises:
        ArgumentError: if the backend has no implementation of that name.
        PlanError: if a part is refused by all that may be asked.
        BackendBroken: if one refuses without a reason.
    """
    candidates = backend.implementations
    if implementation is not None:
        candidates = (implementation_named(backend, implementation),)

    def place(request: Request) -> Node:
        refusals: list[Refusal] = []
        for candidate in candidates:
            reason: object = candidate.refuses(request)  # a third party's
            if reason is None:
                return Leaf(candidate, request, tuple(refusals))
            if not (isinstance(reason, str) and reason.strip()):
                raise BackendBroken(
                    f"backend {backend.name!r}: refuses() of {candidate.name!r} returned "
                    f"{reason!r:.80}, expected None or the reason as a text"
                )
            refusals.append(Refusal(candidate.name, reason))
        return split(request, tuple(refusals))

    def split(request: Request, refusals: tuple[Refusal, ...]) -> Node:
        layer = request.layer
        if isinstance(layer, Stack):
            members = []
            for member in layer.layers:
                members.append(place(dataclasses.replace(request, layer=computation(member))))
                request = _after(member, request)
            return Chain(layer, tuple(members), backend.ops, refusals)
        if isinstance(layer, Bidirectional):
            behind = layer.backward.replace(go_backwards=True, keep_order=True)
            return Both(
                layer,
                place(dataclasses.replace(request, layer=layer.forward)),
                place(dataclasses.replace(request, layer=behind)),
                backend.ops,
                request.dtype,
                refusals,
            )
        if layer.go_backwards:
            forwards = layer.replace(go_backwards=False, keep_order=False)
            inner = place(dataclasses.replace(_turned(request), layer=forwards))
            return Reversed(inner, backend.ops, layer.keep_order, refusals)
        reasons = "; ".join(f"{r.implementation}: {r.reason}" for r in refusals)
        raise PlanError(
            f"{layer}: backend {backend.name!r} has no implementation that takes "
            f"{_describe(request)} ({reasons}); choose another backend"
            + ("" if implementation is None else " or leave out implementation=")
        )

    return place(request)


def implementation_named(backend: Backend, implementation: str) -> Implementation:
    """Return a backend's implementation of that name.

    Raises:
        ArgumentError: if it has none.
    """
    known = {candidate.name: candidate for candidate in backend.implementations}
    if implementation not in known:
        raise ArgumentError(
            f"implementation={implementation!r}: backend {backend.name!r} has none of that "
            f"name{nearest(implementation, known)}; expected one of {', '.join(known)}"
        )
    return known[implementation]


@dataclass(frozen=True, eq=False)
class Program:
    """A planned layer: pure functions of arrays, each compiled once.

    The outputs are always followed by the final state, so that one compiled function serves the
    layers that return it and those that don't.
    """

    layer: AnyLayer
    return_sequences: bool
    request: Request
    backend: Backend
    root: Node

    @functools.cached_property
    def prepare(self) -> Callable[[Mapping[str, Array]], Any]:
        """Return the canonical weights in the form that the plan wants."""
        return self.backend.compile(self.request, self.root.prepare)

    @functools.cached_property
    def run(self) -> Callable[[Any, Array, Array | None, Arrays], Arrays]:
        """Return the outputs and the final state, flat, in the order of the contract."""
        return self.backend.compile(self.request, self._run)

    @functools.cached_property
    def apply(self) -> Callable[[Mapping[str, Array], Array, Array | None, Arrays], Arrays]:
        """Do `run(prepare(weights), ...)` as one function."""
        return self.backend.compile(self.request, self._apply)

    @functools.cached_property
    def vjp(self) -> Callable[[Any, Array, Array | None, Arrays], tuple[Arrays, Any]]:
        """Return what `run` does, and what `pullback` needs."""
        return self.backend.compile(self.request, self._vjp)

    @functools.cached_property
    def pullback(self) -> Callable[[Any, Any, Arrays], GradientParts]:
        """Return the gradients of the weights by name, of x, and of the initial state."""
        return self.backend.compile(self.request, self._pullback)

    def _apply(
        self, weights: Mapping[str, Array], x: Array, mask: Array | None, state: Arrays
    ) -> Arrays:
        return self._run(self.root.prepare(weights), x, mask, state)

    def _run(self, prepared: Any, x: Array, mask: Array | None, state: Arrays) -> Arrays:
        sequence, final = self.root.run(prepared, x, mask, state)
        return self._outputs(sequence, final, mask)

    def _vjp(
        self, prepared: Any, x: Array, mask: Array | None, state: Arrays
    ) -> tuple[Arrays, Any]:
        sequence, final, residuals = self.root.vjp(prepared, x, mask, state)
        outputs = self._outputs(sequence, final, mask)
        if not self.return_sequences:
            # The pullback of a merge multiplies by the states, which the caller may write into.
            final = tuple(self.backend.ops.cast(h * 1, self.request.dtype) for h in final)
        return outputs, (residuals, mask, final)

    def _pullback(self, prepared: Any, kept: Any, cotangents: Arrays) -> GradientParts:
        residuals, mask, final = kept
        count = len(cotangents) - len(final)
        d_y: Any = cotangents[0] if count == 1 else cotangents[:count]
        d_final = cotangents[count:]
        if self.return_sequences:
            return self.root.pullback(prepared, residuals, self._masked(d_y, mask), d_final)
        ops, dtype = self.backend.ops, self.request.dtype
        d_final = last_step_back(self.layer, ops, dtype, d_y, final, d_final)
        return self.root.pullback(prepared, residuals, None, d_final)

    def _outputs(self, sequence: Sequence, final: Arrays, mask: Array | None) -> Arrays:
        if self.return_sequences:
            y = self._masked(sequence, mask)
        else:
            y = last_step(self.layer, self.backend.ops, self.request.dtype, final)
        return (*y, *final) if isinstance(y, tuple) else (y, *final)

    def _masked(self, sequence: Sequence, mask: Array | None) -> Sequence:
        """Write the zeros of masked steps; the pullback of that is itself."""
        if mask is None or not zeroes_masked(self.layer):
            return sequence
        if isinstance(sequence, tuple):
            first, second = (self._masked(part, mask) for part in sequence)
            return first, second
        ops = self.backend.ops
        valid: Array = passed_on(self.layer, ops, mask)
        return ops.where(valid[:, :, None], sequence, 0.0)


def make_program(
    backend: Backend, layer: AnyLayer, request: Request, implementation: str | None
) -> Program:
    """Return the layer's program, planned once for each signature and kept by the backend."""
    sequences = layer.return_sequences

    def make() -> Program:
        root = plan(backend, request, implementation)
        return Program(request.layer, sequences, request, backend, root)

    return _kept(backend, (request, sequences, implementation), make)


def degenerate_program(backend: Backend, layer: AnyLayer, request: Request) -> Program:
    """Return the program for an input without rows or without steps, which no engine is asked."""
    sequences = layer.return_sequences

    def make() -> Program:
        root = Nothing(request.layer, backend.ops)
        return Program(request.layer, sequences, request, backend, root)

    return _kept(backend, ("degenerate", request, sequences), make)


_MOST_PROGRAMS = 1024
"""How many programs a backend keeps; each may hold compiled code. The oldest goes first."""

_LOCK = threading.Lock()


def _kept(backend: Backend, key: Hashable, make: Callable[[], Program]) -> Program:
    programs = backend.programs
    program: Program | None = programs.get(key)
    if program is None:
        with _LOCK:
            program = programs.get(key)
            if program is None:
                while len(programs) >= _MOST_PROGRAMS:
                    del programs[next(iter(programs))]
                program = programs[key] = make()
    return program


@functools.lru_cache(maxsize=4096)
def computation(layer: AnyLayer) -> AnyLayer:
    """Return the layer without what does not change the computation.

    Initializers take one value and return flags are set, so that caches and implementations don't
    tell apart what runs alike. A stack's members keep `return_state` unset, as they must.
    """
    if isinstance(layer, Stack):
        members = (computation(member) for member in layer.layers)
        return layer.replace(
            layers=tuple(_set(member, return_state=False) for member in members),
            return_sequences=True,
            return_state=True,
        )
    if isinstance(layer, Recurrent):
        layer = layer.replace(
            kernel_initializer=Zeros(),
            recurrent_initializer=Zeros(),
            bias_initializer=Zeros(),
        )
        if isinstance(layer, LSTM):
            layer = layer.replace(unit_forget_bias=True)
    else:
        layer = layer.replace(
            layer=computation(layer.forward), backward_layer=computation(layer.backward)
        )
    flagged: AnyLayer = _set(layer, return_sequences=True, return_state=True)
    return flagged


def _set(layer: Any, **flags: bool) -> Any:
    if isinstance(layer, Bidirectional):
        return layer.replace(
            layer=layer.forward.replace(**flags), backward_layer=layer.backward.replace(**flags)
        )
    return layer.replace(**flags)


def _after(member: AnyLayer, request: Request) -> Request:
    """Return the request as the next member of a stack sees it."""
    return _turned(request) if in_processing_order(member) else request


def _turned(request: Request) -> Request:
    """Return the request over reversed steps, where right padding is no longer that."""
    if request.mask == "lengths":
        return dataclasses.replace(request, mask="any")
    return request


def _describe(request: Request) -> str:
    words = [f"dtype {request.dtype}", f"matmul_precision {request.precision!r}"]
    if request.mask != "none":
        words.append("a mask")
    if request.gradient == "yes":
        words.append("gradients")
    return ", ".join(words)
