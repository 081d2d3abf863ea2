"""One backend in a process of its own, which is started again when it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from seqcore import workers
from seqcore.conformance.model import Case, Finding, Observed, Status, Verdict
from seqcore.conformance.worker import Failed, Reply, Start, Started, Try, decode_reply, encode

if TYPE_CHECKING:
    from seqcore.conformance.worker import Command

MAX_ENDS = 5
"""After so many processes of a backend that ended in a case, its other cases are not run."""

START_SECONDS = 120.0
"""How long the import of a framework may take, at least."""

FIRST_CASE = 2
"""How much longer the first case of a process may take than others: a framework wakes up."""


class EngineFailed(Exception):
    """A backend could not be made. It never leaves the suite.

    Attributes:
        details: A traceback, or the last lines of the process.
    """

    def __init__(self, reason: str, details: str = "") -> None:
        super().__init__(reason)
        self.details = details


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How cases are run.

    Attributes:
        seed: From which every random array follows.
        timeout: Seconds that a case may take. To be made a backend has twice that, and
            `START_SECONDS` at least.
        memory: Bytes that a process may hold above what it holds before its first case. While its
            backend is made it may hold that much, and `seqcore.workers.START_MEMORY` at least.
        threads: For every library in every process.
        options: The backend's options.
        folder: Where a `module:factory` may be.
    """

    seed: int = 0
    timeout: float = 60.0
    memory: int = 4 * 2**30
    threads: int = 2
    options: dict[str, str] = field(default_factory=dict)
    folder: str = field(default_factory=lambda: str(Path.cwd()))


class Runner:
    """A backend under test.

    Attributes:
        engine: A registered name or `module:factory`.
        ends: How many of its processes ended in the middle of a case.

    Args:
        engine: A registered name or `module:factory`.
        settings: How cases are run.
    """

    def __init__(self, engine: str, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        self._worker: workers.WorkerProcess | None = None
        self._fresh = True
        self.ends = 0
        self._facts: Started | None = None
        self._failure: EngineFailed | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def start(self) -> Started:
        """Return what the backend says of itself; its process is started on the first call.

        Raises:
            EngineFailed: if it cannot be made; from then on always.
        """
        if self._failure is not None:
            raise self._failure
        if self._facts is None:
            try:
                self._facts = self._begin()
            except EngineFailed as error:
                self._failure = error
                raise
        return self._facts

    def run(self, case: Case) -> Observed | Verdict:
        """Run a case; whatever happens, it is the case's result.

        Raises:
            EngineFailed: if the backend cannot be made in the first place.
        """
        facts = self.start()
        refusal = refused(case, facts.unsupported, facts.not_implemented)
        if refusal is not None:
            return refusal
        if self.ends >= MAX_ENDS:
            return failure(case, f"{MAX_ENDS} processes ended in cases before it", tried=False)
        start = time.monotonic()
        try:
            if self._worker is not None and self._worker.growth() > self._settings.memory // 2:
                self.close()  # what the cases so far have left must not count against this one
            if self._worker is None:
                self._begin()
            reply = self._ask(Try(case.id), self._settings.timeout * (FIRST_CASE**self._fresh))
        except EngineFailed as error:
            self._forget()
            return failure(case, f"the backend did not start again: {error}", error.details)
        except workers.WorkerEnded as error:
            self._forget()
            seconds = time.monotonic() - start
            return failure(case, _explained(str(error)), error.said, seconds)
        self._fresh = False
        if isinstance(reply, Failed):
            return failure(case, reply.reason, reply.traceback)
        assert isinstance(reply, Observed | Verdict)
        return reply

    def stop(self) -> None:
        """End what runs; from any thread. What was running gives an error."""
        with self._lock:
            self._stopped = True
            if self._worker is not None:
                self._worker.stop()

    def close(self) -> None:
        """End the process."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _begin(self) -> Started:
        settings = self._settings
        variables = workers.environment(settings.threads)
        with self._lock:
            if self._stopped:
                raise EngineFailed("stopped")
            self._worker = workers.WorkerProcess("seqcore.conformance.worker", variables)
        self._worker.limit_memory(max(workers.START_MEMORY, settings.memory))
        command = Start(self.engine, settings.folder, settings.options, settings.seed)
        try:
            reply = self._ask(command, max(START_SECONDS, FIRST_CASE * settings.timeout))
        except workers.WorkerEnded as error:
            self.close()
            raise EngineFailed(_explained(str(error)), error.said) from error
        if isinstance(reply, Failed):
            self.close()
            raise EngineFailed(reply.reason, reply.traceback)
        assert isinstance(reply, Started)
        self._worker.limit_memory(settings.memory)
        self._fresh = True
        return reply

    def _ask(self, command: Command, timeout: float) -> Reply:
        assert self._worker is not None
        line = self._worker.exchange(encode(command), timeout)
        try:
            return decode_reply(line)
        except ValueError as error:  # a backend may have put anything into it
            return Failed(f"its answer cannot be read: {error}", "")

    def _forget(self) -> None:
        self.ends += 1
        self.close()


def failure(
    case: Case, reason: str, details: str = "", seconds: float = 0.0, *, tried: bool = True
) -> Verdict:
    """Return the verdict of a case that gave no result."""
    reason = reason if tried else f"not run: {reason}"
    finding = Finding(
        message=f"{case.id}: expected a result, received none: {reason}",
        expected="a result",
        received=reason,
        traceback=details,
    )
    return Verdict(status="error", findings=[finding], seconds=seconds, tried=tried)


def refused(
    case: Case, unsupported: Mapping[str, str], not_implemented: Mapping[str, str]
) -> Verdict | None:
    """Return the verdict of a case that uses what is not supported; None for any other."""
    kinds: tuple[tuple[Status, Mapping[str, str]], ...] = (
        ("unsupported", unsupported),
        ("not-implemented", not_implemented),
    )
    for status, declared in kinds:
        for feature in case.needs:
            if feature in declared:
                reason = f"{feature}: {declared[feature]}"
                return Verdict(status=status, findings=[Finding(message=reason)])
    return None


def _explained(reason: str) -> str:
    if "SIGKILL" in reason:
        return f"{reason} (the system may have run out of memory)"
    return reason
