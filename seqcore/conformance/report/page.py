"""The report as one HTML page that needs nothing beside itself.

Every table is there without the script, which adds the filter and opens what a link points to.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files

from seqcore.conformance.model import Finding, Status
from seqcore.conformance.report.heat import heat_maps
from seqcore.conformance.report.model import (
    KINDS,
    SEVERITY,
    BackendResults,
    Cell,
    ClauseText,
    Report,
    Row,
    WaiverUse,
    plural,
)
from seqcore.conformance.report.wording import (
    clean,
    eps_text,
    finding_error,
    one_line,
    seconds,
    shorten,
    shorten_traceback,
)
from seqcore.spi.request import FEATURES

IN_FULL = 100
"""How many failures of one backend are shown in full; of the others, the first line."""

_TEXT, _MESSAGE = 700, 180
"""How many characters of an expected or received value, and of a message in a table, are shown."""

_CODES: dict[Status, str] = {
    "pass": "p",
    "fail": "f",
    "error": "e",
    "waived": "w",
    "unsupported": "u",
    "not-implemented": "n",
}
"""The class of a status, short because it stands in every cell."""

_LINK = re.compile(r"https?://[^\s]+")


@dataclass(slots=True)
class _Clause:
    """A clause with its cases: each case's row by backend."""

    text: ClauseText
    cases: dict[str, dict[str, Row]] = field(default_factory=dict)


def page(report: Report) -> str:
    """Return the page."""
    return clean("\n".join(_page(report)))


def _page(report: Report) -> Iterator[str]:
    own = files("seqcore.conformance.report")
    style = own.joinpath("page.css").read_text(encoding="utf-8")
    script = own.joinpath("page.js").read_text(encoding="utf-8")
    names = ", ".join(one.name for one in report.backends)
    state = "bad" if report.failed else "open" if report.interrupted else "good"
    word = {"bad": "Failed", "open": "Interrupted", "good": "Passed"}[state]
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{word}: conformance of {escape(names) or 'no backend'}</title>"
    yield f"<style>\n{style}</style>\n</head>\n<body>"
    yield from _header(report, state, word)
    yield "<main>"
    yield from _failures(report)
    yield from _matrix(report)
    yield from _errors(report)
    yield from _capabilities(report.backends)
    yield from _plans(report.backends)
    yield from _waivers(report.waivers)
    yield from _run(report)
    yield "</main>"
    yield "<footer>Written by <code>seqcore conform</code>. The JSON report beside this page holds "
    yield "every finding in full.</footer>"
    yield f"<script>\n{script}</script>\n</body>\n</html>\n"


# The head of the page


def _header(report: Report, state: str, word: str) -> Iterator[str]:
    yield "<header>"
    yield '<p class="over">seqcore conformance report</p>'
    yield f'<h1><span class="verdict {state}">{word}</span> '
    yield f"{escape(_headline(report))}</h1>"
    yield f'<p class="lead">Specification {escape(report.spec)} · seqcore {escape(report.seqcore)} '
    yield f"· {escape(report.tier)} tier · seed {report.seed} · {escape(_when(report))}</p>"
    reasons = report.reasons()
    if reasons:
        yield '<ul class="reasons">'
        yield from (f"<li>{escape(one_line(reason))}</li>" for reason in reasons)
        yield "</ul>"
    yield '<div class="cards">'
    for backend in report.backends:
        yield from _card(backend)
    yield "</div>"
    yield '<nav aria-label="Sections">'
    for anchor, title in _sections(report):
        yield f'<a href="#{anchor}">{title}</a>'
    yield "</nav>\n</header>"


def _headline(report: Report) -> str:
    counts = report.counts()
    total, passed = sum(counts.values()), counts.get("pass", 0)
    cited = {clause for one in report.backends for row in one.rows for clause in row.clauses}
    clauses = f"{len(cited)} of {plural(len(report.all_clauses()), 'clause')}"
    backends = plural(len(report.backends), "backend")
    return f"{passed:,} of {total:,} results pass, {clauses} on {backends}"


