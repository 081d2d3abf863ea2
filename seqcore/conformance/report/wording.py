"""How statuses, numbers and long texts read, the same in every form of the report."""

from __future__ import annotations

import re
from collections.abc import Mapping

from seqcore.conformance.model import Finding, Status
from seqcore.conformance.report.model import Cell, Report, Worst, plural

SYMBOLS: Mapping[Status, str] = {
    "pass": "\N{CHECK MARK}",
    "fail": "\N{BALLOT X}",
    "error": "!",
    "waived": "~",
    "unsupported": "–",
    "not-implemented": "○",
}
"""One sign for each status, so that none needs colour to be read."""

# What colours a terminal: a library's errors may bring it along.
_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# What neither XML nor a terminal should be given: control characters and halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def verdict(report: Report) -> str:
    """Return the outcome of a run in one line."""
    counts = report.counts()
    total = sum(counts.values())
    figures = ", ".join(f"{count} {status}" for status, count in counts.items())
    names = ", ".join(one.name for one in report.backends)
    outcome = "FAILED" if report.failed else "INTERRUPTED" if report.interrupted else "PASSED"
    ran = plural(total, "result")
    return f"{outcome}: {ran} on {names or 'no backend'}" + (f" ({figures})" if figures else "")


def cell_text(cell: Cell) -> str:
    """Return a cell of the matrix in words: its worst status and how many cases have it."""
    if cell.status is None:
        return "no case"
    count = cell.counts[cell.status]
    return f"{cell.status} {count}" + ("" if count == cell.total else f" of {cell.total}")


def eps_text(worst: Worst) -> str:
    """Return an error beside its limit, as in `"3.1/28"`."""
    return f"{number(worst.eps)}/{number(worst.limit)}"


def finding_error(finding: Finding) -> str:
    """Return the error of a finding beside its limit, or nothing where it has none."""
    if finding.limit is None:
        return "" if finding.eps is None else f"{number(finding.eps)} eps"
    return f"{number(finding.eps)} eps, {number(finding.limit)} allowed"


def number(value: float | None) -> str:
    """Return a number with three figures at most; None is an infinite one."""
    if value is None:
        return "∞"
    if value == 0 or 0.01 <= abs(value) < 1e4:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits}e{int(power)}"


def seconds(value: float) -> str:
    """Return a time as it is read."""
    if value < 0.9995:
        return f"{1000 * value:.0f} ms"
    return f"{value:.1f} s" if value < 60 else f"{value // 60:.0f} min {value % 60:.0f} s"


def clean(text: str) -> str:
    """Return a text without the characters that no form of the report can hold."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", _COLOURS.sub("", text))


def shorten(text: str, length: int) -> str:
    """Return the beginning of a text, and how much was left out."""
    left = len(text) - length
    return text if left <= 0 else f"{text[:length].rstrip()} ... ({left} characters more)"


def shorten_traceback(text: str, lines: int = 14) -> str:
    """Return the end of a traceback, where the error is."""
    found = text.strip().splitlines()
    return "\n".join(found if len(found) <= lines else ["...", *found[-lines:]])


def one_line(text: str) -> str:
    """Return a text on one line."""
    return " ".join(text.split())
