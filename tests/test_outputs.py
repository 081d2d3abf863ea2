"""What a call returns: shapes, names, order, and that results of several parts pickle."""

from __future__ import annotations

import copy
import itertools
import pickle
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    Case,
    assert_close,
    assert_same_bits,
    composites,
    each_implementation,
    flat,
    random_state,
)

EPS = 50


def every_flag() -> list[Case]:
    """Cells and bidirectional layers with every pair of return flags."""
    return [
        Case(
            f"{name}-{both}-{sequences}-{state}",
            (sc.Bidirectional if both else lambda cell: cell)(
                cell(return_sequences=sequences, return_state=state)
            ),
        )
        for name, cell in CELLS.items()
        for both, sequences, state in itertools.product((False, True), repeat=3)
    ]


def run(case: Case, **fields: Any) -> Any:
    weights, x, others = case.arguments()
    return case.layer.replace(**fields).apply(weights, x, **others)


@pytest.mark.clause("NAME-1")
@pytest.mark.parametrize(("case", "name"), each_implementation(every_flag()))
def test_shapes(case: Case, name: str) -> None:
    weights, x, others = case.arguments()
    outputs = flat(case.layer.apply(weights, x, implementation=name, **others))
    width = UNITS * (2 if isinstance(case.layer, sc.Bidirectional) else 1)
    shape = (BATCH, TIME, width) if case.layer.return_sequences else (BATCH, width)
    assert outputs[0].shape == shape
    assert {state.shape for state in outputs[1:]} <= {(BATCH, UNITS)}
    assert all(isinstance(output, np.ndarray) for output in outputs)


@pytest.mark.clause("OUT-1")
@pytest.mark.parametrize(("case", "name"), each_implementation([*every_flag()]))
def test_one_step_is_h_after_the_last_in_processing_order(case: Case, name: str) -> None:
    layer = case.layer
    if isinstance(layer, sc.Bidirectional):  # BI-3, tested with the equations
        layer = layer.layer
    weights, x, _ = Case(case.id, layer).arguments()
    flags = {"return_sequences": False, "return_state": False}
    for fields in ({}, {"go_backwards": True}):
        one = layer.replace(**flags, **fields).apply(weights, x, implementation=name)
        y = layer.replace(return_sequences=True, return_state=False, **fields).apply(
            weights, x, implementation=name
        )
        assert one.shape == (BATCH, UNITS)
        assert_close(one, y[:, -1], EPS)


@pytest.mark.clause("OUT-2")
@pytest.mark.parametrize("name", CELLS)
def test_all_steps_hold_h_after_each(name: str) -> None:
    case = Case(f"{name}-steps", CELLS[name](return_sequences=True))
    weights, x, _ = case.arguments()
    y = case.layer.apply(weights, x)
    one = case.layer.replace(return_sequences=False)
    for t in range(TIME):
        assert_close(y[:, t], one.apply(weights, x[:, : t + 1]), EPS)


@pytest.mark.clause("OUT-3")
@pytest.mark.parametrize("pattern", ["none", "holes"])
@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("both", [False, True])
def test_state_follows_y_and_neither_depends_on_the_others_flag(
    name: str, both: bool, pattern: str
) -> None:
    def layer(sequences: bool, state: bool) -> Any:
        cell = CELLS[name](return_sequences=sequences, return_state=state)
        return sc.Bidirectional(cell) if both else cell

    case = Case(f"{name}-{both}-flags", layer(True, True), pattern)
    weights, x, others = case.arguments()
    results = {
        flags: flat(layer(*flags).apply(weights, x, **others))
        for flags in itertools.product((False, True), repeat=2)
    }
    states = (2 if name == "lstm" else 1) * (2 if both else 1)
    for (_, state), outputs in results.items():
        assert len(outputs) == 1 + (states if state else 0)
    for sequences in (False, True):
        assert_same_bits(results[sequences, True][0], results[sequences, False][0])
    for one, two in zip(results[True, True][1:], results[False, True][1:], strict=True):
        assert_same_bits(one, two)
    if not both:
        assert_close(results[False, True][1], results[False, True][0], 4)
    if not both and pattern == "none":
        assert_close(results[True, True][1], results[True, True][0][:, -1], 4)