def _when(report: Report) -> str:
    return report.started.replace("T", " ").replace("Z", " UTC")


def _sections(report: Report) -> Iterator[tuple[str, str]]:
    if _failed(report.backends):
        yield "failures", "Failures"
    yield from (("clauses", "Clauses"), ("errors", "Errors in eps"))
    yield from (("capabilities", "Capabilities"), ("plans", "Plans"))
    yield from (("waivers", "Waivers"), ("run", "The run"))


def _card(backend: BackendResults) -> Iterator[str]:
    counts, total = backend.counts(), len(backend.rows)
    passed = counts.get("pass", 0)
    yield f'<section class="card"><h2>{escape(backend.name)}</h2>'
    yield f'<p class="engine">{escape(backend.version) or "unknown version"}</p>'
    yield f'<p class="figure"><b>{passed:,}</b> of {total:,} pass</p>'
    yield _bar(counts)
    yield '<ul class="counts">'
    for status, count in counts.items():
        if status != "pass":
            yield f'<li><span class="s {_CODES[status]}">{status}</span> {count:,}</li>'
    yield "</ul>"
    if backend.ended:
        yield f'<p class="ended"><b>Ended:</b> {escape(backend.ended)}</p>'
    yield f'<p class="engine">{seconds(backend.seconds)}</p></section>'


def _bar(counts: dict[Status, int]) -> str:
    """Return a bar of the shares, passes first; the figures beside it say the same."""
    parts = "".join(
        f'<i class="{_CODES[status]}" style="flex-grow:{counts[status]}"></i>'
        for status in reversed(SEVERITY)
        if status in counts
    )
    return f'<div class="bar" aria-hidden="true">{parts}</div>'


# What failed


def _failed(backends: Sequence[BackendResults]) -> dict[str, list[Row]]:
    found = {
        one.name: [row for row in one.rows if row.status in ("fail", "error")] for one in backends
    }
    return {name: rows for name, rows in found.items() if rows}


def _failures(report: Report) -> Iterator[str]:
    failed = _failed(report.backends)
    if not failed:
        return
    titles = {one.id: one.title for one in report.clauses}
    yield '<section id="failures"><h2>Failures</h2>'
    for name, rows in failed.items():
        yield f"<h3>{escape(name)}: {plural(len(rows), 'case')}</h3>"
        by_clause: dict[str, list[Row]] = {}
        for row in rows:
            by_clause.setdefault(row.clauses[0] if row.clauses else "", []).append(row)
        in_full = {row.case for row in rows[:IN_FULL]}
        for clause, of_clause in by_clause.items():
            yield '<details class="broken"><summary>'
            yield _status(of_clause[0].status)
            yield f"<b>{escape(clause)}</b> {escape(titles.get(clause, ''))} "
            yield f"<small>{plural(len(of_clause), 'case')}</small></summary>"
            for row in of_clause:
                if row.case in in_full:
                    yield from _failure(name, row, titles)
                else:
                    yield f'<p class="brief" id="{_failure_anchor(name, row.case)}">'
                    yield f"<code>{escape(row.case)}</code> {escape(_message(row))}</p>"
            yield "</details>"
    yield "</section>"


def _failure(backend: str, row: Row, titles: dict[str, str]) -> Iterator[str]:
    yield f'<details class="failure" id="{_failure_anchor(backend, row.case)}">'
    yield f"<summary>{_status(row.status)} "
    yield f"<code>{escape(row.case)}</code> <span>{escape(_message(row))}</span></summary>"
    yield '<div class="body"><p class="cited">'
    for one in row.clauses:
        yield f'<a href="#{_anchor(one)}"><b>{escape(one)}</b> {escape(titles.get(one, ""))}</a>'
    yield "</p>"
    for finding in row.findings:
        yield from _finding(finding)
    if row.script:
        yield f'<p class="script">Reproduce it alone: <code>{escape(row.script)}</code></p>'
    yield "</div></details>"


