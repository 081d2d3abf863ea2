"""A layer as a torch module: trained, saved, loaded, moved, copied, as any other module is."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    FEATURES,
    LENGTHS,
    MASKS,
    TIME,
    assert_close,
    assert_same_bits,
    flat,
    gradient_arrays,
    random_cotangents,
    random_state,
    random_weights,
)

torch = pytest.importorskip("torch", reason="torch, whose modules these are")

from seqcore_torch.module import to_module  # noqa: E402

nn = torch.nn
EPS = 100
"""In units of float64's eps, for outputs and gradients of a few steps."""

SEQ = {"return_sequences": True}
LAYERS: dict[str, Any] = {
    "rnn": sc.SimpleRNN(2, activation="relu", **SEQ),
    "lstm": sc.LSTM(2, **BOTH),
    "gru": sc.GRU(2, use_bias=False),
    "gru_before": sc.GRU(2, reset_after=False, go_backwards=True, **SEQ),
    "bidirectional": sc.Bidirectional(sc.LSTM(2, **BOTH)),
    "unlike": sc.Bidirectional(sc.LSTM(2), backward_layer=sc.GRU(3), merge_mode="none"),
    "stack": sc.Stack(
        [sc.Bidirectional(sc.GRU(2, **SEQ), merge_mode="sum"), sc.LSTM(3)], return_state=True
    ),
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Arrays as small as these only make threads wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weights_of(layer: Any, dtype: str = "float64") -> dict[str, Any]:
    return random_weights(layer, np.random.default_rng(0), dtype)


def draw() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(BATCH, TIME, FEATURES))


def same(found: Any, expected: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(flat(found), flat(expected), strict=True))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", ["none", "lengths", "holes"])
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_and_gradients_are_the_layers(name: str, masked: str) -> None:
    layer, rng = LAYERS[name], np.random.default_rng(2)
    weights, x, state = weights_of(layer), draw(), random_state(LAYERS[name], rng)
    given: dict[str, Any] = {
        "lengths": {"lengths": LENGTHS},
        "holes": {"mask": MASKS["holes"]},
    }.get(masked, {})
    expected, pullback = layer.vjp(weights, x, initial_state=state, backend="numpy", **given)
    cotangents = random_cotangents(expected, rng)
    module = to_module(layer, weights)
    leaf = torch.tensor(x, requires_grad=True)
    states = tuple(torch.tensor(value, requires_grad=True) for value in state)
    arguments = {key: torch.tensor(value) for key, value in given.items()}
    outputs = module(leaf, initial_state=states, **arguments)
    assert type(outputs) is type(expected) or isinstance(outputs, torch.Tensor)
    assert len(flat(outputs)) == len(flat(expected))
    for mine, theirs in zip(flat(outputs), flat(expected), strict=True):
        assert_close(mine.detach(), theirs, EPS)
    torch.autograd.backward(flat(outputs), [torch.tensor(d) for d in flat(cotangents)])
    wanted = gradient_arrays(pullback(cotangents))
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    found |= {"x": leaf.grad} | {f"initial_state[{i}]": s.grad for i, s in enumerate(states)}
    assert set(found) == set(wanted)
    for key, value in wanted.items():
        assert_close(found[key], value, EPS, key)


def test_arguments_by_position_and_options() -> None:
    layer = LAYERS["lstm"]
    weights, x = weights_of(layer), torch.tensor(draw())
    module = to_module(layer, weights)
    mask = torch.tensor(MASKS["right"])
    assert same(module(x, mask), module(x, None, torch.tensor(LENGTHS)))
    generic = layer.apply(module.canonical_weights(), x, implementation="generic")
    assert same(module(x, implementation="generic"), generic)
    with pytest.raises(sc.MaskError, match="received mask and lengths"):
        module(x, mask, torch.tensor(LENGTHS))
    with pytest.raises(sc.ShapeError, match="x has 2 features"):
        module(x[..., :2])
    with pytest.raises(sc.SeqcoreError, match="dropout"):
        module(x, dropout=0.5)


