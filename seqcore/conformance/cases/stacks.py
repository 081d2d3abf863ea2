"""Laws of stacks (clauses STACK)."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import (
    BATCH,
    FEATURES,
    TIME,
    UNITS,
    Call,
    Named,
    draw,
    gradients_by_name,
    gradients_of,
    linearized,
    outputs_of,
)
from seqcore.conformance.laws import law, require, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.runtime import Gradients
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.outputs import state_units

SEQUENCE: dict[str, Any] = {"return_sequences": True}
TURNED: dict[str, Any] = {"return_sequences": True, "go_backwards": True}

STACKS: dict[str, Stack] = {
    "one": Stack((LSTM(UNITS),), **BOTH),
    "cells": Stack((LSTM(UNITS, **SEQUENCE), GRU(UNITS + 1)), **BOTH),
    "bidirectional": Stack(
        (Bidirectional(GRU(UNITS, **SEQUENCE), "sum"), Bidirectional(LSTM(UNITS))), **BOTH
    ),
}

REVERSED: dict[str, Stack] = {
    "once": Stack((GRU(UNITS, **TURNED), LSTM(UNITS)), **BOTH),
    "twice": Stack((GRU(UNITS, **TURNED), GRU(UNITS, **TURNED), LSTM(UNITS)), **BOTH),
    "kept": Stack((GRU(UNITS, keep_order=True, **TURNED), LSTM(UNITS)), **BOTH),
    "bidirectional": Stack(
        (GRU(UNITS, **TURNED), Bidirectional(GRU(UNITS, **SEQUENCE)), LSTM(UNITS)), **BOTH
    ),
    "at-the-end": Stack((LSTM(UNITS, **SEQUENCE), GRU(UNITS, go_backwards=True)), **BOTH),
}


def _flagged(member: AnyLayer) -> AnyLayer:
    """Return a member that gives its sequence and its state."""
    if not isinstance(member, Bidirectional):
        return member.replace(**BOTH)
    other = member.backward_layer
    return Bidirectional(
        member.layer.replace(**BOTH),
        member.merge_mode,
        None if other is None else other.replace(**BOTH),
    )


def _one_by_one(subject: Subject, whole: Call, stack: Stack) -> Named:
    """Return what the members give when each is called with the sequence of the one before."""
    found: Named = {}
    states = 0
    call = whole
    for index, member in enumerate(stack.layers):
        first, states = states, states + len(state_units(member))
        mine = whole.member(_flagged(member), f"layers.{index}.", slice(first, states))
        mine = mine.but(x=call.x)
        if "mask" in call.given or "lengths" in call.given:
            mine = mine.masked(call.valid)
        after = outputs_of(subject, mine)
        y = after.pop("y")
        found |= {"y": y} | {f"layers_{index}_{name}": value for name, value in after.items()}
        valid = np.flip(call.valid, 1) if _turns(member) else call.valid
        call = call.but(x=y, valid=valid)
    return found


def _turns(member: AnyLayer) -> bool:
    """Return whether a member's sequence is in another time order than its input."""
    return isinstance(member, AnyCell) and member.go_backwards and not member.keep_order


def _compare(subject: Subject, stack: Stack, label: str, pattern: MaskPattern) -> None:
    call = draw(subject, stack, label, mask=pattern)
    found, expected = outputs_of(subject, call), _one_by_one(subject, call, stack)
    require_alike(found, expected, call, f"{stack}, mask {pattern!r}")


@law("STACK-1", over=STACKS)
def a_stack_is_its_members_one_by_one(subject: Subject, stack: Stack) -> None:
    """Output and states are those of the members called in turn."""
    _compare(subject, stack, "one by one", "none")


@law("STACK-1", needs=("gradients",))
def gradients_of_a_stack_are_those_of_the_chain(subject: Subject) -> None:
    """The gradients are those of the members' pullbacks called in turn, from the last."""
    ahead, behind = LSTM(UNITS, **SEQUENCE), GRU(UNITS + 1)
    stack = Stack((ahead, behind), return_sequences=True)
    call = draw(subject, stack, "chained gradients")
    one = call.member(ahead, "layers.0.", slice(2))
    first, back = linearized(subject, one)
    two = call.member(behind.replace(**SEQUENCE), "layers.1.", slice(2, None)).but(x=first)
    last, further = linearized(subject, two)
    (d_y,) = call.cotangents
    of_two = further(d_y)
    of_one = back(of_two.x)
    weights = {
        f"layers.{index}.{name}": value
        for index, gradients in enumerate((of_one, of_two))
        for name, value in gradients.weights.items()
    }
    chained = Gradients(weights, of_one.x, of_one.initial_state + of_two.initial_state)
    expected = {"vjp's y": last} | gradients_by_name(stack, chained)
    require_alike(gradients_of(subject, call), expected, call, str(stack))


