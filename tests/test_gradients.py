"""Gradients against central differences of `apply`, and the rules of the pullback."""

from __future__ import annotations

from collections.abc import Callable
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
    UNITS,
    Case,
    activation_cases,
    assert_close,
    assert_same_bits,
    composites,
    each_implementation,
    equation_cases,
    flat,
    gradient_arrays,
    implementations,
    needs,
    random_cotangents,
    random_state,
    takes,
)
from seqcore.registry import registry

STEP = 1e-4


def check_against_differences(case: Case, implementation: str) -> None:
    """Along a random direction of each array, so that every element of it counts."""
    weights, x, others = case.arguments()
    state = list(others.pop("initial_state", random_state(case.layer, np.random.default_rng(1))))
    rng = np.random.default_rng(2)
    chosen = {"backend": "numpy", "implementation": implementation}
    outputs, pullback = case.layer.vjp(weights, x, initial_state=state, **others, **chosen)
    plain = case.layer.apply(weights, x, initial_state=state, **others, **chosen)
    for one, two in zip(flat(outputs), flat(plain), strict=True):
        assert_close(one, two, 50, "the outputs of vjp and of apply")
    cotangents = random_cotangents(outputs, rng)
    found = gradient_arrays(pullback(cotangents))

    def loss(changed: dict[str, Any]) -> float:
        values = flat(
            case.layer.apply(
                {name: changed[name] for name in weights},
                changed["x"],
                initial_state=[changed[f"initial_state[{i}]"] for i in range(len(state))],
                **others,
                **chosen,
            )
        )
        return float(sum((y * d).sum() for y, d in zip(values, flat(cotangents), strict=True)))

    point = {
        **weights,
        "x": x,
        **{f"initial_state[{i}]": value for i, value in enumerate(state)},
    }
    assert found.keys() == point.keys()
    for name, value in point.items():
        assert found[name].shape == value.shape
        direction = rng.normal(size=value.shape)
        expected = difference(
            lambda by, name=name, value=value, direction=direction: loss(
                point | {name: value + by * direction}
            )
        )
        along = float((found[name] * direction).sum())
        assert abs(along - expected) < 1e-9 * max(1.0, abs(expected)), name


def difference(function: Callable[[float], float]) -> float:
    """The derivative at 0, by the central difference of fourth order."""
    near = function(STEP) - function(-STEP)
    far = function(2 * STEP) - function(-2 * STEP)
    return (8 * near - far) / (12 * STEP)


@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize(
    ("case", "implementation"), each_implementation(equation_cases(), gradient="yes")
)
def test_gradients_equal_differences(case: Case, implementation: str) -> None:
    check_against_differences(case, implementation)


@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize(
    ("case", "implementation"), each_implementation(activation_cases(), gradient="yes")
)
def test_gradients_through_every_activation(case: Case, implementation: str) -> None:
    check_against_differences(case, implementation)


@pytest.mark.parametrize("name", implementations())
def test_every_implementation_differentiates_some_case(name: str) -> None:
    cases = each_implementation(equation_cases(), gradient="yes")
    if not any(case.values[1] == name for case in cases):
        refused = sc.LSTM(2).explain(gradient="yes").root.refusals
        assert name in [refusal.implementation for refusal in refused]


@pytest.mark.clause("ACT-2")
@pytest.mark.parametrize(
    ("name", "points", "slopes"),
    [
        ("relu", [-1.0, -0.0, 0.0, 1.0], [0, 0, 0, 1]),
        ("hard_sigmoid", [-4.0, -3.0, -2.5, 0.0, 2.5, 3.0, 4.0], [0, 0, 1, 1, 1, 0, 0]),
        ("linear", [-2.0, 0.0, 3.0], [1, 1, 1]),
    ],
)
@pytest.mark.parametrize("implementation", implementations())
def test_the_derivative_at_a_kink_is_zero(
    name: str, points: list[float], slopes: list[int], implementation: str
) -> None:
    layer = sc.SimpleRNN(1, activation=name, return_sequences=True)
    needs(implementation, layer, dtype="float64", gradient="yes")
    weights = {
        "kernel": np.ones((1, 1)),
        "recurrent_kernel": np.zeros((1, 1)),
        "bias": np.zeros(1),
    }
    x = np.array(points)[None, :, None]
    y, pullback = layer.vjp(weights, x, implementation=implementation)
    unit = 1 / 6 if name == "hard_sigmoid" else 1.0
    assert_close(pullback(np.ones_like(y)).x[0, :, 0], np.array(slopes) * unit, 4)


