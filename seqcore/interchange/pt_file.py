"""Files of `torch.save`, read and written without torch (`.pt`, `.pth`).

Such a file is a zip archive in which nothing is compressed. It has one folder: `data.pkl`, a pickle
that describes the tensors; `data/0` and so on, the numbers of each storage; `byteorder`; `version`.
A pickle is a program. Here an interpreter runs it that knows what a state_dict is made of, and
nothing else: it imports no name and calls no function.

Source: https://docs.pytorch.org/docs/stable/notes/serialization.html
"""

from __future__ import annotations

import math
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from seqcore.errors import ConversionError, FileError
from seqcore.files import reading, replacing
from seqcore.spec.dtypes import DTYPES, numpy_dtype

Array = NDArray[Any]

_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
_ORDERED_DICT = "collections.OrderedDict"
_TENSOR = "torch._utils._rebuild_tensor_v2"
_PARAMETER = "torch._utils._rebuild_parameter"
_KNOWN = {_ORDERED_DICT, _TENSOR, _PARAMETER, *_STORAGES}

_ADVICE = "nothing in it was executed; save module.state_dict() alone with torch.save"
_SHARING = 8
"""How many times the file's size its tensors may have, for they may share their numbers."""
_LONGEST_PICKLE = 2**24
_LONGEST_NAME = 1000
_DEEPEST = 32
_ENTRY_HEADER = 30
"""How many bytes stand before the name of an entry of a zip archive."""
_ALIGNMENT = 64
"""Of each storage in the file, so that it can be mapped into memory; torch's own choice."""


