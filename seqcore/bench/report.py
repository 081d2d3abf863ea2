"""What is made of the times: medians, ratios, rates, tables, the verdict."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from seqcore.bench.sides import PRODUCT

TOLERANCE = 1e-3
"""The largest difference to the reference at which a side still computes the same."""


class Measurement(msgspec.Struct, kw_only=True):
    """One side's times on one workload in one mode.

    Attributes:
        workload: The workload's name.
        mode: `"inference"` or `"train"`.
        side: The side's name.
        backend: Whether it is a backend that the verdict may name.
        operations: Floating-point operations of the products in one call.
        first_call: Seconds of the first call, compilation included.
        repeats: How many calls make one sample.
        seconds: Seconds of one call, a sample a round.
        deviation: The largest absolute difference to the reference's output; None if not compared.
        check: What is wrong with the output, or why it was not compared; empty if nothing is.
        same: Whether it computes the same, as far as is known.
        facts: What the side says of itself.
    """

    workload: str
    mode: str
    side: str
    backend: bool
    operations: int
    first_call: float
    repeats: int
    seconds: list[float] = []
    deviation: float | None = None
    check: str = ""
    same: bool = True
    facts: dict[str, str] = {}

    @property
    def median(self) -> float:
        """Return the median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Return the operations a second."""
        return self.operations / self.median


class Failure(msgspec.Struct, kw_only=True, frozen=True):
    """A side that gave no times, and why; without a mode it is all of them."""

    workload: str
    side: str
    reason: str
    mode: str = ""


class MemoryUse(msgspec.Struct, kw_only=True, frozen=True):
    """The memory of one train step.

    Attributes:
        workload: The workload's name.
        backend: The backend's name.
        peak: Bytes at the peak above inputs and weights.
        saved: Bytes of every gate and state at every step.
    """

    workload: str
    backend: str
    peak: int
    saved: int


class Verdict(msgspec.Struct, kw_only=True, frozen=True):
    """The fastest backend in one mode, among which, and the line for the configuration."""

    mode: str
    backend: str
    among: list[str]
    line: str


class Report(msgspec.Struct, kw_only=True):
    """Everything that one run found."""

    machine: dict[str, str | int | float]
    settings: dict[str, str | int | list[str]]
    workloads: dict[str, str] = {}
    measurements: list[Measurement] = []
    failures: list[Failure] = []
    memory: list[MemoryUse] = []
    interrupted: bool = False


class Table(NamedTuple):
    """A title, columns and rows, to be drawn in one way or another."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


def ratio(measured: Measurement, baseline: Measurement) -> float:
    """Return how many times as long it takes: the median of the rounds' own ratios.

    Both were called in the same round one after the other, so what slows the machine for a while
    slows both.
    """
    pairs = zip(measured.seconds, baseline.seconds, strict=False)
    return statistics.median(mine / other for mine, other in pairs)


def groups(report: Report) -> Iterator[tuple[str, str, list[Measurement]]]:
    """Yield the measurements of each workload in each mode that has any."""
    keys = dict.fromkeys((m.workload, m.mode) for m in report.measurements)
    for workload, mode in keys:
        found = [m for m in report.measurements if (m.workload, m.mode) == (workload, mode)]
        found = [m for m in found if m.seconds]  # none yet, where the run was interrupted
        if found:
            yield workload, mode, found


def choose_baselines(measured: Sequence[Measurement], wanted: Sequence[str]) -> list[Measurement]:
    """Return what the others are compared with: what is wanted, else the first peer, else none."""
    named = {m.side: m for m in measured}
    if wanted:
        return [named[name] for name in wanted if name in named]
    peers = [m for m in measured if not m.backend and _is_peer(m.side)]
    return peers[:1] or [m for m in measured if m.backend][:1]


