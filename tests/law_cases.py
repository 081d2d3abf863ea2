"""Laws run in this process: which there are, and which of them do not hold on a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from seqcore.conformance.cases import all_cases
from seqcore.conformance.execute import execute
from seqcore.conformance.model import LawCase, Verdict
from seqcore.conformance.mutants import NAME
from seqcore.conformance.subject import Subject
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, Backend, BackendSpec


def laws(*starts: str) -> list[LawCase]:
    """The laws whose identifiers begin so, but for those that draw layers: these are properties."""
    found = [case for case in all_cases() if isinstance(case, LawCase)]
    return [
        case
        for case in found
        if case.id.startswith(starts or ("",)) and "/any-layer" not in case.id
    ]


def before_full(cases: Iterable[LawCase]) -> list[LawCase]:
    """Those that the standard tier runs."""
    return [case for case in cases if case.tier != "full"]


def verdict(name: str, case: LawCase, seed: int = 0) -> Verdict:
    found = execute(case, Subject(name, seed))
    assert isinstance(found, Verdict)
    return found


def departures(name: str, cases: Iterable[LawCase], seed: int = 0) -> dict[str, str]:
    """The messages of the laws that do not hold, of those whose needs are supported."""
    subject = Subject(name, seed)
    runnable = [case for case in cases if all(map(subject.supports, case.needs))]
    assert runnable
    found = {case.id: verdict(name, case, seed) for case in runnable}
    return {key: one.findings[0].message for key, one in found.items() if one.status != "pass"}


@contextmanager
def registered(backend: Backend) -> Iterator[str]:
    """The name under which a backend is registered in the block."""
    spec = BackendSpec(name=NAME, factory="seqcore:none", spi=SPI_VERSION)
    with registry.temporarily(spec, lambda: backend):
        yield NAME


def caught(backend: Backend, clause: str) -> list[str]:
    """The laws of a clause that do not hold on a backend."""
    cases = [case for case in before_full(laws()) if clause in case.clauses]
    with registered(backend) as name:
        return list(departures(name, cases))
