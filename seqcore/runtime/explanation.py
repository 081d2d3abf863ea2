"""A plan in words: which implementation runs which part, and why others refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from seqcore.errors import ArgumentError
from seqcore.runtime.nodes import Both, Chain, Leaf, Node, Refusal, Reversed
from seqcore.spec.dtypes import DTYPES
from seqcore.spec.layers import AnyLayer
from seqcore.spec.naming import nearest
from seqcore.spec.weights import parts
from seqcore.spi import Backend, Request
from seqcore.spi.soundness import version_of


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of a plan.

    Attributes:
        prefix: The prefix of the part's weights; empty for the whole layer.
        layer: The part's layer, in short.
        implementation: What runs it; None where the runtime joins the parts below.
        joined: What the runtime does with the parts below; empty for an implementation's part.
        refusals: The implementations that did not take it, and why, in the order asked.
        parts: The parts below.
    """

    prefix: str
    layer: str
    implementation: str | None
    joined: str
    refusals: tuple[Refusal, ...]
    parts: tuple[PlannedPart, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The plan for one layer and one kind of call; `str` draws it.

    Attributes:
        backend: The backend's name.
        version: The engine's version.
        dtype: The input's data type.
        device: The device.
        precision: The `matmul_precision`.
        mask: What masking the call has.
        gradient: Whether the call is differentiated.
        root: The whole layer.
    """

    backend: str
    version: str
    dtype: str
    device: str
    precision: str
    mask: str
    gradient: str
    root: PlannedPart

    def __str__(self) -> str:
        head = (
            f"{self.backend} {self.version} on {self.device}: {self.dtype}, matmul_precision "
            f"{self.precision}, mask {self.mask}, gradient {self.gradient}"
        )
        return "\n".join([head, *_draw(self.root, "", "")])

    def implementations(self) -> tuple[str, ...]:
        """Return the names of the implementations that run, part by part."""
        return tuple(_leaves(self.root))

    def to_data(self) -> dict[str, Any]:
        """Return the plan as plain dicts and lists, for JSON."""
        names = ("backend", "version", "dtype", "device", "precision", "mask", "gradient")
        return {name: getattr(self, name) for name in names} | {"plan": _data(self.root)}


def explain_program(backend: Backend, layer: AnyLayer, request: Request, root: Node) -> Explanation:
    """Return a plan in words."""
    return Explanation(
        backend=backend.name,
        version=version_of(backend),
        dtype=request.dtype,
        device=request.device,
        precision=request.precision,
        mask=request.mask,
        gradient=request.gradient,
        root=_part("", layer, root),
    )


def check_question(layer: AnyLayer, dtype: Any, mask: Any, gradient: Any) -> None:
    """Check what `explain` was asked.

    Raises:
        ArgumentError: if a word is none that it knows.
    """
    asked = (
        ("dtype", dtype, DTYPES),
        ("mask", mask, ("none", "lengths", "any")),
        ("gradient", gradient, ("no", "yes", "unknown")),
    )
    for name, value, known in asked:
        if not isinstance(value, str) or value not in known:
            hint = nearest(value, known) if isinstance(value, str) else ""
            raise ArgumentError(
                f"{layer}: explain: {name} is {value!r}{hint}, expected one of {', '.join(known)}"
            )


def _part(prefix: str, layer: AnyLayer, node: Node) -> PlannedPart:
    match node:
        case Leaf():
            return PlannedPart(prefix, str(layer), node.implementation.name, "", node.refusals, ())
        case Reversed():
            inner = _part(prefix, layer, node.inner)
            order = "puts them back in order" if node.keep_order else "keeps them reversed"
            joined = f"the runtime reverses the steps and {order}"
            return PlannedPart(prefix, str(layer), None, joined, node.refusals, (inner,))
        case Both():
            nodes: tuple[Node, ...] = (node.forward, node.backward)
            joined = f"the runtime joins both directions ({node.layer.merge_mode})"
        case Chain():
            nodes = node.members
            joined = "the runtime feeds each member into the next"
        case _:
            raise AssertionError(node)
    below = tuple(
        _part(prefix + name, part, inner)
        for (name, part), inner in zip(parts(layer), nodes, strict=True)
    )
    return PlannedPart(prefix, str(layer), None, joined, node.refusals, below)


def _leaves(part: PlannedPart) -> list[str]:
    if part.implementation is not None:
        return [part.implementation]
    return [name for below in part.parts for name in _leaves(below)]


def _draw(part: PlannedPart, indent: str, below: str) -> list[str]:
    label = f"{part.prefix.rstrip('.')}: " if part.prefix else ""
    lines = [f"{indent}{label}{part.layer}: {part.implementation or part.joined}"]
    lines += [f"{below}    not {r.implementation}: {r.reason}" for r in part.refusals]
    for index, inner in enumerate(part.parts):
        last = index == len(part.parts) - 1
        branch, rest = ("└── ", "    ") if last else ("├── ", "│   ")
        lines += _draw(inner, below + branch, below + rest)
    return lines


def _data(part: PlannedPart) -> dict[str, Any]:
    return {
        "part": part.prefix.rstrip("."),
        "layer": part.layer,
        "implementation": part.implementation,
        "joined": part.joined,
        "refused": [
            {"implementation": r.implementation, "reason": r.reason} for r in part.refusals
        ],
        "parts": [_data(below) for below in part.parts],
    }
