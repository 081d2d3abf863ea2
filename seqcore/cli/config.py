"""`seqcore config`: every effective value, and where it came from."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "config",
        "show every effective setting and where it came from",
        "Shows the backend that would be used here and now, every option of every backend, and "
        "where\neach value came from: an environment variable, a file, or the default.",
        "seqcore config\n"
        "SEQCORE_NUMPY__MATMUL_PRECISION=tf32 seqcore config\n"
        "seqcore config --json",
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the settings."""
    from seqcore.config import configuration

    settings = configuration.effective()
    if args.json:
        data = [{"key": s.key, "value": s.value, "origin": s.origin} for s in settings]
        common.print_json(data)
    else:
        rows = [(s.key, shown(s.value), s.origin) for s in settings]
        common.print_table(("setting", "value", "origin"), rows)
    return 0


def shown(value: str | int | bool | None) -> str:
    """Return a value as a configuration file writes it; None is what no file can write."""
    if isinstance(value, bool):
        return str(value).lower()
    return "(the backend decides)" if value is None else str(value)
