"""Flax's cells: linen's params, nnx's modules and states, read, written, run by Flax, refused."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import seqcore as sc
from helpers import FEATURES, assert_same_bits, random_weights
from jax_family import LENGTHS, SEQUENCES, X, assert_round_trip, assert_runs_alike, forms
from seqcore.interchange.flax import from_flax, recognises, to_flax

CELLS = {"rnn": sc.SimpleRNN, "lstm": sc.LSTM, "gru": sc.GRU}
APIS: dict[str, dict[str, Any]] = {
    "linen": {"api": "linen"},
    "nnx": {"api": "nnx"},
    "nnx_plain": {"api": "nnx", "optimized": False},
}
RANDOM = np.random.default_rng(11)


def holdable(layer: Any, api: str) -> dict[str, Any]:
    """Random weights, without what nnx's GRU has no place for."""
    weights = random_weights(layer, RANDOM)
    if api == "nnx":
        for name, value in weights.items():
            if name.endswith("recurrent_bias"):
                value[2 * len(value) // 3 :] = 0
    return weights


def linen_module() -> Any:
    options = {"param_dtype": X.dtype}
    return nn.Sequential(
        [
            nn.RNN(nn.OptimizedLSTMCell(3, **options)),
            nn.Bidirectional(nn.RNN(nn.GRUCell(2, **options)), nn.RNN(nn.SimpleCell(3, **options))),
        ]
    )


def nnx_module() -> Any:
    first = unset(nnx.OptimizedLSTMCell, FEATURES, 3)
    forward, backward = unset(nnx.GRUCell, 3, 2), unset(nnx.SimpleCell, 3, 3)
    both = nnx.Bidirectional(nnx.RNN(forward), nnx.RNN(backward))
    return nnx.Sequential(nnx.RNN(first), both)


def unset(cell: Any, *sizes: int, **options: Any) -> Any:
    """An nnx cell without arrays: to draw initial ones takes JAX seconds."""
    return nnx.eval_shape(lambda: cell(*sizes, rngs=nnx.Rngs(0), **options))


THEIRS = sc.Stack(
    [
        sc.LSTM(3, **SEQUENCES),
        sc.Bidirectional(sc.GRU(2, **SEQUENCES), backward_layer=sc.SimpleRNN(3, **SEQUENCES)),
    ],
    **SEQUENCES,
)


def drawn(tree: Any) -> Any:
    """Random numbers for every array of a tree."""
    return jax.tree.map(lambda leaf: 0.6 * RANDOM.normal(size=leaf.shape), tree)


def test_linens_own_params() -> None:
    with jax.enable_x64(True):
        module, x = linen_module(), jax.numpy.asarray(X)
        variables = drawn(jax.eval_shape(module.init, jax.random.key(0), x))
        native = jax.tree.map(jax.numpy.asarray, variables)
        found = np.asarray(module.apply(native, x))
    layer, weights = from_flax(variables)
    assert layer == THEIRS
    again = from_flax(native["params"])[1]
    np.testing.assert_allclose(layer.apply(weights, X), found, rtol=0, atol=1e-12)
    for name, value in weights.items():
        assert_same_bits(again[name], value)


def test_a_live_nnx_module_and_its_states() -> None:
    module = nnx_module()
    arrays = drawn(nnx.to_pure_dict(nnx.state(module, nnx.Param)))
    with jax.enable_x64(True):
        nnx.update(module, jax.tree.map(jax.numpy.asarray, arrays))
        state = nnx.state(module)
        sources = (arrays, module, state, nnx.to_pure_dict(state), nnx.List(module.layers))
        read = [from_flax(source) for source in sources]
    (layer, weights), *others = read
    assert layer == THEIRS
    for again, found in others:
        assert again == layer
        for name, value in weights.items():
            assert_same_bits(found[name], value)


@pytest.mark.parametrize("form", ["cell", "bidirectional", "mixed"])
@pytest.mark.parametrize("cell", list(CELLS))
def test_what_is_written_is_what_the_modules_hold(cell: str, form: str) -> None:
    layer = forms(CELLS[cell])[form]
    kinds = {"rnn": ["SimpleCell"], "gru": ["GRUCell"], "lstm": ["OptimizedLSTMCell", "LSTMCell"]}
    for kind in kinds[cell]:
        options = {"api": "nnx", "optimized": kind.startswith("Optimized")}
        written = to_flax(layer, holdable(layer, "nnx"), **options)
        module = theirs(layer, lambda n, u, k=kind: nnx.RNN(unset(getattr(nnx, k), n, u)), nnx)
        expected = nnx.to_pure_dict(nnx.state(module, nnx.Param))
        assert jax.tree.map(np.shape, written) == jax.tree.map(np.shape, expected)
        nnx.update(module, written)
        module = theirs(layer, lambda n, u, k=kind: nn.RNN(getattr(nn, k)(u)), nn)
        expected = jax.eval_shape(module.init, jax.random.key(0), X)
        written = to_flax(layer, holdable(layer, "linen"))
        assert jax.tree.map(np.shape, written) == jax.tree.map(np.shape, expected)


def theirs(layer: Any, make: Any, library: Any, features: int = FEATURES) -> Any:
    """The layer as a module of linen or nnx, from how to make one direction of a cell."""
    if isinstance(layer, sc.Stack):
        members = []
        for member in layer.layers:
            members.append(theirs(member, make, library, features))
            features = sum(cell.units for cell in directions(member))
        return library.Sequential(members) if library is nn else nnx.Sequential(*members)
    both = [make(features, cell.units) for cell in directions(layer)]
    return library.Bidirectional(*both) if len(both) == 2 else both[0]


def directions(layer: Any) -> tuple[Any, ...]:
    both = isinstance(layer, sc.Bidirectional)
    return (layer.forward, layer.backward) if both else (layer,)


@pytest.mark.parametrize(
    ("cell", "api"),
    [(cell, api) for cell in CELLS for api in APIS if cell == "lstm" or api != "nnx_plain"],
)
def test_what_is_written_runs_in_flax_with_lengths(cell: str, api: str) -> None:
    layer = forms(CELLS[cell])["mixed" if api == "nnx" else "bidirectional"]
    weights = holdable(layer, APIS[api]["api"])
    assert_runs_alike("flax", to_flax(layer, weights, **APIS[api]), layer, weights)


def test_words_reach_both_sides() -> None:
    options = {"activation": "relu", "recurrent_activation": "hard_sigmoid"}
    layer = sc.GRU(3, **options, **SEQUENCES)
    weights = holdable(layer, "linen")
    written = to_flax(layer, weights)
    assert from_flax(written, **options)[0] == layer
    assert_runs_alike("flax", written, layer, weights, None, **options)
    assert from_flax(written)[0] == sc.GRU(3, **SEQUENCES)  # Flax's defaults


@pytest.mark.parametrize("form", list(forms(sc.LSTM)))
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_there_and_back(cell: str, form: str) -> None:
    for options in APIS.values():
        layer = forms(CELLS[cell])[form]
        assert_round_trip(lambda *a, o=options: to_flax(*a, **o), from_flax, layer)


@pytest.mark.parametrize("api", ["linen", "nnx"])
def test_a_grus_biases_of_z_and_r_are_summed_and_the_rest_kept(api: str) -> None:
    layer = sc.GRU(2, **SEQUENCES)
    weights = holdable(layer, api)
    once = from_flax(to_flax(layer, weights, api=api))[1]
    for name in ("kernel", "recurrent_kernel"):
        assert_same_bits(once[name], weights[name])
    bias, recurrent = weights["bias"], weights["recurrent_bias"]
    assert_same_bits(once["bias"], np.append(bias[:4] + recurrent[:4], bias[4:]))
    assert_same_bits(once["recurrent_bias"], np.append(np.zeros(4), recurrent[4:]))
    twice = from_flax(to_flax(layer, once, api=api))[1]
    for name, value in once.items():
        assert_same_bits(twice[name], value)


def test_a_layer_without_bias_gets_zeros() -> None:
    for cell in CELLS.values():
        weights = holdable(cell(2, use_bias=False), "linen")
        layer, found = from_flax(to_flax(cell(2, use_bias=False), weights), return_sequences=False)
        assert layer == cell(2)
        assert not any(found[name].any() for name in found if "bias" in name)


def test_bfloat16_comes_through_as_it_is() -> None:
    weights = random_weights(sc.LSTM(2), RANDOM, "bfloat16")
    found = from_flax(to_flax(sc.LSTM(2), weights))[1]
    for name, value in weights.items():
        assert_same_bits(found[name], value)


def live(cell: Any = nnx.GRUCell, **options: Any) -> Any:
    return unset(cell, 3, 3, **options)


def test_a_live_modules_functions_and_direction() -> None:
    functions = {"activation_fn": jax.nn.relu, "gate_fn": jax.nn.hard_sigmoid}
    cell = live(**functions)
    arrays = drawn(nnx.to_pure_dict(nnx.state(cell)))
    nnx.update(cell, jax.tree.map(np.float32, arrays))
    run = nnx.RNN(cell, reverse=True, keep_order=True)
    layer, weights = from_flax(run)
    words = {"activation": "relu", "recurrent_activation": "hard_sigmoid"}
    assert layer == sc.GRU(3, go_backwards=True, keep_order=True, **words, **SEQUENCES)
    x = np.float32(RANDOM.normal(size=(3, 5, 3)))
    found = np.asarray(run(x, seq_lengths=LENGTHS))
    expected = layer.apply(weights, x, lengths=LENGTHS)
    valid = np.arange(5) < LENGTHS[:, None]
    np.testing.assert_allclose(found[valid], expected[valid], rtol=0, atol=1e-6)  # float32


def held() -> Any:
    """A cell with arrays."""
    cell = live()
    nnx.update(cell, drawn(nnx.to_pure_dict(nnx.state(cell))))
    return cell


def own_function(x: Any) -> Any:
    return x


class OwnCell(nnx.GRUCell):
    pass


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: live(activation_fn=own_function), "activation_fn is own_function"),
        (lambda: live(gate_fn=own_function), "gate_fn is own_function"),
        (lambda: live(nnx.SimpleCell, residual=True), "residual=True"),
        (lambda: live(OwnCell), "is OwnCell"),
        (lambda: nnx.RNN(live(OwnCell)), "is OwnCell"),
        (lambda: nnx.RNN(live(), reverse=True), "reverse=True without keep_order=True"),
        (lambda: nnx.Sequential(nnx.RNN(held()), own_function), "is function"),
        (lambda: nnx.Sequential(nnx.RNN(held()), nnx.Dropout(0.5)), "is Dropout"),
        (lambda: unset(nnx.Linear, 2, 2), "is Linear"),
        (lambda: nnx.List([]), "no members"),
        (
            lambda: nnx.Bidirectional(
                nnx.RNN(live()), nnx.RNN(live()), merge_fn=jax.numpy.add
            ),
            "merge_fn is add",
        ),
        (lambda: nn.RNN(nn.GRUCell(3)), "holds none"),
        (lambda: 3, "received int"),
    ],
)  # fmt: skip
def test_live_modules_that_are_refused(source: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_flax(source())


def test_a_first_state_that_is_not_zeros_is_refused() -> None:
    with pytest.warns(UserWarning, match="carry_init"):
        cell = live(carry_init=jax.nn.initializers.ones)
    with pytest.raises(sc.ConversionError, match="carry_init is ones"):
        from_flax(cell)


@pytest.mark.parametrize(
    ("word", "value"),
    [("activation", "tanh"), ("recurrent_activation", "sigmoid"), ("levels", ["cell"])],
)
def test_a_live_module_is_told_nothing(word: str, value: Any) -> None:
    with pytest.raises(sc.ConversionError, match=f"{word}=.* leave it out"):
        from_flax(live(), **{word: value})


def test_names_that_leave_the_use_open() -> None:
    """Two RNNs inside a compact method: as levels and as directions their names are the same."""
    cells = [
        to_flax(sc.LSTM(4), random_weights(sc.LSTM(4), RANDOM))["params"]["cell"] for _ in "ab"
    ]
    params = {"LSTMCell_0": cells[0], "LSTMCell_1": cells[1]}
    with pytest.raises(sc.ConversionError, match="levels="):
        from_flax(params)
    stack, stacked = from_flax(params, levels=["LSTMCell_0", "LSTMCell_1"])
    assert stack == sc.Stack([sc.LSTM(4, **SEQUENCES)] * 2, **SEQUENCES)
    swapped = [["LSTMCell_1", "LSTMCell_0"]]
    both, joined = from_flax(params, levels=swapped)
    assert both == sc.Bidirectional(sc.LSTM(4, **SEQUENCES))
    assert_same_bits(joined["backward.kernel"], stacked["layers.0.kernel"])
    assert_runs_alike("flax", params, both, joined, levels=swapped)


ONE = to_flax(sc.LSTM(2), random_weights(sc.LSTM(2), RANDOM))["params"]
WIDE = to_flax(sc.LSTM(2), random_weights(sc.LSTM(2), RANDOM, features=2))["params"]
DENSE = {"kernel": np.ones((2, 2))}


@pytest.mark.parametrize(
    ("params", "words", "message"),
    [
        ({"layers_0": ONE, "layers_2": WIDE}, {}, "do not run from 0"),
        ({"layers_1": ONE}, {}, "do not run from 0"),
        ({"encoder": ONE, "decoder": WIDE}, {}, "which comes first"),
        ({"a_0": {"b_0": ONE}, "a_1": {"b_1": WIDE}}, {}, "do not run from 0"),
        ({"forward_rnn": ONE}, {}, "a forward and a backward cell"),
        ({"layers_0": ONE, "layers_1": {"forward_rnn": WIDE}}, {}, "a forward and a backward"),
        ({"layers_0": ONE, "layers_1": ONE}, {}, r"layers\.1\.kernel has shape \(4, 8\)"),
        ({"layers_0": ONE, "Dense_0": DENSE}, {}, "received Dense_0/kernel.*beside them"),
        ({"params": ONE, "batch_stats": {"mean": DENSE["kernel"]}}, {}, "batch_stats/mean"),
        ({"drop": {"rngs": {"count": 0}}, "rnn": ONE}, {}, "drop/rngs/count"),
        ({}, {}, "received nothing"),
        ({"cell": {"ii": {"kernel": None}}}, {}, "is NoneType"),
        ({"cell": {k: v for k, v in ONE["cell"].items() if k != "hg"}}, {}, "hg/kernel missing"),
        ({"cell": ONE["cell"] | {"h": DENSE}}, {}, "h/kernel unknown"),
        ({"cell": ONE["cell"] | {"ho": {"kernel": np.ones((2, 3)), "bias": np.ones(2)}}}, {},
         "ho/kernel has shape"),
        ({"cell": ONE["cell"] | {"ho": {"kernel": np.ones((2, 2)), "bias": np.ones((2, 1))}}}, {},
         "ho/bias has shape"),
        ({"cell": ONE["cell"] | {"ig": {"kernel": np.ones((4, 2), "f4")}}}, {},
         "expected one dtype"),
        ({"dense_i": DENSE | {"bias": np.ones(2)}, "dense_h": {"kernel": np.ones((2, 4))}}, {},
         r"dense_h/kernel has shape \(2, 4\)"),
        ({"cell": {"i": DENSE | {"bias": np.ones(2)}, "h": DENSE}},
         {"recurrent_activation": "sigmoid"}, "SimpleCell, which has none"),
        ({"a/b": ONE, "a.b": ONE}, {}, "twice"),
        (ONE, {"levels": []}, "levels is"),
        (ONE, {"levels": "cell"}, "levels is"),
        (ONE, {"levels": ["rnn"]}, "levels names 'rnn'"),
        (ONE, {"levels": [["cell", "cell"]]}, "names twice"),
        (ONE, {"levels": [["cell", "cell", "cell"]]}, "a forward and a"),
        ({"a": ONE, "b": WIDE}, {"levels": ["a"]}, "leaves out the cell at b"),
    ],
)  # fmt: skip
def test_arrays_that_are_refused(params: Any, words: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_flax(params, **words)


def test_a_tree_that_holds_itself() -> None:
    tree: dict[str, Any] = {}
    tree["cell"] = tree
    with pytest.raises(sc.ConversionError, match="in one another"):
        from_flax(tree)


MIXED = sc.Stack([sc.LSTM(2, **SEQUENCES), sc.GRU(2, activation="relu")])


@pytest.mark.parametrize(
    ("layer", "words", "message"),
    [
        (sc.GRU(2, reset_after=False), {}, "reset_after is False"),
        (sc.GRU(2), {"api": "nnx"}, "recurrent_bias of gate n"),
        (sc.LSTM(2, go_backwards=True), {}, "go_backwards is True"),
        (sc.Bidirectional(sc.LSTM(2), merge_mode="sum"), {}, "merge_mode is 'sum'"),
        (MIXED, {}, "activation is 'relu' and 'tanh'"),
        (sc.LSTM(2), {"api": "haiku"}, "expected 'linen' or 'nnx'"),
    ],
)
def test_layers_that_flax_cannot_hold(layer: Any, words: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        to_flax(layer, random_weights(layer, RANDOM), **words)


def test_names_are_recognised() -> None:
    assert recognises(["params.cell.ii.kernel", "params.cell.hi.bias"])
    assert recognises(["layers/0/cell/dense_i/kernel", "layers/0/rngs/count"])
    assert not recognises([])
    assert not recognises(["lstm/linear/w"])
    assert not recognises(["cell.ii.kernel", "Dense_0.kernel"])
