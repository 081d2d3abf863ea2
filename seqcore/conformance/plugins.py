"""What other distributions add to the suite, and all cases together."""

from __future__ import annotations

import contextlib
import functools
import sys
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Any

import pluggy

from seqcore.conformance.cases import all_cases, check_cases
from seqcore.conformance.model import Case
from seqcore.errors import SeqcoreError
from seqcore.spi import hookspecs
from seqcore.spi.registration import PROJECT_NAME

GROUP = "seqcore.conformance"
"""The entry-point group whose modules answer the suite's hooks."""

INSTALL = "pip install pytest hypothesis"


class PluginBroken(SeqcoreError):
    """A plugin of the suite cannot be used."""


def hooks() -> Any:
    """Return the hooks of all installed plugins.

    Raises:
        PluginBroken: if one cannot be used.
    """
    return manager().hook


@functools.cache
def manager() -> pluggy.PluginManager:
    """Return the plugins of the suite.

    Raises:
        PluginBroken: if one cannot be imported or answers a hook that there is not.
    """
    found = pluggy.PluginManager(PROJECT_NAME)
    found.add_hookspecs(hookspecs)
    for entry in entry_points(group=GROUP):
        owner = entry.dist.name if entry.dist else "an unnamed distribution"
        try:
            with contextlib.redirect_stdout(sys.stderr):
                found.register(entry.load(), name=f"{owner}: {entry.name}")
            found.check_pending()
        except Exception as error:
            raise PluginBroken(
                f"entry point {entry.name!r} of {owner} in the group {GROUP!r}: {error}; repair or "
                f"uninstall {owner}"
            ) from error
    return found


@functools.cache
def collect() -> tuple[Case, ...]:
    """Return the suite's own cases and those of plugins, in a fixed order.

    Raises:
        PluginBroken: if a plugin cannot be used, or its cases cannot.
        SeqcoreError: if the extra is not installed.
    """
    require_extra("hypothesis")
    own = all_cases()
    given = [case for answer in hooks().seqcore_conformance_cases() for case in answer]
    # A law made by the decorator may be among the suite's own already.
    added = [case for case in given if not any(case is one for one in own)]
    for case in added:
        if not isinstance(case, Case):
            raise PluginBroken(
                f"seqcore_conformance_cases: received {type(case).__name__}, expected ValueCase "
                "or LawCase"
            )
    try:
        check_cases([*own, *added])
    except ValueError as error:
        raise PluginBroken(f"seqcore_conformance_cases: {error}") from error
    return (*own, *added)


def require_extra(*modules: str) -> None:
    """Check that modules of the extra are installed.

    Raises:
        SeqcoreError: if not, with the line that installs them.
    """
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise SeqcoreError(
            f"the conformance suite requires {', '.join(missing)}, which is not installed; "
            f"install it: {INSTALL}"
        )
