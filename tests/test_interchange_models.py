"""Models in files: every suffix, which format it is, and files that are not what they say."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import seqcore as sc
from helpers import assert_same_bits, random_weights
from seqcore.errors import ArgumentError, ConversionError, FileError, WeightsError
from seqcore.interchange import read, write
from seqcore.interchange.arrays import nested
from seqcore.interchange.formats import FORMATS, named
from seqcore.interchange.models import OWN, unsaid
from seqcore.weights import write_arrays

METADATA = "seqcore.interchange"
SEQ: Any = {"return_sequences": True}

LSTM = sc.LSTM(2, **SEQ)
BOTH = sc.Bidirectional(LSTM)
LEVELS = sc.Stack((BOTH, BOTH), **SEQ)
GRU = sc.GRU(2, **SEQ)
RELU = sc.SimpleRNN(2, activation="relu", **SEQ)
LAYERS: dict[str, Any] = {"lstm": LSTM, "both": BOTH, "levels": LEVELS, "gru": GRU, "relu": RELU}
"""Every one of them can be held by a format in every kind of file."""


def weights_of(layer: Any, dtype: str = "float64") -> Any:
    return random_weights(layer, np.random.default_rng(7), dtype)


def assert_same_weights(found: Any, expected: Any) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_same_bits(found[name], value)


def held(format: str, layer: Any, folder: Path) -> Path:
    """A layer in a file of a format, with its usual suffix."""
    path = folder / f"model{FORMATS[format].suffixes[0]}"
    write(path, layer, weights_of(layer), format=format)
    return path


# --- every suffix, every format ------------------------------------------------------------------


FILES = [
    ("model.pt", "torch"),
    ("model.pth", "torch"),
    ("MODEL.PT", "torch"),
    ("model.safetensors", "torch"),
    ("model.keras", "keras"),
    ("model.weights.h5", "keras"),
    ("model.onnx", "onnx"),
    ("model.safetensors", "flax-nnx"),
    ("model.safetensors", "flax-linen"),
    ("model.safetensors", "equinox"),
    ("model.safetensors", "jax-blob"),
    ("model.safetensors", "haiku"),
    ("model.safetensors", OWN),
]
REFUSED = [
    ("flax-nnx", "gru"),
    ("equinox", "relu"),
    ("jax-blob", "gru"),
    ("jax-blob", "relu"),
    ("haiku", "gru"),
]
"""What a format cannot hold; which term it is, its own tests say."""


@pytest.mark.parametrize(
    ("file", "format", "kind"),
    [(*one, kind) for one in FILES for kind in LAYERS if (one[1], kind) not in REFUSED],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_written_is_read(
    tmp_path: Path, file: str, format: str, kind: str, dtype: str
) -> None:
    layer, path = LAYERS[kind], tmp_path / file
    weights = weights_of(layer, dtype)
    assert write(path, layer, weights, format=format) == format
    found = read(path, words=unsaid(path, format, layer, weights))
    assert (found.name, found.format) == (str(path), format)
    assert (found.structure is None) == (format == OWN)
    if file.endswith(".h5") and kind not in ("both", "levels"):  # Keras's default
        layer = layer.replace(mask_output="carry")
    assert found.layer == layer
    if format in ("equinox", "flax-linen") and kind == "gru":
        weights = added(weights)
    if format == "haiku":  # whose forget bias lacks 1
        for name, value in weights.items():
            atol = float(np.finfo(dtype).eps) if name.endswith("bias") else 0
            np.testing.assert_allclose(found.weights[name], value, rtol=0, atol=atol)
    else:
        assert_same_weights(found.weights, weights)


def added(weights: Any) -> Any:
    """The weights of a GRU whose biases of z and r are one."""
    bias, other = (weights[name].copy() for name in ("bias", "recurrent_bias"))
    bias[:4] += other[:4]
    other[:4] = 0
    return {**weights, "bias": bias, "recurrent_bias": other}


@pytest.mark.parametrize(("format", "kind"), REFUSED)
def test_what_is_refused_is_not_written(tmp_path: Path, format: str, kind: str) -> None:
    with pytest.raises(ConversionError, match="which it cannot hold"):
        held(format, LAYERS[kind], tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("suffix", "format"), [(".pt", "torch"), (".keras", "keras"), (".onnx", "onnx")]
)
def test_the_suffix_says_the_format(tmp_path: Path, suffix: str, format: str) -> None:
    path = tmp_path / f"model{suffix}"
    assert write(path, LSTM, weights_of(LSTM)) == format
    assert read(path).format == format


def test_safetensors_are_our_own_unless_said(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert write(path, GRU, weights_of(GRU)) == OWN
    layer, weights = sc.load(path)
    assert layer == GRU
    assert_same_weights(weights, weights_of(GRU))


@pytest.mark.parametrize("format", [f for f in FORMATS if f not in ("keras", "onnx")])
def test_arrays_alone_are_recognised_by_their_names(tmp_path: Path, format: str) -> None:
    """As the framework's own users save them, without any metadata."""
    written = read(held(format, LSTM, tmp_path))
    write_arrays(tmp_path / "bare.safetensors", flat(written.structure), {})
    words = {"features": 4, "units": 2} if format == "jax-blob" else None
    found = read(tmp_path / "bare.safetensors", words=words)
    assert FORMATS[found.format].module == FORMATS[format].module
    assert_same_weights(found.weights, written.weights)


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, dict)
        found |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return found


