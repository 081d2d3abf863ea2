"""GRU in place, resetting after the recurrent product.

z, r = sigmoid(...); n = tanh(x Kn + bn + r*(h Rn + rbn)); h = z*h + (1-z)*n.
"""

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

# Pre-activations stand as m z r n: m = h Rn + rbn and n = x Kn + bn stay apart, as r comes between
# them. The recurrence feeds the first three and the inputs the last three.
RECURRENT_ORDER = (2, 0, 1)
INPUT_ORDER = (0, 1, 2)
# sigmoid(a) = tanh(a/2)/2 + 1/2, the inner half in the weights. In the canonical order z r n:
SCALE = (0.5, 0.5, 1.0)
# A masked step has z = 1: h is carried exactly, and every local derivative but dh/dh is exactly 0.
HELD = SATURATE


@dataclass(frozen=True, slots=True)
class Prepared:
    """The weights.

    Attributes:
        kernel: (features, 3*units), gates z r n, for the pullback.
        recurrent_kernel: (units, 3*units), gates m z r, for the pullback.
        inputs: Of [x | held | 1] for z, r, n, scaled; for small batches.
        recurrent: Of [1 | h] for m, z, r, scaled; for small batches.
        z_r: Of [x | held | 1 | h] for z and r, scaled.
        m: Of [1 | h] for m.
        n: Of [x | held | 1] for n.
    """

    kernel: Floats
    recurrent_kernel: Floats
    inputs: Floats
    recurrent: Weight
    z_r: Weight
    m: Weight
    n: Weight


