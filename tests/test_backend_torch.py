"""The PyTorch backend: its numbers against NumPy's, its plans, its border, its process."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
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
    TIME,
    UNITS,
    Case,
    activation_cases,
    assert_close,
    assert_same_bits,
    equation_cases,
    flat,
    gradient_arrays,
    random_cotangents,
    random_state,
    random_weights,
)
from seqcore.registry import registry
from seqcore.spi import Request

torch = pytest.importorskip("torch", reason="torch, the engine that is tested")

from seqcore_torch.masks import Compaction  # noqa: E402
from seqcore_torch.native import Native, _contiguous, fuse  # noqa: E402
from seqcore_torch.precision import (  # noqa: E402
    full_precision,
    is_full,
    product,
    round_bfloat16,
    round_tf32,
)
from seqcore_torch.registration import seqcore_backends  # noqa: E402

CPU = torch.device("cpu")
EPS = 100
"""In units of float64's eps, for outputs and gradients of a few steps."""

CASES = equation_cases() + activation_cases()


@pytest.fixture(scope="module", autouse=True)
def _registered() -> Iterator[None]:
    """Use the backend as an installed one, be its entry point installed or not.

    One thread, since arrays as small as these only make threads wait for each other.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if not registry.knows("torch"):
            stack.enter_context(registry.temporarily(seqcore_backends()[0]))
        yield
    torch.set_num_threads(threads)


def run(case: Case, backend: str, dtype: str = "float64", **options: Any) -> dict[str, Any]:
    """Every output and every gradient of a case, by name."""
    weights, x, others = case.arguments(dtype)
    outputs, pullback = case.layer.vjp(weights, x, backend=backend, **options, **others)
    cotangents = random_cotangents(outputs, np.random.default_rng(7))
    named = {f"output {index}": y for index, y in enumerate(flat(outputs))}
    return named | gradient_arrays(pullback(cotangents))


@functools.lru_cache(maxsize=1)
def numpys(index: int) -> dict[str, Any]:
    """What NumPy says to a case; asked for by both implementations, one after the other."""
    return run(CASES[index], "numpy")


def compare(found: dict[str, Any], expected: dict[str, Any], eps: float) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert isinstance(found[name], np.ndarray)
        assert_close(found[name], value, eps, name)


def worst(found: dict[str, Any], expected: dict[str, Any], eps: float, prefix: str) -> float:
    """The worst deviation of what begins so, in units of eps times the largest number."""
    worst = 0.0
    for name in (name for name in expected if name.startswith(prefix)):
        mine, theirs = (np.asarray(each[name], np.float64) for each in (found, expected))
        scale = max(1.0, float(np.abs(theirs).max()))
        worst = max(worst, float(np.abs(mine - theirs).max()) / (eps * scale))
    return worst


def tensors(weights: dict[str, Any], *, grad: bool = False) -> dict[str, Any]:
    return {name: torch.tensor(value, requires_grad=grad) for name, value in weights.items()}


def plan(layer: Any, **question: Any) -> tuple[str, ...]:
    return layer.explain(backend="torch", **question).implementations()


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", [None, "generic"])
@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.id for case in CASES])
def test_outputs_and_gradients_equal_numpys(index: int, implementation: str | None) -> None:
    compare(run(CASES[index], "torch", implementation=implementation), numpys(index), EPS)


@pytest.mark.parametrize("implementation", [None, "generic"])
@pytest.mark.parametrize(("dtype", "output_eps", "gradient_eps"), [
    # In half types NumPy and the generic path round alike, and nothing else runs.
    ("float32", 16, 128), ("float16", 2, 4), ("bfloat16", 2, 4),
])  # fmt: skip
def test_dtypes(
    dtype: str, output_eps: float, gradient_eps: float, implementation: str | None
) -> None:
    eps = 2.0 ** {"float32": -23, "float16": -10, "bfloat16": -7}[dtype]
    for case in equation_cases():
        if case.mask not in ("none", "holes") or not case.state:
            continue
        found = run(case, "torch", dtype, implementation=implementation)
        expected = run(case, "numpy", dtype)
        assert {value.dtype for value in found.values()} == {np.dtype(DTYPES[dtype])}
        assert worst(found, expected, eps, "output") <= output_eps, case.id
        assert worst(found, expected, eps, "") <= gradient_eps, case.id


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
@pytest.mark.parametrize("output", ["zero", "carry"])
@pytest.mark.parametrize("name", CELLS)
def test_lengths_equal_the_mask_they_stand_for(name: str, output: str, direction: str) -> None:
    layer = CELLS[name](mask_output=output, go_backwards=direction == "backward", **BOTH)
    if direction == "both":
        layer = sc.Bidirectional(layer)
    weights, x, others = Case(f"{name}{direction}", layer, "right", state=True).arguments()
    del others["mask"]
    found, pullback = layer.vjp(weights, x, lengths=LENGTHS, backend="torch", **others)
    expected, theirs = layer.vjp(weights, x, mask=MASKS["right"], backend="numpy", **others)
    for mine, numpy in zip(flat(found), flat(expected), strict=True):
        assert_close(mine, numpy, EPS)
    cotangents = random_cotangents(expected, np.random.default_rng(1))
    compare(gradient_arrays(pullback(cotangents)), gradient_arrays(theirs(cotangents)), EPS)


@pytest.mark.clause("MASK-6", "MASK-7")
@pytest.mark.parametrize("implementation", [None, "generic"])
@pytest.mark.parametrize("mask", ["right", "left", "holes", "dead_row", "all"])
@pytest.mark.parametrize("name", CELLS)
def test_nan_under_the_mask_never_leaves(name: str, mask: str, implementation: str | None) -> None:
    cell = CELLS[name](mask_output="carry", **BOTH)
    for layer in (cell, cell.replace(go_backwards=True), sc.Bidirectional(cell)):
        case = Case(name + mask, layer, mask, state=True)
        weights, x, others = case.arguments()
        clean = run(case, "torch", implementation=implementation)
        dirty_x = np.where(MASKS[mask][..., None], x, [np.nan, np.inf, -np.inf, 1e300])
        outputs, pullback = layer.vjp(
            weights, dirty_x, backend="torch", implementation=implementation, **others
        )
        cotangents = random_cotangents(outputs, np.random.default_rng(7))
        named = {f"output {index}": y for index, y in enumerate(flat(outputs))}
        found = named | gradient_arrays(pullback(cotangents))
        for key, value in clean.items():
            assert_same_bits(found[key], value)
        assert not found["x"][~MASKS[mask]].any()

        taped = torch.tensor(dirty_x, requires_grad=True)
        outputs = layer.apply(tensors(weights), taped, implementation=implementation, **others)
        flat(outputs)[0].sum().backward()
        assert not taped.grad[torch.tensor(~MASKS[mask])].any()
        assert torch.isfinite(taped.grad).all()


@pytest.mark.clause("MASK-3", "MASK-5")
@pytest.mark.parametrize("mask", ["dead_row", "all"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_a_row_without_a_valid_step_keeps_its_state_bit_for_bit(name: str, mask: str) -> None:
    layer = CELLS[name](mask_output="carry", **BOTH)
    weights, x, others = Case(name, layer, mask, state=True).arguments()
    for state in others["initial_state"]:
        state[1] = -0.0, 1e3
    assert plan(layer, dtype="float64", mask="any") == ("native",)
    y, *final = layer.apply(weights, x, backend="torch", **others)
    for found, given in zip(final, others["initial_state"], strict=True):
        assert_same_bits(found[1], given[1])
    for step in y[1]:
        assert_same_bits(step, others["initial_state"][0][1])


def test_growth_on_the_padding_stays_there() -> None:
    # Doubling at every step overflows float32 long before the end of the padding.
    layer = sc.SimpleRNN(2, activation="relu", return_state=True)
    weights = {
        "kernel": np.ones((1, 2), np.float32),
        "recurrent_kernel": 2 * np.eye(2, dtype=np.float32),
        "bias": np.ones(2, np.float32),
    }
    x = np.ones((1, 300, 1), np.float32)
    _, pullback = layer.vjp(weights, x, lengths=[2], backend="torch")
    y, _ = layer.apply(weights, x, lengths=[2], backend="torch")
    np.testing.assert_array_equal(y, [[6, 6]])
    ones = np.ones((1, 2), np.float32)
    np.testing.assert_array_equal(
        pullback((ones, 0 * ones)).weights["recurrent_kernel"], [[2, 2], [2, 2]]
    )


@pytest.mark.parametrize("case", [Case(f"p-{name}", CELLS[name](**BOTH)) for name in CELLS])
def test_repeated_calls_give_the_same_bits(case: Case) -> None:
    for mask in ("none", "holes"):
        case = Case(case.id, case.layer, mask, state=True)
        first, second = run(case, "torch", "float32"), run(case, "torch", "float32")
        for name in first:
            assert_same_bits(first[name], second[name])


# --- plans ---------------------------------------------------------------------------------------

LSTM = functools.partial(sc.LSTM, 3, return_sequences=True)
GRU = functools.partial(sc.GRU, 3, return_sequences=True)
BI = sc.Bidirectional(LSTM())
NATIVE, GENERIC = ("native",), ("generic",)


@pytest.mark.parametrize(("layer", "mask", "expected"), [
    (sc.SimpleRNN(3), "none", NATIVE),
    (sc.SimpleRNN(3), "any", NATIVE),
    (sc.SimpleRNN(3, activation="relu"), "none", NATIVE),
    (sc.SimpleRNN(3, activation="relu"), "lengths", GENERIC),
    (sc.SimpleRNN(3, activation="linear"), "none", GENERIC),
    (LSTM(), "none", NATIVE),
    (LSTM(use_bias=False), "lengths", NATIVE),
    (LSTM(go_backwards=True), "any", NATIVE),
    (LSTM(go_backwards=True, keep_order=True), "none", NATIVE),
    (LSTM(activation="relu"), "none", GENERIC),
    (LSTM(recurrent_activation="hard_sigmoid"), "none", GENERIC),
    (GRU(), "any", NATIVE),
    (GRU(reset_after=False), "none", GENERIC),
    (BI, "none", NATIVE),
    (BI, "lengths", NATIVE * 2),
    (sc.Bidirectional(LSTM(), merge_mode="sum"), "none", NATIVE * 2),
    (sc.Bidirectional(LSTM(), backward_layer=GRU()), "none", NATIVE * 2),
    (sc.Bidirectional(LSTM(), backward_layer=LSTM(activation="relu")), "none", NATIVE + GENERIC),
    (sc.Stack([LSTM(), LSTM()], return_sequences=True), "none", NATIVE),
    (sc.Stack([LSTM(), LSTM()], return_sequences=True), "any", NATIVE * 2),
    (sc.Stack([LSTM(), sc.LSTM(4)]), "none", NATIVE * 2),
    (sc.Stack([LSTM(), sc.GRU(3)]), "none", NATIVE * 2),
    (sc.Stack([BI, BI], return_sequences=True), "none", NATIVE),
    (sc.Stack([BI, LSTM()], return_sequences=True), "none", NATIVE * 2),
    (sc.Stack([LSTM(go_backwards=True), sc.LSTM(3)]), "none", NATIVE * 2),
])  # fmt: skip
@pytest.mark.parametrize("gradient", ["no", "yes", "unknown"])
def test_plans(layer: Any, mask: str, gradient: str, expected: tuple[str, ...]) -> None:
    assert plan(layer, mask=mask, gradient=gradient) == expected


@pytest.mark.parametrize(("layer", "question", "reason"), [
    (LSTM(), {"dtype": "bfloat16"}, "sums gradients in bfloat16"),
    (LSTM(), {"dtype": "float16"}, "sums gradients in float16"),
    (LSTM(), {"matmul_precision": "tf32"}, "'highest', not 'tf32'"),
    (GRU(reset_after=False), {}, "resets after"),
    (LSTM(activation="relu"), {}, "activation tanh, not relu"),
    (LSTM(recurrent_activation="relu"), {}, "recurrent_activation sigmoid"),
    (sc.SimpleRNN(3, activation="relu"), {"mask": "any"}, "overflow"),
])  # fmt: skip
def test_refusals_say_why(layer: Any, question: dict[str, Any], reason: str) -> None:
    explanation = layer.explain(backend="torch", **question)
    assert explanation.implementations() == GENERIC
    (refusal,) = explanation.root.refusals
    assert refusal.implementation == "native"
    assert reason in refusal.reason
    with pytest.raises(sc.PlanError, match="no implementation"):
        layer.explain(backend="torch", implementation="native", **question)


def test_a_cuda_device_is_taken_by_native_too() -> None:
    """Asked of the implementation itself, since no CUDA device may be here."""
    request = Request(layer=LSTM(), dtype="float16", device="cuda:0")
    assert Native().refuses(request) is None
    assert "not meta" in str(Native().refuses(Request(LSTM(), "float32", "meta")))


def test_right_padding_moves_no_step() -> None:
    mask = torch.tensor(MASKS["right"])
    assert Compaction.of(mask, backwards=False, padded_right=True).order is None
    turned = Compaction.of(mask, backwards=True, padded_right=True)
    assert turned.order is not None
    assert torch.equal(turned.order[turned.inverse], torch.arange(BATCH * TIME))


# --- autodiff ------------------------------------------------------------------------------------


AUTODIFF = [
    Case(f"{name}-{kind}-{mask}", layer, mask, state=True)
    for name in CELLS
    for kind, layer in {
        "one": CELLS[name](mask_output="carry", **BOTH),
        "both": sc.Bidirectional(CELLS[name](**BOTH)),
    }.items()
    for mask in ("none", "holes", "right")
]


@pytest.mark.clause("ARR-2", "ARR-4")
@pytest.mark.parametrize("implementation", [None, "generic"])
@pytest.mark.parametrize("case", AUTODIFF, ids=lambda case: case.id)
def test_autograd_through_apply_equals_vjp(case: Case, implementation: str | None) -> None:
    weights, x, others = case.arguments()
    native = tensors(weights, grad=True)
    leaf = torch.tensor(x, requires_grad=True)
    state = tuple(torch.tensor(s, requires_grad=True) for s in others.pop("initial_state"))
    outputs = case.layer.apply(
        native, leaf, initial_state=state, implementation=implementation, **others
    )
    assert all(isinstance(y, torch.Tensor) and y.device == leaf.device for y in outputs)
    cotangents = random_cotangents(
        tuple(y.detach().numpy() for y in outputs), np.random.default_rng(7)
    )
    leaves = [*native.values(), leaf, *state]
    found = torch.autograd.grad(outputs, leaves, [torch.tensor(d) for d in cotangents])
    states = [f"initial_state[{index}]" for index in range(len(state))]
    named = {f"output {index}": y.detach().numpy() for index, y in enumerate(outputs)}
    named |= {k: d.numpy() for k, d in zip([*native, "x", *states], found, strict=True)}
    compare(named, run(case, "numpy"), EPS)


def test_a_parameter_in_torchs_layout_is_not_copied() -> None:
    layer = sc.LSTM(UNITS)
    weights = layer.init(FEATURES)
    stored = {name: torch.tensor(np.ascontiguousarray(v.T)) for name, v in weights.items()}
    request = Request(layer=layer, dtype="float32", device="cpu")
    kernel, recurrent, *_ = Native().prepare(request, {n: t.t() for n, t in stored.items()})
    assert kernel.data_ptr() == stored["kernel"].data_ptr()
    assert recurrent.data_ptr() == stored["recurrent_kernel"].data_ptr()
    assert (kernel.shape, kernel.stride()) == ((4 * UNITS, FEATURES), (FEATURES, 1))


def test_training_by_a_torch_optimizer_lowers_the_loss() -> None:
    layer = sc.Bidirectional(sc.GRU(4))
    weights = {
        name: torch.nn.Parameter(torch.tensor(value))
        for name, value in layer.init(FEATURES).items()
    }
    x = torch.randn(8, TIME, FEATURES, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(weights.values(), lr=0.05)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        loss = (layer.apply(weights, x) - 0.3).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("implementation", [None, "generic"])
@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("name", CELLS)
def test_second_order(name: str, mask: str, implementation: str | None) -> None:
    layer = CELLS[name](return_sequences=True)
    weights, x, others = Case(name, layer, mask).arguments()

    def function(x: Any, kernel: Any) -> Any:
        native = {**tensors(weights), "kernel": kernel}
        return layer.apply(native, x, implementation=implementation, **others)

    leaves = (
        torch.tensor(x, requires_grad=True),
        torch.tensor(weights["kernel"], requires_grad=True),
    )
    assert torch.autograd.gradgradcheck(function, leaves)


# PyTorch's own decompositions use what PyTorch deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", CELLS)
def test_torch_func_and_forward_mode_run_the_generic_path(name: str) -> None:
    layer = sc.Bidirectional(CELLS[name](return_sequences=True))
    arguments, x, _ = Case(name, layer).arguments()
    weights, x = tensors(arguments), torch.tensor(x)
    masks = torch.tensor(np.stack([MASKS["holes"], MASKS["right"]]))
    lengths = torch.tensor(np.stack([LENGTHS, LENGTHS[::-1]]))

    mapped = torch.func.vmap(lambda m: layer.apply(weights, x, mask=m))(masks)
    for each, mask in zip(mapped, masks, strict=True):
        assert_close(each, layer.apply(weights, x, mask=mask), EPS)
    mapped = torch.func.vmap(lambda n: layer.apply(weights, x, lengths=n))(lengths)
    for each, count in zip(mapped, lengths, strict=True):
        assert_close(each, layer.apply(weights, x, lengths=count), EPS)

    def loss(x: Any) -> Any:
        return layer.apply(weights, x, mask=masks[0]).square().sum()

    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(leaf), leaf)
    assert_close(torch.func.grad(loss)(x), gradient, EPS)
    tangent = torch.ones_like(x)
    _, slope = torch.func.jvp(loss, (x,), (tangent,))
    assert_close(slope, gradient.sum(), EPS * 10)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        assert_close(torch.autograd.forward_ad.unpack_dual(loss(dual)).tangent, slope, EPS)
        with pytest.raises(sc.PlanError, match=r"torch\.func"):
            layer.apply(weights, dual, implementation="native")


# --- precision -----------------------------------------------------------------------------------


@pytest.mark.clause("PREC-2")
@pytest.mark.parametrize(("mine", "bits"), [(round_tf32, 13), (round_bfloat16, 16)])
def test_rounding_is_to_nearest_even_on_the_bits(mine: Callable[..., Any], bits: int) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 2**32, 20000, dtype=np.uint32)
    ties = (patterns & np.uint32(2**32 - 2**bits)) | np.uint32(2 ** (bits - 1))
    x = np.concatenate([patterns, ties]).view(np.float32)
    x = np.concatenate([x[~np.isnan(x)], np.float32([0, -0.0, np.inf, -np.inf, 3.4e38, 1e-45])])
    whole = x.view(np.uint32).astype(np.uint64)
    low, kept = whole % 2**bits, whole >> bits
    half = 2 ** (bits - 1)
    up = (low > half) | ((low == half) & (kept % 2 == 1))
    expected = ((kept + up) << bits).astype(np.uint32).view(np.float32)
    expected = np.where(np.isinf(x), x, expected)
    assert_same_bits(mine(torch.tensor(x)).numpy(), expected)
    assert torch.isnan(mine(torch.tensor([float("nan")]))).all()


@pytest.mark.clause("PREC-3", "PREC-4")
@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("name", CELLS)
def test_reduced_precision_equals_numpys_over_one_step(name: str, precision: str) -> None:
    # One step, since a state on the edge between two rounded values may fall to either side.
    layer = CELLS[name](return_state=True)
    rng = np.random.default_rng(3)
    weights = random_weights(layer, rng, "float32")
    state = random_state(layer, rng, "float32")
    x = rng.normal(size=(BATCH, 1, FEATURES)).astype(np.float32)
    results = {}
    for key, backend, level in (
        ("mine", "torch", precision), ("numpys", "numpy", precision), ("full", "numpy", "highest")
    ):  # fmt: skip
        outputs, pullback = layer.vjp(
            weights, x, initial_state=state, backend=backend, matmul_precision=level
        )
        cotangents = random_cotangents(outputs, np.random.default_rng(7))
        named = {f"output {index}": y for index, y in enumerate(flat(outputs))}
        results[key] = named | gradient_arrays(pullback(cotangents))
    eps = 2.0**-23
    assert worst(results["mine"], results["numpys"], eps, "") <= 16
    assert worst(results["full"], results["numpys"], eps, "output") > 100

    native = tensors(weights, grad=True)
    outputs = layer.apply(native, torch.tensor(x), initial_state=state, matmul_precision=precision)
    found = torch.autograd.grad(
        outputs, list(native.values()), [torch.tensor(d) for d in cotangents]
    )
    by_autograd = {k: d.numpy() for k, d in zip(native, found, strict=True)}
    expected = {k: results["numpys"][k] for k in native}
    assert worst(by_autograd, expected, eps, "") <= 16


@pytest.mark.parametrize("precision", ["highest", "tf32"])
def test_the_seeds_table(precision: str) -> None:
    layer = sc.Bidirectional(sc.LSTM(3, return_sequences=True))
    weights = {
        name: np.full(shape, 0.0 if "bias" in name else 0.1, np.float32)
        for name, shape in layer.weight_shapes(5).items()
    }
    for side in ("forward", "backward"):
        weights[f"{side}.bias"][3:6] = 1
    x = [[[0.1, 4.2, 1.5, 1.1, 2.8], [1.0, 3.1, 2.5, 0.7, 1.1],
          [0.3, 2.1, 1.5, 2.1, 0.1], [2.2, 1.4, 0.5, 0.9, 1.1]]]  # fmt: skip
    y = layer.apply(weights, x, backend="torch", matmul_precision=precision)
    forward, backward = {
        "highest": ([0.3590647, 0.5511133, 0.5911575, 0.6303139],
                    [0.70387346, 0.5886358, 0.39516988, 0.21942243]),
        "tf32": ([0.35896602, 0.5509713, 0.5910032, 0.6301636],
                 [0.7037439, 0.5884772, 0.39501813, 0.21932526]),
    }[precision]  # fmt: skip
    np.testing.assert_allclose(y[0, :, :3], np.tile(forward, (3, 1)).T, rtol=0, atol=2e-7)
    np.testing.assert_allclose(y[0, :, 3:], np.tile(backward, (3, 1)).T, rtol=0, atol=2e-7)


@contextlib.contextmanager
def medium() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


LOSSY = {"setting": medium, "autocast": lambda: torch.autocast("cpu", torch.bfloat16)}


@pytest.mark.clause("PREC-1")
@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("name", ["lstm", "gru", "gru_before"])
def test_highest_holds_whatever_torch_is_set_to(name: str, kind: str) -> None:
    layer = sc.Bidirectional(CELLS[name](return_sequences=True).replace(units=32), merge_mode="sum")
    rng = np.random.default_rng(0)
    weights = random_weights(layer, rng, "float32", features=32)
    x = rng.normal(size=(4, 3, 32)).astype(np.float32)

    def both() -> list[np.ndarray]:
        found = [layer.apply(weights, x, backend="torch")]
        outputs, pullback = layer.vjp(weights, x, backend="torch")
        found += gradient_arrays(pullback(np.ones_like(outputs))).values()
        native = tensors(weights, grad=True)
        outputs = layer.apply(native, torch.tensor(x))
        assert outputs.dtype == torch.float32
        found += [d.numpy() for d in torch.autograd.grad(outputs.sum(), list(native.values()))]
        return found

    expected = both()
    with LOSSY[kind]():
        settings = snapshot()
        assert not is_full(CPU)
        found = both()
        assert snapshot() == settings
    for mine, theirs in zip(found, expected, strict=True):
        scale = max(1.0, float(np.abs(theirs).max()))
        assert float(np.abs(mine - theirs).max()) <= 64 * 2.0**-23 * scale


# --- the process ---------------------------------------------------------------------------------


def snapshot() -> dict[str, Any]:
    """Everything of PyTorch's that is one for the process and that a backend could change."""
    backends = torch.backends
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "grad": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "cuda": (backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32),
        "cudnn": (backends.cudnn.enabled, backends.cudnn.benchmark),
        "autocast": torch.is_autocast_enabled("cpu"),
        "random": torch.get_rng_state().tolist(),
    }


