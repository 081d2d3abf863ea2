"""Wrong directions, merges and stacks (clauses BI, BACK, STACK)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, original, replaced
from seqcore.conformance.mutants.wrong import Call, Twisted, WrongBackend
from seqcore.ops import Array, Arrays
from seqcore.runtime import nodes, planned_call, planning
from seqcore.spec.layers import Bidirectional, Recurrent, Stack
from seqcore.spec.weights import extract
from seqcore.spi import Request


@mutant("BI-1", "the backward member has the forward member's weights")
def _shared_weights() -> Iterator[WrongBackend]:
    def prepare(self: Any, weights: Any) -> Any:
        forward = extract(weights, "forward.")
        return self.forward.prepare(forward), self.backward.prepare(forward)

    with replaced(nodes.Both, "prepare", prepare):
        yield WrongBackend()


def _backward_bent(bend: Callable[[Any, Any, Any, Arrays], Any]) -> Iterator[WrongBackend]:
    """Run the backward member of a bidirectional layer in another way."""

    def run(self: Any, prepared: Any, x: Any, mask: Any, state: Arrays) -> Any:
        ahead, behind = nodes.split_state(self.layer, state)
        forward_y, forward_state = self.forward.run(prepared[0], x, mask, ahead)

        def member(x: Any, mask: Any) -> Any:
            return self.backward.run(prepared[1], x, mask, behind)

        backward_y, backward_state = bend(member, x, mask, behind)
        y = nodes.merge(self.layer.merge_mode, self.ops, self.dtype, forward_y, backward_y)
        return y, forward_state + backward_state

    with replaced(nodes.Both, "run", run):
        yield WrongBackend()


@mutant("BI-2", "the backward member's output is left in processing order")
def _unaligned() -> Iterator[WrongBackend]:
    def bend(member: Any, x: Any, mask: Any, state: Arrays) -> Any:
        y, final = member(x, mask)
        return y[:, ::-1], final

    yield from _backward_bent(bend)


@mutant("BI-2", "the backward member reads forwards")
def _both_forwards() -> Iterator[WrongBackend]:
    def bend(member: Any, x: Any, mask: Any, state: Arrays) -> Any:
        y, final = member(x[:, ::-1], None if mask is None else mask[:, ::-1])
        return y[:, ::-1], final

    yield from _backward_bent(bend)


@mutant("BI-2", "the backward member reads the mask forwards")
def _mask_forwards() -> Iterator[WrongBackend]:
    def bend(member: Any, x: Any, mask: Any, state: Arrays) -> Any:
        return member(np.nan_to_num(x), None if mask is None else mask[:, ::-1])

    yield from _backward_bent(bend)


@mutant("BI-3", "one step is the last of the merged sequence")
def _last_of_merged() -> Iterator[WrongBackend]:
    honest = planning.Program._outputs

    def outputs(self: Any, sequence: Any, final: Arrays, mask: Any) -> Arrays:
        if self.return_sequences or not isinstance(self.layer, Bidirectional):
            return honest(self, sequence, final, mask)
        ys = sequence if isinstance(sequence, tuple) else (sequence,)
        return (*(y[:, -1] for y in ys), *final)

    with replaced(planning.Program, "_outputs", outputs):
        yield WrongBackend()


def _merging(bend: Callable[[Any, Any, Any], Any]) -> Iterator[WrongBackend]:
    honest = original(nodes, "merge")

    def merge(mode: Any, ops: Any, dtype: Any, forward_y: Any, backward_y: Any) -> Array:
        bent = bend(mode, forward_y, backward_y)
        return honest(mode, ops, dtype, forward_y, backward_y) if bent is None else bent

    with replaced(nodes, "merge", merge):
        yield WrongBackend()


@mutant("BI-4", "concat puts the backward half first")
def _backward_half_first() -> Iterator[WrongBackend]:
    yield from _merging(lambda mode, f, b: np.concatenate([b, f], -1) if mode == "concat" else None)


@mutant("BI-4", "ave is the sum")
def _ave_is_sum() -> Iterator[WrongBackend]:
    yield from _merging(lambda mode, f, b: f + b if mode == "ave" else None)


@mutant("BI-4", "mul is the sum")
def _mul_is_sum() -> Iterator[WrongBackend]:
    yield from _merging(lambda mode, f, b: f + b if mode == "mul" else None)


@mutant("BI-4", "none gives the backward output first")
def _none_reversed() -> Iterator[WrongBackend]:
    yield from _merging(lambda mode, f, b: (b, f) if mode == "none" else None)


def _is_backwards(request: Request) -> bool:
    return isinstance(request.layer, Recurrent) and request.layer.go_backwards


@mutant("BACK-1", "go_backwards returns original time")
def _original_time() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        cell = request.layer
        assert isinstance(cell, Recurrent)
        turned = cell.go_backwards and not cell.keep_order
        return (sequence[:, ::-1] if turned else sequence), final

    yield WrongBackend(Twisted(after=after))


@mutant("BACK-1", "go_backwards reads the mask forwards")
def _backwards_mask() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        if mask is not None and _is_backwards(request):
            mask = mask[:, ::-1]
        return weights, x, mask, state

    yield WrongBackend(Twisted(before=before))


@mutant("BACK-2", "keep_order is ignored")
def _order_not_kept() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        kept = request.layer.keep_order  # type: ignore[union-attr]
        return (sequence[:, ::-1] if kept else sequence), final

    yield WrongBackend(Twisted(after=after))


@mutant("BACK-3", "read backwards, lengths count from the end")
def _lengths_from_the_end() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        weights, x, mask, state = call
        if mask is not None and request.mask == "lengths" and _is_backwards(request):
            mask = mask[:, ::-1]
        return weights, x, mask, state

    yield WrongBackend(Twisted(before=before))


@mutant("BACK-3", "read backwards, the state is that after the input's last step")
def _state_of_the_last_step() -> Iterator[WrongBackend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        cell = request.layer
        assert isinstance(cell, Recurrent)
        if not cell.go_backwards:
            return sequence, final
        place = -1 if cell.keep_order else 0
        return sequence, (sequence[:, place], *final[1:])

    yield WrongBackend(Twisted(after=after))


def _chained(bend: Callable[[int, Any, Arrays], tuple[Any, Arrays]]) -> Iterator[WrongBackend]:
    """Change what each member of a stack gets."""

    def run(self: Any, prepared: Any, x: Any, mask: Any, state: Arrays) -> Any:
        final: Arrays = ()
        states = nodes.split_state(self.layer, state)
        for index, (node, ready, member, mine) in enumerate(self._each(prepared, states)):
            x, mine = bend(index, x, mine)
            x, after = node.run(ready, x, mask, mine)
            mask = nodes.passed_on(member, self.ops, mask)
            final += after
        return x, final

    with replaced(nodes.Chain, "run", run):
        yield WrongBackend()


@mutant("STACK-1", "members after the first read the sequence one step late")
def _late_members() -> Iterator[WrongBackend]:
    yield from _chained(lambda index, x, state: (np.roll(x, 1, 1) if index else x, state))


@mutant("STACK-1", "members after the first start from the state of zeros")
def _inner_state() -> Iterator[WrongBackend]:
    yield from _chained(
        lambda index, x, state: (x, tuple(v * 0 for v in state) if index else state)
    )


@mutant("STACK-2", "any member may return one step")
def _any_member() -> Iterator[WrongBackend]:
    with replaced(Stack, "_check_member", lambda *_: None):
        yield WrongBackend()


@mutant("STACK-3", "the last member's own flag decides")
def _members_flag() -> Iterator[WrongBackend]:
    honest = original(planning, "make_program")

    def make(backend: Any, layer: Any, request: Request, implementation: Any) -> Any:
        if isinstance(layer, Stack) and not layer.layers[-1].return_sequences:
            layer = layer.replace(return_sequences=False)
        return honest(backend, layer, request, implementation)

    with replaced(planned_call, "make_program", make):
        yield WrongBackend()


@mutant("STACK-4", "the mask is not reversed after go_backwards")
def _unreversed_mask() -> Iterator[WrongBackend]:
    def passed_on(layer: Any, ops: Any, mask: Any) -> Any:
        return mask

    with replaced(nodes, "passed_on", passed_on):
        yield WrongBackend()
