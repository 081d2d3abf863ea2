"""Wrong outputs, states and degenerate sizes (clauses OUT, STATE, DEG)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, original, replaced
from seqcore.conformance.mutants.wrong import Call, Given, Twisted, WrongBackend, misread
from seqcore.errors import StateError
from seqcore.ops import Array, Arrays
from seqcore.runtime import nodes, planned_call, planning
from seqcore.spec.layers import LSTM
from seqcore.spec.outputs import state_units
from seqcore.spi import Request


@mutant("OUT-1", "one step of an LSTM is c")
def _one_step_is_c() -> Iterator[WrongBackend]:
    honest = original(planning, "last_step")

    def last_step(layer: Any, ops: Any, dtype: Any, final: Arrays) -> Array:
        return final[-1] if isinstance(layer, LSTM) else honest(layer, ops, dtype, final)

    with replaced(planning, "last_step", last_step):
        yield WrongBackend()


@mutant("OUT-1", "one step has a time axis")
def _one_step_keeps_time() -> Iterator[WrongBackend]:
    honest = original(planning, "last_step")

    def last_step(*arguments: Any) -> Any:
        y = honest(*arguments)
        return tuple(part[:, None] for part in y) if isinstance(y, tuple) else y[:, None]

    with replaced(planning, "last_step", last_step):
        yield WrongBackend()


@mutant("OUT-2", "a sequence shows the state before each step")
def _sequence_is_late() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        first = call[3][0][:, None]
        if request.layer.go_backwards and request.layer.keep_order:  # type: ignore[union-attr]
            return np.concatenate([sequence[:, 1:], first], 1), final
        return np.concatenate([first, sequence[:, :-1]], 1), final

    yield WrongBackend(Twisted(after=after))


@mutant("OUT-2", "a sequence comes time first")
def _time_first() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        return np.ascontiguousarray(np.swapaxes(sequence, 0, 1)), final

    yield WrongBackend(Twisted(after=after))


@mutant("OUT-3", "the state is zero unless sequences are returned")
def _state_follows_a_flag() -> Iterator[WrongBackend]:
    honest = planning.Program._outputs

    def outputs(self: Any, sequence: Any, final: Arrays, mask: Any) -> Arrays:
        found = honest(self, sequence, final, mask)
        if self.return_sequences:
            return found
        count = len(found) - len(final)
        return found[:count] + tuple(value * 0 for value in final)

    with replaced(planning.Program, "_outputs", outputs):
        yield WrongBackend()


@mutant("OUT-3", "the state is that after the first step")
def _state_is_early() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        return sequence, (sequence[:, 0], *final[1:])

    yield WrongBackend(Twisted(after=after))


@mutant("OUT-4", "several outputs are a plain tuple")
def _plain_tuple() -> Iterator[WrongBackend]:
    def pack(names: Any, values: Any) -> Any:
        values = tuple(values)
        return values[0] if len(names) == 1 else values

    with replaced(planned_call, "pack", pack):
        yield WrongBackend()


@mutant("OUT-4", "a single output comes in a tuple")
def _tuple_of_one() -> Iterator[WrongBackend]:
    honest = original(planned_call, "pack")

    def pack(names: Any, values: Any) -> Any:
        return tuple(values) if len(names) == 1 else honest(names, values)

    with replaced(planned_call, "pack", pack):
        yield WrongBackend()


def _renamed(old: str, new: str) -> Iterator[WrongBackend]:
    honest = original(planned_call, "output_names")

    def names(layer: Any) -> tuple[str, ...]:
        return tuple(name.replace(old, new) for name in honest(layer))

    with replaced(planned_call, "output_names", names):
        yield WrongBackend()


@mutant("OUT-5", "the states are called state_h and state_c")
def _state_h() -> Iterator[WrongBackend]:
    honest = original(planned_call, "output_names")

    def names(layer: Any) -> tuple[str, ...]:
        return tuple(f"state_{name}" if name in ("h", "c") else name for name in honest(layer))

    with replaced(planned_call, "output_names", names):
        yield WrongBackend()


@mutant("OUT-5", "the states of a stack are called layer_0_h and so on")
def _layer_0() -> Iterator[WrongBackend]:
    yield from _renamed("layers_", "layer_")


@mutant("STATE-1", "an LSTM returns c before h")
def _c_first() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        return sequence, final[::-1]

    yield WrongBackend(Twisted(after=after))


@mutant("STATE-1", "the backward member's state comes first")
def _backward_state_first() -> Iterator[WrongBackend]:
    honest = nodes.Both.run

    def run(self: Any, *arguments: Any) -> Any:
        y, final = honest(self, *arguments)
        count = len(self.layer.forward.state_names)
        return y, final[count:] + final[:count]

    with replaced(nodes.Both, "run", run):
        yield WrongBackend()


@mutant("STATE-1", "a stack takes its members' states in reverse")
def _states_reversed() -> Iterator[WrongBackend]:
    honest = nodes.Chain.run

    def run(self: Any, prepared: Any, x: Any, mask: Any, state: Arrays) -> Any:
        return honest(self, prepared, x, mask, state[::-1])

    with replaced(nodes.Chain, "run", run):
        yield WrongBackend()


@mutant("STATE-2", "a given state is ignored")
def _no_initial_state() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        return weights, x, mask, tuple(value * 0 for value in state)

    yield WrongBackend(Twisted(before=before))


@mutant("STATE-2", "without a given state every state starts at 1")
def _ones() -> Iterator[WrongBackend]:
    def bend(layer: Any, given: Given) -> Given:
        if given.state is not None:
            return given
        rows, kind = len(given.x), given.dtype()
        return given._replace(state=tuple(np.ones((rows, u), kind) for u in state_units(layer)))

    with misread(bend):
        yield WrongBackend()


@mutant("STATE-2", "a bare state is refused")
def _tuple_only() -> Iterator[WrongBackend]:
    def bend(layer: Any, given: Given) -> Given:
        if given.state is not None and not isinstance(given.state, tuple | list):
            raise StateError(f"{layer}: initial_state is an array, expected a tuple")
        return given

    with misread(bend):
        yield WrongBackend()


@mutant("STATE-3", "each call of an LSTM starts with c at 0")
def _forgets_c() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        return weights, x, mask, (state[0], *(value * 0 for value in state[1:]))

    yield WrongBackend(Twisted(before=before))


@mutant("STATE-3", "the state returned is that before the last step")
def _one_step_behind() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        if sequence.shape[1] < 2:
            return sequence, final
        return sequence, (sequence[:, -2], *final[1:])

    yield WrongBackend(Twisted(after=after))


@mutant("DEG-1", "a batch of 0 gives one row")
def _one_row() -> Iterator[WrongBackend]:
    honest = nodes.Nothing.run

    def run(self: Any, prepared: Any, x: Any, mask: Any, state: Arrays) -> Any:
        if x.shape[0] == 0:
            x = np.zeros((1, *x.shape[1:]), x.dtype)
            state = tuple(np.zeros((1, *value.shape[1:]), value.dtype) for value in state)
        return honest(self, prepared, x, None, state)

    with replaced(nodes.Nothing, "run", run):
        yield WrongBackend()


@mutant("DEG-2", "with no steps the final state is zero")
def _nothing_forgets() -> Iterator[WrongBackend]:
    honest = nodes.Nothing.run

    def run(self: Any, prepared: Any, x: Any, mask: Any, state: Arrays) -> Any:
        return honest(self, prepared, x, mask, tuple(value * 0 for value in state))

    with replaced(nodes.Nothing, "run", run):
        yield WrongBackend()


@mutant("DEG-3", "a single step starts from zeros")
def _single_step_forgets() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        if x.shape[1] == 1:
            state = tuple(value * 0 for value in state)
        return weights, x, mask, state

    yield WrongBackend(Twisted(before=before))


@mutant("DEG-4", "with no steps the state has no gradient")
def _nothing_blocks() -> Iterator[WrongBackend]:
    honest = nodes.Nothing.pullback

    def pullback(self: Any, *arguments: Any) -> Any:
        d_weights, d_x, d_state = honest(self, *arguments)
        return d_weights, d_x, tuple(value * 0 for value in d_state)

    with replaced(nodes.Nothing, "pullback", pullback):
        yield WrongBackend()


@mutant("DEG-4", "without rows the weights' gradients are empty")
def _no_weight_gradients() -> Iterator[WrongBackend]:
    honest = nodes.Nothing.pullback

    def pullback(self: Any, *arguments: Any) -> Any:
        d_weights, d_x, d_state = honest(self, *arguments)
        return {name: value[:0] for name, value in d_weights.items()}, d_x, d_state

    with replaced(nodes.Nothing, "pullback", pullback):
        yield WrongBackend()
