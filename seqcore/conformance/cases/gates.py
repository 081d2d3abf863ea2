"""Laws of gates (clauses GATES): that they are those which made the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.calls import (
    BIDIRECTIONAL,
    BOTH,
    CELLS,
    OUTPUT_EPS,
    Call,
    draw,
    outputs_of,
    require_alike,
)
from seqcore.conformance.laws import law, require, require_bits, require_close
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack

NAMES = {"SimpleRNN": "h", "LSTM": "ifgoch", "GRU": "zrnh"}

UNLIKE = Bidirectional(GRU(2, return_sequences=True), backward_layer=LSTM(3, return_sequences=True))
NESTED = Stack((UNLIKE, GRU(2)))
REVERSING = Stack(
    (GRU(2, return_sequences=True, go_backwards=True), LSTM(2)), return_sequences=True
)


@law("GATES-1", needs=("gates",), over={**CELLS, "nested": NESTED})
def gates_have_their_names(subject: Subject, layer: AnyLayer) -> None:
    """Every gate and state of every cell is there by its prefixed name, and nothing else."""
    call = draw(subject, layer, "names of gates")
    expected = _expected_names(layer)
    received = list(_gates(subject, call))
    require(
        sorted(received) == sorted(expected),
        f"{layer}: expected gates and states by their names",
        expected=expected,
        received=received,
    )


@law("GATES-1", tier="smoke", needs=("gates",), over=CELLS)
def gates_reproduce_the_states(subject: Subject, layer: AnyLayer) -> None:
    """Put into the equations of its cell, with `x` and the state before, they give themselves."""
    call = draw(subject, layer, "gates and equations", mask="none")
    shown = _gates(subject, call)
    expected = _by_the_equations(call, shown)
    require_alike(shown, expected, f"{layer}: gates against its equations")


@law("GATES-1", needs=("gates", "masks"), over={**CELLS, "bidirectional": BIDIRECTIONAL})
def gates_are_those_of_apply(subject: Subject, layer: AnyLayer) -> None:
    """The `h` that they show is what `apply` returns at valid steps."""
    call = draw(subject, layer, "gates and outputs", mask="holes")
    shown = _gates(subject, call)
    hidden = [shown[prefix + "h"] for prefix, _ in _cells(layer)]
    y = np.concatenate(hidden, -1) * call.valid[:, :, None]
    found = outputs_of(subject, call)["y"]
    require_close(y, found, OUTPUT_EPS, f"{layer}: h of gates against y of apply")


@law("GATES-2", needs=("gates",), over={"lstm": LSTM(2), "bidirectional": Bidirectional(LSTM(2))})
def gates_do_not_depend_on_return_flags(subject: Subject, layer: AnyLayer) -> None:
    """Each is (batch, time, units), with the same values, whatever the layer returns."""
    call = draw(subject, layer, "gates and flags")
    both = {"bidirectional": BIDIRECTIONAL}.get(type(layer).__name__.lower(), CELLS["lstm"])
    expected = _gates(subject, call.but(layer=both))
    found = _gates(subject, call)
    for name, value in found.items():
        require(
            np.shape(value) == (*call.x.shape[:2], 2),
            f"{layer}: {name}: expected (batch, time, units)",
            expected=(*call.x.shape[:2], 2),
            received=np.shape(value),
        )
    require_alike(found, expected, f"{layer}: gates with other return flags")


@law(
    "GATES-2",
    needs=("gates",),
    over={
        "backwards": LSTM(2, go_backwards=True),
        "backwards_keep_order": LSTM(2, **BOTH, go_backwards=True, keep_order=True),
    },
)
def gates_belong_to_the_steps_of_x(subject: Subject, layer: AnyLayer) -> None:
    """Reading backwards shows at each step of `x` what reading the reversed `x` shows there."""
    call = draw(subject, layer, "gates in original time")
    turned = call.but(layer=LSTM(2, **BOTH), x=np.ascontiguousarray(call.x[:, ::-1]))
    expected = {name: value[:, ::-1] for name, value in _gates(subject, turned).items()}
    require_alike(_gates(subject, call), expected, f"{layer}: gates of the reversed x, reversed")


@law("GATES-2", needs=("gates",))
def backward_gates_belong_to_the_steps_of_x(subject: Subject) -> None:
    """The backward member's `h` is the second half of the sequence, step by step."""
    call = draw(subject, BIDIRECTIONAL, "gates of the backward member")
    shown = _gates(subject, call)
    y = outputs_of(subject, call)["y"]
    for name, half in (("forward.h", y[:, :, :2]), ("backward.h", y[:, :, 2:])):
        require_close(shown[name], half, OUTPUT_EPS, f"{BIDIRECTIONAL}: {name} against y")


