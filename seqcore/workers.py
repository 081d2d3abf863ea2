"""Processes that answer line by line, and whose end is an answer, too."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "NPROC",
)
"""What the libraries under the frameworks read; the last is XLA's."""

MEMORY_IS_WATCHED = sys.platform == "linux"
"""Whether a limit of memory is enforced here."""

START_MEMORY = 4 * 2**30
"""How many bytes a process may take while a backend is made, with the import of a framework."""

_TICK_SECONDS = 0.05
_SAID_BYTES = 8192


class WorkerEnded(Exception):
    """A worker died, or was ended for its time or its memory.

    Attributes:
        said: The last lines of its standard error.
    """

    said = ""


class WorkerProcess:
    """A worker as its parent sees it: a process that runs `serve`.

    Args:
        module: What the process runs, as `python -m` does.
        environment: All its variables.
    """

    def __init__(self, module: str, environment: Mapping[str, str]) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=dict(environment),
            # Ctrl-C is for the parent, which stops the workers in order.
            start_new_session=True,
        )
        self._start: int | None = None
        self._limit = 0
        self._replies: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ended = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def exchange(self, line: bytes, timeout: float) -> bytes:
        """Send a line and return the one that comes back.

        Raises:
            WorkerEnded: if the process has ended, or is ended because it does not answer within
                `timeout` seconds or takes too much memory; from then on always.
        """
        if not self._ended:
            with contextlib.suppress(BrokenPipeError):
                assert self._process.stdin is not None
                self._process.stdin.write(line + b"\n")
                self._process.stdin.flush()
            reply = self._await(timeout)
            if reply:
                return reply
        error = WorkerEnded(self._ended)
        error.said = self._last_lines()
        raise error

    def limit_memory(self, more: int) -> None:
        """End the process when it holds so many bytes more than now (see `MEMORY_IS_WATCHED`)."""
        self._limit, self._start = more, _resident(self._process.pid)

    def growth(self) -> int:
        """Return how many bytes the process holds more than when its limit was set."""
        now = _resident(self._process.pid)
        return 0 if self._start is None or now is None else now - self._start

    def stop(self) -> None:
        """End the process and those that it started; from any thread."""
        if sys.platform == "win32":
            self._process.kill()
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process and forget it."""
        self.stop()
        self._process.wait()
        # A process that left the group may hold the pipe; the listener is then left to itself.
        self._listener.join(timeout=1)
        if self._listener.is_alive():
            return
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):  # what it had not read yet
                pipe.close()

    def _await(self, timeout: float) -> bytes:
        """Return the next line; none if the process has ended, of itself or by us."""
        deadline = time.monotonic() + timeout
        while not self._ended:
            left = deadline - time.monotonic()
            try:
                reply = self._replies.get(timeout=max(0.0, min(_TICK_SECONDS, left)))
                if reply:
                    return reply
                self._ended = self._epitaph()
            except queue.Empty:
                # A process of its own making may keep the pipe open after it.
                if self._process.poll() is not None and not self._listening():
                    self._ended = self._epitaph()
                elif self._start is not None and self.growth() > self._limit:
                    self._ended = f"more than {_gib(self._limit)} GiB of memory above its start"
                elif left <= 0:
                    self._ended = f"no answer within {timeout:g} s"
        self.stop()
        return b""

    def _listening(self) -> bool:
        """Return whether more may come from a process that is dead: give the listener a moment."""
        self._listener.join(timeout=1)
        return not self._replies.empty()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(line)
        self._replies.put(b"")

    def _epitaph(self) -> str:
        code = self._process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        said = self._last_lines().splitlines()
        fatal = [line for line in said if line.startswith("Fatal Python error")]
        last = (fatal or said)[-1:]
        return f"the process ended with {how}" + (f": {last[0]}" if last else "")

    def _last_lines(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _SAID_BYTES))
        said = self._errors.read().decode(errors="replace").strip()
        # After a crash Python lists, last of all and at length, which modules are written in C.
        return said.partition("\nExtension modules: ")[0].strip()


def environment(threads: int) -> dict[str, str]:
    """Return this process's variables, with those that set numbers of threads."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def serve(answer: Callable[[bytes], bytes]) -> None:
    """Answer the parent line by line; what libraries print goes to standard error.

    Args:
        answer: Takes and returns a line, both without its end.
    """
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    for line in commands:
        replies.write(answer(line) + b"\n")
        replies.flush()


def _end_with_parent(parent: int) -> None:
    """End this process when its parent is gone, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _resident(process: int) -> int | None:
    """Return the bytes that a process holds in memory; None where that cannot be known."""
    if not MEMORY_IS_WATCHED:
        return None
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
    except (OSError, IndexError):  # it has just ended
        return None
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g}"
