"""The conformance suite's smoke tier on one backend, with no files left."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from seqcore.conformance.report.model import Report
    from seqcore.conformance.session import Progress

ShowProgress = Callable[[int], contextlib.AbstractContextManager["Progress"]]
"""Given the number of cases, shows how far a run is."""

_SHOWN_FAILURES = 5


def run_smoke_tier(name: str, timeout: float, show_progress: ShowProgress) -> Report:
    """Run the smoke tier on a backend, which has a process of its own.

    Raises:
        SeqcoreError: if the suite cannot be run.
    """
    from seqcore import __version__
    from seqcore.conformance import clauses, waivers
    from seqcore.conformance.cases import of_tier
    from seqcore.conformance.journal import Header, Journal
    from seqcore.conformance.plugins import collect
    from seqcore.conformance.runner import Settings
    from seqcore.conformance.session import Session

    known = collect()
    cases = list(of_tier(known, "smoke"))
    settings = Settings(timeout=timeout)
    header = Header(
        seqcore=__version__, spec=clauses.version(), seed=settings.seed, tier="smoke", options={}
    )
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        journal = Journal(Path(folder, "journal.jsonl"), header, resume=False)
        stack.enter_context(contextlib.closing(journal))
        session = Session(
            [name],
            cases,
            known=known,
            settings=settings,
            tier="smoke",
            jobs=1,
            journal=journal,
            waivers=waivers.from_plugins(known),
            progress=stack.enter_context(show_progress(len(cases))),
        )
        session.run()
    if session.report.interrupted:
        raise KeyboardInterrupt
    return session.report


def outcome(report: Report) -> str:
    """Return the outcome of a run, and the first failures, a line each."""
    from seqcore.conformance.report.wording import verdict

    failed = [row for one in report.backends for row in one.told()]
    lines = [f"smoke tier: {verdict(report)}", *report.reasons()]
    for row in failed[:_SHOWN_FAILURES]:
        found = row.findings[0].message.splitlines()[0] if row.findings else row.status
        lines.append(found if found.startswith(row.case) else f"{row.case}: {found}")
    if len(failed) > _SHOWN_FAILURES:
        lines.append(f"and {len(failed) - _SHOWN_FAILURES} more")
    return "\n".join(lines)
