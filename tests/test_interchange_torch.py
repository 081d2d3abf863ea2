"""torch's own modules and seqcore's layers with the same weights; what one of them cannot hold."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import assert_close, assert_same_bits, random_weights
from seqcore.interchange.torch import from_torch, recognises, to_torch
from seqcore.spec.outputs import state_names
from seqcore.verify.own.torch import run

torch = pytest.importorskip("torch", reason="torch, the framework that is converted from and to")
nn = torch.nn

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2
LENGTHS = np.array([5, 1, 3])
EPS = 10
"""In units of float64's eps; the worst seen is below 3."""

KINDS: dict[str, Any] = {
    "tanh": nn.RNN,
    "relu": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
CELLS: dict[str, Any] = {
    "tanh": nn.RNNCell,
    "relu": nn.RNNCell,
    "lstm": nn.LSTMCell,
    "gru": nn.GRUCell,
}


def randomized(module: Any) -> Any:
    """A module with normal numbers for every parameter, in float64."""
    generator = torch.Generator().manual_seed(3)
    module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator))
    return module


def module_of(kind: str, **options: Any) -> Any:
    if KINDS[kind] is nn.RNN:
        options["nonlinearity"] = kind
    return randomized(KINDS[kind](FEATURES, UNITS, batch_first=True, **options))


def cell_of(kind: str, **options: Any) -> Any:
    if KINDS[kind] is nn.RNN:
        options["nonlinearity"] = kind
    return randomized(CELLS[kind](FEATURES, UNITS, **options))


def arrays(module: Any) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in module.state_dict().items()}


def words_of(kind: str) -> dict[str, str]:
    """What the state_dict does not say."""
    return {"activation": kind} if KINDS[kind] is nn.RNN else {}


def draw() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(BATCH, TIME, FEATURES))


def torchs(module: Any, x: np.ndarray, lengths: np.ndarray | None) -> dict[str, np.ndarray]:
    """The sequence, and the states as torch stacks them, of a live module."""
    rnn = nn.utils.rnn
    given = torch.tensor(x)
    if lengths is not None:
        counts = torch.tensor(lengths)
        given = rnn.pack_padded_sequence(given, counts, batch_first=True, enforce_sorted=False)
    with torch.no_grad():
        y, states = module(given)
    if lengths is not None:
        y, _ = rnn.pad_packed_sequence(y, batch_first=True, total_length=TIME)
    states = states if isinstance(states, tuple) else (states,)
    return {"y": y.numpy()} | {n: s.numpy() for n, s in zip("hc", states, strict=False)}


def ours(layer: Any, weights: Any, x: Any, lengths: Any) -> dict[str, np.ndarray]:
    outputs = layer.apply(weights, x, lengths=lengths, backend="numpy")
    return dict(zip(outputs._fields, outputs, strict=True))


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_a_module_computes_the_same(
    kind: str, levels: int, bidirectional: bool, bias: bool
) -> None:
    module = module_of(kind, num_layers=levels, bidirectional=bidirectional, bias=bias)
    layer, weights = from_torch(module, return_state=True)
    x = draw()
    for lengths in (None, LENGTHS):
        found, theirs = ours(layer, weights, x, lengths), torchs(module, x, lengths)
        own = run(arrays(module), words_of(kind), x, lengths)
        assert set(own) == set(found)
        assert_close(found.pop("y"), theirs["y"], EPS)
        assert_same_bits(own["y"], theirs["y"])
        # torch has the states of all levels and directions in one array, in the same order.
        for state in "hc"[: len(theirs) - 1]:
            names = [name for name in state_names(layer) if name.endswith(state)]
            assert len(names) == len(theirs[state])
            for name, value in zip(names, theirs[state], strict=True):
                assert_close(found[name], value, EPS, name)
                assert_same_bits(own[name], value)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_a_cell_computes_the_same(kind: str, bias: bool) -> None:
    cell = cell_of(kind, bias=bias)
    layer, weights = from_torch(cell, return_state=True)
    x = draw()
    state, rows = None, []
    with torch.no_grad():
        for step in range(TIME):
            state = cell(torch.tensor(x[:, step]), state)
            rows.append((state if isinstance(state, tuple) else (state,))[0].numpy())
    assert_close(ours(layer, weights, x, None)["y"], np.stack(rows, 1), EPS)
    found, own = ours(layer, weights, x, LENGTHS), run(arrays(cell), words_of(kind), x, LENGTHS)
    assert set(own) == set(found)
    for name, value in own.items():
        assert_close(found[name], value, EPS, name)


