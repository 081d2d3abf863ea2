"""Laws of masks (clauses MASK): what a masked step must leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.agreement import require_alike, require_same
from seqcore.conformance.calls import (
    CELLS,
    FEW,
    LATER,
    MAIN,
    OTHERS,
    SMOKE,
    Call,
    Named,
    draw,
    gates_of,
    gradients_of,
    implementations,
    outputs_of,
    results_of,
)
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.model import MaskPattern
from seqcore.conformance.subject import Subject
from seqcore.errors import MaskError
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional
from seqcore.spec.outputs import state_names

BACKWARDS = LSTM(2, return_sequences=True, return_state=True, go_backwards=True)
KEPT = GRU(2, return_sequences=True, return_state=True, go_backwards=True, keep_order=True)
READING_LATER = {**LATER, "backwards": BACKWARDS, "backwards_keep_order": KEPT}
READING = {**SMOKE, **READING_LATER}

UNUSUAL = np.array(
    [[-0.0, 1e-40], [np.inf, np.nan], [3.4e38, -np.inf]],
    np.float32,
)
"""State values that arithmetic changes and a copy does not; 1e-40 is subnormal."""

POISON = {
    "NaN": np.nan,
    "inf": np.inf,
    "-inf": -np.inf,
    "3e38": 3e38,
    "1": 1.0,
}


@law("MASK-1", needs=("masks",), over=MAIN)
def a_mask_of_all_true_gives_what_no_mask_gives(subject: Subject, layer: AnyLayer) -> None:
    """No mask means that every step is valid."""
    call = draw(subject, layer, "mask of all True")
    found = results_of(subject, call.masked(call.valid))
    require_alike(found, results_of(subject, call), call, f"{layer} with a mask of all True")


@law("MASK-1", needs=("masks",), over=MAIN)
def masked_steps_may_lie_anywhere(subject: Subject, layer: AnyLayer) -> None:
    """Moving all masked steps of a row behind the valid ones moves results and changes none."""
    patterns: tuple[MaskPattern, ...] = ("left", "holes", "dead_row", "all")
    for pattern in patterns:
        call = draw(subject, layer, f"moved steps, {pattern}", mask=pattern)
        order = np.argsort(~call.valid, axis=1, kind="stable")
        moved = call.masked(_taken(call.valid, order)).but(
            x=_taken(call.x, order),
            cotangents=tuple(_moved(d, order) for d in call.cotangents),
        )
        found = {name: _moved(v, order) for name, v in results_of(subject, call).items()}
        expected = results_of(subject, moved)
        require_alike(found, expected, call, f"{layer}, masked steps {pattern!r}")


@law("MASK-1", "MASK-5", needs=("masks",), over=MAIN)
def a_row_may_have_no_valid_step(subject: Subject, layer: AnyLayer) -> None:
    """Beside rows that have some, its state stays the initial one, bit for bit."""
    call = draw(subject, layer, "a row without a valid step", mask="dead_row")
    valid = call.valid.copy()
    valid[1:, 2] = True
    found = outputs_of(subject, call.masked(valid))
    for name, value in zip(state_names(layer), call.state, strict=True):
        what = f"{layer}, no valid step in row 0: {name}"
        require_bits(found[name][0], value[0], what)
        require(
            bool((found[name][1:] != value[1:]).all()),
            f"{what}: expected other rows to have another state than at first",
            received=found[name],
        )


@law("MASK-2", needs=("masks",), over={**FEW, "backwards": BACKWARDS})
def lengths_stand_for_a_mask(subject: Subject, layer: AnyLayer) -> None:
    """Lengths, 0 and the whole time among them, give what the mask they stand for gives."""
    call = draw(subject, layer, "lengths")
    lengths = [5, 0, 2]
    masked = call.masked(np.arange(5) < np.array(lengths)[:, None])
    expected = results_of(subject, masked)
    for kind in (np.int64, np.int32, np.uint8):
        given = call.giving(lengths=np.array(lengths, kind))
        found = results_of(subject, given)
        require_alike(found, expected, masked, f"{layer} with lengths {lengths} of {kind.__name__}")
    found = results_of(subject, call.giving(lengths=lengths))
    require_alike(found, expected, masked, f"{layer} with the list of lengths {lengths}")


@law("MASK-2", "ERR-5", needs=("masks",))
def mask_and_lengths_exclude_each_other(subject: Subject) -> None:
    """Together they are an error, also where they say the same."""
    call = draw(subject, CELLS["lstm"], "mask and lengths", mask="right")
    both = call.giving(lengths=call.valid.sum(1))
    with require_error(MaskError, f"{call.layer} with mask and lengths"):
        outputs_of(subject, both)


@law("MASK-3", "MASK-6", needs=("masks",), over=FEW)
def more_padding_changes_nothing(subject: Subject, layer: AnyLayer) -> None:
    """Masked steps put before and after a sequence change no state, output or gradient."""
    call = draw(subject, layer, "more padding", mask="holes")
    before, after = 2, 1
    steps = slice(before, before + call.x.shape[1])

    def padded(array: Any, value: Any) -> Any:
        around = ((0, 0), (before, after), (0, 0))[: array.ndim]
        return np.pad(array, around, constant_values=value)

    longer = call.masked(padded(call.valid, False)).but(
        x=padded(call.x, np.float32(7.5)),
        cotangents=tuple(padded(d, 1.0) if d.ndim == 3 else d for d in call.cotangents),
    )
    found = results_of(subject, longer)
    cut = {name: value[:, steps] if value.ndim == 3 else value for name, value in found.items()}
    require_alike(cut, results_of(subject, call), call, f"{layer} with more padding")


@law("MASK-3", "MASK-5", tier="smoke", needs=("masks",), over=SMOKE)
@law("MASK-3", "MASK-5", needs=("masks",), over=READING_LATER)
def a_row_without_a_valid_step_keeps_its_state(subject: Subject, layer: AnyLayer) -> None:
    """Its final state has the bits of the initial one, whatever numbers they are."""
    call = draw(subject, layer, "no valid step", mask="all")
    state = tuple(UNUSUAL.copy() for _ in call.state)
    with np.errstate(all="ignore"):  # an engine may compute what it then does not take
        found = outputs_of(subject, call.giving(initial_state=state))
    for name, value in zip(state_names(layer), state, strict=True):
        require_bits(found[name], value, f"{layer}, no valid step: {name}")


@law("MASK-3", "GATES-3", needs=("masks", "gates"), over=MAIN)
def every_state_is_carried(subject: Subject, layer: AnyLayer) -> None:
    """Where a step is masked each state, the cell state too, has the bits of the step before."""
    call = draw(subject, layer, "carried states", mask="dead_row")
    shown = gates_of(subject, call)
    prefixes = ("forward.", "backward.") if isinstance(layer, Bidirectional) else ("",)
    for name, initial in zip(state_names(layer), call.state, strict=True):
        key = name.replace("_", ".")
        backward = key.startswith(prefixes[-1]) and prefixes[-1] == "backward."
        turn = slice(None, None, -1 if backward else 1)
        _require_carried(shown[key][:, turn], call.valid[:, turn], initial, f"{layer}: {key}")


@law("MASK-4", needs=("masks",), over=READING)
def masked_outputs_are_zero(subject: Subject, layer: AnyLayer) -> None:
    """With `mask_output="zero"` the output is 0 there, also where the carried state is NaN."""
    call = draw(subject, layer, "zero outputs", mask="dead_row")
    state = tuple(np.array(h) for h in call.state)
    for h in state:
        h[0] = np.nan, np.inf  # of the row without a valid step
    y = outputs_of(subject, call.giving(initial_state=state))["y"]
    masked = ~_of_output(layer, call.valid)
    require(
        bool((y[masked] == 0).all()),
        f"{layer}: expected outputs of exactly 0 at masked steps",
        expected=0.0,
        received=y[masked],
    )
    require(
        bool((y[~masked] != 0).all()),
        f"{layer}: expected outputs other than 0 at valid steps",
        received=y[~masked],
    )


def _carrying(layer: Any) -> AnyLayer:
    """Return a cell or bidirectional layer that emits the carried `h` at masked steps."""
    fields: dict[str, Any] = {"mask_output": "carry"}
    if isinstance(layer, Bidirectional):
        fields = {"layer": layer.layer.replace(**fields)}
    found: AnyLayer = layer.replace(**fields)
    return found


CARRYING = {
    "lstm_carry": _carrying(MAIN["lstm"]),
    "bidirectional_carry": _carrying(MAIN["bidirectional"]),
    "backwards_carry": _carrying(BACKWARDS),
}
MORE_CARRYING = {
    "gru_carry": _carrying(MAIN["gru"]),
    "rnn_carry": _carrying(CELLS["rnn"]),
    "backwards_keep_order_carry": _carrying(KEPT),
}


@law("MASK-4", "MASK-3", needs=("masks",), over=CARRYING)
def masked_outputs_are_the_carried_h(subject: Subject, layer: AnyLayer) -> None:
    """With `mask_output="carry"` it is the `h` before, at first the initial one, bit for bit."""
    _require_carried_outputs(subject, layer)


@law("MASK-4", "MASK-3", tier="full", needs=("masks",), over=MORE_CARRYING)
def masked_outputs_of_others_are_the_carried_h(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers."""
    _require_carried_outputs(subject, layer)


