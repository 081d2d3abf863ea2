"""Reports of the conformance suite: the model, and the forms in which it is read."""

from __future__ import annotations

import base64
import json
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import seqcore as sc
from seqcore.conformance.model import Finding, LawCase, Status, ValueCase, Verdict
from seqcore.conformance.report.difference import compare_reports, text
from seqcore.conformance.report.junit import junit
from seqcore.conformance.report.model import (
    BackendResults,
    Pair,
    Report,
    Row,
    Support,
    WaiverUse,
    Worst,
    clause_texts,
    from_json,
    group_titles,
    json_schema,
    read_report,
    to_json,
    write_report,
)
from seqcore.conformance.report.page import IN_FULL, page
from seqcore.conformance.report.summary import summary
from seqcore.conformance.report.wording import clean
from seqcore.errors import FileError
from seqcore.spi import FEATURES

HOSTILE = "<script>alert(1)</script>&\"'`|*_\x1b[31m\x00 </details></pre> ]]>"

VERSIONS = {
    "numpy": "2.3.4",
    "torch": "2.9.0+cpu",
    "tensorflow": "2.20.0",
    "jax": "0.8.0",
    "careless": "0.1.dev3",
}
PLANS = {
    "numpy": ("numpy_loop", "generic"),
    "torch": ("aten_sequence", "aten_packed", "generic"),
    "tensorflow": ("xla_scan", "while_loop", "generic"),
    "jax": ("scan", "generic"),
    "careless": ("generic",),
}
UNABLE = {
    "torch": {"forward_mode": "autograd has no forward mode through the fused cell"},
    "tensorflow": {
        "second_order": "the while loop's gradient has none",
        "gates": "planned, not built yet",
    },
    "jax": {"tf32": "XLA on a processor takes no product precision"},
}


def row(case: str, status: Status, clause: str = "OUT-1", message: str = "", **more: object) -> Row:
    findings = [Finding(message=message)] if message else []
    given = {"case": case, "clauses": [clause], "status": status, "findings": findings}
    return Row(**(given | more))


def report(*backends: BackendResults, **more: object) -> Report:
    given = {
        "spec": "1.0",
        "seqcore": "0.1.0",
        "seed": 0,
        "tier": "standard",
        "started": "2026-03-01T09:30:00Z",
        "groups": group_titles(),
        "clauses": clause_texts(),
        "backends": list(backends),
    }
    return Report(**(given | more))


def backend(name: str, *rows: Row, **more: object) -> BackendResults:
    return BackendResults(name=name, rows=list(rows), **more)


def synthetic(cases: int = 1200, names: tuple[str, ...] = tuple(VERSIONS)) -> Report:
    """Return a report as large as a real one; `careless` gets masks and backward layers wrong."""
    random = np.random.default_rng(0)
    clauses = clause_texts()
    dtypes = ("float32", "float32", "float32", "float64", "float16", "bfloat16")
    results = {name: _synthetic_backend(name) for name in names}
    each, rest = divmod(cases, len(clauses))
    for index, clause in enumerate(clauses):
        for number in range(each + (index < rest)):
            dtype = dtypes[int(random.integers(len(dtypes)))] if number % 3 else ""
            layer = ("lstm", "gru", "simple-rnn", "bidirectional-lstm")[number % 4]
            case = f"{clause.id}/{'values' if dtype else 'law'}/{layer}-mask-holes-{number}"
            cites = [clause.id, clauses[(index + 7) % len(clauses)].id][: 1 + (number % 4 == 0)]
            for name in names:
                results[name].rows.append(_synthetic_row(name, case, cites, dtype, number, random))
    pairs = [
        Pair(
            first=first,
            second=second,
            kind=kind,
            dtype=dtype,
            eps=None if "careless" in (first, second) and dtype == "float16"
            else float(random.uniform(1, 9) * (1e4 if "careless" in (first, second) else 3)),
            cases=int(random.integers(80, 400)),
            case="MASK-3/values/lstm-mask-holes-4",
        )
        for kind in ("outputs", "gradients")
        for dtype in ("float64", "float32", "float16", "bfloat16")
        for index, first in enumerate(names)
        for second in names[index + 1 :]
    ]  # fmt: skip
    waivers = [
        WaiverUse(
            backend="careless",
            clause="PURE-3",
            reason="two runs differ in the last bit where four threads share a row",
            link="https://example.org/careless/issues/31",
            expires="2026-12-31",
            state="used",
            cases=["PURE-3/law/lstm-mask-holes-0"],
        ),
        WaiverUse(
            backend="careless",
            case="DEG-1/law/lstm-mask-holes-0",
            reason="batch of 0 aborted",
            link="javascript:alert(1)",
            expires="2026-12-31",
            state="stale",
        ),
    ]
    return report(
        *results.values(),
        spec="1.0",
        finished="2026-03-01T09:35:12Z",
        options={"jobs": 2, "clause": []},
        machine={"processor": "Xeon", "processors": 2, "system": "Linux", "python": "3.13.1"},
        pairs=pairs,
        waivers=waivers if "careless" in names else [],
    )


