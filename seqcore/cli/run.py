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
    from seqcore.spec.layers import AnyLayer

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
    parser.add_argument("--input", metavar="FILE", type=Path, required=True, help="what to read")
    parser.add_argument("--output", metavar="FILE", type=Path, required=True, help="what to write")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        type=Path,
        help="a saved .safetensors file with the weights for CONFIG",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=common.integer(0),
        help="without any weights: the seed of fresh, untrained ones (default: 0)",
    )
    common.add_backend(parser)
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=common.integer(1),
        help="sequences at a time (default: as many as fit in some 128 MiB)",
    )
    parser.add_argument(
        "--sequence-column",
        metavar="NAME",
        help="the column of a .csv file that says which sequence a row belongs to",
    )
    common.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Run the layer and print what was written."""
    from seqcore.cli.reading import open_input
    from seqcore.cli.writing import check_output
    from seqcore.spec.outputs import output_names

    layer, weights = _layer_and_weights(args)
    check_output(args.output, output_names(layer), args.input)
    dtype = None if weights is None else _first(weights).dtype.name
    with open_input(args.input, layer, dtype, args.sequence_column) as opened:
        if weights is None:
            weights = _fresh(args, layer, opened)
        bound = layer.bind(weights, backend=args.backend, **common.options(args))
        size = args.batch_size or _batch_size(opened, weights)
        report = _run(bound, opened, size, args.output)
        report["weights"] = _origin(args)
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


def _layer_and_weights(args: argparse.Namespace) -> tuple[AnyLayer, dict[str, Any] | None]:
    """Return the layer, and the weights if a file holds them."""
    from seqcore.errors import ArgumentError
    from seqcore.weights import load

    held = args.config.suffix.lower() == ".safetensors"
    if held and args.weights is not None:
        raise ArgumentError(
            f"--weights: received {args.weights}, and {args.config} holds weights already; leave "
            "one of them out"
        )
    if args.seed is not None and (held or args.weights is not None):
        raise ArgumentError(
            f"--seed: received {args.seed} with saved weights, expected it for fresh ones only; "
            "leave it out"
        )
    if held:
        return load(args.config)
    layer = common.read_layer(args.config)
    if args.weights is None:
        return layer, None
    saved, weights = load(args.weights)
    _check_same(args, layer, saved)
    return layer, weights


def _check_same(args: argparse.Namespace, layer: AnyLayer, saved: AnyLayer) -> None:
    """Refuse weights of a layer that computes something else, be their shapes as they may.

    Raises:
        WeightsError: if the layers differ in more than initializers and return flags.
    """
    from seqcore.errors import WeightsError
    from seqcore.runtime.planning import computation
    from seqcore.spec.description import to_data

    mine, theirs = computation(layer), computation(saved)
    if mine == theirs:
        return
    difference = _difference(to_data(mine), to_data(theirs), "")
    raise WeightsError(
        f"{args.weights}: was saved for another layer than {args.config} describes: {difference}; "
        f"change {args.config}, or run {args.weights} as CONFIG"
    )


def _difference(mine: Any, theirs: Any, place: str) -> str:
    """Return the first place where two descriptions differ, with what stands there."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        for key in mine | theirs:
            if mine.get(key) != theirs.get(key):
                return _difference(mine.get(key), theirs.get(key), f"{place}.{key}".lstrip("."))
    if isinstance(mine, list) and isinstance(theirs, list) and len(mine) == len(theirs):
        for index, (ours, other) in enumerate(zip(mine, theirs, strict=True)):
            if ours != other:
                return _difference(ours, other, f"{place}[{index}]")
    return f"{place} is {_brief(mine)} there and {_brief(theirs)} in the weights file"


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)} layers"
    return repr(value.get("type")) if isinstance(value, dict) else repr(value)


def _fresh(args: argparse.Namespace, layer: AnyLayer, opened: Input) -> dict[str, Any]:
    seed = args.seed or 0
    common.warn(
        f"no weights were given: running with FRESH, UNTRAINED weights (seed {seed}); "
        "give trained ones with --weights"
    )
    return layer.init(opened.x.shape[2], seed=seed, dtype=opened.x.dtype.name)


def _origin(args: argparse.Namespace) -> str:
    if args.weights is not None:
        return str(args.weights)
    if args.config.suffix.lower() == ".safetensors":
        return str(args.config)
    return f"fresh, untrained, seed {args.seed or 0}"


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
