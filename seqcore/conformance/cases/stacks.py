"""Laws of stacks (clauses STACK)."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcore.conformance.laws import law, require, require_close, require_error
from seqcore.conformance.samples import (
    BATCH,
    BOTH,
    FEATURES,
    FEW,
    FEW_IN_GRADIENTS,
    TIME,
    UNITS,
    sample,
)
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack

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


def _states(member: AnyLayer) -> int:
    """Return how many states a member has."""
    match member:
        case LSTM():
            return 2
        case Bidirectional(layer=ahead, backward_layer=behind):
            return _states(ahead) + _states(ahead if behind is None else behind)
        case _:
            return 1


def _one_by_one(
    subject: Subject, stack: Stack, weights: Any, x: Any, mask: Any, state: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Return what the members give when each is called with the sequence of the one before."""
    final: list[Any] = []
    for index, member in enumerate(stack.layers):
        prefix = f"layers.{index}."
        mine = {
            name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
        }
        count = _states(member)
        given, state = state[:count], state[count:]
        x, *after = subject.apply(_flagged(member), mine, x, initial_state=given, **_masked(mask))
        final += after
        if mask is not None and _turns(member):
            mask = np.flip(mask, 1)
    return (x, *final)


def _turns(member: AnyLayer) -> bool:
    """Return whether a member's sequence is in another time order than its input."""
    return isinstance(member, AnyCell) and member.go_backwards and not member.keep_order


def _masked(mask: Any) -> dict[str, Any]:
    return {} if mask is None else {"mask": mask}


def _compare(subject: Subject, stack: Stack, label: str, pattern: Any) -> None:
    given = sample(subject, stack, label, mask=pattern)
    found = subject.apply(stack, given.weights, given.x, **given.given)
    mask = None if pattern == "none" else given.valid
    expected = _one_by_one(subject, stack, given.weights, given.x, mask, given.state)
    for name, one, two in zip(found._fields, found, expected, strict=True):
        require_close(one, two, FEW, f"{stack}, mask {pattern!r}: {name}")


@law("STACK-1", over=STACKS)
def a_stack_is_its_members_one_by_one(subject: Subject, stack: Stack) -> None:
    """Output and states are those of the members called in turn."""
    _compare(subject, stack, "one by one", "none")


@law("STACK-1", needs=("gradients",))
def gradients_of_a_stack_are_those_of_the_chain(subject: Subject) -> None:
    """The gradients are those of the members' pullbacks called in turn, from the last."""
    stack = Stack((LSTM(UNITS, **SEQUENCE), GRU(UNITS + 1)), return_sequences=True)
    given = sample(subject, stack, "chained gradients")
    below = [
        {name[9:]: value for name, value in given.weights.items() if name.startswith(prefix)}
        for prefix in ("layers.0.", "layers.1.")
    ]
    first, back = subject.vjp(stack.layers[0], below[0], given.x, initial_state=given.state[:2])
    last, further = subject.vjp(
        stack.layers[1].replace(**SEQUENCE), below[1], first, initial_state=given.state[2:]
    )
    y, pullback = subject.vjp(stack, given.weights, given.x, initial_state=given.state)
    d_y = subject.random("cotangent of a stack").standard_normal(y.shape).astype(y.dtype)
    found = pullback(d_y)
    second = further(d_y)
    outer = back(second.x)
    require_close(y, last, FEW, f"{stack}: y of vjp")
    require_close(found.x, outer.x, FEW_IN_GRADIENTS, f"{stack}: gradient of x")
    for index, part in enumerate((outer, second)):
        for name, value in part.weights.items():
            what = f"layers.{index}.{name}"
            require_close(
                found.weights[what], value, FEW_IN_GRADIENTS, f"{stack}: gradient of {what}"
            )
    expected = (*outer.initial_state, *second.initial_state)
    for index, (one, two) in enumerate(zip(found.initial_state, expected, strict=True)):
        require_close(one, two, FEW_IN_GRADIENTS, f"{stack}: gradient of initial_state[{index}]")


@law("STACK-1")
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


@law("STACK-2")
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


@law("STACK-3")
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
    weights_of = Stack((inner, GRU(UNITS)))
    given = sample(subject, weights_of, "flags of a stack")

    def run(last: GRU, **flags: bool) -> Any:
        stack = Stack((inner, last), **flags)
        return subject.apply(stack, given.weights, given.x, **given.given)

    whole = run(GRU(UNITS, **SEQUENCE), **BOTH)
    bare = run(GRU(UNITS), **BOTH)
    shape = (BATCH, TIME, UNITS)
    for what, result in {"sets the flag": whole, "does not": bare}.items():
        require(
            len(result) == 4 and result[0].shape == shape,
            f"{weights_of} that returns both, the last member {what}: expected y {shape} and "
            f"three states, received {[np.shape(value) for value in result]}",
            expected=shape,
            received=[np.shape(value) for value in result],
        )
    for name, one, two in zip(whole._fields, bare, whole, strict=True):
        require_close(one, two, FEW, f"{weights_of}: {name} where the last sets no flag")
    sequence = run(GRU(UNITS), return_sequences=True)
    require_close(sequence, whole[0], FEW, f"{weights_of}: the sequence alone")
    one = run(GRU(UNITS))
    require_close(one, whole[0][:, -1], FEW, f"{weights_of}: one step")
    step, *states = run(GRU(UNITS), return_state=True)
    require_close(step, one, FEW, f"{weights_of}: one step beside the state")
    for name, found, expected in zip(whole._fields[1:], states, whole[1:], strict=True):
        require_close(found, expected, FEW, f"{weights_of}: {name} without sequences")


@law("STACK-4", over=STACKS)
def every_member_gets_the_mask(subject: Subject, stack: Stack) -> None:
    """Under a mask a stack is its members called in turn with that mask."""
    _compare(subject, stack, "masked one by one", "holes")


@law("STACK-4", over=REVERSED)
def a_member_that_turns_time_turns_the_mask(subject: Subject, stack: Stack) -> None:
    """After `go_backwards` without `keep_order` the following members get the mask reversed."""
    _compare(subject, stack, "turned one by one", "right")


@law("STACK-4")
def lengths_are_turned_as_a_mask(subject: Subject) -> None:
    """The members after one that turns time see the padding at the start."""
    _compare(subject, REVERSED["once"], "lengths turned", "lengths")