def _synthetic_backend(name: str) -> BackendResults:
    unable = UNABLE.get(name, {})
    capabilities = {
        feature: Support("unsupported", unable[feature])
        if feature in unable and "not built" not in unable[feature]
        else Support("not-implemented", unable[feature])
        if feature in unable
        else Support("supported")
        for feature in FEATURES
    }
    return BackendResults(
        name=name,
        version=VERSIONS[name],
        distribution="seqcore 0.1.0" if name != "careless" else "careless 0.1.dev3",
        devices=["cpu"],
        capabilities=capabilities,
        ended="stopped after 60 s in ERR-8/law/lstm-mask-holes-3" if name == "careless" else "",
        seconds={"numpy": 14.2, "torch": 21.0, "tensorflow": 161.4, "jax": 118.9}.get(name, 7.7),
    )


def _synthetic_row(
    name: str, case: str, cites: list[str], dtype: str, number: int, random: np.random.Generator
) -> Row:
    clause, seconds = cites[0], round(float(random.exponential(0.05)), 4)
    plans = [PLANS[name][number % len(PLANS[name])]]
    unable = UNABLE.get(name, {})
    for group, feature in (("GATES", "gates"), ("PREC", "tf32"), ("ARR-5", "forward_mode")):
        if clause.startswith(group) and feature in unable and number % 2 == 0:
            status = "not-implemented" if "not built" in unable[feature] else "unsupported"
            return row(case, status, message=unable[feature], clauses=cites, dtype=dtype)
    worst = {
        kind: Worst(round(float(random.uniform(0.2, 0.8) * limit), 3), limit)
        for kind, limit in (("outputs", 24.5), ("gradients", 61.0))
        if dtype
    }
    given = {"dtype": dtype, "seconds": seconds, "plans": plans, "worst": worst}
    if name == "careless" and clause.startswith(("MASK", "BACK", "BI-2")) and number % 3:
        eps = float(random.uniform(1e3, 1e6))
        finding = Finding(
            message=f"{case}: y departs from the oracle: expected at most 24.5 eps, received "
            f"{eps:.3g} eps, first at step 3",
            expected="float32 (3, 5, 2)\n[[[ 0.12 -0.3 ]\n  [ 0.44  0.01]\n  [ 0.    0.  ]]]",
            received="float32 (3, 5, 2)\n[[[ 0.12 -0.3 ]\n  [ 0.44  0.01]\n  [ 0.41  0.27]]]",
            step=3,
            eps=eps,
            limit=24.5,
        )
        script = f"conformance/reproduce/{case.replace('/', '-')}.py"
        worst["outputs"] = Worst(eps, 24.5)
        return Row(
            case=case, clauses=cites, status="fail", findings=[finding], script=script, **given
        )
    if name == "careless" and clause == "ERR-5":
        finding = Finding(
            message=f"{case}: expected a result, received ZeroDivisionError: division by zero",
            traceback="Traceback (most recent call last):\n  File ...\nZeroDivisionError: x",
        )
        return Row(case=case, clauses=cites, status="error", findings=[finding], **given)
    if name == "careless" and clause == "PURE-3" and number == 0:
        return row(case, "waived", message="two runs differ", clauses=cites, waiver="four threads")
    return Row(case=case, clauses=cites, status="pass", **given)


