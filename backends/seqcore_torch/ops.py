"""The array functions over PyTorch, with TF32 and bfloat16 products emulated (clauses PREC)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore_torch.precision import Round, is_full, product, round_bfloat16, round_tf32


class TorchOps(Ops):
    """Every function, on any device; nothing in place, so that every transformation passes."""

    def __init__(self, rounding: Round | None = None) -> None:
        """Take what both inputs of every product go through, if anything."""
        self._rounding = rounding

    def at(self, precision: str) -> Ops:
        return _AT[precision]

    def matmul(self, a: Array, b: Array) -> Array:
        # The detour is for settings under which PyTorch would round by itself.
        if self._rounding is None and (a.dtype == torch.float64 or is_full(a.device)):
            return torch.matmul(a, b)
        return product(a, b, self._rounding)

    def tanh(self, x: Array) -> Array:
        return torch.tanh(x)

    def sigmoid(self, x: Array) -> Array:
        return torch.sigmoid(x)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return torch.where(condition, a, b)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return torch.cat(tuple(arrays), axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        pieces: Sequence[Array] = x.chunk(parts, -1)
        return pieces

    def swap(self, x: Array) -> Array:
        return x.transpose(0, 1)

    def flip(self, x: Array, axis: int) -> Array:
        return x.flip(axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    def sum(self, x: Array) -> Array:
        return x.sum(0)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        return like.new_zeros(shape)

    def arange(self, stop: int, like: Array) -> Array:
        return torch.arange(stop, device=like.device)

    def cast(self, x: Array, dtype: str) -> Array:
        return x.to(TORCH_DTYPES[dtype])

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        slices = list(zip(*(x.unbind(0) for x in xs), strict=True))
        emitted = []
        for at in reversed(slices) if reverse else slices:
            carry, values = step(carry, at)
            emitted.append(values)
        if reverse:
            emitted.reverse()
        return carry, tuple(torch.stack(values) for values in zip(*emitted, strict=True))


TORCH_DTYPES = {
    "float64": torch.float64,
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int64": torch.int64,
    "bool": torch.bool,
}
"""PyTorch's dtypes by the spec's names."""

_AT: dict[str, Ops] = {
    "highest": TorchOps(),
    "tf32": TorchOps(round_tf32),
    "bfloat16": TorchOps(round_bfloat16),
}
