"""The hooks that a plugin may answer.

A hook that is not here is an error in a plugin, unless it is marked
`hookimpl(optionalhook=True)`: a misspelt name must not pass for silence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqcore.spi.registration import BackendSpec, hookspec


@hookspec(firstresult=True)
def seqcore_backends() -> list[BackendSpec]:
    """Announce backends; answered by the module that an entry point in `seqcore.backends` names.

    Called once, when a backend of that module may be wanted. The module is called alone, in a
    plugin manager of its own, so no other plugin can answer before it or wrap it. Answering
    imports no framework and prints nothing (standard output goes to standard error meanwhile).

    Returns:
        At least one description; several backends may come from one module.
    """
    raise NotImplementedError


@hookspec
def seqcore_conformance_cases() -> list[Any]:
    """Add cases to the conformance suite; answered by a module of the group `seqcore.conformance`.

    An entry point in that group names the module, which may import `seqcore.conformance`. It is
    imported, and asked, in the command's process and in each backend's.

    Returns:
        Instances of `seqcore.conformance.ValueCase` and `seqcore.conformance.LawCase`.
    """
    raise NotImplementedError


@hookspec
def seqcore_conformance_waivers() -> list[Any]:
    """Waive failures; answered by a module of the group `seqcore.conformance`.

    Returns:
        Instances of `seqcore.conformance.Waiver`.
    """
    raise NotImplementedError


@hookspec
def seqcore_report_finished(report: Any, folder: Path) -> None:
    """Learn of a run of the conformance suite; answered as the hooks above are.

    Called once, when all files have been written, also after Ctrl-C.

    Args:
        report: A `seqcore.conformance.report.model.Report`.
        folder: Where the files are.
    """
    raise NotImplementedError
