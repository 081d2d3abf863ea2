"""Masks: which steps act, what is carried, what never leaks, and the laws that follow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    FEATURES,
    LENGTHS,
    MASKS,
    MERGES,
    TIME,
    UNITS,
    Case,
    assert_close,
    assert_same_bits,
    composites,
    each_implementation,
    flat,
    gradient_arrays,
    needs,
    random_cotangents,
)

EPS = 100
PATTERNS = [name for name in MASKS if name != "none"]


def cell_cases(mask: str, **fields: Any) -> list[Case]:
    return [
        Case(f"{name}-{mask}-{sorted(fields)}", cell(**BOTH, **fields), mask, state=True)
        for name, cell in CELLS.items()
    ]


def masked_cases() -> list[Case]:
    """Every cell and direction, in every return form, and composites; one row has no step."""
    cases = []
    for name, cell in CELLS.items():
        for sequences, state in itertools.product((False, True), repeat=2):
            flags = {"return_sequences": sequences, "return_state": state}
            for output in ("zero", "carry"):
                form = f"{name}-{sequences}-{state}-{output}"
                one = cell(mask_output=output, **flags)
                cases.append(Case(form, one, "dead_row", True))
                cases.append(Case(f"{form}-b", sc.Bidirectional(one), "dead_row", True))
        cases.append(Case(f"{name}-r", cell(go_backwards=True, **BOTH), "holes", True))
        cases += [
            Case(f"{name}-{merge}-m", sc.Bidirectional(cell(**BOTH), merge), "left", True)
            for merge in MERGES
            if merge != "concat"
        ]
    return cases + [case for case in composites() if case.mask != "none"]


@pytest.mark.clause("MASK-1")
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("none")))
def test_no_mask_is_a_mask_of_all_true(case: Case, name: str) -> None:
    weights, x, others = case.arguments()
    others["implementation"] = name
    plain = case.layer.apply(weights, x, **others)
    others["mask"] = np.ones((BATCH, TIME), bool)
    for one, two in zip(plain, case.layer.apply(weights, x, **others), strict=True):
        assert_close(one, two, 4)


@pytest.mark.clause("MASK-1")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", CELLS)
def test_a_row_is_its_valid_steps_alone(name: str, pattern: str) -> None:
    """Any pattern: dropping the masked steps of a row gives the same state and outputs."""
    case = Case(f"{name}-{pattern}-drop", CELLS[name](**BOTH), pattern, True)
    weights, x, others = case.arguments()
    y, *states = case.layer.apply(weights, x, **others)
    for row, valid in enumerate(others["mask"]):
        own = [value[row : row + 1] for value in others["initial_state"]]
        alone = case.layer.apply(weights, x[row : row + 1, valid], initial_state=own)
        assert_close(y[row, valid], alone.y[0], EPS)
        assert not y[row, ~valid].any()
        for state, other in zip(states, alone[1:], strict=True):
            assert_close(state[row], other[0], EPS)


@pytest.mark.clause("MASK-2")
@pytest.mark.parametrize("lengths", [LENGTHS, [0, 5, 1], np.array([3, 0, 0], np.uint8)])
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("right")[:4]))
def test_lengths_stand_for_a_mask(case: Case, name: str, lengths: Any) -> None:
    weights, x, others = case.arguments()
    others["implementation"] = name
    others["mask"] = np.arange(TIME) < np.asarray(lengths, int)[:, None]
    by_mask = case.layer.apply(weights, x, **others)
    del others["mask"]
    by_lengths = case.layer.apply(weights, x, lengths=lengths, **others)
    for one, two in zip(by_mask, by_lengths, strict=True):
        assert_close(one, two, 4)
    both = sc.Bidirectional(case.layer)
    weights, x, _ = Case("lengths both", both).arguments()
    mask = np.arange(TIME) < np.asarray(lengths, int)[:, None]
    for one, two in zip(
        both.apply(weights, x, lengths=lengths), both.apply(weights, x, mask=mask), strict=True
    ):
        assert_close(one, two, 4)


@pytest.mark.clause("MASK-3")
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize(
    ("case", "name"), each_implementation(cell_cases("holes", mask_output="carry"))
)
def test_a_masked_step_carries_the_state_bit_for_bit(case: Case, name: str, dtype: str) -> None:
    needs(name, case.layer, dtype=dtype, mask="any")
    weights, x, others = case.arguments(dtype)
    del others["mask"]
    for k in range(TIME):
        before = case.layer.apply(
            weights, x[:, :k], mask=np.ones((BATCH, k), bool), implementation=name, **others
        )
        mask = np.arange(k + 1) < np.array([[k], [k], [k + 1]])
        after = case.layer.apply(weights, x[:, : k + 1], mask=mask, implementation=name, **others)
        for one, two in zip(before[1:], after[1:], strict=True):
            assert_same_bits(two[:2], one[:2])
        assert_same_bits(after.y[:2, k], before.h[:2])
        assert after.h[2].tobytes() != before.h[2].tobytes()


@pytest.mark.clause("MASK-4")
@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("none")))
def test_the_output_at_a_masked_step(case: Case, name: str, pattern: str) -> None:
    weights, x, others = case.arguments()
    mask = others["mask"] = MASKS[pattern]
    others["implementation"] = name
    zero = case.layer.apply(weights, x, **others).y
    carry = case.layer.replace(mask_output="carry").apply(weights, x, **others).y
    assert case.layer.mask_output == "zero"
    assert not zero[~mask].any()
    assert_close(zero[mask], carry[mask], 4)
    for row in range(BATCH):
        held = others["initial_state"][0][row]
        for t in range(TIME):
            if mask[row, t]:
                held = carry[row, t]
            assert_same_bits(carry[row, t], held)


@pytest.mark.clause("MASK-5")
@pytest.mark.parametrize("output", ["zero", "carry"])
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("dead_row")))
def test_one_step_under_a_mask(case: Case, name: str, output: str) -> None:
    weights, x, others = case.arguments()
    others["implementation"] = name
    sequence = case.layer.replace(mask_output="carry").apply(weights, x, **others).y
    one = case.layer.replace(return_sequences=False, mask_output=output)
    y, *state = one.apply(weights, x, **others)
    assert_close(y, sequence[:, -1], 4)
    assert_same_bits(y, state[0])
    dead = np.flatnonzero(~others["mask"].any(1))
    assert len(dead) == 1
    for value, initial in zip(state, others["initial_state"], strict=True):
        assert_same_bits(value[dead], initial[dead])
    del others["initial_state"]
    for value in one.apply(weights, x, **others):
        assert not value[dead].any()


@pytest.mark.clause("MASK-6")
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize(("case", "name"), each_implementation(masked_cases()))
def test_values_under_the_mask_reach_no_output(case: Case, name: str, poison: float) -> None:
    weights, x, others = case.arguments()
    others["implementation"] = name
    clean = x.copy()
    clean[~others["mask"]] = 0
    x[~others["mask"]] = poison
    found, expected = (case.layer.apply(weights, each, **others) for each in (x, clean))
    for one, two in zip(flat(found), flat(expected), strict=True):
        assert_same_bits(one, two)


@pytest.mark.clause("MASK-6")
@pytest.mark.clause("MASK-7")
@pytest.mark.parametrize(("case", "name"), each_implementation(masked_cases(), "yes"))
def test_values_under_the_mask_reach_no_gradient(case: Case, name: str) -> None:
    weights, x, others = case.arguments()
    others["implementation"] = name
    masked = ~others["mask"]
    clean = x.copy()
    clean[masked] = 0
    x[masked] = np.where(np.arange(FEATURES) % 2, np.nan, np.inf)
    results = []
    for each in (x, clean):
        outputs, pullback = case.layer.vjp(weights, each, **others)
        cotangents = random_cotangents(outputs, np.random.default_rng(1))
        results.append((outputs, gradient_arrays(pullback(cotangents))))
    for one, two in zip(flat(results[0][0]), flat(results[1][0]), strict=True):
        assert_same_bits(one, two)
    for key, value in results[1][1].items():
        assert_same_bits(results[0][1][key], value)
    assert not results[0][1]["x"][masked].any()
    assert results[0][1]["x"][~masked].all() or "relu" in case.id


@pytest.mark.clause("MASK-8")
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("none"), "yes"))
def test_a_cotangent_passes_a_masked_step_unchanged(case: Case, name: str) -> None:
    """Over masked steps only, the initial state's gradient is the final state's cotangent."""
    weights, x, others = case.arguments()
    others |= {"mask": MASKS["all"], "implementation": name}
    outputs, pullback = case.layer.vjp(weights, x, **others)
    d_y, *d_state = random_cotangents(outputs, np.random.default_rng(2))
    found = pullback((d_y, *d_state))
    for mine, given in zip(found.initial_state, d_state, strict=True):
        assert_same_bits(mine, given)
    assert not any(value.any() for value in found.weights.values())
    carry = case.layer.replace(mask_output="carry")
    _, pullback = carry.vjp(weights, x, **others)
    d_h, *d_rest = pullback((d_y, *d_state)).initial_state
    assert_close(d_h, d_state[0] + d_y.sum(1), 8)
    for mine, given in zip(d_rest, d_state[1:], strict=True):
        assert_same_bits(mine, given)


@pytest.mark.clause("MASK-8")
@pytest.mark.parametrize(("case", "name"), each_implementation(cell_cases("holes"), "yes"))
def test_a_cotangent_of_a_zeroed_output_has_no_effect(case: Case, name: str) -> None:
    """Not even a NaN; and it would have, were the output carried."""
    weights, x, others = case.arguments()
    others["implementation"] = name
    masked = ~others["mask"]
    outputs, pullback = case.layer.vjp(weights, x, **others)
    d_y, *d_state = random_cotangents(outputs, np.random.default_rng(3))
    first = gradient_arrays(pullback((d_y, *d_state)))
    changed = d_y.copy()
    changed[masked] = np.nan
    second = gradient_arrays(pullback((changed, *d_state)))
    for key, value in first.items():
        assert_same_bits(second[key], value)
    changed[masked] = 5.0
    _, carried = case.layer.replace(mask_output="carry").vjp(weights, x, **others)
    one, two = (carried((d, *d_state)).weights["kernel"] for d in (d_y, changed))
    assert np.abs(one - two).max() > 1e-3


# Laws.


@pytest.mark.clause("STATE-3")
@pytest.mark.parametrize("pattern", ["none", "holes", "dead_row", "left"])
@pytest.mark.parametrize("output", ["zero", "carry"])
@pytest.mark.parametrize("name", [*CELLS, "stack"])
def test_chunks_give_the_whole(name: str, output: str, pattern: str) -> None:
    if name == "stack":
        members = [
            sc.LSTM(2, return_sequences=True),
            sc.GRU(3, return_sequences=True, mask_output=output),
        ]
        layer: Any = sc.Stack(members, **BOTH)
    else:
        layer = CELLS[name](mask_output=output, **BOTH)
    case = Case(f"{name}-chunks", layer, pattern, True)
    weights, x, others = case.arguments()
    mask, state = others["mask"], others["initial_state"]
    whole = layer.apply(weights, x, **others)
    for k in range(TIME + 1):
        now = state
        parts = []
        for at in (slice(None, k), slice(k, None)):
            part = layer.apply(
                weights,
                x[:, at],
                mask=None if mask is None else mask[:, at],
                initial_state=now,
            )
            parts.append(part[0])
            now = part[1:]
        assert_close(np.concatenate(parts, 1), whole[0], EPS)
        for one, two in zip(now, whole[1:], strict=True):
            assert_close(one, two, EPS)


@pytest.mark.clause("MASK-5")
@pytest.mark.parametrize("name", CELLS)
def test_padding_on_either_side_changes_nothing(name: str) -> None:
    rng = np.random.default_rng(4)
    for layer in (CELLS[name](return_state=True), sc.Bidirectional(CELLS[name](return_state=True))):
        weights, x, _ = Case(f"{name}-pad", layer).arguments()
        plain = layer.apply(weights, x)
        for before, after in ((0, 3), (2, 0), (1, 4)):
            shape = (BATCH, before + TIME + after, FEATURES)
            padded, mask = rng.normal(size=shape), np.zeros(shape[:2], bool)
            padded[:, before : before + TIME] = x
            mask[:, before : before + TIME] = True
            for one, two in zip(layer.apply(weights, padded, mask=mask), plain, strict=True):
                assert_close(one, two, EPS)


@pytest.mark.clause("PURE-4")
@pytest.mark.parametrize("case", [*masked_cases()[::7], *composites()], ids=lambda case: case.id)
def test_rows_are_independent(case: Case) -> None:
    """A NaN or an infinity, in x or in a state, stays in its row; gradients of x too."""
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(5))
    plain = pullback(cotangents)
    x[1] = np.nan
    x[1, 2:] = np.inf
    if "initial_state" in others:
        others["initial_state"] = tuple(value.copy() for value in others["initial_state"])
        others["initial_state"][0][1] = -np.inf
    with np.errstate(all="ignore"):
        found, pullback = case.layer.vjp(weights, x, **others)
        applied = case.layer.apply(weights, x, **others)
        spoilt = pullback(cotangents)
    keep = [0, 2]
    for one, two, three in zip(flat(found), flat(outputs), flat(applied), strict=True):
        assert_close(one[keep], two[keep], EPS)
        assert_close(three[keep], two[keep], EPS)
    assert_close(spoilt.x[keep], plain.x[keep], EPS)
    for one, two in zip(spoilt.initial_state, plain.initial_state, strict=True):
        assert_close(one[keep], two[keep], EPS)


@pytest.mark.clause("PURE-4")
@pytest.mark.parametrize("name", CELLS)
def test_the_order_of_rows_does_not_matter(name: str) -> None:
    case = Case(f"{name}-rows", sc.Bidirectional(CELLS[name](**BOTH)), "holes", True)
    weights, x, others = case.arguments()
    order = [2, 0, 1]
    whole = case.layer.apply(weights, x, **others)
    turned = case.layer.apply(
        weights,
        x[order],
        mask=others["mask"][order],
        initial_state=[value[order] for value in others["initial_state"]],
    )
    for one, two in zip(whole, turned, strict=True):
        assert_close(two, one[order], EPS)


@pytest.mark.parametrize("pattern", ["none", "holes", "dead_row"])
@pytest.mark.parametrize("name", CELLS)
def test_reversing_twice_is_nothing(name: str, pattern: str) -> None:
    """Exchanging the directions' weights and reversing time exchanges the halves."""
    case = Case(f"{name}-twice", sc.Bidirectional(CELLS[name](**BOTH)), pattern)
    weights, x, others = case.arguments()
    mask = others["mask"]
    plain = case.layer.apply(weights, x, mask=mask)
    names = {"forward": "backward", "backward": "forward"}
    exchanged = {f"{names[n.split('.')[0]]}.{n.split('.')[1]}": v for n, v in weights.items()}
    turned = case.layer.apply(exchanged, x[:, ::-1], mask=None if mask is None else mask[:, ::-1])
    y = turned.y[:, ::-1]
    assert_close(np.concatenate([y[..., UNITS:], y[..., :UNITS]], -1), plain.y, EPS)
    assert_close(turned.forward_h, plain.backward_h, EPS)
    assert_close(turned.backward_h, plain.forward_h, EPS)


