"""The specification evaluated number by number, in float64, beside the suite's own oracle.

It stands apart from `seqcore.conformance.oracle` on purpose. That one is checked against this one
where torch has no such layer (test_conformance_oracle.py), so neither may use a line of the other;
and this one shows gates, which that one does not. Written from docs/spec.md with Python loops over
single numbers. It knows nothing of how the library computes: of the layers it reads the fields of
the description only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Rounding = Callable[[float], float]


def activation(name: str, a: float) -> float:
    """Clause ACT-1."""
    if name == "tanh":
        return math.tanh(a)
    if name == "sigmoid":
        return 1 / (1 + math.exp(-a)) if a >= 0 else math.exp(a) / (1 + math.exp(a))
    if name == "relu":
        return a if a > 0 else 0.0
    if name == "linear":
        return a
    if name == "hard_sigmoid":
        return min(1.0, max(0.0, a / 6 + 0.5))
    raise AssertionError(name)


class Oracle:
    """Evaluates layers; the two roundings are for half types and for products of less precision."""

    def __init__(self, state: Rounding = float, factor: Rounding = float) -> None:
        self.round_state = state
        self.round_factor = factor

    def apply(
        self, layer: Any, weights: Any, x: Any, mask: Any = None, initial_state: Any = None
    ) -> list[np.ndarray]:
        """All outputs of a call, in the order of OUT-5."""
        ys, states, _ = self._whole(layer, weights, x, mask, initial_state)
        return ys + states if layer.return_state else ys

    def gates(
        self, layer: Any, weights: Any, x: Any, mask: Any = None, initial_state: Any = None
    ) -> dict[str, np.ndarray]:
        """What GATES-1 to GATES-3 say."""
        return self._whole(layer, weights, x, mask, initial_state)[2]

    def _whole(self, layer: Any, weights: Any, x: Any, mask: Any, initial_state: Any) -> Any:
        x = np.asarray(x, np.float64)
        batch, time, _ = x.shape
        mask = np.ones((batch, time), bool) if mask is None else np.asarray(mask)
        w = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        flat = None
        if initial_state is not None:
            flat = [np.asarray(value, np.float64) for value in initial_state]
        trace: dict[str, np.ndarray] = {}
        ys, states = self._layer(layer, w, "", x, mask, flat, list(range(time)), trace)
        return ys, states, trace

    def _layer(
        self,
        layer: Any,
        w: dict[str, np.ndarray],
        prefix: str,
        x: np.ndarray,
        mask: np.ndarray,
        state: list[np.ndarray] | None,
        times: list[int],
        trace: dict[str, np.ndarray],
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        kind = type(layer).__name__
        if kind == "Stack":
            states: list[np.ndarray] = []
            ys = [x]
            for index, member in enumerate(layer.layers):
                count = len(state_sizes(member))
                mine = None if state is None else state[len(states) : len(states) + count]
                last = index == len(layer.layers) - 1
                ys, after = self._layer(
                    with_sequences(member, layer.return_sequences if last else True),
                    w, f"{prefix}layers.{index}.", ys[0], mask, mine, times, trace,
                )  # fmt: skip
                states += after
                if kind_is_reversing(member):
                    mask, times = mask[:, ::-1], times[::-1]
            return ys, states
        if kind == "Bidirectional":
            ahead, behind = layer.layer, layer.backward_layer or layer.layer
            count = len(state_sizes(ahead))
            f_y, f_state = self._cell(
                ahead, w, prefix + "forward.", x, mask, state and state[:count], times, trace,
                backwards=False, reorder=False,
            )  # fmt: skip
            b_y, b_state = self._cell(
                behind, w, prefix + "backward.", x, mask, state and state[count:], times, trace,
                backwards=True, reorder=True,
            )  # fmt: skip
            return self._merge(layer.merge_mode, f_y, b_y), f_state + b_state
        y, after = self._cell(
            layer, w, prefix, x, mask, state, times, trace,
            backwards=layer.go_backwards, reorder=layer.keep_order,
        )  # fmt: skip
        return [y], after

    def _merge(self, mode: str, f: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        if mode == "none":
            return [f, b]
        if mode == "concat":
            return [np.concatenate([f, b], axis=-1)]
        merged = np.empty_like(f)
        for index in np.ndindex(*f.shape):
            one, two = float(f[index]), float(b[index])
            value = {"sum": one + two, "mul": one * two, "ave": (one + two) / 2}[mode]
            merged[index] = self.round_state(value)
        return [merged]

    def _cell(
        self,
        layer: Any,
        w: dict[str, np.ndarray],
        prefix: str,
        x: np.ndarray,
        mask: np.ndarray,
        state: list[np.ndarray] | None,
        times: list[int],
        trace: dict[str, np.ndarray],
        *,
        backwards: bool,
        reorder: bool,
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        batch, time, _ = x.shape
        own = {name[len(prefix) :]: v for name, v in w.items() if name.startswith(prefix)}
        names = ("h", "c") if type(layer).__name__ == "LSTM" else ("h",)
        final = [np.zeros((batch, layer.units)) for _ in names]
        sequence = np.zeros((batch, time, layer.units))
        order = list(range(time))
        if backwards:
            order.reverse()
        for row in range(batch):
            now = [[0.0] * layer.units for _ in names]
            if state is not None:
                now = [[float(v) for v in array[row]] for array in state]
            for visited, position in enumerate(order):
                valid = bool(mask[row, position])
                shown: dict[str, list[float]] = {}
                if valid:
                    numbers = [float(v) for v in x[row, position]]
                    now = self._step(layer, own, numbers, now, shown)
                at = position if reorder or not backwards else visited
                for unit in range(layer.units):
                    emitted = now[0][unit] if valid or layer.mask_output == "carry" else 0.0
                    sequence[row, at, unit] = emitted
                for name in GATES[type(layer).__name__]:
                    array = trace.setdefault(prefix + name, np.full_like(sequence, np.nan))
                    if valid:
                        array[row, times[position]] = shown[name]
                for name, value in zip(names, now, strict=True):
                    array = trace.setdefault(prefix + name, np.full_like(sequence, np.nan))
                    array[row, times[position]] = value
            for array, value in zip(final, now, strict=True):
                array[row] = value
        return (sequence if layer.return_sequences else final[0].copy()), final

    def _step(
        self,
        layer: Any,
        w: dict[str, np.ndarray],
        x: list[float],
        state: list[list[float]],
        shown: dict[str, list[float]],
    ) -> list[list[float]]:
        """One valid step of one row: clauses RNN, LSTM and GRU, element by element."""
        units, h = layer.units, state[0]

        def column(gate: int, unit: int) -> int:
            return gate * units + unit

        def product(vector: list[float], matrix: str, at: int) -> float:
            factors = (float(w[matrix][k, at]) for k in range(len(vector)))
            pairs = zip(vector, factors, strict=True)
            return sum(self.round_factor(a) * self.round_factor(b) for a, b in pairs)

        def bias(name: str, at: int) -> float:
            return float(w[name][at]) if name in w else 0.0

        def from_x(gate: int, unit: int) -> float:
            at = column(gate, unit)
            return product(x, "kernel", at) + bias("bias", at)

        def from_h(gate: int, unit: int, vector: list[float]) -> float:
            return product(vector, "recurrent_kernel", column(gate, unit))

        act = layer.activation
        kind = type(layer).__name__
        if kind == "SimpleRNN":
            new = [activation(act, from_x(0, u) + from_h(0, u, h)) for u in range(units)]
            return [[self.round_state(v) for v in new]]
        ract = layer.recurrent_activation
        if kind == "LSTM":
            new_h, new_c = [], []
            for u in range(units):
                i = activation(ract, from_x(0, u) + from_h(0, u, h))
                f = activation(ract, from_x(1, u) + from_h(1, u, h))
                g = activation(act, from_x(2, u) + from_h(2, u, h))
                o = activation(ract, from_x(3, u) + from_h(3, u, h))
                c = f * state[1][u] + i * g
                new_c.append(self.round_state(c))
                new_h.append(self.round_state(o * activation(act, c)))
                for name, value in zip("ifgo", (i, f, g, o), strict=True):
                    shown.setdefault(name, []).append(value)
            return [new_h, new_c]
        assert kind == "GRU"
        z, r = (
            [
                activation(
                    ract,
                    from_x(k, u) + from_h(k, u, h) + bias("recurrent_bias", column(k, u)),
                )
                for u in range(units)
            ]
            for k in (0, 1)
        )
        n = []
        for u in range(units):
            if layer.reset_after:
                inner = from_h(2, u, h) + bias("recurrent_bias", column(2, u))
                n.append(activation(act, from_x(2, u) + r[u] * inner))
            else:
                scaled = [r[k] * h[k] for k in range(units)]
                n.append(activation(act, from_x(2, u) + from_h(2, u, scaled)))
        shown.update(z=z, r=r, n=n)
        return [[self.round_state(z[u] * h[u] + (1 - z[u]) * n[u]) for u in range(units)]]


GATES = {"SimpleRNN": "", "LSTM": "ifgo", "GRU": "zrn"}


def state_sizes(layer: Any) -> list[int]:
    """The units of every state, in the order of STATE-1."""
    kind = type(layer).__name__
    if kind == "Stack":
        return [size for member in layer.layers for size in state_sizes(member)]
    if kind == "Bidirectional":
        return state_sizes(layer.layer) + state_sizes(layer.backward_layer or layer.layer)
    return [layer.units] * (2 if kind == "LSTM" else 1)


def kind_is_reversing(layer: Any) -> bool:
    """Whether a stack's member hands its steps on in the other order (STACK-4)."""
    return type(layer).__name__ != "Bidirectional" and layer.go_backwards and not layer.keep_order


def with_sequences(layer: Any, wanted: bool) -> Any:
    """The member of a stack with the flag that its place in the stack gives it (STACK-3)."""
    if type(layer).__name__ != "Bidirectional":
        return layer.replace(return_sequences=wanted)
    other = layer.backward_layer
    return layer.replace(
        layer=layer.layer.replace(return_sequences=wanted),
        backward_layer=None if other is None else other.replace(return_sequences=wanted),
    )
