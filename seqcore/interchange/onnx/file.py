"""ONNX files: a model with all its weights, those in other files beside it included.

Nothing in a file is executed, and no more is read than the files hold. Weights in other files are
taken only from plain files in the model's own folder or below it.

Source: https://onnx.ai/onnx/repo-docs/ExternalData.html.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from seqcore.errors import ConversionError, FileError
from seqcore.files import reading, replacing
from seqcore.interchange.onnx import library, model_of
from seqcore.interchange.onnx.graph import short
from seqcore.interchange.onnx.tensor import DTYPES, count_of, kind_of, shown

MOST_BYTES = 2**31 - 1
"""What one message of protobuf holds, and with it one model with all its weights."""


def read_onnx(path: str | os.PathLike[str]) -> Any:
    """Return the `onnx.ModelProto` in a file, with all its weights inside.

    Raises:
        FileError: if the file is absent, truncated or no model, or its weights are in files that
            are absent, too short, or not in its own folder.
        ConversionError: if onnx is not installed.
    """
    library()
    with reading(path) as (file, size):
        if size > MOST_BYTES:
            raise FileError(f"{path}: has {size} bytes, expected at most {MOST_BYTES}")
        content = _exactly(path, file, size)
    try:
        model = model_of(content)
    except ConversionError as error:
        raise FileError(f"{path}: {str(error).removeprefix('from onnx: ')}") from None
    _Beside(Path(path), MOST_BYTES - size).load(model)
    return model


def write_onnx(path: str | os.PathLike[str], model: Any) -> None:
    """Write an `onnx.ModelProto` to one file, as a whole or not at all.

    Raises:
        FileError: if the file cannot be written, or the model is too large for one.
    """
    library()
    size = model.ByteSize()
    if size > MOST_BYTES:
        raise FileError(
            f"{path}: the model has {size} bytes, expected at most {MOST_BYTES}, what one file "
            "holds; convert the members one by one"
        )
    with replacing(path) as file:
        file.write(model.SerializeToString())


class _Beside:
    """Reads the weights of a model that are in other files."""

    def __init__(self, file: Path, left: int) -> None:
        self._file = file
        self._left = left  # what one model may hold beyond what it does
        self._unread: dict[str, int] = {}  # the bytes of each file that no tensor had yet

    def load(self, model: Any) -> None:
        """Put the numbers of every tensor outside into the model."""
        from onnx import TensorProto

        for tensor in _tensors(model):
            if tensor.data_location == TensorProto.EXTERNAL:
                tensor.raw_data = self._numbers(tensor)
                tensor.data_location = TensorProto.DEFAULT
                del tensor.external_data[:]

    def _numbers(self, tensor: Any) -> bytes:
        subject = f"{self._file}: the tensor {short(tensor.name)}"
        kind = kind_of(tensor)
        if kind not in DTYPES:
            raise FileError(
                f"{subject} has data of type {kind or tensor.data_type} in another file, expected "
                f"one of {', '.join(DTYPES)}"
            )
        try:
            expected = count_of(subject, tensor) * DTYPES[kind].itemsize
        except ConversionError as error:
            raise FileError(str(error)) from None
        entries = {entry.key: entry.value for entry in tensor.external_data}
        offset = _number(subject, "offset", entries.get("offset", "0"))
        length = _number(subject, "length", entries.get("length", str(expected)))
        if length != expected:
            raise FileError(
                f"{subject} has {length} bytes in another file, expected {expected} for {kind} "
                f"{shown(tensor)}"
            )
        name = entries.get("location", "")
        place = self._place(subject, name)
        with reading(place, f"{self._file}: {short(place.name)} beside it") as (file, size):
            # No byte twice, so that a small file cannot fill the memory.
            self._unread[name] = self._unread.get(name, size) - length
            self._left -= length
            if offset + length > size or self._unread[name] < 0 or self._left < 0:
                raise FileError(
                    f"{subject} has {length} bytes from {offset} on in {short(name)}, which has "
                    f"{size}; expected all tensors inside, each byte used once, and at most "
                    f"{MOST_BYTES} in all"
                )
            file.seek(offset)
            return _exactly(self._file, file, length)

    def _place(self, subject: str, name: str) -> Path:
        """Return where a file beside the model is.

        Raises:
            FileError: if that is not in the model's folder, by its name or by a link.
        """
        steps = PurePosixPath(name).parts
        plain = name and name.isprintable() and not set(name) & set("\\:") and len(name) <= 1024
        if not plain or name.startswith("/") or ".." in steps:
            raise FileError(
                f"{subject} is in the file {short(name)}, expected a plain name in the model's "
                "folder or below it"
            )
        place = self._file.parent
        for step in steps:
            place /= step
            if place.is_symlink():
                raise FileError(
                    f"{subject} is in the file {short(name)}, where {short(step)} is a link; "
                    "expected plain files in the model's folder or below it"
                )
        return place


def _exactly(model: str | os.PathLike[str], file: BinaryIO, length: int) -> bytes:
    content = file.read(length)
    if len(content) != length:
        raise FileError(f"{model}: ended after {len(content)} of {length} bytes")
    return content


def _tensors(model: Any) -> Iterator[Any]:
    """Yield every tensor that is looked at."""
    yield from model.graph.initializer
    for node in model.graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t


def _number(subject: str, name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise FileError(f"{subject}: {name} is {short(text)}, expected a number of bytes")
    return int(text)
