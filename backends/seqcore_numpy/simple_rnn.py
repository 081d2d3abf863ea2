"""SimpleRNN in place: h = tanh(x K + h R + b)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from seqcore.ops import Arrays
from seqcore_numpy.steps import PROJECT_BELOW, Cotangents, Floats, Residuals, Steps, Weight
from seqcore_numpy.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Prepared:
    """The weights.

    Attributes:
        kernel: (features, units), for the pullback.
        recurrent_kernel: (units, units), for the pullback.
        inputs: Of [x | held | 1]; for small batches. No gate carries h here: it is copied.
        recurrent: Of h; for small batches.
        whole: Of [x | held | 1 | h].
    """

    kernel: Floats
    recurrent_kernel: Floats
    inputs: Floats
    recurrent: Weight
    whole: Weight


def prepare(kernel: Floats, recurrent_kernel: Floats, bias: Floats | None = None) -> Prepared:
    """Return canonical weights in the form of `forward` and `pullback`."""
    features, units = kernel.shape[0], recurrent_kernel.shape[0]
    rows = np.concatenate([kernel, np.zeros((2, units), kernel.dtype), recurrent_kernel])
    if bias is not None:
        rows[features + 1] = bias
    inputs, recurrent = rows[: features + 2], rows[features + 2 :]
    return Prepared(rows[:features], recurrent, inputs, Weight(recurrent), Weight(rows))


def forward(
    prepared: Prepared,
    x: Floats,
    mask: Floats | None,
    state: Arrays,
    *,
    reverse: bool,
    keep: bool,
) -> tuple[Floats, Arrays, Residuals | None]:
    """Return the sequence aligned to x, the final state, and what `pullback` needs if kept.

    The slope kept is dh by the pre-activation, 0 at masked steps.
    """
    workspace = Workspace()
    steps = Steps(workspace, x, mask, state[0], reverse=reverse, keep=keep)
    batch, units, features = steps.batch, steps.units, steps.features
    one = x.dtype.type(1)
    slopes = workspace.empty((steps.time, units, batch), x.dtype) if keep else None

    project = batch < PROJECT_BELOW
    weight = (prepared.recurrent if project else prepared.whole).for_batch(batch)
    first = features + 2 if project else 0
    for start, columns, held in steps.blocks():
        n = len(held)
        hs = columns[:, features + 2 :]
        projected = steps.project(prepared.inputs, columns) if project else repeat(None, n)
        kept = repeat(None, n) if slopes is None else slopes[start : start + n]
        for column, ax, h_before, h, hold, slope in zip(
            columns[:n, first:], projected, hs[:n], hs[1:], held, kept, strict=True
        ):
            np.matmul(weight, column, h)
            if ax is not None:
                np.add(h, ax, h)
            np.tanh(h, h)
            if slope is not None:
                np.multiply(h, h, slope)
                np.subtract(one, slope, slope)
            if hold is not None:
                np.copyto(h, h_before, where=hold)
                if slope is not None:
                    np.copyto(slope, 0, where=hold)
    return steps.sequence, (steps.last,), steps.residuals(slopes)


def pullback(
    prepared: Prepared, residuals: Residuals, d_sequence: Floats | None, d_state: Arrays
) -> tuple[dict[str, Floats], Floats, Arrays]:
    """Return the gradients of the weights by name, of x, and of the initial state."""
    features, units = prepared.kernel.shape[0], prepared.recurrent_kernel.shape[0]
    every = slice(0, units)
    workspace = Workspace()
    back = Cotangents(
        workspace,
        residuals,
        d_sequence,
        prepared.kernel,
        gates=1,
        recurrent_gates=every,
        input_gates=every,
    )
    dh = np.array(d_state[0].T, order="C")
    spare = np.empty_like(dh)
    for start, stop, dz, dy, held in back.blocks():
        slopes = residuals.slopes[start:stop]
        for step in reversed(range(stop - start)):
            if dy[step] is not None:
                np.add(dh, dy[step], dh)
            np.multiply(dh, slopes[step], dz[step])
            np.matmul(prepared.recurrent_kernel, dz[step], spare)
            if held[step] is not None:
                np.copyto(spare, dh, where=held[step])
            dh, spare = spare, dh
    d_inputs = back.d_inputs.T.copy()
    gradients = {
        "kernel": d_inputs[:features],
        "recurrent_kernel": back.d_recurrent[:, 1:].T.copy(),
        "bias": d_inputs[features + 1],
    }
    workspace.close()
    return gradients, back.d_x, (dh.T.copy(),)
