"""Files that are absent, truncated, hostile or not what they say: a clear error, and no output."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, shell_fixture  # noqa: F401 - found by its name

X = np.zeros((3, 4, 2), np.float32)


class Trap:
    """An object whose unpickling would leave a mark."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("trapped",)


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def header(text: str, version: bytes = b"\x01\x00", body: bytes = b"") -> bytes:
    """An `.npy` file with that header, whatever it says."""
    padded = text.encode("latin1") + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H", len(padded)) + padded + body


def described(shape: str, dtype: str = "'<f4'", order: bool = False) -> str:
    return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}}}"


def npz(**members: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **members)
    return file.getvalue()


def archive(**members: bytes) -> bytes:
    """A zip file with those members, whatever is in them."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as opened:
        for name, content in members.items():
            opened.writestr(f"{name}.npy", content)
    return file.getvalue()


def damaged(content: bytes) -> bytes:
    """A file in which a byte in the middle of `x` has changed."""
    middle = content.index(b"\x93NUMPY") + 140
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


class Runner:
    """Runs one layer on a file's content and returns the error, having checked its form."""

    def __init__(self, shell: Shell) -> None:
        self.shell = shell
        layer = sc.LSTM(3)
        sc.save("model.safetensors", layer, layer.init(2))

    def __call__(self, name: str, content: bytes, *arguments: str) -> str:
        Path(name).write_bytes(content)
        before = self.shell.files()
        result = self.shell(
            *("run", "model.safetensors", "--input", name, "--output", "y.npy"), *arguments
        )
        assert self.shell.files() == before, "something was left"
        assert result.out == ""
        return result.error


@pytest.fixture
def runner(shell: Shell) -> Runner:
    return Runner(shell)


