"""The suite tried on wrong backends: each must be caught by the clause that it breaks.

A case counts only where the honest backend, from which the wrong one is made, passes it.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager

import msgspec

from seqcore.conformance import judge
from seqcore.conformance.cases import all_cases, of_tier
from seqcore.conformance.clauses import clauses
from seqcore.conformance.execute import execute
from seqcore.conformance.model import Case, Observed, ValueCase, Verdict
from seqcore.conformance.mutants import NAME, Mutant, Unavailable, all_mutants, replaced
from seqcore.conformance.mutants.wrong import WrongBackend
from seqcore.conformance.session import judged
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import expected
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, BackendSpec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one mutant.

    Attributes:
        mutant: Its name.
        clause: The clause that it breaks.
        killed_by: The case that caught it; "" where none did.
        cases: How many cases it was tried on.
        seconds: How long that took.
        left_out: Why it was not tried: what it is made from is not installed.
    """

    mutant: str
    clause: str
    killed_by: str = ""
    cases: int = 0
    seconds: float = 0.0
    left_out: str = ""


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all mutants.

    Attributes:
        seed: From which every random array followed.
        rows: One for each mutant.
        doubtful: Cases that a mutant failed and the honest backend, too; what is wrong with each.
        seconds: How long it took.
    """

    seed: int
    rows: list[Row]
    doubtful: dict[str, str] = {}
    seconds: float = 0.0

    @property
    def survivors(self) -> list[Row]:
        """The mutants that no case caught."""
        return [row for row in self.rows if not row.killed_by and not row.left_out]

    @property
    def killed(self) -> list[Row]:
        """The mutants that a case caught."""
        return [row for row in self.rows if row.killed_by]

    def table(self) -> str:
        """Return the rows as text, with a line for the sum."""
        lines = [("clause", "mutant", "killed by", "cases", "seconds")]
        for row in self.rows:
            end = row.killed_by or (f"left out: {row.left_out}" if row.left_out else "SURVIVED")
            lines.append((row.clause, row.mutant, end, str(row.cases), f"{row.seconds:.2f}"))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        shown = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        tried = len(self.killed) + len(self.survivors)
        shown.append(f"{len(self.killed)} of {tried} killed in {self.seconds:.0f} s")
        shown += [f"doubtful: {case}: {reason}" for case, reason in self.doubtful.items()]
        return "\n".join(shown)


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
    return Score(seed=seed, rows=rows, doubtful=trial.doubtful, seconds=took)


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
        self.doubtful: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._passed: set[tuple[str, str]] = set()
        self._failed: set[tuple[str, str]] = set()
        self._base = WrongBackend()

    def row(self, mutant: Mutant) -> Row:
        """Try a mutant."""
        start = time.perf_counter()
        tried = 0
        killed_by = left_out = ""
        cases = sorted(
            (case for case in self.cases if mutant.clause in case.clauses),
            key=lambda case: self._cost(case, mutant.clause),
        )
        try:
            for case in cases:
                tried += 1
                name = self._caught(mutant, case)
                if name is not None and self._honest(name, case):
                    killed_by = case.id
                    break
        except Unavailable as error:
            left_out, tried = str(error), 0
        return Row(
            mutant=mutant.name,
            clause=mutant.clause,
            killed_by=killed_by,
            cases=tried,
            seconds=time.perf_counter() - start,
            left_out=left_out,
        )

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

    def _cost(self, case: Case, clause: str) -> float:
        """Return the seconds that a case takes, more where it cites the clause late."""
        known = self._seconds.get(case.id)
        return (_guess(case) if known is None else known) * (1 + case.clauses.index(clause))


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