@pytest.mark.clause("ACT-2")
@pytest.mark.parametrize("act", ["tanh", "sigmoid"])
def test_smooth_derivatives(act: str) -> None:
    a = np.linspace(-4, 4, 17)
    layer = sc.SimpleRNN(1, activation=act, return_sequences=True)
    weights = {
        "kernel": np.ones((1, 1)),
        "recurrent_kernel": np.zeros((1, 1)),
        "bias": np.zeros(1),
    }
    y, pullback = layer.vjp(weights, a[None, :, None])
    expected = {
        "tanh": 1 / np.cosh(a) ** 2,
        "sigmoid": np.exp(-a) / (1 + np.exp(-a)) ** 2,
    }[act]
    assert_close(pullback(np.ones_like(y)).x[0, :, 0], expected, 8)


def one_case(name: str = "lstm", **fields: Any) -> Case:
    return Case(f"rules-{name}", CELLS[name](**BOTH, **fields), "holes", True)


@pytest.mark.clause("GRAD-1")
@pytest.mark.parametrize("case", [one_case(), *composites()[:6]], ids=lambda case: case.id)
def test_the_outputs_of_vjp_are_those_of_apply(case: Case) -> None:
    weights, x, others = case.arguments()
    outputs, _ = case.layer.vjp(weights, x, **others)
    applied = case.layer.apply(weights, x, **others)
    assert type(outputs) is type(applied)
    for one, two in zip(outputs, applied, strict=True):
        assert_close(one, two, 50)


@pytest.mark.clause("GRAD-1")
def test_cotangents_in_every_structure() -> None:
    case = one_case()
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, **others)
    drawn = random_cotangents(outputs, np.random.default_rng(0))
    expected = gradient_arrays(pullback(drawn))
    for given in (list(drawn), type(outputs)(*drawn), [d.tolist() for d in drawn]):
        found = gradient_arrays(pullback(given))
        for name, value in expected.items():
            assert_same_bits(found[name], value)
    for wrong in (drawn[0], drawn[:2], (*drawn, drawn[0])):
        with pytest.raises(sc.ShapeError, match="expected 3: one for each of y, h, c"):
            pullback(wrong)
    single = sc.LSTM(UNITS)
    y, pull = single.vjp(weights, x)
    with pytest.raises(sc.ShapeError):
        pull((np.ones_like(y), np.ones_like(y)))


@pytest.mark.clause("GRAD-2")
@pytest.mark.parametrize("case", [one_case("gru"), *composites()[:6]], ids=lambda case: case.id)
def test_the_form_of_the_result(case: Case) -> None:
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, **others)
    found = pullback(random_cotangents(outputs, np.random.default_rng(0)))
    assert isinstance(found, sc.Gradients)
    assert found._fields == ("weights", "x", "initial_state")
    assert isinstance(found, tuple)
    assert isinstance(found.initial_state, tuple)
    assert list(found.weights) == list(case.layer.weight_shapes(FEATURES))
    for name, shape in case.layer.weight_shapes(FEATURES).items():
        assert found.weights[name].shape == shape
    assert found.x.shape == x.shape
    states = outputs[1:] if case.mask == "none" else others["initial_state"]
    if case.layer.return_state:
        offset = 2 if hasattr(outputs, "forward_y") else 1
        states = outputs[offset:]
    assert [d.shape for d in found.initial_state] == [s.shape for s in states]


@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize("implementation", implementations())
def test_the_pullback_is_linear(implementation: str) -> None:
    case = one_case("gru")
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, implementation=implementation, **others)
    rng = np.random.default_rng(4)
    one, two = random_cotangents(outputs, rng), random_cotangents(outputs, rng)
    summed = pullback(tuple(2 * a - 3 * b for a, b in zip(one, two, strict=True)))
    first, second = gradient_arrays(pullback(one)), gradient_arrays(pullback(two))
    for name, value in gradient_arrays(summed).items():
        assert_close(value, 2 * first[name] - 3 * second[name], 200, name)


