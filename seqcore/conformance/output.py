"""The folder that a run leaves: the report in its forms, and a script for each failure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from seqcore.conformance.model import Case
from seqcore.conformance.plugins import hooks
from seqcore.conformance.report.junit import junit
from seqcore.conformance.report.model import Report, Row, to_json
from seqcore.conformance.report.page import page
from seqcore.conformance.report.summary import summary
from seqcore.conformance.reproduction import MARK, script
from seqcore.conformance.waivers import FAILURES
from seqcore.errors import FileError
from seqcore.files import reading, replacing

JOURNAL = "journal.jsonl"
SCRIPTS = "reproduce"
_ODD = re.compile(r"[^\w.-]+")


def prepare(folder: Path) -> Path:
    """Make the folder, and return where the journal belongs in it.

    Raises:
        FileError: if it cannot be made.
    """
    try:
        (folder / SCRIPTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: cannot be made: {error.strerror or error}") from error
    return folder / JOURNAL


def write(
    report: Report, folder: Path, cases: Mapping[str, Case], options: Mapping[str, str]
) -> None:
    """Write everything, with the paths of the scripts in the report, and tell the plugins.

    Args:
        report: What was found; its rows are given the paths of their scripts.
        folder: Where to.
        cases: By identifier.
        options: The backends' options.

    Raises:
        FileError: if a file cannot be written.
    """
    for old in (folder / SCRIPTS).glob("*.py"):
        if _is_ours(old):
            old.unlink()
    for backend in report.backends:
        backend.rows = [
            _with_script(row, backend.name, folder, cases, report.seed, options)
            for row in backend.rows
        ]
    files = {
        "report.json": to_json(report),
        "report.html": page(report).encode(),
        "junit.xml": junit(report),
        "summary.md": summary(report).encode(),
    }
    for name, data in files.items():
        with replacing(folder / name) as file:
            file.write(data)
    hooks().seqcore_report_finished(report=report, folder=folder)


def _is_ours(path: Path) -> bool:
    """Return whether a file is a script of a run before, and not something of the user's."""
    try:
        with reading(path) as (file, _):
            return file.readline(len(MARK) + 1).decode(errors="replace").rstrip() == MARK
    except FileError:
        return False


def _with_script(
    row: Row,
    backend: str,
    folder: Path,
    cases: Mapping[str, Case],
    seed: int,
    options: Mapping[str, str],
) -> Row:
    """Return a row with the path of the script that reproduces it, written if it ran and failed."""
    if row.status not in (*FAILURES, "waived") or not row.tried:
        return row
    path = folder / SCRIPTS / f"{_ODD.sub('-', f'{backend}-{row.case}').strip('-')}.py"
    with replacing(path) as file:
        file.write(script(cases[row.case], path.name, seed, options).encode())
    return msgspec.structs.replace(row, script=str(path))
