"""Whether right backends ever fail: `python -m seqcore.conformance.alarms --seeds 20`.

Every case of a tier, laws included, with the random arrays of many seeds. A backend stays in this
process, so that an engine that compiles does so for the first seed alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from seqcore.conformance import engines
from seqcore.conformance.cases import of_tier
from seqcore.conformance.execute import execute
from seqcore.conformance.model import TIERS, Case
from seqcore.conformance.plugins import collect
from seqcore.conformance.session import judged
from seqcore.conformance.subject import Subject


@dataclass(slots=True)
class Tally:
    """What became of one backend's cases over all seeds.

    Attributes:
        backend: Its name.
        passed: How many cases passed, each counted once for each seed.
        left_out: How many use what it does not support.
        unjudged: How many of those that passed were too sensitive to rounding to be compared.
        alarms: What failed, in words; of a right backend, false alarms.
    """

    backend: str
    passed: int = 0
    left_out: int = 0
    unjudged: int = 0
    alarms: list[str] = field(default_factory=list)


def tally(
    backend: str,
    cases: Iterable[Case],
    seeds: Iterable[int],
    progress: Callable[[Tally, int], None] = lambda tally, seed: None,
) -> Tally:
    """Run cases on a backend that is known to be right.

    Args:
        backend: A registered name.
        cases: The cases.
        seeds: Each gives every case other arrays.
        progress: Called after each seed.
    """
    known, found = tuple(cases), Tally(backend)
    for seed in seeds:
        subject = Subject(backend, seed)
        for case in known:
            if not all(map(subject.supports, case.needs)):
                found.left_out += 1
                continue
            verdict = judged(case, execute(case, subject), seed)
            if verdict.status == "pass":
                found.passed += 1
                found.unjudged += not verdict.judged
            else:
                found.alarms.append(f"seed {seed}: {case.id}: {verdict.findings[0].message}")
        progress(found, seed)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each backend, and each alarm; return 1 if there was one, or nothing ran."""
    parser = argparse.ArgumentParser(prog="python -m seqcore.conformance.alarms")
    parser.add_argument("--backends", nargs="+", default=["numpy"], help="right ones")
    parser.add_argument("--seeds", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default: 0)")
    parser.add_argument("--tier", choices=TIERS, default="standard")
    chosen = parser.parse_args(arguments)

    def show(found: Tally, seed: int) -> None:
        text = f"{found.backend}: seed {seed}: {found.passed} passed, {len(found.alarms)} alarms"
        sys.stderr.write(f"{text}\n")

    cases = of_tier(collect(), chosen.tier)
    seeds = range(chosen.first, chosen.first + chosen.seeds)
    tallies = [tally(name, cases, seeds, show) for name in chosen.backends]
    for one in tallies:
        sys.stdout.write(
            f"{one.backend}: {chosen.seeds} seeds, {one.passed} passed, {one.left_out} not "
            f"supported, {one.unjudged} not judged by value, {len(one.alarms)} alarms\n"
        )
        sys.stdout.writelines(f"  {alarm}\n" for alarm in one.alarms)
    return 1 if any(one.alarms or not one.passed for one in tallies) else 0


if __name__ == "__main__":
    engines.ignore_configuration()
    sys.exit(main())
