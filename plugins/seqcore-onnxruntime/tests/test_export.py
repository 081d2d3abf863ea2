"""Exported files: what is in them, what they compute, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import seqcore as sc
from helpers import (
    ACTIVATIONS,
    ALL,
    CELLS,
    LAYERS,
    TIME,
    arguments,
    assert_close,
)
from seqcore.interchange.onnx import from_onnx
from seqcore.interchange.onnx.file import read_onnx
from seqcore.spec.outputs import named_tuple, output_names, state_names

import seqcore_onnxruntime
from seqcore_onnxruntime import exporting

LENGTHS = np.array([TIME, 0, 3, 1])
TWO_LAYERS = sc.Stack(
    [
        sc.Bidirectional(sc.LSTM(4, return_sequences=True)),
        sc.Bidirectional(sc.LSTM(3, return_sequences=True)),
    ],
    **ALL,
)


def outputs(path: Path, **inputs: Any) -> Any:
    """Run a file, and return its outputs as a named tuple."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = tuple(output.name for output in session.get_outputs())
    return named_tuple(names)(*session.run(None, inputs))


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_file_computes_what_the_layer_does(
    layer: Any, lengths: bool, state: bool, tmp_path: Path
) -> None:
    weights, x, initial = arguments(layer)
    path = tmp_path / "layer.onnx"
    seqcore_onnxruntime.export(layer, weights, path, lengths=lengths, initial_state=state)
    inputs: dict[str, Any] = {"x": x}
    given: dict[str, Any] = {}
    if lengths:
        inputs["lengths"] = given["lengths"] = LENGTHS
    if state:
        inputs |= {f"initial_{n}": h for n, h in zip(state_names(layer), initial, strict=True)}
        given["initial_state"] = initial
    assert_close(layer, weights, x, given, outputs(path, **inputs))


@pytest.mark.parametrize("state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_file_is_read_back_as_the_layer(
    layer: Any, lengths: bool, state: bool, tmp_path: Path
) -> None:
    weights, _, _ = arguments(layer)
    path = tmp_path / "layer.onnx"
    seqcore_onnxruntime.export(layer, weights, path, lengths=lengths, initial_state=state)
    again, found = from_onnx(read_onnx(path))
    assert again == layer
    assert list(found) == list(weights)
    for name, value in weights.items():
        np.testing.assert_array_equal(found[name], value, strict=True)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("name", ["rnn", "lstm", "gru", "gru-before", "stack-carry"])
def test_a_file_has_the_weights_data_type(name: str, dtype: str, tmp_path: Path) -> None:
    layer = LAYERS[name]
    weights, x, _ = arguments(layer, dtype)
    seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx", lengths=True)
    found = outputs(tmp_path / "layer.onnx", x=x, lengths=LENGTHS)
    assert_close(layer, weights, x, {"lengths": LENGTHS}, found)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_activation_can_be_in_a_file(cell: str, activation: str, tmp_path: Path) -> None:
    for recurrent in ACTIVATIONS:
        changes = {"activation": activation, "recurrent_activation": recurrent}
        if cell == "rnn":
            del changes["recurrent_activation"]
        layer = CELLS[cell].replace(**changes)
        weights, x, _ = arguments(layer)
        weights = {name: value / 2 for name, value in weights.items()}
        seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx")
        assert_close(layer, weights, x, {}, outputs(tmp_path / "layer.onnx", x=x))


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("merge", ["concat", "none"])
def test_a_file_returns_what_the_layer_returns(
    merge: str, sequences: bool, state: bool, tmp_path: Path
) -> None:
    cell = sc.LSTM(3, return_sequences=sequences, return_state=state)
    layer = sc.Bidirectional(cell, merge)
    weights, x, _ = arguments(layer)
    seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx", lengths=True)
    found = outputs(tmp_path / "layer.onnx", x=x, lengths=LENGTHS)
    expected = layer.apply(weights, x, lengths=LENGTHS)
    if not isinstance(expected, tuple):
        expected = (expected,)
    assert found._fields == output_names(layer)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_a_file_runs_where_there_is_no_seqcore(tmp_path: Path) -> None:
    weights, x, _ = arguments(TWO_LAYERS)
    seqcore_onnxruntime.export(TWO_LAYERS, weights, tmp_path / "layer.onnx", lengths=True)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "lengths.npy", LENGTHS)
    script = """
    import sys
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession("layer.onnx", providers=["CPUExecutionProvider"])
    x, lengths = np.load("x.npy"), np.load("lengths.npy")
    names = [output.name for output in session.get_outputs()]
    found = session.run(names, {"x": x, "lengths": lengths})
    np.savez("found.npz", **dict(zip(names, found)))
    assert not any(name.startswith("seqcore") for name in sys.modules)
    """
    code = textwrap.dedent(script)
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True)
    expected = TWO_LAYERS.apply(weights, x, lengths=LENGTHS)
    with np.load(tmp_path / "found.npz") as found:
        assert tuple(found) == expected._fields
        given = type(expected)(*(found[name] for name in expected._fields))
    assert_close(TWO_LAYERS, weights, x, {"lengths": LENGTHS}, given)


