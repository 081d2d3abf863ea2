"""`seqcore plugin`: begin a plugin with a backend of your own, and check one."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from seqcore.cli import FAILED, OK, common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.cli.plugin.steps import Step


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "plugin",
        "begin a plugin with a backend of your own, or check one",
        "A plugin is a distribution of its own that gives seqcore a backend. `new` writes one that "
        "works;\n`check` says whether one keeps to its contract, and what to do next.",
        "seqcore plugin new my-chip\n"
        "seqcore plugin check seqcore-my-chip\n"
        "seqcore plugin check numpy --json",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    new = common.add_command(
        actions,
        "new",
        "write a plugin that works, to start from",
        "Writes the distribution seqcore-NAME: a backend that passes the conformance suite, whose "
        "array\nfunctions are NumPy's until you replace them, with tests, CI and a README.",
        "seqcore plugin new my-chip\nseqcore plugin new my-chip --path plugins/my-chip",
    )
    new.add_argument(
        "name", metavar="NAME", help="the backend's name: lower-case letters and digits, and '-'"
    )
    new.add_argument(
        "--path",
        metavar="DIR",
        type=common.path,
        help="the folder to write, new or empty (default: seqcore-NAME)",
    )
    check = common.add_command(
        actions,
        "check",
        "check a plugin, and say what to do next",
        "Checks an installed plugin step by step: entry point, registration and what it costs, "
        "SPI,\nrequirements, factory, capabilities, arrays in and out, and the smoke tier of the "
        "conformance\nsuite. Nothing of the plugin runs in the command's own process. The exit "
        "code is 1 if a step\nfails.",
        "seqcore plugin check\nseqcore plugin check seqcore-my-chip\nseqcore plugin check my-chip",
    )
    check.add_argument(
        "target",
        metavar="PATH|NAME",
        nargs="?",
        default=".",
        help="the plugin's folder, or the name of an installed backend (default: this folder)",
    )
    check.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=common.positive,
        default=60.0,
        help="that an import, a factory, and a case of the suite may take (default: 60)",
    )
    common.add_json(check)


def execute(args: argparse.Namespace) -> int:
    """Do what is asked for."""
    return _new(args) if args.action == "new" else _check(args)


def _new(args: argparse.Namespace) -> int:
    from seqcore.cli.plugin.new import create

    folder = args.path if args.path is not None else Path(f"seqcore-{args.name}")
    written = create(args.name, folder)
    print(f"{folder}: {len(written)} files, a backend that passes the conformance suite")
    for path in written:
        print(f"  {path}")
    print("next:")
    if folder != Path():
        print(f"  cd {shlex.quote(str(folder))}")
    print('  python -m pip install -e ".[dev]"')
    print("  seqcore plugin check")
    print("then replace the functions in backend.py by your library's, one by one")
    return OK


def _check(args: argparse.Namespace) -> int:
    from seqcore.cli.plugin.check import check
    from seqcore.cli.plugin.steps import next_step
    from seqcore.cli.progress import show_progress

    tell = (lambda _: None) if args.json else _print
    steps = check(args.target, args.timeout, tell, show_progress)
    passed = all(step.status != "fail" for step in steps)
    following = next_step(steps, shlex.quote(args.target))
    if args.json:
        common.print_json(
            {
                "target": args.target,
                "passed": passed,
                "steps": [dataclasses.asdict(step) for step in steps],
                "next": following,
            }
        )
    else:
        print(f"next: {following}")
    return OK if passed else FAILED


def _print(step: Step) -> None:
    first, *rest = step.message.splitlines()
    backend = f"{step.backend}: " if step.backend else ""
    print(f"{step.status}  {backend}{step.name}: {first}", flush=True)
    for line in rest:
        print(f"        {line}")
    if step.advice:
        print(f"      do: {step.advice}", flush=True)