def test_what_arrays_do_not_say_stands_in_the_metadata(tmp_path: Path) -> None:
    layer = sc.Bidirectional(sc.LSTM(3, activation="relu", recurrent_activation="hard_sigmoid"))
    path = tmp_path / "model.safetensors"
    write(path, layer, weights_of(layer), format="flax-linen")
    assert read(path).layer == layer
    assert read(path, words={"return_state": True}).layer.return_state


def test_arrays_in_column_major_order_are_written_as_they_are(tmp_path: Path) -> None:
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    write_arrays(tmp_path / "a.safetensors", {"a": array}, {})
    ours, metadata = sc.weights.read_arrays(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(ours["a"], array)
    assert metadata == {}


def test_bfloat16_goes_through_every_file_of_arrays(tmp_path: Path) -> None:
    weights = {name: v.astype(ml_dtypes.bfloat16) for name, v in weights_of(LSTM).items()}
    for name, format in (("a.pt", "torch"), ("b.safetensors", "torch"), ("c.safetensors", OWN)):
        write(tmp_path / name, LSTM, weights, format=format)
        assert_same_weights(read(tmp_path / name).weights, weights)


# --- what is not taken ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["epoch=3.ckpt", "pytorch_model.bin"])
def test_other_names_of_files_of_torch(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, LSTM, weights_of(LSTM))
    found = read(tmp_path / name)
    assert (found.format, found.layer) == ("torch", LSTM)


@pytest.mark.parametrize("path", [None, "", 3])
def test_no_path_at_all(path: Any) -> None:
    with pytest.raises(FileError, match="expected the path of a file"):
        read(path)


@pytest.mark.parametrize("name", ["model.dat", "model", "model.npz", "model.safetensors.txt"])
def test_another_suffix(tmp_path: Path, name: str) -> None:
    for call in (lambda p: read(p), lambda p: write(p, LSTM, weights_of(LSTM))):
        with pytest.raises(FileError, match=r"expected one of \.safetensors, \.pt, .*\.onnx"):
            call(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "format", "expected"),
    [
        ("model.pt", "keras", r"\.keras or \.weights\.h5 or \.h5 for format keras"),
        ("model.keras", "haiku", r"\.safetensors for format haiku"),
        ("model.onnx", OWN, r"\.safetensors for format seqcore"),
        ("model.safetensors", "onnx", r"\.onnx for format onnx"),
    ],
)
def test_a_suffix_that_a_format_has_not(
    tmp_path: Path, name: str, format: str, expected: str
) -> None:
    with pytest.raises(FileError, match=f"{name}: expected a file {expected}"):
        write(tmp_path / name, LSTM, weights_of(LSTM), format=format)
    assert list(tmp_path.iterdir()) == []


