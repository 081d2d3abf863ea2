"""Wrong equations: ACT, RNN, LSTM, GRU, BIAS, and GATES, which shows them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from seqcore.conformance.mutants.wrong import (
    Call,
    SameOps,
    Twisted,
    WrongBackend,
    columns,
    twisted,
    wrong,
    wrong_cell,
    wrong_ops,
)
from seqcore.equations.cell import Cell
from seqcore.equations.gru import GRUResetAfterCell, GRUResetBeforeCell
from seqcore.equations.lstm import LSTMCell
from seqcore.equations.simple_rnn import SimpleRNNCell
from seqcore.ops import Array, Arrays
from seqcore.spec.layers import GRU, LSTM
from seqcore.spi import Request, Sequence

# ACT: activations.


@wrong_cell("ACT-1", "hard_sigmoid of slope 0.2")
class _OldSlope(Cell):
    def act(self, x: Array) -> Array:
        return _old_slope(x) if self.layer.activation == "hard_sigmoid" else super().act(x)

    def ract(self, x: Array) -> Array:
        old = self.layer.recurrent_activation == "hard_sigmoid"
        return _old_slope(x) if old else super().ract(x)


def _old_slope(x: Array) -> Array:
    return np.clip(0.2 * x + 0.5, 0, 1).astype(x.dtype)


@wrong_cell("ACT-1", "relu that makes a zero of NaN")
class _DeafRelu(Cell):
    def act(self, x: Array) -> Array:
        return np.fmax(x, 0) if self.layer.activation == "relu" else super().act(x)


@wrong_cell("ACT-1", "relu that leaks a hundredth below zero")
class _LeakyRelu(Cell):
    def act(self, x: Array) -> Array:
        leaky = self.layer.activation == "relu"
        return np.where(x < 0, x * 0.01, x).astype(x.dtype) if leaky else super().act(x)


@wrong_ops("ACT-1", "tanh by a formula that is good to 1e-4")
class _CoarseTanh(SameOps):
    def tanh(self, x: Array) -> Array:
        return super().tanh(x) * (1 + np.asarray(1e-4, x.dtype))


class _Kinked(SimpleRNNCell):
    """Keeps the pre-activation, which the derivative at a kink depends on."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        a = projected + self.ops.matmul(state[0], self.recurrent_kernel)
        h = self.act(a)
        return (h,), (h, a)

    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        h, a = saved
        dz = d_state[0] * np.where(self.kink(a), self.there, self.act_slope(h)).astype(h.dtype)
        return (dz,), (self.ops.matmul(dz, self.ops.swap(self.recurrent_kernel)),)

    there = 1.0

    def kink(self, a: Array) -> Array:
        return (a == 0) & (self.layer.activation == "relu")


@wrong_cell("ACT-2", "relu with the derivative 1 at 0")
class _SteepKink(_Kinked):
    pass


@wrong_cell("ACT-2", "relu with the derivative 1/2 at 0")
class _HalfKink(_Kinked):
    there = 0.5


@wrong_cell("ACT-2", "hard_sigmoid with the derivative 1/6 at -3 and 3")
class _SlopedKink(_Kinked):
    there = 1 / 6

    def kink(self, a: Array) -> Array:
        return (np.abs(a) == 3) & (self.layer.activation == "hard_sigmoid")


@wrong_cell("ACT-2", "hard_sigmoid whose derivative does not end")
class _Endless(Cell):
    def act_slope(self, y: Array) -> Array:
        endless = self.layer.activation == "hard_sigmoid"
        return np.full_like(y, 1 / 6) if endless else super().act_slope(y)

    def ract_slope(self, y: Array) -> Array:
        endless = self.layer.recurrent_activation == "hard_sigmoid"
        return np.full_like(y, 1 / 6) if endless else super().ract_slope(y)


@wrong_ops("ACT-3", "sigmoid as e^a / (1 + e^a), NaN for a large a")
class _NaNSigmoid(SameOps):
    def sigmoid(self, x: Array) -> Array:
        power = np.exp(x)
        return power / (1 + power)


@wrong_ops("ACT-3", "sigmoid as 1 / (1 + e^-a), which overflows with a warning")
class _LoudSigmoid(SameOps):
    def sigmoid(self, x: Array) -> Array:
        return 1 / (1 + np.exp(-x))


