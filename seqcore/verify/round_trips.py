"""Random layers in every format: run there by the framework itself, written, and read back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqcore.errors import ConversionError
from seqcore.interchange.formats import FORMATS, Format
from seqcore.interchange.gates import new_gate_apart
from seqcore.interchange.levels import Weights
from seqcore.interchange.models import OWN, Model, read, unsaid, write
from seqcore.spec.layers import GRU, LSTM, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.verify.verification import verify

_FEATURES, _UNITS = 4, 5
_NOT_RUN = "not run"

LAYERS: Mapping[str, AnyLayer] = {
    "SimpleRNN": SimpleRNN(_UNITS, return_sequences=True),
    "LSTM": LSTM(_UNITS, return_sequences=True),
    "GRU, reset after": GRU(_UNITS, return_sequences=True),
    "GRU, reset before": GRU(_UNITS, return_sequences=True, reset_after=False),
    "bidirectional LSTM": Bidirectional(LSTM(_UNITS, return_sequences=True)),
    "2 bidirectional GRUs": Stack(
        (Bidirectional(GRU(_UNITS, return_sequences=True)),) * 2, return_sequences=True
    ),
}
"""What is moved, by what it is called in the table."""

_AFTER = frozenset({"GRU, reset after", "2 bidirectional GRUs"})
_BEFORE = frozenset({"GRU, reset before"})
REFUSED: Mapping[str, frozenset[str]] = {
    "torch": _BEFORE,
    "flax-nnx": _AFTER | _BEFORE,
    "flax-linen": _BEFORE,
    "haiku": _AFTER | {"SimpleRNN"},
    "equinox": _BEFORE | {"SimpleRNN"},
    "jax-blob": _AFTER | _BEFORE | {"SimpleRNN"},
}
"""By format the layers that it cannot hold: a reset form, a second bias, another cell."""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """One layer moved into one format and back.

    Attributes:
        format: The format.
        layer: The layer.
        dtype: The data type.
        run: How far the framework's own run is from seqcore's, in eps beside the limit; or why
            it did not run; or the term that the format cannot hold.
        back: What became of the weights.
        sound: Whether everything is as it must be, refusals by name included.
    """

    format: str
    layer: str
    dtype: str
    run: str
    back: str
    sound: bool


def round_trips(seed: int = 0) -> Iterator[RoundTrip]:
    """Yield what becomes of each layer in each format.

    The widest data type that a framework runs is taken: float64, else float32.
    """
    with tempfile.TemporaryDirectory() as folder:
        for one in FORMATS.values():
            for name, layer in LAYERS.items():
                yield _moved(one, name, layer, Path(folder), seed)


def _moved(one: Format, name: str, layer: AnyLayer, folder: Path, seed: int) -> RoundTrip:
    """Move one layer in the widest data type that the framework runs."""
    found = _moved_as(one, name, layer, "float64", folder, seed)
    if found.run.startswith(_NOT_RUN):
        found = _moved_as(one, name, layer, "float32", folder, seed)
    return found


def _moved_as(
    one: Format, name: str, layer: AnyLayer, dtype: str, folder: Path, seed: int
) -> RoundTrip:
    random = np.random.default_rng(seed)
    weights = {
        key: random.standard_normal(shape).astype(dtype) / 2
        for key, shape in layer.weight_shapes(_FEATURES).items()
    }
    path = folder / f"{one.name}-{name}-{dtype}{one.suffixes[0]}"
    expected = name in REFUSED.get(one.name, ())
    try:
        write(path, layer, weights, format=one.name)
    except ConversionError as error:
        return RoundTrip(one.name, name, dtype, f"refused: {error}", "", expected)
    moved = read(path, words=unsaid(path, one.name, layer, weights))
    found = verify(Model("seqcore", OWN, layer, weights), moved, seed=seed)
    back = _compared(weights, moved.weights)
    if found.not_run:
        (reason,) = found.not_run.values()
        return RoundTrip(one.name, name, dtype, f"{_NOT_RUN}: {reason}", back, False)
    own = found.rows[0]
    run = f"{own.eps:.2g} of {own.limit:.3g} eps"
    return RoundTrip(one.name, name, dtype, run, back, found.agree and not expected)


def _compared(before: Weights, after: Weights) -> str:
    """Return what became of the weights, in words."""
    worst = _worst(before, after)
    how = ""
    if worst:
        # What a format with one bias for z and r does, where the two are used as one.
        added = _worst(_added(before), _added(after))
        if added < worst:
            worst, how = added, ", the biases of z and r added up"
    return ("the same bits" if worst == 0 else f"within {worst:.3g} eps") + how


def _worst(before: Weights, after: Weights) -> float:
    """Return the largest difference of two models' weights, in eps."""
    if before.keys() != after.keys():
        return float("inf")
    return max(
        float(np.abs(after[name] - value).max()) / float(np.finfo(value.dtype).eps)
        for name, value in before.items()
    )


def _added(weights: Weights) -> Weights:
    """Return weights with the biases of z and r in one place, where a GRU has two."""
    changed = dict(weights)
    for name, other in weights.items():
        if name.endswith("recurrent_bias"):
            bias = f"{name.removesuffix('recurrent_bias')}bias"
            changed[bias], changed[name] = new_gate_apart(weights[bias], other)
    return changed
