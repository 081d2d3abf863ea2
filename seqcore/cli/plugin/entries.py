"""Which entry points `seqcore plugin check` is asked about; none of them is loaded here."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from seqcore.cli.plugin.probe import Load, Loaded, Prober
from seqcore.cli.plugin.steps import Steps
from seqcore.errors import ArgumentError, FileError
from seqcore.registry import Source, discover
from seqcore.spec.naming import nearest
from seqcore.spi.registration import ENTRY_POINT_GROUP

PROJECT_FILE = "pyproject.toml"


def discovered() -> list[Source]:
    """Return all installed entry points that give backends."""
    return discover(ENTRY_POINT_GROUP)


def released(distribution: str) -> str:
    """Return a distribution's name and version."""
    try:
        return f"{distribution} {version(distribution)}"
    except (PackageNotFoundError, ValueError):  # its metadata are damaged
        return distribution


def rivals(name: str, distribution: str) -> list[str]:
    """Return the other distributions that have an entry point of that name."""
    return [
        other.distribution
        for other in discovered()
        if other.name == name and not _same(other.distribution, distribution)
    ]


def of_project(folder: Path, steps: Steps) -> list[Source]:
    """Return the entry points of a project, as they are installed.

    Raises:
        FileError: if its `pyproject.toml` cannot be read, or describes no project.
        Stopped: if it declares none, or is not installed.
    """
    path = folder / PROJECT_FILE
    name, declared, elsewhere = _declared(path)
    if not declared and not elsewhere:
        raise steps.failed(
            "entry point",
            f"{path} declares none in the group {ENTRY_POINT_GROUP}",
            f'add [project.entry-points."{ENTRY_POINT_GROUP}"] with NAME = "package.registration"',
        )
    install = f"python -m pip install -e {folder}"
    try:
        version(name)
    except PackageNotFoundError:
        raise steps.failed("entry point", f"{name} is not installed", install) from None
    sources = [source for source in discovered() if _same(source.distribution, name)]
    installed = {one.name: one.entry.value for one in sources if one.entry is not None}
    if declared and installed != declared:
        raise steps.failed(
            "entry point",
            f"{path} declares {_listed(declared)}, and installed is {_listed(installed)}",
            f"install it again: {install}",
        )
    return sources


def of_backend(name: str, timeout: float) -> list[Source]:
    """Return the entry points that give a backend: those named like it, else one that does.

    Raises:
        ArgumentError: if there is none.
    """
    sources = discovered()
    named = [source for source in sources if source.name == name]
    if named:
        return named
    known = {source.name for source in sources}
    for source in one_a_module(sources):
        with contextlib.closing(Prober(timeout)) as prober:
            loaded = prober.ask(Load(source.distribution, source.name))
        if isinstance(loaded, Loaded):
            if name in loaded.names():
                return [source]
            known.update(loaded.names())
    raise ArgumentError(
        f"plugin check: nothing installed registers a backend {name!r}{nearest(name, known)}, "
        f"expected one of {', '.join(sorted(known)) or '(none is registered)'}, or the folder of "
        "a plugin"
    )


def one_a_module(sources: Sequence[Source]) -> list[Source]:
    """Return the first of those that name the same module: it gives the same each time."""
    found: dict[tuple[str, str], Source] = {}
    for source in sources:
        module = source.name if source.entry is None else source.entry.value
        found.setdefault((source.distribution, module), source)
    return list(found.values())


def _declared(path: Path) -> tuple[str, dict[str, str], bool]:
    """Return a project's name, its entry points, and whether it states those elsewhere."""
    try:
        project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        name: str = project["name"]
        entries = dict(project.get("entry-points", {}).get(ENTRY_POINT_GROUP, {}))
        return name, entries, "entry-points" in project.get("dynamic", [])
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: expected TOML, received {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            f"{path}: expected a table [project] with a name; for a project that is described "
            "in another way give the name of its backend"
        ) from error


def _same(one: str, other: str) -> bool:
    """Return whether two names are those of one distribution."""

    def normal(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    return normal(one) == normal(other)


def _listed(entries: dict[str, str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in entries.items()) or "nothing"
