"""The equations of `SimpleRNN` (clauses RNN)."""

from __future__ import annotations

from seqcore.equations.cell import Cell
from seqcore.ops import Array, Arrays


class SimpleRNNCell(Cell):
    """`h = act(x K + h R + b)`."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        h = self.act(projected + self.ops.matmul(h, self.recurrent_kernel))
        return (h,), (h,)

    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (dh,), (h,) = d_state, saved
        dz = dh * self.act_slope(h)
        return (dz,), (self.ops.matmul(dz, self.ops.swap(self.recurrent_kernel)),)