def verdicts(report: Report) -> list[Verdict]:
    """Return the fastest backend in each mode, of those that were measured everywhere.

    Over several workloads it is the one whose times are, in the geometric mean, nearest to the
    best. A backend whose output is not the reference's takes no part.
    """
    scores: dict[str, dict[str, list[float]]] = {}
    counts: dict[str, int] = {}
    for _, mode, measured in groups(report):
        able = [m for m in measured if m.backend and m.same]
        if not able:
            continue
        best = min(able, key=lambda m: m.median)
        counts[mode] = counts.get(mode, 0) + 1
        for one in able:
            scores.setdefault(mode, {}).setdefault(one.side, []).append(one.median / best.median)
    found = []
    for mode, sides in scores.items():
        complete = {
            side: math.fsum(map(math.log, ratios))
            for side, ratios in sides.items()
            if len(ratios) == counts[mode]
        }
        if complete:
            fastest = min(complete, key=lambda side: complete[side])
            line = f'backend = "{fastest}"'
            found.append(Verdict(mode=mode, backend=fastest, among=[*complete], line=line))
    return found


def tables(report: Report, baselines: Sequence[str]) -> Iterator[Table]:
    """Yield what is to be read: times, memory, what failed."""
    for workload, mode, measured in groups(report):
        yield _times(f"{report.workloads[workload]}; {mode}", measured, baselines)
    if report.memory:
        yield Table(
            "Memory of a train step, above inputs and weights",
            ("workload", "backend", "peak MiB", "saved MiB", "peak / saved"),
            [
                (
                    use.workload,
                    use.backend,
                    f"{use.peak / 2**20:.1f}",
                    f"{use.saved / 2**20:.1f}",
                    f"{use.peak / use.saved:.2f}",
                )
                for use in report.memory
            ],
        )
    if report.failures:
        rows = [(f.workload, f.mode or "all", f.side, f.reason) for f in report.failures]
        yield Table("Not measured", ("workload", "mode", "side", "reason"), rows)


def to_data(report: Report) -> dict[str, object]:
    """Return the report for JSON, with what was derived from the times beside them."""
    data: dict[str, object] = msgspec.to_builtins(report)
    measurements = [_derived(one, found) for _, _, found in groups(report) for one in found]
    verdict = [msgspec.to_builtins(one) for one in verdicts(report)]
    return data | {"measurements": measurements, "verdict": verdict}


def _derived(one: Measurement, measured: Sequence[Measurement]) -> dict[str, object]:
    """Return a measurement with what follows from it and from the others of its rounds."""
    data: dict[str, object] = msgspec.to_builtins(one)
    peak = _peak(measured)
    others = [m for m in measured if PRODUCT.name not in (m.side, one.side) and m is not one]
    return data | {
        "median": one.median,
        "gflops": one.rate / 1e9,
        "share_of_sgemm": None if peak is None else one.rate / peak,
        "ratios": {other.side: ratio(one, other) for other in others},
    }


def _times(title: str, measured: list[Measurement], wanted: Sequence[str]) -> Table:
    baselines, peak = choose_baselines(measured, wanted), _peak(measured)
    rows = []
    for one in measured:
        product = one.side == PRODUCT.name
        share = "" if peak is None else f"{_figures(100 * one.rate / peak)} %"
        remark = one.check or ("" if one.deviation is None else f"{one.deviation:.0e}")
        rows.append(
            (
                one.side,
                f"{1e3 * one.median:.3f}",
                f"{1e3 * min(one.seconds):.3f}",
                *("" if product else _figures(ratio(one, base)) for base in baselines),
                _figures(one.rate / 1e9),
                share,
                f"{1e3 * one.first_call:.0f}",
                "" if product else remark,
            )
        )
    columns = (
        "side",
        "median ms",
        "best ms",
        *(f"/ {base.side}" for base in baselines),
        "GFLOP/s",
        "of sgemm",
        "first ms",
        "diff",
    )
    return Table(title, columns, rows)


def _peak(measured: Sequence[Measurement]) -> float | None:
    return next((m.rate for m in measured if m.side == PRODUCT.name), None)


def _is_peer(side: str) -> bool:
    return "." in side and not side.endswith(".padded")


def _figures(value: float) -> str:
    """Return a number with three figures, and without an exponent."""
    decimals = 2 - math.floor(math.log10(value)) if value > 0 else 0
    return f"{value:.{max(0, decimals)}f}"
