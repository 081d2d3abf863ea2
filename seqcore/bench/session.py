"""Calling the workers in turn, round after round, and keeping what they say."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from seqcore import workers
from seqcore.bench.protocol import (
    Command,
    Compared,
    Failed,
    Memory,
    Output,
    Prepare,
    Prepared,
    Ready,
    Reply,
    Sample,
    Sampled,
    Setup,
    Traced,
)
from seqcore.bench.report import TOLERANCE, Failure, Measurement, MemoryUse, Report
from seqcore.bench.selection import Candidate
from seqcore.bench.sides import PRODUCT, REFERENCE, Product, SideSpec, backend_sides
from seqcore.bench.workloads import Workload

R = TypeVar("R", bound=Reply)
Progress = Callable[[str, str], None]
"""Told the phase that has begun, and what in it is done now."""

PAUSE_SECONDS = 0.25
"""Between two sides' turns. Thread pools spin on for a while after their work (OpenBLAS's for some
30 ms) and would take processors from the next side."""


class SideFailed(Exception):
    """A side refused, raised, died, or did not answer in time. It never leaves this module."""


class WorkerProcess:
    """A worker of the benchmark as its parent sees it."""

    def __init__(self, environment: Mapping[str, str], threads: int, timeout: float) -> None:
        """Start the process."""
        self.timeout = timeout
        self._process = workers.WorkerProcess(
            "seqcore.bench.worker", {**workers.environment(threads), **environment}
        )

    def ask(self, command: Command, answer: type[R]) -> R:
        """Send a command and return the answer.

        Raises:
            SideFailed: if the side raised, or the process has ended or does not answer.
        """
        try:
            line = self._process.exchange(msgspec.json.encode(command), self.timeout)
        except workers.WorkerEnded as error:
            raise SideFailed(str(error)) from error
        reply: Reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, Failed):
            raise SideFailed(reply.reason)
        assert isinstance(reply, answer)
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.close()


@dataclass(slots=True)
class _Seat:
    """One side at one workload: its worker, what it says of itself, how its output compares."""

    side: SideSpec
    worker: WorkerProcess
    facts: dict[str, str]
    checked: bool = False
    deviation: float | None = None
    check: str = ""
    same: bool = True


class Session:
    """One run of the benchmark; `report` grows as it goes and is good at any time.

    Args:
        report: Where results are put.
        rounds: How often each side is called in turn.
        threads: For every library in every worker.
        timeout: Seconds that any one answer may take.
        progress: Told what is being done; it shall cost next to nothing.
    """

    def __init__(
        self, report: Report, *, rounds: int, threads: int, timeout: float, progress: Progress
    ) -> None:
        self._report = report
        self._rounds = rounds
        self._threads = threads
        self._timeout = timeout
        self._progress = progress

    def measure(self, workload: Workload, sides: Sequence[Candidate], modes: Sequence[str]) -> None:
        """Measure one workload: all sides are set up, then they take turns."""
        self._report.workloads[workload.name] = str(workload)
        with contextlib.ExitStack() as stack:
            seats = []
            for side, refusal in (Candidate(PRODUCT, None), *sides):
                self._progress(f"{workload.name}: set-up", side.name)
                with self._noting(workload, side):
                    if refusal is not None:
                        raise SideFailed(refusal)
                    worker = stack.enter_context(self._worker(side))
                    ready = worker.ask(Setup(side, workload, self._threads), Ready)
                    seats.append(_Seat(side, worker, ready.facts))
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="seqcore-bench-")))
            for mode in modes:
                self._take_turns(workload, seats, mode, folder)

    def trace_memory(self, workload: Workload, backend: str) -> None:
        """Measure the memory of a train step."""
        self._progress(f"{workload.name}: memory", backend)
        (side, *_) = backend_sides(backend, lengths=False)
        with self._noting(workload, side), self._worker(side) as worker:
            peak = worker.ask(Memory(backend, workload), Traced).peak
            saved = workload.saved_bytes()
            self._report.memory.append(
                MemoryUse(workload=workload.name, backend=backend, peak=peak, saved=saved)
            )

    def _take_turns(
        self, workload: Workload, seats: Sequence[_Seat], mode: str, folder: Path
    ) -> None:
        pairs = []
        for seat in seats:
            if mode not in seat.side.modes:
                continue
            self._progress(f"{workload.name}: warm-up for {mode}", seat.side.name)
            with self._noting(workload, seat.side, mode):
                # Before the check, which would take the first call's compilation on itself.
                prepared = seat.worker.ask(Prepare(mode), Prepared)
                if seat.side is not PRODUCT and not seat.checked:
                    self._check(workload, seat, folder)
                    seat.checked = True
                measurement = Measurement(
                    workload=workload.name,
                    mode=mode,
                    side=seat.side.name,
                    backend=seat.side.backend,
                    operations=_operations(workload, seat.side, mode),
                    first_call=prepared.first_call,
                    repeats=prepared.repeats,
                    deviation=seat.deviation,
                    check=seat.check,
                    same=seat.same,
                    facts=seat.facts,
                )
                pairs.append((seat, measurement))
                self._report.measurements.append(measurement)
        for number in range(1, self._rounds + 1):
            for seat, measurement in list(pairs):
                round_ = f"round {number} of {self._rounds}"
                self._progress(f"{workload.name}: {mode}", f"{round_}, {seat.side.name}")
                time.sleep(PAUSE_SECONDS)
                try:
                    measurement.seconds.append(seat.worker.ask(Sample(mode), Sampled).seconds)
                except SideFailed as error:
                    # Times from before would stand for a side that works.
                    pairs.remove((seat, measurement))
                    self._report.measurements.remove(measurement)
                    self._note(workload, seat.side, mode, error)

    def _check(self, workload: Workload, seat: _Seat, folder: Path) -> None:
        """Compare a side's output with the reference's, padded where the side is."""
        padded = seat.side.padded and workload.lengths
        path = folder / ("padded.npy" if padded else "whole.npy")
        if not path.exists():
            reference = list(backend_sides(REFERENCE, lengths=workload.lengths))[int(padded)]
            try:
                with self._worker(reference) as worker:
                    worker.ask(Setup(reference, workload, self._threads), Ready)
                    worker.ask(Output(str(path), write=True), Compared)
            except SideFailed as error:
                seat.check = f"not compared: backend {REFERENCE!r} failed: {error}"
                return
        try:
            seat.deviation = seat.worker.ask(Output(str(path), write=False), Compared).deviation
            wrong = f"{seat.deviation:.0e}" if seat.deviation > TOLERANCE else ""
        except SideFailed as error:
            wrong = str(error)
        if wrong:
            seat.same = False
            seat.check = f"computes something else: {wrong}"

    @contextlib.contextmanager
    def _noting(self, workload: Workload, side: SideSpec, mode: str = "") -> Iterator[None]:
        """Note a failure of the side, and go on."""
        try:
            yield
        except SideFailed as error:
            self._note(workload, side, mode, error)

    def _note(self, workload: Workload, side: SideSpec, mode: str, error: SideFailed) -> None:
        self._report.failures.append(
            Failure(workload=workload.name, side=side.name, mode=mode, reason=str(error))
        )

    @contextlib.contextmanager
    def _worker(self, side: SideSpec) -> Iterator[WorkerProcess]:
        worker = WorkerProcess(side.environment, self._threads, self._timeout)
        try:
            yield worker
        finally:
            worker.close()


def _operations(workload: Workload, side: SideSpec, mode: str) -> int:
    if side is PRODUCT:
        return 2 * Product.size**3
    return workload.operations(mode, padded=side.padded)
