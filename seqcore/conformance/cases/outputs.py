"""Laws of what a call returns (clauses OUT)."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np

from seqcore.conformance.laws import law, require, require_bits, require_close
from seqcore.conformance.samples import (
    BATCH,
    BOTH,
    FEW,
    TIME,
    UNITS,
    outputs_of,
    sample,
)
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import (
    GRU,
    LSTM,
    AnyCell,
    AnyLayer,
    Bidirectional,
    SimpleRNN,
    Stack,
)

CELLS: dict[str, AnyCell] = {
    "rnn": SimpleRNN(UNITS),
    "lstm": LSTM(UNITS),
    "gru": GRU(UNITS),
    "backwards": LSTM(UNITS, go_backwards=True),
}

SINGLE: dict[str, AnyLayer] = {
    "lstm": LSTM(UNITS),
    "sequence": GRU(UNITS, return_sequences=True),
    "bidirectional": Bidirectional(LSTM(UNITS)),
    "stack": Stack((LSTM(UNITS, return_sequences=True), GRU(UNITS))),
}

SEVERAL: dict[str, tuple[AnyLayer, tuple[str, ...]]] = {
    "rnn": (SimpleRNN(UNITS, **BOTH), ("y", "h")),
    "gru": (GRU(UNITS, return_state=True), ("y", "h")),
    "lstm": (LSTM(UNITS, **BOTH), ("y", "h", "c")),
    "bidirectional": (
        Bidirectional(LSTM(UNITS, **BOTH)),
        ("y", "forward_h", "forward_c", "backward_h", "backward_c"),
    ),
    "unmerged": (Bidirectional(LSTM(UNITS), merge_mode="none"), ("forward_y", "backward_y")),
    "unmerged-state": (
        Bidirectional(LSTM(UNITS, **BOTH), merge_mode="none"),
        ("forward_y", "backward_y", "forward_h", "forward_c", "backward_h", "backward_c"),
    ),
    "members-differ": (
        Bidirectional(LSTM(UNITS, **BOTH), backward_layer=GRU(UNITS, **BOTH)),
        ("y", "forward_h", "forward_c", "backward_h"),
    ),
    "stack": (
        Stack(
            (
                LSTM(UNITS, return_sequences=True),
                Bidirectional(GRU(UNITS), merge_mode="none"),
            ),
            return_state=True,
        ),
        (
            "forward_y",
            "backward_y",
            "layers_0_h",
            "layers_0_c",
            "layers_1_forward_h",
            "layers_1_backward_h",
        ),
    ),
}


@law("OUT-1", over=CELLS)
def one_step_is_the_last_of_the_sequence(subject: Subject, layer: AnyCell) -> None:
    """Without sequences y is (batch, units), `h` after the last step in processing order."""
    given = sample(subject, layer, "one step")
    one, whole = (
        subject.apply(
            layer.replace(return_sequences=flag), given.weights, given.x, initial_state=given.state
        )
        for flag in (False, True)
    )
    _require_shape(one, (BATCH, UNITS), f"{layer}: y")
    require_close(one, whole[:, -1], FEW, f"{layer}: y")


@law("OUT-1")
def one_step_of_an_lstm_is_h(subject: Subject) -> None:
    """The single step is the state `h` that is returned beside it, and not `c`."""
    layer = LSTM(UNITS, return_state=True)
    given = sample(subject, layer, "one step and state")
    y, h, c = subject.apply(layer, given.weights, given.x, initial_state=given.state)
    require_close(y, h, FEW, f"{layer}: y")
    require(float(np.abs(y - c).max()) > 1e-3, f"{layer}: expected y other than c", received=y)


@law("OUT-2", over=CELLS)
def a_sequence_has_every_step(subject: Subject, layer: AnyCell) -> None:
    """With sequences y is (batch, time, units)."""
    given = sample(subject, layer, "every step")
    y = subject.apply(layer.replace(return_sequences=True), given.weights, given.x)
    _require_shape(y, (BATCH, TIME, UNITS), f"{layer}: y")


@law("OUT-2")
def each_step_follows_from_the_one_before(subject: Subject) -> None:
    """`y[:, t]` is the activation of step t of x and of `y[:, t-1]`, the state before it."""
    layer = SimpleRNN(UNITS, return_sequences=True)
    given = sample(subject, layer, "each step")
    y = subject.apply(layer, given.weights, given.x, initial_state=given.state)
    wide = {name: value.astype(np.float64) for name, value in given.weights.items()}
    before = np.concatenate([given.state[0][:, None], y[:, :-1]], 1).astype(np.float64)
    expected = np.tanh(
        given.x.astype(np.float64) @ wide["kernel"]
        + before @ wide["recurrent_kernel"]
        + wide["bias"]
    )
    require_close(y, expected, FEW, f"{layer}: y from the y before")


@law("OUT-3", over=CELLS)
def the_flags_change_no_values(subject: Subject, layer: AnyCell) -> None:
    """Output and state are the same whatever else is returned."""
    given = sample(subject, layer, "flags")
    found: dict[tuple[bool, bool], tuple[Any, ...]] = {}
    for sequences, state in itertools.product((False, True), repeat=2):
        flagged = layer.replace(return_sequences=sequences, return_state=state)
        result = subject.apply(flagged, given.weights, given.x, initial_state=given.state)
        found[sequences, state] = outputs_of(result)
        count = 1 + (len(layer.state_names) if state else 0)
        require(
            len(found[sequences, state]) == count,
            f"{layer}, return_sequences={sequences}, return_state={state}: expected {count} "
            f"outputs, received {len(found[sequences, state])}",
            expected=count,
            received=len(found[sequences, state]),
        )
    for sequences in (False, True):
        require_close(
            found[sequences, True][0],
            found[sequences, False][0],
            FEW,
            f"{layer}, return_sequences={sequences}: y with return_state=True",
        )
    states = zip(layer.state_names, found[False, True][1:], found[True, True][1:], strict=True)
    for name, one, whole in states:
        require_close(one, whole, FEW, f"{layer}: {name} with return_sequences=False")


@law("OUT-3", over=CELLS)
def the_state_is_that_after_the_last_step(subject: Subject, layer: AnyCell) -> None:
    """`h` is the last step in processing order; a further call from the state goes on there."""
    layer = layer.replace(**BOTH)
    given = sample(subject, layer, "last state")
    y, h, *_ = subject.apply(layer, given.weights, given.x, initial_state=given.state)
    _require_shape(h, (BATCH, UNITS), f"{layer}: h")
    require_close(h, y[:, -1], FEW, f"{layer}: h")


@law("OUT-4", over=SINGLE)
def a_single_output_is_the_array(subject: Subject, layer: AnyLayer) -> None:
    """One output comes bare."""
    given = sample(subject, layer, "single output")
    y = subject.apply(layer, given.weights, given.x)
    require(
        isinstance(y, np.ndarray),
        f"{layer}: expected one array, received {type(y).__name__}",
        expected="ndarray",
        received=type(y).__name__,
    )


@law("OUT-4", over={name: layer for name, (layer, _) in SEVERAL.items()})
def several_outputs_are_a_named_tuple(subject: Subject, layer: AnyLayer) -> None:
    """Several outputs have a length, unpack, index, have named fields, and pickle."""
    given = sample(subject, layer, "several outputs")
    result = subject.apply(layer, given.weights, given.x)
    fields = getattr(result, "_fields", ())
    require(
        isinstance(result, tuple) and len(fields) == len(result) > 1,
        f"{layer}: expected a tuple with named fields, received {type(result).__name__}",
        expected="a named tuple",
        received=type(result).__name__,
    )
    first, *rest = result
    require(
        first is result[0] and len(rest) == len(result) - 1 and rest[-1] is result[-1],
        f"{layer}: expected a result that unpacks and indexes as a tuple does",
    )
    require(
        all(getattr(result, name) is value for name, value in zip(fields, result, strict=True)),
        f"{layer}: expected fields in the order of the tuple, received {', '.join(fields)}",
    )
    again = pickle.loads(pickle.dumps(result))
    require(
        getattr(again, "_fields", ()) == fields,
        f"{layer}: expected fields {', '.join(fields)} after pickling",
        expected=fields,
        received=getattr(again, "_fields", ()),
    )
    for name, one, two in zip(fields, again, result, strict=True):
        require_bits(one, two, f"{layer}: {name} after pickling")


@law("OUT-5", over=SEVERAL)
def the_fields_have_their_names(subject: Subject, pair: tuple[AnyLayer, tuple[str, ...]]) -> None:
    """The names are those of the clause, in its order."""
    layer, names = pair
    given = sample(subject, layer, "field names")
    found = getattr(subject.apply(layer, given.weights, given.x), "_fields", ())
    require(
        found == names,
        f"{layer}: expected the fields {', '.join(names)}, received {', '.join(found)}",
        expected=", ".join(names),
        received=", ".join(found),
    )


def _require_shape(value: Any, shape: tuple[int, ...], what: str) -> None:
    require(
        np.shape(value) == shape,
        f"{what}: expected shape {shape}, received {np.shape(value)}",
        expected=shape,
        received=np.shape(value),
    )
