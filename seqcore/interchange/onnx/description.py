"""The layer that an ONNX model's metadata describes, if it is what the graph holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from seqcore.errors import ConversionError, SpecError
from seqcore.interchange.levels import Weights
from seqcore.interchange.onnx.chain import Chain, Link
from seqcore.spec.description import from_json
from seqcore.spec.layers import AnyCell, AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.weights import attach, parts

KEY = "seqcore.spec"
"""The entry of the metadata."""

_FIELDS = ("units", "use_bias", "activation", "recurrent_activation", "reset_after")
"""What a node says of a cell."""


@dataclass(frozen=True, slots=True)
class _Member:
    """A member of a layer, as `Link` describes one of a graph."""

    prefixes: tuple[str, ...]
    cells: tuple[AnyCell, ...]
    reverse: tuple[bool, ...]
    merge_mode: str


def described(model: Any, chain: Chain) -> tuple[AnyLayer, Chain] | None:
    """Return the layer that a model's metadata describes; None without such.

    With it comes the chain, with directions in the layer's order where the graph leaves it open.

    Raises:
        ConversionError: if that is not what the graph holds.
    """
    texts = [entry.value for entry in model.metadata_props if entry.key == KEY]
    if not texts:
        return None
    subject = f"from onnx: the metadata {KEY!r}"
    try:
        layer = from_json(texts[0])
    except SpecError as error:
        raise ConversionError(
            f"{subject} describes no layer: {str(error)[:200]}; remove the entry"
        ) from None
    members, turned = _members(layer)
    links = tuple(map(_in_order, chain.links, members))
    difference = "" if len(members) == len(chain.links) else f"{len(chain.links)} levels"
    for index, (link, member) in enumerate(zip(links, members, strict=False)):
        difference = difference or _difference(f"in level {index}", link, member)
    if chain.turned not in (None, turned):
        difference = difference or "another order of the steps"
    if chain.carried not in (None, members[-1].cells[0].mask_output == "carry"):
        difference = difference or "another mask_output"
    if difference:
        raise ConversionError(
            f"{subject} describes {str(layer)[:200]}, and the graph has {difference}; remove the "
            "entry"
        )
    return layer, replace(chain, links=links)


def named(layer: AnyLayer, chain: Chain) -> Weights:
    """Return the canonical weights of a layer that is described."""
    members, _ = _members(layer)
    weights: Weights = {}
    for member, link in zip(members, chain.links, strict=True):
        for prefix, mine in zip(member.prefixes, link.weights, strict=True):
            weights |= attach(mine, prefix)
    return weights


def _members(layer: AnyLayer) -> tuple[list[_Member], bool]:
    """Return a layer's members, and whether it returns its steps in reverse order."""
    found, turned = [], False
    for prefix, member in parts(layer) if isinstance(layer, Stack) else (("", layer),):
        if isinstance(member, Bidirectional):
            assert member.merge_mode is not None
            prefixes = tuple(prefix + name for name, _ in parts(member))
            both, reverse = (member.forward, member.backward), (turned, not turned)
            found.append(_Member(prefixes, both, reverse, member.merge_mode))
        else:
            assert isinstance(member, Recurrent)
            found.append(_Member((prefix,), (member,), (member.go_backwards != turned,), "concat"))
            turned ^= member.go_backwards and not member.keep_order
    return found, turned


def _in_order(link: Link, member: _Member) -> Link:
    """Return a link in the order of the member, where the graph leaves the order open."""
    if link.reverse == member.reverse or (link.settled and link.merge_mode == "concat"):
        return link
    return replace(
        link,
        atoms=link.atoms[::-1],
        cells=link.cells[::-1],
        weights=link.weights[::-1],
        reverse=link.reverse[::-1],
    )


def _difference(where: str, link: Link, member: _Member) -> str:
    if link.reverse != member.reverse:
        return f"other directions {where}"
    modes = (link.merge_mode,) if link.settled else ("concat", "none")
    if member.merge_mode not in modes:
        return f"merge_mode={link.merge_mode!r} {where}"
    for mine, theirs in zip(link.cells, member.cells, strict=True):
        if type(mine) is not type(theirs):
            return f"{mine} {where}"
        for name in _FIELDS:
            if name in mine.__struct_fields__ and getattr(mine, name) != getattr(theirs, name):
                return f"{name}={getattr(mine, name)!r} {where}"
    return ""