def test_narrow_models_run_in_their_own_dtype() -> None:
    module = module_of("lstm", bidirectional=True)
    for dtype in (torch.float32, torch.bfloat16):
        layer, weights = from_torch(module.to(dtype))
        own = run(to_torch(layer, weights), {}, draw().astype(weights["forward.bias"].dtype), None)
        assert own["y"].dtype == np.float32
    wide = run(arrays(module.double()), {}, draw(), None)
    assert np.abs(own["y"] - wide["y"]).max() < 0.1


# --- layers --------------------------------------------------------------------------------------


def test_the_layers_that_modules_are() -> None:
    assert from_torch(module_of("lstm"))[0] == sc.LSTM(UNITS, return_sequences=True)
    layer, _ = from_torch(module_of("gru", bias=False), return_sequences=False, return_state=True)
    assert layer == sc.GRU(UNITS, use_bias=False, return_state=True)
    member = sc.Bidirectional(sc.SimpleRNN(UNITS, activation="relu", return_sequences=True))
    layer, _ = from_torch(module_of("relu", num_layers=2, bidirectional=True))
    assert layer == sc.Stack([member, member], return_sequences=True)
    layer, _ = from_torch(module_of("lstm", num_layers=2), return_sequences=False)
    assert layer == sc.Stack([sc.LSTM(UNITS, return_sequences=True), sc.LSTM(UNITS)])


