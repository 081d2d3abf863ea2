"""`seqcore run`: a layer over a file of sequences."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seqcore.cli import common

if TYPE_CHECKING:
    from types import TracebackType

    from seqcore.cli.common import Subparsers
    from seqcore.cli.reading import Input
    from seqcore.runtime import BoundLayer

_MEMORY = 128 * 2**20
"""About how many bytes a batch may take, by default, with what is computed from it."""
_MOST_ROWS = 4096
_PATIENCE = 1.0
"""Seconds after which a run is long enough for a progress bar."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = common.add_command(
        subparsers,
        "run",
        "run a layer over a file of sequences",
        "Runs a layer over the sequences in a file, in batches, so that a file may be larger than\n"
        "memory. The output is written as a whole or not at all.\n\n"
        "input   .npy   x, (batch, time, features)\n"
        "        .npz   x, and if wanted lengths or mask, and initial_state.h and so on\n"
        "        .csv   a header, then a step a row; every column is a feature\n"
        "output  .npz   every output by its name\n"
        "        .npy   for a layer with a single output",
        "seqcore run model.safetensors --input x.npy --output y.npz\n"
        "seqcore run layer.toml --weights model.safetensors --input x.npz --output y.npz\n"
        "seqcore run layer.toml --seed 1 --input steps.csv --sequence-column id --output y.npy",
    )
    common.add_config(parser)
    parser.add_argument(
        "--input", metavar="FILE", type=common.path, required=True, help="what to read"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=common.path, required=True, help="what to write"
    )
    common.add_weights(parser)
    common.add_backend(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=common.integer(1),
        help="sequences at a time (default: as many as fit in some 128 MiB)",
    )
    common.add_sequence_column(parser)
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the layer and print what was written."""
    from seqcore.cli.reading import open_input
    from seqcore.cli.weights import fresh, layer_and_weights, origin
    from seqcore.cli.writing import check_output
    from seqcore.spec.outputs import output_names

    layer, weights = layer_and_weights(args)
    check_output(args.output, output_names(layer), args.input)
    dtype = None if weights is None else _first(weights).dtype.name
    with open_input(args.input, layer, dtype, args.sequence_column) as opened:
        if weights is None:
            weights = fresh(args, layer, opened)
        bound = layer.bind(weights, backend=args.backend, **common.options(args))
        size = args.batch_size or _batch_size(opened, weights)
        report = _run(bound, opened, size, args.output)
        report["weights"] = origin(args)
        report["sequences"] = [{"name": name, "steps": steps} for name, steps in opened.sequences]
    if args.json:
        common.print_json(report)
    else:
        rows = [(o["name"], str(tuple(o["shape"])), o["dtype"]) for o in report["outputs"]]
        common.print_table(("output", "shape", "dtype"), rows)
        print(f"{args.output}: {layer} on {bound.backend}, weights: {report['weights']}")
    return 0


def _run(bound: BoundLayer, opened: Input, size: int, output: Path) -> dict[str, Any]:
    """Run the layer over all rows, write its outputs, and return what there is to report."""
    from seqcore.cli.writing import writing
    from seqcore.spec.outputs import output_names

    names = output_names(bound.layer)
    total = opened.x.shape[0]
    outputs: tuple[Any, ...] = ()
    with writing(output, names, total) as append, _Progress(total) as progress:
        for x, others in opened.batches(size):
            result = bound(x, **others)
            outputs = (result,) if len(names) == 1 else tuple(result)
            append(outputs)
            progress.advance(len(x))
    return {
        "output": str(output),
        "layer": str(bound.layer),
        "backend": bound.backend,
        "batch_size": size,
        "outputs": [
            {"name": name, "shape": [total, *last.shape[1:]], "dtype": last.dtype.name}
            for name, last in zip(names, outputs, strict=True)
        ],
    }


def _batch_size(opened: Input, weights: dict[str, Any]) -> int:
    """Return how many rows to take at a time: a row takes its steps of x and of all gates."""
    _, steps, features = opened.x.shape
    widest = max(value.shape[-1] for value in weights.values())
    row = max(1, steps) * (features + 3 * widest) * opened.x.dtype.itemsize
    return int(min(_MOST_ROWS, max(1, _MEMORY // row)))


def _first(weights: dict[str, Any]) -> Any:
    return next(iter(weights.values()))


class _Progress:
    """A progress bar on standard error, for a run that turns out long."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> _Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, rows: int) -> None:
        """Count rows as done."""
        self._done += rows
        if self._bar is None and time.monotonic() - self._start > _PATIENCE:
            self._bar = self._started()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done)

    def _started(self) -> Any:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

        console = common.error_console()
        bar = Progress(
            "rows", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            console=console,
            transient=console.is_terminal,  # a log keeps where it ended
        )  # fmt: skip
        bar.add_task("", total=self._total)
        bar.start()
        return bar
