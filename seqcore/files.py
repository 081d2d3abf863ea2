"""Reading plain files only, and writing a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from seqcore.errors import FileError


@contextlib.contextmanager
def reading(
    path: str | os.PathLike[str], subject: str | None = None
) -> Iterator[tuple[BinaryIO, int]]:
    """Open a plain file to read it, and say its size.

    A device or a pipe is none: it may have no end, or wait for a writer.

    Args:
        path: The file.
        subject: What messages call it; by default its path.

    Raises:
        FileError: if it is absent, may not be read, is no plain file, or fails while it is read.
    """
    subject = f"{path}" if subject is None else subject
    # Not blocking, so that a pipe is refused without waiting for its writer.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        handle = os.open(path, flags)
    except (TypeError, ValueError) as error:
        raise FileError(
            f"{subject}: cannot be read: {error}; expected the path of a file"
        ) from None
    except OSError as error:
        raise FileError(f"{subject}: cannot be read: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise FileError(f"{subject}: is not a plain file, expected one")
            yield file, status.st_size
    except OSError as error:
        raise FileError(f"{subject}: cannot be read: {error.strerror or error}") from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a new binary file that takes the place of `path` when the block ends well.

    Until then `path` is as it was; if the block raises, or is interrupted, the new file goes. A
    link stays, and the file that it leads to is replaced.

    Raises:
        FileError: if the file cannot be written, or `path` is there and no plain file: a device or
            a pipe would be gone afterwards.
    """
    from pathlib import Path  # takes 5 ms, which import seqcore is not to pay for

    target = Path(path)
    if target.is_symlink():
        target = target.resolve()
    if not target.name:
        raise FileError(f"{os.fspath(path)!r}: is no file's name; choose one")
    # Named before it exists, so that an interrupt at any moment finds what to remove.
    new = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    try:
        with contextlib.suppress(FileNotFoundError):
            if not stat.S_ISREG(target.stat().st_mode):
                raise FileError(
                    f"{target}: cannot be written: it is there and no plain file; choose another"
                )
        with new.open("x+b") as file:
            yield file
            file.flush()
        new.replace(target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # there may be no such folder
            new.unlink()
