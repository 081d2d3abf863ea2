"""Wrong gradients: GRAD."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, replaced
from seqcore.conformance.mutants.wrong import (
    Twisted,
    WrongBackend,
    twisted,
    wrong_gradients,
)
from seqcore.equations.cell import Cell, rows
from seqcore.equations.gru import GRUResetAfterCell, GRUResetBeforeCell
from seqcore.equations.lstm import LSTMCell
from seqcore.ops import Array, Arrays
from seqcore.runtime.planned_call import Gradients, PlannedCall
from seqcore.spi import Backend, GradientParts, Request

# GRAD-1: call and cotangents.


class _OtherOutputs(Twisted):
    """Runs `vjp` as code of its own that rounds otherwise."""

    def vjp(self, request: Request, *arguments: Any) -> Any:
        y, final, residuals = super().vjp(request, *arguments)
        assert not isinstance(y, tuple)
        return (
            (y * 1.001).astype(y.dtype),
            tuple((h * 1.001).astype(h.dtype) for h in final),
            residuals,
        )


@mutant("GRAD-1", "outputs of vjp that are not those of apply")
def _other_outputs() -> Iterator[Backend]:
    yield WrongBackend(_OtherOutputs())


def _state_unheard(request: Request, d_sequence: Any, d_state: Arrays) -> Any:
    return d_sequence, tuple(np.zeros_like(d) for d in d_state)


def _states_crossed(request: Request, d_sequence: Any, d_state: Arrays) -> Any:
    return d_sequence, d_state[::-1]


twisted(
    "GRAD-1", "a pullback that takes the cotangents of c and h crossed", cotangents=_states_crossed
)
twisted("GRAD-3", "a pullback that ignores the cotangents of states", cotangents=_state_unheard)


def _of_vjp(bend: Any) -> Any:
    """Return a context in which the pullback of every call is bent."""
    honest = PlannedCall.vjp

    def vjp(planned: PlannedCall, prepared: Any) -> Any:
        outputs, pullback = honest(planned, prepared)
        return outputs, bend(planned, pullback)

    return replaced(PlannedCall, "vjp", vjp)


@mutant("GRAD-1", "a pullback that wants a tuple where there is one output")
def _always_tuple() -> Iterator[Backend]:
    def bend(planned: Any, pullback: Any) -> Any:
        def strict(cotangents: Any) -> Any:
            if not isinstance(cotangents, tuple):
                raise TypeError(f"expected a tuple, received {type(cotangents).__name__}")
            return pullback(cotangents[0] if len(cotangents) == 1 else cotangents)

        return strict

    with _of_vjp(bend):
        yield WrongBackend()


# GRAD-2: the result.


def _result(bend: Any) -> Any:
    """Return a context in which the result of every pullback is bent."""

    def around(planned: Any, pullback: Any) -> Any:
        return lambda cotangents: bend(pullback(cotangents))

    return _of_vjp(around)


@mutant("GRAD-2", "gradients of the initial state as c, h")
def _crossed_states() -> Iterator[Backend]:
    with _result(lambda found: found._replace(initial_state=found.initial_state[::-1])):
        yield WrongBackend()


@mutant("GRAD-2", "a plain tuple of gradients")
def _plain() -> Iterator[Backend]:
    with _result(tuple):
        yield WrongBackend()


@mutant("GRAD-2", "a gradient of x with time before batch")
def _time_first() -> Iterator[Backend]:
    with _result(lambda found: found._replace(x=np.swapaxes(found.x, 0, 1))):
        yield WrongBackend()


@mutant("GRAD-2", "a gradient of the kernel transposed")
def _transposed() -> Iterator[Backend]:
    def bend(found: Gradients) -> Gradients:
        turned = {name: v.T if name.endswith("kernel") else v for name, v in found.weights.items()}
        return found._replace(weights=turned)

    with _result(bend):
        yield WrongBackend()


@mutant("GRAD-2", "no gradient of the biases")
def _without_biases() -> Iterator[Backend]:
    def bend(found: Gradients) -> Gradients:
        kept = {name: v for name, v in found.weights.items() if not name.endswith("bias")}
        return found._replace(weights=kept)

    with _result(bend):
        yield WrongBackend()


# GRAD-3: the value.


@wrong_gradients("GRAD-3", "the recurrent kernel's gradient from the new h")
class _NewH(Cell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        late = np.concatenate([previous_h[1:], previous_h[-1:]], 0)
        return super().weight_gradients(x, late, saved, d_pre)


@wrong_gradients("GRAD-3", "gradients of weights without the last step")
class _LastStepMissing(Cell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        _, d_x = super().weight_gradients(x, previous_h, saved, d_pre)
        cut = tuple(np.concatenate([d[:-1], np.zeros_like(d[-1:])], 0) for d in d_pre)
        return super().weight_gradients(x, previous_h, saved, cut)[0], d_x


@wrong_gradients("GRAD-3", "a gradient of the bias averaged over the rows")
class _MeanBias(Cell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        gradients, d_x = super().weight_gradients(x, previous_h, saved, d_pre)
        if "bias" in gradients:
            gradients["bias"] = gradients["bias"] / x.shape[1]
        return gradients, d_x


@wrong_gradients("GRAD-3", "a gradient of the recurrent bias that is the bias's")
class _SameBias(GRUResetAfterCell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        gradients, d_x = super().weight_gradients(x, previous_h, saved, d_pre)
        if "recurrent_bias" in gradients:
            gradients["recurrent_bias"] = gradients["bias"]
        return gradients, d_x


@wrong_gradients("GRAD-3", "a gradient of the candidate's kernel from h without the reset")
class _NoResetInKernel(GRUResetBeforeCell):
    def recurrent_kernel_gradient(
        self, previous_h: Array, saved: Arrays, d_recurrent: Array
    ) -> Array:
        return self.ops.matmul(self.ops.swap(rows(self.ops, previous_h)), d_recurrent)


@wrong_gradients("GRAD-3", "an LSTM's pullback that forgets the path through c")
class _NoPathThroughC(LSTMCell):
    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        d_pre, (d_h, d_c) = super().step_back(d_state, saved, previous)
        return d_pre, (d_h, d_c * 0)


@wrong_gradients("GRAD-3", "a GRU's pullback that forgets the part that stays")
class _NoPathThroughZ(GRUResetAfterCell):
    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        d_pre, (d_before,) = super().step_back(d_state, saved, previous)
        return d_pre, (d_before - d_state[0] * saved[0],)


@wrong_gradients("GRAD-3", "gradients clipped at 1, and so not linear")
class _Clipped(Cell):
    def step_back(self, d_state: Arrays, saved: Arrays, previous: Arrays) -> tuple[Arrays, Arrays]:
        cut = tuple(np.clip(d, -1, 1) for d in d_state)
        # The next class in the order of resolution is a cell's, whose method is not abstract.
        return super().step_back(cut, saved, previous)  # type: ignore[safe-super]


@wrong_gradients("GRAD-3", "back-propagation that ends after 64 steps")
class _Truncated(Cell):
    def weight_gradients(
        self, x: Array, previous_h: Array, saved: Arrays, d_pre: Arrays
    ) -> tuple[dict[str, Array], Array]:
        late = np.arange(len(x))[:, None, None] >= len(x) - 64
        cut = tuple(np.where(late, d, 0).astype(d.dtype) for d in d_pre)
        return super().weight_gradients(x, previous_h, saved, cut)


def _rows_dropped(request: Request, parts: GradientParts) -> GradientParts:
    """Lose the input's gradient of the rows above 16."""
    d_weights, d_x, d_initial = parts
    if len(d_x) > 16:
        d_x = np.concatenate([d_x[:16], np.zeros_like(d_x[16:])], 0)
    return d_weights, d_x, d_initial


