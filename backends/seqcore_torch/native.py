"""PyTorch's fused recurrent code, as `nn.LSTM`, `nn.GRU` and `nn.RNN` call it.

On the CPU that is oneDNN for LSTM in float32 and ATen's own loop otherwise, on CUDA it is cuDNN.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seqcore.ops import Array, Arrays
from seqcore.spec.dtypes import HALF_DTYPES
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack
from seqcore.spi import GradientParts, Implementation, Request, Sequence
from seqcore_torch.masks import Compaction
from seqcore_torch.precision import apply, full_precision, is_full

_SATURATING = 1e4
"""What drives a gate to exactly 0 or 1, against any sum that weights in use give.

Every dtype holds it, float16 included.
"""


@dataclass(frozen=True, slots=True)
class Fused:
    """A layer as one call of the fused code.

    Attributes:
        cell: Any one of its cells: they differ in nothing that matters here.
        prefixes: The prefixes of the cells' weights, in the order of the fused code's.
        bidirectional: Whether the cells come in pairs.
        backwards: Whether the only cell reads from the last step to the first.
        keep_order: Whether that cell's steps are returned in original time.
    """

    cell: AnyCell
    prefixes: tuple[str, ...]
    bidirectional: bool
    backwards: bool
    keep_order: bool


@functools.lru_cache(maxsize=1024)
def fuse(layer: AnyLayer) -> Fused | str:
    """Return a layer as one call of the fused code, or why that cannot be, as a phrase."""
    members = layer.layers if isinstance(layer, Stack) else (layer,)
    prefixes: list[str] = []
    cells: list[AnyCell] = []
    for index, member in enumerate(members):
        prefix = f"layers.{index}." if isinstance(layer, Stack) else ""
        if isinstance(member, Bidirectional):
            if member.merge_mode != "concat":
                return f"merges by concat, not {member.merge_mode}"
            prefixes += [prefix + "forward.", prefix + "backward."]
            cells += [member.forward, member.backward]
        else:
            if isinstance(layer, Stack) and member.go_backwards:
                return "takes a stack in which no member goes backwards"
            prefixes.append(prefix)
            cells.append(member)
    bidirectional = isinstance(members[0], Bidirectional)
    if any(isinstance(member, Bidirectional) != bidirectional for member in members):
        return "takes a stack of members in one direction or in both, not some of each"
    if len({_kind(cell) for cell in cells}) > 1:
        return "takes several cells only if they are of one kind and of equal units"
    cell = cells[0]
    reason = _refuses_cell(cell)
    if reason is not None:
        return reason
    return Fused(cell, tuple(prefixes), bidirectional, cell.go_backwards, cell.keep_order)


class Native(Implementation):
    """One fused call for a cell, a bidirectional layer or a stack; masks for a single cell."""

    name = "native"

    def refuses(self, request: Request) -> str | None:
        kind = torch.device(request.device).type
        if kind not in ("cpu", "cuda"):
            return f"runs on cpu and cuda, not {kind}"
        if request.traced:
            return "does not pass through torch.func, forward mode and torch.compile"
        if request.precision != "highest":
            return f"computes at matmul_precision 'highest', not {request.precision!r}"
        if kind == "cpu" and request.dtype in HALF_DTYPES:
            return f"sums gradients in {request.dtype} on the CPU, the spec in float32"
        if kind == "cuda" and request.dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
            return "this CUDA device has no bfloat16"
        fused = fuse(request.layer)
        if isinstance(fused, str):
            return fused
        if request.mask != "none":
            if len(fused.prefixes) > 1:
                return "takes a mask with a single cell"
            if fused.cell.activation == "relu":
                return "takes no mask with relu, which can overflow on the padding"
        return None

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        params = _params(request, weights)
        if _is_cuda(request) and request.gradient != "unknown":
            return _contiguous(_fused(request), params)
        return params

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        fused = _fused(request)
        record = request.gradient == "unknown"
        if record and (_is_cuda(request) or not is_full(x.device)):
            # PyTorch's autodiff runs the backward pass outside of this call, with the settings
            # then in force. So the pass is ours.
            forward = TapedForward(request, mask, len(initial_state))
            layout = functools.partial(_contiguous, fused) if _is_cuda(request) else tuple
            recorded = apply(_Recorded, forward, layout, x, *initial_state, *prepared)
            sequence, *final = recorded
            return sequence, tuple(final)
        # Where gradients are possible oneDNN keeps what they need, even if no input wants one.
        with torch.set_grad_enabled(record), full_precision(x.device):
            return _forward(fused, request, prepared, x, mask, initial_state, train=record)

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        forward = TapedForward(request, mask, len(initial_state))
        tape = Tape(forward, (x, *initial_state, *prepared))
        sequence, *final = tape.values()
        return sequence, tuple(final), tape

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        d_x, *others = residuals.pullback((d_sequence, *d_state))
        d_initial = tuple(others[: len(d_state)])
        return _weights(request, others[len(d_state) :]), d_x, d_initial


class Tape:
    """A function's forward pass on leaves of its own, and its backward pass, any number of times.

    The caller's autodiff sees neither, and neither depends on the caller's modes.
    """

    def __init__(self, forward: Callable[..., tuple[Tensor, ...]], inputs: Arrays) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            self._leaves = tuple(_leaf(value) for value in inputs)
            with full_precision(self._leaves[0].device):
                self._outputs = forward(*self._leaves)

    def values(self) -> tuple[Tensor, ...]:
        """Return the outputs; what a caller writes into them reaches no later pullback."""
        return tuple(output.detach().clone() for output in self._outputs)

    def pullback(self, cotangents: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        """Return the gradient of every input, given a cotangent or None for every output."""
        pairs = [
            (output, d)
            for output, d in zip(self._outputs, cotangents, strict=True)
            if d is not None
        ]
        with torch.inference_mode(False), full_precision(self._leaves[0].device):
            found: tuple[Tensor | None, ...] = torch.autograd.grad(
                [output for output, _ in pairs],
                self._leaves,
                [_plain(d) for _, d in pairs],
                retain_graph=True,
                allow_unused=True,
            )
        return tuple(
            torch.zeros_like(leaf) if d is None else d
            for leaf, d in zip(self._leaves, found, strict=True)
        )


class _Recorded(torch.autograd.Function):
    """A `Tape` as one node of the caller's autodiff.

    `layout` moves the weights, which are the last inputs, to where the fused code wants them.
    """

    @staticmethod
    def forward(
        ctx: Any,
        function: TapedForward,
        layout: Callable[[Arrays], Arrays],
        *inputs: Tensor,
    ) -> tuple[Tensor, ...]:
        count = function.states + 1
        tape = Tape(function, (*inputs[:count], *layout(inputs[count:])))
        ctx.tape = tape
        ctx.set_materialize_grads(False)
        return tape.values()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *cotangents: Tensor | None) -> tuple[Tensor | None, ...]:
        tape: Tape = ctx.tape
        return None, None, *tape.pullback(cotangents)


@dataclass(frozen=True, slots=True)
class TapedForward:
    """The forward pass as a function of x, the states and the weights, in this order."""

    request: Request
    mask: Tensor | None
    states: int

    def __call__(self, x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        """Return the sequence and the final states."""
        state, params = rest[: self.states], rest[self.states :]
        fused = _fused(self.request)
        sequence, final = _forward(fused, self.request, params, x, self.mask, state, train=True)
        return sequence, *final


def _forward(
    fused: Fused,
    request: Request,
    params: Arrays,
    x: Tensor,
    mask: Tensor | None,
    state: Arrays,
    *,
    train: bool,
) -> tuple[Tensor, Arrays]:
    if mask is not None:
        return _masked(fused, request, params, x, mask, state, train=train)
    if fused.backwards:
        x = x.flip(1)
    sequence, final = _call(fused, params, x, state, train=train, batch_first=True)
    if fused.backwards and fused.keep_order:
        sequence = sequence.flip(1)
    return sequence, final


def _masked(
    fused: Fused,
    request: Request,
    params: Arrays,
    x: Tensor,
    mask: Tensor,
    state: Arrays,
    *,
    train: bool,
) -> tuple[Tensor, Arrays]:
    """Run one cell over the valid steps moved to the front."""
    steps = Compaction.of(mask, backwards=fused.backwards, padded_right=request.mask == "lengths")
    padding = steps.padding()[:, :, None]
    x = steps.compact(x).masked_fill(padding, 0.0)
    if isinstance(fused.cell, LSTM):
        x = torch.cat([x, padding.to(x.dtype)], -1)
    ys, final = _call(fused, params, x, state, train=train, batch_first=steps.batch_first)
    carries = fused.cell.mask_output == "carry"
    sequence = steps.carry(ys, state[0]) if carries else steps.restore(ys)
    if fused.backwards and not fused.keep_order:
        sequence = sequence.flip(1)
    held = tuple(
        steps.unless_dead(value, before) for value, before in zip(final[1:], state[1:], strict=True)
    )
    return sequence, (steps.last(ys, state[0]), *held)


def _call(
    fused: Fused, params: Arrays, x: Tensor, state: Arrays, *, train: bool, batch_first: bool
) -> tuple[Tensor, Arrays]:
    """Call the fused code; `train` is whether a backward pass may follow."""
    cell = fused.cell
    directions = 2 if fused.bidirectional else 1
    layers = len(fused.prefixes) // directions
    dropout = 0.0
    rest = (cell.use_bias, layers, dropout, train, fused.bidirectional, batch_first)
    if isinstance(cell, LSTM):
        before = _stacked(state[0::2]), _stacked(state[1::2])
        sequence, h, c = torch.lstm(x, before, params, *rest)
        return sequence, tuple(
            v for pair in zip(h.unbind(0), c.unbind(0), strict=True) for v in pair
        )
    if isinstance(cell, GRU):
        function = torch.gru
    else:
        function = torch.rnn_tanh if cell.activation == "tanh" else torch.rnn_relu
    sequence, h = function(x, _stacked(state), params, *rest)
    return sequence, tuple(h.unbind(0))


def _stacked(states: Arrays) -> Tensor:
    # cuDNN takes contiguous states only.
    return states[0][None].contiguous() if len(states) == 1 else torch.stack(states)


def _fused(request: Request) -> Fused:
    fused = fuse(request.layer)
    assert isinstance(fused, Fused)
    return fused


def _kind(cell: AnyCell) -> tuple[object, ...]:
    """Return what cells must have in common to run in one fused call."""
    reset = cell.reset_after if isinstance(cell, GRU) else None
    recurrent = None if isinstance(cell, SimpleRNN) else cell.recurrent_activation
    return type(cell), cell.units, cell.use_bias, cell.activation, recurrent, reset


def _refuses_cell(cell: AnyCell) -> str | None:
    known = ("tanh", "relu") if isinstance(cell, SimpleRNN) else ("tanh",)
    if cell.activation not in known:
        return f"has activation {' or '.join(known)}, not {cell.activation}"
    if isinstance(cell, SimpleRNN):
        return None
    if cell.recurrent_activation != "sigmoid":
        return f"has recurrent_activation sigmoid, not {cell.recurrent_activation}"
    if isinstance(cell, GRU) and not cell.reset_after:
        return "resets after the recurrent product, not before"
    return None


def _params(request: Request, weights: Mapping[str, Tensor]) -> Arrays:
    """Return canonical weights as the fused code wants them, connected to autodiff.

    Column-major storage of a kernel is PyTorch's own layout, and costs nothing here.
    """
    params: list[Tensor] = []
    for prefix in _fused(request).prefixes:
        kernel = weights[prefix + "kernel"].t()
        recurrent = weights[prefix + "recurrent_kernel"].t()
        params += [_swapped(request, _with_hold(request, kernel)), _swapped(request, recurrent)]
        if prefix + "bias" in weights:
            bias = weights[prefix + "bias"]
            other = weights.get(prefix + "recurrent_bias")
            params.append(_swapped(request, bias))
            params.append(torch.zeros_like(bias) if other is None else _swapped(request, other))
    return tuple(param.contiguous() for param in params)


def _weights(request: Request, params: list[Tensor]) -> dict[str, Tensor]:
    """Return the gradients of canonical weights from those of `_params`."""
    weights: dict[str, Tensor] = {}
    values = iter(params)
    fused = _fused(request)
    for prefix in fused.prefixes:
        kernel, recurrent = _swapped(request, next(values)), _swapped(request, next(values))
        if _holds(request):
            kernel = kernel[:, :-1]
        weights[prefix + "kernel"] = kernel.t()
        weights[prefix + "recurrent_kernel"] = recurrent.t()
        if fused.cell.use_bias:
            weights[prefix + "bias"] = _swapped(request, next(values))
            other = _swapped(request, next(values))
            if isinstance(fused.cell, GRU):
                weights[prefix + "recurrent_bias"] = other
    return weights


def _swapped(request: Request, rows: Tensor) -> Tensor:
    """Return a GRU's gate blocks z r n as PyTorch's r z n, and back; other cells' as they are."""
    if not isinstance(_fused(request).cell, GRU):
        return rows
    first, second, third = rows.chunk(3)
    return torch.cat([second, first, third])


