"""Layers as descriptions: their fields and defaults, what cannot be, and JSON and TOML."""

from __future__ import annotations

import copy
import json
import pickle
import tomllib
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

import seqcore as sc
from helpers import ACTIVATIONS, CELLS, MERGES, Case, flat

SEQ = {"return_sequences": True}

CELL_DEFAULTS = {
    "activation": "tanh",
    "use_bias": True,
    "kernel_initializer": "glorot_uniform",
    "recurrent_initializer": "orthogonal",
    "bias_initializer": "zeros",
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "keep_order": False,
    "mask_output": "zero",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "SimpleRNN": CELL_DEFAULTS,
    "LSTM": CELL_DEFAULTS | {"recurrent_activation": "sigmoid", "unit_forget_bias": True},
    "GRU": CELL_DEFAULTS | {"recurrent_activation": "sigmoid", "reset_after": True},
}


# Random descriptions.

finite = st.floats(allow_nan=False, allow_infinity=False)
bias_initializers = st.one_of(
    st.sampled_from(
        ["zeros", "ones", "constant", "random_uniform", "random_normal", "glorot_uniform"]
    ),
    st.builds(sc.Constant, finite),
    st.builds(sc.RandomNormal, finite, st.floats(0, 1e300)),
    st.tuples(finite, finite).map(lambda pair: sc.RandomUniform(min(pair), max(pair))),
)
initializers = st.one_of(bias_initializers, st.builds(sc.Orthogonal, finite))


def cells(**fixed: Any) -> st.SearchStrategy[Any]:
    """Any cell, some fields given."""
    common: dict[str, Any] = {
        "units": st.integers(1, 2**40),
        "activation": st.sampled_from(ACTIVATIONS),
        "use_bias": st.booleans(),
        "kernel_initializer": initializers,
        "recurrent_initializer": initializers,
        "bias_initializer": bias_initializers,
        "return_sequences": st.booleans(),
        "return_state": st.booleans(),
        "mask_output": st.sampled_from(["zero", "carry"]),
    }
    if "go_backwards" not in fixed:
        common["go_backwards"] = common["keep_order"] = st.just(True)
    gated = common | {"recurrent_activation": st.sampled_from(ACTIVATIONS)}
    given_fields = {name: st.just(value) for name, value in fixed.items()}
    return st.one_of(
        st.builds(sc.SimpleRNN, **(common | given_fields)),
        st.builds(sc.LSTM, **(gated | {"unit_forget_bias": st.booleans()} | given_fields)),
        st.builds(sc.GRU, **(gated | {"reset_after": st.booleans()} | given_fields)),
    )


def bidirectionals(**fixed: Any) -> st.SearchStrategy[Any]:
    flags = {"units": 3, "go_backwards": False, "return_state": False, "mask_output": "carry"}
    member = cells(**flags, **({"return_sequences": False} | fixed))
    modes = ["concat", "sum", "mul", "ave"] if fixed else [*MERGES, None]
    return st.builds(sc.Bidirectional, member, st.sampled_from(modes), st.one_of(st.none(), member))


inner = st.one_of(cells(return_state=False, **SEQ), bidirectionals(**SEQ))
stacks = st.builds(
    lambda first, last, sequences, state: sc.Stack(
        [*first, last], return_sequences=sequences, return_state=state
    ),
    st.lists(inner, max_size=3),
    st.one_of(cells(return_state=False, return_sequences=False), bidirectionals()),
    st.booleans(),
    st.booleans(),
)
layers = st.one_of(cells(), cells(go_backwards=False), bidirectionals(), stacks)


@pytest.mark.clause("DESC-4")
@given(layers)
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_there_and_back(layer: Any) -> None:
    for again in (
        sc.from_json(layer.to_json()),
        sc.from_toml(layer.to_toml()),
        sc.from_json(layer.to_json().encode()),
        pickle.loads(pickle.dumps(layer)),
        copy.deepcopy(layer),
        layer.replace(),
    ):
        assert again == layer
        assert hash(again) == hash(layer)
        assert type(again) is type(layer)
        assert repr(again) == repr(layer)
    assert "null" not in layer.to_json()
    assert json.loads(layer.to_json()) == tomllib.loads(layer.to_toml())


@pytest.mark.clause("DESC-1")
@pytest.mark.parametrize("name", DEFAULTS)
def test_a_table_with_units_alone(name: str) -> None:
    expected = getattr(sc, name)(3)
    assert sc.from_json(f'{{"type": "{name}", "units": 3}}') == expected
    assert sc.from_toml(f'type = "{name}"\nunits = 3\n') == expected
    assert json.loads(expected.to_json())["type"] == name


