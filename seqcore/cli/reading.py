"""What `seqcore run` reads: sequences from `.npy`, `.npz` and `.csv`, a few rows at a time.

Nothing in a file is executed, and of `.npy` and `.npz` no more is held than the rows in use: the
one is mapped into memory, the other is read on while it is decompressed.
"""

from __future__ import annotations

import contextlib
import math
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from seqcore.cli.csv_file import read_csv
from seqcore.errors import DtypeError, FileError, SeqcoreError, ShapeError
from seqcore.files import reading
from seqcore.spec.dtypes import DTYPES, numpy_dtype
from seqcore.spec.layers import AnyLayer
from seqcore.spec.naming import nearest
from seqcore.spec.outputs import state_names

SUFFIXES = (".npy", ".npz", ".csv")
_STATE = "initial_state."


class Rows(ABC):
    """An array that is read from its first row to its last, once."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @abstractmethod
    def take(self, count: int) -> NDArray[Any]:
        """Return the next rows."""


@dataclass(frozen=True, slots=True)
class Input:
    """The arrays of one run. All have as many rows as `x`.

    Attributes:
        x: The input, (batch, time, features).
        lengths: The lengths, if the file has them.
        mask: The mask, if the file has one.
        initial_state: The states in the layer's order, or nothing.
        sequences: For a file with a sequence column, each sequence's name and steps.
    """

    x: Rows
    lengths: Rows | None = None
    mask: Rows | None = None
    initial_state: tuple[Rows, ...] = ()
    sequences: tuple[tuple[str, int], ...] = ()

    def batches(self, size: int) -> Iterator[tuple[NDArray[Any], dict[str, Any]]]:
        """Yield `x` and the other arguments of a layer, `size` rows at a time.

        There is always one batch, if only an empty one: what the layer returns for it has names,
        shapes and dtypes.
        """
        total = self.x.shape[0]
        for start in range(0, max(1, total), size):
            count = min(size, total - start)
            yield (
                self.x.take(count),
                {
                    "lengths": None if self.lengths is None else self.lengths.take(count),
                    "mask": None if self.mask is None else self.mask.take(count),
                    "initial_state": tuple(s.take(count) for s in self.initial_state) or None,
                },
            )


@contextlib.contextmanager
def open_input(
    path: Path, layer: AnyLayer, dtype: str | None, sequence_column: str | None
) -> Iterator[Input]:
    """Open an input file for the length of a block.

    Args:
        path: The file.
        layer: What will run; it says which initial states there are.
        dtype: The weights' dtype, or None where there are none yet.
        sequence_column: The column of a `.csv` file that says which sequence a row belongs to.

    Raises:
        FileError: if the file is absent, truncated or not what it says.
        InputError: if its `x` is none that a layer takes.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(
            f"{path}: suffix {path.suffix or '(none)'}, expected an input in one of "
            f"{', '.join(SUFFIXES)}"
        )
    if sequence_column is not None and suffix != ".csv":
        raise FileError(
            f"{path}: --sequence-column was given, expected a .csv file with it; leave it out: "
            "the rows of an array are its sequences"
        )
    with contextlib.ExitStack() as stack:
        if suffix == ".csv":
            opened = _from_csv(path, dtype or "float32", sequence_column)
        elif suffix == ".npy":
            opened = Input(_mapped(path, dtype))
        else:
            opened = _from_npz(path, stack, layer, dtype)
        _check(path, opened)
        yield opened