# The model


def test_counts_and_cells_take_the_worst_status_and_no_opt_out_for_a_pass() -> None:
    statuses: list[Status] = ["pass", "unsupported", "pass"]
    mine = backend("mine", *(row(f"OUT-1/{i}", status) for i, status in enumerate(statuses)))
    other = backend("other", row("OUT-1/0", "waived"), row("OUT-2/0", "fail", "OUT-2"))
    found = report(mine, other)
    cell = found.matrix()["OUT-1", "mine"]
    assert (cell.status, cell.passed, cell.total) == ("unsupported", 2, 3)
    assert found.matrix()["OUT-2", "mine"].status is None
    assert found.group_matrix()["OUT", "other"].counts == {"fail": 1, "waived": 1}
    assert found.counts() == {"fail": 1, "waived": 1, "unsupported": 1, "pass": 2}


def test_a_case_with_two_clauses_of_one_group_counts_once_there() -> None:
    both = Row(case="OUT-1/a", clauses=["OUT-1", "OUT-2"], status="pass")
    found = report(backend("mine", both))
    assert found.group_matrix()["OUT", "mine"].total == 1
    assert found.matrix()["OUT-2", "mine"].total == 1


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (report(backend("a", row("x", "pass"))), None),
        (report(backend("a", row("x", "unsupported"), row("y", "waived"))), None),
        (report(backend("a", row("x", "fail"))), "a: 1 case failed"),
        (report(backend("a", row("x", "error"), row("y", "error"))), "2 cases raised an error"),
        (report(backend("a", row("x", "pass"), ended="killed")), "a: killed"),
        (report(backend("a")), "a: no case ran"),
        (report(backend("a", row("x", "unsupported"))), "a: no case ran"),
        (report(), "no backend ran"),
        (
            report(
                backend("a", row("x", "pass")),
                waivers=[
                    WaiverUse(backend="a", case="x", reason="r", expires="2026-01-01", state=state)
                    for state in ("used", "expired")
                ],
            ),
            "the waiver of x is expired",
        ),
    ],
)
def test_what_fails_a_run(found: Report, reason: str | None) -> None:
    assert found.failed == (reason is not None)
    assert reason is None or any(reason in one for one in found.reasons())


def test_a_row_of_a_verdict() -> None:
    case = ValueCase(id="LSTM-1/a", clauses=("LSTM-1",), layer=sc.LSTM(2), dtype="float16")
    finding = Finding(message="m", eps=math.inf, limit=8.0)
    verdict = Verdict(
        status="fail", findings=[finding], plans=["generic"], worst={"outputs": (math.nan, 8.0)}
    )
    found = Row.of(case, verdict, script="x.py")
    assert (found.status, found.dtype, found.script) == ("fail", "float16", "x.py")
    assert found.worst["outputs"] == Worst(None, 8.0)
    assert found.worst["outputs"].share == math.inf
    assert Row.of(case, verdict, waiver="known").status == "waived"


def test_a_waiver_of_what_passes_leaves_it_a_pass() -> None:
    case = LawCase(id="OUT-1/a", clauses=("OUT-1",), check=lambda subject: None)
    found = Row.of(case, Verdict(status="pass"), waiver="known")
    assert (found.status, found.waiver) == ("pass", "")


# The JSON file


def test_json_round_trip(tmp_path: Path) -> None:
    whole = synthetic(200)
    path = tmp_path / "report.json"
    write_report(whole, path)
    assert read_report(path) == whole
    assert json.loads(path.read_bytes())["format"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"\xff\xfe", "expected JSON"),
        (b"[]", "expected a report of the conformance suite"),
        (b"{}", "expected a report of the conformance suite"),
        (b'{"kind": "benchmark", "format": 1}', "received kind 'benchmark'"),
        (b'{"kind": "seqcore-conformance-report", "format": 2}', "expected format 1"),
        (b'{"kind": "seqcore-conformance-report", "format": 1}', "spec"),
    ],
)
def test_what_is_no_report_is_a_file_error(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(FileError, match=re.escape(message)) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def test_a_report_that_is_absent_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be read"):
        read_report(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data["backends"].append(data["backends"][0]),
            "backend: 'a' is there 2",
        ),
        (
            lambda data: data["backends"][0]["rows"].append(data["backends"][0]["rows"][0]),
            "case of backend 'a': 'x' is there 2 times",
        ),
        (
            lambda data: data["backends"][0]["rows"][0].update(
                worst={"outputs": {"eps": -1.0, "limit": 3.0}}
            ),
            "error -1.0 of a limit of 3.0, expected no less than 0",
        ),
    ],
)
def test_a_report_says_each_thing_once(change: Callable[[Any], Any], message: str) -> None:
    data = json.loads(to_json(report(backend("a", row("x", "pass")))))
    change(data)
    with pytest.raises(FileError, match=message):
        from_json(json.dumps(data))