@wrong_ops("ACT-3", "tanh from two exponentials, NaN for a large a")
class _NaNTanh(SameOps):
    def tanh(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            up, down = np.exp(x), np.exp(-x)
            return (up - down) / (up + down)


@wrong_ops("ACT-3", "sigmoid that reaches beyond 1")
class _TallSigmoid(SameOps):
    def sigmoid(self, x: Array) -> Array:
        return super().sigmoid(x) * (1 + np.finfo(x.dtype).eps)


# RNN: the simple cell.


class _RNN(SimpleRNNCell):
    """The step in one part to be bent."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        h = self.next_h(projected, state[0])
        return (h,), (h,)

    def next_h(self, projected: Array, h: Array) -> Array:
        return self.act(projected + self.ops.matmul(h, self.recurrent_kernel))


@wrong_cell("RNN-1", "recurrent kernel transposed in a SimpleRNN")
class _TransposedRNN(_RNN):
    def next_h(self, projected: Array, h: Array) -> Array:
        return self.act(projected + self.ops.matmul(h, self.ops.swap(self.recurrent_kernel)))


@wrong_cell("RNN-1", "input and recurrent product activated apart")
class _ActivatedApart(_RNN):
    def next_h(self, projected: Array, h: Array) -> Array:
        return self.act(projected) + self.act(self.ops.matmul(h, self.recurrent_kernel))


@wrong_cell("RNN-1", "a SimpleRNN that always takes tanh")
class _AlwaysTanh(_RNN):
    def act(self, x: Array) -> Array:
        return self.ops.tanh(x)


@wrong_cell("RNN-1", "the bias of a SimpleRNN added after the activation")
class _LateBias(_RNN):
    def next_h(self, projected: Array, h: Array) -> Array:
        late = 0 if self.bias is None else self.bias
        return super().next_h(projected - late, h) + late


# LSTM.


def _reads(kind: type, believed: tuple[int, ...], only: str = "") -> Any:
    """Return a hook that reads weights as though their blocks had another order."""
    order = tuple(believed.index(gate) for gate in range(len(believed)))

    def before(request: Request, call: Call) -> Call:
        if not isinstance(request.layer, kind):
            return call
        weights = {name: value for name, value in call[0].items() if name.endswith(only)}
        return call[0] | columns(weights, len(order), order), *call[1:]

    return before


def _orders(letters: str) -> Any:
    """Yield every order of the gates but the right one, with its name."""
    _right, *others = itertools.permutations(range(len(letters)))
    for order in others:
        yield order, " ".join(letters[gate] for gate in order)


for _order, _name in _orders("ifgo"):
    twisted("LSTM-1", f"gates in the order {_name}", before=_reads(LSTM, _order))

twisted(
    "LSTM-1",
    "gates in the order i g f o in the bias alone",
    before=_reads(LSTM, (0, 2, 1, 3), only="bias"),
)
twisted(
    "LSTM-1",
    "gates in the order i f o g in the recurrent kernel alone",
    before=_reads(LSTM, (0, 1, 3, 2), only="recurrent_kernel"),
)


def _column_swapped(request: Request, call: Call) -> Call:
    """Exchange two recurrent columns of one gate, the output gate."""
    if not isinstance(request.layer, LSTM) or request.layer.units < 2:
        return call
    kernel = call[0]["recurrent_kernel"].copy()
    kernel[:, [-2, -1]] = kernel[:, [-1, -2]]
    return call[0] | {"recurrent_kernel": kernel}, *call[1:]


def _block_transposed(request: Request, call: Call) -> Call:
    """Transpose the forget gate's recurrent block."""
    if not isinstance(request.layer, LSTM):
        return call
    kernel, units = call[0]["recurrent_kernel"].copy(), request.layer.units
    kernel[:, units : 2 * units] = kernel[:, units : 2 * units].T.copy()
    return call[0] | {"recurrent_kernel": kernel}, *call[1:]


twisted("LSTM-1", "two recurrent columns of the output gate swapped", before=_column_swapped)
twisted("LSTM-1", "recurrent block of the forget gate transposed", before=_block_transposed)


class _LSTM(LSTMCell):
    """The step in parts that can be bent one by one."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        h, c = state
        i, f, g, o = self.gates(*self.ops.split(self.pre(projected, h, c), 4))
        new = self.next_c(i, f, g, o, c)
        return (self.next_h(o, new, c), new), (i, f, g, o)

    def pre(self, projected: Array, h: Array, c: Array) -> Array:
        return projected + self.ops.matmul(h, self.recurrent_kernel)

    def gates(self, i: Array, f: Array, g: Array, o: Array) -> Arrays:
        return self.ract(i), self.ract(f), self.act(g), self.ract(o)

    def next_c(self, i: Array, f: Array, g: Array, o: Array, c: Array) -> Array:
        return f * c + i * g

    def next_h(self, o: Array, c: Array, before: Array) -> Array:
        return o * self.act(c)

    def block(self, gate: int) -> slice:
        """Return the columns of a gate."""
        return slice(gate * self.layer.units, (gate + 1) * self.layer.units)


@wrong_cell("LSTM-1", "a peephole: the forget gate sees the cell state")
class _Peephole(_LSTM):
    def pre(self, projected: Array, h: Array, c: Array) -> Array:
        pre = super().pre(projected, h, c)
        pre[..., self.block(1)] += c / 8
        return pre


@wrong_cell("LSTM-1", "the bias added twice, with the input and with the state")
class _TwoBiases(_LSTM):
    def pre(self, projected: Array, h: Array, c: Array) -> Array:
        return super().pre(projected, h, c) + (0 if self.bias is None else self.bias)


@wrong_cell("LSTM-2", "the candidate through the recurrent activation")
class _SigmoidCandidate(_LSTM):
    def gates(self, i: Array, f: Array, g: Array, o: Array) -> Arrays:
        return self.ract(i), self.ract(f), self.ract(g), self.ract(o)


@wrong_cell("LSTM-2", "an LSTM that always takes sigmoid for its gates")
class _AlwaysSigmoid(_LSTM):
    def ract(self, x: Array) -> Array:
        return self.ops.sigmoid(x)


@wrong_cell("LSTM-2", "the output gate through the activation of the candidate")
class _TanhOutput(_LSTM):
    def gates(self, i: Array, f: Array, g: Array, o: Array) -> Arrays:
        return self.ract(i), self.ract(f), self.act(g), self.act(o)


@wrong_cell("LSTM-3", "input gate coupled to the forget gate")
class _Coupled(_LSTM):
    def next_c(self, i: Array, f: Array, g: Array, o: Array, c: Array) -> Array:
        return f * c + (1 - f) * g


@wrong_cell("LSTM-3", "a cell state that never forgets")
class _NeverForgets(_LSTM):
    def next_c(self, i: Array, f: Array, g: Array, o: Array, c: Array) -> Array:
        return c + i * g


def _steps_above_64(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Lose a little of the state from step 64 on, as a second block of steps may."""
    if not isinstance(request.layer, LSTM) or call[1].shape[1] <= 64:
        return y, final
    late = np.concatenate([y[:, :64], y[:, 64:] * 0.99], 1).astype(y.dtype)
    return late, tuple((state * 0.99).astype(state.dtype) for state in final)


twisted("LSTM-3", "an LSTM that is wrong beyond 64 steps only", after=_steps_above_64)


@wrong_cell("LSTM-4", "the hidden state from the cell state without activation")
class _BareCellState(_LSTM):
    def next_h(self, o: Array, c: Array, before: Array) -> Array:
        return o * c


@wrong_cell("LSTM-4", "the hidden state from the cell state of the step before")
class _LateCellState(_LSTM):
    def next_h(self, o: Array, c: Array, before: Array) -> Array:
        return o * self.act(before)


@wrong_cell("LSTM-4", "the cell state always through tanh")
class _TanhCellState(_LSTM):
    def next_h(self, o: Array, c: Array, before: Array) -> Array:
        return o * self.ops.tanh(c)


def _rows_above_16(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Repeat the first rows from row 16 on, as code does that handles one block of rows."""
    if not isinstance(request.layer, LSTM) or len(call[1]) <= 16:
        return y, final
    rows = np.arange(len(call[1])) % 16
    return y[rows], tuple(state[rows] for state in final)


twisted("LSTM-4", "an LSTM that is wrong above 16 rows only", after=_rows_above_16)


@wrong_cell("LSTM-5", "1 added to the forget gate, whose bias holds it already")
class _TwiceForgetBias(_LSTM):
    def pre(self, projected: Array, h: Array, c: Array) -> Array:
        pre = super().pre(projected, h, c)
        if self.bias is not None:
            pre[..., self.block(1)] += 1
        return pre


def _forget_bias_set(request: Request, call: Call) -> Call:
    """Put the initial forget bias in the place of what was given."""
    if not isinstance(request.layer, LSTM) or "bias" not in call[0]:
        return call
    bias = call[0]["bias"].copy()
    bias[request.layer.units : 2 * request.layer.units] = 1
    return call[0] | {"bias": bias}, *call[1:]


twisted("LSTM-5", "the forget bias set to 1 when the layer runs", before=_forget_bias_set)

# GRU.

for _order, _name in _orders("zrn"):
    twisted("GRU-1", f"gates in the order {_name}", before=_reads(GRU, _order))


class _GRU(GRUResetAfterCell):
    """The step in parts that can be bent one by one."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        product = self.ops.matmul(h, self.recurrent_kernel)
        biases = np.zeros_like(self.recurrent_kernel[0])
        if self.recurrent_bias is not None:
            biases = self.recurrent_bias
        xz, xr, xn = self.ops.split(projected, 3)
        hz, hr, hn = self.ops.split(product, 3)
        bz, br, bn = self.ops.split(biases, 3)
        z, r = self.update_and_reset(xz + hz, xr + hr, bz, br)
        n = self.candidate(xn, hn, bn, r, h)
        return (self.mix(z, n, h),), (z, r, n, hn + bn)

    def update_and_reset(self, z: Array, r: Array, bz: Array, br: Array) -> Arrays:
        return self.ract(z + bz), self.ract(r + br)

    def candidate(self, xn: Array, hn: Array, bn: Array, r: Array, h: Array) -> Array:
        return self.act(xn + r * (hn + bn))

    def mix(self, z: Array, n: Array, h: Array) -> Array:
        return z * h + (1 - z) * n


@wrong_cell("GRU-1", "no recurrent bias in the update and reset gates")
class _BareGates(_GRU):
    def update_and_reset(self, z: Array, r: Array, bz: Array, br: Array) -> Arrays:
        return self.ract(z), self.ract(r)


@wrong_cell("GRU-1", "the recurrent biases of update and reset gate exchanged")
class _CrossedBiases(_GRU):
    def update_and_reset(self, z: Array, r: Array, bz: Array, br: Array) -> Arrays:
        return self.ract(z + br), self.ract(r + bz)


@wrong_cell("GRU-2", "the recurrent bias outside of the reset factor")
class _BiasOutside(_GRU):
    def candidate(self, xn: Array, hn: Array, bn: Array, r: Array, h: Array) -> Array:
        return self.act(xn + r * hn + bn)


@wrong_cell("GRU-2", "the reset before the product where it comes after")
class _ResetEarly(_GRU):
    def candidate(self, xn: Array, hn: Array, bn: Array, r: Array, h: Array) -> Array:
        block = self.recurrent_kernel[:, 2 * self.layer.units :]
        return self.act(xn + self.ops.matmul(r * h, block) + bn)


@wrong_cell("GRU-2", "the reset gate on the input, too")
class _ResetAll(_GRU):
    def candidate(self, xn: Array, hn: Array, bn: Array, r: Array, h: Array) -> Array:
        return self.act(r * (xn + hn + bn))


class _GRUBefore(GRUResetBeforeCell):
    """The step with the candidate apart."""

    def step(self, projected: Array, state: Arrays) -> tuple[Arrays, Arrays]:
        (h,) = state
        xz, xr, xn = self.ops.split(projected, 3)
        hz, hr = self.ops.split(self.ops.matmul(h, self.gates_kernel), 2)
        z, r = self.ract(xz + hz), self.ract(xr + hr)
        n = self.candidate(xn, r, h)
        return (z * h + (1 - z) * n,), (z, r, n)

    def candidate(self, xn: Array, r: Array, h: Array) -> Array:
        return self.act(xn + self.ops.matmul(r * h, self.candidate_kernel))


@wrong_cell("GRU-3", "the reset after the product where it comes before")
class _ResetLate(_GRUBefore):
    def candidate(self, xn: Array, r: Array, h: Array) -> Array:
        return self.act(xn + r * self.ops.matmul(h, self.candidate_kernel))


@wrong_cell("GRU-3", "no reset at all where it comes before the product")
class _NoReset(_GRUBefore):
    def candidate(self, xn: Array, r: Array, h: Array) -> Array:
        return self.act(xn + self.ops.matmul(h, self.candidate_kernel))


@wrong_cell("GRU-4", "z and 1 - z exchanged")
class _Exchanged(_GRU):
    def mix(self, z: Array, n: Array, h: Array) -> Array:
        return (1 - z) * h + z * n


@wrong_cell("GRU-4", "a hidden state without the part that stays")
class _NoCarry(_GRU):
    def mix(self, z: Array, n: Array, h: Array) -> Array:
        return z * h + n


# BIAS: layers without bias.


@wrong_cell("BIAS-1", "a forget bias of 1 in an LSTM without bias")
class _OwnForgetBias(_LSTM):
    def pre(self, projected: Array, h: Array, c: Array) -> Array:
        pre = super().pre(projected, h, c)
        if self.bias is None:
            pre[..., self.block(1)] += 1
        return pre


@wrong_cell("BIAS-1", "small biases in a GRU without bias")
class _OwnRecurrentBias(_GRU):
    def update_and_reset(self, z: Array, r: Array, bz: Array, br: Array) -> Arrays:
        missing = np.asarray(1e-3 if self.bias is None else 0.0, z.dtype)
        return self.ract(z + bz + missing), self.ract(r + br)


# GATES: looking inside.


class _Shown(Twisted):
    """The equations, with what `gates` shows to be bent."""

    def gates(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[dict[str, Array], Sequence, Arrays]:
        named, sequence, final = super().gates(request, prepared, x, mask, initial_state)
        return self.bend(request, dict(named), mask, initial_state), sequence, final

    def bend(
        self, request: Request, named: dict[str, Array], mask: Array | None, state: Arrays
    ) -> dict[str, Array]:
        raise NotImplementedError


def _shows(clause: str, name: str) -> Any:
    def register(kind: type[_Shown]) -> type[_Shown]:
        wrong(clause, name, lambda: WrongBackend(kind()))
        return kind

    return register


@_shows("GATES-1", "gates that show h under c and c under h")
class _CrossedStates(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        if "c" in named:
            named |= {"c": named["h"], "h": named["c"]}
        return named


@_shows("GATES-1", "gates that show the update gate of a GRU as the share of the new")
class _OtherShare(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        return named | {"z": 1 - named["z"]} if "z" in named else named


@_shows("GATES-1", "gates that show the candidate before its activation")
class _BeforeActivation(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        plain = request.layer.activation == "tanh" and "g" in named
        return named | {"g": np.arctanh(named["g"])} if plain else named


@_shows("GATES-1", "gates that show the states before the step")
class _StatesBefore(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        for name, first in zip(request.layer.state_names, state, strict=True):
            shown = named[name]
            edge = first[:, None].astype(shown.dtype)
            parts = (shown[:, 1:], edge) if request.layer.go_backwards else (edge, shown[:, :-1])
            named[name] = np.concatenate(parts, 1)
        return named


@_shows("GATES-2", "gates of a backward cell in processing order")
class _ProcessingOrder(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        if request.layer.go_backwards:
            named = {name: np.flip(value, 1) for name, value in named.items()}
        return named


@_shows("GATES-2", "gates with time before batch")
class _TimeFirst(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        return {name: np.swapaxes(value, 0, 1) for name, value in named.items()}


@_shows("GATES-3", "gates of 0 at masked steps")
class _ZeroGates(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        return {name: np.nan_to_num(value, nan=0.0) for name, value in named.items()}


@_shows("GATES-3", "states of 0 at masked steps where the output is")
class _ZeroStates(_Shown):
    def bend(self, request: Any, named: Any, mask: Any, state: Any) -> Any:
        if mask is None or request.layer.mask_output != "zero":
            return named
        shown = {name: named[name] * mask[:, :, None] for name in request.layer.state_names}
        return named | shown