@pytest.mark.clause("OUT-4")
@pytest.mark.parametrize("case", [*every_flag(), *composites()], ids=lambda case: case.id)
def test_one_output_is_an_array_and_several_are_a_named_tuple(case: Case) -> None:
    outputs = run(case)
    expected = case.layer.return_state or "none" in str(case.layer)
    assert isinstance(outputs, tuple) is expected
    if not expected:
        assert type(outputs) is np.ndarray
        return
    assert len(outputs) == len(outputs._fields) > 1
    first, *rest = outputs
    assert first is outputs[0] is getattr(outputs, outputs._fields[0])
    assert len(rest) == len(outputs) - 1
    for again in (pickle.loads(pickle.dumps(outputs)), copy.deepcopy(outputs)):
        assert type(again) is type(outputs)
        assert again._fields == outputs._fields
        for one, two in zip(again, outputs, strict=True):
            assert_same_bits(one, two)
    assert type(outputs)(*outputs)._asdict().keys() == outputs._asdict().keys()


FIELDS: list[tuple[Any, str]] = [
    (sc.SimpleRNN(2, return_state=True), "y h"),
    (sc.LSTM(2, return_state=True), "y h c"),
    (sc.GRU(2, **BOTH), "y h"),
    (sc.Bidirectional(sc.LSTM(2, **BOTH)), "y forward_h forward_c backward_h backward_c"),
    (sc.Bidirectional(sc.GRU(2, return_state=True)), "y forward_h backward_h"),
    (sc.Bidirectional(sc.GRU(2), merge_mode=None), "forward_y backward_y"),
    (
        sc.Bidirectional(sc.SimpleRNN(2, **BOTH), merge_mode="none"),
        "forward_y backward_y forward_h backward_h",
    ),
    (
        sc.Bidirectional(sc.LSTM(2, **BOTH), backward_layer=sc.GRU(3, **BOTH)),
        "y forward_h forward_c backward_h",
    ),
    (
        sc.Stack(
            [
                sc.LSTM(2, return_sequences=True),
                sc.Bidirectional(sc.GRU(2, return_sequences=True)),
                sc.SimpleRNN(3),
            ],
            return_state=True,
        ),
        "y layers_0_h layers_0_c layers_1_forward_h layers_1_backward_h layers_2_h",
    ),
    (
        sc.Stack([sc.GRU(2, return_sequences=True), sc.Bidirectional(sc.GRU(2), None)],
                 return_state=True),
        "forward_y backward_y layers_0_h layers_1_forward_h layers_1_backward_h",
    ),
]  # fmt: skip


@pytest.mark.clause("OUT-5")
@pytest.mark.parametrize(("layer", "names"), FIELDS, ids=lambda value: str(value))
def test_field_names(layer: Any, names: str) -> None:
    outputs = run(Case(names, layer))
    assert outputs._fields == tuple(names.split())


@pytest.mark.clause("STATE-1")
@pytest.mark.parametrize(("layer", "names"), FIELDS, ids=lambda value: str(value))
def test_initial_state_has_the_order_of_the_returned_one(layer: Any, names: str) -> None:
    """Over masked steps only, each state comes back where it was given."""
    if not layer.return_state:
        layer = layer.replace(layer=layer.layer.replace(return_state=True))
    weights, x, _ = Case(names, layer).arguments()
    state = random_state(layer, np.random.default_rng(3))
    outputs = layer.apply(weights, x, mask=MASKS["all"], initial_state=state)
    found = outputs[len(outputs) - len(state) :]
    for given, back in zip(state, found, strict=True):
        assert_same_bits(back, given)


