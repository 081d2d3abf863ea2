"""`seqcore convert`: a model from one framework's file to another's."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING, Any

from seqcore.cli import common

if TYPE_CHECKING:
    from seqcore.cli.common import Subparsers
    from seqcore.interchange.models import Model


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "convert",
        "move a model from one framework's file to another's",
        "Reads a trained recurrent layer, or a stack of them, from SOURCE and writes it to\n"
        "TARGET, in the format that the suffix says. What the other side cannot hold is an\n"
        "error, and nothing is approximated. `seqcore verify` proves the move.",
        "seqcore convert torch.pt model.keras\n"
        "seqcore convert model.keras model.onnx\n"
        "seqcore convert rnn.pt model.safetensors --set activation=relu\n"
        "seqcore convert model.safetensors flax.safetensors --to flax-nnx",
    )
    parser.add_argument("source", metavar="SOURCE", type=common.path, help="the file to read")
    parser.add_argument(
        "target",
        metavar="TARGET",
        type=common.path,
        help="the file to write; one that exists is never replaced",
    )
    parser.add_argument("--from", dest="origin", metavar="FORMAT", help="the format of SOURCE")
    parser.add_argument("--to", metavar="FORMAT", help="the format of TARGET")
    add_words(
        parser,
        "--set",
        "what SOURCE leaves open, such as activation=relu, a list as JSON; may be repeated",
    )
    add_words(parser, "--with", "how TARGET is written, such as optimized=false; may be repeated")


def add_words(parser: argparse.ArgumentParser, flag: str, help: str) -> None:
    """Add an argument for keywords of a format's functions."""
    parser.add_argument(
        flag,
        metavar="KEY=VALUE",
        type=word,
        action="append",
        default=[],
        dest="words" if flag == "--set" else "chosen",
        help=help,
    )


def word(text: str) -> tuple[str, Any]:
    """Return a keyword and its value: true, false, a whole number, a list as JSON, else a text."""
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE")
    known: dict[str, Any] = {"true": True, "false": False}
    if value.lower() in known:
        return key, known[value.lower()]
    if value.startswith("["):
        try:
            return key, json.loads(value)
        except (ValueError, RecursionError) as error:
            raise argparse.ArgumentTypeError(
                f"{text!r}, expected a list as JSON: {error}"
            ) from None
    if value[:1] in ("'", '"') and value[:1] == value[-1:] and len(value) > 1:
        value = value[1:-1]  # as messages show it for Python
    return key, int(value) if value.isdecimal() else value


def execute(args: argparse.Namespace) -> int:
    """Write the file, and print what it holds and how to prove it."""
    from seqcore.errors import FileError
    from seqcore.interchange.models import read, write

    if args.target.exists():
        # What is there may be trained weights.
        raise FileError(
            f"{args.target}: exists, and convert replaces nothing; remove it or name another file"
        )
    source = read(args.source, format=args.origin, words=dict(args.words))
    format = write(
        args.target, source.layer, source.weights, format=args.to, words=dict(args.chosen)
    )
    numbers = sum(value.size for value in source.weights.values())
    print(f"{args.source}: {source.format}, {source.layer}, {numbers} numbers")
    print(f"{args.target}: {format}")
    print(f"to see that both compute the same: {_proof(args, source, format)}")
    return 0


def _proof(args: argparse.Namespace, source: Model, format: str) -> str:
    """Return the command that compares the two files."""
    from seqcore.interchange.models import unsaid

    command = ["seqcore", "verify", str(args.source), str(args.target)]
    if args.origin is not None:
        command += ["--from", args.origin]
    for key, value in args.words:
        command += ["--set", f"{key}={_text(value)}"]
    for key, value in unsaid(args.target, format, source.layer, source.weights).items():
        command += ["--with", f"{key}={_text(value)}"]
    return shlex.join(command)


def _text(value: Any) -> str:
    """Return a value as `word` reads it."""
    return value if isinstance(value, str) else json.dumps(value)
