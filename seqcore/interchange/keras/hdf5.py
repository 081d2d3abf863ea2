"""HDF5 as Keras writes it, read with as much care as a stranger's file needs.

Only groups are taken, and arrays whose numbers are in the file as they are. Links, external and
virtual storage are not followed, nothing is decompressed, and what is read takes no more memory
than the file has bytes.

Source: https://support.hdfgroup.org/documentation/hdf5/latest/_f_m_t3.html
"""

from __future__ import annotations

import importlib
import io
import math
import mmap
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import FileError
from seqcore.interchange.keras.shapes import is_state
from seqcore.spec.dtypes import numpy_dtype

Array = NDArray[Any]

LARGEST_TEXT = 2**24
"""How many characters a config may have; one of a hundred layers has 300,000."""

_DEEPEST = 16

# What h5py raises for a file that is not what it should be.
_HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, OverflowError, MemoryError)


class Hdf5:
    """An HDF5 file of which only what Keras writes is read.

    Args:
        path: The file's path, for messages.
        source: The file, or its content.
        budget: How many bytes its arrays may have in all: as many as the file has.
    """

    def __init__(self, path: Path, source: Path | io.BytesIO, budget: int) -> None:
        self._h5py = h5py(path)
        self._path = path
        self._budget = budget
        self._size = budget
        self._seen: set[int] = set()
        try:
            self._file = self._h5py.File(source, "r")
        except _HDF5_ERRORS as error:
            raise FileError(
                f"{path}: not an HDF5 file, or a truncated one: {error}; expected a file that "
                "Keras saved"
            ) from error

    def __enter__(self) -> Hdf5:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def text(self, name: str) -> str | None:
        """Return an attribute of the file that is one string, if there is one."""
        try:
            if name not in self._file.attrs:
                return None
            found = self._file.attrs.get_id(name)
            string = self._h5py.check_string_dtype(found.dtype)
            if string is None or found.shape != () or found.get_storage_size() > self._size:
                raise FileError(
                    f"{self._path}: attribute {name} has dtype {found.dtype}, shape {found.shape} "
                    f"and {found.get_storage_size()} bytes, expected one string"
                )
            if string.length is None:
                _check_text(self._path, name)
            value = self._file.attrs[name]
            value = value.decode() if isinstance(value, bytes) else str(value)
        except _HDF5_ERRORS as error:
            raise self._broken(f"attribute {name}", error) from error
        if len(value) > LARGEST_TEXT:
            raise FileError(
                f"{self._path}: attribute {name} has {len(value)} characters, expected at most "
                f"{LARGEST_TEXT}"
            )
        return value

    def arrays(self, groups: tuple[str, ...] = ()) -> dict[str, Array]:
        """Return all arrays of numbers by path, or those in some groups of the first level."""
        found: dict[str, Array] = {}
        self._walk(self._file, "", 0, groups, found)
        return found

    def _walk(
        self, group: Any, prefix: str, depth: int, groups: tuple[str, ...], found: dict[str, Array]
    ) -> None:
        try:
            for name in group:
                path = f"{prefix}{name}"
                if is_state(f"{path}/") or (groups and not prefix and name not in groups):
                    continue
                link = group.get(name, getlink=True)
                if not isinstance(link, self._h5py.HardLink):
                    kind = type(link).__name__
                    raise FileError(
                        f"{self._path}: {path} is a link ({kind}), which is not followed; save the "
                        "weights in one file with Keras"
                    )
                item = group[name]
                address = self._h5py.h5o.get_info(item.id).addr
                if address in self._seen or depth == _DEEPEST:
                    raise FileError(
                        f"{self._path}: {path} stands in the file twice, or is more than "
                        f"{_DEEPEST} groups deep, expected each array once"
                    )
                self._seen.add(address)
                if isinstance(item, self._h5py.Group):
                    self._walk(item, f"{path}/", depth + 1, groups, found)
                elif isinstance(item, self._h5py.Dataset):
                    found[path] = self._read(path, item)
        except _HDF5_ERRORS as error:
            raise self._broken(prefix or "its root", error) from error

    def _read(self, path: str, item: Any) -> Array:
        properties = item.id.get_create_plist()
        if item.is_virtual or properties.get_external_count():
            raise FileError(
                f"{self._path}: {path} has its numbers in other files, which are not read; save "
                "the weights in one file with Keras"
            )
        if properties.get_nfilters():
            raise FileError(
                f"{self._path}: {path} is compressed, and Keras compresses nothing; load it with "
                "Keras where you trust it, and save it again"
            )
        dtype = self._dtype(path, item)
        if item.shape is None:
            raise FileError(f"{self._path}: {path} has no shape, expected an array")
        wanted = math.prod(item.shape) * dtype.itemsize
        stored = item.id.get_storage_size()
        if wanted > min(stored, self._budget):
            raise FileError(
                f"{self._path}: {path} has shape {item.shape}, {wanted} bytes, expected at most "
                f"the {min(stored, self._budget)} that the file has for it"
            )
        self._budget -= wanted
        value: Array = np.asarray(item[()])
        if dtype.name == "bfloat16":
            return np.ascontiguousarray(value).view(dtype)
        return value.astype(dtype, copy=False)

    def _dtype(self, path: str, item: Any) -> np.dtype[Any]:
        dtype: np.dtype[Any] = item.dtype
        if dtype.kind in "fiu" and dtype.subdtype is None:
            return dtype.newbyteorder("=")
        if dtype.str == "|V2" and "dtype" in item.attrs:
            # HDF5 has no bfloat16; Keras stores the bits and says so in this attribute.
            return numpy_dtype("bfloat16")
        raise FileError(f"{self._path}: {path} has dtype {dtype}, expected numbers")

    def _broken(self, where: str, error: Exception) -> FileError:
        return FileError(f"{self._path}: {where} cannot be read: {error}; the file is damaged")


