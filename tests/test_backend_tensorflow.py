"""The TensorFlow backend against NumPy's, its own autodiff, and the ways in which it compiles."""

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
    TIME,
    Case,
    activation_cases,
    assert_close,
    assert_same_bits,
    composites,
    equation_cases,
    flat,
    gradient_arrays,
    random_cotangents,
)
from seqcore.registry import registry

tf = pytest.importorskip("tensorflow")

EPS = 100
IMPLEMENTATIONS = ("while_loop", "generic")
WAYS = ("off", "graph", "xla")


@pytest.fixture(scope="module", autouse=True)
def _backend() -> Iterator[None]:
    from seqcore_tensorflow.registration import seqcore_backends

    if "tensorflow" in registry.names():
        yield
        return
    with registry.temporarily(seqcore_backends()[0]):
        yield


def native(value: Any) -> Any:
    """The same arrays as tensors."""
    return tf.nest.map_structure(lambda v: None if v is None else tf.constant(v), value)


def check(case: Case, dtype: str = "float64", **options: Any) -> None:
    """Outputs of `apply` and `vjp`, and gradients, against the NumPy backend's."""
    weights, x, others = case.arguments(dtype)
    precision = {k: v for k, v in options.items() if k == "matmul_precision"}
    on_numpy = {**others, **precision, "backend": "numpy"}
    here = {**others, **options, "backend": "tensorflow"}
    expected, pullback = case.layer.vjp(weights, x, **on_numpy)
    cotangents = random_cotangents(expected, np.random.default_rng(0))
    wanted = gradient_arrays(pullback(cotangents))
    outputs, pullback = case.layer.vjp(weights, x, **here)
    found = gradient_arrays(pullback(cotangents))
    plain = case.layer.apply(weights, x, **here)
    for one, two, three in zip(flat(outputs), flat(plain), flat(expected), strict=True):
        assert one.dtype == two.dtype == three.dtype
        near(one, three, dtype)
        near(two, three, dtype)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype
        near(found[name], value, dtype, name)


def near(found: Any, expected: Any, dtype: str, what: str = "") -> None:
    """Within 100 eps in float64 and 30 in float32; a half type may round to its neighbour."""
    eps = {"float64": EPS, "float32": 30, "float16": 2, "bfloat16": 2}[dtype]
    ratio = {"float64": 2**-52, "float32": 2**-23, "float16": 2**-10, "bfloat16": 2**-7}[dtype]
    assert_close(found, expected, eps * ratio / 2**-52, what)


def tape_gradients(case: Case, dtype: str = "float64", **options: Any) -> tuple[Any, Any]:
    """Gradients through `apply` by a tape, and those of NumPy's vjp, by name."""
    weights, x, others = case.arguments(dtype)
    expected, pullback = case.layer.vjp(weights, x, backend="numpy", **others)
    cotangents = flat(random_cotangents(expected, np.random.default_rng(0)))
    given = cotangents if isinstance(expected, tuple) else cotangents[0]
    wanted = gradient_arrays(pullback(given))
    variables = {name: tf.Variable(value) for name, value in weights.items()}
    x, others = tf.constant(x), native(others)
    state = others.get("initial_state", ())
    with tf.GradientTape() as tape:
        tape.watch([x, *state])
        outputs = flat(case.layer.apply(variables, x, **others, **options))
        loss = tf.add_n([tf.reduce_sum(y * d) for y, d in zip(outputs, cotangents, strict=True)])
    d_weights, d_x, d_state = tape.gradient(loss, [variables, x, list(state)])
    states = {f"initial_state[{i}]": value for i, value in enumerate(d_state)}
    return {**d_weights, "x": d_x, **states}, wanted


def compare_gradients(found: Any, wanted: Any) -> None:
    for name, value in found.items():
        assert_close(value, wanted[name], EPS, name)


# Values and gradients.


@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize("case", equation_cases()[::3] + composites()[1::2], ids=lambda c: c.id)
def test_op_by_op_equals_numpy(case: Case) -> None:
    check(case, compile="off")


