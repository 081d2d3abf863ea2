"""Weights files: what is written, that it comes back bit for bit, and files that are not one."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import seqcore as sc
from helpers import CELLS, DTYPES, FEATURES, Case, assert_same_bits, composites, random_weights

LAYER = sc.LSTM(2, return_state=True)


def written(path: Path, layer: Any = LAYER, dtype: str = "float32") -> dict[str, Any]:
    weights = random_weights(layer, np.random.default_rng(0), dtype)
    sc.save(path, layer, weights)
    return weights


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def rewrite(path: Path, header: Any, body: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


@pytest.mark.clause("DESC-5")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "layer",
    [*(cell() for cell in CELLS.values()), *(case.layer for case in composites()[::3])],
    ids=str,
)
def test_there_and_back(layer: Any, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "layer.safetensors"
    weights = written(path, layer, dtype)
    again, loaded = sc.load(path)
    assert again == layer
    assert type(loaded) is dict
    assert list(loaded) == list(layer.weight_shapes(FEATURES))
    for name, value in weights.items():
        assert_same_bits(loaded[name], value)
    loaded["again"] = None  # the caller's own dict


@pytest.mark.clause("DESC-5")
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_in_the_file(dtype: str, tmp_path: Path) -> None:
    """Read with safetensors alone: a tensor for each weight, and two keys."""
    layer = sc.Bidirectional(sc.GRU(2))
    path = tmp_path / "layer.safetensors"
    weights = written(path, layer, dtype)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(weights)
        if dtype != "bfloat16":
            for name, value in weights.items():
                assert_same_bits(file.get_tensor(name), value)
    assert set(metadata) == {"seqcore.spec", "seqcore.format"}
    assert metadata["seqcore.format"] == "1"
    assert sc.from_json(metadata["seqcore.spec"]) == layer
    header, _ = header_of(path)
    tags = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}
    for name, value in weights.items():
        assert header[name]["dtype"] == tags[dtype]
        assert header[name]["shape"] == list(value.shape)


@pytest.mark.clause("DESC-5")
def test_odd_numbers_and_odd_layouts_come_back_bit_for_bit(tmp_path: Path) -> None:
    weights = random_weights(LAYER, np.random.default_rng(1), "float32")
    flat = weights["kernel"].ravel().view(np.uint32)
    flat[:6] = [0x7FC00001, 0xFFC12345, 0x7F800000, 0xFF800000, 1, 0x80000000]
    weights["kernel"] = np.asfortranarray(weights["kernel"])
    weights["recurrent_kernel"] = np.repeat(weights["recurrent_kernel"], 2, 1)[:, ::2]
    weights["bias"] = weights["bias"].astype(">f4")
    sc.save(tmp_path / "odd", LAYER, weights)
    _, loaded = sc.load(tmp_path / "odd")
    for name, value in weights.items():
        assert loaded[name].dtype == np.float32
        little = np.ascontiguousarray(value).astype("<f4") if name == "bias" else value
        assert_same_bits(loaded[name], np.ascontiguousarray(little))


def test_loaded_weights_run(tmp_path: Path) -> None:
    case = Case("runs", sc.Bidirectional(sc.LSTM(3, return_sequences=True)))
    weights, x, _ = case.arguments("float32")
    sc.save(os.fspath(tmp_path / "runs"), case.layer, weights)
    layer, loaded = sc.load(os.fspath(tmp_path / "runs"))
    assert_same_bits(layer.apply(loaded, x), case.layer.apply(weights, x))


def test_an_old_file_is_replaced_as_a_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "layer"
    written(path)
    before = path.read_bytes()
    with pytest.raises(sc.WeightsError):
        sc.save(path, LAYER, {})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(sc.FileError, match="No space left"):
            sc.save(path, LAYER, LAYER.init(3))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    sc.save(path, LAYER, LAYER.init(3))
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("target", ["missing/layer", ".", "file/layer"])
def test_places_that_cannot_be_written(target: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("as it was")
    with pytest.raises(sc.FileError, match="cannot be written"):
        sc.save(tmp_path / target, LAYER, LAYER.init(3))
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert (tmp_path / "file").read_text() == "as it was"


def test_a_link_stays_one(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    link.symlink_to(target)  # to what is not there yet
    for units in (2, 3):
        sc.save(link, sc.LSTM(units), sc.LSTM(units).init(3))
        assert link.is_symlink()
        assert sc.load(target)[0] == sc.LSTM(units)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
def test_what_is_no_plain_file_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(sc.FileError, match="it is there and no plain file; choose another"):
        sc.save(path, LAYER, LAYER.init(3))
    assert path.is_fifo()
    assert list(tmp_path.iterdir()) == [path]


def test_the_arguments_of_save(tmp_path: Path) -> None:
    weights = LAYER.init(3)
    with pytest.raises(sc.SeqcoreError, match=r"save\(path, layer, weights\)"):
        sc.save(tmp_path / "x", weights, LAYER)  # type: ignore[arg-type]
    with pytest.raises(sc.WeightsError, match="missing bias"):
        sc.save(tmp_path / "x", LAYER, {k: v for k, v in weights.items() if k != "bias"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.clause("DESC-5")
def test_files_that_are_absent_or_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(sc.FileError, match="cannot be read"):
            sc.load(path)
    with pytest.raises(sc.FileError, match="expected the path of a file"):
        sc.load(None)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and devices in the file system")
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".keras", ".weights.h5", ".onnx"])
def test_what_never_ends_is_no_file(suffix: str, tmp_path: Path) -> None:
    """A device gives bytes for ever, and a pipe waits for somebody to write."""
    pipe, device = tmp_path / f"pipe{suffix}", tmp_path / f"device{suffix}"
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    for path in (pipe, device):
        with pytest.raises(sc.FileError, match="not a plain file"):
            sc.interchange.read(path)


@pytest.mark.clause("DESC-5")
def test_a_file_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "layer"
    written(path)
    content = path.read_bytes()
    for size in (0, 1, 7, 8, 9, 50, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(sc.FileError, match="not a safetensors file, or a truncated one"):
            sc.load(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(sc.FileError):
        sc.load(path)


def pickled() -> bytes:
    import pickle

    class Bomb:
        def __reduce__(self) -> Any:
            return pytest.fail, ("a file was executed",)

    return pickle.dumps(Bomb())


@pytest.mark.clause("DESC-5")
@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04" + bytes(100),
        b"\x93NUMPY" + bytes(100),
        pickled(),
        b"\xff" * 64,
        struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 3) + b"\xff\xfe\xfd",
        struct.pack("<Q", 100_000) + b"[" * 100_000,
        json.dumps({"type": "LSTM", "units": 2}).encode(),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_files_of_other_kinds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(sc.FileError, match="foreign"):
        sc.load(path)


def edited(path: Path, change: Any) -> None:
    header, body = header_of(path)
    change(header)
    rewrite(path, header, body)


SPEC = "seqcore.spec"


@pytest.mark.clause("DESC-5")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.pop("__metadata__"), "without the description of a layer"),
        (lambda h: h["__metadata__"].pop(SPEC), "without the description of a layer"),
        (lambda h: h["__metadata__"].pop("seqcore.format"), "format None, expected '1'"),
        (lambda h: h["__metadata__"].update({"seqcore.format": "2"}), "format '2', expected '1'"),
        (lambda h: h["__metadata__"].update({SPEC: "{"}), "not valid JSON"),
        (lambda h: h["__metadata__"].update({SPEC: "null"}), "layer description"),
        (lambda h: h["__metadata__"].update({SPEC: '{"type": "Dense"}'}), "Dense"),
        (lambda h: h["__metadata__"].update({SPEC: LAYER.replace(units=3).to_json()}), "kernel"),
        (lambda h: h["__metadata__"].update({SPEC: sc.GRU(2).to_json()}), "weights do not fit"),
        (lambda h: h["__metadata__"].update({SPEC: '{"type": "LSTM", "units": 0}'}), "units is 0"),
        (lambda h: h["__metadata__"].update({SPEC: "[" * 100_000}), "layer description"),
        (lambda h: h["__metadata__"].update({SPEC: '{"type": "LSTM", "units": 1e400}'}), "layer"),
        (lambda h: h["__metadata__"].update({SPEC: 3}), "hostile"),
        (lambda h: h.pop("bias"), "hostile"),
        (lambda h: h.update(extra=h.pop("bias")), "unknown extra"),
        (lambda h: h["bias"].update(dtype="I32"), "bias has dtype I32, expected one of"),
        (lambda h: h["bias"].update(dtype="F16"), "hostile"),
        (lambda h: h["bias"].update(dtype="BOMB"), "hostile"),
        (lambda h: h["bias"].update(shape=[2, 4]), "bias has shape"),
        (lambda h: h["bias"].update(shape=[-8]), "hostile"),
        (lambda h: h["bias"].update(data_offsets=[0, 10**12]), "hostile"),
        (lambda h: h["kernel"].update(shape=[2**40, 2**40]), "hostile"),
    ],
)  # fmt: skip
def test_hostile_headers(change: Any, words: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    written(path)
    edited(path, change)
    with pytest.raises(sc.FileError, match=words) as caught:
        sc.load(path)
    assert str(caught.value).startswith(str(path))


def test_another_librarys_safetensors_file(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": np.ones((2, 2), np.float32)}, path)
    with pytest.raises(sc.FileError, match=r"seqcore\.save"):
        sc.load(path)


@pytest.mark.clause("DESC-5")
def test_files_do_not_depend_on_where_layers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = sc.LSTM(2)
    for name, value in {"BACKEND": "nosuch", "NUMPY__IMPLEMENTATION": "nosuch"}.items():
        monkeypatch.setenv(f"SEQCORE_{name}", value)
        sc.save(tmp_path / "model.safetensors", layer, layer.init(3))
        assert sc.load(tmp_path / "model.safetensors")[0] == layer
