"""What changed from one report to a later one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from seqcore.conformance.model import Status
from seqcore.conformance.report.model import (
    KINDS,
    SEVERITY,
    BackendResults,
    Kind,
    Report,
    Row,
    plural,
)
from seqcore.conformance.report.wording import clean, number, one_line, seconds, shorten

SLOWER, LEAST_SECONDS = 1.5, 1.0
"""A backend's time matters where it changes by this factor and by this many seconds."""

LOUDER, LEAST_SHARE = 2.0, 0.25
"""An error matters where it changes by this factor and is this share of its limit."""


@dataclass(frozen=True, slots=True)
class Change:
    """A case whose status changed on one backend.

    Attributes:
        backend: The backend's name.
        case: The case.
        clauses: That it cites.
        old: Its status before.
        new: Its status after.
        message: The first finding after.
    """

    backend: str
    case: str
    clauses: tuple[str, ...]
    old: Status
    new: Status
    message: str


@dataclass(frozen=True, slots=True)
class ErrorChange:
    """A case whose worst error grew or shrank, as a share of its limit."""

    backend: str
    case: str
    kind: Kind
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class TimeChange:
    """A backend that took much more or less time for the cases that both reports have."""

    backend: str
    old: float
    new: float


@dataclass(frozen=True, slots=True)
class Added:
    """Cases that only one of the reports has, by backend, with the status there."""

    backend: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed.

    Attributes:
        worse: Cases whose status got worse.
        better: Cases whose status got better.
        new: Cases that only the later report has.
        gone: Cases that only the earlier one has.
        broken: What fails of the later report and is not a case of the earlier: a process that
            ended, a waiver that is stale, a backend that is missing.
        notes: What makes the two hard to compare.
        errors: Worst errors that changed by much.
        times: Times that changed by much.
    """

    worse: list[Change] = field(default_factory=list)
    better: list[Change] = field(default_factory=list)
    new: list[Added] = field(default_factory=list)
    gone: list[Added] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    errors: list[ErrorChange] = field(default_factory=list)
    times: list[TimeChange] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether anything got worse, or is new and fails."""
        return self.losses > 0

    @property
    def losses(self) -> int:
        """How many things got worse, or are new and fail."""
        failing = [row for one in self.new for row in one.rows if row.status in ("fail", "error")]
        return len(self.worse) + len(self.broken) + len(failing)


def compare_reports(old: Report, new: Report) -> Difference:
    """Return what changed from one report to a later one."""
    found = Difference(notes=_notes(old, new), broken=_broken(old, new))
    before = {one.name: one for one in old.backends}
    for backend in new.backends:
        if backend.name in before:
            _compare(before[backend.name], backend, found)
        elif backend.rows:
            found.new.append(Added(backend.name, tuple(backend.rows)))
    found.errors.sort(key=lambda one: one.old - one.new)
    return found


def text(difference: Difference, limit: int = 30) -> str:
    """Return a difference for a terminal.

    Args:
        difference: What changed.
        limit: How many lines each part has at most.
    """
    return clean("\n".join(_lines(difference, limit)))


def _compare(old: BackendResults, new: BackendResults, found: Difference) -> None:
    before = {row.case: row for row in old.rows}
    after = {row.case: row for row in new.rows}
    spent = [0.0, 0.0]
    for case, row in after.items():
        if case not in before:
            continue
        then = before[case]
        spent = [spent[0] + then.seconds, spent[1] + row.seconds]
        rank, previous = SEVERITY.index(row.status), SEVERITY.index(then.status)
        if rank != previous:
            message = row.findings[0].message if row.findings else ""
            clauses = tuple(row.clauses)
            change = Change(new.name, case, clauses, then.status, row.status, message)
            (found.worse if rank < previous else found.better).append(change)
        found.errors.extend(_errors(new.name, then, row))
    added = tuple(row for case, row in after.items() if case not in before)
    gone = tuple(row for case, row in before.items() if case not in after)
    found.new.extend([Added(new.name, added)] if added else [])
    found.gone.extend([Added(new.name, gone)] if gone else [])
    low, high = sorted(spent)
    if high - low >= LEAST_SECONDS and high >= SLOWER * low:
        found.times.append(TimeChange(new.name, *spent))


