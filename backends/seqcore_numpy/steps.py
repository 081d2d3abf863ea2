"""What the in-place cells share: the columns that each step multiplies, and blocks of time.

A step's pre-activations are held units-major, (gates*units, batch): each gate is then one
contiguous block, which NumPy's elementwise loops want, and OpenBLAS multiplies tall by narrow
faster than the transpose (200 against 150 GFLOP/s at batch 32). What a step multiplies is one
column per sequence,

    x (features) | held, 1 at a masked step else 0 | 1, for the bias | the previous h (units)

so that input product, bias and recurrent product are one product. The weights that meet `held`
drive the gates to the values that carry the state exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seqcore_numpy.workspace import Workspace

Floats: TypeAlias = NDArray[Any]

# Sizes are in elements. A block of steps should stay in the second-level cache in inference, and
# be long enough in the pullback that adding up the blocks' gradients is small beside the products.
INFERENCE_BLOCK = 1 << 17
PULLBACK_ROWS = 1024

# Drives a sigmoid to exactly 0 or 1 in float32 and float64 and overflows in neither.
SATURATE = 1e30

# OpenBLAS multiplies up to about 100**3 without packing, then faster by column-major weights.
SMALL_PRODUCT = 1_000_000

# From this batch on, elementwise loops over rows of `batch` numbers keep up with contiguous ones.
WIDE_BATCH = 16

# Added to the pitch of arrays that are read across, so that it is no power of two.
_ODD = 16

# Below this batch the weights' traffic, not arithmetic, bounds a step's product: the inputs are
# better projected for all steps at once.
PROJECT_BELOW = 8


@dataclass(frozen=True, slots=True)
class Residuals:
    """What the pullback of a cell needs.

    Attributes:
        columns: What each step multiplied, (time + 1, features + 2 + units, batch).
        slopes: Each step's local derivatives, (time, n*units, batch); which, the cell says.
        held: Which sequences were masked at each step, (time, batch), or None.
        reverse: Whether steps were processed from the last to the first.
        workspace: Theirs, which takes the arrays back when this dies.
    """

    columns: Floats
    slopes: Floats
    held: NDArray[np.bool_] | None
    reverse: bool
    workspace: Workspace


class Weight:
    """A matrix that multiplies rows, (inputs, gates*units), for products from the left.

    The transposed copy is made when it is first wanted: it costs as much as a few steps, and small
    products want none.
    """

    def __init__(self, columns: Floats) -> None:
        self._columns = columns

    @cached_property
    def _rows(self) -> Floats:
        return np.ascontiguousarray(self._columns.T)

    def for_batch(self, batch: int) -> Floats:
        """Return (gates*units, inputs), in the memory order that is faster for this batch."""
        small = self._columns.size * batch <= SMALL_PRODUCT
        return self._columns.T if small else self._rows


def in_order(columns: Floats, order: Sequence[int]) -> Floats:
    """Return a copy of (n, gates*units) with the gates in `order`."""
    by_gate = columns.reshape(columns.shape[0], len(order), -1)
    return np.concatenate([by_gate[:, gate] for gate in order], 1)


def to_canonical(rows: Floats, order: Sequence[int]) -> Floats:
    """Return gradients (gates*units, n), gates in `order`, as canonical (n, gates*units)."""
    units = rows.shape[0] // len(order)
    columns = np.empty((rows.shape[1], rows.shape[0]), rows.dtype)
    for place, gate in enumerate(order):
        part = rows[place * units : (place + 1) * units]
        columns[:, gate * units : (gate + 1) * units] = part.T
    return columns


class Steps:
    """The columns of a forward run, in processing order, and where its outputs go.

    Attributes:
        sequence: `h` after every step, (batch, time, units), aligned to the input.
        last: `h` after the last step processed, (batch, units), once `blocks` has ended.
    """

    def __init__(
        self,
        workspace: Workspace,
        x: Floats,
        mask: Floats | None,
        h: Floats,
        *,
        reverse: bool,
        keep: bool,
    ) -> None:
        self._workspace = workspace
        self.batch, self.time, self.features = x.shape
        self.units = h.shape[1]
        self.sequence = np.empty((self.batch, self.time, self.units), x.dtype)
        self.last = h
        if mask is not None and mask.all():
            mask = None
        direction = slice(None, None, -1 if reverse else 1)
        self._x, self._sequence = x[:, direction], self.sequence[:, direction]
        self._held = None if mask is None else np.ascontiguousarray(~mask[:, direction].T)
        self._keep, self._reverse = keep, reverse
        width = self.features + 2 + self.units
        self._block = max(1, min(self.time, INFERENCE_BLOCK // (self.batch * width)))
        kept = self.time if keep else self._block
        self._columns = workspace.empty((kept + 1, width, self.batch), x.dtype)
        self._columns[:, self.features] = 0
        self._columns[:, self.features + 1] = 1
        self._columns[0, self.features + 2 :] = h.T

    def blocks(self) -> Iterator[tuple[int, Floats, list[Any]]]:
        """Yield (start, columns (n+1, width, batch), what is held step by step).

        The caller writes each step's h into the columns after the step's own.
        """
        features = self.features
        for start in range(0, self.time, self._block):
            stop = min(start + self._block, self.time)
            n = stop - start
            columns = self._columns[start : stop + 1] if self._keep else self._columns[: n + 1]
            x, h = columns[:n, :features], columns[:, features + 2 :]
            x[...] = self._x[:, start:stop].transpose(1, 2, 0)
            held = None
            if self._held is not None:
                held = self._held[start:stop]
                # Whatever stands at a masked step, NaN too, goes no further.
                np.copyto(x, 0, where=held[:, None])
                columns[:n, features] = held
            yield start, columns, held_by_step(held, n)
            self._sequence[:, start:stop] = h[1:].transpose(2, 0, 1)
            self.last = h[n].T.copy()
            if not self._keep:
                h[0] = h[n]

    def project(self, weight: Floats, columns: Floats) -> Floats:
        """Return what x, held and bias add to a block's pre-activations, (n, ..., batch)."""
        n = columns.shape[0] - 1
        rows = columns[:n, : self.features + 2].transpose(0, 2, 1).reshape(n * self.batch, -1)
        projected = (rows @ weight).reshape(n, self.batch, -1)
        return np.ascontiguousarray(projected.transpose(0, 2, 1))

    def residuals(self, slopes: Floats | None) -> Residuals | None:
        """Return what the pullback needs, of a run that kept it; else close the workspace."""
        if slopes is None:
            self._workspace.close()
            return None
        return Residuals(self._columns, slopes, self._held, self._reverse, self._workspace)


