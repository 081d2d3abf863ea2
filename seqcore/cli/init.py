"""`seqcore init`: a layer with initial weights, saved to one file."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "init",
        "save a layer with initial weights",
        "Makes a layer's initial weights and saves both to one .safetensors file, which `seqcore "
        "run`\ntakes as CONFIG. The same seed gives the same bits on every machine.",
        "seqcore init layer.toml --features 8 --output model.safetensors\n"
        "seqcore init layer.toml --features 8 --output model.safetensors --seed 7 --dtype float64",
    )
    common.add_config(parser)
    parser.add_argument(
        "--features",
        metavar="N",
        type=common.integer(1),
        required=True,
        help="the size of the input's last axis",
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        type=common.path,
        required=True,
        help="the .safetensors file to write; one that exists is never replaced",
    )
    parser.add_argument("--seed", metavar="N", type=common.integer(0), default=0, help="default: 0")
    parser.add_argument(
        "--dtype",
        default="float32",
        help="float64, float32 (default), float16 or bfloat16",
    )


def execute(args: argparse.Namespace) -> int:
    """Write the file and print what it holds."""
    from seqcore.errors import FileError
    from seqcore.weights import save

    if args.output.suffix.lower() != ".safetensors":
        raise FileError(
            f"{args.output}: suffix {args.output.suffix or '(none)'}, expected .safetensors"
        )
    if args.output.exists():
        # What is there may be trained weights.
        raise FileError(
            f"{args.output}: exists, and init replaces nothing; remove it or name another file"
        )
    layer = common.read_layer(args.config)
    weights = layer.init(args.features, seed=args.seed, dtype=args.dtype)
    save(args.output, layer, weights)
    rows = [(name, str(value.shape), value.dtype.name) for name, value in weights.items()]
    common.print_table(("weight", "shape", "dtype"), rows)
    numbers = sum(math.prod(value.shape) for value in weights.values())
    print(f"{args.output}: {layer}, {numbers} numbers, seed {args.seed}")
    return 0
