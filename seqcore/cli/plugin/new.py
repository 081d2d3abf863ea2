"""`seqcore plugin new`: a plugin that works, written from the files in `template`."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from seqcore.errors import ArgumentError, FileError

LONGEST_NAME = 40
"""With longer names the generated lines would be too long."""

_WORDS = ("diff",)
"""What stands in the place of a backend's name on the command line."""

_PLACEHOLDER = re.compile(r"__[A-Z]+__")


def create(name: str, folder: Path) -> list[str]:
    """Write a plugin for the backend `name`, as a whole or not at all.

    Args:
        name: The backend's name.
        folder: Where to; it may exist if it is empty.

    Returns:
        The files, relative to the folder.

    Raises:
        ArgumentError: if the name cannot be a new backend's.
        FileError: if the folder is not empty, or cannot be written.
    """
    check_name(name)
    # Absolute, so that `.` has a name and a folder above it.
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow a link
    _check_folder(folder)
    filled = filled_files(name)
    try:
        _write(folder, filled)
    except OSError as error:
        raise FileError(f"{folder}: cannot be written: {error.strerror or error}") from error
    return list(filled)


def check_name(name: str) -> None:
    """Check that a name can be that of a new backend.

    Raises:
        ArgumentError: if not.
    """
    from seqcore.registry import name_fault, registry

    fault = name_fault(name)
    if fault is not None:
        raise ArgumentError(f"plugin new: {fault}")
    if len(name) > LONGEST_NAME:
        raise ArgumentError(
            f"plugin new: name {name!r} has {len(name)} characters, expected {LONGEST_NAME} at most"
        )
    if name in _WORDS:
        raise ArgumentError(
            f"plugin new: name {name!r} is a word of `seqcore conform`; choose another"
        )
    if registry.knows(name):
        raise ArgumentError(
            f"plugin new: name {name!r} is taken, as `seqcore backends` shows; choose another"
        )
    if find_spec(package_name(name)) is not None:
        raise ArgumentError(
            f"plugin new: name {name!r} needs the package {package_name(name)}, which is installed "
            "already; choose another"
        )


def package_name(name: str) -> str:
    """Return the import package of a backend's plugin; no keyword and no standard module is so."""
    return f"seqcore_{name.replace('-', '_')}"


def seqcore_range(version: str) -> str:
    """Return the releases of seqcore that a plugin written for `version` may run with.

    Before 1.0 a release that raises the middle number may change the SPI, from then on one that
    raises the first.
    """
    major, minor = map(int, version.split(".")[:2])
    last = f"0.{minor + 1}" if major == 0 else f"{major + 1}"
    return f"seqcore>={major}.{minor},<{last}"


def filled_files(name: str) -> dict[str, str]:
    """Return the text of every file of a plugin, by its path."""
    from seqcore import __version__
    from seqcore.spi.version import SPI_VERSION

    package = package_name(name)
    values = {
        "__NAME__": name,
        "__PACKAGE__": package,
        "__CLASS__": "".join(part.capitalize() for part in name.split("-")),
        "__SPI__": SPI_VERSION,
        "__SEQCORE__": seqcore_range(__version__),
    }
    templates = {
        "pyproject.toml": "pyproject.toml.txt",
        "README.md": "README.md.txt",
        ".gitignore": "gitignore.txt",
        ".github/workflows/ci.yml": "ci.yml.txt",
        f"{package}/__init__.py": "init.py.txt",
        f"{package}/py.typed": "py.typed.txt",
        f"{package}/registration.py": "registration.py.txt",
        f"{package}/backend.py": "backend.py.txt",
        "tests/test_conformance.py": "test_conformance.py.txt",
    }
    source = files("seqcore.cli.plugin").joinpath("template")
    return {
        path: _PLACEHOLDER.sub(
            lambda found: values[found[0]], source.joinpath(template).read_text(encoding="utf-8")
        )
        for path, template in templates.items()
    }


def _check_folder(folder: Path) -> None:
    if folder.is_dir():
        if any(folder.iterdir()):
            raise FileError(
                f"{folder}: is not empty, and nothing is replaced; choose another with --path"
            )
    elif folder.exists() or folder.is_symlink():
        raise FileError(f"{folder}: is a file, expected a folder to write; choose another")
    elif not folder.parent.is_dir():
        raise FileError(
            f"{folder}: cannot be written: there is no folder {folder.parent}; make it first"
        )


def _write(folder: Path, filled: Mapping[str, str]) -> None:
    """Write all files beside the folder, and then put them in place together."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as staging:
        whole = Path(staging, "whole")
        for path, text in filled.items():
            target = whole / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        if folder.exists():
            # It is filled, not replaced: somebody may be working in it.
            _move_into(folder, whole)
        else:
            whole.rename(folder)


def _move_into(folder: Path, whole: Path) -> None:
    moved: list[Path] = []
    try:
        for entry in sorted(whole.iterdir()):
            moved.append(folder / entry.name)
            entry.rename(folder / entry.name)
    except BaseException:
        for path in moved:
            if path.exists():
                path.rename(whole / path.name)
        raise
