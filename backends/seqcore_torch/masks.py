"""Masked sequences for code that knows no masks: valid steps first, then gathered back.

The fused code runs over all steps; what it does after a row's last valid step is never taken. No
mask value is looked at on the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqcore_torch.precision import apply


@dataclass(frozen=True, slots=True)
class Compaction:
    """Where the steps of a masked sequence go, so that each row's valid steps come first.

    The steps are in processing order after compaction. `batch` and `time` are the sizes.

    Attributes:
        count: How many valid steps each row has, (batch,).
        seen: How many valid steps were processed up to and including this one, (batch, time).
        order: For each place of the compacted sequence, flat and time first, the flat place of
            its step in the original; None where the steps stay as they are, batch first.
        inverse: For each flat place of the original, that in the compacted sequence.
    """

    count: Tensor
    seen: Tensor
    order: Tensor | None
    inverse: Tensor | None

    @classmethod
    def of(cls, mask: Tensor, *, backwards: bool, padded_right: bool) -> Compaction:
        """Return the compaction for a mask (batch, time).

        Args:
            mask: True at valid steps.
            backwards: Whether the processing order is from the last step to the first.
            padded_right: Whether each row's valid steps are known to come first already.
        """
        batch, time = mask.shape
        valid = mask.long()
        until = valid.cumsum(1)
        count = until[:, -1]
        seen = count[:, None] - until + valid if backwards else until
        if padded_right and not backwards:
            return cls(count, seen, None, None)
        steps = torch.arange(time, device=mask.device)
        place = torch.where(mask, seen - 1, count[:, None] + steps - until)
        rows = torch.arange(batch, device=mask.device)[:, None]
        inverse = (place * batch + rows).reshape(-1)
        order = torch.empty_like(inverse)
        order[inverse] = torch.arange(batch * time, device=mask.device)
        return cls(count, seen, order, inverse)

    @property
    def batch_first(self) -> bool:
        """Whether the compacted sequence is (batch, time, ...), else (time, batch, ...)."""
        return self.order is None

    def padding(self) -> Tensor:
        """Return where the compacted sequence holds no valid step, (batch, time) or swapped."""
        steps = torch.arange(self.seen.shape[1], device=self.seen.device)
        if self.batch_first:
            return steps >= self.count[:, None]
        return steps[:, None] >= self.count

    def compact(self, x: Tensor) -> Tensor:
        """Return (batch, time, features) compacted, its padding still as it was."""
        if self.order is None:
            return x
        batch, time, features = x.shape
        rows: Tensor = apply(_Permuted, x.reshape(-1, features), self.order, self.inverse)
        return rows.view(time, batch, features)

    def restore(self, ys: Tensor) -> Tensor:
        """Return a compacted sequence in original time; masked steps hold any of its values."""
        if self.order is None:
            return ys
        batch, time = self.seen.shape
        rows: Tensor = apply(_Permuted, ys.reshape(-1, ys.shape[-1]), self.inverse, self.order)
        return rows.view(batch, time, -1)

    def carry(self, ys: Tensor, initial: Tensor) -> Tensor:
        """Return a compacted sequence in original time; masked steps hold the value before."""
        batch, time = self.seen.shape
        rows = torch.arange(batch, device=ys.device)[:, None]
        if self.batch_first:
            since, place = torch.cat([initial[:, None], ys], 1), rows * (time + 1) + self.seen
        else:
            since, place = torch.cat([initial[None], ys], 0), self.seen * batch + rows
        taken: Tensor = apply(_Taken, since.reshape(-1, ys.shape[-1]), place.reshape(-1))
        return taken.view(batch, time, -1)

    def last(self, ys: Tensor, initial: Tensor) -> Tensor:
        """Return each row's value at its last valid step, (batch, units), else the initial one."""
        batch, time = self.seen.shape
        rows = torch.arange(batch, device=ys.device)
        step = (self.count - 1).clamp(min=0)
        place = rows * time + step if self.batch_first else step * batch + rows
        last: Tensor = apply(_Taken, ys.reshape(-1, ys.shape[-1]), place)
        return self.unless_dead(last, initial)

    def unless_dead(self, value: Tensor, initial: Tensor) -> Tensor:
        """Return a state, in rows without a valid step the very initial one."""
        return torch.where(self.count[:, None] > 0, value, initial)


class _Permuted(torch.autograd.Function):
    """Rows in another order; the pullback gathers too, which is faster than adding up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return rows.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        d: Tensor = apply(_Permuted, cotangents[0], inverse, order)
        return d, None, None


class _Taken(torch.autograd.Function):
    """Rows by index; the pullback adds them up in a fixed order, on every device."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.count = len(rows)
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (d,) = cotangents
        (index,) = ctx.saved_tensors
        zeros = d.new_zeros((ctx.count, d.shape[-1]))
        # index_add adds in no fixed order on CUDA, index_put in none on the CPU.
        if d.is_cuda:
            return zeros.index_put((index,), d, accumulate=True), None
        return zeros.index_add(0, index, d), None