def test_a_field_of_another_type_is_a_file_error() -> None:
    data = json.loads(to_json(report(backend("a", row("x", "pass")))))
    data["backends"][0]["rows"][0]["status"] = "green"
    with pytest.raises(FileError, match=r"green.*rows\[0\]|rows"):
        from_json(json.dumps(data))


def test_the_shipped_schema_is_the_model_s() -> None:
    shipped = files("seqcore.conformance.report").joinpath("schema.json").read_text("utf-8")
    assert json.loads(shipped) == json_schema(), (
        "write seqcore/conformance/report/schema.json anew from json_schema()"
    )


def test_every_group_of_clauses_has_a_title() -> None:
    assert {one.group for one in clause_texts()} == {*group_titles()}


# Markdown


def test_summary_says_what_failed() -> None:
    text = summary(synthetic(300))
    assert text.startswith("# Conformance: FAILED")
    assert "| MASK: masked steps | ✓ pass" in text
    assert "MASK-3: State at a masked step" in text
    assert "24.5 allowed" in text
    assert "first step: 3" in text
    assert "conformance/reproduce/" in text
    assert "## Waivers" in text
    assert "stale" in text
    assert len(text.encode()) < 100_000  # a job's summary page holds 1 MiB, and a reader less


def test_summary_of_a_run_that_passed() -> None:
    text = summary(report(backend("numpy", row("OUT-1/a", "pass"))))
    assert text.startswith("# Conformance: PASSED: 1 result on numpy (1 pass)")
    assert "failure" not in text


def test_summary_escapes_what_it_quotes() -> None:
    finding = Finding(message=HOSTILE, expected="```\n# no heading", received=HOSTILE)
    hostile = Row(case="OUT-1/`a`", clauses=["OUT-1"], status="fail", findings=[finding])
    text = summary(report(backend("x|y", hostile)))
    prose = re.sub(r"(`{3,})text\n.*?\n\1", "", text, flags=re.DOTALL)
    assert "<script" not in prose
    assert "x\\|y" in text
    assert "\n````text\n" in text
    assert "\x1b" not in text


# JUnit


def test_junit_has_a_suite_a_backend_and_a_case_a_case() -> None:
    rows = [
        row("OUT-1/a", "pass", seconds=0.25),
        row("OUT-1/b", "fail", message="wrong"),
        row("OUT-1/c", "error", message="raised"),
        row("OUT-1/d", "unsupported", message="no such product"),
        row("OUT-1/e", "not-implemented", message="later"),
        row("OUT-1/f", "waived", message="wrong", waiver="known"),
    ]
    root = ElementTree.fromstring(junit(report(backend("a", *rows), backend("b", ended="hung"))))
    first, second = root.findall("testsuite")
    counts = {name: first.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "6", "failures": "1", "errors": "1", "skipped": "3"}
    assert [one.get("name") for one in first.findall("testcase")] == [one.case for one in rows]
    assert "OUT-1: One step" in (first.findtext(".//failure") or "")
    messages = [one.get("message", "") for one in first.iter("skipped")]
    assert messages == ["unsupported: no such product", "not-implemented: later",
                        "waived: known; wrong"]  # fmt: skip
    assert (second.get("tests"), second.get("errors")) == ("1", "1")
    assert root.get("errors") == "2"


def test_junit_holds_any_text() -> None:
    found = report(backend(HOSTILE, row(HOSTILE, "fail", message=HOSTILE), ended=HOSTILE))
    root = ElementTree.fromstring(junit(found))
    assert "<script>alert(1)</script>" in (root.findtext(".//failure") or "")


