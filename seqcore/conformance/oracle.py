"""The specification evaluated number by number, in float64: what every backend is judged against.

Written from the document, with loops over single numbers, and independent of the equations that
the backends share: of a layer it reads the description. Gradients come from a tape of the numbers
(`seqcore.conformance.tape`), not from formulas of the pullback.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from seqcore.conformance.arrays import Arguments, output_shapes
from seqcore.conformance.tape import Noise, Number, Rounding, Tape, rounding
from seqcore.spec.layers import (
    GRU,
    LSTM,
    AnyCell,
    AnyLayer,
    Bidirectional,
    SimpleRNN,
    Stack,
)
from seqcore.spec.outputs import state_names

Vector: TypeAlias = list[Number]
Sequences: TypeAlias = list[list[Vector]]
"""By row, step and unit. A step under the mask of an input is empty: it cannot be read."""

FACTOR_BITS = {"tf32": 11, "bfloat16": 8}
"""By precision the significant bits of a rounded factor, the implicit one included."""

_TF32 = rounding(FACTOR_BITS["tf32"], -126, math.inf)
_BFLOAT16 = rounding(FACTOR_BITS["bfloat16"], -126, math.inf)
_FACTORS: dict[str, Rounding | None] = {"highest": None, "tf32": _TF32, "bfloat16": _BFLOAT16}
_STATES: dict[str, Rounding] = {"float16": rounding(11, -14, 65504.0), "bfloat16": _BFLOAT16}


class Evaluated:
    """One evaluation of a call.

    Attributes:
        outputs: By field name (OUT-5), float64.
        backwards: Whether the sequence returned is in the reverse of original time.
    """

    def __init__(
        self,
        tape: Tape,
        outputs: dict[str, NDArray[Any]],
        arguments: dict[str, NDArray[Any]],
        backwards: bool,
    ) -> None:
        """Take arrays of numbers, those of the arguments by the names of their gradients."""
        self._tape, self._outputs, self._arguments = tape, outputs, arguments
        self.outputs = {name: _values(array) for name, array in outputs.items()}
        self.backwards = backwards

    def release(self) -> None:
        """Free the numbers, which refer to one another; only `outputs` can be used then."""
        self._outputs.clear()
        self._arguments.clear()
        self._tape.numbers.clear()

    def factors(self) -> NDArray[np.float64]:
        """Return every computed number that PREC-2 has rounded, as it was before.

        They have the same order in every evaluation of a call. The pullback's come last, once it
        was called.
        """
        return np.array(self._tape.factors, np.float64)

    def untouched(self, name: str) -> NDArray[np.bool_]:
        """Return where an output is a zero of MASK-4 or an element of the initial state.

        Nothing computes there, so the value is exact.
        """
        numbers = self._outputs[name]
        return _filled(numbers, [not number.parents for number in numbers.flat], np.bool_)

    def identities(self, name: str) -> NDArray[np.int64]:
        """Return integers that are equal where an output holds one number several times."""
        numbers = self._outputs[name]
        return _filled(numbers, [id(number) for number in numbers.flat], np.int64)

    def pullback(self, cotangents: Sequence[NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
        """Return the gradients by weight name, `"x"` and `"initial_state.h"` and so on.

        Args:
            cotangents: One array for each output, in order.
        """
        pairs = zip(self._outputs.values(), cotangents, strict=True)
        self._tape.pull_back(
            (number, float(cotangent))
            for numbers, array in pairs
            for number, cotangent in zip(numbers.flat, array.flat, strict=True)
        )
        return {
            name: _filled(numbers, [n.adjoint for n in numbers.flat], np.float64)
            for name, numbers in self._arguments.items()
        }


def evaluate(
    layer: AnyLayer,
    arguments: Arguments,
    *,
    dtype: str = "float64",
    precision: str = "highest",
    noise: Noise | None = None,
) -> Evaluated:
    """Evaluate a call.

    Args:
        layer: The layer.
        arguments: The arrays; values of `x` at masked steps are not read.
        dtype: A half type rounds every state and output (DTYPE-4); other types round nothing.
        precision: `matmul_precision` (PREC).
        noise: What every pre-activation, gate and state is multiplied by.
    """
    tape = Tape(factor=_FACTORS[precision], state=_STATES.get(dtype), noise=noise)
    weights = {name: _leaves(tape, array) for name, array in arguments.weights.items()}
    states = [_leaves(tape, array) for array in arguments.state]
    zero = tape.leaf(0.0)
    # A value under the mask is replaced before it is looked at: nothing can depend on it.
    x = _leaves(tape, np.where(arguments.valid[:, :, None], arguments.x, 0))
    steps = [
        [list(vector) if valid else [] for vector, valid in zip(*row, strict=True)]
        for row in zip(x, arguments.valid.tolist(), strict=True)
    ]
    run = _Run(tape, zero, weights)
    passed = _Passed([steps], arguments.valid.tolist(), [], False)
    passed = run.layer(
        layer, "", passed, [array.tolist() for array in states], layer.return_sequences
    )
    batch, time, _ = x.shape
    nested: list[Any] = passed.ys + passed.states if layer.return_state else passed.ys
    shapes = output_shapes(layer, batch, time).items()
    outputs = {
        name: np.array(numbers, object).reshape(shape)
        for (name, shape), numbers in zip(shapes, nested, strict=True)
    }
    initial = zip(state_names(layer), states, strict=True)
    known = {**weights, "x": x, **{f"initial_state.{name}": array for name, array in initial}}
    return Evaluated(tape, outputs, known, passed.backwards)


class _Passed(NamedTuple):
    """What one layer hands on: to the next member of a stack, or to the caller."""

    ys: list[Sequences]
    """One, or with `merge_mode="none"` two; a single step has a time axis of 1."""
    valid: list[list[bool]]
    """The mask, its steps in the order of those of `ys`."""
    states: list[list[Vector]]
    """The final states so far, each by row and unit."""
    backwards: bool
    """Whether that order is the reverse of original time."""


class _Run:
    """Layers over the numbers of one tape."""

    def __init__(self, tape: Tape, zero: Number, weights: dict[str, NDArray[Any]]) -> None:
        self._tape, self._zero, self._weights = tape, zero, weights

    def layer(
        self,
        layer: AnyLayer,
        prefix: str,
        given: _Passed,
        initial: list[list[Vector]],
        sequences: bool,
    ) -> _Passed:
        """Run a layer whose weights' names begin with `prefix`.

        Args:
            layer: The layer; `sequences` stands for its `return_sequences`.
            prefix: As NAME-4 says.
            given: The input, in `ys`, and its mask.
            initial: The initial states of this layer and those after it.
            sequences: Whether all steps are returned.
        """
        (x,), valid, states, backwards = given
        match layer:
            case Stack(layers=members):
                for index, member in enumerate(members):
                    wanted = sequences or index < len(members) - 1
                    mine = initial[len(given.states) :]
                    given = self.layer(member, f"{prefix}layers.{index}.", given, mine, wanted)
                return given
            case Bidirectional(forward=forward, backward=backward):
                count = len(forward.state_names)
                ahead, after = self._cell(
                    forward, prefix + "forward.", x, valid, initial, False, True, sequences
                )
                behind, before = self._cell(
                    backward, prefix + "backward.", x, valid, initial[count:], True, True, sequences
                )
                ys = self._merge(str(layer.merge_mode), ahead, behind)
                return _Passed(ys, valid, [*states, *after, *before], backwards)
            case _:
                reverse, keep = layer.go_backwards, layer.keep_order
                y, after = self._cell(layer, prefix, x, valid, initial, reverse, keep, sequences)
                if reverse and not keep:  # STACK-4
                    valid, backwards = [row[::-1] for row in valid], not backwards
                return _Passed([y], valid, [*states, *after], backwards)

    def _cell(
        self,
        layer: AnyCell,
        prefix: str,
        x: Sequences,
        valid: list[list[bool]],
        initial: list[list[Vector]],
        reverse: bool,
        keep_order: bool,
        sequences: bool,
    ) -> tuple[Sequences, list[list[Vector]]]:
        """Run one cell in one direction: the groups BACK and MASK.

        Returns:
            The output, and the final states.
        """
        cell = _CELLS[type(layer)](layer, self._tape, self._weights, prefix)
        y: Sequences = []
        final: list[list[Vector]] = [[] for _ in layer.state_names]
        for row, mask in enumerate(valid):
            state = [array[row] for array, _ in zip(initial, final, strict=False)]
            emitted = []
            order = range(len(mask))
            for t in reversed(order) if reverse else order:
                if mask[t]:
                    state = cell.step(x[row][t], state)
                shows = mask[t] or layer.mask_output == "carry"
                emitted.append(state[0] if shows else [self._zero] * layer.units)
            if reverse and keep_order:
                emitted.reverse()
            y.append(emitted if sequences else [state[0]])
            for rows, vector in zip(final, state, strict=True):
                rows.append(vector)
        return y, final

    def _merge(self, mode: str, ahead: Sequences, behind: Sequences) -> list[Sequences]:
        """Merge the outputs of two directions (BI-4)."""
        if mode == "none":
            return [ahead, behind]
        merged = [
            [self._merged(mode, f, b) for f, b in zip(row_f, row_b, strict=True)]
            for row_f, row_b in zip(ahead, behind, strict=True)
        ]
        return [merged]

    def _merged(self, mode: str, f: Vector, b: Vector) -> Vector:
        if mode == "concat":
            return f + b
        return [self._joined(mode, one, two) for one, two in zip(f, b, strict=True)]

    def _joined(self, mode: str, one: Number, two: Number) -> Number:
        if one is two is self._zero:
            return self._zero  # Both masked: exact, whatever the mode.
        if mode == "mul":
            return self._tape.rounded(one * two)
        joined = one + two
        return self._tape.rounded(joined / 2 if mode == "ave" else joined)


class _Cell:
    """The equations of a cell for one row; a vector is a list of numbers, one for each unit."""

    def __init__(
        self, layer: Any, tape: Tape, weights: dict[str, NDArray[Any]], prefix: str
    ) -> None:
        self.layer, self.tape = layer, tape
        self.units = range(layer.units)
        self._kernel = _columns(weights[prefix + "kernel"])
        self._recurrent_kernel = _columns(weights[prefix + "recurrent_kernel"])
        self._biases = {
            name: weights[prefix + name].tolist()
            for name in ("bias", "recurrent_bias")
            if prefix + name in weights
        }

    def step(self, x: Vector, state: list[Vector]) -> list[Vector]:
        """Return the state after a valid step."""
        raise NotImplementedError

    def from_x(self, x: Vector, gate: int, unit: int) -> list[Number]:
        """Return the terms of `x_t @ K[gate] + b[gate]` for one unit."""
        column = gate * self.layer.units + unit
        return [self.tape.dot(x, self._kernel[column]), *self._bias("bias", column)]

    def from_h(self, h: Vector, gate: int, unit: int) -> list[Number]:
        """Return the terms of `h_{t-1} @ R[gate] + rb[gate]` for one unit."""
        column = gate * self.layer.units + unit
        product = self.tape.dot(h, self._recurrent_kernel[column])
        return [product, *self._bias("recurrent_bias", column)]

    def activated(self, name: str, terms: list[Number]) -> Number:
        """Return the activation of a sum of terms, its pre-activation."""
        return _activate(name, self.tape.noisy(self.tape.total(terms)))

    def gate(self, name: str, terms: list[Number]) -> Number:
        """Return a gate."""
        return self.tape.noisy(self.activated(name, terms))

    def state(self, number: Number) -> Number:
        """Return an element of a new state."""
        return self.tape.rounded(self.tape.noisy(number))

    def _bias(self, name: str, column: int) -> list[Number]:
        return [self._biases[name][column]] if name in self._biases else []


class _SimpleRNNCell(_Cell):
    def step(self, x: Vector, state: list[Vector]) -> list[Vector]:
        (h,), act = state, self.layer.activation
        new = [self.activated(act, self.from_x(x, 0, u) + self.from_h(h, 0, u)) for u in self.units]
        return [[self.state(number) for number in new]]


class _LSTMCell(_Cell):
    def step(self, x: Vector, state: list[Vector]) -> list[Vector]:
        h, c = state
        act, ract = self.layer.activation, self.layer.recurrent_activation
        pairs = [self._unit(x, h, c[u], u, act, ract) for u in self.units]
        return [list(values) for values in zip(*pairs, strict=True)]

    def _unit(
        self, x: Vector, h: Vector, c: Number, u: int, act: str, ract: str
    ) -> tuple[Number, Number]:
        i, f, g, o = (
            self.gate(name, self.from_x(x, k, u) + self.from_h(h, k, u))
            for k, name in enumerate((ract, ract, act, ract))
        )
        c = self.state(f * c + i * g)
        return self.state(o * _activate(act, c)), c


class _GRUCell(_Cell):
    def step(self, x: Vector, state: list[Vector]) -> list[Vector]:
        (h,), act, ract = state, self.layer.activation, self.layer.recurrent_activation
        z, r = (
            [self.gate(ract, self.from_x(x, k, u) + self.from_h(h, k, u)) for u in self.units]
            for k in (0, 1)
        )
        if self.layer.reset_after:
            recurrent = [r[u] * self.tape.total(self.from_h(h, 2, u)) for u in self.units]
        else:
            kept = [r[u] * h[u] for u in self.units]
            recurrent = [self.tape.total(self.from_h(kept, 2, u)) for u in self.units]
        n = [self.gate(act, [*self.from_x(x, 2, u), recurrent[u]]) for u in self.units]
        return [[self.state(z[u] * h[u] + (1 - z[u]) * n[u]) for u in self.units]]


_CELLS: dict[type[AnyCell], type[_Cell]] = {
    SimpleRNN: _SimpleRNNCell,
    LSTM: _LSTMCell,
    GRU: _GRUCell,
}


def _tanh(a: float) -> tuple[float, float]:
    y = math.tanh(a)
    return y, 1 - y * y


def _sigmoid(a: float) -> tuple[float, float]:
    e = math.exp(-abs(a))
    small, large = e / (1 + e), 1 / (1 + e)
    return (large if a >= 0 else small), small * large


def _relu(a: float) -> tuple[float, float]:
    return (0.0, 0.0) if a <= 0 else (a, 1.0)


def _linear(a: float) -> tuple[float, float]:
    return a, 1.0


def _hard_sigmoid(a: float) -> tuple[float, float]:
    if -3 < a < 3:
        return a / 6 + 0.5, 1 / 6
    return (0.0 if a < 0 else 1.0 if a > 0 else a), 0.0


_ACTIVATIONS: dict[str, Callable[[float], tuple[float, float]]] = {
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "relu": _relu,
    "linear": _linear,
    "hard_sigmoid": _hard_sigmoid,
}
"""By name the value at `a` (ACT-1) and the derivative there (ACT-2)."""


_FROM_OUTPUT: dict[str, Callable[[float], float]] = {
    "tanh": lambda y: 1 - y * y,
    "sigmoid": lambda y: y * (1 - y),
}
"""The derivatives that are computed from the activation's own value, as it was rounded."""


def _activate(name: str, a: Number) -> Number:
    value, slope = _ACTIVATIONS[name](a.value)
    kept = a.tape.kept(value)
    if kept is not None and name in _FROM_OUTPUT:
        slope = _FROM_OUTPUT[name](max(-1.0, min(1.0, kept)))
    return Number(a.tape, value, (a,), (slope,))


def _leaves(tape: Tape, array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of numbers with the values of an array."""
    values = np.asarray(array, np.float64)
    return _filled(values, [tape.leaf(value) for value in values.ravel().tolist()], object)


def _columns(matrix: NDArray[Any]) -> list[Vector]:
    columns: list[Vector] = matrix.T.tolist()
    return columns


def _values(numbers: NDArray[Any]) -> NDArray[np.float64]:
    return _filled(numbers, [number.value for number in numbers.flat], np.float64)


def _filled(like: NDArray[Any], elements: list[Any], dtype: Any) -> NDArray[Any]:
    """Return elements in the shape of another array."""
    return np.array(elements, dtype).reshape(like.shape)
