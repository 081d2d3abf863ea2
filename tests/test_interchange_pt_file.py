"""Files of torch.save: read and written without torch, and files that are none or mean harm."""

from __future__ import annotations

import collections
import io
import os
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import seqcore as sc
from helpers import assert_same_bits, random_weights
from seqcore.interchange.pt_file import read_pt, write_pt
from seqcore.interchange.torch import from_torch, to_torch

torch = pytest.importorskip("torch", reason="torch, whose files are read and written")
nn = torch.nn

DTYPES = {
    torch.float64: np.float64,
    torch.float32: np.float32,
    torch.float16: np.float16,
    torch.bfloat16: ml_dtypes.bfloat16,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.int16: np.int16,
    torch.int8: np.int8,
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
}


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def as_array(tensor: Any) -> np.ndarray:
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def assert_same(found: dict[str, np.ndarray], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert_same_bits(found[name], value if isinstance(value, np.ndarray) else as_array(value))


# --- what torch writes ---------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_state_dict(protocol: int, tmp_path: Path) -> None:
    for module in (nn.LSTM(3, 2, num_layers=2), nn.Sequential(nn.GRUCell(3, 2), nn.Linear(2, 1))):
        state = module.state_dict()
        path = saved(tmp_path / "state.pt", state, pickle_protocol=protocol)
        assert_same(read_pt(path), state)
        assert_same(read_pt(os.fspath(path)), state)


def test_every_dtype_and_every_layout(tmp_path: Path) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    state = {str(dtype): torch.tensor([[0, 1], [1, 0]], dtype=dtype) for dtype in DTYPES}
    state |= {
        "turned": base.t(),
        "row": base[1],
        "column": base[:, 2],
        "every second": base[::2, 1::2],
        "the same": base,
        "wide": torch.ones(1, 3).expand(5, 3),
        "number": torch.tensor(3.5),
        "none": torch.zeros(0, 3),
        "of none": base[4:],
        "parameter": nn.Parameter(base * 2),
        "frozen": nn.Parameter(base * 3, requires_grad=False),
        "nan": torch.tensor([float("nan"), float("-inf"), -0.0]),
    }
    assert_same(read_pt(saved(tmp_path / "all.pt", state)), state)
    ours = {name: as_array(value) for name, value in state.items()}
    for dtype, mine in DTYPES.items():
        assert ours[str(dtype)].dtype == mine


def test_a_checkpoint(tmp_path: Path) -> None:
    """Mappings inside one another, and what is no tensor."""
    model = nn.GRU(3, 2)
    moments = {"step": torch.tensor(1.0), "exp_avg": torch.ones(6, 3)}
    group = {"lr": 0.001, "betas": (0.9, 0.999), "foreach": None, "params": [0]}
    content = {
        "model": model.state_dict(),
        "optimizer": {"state": {0: moments}, "param_groups": [group, {**group, "params": [1]}]},
        "epoch": 3,
        "loss": 0.5,
        "notes": ["a", None, True, 2**40, -1],
        "history": [torch.ones(2), (torch.zeros(1), 2)],
    }
    arrays = read_pt(saved(tmp_path / "checkpoint.pt", content))
    for name, value in model.state_dict().items():
        assert_same_bits(arrays[f"model.{name}"], as_array(value))
    assert_same_bits(arrays["history.1.0"], np.zeros(1, np.float32))
    assert "optimizer.state.0.exp_avg" in arrays
    assert not any(
        name.startswith(("epoch", "loss", "notes", "optimizer.param")) for name in arrays
    )
    layer, _ = from_torch(arrays, prefix="model")
    assert layer == sc.GRU(2, return_sequences=True)
    with pytest.raises(sc.ConversionError, match=r"optimizer\..*would be lost"):
        from_torch(arrays)


def test_numbers_in_the_other_byte_order(tmp_path: Path) -> None:
    arrays = {
        "single": np.array([[1.5, -2.0]], np.float32),
        "short": np.array([1.5, 3.0], ml_dtypes.bfloat16),
        "whole": np.array([1, -2, 2**40]),
        "bytes": np.array([1, 2], np.uint8),
    }
    write_pt(tmp_path / "ours.pt", arrays)
    other = {"little": b"big", "big": b"little"}[sys.byteorder]
    sizes = [value.itemsize for value in arrays.values()]

    def swap(name: str, content: bytes) -> bytes:
        if name == "byteorder":
            return other
        if not name.startswith("data/"):
            return content
        size = sizes[int(name.removeprefix("data/"))]
        return np.frombuffer(content, f"<u{size}").astype(f">u{size}").tobytes()

    assert_same(read_pt(rewritten(tmp_path / "ours.pt", swap)), arrays)
    swapped = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert_same({name: as_array(value) for name, value in swapped.items()}, arrays)


# --- what we write -------------------------------------------------------------------------------


def test_torch_reads_what_is_written(tmp_path: Path) -> None:
    path = tmp_path / "ours.pt"
    arrays = {
        **{
            np.dtype(mine).name: np.array([[0, 1], [1, 0]]).astype(mine) for mine in DTYPES.values()
        },
        "turned": np.arange(12.0).reshape(3, 4).T,
        "other order": np.arange(3, dtype=">f4"),
        "number": np.array(2.5),
        "none": np.zeros((0, 3), np.float32),
        "five axes": np.arange(120.0).reshape(1, 2, 3, 4, 5),
        "ein Name: ü": np.array([np.nan]),
    }
    write_pt(path, arrays)
    expected = {
        name: np.array(value, value.dtype.newbyteorder("="), order="C")
        for name, value in arrays.items()
    }
    for mapped in (False, True):
        loaded = torch.load(path, weights_only=True, mmap=mapped)
        assert type(loaded) is collections.OrderedDict
        assert_same({name: as_array(value) for name, value in loaded.items()}, expected)
        assert all(value.is_contiguous() for value in loaded.values())
    assert_same(read_pt(path), expected)
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            header = 30 + len(entry.filename.encode()) + len(entry.extra)
            assert (entry.header_offset + header) % 64 == 0
    before = path.read_bytes()
    write_pt(path, arrays)
    assert path.read_bytes() == before


def test_a_module_loads_what_is_written(tmp_path: Path) -> None:
    layer = sc.Bidirectional(sc.LSTM(2, return_sequences=True))
    weights = random_weights(layer, np.random.default_rng(0), "float32")
    write_pt(tmp_path / "lstm.pt", to_torch(layer, weights))
    module = nn.LSTM(4, 2, bidirectional=True)
    module.load_state_dict(torch.load(tmp_path / "lstm.pt", weights_only=True))
    again, back = from_torch(read_pt(saved(tmp_path / "back.pt", module.state_dict())))
    assert again == layer
    assert_same(back, weights)


def test_what_is_not_written(tmp_path: Path) -> None:
    for state, words in (
        ({"a": [1.0]}, "'a' is list, expected arrays by name"),
        ({3: np.ones(1)}, "3 is ndarray"),
        ({"a": np.ones(1, complex)}, "a is complex128, expected one of float64"),
        ({"a": np.array(["x"])}, "a is str"),
    ):
        with pytest.raises(sc.ConversionError, match=words):
            write_pt(tmp_path / "none.pt", state)
    with pytest.raises(sc.FileError, match="cannot be written"):
        write_pt(tmp_path / "no" / "folder.pt", {})
    assert list(tmp_path.iterdir()) == []


def test_without_torch(tmp_path: Path) -> None:
    saved(tmp_path / "lstm.pt", nn.LSTM(3, 2).state_dict())
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from seqcore.interchange.pt_file import read_pt, write_pt\n"
        "write_pt('again.pt', read_pt('lstm.pt'))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    state = torch.load(tmp_path / "lstm.pt", weights_only=True)
    assert_same(read_pt(tmp_path / "again.pt"), state)


# --- what is refused -----------------------------------------------------------------------------


def archived(path: Path, program: bytes, **entries: bytes) -> Path:
    """A zip archive as torch.save makes them, with a pickle of our own; `_0` is `data/0`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", program)
        for name, content in entries.items():
            archive.writestr(f"x/{name.replace('_', 'data/')}", content)
    return path


def rewritten(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    """The same archive with `change(name, content)` in place of every entry, None to drop it."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries:
            changed = change(name.partition("/")[2], content)
            if changed is not None:
                archive.writestr(name, changed)
    return path


class Bomb:
    def __reduce__(self) -> Any:
        return os.system, ("touch exploded",)


NOTHING = "nothing in it was executed"
SYSTEM = rf"asks for '(posix|nt)\.system', which is no part of a state_dict.*{NOTHING}"


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_that_runs_a_command(
    protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = archived(tmp_path / "bomb.pt", pickle.dumps({"weight": Bomb()}, protocol))
    with pytest.raises(sc.FileError, match=SYSTEM if protocol > 1 else NOTHING):
        read_pt(path)
    torch.save({"weight_hh_l0": torch.ones(1), "other": Bomb()}, path)
    with pytest.raises(sc.FileError, match=SYSTEM):
        read_pt(path)
    path.write_bytes(pickle.dumps(Bomb(), protocol))
    with pytest.raises(sc.FileError, match="not a zip archive"):
        read_pt(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'touch exploded'\ntR.",
        b"(S'touch exploded'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nX\x01\0\0\0aoR.",  # OBJ
        b"\x80\x02cbuiltins\neval\nX\x01\0\0\x001\x85R.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x01a\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n)\x81.",  # NEWOBJ
        b"\x80\x02ccollections\nOrderedDict\n]\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02X\x01\0\0\0a)R.",
        b"\x80\x02ccollections\nOrderedDict\n}b.",  # BUILD of a class
        b"\x80\x02]}b.",
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x02P1\n.",  # PERSID
    ],
)
def test_programs_of_other_instructions(program: bytes, tmp_path: Path) -> None:
    path = archived(tmp_path / "other.pt", program)
    with pytest.raises(sc.FileError, match=rf"other\.pt: .*{NOTHING}"):
        read_pt(path)


@pytest.mark.parametrize(
    "program",
    [
        b"",
        b"\x80",
        b".",
        b"\x80\x02.",
        b"\x80\x02}",
        b"\xff\xff",
        b"\x80\x02(.",
        b"\x80\x02t.",
        b"\x80\x02h\x05.",
        b"\x80\x02q\0.",
        b"\x80\x02\x86.",
        b"\x80\x02R.",
        b"\x80\x02K\x01K\x02s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02})K\x02s.",  # a tuple as the key
        b"\x80\x02}]K\x02s.",
        b"\x80\x02}K\x01a.",
        b"\x80\x02}Q.",
        b"\x80\x02(X\x07\0\0\0storage}X\x01\0\0\0" + b"0X\x03\0\0\0cpuK\x01tQ.",
        b"\x80\x02X\xff\xff\xff\x7fa.",  # a text longer than the file
        b"\x80\x02\x8d" + b"\xff" * 8 + b".",
        b"\x80\x02\x8b\xff\xff\xff\x7f.",
        b"\x80\x02r\xff\xff\xff\xff.",  # remembered under a large number
        b"\x80\x02X\x01\0\0\0\xff.",
        b"\x80\x02cos\n.",
        b"\x80\x02}K\x01I" + b"9" * 10_000 + b"\ns.",
        b"(" * 9999 + b".",
        b"(S'\\x'\n.",
    ],
    ids=lambda program: repr(program[:20]),
)
def test_programs_that_are_none(program: bytes, tmp_path: Path) -> None:
    path = archived(tmp_path / "none.pt", program)
    with pytest.raises(sc.FileError, match=r"none\.pt: ") as caught:
        read_pt(path)
    assert len(str(caught.value)) < 600


def test_other_things_saved(tmp_path: Path) -> None:
    for value, words in (
        (
            nn.LSTM(2, 3),
            rf"'torch\.nn\.modules\.rnn\.LSTM'.*{NOTHING}; save module\.state_dict\(\)",
        ),
        ([torch.ones(2)], r"holds list, expected a state_dict"),
        (torch.ones(2), "holds a tensor, expected a state_dict"),
        (3, "holds int"),
        ({"x": np.float64(3)}, r"asks for 'numpy\..*scalar'"),
        ({"x": torch.ones(2, dtype=torch.complex64)}, r"asks for 'torch\.ComplexFloatStorage'"),
        ({"x": torch.ones(2).to_sparse()}, "rebuild_sparse_tensor"),
        ({(1, 2): torch.ones(2)}, "a key is tuple"),
        ({"a.b": torch.ones(2), "a": {"b": torch.ones(2)}}, "'a.b' stands for two tensors"),
    ):
        with pytest.raises(sc.FileError, match=words) as caught:
            read_pt(saved(tmp_path / "other.pt", value))
        assert str(caught.value).startswith(str(tmp_path / "other.pt"))


def test_older_files(tmp_path: Path) -> None:
    state = nn.RNN(2, 3).state_dict()
    path = saved(tmp_path / "old.pt", state, _use_new_zipfile_serialization=False)
    with pytest.raises(sc.FileError, match=r"before PyTorch 1\.6.*save its state_dict again"):
        read_pt(path)


def test_an_archive_with_a_program(tmp_path: Path) -> None:
    """TorchScript's, as torch.jit.save writes them."""
    for entry in ("code/__torch__.py", "constants.pkl"):
        with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
            archive.writestr("x/data.pkl", b"\x80\x02}.")
            archive.writestr(f"x/{entry}", b"")
        with pytest.raises(sc.FileError, match=f"a TorchScript archive.*{NOTHING}"):
            read_pt(tmp_path / "script.pt")


def test_files_that_are_absent_or_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "absent", tmp_path, tmp_path / "no" / "folder"):
        with pytest.raises(sc.FileError, match="cannot be read"):
            read_pt(path)
    for wrong in (None, 3, "a\0b"):
        with pytest.raises(sc.FileError, match=r"expected the path of a file|damaged"):
            read_pt(wrong)  # type: ignore[arg-type]


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    for content in (
        b"",
        b"PK",
        b"PK\x03\x04",
        b"PK\x03\x04" + bytes(100),
        b"\x89HDF",
        b"\xff" * 99,
    ):
        path.write_bytes(content)
        with pytest.raises(sc.FileError, match=r"other\.pt: (not a zip archive|damaged)"):
            read_pt(path)
    np.savez(path.with_suffix(".npz"), a=np.ones(2))
    with pytest.raises(sc.FileError, match=r"with 0 data\.pkl"):
        read_pt(path.with_suffix(".npz"))