def _require_carried_outputs(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "carried outputs", mask="dead_row")
    y = outputs_of(subject, call)["y"]
    initial = dict(zip(state_names(layer), call.state, strict=True))
    for name, sequence, valid in _in_processing_order(layer, y, call.valid):
        _require_carried(sequence, valid, initial[name], f"{layer}: y against {name}")


ONE_STEP = {
    "lstm": LSTM(2, return_state=True),
    "lstm_carry": LSTM(2, return_state=True, mask_output="carry"),
    "gru": GRU(2, return_state=True),
    "backwards": LSTM(2, return_state=True, go_backwards=True),
    "bidirectional": Bidirectional(LSTM(2, return_state=True)),
}


@law("MASK-5", needs=("masks",), over=ONE_STEP)
def one_step_is_the_last_valid_one(subject: Subject, layer: AnyLayer) -> None:
    """Without sequences the output is `h` of the last valid step, else the initial `h`."""
    call = draw(subject, layer, "one step", mask="dead_row")
    found = outputs_of(subject, call)
    names = [name for name in state_names(layer) if name.endswith("h")]
    require_bits(
        found["y"],
        np.concatenate([found[name] for name in names], -1),
        f"{layer}: y against the returned {' and '.join(names)}",
    )
    initial = dict(zip(state_names(layer), call.state, strict=True))
    require_bits(
        found["y"][0],
        np.concatenate([initial[name][0] for name in names]),
        f"{layer}: y of the row without a valid step, against the initial h",
    )
    flags = {"return_sequences": True}
    member = layer.layer if isinstance(layer, Bidirectional) else layer
    whole = layer.replace(**({"layer": member.replace(**flags)} if member is not layer else flags))
    sequence = outputs_of(subject, call.but(layer=whole))["y"]
    alone = [call.row(row) for row in range(len(call.x))]
    for part, (name, y, valid) in enumerate(_in_processing_order(whole, sequence, call.valid)):
        units = slice(part * 2, part * 2 + 2)
        for row in np.flatnonzero(valid.any(1)).tolist():
            last = int(np.flatnonzero(valid[row])[-1])
            one = {"y": found["y"][row, units]}
            require_alike(one, {"y": y[row, last]}, alone[row], f"{layer}: row {row}, {name}")


