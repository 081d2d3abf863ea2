"""Where the weights of a command come from: CONFIG itself, `--weights`, or a seed."""

from __future__ import annotations

import argparse
from typing import Any

from seqcore.cli import common
from seqcore.cli.reading import Input
from seqcore.errors import ArgumentError, WeightsError
from seqcore.runtime.planning import computation
from seqcore.spec.description import to_data
from seqcore.spec.layers import AnyLayer
from seqcore.weights import load


def layer_and_weights(args: argparse.Namespace) -> tuple[AnyLayer, dict[str, Any] | None]:
    """Return the layer, and the weights if a file holds them.

    Raises:
        FileError: if a file cannot be read.
        ArgumentError: if an argument would be ignored.
        WeightsError: if the weights were saved for another layer.
    """
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


def fresh(args: argparse.Namespace, layer: AnyLayer, opened: Input) -> dict[str, Any]:
    """Return fresh weights for an input, and say so."""
    seed = args.seed or 0
    common.warn(
        f"no weights were given: running with FRESH, UNTRAINED weights (seed {seed}); "
        "give trained ones with --weights"
    )
    return layer.init(opened.x.shape[2], seed=seed, dtype=opened.x.dtype.name)


def origin(args: argparse.Namespace) -> str:
    """Return where the weights come from, in words."""
    if args.weights is not None:
        return str(args.weights)
    if args.config.suffix.lower() == ".safetensors":
        return str(args.config)
    return f"fresh, untrained, seed {args.seed or 0}"