def _finding(finding: Finding) -> Iterator[str]:
    yield f'<p class="message">{escape(finding.message)}</p>'
    facts = [finding_error(finding)]
    facts += ["" if finding.step is None else f"first at step {finding.step}", finding.clause]
    line = " · ".join(escape(fact) for fact in facts if fact)
    if line:
        yield f'<p class="facts">{line}</p>'
    shown = {"Expected": finding.expected, "Received": finding.received}
    shown = {name: value for name, value in shown.items() if value.strip()}
    if shown:
        yield '<div class="sides">'
        for name, value in shown.items():
            yield f"<div><h4>{name}</h4><pre>{escape(shorten(value, _TEXT))}</pre></div>"
        yield "</div>"
    if finding.traceback:
        yield "<details><summary>Traceback</summary>"
        yield f"<pre>{escape(shorten_traceback(finding.traceback))}</pre></details>"


def _message(row: Row) -> str:
    """Return the first finding on one line, without the case's name, which stands before it."""
    if not row.findings:
        return ""
    return shorten(one_line(row.findings[0].message.removeprefix(f"{row.case}: ")), _MESSAGE)


# Clauses on backends


def _matrix(report: Report) -> Iterator[str]:
    counts = report.counts()
    yield '<section id="clauses"><h2>Clauses</h2>'
    yield '<p class="note">A cell shows the worst status of a clause’s cases and how many have it. '
    yield "What was not run never counts as a pass. Open a clause for its text and its cases.</p>"
    yield '<form id="filter" hidden><label>Filter <input type="search" id="words" '
    yield 'placeholder="clause, case, message"></label>'
    for status in SEVERITY:
        if status in counts:
            yield f'<button type="button" class="s {_CODES[status]}" data-status='
            yield f'"{_CODES[status]}" aria-pressed="false">{status}</button>'
    yield '<button type="button" id="open">Open all</button><output id="shown"></output></form>'
    wide = " wide" if len(report.backends) > 5 else ""
    yield f'<div class="box{wide}" tabindex="0" role="region" aria-label="Clauses on backends">'
    yield f'<table class="matrix" style="--n:{len(report.backends)}"><thead><tr>'
    yield '<th scope="col">Clause</th>'
    yield from (f'<th scope="col">{escape(one.name)}</th>' for one in report.backends)
    yield "</tr></thead>"
    cells, groups = report.matrix(), report.group_matrix()
    found = _cases(report)
    names = [one.name for one in report.backends]
    for group in dict.fromkeys(one.text.group for one in found):
        yield f'<tbody><tr class="group"><th scope="rowgroup"><b>{escape(group)}</b> '
        yield f"{escape(report.groups.get(group, ''))}</th>"
        yield from (_cell(groups[group, name]) for name in names)
        yield "</tr>"
        for clause in found:
            if clause.text.group == group:
                yield from _clause(clause, [cells[clause.text.id, name] for name in names], names)
        yield "</tbody>"
    yield "</table></div></section>"


def _cases(report: Report) -> list[_Clause]:
    found = {one.id: _Clause(one) for one in report.all_clauses()}
    for backend in report.backends:
        for row in backend.rows:
            for clause in row.clauses:
                found[clause].cases.setdefault(row.case, {})[backend.name] = row
    return list(found.values())


def _cell(cell: Cell) -> str:
    if cell.status is None:
        return '<td class="none">no case</td>'
    count = cell.counts[cell.status]
    share = f"{count}" if count == cell.total else f"{count} of {cell.total}"
    label = cell.status
    return f'<td><span class="s {_CODES[cell.status]}">{label}</span> <small>{share}</small></td>'