@law(
    "MASK-5",
    needs=("masks",),
    over={name: ONE_STEP[name] for name in ("lstm", "gru", "backwards")},
)
def masked_steps_at_the_end_change_nothing(subject: Subject, layer: AnyLayer) -> None:
    """Moved before the valid ones, in processing order, they leave output and state the same."""
    call = draw(subject, layer, "masked steps at the end", mask="holes")
    backwards = layer == ONE_STEP["backwards"]
    order = np.argsort(~call.valid if backwards else call.valid, axis=1, kind="stable")
    moved = call.masked(_taken(call.valid, order)).but(x=_taken(call.x, order))
    found, expected = outputs_of(subject, call), outputs_of(subject, moved)
    what = f"{layer}: masked steps after the last valid one, against none there"
    require_alike(found, expected, call, what)


@law("MASK-6", tier="smoke", needs=("masks",), over=SMOKE)
@law("MASK-6", needs=("masks",), over=LATER)
def values_under_the_mask_do_not_matter(subject: Subject, layer: AnyLayer) -> None:
    """Whatever `x` is at masked steps, all results and gradients have the same bits."""
    _require_unpoisoned(subject, draw(subject, layer, "under the mask", mask="dead_row"))


@law("MASK-6", tier="full", needs=("masks", "gradients"), over=CELLS)
def values_under_the_mask_matter_to_no_implementation(subject: Subject, layer: AnyLayer) -> None:
    """The same for every implementation that takes the call."""
    call = draw(subject, layer, "under the mask", mask="dead_row")
    for _, forced in implementations(subject, call, gradient=True):
        _require_unpoisoned(subject, forced)