# --- parameters ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LAYERS)
def test_parameters_have_the_canonical_names(name: str) -> None:
    layer = LAYERS[name]
    weights = weights_of(layer)
    module = to_module(layer, weights)
    assert isinstance(module, nn.Module)
    assert module.layer == layer
    assert list(module.state_dict()) == list(weights)
    assert list(dict(module.named_parameters())) == list(weights)
    assert list(module.canonical_weights()) == list(weights)
    for key, value in weights.items():
        parameter = module.get_parameter(key)
        assert parameter is module.canonical_weights()[key]
        assert parameter.requires_grad
        assert parameter.is_contiguous()
        assert_same_bits(parameter.detach().numpy(), value)
    shown = repr(module)
    assert str(layer) in shown
    assert "recurrent_kernel=(2, " in shown


def test_the_weights_are_copied() -> None:
    layer = LAYERS["gru"]
    weights = weights_of(layer)
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
    x = torch.tensor(draw())
    modules = [to_module(layer, weights), to_module(layer, tensors)]
    expected = [module(x) for module in modules]
    assert same(*expected)
    for value in weights.values():
        value[...] = 0
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.zero_()
    assert all(same(module(x), y) for module, y in zip(modules, expected, strict=True))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_every_dtype(dtype: str) -> None:
    layer = LAYERS["bidirectional"]
    weights = weights_of(layer, dtype)
    single = draw().astype(np.float32)
    x = single.astype(weights["forward.bias"].dtype)
    module = to_module(layer, weights)
    assert {str(p.dtype) for p in module.parameters()} == {f"torch.{dtype}"}
    y, *_ = module(torch.tensor(single).to(getattr(torch, dtype)))
    expected, *_ = layer.apply(weights, x, backend="numpy")
    eps = float(ml_dtypes.finfo(x.dtype).eps)
    assert np.abs(y.detach().double().numpy() - expected.astype(np.float64)).max() < 20 * eps


def test_what_makes_no_module() -> None:
    layer = LAYERS["lstm"]
    with pytest.raises(sc.WeightsError, match="missing bias"):
        to_module(layer, {"kernel": 0, "recurrent_kernel": 0})
    with pytest.raises(sc.WeightsError, match="bias has shape"):
        to_module(layer, {**weights_of(layer), "bias": np.zeros(3)})
    with pytest.raises(sc.ConversionError, match="the first argument is dict, expected a layer"):
        sc.to_torch(weights_of(layer), layer)  # type: ignore[arg-type]
    with pytest.raises(sc.WeightsError, match="weights is NoneType, expected a mapping"):
        sc.to_torch(layer, None)  # type: ignore[arg-type]


def test_the_way_back() -> None:
    layer = sc.Bidirectional(sc.LSTM(2))
    module = sc.to_torch(layer, weights_of(layer, "float32"))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    found, weights = sc.interchange.from_torch(module)
    assert found == layer
    for name, value in weights_of(layer, "float32").items():
        np.testing.assert_array_equal(weights[name], value + np.float32(1))
        assert type(weights[name]) is np.ndarray
    found, _ = sc.interchange.from_torch(module, return_sequences=True)
    assert found == sc.Bidirectional(sc.LSTM(2, return_sequences=True))
    with pytest.raises(sc.ConversionError, match="activation was given for a module of seqcore"):
        sc.interchange.from_torch(module, activation="tanh")


# --- what modules are for ------------------------------------------------------------------------