def _clause(clause: _Clause, cells: Sequence[Cell], names: Sequence[str]) -> Iterator[str]:
    anchor = _anchor(clause.text.id)
    statuses = dict.fromkeys(status for cell in cells for status in cell.counts)
    codes = " ".join(_CODES[status] for status in statuses)
    yield f'<tr class="clause" id="{anchor}" data-s="{codes}"><th scope="row">'
    yield f"<details><summary><b>{escape(clause.text.id)}</b> <span>{escape(clause.text.title)}"
    yield "</span></summary></details></th>"
    yield from map(_cell, cells)
    yield f'</tr><tr class="drill"><td colspan="{1 + len(names)}"><div class="inner">'
    if clause.text.text:
        yield f'<div class="text">{_prose(clause.text.text)}</div>'
    yield '<div class="scroll" tabindex="0"><table class="cases"><thead><tr>'
    yield f"<th scope=col>{plural(len(clause.cases), 'case')}</th>"
    yield from (f"<th scope=col>{escape(name)}</th>" for name in names)
    yield "</tr></thead><tbody>"
    for case, rows in clause.cases.items():
        ran = [rows.get(name) for name in names]
        yield f"<tr><th scope=row>{escape(case)}"
        dtype = next((row.dtype for row in ran if row is not None and row.dtype), "")
        yield f"{f' <small>{escape(dtype)}</small>' if dtype else ''}"
        cells_of_case = zip(names, ran, strict=True)
        yield "".join(_case_cell(name, row) for name, row in cells_of_case)
    yield "</table></div></div></td></tr>"


def _case_cell(backend: str, row: Row | None) -> str:
    if row is None:
        return '<td class="none">not run'
    facts = [f"{kind} {eps_text(row.worst[kind])}" for kind in KINDS if kind in row.worst]
    facts += [seconds(row.seconds)] if row.status not in ("unsupported", "not-implemented") else []
    facts = [fact.replace(" ", "\N{NO-BREAK SPACE}") for fact in [*facts, *row.plans]]
    text = f'<td><span class="s {_CODES[row.status]}">{row.status}</span>'
    if facts:
        text += f" <small>{escape(' · '.join(facts))}</small>"
    if row.status in ("fail", "error"):
        anchor = _failure_anchor(backend, row.case)
        text += f'<p><a href="#{anchor}">{escape(_message(row)) or "finding"}</a></p>'
    elif row.status != "pass":
        reason = row.waiver or _message(row)
        text += f"<p>{escape(reason)}</p>" if reason else ""
    return text


def _prose(markdown: str) -> str:
    """Return the text of a clause: its paragraphs and tables; a list keeps its lines."""
    parts = []
    for block in re.split(r"\n\s*\n", markdown.strip()):
        if block.startswith("|"):
            rows = (line for line in block.splitlines() if line.strip("|-: "))
            table = "".join(map(_prose_row, rows))
            parts.append(f'<div class="scroll" tabindex="0"><table>{table}</table></div>')
        else:
            kind = ' class="lines"' if block.startswith(("- ", "* ", "1. ")) else ""
            parts.append(f"<p{kind}>{_inline(escape(block))}</p>")
    return "".join(parts)


def _prose_row(line: str) -> str:
    cells = line.strip().strip("|").split("|")
    return f"<tr>{''.join(f'<td>{_inline(escape(cell.strip()))}</td>' for cell in cells)}</tr>"


def _inline(escaped: str) -> str:
    with_code = re.sub(r"`([^`]+)`", r"<code>\1</code>", escaped)
    return re.sub(r"\*\*([^*\n]+)\*\*", r"<b>\1</b>", with_code)


# The other sections


def _errors(report: Report) -> Iterator[str]:
    yield '<section id="errors"><h2>Errors in eps</h2>'
    yield '<p class="note">The largest difference of any case that both backends ran, in units of '
    yield "eps times the largest expected magnitude. The row of the oracle is what the verdicts "
    yield "rest on. Deeper is larger, on a logarithmic scale.</p>"
    yield from heat_maps(report)
    yield "</section>"


def _capabilities(backends: Sequence[BackendResults]) -> Iterator[str]:
    yield '<section id="capabilities"><h2>Capabilities</h2>'
    yield '<p class="note">What each backend declares. The suite calls what is declared '
    yield "unsupported, too, and a declaration that is wrong either way fails.</p>"
    features = dict.fromkeys(name for one in backends for name in one.capabilities)
    yield '<div class="scroll" tabindex="0"><table class="capabilities"><thead><tr>'
    yield '<th scope="col">Feature</th>'
    yield from (f'<th scope="col">{escape(one.name)}</th>' for one in backends)
    yield "</tr></thead><tbody>"
    devices = "".join(f"<td>{escape(', '.join(one.devices)) or 'unknown'}</td>" for one in backends)
    yield f'<tr><th scope="row">devices</th>{devices}</tr>'
    for name in features:
        meaning = FEATURES.get(name, "")
        yield f'<tr><th scope="row"><b>{escape(name)}</b> <small>{escape(meaning)}</small></th>'
        yield from (_capability(one, name) for one in backends)
        yield "</tr>"
    yield "</tbody></table></div></section>"


