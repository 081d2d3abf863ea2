"""What becomes of a description in Keras, and what Keras has no option for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import seqcore as sc

from seqcore_keras.process import run_keras_on

run_keras_on("numpy")

from seqcore_keras.layers import Chain  # noqa: E402 - Keras must run on NumPy first

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}
CELLS = {
    "rnn": sc.SimpleRNN(2, activation="relu", use_bias=False, **BOTH),
    "lstm": sc.LSTM(2, recurrent_activation="hard_sigmoid", mask_output="carry", **BOTH),
    "gru": sc.GRU(2, activation="linear", go_backwards=True, **BOTH),
    "gru-before": sc.GRU(2, reset_after=False, **BOTH),
}


def keras_layers(layer: Any, *, unroll: bool = False, dtype: str = "float32") -> list[Any]:
    """Return the Keras layers of a layer with random weights of 3 features."""
    random = np.random.default_rng(0)
    weights = {
        name: random.standard_normal(shape).astype(dtype)
        for name, shape in layer.weight_shapes(3).items()
    }
    chain = Chain(layer, weights, dtype, unroll=unroll)
    for variable, name in zip(chain.variables, names(layer), strict=True):
        held = [weights[part] for part in name]
        expected = held[0] if len(held) == 1 else np.stack(held)
        np.testing.assert_array_equal(variable.value, expected)
    return [made for made, _ in chain.members]


def names(layer: Any) -> list[tuple[str, ...]]:
    """Return for each Keras variable the canonical weights that it holds."""
    found: list[tuple[str, ...]] = []
    for name in layer.weight_shapes(3):
        if name.endswith("recurrent_bias"):
            found[-1] = (*found[-1], name)
        else:
            found.append((name,))
    return found


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_every_field_of_a_cell_reaches_keras(cell: str, unroll: bool) -> None:
    layer = CELLS[cell]
    (made,) = keras_layers(layer, unroll=unroll, dtype="float64")
    config = made.get_config()
    assert type(made).__name__ == type(layer).__name__
    for field in ("units", "activation", "use_bias", "go_backwards", *BOTH):
        assert config[field] == getattr(layer, field), field
    for field in ("recurrent_activation", "reset_after"):
        if hasattr(layer, field):
            assert config[field] == getattr(layer, field), field
    assert config["zero_output_for_mask"] is (layer.mask_output == "zero")
    assert config["unroll"] is unroll
    assert made.compute_dtype == made.variable_dtype == "float64"


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", "none"])
def test_a_bidirectional_layer_is_kerass(merge_mode: str) -> None:
    layer = sc.Bidirectional(sc.GRU(2, **BOTH), merge_mode, sc.SimpleRNN(2, **BOTH))
    (made,) = keras_layers(layer, unroll=True)
    assert made.merge_mode == (None if merge_mode == "none" else merge_mode)
    assert type(made.forward_layer).__name__ == "GRU"
    assert type(made.backward_layer).__name__ == "SimpleRNN"
    assert made.backward_layer.go_backwards
    assert made.forward_layer.unroll
    assert made.backward_layer.unroll


def test_a_stack_is_one_keras_layer_after_another() -> None:
    layer = sc.Stack((sc.Bidirectional(sc.LSTM(2, return_sequences=True)), sc.GRU(3)))
    made = keras_layers(layer)
    assert [type(one).__name__ for one in made] == ["Bidirectional", "GRU"]


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "keep_order": (sc.GRU(2, go_backwards=True, keep_order=True), {}, "keeping the order"),
    "carry in a Bidirectional": (
        sc.Bidirectional(sc.GRU(2, mask_output="carry")),
        {"mask": "any"},
        "at masked steps",
    ),
    "gradients on NumPy": (sc.GRU(2), {"gradient": "yes"}, "no gradients on NumPy"),
    "tf32": (sc.GRU(2), {"matmul_precision": "tf32"}, "precision of products"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_keras_has_no_option_for_is_refused(what: str) -> None:
    layer, options, reason = REFUSED[what]
    try:
        told = str(layer.explain(backend="keras-numpy", **options))
    except sc.SeqcoreError as error:
        told = str(error)
    assert reason in told


def test_carry_without_a_mask_is_left_to_keras_as_a_whole() -> None:
    layer = sc.Bidirectional(sc.GRU(2, mask_output="carry"))
    told = layer.explain(backend="keras-numpy")
    assert told.implementations() == ("layers",)


def test_an_exception_of_keras_is_raised_as_it_is() -> None:
    layer = sc.Bidirectional(sc.LSTM(2), backward_layer=sc.GRU(2))
    x = np.ones((1, 4, 3), np.float32)
    with pytest.raises(IndexError, match="list index out of range"):
        layer.apply(layer.init(3), x, backend="keras-numpy")