@pytest.mark.clause("GRAD-4")
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("name", CELLS)
def test_absent_state_is_differentiated_as_zeros(name: str, implementation: str) -> None:
    layer = sc.Bidirectional(CELLS[name](**BOTH))
    needs(implementation, layer, dtype="float64", mask="any", gradient="yes")
    weights, x, _ = Case(f"zeros-{name}", layer).arguments()
    mask = MASKS["holes"]
    outputs, pullback = layer.vjp(weights, x, mask=mask, implementation=implementation)
    zeros = [np.zeros((BATCH, UNITS)) for _ in range(4 if name == "lstm" else 2)]
    _, pull = layer.vjp(weights, x, mask=mask, initial_state=zeros, implementation=implementation)
    cotangents = random_cotangents(outputs, np.random.default_rng(5))
    found, expected = pullback(cotangents), pull(cotangents)
    assert len(found.initial_state) == len(zeros)
    assert any(np.abs(value).max() > 1e-3 for value in found.initial_state)
    for mine, other in zip(found.initial_state, expected.initial_state, strict=True):
        assert_close(mine, other, 4)


@pytest.mark.clause("GRAD-5")
@pytest.mark.parametrize(
    ("case", "implementation"),
    each_implementation([one_case(name) for name in CELLS] + composites()[:9], gradient="yes"),
)
def test_a_pullback_can_be_called_again(case: Case, implementation: str) -> None:
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, implementation=implementation, **others)
    rng = np.random.default_rng(6)
    one, two = random_cotangents(outputs, rng), random_cotangents(outputs, rng)
    first = {name: value.copy() for name, value in gradient_arrays(pullback(one)).items()}
    second = gradient_arrays(pullback(two))
    again = gradient_arrays(pullback(one))
    _, fresh = case.layer.vjp(weights, x, implementation=implementation, **others)
    alone = gradient_arrays(fresh(two))
    for name, value in first.items():
        assert_same_bits(again[name], value)
        assert_same_bits(second[name], alone[name])


@pytest.mark.clause("GRAD-5")
@pytest.mark.parametrize("implementation", implementations())
def test_a_pullback_does_not_see_what_happens_to_its_outputs(implementation: str) -> None:
    """Outputs are the caller's (PURE-2): writing to them must not change a later gradient."""
    for name in CELLS:
        layer = CELLS[name](**BOTH)
        if not takes(implementation, layer, dtype="float64", gradient="yes"):
            continue
        weights, x, _ = Case(f"written-{name}", layer).arguments()
        outputs, pullback = layer.vjp(weights, x, implementation=implementation)
        cotangents = random_cotangents(outputs, np.random.default_rng(7))
        before = gradient_arrays(pullback(cotangents))
        for output in outputs:
            output.fill(123.0)
        after = gradient_arrays(pullback(cotangents))
        for key, value in before.items():
            np.testing.assert_array_equal(after[key], value, err_msg=f"{name}: {key}")


@pytest.mark.clause("GRAD-3")
def test_a_weight_used_often_has_the_sum_of_its_parts() -> None:
    """Rows apart: the whole batch's weight gradient is the sum over its rows."""
    case = one_case("gru_before")
    weights, x, others = case.arguments()
    outputs, pullback = case.layer.vjp(weights, x, **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(8))
    whole = pullback(cotangents).weights
    summed = {name: np.zeros_like(value) for name, value in whole.items()}
    for row in range(BATCH):
        at = slice(row, row + 1)
        _, pull = case.layer.vjp(
            weights,
            x[at],
            mask=others["mask"][at],
            initial_state=[value[at] for value in others["initial_state"]],
        )
        for name, value in pull(tuple(d[at] for d in cotangents)).weights.items():
            summed[name] += value
    for name, value in whole.items():
        assert_close(value, summed[name], 100, name)