@pytest.mark.clause("DESC-1")
def test_initializers_by_name_and_by_table() -> None:
    by_name = sc.from_toml('type = "GRU"\nunits = 2\nkernel_initializer = "ones"\n')
    by_table = sc.from_toml('type = "GRU"\nunits = 2\n[kernel_initializer]\ntype = "ones"\n')
    assert by_name == by_table == sc.GRU(2, kernel_initializer=sc.Ones())
    for text, expected in (
        ('type = "constant"\nvalue = 1', sc.Constant(1.0)),
        ('type = "random_uniform"\nminval = -1', sc.RandomUniform(-1.0, 0.05)),
        ('type = "random_normal"\nmean = 2.5\nstddev = 1', sc.RandomNormal(2.5, 1.0)),
        ('type = "glorot_uniform"', sc.GlorotUniform()),
        ('type = "orthogonal"\ngain = 0.5', sc.Orthogonal(0.5)),
    ):
        layer = sc.from_toml(f'type = "LSTM"\nunits = 2\n[recurrent_initializer]\n{text}\n')
        assert layer == sc.LSTM(2, recurrent_initializer=expected)


@pytest.mark.clause("DESC-1")
def test_members_are_tables() -> None:
    text = """
        type = "Stack"
        return_state = true
        [[layers]]
        type = "Bidirectional"
        merge_mode = "sum"
        layer = { type = "LSTM", units = 2, return_sequences = true }
        backward_layer = { type = "GRU", units = 2, return_sequences = true }
        [[layers]]
        type = "SimpleRNN"
        units = 4
    """
    both = sc.Bidirectional(sc.LSTM(2, **SEQ), "sum", sc.GRU(2, **SEQ))
    assert sc.from_toml(text) == sc.Stack([both, sc.SimpleRNN(4)], return_state=True)


@pytest.mark.clause("DESC-2")
@pytest.mark.parametrize("name", DEFAULTS)
def test_fields_and_defaults(name: str) -> None:
    plain = getattr(sc, name)(2)
    written = json.loads(plain.to_json())
    assert set(written) == {"type", "units", *DEFAULTS[name]}
    given_all = getattr(sc, name)(units=2, **DEFAULTS[name])
    assert given_all == plain
    for field, value in DEFAULTS[name].items():
        found = written[field]
        assert (found["type"] if isinstance(found, dict) else found) == value
    with pytest.raises(sc.SpecError, match="units"):
        getattr(sc, name)()
    with pytest.raises(sc.SpecError, match="units"):
        sc.from_json(f'{{"type": "{name}"}}')


@pytest.mark.clause("DESC-2")
def test_fields_and_defaults_of_the_composites() -> None:
    both = sc.Bidirectional(sc.LSTM(2))
    assert both == sc.Bidirectional(layer=sc.LSTM(2), merge_mode="concat", backward_layer=None)
    assert set(json.loads(both.to_json())) == {"type", "layer", "merge_mode"}
    stack = sc.Stack([sc.LSTM(2)])
    assert stack == sc.Stack(layers=[sc.LSTM(2)], return_sequences=False, return_state=False)
    assert set(json.loads(stack.to_json())) == {
        "type",
        "layers",
        "return_sequences",
        "return_state",
    }
    with pytest.raises(sc.SpecError):
        sc.Bidirectional()
    with pytest.raises(sc.SpecError):
        sc.Stack()


@pytest.mark.clause("DESC-2")
def test_no_merging_is_written_none_and_an_equal_backward_layer_is_left_out() -> None:
    layer = sc.Bidirectional(sc.LSTM(2), merge_mode=None, backward_layer=sc.LSTM(2))
    assert layer.merge_mode == "none"
    assert layer.backward_layer is None
    for data in (json.loads(layer.to_json()), tomllib.loads(layer.to_toml())):
        assert data["merge_mode"] == "none"
        assert "backward_layer" not in data
    assert layer == sc.Bidirectional(sc.LSTM(2), "none")


