"""Writing a file as a whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seqcore.errors import FileError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a new binary file that takes the place of `path` when the block ends well.

    Until then `path` is as it was; if the block raises, or is interrupted, the new file goes.

    Raises:
        FileError: if the file cannot be written.
    """
    import tempfile

    target = Path(path)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
        # mkstemp is for secrets and allows nobody else to read; an ordinary file does.
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)
        Path(name).replace(target)
    except OSError as error:
        raise FileError(f"{target}: cannot be written: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
