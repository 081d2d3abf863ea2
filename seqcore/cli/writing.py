"""What `seqcore run` writes: outputs in `.npz` or `.npy`, row by row, as a whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import FileError
from seqcore.files import replacing

SUFFIXES = (".npz", ".npy")
Append: TypeAlias = "Callable[[tuple[NDArray[Any], ...]], None]"


def check_output(path: Path, names: tuple[str, ...], source: Path) -> None:
    """Check, before any work, that the outputs can go where they shall.

    Raises:
        FileError: if they cannot.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise FileError(
            f"{path}: suffix {path.suffix or '(none)'}, expected an output in one of "
            f"{', '.join(SUFFIXES)}"
        )
    if suffix == ".npy" and len(names) > 1:
        raise FileError(
            f"{path}: the layer returns {', '.join(names)}, expected one output for a .npy file; "
            "name an .npz file"
        )
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected a file to write")
    if path.exists() and source.exists() and path.samefile(source):
        raise FileError(f"{path}: is the input, which is never replaced; name another output")


@contextlib.contextmanager
def writing(path: Path, names: tuple[str, ...], total: int) -> Iterator[Append]:
    """Give a block a function that appends the next rows of every output.

    The file appears when the block ends well; otherwise nothing is left.

    Args:
        path: The file.
        names: The outputs' names; a `.npy` file holds one.
        total: How many rows there will be.
    """
    with replacing(path) as target, contextlib.ExitStack() as stack:
        single = path.suffix.lower() == ".npy"
        # A zip file takes one member after the other, and rows of all outputs come together.
        # These files have no name: even a killed process leaves none of them.
        files = [
            target if single else stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
            for _ in names
        ]
        started = False

        def append(outputs: tuple[NDArray[Any], ...]) -> None:
            nonlocal started
            for file, rows in zip(files, outputs, strict=True):
                if not started:
                    _write_header(file, (total, *rows.shape[1:]), rows.dtype)
                file.write(rows.tobytes())
            started = True

        yield append
        if not single:
            _zip(target, names, files)


def _write_header(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    descr = np.lib.format.dtype_to_descr(dtype)
    np.lib.format.write_array_header_1_0(
        file, {"shape": shape, "fortran_order": False, "descr": descr}
    )


def _zip(target: IO[bytes], names: tuple[str, ...], files: list[IO[bytes]]) -> None:
    with zipfile.ZipFile(target, "w") as archive:
        for name, file in zip(names, files, strict=True):
            file.seek(0)
            # Without the time of writing, the same outputs are the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(entry, "w", force_zip64=True) as member:
                shutil.copyfileobj(file, member)
