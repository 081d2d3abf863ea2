"""LSTM in place: i, f, o = sigmoid(...); g = tanh(...); c = f*c + i*g; h = o*tanh(c)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import repeat

import numpy as np

from seqcore.ops import Arrays
from seqcore_numpy.steps import (
    PROJECT_BELOW,
    SATURATE,
    Cotangents,
    Floats,
    Residuals,
    Steps,
    Weight,
    in_order,
    to_canonical,
)
from seqcore_numpy.workspace import Workspace

# Gates stand as o i f g, and c after them: the three sigmoids are adjacent, and so are (i, f) and
# (g, c), whose products i*g and f*c are then one call.
ORDER = (3, 0, 1, 2)
# sigmoid(z) = tanh(z/2)/2 + 1/2, the inner half in the weights: one tanh serves all four gates.
SCALE = (0.5, 0.5, 0.5, 1.0)
# A masked step has o = 0, i = 0, f = 1: c is carried exactly, and every local derivative but
# dc/dc is exactly 0.
HELD = (-SATURATE, -SATURATE, SATURATE, 0.0)


@dataclass(frozen=True, slots=True)
class Prepared:
    """The weights, gates in `ORDER`.

    Attributes:
        kernel: (features, 4*units), for the pullback.
        recurrent_kernel: (units, 4*units), for the pullback.
        inputs: Of [x | held | 1], scaled; for small batches.
        recurrent: Of h, scaled; for small batches.
        whole: Of [x | held | 1 | h], scaled.
    """

    kernel: Floats
    recurrent_kernel: Floats
    inputs: Floats
    recurrent: Weight
    whole: Weight


def prepare(kernel: Floats, recurrent_kernel: Floats, bias: Floats | None = None) -> Prepared:
    """Return canonical weights in the form of `forward` and `pullback`."""
    features, units = kernel.shape[0], recurrent_kernel.shape[0]
    kernel, recurrent_kernel = in_order(kernel, ORDER), in_order(recurrent_kernel, ORDER)
    scale, held = (np.repeat(np.asarray(each, kernel.dtype), units) for each in (SCALE, HELD))
    rows = np.empty((features + 2 + units, 4 * units), kernel.dtype)
    np.multiply(kernel, scale, out=rows[:features])
    rows[features] = held
    rows[features + 1] = 0 if bias is None else in_order(bias[None], ORDER)[0] * scale
    np.multiply(recurrent_kernel, scale, out=rows[features + 2 :])
    return Prepared(
        kernel,
        recurrent_kernel,
        rows[: features + 2],
        Weight(rows[features + 2 :]),
        Weight(rows),
    )


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

    The slopes kept are dh/dzo, dc/dzi, dc/dzf, dc/dzg, dc/dh through tanh(c), and f = dc/dc.
    """
    matmul, tanh, multiply, add = np.matmul, np.tanh, np.multiply, np.add
    workspace = Workspace()
    steps = Steps(workspace, x, mask, state[0], reverse=reverse, keep=keep)
    batch, units, features, dtype = steps.batch, steps.units, steps.features, x.dtype
    half = dtype.type(0.5)

    rows = workspace.empty((5 * units, batch), dtype)
    o, i, f, g, c = rows.reshape(5, units, batch)
    z, sigmoids = rows[: 4 * units], rows[: 3 * units]
    i_f, g_c = rows[units : 3 * units], rows[3 * units :]
    c[...] = state[1].T
    ig_fc = workspace.empty((2 * units, batch), dtype)
    ig, fc = ig_fc.reshape(2, units, batch)
    tanh_c, c_before = (workspace.empty((units, batch), dtype) for _ in range(2))
    slopes = workspace.empty((steps.time, 6 * units, batch), dtype) if keep else None

    project = batch < PROJECT_BELOW
    weight = (prepared.recurrent if project else prepared.whole).for_batch(batch)
    first = features + 2 if project else 0
    for start, columns, held in steps.blocks():
        n = len(held)
        hs = columns[:, features + 2 :]
        projected = steps.project(prepared.inputs, columns) if project else repeat(None, n)
        kept = repeat(None, n) if slopes is None else slopes[start : start + n]
        for column, zx, h_before, h, hold, slope in zip(
            columns[:n, first:], projected, hs[:n], hs[1:], held, kept, strict=True
        ):
            matmul(weight, column, z)
            if zx is not None:
                add(z, zx, z)
            tanh(z, z)
            multiply(sigmoids, half, sigmoids)
            add(sigmoids, half, sigmoids)
            multiply(i_f, g_c, ig_fc)
            if hold is not None:
                c_before[...] = c
            add(ig, fc, c)
            if hold is not None:  # by its bits: 1*c + 0*g is not c for -0.0, infinity and NaN
                np.copyto(c, c_before, where=hold)
            tanh(c, tanh_c)
            multiply(o, tanh_c, h)
            if slope is not None:
                _slopes(slope, o, i, f, g, h, i_f, ig, ig_fc, tanh_c)
            if hold is not None:
                np.copyto(h, h_before, where=hold)
    return steps.sequence, (steps.last, c.T.copy()), steps.residuals(slopes)


