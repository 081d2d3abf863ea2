"""`verify`: equal models agree, and a botched port is explained by its mistake and by no other."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import random_weights
from seqcore.errors import (
    ArgumentError,
    BackendNotInstalled,
    ConversionError,
    InputError,
    MaskError,
    ShapeError,
)
from seqcore.interchange.levels import disassemble
from seqcore.interchange.models import OWN, Model, read, write
from seqcore.interchange.pt_file import write_pt
from seqcore.interchange.torch import to_torch
from seqcore.verify import Function, Verification, verification, verify
from seqcore.verify.mistakes import Mistake, mistakes
from seqcore.verify.wiring import run

SEQ: Any = {"return_sequences": True}
LSTM = sc.LSTM(3, **SEQ)
GRU = sc.GRU(3, **SEQ)
BOTH = sc.Bidirectional(LSTM)
STACK = sc.Stack((sc.Bidirectional(GRU), LSTM), **SEQ)
LEVELS = sc.Stack((BOTH, BOTH), **SEQ)
LAYERS: dict[str, Any] = {
    "rnn": sc.SimpleRNN(3, **SEQ),
    "lstm": LSTM,
    "gru": GRU,
    "gru before": sc.GRU(3, reset_after=False, **SEQ),
    "both": BOTH,
    "stack": STACK,
    "levels": LEVELS,
}

LENGTHS = np.array([6, 2, 4])


def draw(features: int = 4, time: int = 6) -> Any:
    return np.random.default_rng(3).standard_normal((3, time, features))


def model(layer: Any, dtype: str = "float64", name: str = "a", scale: float = 0.6) -> Model:
    weights = random_weights(layer, np.random.default_rng(5), dtype, scale=scale)
    return Model(name, OWN, layer, weights)


def changed(known: Model, name: str = "b", **weights: Any) -> Model:
    return dataclasses.replace(known, name=name, weights={**known.weights, **weights})


def computing(layer: Any, weights: Any, *returned: str) -> Function:
    """A function that computes a layer, and returns some of what it can."""
    levels = disassemble("a test", layer, weights)
    return wired(Mistake("", "", "", tuple(levels)), *returned)


def wired(mistake: Mistake, *returned: str) -> Function:
    """A port that has a mistake."""

    def call(x: Any, lengths: Any) -> Any:
        found = run(mistake.levels, x, lengths, mistake.wiring)
        return {name: found[name] for name in returned or found}

    return Function("port", call)


def causes(found: Verification) -> list[str]:
    return [cause.name for cause in found.causes]


# --- models that compute the same ----------------------------------------------------------------


@pytest.mark.parametrize("returned", [(), ("y",), ("final",)])
@pytest.mark.parametrize("kind", LAYERS)
def test_equal_models_agree(kind: str, returned: Any) -> None:
    known = model(LAYERS[kind])
    for second in (changed(known), computing(known.layer, known.weights, *returned)):
        for lengths in (None, LENGTHS):
            found = verify(known, second, x=draw(), lengths=lengths)
            assert found.agree
            assert found.proven
            assert (found.layer, found.dtype) == (str(known.layer), "float64")
            assert (found.step, found.causes, found.not_run) == (None, (), {})
        assert verify(known, second).agree


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave", "none"])
def test_every_merge_mode(merge: str) -> None:
    known = model(sc.Bidirectional(LSTM, merge_mode=merge))
    assert verify(known, computing(known.layer, known.weights)).agree
    bias = known.weights["backward.bias"] + 1e-6
    other = changed(known, **{"backward.bias": bias})
    found = verify(known, computing(known.layer, other.weights))
    assert not found.agree
    assert found.step == 0
    one_sum = known.layer.replace(merge_mode="sum" if merge != "sum" else "ave")
    assert not verify(known, dataclasses.replace(known, name="b", layer=one_sum)).agree


@pytest.mark.parametrize("kept", [False, True])
def test_layers_that_go_backwards(kept: bool) -> None:
    """A sequence in processing order has its padding first, and the next level's mask turns."""
    back = sc.GRU(3, go_backwards=True, keep_order=kept, mask_output="carry", **SEQ)
    for layer in (back, sc.Stack((back, LSTM), **SEQ), sc.Stack((back, back), **SEQ)):
        known = model(layer)
        x = draw()

        def forward(x: Any, lengths: Any, known: Model = known) -> Any:
            whole = known.layer.replace(return_state=True)
            y, *states = whole.apply(known.weights, x, lengths=lengths)
            return y, *states

        assert verify(known, Function("f", forward), x=x, lengths=LENGTHS).agree

        def unmasked(x: Any, lengths: Any) -> Any:
            return forward(x, None)

        found = verify(known, Function("f", unmasked), x=x, lengths=LENGTHS)
        assert causes(found) == ["lengths ignored"]


