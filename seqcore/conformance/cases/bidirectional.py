"""Laws of bidirectional layers (clauses BI)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.samples import BOTH, FEATURES, FEW, UNITS, outputs_of, sample
from seqcore.conformance.subject import Subject
from seqcore.errors import SpecError
from seqcore.spec.layers import GRU, LSTM, AnyCell, Bidirectional, SimpleRNN

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


def members(layer: Bidirectional) -> tuple[tuple[str, AnyCell], tuple[str, AnyCell]]:
    """Return both members with their prefixes, as cells that return original time."""
    behind = layer.layer if layer.backward_layer is None else layer.backward_layer
    return (
        ("forward.", layer.layer),
        ("backward.", behind.replace(go_backwards=True, keep_order=True)),
    )


def below(weights: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return the weights below a prefix, without it."""
    return {
        name[len(prefix) :]: value for name, value in weights.items() if name.startswith(prefix)
    }


@law("BI-1", over=PAIRS)
def a_pair_is_its_two_members(subject: Subject, layer: Bidirectional) -> None:
    """Outputs and states are those of two cells over the same input, each with its weights."""
    given = sample(subject, layer, "two members", mask="holes")
    found = subject.apply(layer, given.weights, given.x, **given.given)
    y, states, rest = [], [], list(given.state)
    for prefix, cell in members(layer):
        mine, rest = rest[: len(cell.state_names)], rest[len(cell.state_names) :]
        alone = subject.apply(
            cell,
            below(given.weights, prefix),
            given.x,
            **(given.given | {"initial_state": tuple(mine)}),
        )
        y.append(alone[0])
        states += alone[1:]
    for name, one, two in zip(found._fields, found, [*y, *states], strict=True):
        require_close(one, two, FEW, f"{layer}: {name}")


@law("BI-1")
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
    given = sample(subject, one, "second cell")
    results = [
        subject.apply(layer, given.weights, given.x, initial_state=given.state)
        for layer in (one, two)
    ]
    for name, first, second in zip(results[0]._fields, *results, strict=True):
        require_close(second, first, FEW, f"{one} with an equal backward_layer: {name}")
    changed = {
        name: value + np.float32(name.startswith("backward."))
        for name, value in given.weights.items()
    }
    other = subject.apply(one, changed, given.x, initial_state=given.state)
    half = slice(0, UNITS)
    require_close(
        other.y[..., half],
        results[0].y[..., half],
        FEW,
        f"{one}: the forward half with other backward weights",
    )
    require(
        float(np.abs(other.y[..., UNITS:] - results[0].y[..., UNITS:]).max()) > 1e-3,
        f"{one}: expected another backward half with other backward weights",
        received=other.y,
    )


@law("BI-2", over={"whole": "none", "mask": "holes", "lengths": "lengths"})
def the_backward_member_reads_from_the_end(subject: Subject, mask: MaskPattern) -> None:
    """It is a forward cell over flipped input and mask, flipped back."""
    layer = UNMERGED
    given = sample(subject, layer, "from the end", mask=mask)
    found = subject.apply(layer, given.weights, given.x, **given.given)
    y, h, c = subject.apply(
        layer.layer,
        below(given.weights, "backward."),
        np.flip(given.x, 1),
        mask=np.flip(given.valid, 1),
        initial_state=given.state[2:],
    )
    require_close(found.backward_y, np.flip(y, 1), FEW, f"{layer}: backward_y")
    require_close(found.backward_h, h, FEW, f"{layer}: backward_h")
    require_close(found.backward_c, c, FEW, f"{layer}: backward_c")


@law("BI-2")
def each_direction_knows_its_own_past_alone(subject: Subject) -> None:
    """Step t of the forward half depends on no later step, of the backward half on no earlier."""
    layer = UNMERGED
    given = sample(subject, layer, "own past")
    first = subject.apply(layer, given.weights, given.x)
    middle = given.x.shape[1] // 2
    x = given.x.copy()
    x[:, middle] += 1
    other = subject.apply(layer, given.weights, x)
    forward = np.abs(other.forward_y - first.forward_y).max((0, 2)) > 1e-4
    backward = np.abs(other.backward_y - first.backward_y).max((0, 2)) > 1e-4
    steps = np.arange(x.shape[1])
    for name, changed, reached in (
        ("forward_y", forward, steps >= middle),
        ("backward_y", backward, steps <= middle),
    ):
        require(
            not (changed & ~reached).any() and bool(changed[middle]),
            f"{layer}: {name} after a change of step {middle}: expected other values at the "
            f"steps {steps[reached].tolist()} alone, received them at {steps[changed].tolist()}",
            expected=steps[reached].tolist(),
            received=steps[changed].tolist(),
        )