def _errors(backend: str, old: Row, new: Row) -> Iterator[ErrorChange]:
    for kind in KINDS:
        if kind not in old.worst or kind not in new.worst:
            continue
        before, after = old.worst[kind].share, new.worst[kind].share
        low, high = sorted((before, after))
        if high >= LEAST_SHARE and high > LOUDER * low:
            yield ErrorChange(backend, new.case, kind, before, after)


def _notes(old: Report, new: Report) -> list[str]:
    pairs = {
        "specification": (old.spec, new.spec),
        "tier": (old.tier, new.tier),
        "seed": (old.seed, new.seed),
    }
    found = [f"{name}: {a} before, {b} after" for name, (a, b) in pairs.items() if a != b]
    runs = {"earlier": old, "later": new}
    found += [f"the {name} run was interrupted" for name, one in runs.items() if one.interrupted]
    before = {one.name: one.version for one in old.backends}
    found += [
        f"{one.name}: version {before[one.name]} before, {one.version} after"
        for one in new.backends
        if before.get(one.name, one.version) != one.version
    ]
    return found


def _broken(old: Report, new: Report) -> list[str]:
    after = {one.name for one in new.backends}
    ended = {one.name for one in old.backends if one.ended}
    found = [f"{one.name}: gone" for one in old.backends if one.name not in after]
    found += [
        f"{one.name}: {one.ended}" for one in new.backends if one.ended and one.name not in ended
    ]
    spoiled = {(one.backend, one.case, one.clause) for one in old.waivers if one.spoiled}
    found += [
        f"{one.backend}: the waiver of {one.case or one.clause} is {one.state}"
        for one in new.waivers
        if one.spoiled and (one.backend, one.case, one.clause) not in spoiled
    ]
    return found


def _lines(difference: Difference, limit: int) -> Iterator[str]:
    yield _outcome(difference)
    yield from _part("Not comparable in every respect", difference.notes, limit)
    yield from _part("Broken", difference.broken, limit)
    yield from _part("Worse", [_change(one) for one in difference.worse], limit)
    yield from _part("Better", [_change(one) for one in difference.better], limit)
    yield from _part("New", [line for one in difference.new for line in _added(one)], limit)
    yield from _part("Gone", [line for one in difference.gone for line in _added(one)], limit)
    errors = [
        f"{one.backend}: {one.case}: {one.kind} {_share(one.old)} of the limit before, "
        f"{_share(one.new)} after"
        for one in difference.errors
    ]
    yield from _part("Errors that changed", errors, limit)
    times = [
        f"{one.backend}: {seconds(one.old)} before, {seconds(one.new)} after"
        for one in difference.times
    ]
    yield from _part("Times that changed", times, limit)


def _outcome(difference: Difference) -> str:
    better = len(difference.better)
    if difference.failed:
        return f"WORSE: {difference.losses} worse, {better} better"
    return f"BETTER: {better} better" if better else "NOT WORSE: no status got worse"


def _part(title: str, lines: Sequence[str], limit: int) -> Iterator[str]:
    if not lines:
        return
    yield f"\n{title}"
    yield from (f"  {line}" for line in lines[:limit])
    if len(lines) > limit:
        yield f"  and {len(lines) - limit} more"


def _change(one: Change) -> str:
    line = f"{one.backend}: {one.case} ({', '.join(one.clauses)}): {one.old} -> {one.new}"
    return line + (f"\n    {shorten(one_line(one.message), 300)}" if one.message else "")


def _added(one: Added) -> Iterator[str]:
    """Yield a line for each that does not pass, and one for the others."""
    passed = sum(row.status == "pass" for row in one.rows)
    other = [row for row in one.rows if row.status != "pass"]
    yield from (f"{one.backend}: {row.case}: {row.status}" for row in other)
    if passed:
        yield f"{one.backend}: {plural(passed, 'case')} that {'passes' if passed == 1 else 'pass'}"


def _share(value: float) -> str:
    return "∞" if value == float("inf") else number(value)
