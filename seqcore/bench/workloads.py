"""What is run: a layer, the sizes of its input, and data that every worker makes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ArgumentError
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spec.naming import nearest
from seqcore.spec.outputs import output_units, state_units
from seqcore.spec.weights import cells

SIZES = {
    "b1": (1, 100, 128, 256),
    "b32": (32, 100, 128, 256),
    "b64big": (64, 256, 256, 512),
    "long": (8, 2000, 32, 64),
    "stream": (1, 1, 128, 256),
}
"""The named workloads: batch, time, features, units."""

CELLS: dict[str, type[AnyCell]] = {"lstm": LSTM, "gru": GRU, "simple_rnn": SimpleRNN}


@dataclass(frozen=True, slots=True)
class Data:
    """One workload's arrays, float32."""

    weights: dict[str, NDArray[Any]]
    x: NDArray[Any]
    lengths: NDArray[Any] | None


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One layer on one size of input.

    Attributes:
        name: Its name in the report.
        layer: The layer; it returns every step and the state, so that all sides do the same.
        batch: Rows.
        time: Steps.
        features: The input's last axis.
        lengths: Whether rows have lengths, uniform from 10 to 100 % of the time.
        stream: Whether one call's state is the next one's initial state.
    """

    name: str
    layer: AnyLayer
    batch: int
    time: int
    features: int
    lengths: bool = False
    stream: bool = False

    def __str__(self) -> str:
        padding = ", lengths uniform in 10..100 %" if self.lengths else ""
        return (
            f"{self.name}: {self.layer}, batch {self.batch}, time {self.time}, "
            f"features {self.features}{padding}"
        )

    def data(self) -> Data:
        """Return weights, input and lengths: the same bits in every process of one machine."""
        random = np.random.default_rng(0)
        weights = self.layer.init(self.features)
        for name, value in weights.items():
            if name.endswith("bias"):
                value += random.uniform(-0.1, 0.1, value.shape).astype(value.dtype)
            if name.endswith("recurrent_bias"):
                # The new gate's: Flax's GRU cell has no place for it. z and r keep theirs.
                value[2 * len(value) // 3 :] = 0
        shape = (self.batch, self.time, self.features)
        x = random.standard_normal(shape, dtype=np.float32)
        lengths = None
        if self.lengths:
            lengths = random.integers(-(-self.time // 10), self.time + 1, self.batch)
        return Data(weights, x, lengths)

    def output_shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of everything that the layer returns."""
        sequences = [(self.batch, self.time, units) for units in output_units(self.layer)]
        states = [(self.batch, units) for units in state_units(self.layer)]
        return [*sequences, *states]

    def operations(self, mode: str, *, padded: bool) -> int:
        """Return the floating-point operations of the products in one call.

        Args:
            mode: `"inference"`, or `"train"`, which is three times that.
            padded: Whether padding counts as work.
        """
        steps = self.batch * self.time
        if self.lengths and not padded:
            lengths = self.data().lengths
            assert lengths is not None
            steps = int(lengths.sum())
        per_step = sum(
            2 * cell.blocks * cell.units * (features + cell.units)
            for _, cell, features in cells(self.layer, self.features)
        )
        return steps * per_step * (3 if mode == "train" else 1)

    def saved_bytes(self) -> int:
        """Return the size of every gate and state at every step, which a backward pass needs."""
        arrays = sum(
            (len(cell.gate_names) + len(cell.state_names)) * cell.units
            for _, cell, _ in cells(self.layer, self.features)
        )
        return 4 * self.batch * self.time * arrays


def named_workload(name: str, cell: str, *, bidirectional: bool, lengths: bool) -> Workload:
    """Return one of the workloads in `SIZES`.

    Raises:
        ArgumentError: if there is none of that name, or streaming is asked of what cannot stream.
    """
    if name not in SIZES:
        raise ArgumentError(
            f"workload {name!r}{nearest(name, SIZES)}: expected one of {', '.join(SIZES)}"
        )
    stream = name == "stream"
    if stream and (bidirectional or lengths):
        raise ArgumentError(
            "workload 'stream': received bidirectional or lengths, expected neither: one step has "
            "no future and no padding"
        )
    batch, time, features, units = SIZES[name]
    layer = CELLS[cell](units)
    return make_workload(
        name,
        Bidirectional(layer) if bidirectional else layer,
        (batch, time, features),
        lengths=lengths,
        stream=stream,
    )


def make_workload(
    name: str,
    layer: AnyLayer,
    shape: tuple[int, int, int],
    *,
    lengths: bool = False,
    stream: bool = False,
) -> Workload:
    """Return a workload of any layer, its return flags set.

    Raises:
        ArgumentError: if a size is not positive.
    """
    for subject, size in zip(("batch", "time", "features"), shape, strict=True):
        if size < 1:
            raise ArgumentError(f"{subject}: received {size}, expected a positive integer")
    batch, time, features = shape
    return Workload(
        name=name,
        layer=_returning_all(layer),
        batch=batch,
        time=time,
        features=features,
        lengths=lengths,
        stream=stream,
    )


def _returning_all(layer: AnyLayer) -> AnyLayer:
    flags = {"return_sequences": True, "return_state": True}
    if isinstance(layer, Bidirectional):
        other = layer.backward_layer
        return layer.replace(
            layer=layer.layer.replace(**flags),
            backward_layer=None if other is None else other.replace(**flags),
        )
    if isinstance(layer, Stack):
        return layer.replace(**flags)
    return layer.replace(**flags)