def test_padding_may_hold_anything() -> None:
    known = model(BOTH)
    right = computing(known.layer, known.weights)

    def junk(x: Any, lengths: Any) -> Any:
        found = right.call(x, lengths)
        for row, length in zip(found["y"], lengths, strict=True):
            row[length:] = np.nan
        return found

    x = draw()
    x[1, 2:] = np.nan
    assert verify(known, Function("f", junk), x=x, lengths=LENGTHS).agree


def test_float64_against_float32() -> None:
    known = model(LEVELS)
    narrow = {name: value.astype("float32") for name, value in known.weights.items()}
    for pair in itertools.permutations((known, Model("b", OWN, LEVELS, narrow))):
        found = verify(*pair)
        assert found.dtype == "float32"
        assert found.agree
        # They are not the same to the digits of float64.
        assert found.rows[0].eps > 1e-3


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_narrow_dtypes(dtype: str) -> None:
    known = model(BOTH, dtype)
    assert verify(known, computing(known.layer, known.weights)).agree
    port = {**known.weights, "forward.kernel": -known.weights["forward.kernel"]}
    found = verify(known, computing(known.layer, port))
    assert (found.dtype, found.agree, found.step) == (dtype, False, 0)


def test_the_size_of_what_is_returned_counts() -> None:
    """Numbers of thousands have a rounding of their own, `final` too."""
    known = model(sc.SimpleRNN(3, activation="linear", **SEQ), scale=2.0)
    y = verify(known, computing(known.layer, known.weights)).rows[0]

    def noisy(x: Any, lengths: Any) -> Any:
        final = computing(known.layer, known.weights).call(x, lengths)["final"]
        assert np.abs(final).max() > 1000
        return final * (1 + 2**-52)

    found = verify(known, Function("f", noisy)).rows[0]
    assert found.within
    assert 0 < found.eps < y.limit


# --- every mistake, and no other -----------------------------------------------------------------


def some(kind: str, every: int) -> list[Any]:
    """Some of the mistakes of a layer, with what the port returns."""
    levels = disassemble("a test", LAYERS[kind], model(LAYERS[kind]).weights)
    return [
        pytest.param(kind, i, ((), ("y",), ("final",))[i % 3], id=f"{kind}-{i}-{mistake.name}")
        for i, mistake in enumerate(mistakes(levels))
        if i % every == 0
    ]


@pytest.mark.parametrize(
    ("kind", "index", "returned"),
    [
        *some("rnn", 1),
        *some("lstm", 5),
        *some("gru", 1),
        *some("gru before", 2),
        *some("both", 41),
        *some("stack", 41),
        *some("levels", 307),
    ],
)
def test_a_mistake_is_explained_by_itself_and_what_is_the_same(
    kind: str, index: int, returned: Any
) -> None:
    known = model(LAYERS[kind])
    levels = disassemble("a test", known.layer, known.weights)
    made = next(itertools.islice(mistakes(levels), index, None))
    found = verify(known, wired(made, *returned))
    if found.agree:  # where what is returned does not show it
        assert returned
        return
    assert made.name in causes(found)
    assert all(cause.eps <= found.rows[-1].limit for cause in found.causes)
    # Whatever explains it computes the same on any input.
    x, lengths = draw(time=9), np.array([9, 4, 7])
    valid = np.arange(9) < lengths[:, None]
    expected = wired(made, *returned).call(x, lengths)
    explained = {(cause.name, cause.cause) for cause in found.causes}
    for mistake in mistakes(levels):
        if (mistake.name, mistake.cause) in explained:
            for name, value in wired(mistake, *returned).call(x, lengths).items():
                other = expected[name]
                if name == "y":
                    value, other = value[valid], other[valid]
                np.testing.assert_allclose(value, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in LAYERS if kind != "levels"])
def test_no_mistake_is_one_that_changes_nothing(kind: str) -> None:
    """What the layer computes already explains no difference."""
    known = model(LAYERS[kind])
    levels = disassemble("a test", known.layer, known.weights)
    x, right = draw(), computing(known.layer, known.weights).call(draw(), LENGTHS)
    names = set()
    for mistake in mistakes(levels):
        assert (mistake.name, mistake.cause) not in names
        names.add((mistake.name, mistake.cause))
        wrong = wired(mistake).call(x, LENGTHS)
        assert any(
            value.shape != right[name].shape or np.abs(value - right[name]).max() > 1e-6
            for name, value in wrong.items()
        ), mistake


def test_without_lengths_none_are_ignored() -> None:
    known = model(LEVELS)
    levels = disassemble("a test", known.layer, known.weights)
    for mistake in mistakes(levels, padded=False):
        assert "length" not in mistake.name
        assert mistake.wiring.lengths == "both"