def test_a_file_holds_standard_operators_names_and_the_description(tmp_path: Path) -> None:
    weights, _, _ = arguments(TWO_LAYERS)
    path = tmp_path / "layer.onnx"
    seqcore_onnxruntime.export(TWO_LAYERS, weights, path, lengths=True, initial_state=True)
    model = onnx.load(path)
    assert {entry.domain for entry in model.opset_import} == {""}
    assert {node.domain for node in model.graph.node} == {""}
    assert sum(node.op_type == "LSTM" for node in model.graph.node) == 4
    states = [f"initial_{name}" for name in state_names(TWO_LAYERS)]
    assert sorted(value.name for value in model.graph.input) == sorted(["x", "lengths", *states])
    assert [value.name for value in model.graph.output] == list(output_names(TWO_LAYERS))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert sc.from_json(metadata["seqcore.spec"]) == TWO_LAYERS
    assert metadata["seqcore.version"] == sc.__version__


def test_what_is_for_onnx_runtime_alone_is_not_in_a_file(tmp_path: Path) -> None:
    layer = CELLS["gru"]
    weights, _, _ = arguments(layer)
    seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx")
    (node,) = (n for n in onnx.load(tmp_path / "layer.onnx").graph.node if n.op_type == "GRU")
    assert {attribute.name for attribute in node.attribute} == {
        "direction",
        "hidden_size",
        "linear_before_reset",
    }


def test_batch_and_time_are_free(tmp_path: Path) -> None:
    layer = sc.GRU(3, return_sequences=True)
    weights, _, _ = arguments(layer)
    seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx")
    for batch, time in ((1, 1), (2, 9), (7, 3)):
        x = np.random.default_rng(0).standard_normal((batch, time, 3), np.float32)
        (y,) = outputs(tmp_path / "layer.onnx", x=x)
        np.testing.assert_allclose(y, layer.apply(weights, x), rtol=0, atol=1e-6)


def test_strides_of_weights_do_not_matter(tmp_path: Path) -> None:
    layer = sc.LSTM(3)
    weights, _, _ = arguments(layer)
    contents = []
    for index, given in enumerate(
        (weights, {name: np.asfortranarray(value) for name, value in weights.items()})
    ):
        path = tmp_path / f"{index}.onnx"
        seqcore_onnxruntime.export(layer, given, path)
        contents.append(path.read_bytes())
    assert contents[0] == contents[1]


# --- errors --------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    layer = sc.LSTM(2)
    weights, _, _ = arguments(layer)
    bad = {name: value.copy() for name, value in weights.items()}
    bad["bias"][0] = np.nan
    cases: list[tuple[Any, Any, type[sc.SeqcoreError], str]] = [
        ("LSTM", weights, sc.ArgumentError, "first argument is str, expected a layer"),
        (layer, {**weights, "more": bad["bias"]}, sc.WeightsError, "unknown more"),
        (layer, bad, sc.WeightsError, "bias holds NaN or infinity"),
        (layer, arguments(layer, "bfloat16")[0], sc.UnsupportedFeature, "weights are bfloat16"),
        (
            sc.SimpleRNN(2, activation="linear"),
            {
                "kernel": np.full((3, 2), 1e30, np.float32),
                "recurrent_kernel": np.full((2, 2), 1e30, np.float32),
                "bias": np.zeros(2, np.float32),
            },
            sc.UnsupportedFeature,
            "overflows float32",
        ),
    ]
    for given, values, error, message in cases:
        with pytest.raises(error, match=message):
            seqcore_onnxruntime.export(given, values, tmp_path / "layer.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_beyond_what_a_file_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = sc.LSTM(2)
    weights, _, _ = arguments(layer)
    size = sum(value.nbytes for value in weights.values())
    monkeypatch.setattr(exporting, "_MOST_BYTES", size - 1)
    with pytest.raises(sc.UnsupportedFeature, match=f"{size} bytes, expected at most {size - 1}"):
        seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx")
    monkeypatch.setattr(exporting, "_MOST_BYTES", size)
    seqcore_onnxruntime.export(layer, weights, tmp_path / "layer.onnx")


def test_a_file_that_computes_something_else_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = sc.LSTM(2)
    weights, _, _ = arguments(layer)
    path = tmp_path / "layer.onnx"
    path.write_bytes(b"as it was")
    lower = exporting.lower

    def wrong(layer: Any, weights: Any, *others: Any, **more: Any) -> Any:
        graph = lower(layer, weights, *others, **more)
        graph.weights["B"][0, 0] += 0.01
        return graph

    monkeypatch.setattr(exporting, "lower", wrong)
    with pytest.raises(sc.FileError, match=r"not written: .* eps from layer.apply on NumPy"):
        seqcore_onnxruntime.export(layer, weights, path)
    assert path.read_bytes() == b"as it was"
    assert list(tmp_path.iterdir()) == [path]


def test_a_path_that_cannot_be_written_is_an_error_of_the_file(tmp_path: Path) -> None:
    layer = sc.LSTM(2)
    weights, _, _ = arguments(layer)
    with pytest.raises(sc.FileError, match="cannot be written"):
        seqcore_onnxruntime.export(layer, weights, tmp_path / "absent" / "layer.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(sc.FileError, match="cannot be written"):
        seqcore_onnxruntime.export(layer, weights, tmp_path / "file" / "layer.onnx")


def test_the_package_has_one_public_name() -> None:
    assert seqcore_onnxruntime.__all__ == ["export"]
    with pytest.raises(AttributeError, match="no attribute 'exports'"):
        _ = seqcore_onnxruntime.exports


def test_a_model_that_the_checker_refuses_is_an_error_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise onnx.checker.ValidationError("no such operator")

    monkeypatch.setattr(onnx.checker, "check_model", refuses)
    layer = sc.LSTM(2)
    with pytest.raises(sc.FileError, match=r"not written: .*ValidationError: no such operator"):
        seqcore_onnxruntime.export(layer, layer.init(3), tmp_path / "layer.onnx")
    assert list(tmp_path.iterdir()) == []
