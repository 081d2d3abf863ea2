"""A whole layer as a graph of ONNX's recurrent operators: stacks, directions, merges, masks.

Between the operators a sequence has time first, each row's valid steps before all others, and its
steps in the order of the input. A member that returns processing order turns nothing round: the
members after it read in the other direction, and the output is turned at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnx import TensorProto
from seqcore.spec.layers import AnyLayer, Bidirectional, Stack
from seqcore.spec.outputs import output_names, output_units, state_names, state_units
from seqcore.spec.weights import cells, extract, parts
from seqcore.spi.request import MaskKind

from seqcore_onnxruntime.forms import Form, Weights
from seqcore_onnxruntime.graph import KINDS, PAST_END, Graph, Shape
from seqcore_onnxruntime.lengths import Lengths
from seqcore_onnxruntime.tame import MOST


def lower(
    layer: AnyLayer,
    weights: Weights,
    form: Form,
    mask: MaskKind,
    *,
    initial_state: bool = True,
    zeros: bool = False,
    guarded: bool = False,
) -> Graph:
    """Return a layer as a graph.

    Its inputs are `x` (batch, time, features) and, each (batch, units), `initial_h` and so on. With
    a mask there is `lengths` (batch,) and, where holes are possible, the indices that
    `seqcore_onnxruntime.masks` makes. Its outputs have the names of the output contract.

    Args:
        layer: The layer; its return flags say what is returned.
        weights: Its canonical weights.
        form: How its cells are written.
        mask: Which masks it takes.
        initial_state: Whether the initial state is an input; else it is zeros.
        zeros: Whether the graph writes the zeros of `mask_output="zero"`, for a mask without
            holes; else a masked step holds any finite number.
        guarded: Whether there is one more output, the last: whether the valid steps of x and the
            initial state are tame (`seqcore_onnxruntime.tame`).
    """
    lowering = _Lowering(layer, weights, form, mask, zeros)
    lowering.add(initial_state=initial_state, guarded=guarded)
    return lowering.graph


@dataclass(frozen=True, slots=True)
class _Run:
    """One cell's run over a sequence.

    Attributes:
        sequence: `h` after every valid step, (time, batch, units).
        initial: `h` before, (batch, units).
        final: The state after, each (batch, units).
        reverse: Whether it went from the last step to the first.
    """

    sequence: str
    initial: str
    final: tuple[str, ...]
    reverse: bool


class _Lowering:
    """Adds a layer to a graph of its own."""

    def __init__(
        self, layer: AnyLayer, weights: Weights, form: Form, mask: MaskKind, zeros: bool
    ) -> None:
        self.graph = graph = Graph()
        self._layer, self._weights, self._form = layer, weights, form
        self._mask, self._zeros = mask, zeros
        self._kind = KINDS[form.dtype]
        first, _, _ = next(cells(layer, 1))
        features = weights[f"{first}kernel"].shape[0]
        self._x = graph.input("x", self._kind, ("batch", "time", features))
        self._lengths: Lengths | None = None
        if mask != "none":
            name = graph.input("lengths", TensorProto.INT64, ("batch",))
            self._lengths = Lengths(graph, name, self._x)
        self._turned = False  # whether the members so far return the reverse of what is at hand

    def add(self, *, initial_state: bool, guarded: bool) -> None:
        """Add everything, with the initial state an input or zeros."""
        layer, sequence = self._layer, self._time_first()
        initial = self._given_states() if initial_state else self._zero_states()
        states = iter(initial)
        if guarded and self._lengths is not None:  # what is masked may be anything
            zero = self.graph.constant(0, self._kind)
            sequence = self.graph.node("Where", self._lengths.valid, sequence, zero)
        tame = self._tame([sequence, *initial]) if guarded else None
        *inner, (prefix, last) = parts(layer) if isinstance(layer, Stack) else (("", layer),)
        final: tuple[str, ...] = ()
        for name, member in inner:
            runs = self._member(name, member, sequence, states)
            final += tuple(state for run in runs for state in run.final)
            (sequence,) = self._merged(member, [run.sequence for run in runs])
        runs = self._member(prefix, last, sequence, states)
        final += tuple(state for run in runs for state in run.final)
        steps: Shape = ("batch",)
        if layer.return_sequences:
            ys, steps = self._sequences(last, runs), ("batch", "time")
        else:
            ys = self._merged(last, [run.final[0] for run in runs])
        shapes: list[Shape] = [(*steps, units) for units in output_units(layer)]
        shapes += [("batch", units) for units in state_units(layer)]
        # Not strict: where the layer does not return its state there are no names for it.
        for name, value, shape in zip(output_names(layer), (*ys, *final), shapes, strict=False):
            self.graph.output(name, value, self._kind, shape)
        if tame is not None:
            self.graph.output("tame", tame, TensorProto.BOOL, ())

    def _tame(self, values: list[str]) -> str:
        graph = self.graph
        squares = [graph.node("ReduceSumSquare", value, keepdims=0) for value in values]
        total = graph.node("Sum", *squares)
        return graph.node("Less", total, graph.constant(MOST, self._kind))

    def _given_states(self) -> list[str]:
        return [
            self.graph.input(f"initial_{name}", self._kind, ("batch", units))
            for name, units in zip(state_names(self._layer), state_units(self._layer), strict=True)
        ]

    def _zero_states(self) -> list[str]:
        graph, zero = self.graph, self.graph.constant(0, self._kind)
        batch = graph.node("Shape", self._x, start=0, end=1)
        sizes = (graph.constant([units]) for units in state_units(self._layer))
        shapes = (graph.node("Concat", batch, size, axis=0) for size in sizes)
        return [graph.node("Expand", zero, shape) for shape in shapes]

    def _time_first(self) -> str:
        """Return x, (time, batch, features), each row's valid steps before all others."""
        graph = self.graph
        if self._mask != "any":
            return graph.node("Transpose", self._x, perm=[1, 0, 2])
        order = graph.input("order", TensorProto.INT64, ("time", "batch"))
        return graph.node("Gather", graph.node("Flatten", self._x, axis=2), order, axis=0)

    def _member(
        self, prefix: str, member: AnyLayer, sequence: str, states: Iterator[str]
    ) -> list[_Run]:
        """Add the one or two cells of a member."""
        runs, turns = [], False
        for name, cell, _ in cells(member, 1):
            initial = tuple(next(states) for _ in cell.state_names)
            backwards = cell.go_backwards or name == "backward."
            reverse = backwards != self._turned
            turns = cell.go_backwards and not cell.keep_order
            y, final = self._form.cell(
                self.graph,
                cell,
                extract(self._weights, prefix + name),
                prefix + name,
                sequence,
                initial,
                reverse=reverse,
                lengths=self._lengths,
            )
            runs.append(_Run(y, initial[0], final, reverse))
        self._turned ^= turns
        return runs

    def _merged(self, member: AnyLayer, values: list[str]) -> list[str]:
        """Return the outputs of a member's cells merged, sequences or single steps alike."""
        if not isinstance(member, Bidirectional):
            return values
        graph = self.graph
        match member.merge_mode:
            case "none":
                return values
            case "concat":
                return [graph.node("Concat", *values, axis=-1)]
            case "sum":
                merged = graph.node("Add", *values)
            case "mul":
                merged = graph.node("Mul", *values)
            case _:
                total, half = graph.node("Add", *values), graph.constant(0.5, self._kind)
                merged = graph.node("Mul", total, half)
        return [self._form.rounded(graph, merged)]

    def _sequences(self, member: AnyLayer, runs: list[_Run]) -> list[str]:
        """Return the sequences that the last member returns, each (batch, time, units)."""
        graph, lengths, holes = self.graph, self._lengths, self._mask == "any"
        _, cell, _ = next(cells(member, 1))
        if lengths is not None and cell.mask_output == "carry":
            values = self._merged(member, [self._carried(run, lengths) for run in runs])
        else:
            values = self._merged(member, [run.sequence for run in runs])
            if lengths is not None and self._zeros:
                zero = graph.constant(0, self._kind)
                values = [graph.node("Where", lengths.valid, value, zero) for value in values]
            if holes:
                values = [self._taken(value, "places") for value in values]
        if not holes:
            values = [graph.node("Transpose", value, perm=[1, 0, 2]) for value in values]
        if self._turned:
            bounds = [graph.constant([number]) for number in (-1, -PAST_END, 1, -1)]
            values = [graph.node("Slice", value, *bounds) for value in values]
        return values

    def _carried(self, run: _Run, lengths: Lengths) -> str:
        """Return a sequence that holds the state of the step before at masked steps.

        It has time first, or batch first where there may be holes.
        """
        graph = self.graph
        if self._mask == "any":
            initial = graph.node("Unsqueeze", run.initial, graph.constant([0]))
            states = graph.node("Concat", run.sequence, initial, axis=0)
            return self._taken(states, "places_behind" if run.reverse else "places_ahead")
        # Masked steps come after all valid ones, or before them.
        held = run.initial if run.reverse else run.final[0]
        return graph.node("Where", lengths.valid, run.sequence, held)

    def _taken(self, sequence: str, places: str) -> str:
        """Return the steps of a sequence (time, batch, units) at places (batch, time)."""
        graph = self.graph
        indices = graph.input(places, TensorProto.INT64, ("batch", "time"))
        return graph.node("Gather", graph.node("Flatten", sequence, axis=2), indices, axis=0)