def test_a_whole_model_of_keras_2_is_only_read(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="only read"):
        write(tmp_path / "model.h5", LSTM, weights_of(LSTM))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".keras", ".weights.h5", ".h5", ".onnx"])
def test_files_that_are_no_files(tmp_path: Path, suffix: str) -> None:
    absent = tmp_path / f"absent{suffix}"
    with pytest.raises(FileError, match=f"{absent}: cannot be read: .*No such file"):
        read(absent)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    with pytest.raises(FileError, match=f"{folder}: cannot be read: .*Is a directory"):
        read(folder)
    empty = tmp_path / f"empty{suffix}"
    empty.touch()
    with pytest.raises((FileError, ConversionError), match=str(empty)):
        read(empty)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("model.safetensors", OWN),
        ("model.safetensors", "torch"),
        ("model.pt", "torch"),
        ("model.keras", "keras"),
        ("model.weights.h5", "keras"),
        ("model.onnx", "onnx"),
    ],
)
def test_truncated_files(tmp_path: Path, name: str, format: str) -> None:
    path = tmp_path / name
    write(path, LSTM, weights_of(LSTM), format=format)
    whole = path.read_bytes()
    for length in (0, 3, 8, 40, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises((FileError, ConversionError), match=name):
            read(path)


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    keras = held("keras", LSTM, tmp_path)
    for suffix in (".pt", ".onnx", ".safetensors"):
        path = tmp_path / f"other{suffix}"
        path.write_bytes(keras.read_bytes())
        with pytest.raises((FileError, ConversionError), match=f"other{suffix}"):
            read(path)


def test_a_format_that_is_asked_for_and_is_another(tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    sc.save(ours, LSTM, weights_of(LSTM))
    with pytest.raises(ConversionError, match="in format seqcore, and torch was asked for"):
        read(ours, format="torch")
    path = held("flax-nnx", LSTM, tmp_path)
    with pytest.raises(ConversionError, match="in format flax-nnx, and haiku was asked for"):
        read(path, format="haiku")
    with pytest.raises(ConversionError, match="in format flax-nnx, and seqcore was asked for"):
        read(path, format=OWN)
    bare = tmp_path / "bare.safetensors"
    write_arrays(bare, flat(read(path).structure), {})
    with pytest.raises(ConversionError, match=f"{bare}: from haiku: received cell/dense_h/"):
        read(bare, format="haiku")
    with pytest.raises(FileError, match="without the description of a layer"):
        read(bare, format=OWN)
    with pytest.raises(FileError, match=r"expected a file \.onnx for format onnx"):
        read(bare, format="onnx")
    assert read(bare, format="flax-nnx").layer == LSTM


def test_names_that_no_format_has(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_arrays(path, {f"block.{i}.attention": np.zeros(2) for i in range(9)}, {})
    with pytest.raises(ConversionError, match=r"holds block.*, \.\.\., which no format has"):
        read(path)
    write_arrays(path, {}, {"made": "by hand"})
    with pytest.raises(ConversionError, match="holds nothing, which no format has"):
        read(path)


def test_names_that_two_formats_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    write_arrays(path, {"weights": np.zeros(2)}, {})
    for one in ("torch", "haiku"):
        module = sys.modules[f"seqcore.interchange.{one}"]
        monkeypatch.setattr(module, "recognises", lambda names: True)
    with pytest.raises(ConversionError, match="which torch or haiku or jax-blob has; give format="):
        read(path)


def test_an_unknown_format(tmp_path: Path) -> None:
    path = held("torch", LSTM, tmp_path)
    expected = r"received 'tensorflw'.*expected one of seqcore, torch, keras"
    for call in (
        lambda: read(path, format="tensorflw"),
        lambda: write(tmp_path / "a.pt", LSTM, weights_of(LSTM), format="tensorflw"),
        lambda: named("tensorflw"),
    ):
        with pytest.raises(ArgumentError, match=expected):
            call()
    with pytest.raises(ArgumentError, match="did you mean 'keras'"):
        read(path, format="kears")
    with pytest.raises(ArgumentError, match="did you mean 'flax-nnx'"):
        read(path, format="flax-nx")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"activaton": "relu"}, "'activaton' is not taken .did you mean 'activation'"),
        ({"activation": 5}, "activation is 5: Expected `str | null`, got `int`"),
        ({"prefix": ["a"]}, "prefix is .*: Expected `str | null`, got `array`"),
        ({"return_state": "yes"}, "return_state is 'yes': Expected `bool"),
        ({"return_state": 1}, "return_state is 1: Expected `bool"),
    ],
)
def test_words_that_are_not_taken(tmp_path: Path, words: Any, message: str) -> None:
    path = held("torch", LSTM, tmp_path)
    with pytest.raises(ArgumentError, match=f"from torch: {message}"):
        read(path, words=words)


