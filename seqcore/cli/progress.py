"""What a command is doing and how far it is, on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.conformance.model import Status
    from seqcore.conformance.session import Progress


PATIENCE = 2.0
"""Seconds after which a command tells what it is doing, where there is no terminal."""


@contextlib.contextmanager
def show_stages() -> Iterator[Callable[[str], None]]:
    """Show on standard error what is done next: in a terminal a line, else lines if it is long."""
    console = common.error_console()
    start = time.monotonic()

    def tell(stage: str) -> None:
        if time.monotonic() - start >= PATIENCE:
            print(stage, file=sys.stderr, flush=True)

    if not console.is_terminal:
        yield tell
        return
    with console.status("") as status:
        yield status.update


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

    def tell(line: str) -> None:
        sys.stderr.write(f"{line}\n")  # in one piece: several threads do so
        sys.stderr.flush()

    def show(engine: str, done: int, case: str, status: Status | None) -> None:
        if status in ("fail", "error") and case:
            tell(f"{engine}: {case}: {status}")
        if status is not None and (done % step == 0 or done == total):
            tell(f"{engine}: {done} of {total}")

    return show