class Model(nn.Module):
    """Two recurrent modules beside other parameters."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, module_of("tanh"))
        self.head = nn.Linear(UNITS, 1)


def test_a_module_inside_another_one() -> None:
    model = Model("encoder")
    expected = from_torch(model.encoder)
    for source in (model, model.state_dict(), arrays(model)):
        said = {} if source is model else {"activation": "tanh"}
        for prefix in ("encoder", "encoder."):
            layer, weights = from_torch(source, prefix=prefix, **said)
            assert layer == expected[0]
            for name, value in expected[1].items():
                assert_same_bits(weights[name], value)
        with pytest.raises(sc.ConversionError, match=r"head\.weight, head\.bias .*would be lost"):
            from_torch(source, **said)
    x = draw()
    own = run(arrays(model), {"prefix": "encoder", "activation": "tanh"}, x, None)
    assert_same_bits(own["y"], torchs(model.encoder, x, None)["y"])
    with pytest.raises(sc.ConversionError, match=r"'encoder\.', 'decoder\.'; choose one with pref"):
        from_torch(Model("encoder", "decoder"))
    layer, _ = from_torch(nn.Sequential(module_of("lstm")))  # nothing else is in it
    assert layer == sc.LSTM(UNITS, return_sequences=True)


# --- round trips ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_come_back_bit_for_bit(kind: str, dtype: str) -> None:
    module = module_of(kind, num_layers=2, bidirectional=True)
    layer, _ = from_torch(module)
    weights = random_weights(layer, np.random.default_rng(0), dtype)
    state = to_torch(layer, weights)
    assert [(name, value.shape) for name, value in state.items()] == [
        (name, tuple(value.shape)) for name, value in module.state_dict().items()
    ]
    again, back = from_torch(state, **words_of(kind))
    assert again == layer
    for name, value in weights.items():
        assert_same_bits(back[name], value)
    if dtype == "float64":
        module.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
        x = draw()
        assert_close(torchs(module, x, LENGTHS)["y"], layer.apply(weights, x, lengths=LENGTHS), EPS)


def test_a_state_dict_comes_back_but_for_its_second_bias() -> None:
    for kind in KINDS:
        state = arrays(module_of(kind))
        back = to_torch(*from_torch(state, **words_of(kind)))
        for name in ("weight_ih_l0", "weight_hh_l0"):
            assert_same_bits(back[name], state[name])
        if kind == "gru":
            assert_same_bits(back["bias_hh_l0"], state["bias_hh_l0"])
        else:
            assert_same_bits(back["bias_ih_l0"], state["bias_ih_l0"] + state["bias_hh_l0"])
            assert not back["bias_hh_l0"].any()


def test_a_bias_beside_none_is_zero() -> None:
    layer = sc.Bidirectional(sc.LSTM(2), backward_layer=sc.LSTM(2, use_bias=False))
    state = to_torch(layer, random_weights(layer, np.random.default_rng(0)))
    assert state["bias_ih_l0"].all()
    assert not state["bias_ih_l0_reverse"].any()


def test_weights_of_torch_and_nan_go_through() -> None:
    layer = sc.GRU(2)
    weights = random_weights(layer, np.random.default_rng(0))
    weights["kernel"][0, 0] = np.nan
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    _, back = from_torch(to_torch(layer, tensors))
    for name, value in weights.items():
        assert_same_bits(back[name], value)


# --- what torch has and layers have not ----------------------------------------------------------


def test_projection_and_dropout() -> None:
    with pytest.raises(sc.ConversionError, match="weight_hr is a projection"):
        from_torch(nn.LSTM(4, 3, proj_size=2))
    module = module_of("lstm", num_layers=2, dropout=0.5)
    with pytest.raises(sc.ConversionError, match=r"dropout=0\.5 acts .*module\.eval\(\)"):
        from_torch(module)
    layer, weights = from_torch(module.eval())
    x = draw()
    assert_close(layer.apply(weights, x), torchs(module, x, None)["y"], EPS)


def test_parameters_of_its_own_are_not_lost() -> None:
    state = {f"enc.{name}": value for name, value in module_of("lstm").state_dict().items()}
    peephole = {**state, "enc.weight_ci": torch.ones(UNITS)}
    with pytest.raises(sc.ConversionError, match=r"at 'enc\.' has enc\.weight_ci, too"):
        from_torch(peephole, prefix="enc.")
    beside = {**state, "head.weight": torch.ones(2, 2)}
    assert from_torch(beside, prefix="enc")[0] == sc.LSTM(UNITS, return_sequences=True)
    bare = {name.removeprefix("enc."): value for name, value in peephole.items()}
    with pytest.raises(sc.ConversionError, match="has weight_ci, too"):
        from_torch(bare, prefix="")


def test_biases_whose_sum_is_no_number() -> None:
    state = {name: value.half() for name, value in module_of("lstm").state_dict().items()}
    state["bias_ih_l0"][0] = state["bias_hh_l0"][0] = 60000
    with pytest.raises(sc.ConversionError, match="the sum of the two biases is beyond float16"):
        from_torch(state)


def test_activations() -> None:
    state = module_of("relu").state_dict()
    with pytest.raises(sc.ConversionError, match="activation='tanh' or activation='relu'"):
        from_torch(state)
    assert from_torch(state, activation="relu")[0].activation == "relu"
    with pytest.raises(sc.ConversionError, match="activation='sigmoid' was given for an nn"):
        from_torch(state, activation="sigmoid")
    assert from_torch(module_of("relu"), activation="relu")[0].activation == "relu"
    with pytest.raises(sc.ConversionError, match=r"'tanh' was given .* nonlinearity='relu'"):
        from_torch(module_of("relu"), activation="tanh")
    with pytest.raises(sc.ConversionError, match="'relu' was given for LSTM"):
        from_torch(module_of("lstm"), activation="relu")


class LooksLikeOne(nn.Module):
    """The names of an LSTM's parameters, and who knows what equations."""

    def __init__(self) -> None:
        super().__init__()
        for name, value in module_of("lstm").named_parameters():
            self.register_parameter(name, nn.Parameter(value))


def test_a_module_of_unknown_equations() -> None:
    with pytest.raises(sc.ConversionError, match=r"LooksLikeOne .*give its state_dict\(\)"):
        from_torch(LooksLikeOne())
    assert from_torch(LooksLikeOne().state_dict())[0].units == UNITS


class Doubles(torch.nn.GRU):
    """An nn.GRU that computes something else."""

    def forward(self, x: Any, h: Any = None) -> Any:
        return super().forward(2 * x, h)