@pytest.mark.clause("STATE-2")
@pytest.mark.parametrize("name", CELLS)
def test_forms_of_the_initial_state(name: str) -> None:
    case = Case(f"{name}-forms", CELLS[name](**BOTH))
    weights, x, _ = case.arguments()
    state = random_state(case.layer, np.random.default_rng(4))
    expected = case.layer.apply(weights, x, initial_state=state)
    forms: list[Any] = [list(state), [value.tolist() for value in state]]
    if len(state) == 1:
        forms.append(state[0])
    else:
        with pytest.raises(sc.StateError):
            case.layer.apply(weights, x, initial_state=state[0])
    for form in forms:
        found = case.layer.apply(weights, x, initial_state=form)
        for one, two in zip(found, expected, strict=True):
            assert_same_bits(one, two)
    zeros = [np.zeros_like(value) for value in state]
    for dtype in ("float64", "float16"):
        cast = {key: value.astype(dtype) for key, value in weights.items()}
        found = case.layer.apply(cast, x.astype(dtype), initial_state=None)
        other = case.layer.apply(
            cast, x.astype(dtype), initial_state=[z.astype(dtype) for z in zeros]
        )
        for one, two in zip(found, other, strict=True):
            assert_same_bits(one, two)
    assert not np.allclose(case.layer.apply(weights, x).y, expected.y)


@pytest.mark.clause("STATE-2")
def test_a_list_is_always_the_list_of_states() -> None:
    """One row of one unit in a list of lists is a misshapen state, not a bare array."""
    layer = sc.GRU(1)
    weights = layer.init(1)
    with pytest.raises(sc.StateError):
        layer.apply(weights, np.zeros((1, 1, 1), np.float32), initial_state=[[0.5]])
    layer.apply(weights, np.zeros((1, 1, 1), np.float32), initial_state=[[[0.5]]])


@pytest.mark.clause("STACK-3")
def test_the_flags_of_a_stack_decide() -> None:
    for last_flag in (False, True):
        members = [sc.LSTM(2, return_sequences=True), sc.GRU(3, return_sequences=last_flag)]
        layer = sc.Stack(members, return_sequences=True)
        weights, x, _ = Case("stack flags", layer).arguments()
        assert layer.apply(weights, x).shape == (BATCH, TIME, 3)
    one = sc.Stack([sc.LSTM(2, return_sequences=True), sc.GRU(3)])
    assert one.apply(weights, x).shape == (BATCH, 3)
    assert len(one.replace(return_state=True).apply(weights, x)) == 4


def test_the_seeds_own_calls() -> None:
    """The lines of the seed documents, as they are written there, over nested lists."""
    x = [[[0.1, 4.2, 1.5, 1.1, 2.8], [1.0, 3.1, 2.5, 0.7, 1.1],
          [0.3, 2.1, 1.5, 2.1, 0.1], [2.2, 1.4, 0.5, 0.9, 1.1]]]  # fmt: skip
    rnn = sc.SimpleRNN(3)
    assert rnn(x).shape == (1, 3)
    rnn = sc.SimpleRNN(3, return_sequences=True)
    assert rnn(x).shape == (1, 4, 3)
    rnn = sc.SimpleRNN(3, return_sequences=False, return_state=True)
    hidden, last = rnn(x)
    np.testing.assert_array_equal(hidden, last)
    lstm = sc.LSTM(3, return_sequences=True, return_state=True)
    hidden, last, cell = lstm(x)
    assert (hidden.shape, last.shape, cell.shape) == ((1, 4, 3), (1, 3), (1, 3))
    np.testing.assert_array_equal(hidden[:, -1], last)
    tenth, none = sc.Constant(value=0.1), sc.Constant(value=0)
    bilstm = sc.Bidirectional(
        sc.LSTM(3, return_sequences=False, return_state=True, kernel_initializer=tenth,
                bias_initializer=none, recurrent_initializer=tenth)
    )  # fmt: skip
    y, forward_h, _, backward_h, _ = bilstm(x)
    np.testing.assert_array_equal(y, np.concatenate([forward_h, backward_h], -1))
    np.testing.assert_allclose(y[0, [0, 3]], [0.6303139, 0.70387346], rtol=0, atol=2e-7)


@pytest.mark.clause("DTYPE-2")
def test_fresh_weights_are_those_of_init_in_the_dtype_of_x() -> None:
    layer = sc.LSTM(2, **BOTH)
    x = np.random.default_rng(5).normal(size=(BATCH, TIME, FEATURES))
    for dtype in ("float64", "float32", "float16"):
        found = layer(x.astype(dtype))
        expected = layer.apply(layer.init(FEATURES, dtype=dtype), x.astype(dtype))
        for one, two in zip(found, expected, strict=True):
            assert_same_bits(one, two)
            assert one.dtype == dtype
    assert layer(x.tolist()).y.dtype == np.float32
