"""Writing a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from seqcore.errors import FileError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a new binary file that takes the place of `path` when the block ends well.

    Until then `path` is as it was; if the block raises, or is interrupted, the new file goes.

    Raises:
        FileError: if the file cannot be written.
    """
    from pathlib import Path  # takes 5 ms, which import seqcore is not to pay for

    target = Path(path)
    if not target.name:
        raise FileError(f"{os.fspath(path)!r}: is no file's name; choose one")
    # Named before it exists, so that an interrupt at any moment finds what to remove.
    new = target.with_name(f".{target.name}.{os.urandom(8).hex()}")
    try:
        with new.open("x+b") as file:
            yield file
            file.flush()
        new.replace(target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)
