"""The equations of `LSTM` (clauses LSTM)."""

from __future__ import annotations

from seqcore.equations.cell import Cell
from seqcore.ops import Array, Arrays


class LSTMCell(Cell):
    """Gates in the order i f g o: input, forget, candidate, output."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        z = projected + self.ops.matmul(h, self.recurrent_kernel)
        i, f, g, o = self.ops.split(z, 4)
        i, f, g, o = self.ract(i), self.ract(f), self.act(g), self.ract(o)
        c = f * c + i * g
        h = o * self.act(c)
        return (h, c), (i, f, g, o)

    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        (dh, dc), (i, f, g, o), (_, c_before) = d_state, saved, previous
        a = self.act(f * c_before + i * g)
        dc = dc + dh * o * self.act_slope(a)
        di = dc * g * self.ract_slope(i)
        df = dc * c_before * self.ract_slope(f)
        dg = dc * i * self.act_slope(g)
        do = dh * a * self.ract_slope(o)
        dz = self.ops.concat([di, df, dg, do], -1)
        return (dz,), (self.ops.matmul(dz, self.ops.swap(self.recurrent_kernel)), dc * f)
