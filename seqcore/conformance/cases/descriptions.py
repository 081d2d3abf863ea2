"""Laws of names, descriptions and weight files (clauses NAME and DESC)."""

from __future__ import annotations

import json
import pickle
import struct
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from seqcore import weights as weight_files
from seqcore.conformance.agreement import require_alike, require_right, require_same
from seqcore.conformance.calls import (
    BATCH,
    FEATURES,
    TIME,
    UNITS,
    Call,
    copied,
    draw,
    outputs_of,
    simple_rnn_step,
    zero_weights,
)
from seqcore.conformance.laws import law, require, require_bits, require_error
from seqcore.conformance.levels import BOTH
from seqcore.conformance.subject import Subject
from seqcore.errors import FileError, ShapeError, SpecError, WeightsError
from seqcore.spec import description
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.initializers import (
    Constant,
    GlorotUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Zeros,
)
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack

Shapes = dict[str, tuple[int, ...]]

# --- NAME ----------------------------------------------------------------------------------------

WEIGHTS: dict[str, tuple[AnyCell, Shapes]] = {
    "rnn": (
        SimpleRNN(2, **BOTH),
        {"kernel": (4, 2), "recurrent_kernel": (2, 2), "bias": (2,)},
    ),
    "lstm": (
        LSTM(2, **BOTH),
        {"kernel": (4, 8), "recurrent_kernel": (2, 8), "bias": (8,)},
    ),
    "gru": (
        GRU(2, **BOTH),
        {"kernel": (4, 6), "recurrent_kernel": (2, 6), "bias": (6,), "recurrent_bias": (6,)},
    ),
    "gru-before": (
        GRU(2, reset_after=False, **BOTH),
        {"kernel": (4, 6), "recurrent_kernel": (2, 6), "bias": (6,)},
    ),
    "gru-without-bias": (
        GRU(2, use_bias=False, **BOTH),
        {"kernel": (4, 6), "recurrent_kernel": (2, 6)},
    ),
}


@law("NAME-1", over={"lstm": LSTM(UNITS, **BOTH), "gru": GRU(UNITS, **BOTH)})
def the_axes_are_batch_time_features(subject: Subject, layer: AnyCell) -> None:
    """Rows stay apart along the first axis, and steps follow one another along the second."""
    call = draw(subject, layer, "axes")
    found = outputs_of(subject, call)
    for name, value in found.items():
        shape = (BATCH, TIME, UNITS) if name == "y" else (BATCH, UNITS)
        require(
            value.shape == shape,
            f"{layer}: {name}: expected {shape}, received {value.shape}",
            expected=shape,
            received=value.shape,
        )
    x = call.x.copy()
    x[1, 2] += 1
    other = outputs_of(subject, call.but(x=x))
    changed = np.abs(other["y"] - found["y"]).max(-1) > 1e-5
    expected = np.zeros((BATCH, TIME), bool)
    expected[1, 2:] = changed[1, 2:]  # a later change may have died away
    require(
        bool((changed == expected).all()) and bool(changed[1, 2]),
        f"{layer}: expected a change of row 1, step 2 of x to show there and later in that row",
        expected="row 1, from step 2",
        received=np.argwhere(changed).tolist(),
    )


@law("NAME-1")
def features_are_one_or_more(subject: Subject) -> None:
    """One feature is enough, none is an error."""
    layer = SimpleRNN(UNITS, return_sequences=True)
    call = draw(subject, layer, "one feature", state=False, features=1)
    first = {"y": outputs_of(subject, call)["y"][:, 0]}
    expected = {"y": simple_rnn_step(call.weights, call.x[:, 0], *call.state)}
    require_right(first, expected, call, f"{layer} over one feature, step 0")
    with require_error(ShapeError, f"{layer} over no features"):
        outputs_of(subject, call.but(x=call.x[:, :, :0]))
    with require_error(SpecError, f"{layer}: weights for no features", "features"):
        layer.init(0)


