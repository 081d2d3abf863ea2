"""A run of the suite: some cases on some backends, at the same time, into one report."""

from __future__ import annotations

import datetime
import queue
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version

from seqcore import machine
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
from seqcore.conformance.runner import MAX_ENDS, EngineFailed, Runner, Settings, failure
from seqcore.conformance.waivers import Waiver
from seqcore.conformance.worker import Started
from seqcore.spi import FEATURES

Progress = Callable[[str, int, str, Status | None], None]
"""Told an engine, how many of its cases are done, the case that begins or is done, and how the
latter ended."""

_judging = threading.Lock()

_WORTH_HELP = 100
"""From so many cases on a further process is worth the import of a framework."""


@dataclass(slots=True)
class _Seat:
    """One engine of a run.

    Attributes:
        engine: As it was given.
        results: What the report says of it.
        runners: Its processes, the first its own, the others helpers.
        verdicts: By case.
        left: The cases that no process has taken.
        starting: Whether it is not known yet what it says of itself.
        shareable: Whether a further process may take cases: on a CPU, unless one ended in a case.
        start: When its process was started.
    """

    engine: str
    results: BackendResults
    runners: list[Runner]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    left: deque[Case] = field(default_factory=deque)
    starting: bool = True
    shareable: bool = False
    start: float = 0.0

    def took_time(self) -> None:
        """Note how long it has taken until now."""
        self.results.seconds = round(time.monotonic() - self.start, 3)


class Session:
    """One run; `report` is good at any time after `run` has returned or raised.

    Args:
        engines: Registered names, or `module:factory`.
        cases: What is run.
        known: All cases that there are: waivers may be for others.
        settings: How.
        tier: Which tier the cases are of, for the report.
        jobs: How many processes run at a time. Each backend has one; those that no backend waits
            for help the one with the most cases left.
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
            _Seat(engine, BackendResults(name=engine), [Runner(engine, settings)])
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
        """Take backends until there are no more, then help with what is left of them."""
        while not self._stopped.is_set():
            try:
                try:
                    self._test(self._waiting.get_nowait())
                except queue.Empty:
                    if any(seat.starting for seat in self._seats):
                        self._stopped.wait(0.1)  # it may want help
                    elif not self._help():
                        return
            except BaseException as error:  # noqa: BLE001 - raised again by the main thread
                self._error = self._error or error
                self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        with self._lock:
            runners = [runner for seat in self._seats for runner in seat.runners]
        for runner in runners:
            runner.stop()

    def _test(self, seat: _Seat) -> None:
        """Run the cases of one backend, from the first on, in its own process."""
        seat.start = time.monotonic()
        (runner,) = seat.runners
        try:
            self._progress(seat.engine, 0, "start", None)
            self._introduce(seat, runner.start())
            while (case := self._next(seat)) is not None:
                self._try(seat, runner, case)
        except EngineFailed as error:
            if self._stopped.is_set():
                return
            seat.results.ended = f"the backend could not be started: {error}"
            self._give_up(seat, seat.results.ended, error.details)
        finally:
            seat.starting = False
            seat.took_time()
            runner.close()
        if runner.ends >= MAX_ENDS:
            seat.results.ended = f"{MAX_ENDS} processes ended in the middle of a case"

    def _help(self) -> bool:
        """Run cases of the backend that has most left, and return whether there was one.

        It begins with the last: cases beside each other share what an engine has compiled.
        """
        with self._lock:
            seat = max(self._seats, key=lambda one: len(one.left) if one.shareable else 0)
            if not seat.shareable or len(seat.left) < _WORTH_HELP:
                return False
            runner = Runner(seat.engine, self._settings)
            seat.runners.append(runner)
        try:
            runner.start()
            while not runner.ends and (case := self._next(seat, last=True)) is not None:
                self._try(seat, runner, case)
            seat.shareable = not runner.ends
        except EngineFailed:
            seat.shareable = False  # its own process goes on alone
        finally:
            runner.close()
        return True

    def _next(self, seat: _Seat, *, last: bool = False) -> Case | None:
        """Return the first or last case that no process has taken; None if there is none to run."""
        with self._lock:
            if not seat.left or self._stopped.is_set():
                return None
            return seat.left.pop() if last else seat.left.popleft()

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
            seat.left.extend(case for case in self._cases if case.id not in done)
            # Two processes may not fit into the memory of one accelerator.
            seat.shareable = all(device.startswith("cpu") for device in facts.devices)
            seat.starting = False

    def _try(self, seat: _Seat, runner: Runner, case: Case) -> None:
        """Run one case and note the verdict."""
        self._progress(seat.engine, len(seat.verdicts), case.id, None)
        found = runner.run(case)
        if self._stopped.is_set():
            return  # what was running was cut off
        observed = found if isinstance(found, Observed) else None
        verdict = judged(case, found, self._settings.seed)
        with self._lock:
            if verdict.tried:  # else a run that goes on tries it
                self._journal.note(seat.results.name, case.id, verdict, observed)
            seat.verdicts[case.id] = verdict
            seat.took_time()
        self._progress(seat.engine, len(seat.verdicts), case.id, verdict.status)

    def _give_up(self, seat: _Seat, reason: str, details: str) -> None:
        for case in self._cases:
            if case.id not in seat.verdicts:
                seat.verdicts[case.id] = failure(case, reason, details, tried=False)
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