def held_by_step(held: Any, n: int) -> list[Any]:
    """Return, by step, which sequences keep their state, (batch,), or None where none does."""
    if held is None:
        return [None] * n
    some = held.any(1).tolist()
    return [here if any_held else None for here, any_held in zip(held, some, strict=True)]


class Cotangents:
    """Blocks of time from last to first, and the products that follow a block's `dz`.

    `dz` is (n, gates*units, batch). Some of its gates may be fed by the inputs only or by the
    recurrence only; `input_gates` and `recurrent_gates` say which rows are which.

    Attributes:
        d_x: The gradient of the input, (batch, time, features), once `blocks` has ended.
        d_inputs: The gradient of the weights of [x | held | 1], (input rows, features + 2).
        d_recurrent: The gradient of the weights of [1 | h], (recurrent rows, 1 + units).
    """

    def __init__(
        self,
        workspace: Workspace,
        residuals: Residuals,
        d_sequence: Floats | None,
        kernel: Floats,
        *,
        gates: int,
        recurrent_gates: slice,
        input_gates: slice,
    ) -> None:
        """Take the kernel as (features, input rows)."""
        self._columns, self._held = residuals.columns, residuals.held
        width, self.batch = self._columns.shape[1:]
        self._time = self._columns.shape[0] - 1
        self._features = features = kernel.shape[0]
        self._kernel = kernel
        self._recurrent_gates, self._input_gates = recurrent_gates, input_gates
        self._units = units = width - features - 2
        dtype = self._columns.dtype
        direction = slice(None, None, -1 if residuals.reverse else 1)
        self.d_x = np.empty((self.batch, self._time, features), dtype)
        self._d_x = self.d_x[:, direction]
        self._d_sequence = None if d_sequence is None else d_sequence[:, direction]
        self._block = max(1, min(self._time, PULLBACK_ROWS // self.batch))
        rows = self._block * self.batch

        def empty(*shape: int) -> Floats:
            return workspace.empty(shape, dtype)

        recurrent_rows = recurrent_gates.stop - recurrent_gates.start
        # The sums over blocks, and one block's share.
        self.d_inputs, self._inputs_share = (empty(kernel.shape[1], features + 2) for _ in "ab")
        self.d_recurrent, self._recurrent_share = (empty(recurrent_rows, 1 + units) for _ in "ab")
        self._columns_space, self._d_x_space = empty(width * rows), empty(rows, features)
        # One product over all steps of a block wants (gates*units, n*batch). From WIDE_BATCH on
        # each step writes its columns straight into that; narrower steps are faster written apart
        # and gathered. The odd pitch is as below.
        self._dz_space = empty(gates * units, rows + _ODD)
        wide = self.batch >= WIDE_BATCH
        self._dz = None if wide else empty(self._block, gates * units, self.batch)
        # d_sequence is read transposed, from a copy with an odd pitch: its own stride, a power of
        # two often, would put a step's rows for all sequences into one cache set.
        self._dy = empty(self._block, self.batch, units + _ODD)

    def blocks(self) -> Iterator[tuple[int, int, Floats, Any, list[Any]]]:
        """Yield (start, stop, dz to fill, d_sequence by step, what is held by step)."""
        for start in reversed(range(0, self._time, self._block)):
            stop = min(start + self._block, self._time)
            n = stop - start
            flat = self._dz_space[:, : n * self.batch]
            by_step = flat.reshape(-1, n, self.batch).transpose(1, 0, 2)  # a view of it
            dz = by_step if self._dz is None else self._dz[:n]
            dy: Any = [None] * n
            if self._d_sequence is not None:
                block = self._dy[:n, :, : self._units]
                block[...] = self._d_sequence[:, start:stop].transpose(1, 0, 2)
                dy = block.transpose(0, 2, 1)
            held = None if self._held is None else self._held[start:stop]
            yield start, stop, dz, dy, held_by_step(held, n)
            if self._dz is not None:
                by_step[...] = dz
            columns = self._columns_space[: self._columns[0].size * n].reshape(-1, n, self.batch)
            columns[...] = self._columns[start:stop].transpose(1, 0, 2)
            self._products(flat, columns.reshape(-1, n * self.batch), first=stop == self._time)
            d_x = self._d_x_space[: n * self.batch].reshape(n, self.batch, -1)
            self._d_x[:, start:stop] = d_x.transpose(1, 0, 2)

    def _products(self, dz: Floats, columns: Floats, *, first: bool) -> None:
        """Add a block's share to the weights' gradients, and make that of the input."""
        inputs, recurrent = columns[: self._features + 2], columns[self._features + 1 :]
        d_inputs, d_recurrent = dz[self._input_gates], dz[self._recurrent_gates]
        np.matmul(d_inputs.T, self._kernel.T, out=self._d_x_space[: dz.shape[1]])
        if first:
            np.matmul(d_inputs, inputs.T, out=self.d_inputs)
            np.matmul(d_recurrent, recurrent.T, out=self.d_recurrent)
        else:
            self.d_inputs += np.matmul(d_inputs, inputs.T, out=self._inputs_share)
            self.d_recurrent += np.matmul(d_recurrent, recurrent.T, out=self._recurrent_share)