def _capability(backend: BackendResults, name: str) -> str:
    declared = backend.capabilities.get(name)
    if declared is None:
        return '<td class="none">not declared</td>'
    code = {"supported": "p", "unsupported": "u", "not-implemented": "n"}[declared.support]
    reason = f" <small>{escape(declared.reason)}</small>" if declared.reason else ""
    return f'<td><span class="s {code}">{declared.support}</span>{reason}</td>'


def _plans(backends: Sequence[BackendResults]) -> Iterator[str]:
    yield '<section id="plans"><h2>Plans</h2>'
    yield '<p class="note">In how many cases each implementation ran.</p><div class="lists">'
    for backend in backends:
        plans = backend.plans()
        most = max(plans.values(), default=1)
        yield f"<div><h3>{escape(backend.name)}</h3>"
        if not plans:
            yield "<p>No case says which ran.</p>"
        yield '<table class="plans">'
        for name, count in plans.items():
            yield f'<tr><th scope="row">{escape(name)}</th><td class="number">{count:,}</td>'
            yield f'<td><i style="width:{100 * count / most:.1f}%"></i></td></tr>'
        yield "</table></div>"
    yield "</div></section>"


def _waivers(waivers: Sequence[WaiverUse]) -> Iterator[str]:
    yield '<section id="waivers"><h2>Waivers</h2>'
    if not waivers:
        yield "<p>None.</p></section>"
        return
    rows = []
    for one in waivers:
        code = "f" if one.spoiled else "w"
        state = f'<span class="s {code}">{one.state}</span>'
        link = escape(one.link)
        if _LINK.fullmatch(one.link):
            link = f'<a href="{link}">{link}</a>'
        texts = [one.backend, one.case or one.clause, one.reason]
        cases = plural(len(one.cases), "case")
        rows.append([*map(escape, texts), state, cases, escape(one.expires), link])
    columns = ("Backend", "What", "Reason", "State", "Covers", "Until", "Link")
    yield from _table(columns, rows)
    yield "</section>"


def _run(report: Report) -> Iterator[str]:
    yield '<section id="run"><h2>The run</h2><div class="lists"><div><h3>Engines</h3>'
    rows = [
        [escape(one.name), escape(one.version), escape(one.distribution), seconds(one.seconds)]
        for one in report.backends
    ]
    yield from _table(("Backend", "Version", "Distribution", "Time"), rows)
    facts = {
        "started": report.started,
        "finished": report.finished or "no",
        "tier": report.tier,
        "seed": report.seed,
        "specification": report.spec,
        "seqcore": report.seqcore,
    }
    options = {
        name: ", ".join(value) if isinstance(value, list) else value
        for name, value in report.options.items()
    }
    for title, table in (("Run", facts | options), ("Machine", report.machine)):
        yield f"</div><div><h3>{title}</h3><table>"
        for name, value in table.items():
            yield f'<tr><th scope="row">{escape(name)}</th><td>{escape(str(value))}</td></tr>'
        yield "</table>"
    yield "</div></div></section>"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield a table of cells that are HTML already."""
    yield '<div class="scroll" tabindex="0"><table><thead><tr>'
    yield from (f'<th scope="col">{column}</th>' for column in columns)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>"
    yield "</tbody></table></div>"


def _status(status: Status) -> str:
    return f'<span class="s {_CODES[status]}">{status}</span>'


def _anchor(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def _failure_anchor(backend: str, case: str) -> str:
    return _anchor(f"failure-{backend}-{case}")