@pytest.mark.clause("DESC-3")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"type": "LSTM", "units": 2, "unit": 3}, ["'unit' is not taken", "did you mean 'units'"]),
        ({"type": "LSTM", "units": 2, "reset_after": True}, ["'reset_after' is not taken"]),
        ({"type": "SimpleRNN", "units": 2, "recurrent_activation": "tanh"}, ["not taken"]),
        ({"type": "GRU", "units": 2, "dropout": 0.1}, ["'dropout' is not taken", "yourself"]),
        ({"type": "LSMT", "units": 2}, ["LSMT"]),
        ({"type": "Dense", "units": 2}, ["Dense"]),
        ({"units": 2}, ["type"]),
        ({"type": "Bidirectional", "layer": {"type": "GRU", "units": 2, "drop": 1}}, ["drop"]),
        ({"type": "Stack", "layers": [{"type": "LSTM", "units": 2, "stateful": True}]},
         ["layers[0]", "'stateful' is not taken", "initial_state"]),
        ({"type": "Stack", "layers": [{"units": 2}]}, ["type"]),
        ({"type": "LSTM", "units": 2, "kernel_initializer": {"type": "constant", "val": 1}},
         ["val"]),
        ({"type": "LSTM", "units": 2, "kernel_initializer": {"type": "he_normal"}}, ["he_normal"]),
        ({"type": "LSTM", "units": 2, "kernel_initializer": {"value": 1}}, ["type"]),
        ({"type": "LSTM", "units": 2, "kernel_initializer": "he_normal"}, ["he_normal"]),
        ([{"type": "LSTM", "units": 2}], []),
        ("LSTM", []),
        (None, []),
    ],
    ids=str,
)  # fmt: skip
def test_unknown_fields_and_types(data: Any, words: list[str]) -> None:
    with pytest.raises(sc.SpecError) as caught:
        sc.from_json(json.dumps(data))
    assert str(caught.value).startswith(("layer description: ", "LSTM(units=2): "))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    "text", ["", "{", "[1,", '{"type": "LSTM"', b"\xff\xfe", '{"type": "LSTM", "units": 1e999}']
)
def test_texts_that_are_no_descriptions(text: Any) -> None:
    with pytest.raises(sc.SpecError, match="layer description"):
        sc.from_json(text)


def test_toml_that_is_none() -> None:
    with pytest.raises(sc.SpecError, match="not valid TOML"):
        sc.from_toml("type = ")


def test_a_description_nested_too_deep_is_an_error_of_our_own() -> None:
    for text in ("[" * 200_000, '{"layer":' * 200_000):
        with pytest.raises(sc.SpecError, match="layer description"):
            sc.from_json(text)


@pytest.mark.parametrize(
    "data",
    [
        {"type": "LSTM", "units": 0},
        {"type": "LSTM", "units": "3"},
        {"type": "LSTM", "units": 2.5},
        {"type": "LSTM", "units": True},
        {"type": "LSTM", "units": None},
        {"type": "LSTM", "units": 2, "use_bias": 1},
        {"type": "LSTM", "units": 2, "return_state": "yes"},
        {"type": "LSTM", "units": 2, "activation": 3},
        {"type": "LSTM", "units": 2, "activation": "gelu"},
        {"type": "LSTM", "units": 2, "keep_order": True},
        {"type": "Bidirectional", "layer": {"type": "Stack", "layers": []}},
        {"type": "Bidirectional", "layer": {"type": "LSTM", "units": 2}, "merge_mode": "max"},
        {"type": "Stack", "layers": []},
        {"type": "Stack", "layers": {"type": "LSTM", "units": 2}},
        {"type": "Stack", "layers": [{"type": "Stack", "layers": [{"type": "GRU", "units": 1}]}]},
    ],
    ids=str,
)
@pytest.mark.clause("ERR-3")
def test_descriptions_that_cannot_be(data: Any) -> None:
    with pytest.raises(sc.SpecError):
        sc.from_json(json.dumps(data))


# Constructors.

FOREIGN = {
    "stateful": "initial_state",
    "unroll": "leave it out",
    "dropout": "yourself",
    "recurrent_dropout": "not in this version",
    "time_major": "swap the first two axes",
    "hidden_size": "it is called units",
    "batch_first": "(batch, time, features)",
    "dtype": "layer.init",
    "device": "apply, bind or use_backend",
}


@pytest.mark.clause("ERR-3")
@pytest.mark.parametrize("name", DEFAULTS)
@pytest.mark.parametrize("argument", FOREIGN)
def test_arguments_of_other_libraries(name: str, argument: str) -> None:
    with pytest.raises(sc.SpecError) as caught:
        getattr(sc, name)(2, **{argument: False})
    assert str(caught.value).startswith(f"{name}: {argument!r} is not taken: ")
    assert FOREIGN[argument] in str(caught.value)
    for layer in (sc.Bidirectional, sc.Stack):
        with pytest.raises(sc.SpecError, match=f"'{argument}' is not taken: "):
            layer([sc.LSTM(2)], **{argument: None})