@law("NAME-2", over=WEIGHTS)
def a_cell_has_exactly_these_weights(subject: Subject, pair: tuple[AnyCell, Shapes]) -> None:
    """It runs with weights of these names and shapes, and with none more or fewer."""
    layer, shapes = pair
    for what, found in {
        "weight_shapes": layer.weight_shapes(4),
        "init": {name: value.shape for name, value in layer.init(4).items()},
    }.items():
        require(
            found == shapes,
            f"{layer}.{what}: expected {shapes}, received {found}",
            expected=shapes,
            received=found,
        )
    random = subject.random("exactly these weights")
    weights = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    x = random.standard_normal((BATCH, TIME, 4)).astype(np.float32)
    subject.apply(layer, weights, x)
    for name in shapes:
        fewer = {other: value for other, value in weights.items() if other != name}
        with require_error(WeightsError, f"{layer} without {name}", name):
            subject.apply(layer, fewer, x)
    with require_error(WeightsError, f"{layer} with another weight", "extra_bias"):
        subject.apply(layer, weights | {"extra_bias": weights["kernel"][0]}, x)


@law("NAME-2", over={name: WEIGHTS[name][0] for name in ("rnn", "lstm", "gru", "gru-before")})
def both_matrices_multiply_from_the_right(subject: Subject, layer: AnyCell) -> None:
    """Units that are renumbered, in rows and columns of each block, renumber the results."""
    call = draw(subject, layer, "units renumbered")
    order = [1, 0]

    def renumbered(name: str, value: Any) -> Any:
        blocks = value.reshape(*value.shape[:-1], -1, UNITS)[..., order].reshape(value.shape)
        return blocks[order] if name == "recurrent_kernel" else blocks

    weights = {name: renumbered(name, value) for name, value in call.weights.items()}
    other = call.but(weights=weights).giving(initial_state=[h[:, order] for h in call.state])
    found = {name: value[..., order] for name, value in outputs_of(subject, other).items()}
    require_alike(found, outputs_of(subject, call), call, f"{layer}, units renumbered")
    # A recurrent kernel with one row takes in one unit's h alone.
    weights = copied(call.weights)
    weights["recurrent_kernel"][1] = 0
    if isinstance(layer, GRU):  # of which h_t holds a part of h_{t-1} without any product
        z = slice(0, UNITS)
        for array in weights.values():
            array[..., z] = 0
        weights["bias"][z] = -1e4
    one = call.steps(slice(1)).but(weights=weights)
    h, *rest = call.state
    two = one.giving(initial_state=(h + np.array([0, 1], np.float32), *rest))
    found, expected = outputs_of(subject, two), {"y": outputs_of(subject, one)["y"]}
    require_alike(found, expected, one, f"{layer}, recurrent_kernel[1:] of zero, another h[1]")


@law("NAME-3", over={"lstm": LSTM(UNITS, **BOTH), "gru": GRU(UNITS, **BOTH)})
def a_block_of_each_array_is_the_same_gate(subject: Subject, layer: AnyCell) -> None:
    """A feature that is always 1 is a bias: its row of the kernel has the bias's blocks."""
    call = draw(subject, layer, "feature as bias")
    call.x[:, :, 0] = 1
    inside = copied(call.weights)
    inside["kernel"][0] += inside["bias"]
    inside["bias"][:] = 0
    found, expected = outputs_of(subject, call.but(weights=inside)), outputs_of(subject, call)
    require_alike(found, expected, call, f"{layer} with its bias in the kernel")


def _biased(call: Call, name: str, blocks: dict[int, float]) -> Call:
    """Return a call whose weights are 0 but for some blocks of a bias."""
    weights = zero_weights(call.layer)
    for block, value in blocks.items():
        weights[name][block * UNITS : (block + 1) * UNITS] = value
    return call.but(weights=weights)