@law("BI-2")
def swapping_the_directions_flips_time(subject: Subject) -> None:
    """With members exchanged and the input flipped, the halves are exchanged and flipped."""
    layer = CONCATENATED
    given = sample(subject, layer, "swapped", mask="right")
    other = {"forward": "backward", "backward": "forward"}
    swapped = {
        f"{other[name.partition('.')[0]]}.{name.partition('.')[2]}": value
        for name, value in given.weights.items()
    }
    one = subject.apply(layer, given.weights, given.x, **given.given)
    two = subject.apply(
        layer,
        swapped,
        np.flip(given.x, 1),
        mask=np.flip(given.valid, 1),
        initial_state=given.state[2:] + given.state[:2],
    )
    y = np.flip(np.concatenate([two.y[..., UNITS:], two.y[..., :UNITS]], -1), 1)
    require_close(y, one.y, FEW, f"{layer}, directions swapped: y")
    for name, found, expected in zip(one._fields[1:], (*two[3:], *two[1:3]), one[1:], strict=True):
        require_close(found, expected, FEW, f"{layer}, directions swapped: {name}")


@law("BI-2")
def no_member_sets_go_backwards(subject: Subject) -> None:
    """A member that sets it is an error."""
    turned = LSTM(UNITS, go_backwards=True)
    with require_error(SpecError, "Bidirectional(layer) with go_backwards", "go_backwards"):
        Bidirectional(turned)
    with require_error(SpecError, "Bidirectional(backward_layer) with it", "go_backwards"):
        Bidirectional(LSTM(UNITS), backward_layer=turned)


@law("BI-3", over={"none": "none", "mask": "holes"})
def one_step_is_where_each_member_ends(subject: Subject, mask: MaskPattern) -> None:
    """It is the forward `h` after the last step and the backward `h` after the first."""
    given = sample(subject, CONCATENATED, "one step of a pair", mask=mask)

    def run(layer: Any) -> Any:
        return subject.apply(layer, given.weights, given.x, **given.given)

    one = run(Bidirectional(LSTM(UNITS)))
    whole = run(Bidirectional(LSTM(UNITS, mask_output="carry", **BOTH)))
    expected = np.concatenate([whole.y[:, -1, :UNITS], whole.y[:, 0, UNITS:]], -1)
    require_close(one, expected, FEW, "Bidirectional(LSTM): y of one step")
    ends = np.concatenate([whole.forward_h, whole.backward_h], -1)
    require_close(one, ends, FEW, "Bidirectional(LSTM): y of one step, from the state")
    require(
        float(np.abs(one - whole.y[:, -1]).max()) > 1e-3,
        "Bidirectional(LSTM): expected one step other than the last of the merged sequence",
        received=one,
    )


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


@law("BI-4", over={mode: mode for mode in MERGES})
def a_merge_is_made_of_the_two_outputs(subject: Subject, mode: str) -> None:
    """Each mode gives its function of what the members emit; states stay apart."""
    given = sample(subject, _merging("none", True), "merges", mask="holes")
    for sequences, mask_output in ((True, "zero"), (True, "carry"), (False, "zero")):
        apart, merged = (
            subject.apply(
                _merging(each, sequences, mask_output), given.weights, given.x, **given.given
            )
            for each in ("none", mode)
        )
        what = f"merge_mode={mode!r}, return_sequences={sequences}, mask_output={mask_output!r}"
        require_close(merged[0], MERGES[mode](apart[0], apart[1]), FEW, f"{what}: y")
        for name, one, two in zip(merged._fields[1:], merged[1:], apart[2:], strict=True):
            require_close(one, two, FEW, f"{what}: {name}")


@law("BI-4")
def unequal_units_cannot_be_added(subject: Subject) -> None:
    """`sum`, `mul` and `ave` of unequal units are errors; `concat` has the sum of the sizes."""
    for mode in ("sum", "mul", "ave"):
        with require_error(SpecError, f"merge_mode={mode!r} of unequal units", mode):
            Bidirectional(LSTM(UNITS), merge_mode=mode, backward_layer=LSTM(UNITS + 1))
    layer = Bidirectional(LSTM(UNITS), backward_layer=GRU(UNITS + 1))
    given = sample(subject, layer, "unequal units")
    y = subject.apply(layer, given.weights, given.x)
    require(
        y.shape == (len(given.x), 2 * UNITS + 1),
        f"{layer}: expected {2 * UNITS + 1} units, received shape {y.shape}",
        expected=(len(given.x), 2 * UNITS + 1),
        received=y.shape,
    )


@law("BI-4")
def none_keeps_the_two_apart(subject: Subject) -> None:
    """With `none` there are two outputs, the forward one first; `None` means the same."""
    layer = Bidirectional(SimpleRNN(UNITS), merge_mode="none")
    given = sample(subject, layer, "apart")
    same = dict(given.weights)
    for name in below(given.weights, "backward."):
        same[f"backward.{name}"] = np.zeros_like(same[f"backward.{name}"])
    found = outputs_of(subject.apply(layer, same, given.x))
    require(len(found) == 2, f"{layer}: expected two outputs, received {len(found)}")
    require(
        bool(found[0].any()) and not found[1].any(),
        f"{layer} with backward weights of zero: expected the output of zeros second",
        received=found[1],
    )
    again = outputs_of(subject.apply(Bidirectional(SimpleRNN(UNITS), None), same, given.x))
    for one, two in zip(again, found, strict=True):
        require_bits(one, two, f"{layer} given as None")
    require(
        "backward.kernel" in layer.weight_shapes(FEATURES), f"{layer}: expected backward weights"
    )