@pytest.mark.clause("ERR-3")
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: sc.LSTM(0), "LSTM: units is 0, expected a positive integer"),
        (lambda: sc.GRU(-3), "units is -3"),
        (lambda: sc.GRU(2.0), "units is 2.0"),
        (lambda: sc.GRU("2"), "units is '2'"),
        (lambda: sc.GRU(True), "units is True"),
        (lambda: sc.GRU(None), "units is None"),
        (lambda: sc.LSTM(2, 3), "LSTM"),
        (lambda: sc.LSTM(2, units=3), "LSTM"),
        (lambda: sc.LSTM(2, activation="tahn"),
         r"LSTM\(units=2\): activation is 'tahn' \(did you mean 'tanh'\?\), expected one of tanh"),
        (lambda: sc.LSTM(2, activation=None), "activation is None"),
        (lambda: sc.GRU(2, recurrent_activation="gelu"), "recurrent_activation is 'gelu'"),
        (lambda: sc.SimpleRNN(2, recurrent_activation="tanh"), "'recurrent_activation' is not"),
        (lambda: sc.SimpleRNN(2, kernel_initialiser="ones"),
         "did you mean 'kernel_initializer'"),
        (lambda: sc.GRU(2, return_sequence=True), "did you mean 'return_sequences'"),
        (lambda: sc.LSTM(2, reset_after=True), "'reset_after' is not taken"),
        (lambda: sc.GRU(2, unit_forget_bias=True), "'unit_forget_bias' is not taken"),
        (lambda: sc.LSTM(2, return_sequences=1), "return_sequences is 1, expected True or False"),
        (lambda: sc.LSTM(2, use_bias="no"), "use_bias is 'no', expected True or False"),
        (lambda: sc.LSTM(2, mask_output="keep"), "mask_output is 'keep', expected one of zero"),
        (lambda: sc.LSTM(2, keep_order=True), "keep_order=True"),
        (lambda: sc.Bidirectional(sc.LSTM(2), merge_mode="avg"), "did you mean 'ave'"),
        (lambda: sc.Bidirectional(sc.LSTM(2, go_backwards=True)), "go_backwards=True"),
        (lambda: sc.Bidirectional(sc.LSTM(2), backward_layer=sc.LSTM(2, go_backwards=True)),
         "backward_layer sets go_backwards=True"),
        (lambda: sc.Bidirectional(sc.Bidirectional(sc.LSTM(2))), "expected a SimpleRNN, LSTM"),
        (lambda: sc.Bidirectional(sc.Stack([sc.LSTM(2)])), "expected a SimpleRNN, LSTM or GRU"),
        (lambda: sc.Bidirectional("LSTM"), "expected a SimpleRNN, LSTM or GRU"),
        (lambda: sc.Bidirectional(sc.LSTM(2), "sum", sc.LSTM(3)), "equal units"),
        (lambda: sc.Stack([]), "layers is empty"),
        (lambda: sc.Stack(sc.LSTM(2)), "expected a list of layers"),
        (lambda: sc.Stack("LSTM"), "expected a list of layers"),
        (lambda: sc.Stack(3), "expected a list of layers"),
        (lambda: sc.Stack([sc.Stack([sc.LSTM(2)])]), r"layers\[0\].*expected a SimpleRNN"),
        (lambda: sc.Stack([sc.LSTM(2, **SEQ), None]), r"layers\[1\] is None"),
        (lambda: sc.Stack([sc.LSTM(2)], return_state=1), "return_state is 1"),
    ],
)  # fmt: skip
def test_constructors_refuse(make: Any, words: str) -> None:
    with pytest.raises(sc.SpecError, match=words):
        make()


@pytest.mark.clause("BI-1")
@pytest.mark.parametrize(
    ("field", "value"),
    [("return_sequences", True), ("return_state", True), ("mask_output", "carry")],
)
def test_members_share_what_holds_for_the_whole(field: str, value: Any) -> None:
    with pytest.raises(sc.SpecError, match=f"backward_layer has {field}"):
        sc.Bidirectional(sc.LSTM(2), backward_layer=sc.LSTM(2, **{field: value}))
    shared = {field: value}
    layer = sc.Bidirectional(
        sc.LSTM(2, **shared),
        backward_layer=sc.GRU(3, activation="relu", use_bias=False, **shared),
    )
    assert layer.backward.units == 3


