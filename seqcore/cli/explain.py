"""`seqcore explain`: which implementation runs which part of a layer."""

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
        "explain",
        "show which implementation runs which part of a layer",
        "Shows the plan for one kind of call: the implementation that runs each part of the "
        "layer, and\nwhy the others refused it.",
        "seqcore explain layer.toml\n"
        "seqcore explain layer.toml --mask lengths --gradient yes\n"
        "seqcore explain layer.toml --option implementation=generic --json",
    )
    common.add_config(parser)
    common.add_backend(parser)
    parser.add_argument(
        "--dtype",
        default="float32",
        help="the input's data type: float64, float32 (default), float16 or bfloat16",
    )
    parser.add_argument(
        "--mask",
        choices=("none", "lengths", "any"),
        default="none",
        help="what masking the call has (default: none)",
    )
    parser.add_argument(
        "--gradient",
        choices=("no", "yes", "unknown"),
        default="no",
        help="whether it is differentiated; unknown: the framework may do so (default: no)",
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the plan."""
    layer = common.read_layer(args.config)
    explanation = layer.explain(
        dtype=args.dtype,
        mask=args.mask,
        gradient=args.gradient,
        backend=args.backend,
        **common.options(args),
    )
    if args.json:
        common.print_json(explanation.to_data())
    else:
        print(explanation)
    return 0