def prepare(
    kernel: Floats,
    recurrent_kernel: Floats,
    bias: Floats | None = None,
    recurrent_bias: Floats | None = None,
) -> Prepared:
    """Return canonical weights in the form of `forward` and `pullback`."""
    features, units, dtype = kernel.shape[0], recurrent_kernel.shape[0], kernel.dtype
    gates, last = slice(0, 2 * units), slice(2 * units, None)
    scale = np.repeat(np.asarray(SCALE, dtype), units)
    recurrent_kernel = in_order(recurrent_kernel, RECURRENT_ORDER)

    inputs = np.zeros((features + 2, 3 * units), dtype)
    np.multiply(kernel, scale, out=inputs[:features])
    inputs[features, :units] = HELD
    recurrent = np.zeros((1 + units, 3 * units), dtype)
    np.multiply(recurrent_kernel, np.roll(scale, units), out=recurrent[1:])
    # z and r take both biases from the inputs; m alone has one in its own product.
    if bias is not None:
        inputs[features + 1] += bias * scale
    if recurrent_bias is not None:
        inputs[features + 1, gates] += recurrent_bias[gates] * scale[gates]
        recurrent[0, :units] = recurrent_bias[last]
    return Prepared(
        np.array(kernel),
        recurrent_kernel,
        inputs,
        Weight(recurrent),
        Weight(np.concatenate([inputs[:, gates], recurrent[1:, units:]])),
        Weight(recurrent[:, :units]),
        Weight(inputs[:, last]),
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

    The slopes kept are dh by the pre-activations m, z, r, n, and z = dh/dh.
    """
    matmul, tanh, multiply = np.matmul, np.tanh, np.multiply
    add, subtract = np.add, np.subtract
    workspace = Workspace()
    steps = Steps(workspace, x, mask, state[0], reverse=reverse, keep=keep)
    batch, units, features, dtype = steps.batch, steps.units, steps.features, x.dtype
    half, one = dtype.type(0.5), dtype.type(1)

    rows = workspace.empty((4 * units, batch), dtype)
    m, z, r, n = rows.reshape(4, units, batch)
    m_z_r, z_r = rows[: 3 * units], rows[units : 3 * units]
    old, new, spare = (workspace.empty((units, batch), dtype) for _ in range(3))
    slopes = workspace.empty((steps.time, 5 * units, batch), dtype) if keep else None

    project = batch < PROJECT_BELOW
    weight_z_r, weight_m, weight_n, recurrent = (
        weight.for_batch(batch)
        for weight in (prepared.z_r, prepared.m, prepared.n, prepared.recurrent)
    )
    for start, columns, held in steps.blocks():
        count = len(held)
        hs = columns[:, features + 2 :]
        projected = steps.project(prepared.inputs, columns) if project else repeat(None, count)
        kept = repeat(None, count) if slopes is None else slopes[start : start + count]
        for column, ax, h, h_next, hold, slope in zip(
            columns[:count], projected, hs[:count], hs[1:], held, kept, strict=True
        ):
            if ax is None:
                matmul(weight_z_r, column, z_r)
                matmul(weight_m, column[features + 1 :], m)
                matmul(weight_n, column[: features + 2], n)
                n_x = n
            else:
                matmul(recurrent, column[features + 1 :], m_z_r)
                add(z_r, ax[: 2 * units], z_r)
                n_x = ax[2 * units :]
            tanh(z_r, z_r)
            multiply(z_r, half, z_r)
            add(z_r, half, z_r)
            multiply(r, m, new)
            add(n_x, new, n)
            tanh(n, n)
            subtract(one, z, new)
            multiply(z, h, old)
            if slope is not None:
                _slopes(slope, m, z, r, n, h, new, spare)
            multiply(new, n, new)
            add(old, new, h_next)
            if hold is not None:  # by its bits: 1*h + 0*n is not h for -0.0, infinity and NaN
                np.copyto(h_next, h, where=hold)
    return steps.sequence, (steps.last,), steps.residuals(slopes)


def _slopes(
    slope: Floats,
    m: Floats,
    z: Floats,
    r: Floats,
    n: Floats,
    h: Floats,
    new: Floats,
    spare: Floats,
) -> None:
    """Write a step's local derivatives; `new` is 1 - z, common to all but the old share.

    s' = s*(1 - s) for a sigmoid and 1 - t**2 for a tanh.
    """
    dm, dz, dr, dn, dh = slope.reshape(5, *z.shape)
    np.subtract(h, n, dz)
    np.multiply(dz, z, dz)
    np.multiply(dz, new, dz)  # (h-n) * z*(1-z)
    np.multiply(n, n, dn)
    np.multiply(dn, new, dn)
    np.subtract(new, dn, dn)  # (1-z) * (1-n**2)
    np.multiply(dn, r, dm)
    np.multiply(dm, m, spare)
    np.multiply(spare, r, dr)
    np.subtract(spare, dr, dr)  # dn * m * r*(1-r)
    dh[...] = z


def pullback(
    prepared: Prepared, residuals: Residuals, d_sequence: Floats | None, d_state: Arrays
) -> tuple[dict[str, Floats], Floats, Arrays]:
    """Return the gradients of the weights by name, of x, and of the initial state."""
    matmul, multiply, add = np.matmul, np.multiply, np.add
    features, units = prepared.kernel.shape[0], prepared.recurrent_kernel.shape[0]
    workspace = Workspace()
    back = Cotangents(
        workspace,
        residuals,
        d_sequence,
        prepared.kernel,
        gates=4,
        recurrent_gates=slice(0, 3 * units),
        input_gates=slice(units, 4 * units),
    )
    dh = np.array(d_state[0].T, order="C")
    carried = np.empty_like(dh)
    recurrent = prepared.recurrent_kernel
    for start, stop, dz, dy, _ in back.blocks():
        slopes = residuals.slopes[start:stop]
        for step in reversed(range(stop - start)):
            by_gate = slopes[step, : 4 * units].reshape(4, units, -1)
            if dy[step] is not None:
                add(dh, dy[step], dh)
            multiply(by_gate, dh, dz[step].reshape(4, units, -1))
            multiply(dh, slopes[step, 4 * units :], carried)
            matmul(recurrent, dz[step, : 3 * units], dh)
            add(dh, carried, dh)
    d_inputs = to_canonical(back.d_inputs, INPUT_ORDER)
    d_recurrent = to_canonical(back.d_recurrent, RECURRENT_ORDER)
    gradients = {
        "kernel": d_inputs[:features],
        "recurrent_kernel": d_recurrent[1:],
        "bias": d_inputs[features + 1],
        "recurrent_bias": d_recurrent[0],
    }
    workspace.close()
    return gradients, back.d_x, (dh.T.copy(),)
