"""`seqcore verify`: whether two models compute the same, and what went wrong if not."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqcore.cli import common
from seqcore.cli.convert import add_words
from seqcore.cli.progress import show_stages

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.interchange.models import Model
    from seqcore.verify import Verification

_MOST_NUMBERS = 2**24
"""In an input: the models and the reference run it several times."""

_BLUNT = 1e-2
"""A limit, in numbers of about 1, beyond which a mistake may be hidden."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "verify",
        "prove that two models compute the same, or name the mistake",
        "Runs two models, each in its own framework and on seqcore, on the same input with\n"
        "lengths, and compares them in eps. If they differ, every known mistake of moving\n"
        "recurrent weights is made in A on purpose, and those that make B of it are named.\n"
        "A model is a file, or a Python object module:attribute: a layer with its weights, a\n"
        "torch module, or a function of x and lengths. Exit code 1 if the two differ, or one\n"
        "did not run in its own framework.",
        "seqcore verify torch.pt model.keras\n"
        "seqcore verify torch.pt port:forward --input x.npz\n"
        "seqcore verify --formats",
    )
    parser.add_argument("first", metavar="A", nargs="?", help="a file, or module:attribute")
    parser.add_argument("second", metavar="B", nargs="?", help="the other: the port of A")
    parser.add_argument("--from", dest="origin", metavar="FORMAT", help="the format of A")
    parser.add_argument("--to", metavar="FORMAT", help="the format of B")
    add_words(parser, "--set", "what A leaves open, such as activation=relu; may be repeated")
    add_words(parser, "--with", "what B leaves open; may be repeated")
    parser.add_argument(
        "--input",
        metavar="FILE",
        type=common.path,
        help="the input, .npy, .npz or .csv (default: random)",
    )
    common.add_sequence_column(parser)
    parser.add_argument("--seed", metavar="N", type=common.integer(0), default=0, help="default: 0")
    parser.add_argument(
        "--formats",
        action="store_true",
        help="instead: move random layers into every format and back, and run them there",
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Print the comparison."""
    from seqcore.errors import ArgumentError
    from seqcore.verify import verify
    from seqcore.verify.objects import subject

    if args.formats:
        return _formats(args)
    if args.second is None:
        raise ArgumentError("verify: expected two models A and B, or --formats")
    with show_stages() as tell:
        tell(f"reading {args.first} and {args.second}")
        first = subject(args.first, format=args.origin, words=dict(args.words))
        second = subject(args.second, format=args.to, words=dict(args.chosen))
        x, lengths = _input(args, first, second)
        found = verify(first, second, x=x, lengths=lengths, seed=args.seed, tell=tell)
    if args.json:
        common.print_json(_data(found))
    else:
        _print(found)
    return 0 if found.proven else 1


def _input(args: argparse.Namespace, *models: Any) -> tuple[Any, Any]:
    """Return the input and the lengths in a file, if one is given."""
    from seqcore.cli.reading import open_input
    from seqcore.errors import ArgumentError
    from seqcore.interchange.models import Model

    known = next((model for model in models if isinstance(model, Model)), None)
    if args.input is None or known is None:
        if args.sequence_column is not None:
            raise ArgumentError("--sequence-column: goes with --input, a .csv file; leave it out")
        return None, None
    dtype = next(iter(known.weights.values())).dtype.name
    with open_input(args.input, known.layer, dtype, args.sequence_column) as opened:
        _check_size(args.input, opened.x.shape, known)
        ((x, given),) = opened.batches(max(1, opened.x.shape[0]))
    lengths = given.pop("lengths")
    for name, value in given.items():
        if value is not None:
            raise ArgumentError(
                f"{args.input}: holds {name}, which not every framework takes, expected x and "
                "lengths alone"
            )
    return x, lengths


def _check_size(path: Path, shape: tuple[int, ...], model: Model) -> None:
    """Check the shape of an input before it is read as a whole.

    Raises:
        ShapeError: if the model does not take it, or it is larger than a comparison needs.
    """
    from seqcore.errors import ShapeError
    from seqcore.spec.weights import cells

    prefix, _, _ = next(cells(model.layer, 1))
    features = model.weights[f"{prefix}kernel"].shape[0]
    if shape[2] != features:
        raise ShapeError(
            f"{path}: x has shape {shape}, expected (batch, time, {features}): {model.name} takes "
            f"{features} features"
        )
    if math.prod(shape) > _MOST_NUMBERS:
        raise ShapeError(
            f"{path}: x has shape {shape}, {math.prod(shape)} numbers, expected at most "
            f"{_MOST_NUMBERS}; a few rows prove as much"
        )


def _print(found: Verification) -> None:
    from seqcore.compare.reference import eps_of

    print(f"{found.layer}, {found.dtype}")
    rows = [(row.first, row.second, *common.difference_cells(row)) for row in found.rows]
    common.print_table(("model", "compared with", "worst in", "eps", "limit", ""), rows)
    for name, reason in found.not_run.items():
        common.warn(f"{name} ran on seqcore alone: {reason}")
    limit = found.rows[-1].limit * eps_of(found.dtype)
    if found.agree and limit > _BLUNT:
        common.warn(
            f"in {found.dtype} a difference of {limit:.2g} is within the limit; a mistake that "
            "changes less shows once the weights are cast to float32 or float64"
        )
    if found.step is not None:
        print(f"first diverges at step {found.step}")
    for cause in found.causes:
        print(f"likely cause: {cause.name}: {cause.cause}; {cause.remedy}")
        print(f"  made on purpose in the other model, {cause.eps:.3g} eps are left")
    if not (found.rows[-1].within or found.causes):
        print("no known mistake explains the difference")
    print(_verdict(found))


def _verdict(found: Verification) -> str:
    if not found.agree:
        return "NOT the same"
    if found.not_run:
        return f"the same on seqcore, NOT PROVEN: {' and '.join(found.not_run)} did not run itself"
    return "the same"


def _data(found: Verification) -> dict[str, Any]:
    rows = [common.difference_data(row) for row in found.rows]
    judged = {"rows": rows, "agree": found.agree, "proven": found.proven}
    return {**dataclasses.asdict(found), **judged}


def _formats(args: argparse.Namespace) -> int:
    from seqcore.errors import ArgumentError
    from seqcore.verify.round_trips import round_trips

    given = [args.first, args.second, args.origin, args.to, args.input, args.sequence_column]
    if any(value is not None for value in given) or args.words or args.chosen:
        raise ArgumentError("--formats: takes --seed and --json alone; leave the rest out")
    found = []
    with show_stages() as tell:
        for one in round_trips(seed=args.seed):
            found.append(one)
            tell(f"{one.format}: {one.layer}")
    if args.json:
        common.print_json([dataclasses.asdict(one) for one in found])
    else:
        rows = [(t.format, t.layer, t.dtype, t.run, t.back) for t in found]
        common.print_table(("format", "layer", "dtype", "in its own framework", "read back"), rows)
    return 0 if all(one.sound for one in found) else 1
