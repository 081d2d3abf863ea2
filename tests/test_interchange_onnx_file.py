"""ONNX files: weights inside and beside them, and files that are made to do harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

import seqcore as sc
from helpers import assert_same_bits, random_weights
from seqcore.interchange.onnx import file as onnx_file
from seqcore.interchange.onnx import from_onnx, to_onnx
from seqcore.interchange.onnx.file import read_onnx, write_onnx

LAYER = sc.Bidirectional(sc.LSTM(3, return_sequences=True))


def made() -> tuple[Any, dict[str, Any]]:
    weights = random_weights(LAYER, np.random.default_rng(0), "float32")
    return to_onnx(LAYER, weights), weights


def beside(path: Path) -> dict[str, Any]:
    """Write a model whose weights are in `weights.bin` beside it, as onnx writes them."""
    model, weights = made()
    onnx.save_model(
        model, path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    return weights


def changed(path: Path, **entries: Any) -> None:
    """Change where the file says that the first tensor outside is."""
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.external_data)
    kept = {entry.key: entry.value for entry in tensor.external_data} | entries
    del tensor.external_data[:]
    for key, value in kept.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(model.SerializeToString())


def assert_read(path: Path, weights: dict[str, Any]) -> None:
    layer, found = from_onnx(read_onnx(path))
    assert layer == LAYER
    assert list(found) == list(weights)
    for name, value in weights.items():
        assert_same_bits(found[name], value)


def test_there_and_back(tmp_path: Path) -> None:
    model, weights = made()
    write_onnx(tmp_path / "model.onnx", model)
    assert_read(tmp_path / "model.onnx", weights)
    assert list(tmp_path.iterdir()) == [tmp_path / "model.onnx"]
    write_onnx(os.fspath(tmp_path / "model.onnx"), model)  # one that is there is replaced
    assert_read(os.fspath(tmp_path / "model.onnx"), weights)  # type: ignore[arg-type]


def test_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    weights = beside(path)
    assert len(path.read_bytes()) < len((tmp_path / "weights.bin").read_bytes()) + 4000
    assert_read(path, weights)
    monkeypatch.chdir(tmp_path)
    assert_read(Path("model.onnx"), weights)
    (tmp_path / "data").mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "data" / "weights.bin")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "data/weights.bin"
    path.write_bytes(model.SerializeToString())
    assert_read(path, weights)


def test_a_model_in_a_linked_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    weights = beside(tmp_path / "real" / "model.onnx")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert_read(tmp_path / "link" / "model.onnx", weights)


def test_weights_of_a_constant_node_beside_the_file(tmp_path: Path) -> None:
    model, weights = made()
    (tensor,) = (t for t in model.graph.initializer if t.name == "W")
    node = onnx.helper.make_node("Constant", [], ["W"], value=tensor)
    model.graph.node.insert(0, node)
    model.graph.initializer.remove(tensor)
    inside = model.graph.node[0].attribute[0].t
    (tmp_path / "w").write_bytes(inside.raw_data)
    inside.ClearField("raw_data")
    inside.data_location = TensorProto.EXTERNAL
    inside.external_data.add(key="location", value="w")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert_read(tmp_path / "model.onnx", weights)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../weights.bin"}, r"'\.\./weights.bin', expected a plain name"),
        ({"location": "a/../../weights.bin"}, "expected a plain name"),
        ({"location": "/etc/passwd"}, "'/etc/passwd', expected a plain name"),
        ({"location": "C:\\weights.bin"}, "expected a plain name"),
        ({"location": "..\\weights.bin"}, "expected a plain name"),
        ({"location": "weights.bin\0.txt"}, "expected a plain name"),
        ({"location": ""}, "expected a plain name"),
        ({"location": None}, "expected a plain name"),
        ({"location": "w" * 10**6}, "expected a plain name"),
        ({"location": "absent.bin"}, "'absent.bin' beside it: cannot be read"),
        ({"location": "link.bin"}, "'link.bin' is a link"),
        ({"location": "folder/weights.bin"}, "'folder' is a link"),
        ({"location": "pipe"}, "'pipe' beside it: is not a plain file"),
        ({"location": "."}, "beside it: "),
        ({"offset": 10**9}, "bytes from 1000000000 on in 'weights.bin', which has"),
        ({"offset": -1}, "offset is '-1', expected a number of bytes"),
        ({"offset": "9" * 5000}, "expected a number of bytes"),
        ({"length": 4}, "has 4 bytes in another file, expected"),
        ({"length": "much"}, "length is 'much', expected a number"),
    ],
    ids=str,
)
def test_files_beside_it_that_are_refused(
    entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "model.onnx"
    beside(path)
    (tmp_path / "weights.bin").write_bytes((folder / "weights.bin").read_bytes())
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "folder").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    changed(path, **entries)
    with pytest.raises(sc.FileError, match=message) as caught:
        read_onnx(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_part_of_a_file_that_several_tensors_want_is_refused(tmp_path: Path) -> None:
    """A small file could fill the memory else."""
    path = tmp_path / "model.onnx"
    beside(path)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    model.graph.initializer.extend([tensor] * 50)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sc.FileError, match="each byte used once"):
        read_onnx(path)


def test_dimensions_beyond_the_file_beside_it_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    beside(path)
    model = onnx.load(path, load_external_data=False)
    tensor = next(t for t in model.graph.initializer if t.name == "W")
    tensor.dims[:] = [2**40, 2**20]
    kept = [entry for entry in tensor.external_data if entry.key == "location"]
    del tensor.external_data[:]
    tensor.external_data.extend(kept)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sc.FileError, match="has 4611686018427387904 bytes from 0 on"):
        read_onnx(path)
    tensor.dims[:] = [-1]
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sc.FileError, match=r"has the dimensions \(-1\)"):
        read_onnx(path)
    tensor.dims[:] = [2]
    tensor.data_type = TensorProto.STRING
    path.write_bytes(model.SerializeToString())
    with pytest.raises(sc.FileError, match="data of type STRING in another file"):
        read_onnx(path)


def test_files_that_are_too_large_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    weights = beside(path)
    size = len(path.read_bytes()) + sum(value.nbytes for value in weights.values())
    monkeypatch.setattr(onnx_file, "MOST_BYTES", size)
    with pytest.raises(sc.FileError, match=f"at most {size} in all"):
        read_onnx(path)  # the zeros of the recurrent bias are more
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 1000)
    with pytest.raises(sc.FileError, match=r"has \d+ bytes, expected at most 1000"):
        read_onnx(path)
    with pytest.raises(sc.FileError, match=r"has \d+ bytes, expected at most 1000"):
        write_onnx(tmp_path / "new.onnx", made()[0])
    assert not (tmp_path / "new.onnx").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no graph"),
        (b"\x80\x02}q\x00.", "no ONNX model, or a truncated one"),
        (b"\xff" * 1000, "no ONNX model, or a truncated one"),
    ],
    ids=str,
)
def test_a_file_that_is_no_model(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(sc.FileError, match=message) as caught:
        read_onnx(path)
    assert str(path) in str(caught.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    model, _ = made()
    model.ClearField("metadata_props")  # of which a reader does not know that they were there
    content = model.SerializeToString()
    path = tmp_path / "model.onnx"
    for size in range(0, len(content), 41):
        path.write_bytes(content[:size])
        with pytest.raises(sc.SeqcoreError):
            from_onnx(read_onnx(path))


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, message in (
        (tmp_path / "absent", "cannot be read"),
        (tmp_path, "cannot be read|not a plain file"),
        (tmp_path / "pipe", "not a plain file"),
        ("a\0b", "cannot be read"),
        (7, "7: cannot be read: .*expected the path of a file"),
    ):
        with pytest.raises(sc.FileError, match=message):
            read_onnx(path)  # type: ignore[arg-type]
    with pytest.raises(sc.FileError, match="cannot be written"):
        write_onnx(tmp_path / "absent" / "model.onnx", made()[0])


def test_messages_nested_deeply_are_refused(tmp_path: Path) -> None:
    """A graph in a node's attribute, in a graph, and so on, beyond protobuf's own limit."""
    content = b""
    for _ in range(300):
        for tag in (b"\x32", b"\x2a", b"\x0a"):  # a graph in an attribute in a node
            content = tag + varint(len(content)) + content
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x3a" + varint(len(content)) + content)
    with pytest.raises(sc.FileError, match="no ONNX model"):
        read_onnx(path)


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def test_a_long_text_and_absurd_sizes_are_read_in_little_memory(tmp_path: Path) -> None:
    """In a process of its own, whose address space ends 1 GiB above what it has at the start."""
    model, _ = made()
    node = model.graph.node.add(op_type="Relu", name="n" * 10**8)
    node.input.append("x")
    node.output.append("more")
    model.graph.output.add(name="more")
    write_onnx(tmp_path / "text.onnx", model)
    model, _ = made()
    (tensor,) = (t for t in model.graph.initializer if t.name == "W")
    tensor.dims[:] = [2**35, 2**20]
    write_onnx(tmp_path / "sizes.onnx", model)
    code = """
import resource, sys
import seqcore as sc
from seqcore.interchange.onnx import from_onnx, library
from seqcore.interchange.onnx.file import read_onnx
library()
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**30, -1))
for name in ("text", "sizes"):
    try:
        from_onnx(read_onnx(f"{name}.onnx"))
    except sc.ConversionError as error:
        assert len(str(error)) < 600
        print(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["text", "sizes"]