def test_global_state_is_left_as_it_was() -> None:
    before = snapshot()
    for case in AUTODIFF[:6]:
        run(case, "torch", "float32")
        run(case, "torch", "float32", matmul_precision="tf32")
        run(case, "torch", "bfloat16")
    with full_precision(torch.device("cuda")):
        assert not torch.backends.cudnn.allow_tf32
    assert snapshot() == before


def test_settings_are_restored_by_the_last_of_many_threads() -> None:
    a = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    exact = a.double() @ a.double()

    def work(_: int) -> float:
        return float((product(a, a, None) - exact).abs().max())

    with medium(), ThreadPoolExecutor(4) as pool:
        before = snapshot()
        errors = list(pool.map(work, range(200)))
        assert snapshot() == before
    assert max(errors) < 1e-4


@pytest.mark.clause("PURE-3")
def test_threads_share_a_bound_layer() -> None:
    layer = sc.Bidirectional(sc.LSTM(4, return_sequences=True))
    weights, x, _ = Case("threads", layer).arguments("float32")
    bound = layer.bind(weights, backend="torch")
    expected = bound(x, lengths=LENGTHS)
    _, pullback = bound.vjp(x, lengths=LENGTHS)
    gradient = pullback(np.ones_like(expected)).x

    def work(_: int) -> tuple[Any, Any]:
        return bound(x, lengths=LENGTHS), pullback(np.ones_like(expected)).x

    with ThreadPoolExecutor(4) as pool:
        for y, d_x in pool.map(work, range(40)):
            assert_same_bits(y, expected)
            assert_same_bits(d_x, gradient)


