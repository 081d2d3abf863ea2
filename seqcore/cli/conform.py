"""`seqcore conform`: proof that backends do what the specification says."""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from seqcore.cli import FAILED, INTERRUPTED, OK, common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.conformance.model import Case, Status
    from seqcore.conformance.report.model import BackendResults, Report
    from seqcore.conformance.runner import Settings

DIFF = "diff"
SHOWN_FAILURES = 20


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "conform",
        "prove that backends do what the specification says",
        "Runs the conformance suite on backends, each in a process of its own, and writes a "
        "report:\nreport.html to look at, report.json, junit.xml, summary.md, and a script for "
        "each failure that\nreproduces it alone. The exit code is 1 if anything failed.",
        "seqcore conform numpy\n"
        "seqcore conform --tier smoke\n"
        "seqcore conform mypackage:MyBackend --clause MASK-4 --case 'LSTM-*'\n"
        "seqcore conform diff old/report.json new/report.json\n"
        "seqcore conform --list",
    )
    parser.add_argument(
        "names",
        metavar="NAME",
        nargs="*",
        help="a backend, or module:factory for one that is not registered (default: all "
        f"installed); or: {DIFF} OLD.json NEW.json",
    )
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "--tier",
        choices=("smoke", "standard", "full"),
        default="standard",
        help="how much (default: standard)",
    )
    what.add_argument(
        "--clause", metavar="ID", nargs="+", default=[], help="cases of these clauses, or 'MASK-*'"
    )
    what.add_argument(
        "--case", metavar="GLOB", nargs="+", default=[], help="cases with these names, or patterns"
    )
    what.add_argument(
        "--seed", metavar="N", type=common.integer(0, 2**64 - 1), default=0, help="default: 0"
    )  # fmt: skip
    common.add_option(parser)
    how = parser.add_argument_group("how")
    how.add_argument(
        "--jobs",
        metavar="N",
        type=common.integer(1),
        default=2,
        help="processes at a time (default: 2): one for each backend; those that none waits for "
        "help the one with most cases left",
    )
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=common.positive,
        default=60.0,
        help="that a case may take, the first of a process twice as much (default: 60); to be made "
        "a backend has 120 or more",
    )
    how.add_argument(
        "--memory",
        metavar="GIB",
        type=common.positive,
        default=4.0,
        help="that a process may take above its start (default: 4), 4 or more while its backend is "
        "made; enforced on Linux",
    )
    how.add_argument(
        "--waivers", metavar="FILE", type=common.path, help="failures that are known (TOML)"
    )
    how.add_argument(
        "--output",
        metavar="DIR",
        type=common.path,
        default=Path("conformance"),
        help="where the report goes (default: conformance)",
    )
    how.add_argument(
        "--resume", action="store_true", help="go on from what an interrupted run left in DIR"
    )
    other = parser.add_argument_group("instead").add_mutually_exclusive_group()
    other.add_argument("--list", action="store_true", help="print clauses, cases and mutants")
    other.add_argument(
        "--self-test", action="store_true", help="check that the suite catches wrong backends"
    )
    parser.set_defaults(usual=vars(parser.parse_args([])))


def execute(args: argparse.Namespace) -> int:
    """Do what is asked for."""
    if args.list:
        _refuse_others(args, "--list", "list")
        return _list()
    if args.self_test:
        _refuse_others(args, "--self-test", "self_test", "seed", "clause")
        return _self_test(args)
    if args.names[:1] == [DIFF]:
        _refuse_others(args, DIFF, "names")
        return _diff(args.names[1:])
    return _run(args)


def _refuse_others(args: argparse.Namespace, mode: str, *taken: str) -> None:
    """Raise for an argument that a mode does not take and that is not as it is by default.

    Raises:
        ArgumentError: naming it.
    """
    from seqcore.errors import ArgumentError

    for name, usual in args.usual.items():
        value = getattr(args, name)
        if name not in taken and value != usual:
            shown = "NAME" if name == "names" else f"--{name.replace('_', '-')}"
            raise ArgumentError(f"{mode}: takes no {shown}, received {value!r}; leave it out")


