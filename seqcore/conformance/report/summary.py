"""The report in Markdown, short enough for the summary page of a CI job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from seqcore.conformance.model import Finding
from seqcore.conformance.report.model import BackendResults, Report, Row, WaiverUse, plural
from seqcore.conformance.report.wording import (
    SYMBOLS,
    cell_text,
    clean,
    finding_error,
    number,
    one_line,
    seconds,
    shorten,
    verdict,
)

LIMIT = 20
"""How many failures of one backend are shown in full."""


def summary(report: Report) -> str:
    """Return the report in Markdown."""
    return clean("\n".join(_summary(report)))


def _summary(report: Report) -> Iterator[str]:
    yield f"# Conformance: {verdict(report)}\n"
    if report.interrupted:
        yield "The run was stopped by hand; what was done until then is here.\n"
    yield from (f"- {_text(reason)}" for reason in report.reasons())
    yield (
        f"\nSpecification {_text(report.spec)}, seqcore {_text(report.seqcore)}, "
        f"tier {_text(report.tier)}, seed {report.seed}.\n"
    )
    yield from _backends(report)
    yield from _groups(report)
    yield from _waivers(report.waivers)
    titles = {one.id: one.title for one in report.clauses}
    for backend in report.backends:
        yield from _failures(backend, titles)


def _backends(report: Report) -> Iterator[str]:
    columns = ["backend", "engine", "pass", "not passed", "time"]
    rows = []
    for one in report.backends:
        counts = one.counts()
        passed = counts.pop("pass", 0)
        rest = ", ".join(f"{count} {status}" for status, count in counts.items())
        rows.append([one.name, one.version, str(passed), rest or "0", seconds(one.seconds)])
    yield from _table(columns, rows)


def _groups(report: Report) -> Iterator[str]:
    yield "\n## Clauses\n"
    cells = report.group_matrix()
    rows = []
    for group in dict.fromkeys(name for name, _ in cells):
        row = [f"{group}: {report.groups[group]}" if group in report.groups else group]
        for backend in report.backends:
            cell = cells[group, backend.name]
            row.append(f"{SYMBOLS[cell.status]} {cell_text(cell)}" if cell.status else "no case")
        rows.append(row)
    yield from _table(["group", *(one.name for one in report.backends)], rows)
    yield "\nA cell shows its worst status and how many of its cases have it.\n"


def _waivers(waivers: Sequence[WaiverUse]) -> Iterator[str]:
    if not waivers:
        return
    yield "## Waivers\n"
    columns = ["backend", "what", "state", "until", "reason", "link"]
    rows = [
        [one.backend, one.case or one.clause, one.state, one.expires, one.reason, one.link]
        for one in waivers
    ]
    yield from _table(columns, rows)
    yield ""


def _failures(backend: BackendResults, titles: dict[str, str]) -> Iterator[str]:
    failed = [row for row in backend.rows if row.status in ("fail", "error")]
    if not failed and not backend.ended:
        return
    yield f"## {_text(backend.name)}: {plural(len(failed), 'failure')}\n"
    if backend.ended:
        yield f"Its process ended before its time: {_text(backend.ended)}\n"
    for row in failed[:LIMIT]:
        yield from _failure(row, titles)
    if len(failed) > LIMIT:
        yield f"And {plural(len(failed) - LIMIT, 'more failure')}; the JSON report has them all.\n"


def _failure(row: Row, titles: dict[str, str]) -> Iterator[str]:
    yield f"### {SYMBOLS[row.status]} {_code(row.case)}\n"
    for clause in row.clauses:
        yield f"- {clause}: {_text(titles.get(clause, 'not in this specification'))}"
    if row.script:
        yield f"- reproduce: {_code(row.script)}"
    for finding in row.findings[:3]:
        yield from _finding(finding)
    if len(row.findings) > 3:
        yield f"\nAnd {plural(len(row.findings) - 3, 'more finding')}."
    yield ""


def _finding(finding: Finding) -> Iterator[str]:
    yield f"\n{_text(shorten(finding.message, 500))}\n"
    error = finding_error(finding)
    if error:
        yield f"- error: {error}"
    if finding.step is not None:
        yield f"- first step: {number(finding.step)}"
    shown = {"expected": finding.expected, "received": finding.received}
    lines = [f"{name}: {shorten(value, 400)}" for name, value in shown.items() if value.strip()]
    if lines:
        fence = "`" * max(3, 1 + _longest_run("\n".join(lines)))
        yield "\n".join(["", fence + "text", *lines, fence])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_text, columns))} |"
    yield "|" + "---|" * len(columns)
    for row in rows:
        yield f"| {' | '.join(map(_text, row))} |"


def _text(value: str) -> str:
    """Return a text on one line in which nothing is Markdown or HTML."""
    escaped = one_line(value).replace("&", "&amp;").replace("<", "&lt;")
    for sign in "\\`*_[]|#~":
        escaped = escaped.replace(sign, f"\\{sign}")
    return escaped


def _code(value: str) -> str:
    fence = "`" * (1 + _longest_run(value))
    space = " " if "`" in value else ""
    return f"{fence}{space}{one_line(value)}{space}{fence}"


def _longest_run(text: str) -> int:
    """Return the length of the longest run of backticks."""
    longest = run = 0
    for sign in text:
        run = run + 1 if sign == "`" else 0
        longest = max(longest, run)
    return longest
