"""Laws of what a call returns (clauses OUT)."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import numpy as np

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import BATCH, TIME, UNITS, draw, outputs_of, simple_rnn_step
from seqcore.conformance.laws import law, require, require_bits
from seqcore.conformance.levels import BOTH
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
    call = draw(subject, layer, "one step")
    one = outputs_of(subject, call)
    whole = outputs_of(subject, call.but(layer=layer.replace(return_sequences=True)))
    _require_shape(one["y"], (BATCH, UNITS), f"{layer}: y")
    require_alike(one, {"y": whole["y"][:, -1]}, call, str(layer))


@law("OUT-1")
def one_step_of_an_lstm_is_h(subject: Subject) -> None:
    """The single step is the state `h` that is returned beside it, and not `c`."""
    layer = LSTM(UNITS, return_state=True)
    call = draw(subject, layer, "one step and state")
    found = outputs_of(subject, call)
    y, h, c = found.values()
    require_alike(found, {"y": h}, call, str(layer))
    require(float(np.abs(y - c).max()) > 1e-3, f"{layer}: expected y other than c", received=y)


@law("OUT-2", over=CELLS)
def a_sequence_has_every_step(subject: Subject, layer: AnyCell) -> None:
    """With sequences y is (batch, time, units)."""
    call = draw(subject, layer.replace(return_sequences=True), "every step", state=False)
    _require_shape(outputs_of(subject, call)["y"], (BATCH, TIME, UNITS), f"{layer}: y")


@law("OUT-2")
def each_step_follows_from_the_one_before(subject: Subject) -> None:
    """`y[:, t]` is the activation of step t of x and of `y[:, t-1]`, the state before it."""
    layer = SimpleRNN(UNITS, return_sequences=True)
    call = draw(subject, layer, "each step")
    found = outputs_of(subject, call)
    before = np.concatenate([call.state[0][:, None], found["y"][:, :-1]], 1)
    expected = simple_rnn_step(call.weights, call.x, before)
    # Two results: what is expected is made of the one before.
    require_alike(found, {"y": expected}, call, f"{layer}, from the y before")


@law("OUT-3", over=CELLS)
def the_flags_change_no_values(subject: Subject, layer: AnyCell) -> None:
    """Output and state are the same whatever else is returned."""
    whole = draw(subject, layer.replace(**BOTH), "flags")
    found = {}
    for sequences, state in itertools.product((False, True), repeat=2):
        flagged = layer.replace(return_sequences=sequences, return_state=state)
        found[sequences, state] = outputs_of(subject, whole.but(layer=flagged))
    for sequences in (False, True):
        what = f"{layer}, return_sequences={sequences}, with return_state=True"
        require_alike(found[sequences, True], found[sequences, False], whole, what)
    states = {name: found[True, True][name] for name in layer.state_names}
    require_alike(found[False, True], states, whole, f"{layer} with return_sequences=False")


@law("OUT-3", over=CELLS)
def the_state_is_that_after_the_last_step(subject: Subject, layer: AnyCell) -> None:
    """`h` is the last step in processing order; a further call from the state goes on there."""
    layer = layer.replace(**BOTH)
    call = draw(subject, layer, "last state")
    found = outputs_of(subject, call)
    _require_shape(found["h"], (BATCH, UNITS), f"{layer}: h")
    require_alike(found, {"h": found["y"][:, -1]}, call, str(layer))


@law("OUT-4", over=SINGLE)
def a_single_output_is_the_array(subject: Subject, layer: AnyLayer) -> None:
    """One output comes bare."""
    call = draw(subject, layer, "single output")
    y = subject.apply(layer, call.weights, call.x)
    require(
        isinstance(y, np.ndarray),
        f"{layer}: expected one array, received {type(y).__name__}",
        expected="ndarray",
        received=type(y).__name__,
    )


@law("OUT-4", over={name: layer for name, (layer, _) in SEVERAL.items()})
def several_outputs_are_a_named_tuple(subject: Subject, layer: AnyLayer) -> None:
    """Several outputs have a length, unpack, index, have named fields, and pickle."""
    call = draw(subject, layer, "several outputs")
    result = subject.apply(layer, call.weights, call.x)
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
    call = draw(subject, layer, "field names")
    found = getattr(subject.apply(layer, call.weights, call.x), "_fields", ())
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