# Stacks.


@pytest.mark.clause("STACK-4")
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_mask_goes_along_reversed_where_the_steps_are(pattern: str) -> None:
    first, second = sc.LSTM(2, go_backwards=True, **BOTH), sc.GRU(3, **BOTH)
    members = [layer.replace(return_state=False) for layer in (first, second)]
    case = Case(f"along-{pattern}", sc.Stack(members, **BOTH), pattern)
    weights, x, others = case.arguments()
    mask = others["mask"]
    own = [
        {n.removeprefix(f"layers.{k}."): v for n, v in weights.items() if n[7] == str(k)}
        for k in range(2)
    ]
    found = case.layer.apply(weights, x, mask=mask)
    middle = first.apply(own[0], x, mask=mask)
    end = second.apply(own[1], middle.y, mask=mask[:, ::-1])
    for one, two in zip(found, (end.y, middle.h, middle.c, end.h), strict=True):
        assert_close(one, two, EPS)
    kept = case.layer.replace(layers=[members[0].replace(keep_order=True), members[1]])
    end = second.apply(own[1], middle.y[:, ::-1], mask=mask)
    assert_close(kept.apply(weights, x, mask=mask).y, end.y, EPS)


@pytest.mark.clause("STACK-1")
def test_a_stack_is_its_members_one_after_the_other() -> None:
    members = [
        sc.Bidirectional(sc.LSTM(2, return_sequences=True)),
        sc.GRU(3, return_sequences=True),
        sc.Bidirectional(sc.SimpleRNN(2, return_sequences=True), merge_mode="none"),
    ]
    case = Case("composition", sc.Stack(members, return_sequences=True))
    weights, x, _ = case.arguments()
    assert weights["layers.1.kernel"].shape == (4, 9)
    assert weights["layers.2.forward.kernel"].shape == (3, 2)
    value = x
    for index, member in enumerate(members):
        prefix = f"layers.{index}."
        own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        value = member.apply(own, value)
    for one, two in zip(case.layer.apply(weights, x), value, strict=True):
        assert_close(one, two, EPS)
    single = sc.Stack([sc.GRU(2)])
    weights, x, _ = Case("alone", single).arguments()
    own = {n.removeprefix("layers.0."): w for n, w in weights.items()}
    assert_close(single.apply(weights, x), sc.GRU(2).apply(own, x), 4)