@pytest.mark.clause("STACK-2")
@pytest.mark.parametrize(
    "first",
    [
        sc.LSTM(2),
        sc.Bidirectional(sc.LSTM(2)),
        sc.Bidirectional(sc.LSTM(2, **SEQ), merge_mode="none"),
    ],
    ids=str,
)
def test_members_before_the_last_hand_on_one_sequence(first: Any) -> None:
    with pytest.raises(sc.SpecError, match=r"layers\[0\]"):
        sc.Stack([first, sc.GRU(3)])
    sc.Stack([first], return_sequences=first.return_sequences)
    good = sc.Bidirectional(sc.LSTM(2, **SEQ), merge_mode="ave")
    sc.Stack([good, good, sc.GRU(3)])


@pytest.mark.clause("STACK-3")
def test_the_flags_belong_to_the_stack() -> None:
    for member in (sc.LSTM(2, return_state=True), sc.Bidirectional(sc.LSTM(2, return_state=True))):
        with pytest.raises(sc.SpecError, match=r"return_state=True.*belongs to the stack"):
            sc.Stack([member], return_state=True)
    with pytest.raises(sc.SpecError, match=r"return_sequences=True.*belongs to the stack"):
        sc.Stack([sc.LSTM(2, **SEQ)])
    assert sc.Stack([sc.LSTM(2, **SEQ)], **SEQ) is not None
    first = sc.LSTM(2, return_sequences=True, return_state=True)
    with pytest.raises(sc.SpecError, match=r"layers\[0\] sets return_state=True"):
        sc.Stack([first, sc.GRU(2)])


# What kind of objects they are.


@pytest.mark.parametrize("name", CELLS)
def test_layers_are_frozen_and_hashable(name: str) -> None:
    layer = CELLS[name]()
    with pytest.raises(AttributeError):
        layer.units = 3
    with pytest.raises(AttributeError):
        layer.other = 3
    assert {layer: 1}[CELLS[name]()] == 1
    assert layer.units == 2
    assert layer != CELLS[name](return_state=True)
    stack = sc.Stack([layer])
    assert isinstance(stack.layers, tuple)
    assert stack == sc.Stack((layer,))
    assert hash(stack) == hash(sc.Stack((layer,)))


@pytest.mark.clause("DESC-4")
def test_equal_whichever_way_the_fields_were_given() -> None:
    assert sc.LSTM(3) == sc.LSTM(units=np.int64(3), kernel_initializer=sc.GlorotUniform())
    assert hash(sc.LSTM(3)) == hash(sc.LSTM(3, activation="tanh"))
    assert sc.GRU(1, bias_initializer=sc.Constant(1)) == sc.GRU(
        1, bias_initializer=sc.Constant(1.0)
    )
    assert sc.GRU(1, bias_initializer="constant") == sc.GRU(1, bias_initializer=sc.Constant())
    assert sc.Bidirectional(sc.GRU(1)) == sc.Bidirectional(
        sc.GRU(1), "concat", sc.GRU(1, bias_initializer=sc.Zeros())
    )
    assert sc.Stack([sc.GRU(1)]) == sc.Stack((sc.GRU(1),))
    assert sc.LSTM(3) != sc.GRU(3)
    assert sc.GRU(3) != sc.GRU(3, reset_after=False)


def test_replacing_fields() -> None:
    layer = sc.LSTM(3, return_state=True)
    assert layer.replace(units=4) == sc.LSTM(4, return_state=True)
    assert layer == sc.LSTM(3, return_state=True)
    with pytest.raises(sc.SpecError, match="units is 0"):
        layer.replace(units=0)
    with pytest.raises(sc.SpecError, match="did you mean 'units'"):
        layer.replace(unit=4)
    with pytest.raises(sc.SpecError, match="'stateful' is not taken"):
        layer.replace(stateful=True)


def test_the_json_schema_describes_what_is_written() -> None:
    schema = sc.json_schema()
    names = {definition.get("title", key) for key, definition in schema["$defs"].items()}
    assert {"LSTM", "GRU", "SimpleRNN", "Bidirectional", "Stack"} <= names
    lstm = schema["$defs"]["LSTM"]
    assert set(json.loads(sc.LSTM(1).to_json())) == set(lstm["properties"])
    assert set(lstm["required"]) == {"type", "units"}
    assert lstm["additionalProperties"] is False


def test_a_layer_keeps_nothing_of_a_call() -> None:
    layer = sc.Bidirectional(sc.LSTM(2, return_state=True))
    before = layer.to_json(), hash(layer)
    weights, x, _ = Case("keeps nothing", layer).arguments()
    first = layer.apply(weights, x)
    layer.apply(weights, 2 * x)
    for one, two in zip(flat(layer.apply(weights, x)), first, strict=True):
        np.testing.assert_array_equal(one, two)
    assert (layer.to_json(), hash(layer)) == before