def test_a_cell_that_is_the_only_one_of_its_kind_is_named() -> None:
    levels = disassemble("a test", STACK, model(STACK).weights)
    wrong = {m.cause.partition("(")[2] for m in mistakes(levels) if m.name == "forget bias of 1"}
    assert wrong == {"layers.1 alone)"}
    wrong = {m.cause.rpartition("(")[2] for m in mistakes(levels) if m.name == "reset form"}
    assert wrong == {"layers.0 alone)", "layers.0.forward alone)", "layers.0.backward alone)"}


def test_a_difference_that_no_mistake_explains() -> None:
    known = model(STACK)
    rng = np.random.default_rng(1)
    for name in ("layers.0.forward.kernel", "layers.0.backward.recurrent_bias", "layers.1.bias"):
        value = known.weights[name]
        port = {**known.weights, name: value + 1e-3 * rng.standard_normal(value.shape)}
        found = verify(known, computing(known.layer, port))
        assert not found.agree
        assert found.causes == ()
        assert found.step == 0


def test_two_mistakes_at_once_are_not_taken_for_one() -> None:
    known = model(GRU)
    port = {
        **known.weights,
        "recurrent_bias": np.zeros(9),
        "recurrent_kernel": known.weights["recurrent_kernel"][:, ::-1].copy(),
    }
    assert verify(known, computing(GRU, port)).causes == ()


def test_imprecision_is_not_taken_for_a_small_mistake() -> None:
    """A bias of a few eps whose loss would bring a sloppy port back within the limit by chance."""
    rng = np.random.default_rng(2)
    known = model(LSTM, "float32")
    eps = float(np.finfo("float32").eps)
    for size in (10, 30, 100):
        bias = (size * eps * rng.standard_normal(12)).astype("float32")
        tiny = changed(known, name="a", bias=bias)
        right = computing(LSTM, tiny.weights)
        limit = verify(tiny, right).rows[0].limit
        for factor in (1.1, 2, 5):
            noise = factor * limit * eps * rng.choice([-1, 1], (4, 9, 3))

            def sloppy(x: Any, lengths: Any, right: Any = right, noise: Any = noise) -> Any:
                return (right.call(x, lengths)["y"] + noise).astype("float32")

            found = verify(tiny, Function("f", sloppy))
            assert not found.agree
            assert found.causes == ()


# --- ports as they are botched -------------------------------------------------------------------

torch: Any = pytest.importorskip("torch", reason="torch, in which the botched ports are")


def state_of(known: Model) -> Any:
    """Arrays of torch's that a port may change."""
    return {name: value.copy() for name, value in to_torch(known.layer, known.weights).items()}


def torch_file(path: Any, state: Any) -> Model:
    write_pt(path, {name: np.ascontiguousarray(value) for name, value in state.items()})
    return read(path)


def numpy_gates(known: Model, x: Any, h: Any, prefix: str = "") -> Any:
    w = known.weights
    z = x @ w[f"{prefix}kernel"] + h @ w[f"{prefix}recurrent_kernel"] + w[f"{prefix}bias"]
    return np.split(z, 4, axis=-1)


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def test_gates_of_keras_in_torch(tmp_path: Any) -> None:
    """The kernels of a Keras GRU, only transposed: z r n where torch reads r z n."""
    known = model(GRU)
    w = known.weights
    port = torch_file(
        tmp_path / "port.pt",
        {
            "weight_ih_l0": w["kernel"].T,
            "weight_hh_l0": w["recurrent_kernel"].T,
            "bias_ih_l0": w["bias"],
            "bias_hh_l0": w["recurrent_bias"],
        },
    )
    found = verify(known, port)
    assert [(row.first, row.second) for row in found.rows] == [
        (f"{port.name} in torch", "on seqcore"),
        ("a", port.name),
    ]
    assert found.rows[0].within
    assert not found.rows[1].within
    (cause,) = found.causes
    assert cause.name == "gate order"
    assert "z r n (Keras's, ONNX's) where r z n (torch's, cuDNN's) is read" in cause.cause
    assert "alone" not in cause.cause


def test_gates_of_torch_in_onnx(tmp_path: Any) -> None:
    """An LSTM node that got torch's i f g o as it is."""
    onnx = pytest.importorskip("onnx", reason="onnx, which writes the botched port")
    pytest.importorskip("onnxruntime", reason="onnxruntime, which runs it")
    known = model(LSTM, "float32")
    write(tmp_path / "port.onnx", LSTM, known.weights)
    graph = onnx.load(tmp_path / "port.onnx")
    state = state_of(known)
    for tensor in graph.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        ours = {(1, 12, 4): state["weight_ih_l0"], (1, 12, 3): state["weight_hh_l0"]}
        bias = np.concatenate([state["bias_ih_l0"], state["bias_hh_l0"]])
        if value.ndim > 1:
            botched = ours.get(value.shape, bias).reshape(value.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(botched, tensor.name))
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "port.onnx")
    found = verify(known, read(tmp_path / "port.onnx"))
    assert found.rows[0].within
    (cause,) = found.causes
    assert "i f g o (torch's, Keras's) where i o f g (ONNX's) is read" in cause.cause


