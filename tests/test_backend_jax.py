"""The JAX backend: the spec's numbers, JAX's arrays and transformations, and what it leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    CELLS,
    DTYPES,
    FEATURES,
    LENGTHS,
    MASKS,
    MERGES,
    TIME,
    UNITS,
    Case,
    flat,
    gradient_arrays,
    random_cotangents,
    random_state,
    random_weights,
)
from seqcore.registry import registry
from seqcore_jax.registration import seqcore_backends

jax = pytest.importorskip("jax")
jnp = jax.numpy

from seqcore_jax.precision import wide  # noqa: E402 - imports jax

HOLES = ("right", "left", "holes", "dead_row", "all")


@pytest.fixture(scope="module", autouse=True)
def registered() -> Iterator[None]:
    if "jax" in registry.names():
        yield
    else:
        with registry.temporarily(seqcore_backends()[0]):
            yield


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    before = flags()
    yield
    assert flags() == before


def flags() -> dict[str, Any]:
    return {
        name: getattr(jax.config, name)
        for name in (
            "jax_enable_x64",
            "jax_default_device",
            "jax_default_matmul_precision",
            "jax_disable_jit",
            "jax_debug_nans",
            "jax_numpy_dtype_promotion",
        )
    }


def near(found: Any, expected: Any, eps: float, dtype: str, what: str = "") -> None:
    """Compare in units of eps(dtype) times the largest expected number, at least 1."""
    unit = float(jnp.finfo(dtype).eps)
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape, what
    assert found.dtype.name == expected.dtype.name == dtype, what
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    worst = float(np.abs(found - expected).max(initial=0.0)) / (unit * scale)
    assert worst <= eps, f"{what}: {worst} eps"  # a NaN fails this, too


def arguments(
    layer: Any, dtype: str = "float64", mask: str = "none", seed: int = 0, scale: float = 0.6
) -> tuple[dict[str, Any], Any, Any, dict[str, Any]]:
    """Weights, x with NaN under the mask, initial state, and the mask as keyword argument."""
    rng = np.random.default_rng(seed)
    weights = random_weights(layer, rng, dtype, scale=scale)
    x = rng.normal(size=(BATCH, TIME, FEATURES)).astype(DTYPES[dtype])
    valid = MASKS[mask]
    if valid is not None:
        x[~valid] = np.nan
    return weights, x, random_state(layer, rng, dtype), {"mask": valid}


def agree(
    layer: Any, dtype: str, eps: float, call: dict[str, Any], args: Any, **options: Any
) -> None:
    """Outputs and all gradients on JAX equal those on NumPy."""
    weights, x, state = args
    ours, back = layer.vjp(weights, x, initial_state=state, backend="jax", **call, **options)
    theirs, back_there = layer.vjp(
        weights, x, initial_state=state, backend="numpy", **call,
        **{k: v for k, v in options.items() if k == "matmul_precision"},
    )  # fmt: skip
    for index, (found, expected) in enumerate(zip(flat(ours), flat(theirs), strict=True)):
        near(found, expected, eps, dtype, f"output {index}")
    cotangents = random_cotangents(theirs, np.random.default_rng(1))
    found_gradients = gradient_arrays(back(cotangents))
    expected_gradients = gradient_arrays(back_there(cotangents))
    assert found_gradients.keys() == expected_gradients.keys()
    for name, expected in expected_gradients.items():
        near(found_gradients[name], expected, eps, dtype, name)


CELL_CASES = {
    f"{name}-{kind}": layer
    for name, cell in CELLS.items()
    for kind, layer in {
        "zero": cell(**BOTH),
        "carry": cell(go_backwards=True, mask_output="carry", **BOTH),
    }.items()
}


@pytest.mark.parametrize("layer", CELL_CASES.values(), ids=CELL_CASES)
def test_masked_cells_equal_numpy(layer: Any) -> None:
    for mask in HOLES:
        *args, call = arguments(layer, mask=mask)
        agree(layer, "float64", 100, call, args)


@pytest.mark.parametrize("name", CELLS)
def test_unmasked_cells_equal_numpy(name: str) -> None:
    for layer in (CELLS[name](**BOTH), CELLS[name](use_bias=False)):
        *args, call = arguments(layer)
        agree(layer, "float64", 100, call, args)


ACTIVATIONS = (("relu", "hard_sigmoid"), ("linear", "tanh"), ("sigmoid", "relu"))


@pytest.mark.parametrize(("act", "ract"), ACTIVATIONS)
@pytest.mark.parametrize("name", CELLS)
def test_activations_equal_numpy(name: str, act: str, ract: str) -> None:
    both = {} if name == "rnn" else {"recurrent_activation": ract}
    layer = CELLS[name](activation=act, **both)
    *args, call = arguments(layer, scale=0.25)
    agree(layer, "float64", 100, call, args)


def unlike(merge: str, **flags: Any) -> Any:
    behind = sc.GRU(UNITS, reset_after=False, **flags)
    return sc.Bidirectional(sc.LSTM(UNITS, **flags), backward_layer=behind, merge_mode=merge)


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.clause("BI-4")
def test_bidirectional_layers_equal_numpy(merge: str) -> None:
    layer = unlike(merge, **BOTH)
    for mask in ("right", "dead_row"):
        *args, call = arguments(layer, mask=mask)
        agree(layer, "float64", 100, call, args)
    last = unlike(merge)
    weights, x, state, call = arguments(last, mask="holes")
    ours, theirs = (
        last.apply(weights, x, initial_state=state, backend=name, **call)
        for name in ("jax", "numpy")
    )
    for found, expected in zip(flat(ours), flat(theirs), strict=True):
        near(found, expected, 100, "float64")


def test_stacks_equal_numpy() -> None:
    layers = [
        sc.LSTM(2, go_backwards=True, return_sequences=True),
        sc.Bidirectional(sc.GRU(3, return_sequences=True), merge_mode="mul"),
        sc.SimpleRNN(2, mask_output="carry"),
    ]
    stack = sc.Stack(layers, **BOTH)
    for mask in ("left", "dead_row"):
        *args, call = arguments(stack, mask=mask)
        agree(stack, "float64", 100, call, args)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_return_forms_equal_numpy(sequences: bool, state: bool) -> None:
    layer = sc.LSTM(UNITS, return_sequences=sequences, return_state=state)
    weights, x, initial, call = arguments(layer, mask="holes")
    ours = layer.apply(weights, x, initial_state=initial, backend="jax", **call)
    theirs = layer.apply(weights, x, initial_state=initial, backend="numpy", **call)
    assert type(ours) is type(theirs)
    for found, expected in zip(flat(ours), flat(theirs), strict=True):
        near(found, expected, 100, "float64")
    alone = layer.apply(weights, x, backend="jax", **call)
    numpy_alone = layer.apply(weights, x, backend="numpy", **call)
    near(flat(alone)[0], flat(numpy_alone)[0], 100, "float64")


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", CELLS)
def test_other_dtypes_equal_numpy(name: str, dtype: str) -> None:
    layer = CELLS[name](**BOTH)
    *args, call = arguments(layer, dtype, "holes")
    agree(layer, dtype, 16, call, args)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", ["lstm", "gru_before"])
@pytest.mark.clause("PREC-3")
@pytest.mark.clause("PREC-4")
def test_rounded_products_equal_numpy(name: str, precision: str) -> None:
    layer = CELLS[name](**BOTH)
    *args, call = arguments(layer, "float32")
    agree(layer, "float32", 64, call, args, matmul_precision=precision)
    full = layer.apply(*args[:2], backend="jax")
    rounded = layer.apply(*args[:2], backend="jax", matmul_precision=precision)
    assert np.abs(flat(full)[0] - flat(rounded)[0]).max() > 1e-5


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.clause("PREC-2")
def test_rounding_is_that_of_numpy_bit_for_bit(precision: str) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 4096, dtype=np.uint32)
    ties = (rng.integers(0, 2**16, 512, dtype=np.uint32) << 16) | np.uint32(0x1000)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 3.4e38, -3.4e38], np.float32)
    values = np.concatenate([bits.view(np.float32), ties.view(np.float32), special])
    values = values[np.isnan(values) | (np.abs(values) > 1e-37) | (values == 0)]  # no subnormals
    one = np.ones((1, 1), np.float32)
    with np.errstate(invalid="ignore"):
        found, expected = (
            np.asarray(registry.get(name).ops.at(precision).matmul(values[:, None], one))
            for name in ("jax", "numpy")
        )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("precision", "first"), [("highest", 0.3590647), ("tf32", 0.35896602)])
def test_the_seeds_table(precision: str, first: float) -> None:
    layer = sc.Bidirectional(sc.LSTM(3, return_sequences=True))
    weights = {n: np.full_like(w, 0.1) for n, w in layer.init(5).items()}
    for name in ("forward.bias", "backward.bias"):
        weights[name] = np.repeat(np.array([0, 1, 0, 0], np.float32), 3)
    rows = [[0.1, 4.2, 1.5, 1.1, 2.8], [1.0, 3.1, 2.5, 0.7, 1.1], [0.3, 2.1, 1.5, 2.1, 0.1],
            [2.2, 1.4, 0.5, 0.9, 1.1]]  # fmt: skip
    y = layer.apply(weights, [rows], backend="jax", matmul_precision=precision)
    np.testing.assert_allclose(y[0, 0, :3], first, rtol=0, atol=2e-7)


# JAX's own arrays


def native(layer: Any, dtype: str = "float32", mask: str = "none") -> Any:
    weights, x, state, call = arguments(layer, dtype, mask)
    return jax.tree.map(jnp.asarray, (weights, x, state)), call


LAYER = sc.LSTM(UNITS, **BOTH)


def cost(layer: Any, call: dict[str, Any], factors: Any, **options: Any) -> Any:
    """A function of weights, x and state whose gradient is the pullback of `factors`."""

    def function(weights: Any, x: Any, state: Any) -> Any:
        outputs = layer.apply(weights, x, initial_state=state, **call, **options)
        return sum(jnp.sum(y * factor) for y, factor in zip(flat(outputs), factors, strict=True))

    return function


def test_native_arrays_come_out_on_their_device() -> None:
    (weights, x, state), call = native(LAYER, mask="right")
    outputs = LAYER.apply(weights, x, initial_state=state, **call)
    assert all(isinstance(y, jax.Array) and y.devices() == x.devices() for y in outputs)
    outputs, back = LAYER.vjp(weights, x, initial_state=state, **call)
    assert all(isinstance(d, jax.Array) for d in gradient_arrays(back(outputs)).values())
    bound = LAYER.bind(weights)
    assert all(isinstance(y, jax.Array) for y in bound(x, **call))
    assert all(isinstance(y, np.ndarray) for y in bound(np.asarray(x), **call))
    empty = LAYER.apply(weights, x[:, :0])
    assert all(isinstance(y, jax.Array) for y in empty)
    assert all(isinstance(y, jax.Array) for y in LAYER.gates(weights, x[:, :0]).values())


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("implementation", ["scan", "generic"])
@pytest.mark.parametrize("mask", ["none", "dead_row"])
@pytest.mark.clause("ARR-4")
def test_jax_grad_equals_the_pullback(mask: str, implementation: str, jitted: bool) -> None:
    args, call = native(LAYER, mask=mask)
    outputs, back = LAYER.vjp(*args[:2], initial_state=args[2], **call)
    factors = random_cotangents(tuple(map(np.asarray, outputs)), np.random.default_rng(2))
    expected = back(factors)
    gradient = jax.grad(
        cost(LAYER, call, factors, implementation=implementation), argnums=(0, 1, 2)
    )
    d_weights, d_x, d_state = (jax.jit(gradient) if jitted else gradient)(*args)
    for name, found in d_weights.items():
        near(found, expected.weights[name], 16, "float32", name)
    near(d_x, expected.x, 16, "float32")
    for found, wanted in zip(d_state, expected.initial_state, strict=True):
        near(found, wanted, 16, "float32")


def test_jax_uses_the_written_backward_pass() -> None:
    (weights, x, _), _ = native(LAYER)

    def traced(**options: Any) -> str:
        return str(jax.make_jaxpr(lambda w: LAYER.apply(w, x, **options))(weights))

    assert "custom_vjp" in traced()
    assert "custom_vjp" not in traced(implementation="generic")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_jax_grad_in_half_types_equals_the_pullback(dtype: str) -> None:
    args, call = native(LAYER, dtype, "holes")
    outputs, back = LAYER.vjp(*args[:2], initial_state=args[2], **call)
    factors = random_cotangents(tuple(map(np.asarray, outputs)), np.random.default_rng(2))
    expected = back(factors)
    d_weights, d_x, _ = jax.jit(jax.grad(cost(LAYER, call, factors), argnums=(0, 1, 2)))(*args)
    near(d_weights["recurrent_kernel"], expected.weights["recurrent_kernel"], 2, dtype)
    near(d_x, expected.x, 2, dtype)


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.clause("PREC-4")
def test_both_backward_passes_round_alike(precision: str) -> None:
    args, call = native(LAYER)
    factors = [
        np.ones((BATCH, *shape), np.float32) for shape in ((TIME, UNITS), (UNITS,), (UNITS,))
    ]
    written, derived = (
        jax.grad(cost(LAYER, call, factors, matmul_precision=precision, implementation=name))(*args)
        for name in ("scan", "generic")
    )
    for name, expected in written.items():
        near(derived[name], expected, 16, "float32", name)


def test_second_order() -> None:
    (weights, x, state), call = native(LAYER, mask="holes")
    factors = [0.5, 1.5, -1.0]

    def of_bias(implementation: str) -> Any:
        function = cost(LAYER, call, factors, implementation=implementation)
        return lambda bias: function({**weights, "bias": bias}, x, state) ** 2

    expected = jax.jit(jax.hessian(of_bias("generic")))(weights["bias"])
    assert np.abs(expected).max() > 0.01
    near(jax.jit(jax.hessian(of_bias("scan")))(weights["bias"]), expected, 64, "float32")
    twice = jax.jit(jax.jacrev(jax.jacrev(of_bias("scan"))))(weights["bias"])
    near(twice, expected, 64, "float32")


def test_vmap_over_inputs_and_over_weights() -> None:
    (weights, x, _), _ = native(LAYER)
    xs = jnp.stack([x, 2 * x])
    for found, expected in zip(
        jax.vmap(lambda one: LAYER.apply(weights, one))(xs),
        LAYER.apply(weights, xs[1]),
        strict=True,
    ):
        near(found[1], expected, 4, "float32")
    many = jax.tree.map(lambda w: jnp.stack([w, 0.5 * w]), weights)
    gradient = jax.grad(lambda w, v: LAYER.apply(w, v).y.sum())
    found = jax.vmap(gradient, (0, None))(many, x)["kernel"][1]
    near(found, gradient(jax.tree.map(lambda w: 0.5 * w, weights), x)["kernel"], 8, "float32")


def test_forward_mode_is_declared_and_generic_has_it() -> None:
    (weights, x, _), _ = native(LAYER)
    assert registry.get("jax").capabilities.support("forward_mode") == "not-implemented"

    def tangent(**options: Any) -> Any:
        return jax.jvp(lambda v: LAYER.apply(weights, v, **options).y, (x,), (x,))[1]

    with pytest.raises(TypeError, match="custom_vjp"):
        tangent()
    step = 1e-3 * x
    numeric = LAYER.apply(weights, x + step).y - LAYER.apply(weights, x - step).y
    np.testing.assert_allclose(tangent(implementation="generic"), numeric / 2e-3, atol=1e-3)


@pytest.mark.clause("MASK-2")
def test_traced_lengths_are_clamped() -> None:
    (weights, x, _), _ = native(LAYER)
    run = jax.jit(lambda lengths: LAYER.apply(weights, x, lengths=lengths).y)
    expected = LAYER.apply(weights, x, lengths=np.array([TIME, 0, 2])).y
    for kind in (np.int32, np.uint8, np.int8, np.uint32):
        large = min(np.iinfo(kind).max, 2**32 - 1)
        low = 0 if kind in (np.uint8, np.uint32) else -3
        found = run(jnp.asarray(np.array([large, low, 2], kind)))
        near(found, expected, 4, "float32", kind.__name__)


def test_a_bound_layer_keeps_nothing_of_a_trace() -> None:
    weights, x, _, _ = arguments(LAYER, "float32")
    bound = LAYER.bind(weights, backend="jax")
    assert jax.jit(lambda factor: bound(jnp.asarray(x)).y * factor)(2.0).shape == (3, 5, 2)
    assert jax.jit(lambda v: bound(v).y)(x).shape == (3, 5, 2)
    assert jax.jit(lambda factor: bound(x).y * factor)(2.0).shape == (3, 5, 2)
    fresh = LAYER.bind(weights, backend="jax")
    assert jax.jit(lambda factor: fresh(x).y * factor)(2.0).shape == (3, 5, 2)
    near(fresh(x).y, bound(x).y, 0, "float32")


def test_a_bound_layer_outlives_the_weights_it_was_made_from() -> None:
    (weights, x, _), _ = native(LAYER)
    expected = np.asarray(LAYER.apply(weights, x).y)
    bound = LAYER.bind(weights)
    for weight in weights.values():
        weight.delete()  # as a training step that donates its weights does
    near(bound(x).y, expected, 0, "float32")


@pytest.mark.clause("PURE-1", "PURE-2")
def test_arguments_and_results_share_no_memory() -> None:
    weights, x, state, call = arguments(LAYER, "float32", "right")
    call = {"mask": call["mask"].copy()}
    aligned = np.zeros(64 + x.nbytes, np.uint8)
    start = -aligned.ctypes.data % 64  # where XLA may take over memory instead of copying it
    view = aligned[start : start + x.nbytes].view(np.float32).reshape(x.shape)
    view[:] = x
    outputs, back = LAYER.vjp(weights, view, initial_state=state, backend="jax", **call)
    cotangents = tuple(np.ones_like(y) for y in outputs)
    expected = gradient_arrays(back(cotangents))
    values = [y.copy() for y in outputs]
    for array in (view, *state, *weights.values()):
        array[...] = 7
    call["mask"][...] = True
    for y in outputs:
        y[...] = 9
    again = gradient_arrays(back(cotangents))
    for name, gradient in expected.items():
        near(again[name], gradient, 0, "float32", name)
    assert not np.array_equal(outputs.y, values[0])


# float64 where the process's flag is off


def test_float64_where_the_flag_is_off() -> None:
    assert not jax.config.jax_enable_x64
    weights, x, state, call = arguments(LAYER, mask="right")
    want, back_there = LAYER.vjp(weights, x, initial_state=state, backend="numpy", **call)
    cotangents = random_cotangents(want, np.random.default_rng(3))
    expected = back_there(cotangents)
    with wide("float64"):
        weights, x, state, drawn = jax.tree.map(jnp.asarray, (weights, x, state, cotangents))
        lengths = jnp.asarray(LENGTHS, jnp.int64)
    for call in ({"mask": MASKS["right"]}, {"lengths": lengths}):
        outputs, back = LAYER.vjp(weights, x, initial_state=state, **call)
        for found, value in zip(outputs, want, strict=True):
            near(found, value, 100, "float64")
        for name, found in gradient_arrays(back(drawn)).items():
            near(found, gradient_arrays(expected)[name], 100, "float64", name)
    near(LAYER.bind(weights)(x, initial_state=state, **call).y, want[0], 100, "float64")

    def run(weights: Any, x: Any, state: Any) -> Any:
        return tuple(LAYER.apply(weights, x, initial_state=state, **call))

    # JAX's own backward pass, which runs after our contexts have closed.
    _, pull = jax.vjp(run, weights, x, state)
    d_weights, d_x, d_state = pull(drawn)
    for name, found in d_weights.items():
        near(found, expected.weights[name], 100, "float64", name)
    near(d_x, expected.x, 100, "float64")
    near(d_state[1], expected.initial_state[1], 100, "float64")
    with wide("float64"):
        _, pull = jax.vjp(jax.jit(run), weights, x, state)
        near(pull(drawn)[1], expected.x, 100, "float64")
    for name, found in LAYER.gates(weights, x, **call).items():
        assert found.dtype.name == "float64", name


@pytest.mark.clause("PURE-3")
def test_threads_with_different_dtypes() -> None:
    calls = {dtype: arguments(LAYER, dtype, "holes") for dtype in ("float64", "float32")}

    def once(dtype: str) -> list[Any]:
        weights, x, state, call = calls[dtype]
        outputs, back = LAYER.vjp(weights, x, initial_state=state, backend="jax", **call)
        return [*outputs, *gradient_arrays(back(tuple(outputs))).values()]

    expected = {dtype: once(dtype) for dtype in calls}
    faults: list[BaseException] = []

    def work(first: int) -> None:
        try:
            for count in range(20):
                dtype = ("float64", "float32")[(first + count) % 2]
                for found, value in zip(once(dtype), expected[dtype], strict=True):
                    near(found, value, 0, dtype)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            faults.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


# Plans, options and what is declared


@pytest.mark.parametrize("name", ["scan", "generic"])
@pytest.mark.parametrize("cell", CELLS)
def test_every_implementation_equals_generic(cell: str, name: str) -> None:
    layer = CELLS[cell](**BOTH)
    question = {"dtype": "float64", "mask": "any", "gradient": "yes"}
    plan = layer.explain(backend="jax", implementation=name, **question)
    assert plan.implementations() == (name,)
    *args, call = arguments(layer, mask="holes")
    agree(layer, "float64", 100, call, args, implementation=name)


def test_the_plan_prefers_the_written_backward_pass() -> None:
    for gradient in ("no", "yes", "unknown"):
        assert LAYER.explain(backend="jax", gradient=gradient).implementations() == ("scan",)
    assert registry.get("jax").generic() is not None


def test_without_the_compiler_the_numbers_are_the_same() -> None:
    *args, call = arguments(LAYER, mask="holes")
    agree(LAYER, "float64", 100, call, args, compile=False)
    weights, x = (jax.tree.map(jnp.asarray, value) for value in arguments(LAYER, "float32")[:2])
    assert "jit" not in str(jax.make_jaxpr(lambda v: LAYER.apply(weights, v, compile=False).c)(x))
    compiled = str(jax.make_jaxpr(lambda v: LAYER.apply(weights, v).c)(x))
    assert "jit" in compiled
    assert isinstance(LAYER.apply(weights, x[:, :0], compile=False).h, jax.Array)


def test_devices() -> None:
    backend = registry.get("jax")
    first = backend.devices()[0]
    weights, x, _, _ = arguments(LAYER, "float32")
    assert LAYER.apply(weights, x, backend="jax", device=first).y.shape == (3, 5, 2)
    with pytest.raises(sc.ArgumentError, match=r"device='nowhere:3'.*expected one of"):
        LAYER.apply(weights, x, backend="jax", device="nowhere:3")


def test_what_is_no_array_is_refused() -> None:
    weights, _, _, _ = arguments(LAYER, "float32")
    with pytest.raises(sc.DtypeError, match="ShapeDtypeStruct"):
        LAYER.apply(weights, jax.ShapeDtypeStruct((3, 5, 4), "float32"))


def test_shapes_alone_can_be_asked_for() -> None:
    (weights, x, _), _ = native(LAYER)
    shapes = jax.eval_shape(lambda v: LAYER.apply(weights, v), x)
    assert shapes.y.shape == (BATCH, TIME, UNITS)


def test_gates_equal_numpy() -> None:
    case = Case("gates", sc.Stack([unlike("concat", return_sequences=True), sc.LSTM(2)]), "holes")
    weights, x, call = case.arguments()
    found = case.layer.gates(weights, x, backend="jax", **call)
    expected = case.layer.gates(weights, x, backend="numpy", **call)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13, err_msg=name)
