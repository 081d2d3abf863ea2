"""ONNX models in and out: what exporters write, what ONNX Runtime computes, what is refused."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import seqcore as sc
from helpers import ACTIVATIONS, BOTH, MERGES, assert_same_bits, random_state, random_weights
from seqcore.interchange.onnx import from_onnx, to_onnx
from seqcore.interchange.onnx.node import attributes, tensors
from seqcore.interchange.torch import from_torch
from seqcore.spec.outputs import output_names, state_names
from seqcore.verify.own.onnx import run

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2
LENGTHS = np.array([5, 0, 3])
NEAR = {"float32": 1e-6, "float16": 4e-3}
"""Absolute, for values around 1: ONNX Runtime has faster, less exact activations."""

CELLS: dict[str, Any] = {
    "rnn": sc.SimpleRNN(UNITS, **BOTH),
    "lstm": sc.LSTM(UNITS, **BOTH),
    "gru": sc.GRU(UNITS, **BOTH),
    "gru-before": sc.GRU(UNITS, reset_after=False, **BOTH),
}


def _layers() -> dict[str, Any]:
    found = dict(CELLS)
    for name, cell in CELLS.items():
        found[f"{name}-no-bias"] = cell.replace(use_bias=False)
        found[f"{name}-backwards"] = cell.replace(go_backwards=True)
        found[f"{name}-keep-order"] = cell.replace(go_backwards=True, keep_order=True)
        found[f"{name}-both"] = sc.Bidirectional(cell)
    for mode in MERGES:
        found[f"merge-{mode}"] = sc.Bidirectional(sc.LSTM(UNITS, **BOTH), mode)
    inner = sc.Bidirectional(sc.LSTM(UNITS, return_sequences=True), "sum")
    turning = sc.GRU(UNITS, go_backwards=True, return_sequences=True)
    found["stack"] = sc.Stack([inner, turning, inner, sc.GRU(3, return_sequences=True)], **BOTH)
    none = sc.Bidirectional(sc.SimpleRNN(UNITS, return_sequences=True), "none")
    found["stack-turned"] = sc.Stack([turning, none], **BOTH)
    last = sc.LSTM(UNITS, return_state=True)
    found["last"] = last
    found["last-backwards"] = last.replace(go_backwards=True)
    found |= {f"last-{mode}": sc.Bidirectional(last, mode) for mode in MERGES}
    differ = sc.GRU(UNITS, activation="relu", recurrent_activation="hard_sigmoid", **BOTH)
    found["activations-differ"] = sc.Bidirectional(CELLS["gru"], backward_layer=differ)
    return found


LAYERS = _layers()


def arguments(layer: Any, dtype: str = "float32") -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(0)
    weights = random_weights(layer, rng, dtype, features=FEATURES)
    first = next(iter(weights.values())).dtype
    x = rng.standard_normal((BATCH, TIME, FEATURES)).astype(first)
    return weights, x, random_state(layer, rng, dtype, batch=BATCH)


def session(model: Any) -> Any:
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def fields(outputs: Any) -> tuple[Any, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def assert_same_weights(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_same_bits(found[name], value)


# --- models by hand ------------------------------------------------------------------------------


def model(
    nodes: Sequence[Any],
    arrays: dict[str, Any],
    outputs: Sequence[str],
    x: Sequence[Any] = ("time", "batch", FEATURES),
    inputs: Sequence[Any] = (),
    opset: int = 17,
    kind: int = TensorProto.FLOAT,
) -> Any:
    """Return a model; `x` are the sizes of the input of that name."""
    known = {name for node in nodes for name in node.output}
    assert set(outputs) <= known
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", kind, x), *inputs],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in arrays.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


NODE: dict[str, Any] = {"X": "x", "sequence_lens": "", "initial_h": "", "initial_c": "", "P": ""}
ENDS = {"RNN": ["Y", "Y_h"], "GRU": ["Y", "Y_h"], "LSTM": ["Y", "Y_h", "Y_c"]}


def recurrent(
    operator: str,
    *,
    count: int = 1,
    prefix: str = "",
    features: int = FEATURES,
    dtype: Any = np.float32,
    seed: int = 0,
    **changes: Any,
) -> tuple[Any, dict[str, Any]]:
    """Return a node and its random W, R and B."""
    rng = np.random.default_rng(seed)
    rows = {"RNN": 1, "GRU": 3, "LSTM": 4}[operator] * UNITS
    shapes = {"W": (count, rows, features), "R": (count, rows, UNITS), "B": (count, 2 * rows)}
    arrays = {
        f"{prefix}{name}": (0.6 * rng.standard_normal(shape)).astype(dtype)
        for name, shape in shapes.items()
    }
    places = {**NODE, **{name: f"{prefix}{name}" for name in shapes}}
    more: dict[str, Any] = {"hidden_size": UNITS}
    for name, value in changes.items():
        (places if name in places else more)[name] = value
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    used = order if operator == "LSTM" else order[:6]
    if count == 2:
        more.setdefault("direction", "bidirectional")
    outputs = [f"{prefix}{name}" for name in ENDS[operator]]
    return helper.make_node(operator, [places[n] for n in used], outputs, **more), arrays


def one(operator: str = "LSTM", **changes: Any) -> Any:
    """Return a model of one node."""
    node, arrays = recurrent(operator, **changes)
    return model([node], arrays, ["Y"])


def constant(values: Any) -> dict[str, Any]:
    return {"value": numpy_helper.from_array(np.asarray(values))}


# --- what exporters write ------------------------------------------------------------------------


def exported(module: Any, given: Any, **more: Any) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the exporter is the older one, and of batch sizes
        torch.onnx.export(module.eval(), given, file, dynamo=False, input_names=["x"], **more)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_two_bidirectional_layers_as_torch_exports_them(kind: str) -> None:
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(
        FEATURES, UNITS, 2, bidirectional=True, batch_first=True, dtype=torch.float64
    )
    x = torch.randn(BATCH, TIME, FEATURES, dtype=torch.float64)
    content = exported(module, (x,), dynamic_axes={"x": {0: "batch", 1: "time"}})
    layer, weights = from_onnx(content, return_state=True)
    expected, same = from_torch(module, return_state=True)
    assert layer == expected
    assert_same_weights(weights, same)
    found = layer.apply(weights, x.numpy(), backend="numpy")
    with torch.no_grad():
        y, states = module(x)
    np.testing.assert_allclose(found.y, y, rtol=0, atol=1e-12)
    by_name = zip("hc", states if kind == "LSTM" else (states,), strict=False)
    for name, values in by_name:
        mine = [value for key, value in found._asdict().items() if key.endswith(f"_{name}")]
        np.testing.assert_allclose(mine, values, rtol=0, atol=1e-12)


def test_rnn_with_relu_time_first_and_an_initial_state_as_torch_exports_it() -> None:
    torch.manual_seed(0)
    module = torch.nn.RNN(FEATURES, UNITS, 2, nonlinearity="relu", bias=False, dtype=torch.float64)
    x = torch.randn(TIME, BATCH, FEATURES, dtype=torch.float64)
    h = torch.randn(2, BATCH, UNITS, dtype=torch.float64)
    layer, weights = from_onnx(exported(module, (x, h)))
    assert layer == from_torch(module)[0]
    state = tuple(h.numpy())
    found = layer.apply(weights, x.numpy().swapaxes(0, 1), initial_state=state, backend="numpy")
    with torch.no_grad():
        y, _ = module(x, h)
    np.testing.assert_allclose(found.swapaxes(0, 1), y, rtol=0, atol=1e-12)


class Packed(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.GRU(FEATURES, UNITS, bidirectional=True, batch_first=True)

    def forward(self, x: Any, lengths: Any) -> Any:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        y, h = self.inner(packed)
        return torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], h


def test_a_packed_sequence_as_torch_exports_it() -> None:
    torch.manual_seed(0)
    module = Packed()
    x, lengths = torch.randn(BATCH, TIME, FEATURES), torch.tensor([5, 3, 1])
    layer, weights = from_onnx(exported(module, (x, lengths)))
    found = layer.apply(weights, x.numpy(), lengths=lengths.numpy(), backend="numpy")
    with torch.no_grad():
        y, _ = module(x, lengths)
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-6)


def test_fixed_sizes_as_torch_exports_them_through_dynamo() -> None:
    """Its graph by hand, for that exporter needs a package more: one tensor of zeros, one shape."""
    first, arrays = recurrent(
        "LSTM", count=2, X="t", initial_h="zeros", initial_c="zeros", layout=0, input_forget=0
    )
    second, more = recurrent(
        "LSTM",
        count=2,
        X="joined",
        prefix="b",
        features=2 * UNITS,
        initial_h="zeros",
        initial_c="zeros",
        seed=1,
    )
    arrays |= more
    arrays |= {
        "zeros": np.zeros((2, BATCH, UNITS), np.float32),
        "shape": np.array([TIME, BATCH, 2 * UNITS]),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        first,
        helper.make_node("Transpose", ["Y"], ["behind"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["behind", "shape"], ["joined"], allowzero=0),
        second,
        helper.make_node("Transpose", ["bY"], ["behind_2"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["behind_2", "shape"], ["joined_2"], allowzero=0),
        helper.make_node("Concat", ["Y_h", "bY_h"], ["h"], axis=0),
        helper.make_node("Transpose", ["joined_2"], ["y"], perm=[1, 0, 2]),
    ]
    made = model(nodes, arrays, ["y", "h"], x=(BATCH, TIME, FEATURES))
    assert_runs_alike(made, 4)
    with pytest.raises(sc.ConversionError, match="for batch 3, time 5 only, expected any"):
        run(made, {}, np.zeros((2, TIME, FEATURES), np.float32), None)


def test_a_layer_as_tf2onnx_writes_it() -> None:
    """Zeros of a shape from sizes, in int32 on the way."""
    node, arrays = recurrent(
        "LSTM",
        X="t",
        initial_h="initial",
        initial_c="initial",
        activations=["Sigmoid", "Tanh", "Tanh"],
        direction="forward",
    )
    arrays |= {"0": np.array([0]), "1": np.array([1]), "units": np.array([UNITS], np.int32)}
    arrays["zero"] = np.float32(0)
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Cast", ["sizes"], ["short"], to=TensorProto.INT32),
        helper.make_node("Slice", ["short", "0", "1", "0"], ["batch"]),
        helper.make_node("Concat", ["batch", "units"], ["shape"], axis=0),
        helper.make_node("Cast", ["shape"], ["long"], to=TensorProto.INT64),
        helper.make_node("Expand", ["zero", "long"], ["zeros"]),
        helper.make_node("Unsqueeze", ["zeros", "0"], ["initial"]),
        node,
        helper.make_node("Squeeze", ["Y", "1"], ["squeezed"]),
        helper.make_node("Transpose", ["squeezed"], ["y"], perm=[1, 0, 2]),
    ]
    made = model(nodes, arrays, ["y"], x=("batch", "time", FEATURES))
    assert_runs_alike(made, 0)


def assert_runs_alike(made: Any, states: int, lengths: Any = None) -> Any:
    """Compare a model in ONNX Runtime with what is read of it; return the layer."""
    layer, weights = from_onnx(made, return_sequences=True, return_state=True)
    x = np.random.default_rng(1).standard_normal((BATCH, TIME, FEATURES)).astype(np.float32)
    own = run(made, {}, x, lengths)
    found = layer.apply(weights, x, lengths=lengths, backend="numpy")._asdict()
    if "forward_y" in found:
        found["y"] = np.concatenate([found["forward_y"], found["backward_y"]], -1)
    assert len(own) == 1 + states
    for name, value in own.items():
        np.testing.assert_allclose(value, found[name], rtol=0, atol=NEAR["float32"], err_msg=name)
    return layer


# --- rearrangements ------------------------------------------------------------------------------


def around(nodes: Sequence[Any], output: str, count: int = 2, **more: Any) -> Any:
    """Return a model with one node and others after it."""
    node, arrays = recurrent("GRU", count=count, **more)
    arrays |= {f"[{n}]": np.array([n]) for n in (-1, 0, 1, 2, 4, -(2**31))}
    arrays |= {"half": np.float32(0.5), "two": np.float32(2), "end": np.array([2**63 - 1])}
    arrays |= {
        "part": np.array([0, 0, 2, -1]),
        "join": np.array([0, 0, -1]),
        "pair": np.array([1, 1]),
    }
    return model([node, *nodes], arrays, [output])


def side(place: int) -> list[Any]:
    index = [f"[{place}]", f"[{place + 1}]", "[1]"]
    return [
        helper.make_node("Slice", ["Y", *index], [f"s{place}"]),
        helper.make_node("Squeeze", [f"s{place}", "[1]"], [f"y{place}"]),
    ]


MERGED: dict[str, tuple[str, list[Any]]] = {
    "concat": (
        "concat",
        [*side(0), *side(1), helper.make_node("Concat", ["y0", "y1"], ["y"], axis=-1)],
    ),
    "sum": ("sum", [*side(0), *side(1), helper.make_node("Add", ["y0", "y1"], ["y"])]),
    "sum-turned": ("sum", [*side(0), *side(1), helper.make_node("Sum", ["y1", "y0"], ["y"])]),
    "mul": ("mul", [*side(0), *side(1), helper.make_node("Mul", ["y0", "y1"], ["y"])]),
    "mean": ("ave", [*side(0), *side(1), helper.make_node("Mean", ["y0", "y1"], ["y"])]),
    "half": (
        "ave",
        [
            *side(0),
            *side(1),
            helper.make_node("Add", ["y0", "y1"], ["added"]),
            helper.make_node("Mul", ["half", "added"], ["y"]),
        ],
    ),
    "divided": (
        "ave",
        [
            *side(0),
            *side(1),
            helper.make_node("Add", ["y0", "y1"], ["added"]),
            helper.make_node("Div", ["added", "two"], ["y"]),
        ],
    ),
    "split": (
        "mul",
        [
            helper.make_node("Split", ["Y", "pair"], ["s0", "s1"], axis=1),
            helper.make_node("Mul", ["s0", "s1"], ["y"]),
        ],
    ),
    "joined and parted": (
        "concat",
        [
            helper.make_node("Transpose", ["Y"], ["behind"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["behind", "join"], ["joined"]),
            helper.make_node("Reshape", ["joined", "part"], ["y"]),
        ],
    ),
    "dropout": ("concat", [helper.make_node("Dropout", ["Y"], ["y", "mask"])]),
    "cast": ("concat", [helper.make_node("Cast", ["Y"], ["y"], to=TensorProto.FLOAT)]),
}


@pytest.mark.parametrize("name", MERGED)
def test_directions_apart_and_merged(name: str) -> None:
    mode, nodes = MERGED[name]
    layer = assert_runs_alike(around(nodes, "y"), 0)
    assert layer.merge_mode == mode


def test_each_direction_as_an_output_is_not_merged() -> None:
    node, arrays = recurrent("GRU", count=2)
    arrays |= {"[0]": np.array([0]), "[1]": np.array([1]), "[2]": np.array([2])}
    made = model([node, *side(0), *side(1)], arrays, ["y1", "y0"])
    assert assert_runs_alike(made, 0).merge_mode == "none"


@pytest.mark.parametrize("merge", ["concat", "sum"])
def test_two_nodes_in_opposite_directions_are_one_level(merge: str) -> None:
    """As an exporter writes cells that differ; the backward one first."""
    back, arrays = recurrent("GRU", prefix="b", direction="reverse", linear_before_reset=1)
    ahead, more = recurrent("LSTM", prefix="f", seed=1)
    arrays |= more | {"1": np.array([1])}
    operator = {"concat": "Concat", "sum": "Add"}[merge]
    extra = {"axis": 2} if merge == "concat" else {}
    nodes = [
        back,
        ahead,
        helper.make_node("Squeeze", ["fY", "1"], ["fy"]),
        helper.make_node("Squeeze", ["bY", "1"], ["by"]),
        helper.make_node(operator, ["fy", "by"], ["y"], **extra),
    ]
    layer = assert_runs_alike(model(nodes, arrays, ["y", "bY_h", "fY_c"]), 2)
    assert (type(layer.forward), type(layer.backward)) == (sc.LSTM, sc.GRU)
    assert layer.merge_mode == merge


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_one_direction_and_the_order_of_its_steps(direction: str) -> None:
    squeeze = helper.make_node("Squeeze", ["Y", "[1]"], ["y"])
    turn = helper.make_node("Slice", ["y", "[-1]", "[-2147483648]", "[0]", "[-1]"], ["turned"])
    reverse = direction == "reverse"
    layer = assert_runs_alike(around([squeeze], "y", 1, direction=direction), 0)
    assert (layer.go_backwards, layer.keep_order) == (reverse, reverse)
    made = around([squeeze, turn], "turned", 1, direction=direction)
    if reverse:
        layer = assert_runs_alike(made, 0)
        assert (layer.go_backwards, layer.keep_order) == (True, False)
    else:
        with pytest.raises(sc.ConversionError, match="turns the steps of what it returns round"):
            from_onnx(made)


def test_a_reversed_input_makes_a_forward_node_a_backward_one() -> None:
    node, arrays = recurrent("RNN", X="turned")
    arrays |= {"-1": np.array([-1]), "0": np.array([0]), "before": np.array([-(2**63)])}
    turn = helper.make_node("Slice", ["x", "-1", "before", "0", "-1"], ["turned"])
    layer = assert_runs_alike(model([turn, node], arrays, ["Y"]), 0)
    assert (layer.go_backwards, layer.keep_order) == (True, False)


def test_layout_1_is_the_same_with_batch_first() -> None:
    """ONNX Runtime has no operator for it, so the same arrays are read in both layouts."""
    shape = ("batch", "time", FEATURES)
    for operator in ENDS:
        node, arrays = recurrent(operator, count=2, layout=1)
        behind = helper.make_node("Reshape", ["Y", "j"], ["y"])
        arrays["j"] = np.array([0, 0, -1])
        made = model([node, behind], arrays, ["y", "Y_h"], x=shape)
        plain, _ = recurrent(operator, count=2)
        layer, weights = from_onnx(made)
        expected, same = from_onnx(model([plain], arrays, ["Y"]))
        assert layer == expected
        assert_same_weights(weights, same)
    with pytest.raises(sc.ConversionError, match="onnxruntime does not"):
        run(made, {}, np.zeros((2, 3, FEATURES), np.float32), None)


@pytest.mark.parametrize("how", ["Constant", "Identity", "Transpose", "Concat", "float16"])
def test_weights_that_nodes_make_of_constants(how: str) -> None:
    node, arrays = recurrent("LSTM", W="made")
    expected, same = from_onnx(model([node], {**arrays, "made": arrays["W"]}, ["Y"]))
    values = arrays.pop("W")
    match how:
        case "Constant":
            made = helper.make_node("Constant", [], ["made"], **constant(values))
        case "Identity":
            arrays["w"], made = values, helper.make_node("Identity", ["w"], ["made"])
        case "Transpose":
            arrays["w"] = np.ascontiguousarray(values.T)
            made = helper.make_node("Transpose", ["w"], ["made"])
        case "Concat":
            arrays["a"], arrays["b"] = values[:, :3], values[:, 3:]
            made = helper.make_node("Concat", ["a", "b"], ["made"], axis=1)
        case _:
            arrays["w"] = values.astype(np.float16)
            made = helper.make_node("Cast", ["w"], ["made"], to=TensorProto.FLOAT)
            same["kernel"] = same["kernel"].astype(np.float16).astype(np.float32)
    layer, weights = from_onnx(model([made, node], arrays, ["Y"]))
    assert layer == expected
    assert_same_weights(weights, same)


def test_initializers_that_are_inputs_and_attributes_of_old_opsets() -> None:
    """As files of IR version 3 and opset 11 have them."""
    node, arrays = recurrent("GRU", count=1)
    made = model(
        [node, helper.make_node("Squeeze", ["Y"], ["y"], axes=[1])], arrays, ["y"], opset=11
    )
    made.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape)
        for name, value in arrays.items()
    )
    assert_runs_alike(made, 0)


def test_nodes_that_no_output_needs_do_not_count() -> None:
    node, arrays = recurrent("GRU")
    product = helper.make_node("MatMul", ["Y", "W"], ["unused"])
    assert from_onnx(model([node, product], arrays, ["Y"]))[0] == from_onnx(one("GRU"))[0]


# --- what a node holds ---------------------------------------------------------------------------


def test_both_biases_are_summed_but_for_the_gru_that_resets_after() -> None:
    for operator, options in (("RNN", {}), ("LSTM", {}), ("GRU", {}), ("GRU", {"after": 1})):
        node, arrays = (
            recurrent(operator, linear_before_reset=1) if options else recurrent(operator)
        )
        made = model([node], arrays, ["Y"])
        assert_runs_alike(made, 0)
        layer, weights = from_onnx(made)
        assert ("recurrent_bias" in weights) is bool(options)
        both = np.split(arrays["B"][0], 2)
        kept = sum(np.abs(weights[name]).sum() for name in weights if "bias" in name)
        expected = sum(np.abs(b).sum() for b in both) if options else np.abs(sum(both)).sum()
        assert kept == pytest.approx(expected, rel=1e-6)
        assert layer.use_bias


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_every_data_type_is_read(dtype: str) -> None:
    layer = sc.GRU(UNITS, return_sequences=True)
    weights, _, _ = arguments(layer, dtype)
    kind = helper.np_dtype_to_tensor_dtype(weights["kernel"].dtype)
    arrays = tensors([layer], [weights])
    node = helper.make_node("GRU", ["x", "W", "R", "B"], ["Y"], **attributes(layer))
    made = model([node], arrays, ["Y"], opset=22, kind=kind)
    found, again = from_onnx(made)
    assert found == layer
    assert_same_weights(again, weights)
    for tensor in made.graph.initializer:  # the numbers in fields of their own
        values = numpy_helper.to_array(tensor)
        flat = values.ravel().view(np.uint16) if values.itemsize == 2 else values.ravel()
        name = {8: "double_data", 4: "float_data", 2: "int32_data"}[values.itemsize]
        tensor.ClearField("raw_data")
        getattr(tensor, name).extend(flat.tolist())
    assert_same_weights(from_onnx(made)[1], weights)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_activation_goes_there_and_back(cell: str, activation: str) -> None:
    for recurrent_activation in ACTIVATIONS if cell != "rnn" else ("",):
        layer = CELLS[cell].replace(activation=activation)
        if recurrent_activation:
            layer = layer.replace(recurrent_activation=recurrent_activation)
        weights, x, _ = arguments(layer)
        weights = {name: value / 2 for name, value in weights.items()}
        made = to_onnx(layer, weights, lengths=False, initial_state=False)
        del made.metadata_props[:]
        found, again = from_onnx(made, return_state=True)
        assert found == layer
        assert_same_weights(again, weights)
        y, *_ = session(made).run(None, {"x": x})
        np.testing.assert_allclose(y, layer.apply(weights, x).y, rtol=0, atol=NEAR["float32"])


def ones(*shape: int) -> Any:
    return np.ones(shape, np.float32)


SIGMOIDS = ["Sigmoid", "Tanh", "Tanh"]

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "peepholes": (
        lambda: _with(recurrent("LSTM", P="P"), P=ones(1, 3 * UNITS)),
        "P holds peepholes that are not zero",
    ),
    "clip": (lambda: one(clip=5.0), r"clip=5\.0 bounds what goes into activations"),
    "input_forget": (lambda: one(input_forget=1), "input_forget=1 couples the gates i and f"),
    "unequal": (
        lambda: one(activations=["Sigmoid", "Tanh", "Relu"]),
        "tanh for the candidate and relu for the output",
    ),
    "hard sigmoid": (
        lambda: one(activations=["HardSigmoid", "Tanh", "Tanh"]),
        r"'HardSigmoid' with alpha=0\.2 and beta=0\.5 is none of layers",
    ),
    "affine": (
        lambda: one("RNN", activations=["Affine"], activation_alpha=[2.0], activation_beta=[0.0]),
        "'Affine' with alpha=2 and beta=0 is none",
    ),
    "other function": (lambda: one("RNN", activations=["Softsign"]), "'Softsign' is none"),
    "leaky": (lambda: one("RNN", activations=["LeakyRelu"]), r"'LeakyRelu' with alpha=0\.01"),
    "too many alphas": (
        lambda: one(activations=SIGMOIDS, activation_alpha=[0.5]),
        "holds more numbers than the activations",
    ),
    "too few names": (lambda: one(activations=SIGMOIDS[:2]), "holds 2 names, expected 3"),
    "direction": (lambda: one(direction="sideways"), "direction is 'sideways'"),
    "hidden_size": (lambda: one(hidden_size=7), "hidden_size is 7, and R has 2 units"),
    "unknown attribute": (lambda: one(zoneout=0.5), "attribute 'zoneout' is unknown"),
    "attribute of another type": (lambda: one(hidden_size="2"), "'hidden_size' is unknown or of"),
    "shape of W": (lambda: _with(recurrent("LSTM"), W=ones(1, 9, 4)), "W has shape"),
    "shape of R": (lambda: _with(recurrent("LSTM"), R=ones(8, 2)), "R has shape"),
    "shape of B": (lambda: _with(recurrent("LSTM"), B=ones(1, 8)), "B has shape"),
    "no units": (lambda: _with(recurrent("RNN"), R=ones(1, 0, 0)), "R has shape"),
    "features": (
        lambda: _with(recurrent("RNN"), W=ones(1, 2, 9)),
        "W is for 9 features, and what it reads has 4",
    ),
    "mixed dtypes": (
        lambda: _with(recurrent("RNN"), W=np.ones((1, 2, 4), np.float64)),
        "received W float64, R float32",
    ),
    "integers": (
        lambda: _with(recurrent("RNN", dtype=np.int32)),
        "expected all of one of float64",
    ),
    "dtype of x": (lambda: one("RNN", dtype=np.float16), "W is float16 and the input 'x' float32"),
    "no W": (lambda: one("RNN", W=""), "W is absent"),
    "W is an input": (lambda: one("RNN", W="x"), "W is the input 'x', expected an initializer"),
}


def _with(made: tuple[Any, dict[str, Any]], **arrays: Any) -> Any:
    node, own = made
    return model([node], {**own, **arrays}, ["Y"])


@pytest.mark.parametrize("name", WRONG)
def test_what_no_layer_has_is_refused_by_name(name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(make())


def test_peepholes_of_zeros_are_none() -> None:
    made = _with(recurrent("LSTM", P="P"), P=np.zeros((1, 3 * UNITS), np.float32))
    assert_runs_alike(made, 0)


# --- states and lengths --------------------------------------------------------------------------


def beginning(arrays: dict[str, Any], nodes: Sequence[Any] = (), inputs: Sequence[Any] = ()) -> Any:
    node, own = recurrent("RNN", initial_h="h0")
    return model([*nodes, node], {**own, **arrays}, ["Y"], inputs=inputs)


def given(name: str, kind: int, *sizes: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, sizes)


def test_an_initial_state_is_zeros_or_an_input() -> None:
    assert_runs_alike(beginning({"h0": np.zeros((1, BATCH, UNITS), np.float32)}), 0)
    assert_runs_alike(beginning({}, inputs=[given("h0", 1, 1, "batch", UNITS)]), 0)
    stacked = given("all", 1, 2, "batch", UNITS)
    bounds = {"0": np.array([0]), "1": np.array([1])}
    slice_ = helper.make_node("Slice", ["all", "0", "1", "0"], ["h0"])
    assert_runs_alike(beginning(bounds, [slice_], [stacked]), 0)
    values = np.zeros((1, BATCH, UNITS), np.float32)
    values[0, 1, 1] = -0.25
    with pytest.raises(sc.ConversionError, match=r"initial_h is a constant of up to 0\.25"):
        from_onnx(beginning({"h0": values}))
    double = helper.make_node("Add", ["all", "all"], ["h0"])
    with pytest.raises(sc.ConversionError, match=r"initial_h is computed by Add \(node 0\)"):
        from_onnx(beginning({}, [double], [stacked]))
    first, arrays = recurrent("RNN", prefix="a", features=UNITS)
    second, more = recurrent("RNN", initial_h="aY_h", X="y", features=UNITS)
    squeeze = helper.make_node("Squeeze", ["aY", "1"], ["y"])
    arrays |= more | {"1": np.array([1])}
    made = model([first, squeeze, second], arrays, ["Y"], x=("t", "b", UNITS))
    with pytest.raises(sc.ConversionError, match="initial_h is what a recurrent node returns"):
        from_onnx(made)


def test_lengths_are_an_input_of_all_nodes() -> None:
    lengths = given("n", TensorProto.INT32, "batch")

    def made(first: str, second: str, arrays: dict[str, Any] | None = None) -> Any:
        one, own = recurrent("GRU", count=2, sequence_lens=first)
        other, more = recurrent(
            "LSTM", prefix="b", X="joined", features=2 * UNITS, sequence_lens=second
        )
        nodes = [
            one,
            helper.make_node("Transpose", ["Y"], ["behind"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", ["behind", "j"], ["joined"]),
            other,
        ]
        own |= more | {"j": np.array([0, 0, -1])} | (arrays or {})
        return model(nodes, own, ["bY", "bY_c", "Y_h"], inputs=[lengths])

    assert_runs_alike(made("n", "n"), 3, np.array([5, 1, 3]))
    with pytest.raises(sc.ConversionError, match=r"sequence_lens is None, and that of the first"):
        from_onnx(made("n", ""))
    fixed = {"fixed": np.array([5, 1, 3], np.int32)}
    with pytest.raises(sc.ConversionError, match="sequence_lens is a constant, expected an input"):
        from_onnx(made("fixed", "fixed", fixed))


def test_a_graph_without_lengths_runs_row_by_row() -> None:
    node, arrays = recurrent("LSTM", count=2)
    assert_runs_alike(model([node], arrays, ["Y", "Y_h", "Y_c"]), 4, np.array([5, 1, 3]))


def test_lengths_and_a_reversed_input_are_refused() -> None:
    node, arrays = recurrent("RNN", X="turned", sequence_lens="n")
    arrays |= {"-1": np.array([-1]), "0": np.array([0]), "before": np.array([-(2**63)])}
    turn = helper.make_node("Slice", ["x", "-1", "before", "0", "-1"], ["turned"])
    lengths = given("n", TensorProto.INT32, "batch")
    with pytest.raises(sc.ConversionError, match="reads the steps in reverse order, the padding"):
        from_onnx(model([turn, node], arrays, ["Y"], inputs=[lengths]))


# --- other nodes ---------------------------------------------------------------------------------


def computing(operator: str, *more: str, **options: Any) -> Callable[[], Any]:
    node = helper.make_node(operator, ["Y", *more], ["z"], name="head", **options)
    return lambda: around([node], "z", 1)


AFTER = {
    "MatMul": computing("MatMul", "W"),
    "Relu": computing("Relu"),
    "bias": computing("Add", "half"),
    "the last step": computing("Gather", "[-1]", axis=0),
    "a number of steps": computing("Slice", "[0]", "[4]", "[0]"),
    "half a layer": computing("Slice", "[0]", "[1]", "end"),
    "rounding": computing("Cast", to=TensorProto.FLOAT16),
    "mean over time": computing("ReduceMean", axes=[0]),
    "joined steps": computing("Reshape", "[-1]"),
    "repeated": computing("Expand", "part"),
    "with itself": computing("Add", "Y"),
    "a custom operator": computing("Identity", domain="com.example"),
    "dropout that acts": computing("Dropout", "half", "true"),
}


@pytest.mark.parametrize("name", AFTER)
def test_nodes_that_compute_are_refused_by_name(name: str) -> None:
    made = AFTER[name]()
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "true"))
    operator = made.graph.node[-1].op_type
    message = rf"computed by {operator} \(node 1, 'head'\), which the layer would lose"
    if name == "with itself":
        message = "something else than the outputs of the level before"
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(made)


def test_nodes_before_and_between_are_refused_by_name() -> None:
    node, arrays = recurrent("RNN", X="z")
    product = helper.make_node("MatMul", ["x", "M"], ["z"])
    arrays["M"] = np.eye(FEATURES, dtype=np.float32)
    with pytest.raises(sc.ConversionError, match=r"RNN \(node 1\): reads computed by MatMul"):
        from_onnx(model([product, node], arrays, ["Y"]))


def chain(second: str, *, output: str = "bY", x: Sequence[Any] = ("t", "b", UNITS)) -> Any:
    """Return a model of two nodes, of which the second reads a value of that name."""
    first, arrays = recurrent("RNN", features=UNITS)
    other, more = recurrent("RNN", prefix="b", X=second, features=UNITS)
    arrays |= more | {"1": np.array([1]), "0": np.array([0])}
    nodes = [
        first,
        helper.make_node("Squeeze", ["Y", "1"], ["y"]),
        helper.make_node("Transpose", ["y"], ["across"], perm=[1, 0, 2]),
        helper.make_node("Add", ["x", "y"], ["added"]),
        other,
        helper.make_node("Squeeze", ["bY", "1"], ["by"]),
        helper.make_node("Add", ["y", "by"], ["residual"]),
        helper.make_node("Concat", ["y", "by"], ["both"], axis=2),
    ]
    return model(nodes, arrays, [output], x=x)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: chain("x", output="both"), "reads what another node reads in the same direction"),
        (lambda: chain("across"), "reads time and batch along other axes"),
        (lambda: chain("added"), "reads computed by Add"),
        (lambda: chain("Y_h"), "reads time and batch along other axes"),
        (lambda: chain("y", output="residual"), "something else than the outputs of the level"),
        (lambda: chain("y", output="both"), "something else than the outputs of the level"),
        (lambda: chain("bY"), "'bY' is read before any node makes it"),
    ],
)
def test_what_is_no_chain_is_refused(made: Callable[[], Any], message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(made())


def test_an_output_of_an_inner_level_would_be_lost() -> None:
    made = chain("y")
    made.graph.output.append(helper.make_tensor_value_info("Y", 1, None))
    with pytest.raises(sc.ConversionError, match="'Y' holds something else than the outputs"):
        from_onnx(made)


def test_one_direction_alone_is_not_the_layer() -> None:
    node, arrays = recurrent("GRU", count=2)
    arrays |= {"[0]": np.array([0]), "[1]": np.array([1]), "[2]": np.array([2])}
    with pytest.raises(sc.ConversionError, match="one direction of the last level, and not the"):
        from_onnx(model([node, *side(0)], arrays, ["y0"]))


def test_the_backward_direction_first_is_refused() -> None:
    joined = helper.make_node("Concat", ["y1", "y0"], ["y"], axis=-1)
    with pytest.raises(sc.ConversionError, match="its backward direction first"):
        from_onnx(around([*side(0), *side(1), joined], "y"))


def test_a_graph_without_recurrent_nodes_says_what_it_holds() -> None:
    body = helper.make_graph([], "body", [], [])
    loop = helper.make_node("Loop", ["x", "x"], ["y"], body=body)
    with pytest.raises(sc.ConversionError, match="holds 'Loop', in which a recurrent layer may be"):
        from_onnx(model([loop], {}, ["y"]))
    with pytest.raises(sc.ConversionError, match="holds 'Relu', expected RNN, GRU or LSTM"):
        from_onnx(model([helper.make_node("Relu", ["x"], ["y"])], {}, ["y"]))


# --- to_onnx -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("name", LAYERS)
def test_onnx_runtime_computes_what_the_layer_does_and_the_layer_comes_back(
    name: str, lengths: bool, state: bool
) -> None:
    layer = LAYERS[name]
    weights, x, initial = arguments(layer)
    made = to_onnx(layer, weights, lengths=lengths, initial_state=state)
    onnx.checker.check_model(made, full_check=True)
    inputs: dict[str, Any] = {"x": x}
    words: dict[str, Any] = {}
    if lengths:
        inputs["lengths"] = words["lengths"] = LENGTHS
    if state:
        inputs |= {f"initial_{n}": h for n, h in zip(state_names(layer), initial, strict=True)}
        words["initial_state"] = initial
    engine = session(made)
    assert {entry.name for entry in engine.get_inputs()} == set(inputs)
    assert [entry.name for entry in engine.get_outputs()] == list(output_names(layer))
    expected = layer.apply(weights, x, backend="numpy", **words)
    for found, value in zip(engine.run(None, inputs), fields(expected), strict=True):
        assert found.shape == value.shape
        np.testing.assert_allclose(found, value, rtol=0, atol=NEAR["float32"])
    again, same = from_onnx(made.SerializeToString())
    assert again == layer
    assert_same_weights(same, weights)


@pytest.mark.parametrize("name", [n for n in LAYERS if not n.startswith(("last", "stack"))])
def test_a_model_without_its_description_is_read_from_its_graph(name: str) -> None:
    layer = LAYERS[name]
    weights, _, _ = arguments(layer)
    made = to_onnx(layer, weights)
    del made.metadata_props[:]
    again, same = from_onnx(made, return_state=True)
    assert again == layer
    assert_same_weights(same, weights)


def test_it_is_one_node_a_level_in_standard_operators() -> None:
    layer = LAYERS["stack"]
    made = to_onnx(layer, arguments(layer)[0])
    operators = [node.op_type for node in made.graph.node if node.op_type in ENDS]
    assert operators == ["LSTM", "GRU", "LSTM", "GRU"]
    assert {node.domain for node in made.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in made.opset_import] == [("", 17)]
    assert made.ir_version == 8
    assert [value.name for value in made.graph.input[:2]] == ["x", "lengths"]


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_the_models_data_type_is_that_of_the_weights(dtype: str) -> None:
    layer = sc.Bidirectional(sc.GRU(UNITS, **BOTH))
    weights, x, _ = arguments(layer, dtype)
    made = to_onnx(layer, weights, initial_state=False)
    onnx.checker.check_model(made, full_check=True)
    assert_same_weights(from_onnx(made)[1], weights)
    lengths = np.array([5, 1, 3])
    if dtype == "float64":
        with pytest.raises(sc.ConversionError, match="onnxruntime"):
            run(made, {}, x, lengths)
        return
    found = run(made, {}, x, lengths)
    expected = layer.apply(weights, x, lengths=lengths, backend="numpy")
    for name, value in expected._asdict().items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=0, atol=NEAR["float16"])


def test_double_is_what_torch_computes() -> None:
    """ONNX Runtime has no such operators: the node's arrays are torch's in another order."""
    torch.manual_seed(0)
    module = torch.nn.LSTM(FEATURES, UNITS, batch_first=True, dtype=torch.float64)
    made = to_onnx(*from_torch(module), initial_state=False)
    arrays = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    i, f, g, o = np.split(module.weight_ih_l0.detach().numpy(), 4)
    assert_same_bits(arrays["W"][0], np.concatenate([i, o, f, g]))


def test_with_lengths_padding_is_zero_and_the_description_says_so() -> None:
    carries = sc.LSTM(UNITS, return_sequences=True, mask_output="carry")
    for layer in (
        carries,
        sc.Bidirectional(carries),
        sc.Stack([sc.LSTM(UNITS, return_sequences=True), carries], return_sequences=True),
    ):
        weights = layer.init(FEATURES)
        found, same = from_onnx(to_onnx(layer, weights))
        x = np.ones((2, 4, FEATURES), np.float32)
        assert not found.apply(same, x, lengths=[4, 1])[1, 1:].any()
        assert layer.apply(weights, x, lengths=[4, 1])[1, 1:].any()
        kept, _ = from_onnx(to_onnx(layer, weights, lengths=False))
        assert kept == layer


@pytest.mark.parametrize(
    ("layer", "dtype", "words", "message"),
    [
        (sc.LSTM(2), "bfloat16", {}, "weights are bfloat16"),
        (
            sc.Bidirectional(sc.LSTM(2), backward_layer=sc.GRU(2)),
            "float32",
            {},
            "one direction is another cell",
        ),
        (
            sc.Bidirectional(sc.LSTM(2), backward_layer=sc.LSTM(3)),
            "float32",
            {},
            "the directions differ in units",
        ),
        (
            sc.Bidirectional(sc.GRU(2), backward_layer=sc.GRU(2, reset_after=False)),
            "float32",
            {},
            "the directions differ in reset_after",
        ),
    ],
    ids=str,
)
def test_what_a_node_cannot_hold_is_refused_by_name(
    layer: Any, dtype: str, words: Any, message: str
) -> None:
    weights = random_weights(layer, np.random.default_rng(0), dtype, features=FEATURES)
    with pytest.raises(sc.ConversionError, match=message):
        to_onnx(layer, weights, **words)
    if "carry" in message:
        to_onnx(layer, weights, lengths=False)


def test_weights_and_layers_that_are_none() -> None:
    with pytest.raises(sc.ConversionError, match="first argument is str, expected a layer"):
        to_onnx("LSTM", {})
    with pytest.raises(sc.WeightsError):
        to_onnx(sc.LSTM(2), {})


def test_more_weights_than_a_message_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = sc.LSTM(2)
    weights = layer.init(3)
    size = sum(value.nbytes for value in weights.values())
    monkeypatch.setattr("seqcore.interchange.onnx.writing.MOST_BYTES", size - 1)
    with pytest.raises(sc.ConversionError, match=f"its weights have {size} bytes"):
        to_onnx(layer, weights)


# --- the description -----------------------------------------------------------------------------


def test_flags_override_those_of_the_description() -> None:
    layer = LAYERS["merge-ave"]
    weights, _, _ = arguments(layer)
    made = to_onnx(layer, weights)
    again, _ = from_onnx(made, return_sequences=False, return_state=False)
    assert (again.return_sequences, again.return_state) == (False, False)
    assert again.merge_mode == "ave"
    again, same = from_onnx(made, return_sequences=True)
    assert again == layer
    assert_same_weights(same, weights)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        (sc.GRU(UNITS, **BOTH), "in level 0"),
        (sc.LSTM(3, **BOTH), "units=2 in level 0"),
        (sc.LSTM(UNITS, use_bias=False, **BOTH), "use_bias=True in level 0"),
        (sc.LSTM(UNITS, activation="relu", **BOTH), "activation='tanh' in level 0"),
        (sc.LSTM(UNITS, go_backwards=True, **BOTH), "other directions in level 0"),
        (sc.LSTM(UNITS, mask_output="carry", **BOTH), "another mask_output"),
        (sc.Bidirectional(sc.LSTM(UNITS, **BOTH)), "other directions in level 0"),
        (sc.Stack([sc.LSTM(UNITS, return_sequences=True)] * 2, **BOTH), "1 levels"),
        ("{", "not valid JSON"),
    ],
    ids=str,
)
def test_a_description_of_something_else_is_refused(described: Any, message: str) -> None:
    layer = CELLS["lstm"]
    made = to_onnx(layer, arguments(layer)[0])
    text = described if isinstance(described, str) else described.to_json()
    made.metadata_props[0].value = text
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(made)


@pytest.mark.parametrize("mode", ["sum", "mul", "none"])
def test_a_description_of_another_merge_is_refused(mode: str) -> None:
    layer = sc.Bidirectional(CELLS["lstm"])
    made = to_onnx(layer, arguments(layer)[0])
    made.metadata_props[0].value = layer.replace(merge_mode=mode).to_json()
    with pytest.raises(sc.ConversionError, match="merge_mode='concat' in level 0"):
        from_onnx(made)


# --- what runs it in its own framework -----------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in LAYERS if n.startswith(("merge", "stack", "gru"))])
def test_the_models_own_engine_gives_outputs_by_their_names(name: str) -> None:
    layer = LAYERS[name]
    weights, x, _ = arguments(layer)
    lengths = np.array([5, 1, 3])
    for taken in (False, True):
        found = run(to_onnx(layer, weights, lengths=taken), {}, x, lengths)
        expected = layer.apply(weights, x, lengths=lengths, backend="numpy")._asdict()
        if "forward_y" in expected:
            sides = [expected.pop("forward_y"), expected.pop("backward_y")]
            expected["y"] = np.concatenate(sides, -1)
        assert set(found) == set(expected)
        for key, value in expected.items():
            np.testing.assert_allclose(found[key], value, rtol=0, atol=NEAR["float32"])


def test_merged_final_states_are_named() -> None:
    layer = sc.Bidirectional(sc.GRU(UNITS), "mul")
    weights, x, _ = arguments(layer)
    found = run(to_onnx(layer, weights), {}, x, None)
    expected = layer.apply(weights, x, backend="numpy")
    np.testing.assert_allclose(found["final"], expected, rtol=0, atol=NEAR["float32"])


def test_what_the_engine_cannot_run_is_refused() -> None:
    layer = sc.GRU(UNITS, return_sequences=True)
    made = to_onnx(layer, arguments(layer)[0])
    for shape in ((0, TIME, FEATURES), (BATCH, 0, FEATURES)):
        with pytest.raises(sc.ConversionError, match="ends the process on an axis of size 0"):
            run(made, {}, np.zeros(shape, np.float32), None)
    with pytest.raises(sc.ConversionError, match="does not run the model on x"):
        run(made, {}, np.zeros((1, 2, 9), np.float32), None)
    node, arrays = recurrent("GRU")
    unused = model([node], arrays, ["Y"], inputs=[given("more", 1, 2)])
    with pytest.raises(sc.ConversionError, match="has the inputs 'more', which no"):
        run(unused, {}, np.zeros((1, 2, FEATURES), np.float32), None)


def test_onnx_runtime_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(sc.BackendNotInstalled, match="pip install onnxruntime"):
        run(one(), {}, np.zeros((1, 2, FEATURES), np.float32), None)


def test_onnx_absent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (lambda: from_onnx(b""), lambda: to_onnx(sc.LSTM(2), sc.LSTM(2).init(3))):
        with pytest.raises(sc.ConversionError, match="pip install onnx"):
            call()


def test_onnx_is_imported_when_it_is_needed() -> None:
    code = (
        "import sys, seqcore.interchange.onnx, seqcore.interchange.onnx.file\n"
        "assert not {'onnx', 'google.protobuf', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- sources that are none -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("model.onnx", r"received str, .* read a file with seqcore.interchange.read"),
        (7, "received int, expected an onnx.ModelProto"),
        (b"", "it has no graph"),
        (b"\x80\x02}q\x00.", "no ONNX model, or a truncated one"),
        (b"PK\x03\x04" * 9, "no ONNX model, or a truncated one"),
    ],
    ids=str,
)
def test_a_source_that_is_no_model(source: Any, message: str) -> None:
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(source)


def test_a_model_cut_anywhere_is_refused() -> None:
    made = to_onnx(sc.Bidirectional(sc.GRU(UNITS)), arguments(sc.Bidirectional(sc.GRU(UNITS)))[0])
    made.ClearField("metadata_props")  # of which a reader does not know that they were there
    content = made.SerializeToString()
    from_onnx(content)
    for size in range(0, len(content), 7):
        with pytest.raises(sc.ConversionError):
            from_onnx(content[:size])


def test_damaged_bytes_are_refused_or_read_but_nothing_else() -> None:
    layer = sc.Bidirectional(sc.LSTM(UNITS, **BOTH))
    content = to_onnx(layer, arguments(layer)[0]).SerializeToString()
    rng = np.random.default_rng(0)
    read = 0
    for _ in range(400):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 5)):
            damaged[place] = rng.integers(0, 256)
        try:
            found, weights = from_onnx(damaged)
        except sc.SeqcoreError:
            continue
        read += 1
        assert set(weights) == set(found.weight_shapes(FEATURES))
    assert 0 < read < 400


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((2**40, 2**20), "holds 128 bytes, expected"),
        ((-1, 8), "dimensions"),
        ((1,) * 40, "holds"),
        ((2**62, 2**62, 2**62), "holds 128 bytes, expected"),
    ],
    ids=str,
)
def test_dimensions_without_the_numbers(dims: Any, message: str) -> None:
    made = one("LSTM")
    (tensor,) = (t for t in made.graph.initializer if t.name == "W")
    tensor.dims[:] = dims
    with pytest.raises(sc.ConversionError, match=message):
        from_onnx(made)


def test_numbers_in_another_file_need_the_models_path() -> None:
    made = one("LSTM")
    tensor = made.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(sc.ConversionError, match="its numbers are in another file"):
        from_onnx(made)


def test_nodes_that_share_large_weights_are_refused() -> None:
    """Each copies what the file holds once."""
    node, arrays = recurrent("RNN", features=2**17)
    nodes = []
    for index in range(40):
        one_more = type(node)()
        one_more.CopyFrom(node)
        one_more.name = f"{index}"
        one_more.output[:] = [f"y{index}"]
        nodes.append(one_more)
    names = [f"y{index}" for index in range(40)]
    with pytest.raises(sc.ConversionError, match="makes more of its constants than 16 times"):
        from_onnx(model(nodes, arrays, names, x=("time", "batch", 2**17)))


def test_hard_sigmoid_in_float64_is_another() -> None:
    layer = sc.LSTM(2, recurrent_activation="hard_sigmoid", return_sequences=True)
    weights = layer.init(3, dtype="float64")
    with pytest.raises(sc.ConversionError, match="HardSigmoid's alpha of 1/6 a float32"):
        to_onnx(layer, weights)
    made = to_onnx(layer, {name: value.astype("float32") for name, value in weights.items()})
    assert from_onnx(made)[0] == layer
    for tensor in made.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float64"), tensor.name)
        )
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises(sc.ConversionError, match="is a float32, whose 1/6 is another"):
        from_onnx(made)


def test_constants_that_grow_are_refused_before_they_do() -> None:
    node, arrays = recurrent("RNN", W="w40")
    arrays["w0"] = arrays.pop("W")
    nodes = [helper.make_node("Concat", [f"w{n}"] * 2, [f"w{n + 1}"], axis=0) for n in range(40)]
    with pytest.raises(sc.ConversionError, match="makes more of its constants than 16 times"):
        from_onnx(model([*nodes, node], arrays, ["Y"]))
    node, arrays = recurrent("RNN", W="made")
    arrays["shape"] = np.array([2**40, 2**20])
    for operator, inputs in (("ConstantOfShape", ["shape"]), ("Expand", ["R", "shape"])):
        grown = helper.make_node(operator, inputs, ["made"])
        with pytest.raises(sc.ConversionError, match="W is"):
            from_onnx(model([grown, node], arrays, ["Y"]))


def test_values_that_grow_are_refused_before_they_do() -> None:
    nodes = [helper.make_node("Concat", [f"v{n}"] * 2, [f"v{n + 1}"], axis=1) for n in range(60)]
    first = helper.make_node("Identity", ["Y"], ["v0"])
    with pytest.raises(sc.ConversionError, match="computed by Concat"):
        from_onnx(around([first, *nodes], "v60", 1))


def test_names_of_any_length_stay_out_of_messages() -> None:
    node = helper.make_node("Relu" * 1000, ["Y"], ["z" * 10**6], name="n" * 10**6)
    with pytest.raises(sc.ConversionError) as caught:
        from_onnx(around([node], "z" * 10**6, 1))
    assert len(str(caught.value)) < 600


def test_a_cycle_and_a_name_made_twice_are_refused() -> None:
    node, arrays = recurrent("RNN", X="z")
    round_ = helper.make_node("Add", ["x", "Y"], ["z"])
    with pytest.raises(sc.ConversionError, match="read before any node makes it"):
        from_onnx(model([round_, node], arrays, ["Y"]))
    with pytest.raises(sc.ConversionError, match="'Y', which is there already"):
        from_onnx(around([helper.make_node("Identity", ["Y_h"], ["Y"])], "Y", 1))


def test_subgraphs_are_not_looked_into() -> None:
    empty = helper.make_graph([], "empty", [], [])
    inner = empty
    for _ in range(30):
        branch = helper.make_node("If", ["x"], ["q"], then_branch=inner, else_branch=empty)
        inner = helper.make_graph([branch], "outer", [], [])
    node = helper.make_node("If", ["Y"], ["z"], then_branch=inner, else_branch=empty)
    with pytest.raises(sc.ConversionError, match="computed by If"):
        from_onnx(around([node], "z", 1))


def test_a_model_of_an_old_opset_is_refused() -> None:
    node, arrays = recurrent("RNN")
    with pytest.raises(sc.ConversionError, match="is of opset 6, expected 7 or later"):
        from_onnx(model([node], arrays, ["Y"], opset=6))