ARRAYS = {
    "empty": (b"", "damaged, truncated or not what its name says"),
    "text": (b"a,b\n1,2\n", "the magic string is not correct"),
    "cut in the header": (npy(X)[:40], "damaged, truncated"),
    "cut in the numbers": (npy(X)[:-1], "damaged, truncated"),
    "a zip file": (npz(x=X), "the magic string is not correct"),
    "objects": (npy(np.array([Trap()], object)), "holds Python objects, expected numbers"),
    "a pickle": (pickle.dumps(Trap()), "the magic string is not correct"),
    "a newer version": (header(described("(3, 4, 2)"), b"\x09\x00"), "damaged, truncated"),
    "code for a header": (header("__import__('os').mkdir('trapped')"), "damaged, truncated"),
    "more than there is": (header(described("(3, 4, 2000000000000)")), "damaged, truncated"),
    "a negative shape": (header(described("(-3, -4, 2)"), body=bytes(96)), "negative shape"),
    "no shape": (header("{'descr': '<f4', 'fortran_order': False}"), "damaged, truncated"),
    "deeply nested": (header("[" * 5000), "damaged, truncated"),
    "rank 2": (npy(X[0]), "x has shape (4, 2), expected (batch, time, features); one sequence"),
    "rank 0": (npy(np.float32(1)), "x has shape (), expected (batch, time, features)"),
    "no features": (npy(X[:, :, :0]), "x has shape (3, 4, 0), expected at least one feature"),
    "other features": (npy(np.zeros((3, 4, 5), np.float32)), "5 features (shape (3, 4, 5)), exp"),
    "integers": (npy(X.astype(np.int64)), "x is int64, expected one of float64, float32"),
    "another dtype": (npy(X.astype(np.float64)), "x is float64 and the weights are float32"),
    "two bytes each": (npy(np.zeros((3, 4, 2), "V2")), "x is void16, expected one of float64"),
    "fields": (npy(np.zeros((3, 4, 2), [("a", "f4")])), "x is void32, expected one of float64"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARRAYS)
def test_an_npy_file(runner: Runner, kind: str) -> None:
    content, message = ARRAYS[kind]
    assert message in runner("x.npy", content)
    assert not Path("trapped").exists()


ARCHIVES = {
    "empty": (b"", "x.npz: damaged, truncated"),
    "text": (b"PK no", "x.npz: damaged, truncated"),
    "truncated": (npz(x=X)[:-30], "x.npz: damaged, truncated"),
    "a changed byte": (damaged(npz(x=X)), "x.npz: x: damaged, truncated"),
    "no x": (npz(lengths=np.ones(3, int)), "has keys lengths, expected x"),
    "no key": (npz(), "has keys (none), expected x"),
    "an unknown key": (npz(x=X, length=np.ones(3, int)), "'length' (did you mean 'lengths'?)"),
    "an unknown state": (npz(x=X, **{"initial_state.z": X}), "unknown key 'initial_state.z'"),
    "one state of two": (npz(x=X, **{"initial_state.h": X}), "initial_state.c missing, expected"),
    "mask and lengths": (
        npz(x=X, lengths=np.ones(3, int), mask=np.ones((3, 4), bool)),
        "received mask and lengths, expected one of them",
    ),
    "rows of lengths": (npz(x=X, lengths=np.ones(2, int)), "lengths has shape (2,) and x has"),
    "rows of the mask": (npz(x=X, mask=np.ones((4, 4), bool)), "mask has shape (4, 4) and x has"),
    "rank of lengths": (npz(x=X, lengths=np.int64(3)), "lengths has shape () and x has"),
    "dtype of the mask": (npz(x=X, mask=np.ones((3, 4), int)), "mask is int64, expected booleans"),
    "lengths out of range": (npz(x=X, lengths=np.array([1, 5, 0])), "lengths go from 0 to 5"),
    "misshapen states": (
        npz(x=X, **{"initial_state.h": X[:, 0], "initial_state.c": X[:, 0]}),
        "initial_state h has shape (3, 2), expected (3, 3)",
    ),
    "objects": (npz(x=np.array([Trap()], object)), "x: holds Python objects, expected numbers"),
    "a member that is no array": (archive(x=b"text"), "x.npz: x: damaged, truncated"),
    "less than it says": (
        archive(x=header(described("(3, 4, 2)"), body=bytes(95))),
        "bytes, expected",
    ),
    "more than it says": (
        archive(x=header(described("(3, 4, 2)"), body=bytes(97))),
        "bytes, expected",
    ),
    "a negative shape": (
        archive(x=header(described("(-3, -4, 2)"), body=bytes(96))),
        "negative shape",
    ),
    "columns first and short": (
        archive(x=header(described("(9999999, 4, 2)", order=True))),
        "bytes, expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_npz_file(runner: Runner, kind: str) -> None:
    content, message = ARCHIVES[kind]
    assert message in runner("x.npz", content)
    assert not Path("trapped").exists()


TABLES = {
    "empty": ("", [], "is empty, expected a header"),
    "no header": ("1.5,2\n3,4\n", [], "line 1 holds numbers only, expected a header"),
    "text": ("a,b\n1,2\n3,four\n", [], "line 3, column 'b': 'four', expected a number"),
    "an empty cell": ("a,b\n1,2\n\n3,\n", [], "line 4, column 'b': nothing, expected a number"),
    "grouped digits": ("a,b\n1_000,2\n", [], "line 2, column 'a': '1_000', expected a number"),
    "text beside the sequence": (
        "a,id,b\n1,u,2\n1,u,two\n", ["--sequence-column", "id"],
        "line 3, column 'b': 'two', expected a number",
    ),
    "a short row": ("a,b\n1,2\n3\n", [], "line 3 has 1 cells, expected 2"),
    "a long row": ("a,b\n1,2,3\n", [], "line 2 has 3 cells, expected 2"),
    "no such column": (
        "a,b,name\n1,2,u\n", ["--sequence-column", "nam"],
        "no column 'nam' (did you mean 'name'?), expected one; the columns are a, b, name",
    ),
    "two such columns": (
        "a,a,b\n1,2,3\n", ["--sequence-column", "a"], "several columns 'a', expected one"
    ),
    "no features": ("id\nu\n", ["--sequence-column", "id"], "has no column beside 'id'"),
    "other features": ("a,b,c\n1,2,3\n", [], "x has 3 features (shape (1, 1, 3)), expected 2"),
    "too large a number": ("a,b\n1,1e39\n", [], "1e+39 is beyond float32"),
    "a quote left open": ('a,b\n"1,2\n', [], "not a .csv file: unexpected end of data"),
}  # fmt: skip


@pytest.mark.parametrize("kind", TABLES)
def test_a_csv_file(runner: Runner, kind: str) -> None:
    text, arguments, message = TABLES[kind]
    assert message in runner("x.csv", text.encode(), *arguments)


def test_a_csv_file_that_is_no_text(runner: Runner) -> None:
    assert "x.csv: not UTF-8 text" in runner("x.csv", b"a,b\n\xff\xfe,1\n")


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x.csv"])
def test_an_input_that_is_absent_or_a_folder(shell: Shell, name: str) -> None:
    Runner(shell)
    arguments = ("run", "model.safetensors", "--input", name, "--output", "y.npy")
    assert f"{name}: cannot be read: No such file or directory" in shell(*arguments).error
    Path(name).mkdir()
    assert f"{name}: cannot be read: Is a directory" in shell(*arguments).error
    assert shell.files() == {"model.safetensors", name}


def test_an_input_of_another_kind(runner: Runner) -> None:
    message = "x.txt: suffix .txt, expected an input in one of .npy, .npz, .csv"
    assert message in runner("x.txt", b"")


CONFIGS = {
    "layer.yaml": (b"", "suffix .yaml, expected a layer in one of .toml, .json, .safetensors"),
    "layer": (b"", "suffix (none), expected a layer in one of"),
    "layer.toml": (b"type = ", "layer.toml: layer description: not valid TOML"),
    "typo.toml": (b'type = "LSTM"\nunit = 3\n', "typo.toml: layer description: at the top level"),
    "dropout.toml": (b'type = "GRU"\nunits = 3\ndropout = 0.5\n', "'dropout' is not taken"),
    "zero.toml": (b'type = "GRU"\nunits = 0\n', "zero.toml: GRU: units is 0, expected a positive"),
    "bytes.toml": (b"\xff", "bytes.toml: not UTF-8 text"),
    "layer.json": (b'{"type": "LSTM"', "layer.json: layer description: not valid JSON"),
    "units.json": (b'{"type": "LSTM", "units": "3"}', "units.json: layer description: "),
    "model2.safetensors": (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "not a safetensors file"),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("command", ["run", "init", "explain"])
def test_a_config_file(shell: Shell, command: str, name: str) -> None:
    content, message = CONFIGS[name]
    Path(name).write_bytes(content)
    np.save("x.npy", X)
    before = shell.files()
    arguments = {
        "run": ["--input", "x.npy", "--output", "y.npy"],
        "init": ["--features", "2", "--output", "new.safetensors"],
        "explain": [],
    }
    error = shell(command, name, *arguments[command]).error
    assert message in error
    assert error.startswith(name)
    assert shell.files() == before


def test_a_truncated_weights_file(runner: Runner) -> None:
    content = Path("model.safetensors").read_bytes()
    Path("model.safetensors").write_bytes(content[:-8])
    assert "model.safetensors: not a safetensors file, or a truncated one" in runner("x.npy", b"")


OUTPUTS = {
    "y.txt": "y.txt: suffix .txt, expected an output in one of .npz, .npy",
    "absent/y.npz": "absent/y.npz: cannot be written: No such file or directory",
    "folder.npz": "folder.npz: is a folder, expected a file to write",
    "y.npy": "the layer returns y, h, c, expected one output for a .npy file",
    "x.npz": "x.npz: is the input, which is never replaced",
    "link.npz": "link.npz: is the input, which is never replaced",
}


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_that_cannot_be(
    shell: Shell, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = sc.LSTM(3, return_state=True)
    sc.save("model.safetensors", layer, layer.init(2))
    np.savez("x.npz", x=X)
    Path("link.npz").symlink_to("x.npz")
    Path("folder.npz").mkdir()
    before, content = shell.files(), Path("x.npz").read_bytes()

    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("the layer ran before the output was checked")

    monkeypatch.setattr(sc.BoundLayer, "__call__", work)
    result = shell("run", "model.safetensors", "--input", "x.npz", "--output", output)
    assert OUTPUTS[output] in result.error
    assert shell.files() == before
    assert Path("x.npz").read_bytes() == content


def test_a_disk_that_is_full(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = sc.LSTM(3, return_state=True)
    sc.save("model.safetensors", layer, layer.init(2))
    np.save("x.npy", X)
    before = shell.files()

    def full(*_: Any) -> Callable[..., Any]:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    result = shell("run", "model.safetensors", "--input", "x.npy", "--output", "y.npz")
    assert result.error == "y.npz: cannot be written: No space left on device"
    assert shell.files() == before