def _run(args: argparse.Namespace) -> int:
    from seqcore import workers
    from seqcore.cli.progress import show_progress
    from seqcore.conformance import clauses, engines, output, waivers
    from seqcore.conformance.journal import Header, Journal
    from seqcore.conformance.plugins import collect
    from seqcore.conformance.session import Session

    known = collect()
    cases = _chosen(known, args)
    given = dict(args.option)
    names = list(dict.fromkeys(args.names)) or engines.installed()
    settings = _settings(args)
    for name in names:
        engines.check(name, given, settings.folder)
    found = waivers.from_plugins(known)
    if args.waivers is not None:
        found += waivers.read(args.waivers, known)
    if not workers.MEMORY_IS_WATCHED:
        common.warn(f"--memory: no limit is enforced on {sys.platform}")
    header = Header(
        seqcore=_version(),
        spec=clauses.version(),
        seed=args.seed,
        tier=args.tier,
        options=given,
    )
    journal = Journal(output.prepare(args.output), header, resume=args.resume)
    with contextlib.closing(journal), show_progress(len(cases)) as progress, _terminable():
        session = Session(
            names,
            cases,
            known=known,
            settings=settings,
            tier=args.tier,
            jobs=args.jobs,
            journal=journal,
            waivers=found,
            progress=progress,
        )
        session.report.options = _options(args, settings)
        session.run()
    report = session.report
    output.write(report, args.output, {case.id: case for case in cases}, given)
    _show(report, args.output, session.engines)
    if report.interrupted:
        return INTERRUPTED
    return FAILED if report.failed else OK


def _chosen(known: Sequence[Case], args: argparse.Namespace) -> list[Case]:
    """Return the cases that are asked for.

    Raises:
        ArgumentError: if a clause or a pattern gives none.
    """
    from seqcore.conformance.cases import of_tier
    from seqcore.conformance.waivers import matches
    from seqcore.errors import ArgumentError

    cases = list(of_tier(known, args.tier))
    if args.clause:
        wanted = _clauses(args.clause)
        cases = [case for case in cases if wanted.intersection(case.clauses)]
    for pattern in args.case:
        if not any(matches(case, pattern) for case in cases):
            elsewhere = any(matches(case, pattern) for case in known)
            hint = f" of tier {args.tier} and the clauses asked for" if elsewhere else ""
            raise ArgumentError(
                f"--case: received {pattern!r}, which no case{hint} matches; seqcore conform "
                "--list prints them"
            )
    if args.case:
        cases = [case for case in cases if any(matches(case, one) for one in args.case)]
    if not cases:
        raise ArgumentError(f"no case of tier {args.tier} is of {', '.join(args.clause)}")
    return cases


def _clauses(patterns: Sequence[str]) -> set[str]:
    """Return the clauses that identifiers such as `MASK-4`, or patterns such as `MASK-*`, name.

    Raises:
        ArgumentError: if one of them names none.
    """
    from seqcore.conformance.clauses import clauses
    from seqcore.errors import ArgumentError
    from seqcore.spec.naming import nearest

    found: set[str] = set()
    for pattern in patterns:
        named = fnmatch.filter(clauses(), pattern)
        if not named:
            raise ArgumentError(
                f"--clause: received {pattern!r}{nearest(pattern, clauses())}, expected a clause "
                "of the specification, or a pattern such as 'MASK-*'; seqcore conform --list "
                "prints them"
            )
        found.update(named)
    return found


