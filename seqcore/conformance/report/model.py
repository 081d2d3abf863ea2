"""A report: everything that one run of the suite found, as it stands in its JSON file."""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from seqcore.conformance import clauses as specification
from seqcore.conformance.model import Case, Finding, Status, ValueCase, Verdict
from seqcore.errors import FileError
from seqcore.files import replacing

KIND: Literal["seqcore-conformance-report"] = "seqcore-conformance-report"

FORMAT = 1
"""The version of the format. A new field with a default leaves it as it is."""

MOST_UNJUDGED = 0.05
"""The share of cases that random arrays may leave without a judgement by value."""

SEVERITY: tuple[Status, ...] = (
    "error",
    "fail",
    "waived",
    "not-implemented",
    "unsupported",
    "pass",
)
"""Every status, the worst first."""

Kind = Literal["outputs", "gradients"]
KINDS: tuple[Kind, ...] = ("outputs", "gradients")

_GROUP = re.compile(r"^## ([A-Z]+): (.+)$", re.MULTILINE)


class Worst(msgspec.Struct, frozen=True):
    """The largest error of a case.

    Attributes:
        eps: In eps; None where it is infinite or NaN.
        limit: What is allowed there, in eps.
    """

    eps: float | None
    limit: float

    def __post_init__(self) -> None:
        if not (self.limit >= 0 and (self.eps is None or self.eps >= 0)):
            raise ValueError(
                f"error {self.eps} of a limit of {self.limit}, expected no less than 0"
            )

    @property
    def share(self) -> float:
        """Return the error as a share of the limit, infinite where it is not finite."""
        if self.eps == 0:
            return 0.0
        return math.inf if self.eps is None or self.limit == 0 else self.eps / self.limit


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one case came to on one backend.

    Attributes:
        case: The case's identifier.
        clauses: The clauses that it cites.
        status: After waivers.
        dtype: Of the call, where the case is one.
        findings: What is wrong, or the reason why the case was not run.
        worst: The largest errors, for `"outputs"` and `"gradients"`.
        seconds: How long it ran.
        plans: The implementations that ran.
        waiver: The reason of the waiver that covers it.
        script: The path of the script that reproduces a failure alone.
        judged: Whether values were compared wherever they should be; see `Verdict`.
        tried: Whether it ran; see `Verdict`.
    """

    case: str
    clauses: list[str]
    status: Status
    dtype: str = ""
    findings: list[Finding] = []
    worst: dict[Kind, Worst] = {}
    seconds: float = 0.0
    plans: list[str] = []
    waiver: str = ""
    script: str = ""
    judged: bool = True
    tried: bool = True

    @classmethod
    def of(cls, case: Case, verdict: Verdict, *, waiver: str = "", script: str = "") -> Row:
        """Return the row of a case.

        Args:
            case: The case.
            verdict: What came of it.
            waiver: The reason of the waiver in force; what failed counts as waived then.
            script: The path of the script that reproduces it.
        """
        failed = verdict.status in ("fail", "error")
        return cls(
            case=case.id,
            clauses=list(case.clauses),
            status="waived" if waiver and failed else verdict.status,
            dtype=case.dtype if isinstance(case, ValueCase) else "",
            findings=[_finite_finding(finding) for finding in verdict.findings],
            worst={
                kind: Worst(_finite(verdict.worst[kind][0]), verdict.worst[kind][1])
                for kind in KINDS
                if kind in verdict.worst
            },
            seconds=round(verdict.seconds, 4),
            plans=list(verdict.plans),
            waiver=waiver if failed else "",
            script=script,
            judged=verdict.judged,
            tried=verdict.tried,
        )


class Support(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a backend declares of one feature, and why where it is not supported."""

    support: Literal["supported", "unsupported", "not-implemented"]
    reason: str = ""