def test_a_forward_of_its_own() -> None:
    with pytest.raises(sc.ConversionError, match="Doubles has a forward of its own"):
        from_torch(Doubles(2, UNITS))
    assert from_torch(Doubles(2, UNITS).state_dict())[0] == sc.GRU(UNITS, return_sequences=True)


def test_weights_that_a_parametrization_makes() -> None:
    gru = torch.nn.GRU(2, UNITS)
    torch.nn.utils.parametrizations.weight_norm(gru, "weight_hh_l0")
    with pytest.raises(sc.ConversionError, match="remove_parametrizations first"):
        from_torch(gru)
    torch.nn.utils.parametrize.remove_parametrizations(gru, "weight_hh_l0")
    from_torch(gru)


def test_hints_for_what_is_nearly_a_state_dict() -> None:
    state = module_of("gru").state_dict()
    with pytest.raises(sc.ConversionError, match="give what is below 'model'"):
        from_torch({"model": state, "epoch": 3})
    with pytest.raises(sc.ConversionError, match=r"canonical weights: seqcore\.save"):
        from_torch(sc.GRU(2).init(3))
    with pytest.raises(sc.ConversionError, match="prefix is 5"):
        from_torch(state, prefix=5)  # type: ignore[arg-type]


GOOD = arrays(module_of("lstm", num_layers=2, bidirectional=True))
IH, HH, BIH, BHH = (f"{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({IH: None}, "level 0: weight_ih missing"),
        ({"weight_hh_l1_reverse": None}, "level 1, backward: weight_hh missing"),
        ({BHH: None}, "bias_hh missing; expected .*both biases or none"),
        ({"weight_ih_l999999999": GOOD[IH]}, "level 2: weight_ih and weight_hh missing"),
        ({"weight_ih_l9999999999": GOOD[IH]}, "weight_ih_l9999999999 beside"),
        ({"weight_ih_l00": GOOD[IH]}, "weight_ih_l00 beside"),
        ({"weight_ih": GOOD[IH]}, "weight_ih is there with and without _l0"),
        ({"weight_hr_l0": GOOD[IH]}, "projection"),
        ({"scale": GOOD[BIH]}, "holds scale beside .*would be lost"),
        ({3: GOOD[BIH]}, "holds 3 beside"),
        ({HH: np.array(1.0)}, r"weight_hh has shape \(\), expected \(gates\*units, units\)"),
        ({HH: np.zeros((0, 0))}, r"weight_hh has shape \(0, 0\)"),
        ({HH: np.zeros((10, 5))}, r"weight_hh has shape \(10, 5\)"),
        ({IH: np.array(1.0)}, r"weight_ih has shape \(\), expected \(8, features\)"),
        ({IH: np.zeros((6, 4))}, r"weight_ih has shape \(6, 4\), expected \(8, features\)"),
        ({IH: np.zeros((8, 0))}, "fit one another"),
        ({"weight_ih_l1": np.zeros((8, 3))}, r"fit one another.*layers\.1.* \(3, 8\)"),
        ({BIH: np.zeros((8, 1))}, r"bias_ih has shape \(8, 1\), expected \(8,\)"),
        ({BIH: np.zeros(8, np.int64)}, "dtypes are float64, int64"),
        ({BIH: np.zeros(8, np.float32)}, "dtypes are float32, float64"),
        ({BIH: np.zeros(8, complex)}, "dtypes are complex128, float64"),
        ({BIH: np.zeros(8, object)}, "dtypes are float64, object"),
        ({BIH: [0.0] * 8}, "bias_ih_l0 is list, expected an array"),
        ({BIH: None, BHH: None}, "level 0, backward: .*with a bias .*without a bias"),
    ],
)  # fmt: skip
def test_state_dicts_that_are_none(changes: dict[Any, Any], words: str) -> None:
    state = {**GOOD, **changes}
    with pytest.raises(sc.ConversionError, match=words):
        from_torch({name: value for name, value in state.items() if value is not None})


def test_levels_that_differ() -> None:
    gru = {name.replace("l0", "l1"): value for name, value in arrays(module_of("gru")).items()}
    with pytest.raises(sc.ConversionError, match=r"level 1: is GRU\(units=2\).*LSTM\(units=2\)"):
        from_torch(arrays(module_of("lstm")) | gru)
    wide = nn.LSTM(UNITS, 5).double().state_dict()
    with pytest.raises(sc.ConversionError, match=r"level 1: is LSTM\(units=5\)"):
        from_torch(
            arrays(module_of("lstm")) | {n.replace("l0", "l1"): v.numpy() for n, v in wide.items()}
        )


