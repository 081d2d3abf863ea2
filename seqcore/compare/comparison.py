"""Several backends on the same weights and input: how far they are apart, and where it begins."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.compare.reference import Named, Reference, by_name
from seqcore.errors import ArgumentError
from seqcore.registry import registry
from seqcore.runtime.nodes import in_processing_order
from seqcore.runtime.planning import computation
from seqcore.spec.layers import AnyLayer, Recurrent
from seqcore.spec.weights import parts


@dataclass(frozen=True, slots=True)
class Difference:
    """The worst difference of two engines in their outputs, or in their gradients.

    Attributes:
        first: One backend, or model.
        second: The other.
        kind: `"outputs"` or `"gradients"`.
        array: The array that comes nearest to its limit, or is furthest beyond it.
        eps: The difference there, in units of `eps(dtype) * max(1, |reference|max)`.
        limit: What is allowed there, in the same units: twice what one engine may be off.
    """

    first: str
    second: str
    kind: str
    array: str
    eps: float
    limit: float

    @property
    def within(self) -> bool:
        """Whether it is allowed."""
        return self.eps <= self.limit


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two engines that differ beyond a limit begin to.

    Attributes:
        first: One backend.
        second: The other.
        step: The first diverging step in the order of processing, as an index of original time;
            None where no output diverges, only gradients do.
        where: A gate or state such as `"layers.0.forward.f"`, if the generic implementations
            diverge too; else the implementations inside which it begins.
    """

    first: str
    second: str
    step: int | None
    where: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        layer: The layer, in short.
        dtype: The data type.
        backends: The backends compared.
        implementations: What ran on each, part by part.
        without_gradients: The backends that have none, with their reason.
        differences: For each pair, the worst in outputs and, where both have them, gradients.
        divergences: For each pair beyond a limit, where that begins.
    """

    layer: str
    dtype: str
    backends: tuple[str, ...]
    implementations: Mapping[str, tuple[str, ...]]
    without_gradients: Mapping[str, str]
    differences: tuple[Difference, ...]
    divergences: tuple[Divergence, ...]

    @property
    def agree(self) -> bool:
        """Whether every pair is within its limits."""
        return all(difference.within for difference in self.differences)


def compare(
    layer: Any,
    weights: Mapping[str, Any],
    x: Any,
    *,
    backends: Sequence[str],
    mask: Any = None,
    lengths: Any = None,
    initial_state: Any = None,
    gradients: bool = True,
    precision: str = "highest",
    seed: int = 0,
) -> Comparison:
    """Run a layer on several backends and compare what it returns, and its gradients.

    All outputs are compared at every step, with every state, whatever the layer's return flags.

    Args:
        layer: The layer.
        weights: Its canonical weights.
        x: The input, (batch, time, features), at least one row and one step.
        backends: The names of two or more backends.
        mask: As for `Layer.apply`.
        lengths: As for `Layer.apply`.
        initial_state: As for `Layer.apply`.
        gradients: Whether to compare gradients too, for standard-normal cotangents.
        precision: The `matmul_precision` of all of them.
        seed: Draws the cotangents and the noise that the limits come from.

    Raises:
        ArgumentError: if fewer than two backends are named.
        InputError: as `Layer.apply`.
        BackendError: if a backend cannot be used.
    """
    names = tuple(dict.fromkeys(backends))
    if len(names) < 2:
        raise ArgumentError(
            f"compare: received {' '.join(names) or 'no backend'}, expected at least two "
            "different backends; `seqcore backends` lists them"
        )
    given = {"mask": mask, "lengths": lengths, "initial_state": initial_state}
    full = computation(layer)
    if 0 in np.shape(x)[:2]:
        raise ArgumentError(
            f"compare: x has shape {np.shape(x)}, expected at least one row and one step: there is "
            "nothing to compare"
        )
    reference = Reference(full, weights, x, given, precision=precision, seed=seed)
    call = _Call(full, weights, x, given, precision, reference)
    lacking: dict[str, str] = {}
    runs: dict[str, tuple[Named, Named]] = {}
    plans: dict[str, tuple[str, ...]] = {}
    for name in names:
        reason = registry.get(name).capabilities.reason("gradients")
        if gradients and reason is not None:
            lacking[name] = reason
        differentiate = gradients and reason is None
        runs[name] = call.run(name, gradients=differentiate)
        plans[name] = call.implementations(name, gradients=differentiate)

    differences: list[Difference] = []
    divergences: list[Divergence] = []
    for first, second in itertools.combinations(names, 2):
        found = list(_differences(reference, first, second, runs[first], runs[second]))
        differences += found
        if not all(difference.within for difference in found):
            step, where = _locate(call, first, second, runs, plans)
            divergences.append(Divergence(first, second, step, where))
    return Comparison(
        layer=str(layer),
        dtype=reference.dtype,
        backends=names,
        implementations=plans,
        without_gradients=lacking,
        differences=tuple(differences),
        divergences=tuple(divergences),
    )


@dataclass(frozen=True, slots=True)
class _Call:
    """The call that every backend gets."""

    layer: Any
    weights: Mapping[str, Any]
    x: Any
    given: Mapping[str, Any]
    precision: str
    reference: Reference

    def run(self, backend: str, *, gradients: bool) -> tuple[Named, Named]:
        """Return the outputs and the gradients by name."""
        names, options = self.reference.names, self._options(backend)
        if not gradients:
            outputs = self.layer.apply(self.weights, self.x, **self.given, **options)
            return dict(zip(names, outputs, strict=True)), {}
        outputs, pullback = self.layer.vjp(self.weights, self.x, **self.given, **options)
        found = by_name(self.layer, pullback(self.reference.cotangents))
        return dict(zip(names, outputs, strict=True)), found

    def gates(self, backend: str) -> Named:
        """Return the gates by name, or nothing where the backend has no generic way."""
        if registry.get(backend).generic() is None:
            return {}
        shown: Named = self.layer.gates(
            self.weights, self.x, **self.given, **self._options(backend)
        )
        return shown

    def implementations(self, backend: str, *, gradients: bool) -> tuple[str, ...]:
        """Return what runs on the backend, each once."""
        given = self.given
        kind = "lengths" if given["lengths"] is not None else "any"
        plan = self.layer.explain(
            dtype=self.reference.dtype,
            mask="none" if given["mask"] is None and given["lengths"] is None else kind,
            gradient="yes" if gradients else "no",
            **self._options(backend),
        )
        return tuple(dict.fromkeys(plan.implementations()))

    def _options(self, backend: str) -> dict[str, str]:
        return {"backend": backend, "matmul_precision": self.precision}


def _differences(
    reference: Reference,
    first: str,
    second: str,
    one: tuple[Named, Named],
    other: tuple[Named, Named],
) -> Iterator[Difference]:
    for kind, mine, yours in zip(("outputs", "gradients"), one, other, strict=True):
        found = [
            Difference(
                first,
                second,
                kind,
                name,
                reference.distance(name, mine[name], yours[name]),
                2 * reference.limits[name],
            )
            for name in mine
            if name in yours
        ]
        if found:
            yield max(found, key=lambda difference: difference.eps / difference.limit)


def _locate(
    call: _Call,
    first: str,
    second: str,
    runs: Mapping[str, tuple[Named, Named]],
    plans: Mapping[str, tuple[str, ...]],
) -> tuple[int | None, str]:
    """Return the first diverging step and the gate, or the implementations, where it begins."""
    reference = call.reference
    mine, yours = call.gates(first), call.gates(second)
    limit = 2 * max(reference.limits[name] for name in reference.names)
    for prefix, names, backwards in _shown(call.layer):
        apart = {
            name: _beyond(reference.steps(name, mine[prefix + name], yours[prefix + name]), limit)
            for name in names
            if prefix + name in mine and prefix + name in yours
        }
        step = _first(apart.values(), backwards=backwards)
        if step is not None:
            return step, prefix + next(name for name in names if apart[name][step])
    inside = f"inside {first}'s {', '.join(plans[first])} or {second}'s {', '.join(plans[second])}"
    sequences = [name for name in reference.names if name.endswith("y")]
    outputs = (
        _beyond(
            reference.steps(name, runs[first][0][name], runs[second][0][name]),
            2 * reference.limits[name],
        )
        for name in sequences
    )
    return _first(outputs, backwards=in_processing_order(call.layer)), inside


def _shown(
    layer: AnyLayer, prefix: str = "", backwards: bool = False
) -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Yield each cell's prefix, its gates and states, and whether it reads original time backwards.

    In the order of computation: what comes first cannot diverge because of what comes later.
    """
    if isinstance(layer, Recurrent):
        names = (*layer.gate_names, *sorted(layer.state_names))
        yield prefix, names, backwards ^ layer.go_backwards
        return
    for name, part in parts(layer):
        turned = backwards ^ (name == "backward.")
        yield from _shown(part, prefix + name, turned)
        backwards ^= in_processing_order(part)


def _beyond(steps: NDArray[np.float64], limit: float) -> NDArray[np.bool_]:
    # At masked steps gates are NaN on both sides, so a NaN says nothing here.
    return np.asarray(steps > limit)


def _first(apart: Any, *, backwards: bool) -> int | None:
    """Return the first step, in the order of processing, at which any of several diverge."""
    steps = np.flatnonzero(np.logical_or.reduce(list(apart)))
    if steps.size == 0:
        return None
    return int(steps[-1] if backwards else steps[0])