def test_words_that_are_not_taken_in_writing(tmp_path: Path) -> None:
    cases: dict[str, Any] = {
        "torch": ("a.pt", {"optimized": True}, "to torch: 'optimized' is not taken, expected none"),
        "onnx": ("a.onnx", {"length": True}, "did you mean 'lengths'"),
        "flax-nnx": ("a.safetensors", {"optimized": 3}, "to flax-nnx: optimized is 3"),
        OWN: ("a.safetensors", {"optimized": True}, "takes no optimized; leave it out"),
    }
    for format, (name, words, message) in cases.items():
        with pytest.raises(ArgumentError, match=message):
            write(tmp_path / name, LSTM, weights_of(LSTM), format=format, words=words)
    assert list(tmp_path.iterdir()) == []


def test_words_about_a_file_that_says_everything_itself(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    sc.save(path, LSTM, weights_of(LSTM))
    with pytest.raises(ArgumentError, match=f"{path}: format seqcore: takes no activation"):
        read(path, words={"activation": "relu"})


def test_words_that_are_missing(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_arrays(path, {"weights": np.zeros(10)}, {})
    with pytest.raises(
        ConversionError, match=f"{path}: from jax-blob: the arrays leave open features and units"
    ):
        read(path)
    path = held("torch", RELU, tmp_path)
    with pytest.raises(ConversionError, match=f"{path}: .*activation='tanh' or activation='relu'"):
        read(path)


# --- hostile files -------------------------------------------------------------------------------

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "remarks",
    [
        "",
        "{",
        "null",
        "5",
        "[]",
        '"torch"',
        DEEP,
        '{"format": "torch", "words": ' + DEEP + "}",
        '{"format": 5}',
        '{"format": ["torch"]}',
        '{"format": {"torch": 1}}',
        '{"format": "tensorflow"}',
        '{"format": "seqcore"}',
        '{"format": "__class__"}',
        '{"format": "torch", "words": 5}',
        '{"format": "torch", "words": ["activation"]}',
        '{"format": "torch", "words": {"evil": 1}}',
        '{"format": "torch", "words": {"activation": {"a": 1}}}',
        '{"format": "torch", "words": {"prefix": 12}}',
        '{"format": "torch", "words": {"return_sequences": 3}}',
        '{"format": "torch", "words": {"source": "a"}}',
        '{"format": "torch", "words": {"self": "a"}}',
    ],
)
def test_hostile_metadata(tmp_path: Path, remarks: str) -> None:
    path = tmp_path / "model.safetensors"
    write_arrays(path, read(held("torch", LSTM, tmp_path)).structure, {METADATA: remarks})
    with pytest.raises(FileError, match=f"{path}: metadata .* is not what seqcore writes: "):
        read(path)


@pytest.mark.parametrize(
    "remarks",
    [
        {"format": "torch", "words": {"activation": "evil"}},
        {"format": "torch", "words": {"prefix": "../../evil"}},
        {"format": "jax-blob", "words": {"features": 10**18, "units": 10**18}},
        {"format": "jax-blob", "words": {"features": 0, "units": -1}},
        {"format": "jax-blob", "words": {"features": 1, "units": 1, "layers": 10**12}},
        {"format": "haiku", "words": {"levels": ["lstm", ["a", "b", "c"]]}},
        {"format": "haiku", "words": {"levels": []}},
        {"format": "flax-nnx", "words": {"levels": ["x"] * 5}},
        {"format": "flax-nnx", "words": {"activation": "evil"}},
        {"format": "equinox"},
    ],
)
def test_metadata_that_does_not_fit_the_arrays(tmp_path: Path, remarks: Any) -> None:
    path = tmp_path / "model.safetensors"
    structure = read(held("torch", LSTM, tmp_path)).structure
    write_arrays(path, structure, {METADATA: json.dumps(remarks)})
    with pytest.raises(ConversionError, match=str(path)):
        read(path)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a.b"],
        ["a.b", "a"],
        ["a.b.c", "a.b"],
        [".".join("a" * 5000)],
        ["a/b", "a"],
        ["", "."],
        ["lstm/linear/w", "lstm/linear"],
    ],
)
def test_hostile_names(tmp_path: Path, names: list[str]) -> None:
    path = tmp_path / "model.safetensors"
    write_arrays(path, {name: np.zeros(3) for name in names}, {})
    for format in (None, "flax-nnx", "haiku", "equinox", "torch"):
        with pytest.raises(ConversionError, match=str(path)):
            read(path, format=format)