twisted("GRAD-3", "a gradient of x of 0 above 16 rows", gradients=_rows_dropped)


def _initial_dropped(request: Request, parts: GradientParts) -> GradientParts:
    return parts[0], parts[1], tuple(np.zeros_like(d) for d in parts[2])


twisted("GRAD-3", "gradients of the initial state of 0", gradients=_initial_dropped)

# GRAD-4: the initial state.


def _absent(given: Any) -> Any:
    """Return a context in which results are bent where no initial state was given."""

    def bend(planned: PlannedCall, pullback: Any) -> Any:
        if planned.inputs.state_given:
            return pullback
        return lambda cotangents: given(pullback(cotangents))

    return _of_vjp(bend)


@mutant("GRAD-4", "no gradient of an initial state that was not given")
def _no_state() -> Iterator[Backend]:
    with _absent(lambda found: found._replace(initial_state=())):
        yield WrongBackend()


@mutant("GRAD-4", "None as the gradient of an initial state that was not given")
def _none_state() -> Iterator[Backend]:
    def bend(found: Gradients) -> Gradients:
        return found._replace(initial_state=(None,) * len(found.initial_state))

    with _absent(bend):
        yield WrongBackend()


@mutant("GRAD-4", "zeros as the gradient of an initial state that was not given")
def _zero_state() -> Iterator[Backend]:
    def bend(found: Gradients) -> Gradients:
        return found._replace(initial_state=tuple(d * 0 for d in found.initial_state))

    with _absent(bend):
        yield WrongBackend()


# GRAD-5: repeated use.


class _Spent(Twisted):
    """Frees what the pullback needs when it is called first."""

    def vjp(self, *arguments: Any) -> Any:
        y, final, residuals = super().vjp(*arguments)
        return y, final, [residuals]

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> Any:
        if not residuals:
            raise RuntimeError("backward through the graph a second time")
        return super().pullback(request, prepared, residuals.pop(), d_sequence, d_state)


class _Eaten(Twisted):
    """Writes into what the pullback keeps."""

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> Any:
        parts = super().pullback(request, prepared, residuals, d_sequence, d_state)
        for gate in residuals[1].gates:
            gate *= 0.5
        return parts


class _Accumulating(Twisted):
    """Adds up the gradients of weights from call to call, as an optimiser's buffers do."""

    def vjp(self, *arguments: Any) -> Any:
        y, final, residuals = super().vjp(*arguments)
        return y, final, (residuals, {})

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> Any:
        inner, total = residuals
        d_weights, *others = super().pullback(request, prepared, inner, d_sequence, d_state)
        for name, value in d_weights.items():
            total[name] = total[name] + value if name in total else value
        return dict(total), *others


class _Stuck(Twisted):
    """Gives the gradients of the first call again."""

    def vjp(self, *arguments: Any) -> Any:
        y, final, residuals = super().vjp(*arguments)
        return y, final, (residuals, [])

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> Any:
        inner, kept = residuals
        if not kept:
            kept.append(super().pullback(request, prepared, inner, d_sequence, d_state))
        return kept[0]


@mutant("GRAD-5", "a pullback that works once")
def _once() -> Iterator[Backend]:
    yield WrongBackend(_Spent())


@mutant("GRAD-5", "a pullback that writes into what it keeps")
def _eats() -> Iterator[Backend]:
    yield WrongBackend(_Eaten())


@mutant("GRAD-5", "a pullback that adds to the gradients of the call before")
def _accumulates() -> Iterator[Backend]:
    yield WrongBackend(_Accumulating())


@mutant("GRAD-5", "a pullback that repeats its first answer")
def _repeats() -> Iterator[Backend]:
    yield WrongBackend(_Stuck())