# The difference of two reports


def test_what_got_worse_and_better() -> None:
    old = report(
        backend("a", row("1", "pass"), row("2", "fail"), row("3", "pass"), row("gone", "pass"))
    )
    new = report(
        backend("a", row("1", "fail", message="wrong"), row("2", "pass"), row("3", "unsupported"),
                row("new", "pass"))
    )  # fmt: skip
    found = compare_reports(old, new)
    assert [(one.case, one.old, one.new) for one in found.worse] == [
        ("1", "pass", "fail"),
        ("3", "pass", "unsupported"),
    ]
    assert [one.case for one in found.better] == ["2"]
    assert [one.case for added in found.new for one in added.rows] == ["new"]
    assert [one.case for added in found.gone for one in added.rows] == ["gone"]
    assert found.failed
    shown = text(found)
    assert shown.startswith("WORSE: 2 worse, 1 better")
    assert "a: 1 (OUT-1): pass -> fail\n    wrong" in shown


def test_nothing_got_worse() -> None:
    one = report(backend("a", row("1", "fail")))
    found = compare_reports(one, one)
    assert not found.failed
    assert text(found) == "NOT WORSE: no status got worse"


@pytest.mark.parametrize(
    "new",
    [
        report(),
        report(backend("a", row("1", "pass"), ended="killed")),
        report(backend("a", row("1", "pass"), row("2", "error"))),
        report(backend("a", row("1", "pass")), backend("b", row("1", "fail"))),
        report(
            backend("a", row("1", "pass")),
            waivers=[WaiverUse(backend="a", case="1", reason="r", expires="", state="stale")],
        ),
    ],
)
def test_what_is_worse_without_a_case_of_both(new: Report) -> None:
    found = compare_reports(report(backend("a", row("1", "pass"))), new)
    assert found.failed
    assert text(found).startswith("WORSE: 1 worse")


def test_errors_and_times_that_changed_by_much() -> None:
    def one(eps: float | None, seconds: float) -> Report:
        worst = {"outputs": Worst(eps, 20.0), "gradients": Worst(0.5, 60.0)}
        return report(backend("a", row("1", "pass", worst=worst, seconds=seconds)))

    found = compare_reports(one(4.0, 1.0), one(16.0, 4.0))
    assert [(one.kind, one.old, one.new) for one in found.errors] == [("outputs", 0.2, 0.8)]
    assert [(one.old, one.new) for one in found.times] == [(1.0, 4.0)]
    assert not found.failed
    assert "outputs 0.2 of the limit before, 0.8 after" in text(found)
    quiet = compare_reports(one(4.0, 1.0), one(5.0, 1.2))
    assert not quiet.errors
    assert not quiet.times
    assert "0.2 of the limit before, ∞ after" in text(compare_reports(one(4, 1), one(None, 1)))


def test_what_makes_two_reports_hard_to_compare() -> None:
    old = report(backend("a", row("1", "pass"), version="1"))
    new = report(backend("a", row("1", "pass"), version="2"), seed=7, interrupted=True)
    assert compare_reports(old, new).notes == [
        "seed: 0 before, 7 after",
        "the later run was interrupted",
        "a: version 1 before, 2 after",
    ]


# The page


