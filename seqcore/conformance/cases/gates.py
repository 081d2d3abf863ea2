"""Laws of gates (clauses GATES): that they are those which made the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import (
    BIDIRECTIONAL,
    CELLS,
    Call,
    Named,
    draw,
    gates_of,
    outputs_of,
    wide,
)
from seqcore.conformance.laws import law, require, require_bits
from seqcore.conformance.levels import BOTH
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
    received = list(gates_of(subject, call))
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
    shown = gates_of(subject, call)
    expected = _by_the_equations(call, shown)
    # Each side is as far off as the gates and states that it is made of.
    require_alike(shown, expected, call, f"{layer}: gates against its equations")


@law("GATES-1", needs=("gates", "masks"), over={**CELLS, "bidirectional": BIDIRECTIONAL})
def gates_are_those_of_apply(subject: Subject, layer: AnyLayer) -> None:
    """The `h` that they show is what `apply` returns at valid steps."""
    call = draw(subject, layer, "gates and outputs", mask="holes")
    shown = gates_of(subject, call)
    hidden = [shown[prefix + "h"] for prefix, _ in _cells(layer)]
    y = np.concatenate(hidden, -1) * call.valid[:, :, None]
    found = outputs_of(subject, call)
    require_alike(found, {"y": y}, call, f"{layer}: apply against h of gates")


@law("GATES-2", needs=("gates",), over={"lstm": LSTM(2), "bidirectional": Bidirectional(LSTM(2))})
def gates_do_not_depend_on_return_flags(subject: Subject, layer: AnyLayer) -> None:
    """Each is (batch, time, units), with the same values, whatever the layer returns."""
    call = draw(subject, layer, "gates and flags")
    both = BIDIRECTIONAL if isinstance(layer, Bidirectional) else CELLS["lstm"]
    whole = call.but(layer=both)
    found, expected = gates_of(subject, call), gates_of(subject, whole)
    for name, value in found.items():
        require(
            np.shape(value) == (*call.x.shape[:2], 2),
            f"{layer}: {name}: expected (batch, time, units)",
            expected=(*call.x.shape[:2], 2),
            received=np.shape(value),
        )
    require_alike(found, expected, whole, f"{layer}: gates with other return flags")


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
    turned = call.flipped().but(layer=LSTM(2, **BOTH))
    expected = {name: value[:, ::-1] for name, value in gates_of(subject, turned).items()}
    found = gates_of(subject, call)
    require_alike(found, expected, turned, f"{layer}: gates of the reversed x, reversed")


@law("GATES-2", needs=("gates",))
def backward_gates_belong_to_the_steps_of_x(subject: Subject) -> None:
    """The backward member's `h` is the second half of the sequence, step by step."""
    call = draw(subject, BIDIRECTIONAL, "gates of the backward member")
    shown = gates_of(subject, call)
    y = outputs_of(subject, call)["y"]
    halves = {"forward.h": y[:, :, :2], "backward.h": y[:, :, 2:]}
    require_alike(shown, halves, call, f"{BIDIRECTIONAL}: gates against y")


@law("GATES-2", needs=("gates",))
def gates_after_a_reversing_member_belong_to_the_steps_of_x(subject: Subject) -> None:
    """A member that gets its steps in reverse shows them at the steps of the `x` of the call."""
    call = draw(subject, REVERSING, "gates after a reversing member")
    shown = gates_of(subject, call)
    turned = {"layers.1.h": outputs_of(subject, call)["y"][:, ::-1]}
    require_alike(shown, turned, call, f"{REVERSING}: gates against the reversed y")


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
    shown = gates_of(subject, call)
    initial = iter(call.state)
    states: Named = {}
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


def _by_the_equations(call: Call, shown: Named) -> Named:
    """Return gates and states in float64, each from what is shown of the others."""
    layer: Any = call.layer
    known, weights = wide(shown), wide(call.weights)
    initial = wide(dict(zip(layer.state_names, call.state, strict=True)))

    def before(name: str) -> NDArray[np.float64]:
        return np.concatenate([initial[name][:, None], known[name][:, :-1]], 1)

    projected = call.x.astype(np.float64) @ weights["kernel"] + weights["bias"]
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
            "c": known["f"] * before("c") + known["i"] * known["g"],
            "h": known["o"] * np.tanh(known["c"]),
        }
    xz, xr, xn = np.split(projected, 3, -1)
    kz, kr, kn = np.split(weights["recurrent_kernel"], 3, -1)
    if layer.reset_after:
        bz, br, bn = np.split(weights["recurrent_bias"], 3)
        xz, xr, candidate = xz + bz, xr + br, known["r"] * (h @ kn + bn)
    else:
        candidate = (known["r"] * h) @ kn
    return {
        "z": _sigmoid(xz + h @ kz),
        "r": _sigmoid(xr + h @ kr),
        "n": np.tanh(xn + candidate),
        "h": known["z"] * h + (1 - known["z"]) * known["n"],
    }


def _sigmoid(a: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-a))