@law("NAME-3")
def the_order_of_an_lstm_is_i_f_g_o(subject: Subject) -> None:
    """Each block of the bias alone does what its gate does."""
    layer = LSTM(UNITS, **BOTH)
    drawn = draw(subject, layer, "order of an LSTM")
    c = drawn.state[1].astype(np.float64)
    # In front of each line: which blocks are large, and what the last c then is.
    half, steps = 0.5, np.arange(TIME)
    added = float((half**steps).sum())
    for blocks, last, out in (
        ({1: 1e4}, c, half),
        ({1: -1e4}, np.zeros_like(c), half),
        ({0: 1e4, 2: 1e4}, c * half**TIME + added, half),
        ({0: -1e4, 2: 1e4}, c * half**TIME, half),
        ({2: -1e4}, c * half**TIME - half * added, half),
        ({1: 1e4, 3: 1e4}, c, 1.0),
        ({1: 1e4, 3: -1e4}, c, 0.0),
    ):
        call = _biased(drawn, "bias", blocks)
        expected = {"c": last, "h": out * np.tanh(last)}
        what = f"{layer} with bias {blocks} by block"
        require_right(outputs_of(subject, call), expected, call, what)


@law("NAME-3")
def the_order_of_a_gru_is_z_r_n(subject: Subject) -> None:
    """Each block of the biases alone does what its gate does."""
    layer = GRU(UNITS, **BOTH)
    drawn = draw(subject, layer, "order of a GRU")
    h = drawn.state[0].astype(np.float64)
    half = 0.5**TIME
    for name in ("bias", "recurrent_bias"):
        for blocks, last in (
            ({0: 1e4}, h),
            ({0: -1e4}, np.zeros_like(h)),
            ({1: 1e4}, h * half),
            ({2: 1e4}, h * half + 1 - half),
            ({1: -1e4, 2: 1e4}, h * half + (1 - half if name == "bias" else 0)),
        ):
            call = _biased(drawn, name, blocks)
            what = f"{layer} with {name} {blocks} by block"
            require_right(outputs_of(subject, call), {"h": last}, call, what)


@law("NAME-4")
def prefixes_combine_from_the_outside_in(subject: Subject) -> None:
    """Weights of members have these names, and a call takes them by these names alone."""
    pair = Bidirectional(
        LSTM(2, return_sequences=True),
        backward_layer=GRU(3, use_bias=False, return_sequences=True),
    )
    layer = Stack((pair, SimpleRNN(4)))
    shapes: Shapes = {
        "layers.0.forward.kernel": (FEATURES, 8),
        "layers.0.forward.recurrent_kernel": (2, 8),
        "layers.0.forward.bias": (8,),
        "layers.0.backward.kernel": (FEATURES, 9),
        "layers.0.backward.recurrent_kernel": (3, 9),
        "layers.1.kernel": (5, 4),
        "layers.1.recurrent_kernel": (4, 4),
        "layers.1.bias": (4,),
    }
    found = layer.weight_shapes(FEATURES)
    require(
        found == shapes,
        f"{layer}: expected the weights {', '.join(shapes)}, received {', '.join(found)}",
        expected=shapes,
        received=found,
    )
    call = draw(subject, layer, "prefixes", state=False)
    reordered = call.but(weights=dict(reversed(call.weights.items())))
    one, two = outputs_of(subject, call), outputs_of(subject, reordered)
    require_same(two, one, f"{layer} with its weights in another order")
    for old, new in (("layers.1.kernel", "layers.2.kernel"), ("layers.0.forward.bias", "bias")):
        renamed = {new if name == old else name: value for name, value in call.weights.items()}
        with require_error(WeightsError, f"{layer} with {old} called {new}", old):
            outputs_of(subject, call.but(weights=renamed))


# --- DESC-1 to DESC-4 ----------------------------------------------------------------------------