class Page(HTMLParser):
    """What a page holds."""

    VOID = ("meta", "input", "link", "img", "br", "hr")
    OPTIONAL = ("td", "th", "tr", "tbody")
    """Elements that the page closes where it helps the reader of its source, else not."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in (*self.VOID, *self.OPTIONAL):
            self.stack.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.OPTIONAL:
            assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack and self.stack[-1] not in ("script", "style"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_the_page_needs_nothing_beside_itself() -> None:
    found = Page(page(synthetic(300)))
    assert not found.stack
    for tag, attributes in found.tags:
        assert tag not in ("link", "img", "iframe")
        assert "src" not in attributes
        href = attributes.get("href") or "#"
        assert href.startswith("#") or href == "https://example.org/careless/issues/31"
    identifiers = [a["id"] for _, a in found.tags if "id" in a]
    assert len(identifiers) == len({*identifiers})
    targets = {(a.get("href") or "")[1:] for _, a in found.tags if (a.get("href") or "")[:1] == "#"}
    assert targets <= {*identifiers}


def test_the_page_shows_every_part() -> None:
    whole = synthetic(300)
    shown = Page(page(whole)).text
    for clause in whole.clauses:
        assert f"{clause.id} {clause.title}" in shown
    for expected in (
        "Failed",
        "not-implemented",
        "first at step 3",
        "1.0",
        "2.20.0",
        "Xeon",
        "xla_scan",
        "autograd has no forward mode",
        "two runs differ in the last bit",
        "stopped after 60 s",
        "∞",
    ):
        assert expected in shown


def test_the_page_escapes_everything() -> None:
    finding = Finding(message=HOSTILE, expected=HOSTILE, received=HOSTILE, traceback=HOSTILE)
    bad = Row(
        case=HOSTILE,
        clauses=[HOSTILE],
        status="fail",
        dtype=HOSTILE,
        findings=[finding],
        plans=[HOSTILE],
        script=HOSTILE,
        worst={"outputs": Worst(1.0, 2.0)},
    )
    waiver = WaiverUse(
        backend=HOSTILE, case=HOSTILE, reason=HOSTILE, link=HOSTILE, expires=HOSTILE, state="used"
    )
    pair = Pair(first=HOSTILE, second="b", kind="outputs", dtype=HOSTILE, eps=1.0, cases=1,
                case=HOSTILE)  # fmt: skip
    engine = backend(
        HOSTILE,
        bad,
        version=HOSTILE,
        distribution=HOSTILE,
        devices=[HOSTILE],
        ended=HOSTILE,
        capabilities={HOSTILE: Support("unsupported", HOSTILE)},
    )
    text = page(
        report(engine, backend("b", row("x", "waived", message=HOSTILE, waiver=HOSTILE)),
               waivers=[waiver], pairs=[pair], spec=HOSTILE, seqcore=HOSTILE, tier=HOSTILE,
               started=HOSTILE, finished=HOSTILE, machine={HOSTILE: HOSTILE},
               options={HOSTILE: [HOSTILE]})
    )  # fmt: skip
    found = Page(text)
    assert not found.stack
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert not [a for _, a in found.tags if any(name.startswith("on") for name in a)]
    assert "\x1b" not in text


def test_the_page_says_how_many_clauses_were_tried() -> None:
    few = report(backend("a", row("OUT-1/a", "pass"), row("OUT-1/b", "unsupported")))
    total = len(clause_texts())
    assert f"1 of 2 results pass, 1 of {total} clauses on 1 backend" in page(few)


def test_a_link_of_a_waiver_leads_to_the_web_or_nowhere() -> None:
    links = [a.get("href") for tag, a in Page(page(synthetic(100))).tags if tag == "a"]
    assert "https://example.org/careless/issues/31" in links
    assert "javascript:alert(1)" not in links


def test_the_page_stays_small() -> None:
    assert len(page(synthetic(1500, ("numpy", "torch", "tensorflow", "jax"))).encode()) < 2e6


def test_a_page_of_failures_alone_stays_small() -> None:
    finding = Finding(message="m" * 400, expected="1 " * 4000, received="2 " * 4000,
                      traceback="\n".join(["  File somewhere"] * 400))  # fmt: skip
    rows = [row(f"OUT-1/{i}", "error", findings=[finding]) for i in range(1500)]
    text = page(report(backend("a", *rows)))
    assert len(text.encode()) < 2e6
    assert text.count('class="failure"') == IN_FULL


def test_the_colours_of_every_status_have_contrast() -> None:
    style = files("seqcore.conformance.report").joinpath("page.css").read_text("utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, flags=re.DOTALL)
    for scheme in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        pairs = [(name, f"{name}-ink") for name in colours if f"{name}-ink" in colours]
        assert len(pairs) == 6
        pairs += [(back, ink) for back in ("page", "panel") for ink in ("ink", "faint", "link")]
        for back, ink in pairs:
            assert _contrast(colours[back], colours[ink]) >= 4.5, (back, ink)


def _contrast(first: str, second: str) -> float:
    high, low = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


# The page in a browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
Browse = Callable[[str, int, str], dict[str, object]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Open a page at a width, run a script in it and return the object that it makes."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")

    def browse(text: str, width: int, script: str) -> dict[str, object]:
        # A frame has the width asked for, which a window below 500 pixels may not get.
        inner = tmp_path / "inner.html"
        add = (
            "<script>addEventListener('load', () => { const result = (() => {"
            f"{script}"
            "})(); parent.postMessage(JSON.stringify(result), '*'); });</script></body>"
        )
        inner.write_text(text.replace("</body>", add), encoding="utf-8")
        outer = tmp_path / "outer.html"
        outer.write_text(
            "<body><script>addEventListener('message', (e) => "
            "{ document.body.textContent = 'RESULT' + btoa(e.data) + 'END'; });</script>"
            f'<iframe src="inner.html" style="width:{width}px;height:800px;border:0"></iframe>',
            encoding="utf-8",
        )
        done = subprocess.run(
            [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--dump-dom",
             "--allow-file-access-from-files", "--virtual-time-budget=5000",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900", outer.as_uri()],
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        match = re.search("RESULT([A-Za-z0-9+/=]+)END", done.stdout)
        assert match is not None, done.stdout[-2000:] + done.stderr[-2000:]
        found: dict[str, object] = json.loads(base64.b64decode(match[1]))
        return found

    return browse


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_width(browse: Browse, width: int) -> None:
    found = browse(
        page(synthetic()),
        width,
        """
        document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const box = document.querySelector(".box");
        return {
          room: document.documentElement.clientWidth,
          body: document.documentElement.scrollWidth,
          matrix: box.scrollWidth > box.clientWidth,
          shown: box.getBoundingClientRect().height > 100,
        };
        """,
    )
    assert found["body"] == found["room"]
    assert found["room"] == pytest.approx(width, abs=20)
    assert found["matrix"] == (width == 390)
    assert found["shown"]


def test_the_page_filters_and_opens_what_a_link_names(browse: Browse) -> None:
    found = browse(
        page(synthetic(300)),
        1280,
        """
        const visible = () => [...document.querySelectorAll("tr.clause")]
          .filter((one) => one.getClientRects().length).map((one) => one.id);
        const all = visible().length;
        const words = document.getElementById("words");
        words.value = "mask-3 State";
        words.dispatchEvent(new Event("input"));
        const named = visible();
        words.value = "";
        words.dispatchEvent(new Event("input"));
        document.querySelector('button[data-status="e"]').click();
        const raised = visible();
        const entries = [...document.querySelectorAll("#ERR-5 + .drill .cases tbody tr")];
        document.querySelector('button[data-status="e"]').click();
        const drill = document.querySelector("#ERR-5 + .drill");
        const closed = drill.getClientRects().length;
        document.querySelector("#ERR-5 summary").click();
        const opened = drill.getClientRects().length;
        return { all, named, raised, entries: entries.length, closed, opened };
        """,
    )
    assert found["all"] == len(clause_texts())
    assert found["named"] == ["MASK-3"]
    assert isinstance(found["raised"], list)
    assert "ERR-5" in found["raised"]
    assert len(found["raised"]) < 10
    assert (found["closed"], found["opened"]) == (0, 1)


def test_the_page_is_whole_without_its_script(browse: Browse) -> None:
    text = re.sub(r"<script>.*?</script>", "", page(synthetic(300)), flags=re.DOTALL)
    found = browse(
        text,
        1280,
        """
        const drill = document.querySelector("#MASK-3 + .drill");
        document.querySelector("#MASK-3 details").open = true;
        return {
          filter: document.getElementById("filter").getClientRects().length,
          clauses: [...document.querySelectorAll("tr.clause")]
            .filter((one) => one.getClientRects().length).length,
          cases: drill.querySelector(".cases tbody tr").getClientRects().length,
        };
        """,
    )
    assert found == {"filter": 0, "clauses": len(clause_texts()), "cases": 1}


def test_colours_of_a_library_s_errors_are_left_out() -> None:
    assert clean("\x1b[1mException\x1b[0m: \x1b[38;5;1mbad\x07") == "Exception: bad\ufffd"
