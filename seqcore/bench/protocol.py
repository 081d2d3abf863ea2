"""What the parent and a worker say to each other: one JSON value a line."""

from __future__ import annotations

from msgspec import Struct

from seqcore.bench.sides import SideSpec
from seqcore.bench.workloads import Workload


class Setup(Struct, tag=True, frozen=True):
    """Make the side and give it the workload; answered by `Ready`."""

    side: SideSpec
    workload: Workload
    threads: int


class Output(Struct, tag=True, frozen=True):
    """Compute the output, write it to a file or compare it with one; answered by `Compared`."""

    path: str
    write: bool


class Prepare(Struct, tag=True, frozen=True):
    """Compile and warm up for one mode; answered by `Prepared`."""

    mode: str


class Sample(Struct, tag=True, frozen=True):
    """Measure once; answered by `Sampled`."""

    mode: str


class Memory(Struct, tag=True, frozen=True):
    """Trace the memory of a train step on a backend; answered by `Traced`."""

    backend: str
    workload: Workload


class Ready(Struct, tag=True, frozen=True):
    """What the side says of itself."""

    facts: dict[str, str]


class Compared(Struct, tag=True, frozen=True):
    """The largest absolute difference."""

    deviation: float


class Prepared(Struct, tag=True, frozen=True):
    """Seconds of the first call, compilation included, and how many calls make one sample."""

    first_call: float
    repeats: int


class Sampled(Struct, tag=True, frozen=True):
    """Seconds of one call, the mean of one sample."""

    seconds: float


class Traced(Struct, tag=True, frozen=True):
    """The peak of traced memory, in bytes, above inputs and weights."""

    peak: int


class Failed(Struct, tag=True, frozen=True):
    """What went wrong; the worker still listens."""

    reason: str


Command = Setup | Output | Prepare | Sample | Memory
Reply = Ready | Compared | Prepared | Sampled | Traced | Failed
