"""The suite's oracle against torch in float64, differences, and a second evaluation by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oracle import Oracle
from seqcore.conformance.arrays import Arguments, arguments
from seqcore.conformance.model import ValueCase
from seqcore.conformance.oracle import Evaluated, evaluate
from seqcore.conformance.tape import Noise, Tape, rounding
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}
INNER: dict[str, Any] = {"return_sequences": True}

TORCH_HAS: dict[str, Any] = {
    "rnn-tanh": SimpleRNN(3, **BOTH),
    "rnn-relu": SimpleRNN(3, activation="relu", **BOTH),
    "lstm": LSTM(3, **BOTH),
    "gru": GRU(3, **BOTH),
    "bidirectional-lstm": Bidirectional(LSTM(2, **BOTH)),
    "bidirectional-gru": Bidirectional(GRU(2, **BOTH)),
    "stack-lstm": Stack((LSTM(3, **INNER), LSTM(3, **INNER)), **BOTH),
    "stack-bidirectional": Stack(
        (Bidirectional(GRU(2, **INNER)), Bidirectional(GRU(2, **INNER))), **BOTH
    ),
}

TORCH_LACKS: dict[str, Any] = {
    "lstm-activations": LSTM(2, activation="linear", recurrent_activation="hard_sigmoid", **BOTH),
    "lstm-last": LSTM(2, use_bias=False, return_state=True),
    "gru-before": GRU(3, reset_after=False, **BOTH),
    "gru-before-carry": GRU(2, reset_after=False, mask_output="carry", **BOTH),
    "gru-relu": GRU(2, activation="relu", recurrent_activation="tanh", **BOTH),
    "rnn-sigmoid": SimpleRNN(3, activation="sigmoid", **BOTH),
    "backwards": LSTM(2, go_backwards=True, **BOTH),
    "backwards-carry": GRU(2, go_backwards=True, mask_output="carry", **BOTH),
    "keep-order": GRU(2, go_backwards=True, keep_order=True, **BOTH),
    "sum": Bidirectional(LSTM(2, **BOTH), "sum"),
    "mul": Bidirectional(GRU(2, mask_output="carry", **BOTH), "mul"),
    "ave": Bidirectional(SimpleRNN(2), "ave"),
    "none": Bidirectional(LSTM(2, **BOTH), "none", GRU(3, **BOTH)),
    "stack": Stack(
        (
            LSTM(3, go_backwards=True, **INNER),
            Bidirectional(GRU(2, mask_output="carry", **INNER), "mul"),
            SimpleRNN(2, go_backwards=True, mask_output="carry"),
        ),
        **{**BOTH, "return_sequences": False},
    ),
}


def given(layer: Any, mask: Any = "none", dtype: str = "float64", **fields: Any) -> Arguments:
    """The arguments of a call with an initial state."""
    fields = {"batch": 2, "time": 4, "features": 3, "state": True, **fields}
    case = ValueCase(
        id="oracle", clauses=("GRAD-3",), layer=layer, dtype=dtype, mask=mask, **fields
    )
    return arguments(case, 0)


def drawn(evaluated: Evaluated) -> list[np.ndarray]:
    """Standard-normal cotangents."""
    random = np.random.default_rng(1)
    return [random.standard_normal(array.shape) for array in evaluated.outputs.values()]


@pytest.mark.parametrize("name", TORCH_HAS)
def test_outputs_and_gradients_are_torchs(name: str) -> None:
    torch = pytest.importorskip("torch", reason="torch, the engine that is compared with")
    layer = TORCH_HAS[name]
    call = given(layer)
    evaluated = evaluate(layer, call)
    found = evaluated.pullback(drawn(evaluated))

    tensors = {key: torch.tensor(value, requires_grad=True) for key, value in call.weights.items()}
    x = torch.tensor(call.x, requires_grad=True)
    state = [torch.tensor(value, requires_grad=True) for value in call.state]
    outputs = torch_outputs(torch, layer, tensors, x, state)
    for ours, theirs in zip(evaluated.outputs.values(), outputs, strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=0, atol=1e-14)
    cotangents = [torch.tensor(value) for value in drawn(evaluated)]
    torch.autograd.backward(outputs, cotangents)
    theirs = {**tensors, "x": x}
    for key, tensor in [*theirs.items(), *zip(list(found)[-len(state) :], state, strict=True)]:
        np.testing.assert_allclose(found[key], tensor.grad.numpy(), rtol=0, atol=2e-13)


def torch_outputs(torch: Any, layer: Any, weights: Any, x: Any, state: list[Any]) -> list[Any]:
    """What torch's own layer gives: the sequence, and the states in our order."""
    members = layer.layers if isinstance(layer, Stack) else (layer,)
    both = isinstance(members[0], Bidirectional)
    cell = members[0].layer if both else members[0]
    directions = ("forward.", "backward.") if both else ("",)
    kind = type(cell).__name__
    options = {"nonlinearity": cell.activation} if kind == "SimpleRNN" else {}
    module = {"SimpleRNN": torch.nn.RNN, "LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[kind](
        x.shape[-1],
        cell.units,
        len(members),
        batch_first=True,
        bidirectional=both,
        dtype=torch.float64,
        **options,
    )
    blocks = {"SimpleRNN": [0], "LSTM": [0, 1, 2, 3], "GRU": [1, 0, 2]}[kind]
    columns = np.arange(len(blocks) * cell.units).reshape(len(blocks), -1)[blocks].ravel()
    parameters: dict[str, Any] = {}
    for index in range(len(members)):
        for direction in directions:
            ours = (f"layers.{index}." if isinstance(layer, Stack) else "") + direction
            end = f"l{index}" + ("_reverse" if direction == "backward." else "")
            bias = weights[ours + "bias"]
            recurrent_bias = weights.get(ours + "recurrent_bias", torch.zeros_like(bias))
            parameters |= {
                f"weight_ih_{end}": weights[ours + "kernel"].T[columns],
                f"weight_hh_{end}": weights[ours + "recurrent_kernel"].T[columns],
                f"bias_ih_{end}": bias[columns],
                f"bias_hh_{end}": recurrent_bias[columns],
            }
    count = len(cell.state_names)
    initial = [torch.stack(state[k::count]) for k in range(count)]
    y, final = torch.func.functional_call(
        module, parameters, (x, tuple(initial) if count == 2 else initial[0])
    )
    parts = final if count == 2 else (final,)
    return [y, *(part[index] for index in range(len(state) // count) for part in parts)]


@pytest.mark.parametrize("mask", ["none", "holes", "dead_row"])
@pytest.mark.parametrize("name", TORCH_HAS | TORCH_LACKS)
def test_outputs_are_those_of_a_second_evaluation(name: str, mask: str) -> None:
    layer = (TORCH_HAS | TORCH_LACKS)[name]
    call = given(layer, mask)
    other = Oracle().apply(layer, call.weights, call.x, call.valid, call.state)
    outputs = evaluate(layer, call).outputs.values()
    for found, expected in zip(outputs, other, strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("mask", ["none", "holes", "dead_row"])
@pytest.mark.parametrize("name", TORCH_LACKS)
def test_gradients_are_differences(name: str, mask: str) -> None:
    layer = TORCH_LACKS[name]
    call = given(layer, mask)
    evaluated = evaluate(layer, call)
    cotangents = drawn(evaluated)
    found = evaluated.pullback(cotangents)
    random = np.random.default_rng(2)
    step = 1e-6

    def along(direction: dict[str, np.ndarray], by: float) -> float:
        moved = replace(
            call,
            weights={key: w + by * direction[key] for key, w in call.weights.items()},
            x=call.x + by * direction["x"],
            state=tuple(
                value + by * direction[key]
                for key, value in zip(list(found)[-len(call.state) :], call.state, strict=True)
            ),
        )
        outputs = evaluate(layer, moved).outputs.values()
        return sum(float(np.sum(y * d)) for y, d in zip(outputs, cotangents, strict=True))

    for key in found:
        # One argument at a time, in a random direction.
        direction = {other: np.zeros_like(value) for other, value in found.items()}
        direction[key] = random.standard_normal(found[key].shape)
        difference = (along(direction, step) - along(direction, -step)) / (2 * step)
        assert float(np.sum(found[key] * direction[key])) == pytest.approx(difference, abs=2e-8)


def one_step(layer: Any, **arrays: Any) -> Evaluated:
    """A cell with one unit and one feature, over one step."""
    weights = {
        key: np.array(value, np.float64).reshape(shape)
        for (key, shape), value in zip(
            layer.weight_shapes(1).items(), arrays["weights"], strict=True
        )
    }
    x = np.full((1, 1, 1), arrays["x"], np.float64)
    state = (np.full((1, 1), arrays["h"], np.float64),)
    call = Arguments(weights, x, np.ones((1, 1), np.bool_), {}, state)
    return evaluate(layer, call, precision=arrays.get("precision", "highest"))


@pytest.mark.parametrize(
    ("name", "at", "slope"),
    [
        ("relu", 0.0, 0.0),
        ("relu", 1e-300, 1.0),
        ("hard_sigmoid", -3.0, 0.0),
        ("hard_sigmoid", 3.0, 0.0),
        ("hard_sigmoid", np.nextafter(3.0, 0), 1 / 6),
    ],
)
def test_derivatives_at_kinks(name: str, at: float, slope: float) -> None:
    layer = SimpleRNN(1, activation=name, use_bias=False)
    evaluated = one_step(layer, weights=[1.0, 0.0], x=at, h=0.0)
    assert evaluated.pullback([np.ones((1, 1))])["x"].item() == slope


def test_the_factors_of_every_product_are_rounded() -> None:
    # A number with 11 and one with 10 explicit mantissa bits; only the first is rounded by TF32.
    long, short = 1 + 3 * 2.0**-11, 1 + 2.0**-10
    up = 1 + 2 * 2.0**-10
    layer = SimpleRNN(1, activation="linear", use_bias=False)
    evaluated = one_step(layer, weights=[short, long], x=long, h=short, precision="tf32")
    assert evaluated.outputs["y"].item() == up * short + short * up
    found = evaluated.pullback([np.full((1, 1), long)])
    assert found["x"].item() == up * short
    assert found["kernel"].item() == up * up
    assert found["initial_state.h"].item() == up * up
    assert found["recurrent_kernel"].item() == short * up


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_states_of_half_types_are_rounded_at_each_step(dtype: str) -> None:
    layer = LSTM(3, **BOTH)
    call = given(layer, dtype=dtype)
    for value in evaluate(layer, call, dtype=dtype).outputs.values():
        np.testing.assert_array_equal(value, value.astype(numpy_dtype(dtype)).astype(np.float64))
    whole = evaluate(layer, call).outputs["c"]
    assert np.any(evaluate(layer, call, dtype=dtype).outputs["c"] != whole)


@pytest.mark.parametrize(
    ("dtype", "form"), [("float16", (11, -14, 65504.0)), ("bfloat16", (8, -126, math.inf))]
)
def test_rounding_is_that_of_the_data_type(dtype: str, form: tuple[int, int, float]) -> None:
    random = np.random.default_rng(3)
    values = random.standard_normal(2000) * 10.0 ** random.uniform(-9, 5, 2000)
    ties = [1 + 2.0**-9, 1 + 3 * 2.0**-9, 1 + 2.0**-12, 1 + 3 * 2.0**-12, 65519.0, 65520.0, 0.0]
    # From float32, for the conversion from float64 rounds twice.
    values = np.concatenate([values, ties, [math.inf, -math.inf]]).astype(np.float32)
    with np.errstate(over="ignore"):
        expected = values.astype(numpy_dtype(dtype)).astype(np.float64)
    found = np.array([rounding(*form)(value) for value in values.tolist()])
    np.testing.assert_array_equal(found, expected)


def test_values_under_the_mask_are_not_read() -> None:
    layer = Bidirectional(LSTM(2, **BOTH))
    clean, bad = given(layer, "dead_row"), given(layer, "dead_row", poison=True)
    assert not np.isfinite(bad.x).all()
    a, b = evaluate(layer, clean), evaluate(layer, bad)
    for name in a.outputs:
        np.testing.assert_array_equal(a.outputs[name], b.outputs[name])
    found = b.pullback(drawn(b))["x"]
    assert np.all(found[~bad.valid] == 0)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(("batch", "time"), [(0, 4), (2, 0)])
@pytest.mark.parametrize("name", ["lstm", "bidirectional-gru", "stack", "none"])
def test_empty_calls(name: str, batch: int, time: int) -> None:
    layer = (TORCH_HAS | TORCH_LACKS)[name]
    call = given(layer, batch=batch, time=time)
    evaluated = evaluate(layer, call)
    other = Oracle().apply(layer, call.weights, call.x, call.valid, call.state)
    for found, expected in zip(evaluated.outputs.values(), other, strict=True):
        np.testing.assert_array_equal(found, expected)
    gradients = evaluated.pullback(drawn(evaluated))
    assert all(np.all(gradients[key] == 0) for key in call.weights)
    assert gradients["x"].shape == call.x.shape


def test_what_no_computation_touches_is_marked() -> None:
    layer = LSTM(2, **BOTH)
    call = given(layer, "dead_row")
    evaluated = evaluate(layer, call)
    np.testing.assert_array_equal(
        evaluated.untouched("y"), np.broadcast_to(~call.valid[:, :, None], (2, 4, 2))
    )
    np.testing.assert_array_equal(evaluated.untouched("c"), [[True, True], [False, False]])


def test_a_carried_output_is_one_number() -> None:
    layer = SimpleRNN(2, mask_output="carry", **BOTH)
    call = replace(given(layer), valid=np.array([[True, False, False, True]] * 2))
    same = evaluate(layer, call).identities("y")
    np.testing.assert_array_equal(same[:, 1], same[:, 0])
    np.testing.assert_array_equal(same[:, 2], same[:, 0])
    assert np.all(same[:, 3] != same[:, 2])


def test_noise_moves_results_by_a_few_eps() -> None:
    layer = GRU(3, **BOTH)
    call = given(layer)
    plain = evaluate(layer, call).outputs["y"]
    first, again, other = (
        evaluate(layer, call, noise=Noise(1e-3, seed)).outputs["y"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert 1e-4 < np.max(np.abs(first - plain)) < 1e-2


def test_a_tape_sums_over_all_ways() -> None:
    tape = Tape(noise=None)
    a, b = tape.leaf(2.0), tape.leaf(5.0)
    tape.pull_back([(a * b + a * a, 1.0), (a, 10.0), (1 - b, 1.0)])
    assert (a.adjoint, b.adjoint) == (5.0 + 4.0 + 10.0, 2.0 - 1.0)