def read_pt(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Return the tensors in a file of `torch.save`, by name, as NumPy arrays that are read-only.

    Mappings and lists inside one another, as in a checkpoint, become one, their keys joined by
    dots. What is no tensor, such as the number of an epoch, is left out. Nothing in the file is
    executed, and what is read takes no more memory than the file, a few times.

    Raises:
        FileError: if the file is absent, truncated, not such a file, or asks for anything but the
            tensors of a state_dict, as a whole module that was saved does.
    """
    try:
        with reading(path) as (file, size):
            _check_start(path, file.read(16))
            with zipfile.ZipFile(file) as archive:
                tree = _Machine(_Storages(path, archive, size)).run()
    except _DAMAGES as error:
        reason = str(error)[:200] or type(error).__name__
        raise FileError(f"{path}: damaged, or not written by torch.save: {reason}") from None
    arrays: dict[str, Array] = {}
    _collect(path, "", tree, 0, {}, arrays)
    return arrays


def write_pt(path: str | os.PathLike[str], state: Mapping[Any, Any]) -> None:
    """Write arrays by name to a file that `torch.load` reads as a state_dict.

    Raises:
        ConversionError: if one is no array, or of a dtype that torch's files are not written with.
        FileError: if the file cannot be written.
    """
    kinds = {dtype: storage for storage, dtype in _STORAGES.items()}
    program = [pickle.PROTO, b"\x02", *_call(_ORDERED_DICT, pickle.EMPTY_TUPLE), pickle.MARK]
    storages: list[bytes] = []
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, np.ndarray):
            raise ConversionError(
                f"write_pt: {name!r} is {type(value).__name__}, expected arrays by name"
            )
        if value.dtype.name not in kinds:
            raise ConversionError(
                f"write_pt: {name} is {value.dtype.name}, expected one of {', '.join(kinds)}"
            )
        strides = tuple(math.prod(value.shape[axis + 1 :]) for axis in range(value.ndim))
        storage = [
            *(pickle.MARK, _plain("storage"), _named(kinds[value.dtype.name])),
            *(_plain(str(len(storages))), _plain("cpu"), _plain(value.size)),
            *(pickle.TUPLE, pickle.BINPERSID),
        ]
        program += [
            _plain(name),
            *_call(
                _TENSOR,
                *(pickle.MARK, *storage, _plain(0), _plain(value.shape), _plain(strides)),
                *(pickle.NEWFALSE, *_call(_ORDERED_DICT, pickle.EMPTY_TUPLE), pickle.TUPLE),
            ),
        ]
        storages.append(value.astype(value.dtype.newbyteorder("="), copy=False).tobytes())
    program += [pickle.SETITEMS, pickle.STOP]
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _write(archive, "data.pkl", b"".join(program))
        _write(archive, "byteorder", sys.byteorder.encode())
        for index, content in enumerate(storages):
            _write(archive, f"data/{index}", content)
        _write(archive, "version", b"3\n")


# What zipfile, pickletools and the interpreter raise for a file that is not what it should be. The
# warning is that of an odd backslash in a text, where warnings are errors.
_DAMAGES = (
    zipfile.BadZipFile,
    DeprecationWarning,
    EOFError,
    IndexError,
    KeyError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)


def _check_start(path: str | os.PathLike[str], start: bytes) -> None:
    """Check how the file begins.

    Raises:
        FileError: if not as a zip archive does.
    """
    if start.startswith(b"PK\x03\x04"):
        return
    if b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in start:  # torch's magic number, pickled
        raise FileError(
            f"{path}: in the format that torch.save had before PyTorch 1.6, a bare pickle, "
            "expected a zip archive; load it with torch where you trust it, and save its "
            "state_dict again"
        )
    raise FileError(f"{path}: not a zip archive, expected a file that torch.save wrote")


class _Storages:
    """The storages of an archive, read as they are asked for, each once."""

    def __init__(self, path: str | os.PathLike[str], archive: zipfile.ZipFile, size: int) -> None:
        """Check the archive's table against the file's size, before anything is read.

        Raises:
            FileError: if this is another kind of archive.
        """
        self.path, self.size = path, size
        entries = archive.infolist()
        packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
        total = sum(entry.file_size for entry in entries)
        if packed or total > size:
            raise FileError(
                f"{path}: {total} bytes are compressed, or overlap, in a file of {size}, expected "
                "entries stored as torch.save stores them"
            )
        names = archive.namelist()
        folders = [name.partition("/")[0] for name in names if name.partition("/")[2] == "data.pkl"]
        if len(folders) != 1:
            raise FileError(
                f"{path}: a zip archive with {len(folders)} data.pkl, expected one, as in a file "
                "that torch.save wrote"
            )
        self._folder, self._archive = folders[0], archive
        if any(name.startswith(f"{folders[0]}/code/") for name in names) or self._has(
            "constants.pkl"
        ):
            raise FileError(f"{path}: a TorchScript archive, which holds a program; {_ADVICE}")
        order = self._entry("byteorder") if self._has("byteorder") else b"little"
        if order not in (b"little", b"big"):
            raise ValueError(f"byteorder is {order[:20]!r}, expected 'little' or 'big'")
        self._mark = "<" if order == b"little" else ">"
        self._read: dict[tuple[str, int], Array] = {}

    def program(self) -> bytes:
        """Return the pickle."""
        content = self._entry("data.pkl")
        if len(content) > _LONGEST_PICKLE:
            raise ValueError(
                f"data.pkl has {len(content)} bytes, expected {_LONGEST_PICKLE} at most"
            )
        return content

    def storage(self, kind: str, key: str, count: int) -> Array:
        """Return the numbers of one storage, in one row."""
        name = _STORAGES[kind]
        dtype = numpy_dtype(name) if name in DTYPES else np.dtype(name)
        bits = self._bits(key, dtype.itemsize)
        if not 0 <= count <= bits.size:
            raise ValueError(f"storage {key} has {bits.nbytes} bytes, expected {count} {name}")
        return bits[:count].view(dtype)

    def _bits(self, key: str, size: int) -> Array:
        """Return a storage as integers of `size` bytes, for ml_dtypes has one byte order only."""
        if (key, size) not in self._read:
            content = self._entry(f"data/{key}")
            found = np.frombuffer(content, f"{self._mark}u{size}", len(content) // size)
            self._read[key, size] = found.astype(found.dtype.newbyteorder("="), copy=False)
        return self._read[key, size]

    def _has(self, name: str) -> bool:
        return f"{self._folder}/{name}" in self._archive.NameToInfo

    def _entry(self, name: str) -> bytes:
        return self._archive.read(f"{self._folder}/{name}")


@dataclass(frozen=True, slots=True)
class _Global:
    """A function or class that a pickle names; it stands for itself and cannot be called."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """The numbers that tensors are cut from."""

    values: Array


class _Machine:
    """What a pickle's instructions do, as far as a state_dict needs them.

    Errors other than FileError are those of `_DAMAGES`.
    """

    def __init__(self, storages: _Storages) -> None:
        self._storages = storages
        self._path = storages.path
        self._left = _SHARING * storages.size
        self._stack: list[Any] = []
        self._below: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> dict[Any, Any]:
        """Return the mapping that the pickle makes."""
        for opcode, argument, _ in pickletools.genops(self._storages.program()):
            self._step(opcode.name, argument)
        made = self._stack.pop()
        if not isinstance(made, dict):
            raise FileError(
                f"{self._path}: holds {_kind(made)}, expected a state_dict: save "
                "module.state_dict() with torch.save"
            )
        return made

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE":
                stack.append(argument)
            case "MARK":
                self._below.append(stack)
                self._stack = []
            case "EMPTY_TUPLE" | "EMPTY_LIST" | "EMPTY_DICT":
                stack.append({"EMPTY_TUPLE": (), "EMPTY_LIST": [], "EMPTY_DICT": {}}[name])
            case "TUPLE":
                items = tuple(self._marked())
                self._stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple([stack.pop() for _ in range(int(name[-1]))][::-1]))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case "APPEND":
                self._append([stack.pop()])
            case "APPENDS":
                self._append(self._marked())
            case "SETITEM":
                self._set([stack.pop(), stack.pop()][::-1])
            case "SETITEMS":
                self._set(self._marked())
            case "GLOBAL":
                stack.append(self._named(".".join(argument.split(" "))))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                if not (isinstance(attribute, str) and isinstance(module, str)):
                    raise ValueError("a name is no text")
                stack.append(self._named(f"{module}.{attribute}"))
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case "REDUCE":
                arguments, function = stack.pop(), stack.pop()
                stack.append(self._called(function, arguments))
            case "BUILD":
                # The attributes of an OrderedDict: a state_dict's `_metadata`.
                if not (isinstance(stack.pop(), dict) and isinstance(stack[-1], dict)):
                    raise FileError(f"{self._path}: sets attributes of an object; {_ADVICE}")
            case _:
                raise FileError(
                    f"{self._path}: has the pickle instruction {name} ({str(argument)[:80]}), "
                    f"which a state_dict needs not; {_ADVICE}"
                )

    def _marked(self) -> list[Any]:
        """Return what came since the last mark, and go back to what was before."""
        items, self._stack = self._stack, self._below.pop()
        return items

    def _append(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, list):
            raise ValueError(f"items are appended to {_kind(target)}")
        target += items

    def _set(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise ValueError(f"items are set in {_kind(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Integers of any size could be chosen so that a dict finds none of them quickly.
            if not isinstance(key, str) and not (isinstance(key, int) and abs(key) < 2**32):
                raise ValueError(f"a key is {_kind(key)}, expected a text or a small integer")
            target[key] = value

    def _named(self, name: str) -> _Global:
        if name not in _KNOWN:
            raise FileError(
                f"{self._path}: asks for {name[:200]!r}, which is no part of a state_dict, "
                f"expected tensors, numbers and texts; {_ADVICE}"
            )
        return _Global(name)

    def _persistent(self, identity: Any) -> _Storage:
        match identity:
            case "storage", _Global(kind), str(key), str(), int(count) if kind in _STORAGES:
                return _Storage(self._storages.storage(kind, key, count))
        raise ValueError("a persistent id is not that of a storage")

    def _called(self, function: Any, arguments: Any) -> Any:
        name = function.name if isinstance(function, _Global) else ""
        match arguments:
            case () if name == _ORDERED_DICT:
                return {}
            case (np.ndarray() as tensor, *_) if name == _PARAMETER:
                return tensor
            case (
                _Storage(values),
                int(offset),
                tuple(shape),
                tuple(strides),
                *_,
            ) if name == _TENSOR:
                return self._tensor(values, offset, shape, strides)
        raise FileError(
            f"{self._path}: calls {name or _kind(function)} with unknown arguments; {_ADVICE}"
        )

    def _tensor(
        self, values: Array, offset: int, shape: tuple[Any, ...], strides: tuple[Any, ...]
    ) -> Array:
        """Return a tensor as a view of its storage."""
        sizes = (offset, *shape, *strides)
        if len(shape) != len(strides) or not all(isinstance(n, int) and n >= 0 for n in sizes):
            raise ValueError("a tensor's shape, strides and offset are not sizes")
        count = math.prod(shape)
        if not count:
            return np.zeros(shape, values.dtype)
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last >= values.size:
            raise ValueError(f"a tensor takes number {last} of a storage of {values.size}")
        self._left -= count * values.itemsize
        if self._left < 0:
            raise FileError(
                f"{self._path}: its tensors have more than {_SHARING} times the file's size, as "
                "when they share their numbers; save them one by one: tensor.clone()"
            )
        # The stride of an axis of one step says nothing, and may be any number.
        steps = [
            step * values.itemsize if n > 1 else 0 for n, step in zip(shape, strides, strict=True)
        ]
        return as_strided(values[offset:], shape, steps, writeable=False)


def _collect(
    path: str | os.PathLike[str],
    name: str,
    value: Any,
    depth: int,
    met: dict[int, bool],
    found: dict[str, Array],
) -> None:
    """Add the tensors in a value by name; `met` says of each container whether it had any."""
    if isinstance(value, np.ndarray):
        if name in found:
            raise FileError(f"{path}: the name {name[:80]!r} stands for two tensors")
        found[name] = value
        return
    if met.get(id(value), False) or depth > _DEEPEST:
        raise FileError(
            f"{path}: {name[:80]!r} holds itself, is there twice, or has more than "
            f"{_DEEPEST} levels; expected a state_dict"
        )
    if id(value) in met:
        return
    met[id(value)] = True
    before = len(found)
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if not isinstance(inner, np.ndarray | dict | list | tuple):
            continue
        if len(name) + len(str(key)) >= _LONGEST_NAME:  # before it is put together
            raise FileError(f"{path}: a name that begins with {name[:80]!r} is too long")
        _collect(path, f"{name}.{key}" if depth else str(key), inner, depth + 1, met, found)
    met[id(value)] = len(found) > before


def _kind(value: Any) -> str:
    return "a tensor" if isinstance(value, np.ndarray) else type(value).__name__.strip("_")


def _plain(value: str | int | tuple[int, ...]) -> bytes:
    """Return the instructions that make a text, a number or a tuple of numbers."""
    return pickle.dumps(value, 2)[2:-1]  # without those that begin and end a pickle


def _named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def _call(name: str, *arguments: bytes) -> tuple[bytes, ...]:
    """Return the instructions that call a function with a tuple."""
    return (_named(name), *arguments, pickle.REDUCE)


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add an entry whose content is aligned, by an extra field that nobody reads."""
    entry = zipfile.ZipInfo(f"archive/{name}")
    assert archive.fp is not None
    start = archive.fp.tell() + _ENTRY_HEADER + len(entry.filename) + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    archive.writestr(entry, content)
