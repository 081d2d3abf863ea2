"""`seqcore bench`: how fast each backend is, beside the frameworks' own layers."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from seqcore.cli import FAILED, INTERRUPTED, OK, common

if TYPE_CHECKING:
    from seqcore.bench.report import Report
    from seqcore.bench.workloads import Workload
    from seqcore.cli.common import Subparsers

WORKLOADS = "b1,b32,b64big,long"
BATCH, TIME = 32, 100


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "bench",
        "measure how fast the backends are",
        "Runs every backend, and with --peers the frameworks' own layers, each in a process of its "
        "own,\ncalled in turn; ends with the fastest backend and the line for seqcore.toml. How it "
        "measures\nand how to read it is in docs/benchmarks.md.\n\n"
        "workloads (batch, time, features, units):\n"
        "  b1 (1, 100, 128, 256)    b32 (32, 100, 128, 256)    b64big (64, 256, 256, 512)\n"
        "  long (8, 2000, 32, 64)   stream (1, 1, 128, 256, each call's state fed to the next)",
        "seqcore bench\n"
        "seqcore bench --workload b32 --peers\n"
        "seqcore bench layer.toml --features 40 --batch 16 --time 200\n"
        "seqcore bench --workload b1,b32 --memory",
    )
    what = parser.add_argument_group("what is run")
    what.add_argument(
        "config",
        metavar="CONFIG",
        nargs="?",
        type=common.path,
        help="a layer in a .toml, .json or .safetensors file; first, before the options",
    )
    positive = common.integer(1)
    what.add_argument("--features", metavar="N", type=positive, help="with CONFIG: its features")
    what.add_argument("--batch", metavar="N", type=positive, help=f"with CONFIG (default: {BATCH})")
    what.add_argument("--time", metavar="N", type=positive, help=f"with CONFIG (default: {TIME})")
    what.add_argument(
        "--workload", metavar="NAME,...", help=f"without CONFIG (default: {WORKLOADS})"
    )
    what.add_argument(
        "--cell",
        choices=("lstm", "gru", "simple_rnn"),
        help="without CONFIG (default: lstm)",
    )
    what.add_argument(
        "--bidirectional", action="store_true", help="without CONFIG: in both directions"
    )
    what.add_argument(
        "--lengths",
        action="store_true",
        help="rows of 10 to 100 %% of the time; each backend runs once more without, as "
        "NAME.padded",
    )
    who = parser.add_argument_group("who runs it")
    who.add_argument(
        "--backend", metavar="NAME", nargs="+", help="these backends (default: all installed)"
    )
    who.add_argument(
        "--peers",
        metavar="NAME",
        nargs="*",
        help="also the frameworks' own layers; without a name all",
    )
    who.add_argument(
        "--baseline",
        metavar="NAME",
        nargs="+",
        default=[],
        help="compare with these sides (default: the first peer, else the first backend)",
    )
    how = parser.add_argument_group("how")
    how.add_argument("--mode", metavar="MODE,...", default="inference,train", help="default: both")
    how.add_argument(
        "--threads", metavar="N", type=positive, help="of every library (default: all processors)"
    )
    how.add_argument("--rounds", metavar="N", type=positive, default=7, help="default: 7")
    how.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=positive,
        default=300,
        help="a side that does not answer for so long is given up (default: 300)",
    )
    how.add_argument(
        "--memory",
        action="store_true",
        help="measure the memory of a train step on NumPy instead of time",
    )
    common.add_json(parser)
    parser.add_argument(
        "--output", metavar="FILE", type=common.path, help="also write JSON to a file"
    )


def execute(args: argparse.Namespace) -> int:
    """Measure, and print what was found, also if it is interrupted."""
    from seqcore import machine
    from seqcore.bench.report import Report
    from seqcore.bench.selection import candidates, check_names
    from seqcore.bench.session import Session
    from seqcore.bench.sides import REFERENCE

    workloads = _workloads(args)
    modes = _modes(args.mode)
    check_names(args.backend, args.peers, args.baseline)
    if args.output is not None:
        common.check_suffix(args.output, ".json")
    threads = args.threads or machine.processors()
    report = Report(
        machine=machine.facts(),
        settings={"threads": threads, "rounds": args.rounds, "modes": modes},
    )
    with _progress() as progress:
        session = Session(
            report, rounds=args.rounds, threads=threads, timeout=args.timeout, progress=progress
        )
        try:
            for workload in workloads:
                if args.memory:
                    session.trace_memory(workload, REFERENCE)
                else:
                    sides = candidates(workload, args.backend, args.peers)
                    session.measure(workload, sides, modes)
        except KeyboardInterrupt:
            report.interrupted = True
    _show(report, args)
    if report.interrupted:
        return INTERRUPTED
    return OK if report.measurements or args.memory else FAILED


def _workloads(args: argparse.Namespace) -> list[Workload]:
    """Return what shall be run, from CONFIG or by name.

    Raises:
        ArgumentError: if arguments of both are given, or one is missing.
    """
    from seqcore.bench.workloads import make_workload, named_workload
    from seqcore.errors import ArgumentError

    def given(*names: str) -> list[str]:
        return [f"--{name}" for name in names if getattr(args, name)]

    if args.config is None:
        if wrong := given("features", "batch", "time"):
            raise ArgumentError(f"{wrong[0]}: goes with CONFIG, a layer's file, and none is given")
        named = (args.workload or WORKLOADS).split(",")
        directions = {"bidirectional": args.bidirectional, "lengths": args.lengths}
        return [named_workload(name, args.cell or "lstm", **directions) for name in named]
    if wrong := given("workload", "cell", "bidirectional"):
        raise ArgumentError(f"{wrong[0]}: goes with named workloads; CONFIG says what is run")
    if args.features is None:
        raise ArgumentError("--features: missing; CONFIG does not say how many features x has")
    shape = (args.batch or BATCH, args.time or TIME, args.features)
    layer = common.read_layer(args.config)
    return [make_workload(args.config.name, layer, shape, lengths=args.lengths)]


def _modes(text: str) -> list[str]:
    from seqcore.bench.sides import MODES
    from seqcore.errors import ArgumentError

    modes = text.split(",")
    for mode in modes:
        if mode not in MODES:
            raise ArgumentError(f"--mode: received {mode!r}, expected {' or '.join(MODES)}")
    return modes


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str, str], None]]:
    """Show what is being done on standard error: in one line of a terminal, else a line a phase."""
    from rich.live import Live
    from rich.text import Text

    console = common.error_console()
    if console.is_terminal:
        # Drawn between two calls only: a thread that redraws would take time from the one measured.
        with Live(console=console, auto_refresh=False, transient=True) as live:
            yield lambda phase, now: live.update(Text(f"{phase}: {now}"), refresh=True)
        return
    seen: set[str] = set()

    def write(phase: str, now: str) -> None:
        if phase not in seen:
            seen.add(phase)
            console.print(phase)

    yield write


def _show(report: Report, args: argparse.Namespace) -> None:
    """Print the report, and write it to a file if asked to."""
    import json

    from seqcore.bench.report import tables, to_data, verdicts
    from seqcore.files import replacing

    data = to_data(report)
    if args.output is not None:
        with replacing(args.output) as file:
            file.write(json.dumps(data, indent=2, allow_nan=False).encode())
    if args.json:
        common.print_json(data)
        return
    print(", ".join(f"{name} {value}" for name, value in report.machine.items()))
    print(", ".join(f"{name} {report.settings[name]}" for name in ("threads", "rounds")))
    for table in tables(report, args.baseline):
        print(f"\n{table.title}")
        common.print_table(table.columns, _aligned(table.rows))
    for verdict in verdicts(report):
        among = ", ".join(verdict.among)
        print(f"fastest backend for {verdict.mode}: {verdict.backend} (measured: {among})")
        print(f"  in seqcore.toml: {verdict.line}")
    if report.interrupted:
        print("interrupted: this is what was measured until then")


def _aligned(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """Return rows with the columns of numbers flush right."""
    columns = []
    for column in zip(*rows, strict=True):
        numbers = all(cell == "" or cell[0].isdigit() for cell in column)
        width = max(map(len, column)) if numbers else 0
        columns.append([cell.rjust(width) for cell in column])
    return list(zip(*columns, strict=True))
