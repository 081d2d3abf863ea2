"""`seqcore demo`: what the layers do, on a small example."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.cli.walkthrough import Walkthrough


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "demo",
        "walk through the layers on a small example",
        "Runs a SimpleRNN, an LSTM and a bidirectional LSTM on a sequence of 4 steps, in every "
        "output\nform; shows the LSTM's gates step by step; and reproduces two published tables.",
        "seqcore demo\nseqcore demo --html demo.html\nseqcore demo --backend numpy --json",
    )
    common.add_backend(parser)
    parser.add_argument(
        "--html",
        metavar="FILE",
        type=common.path,
        help="write the walk-through to one self-contained page, with the gates as heat maps",
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Show the walk-through; fails where a table is not reproduced."""
    from seqcore.cli.walkthrough import to_json_data, walk

    if args.html is not None:
        common.check_suffix(args.html, ".html", ".htm")
    walkthrough = walk(args.backend, common.options(args))
    if args.html is not None:
        _write_page(args.html, walkthrough)
    if args.json:
        common.print_json(to_json_data(walkthrough))
    elif args.html is None:
        from seqcore.cli.walkthrough_text import draw

        print(draw(walkthrough))
    else:
        print(args.html)
    _check_tables(walkthrough)
    return 0


def _write_page(path: Path, walkthrough: Walkthrough) -> None:
    from seqcore.cli.walkthrough_page import page
    from seqcore.files import replacing

    with replacing(path) as file:
        file.write(page(walkthrough).encode())


def _check_tables(walkthrough: Walkthrough) -> None:
    """Raise an error for a backend that computes something else than was published.

    Raises:
        SeqcoreError: if a table differs.
    """
    from seqcore.cli.walkthrough import TOLERANCE
    from seqcore.errors import SeqcoreError

    for table in walkthrough.tables:
        if not table.agrees:
            raise SeqcoreError(
                f"backend {walkthrough.backend!r}: the {table.printed.tutorial} table at "
                f"matmul_precision={table.printed.precision!r} differs by {table.difference:.1e}, "
                f"expected at most {TOLERANCE:.0e}; this is a fault of the backend, please "
                "report it"
            )