def test_integers_in_all_of_it() -> None:
    state = {name: value.astype(np.int64) for name, value in GOOD.items()}
    with pytest.raises(sc.ConversionError, match="dtypes are int64, expected one of float64"):
        from_torch(state)


@pytest.mark.parametrize("source", [None, 3, "weight_hh_l0", [GOOD], np.zeros(3), nn.LSTM])
def test_sources_that_are_none(source: Any) -> None:
    with pytest.raises(sc.ConversionError, match=r"expected an nn\.RNN, nn\.LSTM or nn\.GRU"):
        from_torch(source)


@pytest.mark.parametrize(
    ("source", "prefix", "words"),
    [
        ({}, None, "received nothing"),
        (nn.Linear(2, 2), None, "received weight, bias; expected weight_ih_l0"),
        (GOOD, "decoder", r"at 'decoder\.': received weight_ih_l0"),
    ],
)
def test_where_none_is(source: Any, prefix: str | None, words: str) -> None:
    with pytest.raises(sc.ConversionError, match=words):
        from_torch(source, prefix=prefix)


# --- what layers have and torch has not ----------------------------------------------------------

SEQ = {"return_sequences": True}


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (sc.GRU(2, reset_after=False), "reset_after is False"),
        (sc.LSTM(2, activation="relu"), "activation is 'relu'"),
        (sc.SimpleRNN(2, activation="sigmoid"), "activation is 'sigmoid'.*'tanh' or 'relu'"),
        (sc.GRU(2, recurrent_activation="hard_sigmoid"), "recurrent_activation is 'hard_sigmoid'"),
        (sc.LSTM(2, go_backwards=True), "go_backwards is True.*reverse the input"),
        *(
            (sc.Bidirectional(sc.LSTM(2), merge_mode=mode), f"merge_mode is '{mode}'")
            for mode in ("sum", "mul", "ave", "none")
        ),
        (sc.Bidirectional(sc.LSTM(2), backward_layer=sc.LSTM(3)), "units is 3 and the first"),
        (sc.Bidirectional(sc.LSTM(2), backward_layer=sc.GRU(2)), "its cell is 'GRU'"),
        (sc.Stack([sc.LSTM(2, **SEQ), sc.LSTM(3)]), r"layers\[1\].*units is 3"),
        (sc.Stack([sc.LSTM(2, **SEQ), sc.Bidirectional(sc.LSTM(2))]), "bidirectional, or not"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_layers_that_no_module_is(layer: Any, words: str) -> None:
    with pytest.raises(sc.ConversionError, match=words):
        to_torch(layer, layer.init(3))


def test_the_arguments_of_to_torch() -> None:
    with pytest.raises(sc.ConversionError, match="expected a layer and its weights"):
        to_torch(sc.LSTM(2).init(3), sc.LSTM(2))  # type: ignore[arg-type]
    with pytest.raises(sc.WeightsError, match="missing bias"):
        to_torch(sc.LSTM(2), sc.LSTM(2, use_bias=False).init(3))


# --- names, and torch that is absent -------------------------------------------------------------


def test_names_that_are_recognised() -> None:
    for kind, start, join in itertools.product(KINDS, ("", "model.encoder."), (".", "/")):
        for module in (module_of(kind, num_layers=2), cell_of(kind)):
            names = [(start + name).replace(".", join) for name in module.state_dict()]
            assert recognises(names)
            assert recognises([*names, "head.bias"])
    assert not recognises(["weight_ih", "weight_hh", "bias"])  # Equinox's
    assert not recognises(["cell.weight_ih", "cell.weight_hh", "cell.bias", "cell.bias_n"])
    assert not recognises(["kernel", "recurrent_kernel", "bias"])
    assert not recognises([])


def test_running_needs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(sc.BackendNotInstalled, match="pip install torch"):
        run(GOOD, {}, draw(), None)
    assert from_torch(GOOD)[0].return_sequences  # and converting does not
