"""What every format is read with: arrays of any framework, trees of them, and levels of cells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import assert_same_bits, random_weights
from seqcore.errors import ConversionError, DtypeError, WeightsError
from seqcore.interchange.arrays import array, flat, leaves
from seqcore.interchange.gates import new_gate_apart, reordered
from seqcore.interchange.levels import Level, assemble, disassemble

SEQ: Any = {"return_sequences": True}
LSTM = sc.LSTM(2, **SEQ)
GRU = sc.GRU(3, go_backwards=True, **SEQ)
BOTH = sc.Bidirectional(LSTM, merge_mode="sum", backward_layer=LSTM.replace(activation="relu"))


class Held:
    """What holds an array as its value, as the variables of Keras and Flax do."""

    def __init__(self, value: Any) -> None:
        self.value = value


def test_an_array_is_itself_and_a_variable_is_its_value() -> None:
    value = np.arange(3.0)
    assert array("a", value) is value
    assert array("a", Held(value)) is value


def test_an_array_of_a_framework() -> None:
    torch = pytest.importorskip("torch", reason="torch, whose tensors are read")
    for tensor in (torch.ones(2, 3), torch.ones(2, 3, requires_grad=True), Held(torch.ones(2, 3))):
        np.testing.assert_array_equal(array("a", tensor), np.ones((2, 3)))


@pytest.mark.parametrize(
    "value",
    [None, 3, 2.5, True, "text", b"bytes", [1.0], (1.0,), {"a": 1}, np.float64(2), object(), dict],
)
def test_what_is_no_array(value: Any) -> None:
    for one in (value, Held(value)):
        with pytest.raises(ConversionError, match=r"^subject is .*, expected an array$"):
            array("subject", one)


def test_a_variable_that_holds_itself() -> None:
    held = Held(None)
    held.value = held
    with pytest.raises(ConversionError, match="is Held, expected an array"):
        array("a", held)


def test_a_tree_is_arrays_by_path() -> None:
    one, two = np.zeros(1), np.zeros(2)
    tree = {"a": {"b": one, 0: two}, 1: {}}
    assert flat("s", tree) == {"a/b": one, "a/0": two}
    assert list(flat("s", tree, ".")) == ["a.b", "a.0"]
    with pytest.raises(ConversionError, match="s: a/b is list, expected an array"):
        flat("s", {"a": {"b": [1.0]}})


def test_a_path_that_is_there_twice() -> None:
    with pytest.raises(ConversionError, match="s: holds a/b twice, expected one"):
        leaves("s", {"a": {"b": 1}, "a/b": 2})
    with pytest.raises(ConversionError, match="s: holds 1 twice"):
        leaves("s", {1: 1, "1": 2})


def test_trees_that_are_none_of_a_model() -> None:
    cyclic: dict[str, Any] = {}
    cyclic["a"] = cyclic
    wide = {str(i): {"a": {}} for i in range(60_000)}
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"a": deep}
    doubling: dict[str, Any] = {}
    for _ in range(30):  # a thousand million branches of one small tree
        doubling = {"a": doubling, "b": doubling}
    for tree in (cyclic, wide, deep, doubling):
        with pytest.raises(ConversionError, match="s: a tree of more than 32 mappings"):
            leaves("s", tree)


@pytest.mark.parametrize("layer", [LSTM, GRU, BOTH, sc.Stack((BOTH, GRU, BOTH), **SEQ)])
def test_levels_and_back(layer: Any) -> None:
    weights = random_weights(layer, np.random.default_rng(0))
    levels = disassemble("x", layer, weights)
    found, back = assemble(levels)
    assert found == layer
    assert list(back) == list(weights)
    for name, value in weights.items():
        assert_same_bits(back[name], value)
    flags = {"return_sequences": False, "return_state": True}
    changed, _ = assemble(levels, **flags)
    assert (changed.return_sequences, changed.return_state) == (False, True)


def test_levels_that_do_not_fit_one_another() -> None:
    rng = np.random.default_rng(0)
    first = Level((LSTM,), (random_weights(LSTM, rng),))
    with pytest.raises(
        ConversionError, match=r"the weights found do not fit one another: .*kernel"
    ):
        assemble([first, first])  # which takes 4 features, and gets 2
    narrow = Level((LSTM,), (random_weights(LSTM, rng, "float32", features=2),))
    with pytest.raises(ConversionError, match=r"do not fit one another: .*float32"):
        assemble([first, narrow])


def test_what_has_no_levels() -> None:
    weights = random_weights(LSTM, np.random.default_rng(0))
    for layer in ("LSTM", None, sc.LSTM, weights):
        with pytest.raises(
            ConversionError, match=r"to x: the first argument is .*expected a layer"
        ):
            disassemble("x", layer, weights)
    with pytest.raises(WeightsError, match="missing"):
        disassemble("x", LSTM, {})
    with pytest.raises(DtypeError, match="int64"):
        disassemble("x", LSTM, {name: value.astype(int) for name, value in weights.items()})


def test_blocks_in_another_order() -> None:
    values = np.arange(8.0).reshape(1, 8)
    np.testing.assert_array_equal(reordered(values, "ifgo", "iofg"), [[0, 1, 6, 7, 2, 3, 4, 5]])
    np.testing.assert_array_equal(
        reordered(reordered(values, "ifgo", "ogfi"), "ogfi", "ifgo"), values
    )


def test_a_gru_s_biases_as_where_the_new_gate_alone_has_two() -> None:
    bias, other = np.arange(6.0), 10 * np.arange(6.0)
    one, new = new_gate_apart(bias, other)
    np.testing.assert_array_equal(one, [0, 11, 22, 33, 4, 5])
    np.testing.assert_array_equal(new, [40, 50])
    np.testing.assert_array_equal(bias, np.arange(6.0))
    # Of zeros nothing is added, not even to a negative zero.
    assert np.signbit(new_gate_apart(np.full(6, -0.0), np.zeros(6))[0]).all()