def test_a_file_truncated_anywhere_or_with_a_wrong_byte(tmp_path: Path) -> None:
    """It is a FileError, or the damage was where nobody looks."""
    path = saved(tmp_path / "lstm.pt", nn.LSTM(2, 2).state_dict())
    content = path.read_bytes()
    expected = read_pt(path)
    for size in range(0, len(content) - 1, 97):
        path.write_bytes(content[:size])
        with pytest.raises(sc.FileError):
            read_pt(path)
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        place, bit = int(random.integers(len(content))), 1 << int(random.integers(8))
        changed = bytearray(content)
        changed[place] ^= bit
        path.write_bytes(changed)
        try:
            found = read_pt(path)
        except sc.FileError:
            refused += 1
        else:
            for name, value in expected.items():
                assert_same_bits(found[name], value)
    assert refused > 60


def test_wrong_bytes_in_the_pickle(tmp_path: Path) -> None:
    """With a checksum that fits them."""
    path = saved(tmp_path / "lstm.pt", nn.LSTM(2, 2).state_dict())
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
        program = archive.read(f"{folder}/data.pkl")
        data = {f"_{i}": archive.read(f"{folder}/data/{i}") for i in range(4)}
    random = np.random.default_rng(0)
    outcomes = collections.Counter()
    for _ in range(500):
        changed = bytearray(program)
        for place in random.integers(len(program), size=random.integers(1, 4)):
            changed[place] = random.integers(256)
        archived(path, bytes(changed), **data)
        try:
            read_pt(path)
        except sc.FileError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert outcomes["refused"] > 250


