"""The suite tried on wrong backends: each must be caught by the clause that it breaks.

A case counts only where the honest backend, from which the wrong one is made, passes it. Laws are
cheap and catch nearly everything, so mutants of what a value shows are tried a second time on value
cases alone: comparing with the oracle has to be as sharp as the laws are.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

import msgspec

from seqcore.conformance import judge
from seqcore.conformance.cases import all_cases, of_tier
from seqcore.conformance.clauses import clauses
from seqcore.conformance.execute import execute
from seqcore.conformance.model import Case, Observed, ValueCase, Verdict
from seqcore.conformance.mutants import NAME, Mutant, Unavailable, all_mutants, replaced
from seqcore.conformance.mutants.beyond_values import BEYOND_VALUES
from seqcore.conformance.mutants.wrong import WrongBackend
from seqcore.conformance.session import judged
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import expected
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, BackendSpec

ADMITTED_SHARE = 0.95
"""The share of value cases that has to be judged by value."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one mutant.

    Attributes:
        mutant: Its name.
        clause: The clause that it breaks.
        killed_by: The case of its clause that caught it; "" where none did.
        value: The value case, of any clause, that caught it; "" where none did, or none was asked
            because no value shows the clause.
        beyond_values: Why no value can show it, where that is so.
        cases: How many cases it was tried on.
        seconds: How long that took.
        left_out: Why it was not tried: what it is made from is not installed.
    """

    mutant: str
    clause: str
    killed_by: str = ""
    value: str = ""
    beyond_values: str = ""
    cases: int = 0
    seconds: float = 0.0
    left_out: str = ""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all mutants.

    Attributes:
        seed: From which every random array followed.
        rows: One for each mutant.
        doubtful: Cases that a mutant failed and the honest backend, too; what is wrong with each.
        valued: The clauses that a value shows.
        admitted: How many value cases are judged by value, and of how many they are.
        seconds: How long it took.
    """

    seed: int
    rows: list[Row]
    doubtful: dict[str, str] = {}
    valued: list[str] = []
    admitted: tuple[int, int] = (0, 0)
    seconds: float = 0.0

    @property
    def survivors(self) -> list[Row]:
        """The mutants that no case caught."""
        return [row for row in self.rows if not row.killed_by and not row.left_out]

    @property
    def killed(self) -> list[Row]:
        """The mutants that a case caught."""
        return [row for row in self.rows if row.killed_by]

    @property
    def by_value(self) -> list[Row]:
        """The mutants that a value case has to catch."""
        return [
            row
            for row in self.rows
            if row.clause in self.valued and not row.left_out and not row.beyond_values
        ]

    def faults(self) -> list[str]:
        """Return what the suite fails to do, a line each."""
        found = [
            f"{row.clause}: {row.mutant}: no case of the clause caught it" for row in self.survivors
        ]
        found += [
            f"{row.clause}: {row.mutant}: no value case caught it"
            for row in self.by_value
            if not row.value
        ]
        found += [
            f"{row.clause}: {row.mutant}: said to be beyond values, caught by {row.value}"
            for row in self.rows
            if row.beyond_values and row.value
        ]
        found += [
            f"{case}: the honest backend fails it, too: {reason}"
            for case, reason in self.doubtful.items()
        ]
        judged, cases = self.admitted
        if judged < ADMITTED_SHARE * cases:
            found.append(
                f"{judged} of {cases} value cases are judged by value, expected "
                f"{ADMITTED_SHARE:.0%}"
            )
        return found

    def table(self) -> str:
        """Return the rows as text, with the sums and what is wrong."""
        lines = [("clause", "mutant", "killed by", "by value", "cases", "seconds")]
        for row in self.rows:
            end = row.killed_by or (f"left out: {row.left_out}" if row.left_out else "SURVIVED")
            value = row.value or row.beyond_values or ("SURVIVED" if row in self.by_value else "")
            lines.append((row.clause, row.mutant, end, value, str(row.cases), f"{row.seconds:.2f}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join([*shown, self.summary(), *self.faults()])

    def summary(self) -> str:
        """Return the sums, a line each."""
        tried = len(self.killed) + len(self.survivors)
        valued = [row for row in self.by_value if row.value]
        judged, cases = self.admitted
        lines = [
            f"{len(self.killed)} of {tried} mutants killed by a case of their clause",
            f"{len(valued)} of {len(self.by_value)} that a value shows killed by values alone",
        ]
        if cases:
            lines.append(f"{judged} of {cases} value cases judged by value")
        return "\n".join([*lines, f"{self.seconds:.0f} s"])


class Coverage(msgspec.Struct, frozen=True, kw_only=True):
    """One clause with what stands for it.

    Attributes:
        clause: Its identifier.
        title: Its heading.
        cases: The cases of the standard tier that cite it.
        mutants: The mutants that break it, each with the case that caught it.
    """

    clause: str
    title: str
    cases: list[str]
    mutants: dict[str, str]


def self_test(
    seed: int = 0,
    only: Collection[str] | None = None,
    progress: Callable[[Row], None] = lambda row: None,
) -> Score:
    """Try every mutant on the cases of the standard tier that cite its clause, until one fails.

    Those that break what a value shows are tried on value cases alone, too, whatever these cite.

    Args:
        seed: From which every random array follows.
        only: Clauses, as `"MASK-4"`, or groups of them, as `"MASK"`; by default all.
        progress: Called with the row of each mutant when it is done.

    Raises:
        ValueError: if `only` names what is no clause and no group.
    """
    start = time.perf_counter()
    trial = _Trial(seed, of_tier(all_cases(), "standard"))
    rows = []
    for mutant in _chosen(all_mutants(), only):
        rows.append(trial.row(mutant))
        progress(rows[-1])
    took = time.perf_counter() - start
    return Score(
        seed=seed,
        rows=rows,
        doubtful=trial.doubtful,
        valued=sorted(trial.valued),
        admitted=trial.admitted() if only is None else (0, 0),
        seconds=took,
    )


def coverage(score: Score | None = None) -> list[Coverage]:
    """Return every clause with its cases, its mutants and, of a score, what caught these."""
    caught = {} if score is None else {row.mutant: row.killed_by for row in score.rows}
    cases, mutants = of_tier(all_cases(), "standard"), all_mutants()
    return [
        Coverage(
            clause=clause.id,
            title=clause.title,
            cases=[case.id for case in cases if clause.id in case.clauses],
            mutants={
                one.name: caught.get(one.name, "") for one in mutants if one.clause == clause.id
            },
        )
        for clause in clauses().values()
    ]


class _Trial:
    """The cases, what is known of their cost, and what honest backends make of them."""

    def __init__(self, seed: int, cases: Iterable[Case]) -> None:
        self.seed = seed
        self.cases = tuple(cases)
        self.values = tuple(case for case in self.cases if isinstance(case, ValueCase))
        self.valued = {clause for case in self.values for clause in case.clauses}
        self.doubtful: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._passed: set[tuple[str, str]] = set()
        self._failed: set[tuple[str, str]] = set()
        self._base = WrongBackend()

    def row(self, mutant: Mutant) -> Row:
        """Try a mutant."""
        start = time.perf_counter()
        own = [case for case in self.cases if mutant.clause in case.clauses]
        shown: Sequence[Case] = self.values if mutant.clause in self.valued else ()
        beyond = BEYOND_VALUES.get(mutant.name, "")
        try:
            killed_by, tried = self._killer(mutant, own)
            value, more = self._killer(mutant, own if beyond else shown, ValueCase)
        except Unavailable as error:
            return Row(mutant=mutant.name, clause=mutant.clause, left_out=str(error))
        return Row(
            mutant=mutant.name,
            clause=mutant.clause,
            killed_by=killed_by,
            value=value,
            beyond_values=beyond,
            cases=tried + more,
            seconds=time.perf_counter() - start,
        )

    def admitted(self) -> tuple[int, int]:
        """Return how many value cases are judged by value, and of how many they are."""
        known = [expected(case, self.seed) for case in self.values if not case.wild]
        return sum(all(map(one.admitted, one.noise)) for one in known), len(known)

    def _killer(
        self, mutant: Mutant, cases: Iterable[Case], kind: type[Case] = Case
    ) -> tuple[str, int]:
        """Return the first case of a kind that catches a mutant, and how many were tried."""
        ordered = sorted(
            (case for case in cases if isinstance(case, kind)),
            key=lambda case: (mutant.clause not in case.clauses, self._cost(case)),
        )
        for tried, case in enumerate(ordered, 1):
            name = self._caught(mutant, case)
            if name is not None and self._honest(name, case):
                return case.id, tried
        return "", len(ordered)

    def _caught(self, mutant: Mutant, case: Case) -> str | None:
        """Return the name of the backend that a mutant is made from where a case catches it."""
        with mutant.registered() as name:
            found = self._run(case, Subject(name, self.seed))
        # Judged where the library is itself again: a mutant may have replaced a part of it.
        verdict = self._verdict(case, found)
        return name if verdict is not None and verdict.status != "pass" else None

    def _honest(self, name: str, case: Case) -> bool:
        """Return whether the backend that a mutant is made from passes a case."""
        if (name, case.id) in self._passed:
            return True
        if (name, case.id) in self._failed:
            return False
        with self._registered(name):
            verdict = self._verdict(case, self._run(case, Subject(name, self.seed)))
        if verdict is not None and verdict.status == "pass":
            self._passed.add((name, case.id))
            return True
        self._failed.add((name, case.id))
        reason = verdict.findings[0].message if verdict is not None else "it does not run there"
        self.doubtful[case.id] = reason
        return False

    @contextmanager
    def _registered(self, name: str) -> Iterator[None]:
        if name != NAME:
            yield
            return
        spec = BackendSpec(name=NAME, factory="seqcore:honest", spi=SPI_VERSION)
        with registry.temporarily(spec, lambda: self._base):
            yield

    def _run(self, case: Case, subject: Subject) -> Observed | Verdict | None:
        """Return what a case gives, or None where the backend does not declare what it uses."""
        if not all(map(subject.supports, case.needs)):
            return None
        start = time.perf_counter()
        with warnings.catch_warnings(), _nothing_kept():
            warnings.simplefilter("ignore")
            found = execute(case, subject)
        self._seconds[case.id] = time.perf_counter() - start
        return found

    def _verdict(self, case: Case, found: Observed | Verdict | None) -> Verdict | None:
        if found is None:
            return None
        start = time.perf_counter()
        verdict = judged(case, found, self.seed)
        self._seconds[case.id] += time.perf_counter() - start
        return verdict

    def _cost(self, case: Case) -> float:
        """Return about how many seconds a case takes."""
        known = self._seconds.get(case.id)
        return _guess(case) if known is None else known


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """Keep nothing that a law has the oracle compute: it may be by a part of a mutant."""
    with replaced(judge, "expected", expected.__wrapped__):
        yield


def _guess(case: Case) -> float:
    """Return about how many seconds a case takes that has not run yet."""
    if not isinstance(case, ValueCase):
        return 0.01
    steps = case.batch * case.time * (5 if case.gradients else 1)
    return 0.02 + 2e-4 * steps


def _chosen(mutants: Iterable[Mutant], only: Collection[str] | None) -> list[Mutant]:
    if only is None:
        return list(mutants)
    known = {part for clause in clauses().values() for part in (clause.id, clause.group)}
    unknown = sorted(set(only) - known)
    if unknown:
        raise ValueError(
            f"only: received {', '.join(unknown)}, expected clauses such as 'MASK-4' or groups "
            "such as 'MASK'"
        )
    return [one for one in mutants if one.clause in only or one.clause.partition("-")[0] in only]