class BackendResults(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One backend's part of a report.

    Attributes:
        name: The backend's name.
        version: The version of its engine.
        distribution: The distribution that registers it, and its version.
        devices: The devices at hand, the default one first.
        capabilities: By feature.
        ended: How its process ended before its time; "" where it did not.
        seconds: From the start of its process to its end.
        rows: Its cases, in the order of the run.
    """

    name: str
    version: str = ""
    distribution: str = ""
    devices: list[str] = []
    capabilities: dict[str, Support] = {}
    ended: str = ""
    seconds: float = 0.0
    rows: list[Row] = []

    def counts(self) -> dict[Status, int]:
        """Return how many cases have each status, the worst first."""
        return _ordered(Counter(row.status for row in self.rows))

    def told(self) -> list[Row]:
        """Return the failures that are worth telling: of cases that were not run, the first."""
        failed = [row for row in self.rows if row.status in ("fail", "error")]
        idle = [row for row in failed if not row.tried]
        return [row for row in failed if row not in idle[1:]]

    def plans(self) -> dict[str, int]:
        """Return in how many cases each implementation ran, the most used first."""
        return dict(Counter(plan for row in self.rows for plan in row.plans).most_common())


class Pair(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The largest difference between two backends in one data type.

    Attributes:
        first: A backend.
        second: A backend that comes after it in the report.
        kind: Of outputs or of gradients.
        dtype: The data type.
        eps: In eps; None where it is infinite or NaN.
        cases: How many cases were compared.
        case: Where it is largest.
    """

    first: str
    second: str
    kind: Kind
    dtype: str
    eps: float | None
    cases: int
    case: str = ""


class WaiverUse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A waiver, and what became of it.

    Attributes:
        backend: The backend that it is for.
        case: The case, or a pattern of cases, that it is for; or
        clause: the clause.
        reason: Why.
        link: Where the defect is followed up.
        expires: The last day on which it holds, as in `"2026-12-31"`.
        state: `"used"`; `"stale"` where nothing that it covers failed; `"untried"` where nothing
            failed that was run, and not all that it covers was; `"expired"`.
        cases: The cases that it covers and that failed.
    """

    backend: str
    case: str = ""
    clause: str = ""
    reason: str
    link: str = ""
    expires: str
    state: Literal["used", "untried", "stale", "expired"]
    cases: list[str] = []

    @property
    def spoiled(self) -> bool:
        """Whether the run fails by it."""
        return self.state in ("stale", "expired")


class ClauseText(msgspec.Struct, frozen=True):
    """A clause of the specification that the run was judged by."""

    id: str
    title: str
    text: str

    @property
    def group(self) -> str:
        """The part of the identifier before the number."""
        return self.id.partition("-")[0]


class Cell(msgspec.Struct, frozen=True):
    """A clause, or a group of clauses, on one backend.

    Attributes:
        status: The worst of its cases; None where there are none.
        counts: How many of its cases have each status, the worst first.
    """

    status: Status | None
    counts: dict[Status, int]

    @property
    def total(self) -> int:
        """How many cases there are."""
        return sum(self.counts.values())

    @property
    def passed(self) -> int:
        """How many passed. One that was not run did not."""
        return self.counts.get("pass", 0)


class Report(msgspec.Struct, kw_only=True):
    """Everything that one run found.

    Attributes:
        kind: What the file is.
        format: `FORMAT`.
        spec: The version of the specification.
        seqcore: The version of the library.
        seed: From which every random array follows.
        tier: Of the run.
        started: When, in UTC, as in `"2026-01-31T12:00:00Z"`.
        finished: The same; "" while it runs.
        interrupted: Whether it was stopped by hand.
        options: What else was asked for.
        machine: Where it ran.
        groups: The title of each group of clauses.
        clauses: In the order of the specification.
        backends: In the order of the run.
        pairs: The pairwise map.
        waivers: All that were given.
    """

    kind: Literal["seqcore-conformance-report"] = KIND
    format: int = FORMAT
    spec: str
    seqcore: str
    seed: int
    tier: str
    started: str
    finished: str = ""
    interrupted: bool = False
    options: dict[str, str | int | float | list[str]] = {}
    machine: dict[str, str | int | float] = {}
    groups: dict[str, str] = {}
    clauses: list[ClauseText] = []
    backends: list[BackendResults] = []
    pairs: list[Pair] = []
    waivers: list[WaiverUse] = []

    def __post_init__(self) -> None:
        _check_unique("backend", [one.name for one in self.backends])
        for one in self.backends:
            _check_unique(f"case of backend {one.name!r}", [row.case for row in one.rows])

    @property
    def failed(self) -> bool:
        """Whether anything failed: a case, a process, a waiver, or a backend without a case."""
        return bool(self.reasons())

    def reasons(self) -> list[str]:
        """Return in short sentences why the run failed; nothing where it did not."""
        found = []
        verbs: dict[Status, str] = {"fail": "failed", "error": "raised an error"}
        for backend in self.backends:
            counts = backend.counts()
            tried = Counter(row.status for row in backend.rows if row.tried)
            idle = sum(not row.tried for row in backend.rows)
            if backend.ended:
                found.append(f"{backend.name}: {backend.ended}")
            if idle:
                found.append(f"{backend.name}: {plural(idle, 'case')} not run")
            found += [
                f"{backend.name}: {plural(tried[status], 'case')} {verb}"
                for status, verb in verbs.items()
                if tried[status]
            ]
            if not backend.ended and not counts.keys() - {"unsupported", "not-implemented"}:
                found.append(f"{backend.name}: no case ran")
            unjudged = sum(not row.judged for row in backend.rows)
            if unjudged > MOST_UNJUDGED * len(backend.rows):
                found.append(
                    f"{backend.name}: {plural(unjudged, 'case')} too sensitive to rounding to be "
                    f"judged by value, expected at most {MOST_UNJUDGED:.0%}; try another seed"
                )
        for waiver in self.waivers:
            if waiver.spoiled:
                name = waiver.case or waiver.clause
                found.append(f"{waiver.backend}: the waiver of {name} is {waiver.state}")
        return found or ([] if self.backends else ["no backend ran"])

    def counts(self) -> dict[Status, int]:
        """Return how many cases on all backends have each status, the worst first."""
        return _ordered(Counter(row.status for one in self.backends for row in one.rows))

    def matrix(self) -> dict[tuple[str, str], Cell]:
        """Return the cell of each clause on each backend, by their identifier and name."""
        return self._cells(lambda clause: clause)

    def group_matrix(self) -> dict[tuple[str, str], Cell]:
        """Return the cell of each group of clauses on each backend."""
        return self._cells(group_of)

    def all_clauses(self) -> list[ClauseText]:
        """Return the clauses of the specification, and those that only cases name."""
        found = {one.id: one for one in self.clauses}
        for backend in self.backends:
            for row in backend.rows:
                for clause in row.clauses:
                    if clause not in found:
                        found[clause] = ClauseText(clause, "not in this specification", "")
        return list(found.values())

    def _cells(self, key: Callable[[str], str]) -> dict[tuple[str, str], Cell]:
        """Return the cells of what `key` makes of a clause."""
        places = dict.fromkeys(key(one.id) for one in self.all_clauses())
        found: dict[tuple[str, str], Counter[Status]] = {
            (place, one.name): Counter() for place in places for one in self.backends
        }
        for one in self.backends:
            for row in one.rows:
                for place in dict.fromkeys(map(key, row.clauses)):
                    found[place, one.name][row.status] += 1
        return {place: _cell(counts) for place, counts in found.items()}


def group_of(clause: str) -> str:
    """Return the part of a clause's identifier before the number."""
    return clause.partition("-")[0]


def clause_texts() -> list[ClauseText]:
    """Return the clauses of the installed specification."""
    return [ClauseText(one.id, one.title, one.text) for one in specification.clauses().values()]


def group_titles() -> dict[str, str]:
    """Return the title of each group of clauses of the installed specification."""
    groups = {one.group for one in specification.clauses().values()}
    found = _GROUP.findall(specification.specification())
    return {name: title for name, title in found if name in groups}


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def to_json(report: Report) -> bytes:
    """Return a report as JSON, one field a line where that helps a reader."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def from_json(data: bytes | str, source: str = "the report") -> Report:
    """Return the report that JSON holds.

    Args:
        data: The JSON.
        source: What it is called in an error.

    Raises:
        FileError: if it is not JSON, not a report, or in another version of the format.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
    except msgspec.ValidationError as error:
        raise FileError(
            f"{source}: expected a report of the conformance suite, received JSON in which {error}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{source}: expected JSON, received {error}") from error
    if head.kind != KIND:
        raise FileError(
            f"{source}: expected a report of the conformance suite, received kind {head.kind!r}"
        )
    if head.format != FORMAT:
        raise FileError(
            f"{source}: expected format {FORMAT} of a conformance report, received {head.format}; "
            "read it with the version of seqcore that wrote it"
        )
    try:
        return msgspec.json.decode(data, type=Report)
    except msgspec.DecodeError as error:
        raise FileError(f"{source}: expected a conformance report, received {error}") from error


def read_report(path: str | os.PathLike[str]) -> Report:
    """Read a report from a JSON file.

    Raises:
        FileError: if there is no such file, or it holds anything else.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    return from_json(data, str(path))


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write a report as a JSON file, as a whole or not at all.

    Raises:
        FileError: if the file cannot be written.
    """
    with replacing(path) as file:
        file.write(to_json(report))


def json_schema() -> dict[str, Any]:
    """Return the JSON schema of a report; `schema.json` beside this module holds the same."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | msgspec.json.schema(Report)


class _Head(msgspec.Struct):
    kind: str
    format: int


def _check_unique(subject: str, names: Sequence[str]) -> None:
    """Check that a name is there once.

    Raises:
        ValueError: if one is there several times.
    """
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"{subject}: {name!r} is there {count} times, expected once")


def _cell(counts: Mapping[Status, int]) -> Cell:
    ordered = _ordered(counts)
    return Cell(next(iter(ordered), None), ordered)


def _ordered(counts: Mapping[Status, int]) -> dict[Status, int]:
    return {status: counts[status] for status in SEVERITY if counts.get(status)}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _finite_finding(finding: Finding) -> Finding:
    """Return a finding that JSON can hold: it knows no infinity."""
    if finding.eps is None or math.isfinite(finding.eps):
        return finding
    return msgspec.structs.replace(finding, eps=None)
