"""How far a run of the conformance suite is, on standard error."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.conformance.model import Status
    from seqcore.conformance.session import Progress


@contextlib.contextmanager
def show_progress(total: int) -> Iterator[Progress]:
    """Show on standard error how far each backend is: in a terminal a bar, else some lines."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = common.error_console()
    if not console.is_terminal:
        yield _lines(total)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        tasks = {}

        def show(engine: str, done: int, case: str, status: Status | None) -> None:
            if engine not in tasks:
                tasks[engine] = bars.add_task(engine, total=total, now="")
            bars.update(tasks[engine], completed=done, now=case if done < total else "")
            if status in ("fail", "error") and case:
                bars.console.print(f"{engine}: {case}: {status}")

        yield show


def _lines(total: int) -> Progress:
    step = max(25, total // 10)

    def show(engine: str, done: int, case: str, status: Status | None) -> None:
        if status in ("fail", "error") and case:
            print(f"{engine}: {case}: {status}", file=sys.stderr, flush=True)
        if status is not None and (done % step == 0 or done == total):
            print(f"{engine}: {done} of {total}", file=sys.stderr, flush=True)

    return show