@law("GATES-2", needs=("gates",))
def gates_after_a_reversing_member_belong_to_the_steps_of_x(subject: Subject) -> None:
    """A member that gets its steps in reverse shows them at the steps of the `x` of the call."""
    call = draw(subject, REVERSING, "gates after a reversing member")
    shown = _gates(subject, call)
    processed = outputs_of(subject, call)["y"]
    require_close(
        shown["layers.1.h"],
        processed[:, ::-1],
        OUTPUT_EPS,
        f"{REVERSING}: layers.1.h against the reversed y",
    )


MASKED = {
    **CELLS,
    "carry": GRU(2, **BOTH, mask_output="carry"),
    "bidirectional": BIDIRECTIONAL,
    "backwards": LSTM(2, go_backwards=True),
}


@law("GATES-3", needs=("gates", "masks"), over=MASKED)
def no_gate_acts_at_masked_steps(subject: Subject, layer: AnyLayer) -> None:
    """Gates are NaN there and numbers elsewhere; states are the carried ones, bit for bit."""
    call = draw(subject, layer, "gates at masked steps", mask="dead_row")
    shown = _gates(subject, call)
    initial = iter(call.given["initial_state"])
    states: dict[str, NDArray[Any]] = {}
    for prefix, cell in _cells(layer):
        states |= {prefix + name: next(initial) for name in cell.state_names}
    for name, value in shown.items():
        if name not in states:
            require(
                bool((np.isnan(value) == ~call.valid[:, :, None]).all()),
                f"{layer}: {name}: expected NaN at masked steps and only there",
                expected=~call.valid,
                received=value,
            )
            continue
        backward = name.startswith("backward.") or getattr(layer, "go_backwards", False)
        steps = slice(None, None, -1 if backward else 1)
        sequence, valid = value[:, steps], call.valid[:, steps]
        before = np.concatenate([states[name][:, None], sequence[:, :-1]], 1)
        require_bits(sequence[~valid], before[~valid], f"{layer}: {name} at masked steps, carried")


def _gates(subject: Subject, call: Call) -> dict[str, NDArray[Any]]:
    shown = subject.gates(call.layer, call.weights, call.x, **call.given)
    return {name: np.asarray(value) for name, value in shown.items()}


def _cells(layer: AnyLayer) -> list[tuple[str, Any]]:
    if isinstance(layer, Bidirectional):
        return [("forward.", layer.forward), ("backward.", layer.backward)]
    if isinstance(layer, Stack):
        return [
            (f"layers.{index}.{prefix}", cell)
            for index, member in enumerate(layer.layers)
            for prefix, cell in _cells(member)
        ]
    return [("", layer)]


def _expected_names(layer: AnyLayer) -> list[str]:
    return [prefix + name for prefix, cell in _cells(layer) for name in NAMES[type(cell).__name__]]


def _by_the_equations(call: Call, shown: dict[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Return gates and states in float64, each from what is shown of the others."""
    layer: Any = call.layer
    wide = {name: np.asarray(value, np.float64) for name, value in shown.items()}
    initial = dict(zip(layer.state_names, call.given["initial_state"], strict=True))

    def before(name: str) -> NDArray[np.float64]:
        first = np.asarray(initial[name], np.float64)[:, None]
        return np.concatenate([first, wide[name][:, :-1]], 1)

    weights = {name: np.asarray(value, np.float64) for name, value in call.weights.items()}
    projected = np.asarray(call.x, np.float64) @ weights["kernel"] + weights["bias"]
    h = before("h")
    if isinstance(layer, SimpleRNN):
        return {"h": np.tanh(projected + h @ weights["recurrent_kernel"])}
    if isinstance(layer, LSTM):
        i, f, g, o = np.split(projected + h @ weights["recurrent_kernel"], 4, -1)
        return {
            "i": _sigmoid(i),
            "f": _sigmoid(f),
            "g": np.tanh(g),
            "o": _sigmoid(o),
            "c": wide["f"] * before("c") + wide["i"] * wide["g"],
            "h": wide["o"] * np.tanh(wide["c"]),
        }
    xz, xr, xn = np.split(projected, 3, -1)
    kz, kr, kn = np.split(weights["recurrent_kernel"], 3, -1)
    if layer.reset_after:
        bz, br, bn = np.split(weights["recurrent_bias"], 3)
        xz, xr, candidate = xz + bz, xr + br, wide["r"] * (h @ kn + bn)
    else:
        candidate = (wide["r"] * h) @ kn
    return {
        "z": _sigmoid(xz + h @ kz),
        "r": _sigmoid(xr + h @ kr),
        "n": np.tanh(xn + candidate),
        "h": wide["z"] * h + (1 - wide["z"]) * wide["n"],
    }


def _sigmoid(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-a))