def _settings(args: argparse.Namespace) -> Settings:
    from seqcore.conformance.runner import Settings
    from seqcore.machine import processors

    return Settings(
        seed=args.seed,
        timeout=args.timeout,
        memory=int(min(args.memory * 2**30, sys.maxsize)),
        threads=max(1, min(2, processors() // args.jobs)),
        options=dict(args.option),
    )


def _options(
    args: argparse.Namespace, settings: Settings
) -> dict[str, str | int | float | list[str]]:
    """Return what the report says of the arguments."""
    from seqcore.workers import MEMORY_IS_WATCHED

    found: dict[str, str | int | float | list[str]] = {
        "jobs": args.jobs,
        "threads": settings.threads,
        "seconds a case": args.timeout,
        "GiB a process": args.memory if MEMORY_IS_WATCHED else "not enforced on this system",
    }
    lists = {
        "clauses": args.clause,
        "cases": args.case,
        "options": [f"{key}={value}" for key, value in args.option],
    }
    return found | {key: value for key, value in lists.items() if value}


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take a request to terminate, as a CI system sends it, as Ctrl-C."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _show(report: Report, folder: Path, engines: Mapping[str, str]) -> None:
    """Print a line for each backend, waivers, each failure, and where the report is."""
    from seqcore.conformance.explanation import explained
    from seqcore.conformance.report.wording import seconds, verdict

    statuses: tuple[Status, ...] = (
        "pass",
        "fail",
        "error",
        "waived",
        "unsupported",
        "not-implemented",
    )
    rows = []
    for one in report.backends:
        counts = one.counts()
        figures = [str(counts.get(status, 0)) for status in statuses]
        rows.append((one.name, one.version, *figures, _worst(one), seconds(one.seconds)))
    columns = ("backend", "engine", *statuses, "worst error", "time")
    common.print_table(columns, rows)
    for waiver in report.waivers:
        print(
            f"waiver: {waiver.backend}: {waiver.case or waiver.clause}: {waiver.state}, until "
            f"{waiver.expires}: {waiver.reason} ({waiver.link})"
        )
    for one in report.backends:
        failed = one.told()
        for row in failed[:SHOWN_FAILURES]:
            print(f"\n{one.name}: {explained(row, engines[one.name])}")
        if len(failed) > SHOWN_FAILURES:
            print(f"\n{one.name}: and {len(failed) - SHOWN_FAILURES} more; the report has them all")
    print(f"\n{verdict(report)}")
    for reason in report.reasons():
        print(f"  {reason}")
    print(f"report: {folder / 'report.html'}")
    if report.interrupted:
        print("interrupted: this is what was done until then; --resume goes on from it")


def _worst(backend: BackendResults) -> str:
    """Return the error that is nearest to its limit, or furthest above it."""
    from seqcore.conformance.report.wording import eps_text

    found = [worst for row in backend.rows for worst in row.worst.values()]
    return f"{eps_text(max(found, key=lambda one: one.share))} eps" if found else ""


def _diff(paths: Sequence[str]) -> int:
    from seqcore.conformance.report.difference import compare_reports, text
    from seqcore.conformance.report.model import read_report
    from seqcore.errors import ArgumentError

    if len(paths) != 2:
        raise ArgumentError(
            f"diff: received {len(paths)} files, expected two reports: "
            "seqcore conform diff OLD.json NEW.json"
        )
    found = compare_reports(*map(read_report, paths))
    print(text(found))
    return FAILED if found.failed else OK


def _list() -> int:
    """Print which cases show each clause to be broken, and which mutants break it."""
    from seqcore.conformance.mutants import all_mutants
    from seqcore.conformance.plugins import collect
    from seqcore.conformance.selftest import coverage

    collect()
    found = coverage()
    rows = []
    for one in found:
        lines = max(len(one.cases), len(one.mutants), 1)
        columns = ([f"{one.clause} · {one.title}"], one.cases, list(one.mutants))
        padded = [[*column, *[""] * (lines - len(column))] for column in columns]
        rows += list(zip(*padded, strict=True))
    common.print_table(("clause", "cases", "mutants"), rows)
    print(f"{len(found)} clauses, {len(collect())} cases, {len(all_mutants())} mutants")
    return OK


def _self_test(args: argparse.Namespace) -> int:
    from seqcore.conformance import selftest
    from seqcore.conformance.plugins import collect

    def show(row: selftest.Row) -> None:
        caught = f"killed by {row.killed_by}" if row.killed_by else row.left_out or "SURVIVED"
        print(f"{row.clause}: {row.mutant}: {caught}", file=sys.stderr, flush=True)

    collect()  # says what is missing
    score = selftest.self_test(args.seed, _clauses(args.clause) or None, show)
    print(score.table())
    return OK if score.killed and not score.faults() else FAILED


def _version() -> str:
    from seqcore import __version__

    return __version__