# --- memory --------------------------------------------------------------------------------------


def tensor_of(
    shape: Any, strides: Any, offset: Any = 0, count: Any = 4, kind: str = "Float", copies: int = 1
) -> bytes:
    """A pickle of tensors that are views of storage 0."""
    plain = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731
    storage = (
        b"(" + plain("storage") + f"ctorch\n{kind}Storage\n".encode() + plain("0") + plain("cpu")
    ) + (plain(count) + b"tQ")
    made = (b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + plain(offset) + plain(shape)) + (
        plain(strides) + b"\x89NtR"
    )
    return b"\x80\x02}(" + b"".join(plain(i) + made for i in range(copies)) + b"u."


@pytest.mark.parametrize(
    ("shape", "strides", "more", "words"),
    [
        ((5,), (1,), {}, "takes number 4 of a storage of 4"),
        ((2, 2), (3, 1), {}, "takes number 4"),
        ((4,), (1,), {"offset": 1}, "takes number 4"),
        ((1,), (1,), {"offset": 2**70}, "takes number"),
        ((1,), (1,), {"offset": -1}, "not sizes"),
        ((-1,), (1,), {}, "not sizes"),
        ((2,), (-1,), {}, "not sizes"),
        ((2,), (1.0,), {}, "not sizes"),
        ((2,), ("a",), {}, "not sizes"),
        ((2, 2), (1,), {}, "not sizes"),
        ((10**15,), (0,), {}, "more than 8 times the file's size"),
        ((2**62, 2**62), (0, 0), {}, "more than 8 times the file's size"),
        ((0, 2**62, 2**62), (1, 1, 1), {}, "damaged"),
        ((0, 2**70), (1, 1), {}, "damaged"),
        ((1,) * 65, (1,) * 65, {}, "damaged"),
        ((4,), (1,), {"count": 5}, "storage 0 has 16 bytes, expected 5 float32"),
        ((4,), (1,), {"count": 2**70}, "storage 0 has 16 bytes"),
        ((4,), (1,), {"count": -1}, "storage 0 has 16 bytes"),
        ((4,), (1,), {"count": "4"}, "not that of a storage"),
        ((4,), (1,), {"kind": "Double"}, "expected 4 float64"),
        (4, 1, {}, "calls torch._utils._rebuild_tensor_v2 with unknown arguments"),
    ],
)  # fmt: skip
def test_absurd_tensors(shape: Any, strides: Any, more: Any, words: str, tmp_path: Path) -> None:
    path = archived(tmp_path / "absurd.pt", tensor_of(shape, strides, **more), _0=bytes(16))
    with pytest.raises(sc.FileError, match=words):
        read_pt(path)


