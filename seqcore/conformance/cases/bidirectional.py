"""Laws of bidirectional layers (clauses BI)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike
from seqcore.conformance.calls import FEATURES, UNITS, Call, draw, flat, outputs_of
from seqcore.conformance.deviations import deviations, unit_eps
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN

UNMERGED = Bidirectional(LSTM(UNITS, **BOTH), merge_mode="none")

PAIRS = {
    "lstm": UNMERGED,
    "gru": Bidirectional(GRU(UNITS, **BOTH), merge_mode="none"),
    "members-differ": Bidirectional(
        LSTM(UNITS, **BOTH),
        merge_mode="none",
        backward_layer=GRU(UNITS + 1, reset_after=False, use_bias=False, **BOTH),
    ),
}

CONCATENATED = Bidirectional(LSTM(UNITS, **BOTH))


def members(call: Call, layer: Bidirectional) -> dict[str, Call]:
    """Return the calls of both members by prefix; the cells return original time."""
    count = len(layer.forward.state_names)
    behind = layer.backward.replace(go_backwards=True, keep_order=True)
    return {
        "forward": call.member(layer.forward, "forward.", slice(count)),
        "backward": call.member(behind, "backward.", slice(count, None)),
    }


@law("BI-1", needs=("masks",), over=PAIRS)
def a_pair_is_its_two_members(subject: Subject, layer: Bidirectional) -> None:
    """Outputs and states are those of two cells over the same input, each with its weights."""
    call = draw(subject, layer, "two members", mask="holes")
    expected = {
        f"{prefix}_{name}": value
        for prefix, member in members(call, layer).items()
        for name, value in outputs_of(subject, member).items()
    }
    require_alike(outputs_of(subject, call), expected, call, str(layer))


@law("BI-1", arrays=False)
def members_share_what_holds_for_the_whole(subject: Subject) -> None:
    """Return flags and `mask_output` that differ are errors; other fields may differ."""
    fields: dict[str, Any] = {
        "return_sequences": True,
        "return_state": True,
        "mask_output": "carry",
    }
    for field, value in fields.items():
        with require_error(SpecError, f"Bidirectional whose members differ in {field}", field):
            Bidirectional(LSTM(UNITS), backward_layer=LSTM(UNITS, **{field: value}))
    Bidirectional(LSTM(UNITS), backward_layer=GRU(UNITS + 1, activation="relu", use_bias=False))


@law("BI-1")
def the_backward_member_is_a_second_cell(subject: Subject) -> None:
    """Where none is given it has the same description, and weights and state of its own."""
    one = Bidirectional(LSTM(UNITS, **BOTH))
    two = Bidirectional(LSTM(UNITS, **BOTH), backward_layer=LSTM(UNITS, **BOTH))
    call = draw(subject, one, "second cell")
    first, second = outputs_of(subject, call), outputs_of(subject, call.but(layer=two))
    require_alike(second, first, call, f"{one} with an equal backward_layer")
    changed = {
        name: value + np.float32(name.startswith("backward."))
        for name, value in call.weights.items()
    }
    other = outputs_of(subject, call.but(weights=changed))
    found, expected = ({"y": named["y"][..., :UNITS]} for named in (other, first))
    what = f"{one}: the forward half with other backward weights"
    require_alike(found, expected, call, what)
    require(
        float(np.abs(other["y"][..., UNITS:] - first["y"][..., UNITS:]).max()) > 1e-3,
        f"{one}: expected another backward half with other backward weights",
        received=other["y"],
    )


def the_backward_member_reads_from_the_end(subject: Subject, mask: MaskPattern) -> None:
    """It is a forward cell over flipped input and mask, flipped back."""
    layer = UNMERGED
    call = draw(subject, layer, "from the end", mask=mask)
    flipped = members(call, layer)["backward"].flipped().but(layer=layer.layer)
    alone = outputs_of(subject, flipped)
    expected = {
        "backward_y": np.flip(alone["y"], 1),
        "backward_h": alone["h"],
        "backward_c": alone["c"],
    }
    require_alike(outputs_of(subject, call), expected, call, str(layer))


_FROM_THE_END: dict[str, MaskPattern] = {"mask": "holes", "lengths": "lengths"}
law("BI-2", over={"whole": "none"})(the_backward_member_reads_from_the_end)
law("BI-2", needs=("masks",), over=_FROM_THE_END)(the_backward_member_reads_from_the_end)


@law("BI-2")
def each_direction_knows_its_own_past_alone(subject: Subject) -> None:
    """Step t of the forward half depends on no later step, of the backward half on no earlier."""
    layer = UNMERGED
    call = draw(subject, layer, "own past", state=False)
    first = outputs_of(subject, call)
    middle = call.x.shape[1] // 2
    x = call.x.copy()
    x[:, middle] += 1
    other = outputs_of(subject, call.but(x=x))
    steps = np.arange(x.shape[1])
    for name, reached in {"forward_y": steps >= middle, "backward_y": steps <= middle}.items():
        apart = deviations(other[name], first[name], unit_eps(call.dtype))
        changed = apart.max((0, 2)) > call.limit("outputs", 2)
        require(
            not (changed & ~reached).any() and bool(changed[middle]),
            f"{layer}: {name} after a change of step {middle}: expected other values at the "
            f"steps {steps[reached].tolist()} alone, received them at {steps[changed].tolist()}",
            expected=steps[reached].tolist(),
            received=steps[changed].tolist(),
        )


@law("BI-2", needs=("masks",))
def swapping_the_directions_flips_time(subject: Subject) -> None:
    """With members exchanged and the input flipped, the halves are exchanged and flipped."""
    layer = CONCATENATED
    call = draw(subject, layer, "swapped", mask="right")
    other = {"forward": "backward", "backward": "forward"}
    weights = {}
    for name, value in call.weights.items():
        prefix, _, rest = name.partition(".")
        weights[f"{other[prefix]}.{rest}"] = value
    swapped = call.flipped().but(weights=weights)
    swapped = swapped.giving(initial_state=call.state[2:] + call.state[:2])
    found = outputs_of(subject, swapped)
    y = np.concatenate([found["y"][..., UNITS:], found["y"][..., :UNITS]], -1)
    turned = {"y": np.flip(y, 1)}
    for prefix, name in itertools.product(other, "hc"):
        turned[f"{prefix}_{name}"] = found[f"{other[prefix]}_{name}"]
    require_alike(turned, outputs_of(subject, call), call, f"{layer}, directions swapped")


@law("BI-2", arrays=False)
def no_member_sets_go_backwards(subject: Subject) -> None:
    """A member that sets it is an error."""
    turned = LSTM(UNITS, go_backwards=True)
    with require_error(SpecError, "Bidirectional(layer) with go_backwards", "go_backwards"):
        Bidirectional(turned)
    with require_error(SpecError, "Bidirectional(backward_layer) with it", "go_backwards"):
        Bidirectional(LSTM(UNITS), backward_layer=turned)


def one_step_is_where_each_member_ends(subject: Subject, mask: MaskPattern) -> None:
    """It is the forward `h` after the last step and the backward `h` after the first."""
    call = draw(subject, CONCATENATED, "one step of a pair", mask=mask)
    one = outputs_of(subject, call.but(layer=Bidirectional(LSTM(UNITS))))
    carrying = Bidirectional(LSTM(UNITS, mask_output="carry", **BOTH))
    whole = outputs_of(subject, call.but(layer=carrying))
    expected = np.concatenate([whole["y"][:, -1, :UNITS], whole["y"][:, 0, UNITS:]], -1)
    require_alike(one, {"y": expected}, call, "Bidirectional(LSTM), one step")
    ends = np.concatenate([whole["forward_h"], whole["backward_h"]], -1)
    require_alike(one, {"y": ends}, call, "Bidirectional(LSTM), one step, from the state")
    require(
        float(np.abs(one["y"] - whole["y"][:, -1]).max()) > 1e-3,
        "Bidirectional(LSTM): expected one step other than the last of the merged sequence",
        received=one["y"],
    )


law("BI-3", over={"none": "none"})(one_step_is_where_each_member_ends)
law("BI-3", needs=("masks",), over={"mask": "holes"})(one_step_is_where_each_member_ends)


_SEED_INPUT = [
    [0.1, 4.2, 1.5, 1.1, 2.8],
    [1.0, 3.1, 2.5, 0.7, 1.1],
    [0.3, 2.1, 1.5, 2.1, 0.1],
    [2.2, 1.4, 0.5, 0.9, 1.1],
]

_SEED_TABLE = {
    "highest": (
        [0.3590647, 0.5511133, 0.5911575, 0.6303139],
        [0.70387346, 0.5886358, 0.39516988, 0.21942243],
    ),
    "tf32": (
        [0.35896602, 0.5509713, 0.5910032, 0.6301636],
        [0.7037439, 0.5884772, 0.39501813, 0.21932526],
    ),
}


def _seed_table(subject: Subject, precision: str) -> None:
    """Compare with appendix A."""
    x = np.array([_SEED_INPUT], np.float32)
    layer = Bidirectional(LSTM(3, return_sequences=True))
    weights = {
        name: np.full(shape, 0 if name.endswith("bias") else 0.1, np.float32)
        for name, shape in layer.weight_shapes(5).items()
    }
    for member in ("forward", "backward"):
        weights[f"{member}.bias"][3:6] = 1
    forward, backward = (
        np.repeat(np.array(half)[:, None], 3, 1) for half in _SEED_TABLE[precision]
    )
    whole = subject.apply(layer, weights, x, matmul_precision=precision)
    one = subject.apply(Bidirectional(LSTM(3)), weights, x, matmul_precision=precision)
    for what, found, expected in (
        ("the sequence", whole, np.concatenate([forward, backward], -1)[None]),
        ("one step", one, np.concatenate([forward[-1], backward[0]])[None]),
    ):
        require(
            found.shape == expected.shape and float(np.abs(found - expected).max()) <= 2e-7,
            f"the table of appendix A at {precision!r}, {what}: expected within 2e-7",
            expected=expected,
            received=found,
        )


@law("BI-2", "BI-3", tier="smoke")
def the_table_of_the_appendix(subject: Subject) -> None:
    """The bidirectional LSTM of appendix A gives its numbers."""
    _seed_table(subject, "highest")


@law("PREC-2", "BI-3", needs=("tf32",))
def the_table_of_the_appendix_in_tf32(subject: Subject) -> None:
    """The bidirectional LSTM of appendix A gives its numbers at `tf32`."""
    _seed_table(subject, "tf32")


MERGES: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "concat": lambda f, b: np.concatenate([f, b], -1),
    "sum": lambda f, b: f + b,
    "mul": lambda f, b: f * b,
    "ave": lambda f, b: (f + b) / 2,
}


def _merging(mode: str, sequences: bool, mask_output: str = "zero") -> Bidirectional:
    cell = GRU(UNITS, return_sequences=sequences, return_state=True, mask_output=mask_output)
    return Bidirectional(cell, merge_mode=mode)


@law("BI-4", needs=("masks",), over={mode: mode for mode in MERGES})
def a_merge_is_made_of_the_two_outputs(subject: Subject, mode: str) -> None:
    """Each mode gives its function of what the members emit; states stay apart."""
    drawn = draw(subject, _merging("none", True), "merges", mask="holes")
    for sequences, mask_output in ((True, "zero"), (True, "carry"), (False, "zero")):
        call = drawn.but(layer=_merging(mode, sequences, mask_output))
        apart = outputs_of(subject, call.but(layer=_merging("none", sequences, mask_output)))
        expected = {"y": MERGES[mode](apart.pop("forward_y"), apart.pop("backward_y"))} | apart
        what = f"merge_mode={mode!r}, return_sequences={sequences}, mask_output={mask_output!r}"
        require_alike(outputs_of(subject, call), expected, call, what)


@law("BI-4")
def unequal_units_cannot_be_added(subject: Subject) -> None:
    """`sum`, `mul` and `ave` of unequal units are errors; `concat` has the sum of the sizes."""
    for mode in ("sum", "mul", "ave"):
        with require_error(SpecError, f"merge_mode={mode!r} of unequal units", mode):
            Bidirectional(LSTM(UNITS), merge_mode=mode, backward_layer=LSTM(UNITS + 1))
    layer = Bidirectional(LSTM(UNITS), backward_layer=GRU(UNITS + 1))
    call = draw(subject, layer, "unequal units", state=False)
    y = outputs_of(subject, call)["y"]
    require(
        y.shape == (len(call.x), 2 * UNITS + 1),
        f"{layer}: expected {2 * UNITS + 1} units, received shape {y.shape}",
        expected=(len(call.x), 2 * UNITS + 1),
        received=y.shape,
    )


@law("BI-4")
def none_keeps_the_two_apart(subject: Subject) -> None:
    """With `none` there are two outputs, the forward one first; `None` means the same."""
    layer = Bidirectional(SimpleRNN(UNITS), merge_mode="none")
    call = draw(subject, layer, "apart", state=False)
    weights = {
        name: np.zeros_like(value) if name.startswith("backward.") else value
        for name, value in call.weights.items()
    }
    found = flat(subject.apply(layer, weights, call.x))
    require(len(found) == 2, f"{layer}: expected two outputs, received {len(found)}")
    require(
        bool(found[0].any()) and not found[1].any(),
        f"{layer} with backward weights of zero: expected the output of zeros second",
        received=found[1],
    )
    again = flat(subject.apply(Bidirectional(SimpleRNN(UNITS), None), weights, call.x))
    for one, two in zip(again, found, strict=True):
        require_bits(one, two, f"{layer} given as None")
    require(
        "backward.kernel" in layer.weight_shapes(FEATURES), f"{layer}: expected backward weights"
    )
