"""A failure in words, for a terminal."""

from __future__ import annotations

from seqcore.conformance.clauses import clauses
from seqcore.conformance.model import Finding
from seqcore.conformance.report.model import Row
from seqcore.conformance.report.wording import clean, finding_error, shorten_traceback


def explained(row: Row, backend: str) -> str:
    """Return what is wrong on a backend: the clauses, each finding, and how to reproduce it."""
    lines = [f"{row.case}: {row.status}"]
    for name in row.clauses:
        clause = clauses()[name]
        lines += [f"  {clause.id} · {clause.title}", *_indented(clause.text)]
    for finding in row.findings:
        lines += _finding(finding)
    if row.script:
        lines.append(f"  reproduce: python {row.script} {backend}")
    return clean("\n".join(lines))


def _finding(finding: Finding) -> list[str]:
    lines = [f"  {finding.message}"]
    shown = {
        "expected": finding.expected,
        "received": finding.received,
        "first bad step": "" if finding.step is None else str(finding.step),
        "error": finding_error(finding),
        "traceback": shorten_traceback(finding.traceback),
    }
    for name, text in shown.items():
        if "\n" in text:
            lines += [f"  {name}:", *_indented(text)]
        elif text:
            lines.append(f"  {name}: {text}")
    return lines


def _indented(text: str) -> list[str]:
    return [f"    {line}" if line else "" for line in text.splitlines()]