def test_a_forget_bias_that_a_library_adds_by_itself(tmp_path: Any) -> None:
    """Haiku's `b` in torch as it stands: Haiku adds 1 to it in every call."""
    known = model(LSTM)
    state = state_of(known)
    state["bias_ih_l0"][3:6] -= 1
    found = verify(known, torch_file(tmp_path / "port.pt", state))
    (cause,) = found.causes
    assert cause.name == "forget bias of 1"
    assert "lacks 1" in cause.cause
    state["bias_ih_l0"][3:6] += 2
    (cause,) = verify(known, torch_file(tmp_path / "port.pt", state)).causes
    assert "1 too much" in cause.cause


def test_the_two_biases_of_a_gru_added_up(tmp_path: Any) -> None:
    known = model(GRU)
    state = state_of(known)
    state["bias_ih_l0"] += state["bias_hh_l0"]
    state["bias_hh_l0"][:] = 0
    found = verify(known, torch_file(tmp_path / "port.pt", state))
    assert causes(found) == ["summed GRU biases"]
    assert found.step == 0


@pytest.mark.parametrize(
    ("counts", "name", "what"),
    [
        ((1, 0), "one of the two biases lost", "bias_hh is missing"),
        ((0, 1), "one of the two biases lost", "bias_ih is missing"),
        ((1, 2), "bias counted twice", "bias_hh was added"),
        ((2, 0), "bias counted twice", "bias_ih stands for bias_hh"),
    ],
)
def test_the_two_biases_of_an_lstm(
    tmp_path: Any, counts: tuple[int, int], name: str, what: str
) -> None:
    """Their sum is all that the layer has, so that only torch's own structure explains it."""
    state = to_torch(LEVELS, model(LEVELS, "float32").weights)
    rng = np.random.default_rng(7)
    state = {
        key: rng.standard_normal(value.shape, dtype=np.float32) if "bias" in key else value
        for key, value in state.items()
    }
    write_pt(tmp_path / "known.pt", state)
    for key in state:
        for bias, count in zip(("bias_ih", "bias_hh"), counts, strict=True):
            if bias in key:
                state[key] = state[key] * np.float32(count)
    write_pt(tmp_path / "port.pt", state)
    (cause,) = verify(read(tmp_path / "known.pt"), read(tmp_path / "port.pt")).causes
    assert cause.name == name
    assert what in cause.cause


def test_an_order_of_gates_is_told_as_the_library_has_it(tmp_path: Any) -> None:
    state = to_torch(LSTM, model(LSTM, "float32").weights)
    write_pt(tmp_path / "known.pt", state)
    layer, weights = read(tmp_path / "known.pt").layer, dict(read(tmp_path / "known.pt").weights)
    for key, value in weights.items():
        i, f, g, o = np.split(value, 4, axis=-1)
        weights[key] = np.concatenate([i, f, o, g], axis=-1)
    (cause,) = verify(read(tmp_path / "known.pt"), Model("port", OWN, layer, weights)).causes
    assert cause.cause.count("where") == 1
    assert "i f g o (torch's, Keras's) where i f o g (Core ML's) is read" in cause.cause


def test_a_recurrent_kernel_that_fits_without_being_transposed(tmp_path: Any) -> None:
    layer = LAYERS["rnn"]
    known = model(layer)
    state = state_of(known)
    state["weight_hh_l0"] = known.weights["recurrent_kernel"]
    write_pt(tmp_path / "port.pt", state)
    port = read(tmp_path / "port.pt", words={"activation": "tanh"})
    found = verify(known, port)
    assert causes(found) == ["transposed recurrent kernel"]
    assert found.step == 1


def test_every_gate_s_recurrent_kernel_untransposed(tmp_path: Any) -> None:
    known = model(LSTM)
    state = state_of(known)
    gates = np.split(known.weights["recurrent_kernel"], 4, axis=1)
    state["weight_hh_l0"] = np.concatenate(gates, axis=0)
    found = verify(known, torch_file(tmp_path / "port.pt", state))
    assert causes(found) == ["transposed recurrent kernel"]


