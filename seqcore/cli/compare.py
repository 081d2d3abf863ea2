"""`seqcore compare`: several backends on the same weights and input."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.compare import Comparison


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "compare",
        "run several backends on the same input and compare them",
        "Runs the same weights and input on several backends and compares them pair by pair, in\n"
        "outputs and gradients. A difference is counted in eps of the data type; what is allowed\n"
        "follows from how much rounding noise changes this very computation. Beyond that, the\n"
        "first diverging step is named. Exit code 1 if any pair is beyond its limit.",
        "seqcore compare model.safetensors --input x.npz\n"
        "seqcore compare layer.toml --input x.npy --backends numpy torch\n"
        "seqcore compare layer.toml --input x.npy --seed 1 --precision tf32 --json",
    )
    common.add_config(parser)
    parser.add_argument(
        "--input", metavar="FILE", type=common.path, required=True, help="what to read"
    )
    common.add_weights(parser)
    parser.add_argument(
        "--backends",
        metavar="NAME",
        nargs="+",
        help="the backends to compare (default: all that are installed)",
    )
    parser.add_argument(
        "--precision",
        choices=("highest", "tf32", "bfloat16"),
        default="highest",
        help="the matmul_precision of all of them (default: highest)",
    )
    parser.add_argument(
        "--no-gradients", action="store_true", help="compare outputs only, which takes less time"
    )
    common.add_sequence_column(parser)
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the comparison."""
    from seqcore.cli.reading import open_input
    from seqcore.cli.weights import fresh, layer_and_weights
    from seqcore.compare import compare

    layer, weights = layer_and_weights(args)
    dtype = None if weights is None else next(iter(weights.values())).dtype.name
    with open_input(args.input, layer, dtype, args.sequence_column) as opened:
        if weights is None:
            weights = fresh(args, layer, opened)
        ((x, given),) = opened.batches(max(1, opened.x.shape[0]))
    with common.error_console().status("comparing"):
        found = compare(
            layer,
            weights,
            x,
            backends=args.backends or _installed(),
            gradients=not args.no_gradients,
            precision=args.precision,
            **given,
        )
    if args.json:
        common.print_json(_data(found))
    else:
        _print(found)
    return 0 if found.agree else 1


def _installed() -> list[str]:
    """Return the backends that can be had here."""
    from seqcore.registry import registry

    return [name for name in registry.names() if not registry.missing(name)]


def _print(found: Comparison) -> None:
    print(f"{found.layer}, {found.dtype}")
    for name, implementations in found.implementations.items():
        print(f"  {name}: {', '.join(implementations)}")
    for name, reason in found.without_gradients.items():
        print(f"  {name} has no gradients: {reason}")
    rows = [
        (f"{d.first} / {d.second}", d.kind, *common.difference_cells(d)) for d in found.differences
    ]
    common.print_table(("pair", "compared", "worst in", "eps", "limit", ""), rows)
    for divergence in found.divergences:
        pair = f"{divergence.first} / {divergence.second}"
        at = "in gradients only" if divergence.step is None else f"at step {divergence.step}"
        print(f"{pair}: first diverges {at}, {divergence.where}")
    print("all pairs agree" if found.agree else "NOT all pairs agree")


def _data(found: Comparison) -> dict[str, Any]:
    differences = [common.difference_data(one) for one in found.differences]
    return {**dataclasses.asdict(found), "differences": differences, "agree": found.agree}
