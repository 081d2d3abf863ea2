"""A worker process: one side, told what to do over its standard input.

Started by `seqcore.bench.session` as `python -m seqcore.bench.worker`.
"""

from __future__ import annotations

import math
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from time import perf_counter

import msgspec
import numpy as np

from seqcore.bench.memory import trace
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
from seqcore.bench.sides import Side
from seqcore.bench.workloads import Workload
from seqcore.workers import serve

SAMPLE_SECONDS = 0.02
"""How long one sample lasts at least, so that the clock and the call around it don't count."""

WARM_UP_SECONDS = 0.2


class Worker:
    """What one worker process knows."""

    def __init__(self) -> None:
        self._repeats: dict[str, int] = {}

    def answer(self, command: Command) -> Reply:
        """Do what the parent asks."""
        match command:
            case Setup(side, workload, threads):
                _pin(threads)
                self._workload: Workload = workload
                self._side: Side = resolve_name(side.factory)(**side.arguments)
                return Ready(self._side.setup(workload, threads))
            case Output(path, write):
                return self._compare(Path(path), write)
            case Prepare(mode):
                return self._prepare(mode)
            case Sample(mode):
                return Sampled(self._sample(mode))
            case Memory(backend, workload):
                return Traced(trace(workload, backend))

    def _prepare(self, mode: str) -> Prepared:
        call = self._call(mode)
        start = perf_counter()
        call()
        first = perf_counter() - start
        seconds = [_time(call)]
        while sum(seconds) < WARM_UP_SECONDS:
            seconds.append(_time(call))
        self._repeats[mode] = max(1, math.ceil(SAMPLE_SECONDS / min(seconds)))
        return Prepared(first, self._repeats[mode])

    def _sample(self, mode: str) -> float:
        call, repeats = self._call(mode), self._repeats[mode]
        if repeats > 1:
            call()  # brings back what the other sides' turns drove out of the caches
        start = perf_counter()
        for _ in range(repeats):
            call()
        return (perf_counter() - start) / repeats

    def _call(self, mode: str) -> Callable[[], object]:
        return {"inference": self._side.inference, "train": self._side.train}[mode]

    def _compare(self, path: Path, write: bool) -> Compared:
        output = np.asarray(self._side.output(), np.float64)
        lengths = self._workload.data().lengths
        if lengths is not None:
            # What a side puts at padded steps is its own affair.
            output[np.arange(self._workload.time) >= lengths[:, None]] = 0
        if write:
            np.save(path, output)
            return Compared(0.0)
        reference = np.load(path)
        if output.shape != reference.shape:
            raise ValueError(f"the output has shape {output.shape}, expected {reference.shape}")
        if not np.isfinite(output).all():
            raise ValueError("the output is not finite")
        return Compared(float(np.abs(output - reference).max()))


def _time(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start


def _pin(threads: int) -> None:
    """Keep this process to as many processors, for libraries that heed no variable."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def main() -> None:
    """Serve the parent."""
    worker = Worker()
    decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)

    def answer(line: bytes) -> bytes:
        try:
            reply = worker.answer(decoder.decode(line))
        except Exception as error:  # noqa: BLE001 - whatever a framework raises is its result here
            traceback.print_exc()
            reply = Failed(traceback.format_exception_only(error)[-1].strip())
        return msgspec.json.encode(reply)

    serve(answer)


if __name__ == "__main__":
    main()
