"""What a registration module imports, and all of it: frozen for good.

A registration module is the target of an entry point in the group `seqcore.backends`. It answers
one hook, `seqcore_backends() -> list[BackendSpec]`, and imports no framework. This module never
loses a name or a field, so that a backend written for a newer SPI is refused by its version and
not by an `ImportError`. New fields are added at the end, with defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pluggy

ENTRY_POINT_GROUP = "seqcore.backends"
PROJECT_NAME = "seqcore"

hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of a backend, settable by argument, block, environment and file.

    Attributes:
        type: The type of the value; environment variables are read as this.
        default: The value where nothing sets it; None means that the backend decides.
        choices: The values taken, or empty for any.
        help: One line for a reader of `seqcore backends`.
    """

    type: Literal["str", "int", "bool"] = "str"
    default: str | int | bool | None = None
    choices: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """A backend as its distribution announces it, before any framework is imported.

    Attributes:
        name: The name by which users choose it, lower-case, `a-z 0-9 -`.
        factory: `"module:attribute"`, called without arguments when the backend is first used.
        spi: The SPI version it was written for, `"major.minor"`.
        requires: Import names (top-level modules) that must be installed for the factory.
        options: The options it takes, by name.
        array_roots: Top-level module names of the array types that are its own.
        install_hint: The command that installs what it requires.
        summary: One line for listings.
    """

    name: str
    factory: str
    spi: str
    requires: tuple[str, ...] = ()
    options: Mapping[str, Option] = field(default_factory=dict)
    array_roots: tuple[str, ...] = ()
    install_hint: str = ""
    summary: str = ""