def test_outputs_of_the_backward_direction_that_are_not_flipped_back() -> None:
    known = model(BOTH)
    parts = disassemble("a test", BOTH, known.weights)[0].weights

    def forward(x: Any, lengths: Any) -> Any:
        there = LSTM.apply(parts[0], x)
        back = LSTM.apply(parts[1], x[:, ::-1])
        return np.concatenate([there, back], axis=-1)

    found = verify(known, Function("f", forward), x=draw(), lengths=None)
    assert causes(found) == ["unflipped backward direction"]

    def within(x: Any, lengths: Any) -> Any:
        turned = x.copy()
        for row, length in zip(turned, lengths, strict=True):
            row[:length] = row[:length][::-1]
        there = LSTM.apply(parts[0], x)
        return np.concatenate([there, LSTM.apply(parts[1], turned)], axis=-1)

    found = verify(known, Function("f", within))
    assert causes(found) == ["unflipped backward direction"]
    assert "within each row's length" in found.causes[0].remedy


def live(layer: Any, weights: Any, **options: Any) -> Any:
    """torch's own module with a layer's weights."""
    state = {name: torch.tensor(value) for name, value in to_torch(layer, weights).items()}
    both = any("reverse" in name for name in state)
    count = sum(name.startswith("weight_hh") for name in state) // (1 + both)
    options = {"batch_first": True, "bidirectional": both, "num_layers": count, **options}
    module = torch.nn.LSTM(4, 3, dtype=torch.float64, **options)
    module.load_state_dict(state)
    return module


def test_the_last_step_for_the_joined_final_state() -> None:
    known = model(BOTH)
    module = live(BOTH, known.weights)

    def forward(x: Any, lengths: Any) -> Any:
        out, _ = module(torch.tensor(x))
        return out[:, -1]

    found = verify(known, Function("f", forward), x=draw(), lengths=None)
    assert causes(found) == ["last step taken for the joined final state"]
    assert found.step is None
    assert causes(verify(known, Function("f", forward))) == ["lengths ignored by the last step"]


def test_the_last_step_of_a_packed_sequence() -> None:
    known = model(LSTM)
    module = live(LSTM, known.weights)
    rnn = torch.nn.utils.rnn

    def forward(x: Any, lengths: Any) -> Any:
        packed = rnn.pack_padded_sequence(
            torch.tensor(x), torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        out, _ = rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
        return out[:, -1]

    assert causes(verify(known, Function("f", forward))) == ["last step taken for the final state"]


@pytest.mark.parametrize("layer", [LSTM, BOTH])
def test_lengths_that_are_not_handed_on(layer: Any) -> None:
    known = model(layer)
    module = live(layer, known.weights)

    def forward(x: Any, lengths: Any) -> Any:
        _, (h, _) = module(torch.tensor(x))
        return torch.cat(list(h[-1 - module.bidirectional :]), dim=-1)

    assert causes(verify(known, Function("f", forward))) == ["lengths ignored"]
    assert verify(known, Function("f", forward), x=draw(), lengths=None).agree


def test_a_backward_direction_that_starts_in_the_padding() -> None:
    known = model(BOTH)
    module = live(BOTH, known.weights)

    def forward(x: Any, lengths: Any) -> Any:
        return module(torch.tensor(x))[0]  # at valid steps the forward half is right

    found = verify(known, Function("f", forward))
    # Which of the two it is does not show in the sequence.
    assert set(causes(found)) == {"lengths ignored", "lengths ignored by the backward direction"}


@pytest.mark.parametrize("returns_all", [True, False])
def test_h_and_c_in_the_order_of_another_library(returns_all: bool) -> None:
    """Flax carries (c, h)."""
    known = model(LSTM)

    def forward(x: Any, lengths: Any) -> Any:
        carry = np.zeros((2, len(x), 3))
        outputs = np.zeros((*x.shape[:2], 3))
        for t in range(x.shape[1]):
            i, f, g, o = numpy_gates(known, x[:, t], carry[1])
            c = sigmoid(f) * carry[0] + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            carry = np.where(t < lengths[:, None], [c, h], carry)
            outputs[:, t] = h
        h, c = carry
        return (outputs, h, c) if returns_all else h

    assert causes(verify(known, Function("f", forward))) == ["h and c swapped"]


@pytest.mark.parametrize("returned", ["y", "last", "states"])
def test_an_lstm_that_reads_time_first(returned: str) -> None:
    known = model(LSTM)
    module = live(LSTM, known.weights, batch_first=False)

    def forward(x: Any, lengths: Any) -> Any:
        out, (h, c) = module(torch.tensor(x))
        return {"y": out, "last": out[:, -1], "states": (out, h[0], c[0])}[returned]

    found = verify(known, Function("f", forward))
    assert causes(found) == ["batch and time swapped"]
    assert found.step == (None if returned == "last" else 0)


@pytest.mark.parametrize(("level", "suffix"), [(0, ""), (1, "_reverse")])
def test_one_cell_of_a_stack(tmp_path: Any, level: int, suffix: str) -> None:
    """A loop over gates that was right for all but one: o before f."""
    known = model(LEVELS)
    state = state_of(known)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        key = f"{name}_l{level}{suffix}"
        i, f, g, o = np.split(state[key], 4)
        state[key] = np.concatenate([i, o, f, g])
    found = verify(known, torch_file(tmp_path / "port.pt", state))
    (cause,) = found.causes
    assert cause.name == "gate order"
    where = f"layers.{level}.{'backward' if suffix else 'forward'} alone"
    assert cause.cause.endswith(f"({where})")


def test_the_backward_cells_of_all_levels(tmp_path: Any) -> None:
    known = model(LEVELS)
    state = state_of(known)
    for key in [key for key in state if key.endswith("reverse") and key.startswith("bias")]:
        state[key][:] = 0
    (cause,) = verify(known, torch_file(tmp_path / "port.pt", state)).causes
    assert cause.cause == "the biases are missing (backward alone)"


def test_a_gru_node_that_resets_before_the_product(tmp_path: Any) -> None:
    """ONNX's default of linear_before_reset."""
    onnx = pytest.importorskip("onnx", reason="onnx, which writes the botched port")
    pytest.importorskip("onnxruntime", reason="onnxruntime, which runs it")
    known = model(GRU, "float32")
    write(tmp_path / "port.onnx", GRU, known.weights)
    graph = onnx.load(tmp_path / "port.onnx")
    (node,) = [node for node in graph.graph.node if node.op_type == "GRU"]
    (flag,) = [a for a in node.attribute if a.name == "linear_before_reset"]
    node.attribute.remove(flag)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "port.onnx")
    found = verify(known, read(tmp_path / "port.onnx"))
    assert found.rows[0].within
    assert causes(found) == ["reset form"]


