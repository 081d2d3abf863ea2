"""Waivers: failures that are known, each with its reason, a link and an end.

    [[waiver]]
    backend = "mine"
    case = "LSTM-1/step/*"        # or: clause = "LSTM-1"
    reason = "the engine's tanh is off by 40 eps below 1e-3"
    link = "https://example.org/issues/12"
    expires = 2026-12-31

A waiver is never forgotten: it always shows, and the run fails where it has expired or where
nothing that it covers fails any more.
"""

from __future__ import annotations

import datetime
import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from seqcore.conformance.clauses import clauses
from seqcore.conformance.model import Case, Verdict
from seqcore.conformance.plugins import hooks
from seqcore.conformance.report.model import WaiverUse
from seqcore.errors import FileError

FAILURES = ("fail", "error")
Verdicts = Mapping[str, Mapping[str, Verdict]]
"""By backend and case."""


class Waiver(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Leave to fail.

    Attributes:
        backend: The backend's name.
        reason: Why.
        link: Where the defect is followed up.
        expires: The last day on which it holds.
        case: The case, or a pattern of cases such as `"MASK-4/*"`; or
        clause: the clause.
    """

    backend: str
    reason: str
    link: str
    expires: datetime.date
    case: str = ""
    clause: str = ""

    def __post_init__(self) -> None:
        for name in ("backend", "reason", "link"):
            if not getattr(self, name).strip():
                raise ValueError(f"{name}: received an empty text, expected one that says it")
        if ":" in self.backend:
            raise ValueError(
                f"backend: received {self.backend!r}, expected the backend's own name, not "
                "where it is made"
            )
        if bool(self.case) == bool(self.clause):
            raise ValueError("expected one of case and clause")
        if self.clause and self.clause not in clauses():
            raise ValueError(f"clause: the specification has no {self.clause!r}")

    def covers(self, backend: str, case: Case) -> bool:
        """Return whether it is for a case on a backend."""
        if backend != self.backend:
            return False
        return self.clause in case.clauses if self.clause else matches(case, self.case)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    waiver: list[Waiver] = []


def read(path: Path, cases: Iterable[Case]) -> list[Waiver]:
    """Return the waivers of a TOML file.

    Raises:
        FileError: if it cannot be read, holds anything else, or names no case.
    """
    try:
        found = msgspec.toml.decode(path.read_bytes(), type=_File).waiver
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: expected waivers, received {error}") from error
    check(found, cases, str(path))
    return found


def from_plugins(cases: Iterable[Case]) -> list[Waiver]:
    """Return the waivers of plugins.

    Raises:
        FileError: if one is not a waiver, or names no case.
    """
    found = [one for answer in hooks().seqcore_conformance_waivers() for one in answer]
    source = "seqcore_conformance_waivers"
    for one in found:
        if not isinstance(one, Waiver):
            raise FileError(f"{source}: received {type(one).__name__}, expected a Waiver")
    check(found, cases, source)
    return found


def check(waivers: Sequence[Waiver], cases: Iterable[Case], source: str) -> None:
    """Check that waivers name cases that there are.

    Raises:
        FileError: if one does not.
    """
    known = list(cases)
    for one in waivers:
        if one.case and not any(matches(case, one.case) for case in known):
            raise FileError(f"{source}: waiver of {one.case!r}: no case is called so")


def matches(case: Case, pattern: str) -> bool:
    """Return whether a case's identifier is a text or matches it as a pattern."""
    return case.id == pattern or fnmatch.fnmatchcase(case.id, pattern)


def reason(
    waivers: Iterable[Waiver], backend: str, case: Case, today: datetime.date
) -> str:  # fmt: skip
    """Return the reason why a case may fail on a backend; "" where it may not."""
    return next(
        (one.reason for one in waivers if one.expires >= today and one.covers(backend, case)), ""
    )


def uses(
    waivers: Iterable[Waiver], cases: Sequence[Case], verdicts: Verdicts, today: datetime.date
) -> list[WaiverUse]:
    """Return what became of each waiver.

    Args:
        waivers: All that were given.
        cases: All that there are, also those that were not run.
        verdicts: What was found; `waivers` are for backends and cases that it may lack.
        today: Decides which have expired.
    """
    return [_use(one, cases, verdicts.get(one.backend, {}), today) for one in waivers]


def _use(
    one: Waiver, cases: Sequence[Case], verdicts: Mapping[str, Verdict], today: datetime.date
) -> WaiverUse:
    covered = [case.id for case in cases if one.covers(one.backend, case)]
    failed = [name for name in covered if name in verdicts and verdicts[name].status in FAILURES]
    ran = [name for name in covered if name in verdicts]
    state: Literal["used", "untried", "stale", "expired"] = "used"
    if one.expires < today:
        state = "expired"
    elif not failed:
        # Where a part of them was not run, one of the others may still fail.
        state = "stale" if len(ran) == len(covered) else "untried"
    return WaiverUse(
        backend=one.backend,
        case=one.case,
        clause=one.clause,
        reason=one.reason,
        link=one.link,
        expires=one.expires.isoformat(),
        state=state,
        cases=failed,
    )