EVERY_CELL: dict[str, Any] = {
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

FIELDS: dict[str, tuple[AnyLayer, dict[str, Any], dict[str, Any]]] = {
    "SimpleRNN": (SimpleRNN(2), {"units": 2}, EVERY_CELL),
    "LSTM": (
        LSTM(2),
        {"units": 2},
        EVERY_CELL | {"recurrent_activation": "sigmoid", "unit_forget_bias": True},
    ),
    "GRU": (
        GRU(2),
        {"units": 2},
        EVERY_CELL | {"recurrent_activation": "sigmoid", "reset_after": True},
    ),
    "Bidirectional": (
        Bidirectional(LSTM(2)),
        {"layer": {"type": "LSTM", "units": 2}},
        {"merge_mode": "concat"},
    ),
    "Stack": (
        Stack((LSTM(2),)),
        {"layers": [{"type": "LSTM", "units": 2}]},
        {"return_sequences": False, "return_state": False},
    ),
}
"""For each type a layer, its required fields, and the others with their defaults."""


def _written(layer: AnyLayer) -> dict[str, dict[str, Any]]:
    """Return the description as read by a JSON and by a TOML parser that know no layers."""
    return {"JSON": json.loads(layer.to_json()), "TOML": tomllib.loads(layer.to_toml())}


def _read(data: dict[str, Any]) -> dict[str, AnyLayer]:
    """Return what the library reads from plain data, by format."""
    import tomli_w

    return {
        "JSON": description.from_json(json.dumps(data)),
        "TOML": description.from_toml(tomli_w.dumps(data)),
    }


def _require_equal(found: Any, expected: Any, what: str) -> None:
    require(found == expected, f"{what}: expected {expected!r}, received {found!r}")


@law("DESC-1", arrays=False, over=FIELDS)
def the_type_is_the_name(
    subject: Subject, entry: tuple[AnyLayer, dict[str, Any], dict[str, Any]]
) -> None:
    """A table with its `type` and the required fields is the layer, and is written so."""
    layer, required, _ = entry
    name = type(layer).__name__
    for form, found in _read({"type": name, **required}).items():
        _require_equal(found, layer, f"{name} with required fields alone, from {form}")
    for form, data in _written(layer).items():
        _require_equal(data.get("type"), name, f"{name} as {form}: type")


@law("DESC-1", arrays=False)
def members_and_initializers_are_tables(subject: Subject) -> None:
    """A member is such a table; an initializer is its name or a table with its parameters."""
    member = {"type": "GRU", "units": 2, "return_sequences": True}
    data = {
        "type": "Stack",
        "return_state": True,
        "layers": [
            {"type": "Bidirectional", "merge_mode": "sum", "layer": member | {"type": "LSTM"}}
            | {"backward_layer": member},
            {"type": "SimpleRNN", "units": 4},
        ],
    }
    sequences: dict[str, Any] = {"return_sequences": True}
    pair = Bidirectional(LSTM(2, **sequences), "sum", GRU(2, **sequences))
    for form, found in _read(data).items():
        _require_equal(found, Stack((pair, SimpleRNN(4)), return_state=True), f"from {form}")
    for given, initializer in (
        ("ones", Ones()),
        ({"type": "zeros"}, Zeros()),
        ({"type": "constant", "value": 1}, Constant(1.0)),
        ({"type": "random_uniform", "minval": -1}, RandomUniform(-1.0, 0.05)),
        ({"type": "random_normal", "mean": 2.5, "stddev": 1}, RandomNormal(2.5, 1.0)),
        ({"type": "glorot_uniform"}, GlorotUniform()),
        ({"type": "orthogonal", "gain": 0.5}, Orthogonal(0.5)),
    ):
        table = {"type": "LSTM", "units": 2, "kernel_initializer": given}
        expected = LSTM(2, kernel_initializer=initializer)
        for form, found in _read(table).items():
            _require_equal(found, expected, f"initializer {given!r} from {form}")
        for form, written in _written(expected).items():
            value = written["kernel_initializer"]
            name = value if isinstance(value, str) else value.get("type")
            _require_equal(
                name,
                given if isinstance(given, str) else given["type"],
                f"{initializer!r} as {form}",
            )


@law("DESC-2", arrays=False, over=FIELDS)
def these_are_all_fields_with_their_defaults(
    subject: Subject, entry: tuple[AnyLayer, dict[str, Any], dict[str, Any]]
) -> None:
    """Each field may be left out where it has its default, and no other field is written."""
    layer, required, defaults = entry
    name = type(layer).__name__
    for form, found in _read({"type": name, **required, **defaults}).items():
        _require_equal(found, layer, f"{name} with every default written out, from {form}")
    for field, value in defaults.items():
        for form, found in _read({"type": name, **required, field: value}).items():
            _require_equal(found, layer, f"{name} with {field}={value!r}, from {form}")
        found = getattr(layer, field)
        if field.endswith("initializer"):
            found = json.loads(layer.to_json()).get(field, value)
            found = found["type"] if isinstance(found, dict) else found
        _require_equal(found, value, f"{name}.{field} by default")
    allowed = {"type", *required, *defaults}
    for form, data in _written(layer).items():
        more = data.keys() - allowed
        require(not more, f"{name} as {form}: no field is called {', '.join(sorted(more))}")
    for field in required:
        with require_error(SpecError, f"{name} without {field}", field):
            description.from_json(json.dumps({"type": name, **required} | {field: None}))
        with require_error(SpecError, f"{name} without {field}", field):
            description.from_json(json.dumps({"type": name}))


@law("DESC-2", arrays=False)
def a_description_holds_no_null(subject: Subject) -> None:
    """No merging is `"none"`, an equal backward layer is left out, and None is read so."""
    cell = LSTM(2, return_sequences=True)
    layer = Bidirectional(cell, merge_mode=None, backward_layer=LSTM(2, return_sequences=True))
    _require_equal(layer.merge_mode, "none", "Bidirectional(merge_mode=None).merge_mode")
    for form, data in _written(layer).items():
        _require_equal(data.get("merge_mode"), "none", f"merge_mode as {form}")
        require("backward_layer" not in data, f"equal backward_layer as {form}: expected it absent")
    other = Bidirectional(cell, backward_layer=GRU(2, return_sequences=True))
    require("backward_layer" in json.loads(other.to_json()), "another backward_layer: expected it")
    for each in (layer, other, Stack((Bidirectional(cell), LSTM(2)))):
        text = each.to_json()
        require("null" not in text, f"{each} as JSON: expected no null", received=text)


@law("DESC-3", arrays=False)
def unknown_fields_and_types_are_errors(subject: Subject) -> None:
    """A field that a layer or initializer lacks, a type that is unknown or missing."""
    lstm: dict[str, Any] = {"type": "LSTM", "units": 2}
    wrong: dict[str, dict[str, Any]] = {
        "unknown field": lstm | {"unit": 2},
        "a GRU's field in an LSTM": lstm | {"reset_after": True},
        "a cell's field in a Stack": {"type": "Stack", "layers": [lstm], "units": 2},
        "unknown field of a member": {"type": "Bidirectional", "layer": lstm | {"size": 1}},
        "unknown field of an initializer": lstm
        | {"kernel_initializer": {"type": "zeros", "value": 0.0}},
        "unknown initializer": lstm | {"kernel_initializer": {"type": "he_normal"}},
        "initializer without a type": lstm | {"kernel_initializer": {"value": 1.0}},
        "unknown type": {"type": "Dense", "units": 2},
        "type in lower case": {"type": "lstm", "units": 2},
        "no type": {"units": 2},
        "type null-like": {"type": "", "units": 2},
        "a member without a type": {"type": "Stack", "layers": [{"units": 2}]},
        "a stack as a member": {"type": "Stack", "layers": [{"type": "Stack", "layers": [lstm]}]},
    }
    for what, data in wrong.items():
        with require_error(SpecError, f"{what}, from JSON"):
            _read(data)
    for text in ("", "{", "[]", "null", '"LSTM"', '{"type": "LSTM", "units": 2'):
        with require_error(SpecError, f"the text {text!r}"):
            description.from_json(text)
    with require_error(SpecError, "TOML that is none"):
        description.from_toml("type = ")


MANY: tuple[AnyLayer, ...] = (
    SimpleRNN(1, activation="relu", use_bias=False, mask_output="carry"),
    LSTM(7, recurrent_activation="hard_sigmoid", unit_forget_bias=False, return_state=True),
    GRU(3, reset_after=False, go_backwards=True, keep_order=True, return_sequences=True),
    LSTM(2, kernel_initializer=RandomNormal(0.5, 1e-7), bias_initializer=Constant(0.1 + 0.2)),
    GRU(2, recurrent_initializer=Orthogonal(1e300), kernel_initializer=RandomUniform(-1.0, 1.0)),
    Bidirectional(LSTM(2, mask_output="carry"), "none"),
    Bidirectional(GRU(2, **BOTH), "mul", SimpleRNN(2, use_bias=False, **BOTH)),
    Stack(
        (
            Bidirectional(
                LSTM(2, return_sequences=True), backward_layer=GRU(3, return_sequences=True)
            ),
            GRU(2, go_backwards=True, return_sequences=True),
            Bidirectional(SimpleRNN(2, mask_output="carry"), "ave"),
        ),
        **BOTH,
    ),
)


@law("DESC-4", arrays=False)
def what_is_written_reads_back_equal(subject: Subject) -> None:
    """In JSON and in TOML, with every field of every layer."""
    layers = (*MANY, *(layer for layer, _, _ in FIELDS.values()))
    for layer in layers:
        for form, found in {
            "JSON": description.from_json(layer.to_json()),
            "TOML": description.from_toml(layer.to_toml()),
            "a pickle": pickle.loads(pickle.dumps(layer)),
        }.items():
            _require_equal(found, layer, f"{layer} from {form}")
            require(type(found) is type(layer), f"{layer} from {form}: expected its type")
            require(hash(found) == hash(layer), f"{layer} from {form}: expected its hash")
    for index, one in enumerate(layers):
        for two in layers[index + 1 :]:
            require(one != two, f"expected two layers to differ: {one!r}, {two!r}")


@law("DESC-4", arrays=False)
def equal_fields_are_equal_layers(subject: Subject) -> None:
    """However defaults, initializers and equal members were given."""
    sequences: dict[str, Any] = {"return_sequences": True}
    pairs: dict[str, tuple[AnyLayer, AnyLayer]] = {
        "a default": (LSTM(2), LSTM(units=2, activation="tanh", use_bias=True)),
        "an initializer": (GRU(2), GRU(2, kernel_initializer=GlorotUniform())),
        "a parameter": (
            GRU(2, bias_initializer="constant"),
            GRU(2, bias_initializer=Constant(0)),
        ),
        "no merging": (Bidirectional(GRU(2), None), Bidirectional(GRU(2), "none")),
        "an equal member": (Bidirectional(GRU(2)), Bidirectional(GRU(2), backward_layer=GRU(2))),
        "a list of members": (
            Stack((GRU(2, **sequences), GRU(2))),
            Stack([GRU(2, **sequences), GRU(2)]),  # type: ignore[arg-type]
        ),
    }
    for what, (one, two) in pairs.items():
        _require_equal(two, one, f"{what}, given in another way")
        require(hash(one) == hash(two), f"{what}, given in another way: expected one hash")
    for other in (LSTM(3), LSTM(2, return_state=True), LSTM(2, bias_initializer="ones"), GRU(2)):
        require(LSTM(2) != other, f"LSTM(2): expected it to differ from {other!r}")


# --- DESC-5 --------------------------------------------------------------------------------------


@contextmanager
def _folder() -> Iterator[Path]:
    """Give a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="seqcore-conformance-") as name:
        yield Path(name)


DTYPE_TAGS = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}

FILED = Stack(
    (Bidirectional(LSTM(UNITS, return_sequences=True), "ave"), GRU(UNITS)), return_state=True
)


def _header(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the JSON header of a safetensors file and the numbers after it."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def _file(header: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@law("DESC-5", arrays=False, over={dtype: dtype for dtype in DTYPE_TAGS})
def a_file_gives_back_layer_and_weights(subject: Subject, dtype: str) -> None:
    """The layer is equal and the weights are the same bits, odd numbers included."""
    random = subject.random("weights of a file")
    kind = numpy_dtype(dtype)
    weights = {
        name: random.standard_normal(shape).astype(kind)
        for name, shape in FILED.weight_shapes(FEATURES).items()
    }
    odd = weights["layers.1.kernel"].reshape(-1)
    odd[:4] = np.array([np.nan, np.inf, -np.inf, -0.0], kind)
    weights["layers.1.bias"] = np.repeat(weights["layers.1.bias"], 2)[::2]
    with _folder() as folder:
        path = folder / "layer.safetensors"
        weight_files.save(path, FILED, weights)
        layer, loaded = weight_files.load(path)
        header, _ = _header(path.read_bytes())
    _require_equal(layer, FILED, f"the layer of a {dtype} file")
    _require_equal(set(loaded), set(weights), f"the names in a {dtype} file")
    for name, value in weights.items():
        require_bits(loaded[name], value, f"{name} of a {dtype} file")
    metadata = header.pop("__metadata__", {})
    _require_equal(set(metadata), {"seqcore.spec", "seqcore.format"}, "the metadata's keys")
    _require_equal(metadata["seqcore.format"], "1", "seqcore.format")
    _require_equal(description.from_json(metadata["seqcore.spec"]), FILED, "seqcore.spec")
    _require_equal(set(header), set(weights), "the tensors' names")
    for name, value in weights.items():
        _require_equal(header[name]["dtype"], DTYPE_TAGS[dtype], f"data type of {name}")
        _require_equal(header[name]["shape"], list(value.shape), f"shape of {name}")


@law("DESC-5")
def a_loaded_layer_runs(subject: Subject) -> None:
    """What was read gives the bits that what was written gives."""
    call = draw(subject, FILED, "loaded layer")
    with _folder() as folder:
        weight_files.save(folder / "layer", FILED, call.weights)
        layer, weights = weight_files.load(folder / "layer")
    found = outputs_of(subject, call.but(layer=layer, weights=weights))
    require_same(found, outputs_of(subject, call), f"{FILED} from a file")


def _metadata(change: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Return an edit of the metadata; a key with None is dropped."""

    def edit(header: dict[str, Any]) -> None:
        found = header["__metadata__"] | change
        header["__metadata__"] = {key: value for key, value in found.items() if value is not None}

    return edit


def _tensor(name: str, **change: Any) -> Callable[[dict[str, Any]], None]:
    def edit(header: dict[str, Any]) -> None:
        header[name].update(change)

    return edit


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no metadata": lambda header: header.pop("__metadata__"),
    "no description": _metadata({"seqcore.spec": None}),
    "no format": _metadata({"seqcore.format": None}),
    "another format": _metadata({"seqcore.format": "2"}),
    "a description cut off": _metadata({"seqcore.spec": "{"}),
    "a description of nothing": _metadata({"seqcore.spec": "null"}),
    "a description nested without end": _metadata({"seqcore.spec": "[" * 100_000}),
    "an unknown layer": _metadata({"seqcore.spec": '{"type": "Dense"}'}),
    "a layer that cannot be": _metadata({"seqcore.spec": '{"type": "LSTM", "units": 0}'}),
    "another layer": _metadata({"seqcore.spec": '{"type": "LSTM", "units": 3}'}),
    "a description that is no text": _metadata({"seqcore.spec": 3}),
    "a weight missing": lambda header: header.pop("bias"),
    "a weight of another name": lambda header: header.update(extra=header.pop("bias")),
    "integers": _tensor("bias", dtype="I32"),
    "another data type": _tensor("bias", dtype="F16"),
    "an unknown data type": _tensor("bias", dtype="PICKLE"),
    "another shape": _tensor("bias", shape=[2, 4]),
    "a negative shape": _tensor("bias", shape=[-8]),
    "a shape beyond memory": _tensor("kernel", shape=[2**40, 2**40]),
    "offsets beyond the file": _tensor("bias", data_offsets=[0, 10**12]),
}