@pytest.mark.parametrize("implementation", implementations())
def test_a_long_sequence_against_differences(implementation: str) -> None:
    layer = sc.LSTM(3, return_sequences=True)
    rng = np.random.default_rng(9)
    weights = {name: 0.5 * rng.normal(size=s) for name, s in layer.weight_shapes(2).items()}
    x = rng.normal(size=(2, 40, 2))
    y, pullback = layer.vjp(weights, x, implementation=implementation)
    cotangent = rng.normal(size=y.shape)
    found = pullback(cotangent).weights["recurrent_kernel"]
    direction = rng.normal(size=found.shape)

    def loss(by: float) -> float:
        changed = weights | {"recurrent_kernel": weights["recurrent_kernel"] + by * direction}
        return float((layer.apply(changed, x) * cotangent).sum())

    expected = difference(loss)
    assert abs((found * direction).sum() - expected) < 1e-9 * max(1.0, abs(expected))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "sizes", [(1, 400, 3, 4), (9, 300, 3, 4), (40, 30, 5, 6), (24, 5, 70, 60)], ids=str
)
@pytest.mark.parametrize("name", CELLS)
def test_every_implementation_equals_the_last_at_larger_sizes(
    name: str, sizes: tuple[int, ...], backwards: bool, masked: bool
) -> None:
    """Where one works in blocks, or otherwise for large batches and products; both directions."""
    batch, time, features, units = sizes
    layer = CELLS[name](**BOTH).replace(units=units, go_backwards=backwards)
    rng = np.random.default_rng(10)
    scale = 0.8 / np.sqrt(units)
    weights = {n: scale * rng.normal(size=s) for n, s in layer.weight_shapes(features).items()}
    x = rng.normal(size=(batch, time, features))
    mask = rng.random((batch, time)) < 0.8 if masked else None
    state = random_state(layer, rng, batch=batch)
    *others, reference = implementations()
    results = {}
    for each in (reference, *others):
        question = {"mask": "any" if masked else "none", "gradient": "yes", "dtype": "float64"}
        if not takes(each, layer, **question):
            continue
        chosen = {"mask": mask, "initial_state": state, "implementation": each}
        outputs, pullback = layer.vjp(weights, x, **chosen)
        cotangents = random_cotangents(outputs, np.random.default_rng(11))
        results[each] = {
            **{f"vjp {i}": value for i, value in enumerate(outputs)},
            **{f"apply {i}": v for i, v in enumerate(layer.apply(weights, x, **chosen))},
            **gradient_arrays(pullback(cotangents)),
        }
    for each in results:
        for key, value in results[reference].items():
            assert_close(results[each][key], value, 2000, f"{each}: {key}")


@pytest.mark.clause("GRAD-5")
@pytest.mark.parametrize("backend", ["numpy", "torch", "jax", "tensorflow"])
def test_a_pullback_does_not_see_what_happens_to_its_arguments(backend: str) -> None:
    """Nor to the mask and the state, which are small and easily reused by a caller."""
    if registry.missing(backend):
        pytest.skip(f"{backend} is not installed")
    random = np.random.default_rng(4)
    layer = sc.LSTM(3, return_sequences=True, return_state=True)
    for implementation in [i.name for i in registry.get(backend).implementations]:
        weights = {n: random.standard_normal(s) for n, s in layer.weight_shapes(2).items()}
        x = random.standard_normal((2, 4, 2))
        mask = np.array([[True, False, True, True], [True, True, False, False]])
        state = [random.standard_normal((2, 3)) for _ in range(2)]
        outputs, pullback = layer.vjp(
            weights, x, mask=mask, initial_state=state, backend=backend,
            implementation=implementation,
        )  # fmt: skip
        cotangents = [random.standard_normal(y.shape) for y in outputs]
        before = pullback(cotangents)
        for array in (x, *state, *weights.values(), *outputs):
            array[...] = 1e10
        mask[...] = ~mask
        after = pullback(cotangents)
        for name, gradient in before.weights.items():
            np.testing.assert_array_equal(after.weights[name], gradient)
        np.testing.assert_array_equal(after.x, before.x)


@pytest.mark.clause("MASK-7")
@pytest.mark.parametrize("cell", [sc.LSTM, sc.GRU, sc.SimpleRNN])
def test_what_overflows_at_masked_steps_only_reaches_no_gradient(cell: Any) -> None:
    layer = cell(2, activation="linear")
    random = np.random.default_rng(0)
    weights = {n: 1e3 * random.standard_normal(s) for n, s in layer.weight_shapes(2).items()}
    weights["recurrent_kernel"] *= 1e150
    x = random.standard_normal((1, 8, 2))
    _, alone = layer.vjp(weights, x[:, :1])
    _, padded = layer.vjp(weights, x, lengths=[1])
    one = np.ones((1, 2))
    for name, gradient in alone(one).weights.items():
        np.testing.assert_array_equal(padded(one).weights[name], gradient)
