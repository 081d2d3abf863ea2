"""A run of the suite: some cases on some backends, at the same time, into one report."""

from __future__ import annotations

import datetime
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from seqcore.bench import machine
from seqcore.conformance import clauses, judge, waivers
from seqcore.conformance.journal import Journal
from seqcore.conformance.model import Case, Observed, Status, ValueCase, Verdict
from seqcore.conformance.pairs import pairs
from seqcore.conformance.report.model import (
    BackendResults,
    Report,
    Row,
    Support,
    clause_texts,
    group_titles,
)
from seqcore.conformance.runner import MAX_ENDS, NOT_RUN, EngineFailed, Runner, Settings, failure
from seqcore.conformance.waivers import Waiver
from seqcore.conformance.worker import Started
from seqcore.spi import FEATURES

Progress = Callable[[str, int, str, Status | None], None]
"""Told an engine, how many of its cases are done, the case that begins or is done, and how the
latter ended."""

_judging = threading.Lock()


@dataclass(slots=True)
class _Seat:
    """One engine of a run.

    Attributes:
        engine: As it was given.
        runner: Its process.
        results: What the report says of it.
        verdicts: By case.
    """

    engine: str
    runner: Runner
    results: BackendResults
    verdicts: dict[str, Verdict] = field(default_factory=dict)


class Session:
    """One run; `report` is good at any time after `run` has returned or raised.

    Args:
        engines: Registered names, or `module:factory`.
        cases: What is run.
        known: All cases that there are: waivers may be for others.
        settings: How.
        tier: Which tier the cases are of, for the report.
        jobs: How many backends are run at a time.
        journal: Where verdicts are noted, and found where a run goes on.
        waivers: Failures that are known.
        progress: Told what is being done, from several threads.
    """

    def __init__(
        self,
        engines: Sequence[str],
        cases: Sequence[Case],
        *,
        known: Sequence[Case],
        settings: Settings,
        tier: str,
        jobs: int,
        journal: Journal,
        waivers: Sequence[Waiver],
        progress: Progress,
    ) -> None:
        self._cases = cases
        self._known = known
        self._settings = settings
        self._jobs = jobs
        self._journal = journal
        self._waivers = waivers
        self._progress = progress
        self._today = datetime.date.today()
        self._seats = [
            _Seat(engine, Runner(engine, settings), BackendResults(name=engine))
            for engine in engines
        ]
        self._waiting: queue.SimpleQueue[_Seat] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self.report = Report(
            spec=clauses.version(),
            seqcore=version("seqcore"),
            seed=settings.seed,
            tier=tier,
            started=_now(),
            machine=machine.facts(),
            groups=group_titles(),
            clauses=clause_texts(),
        )

    @property
    def engines(self) -> dict[str, str]:
        """The engines as they were given, by their own names."""
        return {seat.results.name: seat.engine for seat in self._seats}

    def run(self) -> None:
        """Run everything. Ctrl-C ends it early, and the report says so.

        Raises:
            SeqcoreError: if the journal cannot be written, or cannot be resumed.
        """
        for seat in self._seats:
            self._waiting.put(seat)
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(timeout=0.2)  # short, so that Ctrl-C is heard
        except KeyboardInterrupt:
            self.report.interrupted = True
        finally:
            self._stop()
            for thread in threads:
                thread.join()
        if self._error is not None:
            raise self._error
        self._finish()

    def _work(self) -> None:
        """Take backends until there are no more."""
        while not self._stopped.is_set():
            try:
                seat = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                self._test(seat)
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                self._error = self._error or error
                self._stop()
            finally:
                seat.runner.close()

    def _stop(self) -> None:
        self._stopped.set()
        for seat in self._seats:
            seat.runner.stop()

    def _test(self, seat: _Seat) -> None:
        """Run all cases on one backend."""
        start = time.monotonic()
        try:
            self._progress(seat.engine, 0, "start", None)
            self._introduce(seat, seat.runner.start())
            for case in self._cases:
                self._progress(seat.engine, len(seat.verdicts), case.id, None)
                self._try(seat, case)
                if self._stopped.is_set():
                    return
        except EngineFailed as error:
            if self._stopped.is_set():
                return
            seat.results.ended = f"the backend could not be started: {error}"
            self._give_up(seat, f"{NOT_RUN}: {seat.results.ended}", error.details)
        finally:
            seat.results.seconds = round(time.monotonic() - start, 3)
        if seat.runner.ends >= MAX_ENDS:
            seat.results.ended = f"{MAX_ENDS} processes ended in the middle of a case"

    def _introduce(self, seat: _Seat, facts: Started) -> None:
        """Take a backend's own name and what it says of itself."""
        with self._lock:
            if any(other.results.name == facts.name for other in self._seats if other is not seat):
                raise EngineFailed(f"another engine of this run has the name {facts.name!r}, too")
            results = seat.results
            results.name = facts.name
            results.version = facts.version
            results.distribution = facts.distribution
            results.devices = facts.devices
            results.capabilities = {name: _support(name, facts) for name in FEATURES}
            self._journal.begin(facts)
            done = self._journal.verdicts.get(facts.name, {})
            seat.verdicts = {case.id: done[case.id] for case in self._cases if case.id in done}

    def _try(self, seat: _Seat, case: Case) -> None:
        """Run one case, unless it is done, and note the verdict."""
        if case.id in seat.verdicts:
            return
        found = seat.runner.run(case)
        if self._stopped.is_set():
            return  # what was running was cut off
        observed = found if isinstance(found, Observed) else None
        verdict = judged(case, found, self._settings.seed)
        with self._lock:
            self._journal.note(seat.results.name, case.id, verdict, observed)
            seat.verdicts[case.id] = verdict
        self._progress(seat.engine, len(seat.verdicts), case.id, verdict.status)

    def _give_up(self, seat: _Seat, reason: str, details: str) -> None:
        for case in self._cases:
            if case.id not in seat.verdicts:
                seat.verdicts[case.id] = failure(case, reason, details)
                details = ""  # once is enough
        self._progress(seat.engine, len(seat.verdicts), "", "error")

    def _finish(self) -> None:
        """Put what was found into the report."""
        report = self.report
        for seat in self._seats:
            name = seat.results.name
            seat.results.rows = [
                Row.of(
                    case,
                    seat.verdicts[case.id],
                    waiver=waivers.reason(self._waivers, name, case, self._today),
                )
                for case in self._cases
                if case.id in seat.verdicts
            ]
        report.backends = [one.results for one in self._seats if one.results.rows]
        verdicts = {seat.results.name: seat.verdicts for seat in self._seats}
        observed = {one.name: self._journal.observed.get(one.name, {}) for one in report.backends}
        report.pairs = pairs(self._cases, observed, report.seed)
        report.waivers = waivers.uses(self._waivers, self._known, verdicts, self._today)
        report.finished = _now()


def judged(case: Case, found: Observed | Verdict, seed: int) -> Verdict:
    """Return the verdict of what a case gave."""
    if isinstance(found, Verdict):
        return found
    assert isinstance(case, ValueCase)
    try:
        with _judging:  # so that the oracle, which is kept, computes a case once
            return judge.judge(case, found, seed)
    except Exception as error:  # noqa: BLE001 - the others can still be judged
        reason = f"its results cannot be judged: {type(error).__name__}: {error}"
        return failure(case, reason, traceback.format_exc(), found.seconds)


def _support(feature: str, facts: Started) -> Support:
    if feature in facts.unsupported:
        return Support("unsupported", facts.unsupported[feature])
    if feature in facts.not_implemented:
        return Support("not-implemented", facts.not_implemented[feature])
    return Support("supported")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