def test_paths_that_go_on_where_others_end() -> None:
    for names in (["a", "a/b"], ["a/b", "a"], ["a/b", "a/b/c/d"]):
        with pytest.raises(ConversionError, match="beside another array on its path"):
            nested(dict.fromkeys(names, 1))
    assert nested({"a/b": 1, "a/c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entry = {"dtype": "F64", "shape": [2**40, 2**20], "data_offsets": [0, 2**63]}
    header = json.dumps({"weight_hh_l0": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(FileError, match=f"{path}: not a safetensors file, or a truncated one"):
        read(path)


def test_arrays_that_are_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    entry = {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}
    header = json.dumps({"weight_hh_l0": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(FileError, match=f"{path}: weight_hh_l0 has dtype I64"):
        read(path)


# --- as a whole or not at all --------------------------------------------------------------------


def test_what_cannot_be_converted_leaves_what_was_there(tmp_path: Path) -> None:
    layer = sc.GRU(2, reset_after=False)
    path = tmp_path / "model.pt"
    path.write_text("precious")
    with pytest.raises(ConversionError, match="to torch: reset_after is False"):
        write(path, layer, weights_of(layer))
    with pytest.raises(WeightsError, match="missing"):
        write(path, LSTM, {})
    with pytest.raises(ConversionError, match="expected a layer"):
        write(path, "LSTM", {})
    assert path.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.pt", "a.keras", "a.weights.h5", "a.onnx", "a.safetensors"])
def test_a_folder_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError, match="cannot be written: No such file"):
        write(tmp_path / "absent" / name, LSTM, weights_of(LSTM))
    (tmp_path / name).mkdir()
    with pytest.raises(FileError, match="cannot be written: "):
        write(tmp_path / name, LSTM, weights_of(LSTM))
    assert list(tmp_path.iterdir()) == [tmp_path / name]


@pytest.mark.parametrize("name", ["a.pt", "a.keras", "a.weights.h5", "a.onnx", "a.safetensors"])
def test_an_interrupt_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_text("precious")

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, LSTM, weights_of(LSTM))
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "precious"


def test_a_text_is_a_path(tmp_path: Path) -> None:
    path = str(tmp_path / "model.pt")
    write(path, LSTM, weights_of(LSTM))
    assert read(path).name == path
