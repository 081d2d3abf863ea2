"""The equations of `GRU`, resetting after or before the recurrent product (clauses GRU)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqcore.equations.cell import Cell, rows
from seqcore.ops import Array, Arrays, Ops


class GRUResetAfterCell(Cell):
    """Gates in the order z r n: update, reset, new; the reset acts on `h Rn + rbn`."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        recurrent = self.ops.matmul(h, self.recurrent_kernel)
        if self.recurrent_bias is not None:
            recurrent = recurrent + self.recurrent_bias
        xz, xr, xn = self.ops.split(projected, 3)
        hz, hr, hn = self.ops.split(recurrent, 3)
        z, r = self.ract(xz + hz), self.ract(xr + hr)
        n = self.act(xn + r * hn)
        h = z * h + (1 - z) * n
        return (h,), (z, r, n, hn)

    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (dh,), (z, r, n, hn), (h,) = d_state, saved, previous
        dz = dh * (h - n) * self.ract_slope(z)
        dn = dh * (1 - z) * self.act_slope(n)
        dr = dn * hn * self.ract_slope(r)
        d_projected = self.ops.concat([dz, dr, dn], -1)
        d_recurrent = self.ops.concat([dz, dr, dn * r], -1)
        d_before = dh * z + self.ops.matmul(d_recurrent, self.ops.swap(self.recurrent_kernel))
        return (d_projected, d_recurrent), (d_before,)


class GRUResetBeforeCell(Cell):
    """Gates in the order z r n: update, reset, new; the reset acts on `h` before its product."""

    def __init__(self, layer: Any, ops: Ops, weights: Mapping[str, Array]) -> None:
        super().__init__(layer, ops, weights)
        self.gates_kernel = self.recurrent_kernel[:, : 2 * layer.units]
        self.candidate_kernel = self.recurrent_kernel[:, 2 * layer.units :]

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        xz, xr, xn = self.ops.split(projected, 3)
        hz, hr = self.ops.split(self.ops.matmul(h, self.gates_kernel), 2)
        z, r = self.ract(xz + hz), self.ract(xr + hr)
        n = self.act(xn + self.ops.matmul(r * h, self.candidate_kernel))
        h = z * h + (1 - z) * n
        return (h,), (z, r, n)

    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (dh,), (z, r, n), (h,) = d_state, saved, previous
        dz = dh * (h - n) * self.ract_slope(z)
        dn = dh * (1 - z) * self.act_slope(n)
        d_reset = self.ops.matmul(dn, self.ops.swap(self.candidate_kernel))
        dr = d_reset * h * self.ract_slope(r)
        dzr = self.ops.concat([dz, dr], -1)
        d_before = dh * z + d_reset * r + self.ops.matmul(dzr, self.ops.swap(self.gates_kernel))
        return (self.ops.concat([dzr, dn], -1),), (d_before,)

    def recurrent_kernel_gradient(
        self, previous_h: Array, saved: Arrays, d_recurrent: Array
    ) -> Array:
        ops, units = self.ops, self.layer.units
        _, r, _ = saved
        dzr, dn = d_recurrent[:, : 2 * units], d_recurrent[:, 2 * units :]
        gates = ops.matmul(ops.swap(rows(ops, previous_h)), dzr)
        candidate = ops.matmul(ops.swap(rows(ops, r * previous_h)), dn)
        return ops.concat([gates, candidate], -1)