def test_strides_that_say_nothing(tmp_path: Path) -> None:
    program = tensor_of((1, 2), (2**70, 3), 0)
    path = archived(tmp_path / "odd.pt", program, _0=np.arange(4, dtype="<f4").tobytes())
    assert read_pt(path)["0"].tolist() == [[0.0, 3.0]]


def test_a_storage_that_is_not_there(tmp_path: Path) -> None:
    path = archived(tmp_path / "lost.pt", tensor_of((4,), (1,)))
    with pytest.raises(sc.FileError, match="x/data/0"):
        read_pt(path)


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """Compressed zeros, entries over one another, and tensors that share all their numbers."""
    big = bytes(2**24)
    compressed = tmp_path / "compressed.pt"
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", tensor_of((2**22,), (1,), 0, 2**22))
        archive.writestr("x/data/0", big)
    over = archived(tmp_path / "over.pt", tensor_of((4,), (1,)), _0=bytes(2**16))
    with zipfile.ZipFile(over, "a") as archive:
        first = archive.infolist()[1]
        for index in range(1, 300):
            entry = zipfile.ZipInfo(f"x/data/{index}")
            for field in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(entry, field, getattr(first, field))
            archive.filelist.append(entry)
        archive._didModify = True  # type: ignore[attr-defined]
    many = archived(
        tmp_path / "many.pt", tensor_of((2**16,), (1,), 0, 2**16, copies=100), _0=bytes(2**18)
    )
    views = tensor_of((1,), (1,), 0, 2**16, copies=1000)
    swapped = archived(tmp_path / "swapped.pt", views, byteorder=b"big", _0=bytes(2**18))
    deep = archived(
        tmp_path / "deep.pt", b"\x80\x02" + b"}K\x01" * 9999 + b"}" + b"s" * 9999 + b"."
    )
    round_ = archived(tmp_path / "round.pt", b"\x80\x02}q\0K\x01h\0s.")
    # Tuples of two of the one before, thirty times: a thousand million leaves.
    doubled = archived(
        tmp_path / "doubled.pt",
        b"\x80\x02}K\x01" + tensor_of((4,), (1,))[2:-1] + b"q\0" + b"h\0\x86q\0" * 30 + b"s.",
        _0=bytes(16),
    )
    long = archived(
        tmp_path / "long.pt",
        b"\x80\x02}" + pickle.dumps("a" * 2000, 2)[2:-1] + tensor_of((4,), (1,))[2:-1] + b"s.",
        _0=bytes(16),
    )
    tracemalloc.start()
    assert len(read_pt(swapped)) == 1000
    assert tracemalloc.get_traced_memory()[1] < 2**22
    for path, words in (
        (compressed, "bytes are compressed, or overlap"),
        (over, "bytes are compressed, or overlap"),
        (many, r"more than 8 times the file's size.*tensor\.clone\(\)"),
        (deep, "more than 32 levels"),
        (round_, "holds itself"),
        (doubled, "is there twice"),
        (long, "is too long"),
    ):
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        with pytest.raises(sc.FileError, match=words):
            read_pt(path)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before < 2**22 + 3 * path.stat().st_size
    tracemalloc.stop()


