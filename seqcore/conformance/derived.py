"""What follows from the fields of a value case: its clauses, its needs, what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from seqcore.conformance.model import TIERS, ValueCase
from seqcore.runtime.planning import computation
from seqcore.spec.dtypes import HALF_DTYPES
from seqcore.spec.layers import (
    GRU,
    LSTM,
    AnyCell,
    AnyLayer,
    Bidirectional,
    Recurrent,
    SimpleRNN,
    Stack,
)

Signature = tuple[Any, ...]


def signatures(case: ValueCase) -> tuple[Signature, ...]:
    """Return what an engine compiles for a case: one program for `apply`, one for `vjp`.

    Return flags of states, initializers and the pattern of a mask make no difference.
    """
    kind = case.mask if case.mask in ("none", "lengths") else "any"
    sizes = (case.batch, case.time, case.features)
    whole = (
        computation(case.layer),
        case.layer.return_sequences,
        kind,
        case.dtype,
        case.precision,
        sizes,
    )
    return tuple((*whole, call) for call in (("apply", "vjp") if case.gradients else ("apply",)))


def value_case(id: str, layer: AnyLayer, **fields: Any) -> ValueCase:
    """Return a case with all clauses that it shows and the features that it uses."""
    bare = ValueCase(id=id, clauses=(), layer=layer, **fields)
    case = replace(bare, clauses=shown_by(bare))
    return replace(case, needs=needs_of(case))


def shared_out(cases: Iterable[ValueCase]) -> tuple[ValueCase, ...]:
    """Return cases that answer for at most two of the clauses that they show.

    A wrong value shows many clauses to be broken and none to be the one. What sets a case apart
    comes first. The second is the one of the others for which the fewest cases answer so far, the
    smaller tiers counted first, so that every clause has cases in as small a tier as can be. A case
    for a clause of gradients is not run on an engine without them, so these have `ENOUGH` at most.
    """
    known = tuple(cases)
    counts: Counter[str] = Counter()
    chosen: dict[str, tuple[str, ...]] = {}
    for case in sorted(known, key=lambda case: TIERS.index(case.tier)):
        first, *others = case.clauses
        if case.everywhere:
            others = ["CAP-1"]
        others = [name for name in others if name not in _OF_GRADIENTS or counts[name] < ENOUGH]
        chosen[case.id] = (first, *sorted(others, key=lambda name: counts[name])[:1])
        counts.update(chosen[case.id])
    answering = (replace(case, clauses=chosen[case.id]) for case in known)
    return tuple(replace(case, needs=needs_of(case)) for case in answering)


ENOUGH = 12
"""How many cases answer for a clause of gradients."""

_OF_GRADIENTS = {"ACT-2", "GRAD-1", "GRAD-2", "GRAD-3", "GRAD-4", "MASK-7", "MASK-8", "PREC-4"}
"""The clauses that nothing but a gradient shows."""


def needs_of(case: ValueCase) -> tuple[str, ...]:
    """Return the features without which a case cannot show its clauses.

    Gradients are compared wherever a backend has them. A case for a clause of outputs is run
    without them, too, so that an engine for inference is judged as strictly.
    """
    needs = [case.dtype]
    if case.precision != "highest":
        needs.append({"tf32": "tf32", "bfloat16": "bfloat16_products"}[case.precision])
    if case.mask != "none":
        needs.append("masks")
    if case.gradients and not _OF_GRADIENTS.isdisjoint(case.clauses):
        needs.append("gradients")
    return tuple(needs)


def shown_by(case: ValueCase) -> tuple[str, ...]:
    """Return the clauses that a case shows to be broken when it fails, the narrowest first.

    What sets a case apart decides: a case under a mask does not answer for the equations, nor one
    in a half type for the mask.
    """
    return tuple(dict.fromkeys(_narrowest(case)))


def _narrowest(case: ValueCase) -> list[str]:
    if case.wild:
        return ["ACT-3"]
    if case.precision != "highest":
        return ["PREC-2", "PREC-3", *(["PREC-4"] if case.gradients else [])]
    if case.dtype in HALF_DTYPES:
        return ["DTYPE-4", "DTYPE-5", "DTYPE-1"]
    if case.poison:
        return ["MASK-6", *(["MASK-7"] if case.gradients else [])]
    found = ["PREC-1", "DTYPE-1"] if case.dtype == "float64" else []
    if case.time == 1:
        found.append("DEG-3")
    found += _of_structure(case)
    if case.mask in ("none", "valid"):
        return [*found, *_of_equations(case), *_of_form(case)]
    return [*found, *_of_mask(case)]


def _of_structure(case: ValueCase) -> list[str]:
    """Return the clauses of members, directions and merges."""
    layer, masked = case.layer, case.mask not in ("none", "valid")
    sequences = layer.return_sequences
    match layer:
        case Stack(layers=members):
            turned = any(
                isinstance(member, Recurrent) and member.go_backwards and not member.keep_order
                for member in members[:-1]
            )
            if masked:
                return ["STACK-4"] if turned else []
            states = ["STATE-1"] if case.state or layer.return_state else []
            return ["STACK-1", "STACK-2", "STACK-3", "NAME-4", *states]
        case Bidirectional():
            place = "BI-2" if sequences else "BI-3"
            if masked:
                return [place]
            return [place, "BI-4", "BI-1", "NAME-4", *(["STATE-1"] if case.state else [])]
        case Recurrent() if layer.go_backwards:
            if not sequences:
                return ["BACK-3"]
            return ["BACK-2" if layer.keep_order else "BACK-1"]
    return []


def _of_equations(case: ValueCase) -> list[str]:
    """Return the clauses of the equations, for one cell that runs forwards."""
    layer = case.layer
    if not isinstance(layer, Recurrent) or layer.go_backwards:
        return []
    equations = {
        SimpleRNN: ["RNN-1"],
        LSTM: ["LSTM-1", "LSTM-2", "LSTM-3", "LSTM-4"],
        GRU: ["GRU-1", "GRU-2" if _resets_after(layer) else "GRU-3", "GRU-4"],
    }[type(layer)]
    special = [] if layer.use_bias else ["BIAS-1"]
    if _activations_of(layer) != _activations_of(type(layer)(1)):
        special += ["ACT-1", "ACT-2"] if case.gradients else ["ACT-1"]
    elif isinstance(layer, LSTM) and layer.use_bias:
        equations.append("LSTM-5")
    names = ["NAME-2", "NAME-3"] if isinstance(layer, LSTM | GRU) else ["NAME-2"]
    return special + equations + (names if layer.return_state else [])


def _of_form(case: ValueCase) -> list[str]:
    """Return the clauses of what goes in and comes out, without a mask."""
    layer = case.layer
    if isinstance(layer, Stack | Bidirectional):
        found = ["OUT-5"] if layer.return_state else []
    elif layer.return_state:
        found = ["OUT-3"]
    else:
        found = ["OUT-2", "NAME-1"] if layer.return_sequences else ["OUT-1"]
    if case.mask == "valid":
        found.append("MASK-1")
    if case.state:
        found.append("STATE-2")
    elif case.gradients:
        found.append("GRAD-4")
    if case.gradients:
        found += ["GRAD-3", "GRAD-2", "GRAD-1"]
    elif isinstance(layer, Recurrent) and case.dtype == "float32":
        found.append("PREC-1")
    return found


def _of_mask(case: ValueCase) -> list[str]:
    layer = case.layer
    kind = {"lengths": ["MASK-2"], "right": []}.get(case.mask, ["MASK-1"])
    found = ["MASK-4" if layer.return_sequences else "MASK-5", *kind]
    if layer.return_state:
        found.append("MASK-3")
    if case.gradients:
        found += ["MASK-8", "MASK-7"]
    return found


def _resets_after(layer: AnyCell) -> bool:
    return isinstance(layer, GRU) and layer.reset_after


def _activations_of(layer: AnyCell) -> tuple[str, ...]:
    gates = () if isinstance(layer, SimpleRNN) else (layer.recurrent_activation,)
    return (layer.activation, *gates)