class _InMemory(Rows):
    """An array in memory, or mapped into it."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.shape, self.dtype = array.shape, array.dtype
        self._array = array
        self._next = 0

    def take(self, count: int) -> NDArray[Any]:
        self._next += count
        return self._array[self._next - count : self._next]


class _Member(Rows):
    """An array in a `.npz` file, read on as its rows are wanted."""

    def __init__(self, subject: str, file: IO[bytes], size: int, dtype: str | None) -> None:
        with _sound(subject):
            self.shape, columns_first, stored = _header(file)
            expected = file.tell() + stored.itemsize * math.prod(self.shape)
        _check_stored(subject, stored)
        if size != expected:
            raise FileError(
                f"{subject}: holds {size} bytes, expected {expected} for shape {self.shape} of "
                f"{stored.name}; write the file again"
            )
        self._subject, self._file, self._stored = subject, file, stored
        self.dtype = _understood(stored, dtype)
        self._whole: Rows | None = None
        if columns_first:  # its rows are spread over all of the file
            flat = self._read(math.prod(self.shape))
            self._whole = _InMemory(flat.reshape(self.shape, order="F"))

    def take(self, count: int) -> NDArray[Any]:
        if self._whole is not None:
            return self._whole.take(count)
        shape = (count, *self.shape[1:])
        return self._read(math.prod(shape)).reshape(shape)

    def _read(self, count: int) -> NDArray[Any]:
        with _sound(self._subject):
            content = self._file.read(count * self._stored.itemsize)
            return np.frombuffer(content, self._stored, count).view(self.dtype)


def _mapped(path: Path, dtype: str | None) -> Rows:
    _check_readable(path)
    with _sound(str(path)), path.open("rb") as file:
        _, _, stored = _header(file)
    _check_stored(str(path), stored)
    with _sound(str(path)):
        array = np.lib.format.open_memmap(path, mode="r")
    return _InMemory(array.view(_understood(stored, dtype)))


def _from_npz(path: Path, stack: contextlib.ExitStack, layer: AnyLayer, dtype: str | None) -> Input:
    _check_readable(path)
    with _sound(str(path)):
        archive = stack.enter_context(zipfile.ZipFile(path))
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    keys = {name.removesuffix(".npy"): name for name in sizes}
    states = [_STATE + name for name in state_names(layer)]
    _check_keys(path, keys, states)

    def member(key: str) -> Rows | None:
        if key not in keys:
            return None
        subject = f"{path}: {key}"
        with _sound(subject):
            file = stack.enter_context(archive.open(keys[key]))
        return _Member(subject, file, sizes[keys[key]], dtype)

    x = member("x")
    assert x is not None
    given = tuple(rows for rows in map(member, states) if rows is not None)
    return Input(x, member("lengths"), member("mask"), given)


def _check_keys(path: Path, keys: Mapping[str, str], states: list[str]) -> None:
    known = ["x", "lengths", "mask", *states]
    for key in keys:
        if key not in known:
            raise FileError(
                f"{path}: unknown key {key!r}{nearest(key, known)}, expected {', '.join(known)}"
            )
    if "x" not in keys:
        raise FileError(
            f"{path}: has keys {', '.join(keys) or '(none)'}, expected x, the input; write it "
            "with np.savez(path, x=x)"
        )
    absent = [name for name in states if name not in keys]
    if absent and len(absent) < len(states):
        raise FileError(
            f"{path}: {', '.join(absent)} missing, expected all of {', '.join(states)} or none"
        )


def _from_csv(path: Path, dtype: str, sequence_column: str | None) -> Input:
    _check_readable(path)
    table = read_csv(path, numpy_dtype(dtype), sequence_column)
    lengths = None if table.lengths is None else _InMemory(table.lengths)
    return Input(_InMemory(table.x), lengths, sequences=table.sequences)


def _check(path: Path, opened: Input) -> None:
    """Check what only the whole file shows; the rest is for the layer to judge."""
    x = opened.x
    if len(x.shape) != 3:
        hint = "; one sequence is a batch of one: x[None]" if len(x.shape) == 2 else ""
        raise ShapeError(f"{path}: x has shape {x.shape}, expected (batch, time, features){hint}")
    if x.shape[2] == 0:
        raise ShapeError(f"{path}: x has shape {x.shape}, expected at least one feature")
    if x.dtype.name not in DTYPES:
        raise DtypeError(
            f"{path}: x is {x.dtype.name}, expected one of {', '.join(DTYPES)}; cast it before "
            "it is written: x.astype('float32')"
        )
    named = {"lengths": opened.lengths, "mask": opened.mask}
    named |= {f"{_STATE}*": rows for rows in opened.initial_state}
    for name, rows in named.items():
        if rows is not None and rows.shape[:1] != x.shape[:1]:
            raise ShapeError(
                f"{path}: {name} has shape {rows.shape} and x has shape {x.shape}, expected as "
                "many rows"
            )


def _check_readable(path: Path) -> None:
    """Check that a file is there, is a plain one and may be read."""
    with reading(path):
        pass


def _check_stored(subject: str, dtype: np.dtype[Any]) -> None:
    if dtype.hasobject:
        raise FileError(
            f"{subject}: holds Python objects, expected numbers; reading them would run code from "
            "the file, so write an array of numbers"
        )


def _understood(stored: np.dtype[Any], wanted: str | None) -> np.dtype[Any]:
    """Return the dtype that the bytes mean: the format has no word for bfloat16, but two bytes."""
    if wanted == "bfloat16" and stored == np.dtype("V2"):
        return numpy_dtype("bfloat16")
    return stored


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the shape, whether columns come first, and the dtype of a `.npy` file."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"format version {version}, expected (1, 0) or (2, 0)")
    shape, columns_first, dtype = readers[version](file)
    if min(shape, default=0) < 0:  # two of them would make a size that looks right
        raise ValueError(f"negative shape {shape}")
    return shape, columns_first, dtype


@contextlib.contextmanager
def _sound(subject: str) -> Iterator[None]:
    """Turn whatever a damaged or hostile file makes a reader raise into a `FileError`."""
    try:
        yield
    except SeqcoreError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileError(
            f"{subject}: damaged, truncated or not what its name says: {reason}; write it again "
            "with np.save or np.savez"
        ) from error
