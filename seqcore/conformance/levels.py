"""What the value cases are put together from: cells, directions, return forms, masks, numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from seqcore.conformance.model import MaskPattern
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

Fields = Mapping[str, Any]

CELLS: Mapping[str, Callable[..., AnyCell]] = {
    "rnn": SimpleRNN,
    "lstm": LSTM,
    "gru": GRU,
    "gru-before": functools.partial(GRU, reset_after=False),
}
DIRECTIONS: Mapping[str, Fields] = {
    "forward": {},
    "backwards": {"go_backwards": True},
    "keep-order": {"go_backwards": True, "keep_order": True},
    "bidirectional": {},
}
FORMS: Mapping[str, Fields] = {
    "last": {},
    "last-state": {"return_state": True},
    "sequences": {"return_sequences": True},
    "sequences-state": {"return_sequences": True, "return_state": True},
}
BOTH = FORMS["sequences-state"]
MASKS: tuple[MaskPattern, ...] = ("none", "right", "left", "holes", "dead_row", "all")
ACTIVATIONS = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid")
KINKED = {"relu", "hard_sigmoid"}
UNBOUNDED = {"relu", "linear"}
NUMBERS: Mapping[str, tuple[str, str]] = {
    "float32": ("float32", "highest"),
    "float64": ("float64", "highest"),
    "float16": ("float16", "highest"),
    "bfloat16": ("bfloat16", "highest"),
    "tf32": ("float32", "tf32"),
    "bfloat16-products": ("float32", "bfloat16"),
}
"""The data type and the precision of products."""


def scale_of(activation: str, gates: str = "sigmoid") -> float:
    """Return a scale of weights with which neither values nor errors grow from step to step."""
    if gates in UNBOUNDED:
        return 0.2
    return 0.4 if activation in UNBOUNDED else 0.6