def test_the_other_sigmoid() -> None:
    known = model(LSTM)
    port = computing(LSTM.replace(recurrent_activation="hard_sigmoid"), known.weights)
    (cause,) = verify(known, port).causes
    assert (cause.name, cause.cause) == ("activation", "recurrent_activation is hard_sigmoid")


def test_the_function_may_come_first() -> None:
    known = model(GRU)
    port = computing(GRU, {**known.weights, "recurrent_bias": np.zeros(9)})
    found = verify(port, known)
    assert (found.rows[0].first, found.rows[0].second) == ("port", "a")
    assert causes(found) == ["lost recurrent bias"]


# --- what cannot be compared ---------------------------------------------------------------------

KNOWN = model(LSTM)
RIGHT = computing(LSTM, KNOWN.weights)
Y, FINAL, H, C = (RIGHT.call(draw(), LENGTHS)[name] for name in ("y", "final", "h", "c"))


def returning(value: Any) -> Function:
    return Function("port:forward", lambda x, lengths: value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "NoneType in place 0, and arrays are what is compared"),
        ((), "no array, and there are y, final, h, c to compare"),
        ({}, "no array"),
        ("text", "str in place 0, and arrays"),
        (3.5, "float in place 0, and arrays"),
        ([[1.0, 2.0]], "list in place 0, and arrays"),
        ((Y, (H, C)), "tuple in place 1, and arrays"),
        ((Y, H, C, H), "4 arrays, and there are y, h, c to compare"),
        ({"out": Y}, "'out', and there are y, final, h, c to compare"),
        ({"y": Y, "hh": H}, "'hh' .did you mean 'h'.., and there are"),
        ({5: Y}, "5, and there are"),
        (Y[0, 0], r"final of shape \(3,\) for x \(3, 6, 4\)"),
        (Y[None], r"final of shape \(1, 3, 6, 3\)"),
        (np.float64(3.0), "float64 in place 0, and arrays"),
        (Y.swapaxes(0, 1), r"y of shape \(6, 3, 3\) for x \(3, 6, 4\); swap its first two axes"),
        (Y[:, :5], r"y of shape \(3, 5, 3\) for x \(3, 6, 4\); expected"),
        ((Y, H[None], C[None]), r"h of shape \(1, 3, 3\)"),
        (Y.astype(int), "y as int64, and numbers to compare are one of float64"),
        (Y.astype(complex), "y as complex128"),
        (Y.astype(object), "y as object"),
        (Y.astype(str), "y as str"),
    ],
)
def test_what_a_function_may_not_return(value: Any, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^port:forward: returned .*{message}"):
        verify(KNOWN, returning(value), x=draw(), lengths=LENGTHS)


@pytest.mark.parametrize(
    "value", [Y, FINAL, (Y, H, C), [Y, H], (FINAL, H, C), {"h": H}, {"final": FINAL, "c": C}]
)
def test_what_a_function_may_return(value: Any) -> None:
    assert verify(KNOWN, returning(value), x=draw(), lengths=LENGTHS).agree


def test_tensors_of_torch_with_a_gradient() -> None:
    value = tuple(torch.tensor(one, requires_grad=True) * 1 for one in (Y, H, C))
    assert verify(KNOWN, returning(value), x=draw(), lengths=LENGTHS).agree


@pytest.mark.parametrize(
    "error", [ValueError("no"), KeyError("h"), SystemExit(0), AssertionError()]
)
def test_a_function_that_raises(error: BaseException) -> None:
    def forward(x: Any, lengths: Any) -> Any:
        raise error

    message = (
        rf"^port:forward: raised {type(error).__name__} \(test_verify.py, line \d+\): .*"
        "expected a function of x"
    )
    with pytest.raises(ArgumentError, match=message):
        verify(KNOWN, Function("port:forward", forward))


def test_a_function_that_is_interrupted() -> None:
    def forward(x: Any, lengths: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify(KNOWN, Function("port:forward", forward))


def test_a_function_of_x_alone() -> None:
    with pytest.raises(
        ArgumentError, match=r"raised TypeError: .*2 were given; expected a function"
    ):
        verify(KNOWN, Function("port", lambda x: x))  # type: ignore[arg-type, misc]


def test_a_function_gets_the_whole_lengths_where_none_are_given() -> None:
    given = []

    def forward(x: Any, lengths: Any) -> Any:
        given.append(lengths.tolist())
        return RIGHT.call(x, lengths)

    assert verify(KNOWN, Function("f", forward), x=draw()).agree
    assert given == [[6, 6, 6]]


def test_a_function_gets_arrays_of_its_own() -> None:
    def forward(x: Any, lengths: Any) -> Any:
        right = RIGHT.call(x.copy(), lengths.copy())
        x[:], lengths[:] = np.nan, 1
        return right

    x, lengths = draw(), LENGTHS.copy()
    assert verify(KNOWN, Function("f", forward), x=x, lengths=lengths).agree
    np.testing.assert_array_equal(x, draw())
    np.testing.assert_array_equal(lengths, LENGTHS)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_explained_by_nothing(value: float) -> None:
    broken = Y.copy()
    broken[0, 3, 1] = value
    for pair in ((KNOWN, returning(broken)), (returning(broken), KNOWN)):
        found = verify(*pair, x=draw(), lengths=LENGTHS)
        (row,) = found.rows
        assert row.array == "y, not finite in port:forward"
        assert (found.agree, found.step, found.causes) == (False, 3, ())
    found = verify(KNOWN, returning(np.full_like(Y, value)), x=draw(), lengths=LENGTHS)
    assert (found.agree, found.causes) == (False, ())


def test_models_that_are_not_finite_prove_nothing() -> None:
    broken = changed(KNOWN, bias=np.full(12, np.nan))
    for pair in itertools.permutations((broken, RIGHT)):
        with pytest.raises(InputError, match="b: y is not finite for this input, so that nothing"):
            verify(*pair)
    large = np.full((1, 2, 4), 1e300)
    exploding = model(sc.SimpleRNN(3, activation="linear"), scale=1e200)
    with pytest.raises(InputError, match="a: y is not finite for this input"):
        verify(exploding, changed(exploding), x=large)


def test_two_functions() -> None:
    with pytest.raises(ArgumentError, match="port and port are functions, expected a model"):
        verify(RIGHT, RIGHT)


def test_models_of_different_inputs() -> None:
    weights = random_weights(LSTM, np.random.default_rng(0), features=5)
    other = Model("other", OWN, LSTM, weights)
    with pytest.raises(ShapeError, match="a takes 4 and other takes 5 features"):
        verify(KNOWN, other)
    with pytest.raises(ShapeError, match="x has 5 features"):
        verify(KNOWN, RIGHT, x=draw(features=5))


def test_models_of_different_layers() -> None:
    found = verify(KNOWN, model(sc.LSTM(5), name="b"))
    assert found.rows[0].array == "y: (4, 9, 3) and (4, 9, 5)"
    assert (found.agree, found.step, found.causes) == (False, None, ())
    found = verify(KNOWN, model(GRU, name="b"))
    assert (found.agree, found.step, found.causes) == (False, 0, ())


@pytest.mark.parametrize(
    ("x", "lengths", "error", "message"),
    [
        (draw(), [6, 0, 1], MaskError, "lengths go down to 0, expected 1 or more"),
        (draw(), [7, 1, 1], MaskError, "lengths go from 1 to 7"),
        (draw(), [1, 1], MaskError, "lengths"),
        (draw()[:0], None, ShapeError, r"x has shape \(0, 6, 4\), expected a row and a step"),
        (draw()[:, :0], None, ShapeError, r"x has shape \(3, 0, 4\)"),
        (draw()[0], None, ShapeError, r"expected \(batch, time, features\)"),
        ([[1.0]], None, ConversionError, "verify: x is list, expected an array"),
    ],
)
def test_inputs_that_are_not_taken(x: Any, lengths: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        verify(KNOWN, RIGHT, x=x, lengths=lengths)


def test_one_step_shows_less_and_claims_no_more() -> None:
    """At a first step nothing tells a lost recurrent kernel from a sound one."""
    port = {**KNOWN.weights, "recurrent_kernel": np.zeros((3, 12))}
    assert verify(KNOWN, computing(LSTM, port), x=draw(time=1)).agree
    assert not verify(KNOWN, computing(LSTM, port), x=draw(time=2)).agree


# --- in their own frameworks ---------------------------------------------------------------------


def test_a_framework_that_is_not_installed(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "model.pt", LSTM, KNOWN.weights)
    port = read(tmp_path / "model.pt")
    genuine = importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return genuine(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    found = verify(KNOWN, port)
    assert found.not_run == {port.name: "torch is not installed; pip install torch"}
    assert len(found.rows) == 1
    assert found.agree
    assert not found.proven
    monkeypatch.undo()
    assert verify(KNOWN, port).proven


def test_a_model_that_its_own_framework_runs_otherwise(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were our reading of it wrong, or the framework, that is what shows."""
    write(tmp_path / "model.pt", LSTM, KNOWN.weights)
    own = importlib.import_module("seqcore.verify.own.torch")
    genuine = own.run

    def doubled(*arguments: Any) -> Any:
        return {name: 2 * value for name, value in genuine(*arguments).items()}

    monkeypatch.setattr(own, "run", doubled)
    found = verify(KNOWN, read(tmp_path / "model.pt"))
    assert [row.within for row in found.rows] == [False, False]
    assert found.causes == ()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (BackendNotInstalled("none here"), "none here"),
        (ConversionError("not such a one"), "not such a one"),
        (ValueError("no such\nkernel"), "torch raised ValueError: no such"),
        (ZeroDivisionError(), "torch raised ZeroDivisionError: "),
    ],
)
def test_a_framework_that_does_not_run_it_is_no_proof(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    write(tmp_path / "model.pt", LSTM, KNOWN.weights)
    own = importlib.import_module("seqcore.verify.own.torch")

    def refused(*arguments: Any) -> Any:
        raise error

    monkeypatch.setattr(own, "run", refused)
    port = read(tmp_path / "model.pt")
    found = verify(KNOWN, port)
    assert found.not_run == {port.name: reason}
    assert found.agree
    assert not found.proven
    # What differs, differs without it, too.
    found = verify(changed(KNOWN, "a", bias=np.zeros(12)), port)
    assert not found.agree


def test_what_is_done_is_told() -> None:
    told: list[str] = []
    verify(KNOWN, changed(KNOWN, bias=np.zeros(12)), tell=told.append)
    assert told[:3] == ["finding how much rounding may do", "running a", "running b"]
    assert told[3] == "searching for the mistake, 0 tried"


def test_a_large_model_is_searched_on_little_of_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    known = model(BOTH)
    port = changed(known, **{"forward.bias": np.zeros(12)})
    whole = []
    genuine = verification.run

    def counted(levels: Any, x: Any, *rest: Any, **options: Any) -> Any:
        whole.append(x.shape[:2])
        return genuine(levels, x, *rest, **options)

    monkeypatch.setattr(verification, "run", counted)
    assert causes(verify(known, port)) == ["lost bias"]
    count = len(list(mistakes(disassemble("a test", BOTH, known.weights))))
    assert whole.count((1, 2)) > count - 20
    assert len(whole) - whole.count((1, 2)) < 30


# --- round trips ---------------------------------------------------------------------------------


def test_round_trips(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("seqcore.verify.round_trips")
    formats = {"torch": module.FORMATS["torch"]}
    monkeypatch.setattr(module, "FORMATS", formats)
    found = {one.layer: one for one in module.round_trips(seed=3)}
    assert list(found) == list(module.LAYERS)
    assert {one.dtype for one in found.values()} == {"float64"}
    assert all(one.sound for one in found.values())
    monkeypatch.setattr(module, "REFUSED", {"torch": frozenset({"LSTM"})})
    wrong = [one.layer for one in module.round_trips(seed=3) if not one.sound]
    assert wrong == ["LSTM", "GRU, reset before"]
    refused = found.pop("GRU, reset before")
    assert refused.run.startswith("refused: GRU(units=5) to torch: reset_after is False")
    for one in found.values():
        assert one.back == "the same bits"
        assert " eps" in one.run