@law("STACK-1", arrays=False)
def features_are_the_size_of_the_sequence_before(subject: Subject) -> None:
    """The kernel of a member has as many rows as the sequence that it reads has columns."""
    layers = (
        Bidirectional(LSTM(UNITS, **SEQUENCE), backward_layer=GRU(UNITS + 1, **SEQUENCE)),
        Bidirectional(GRU(UNITS + 1, **SEQUENCE), "ave"),
        SimpleRNN(UNITS),
    )
    shapes = Stack(layers).weight_shapes(FEATURES)
    rows = {
        "layers.0.forward.kernel": FEATURES,
        "layers.1.forward.kernel": 2 * UNITS + 1,
        "layers.2.kernel": UNITS + 1,
    }
    for name, expected in rows.items():
        require(
            shapes[name][0] == expected,
            f"Stack: {name}: expected {expected} rows, received {shapes[name][0]}",
            expected=expected,
            received=shapes[name],
        )
    with require_error(SpecError, "Stack without members", "layers"):
        Stack(())
    with require_error(SpecError, "Stack within a stack", "layers[0]"):
        Stack((Stack((LSTM(UNITS),)),))  # type: ignore[arg-type]


@law("STACK-2", arrays=False)
def inner_members_return_merged_sequences(subject: Subject) -> None:
    """A member before the last that returns one step or does not merge is an error."""
    for inner in (LSTM(UNITS), Bidirectional(GRU(UNITS))):
        with require_error(SpecError, f"{inner} before the last", "return_sequences"):
            Stack((inner, LSTM(UNITS)))
    apart = Bidirectional(GRU(UNITS, **SEQUENCE), merge_mode="none")
    with require_error(SpecError, "unmerged member before the last", "merge_mode"):
        Stack((apart, LSTM(UNITS)))
    with require_error(SpecError, "second of three that returns one step", "layers[1]"):
        Stack((LSTM(UNITS, **SEQUENCE), LSTM(UNITS), LSTM(UNITS)))
    Stack((LSTM(UNITS, **SEQUENCE), Bidirectional(GRU(UNITS), merge_mode="none")))


@law("STACK-3", arrays=False)
def the_flags_belong_to_the_stack(subject: Subject) -> None:
    """A member's `return_state`, and the last one's `return_sequences` alone, are errors."""
    inner = LSTM(UNITS, **SEQUENCE)
    for state in (True, False):
        with require_error(SpecError, "a member with return_state", "return_state"):
            Stack((LSTM(UNITS, **BOTH), GRU(UNITS)), return_state=state)
        with require_error(SpecError, "a last member with return_state", "return_state"):
            Stack((inner, GRU(UNITS, return_state=True)), return_state=state)
    with require_error(SpecError, "a last member with return_sequences", "return_sequences"):
        Stack((inner, GRU(UNITS, **SEQUENCE)))


@law("STACK-3")
def the_flags_of_the_stack_decide(subject: Subject) -> None:
    """They say what is returned, whether the last member sets its flag or not."""
    inner = LSTM(UNITS, **SEQUENCE)
    bare = Stack((inner, GRU(UNITS)), **BOTH)
    call = draw(subject, bare, "flags of a stack")
    flagged = Stack((inner, GRU(UNITS, **SEQUENCE)), **BOTH)
    whole, other = (outputs_of(subject, call.but(layer=stack)) for stack in (bare, flagged))
    shapes = [(BATCH, TIME, UNITS)] + [(BATCH, UNITS)] * 3
    for what, result in {"sets no flag": whole, "sets it": other}.items():
        received = [np.shape(value) for value in result.values()]
        require(
            received == shapes,
            f"{bare} that returns both, the last member {what}: expected y and three states "
            f"{shapes}, received {received}",
            expected=shapes,
            received=received,
        )
    require_alike(other, whole, call, f"{bare}, where the last sets the flag")
    one_step = whole | {"y": whole["y"][:, -1]}
    for flags, expected in (
        ({"return_sequences": True}, {"y": whole["y"]}),
        ({}, {"y": one_step["y"]}),
        ({"return_state": True}, one_step),
    ):
        found = outputs_of(subject, call.but(layer=Stack((inner, GRU(UNITS)), **flags)))
        require_alike(found, expected, call, f"{bare} with {flags or 'no flag'} instead")


@law("STACK-4", needs=("masks",), over=STACKS)
def every_member_gets_the_mask(subject: Subject, stack: Stack) -> None:
    """Under a mask a stack is its members called in turn with that mask."""
    _compare(subject, stack, "masked one by one", "holes")


@law("STACK-4", needs=("masks",), over=REVERSED)
def a_member_that_turns_time_turns_the_mask(subject: Subject, stack: Stack) -> None:
    """After `go_backwards` without `keep_order` the following members get the mask reversed."""
    _compare(subject, stack, "turned one by one", "right")


@law("STACK-4", needs=("masks",))
def lengths_are_turned_as_a_mask(subject: Subject) -> None:
    """The members after one that turns time see the padding at the start."""
    _compare(subject, REVERSED["once"], "lengths turned", "lengths")
