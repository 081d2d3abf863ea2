"""Products at the precision that the spec names, whatever PyTorch is set to (clauses PREC)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from torch import Tensor

Round = Callable[[Tensor], Tensor]


def round_tf32(x: Tensor) -> Tensor:
    """Round float32 to the 10 explicit mantissa bits of TF32, to nearest, ties to even."""
    bits = x.contiguous().view(torch.int32)
    half = 0x0FFF + ((bits >> 13) & 1)
    # Adding to the bits of a NaN or of infinity would leave them; they are what they are.
    return torch.where(torch.isfinite(x), ((bits + half) & -0x2000).view(torch.float32), x)


def round_bfloat16(x: Tensor) -> Tensor:
    """Round float32 to the 7 explicit mantissa bits of bfloat16, to nearest, ties to even."""
    return x.bfloat16().float()


def product(a: Tensor, b: Tensor, rounding: Round | None) -> Tensor:
    """Return `a @ b` of (..., m, k) and (k, n), the inputs of all its products rounded.

    PyTorch's autodiff rounds the inputs of the pullback's products, too.
    """
    result: Tensor = apply(_Product, a, b, rounding)
    return result


def apply(function: type[torch.autograd.Function], *inputs: Any) -> Any:
    """Call an autograd function; PyTorch gives the method no types."""
    return function.apply(*inputs)  # type: ignore[no-untyped-call]


class _Product(torch.autograd.Function):
    """A product whose pullback is made of such products, so that it differentiates to any order."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, rounding: Round | None) -> Tensor:
        if rounding is not None:
            a, b = rounding(a), rounding(b)
        with full_precision(a.device):
            return torch.matmul(a, b)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, b, ctx.rounding = inputs
        ctx.save_for_backward(a, b)
        ctx.save_for_forward(a, b)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (d,) = cotangents
        a, b = ctx.saved_tensors
        d_a = product(d, b.mT, ctx.rounding) if ctx.needs_input_grad[0] else None
        d_b = None
        if ctx.needs_input_grad[1]:
            rows = a.reshape(-1, a.shape[-1])
            d_b = product(rows.mT, d.reshape(-1, d.shape[-1]), ctx.rounding)
        return d_a, d_b, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        a, b = ctx.saved_tensors
        ta, tb, _ = tangents
        parts = [] if ta is None else [product(ta, b, ctx.rounding)]
        parts += [] if tb is None else [product(a, tb, ctx.rounding)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def is_full(device: torch.device) -> bool:
    """Return whether PyTorch computes float32 products in full on a device, as it is set now."""
    kind = device.type
    # While another caller holds the settings they are not to be relied on: it will restore them.
    return not (
        _HELD.setdefault(kind, _Held()).callers
        or torch.is_autocast_enabled(kind)
        or _is_lossy(kind)
    )


def full_precision(device: torch.device) -> AbstractContextManager[None]:
    """Compute products in full on a device, and leave every setting as it was found.

    PyTorch keeps these settings for the whole process. They are changed only where they have to
    be, by the first thread that enters, and restored by the last that leaves.
    """
    return _NOTHING if is_full(device) else _held(device.type)


_NOTHING = contextlib.nullcontext()


@contextlib.contextmanager
def _held(kind: str) -> Iterator[None]:
    with _HELD_LOCK:
        held = _HELD.setdefault(kind, _Held())
        if not held.callers:
            held.before = _make_full(kind) if _is_lossy(kind) else {}
        held.callers += 1
    try:
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        with _HELD_LOCK:
            held.callers -= 1
            if not held.callers:
                _restore(held.before)


@dataclass(slots=True)
class _Held:
    """What was set before, and how many callers want it otherwise for now."""

    callers: int = 0
    before: dict[str, Any] = field(default_factory=dict)


_HELD: dict[str, _Held] = {}
_HELD_LOCK = Lock()


# PyTorch 2.9 gave every kind of operation on every kind of device a setting of its own, beside the
# older ones. Both have to agree while products run, for PyTorch checks it.
_BACKENDS: Any = torch.backends
_HAS_OWN = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 9)
_WATCHED: dict[str, tuple[Any, ...]] = {}
_OWN: tuple[Any, ...] = ()
if _HAS_OWN:
    _WATCHED["cpu"] = (_BACKENDS.mkldnn.matmul, _BACKENDS.mkldnn.rnn)
    _WATCHED["cuda"] = (_BACKENDS.cuda.matmul, _BACKENDS.cudnn.rnn)
    _OWN = (*_WATCHED["cpu"], *_WATCHED["cuda"], _BACKENDS.cudnn.conv)


def _is_lossy(kind: str) -> bool:
    """Return whether a setting lets products on a kind of device round their inputs."""
    if _HAS_OWN:
        return any(setting.fp32_precision not in _FULL for setting in _WATCHED.get(kind, ()))
    if kind == "cuda" and _BACKENDS.cudnn.allow_tf32:
        return True
    return torch.get_float32_matmul_precision() != "highest"


_FULL = ("ieee", "none")


def _make_full(kind: str) -> dict[str, Any]:
    """Set all that matters on a kind of device to full precision; return what was set before."""
    before = {
        "matmul": _older(torch.get_float32_matmul_precision),
        "cudnn": kind == "cuda" and _older(lambda: _BACKENDS.cudnn.allow_tf32),
        "own": [(setting, setting.fp32_precision) for setting in _OWN],
    }
    if before["matmul"] not in ("highest", None):
        torch.set_float32_matmul_precision("highest")
    if before["cudnn"]:
        _BACKENDS.cudnn.allow_tf32 = False
    for setting in _WATCHED.get(kind, ()):
        if setting.fp32_precision not in _FULL:
            setting.fp32_precision = "ieee"
    return before


def _restore(before: dict[str, Any]) -> None:
    """Set what `_make_full` returned, the older settings first, for they overwrite the newer."""
    if not before:
        return
    if before["matmul"] not in ("highest", None):
        torch.set_float32_matmul_precision(before["matmul"])
    if before["cudnn"]:
        _BACKENDS.cudnn.allow_tf32 = True
    for setting, value in before["own"]:
        if setting.fp32_precision != value:
            setting.fp32_precision = value


def _older(read: Callable[[], Any]) -> Any:
    """Return an older setting; None where PyTorch refuses to read it, for newer ones differ."""
    try:
        return read()
    except RuntimeError:
        return None