class Classifier(nn.Module):
    """A layer of ours among torch's own."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, FEATURES)
        self.recurrent = to_module(layer, layer.init(FEATURES))
        self.head = nn.Linear(8, 2)

    def forward(self, tokens: Any, lengths: Any) -> Any:
        return self.head(self.recurrent(self.embedding(tokens), lengths=lengths))


def data() -> tuple[Any, Any, Any]:
    """Sequences of tokens, and whether the first one comes again before the end."""
    random = np.random.default_rng(5)
    tokens = random.integers(7, size=(64, 6))
    lengths = random.integers(3, 7, size=64)
    labels = [int(row[0] in row[1:length]) for row, length in zip(tokens, lengths, strict=True)]
    return torch.tensor(tokens), torch.tensor(lengths), torch.tensor(labels)


def train(model: Any, optimizer: Any, steps: int) -> list[float]:
    tokens, lengths, labels = data()
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens, lengths), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def adam(model: Any) -> Any:
    return torch.optim.Adam(model.parameters(), lr=0.02)


def test_training_and_going_on_from_a_checkpoint(tmp_path: Path) -> None:
    torch.manual_seed(0)
    layer = sc.Stack([sc.Bidirectional(sc.LSTM(8, **SEQ)), sc.Bidirectional(sc.GRU(4))])
    model = Classifier(layer)
    optimizer = adam(model)
    first = train(model, optimizer, 40)
    assert first[-1] < 0.2 * first[0]
    assert all(p.grad is not None and p.grad.any() for p in model.recurrent.parameters())
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(content, tmp_path / "checkpoint.pt")
    rest = train(model, optimizer, 3)
    assert rest[-1] < first[-1]
    other = Classifier(layer)
    again = adam(other)
    loaded = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    other.load_state_dict(loaded["model"])
    again.load_state_dict(loaded["optimizer"])
    assert train(other, again, 3) == rest
    # What was trained runs anywhere, as it is.
    trained = {name: value.numpy() for name, value in model.recurrent.state_dict().items()}
    tokens, lengths, _ = data()
    with torch.no_grad():
        x = model.embedding(tokens)
        y = model.recurrent(x, lengths=lengths)
    elsewhere = layer.apply(trained, x.numpy(), lengths=lengths.numpy(), backend="numpy")
    assert np.abs(y.numpy() - elsewhere).max() < 1e-6


def test_state_dicts_that_do_not_fit() -> None:
    module = to_module(LAYERS["bidirectional"], weights_of(LAYERS["bidirectional"]))
    state = module.state_dict()
    with pytest.raises(RuntimeError, match=r"Missing key.*forward\.bias"):
        module.load_state_dict({k: v for k, v in state.items() if k != "forward.bias"})
    with pytest.raises(RuntimeError, match=r"size mismatch for backward\.kernel"):
        module.load_state_dict({**state, "backward.kernel": torch.zeros(4, 4)})


@pytest.mark.parametrize("name", ["lstm", "bidirectional", "stack"])
def test_copies_of_all_kinds(name: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    module = to_module(layer, weights_of(layer))
    x = torch.tensor(draw())
    expected = module(x)  # before the copies, for a call shall leave nothing behind
    torch.save(module, tmp_path / "module.pt")
    copies = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(tmp_path / "module.pt", weights_only=False),
    ]
    for other in copies:
        assert other.layer == layer
        assert same(other(x), expected)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.zero_()
        assert not same(other(x), expected)
        assert same(module(x), expected)
    alive = weakref.ref(copies.pop())
    del other, parameter
    gc.disable()
    try:
        assert alive() is None  # at once: no module holds itself alive
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["gru", "bidirectional", "stack"])
def test_moving_and_freezing(name: str) -> None:
    layer = LAYERS[name]
    module = to_module(layer, weights_of(layer, "float32"))
    x = torch.tensor(draw())
    with pytest.raises(sc.DtypeError, match="x is float64 and the weights are float32"):
        module(x)
    wide = flat(module.double()(x))
    assert wide[0].dtype == torch.float64
    narrow = flat(module.to("cpu", torch.bfloat16)(x.bfloat16()))
    assert narrow[0].dtype == torch.bfloat16
    assert (wide[0] - narrow[0]).abs().max() < 0.1
    module.requires_grad_(False)
    assert not flat(module(x.bfloat16()))[0].requires_grad
    assert {p.device.type for p in copy.deepcopy(module).to("meta").parameters()} == {"meta"}


@pytest.mark.parametrize("name", ["lstm", "bidirectional", "stack"])
def test_other_weights_for_one_call(name: str) -> None:
    """By torch's own ways, which follow the names of parameters."""
    layer = LAYERS[name]
    module = to_module(layer, weights_of(layer))
    x = torch.tensor(draw())
    halves = {key: value.detach() / 2 for key, value in module.named_parameters()}
    found = torch.func.functional_call(module, halves, (x,), {"lengths": torch.tensor(LENGTHS)})
    expected = layer.apply(
        {key: value.numpy() for key, value in halves.items()}, x.numpy(), lengths=LENGTHS
    )
    for mine, theirs in zip(flat(found), flat(expected), strict=True):
        assert_close(mine.detach(), theirs, EPS)

    def loss(weights: Any) -> Any:
        return flat(torch.func.functional_call(module, weights, (x,)))[0].sum()

    gradients = torch.func.grad(loss)(dict(module.named_parameters()))
    flat(module(x))[0].sum().backward()
    for key, parameter in module.named_parameters():
        assert_close(gradients[key].detach(), parameter.grad, EPS, key)