def _good(folder: Path) -> bytes:
    """Return the bytes of a file of an LSTM."""
    layer = LSTM(UNITS)
    weight_files.save(folder / "good", layer, layer.init(FEATURES))
    return (folder / "good").read_bytes()


@law("DESC-5", arrays=False, over={what.replace(" ", "-"): what for what in HOSTILE})
def a_file_that_is_not_what_it_says(subject: Subject, what: str) -> None:
    """It raises `FileError`, which names the file."""
    with _folder() as folder:
        header, body = _header(_good(folder))
        HOSTILE[what](header)
        path = folder / "hostile"
        path.write_bytes(_file(header, body))
        with require_error(FileError, f"a file with {what}", "hostile"):
            weight_files.load(path)


@law("DESC-5", arrays=False)
def absent_truncated_and_foreign_files(subject: Subject) -> None:
    """No file, one cut anywhere, one with more behind it, and files of other kinds."""
    with _folder() as folder:
        good = _good(folder)
        for absent in (folder / "absent", folder, folder / "no" / "file"):
            with require_error(FileError, f"reading {absent.name}"):
                weight_files.load(absent)
        path = folder / "broken"
        sizes = (0, 1, 7, 8, 9, 50, len(good) // 2, len(good) - 1)
        contents = {f"cut after {size} bytes": good[:size] for size in sizes}
        contents |= {
            "a byte too long": good + b"\0",
            "a zip archive": b"PK\x03\x04" + bytes(100),
            "an .npy file": b"\x93NUMPY" + bytes(100),
            "JSON": b'{"type": "LSTM", "units": 2}',
            "a header without end": struct.pack("<Q", 2**63) + b"{}",
            "an empty header": struct.pack("<Q", 2) + b"{}",
            "a header that is a list": struct.pack("<Q", 2) + b"[]",
        }
        for what, content in contents.items():
            path.write_bytes(content)
            with require_error(FileError, f"a file: {what}"):
                weight_files.load(path)


EXECUTED: list[str] = []


def _spring(trace: str) -> None:
    EXECUTED.append(trace)


class Trap:
    """An object whose unpickling leaves a trace in `EXECUTED`."""

    def __reduce__(self) -> Any:
        return _spring, ("unpickled",)


@law("DESC-5", arrays=False)
def nothing_in_a_file_is_executed(subject: Subject) -> None:
    """A pickle, whole or where numbers are expected, is data or an error."""
    trap = pickle.dumps(Trap())
    with _folder() as folder:
        header, body = _header(_good(folder))
        path = folder / "trap"
        path.write_bytes(trap)
        with require_error(FileError, "a pickle"):
            weight_files.load(path)
        path.write_bytes(_file(header, trap + body[len(trap) :]))
        weight_files.load(path)
        _metadata({"seqcore.spec": trap.decode("latin-1")})(header)
        path.write_bytes(_file(header, body))
        with require_error(FileError, "a pickle for a description"):
            weight_files.load(path)
    found, EXECUTED[:] = list(EXECUTED), []
    require(not found, "weight files: expected nothing to be executed", received=found)