def h5py(path: str | os.PathLike[str]) -> Any:
    """Return the library.

    Raises:
        FileError: if it is not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise FileError(f"{path}: Keras's files need h5py; pip install h5py") from error


def _check_text(path: Path, name: str) -> None:
    """Check the length of an attribute of text, and the lists that texts are in.

    The library makes room for whatever length stands there, up to 4 GiB, and follows the lists
    forever if one does not end.

    Raises:
        FileError: if a length is more than the file has, or a list does not end.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            _check_lengths(content, name.encode() + b"\0")
            _check_heaps(content)
        except (struct.error, ValueError) as error:
            raise FileError(
                f"{path}: attribute {name} cannot be read: {error}; the file is damaged"
            ) from None


def _check_lengths(content: mmap.mmap, name: bytes) -> None:
    """Check the length in every attribute of a name, wherever its message is.

    A message has its version, the sizes of name, type and space, these three, and the value, which
    for text is its length and its place. In version 1 each is filled up to 8 bytes; version 3 has
    one more byte before the name.
    """
    place = content.find(name)
    while place >= 0:
        for version, header in ((1, 8), (2, 8), (3, 9)):
            if place >= header and content[place - header] == version:
                break
        else:
            raise ValueError("its message has another form")
        sizes = struct.unpack_from("<HHH", content, place - header + 2)
        value = place + sum(-(-size // 8) * 8 if version == 1 else size for size in sizes)
        (length,) = struct.unpack_from("<I", content, value)
        if length > len(content):
            raise ValueError(f"its length is {length}, and the file has {len(content)} bytes")
        place = content.find(name, place + 1)


def _check_heaps(content: mmap.mmap) -> None:
    """Check that the lists of texts end.

    A list has `GCOL`, its version and its size; each item has its number, other things and its
    size; the number 0 is the free space at the end.
    """
    # Lists do not overlap, so that all items together are no more than fit in the file.
    left = len(content) // 4
    start = content.find(b"GCOL\x01")
    while start >= 0:
        if start + 16 <= len(content):
            (size,) = struct.unpack_from("<Q", content, start + 8)
            place, end = start + 16, min(start + size, len(content))
            while place + 16 <= end:
                left -= 1
                if left < 0:
                    raise ValueError("its lists of texts overlap")
                number, _, _, length = struct.unpack_from("<HHIQ", content, place)
                if not number and not length:
                    raise ValueError("the list of texts that it is in does not end")
                place += -(-length // 8) * 8 + (16 if number else 0)
        start = content.find(b"GCOL\x01", start + 1)