def _slopes(
    slope: Floats,
    o: Floats,
    i: Floats,
    f: Floats,
    g: Floats,
    h: Floats,
    i_f: Floats,
    ig: Floats,
    ig_fc: Floats,
    tanh_c: Floats,
) -> None:
    """Write a step's local derivatives, in terms of the products that are at hand.

    s' = s*(1 - s) for a sigmoid and 1 - t**2 for a tanh.
    """
    units = len(o)
    do, di_df = slope[:units], slope[units : 3 * units]
    dg, through_c, dc = slope[3 * units :].reshape(3, units, -1)
    np.multiply(h, o, do)
    np.subtract(h, do, do)  # h*(1-o)
    np.multiply(ig_fc, i_f, di_df)
    np.subtract(ig_fc, di_df, di_df)  # i*g*(1-i), f*c*(1-f)
    np.multiply(ig, g, dg)
    np.subtract(i, dg, dg)  # i*(1-g**2)
    np.multiply(h, tanh_c, through_c)
    np.subtract(o, through_c, through_c)  # o*(1-tanh(c)**2)
    dc[...] = f


def pullback(
    prepared: Prepared, residuals: Residuals, d_sequence: Floats | None, d_state: Arrays
) -> tuple[dict[str, Floats], Floats, Arrays]:
    """Return the gradients of the weights by name, of x, and of the initial state."""
    matmul, multiply, add = np.matmul, np.multiply, np.add
    features, units = prepared.kernel.shape[0], prepared.recurrent_kernel.shape[0]
    every = slice(0, 4 * units)
    workspace = Workspace()
    back = Cotangents(
        workspace,
        residuals,
        d_sequence,
        prepared.kernel,
        gates=4,
        recurrent_gates=every,
        input_gates=every,
    )
    dh, dc = (np.array(d.T, order="C") for d in d_state)
    spare, scratch = np.empty_like(dh), np.empty_like(dc)
    recurrent = prepared.recurrent_kernel
    for start, stop, dz, dy, held in back.blocks():
        slopes = residuals.slopes[start:stop]
        for step in reversed(range(stop - start)):
            do, difg = slopes[step, :units], slopes[step, units : 4 * units].reshape(3, units, -1)
            through_c, f = slopes[step, 4 * units : 5 * units], slopes[step, 5 * units :]
            z = dz[step]
            if dy[step] is not None:
                add(dh, dy[step], dh)
            multiply(dh, through_c, scratch)
            add(dc, scratch, dc)
            multiply(dh, do, z[:units])
            multiply(dc, difg, z[units:].reshape(3, units, -1))
            multiply(dc, f, dc)
            matmul(recurrent, z, spare)
            if held[step] is not None:
                np.copyto(spare, dh, where=held[step])
            dh, spare = spare, dh
    d_inputs = to_canonical(back.d_inputs, ORDER)
    gradients = {
        "kernel": d_inputs[:features],
        "recurrent_kernel": to_canonical(back.d_recurrent, ORDER)[1:],
        "bias": d_inputs[features + 1],
    }
    workspace.close()
    return gradients, back.d_x, (dh.T.copy(), dc.T.copy())
