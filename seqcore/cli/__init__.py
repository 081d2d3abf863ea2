"""The command line: one module a command, each with `add_parser(subparsers)` and `execute(args)`.

A command's module imports what it works with inside its functions, so that help is quick. Only
the answer goes to standard output; warnings, progress and errors go to standard error.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from seqcore.errors import SeqcoreError

COMMANDS = (
    "demo", "run", "init", "explain", "compare", "convert", "verify", "conform", "backends",
    "config", "plugin", "bench",
)  # fmt: skip

OK, FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 130, 141
"""Exit codes; the last two are what a shell reports for Ctrl-C and for a reader that left."""

_EPILOG = """\
where to start:
  seqcore demo                                       see what the layers do
  seqcore init layer.toml --features 8 --output model.safetensors
  seqcore run model.safetensors --input x.npy --output y.npz
  seqcore COMMAND --help                             every command has examples of its own

exit codes: 0 done, 1 an error that the message explains, 2 wrong usage, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        argv: The arguments without the program's name; those of the process if None.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    _make_writable()
    try:
        code = _dispatch(arguments)
        sys.stdout.flush()  # here, so that a reader that left is noticed below
    except SystemExit as stop:  # how argparse ends, after help and after wrong usage
        return stop.code if isinstance(stop.code, int) else USAGE
    except SeqcoreError as error:
        print(f"seqcore: error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("seqcore: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # What is still buffered has no reader; without this the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:  # of a file it would be a FileError; this is the output itself
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EBADF):
            raise
        print(f"seqcore: error: standard output: {error.strerror}", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _make_writable() -> None:
    """Make the standard streams take any text: closed ones none, narrow ones with escapes."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="seqcore",
        description="Recurrent layers by one specification, on interchangeable backends.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"seqcore {_version()}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    # The command's own module is enough, where one is named.
    wanted = next((word for word in arguments if not word.startswith("-")), None)
    for name in (wanted,) if wanted in COMMANDS else COMMANDS:
        _module(name).add_parser(subparsers)
    args, unknown = parser.parse_known_args(arguments)
    if unknown:  # said by the command, whose usage is what helps
        subparsers.choices[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    code: int = _module(args.command).execute(args)
    return code


def _module(command: str) -> Any:
    return importlib.import_module(f"seqcore.cli.{command}")


def _version() -> str:
    from seqcore import __version__

    return __version__
