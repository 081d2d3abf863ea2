"""The report as JUnit XML, which CI systems and editors read: a suite for each backend."""

from __future__ import annotations

from xml.etree import ElementTree

from seqcore.conformance.model import Finding
from seqcore.conformance.report.model import BackendResults, Report, Row
from seqcore.conformance.report.wording import clean, finding_error, one_line


def junit(report: Report) -> bytes:
    """Return the report as XML in UTF-8."""
    suites = ElementTree.Element("testsuites", name="seqcore conformance")
    titles = {one.id: one.title for one in report.clauses}
    totals = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for backend in report.backends:
        suite = _suite(backend, report, titles)
        suites.append(suite)
        for name in totals:
            totals[name] += int(suite.get(name, "0"))
    for name, total in totals.items():
        suites.set(name, str(total))
    suites.set("time", f"{sum(one.seconds for one in report.backends):.3f}")
    ElementTree.indent(suites)
    text: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(backend: BackendResults, report: Report, titles: dict[str, str]) -> ElementTree.Element:
    counts = backend.counts()
    ended = bool(backend.ended)
    skipped = sum(counts.get(s, 0) for s in ("waived", "unsupported", "not-implemented"))
    suite = ElementTree.Element(
        "testsuite",
        name=clean(backend.name),
        tests=str(len(backend.rows) + ended),
        failures=str(counts.get("fail", 0)),
        errors=str(counts.get("error", 0) + ended),
        skipped=str(skipped),
        time=f"{backend.seconds:.3f}",
        timestamp=clean(report.started.removesuffix("Z")),
    )
    properties = ElementTree.SubElement(suite, "properties")
    facts = {
        "engine": backend.version,
        "specification": report.spec,
        "seqcore": report.seqcore,
        "seed": str(report.seed),
        "tier": report.tier,
    }
    for name, value in facts.items():
        ElementTree.SubElement(properties, "property", name=name, value=clean(value))
    for row in backend.rows:
        suite.append(_case(backend.name, row, titles))
    if ended:
        case = ElementTree.SubElement(
            suite, "testcase", classname=clean(backend.name), name="process", time="0"
        )
        ElementTree.SubElement(case, "error", message=clean(one_line(backend.ended)))
    return suite


def _case(backend: str, row: Row, titles: dict[str, str]) -> ElementTree.Element:
    # Readers group by class name: the backend, then the first clause's group of cases.
    group, _, _ = row.case.partition("/")
    case = ElementTree.Element(
        "testcase",
        classname=clean(f"{backend}.{group}"),
        name=clean(row.case),
        time=f"{row.seconds:.4f}",
    )
    first = row.findings[0].message if row.findings else ""
    match row.status:
        case "fail":
            _fault(case, "failure", row, first, titles)
        case "error":
            _fault(case, "error", row, first, titles)
        case "waived":
            reason = f"waived: {row.waiver}; {first}"
            ElementTree.SubElement(case, "skipped", message=clean(one_line(reason)))
        case "unsupported" | "not-implemented":
            reason = f"{row.status}: {first}" if first else row.status
            ElementTree.SubElement(case, "skipped", message=clean(one_line(reason)))
    return case


def _fault(
    case: ElementTree.Element, tag: str, row: Row, message: str, titles: dict[str, str]
) -> None:
    fault = ElementTree.SubElement(
        case, tag, message=clean(one_line(message)), type=clean(", ".join(row.clauses))
    )
    lines = [f"{one}: {titles.get(one, '')}" for one in row.clauses]
    for finding in row.findings:
        lines += ["", *_lines(finding)]
    if row.script:
        lines += ["", f"reproduce: {row.script}"]
    fault.text = clean("\n".join(lines))


def _lines(finding: Finding) -> list[str]:
    step = "" if finding.step is None else str(finding.step)
    shown = {
        "expected": finding.expected,
        "received": finding.received,
        "first step": step,
        "error": finding_error(finding),
        "traceback": finding.traceback,
    }
    return [finding.message, *(f"{name}: {value}" for name, value in shown.items() if value)]