def _holds(request: Request) -> bool:
    """Return whether the input has a column that holds `c`, which no output shows, on padding."""
    return request.mask != "none" and isinstance(_fused(request).cell, LSTM)


def _with_hold(request: Request, kernel: Tensor) -> Tensor:
    """Add the column that closes the input gate and opens the forget gate where it reads 1."""
    if not _holds(request):
        return kernel
    units = _fused(request).cell.units
    column = kernel.new_zeros((len(kernel), 1))
    column[:units] = -_SATURATING
    column[units : 2 * units] = _SATURATING
    return torch.cat([kernel, column], 1)


def _contiguous(fused: Fused, params: Arrays) -> Arrays:
    """Return weights copied into the one buffer that cuDNN wants, without autodiff."""
    cell, directions = fused.cell, 2 if fused.bidirectional else 1
    kinds = {LSTM: torch.nn.LSTM, GRU: torch.nn.GRU, SimpleRNN: torch.nn.RNN}
    # Made without storage first, so that no initialisation draws from the random generators.
    module = kinds[type(cell)](
        params[0].shape[1],
        cell.units,
        num_layers=len(fused.prefixes) // directions,
        bias=cell.use_bias,
        bidirectional=fused.bidirectional,
        device="meta",
        dtype=params[0].dtype,
    ).to_empty(device=params[0].device)
    own = tuple(module.parameters())
    with torch.no_grad():
        for mine, given in zip(own, params, strict=True):
            mine.copy_(given)
    module.flatten_parameters()
    return tuple(param.detach() for param in module.parameters())


def _is_cuda(request: Request) -> bool:
    return torch.device(request.device).type == "cuda"


def _leaf(value: Tensor) -> Tensor:
    return _plain(value).requires_grad_()


def _plain(value: Tensor) -> Tensor:
    """Return a tensor without history; one made in inference mode has to be copied."""
    return value.clone() if value.is_inference() else value.detach()
