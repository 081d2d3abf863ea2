"""What several commands share: their arguments, the layer that CONFIG names, and output."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console

    from seqcore.compare import Difference
    from seqcore.spec.layers import AnyLayer

    Subparsers: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]

LAYER_SUFFIXES = (".toml", ".json", ".safetensors")
_WIDE = 2000


def add_command(
    subparsers: Subparsers, name: str, summary: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a command's parser; `examples` are lines that a reader can run as they stand."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the argument CONFIG."""
    parser.add_argument(
        "config",
        metavar="CONFIG",
        type=path,
        help="the layer: a .toml or .json description, or a .safetensors file that holds one",
    )


def add_backend(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose a backend and its options."""
    parser.add_argument(
        "--backend", metavar="NAME", help="where to run (default: what the configuration says)"
    )
    add_option(parser)


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add the argument for a backend's options."""
    parser.add_argument(
        "--option",
        metavar="KEY=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="one of the backend's options, such as matmul_precision=tf32; may be repeated",
    )


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which weights a layer gets; see `seqcore.cli.weights`."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        type=path,
        help="a saved .safetensors file with the weights for CONFIG",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=integer(0),
        help="without any weights: the seed of fresh, untrained ones (default: 0)",
    )


def add_sequence_column(parser: argparse.ArgumentParser) -> None:
    """Add the argument that groups the rows of a .csv file."""
    parser.add_argument(
        "--sequence-column",
        metavar="NAME",
        help="the column of a .csv file that says which sequence a row belongs to",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the flag that asks for JSON."""
    parser.add_argument("--json", action="store_true", help="print JSON, for a program to read")


def path(text: str) -> Path:
    """Return the path that an argument stands for; an empty one stands for none."""
    if not text:
        raise argparse.ArgumentTypeError("received an empty text, expected a path")
    return Path(text)


def positive(text: str) -> float:
    """Return the number above 0 that an argument stands for."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}, expected a number above 0")
    return number


def integer(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argument type: an integer of `least` or more, and of `most` or less."""

    def parse(text: str) -> int:
        number = int(text)
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small, expected {least} or more")
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(f"{number} is too large, expected {most} at most")
        return number

    parse.__name__ = "integer"  # argparse names the type in its message for what is no number
    return parse


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments `--option` as the backend's options, each of its declared type.

    What cannot be read as that type stays text, for the configuration says best what it expects.
    """
    import msgspec

    from seqcore.config import resolve
    from seqcore.registry import COMMON_OPTIONS, registry

    if not args.option:
        return {}
    declared = {**COMMON_OPTIONS, **registry.spec(resolve(args.backend).backend).options}
    kinds: dict[str, Any] = {"bool": bool, "int": int}
    read: dict[str, Any] = dict(args.option)
    for key, text in args.option:
        kind = kinds.get(declared[key].type) if key in declared else None
        if kind is not None:
            try:
                read[key] = msgspec.convert(text, kind, strict=False)
            except msgspec.ValidationError:
                continue
    return read


def read_layer(path: Path) -> AnyLayer:
    """Return the layer that a CONFIG file describes.

    Raises:
        FileError: if the file cannot be read or has another suffix.
        SpecError: if it describes no layer.
    """
    from seqcore.errors import FileError, SpecError
    from seqcore.spec.description import from_json, from_toml
    from seqcore.weights import load

    suffix = path.suffix.lower()
    if suffix not in LAYER_SUFFIXES:
        raise FileError(
            f"{path}: suffix {path.suffix or '(none)'}, expected a layer in one of "
            f"{', '.join(LAYER_SUFFIXES)}"
        )
    if suffix == ".safetensors":
        return load(path)[0]
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text: {error.reason}") from error
    try:
        return from_toml(text) if suffix == ".toml" else from_json(text)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None


def check_suffix(path: Path, *suffixes: str) -> None:
    """Check, before any work, that a file to write is named like what it will hold.

    So that a slip of the fingers does not replace a model with a report.

    Raises:
        FileError: if it is not, if it is a folder, or if its folder is missing.
    """
    from seqcore.errors import FileError

    if path.suffix.lower() not in suffixes:
        raise FileError(
            f"{path}: suffix {path.suffix or '(none)'}, expected a file named "
            f"{' or '.join(f'*{suffix}' for suffix in suffixes)}"
        )
    if path.is_dir():
        raise FileError(f"{path}: is a folder, expected a file to write")
    if not path.parent.is_dir():
        raise FileError(f"{path}: cannot be written: there is no folder {path.parent}")


def print_json(data: Any) -> None:
    """Print an answer as JSON; NaN and infinity, which JSON has not, are a bug of the caller."""
    print(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False))


def difference_cells(difference: Difference) -> tuple[str, str, str, str]:
    """Return a table's cells: the array, how far it is apart, the limit, and on which side."""
    return (
        difference.array,
        f"{difference.eps:.3g}",
        f"{difference.limit:.3g}",
        "within" if difference.within else "BEYOND",
    )


def difference_data(difference: Difference) -> dict[str, Any]:
    """Return a difference for JSON."""
    # JSON has no infinity; None says that the shapes differ, or one side is no number.
    eps = difference.eps if difference.eps < float("inf") else None
    return {**dataclasses.asdict(difference), "eps": eps, "within": difference.within}


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table to standard output, as wide as it needs where no terminal limits it."""
    from rich import box
    from rich.table import Table

    table = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    _console(sys.stdout).print(table)


def error_console() -> Console:
    """Return the console on standard error, for progress."""
    return _console(sys.stderr)


def warn(message: str) -> None:
    """Say something that must not be missed, on standard error."""
    print(f"seqcore: warning: {message}", file=sys.stderr)


def _console(file: Any) -> Console:
    from rich.console import Console

    class Plain(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # for `main`, whose exit code it is

    # Names, paths and reasons are printed as they are: nothing in them is markup.
    return Plain(
        file=file,
        width=None if file.isatty() else _WIDE,
        markup=False,
        highlight=False,
        emoji=False,
    )


def _pair(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (key and separator):
        raise argparse.ArgumentTypeError(f"{text!r}, expected KEY=VALUE")
    return key, value