def test_a_parametrized_weight() -> None:
    layer = LAYERS["bidirectional"]
    module = to_module(layer, weights_of(layer))
    x = torch.tensor(draw())
    expected = module(x)
    nn.utils.parametrizations.weight_norm(module.get_submodule("forward"), "recurrent_kernel")
    found = module(x)
    for mine, theirs in zip(found, expected, strict=True):
        assert_close(mine.detach(), theirs.detach(), EPS)
    found.y.sum().backward()
    assert module.get_parameter("forward.parametrizations.recurrent_kernel.original0").grad.any()


def test_hooks_run_once() -> None:
    module = to_module(LAYERS["bidirectional"], weights_of(LAYERS["bidirectional"]))
    calls: list[str] = []
    module.register_forward_hook(lambda *_: calls.append("hook"))
    module.register_full_backward_hook(lambda *_: calls.append("backward"))
    module(torch.tensor(draw(), requires_grad=True)).y.sum().backward()
    assert calls == ["hook", "backward"]


def test_the_part_named_forward() -> None:
    module = to_module(LAYERS["bidirectional"], weights_of(LAYERS["bidirectional"]))
    x = torch.tensor(draw())
    assert module.forward.kernel is module.get_parameter("forward.kernel")
    assert same(module.forward(x), module(x))
    stack = to_module(LAYERS["stack"], weights_of(LAYERS["stack"]))
    with pytest.raises(NotImplementedError, match="expected a call of the whole module"):
        stack.get_submodule("layers.0.forward")(x)


class Around(nn.Module):
    """What torch.compile takes, a layer of ours inside it."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any, lengths: Any) -> Any:
        return 2 * flat(self.inner(torch.tanh(x), lengths=lengths))[0]


# torch.compile itself looks at the gradients of what comes out of a call that it leaves as it is.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("name", ["lstm", "bidirectional"])
def test_inside_what_is_compiled(name: str) -> None:
    """The call stays as it is, on the fused code; what is around it is compiled."""
    layer = LAYERS[name]
    module = to_module(layer, weights_of(layer))
    x, lengths = torch.tensor(draw()), torch.tensor(LENGTHS)
    assert same(torch.compile(module, backend="aot_eager")(x), module(x))
    model = Around(module)
    model(x, lengths).sum().backward()
    expected = {key: parameter.grad.clone() for key, parameter in module.named_parameters()}
    module.zero_grad()
    y = torch.compile(model, backend="aot_eager")(x, lengths)
    assert_close(y.detach(), model(x, lengths).detach(), EPS)
    y.sum().backward()
    for key, parameter in module.named_parameters():
        assert_close(parameter.grad, expected[key], EPS, key)