@law("MASK-6", needs=("masks",), over={"carry": CARRYING["bidirectional_carry"]})
def values_under_the_mask_are_not_emitted(subject: Subject, layer: AnyLayer) -> None:
    """The same where `h` is emitted at masked steps."""
    _require_unpoisoned(subject, draw(subject, layer, "under the mask", mask="dead_row"))


RELU = LSTM(2, activation="relu", return_sequences=True, return_state=True)


@law("MASK-6", tier="full", needs=("masks",), over={**OTHERS, "relu": RELU})
def values_under_the_mask_do_not_matter_to_others(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers, and for an activation without a bound."""
    _require_unpoisoned(subject, draw(subject, layer, "under the mask", mask="dead_row"))


@law("MASK-6", "GATES-3", needs=("masks", "gates"), over={"lstm": CELLS["lstm"]})
def values_under_the_mask_are_not_shown(subject: Subject, layer: AnyLayer) -> None:
    """Gates and states at every step have the same bits, too."""
    call = draw(subject, layer, "under the mask, gates", mask="dead_row")
    expected = gates_of(subject, call.but(x=_filled(call, 0.0)))
    for name, value in POISON.items():
        found = gates_of(subject, call.but(x=_filled(call, value)))
        require_same(found, expected, f"{layer}, x is {name} at masked steps")


@law("MASK-7", needs=("masks", "gradients"), over=READING)
def masked_input_has_no_gradient(subject: Subject, layer: AnyLayer) -> None:
    """It is exactly 0 there, and not at valid steps."""
    _require_no_gradient_of_masked_input(subject, layer)


@law("MASK-7", tier="full", needs=("masks", "gradients"), over=OTHERS)
def masked_input_of_others_has_no_gradient(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers."""
    _require_no_gradient_of_masked_input(subject, layer)


def _require_no_gradient_of_masked_input(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "gradient of masked input", mask="dead_row")
    for value in (0.0, np.nan):
        d_x = gradients_of(subject, call.but(x=_filled(call, value)))["gradient of x"]
        require(
            bool((d_x[~call.valid] == 0).all()),
            f"{layer}: expected a gradient of exactly 0 for masked input that is {value}",
            expected=0.0,
            received=d_x[~call.valid],
        )
        require(
            bool((d_x[call.valid] != 0).all()),
            f"{layer}: expected a gradient other than 0 for input at valid steps",
            received=d_x[call.valid],
        )


@law("MASK-8", needs=("masks", "gradients"), over={**MAIN, **CARRYING})
def cotangents_pass_masked_steps_unchanged(subject: Subject, layer: AnyLayer) -> None:
    """Without a valid step they reach the initial state as they are, those of a carried `y` added.

    The cotangents are small integers, so that their sums are exact.
    """
    _require_passing_cotangents(subject, layer)


@law("MASK-8", tier="full", needs=("masks", "gradients"), over={**OTHERS, **MORE_CARRYING})
def cotangents_pass_masked_steps_of_others_unchanged(subject: Subject, layer: AnyLayer) -> None:
    """The same for further layers."""
    _require_passing_cotangents(subject, layer)


def _require_passing_cotangents(subject: Subject, layer: AnyLayer) -> None:
    call = draw(subject, layer, "cotangents without a valid step", mask="all")
    random = subject.random("integer cotangents")
    d_y, *d_state = (random.integers(-9, 10, d.shape).astype(np.float32) for d in call.cotangents)
    found = gradients_of(subject, call.but(cotangents=(d_y, *d_state)))
    expected = dict(zip(state_names(layer), d_state, strict=True))
    if _carries(layer):
        for name, d, _ in _in_processing_order(layer, d_y, call.valid):
            expected[name] = expected[name] + d.sum(1)
    for name, value in expected.items():
        require_bits(
            found[f"gradient of initial_state.{name}"],
            value,
            f"{layer}, no valid step: the gradient of the initial {name}",
        )


@law("MASK-8", needs=("masks", "gradients"), over=MAIN)
def cotangents_of_zeros_have_no_effect(subject: Subject, layer: AnyLayer) -> None:
    """Where an output was set to 0 its cotangent may be anything, NaN too."""
    call = draw(subject, layer, "cotangents of zeros", mask="dead_row")
    d_y, *d_state = call.cotangents
    masked = ~_of_output(layer, call.valid)[:, :, None]

    def gradients(value: float) -> Named:
        filled = np.where(masked, np.float32(value), d_y)
        return gradients_of(subject, call.but(cotangents=(filled, *d_state)))

    expected = gradients(0.0)
    for name, value in POISON.items():
        require_same(gradients(value), expected, f"{layer}, cotangents of masked outputs {name}")


@law("MASK-8", needs=("masks", "gradients"), over=CARRYING)
def cotangents_reach_the_last_valid_step(subject: Subject, layer: AnyLayer) -> None:
    """Those of carried outputs and of the final `h` act as if given at the last valid step."""
    call = draw(subject, layer, "cotangents of carried outputs", mask="dead_row")
    d_y, *given = call.cotangents
    d_state = dict(zip(state_names(layer), given, strict=True))
    gathered = np.zeros_like(d_y)
    arrived = {}
    views = _in_processing_order(layer, gathered, call.valid)
    for (name, d, valid), (_, target, _) in zip(
        _in_processing_order(layer, d_y, call.valid), views, strict=True
    ):
        arrived[name] = _gather(d, valid, d_state[name], target)
        d_state[name] = np.zeros_like(d_state[name])
    found = gradients_of(subject, call)
    moved = call.but(cotangents=(gathered, *(d_state[name] for name in state_names(layer))))
    expected = gradients_of(subject, moved)
    for name, value in arrived.items():
        expected[f"gradient of initial_state.{name}"] = (
            expected[f"gradient of initial_state.{name}"] + value
        )
    require_alike(found, expected, call, f"{layer}, cotangents moved to the last valid step")


def _gather(
    d: NDArray[Any], valid: NDArray[np.bool_], d_final: NDArray[Any], target: NDArray[Any]
) -> NDArray[Any]:
    """Write cotangents of `h` to the steps at which it was made; return what precedes them all."""
    pending = d_final.copy()
    for step in reversed(range(d.shape[1])):
        pending += d[:, step]
        made = valid[:, step, None]
        target[:, step] = np.where(made, pending, 0)
        pending = np.where(made, 0, pending)
    return pending


def _require_unpoisoned(subject: Subject, call: Call) -> None:
    expected = results_of(subject, call.but(x=_filled(call, 0.0)))
    for name, value in POISON.items():
        found = results_of(subject, call.but(x=_filled(call, value)))
        require_same(found, expected, f"{call.layer}, x is {name} at masked steps")
    require(
        all(bool(np.isfinite(value).all()) for value in expected.values()),
        f"{call.layer}: expected finite results",
        received={name for name, value in expected.items() if not np.isfinite(value).all()},
    )


def _filled(call: Call, value: float) -> NDArray[Any]:
    """Return the input with one value at all masked steps."""
    return np.where(call.valid[:, :, None], call.x, np.asarray(value, call.x.dtype))


def _require_carried(
    sequence: NDArray[Any], valid: NDArray[np.bool_], initial: NDArray[Any], what: str
) -> None:
    """Depart unless a state in processing order has, where masked, the bits of the step before."""
    before = np.concatenate([initial[:, None], sequence[:, :-1]], 1)
    require_bits(sequence[~valid], before[~valid], f"{what}, at masked steps")


def _carries(layer: AnyLayer) -> bool:
    member = layer.layer if isinstance(layer, Bidirectional) else layer
    return getattr(member, "mask_output", "zero") == "carry"


def _of_output(layer: AnyLayer, valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the mask in the order of the steps of `y`."""
    return valid[:, ::-1] if layer == BACKWARDS else valid


def _in_processing_order(
    layer: AnyLayer, sequence: NDArray[Any], valid: NDArray[np.bool_]
) -> list[tuple[str, NDArray[Any], NDArray[np.bool_]]]:
    """Return for each cell the name of its `h`, and views of its steps and mask as it read them."""
    if isinstance(layer, Bidirectional):
        units = layer.forward.units
        return [
            ("forward_h", sequence[..., :units], valid),
            ("backward_h", sequence[:, ::-1, units:], valid[:, ::-1]),
        ]
    if getattr(layer, "keep_order", False):
        return [("h", sequence[:, ::-1], valid[:, ::-1])]
    if getattr(layer, "go_backwards", False):
        return [("h", sequence, valid[:, ::-1])]
    return [("h", sequence, valid)]


def _taken(array: NDArray[Any], order: NDArray[np.intp]) -> NDArray[Any]:
    index = order[:, :, None] if array.ndim == 3 else order
    return np.take_along_axis(array, index, 1)


def _moved(array: NDArray[Any], order: NDArray[np.intp]) -> NDArray[Any]:
    """Return a sequence with its steps moved; what has no steps, as it is."""
    return _taken(array, order) if array.ndim == 3 else array
