"""Calls with random arrays whose results are compared with the oracle's.

What costs an engine that compiles is a new signature (`derived.signatures`), so the cases vary
freely what costs it nothing: whether there is a state, whether it is returned, which steps of a
mask are valid.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, product
from typing import Any

from seqcore.conformance.cases.pairwise import pairwise_cases
from seqcore.conformance.derived import shared_out, value_case
from seqcore.conformance.levels import (
    ACTIVATIONS,
    BOTH,
    CELLS,
    DIRECTIONS,
    FORMS,
    MASKS,
    NUMBERS,
    scale_of,
)
from seqcore.conformance.model import MaskPattern, ValueCase
from seqcore.spec.layers import (
    GRU,
    LSTM,
    MERGE_MODES,
    AnyLayer,
    AnyMember,
    Bidirectional,
    SimpleRNN,
    Stack,
)

SMOKE = (
    "values/rnn/forward/sequences/state/none",
    "values/rnn/backwards/last/zeros/left",
    "values/rnn/backwards/sequences-state/zeros/holes",
    "values/rnn/keep-order/sequences/state/none",
    "values/lstm/forward/last/zeros/none",
    "values/lstm/forward/last-state/state/none",
    "values/lstm/forward/last/state/dead_row",
    "values/lstm/forward/last-state/zeros/all",
    "values/lstm/forward/sequences-state/zeros/none",
    "values/lstm/forward/sequences/state/none",
    "values/lstm/forward/sequences-state/zeros/holes",
    "values/lstm/forward/sequences-state/state/right",
    "values/lstm/forward/sequences-state/state/dead_row",
    "values/gru/forward/sequences/zeros/none",
    "values/gru/backwards/last-state/state/none",
    "values/gru/backwards/sequences/zeros/none",
    "values/gru/bidirectional/last/zeros/none",
    "values/gru/bidirectional/sequences-state/state/right",
    "values/gru/bidirectional/sequences-state/zeros/left",
    "values/gru-before/forward/sequences/state/none",
    "values/gru-before/keep-order/sequences-state/zeros/left",
    "values/activations/lstm/relu-hard_sigmoid",
    "values/no-bias/gru",
    "values/merges/mul/last/none",
    "values/merges/none/last/none",
    "values/stacks/backwards-inside/last/none",
    "values/stacks/backwards-inside/sequences-state/right",
    "values/numbers/float64/lstm/forward",
    "values/numbers/float16/lstm/forward",
    "values/numbers/bfloat16/lstm/forward",
    "values/numbers/tf32/rnn/backwards",
    "values/numbers/bfloat16-products/rnn/backwards",
    "values/lengths/rnn/backwards",
    "values/sizes/one-of-each/lstm",
    "values/poison/lstm/forward/holes",
    "values/poison/gru/bidirectional/left",
)
"""The cases of the smoke tier: of the clauses that are broken most often."""


@functools.cache
def value_cases() -> tuple[ValueCase, ...]:
    """Return the value cases, in a fixed order."""
    cases = chain(
        _crossing(),
        _activations(),
        _merges(),
        _stacks(),
        _numbers(),
        _lengths(),
        _sizes(),
        _poisoned(),
        _wild(),
        pairwise_cases(),
    )
    return shared_out(replace(case, tier="smoke") if case.id in SMOKE else case for case in cases)


def _layer(cell: str, direction: str, units: int = 2, **fields: Any) -> AnyLayer:
    made = CELLS[cell](units, **DIRECTIONS[direction], **fields)
    return Bidirectional(made) if direction == "bidirectional" else made


def _crossing() -> Iterator[ValueCase]:
    """Yield every cell in every direction and form, with and without a state, under every mask."""
    for cell, direction, form, state, mask in product(
        CELLS, DIRECTIONS, FORMS, (False, True), MASKS
    ):
        yield value_case(
            f"values/{cell}/{direction}/{form}/{'state' if state else 'zeros'}/{mask}",
            _layer(cell, direction, **FORMS[form]),
            state=state,
            mask=mask,
            gradients=_crossing_gradients(cell, direction, form, mask),
            everywhere=form == "sequences-state" and state and _everywhere(cell, direction, mask),
        )


def _crossing_gradients(cell: str, direction: str, form: str, mask: str) -> bool:
    if form == "sequences-state":
        return mask != "none" or direction != "keep-order"
    return form == "last" and mask == {
        ("rnn", "backwards"): "left",
        ("lstm", "forward"): "none",
        ("lstm", "keep-order"): "holes",
        ("lstm", "bidirectional"): "none",
        ("gru", "bidirectional"): "dead_row",
        ("gru-before", "forward"): "holes",
    }.get((cell, direction))


def _everywhere(cell: str, direction: str, mask: str) -> bool:
    """Return whether each implementation runs the case, too."""
    some = cell in ("lstm", "gru-before")
    return (
        mask
        in {
            "forward": ("none", "holes"),
            "bidirectional": ("none", "holes") if some else ("holes",),
            "backwards": ("left",) if some else (),
            "keep-order": () if some else ("right",),
        }[direction]
    )


def _activations() -> Iterator[ValueCase]:
    """Yield the activations in pairs, and layers without bias."""
    for cell, activation, gates in product(CELLS, ACTIVATIONS, ACTIVATIONS):
        if cell == "rnn" and gates != "sigmoid":
            continue
        fields: dict[str, Any] = {} if cell == "rnn" else {"recurrent_activation": gates}
        name = activation if cell == "rnn" else f"{activation}-{gates}"
        yield value_case(
            f"values/activations/{cell}/{name}",
            _layer(cell, "forward", activation=activation, **fields, **BOTH),
            state=True,
            scale=scale_of(activation, gates),
            tier="standard" if f"{cell}/{name}" in _ACTIVATIONS_STANDARD else "full",
        )
    for cell in CELLS:
        yield value_case(
            f"values/no-bias/{cell}",
            _layer(cell, "forward", use_bias=False, return_sequences=True),
            gradients=False,
            tier="standard" if cell in ("lstm", "gru") else "full",
        )


_ACTIVATIONS_STANDARD = {
    "rnn/relu",
    "lstm/sigmoid-tanh",
    "lstm/relu-hard_sigmoid",
    "gru/hard_sigmoid-tanh",
    "gru-before/relu-linear",
}


def _merges() -> Iterator[ValueCase]:
    """Yield members that differ, in every merge."""
    for merge, (form, mask) in product(
        MERGE_MODES, (("last", "none"), ("sequences-state", "none"), ("sequences-state", "holes"))
    ):
        fields: dict[str, Any] = {**FORMS[form], "mask_output": "carry"}
        units = 2 if merge in ("concat", "none") else 3
        gru = GRU(units, reset_after=merge != "mul", **fields)
        yield value_case(
            f"values/merges/{merge}/{form}/{mask}",
            Bidirectional(LSTM(3, **fields), merge, gru),
            mask=mask,
            state=True,
            gradients=mask == "none" and (form == "sequences-state" or merge == "mul"),
            tier="full" if mask != "none" and merge != "none" else "standard",
        )


STACKS: dict[str, tuple[AnyMember, ...]] = {
    "two": (GRU(3, return_sequences=True), LSTM(2)),
    "bidirectional-first": (Bidirectional(LSTM(2, return_sequences=True)), GRU(3)),
    "backwards-inside": (
        LSTM(3, return_sequences=True, go_backwards=True),
        GRU(2, return_sequences=True, reset_after=False, go_backwards=True, keep_order=True),
        Bidirectional(SimpleRNN(2), "none"),
    ),
}


def _stacks() -> Iterator[ValueCase]:
    for (name, members), form, mask in product(STACKS.items(), FORMS, ("none", "left", "right")):
        gradients = form == "sequences-state"
        yield value_case(
            f"values/stacks/{name}/{form}/{mask}",
            Stack(members, **FORMS[form]),
            mask=mask,
            state=mask != "right",
            gradients=gradients,
            everywhere=gradients and mask == "left" and name != "two",
        )


def _numbers() -> Iterator[ValueCase]:
    """Yield the data types and the precisions of products."""
    kinds = [kind for kind in NUMBERS if kind != "float32"]
    layers = ("lstm/forward", "gru/bidirectional", "gru-before/forward", "rnn/backwards")
    for kind, name in product(kinds, layers):
        dtype, precision = NUMBERS[kind]
        cell, _, direction = name.partition("/")
        # What an LSTM does alone, in every data type; levels of products show in any cell, and the
        # smallest compiles in the least time.
        first = name == ("lstm/forward" if precision == "highest" else "rnn/backwards")
        yield value_case(
            f"values/numbers/{kind}/{name}",
            _layer(cell, direction, **BOTH),
            dtype=dtype,
            precision=precision,
            mask="none" if first else "holes",
            state=not first,
            everywhere=cell == "gru",
            tier="standard" if first or cell == "gru" else "full",
        )


def _lengths() -> Iterator[ValueCase]:
    for cell, direction in (
        ("lstm", "forward"),
        ("gru", "bidirectional"),
        ("rnn", "backwards"),
        ("gru-before", "forward"),
    ):
        yield value_case(
            f"values/lengths/{cell}/{direction}",
            _layer(cell, direction, mask_output="carry", **BOTH),
            mask="lengths",
            state=True,
            everywhere=cell in ("lstm", "gru"),
            tier="full" if cell == "gru-before" else "standard",
        )


def _sizes() -> Iterator[ValueCase]:
    """Yield sizes beyond which an engine may take another way."""
    lstm, gru, before = LSTM(3, **BOTH), GRU(3, **BOTH), GRU(3, reset_after=False, **BOTH)
    layers: dict[str, tuple[AnyLayer, dict[str, Any]]] = {
        "batch-17/lstm": (lstm, {"batch": 17, "everywhere": True}),
        "batch-17/gru-bidirectional": (
            Bidirectional(gru),
            {"batch": 17, "mask": "holes", "gradients": False},
        ),
        "batch-33/gru-before": (before, {"batch": 33, "tier": "full"}),
        "time-65/lstm": (lstm, {"time": 65, "everywhere": True}),
        "time-65/gru-bidirectional": (Bidirectional(gru), {"time": 65, "gradients": False}),
        "time-200/gru": (gru, {"time": 200, "mask": "holes"}),
        "time-200/rnn": (SimpleRNN(3, **BOTH), {"time": 200, "tier": "full"}),
        "time-513/lstm": (lstm, {"time": 513, "batch": 1, "tier": "full"}),
        "units-33/lstm": (LSTM(33, **BOTH), {"mask": "right", "scale": 0.2, "everywhere": True}),
        "units-33/gru-before": (GRU(33, reset_after=False, **BOTH), {"scale": 0.2}),
        "units-33/rnn": (SimpleRNN(33, **BOTH), {"scale": 0.2, "tier": "full"}),
        "features-33/gru": (gru, {"features": 33, "scale": 0.3, "tier": "full"}),
        "one-step/lstm-bidirectional": (Bidirectional(lstm), {"time": 1}),
        "one-step/gru-backwards": (
            GRU(3, go_backwards=True, **BOTH),
            {"time": 1, "mask": "all", "gradients": False},
        ),
        "one-of-each/lstm": (
            LSTM(1, **BOTH),
            {"batch": 1, "time": 1, "features": 1, "gradients": False},
        ),
    }
    for name, (layer, fields) in layers.items():
        yield value_case(f"values/sizes/{name}", layer, state=True, **fields)


def _poisoned() -> Iterator[ValueCase]:
    """Yield NaN and infinity at masked steps."""
    masks: tuple[MaskPattern, ...] = ("left", "holes", "dead_row")
    for cell, direction, mask in product(CELLS, DIRECTIONS, masks):
        step = [*CELLS].index(cell) + [*DIRECTIONS].index(direction)
        yield value_case(
            f"values/poison/{cell}/{direction}/{mask}",
            _layer(cell, direction, **BOTH),
            mask=mask,
            poison=True,
            state=step % 2 == 0,
        )
    fields: dict[str, Any] = {**BOTH, "mask_output": "carry"}
    yield value_case(
        "values/poison/carry/none",
        Bidirectional(LSTM(3, **fields), "none", GRU(2, **fields)),
        mask="holes",
        poison=True,
        state=True,
    )
    for kind in ("float64", "bfloat16", "tf32"):
        dtype, precision = NUMBERS[kind]
        yield value_case(
            f"values/poison/{kind}/gru/bidirectional",
            _layer("gru", "bidirectional", **BOTH),
            mask="holes",
            poison=True,
            dtype=dtype,
            precision=precision,
        )
    for activation in ("relu", "linear", "hard_sigmoid"):
        yield value_case(
            f"values/poison/{activation}/lstm",
            LSTM(3, activation=activation, **BOTH),
            mask="holes",
            poison=True,
            scale=scale_of(activation),
            tier="full",
        )


def _wild() -> Iterator[ValueCase]:
    """Yield weights with which gates saturate, and with which states become chaotic."""
    for cell, kind in product(CELLS, ("float32", "float16", "bfloat16")):
        yield value_case(
            f"values/wild/saturated/{cell}/{kind}",
            _layer(cell, "forward", **BOTH),
            dtype=kind,
            state=True,
            scale=40.0,
            wild=True,
            tier="standard" if kind == "float32" or cell == "lstm" else "full",
        )
    chaotic: dict[str, tuple[AnyLayer, dict[str, Any]]] = {
        "rnn": (SimpleRNN(3, **BOTH), {"time": 200, "tier": "full"}),
        "gru": (GRU(3, **BOTH), {"time": 200, "mask": "holes"}),
        "lstm": (LSTM(3, **BOTH), {"time": 65}),
        "lstm-units-33": (LSTM(33, **BOTH), {"mask": "right"}),
        "gru-bidirectional": (Bidirectional(GRU(3, **BOTH)), {"time": 65}),
    }
    for name, (layer, fields) in chaotic.items():
        yield value_case(
            f"values/wild/chaotic/{name}",
            layer,
            state=True,
            scale=6.0,
            wild=True,
            gradients=False,
            **fields,
        )