@pytest.mark.clause("ACT-1")
@pytest.mark.parametrize("case", activation_cases()[::4], ids=lambda c: c.id)
def test_activations_equal_numpy(case: Case) -> None:
    check(case, compile="off")


COMPILED = [
    Case("graph-rnn", CELLS["rnn"](go_backwards=True, **BOTH), "dead_row", True),
    Case("graph-lstm", CELLS["lstm"](mask_output="carry", **BOTH), "holes", True),
    Case("graph-gru", sc.Bidirectional(CELLS["gru"](**BOTH), "mul"), "left", True),
    Case("graph-before", CELLS["gru_before"]()),
    next(case for case in composites() if case.id == "stack_reversing_bidirectional-holes"),
    next(case for case in composites() if case.id == "stack_unmerged_end-none"),
]


@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize("case", COMPILED, ids=lambda c: c.id)
def test_graphs_equal_numpy(case: Case) -> None:
    check(case, compile="graph")


@pytest.mark.parametrize("case", COMPILED[:2], ids=lambda c: c.id)
def test_xla_equals_numpy(case: Case) -> None:
    check(case, compile="xla")


@pytest.mark.clause("DTYPE-4")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("way", ["off", "graph"])
def test_data_types(dtype: str, way: str) -> None:
    check(COMPILED[1], dtype, compile=way)


@pytest.mark.clause("DTYPE-4")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_xla_rounds_at_each_step(dtype: str) -> None:
    """XLA may drop a cast there and back; over a graph of this kind it must not."""
    check(Case("rounds", CELLS["rnn"](**BOTH), state=True), dtype, compile="xla")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_average(dtype: str) -> None:
    check(Case("ave", sc.Bidirectional(sc.GRU(2, **BOTH), "ave"), "holes"), dtype, compile="off")


@pytest.mark.clause("PREC-2")
@pytest.mark.clause("PREC-4")
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CELLS)
def test_precision(name: str, implementation: str, precision: str) -> None:
    """Rounded like NumPy's; and the rounding is there: without it the bound is far exceeded."""
    case = Case(f"precision-{name}", CELLS[name](**BOTH), "holes", True)
    chosen = {"implementation": implementation, "compile": "off"}
    check(case, "float32", matmul_precision=precision, **chosen)
    weights, x, others = case.arguments("float32")
    rounded = case.layer.apply(weights, x, matmul_precision=precision, backend="numpy", **others)
    full = case.layer.apply(weights, x, backend="tensorflow", **chosen, **others)
    assert np.abs(rounded.y - full.y).max() > 100 * 2**-23


@pytest.mark.clause("PREC-4")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_the_tape_rounds_cotangents_too(implementation: str) -> None:
    case = Case("precision-tape", CELLS["lstm"](**BOTH), state=True)
    weights, x, others = case.arguments("float32")
    others["matmul_precision"] = "bfloat16"
    outputs, pullback = case.layer.vjp(weights, x, backend="numpy", **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(0))
    wanted = pullback(cotangents).weights["recurrent_kernel"]
    others |= {"implementation": implementation, "compile": "off"}
    kernel = tf.Variable(weights["recurrent_kernel"])
    with tf.GradientTape() as tape:
        outputs = case.layer.apply(weights | {"recurrent_kernel": kernel}, x, **others)
        pairs = zip(outputs, cotangents, strict=True)
        loss = tf.add_n([tf.reduce_sum(y * d) for y, d in pairs])
    near(tape.gradient(loss, kernel), wanted, "float32")


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounding_keeps_what_is_not_finite(precision: str) -> None:
    from seqcore_tensorflow.precision import round_bfloat16, round_tf32

    values = np.array([np.nan, np.inf, -np.inf, 3.4028235e38, -1.0000001, 1.00048828125], "f")
    found = (round_tf32 if precision == "tf32" else round_bfloat16)(tf.constant(values)).numpy()
    assert np.isnan(found[0])
    assert found[1] == np.inf
    assert found[2] == -np.inf
    assert found[3] == np.inf
    assert found[4] == -1
    assert found[5] == 1  # a tie in TF32, and below half a step in bfloat16