# --- the border ----------------------------------------------------------------------------------


@pytest.mark.clause("LAYOUT-1")
@pytest.mark.filterwarnings("error")
def test_any_numpy_layout_is_taken() -> None:
    backend = registry.get("torch")
    base = np.arange(24.0).reshape(2, 3, 4)
    frozen = base.copy()
    frozen.flags.writeable = False
    odd = np.zeros(24, np.dtype([("a", "i1"), ("b", "f8")]))["b"].reshape(2, 3, 4)
    swapped = base.astype(">f8")
    for array in (
        base, base[:, ::-1], base.T, base[::2, :, ::3], frozen, odd, swapped,
        np.broadcast_to(base[:1], (5, 3, 4)),
    ):  # fmt: skip
        tensor = backend.asarray(array, "float64", "cpu")
        np.testing.assert_array_equal(backend.to_numpy(tensor), array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_to_numpy_is_writable_and_of_the_dtype(dtype: str) -> None:
    backend = registry.get("torch")
    values = np.array([1.5, -0.0, np.inf, 3.0]).astype(DTYPES[dtype])
    tensor = backend.asarray(values, dtype, "cpu")
    assert backend.describe(tensor).dtype == dtype
    assert_same_bits(backend.to_numpy(tensor.requires_grad_()), values)
    spread = backend.to_numpy(backend.asarray(values, dtype, "cpu")[:1].expand(4))
    spread[0] = 7
    assert spread[1] == values[0]


@pytest.mark.clause("PURE-2", "GRAD-5")
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_writing_to_outputs_changes_no_gradient(name: str, native: bool) -> None:
    layer = CELLS[name](**BOTH)
    weights, x, _ = Case(name, layer).arguments()
    outputs, pullback = layer.vjp(tensors(weights) if native else weights, x, backend="torch")
    ones = tuple(y * 0 + 1 for y in outputs)
    before = {key: value + 0 for key, value in gradient_arrays(pullback(ones)).items()}
    for y in outputs:
        y[:] = 9
    for _ in range(2):
        for key, value in gradient_arrays(pullback(ones)).items():
            assert (value == before[key]).all()
            value[:] = 5


def test_a_bound_layer_keeps_a_snapshot_outside_the_graph() -> None:
    layer = sc.LSTM(UNITS)
    weights, x, _ = Case("snapshot", layer).arguments()
    native = tensors(weights, grad=True)
    bound = layer.bind(native)
    before = bound(x)
    with torch.no_grad():
        native["kernel"].zero_()
    assert_same_bits(bound(x), before)
    leaf = torch.tensor(x, requires_grad=True)
    for _ in range(2):  # a call that is not recorded tells nothing of those that are
        assert not bound(torch.tensor(x)).requires_grad
        with torch.no_grad():
            assert not bound(leaf).requires_grad
        leaf.grad = None
        bound(leaf).sum().backward()
        assert leaf.grad is not None
    assert native["kernel"].grad is None


def test_inference_mode_and_what_was_made_in_it() -> None:
    layer = CELLS["gru"](return_sequences=True)
    weights, x, _ = Case("inference", layer).arguments()
    with torch.inference_mode():
        made = torch.tensor(x)
        native = tensors(weights)
        bound = layer.bind(native)
        inside = bound(made)
        _, early = layer.vjp(native, made)
    outside, late = bound.vjp(made)
    assert_close(inside, outside, EPS)
    ones = torch.ones_like(outside)
    assert torch.equal(early(ones).x, late(ones).x)
    leaf = torch.tensor(x, requires_grad=True)
    bound(leaf).backward(ones)
    assert_close(leaf.grad, late(ones).x, EPS)


def test_what_is_no_dense_tensor_is_refused() -> None:
    layer = sc.LSTM(UNITS)
    weights = layer.init(FEATURES)
    with pytest.raises(sc.DtypeError, match="sparse"):
        layer.apply(weights, torch.zeros(BATCH, TIME, FEATURES).to_sparse())
    with pytest.raises(sc.InputError):
        layer.apply(weights, torch.nn.Linear(2, 3))


def test_devices() -> None:
    layer = sc.LSTM(UNITS)
    weights = layer.init(FEATURES)
    x = np.zeros((1, 2, FEATURES), np.float32)
    assert registry.get("torch").devices()[0] == "cpu"
    with pytest.raises(sc.ArgumentError, match="device='toaster'"):
        layer.apply(weights, x, backend="torch", device="toaster")
    with pytest.raises(sc.ArgumentError, match="cuda"):
        layer.apply(weights, torch.tensor(x), device="cuda:0")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_cuda_equals_numpy() -> None:
    for case in AUTODIFF:
        compare(run(case, "torch", device="cuda:0"), run(case, "numpy"), EPS)


@pytest.mark.parametrize("mask", ["none", "holes"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru"])
def test_the_path_for_cuda_over_tensors_on_the_cpu(name: str, mask: str) -> None:
    """What differs for CUDA is where the weights lie, and who runs the backward pass."""
    layer = CELLS[name](**BOTH)
    weights, x, others = Case(name, layer, mask, state=True).arguments()
    native = tensors(weights, grad=True)
    given = None if mask == "none" else torch.tensor(MASKS[mask])
    state = tuple(
        torch.tensor(s, requires_grad=True).t().contiguous().t() for s in others["initial_state"]
    )
    leaves = [*native.values(), leaf := torch.tensor(x, requires_grad=True), *state]
    kind = "none" if mask == "none" else "any"
    found = {}
    for device in ("cpu", "cuda:0"):
        request = Request(layer, "float64", device, mask=kind, gradient="unknown")
        prepared = Native().prepare(request, native)
        sequence, final = Native().run(request, prepared, leaf, given, state)
        loss = sum(y.square().sum() for y in final) + sequence.sin().sum()
        found[device] = [sequence.detach(), *torch.autograd.grad(loss, leaves)]
    for mine, theirs in zip(found["cuda:0"], found["cpu"], strict=True):
        assert_close(mine, theirs, EPS)
    assert float(found["cpu"][1].abs().max()) > 0.01

    request = Request(layer, "float64", "cuda:0", mask=kind, gradient="yes")
    detached = {name: value.detach() for name, value in native.items()}
    prepared = Native().prepare(request, detached)
    plain = tuple(s.detach() for s in state)
    sequence, final, tape = Native().vjp(request, prepared, leaf.detach(), given, plain)
    cotangents = tuple(2 * y for y in final)
    d_weights, d_x, d_state = Native().pullback(request, prepared, tape, sequence.cos(), cotangents)
    by_name = [*(d_weights[name] for name in native), d_x, *d_state]
    for mine, theirs in zip(by_name, found["cpu"][1:], strict=True):
        assert_close(mine, theirs, EPS)


@pytest.mark.parametrize("layer", [BI, sc.Stack([GRU(), GRU()], return_sequences=True)])
def test_weights_for_cudnn_are_the_same_in_another_buffer(layer: Any) -> None:
    fused = fuse(layer)
    request = Request(layer=layer, dtype="float32", device="cpu")
    weights = tensors(random_weights(layer, np.random.default_rng(0), "float32"))
    params = Native().prepare(request, weights)
    before = torch.get_rng_state()
    packed = _contiguous(fused, params)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(packed) == len(params)
    for mine, given in zip(packed, params, strict=True):
        assert torch.equal(mine, given)
        assert not mine.requires_grad
        assert mine.data_ptr() != given.data_ptr()


def test_gates_by_the_generic_path() -> None:
    case = AUTODIFF[1]
    weights, x, others = case.arguments()
    found = case.layer.gates(weights, x, backend="torch", **others)
    expected = case.layer.gates(weights, x, backend="numpy", **others)
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-13)


@pytest.mark.clause("DEG-4")
@pytest.mark.parametrize("shape", [(0, 4, 2), (2, 0, 2)])
def test_nothing_to_compute_is_still_connected(shape: tuple[int, int, int]) -> None:
    layer = sc.LSTM(3)
    weights = {n: torch.nn.Parameter(torch.tensor(v)) for n, v in layer.init(2).items()}
    layer.apply(weights, torch.zeros(shape)).sum().backward()
    for weight in weights.values():
        assert weight.grad is not None
        assert not weight.grad.any()