def test_shared_values_without_tensors_are_fine(tmp_path: Path) -> None:
    betas = (0.9, 0.99)
    groups = [{"betas": betas}, {"betas": betas, "empty": ()}]
    arrays = read_pt(saved(tmp_path / "shared.pt", {"groups": groups, "x": torch.ones(2)}))
    assert list(arrays) == ["x"]


def test_a_long_pickle(tmp_path: Path) -> None:
    path = archived(tmp_path / "long.pt", b"\x80\x02" + b"}" * 2**24 + b".")
    with pytest.raises(sc.FileError, match=r"data\.pkl has 16777219 bytes, expected 16777216"):
        read_pt(path)


def test_arrays_are_read_only(tmp_path: Path) -> None:
    (array,) = read_pt(saved(tmp_path / "x.pt", {"x": torch.ones(2)})).values()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 2


def test_the_byte_order_that_is_none(tmp_path: Path) -> None:
    path = archived(tmp_path / "x.pt", b"\x80\x02}.", byteorder=b"middle")
    with pytest.raises(sc.FileError, match="byteorder is b'middle'"):
        read_pt(path)
    assert read_pt(archived(path, b"\x80\x02}.")) == {}


def test_files_in_memory_are_no_paths() -> None:
    with pytest.raises(sc.FileError, match="expected the path of a file"):
        read_pt(io.BytesIO())  # type: ignore[arg-type]


def test_a_small_file_takes_little_time(tmp_path: Path) -> None:
    """Names that are no texts, integers that a dict finds slowly, and long names."""
    # Tuples of two of the one before, thirty times, for the name of a class.
    nested = b"\x80\x04)\x94"
    for index in range(30):
        nested += (b"h" + bytes([index])) * 2 + b"\x86\x94"
    names = archived(tmp_path / "names.pt", nested + b"\x8c\x01a\x93.")
    numbers = b"".join(
        b"\x8a\x09" + (index * (2**61 - 1)).to_bytes(9, "little") + b"K\x01"
        for index in range(1, 100)
    )
    keys = archived(tmp_path / "keys.pt", b"\x80\x02}(" + numbers + b"u.")
    inner = b"}(" + b"".join(b"X\x02\x00\x00\x00%02dK\x01" % index for index in range(99)) + b"u"
    text = b"X" + (2000).to_bytes(4, "little") + b"k" * 2000
    long = archived(tmp_path / "long.pt", b"\x80\x02}" + text + inner + b"s.")
    for path, words in (
        (names, "a name is no text"),
        (keys, "a key is int, expected a text or a small integer"),
        (long, "is too long"),
    ):
        with pytest.raises(sc.FileError, match=words):
            read_pt(path)