@pytest.mark.clause("MASK-6")
@pytest.mark.parametrize("way", ["off", "graph"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_nan_under_the_mask_stays_there(implementation: str, way: str) -> None:
    layer = CELLS["lstm"](mask_output="carry", **BOTH)
    weights, x, others = Case("nan", layer, "dead_row", True).arguments()
    others |= {"backend": "tensorflow", "implementation": implementation, "compile": way}
    dirty = np.where(others["mask"][:, :, None], x, np.nan)
    clean = np.where(others["mask"][:, :, None], x, 0)
    first, pull_first = layer.vjp(weights, dirty, **others)
    second, pull_second = layer.vjp(weights, clean, **others)
    cotangents = random_cotangents(first, np.random.default_rng(0))
    for one, two in zip(first, second, strict=True):
        assert_same_bits(one, two)
    one, two = gradient_arrays(pull_first(cotangents)), gradient_arrays(pull_second(cotangents))
    for name in one:
        assert_same_bits(one[name], two[name])
    with tf.GradientTape() as tape:
        tensor = tf.constant(dirty)
        tape.watch(tensor)
        loss = tf.reduce_sum(layer.apply(weights, tensor, **others).y)
    gradient = tape.gradient(loss, tensor).numpy()
    assert np.isfinite(gradient).all()
    assert not gradient[~others["mask"]].any()


@pytest.mark.clause("MASK-2")
def test_lengths() -> None:
    case = Case("lengths", sc.Bidirectional(CELLS["gru"](**BOTH)), "right")
    weights, x, others = case.arguments()
    by_mask = case.layer.apply(weights, x, backend="numpy", **others)
    for lengths in (LENGTHS, tf.constant(LENGTHS, tf.int32), tf.constant(LENGTHS, tf.uint8)):
        found = case.layer.apply(weights, tf.constant(x), lengths=lengths)
        for one, two in zip(found, by_mask, strict=True):
            assert_close(one, two, EPS)
    with pytest.raises(sc.MaskError):
        case.layer.apply(weights, x, lengths=tf.constant(LENGTHS + 1))


@pytest.mark.clause("DEG-1")
@pytest.mark.clause("DEG-2")
@pytest.mark.parametrize("shape", [(0, TIME), (BATCH, 0), (1, 1)])
def test_no_row_no_step_one_step(shape: tuple[int, int]) -> None:
    layer = CELLS["lstm"](**BOTH)
    weights, _, _ = Case("empty", layer).arguments()
    x = np.ones((*shape, FEATURES))
    outputs, pullback = layer.vjp(weights, x, backend="tensorflow")
    expected, wanted = layer.vjp(weights, x, backend="numpy")
    for one, two in zip(outputs, expected, strict=True):
        assert_close(one, two, EPS)
    found, other = (gradient_arrays(back(tuple(expected))) for back in (pullback, wanted))
    for name, value in other.items():
        assert_close(found[name], value, EPS, name)


# Native arrays and TensorFlow's own autodiff.


@pytest.mark.clause("ARR-2")
def test_tensors_in_tensors_out() -> None:
    case = Case("native", CELLS["lstm"](**BOTH), "holes", True)
    weights, x, others = case.arguments()
    expected = case.layer.apply(weights, x, backend="numpy", **others)
    for given in (tf.constant(x), tf.Variable(x)):
        found = case.layer.apply(native(weights), given, **native(others))
        for one, two in zip(found, expected, strict=True):
            assert isinstance(one, tf.Tensor)
            assert one.device == tf.constant(x).device
            assert_close(one, two, EPS)
    assert isinstance(case.layer.apply(native(weights), x, **others).y, tf.Tensor)


@pytest.mark.clause("PURE-1")
@pytest.mark.clause("PURE-2")
def test_numpy_arrays_are_copied() -> None:
    layer = CELLS["gru"](return_sequences=True)
    weights, x, _ = Case("copies", layer).arguments()
    weights = {name: np.array(value) for name, value in weights.items()}
    bound = layer.bind(weights, backend="tensorflow", compile="off")
    first = bound(x)
    y, pullback = bound.vjp(x)
    wanted = gradient_arrays(pullback(np.ones_like(y)))
    kept = x.copy()
    for array in (x, *weights.values()):
        array += 1
    found = gradient_arrays(pullback(np.ones_like(y)))
    for name, value in wanted.items():
        assert_same_bits(found[name], value)
    again = bound(kept)
    assert_same_bits(again, first)
    first += 1
    assert_same_bits(bound(kept), again)


def test_a_bound_layer_keeps_a_variable_s_values() -> None:
    layer = CELLS["rnn"]()
    weights, x, _ = Case("variables", layer).arguments()
    variables = {name: tf.Variable(value) for name, value in weights.items()}
    bound = layer.bind(variables)
    before = bound(x)
    for variable in variables.values():
        variable.assign_add(tf.ones_like(variable))
    assert_same_bits(bound(x), before)


TAPED = [
    Case("tape-lstm", CELLS["lstm"](**BOTH), "holes", True),
    Case("tape-last", sc.Bidirectional(CELLS["gru"]()), "dead_row", True),
    Case("tape-plain", CELLS["gru_before"](use_bias=False, **BOTH)),
]


@pytest.mark.clause("ARR-4")
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("way", ["off", "graph"])
@pytest.mark.parametrize("case", TAPED, ids=lambda c: c.id)
def test_a_tape_equals_vjp(case: Case, way: str, implementation: str) -> None:
    compare_gradients(*tape_gradients(case, implementation=implementation, compile=way))


@pytest.mark.clause("ARR-4")
def test_a_tape_through_xla_equals_vjp() -> None:
    compare_gradients(*tape_gradients(TAPED[0], compile="xla"))


@pytest.mark.clause("ARR-4")
@pytest.mark.parametrize("jit", [False, True])
def test_inside_a_function_of_the_user(jit: bool) -> None:
    wanted: dict[str, Any] = {}

    @tf.function(jit_compile=jit, autograph=False)
    def step() -> Any:
        found, other = tape_gradients_of(variables)
        wanted.update(other)
        return found

    case = TAPED[0]
    variables = {name: tf.Variable(value) for name, value in case.arguments()[0].items()}

    def tape_gradients_of(variables: Any) -> tuple[Any, Any]:
        weights, x, others = case.arguments()
        expected, pullback = case.layer.vjp(weights, x, backend="numpy", **others)
        cotangents = random_cotangents(expected, np.random.default_rng(0))
        with tf.GradientTape() as tape:
            outputs = case.layer.apply(variables, tf.constant(x), **native(others))
            assert outputs.y.shape == (BATCH, TIME, 2)
            pairs = zip(outputs, cotangents, strict=True)
            loss = tf.add_n([tf.reduce_sum(y * d) for y, d in pairs])
        return tape.gradient(loss, variables), pullback(cotangents).weights

    compare_gradients(step(), wanted)


def test_vjp_inside_a_function_of_the_user() -> None:
    case = TAPED[1]
    weights, x, others = case.arguments()
    y, pullback = case.layer.vjp(weights, x, backend="numpy", **others)
    wanted = gradient_arrays(pullback(np.ones_like(y)))

    @tf.function(autograph=False)
    def step(x: Any) -> Any:
        y, pullback = case.layer.vjp(weights, x, **others)
        return gradient_arrays(pullback(tf.ones_like(y)))

    compare_gradients(step(tf.constant(x)), wanted)


@pytest.mark.parametrize("way", ["off", "graph"])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_second_order(implementation: str, way: str) -> None:
    """A product with the Hessian against differences of NumPy's gradients."""
    case = Case("second order", CELLS["rnn"](**BOTH), "holes", True)
    weights, x, others = case.arguments()
    direction = np.random.default_rng(3).normal(size=x.shape)
    outputs, _ = case.layer.vjp(weights, x, backend="numpy", **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(0))

    def gradients(x: Any) -> Any:
        _, pullback = case.layer.vjp(weights, x, backend="numpy", **others)
        return gradient_arrays(pullback(cotangents))

    step = 1e-5
    above, below = gradients(x + step * direction), gradients(x - step * direction)
    tensors, tensor = native(weights), tf.constant(x)
    arguments = native(others) | {"implementation": implementation, "compile": way}
    with tf.GradientTape() as outer:
        outer.watch([tensors, tensor])
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            outputs = case.layer.apply(tensors, tensor, **arguments)
            pairs = zip(outputs, cotangents, strict=True)
            loss = tf.add_n([tf.reduce_sum(y * d) for y, d in pairs])
        along = tf.reduce_sum(tape.gradient(loss, tensor) * direction)
    second = outer.gradient(along, [tensors, tensor])
    for name, value in {**second[0], "x": second[1]}.items():
        difference = (above[name] - below[name]) / (2 * step)
        np.testing.assert_allclose(value, difference, rtol=0, atol=1e-8, err_msg=name)


def test_vectorised_map() -> None:
    case = TAPED[0]
    weights, x, others = case.arguments()
    several = np.stack([x, 2 * x, x + 1])
    tensors, others = native(weights), native(others)

    def both(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = case.layer.apply(tensors, x, **others).y
            loss = tf.reduce_sum(y * y)
        return y, tape.gradient(loss, x)

    found = tf.vectorized_map(both, tf.constant(several), fallback_to_while_loop=False)
    for index, one in enumerate(several):
        for here, alone in zip(found, both(tf.constant(one)), strict=True):
            assert_close(here[index], alone, EPS)


@pytest.mark.parametrize("watched", ["x", "kernel"])
def test_forward_mode_is_refused(watched: str) -> None:
    assert registry.get("tensorflow").capabilities.support("forward_mode") == "unsupported"
    layer = CELLS["rnn"]()
    weights, x, _ = Case("forward mode", layer).arguments()
    variables = {name: tf.Variable(value) for name, value in weights.items()}
    tensor = tf.constant(x)
    primal = tensor if watched == "x" else variables["kernel"]
    with tf.autodiff.ForwardAccumulator(primal, tf.ones_like(primal)):
        with pytest.raises(sc.UnsupportedFeature, match="ForwardAccumulator"):
            layer.apply(variables, tensor)
        layer.apply(weights, x, backend="tensorflow")  # nothing of it is watched


# Plans, compilation and what is left alone.


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("gradient", ["no", "yes", "unknown"])
def test_each_implementation_can_be_had(implementation: str, gradient: Any) -> None:
    layer = sc.Bidirectional(sc.LSTM(2))
    plan = layer.explain(backend="tensorflow", implementation=implementation, gradient=gradient)
    assert plan.implementations() == (implementation, implementation)


def test_the_default_plan() -> None:
    plan = sc.Stack([sc.GRU(2, return_sequences=True), sc.LSTM(2)]).explain(backend="tensorflow")
    assert plan.implementations() == ("while_loop", "while_loop")
    assert plan.version == tf.__version__


def test_generic_refuses_a_tape_through_xla() -> None:
    case = Case("refused", CELLS["rnn"]())
    weights, x, _ = case.arguments()
    with tf.GradientTape(), pytest.raises(sc.PlanError, match="XLA cannot hand"):
        case.layer.apply(weights, tf.constant(x), implementation="generic", compile="xla")


def test_a_new_batch_or_time_makes_no_new_graph() -> None:
    layer = sc.LSTM(5, return_sequences=True)
    rng = np.random.default_rng(0)
    weights = layer.init(FEATURES, dtype="float64")
    bound = layer.bind(weights, backend="tensorflow", compile="graph")
    traces = []
    for batch, time in [(2, 3), (4, 7), (1, 1), (3, 2), (2, 9)]:
        x = rng.normal(size=(batch, time, FEATURES))
        lengths = rng.integers(0, time + 1, size=batch)
        y, pullback = bound.vjp(x, lengths=lengths)
        wanted, back = layer.vjp(weights, x, lengths=lengths, backend="numpy")
        assert_close(y, wanted, EPS)
        found, other = (gradient_arrays(pull(np.ones_like(y))) for pull in (pullback, back))
        for name, value in other.items():
            assert_close(found[name], value, EPS, name)
        traces.append(graphs_made())
    assert traces == [traces[0]] * 5


def graphs_made() -> int:
    from seqcore_tensorflow.compiling import Compiled

    programs = registry.get("tensorflow").programs.values()
    functions = [f for program in programs for f in getattr(program, "__dict__", {}).values()]
    return sum(f.graphs for f in functions if isinstance(f, Compiled))


def test_one_program_takes_several_numbers_of_features() -> None:
    layer = CELLS["rnn"]()
    for features in (2, 3):
        weights = layer.init(features, dtype="float64")
        x = np.ones((BATCH, TIME, features))
        found = layer.apply(weights, x, backend="tensorflow")
        assert_close(found, layer.apply(weights, x, backend="numpy"), EPS)


def test_threads() -> None:
    case = Case("threads", CELLS["gru"](return_sequences=True), "holes", True)
    weights, x, others = case.arguments()
    wanted = case.layer.apply(weights, x, backend="tensorflow", **others)
    registry.get("tensorflow").programs.clear()
    found: list[Any] = []

    def run() -> None:
        found.extend(
            case.layer.apply(weights, x, backend="tensorflow", **others) for _ in range(20)
        )

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for y in found:
        assert_same_bits(y, wanted)


def test_global_state_is_left_alone() -> None:
    def state() -> tuple[Any, ...]:
        return (
            tf.config.experimental.tensor_float_32_execution_enabled(),
            tf.config.threading.get_intra_op_parallelism_threads(),
            tf.config.threading.get_inter_op_parallelism_threads(),
            tf.config.functions_run_eagerly(),
            tf.config.optimizer.get_jit(),
        )

    before = state()
    for way in WAYS:
        check(Case("state", CELLS["rnn"](), "holes"), "float32", compile=way)
    assert state() == before


def test_errors_name_the_subject() -> None:
    layer = CELLS["rnn"]()
    weights, x, _ = Case("errors", layer).arguments()
    ragged = tf.RaggedTensor.from_tensor(tf.constant(x), lengths=[1, 2, 3])
    with pytest.raises(sc.DtypeError, match=r"RaggedTensor.*to_tensor"):
        layer.apply(weights, ragged)
    with pytest.raises(sc.ArgumentError, match="gpu:7"):
        layer.apply(weights, x, backend="tensorflow", device="gpu:7")
    with pytest.raises(sc.DtypeError):
        layer.apply(weights, tf.cast(x, tf.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_border(dtype: str) -> None:
    backend = registry.get("tensorflow")
    value = np.arange(6).reshape(2, 3)[:, ::-1].astype(DTYPES[dtype])
    array = backend.asarray(value, dtype, "cpu")
    info = backend.describe(array)
    assert (info.shape, info.dtype, info.device, info.traced) == ((2, 3), dtype, "cpu", False)
    back = backend.to_numpy(array)
    assert_same_bits(back, np.ascontiguousarray(value))
    back[:] = 0
    assert_same_bits(backend.to_numpy(array), np.ascontiguousarray(value))


@pytest.mark.parametrize(
    ("batch", "time", "expected"),
    [(1, 100, True), (1, 31, False), (64, 256, True), (64, 31, False)],
)
def test_what_auto_gives_to_xla(batch: int, time: int, expected: bool) -> None:
    from seqcore_tensorflow.compiling import worth_compiling

    x, state = tf.zeros((batch, time, 128)), tf.zeros((batch, 4))
    assert worth_compiling([x, None, state]) is expected
    assert worth_compiling([tf.transpose(x, (1, 0, 2)), None, state]) is expected


def test_auto_compiles_few_shapes() -> None:
    from seqcore_tensorflow.compiling import FEWEST_STEPS, MOST_SHAPES, Compiled

    double = Compiled(lambda w, x, state: w * x[:, 0] + state, "/device:CPU:0", "auto")
    for batch in range(1, MOST_SHAPES + 4):
        for _ in range(2):
            double(tf.ones(1), tf.ones((batch, FEWEST_STEPS, 1)), tf.ones((batch, 1)))
    assert double.compilations == MOST_SHAPES
    assert double.graphs == MOST_SHAPES + 1


def test_numpy_arrays_alone_inside_a_function_are_refused() -> None:
    layer = CELLS["rnn"]()
    weights, x, _ = Case("neutral", layer).arguments()

    @tf.function(autograph=False)
    def step() -> Any:
        return layer.apply(weights, x, backend="tensorflow")

    with pytest.raises(sc.UnsupportedFeature, match="give x as a tensor"):
        step()


@pytest.mark.parametrize("way", ["apply", "layer", "bound"])
def test_autograph_leaves_the_layer_as_it_is_written(
    way: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = sc.LSTM(3)
    weights = {name: tf.Variable(value) for name, value in layer.init(FEATURES).items()}
    bound = layer.bind(layer.init(FEATURES), backend="tensorflow")
    ways: dict[str, Any] = {
        "apply": lambda x: layer.apply(weights, x),
        "layer": lambda x: layer(x),
        "bound": lambda x: bound(x),
    }
    x = tf.ones((2, 4, FEATURES))
    monkeypatch.setattr(tf.get_logger(), "propagate", True)
    with caplog.at_level("WARNING"):
        found = tf.function(ways[way])(x)
    assert "AutoGraph" not in caplog.text
    np.testing.assert_allclose(found, bound(x), rtol=0, atol=1e-6)


def test_what_one_function_traced_of_a_bound_layer_is_not_met_in_another() -> None:
    layer = sc.LSTM(3)  # in a half type, whose weights are prepared by operations of the graph
    bound = layer.bind(layer.init(FEATURES, dtype="bfloat16"), backend="tensorflow")
    x = tf.ones((2, 4, FEATURES), tf.bfloat16)
    expected = np.asarray(bound(x), np.float32)
    for factor in (1, 2, 4):
        found = tf.function(lambda v, factor=factor: bound(v) * factor, autograph=False)(x)
        np.testing.assert_array_equal(np.asarray(found, np.float32), expected * factor)


@pytest.mark.clause("DEG-1")
def test_nothing_after_something_without_a_mask() -> None:
    layer = sc.LSTM(3)
    weights = layer.init(FEATURES)
    for shape in ((0, 4, FEATURES), (2, 0, FEATURES)):
        x = np.zeros(shape, np.float32)
        plain = layer.apply(weights, x, backend="tensorflow")
        lengths = np.zeros(shape[0], np.int64)
        np.testing.assert_array_equal(
            layer.apply(weights, x, backend="tensorflow", lengths=lengths), plain
        )


def test_a_graph_of_unknown_shape_may_meet_no_step_and_no_row() -> None:
    layer = sc.LSTM(4, return_sequences=True, return_state=True)
    weights, x, _ = Case("unknown", layer).arguments("float32")
    variables = {name: tf.Variable(value) for name, value in weights.items()}

    @tf.function(input_signature=[tf.TensorSpec((None, None, FEATURES))], autograph=False)
    def step(x: Any) -> Any:
        with tf.GradientTape() as tape:
            y, h, _ = layer.apply(variables, x)
        return y, h, tape.gradient(y, variables["kernel"])

    found = step(x)
    expected = layer.apply(weights, x)
    np.testing.assert_allclose(found[0], expected.y, rtol=0, atol=1e-6)
    for empty in (x[:, :0], x[:0]):
        y, h, gradient = step(empty)
        assert y.shape == (*empty.shape[:2], 4)
        assert h.shape == (empty.shape[0], 4)
        assert not gradient.numpy().any()
