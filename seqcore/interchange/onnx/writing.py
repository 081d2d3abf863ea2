"""A layer as an ONNX graph: one recurrent node a level, in the standard operators.

Between the nodes a sequence has time first, as they take it in every engine.

Source: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import seqcore
from seqcore.interchange.levels import Level
from seqcore.interchange.onnx.description import KEY
from seqcore.interchange.onnx.node import OPERATORS, attributes, tensors
from seqcore.interchange.terms import refuse
from seqcore.spec.layers import AnyLayer, Bidirectional, Recurrent, Stack
from seqcore.spec.outputs import output_names, output_units, state_names, state_units

OPSET = 17
IR_VERSION = 8
"""Versions of 2022, which engines of all the years since take."""

MOST_BYTES = 2**31 - 2**20
_PAST_END = 2**31 - 1
_ALIKE = ("units", "use_bias", "reset_after")
"""What the two directions of one node share, beside the cell."""


def written(layer: AnyLayer, levels: Sequence[Level], *, lengths: bool, initial_state: bool) -> Any:
    """Return the `ModelProto` of a layer.

    Raises:
        ConversionError: if a node cannot hold it, naming the term.
    """
    from onnx import helper

    _check(layer, levels)
    if lengths:  # with them the graph writes zeros at padded steps
        layer = _zero_padded(layer)
    graph = _Writing(layer, levels, lengths, initial_state)
    graph.add()
    model = helper.make_model(
        graph.proto(),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="seqcore",
        producer_version=seqcore.__version__,
    )
    helper.set_model_props(model, {KEY: layer.to_json()})
    return model


def _check(layer: AnyLayer, levels: Sequence[Level]) -> None:
    if levels[0].weights[0]["kernel"].dtype.name == "bfloat16":
        refuse(
            "onnx",
            layer,
            "its weights are bfloat16",
            f"expected what nodes of opset {OPSET} take: float32, float64 or float16; cast them",
        )
    for level in levels:
        for cell, mine in zip(level.cells, level.weights, strict=True):
            named = (cell.activation, getattr(cell, "recurrent_activation", ""))
            if mine["kernel"].dtype == np.float64 and "hard_sigmoid" in named:
                refuse(
                    "onnx",
                    cell,
                    "hard_sigmoid is in float64, and HardSigmoid's alpha of 1/6 a float32",
                    "cast the weights to float32",
                )
    size = sum(
        value.nbytes for level in levels for mine in level.weights for value in mine.values()
    )
    if size > MOST_BYTES:
        refuse(
            "onnx",
            layer,
            f"its weights have {size} bytes",
            f"expected at most {MOST_BYTES}, what one message of protobuf holds; convert the "
            "members one by one",
        )
    for level in levels:
        first, *others = level.cells
        for other in others:
            if type(first) is not type(other):
                refuse("onnx", layer, "one direction is another cell", "expected the same cell")
            for name in _ALIKE:
                if name in first.__struct_fields__ and getattr(first, name) != getattr(other, name):
                    refuse(
                        "onnx",
                        layer,
                        f"the directions differ in {name}",
                        "one node has one for both; expected the same, or convert the directions "
                        "one by one",
                    )


def _zero_padded(layer: AnyLayer) -> AnyLayer:
    """Return a layer with `mask_output="zero"` in what it returns."""
    match layer:
        case Stack(layers=(*inner, last)):
            return layer.replace(layers=(*inner, _zero_padded(last)))
        case Bidirectional(forward=forward, backward=backward):
            both = forward.replace(mask_output="zero"), backward.replace(mask_output="zero")
            return layer.replace(layer=both[0], backward_layer=both[1])
        case _:
            assert isinstance(layer, Recurrent)
            return layer.replace(mask_output="zero")


class _Writing:
    """Adds a layer to a graph, node by node."""

    def __init__(
        self, layer: AnyLayer, levels: Sequence[Level], lengths: bool, initial_state: bool
    ) -> None:
        from onnx import helper

        self._layer, self._levels = layer, levels
        self._lengths, self._given = lengths, initial_state
        kernel = levels[0].weights[0]["kernel"]
        self._kind = helper.np_dtype_to_tensor_dtype(kernel.dtype)
        self._dtype, self._features = kernel.dtype, len(kernel)
        self._nodes: list[Any] = []
        self._tensors: dict[str, NDArray[Any]] = {}

    def proto(self) -> Any:
        """Return the graph."""
        from onnx import TensorProto, helper, numpy_helper

        layer, info = self._layer, helper.make_tensor_value_info
        inputs = [info("x", self._kind, ("batch", "time", self._features))]
        if self._lengths:
            inputs.append(info("lengths", TensorProto.INT64, ("batch",)))
        states = list(zip(state_names(layer), state_units(layer), strict=True))
        if self._given:
            inputs += [info(f"initial_{n}", self._kind, ("batch", units)) for n, units in states]
        steps = ("batch", "time") if layer.return_sequences else ("batch",)
        shapes: list[tuple[Any, ...]] = [(*steps, units) for units in output_units(layer)]
        shapes += [("batch", units) for _, units in states]
        # Not strict: where the layer does not return its state there are no names for it.
        named = zip(output_names(layer), shapes, strict=False)
        outputs = [info(name, self._kind, shape) for name, shape in named]
        nodes = _needed(self._nodes, output_names(layer))
        used = {value for node in nodes for value in node.input}
        held = ((name, value) for name, value in self._tensors.items() if name in used)
        constants = [numpy_helper.from_array(value, name) for name, value in held]
        return helper.make_graph(nodes, "layer", inputs, outputs, constants)

    def add(self) -> None:
        """Add all nodes."""
        from onnx import TensorProto

        y = self._node("Transpose", "x", perm=[1, 0, 2])
        counts = alive = ""
        if self._lengths:
            counts = self._node("Cast", "lengths", to=TensorProto.INT32)
            some = self._node("Greater", "lengths", self._constant(0))
            alive = self._node("Unsqueeze", some, self._constant([1]))
        turned = False  # whether the levels so far return the reverse of what is at hand
        for index, level in enumerate(self._levels):
            prefix = f"layers_{index}_" if len(self._levels) > 1 else ""
            sequence, final = self._level(prefix, level, y, counts, alive, turned)
            turned ^= level.cells[0].go_backwards and not level.cells[0].keep_order
            if index < len(self._levels) - 1:
                y = self._merged(level, sequence)
        if self._layer.return_sequences:
            self._return_sequence(level, sequence, turned)
        else:
            self._return_step(level, final)

    def _level(
        self, prefix: str, level: Level, x: str, counts: str, alive: str, turned: bool
    ) -> tuple[str, str]:
        """Add a node; return its sequence (time, directions, batch, units) and its final h."""
        cells, weights = level.cells, level.weights
        sides = ("forward_", "backward_") if len(cells) == 2 else ("",)
        flipped = turned and len(cells) == 2
        if flipped:
            # What is at hand is in reverse order: the node's reverse direction is the forward cell.
            cells, weights, sides = cells[::-1], weights[::-1], sides[::-1]
        direction = "reverse" if cells[0].go_backwards != turned else "forward"
        arrays = tensors(cells, weights)
        names = {name: self._held(f"{prefix}{name}", value) for name, value in arrays.items()}
        states = cells[0].state_names
        initial = [self._initial(prefix, sides, name) for name in states]
        sequence, *finals = self._several(
            OPERATORS[type(cells[0])],
            1 + len(states),
            x,
            names["W"],
            names["R"],
            names.get("B", ""),
            counts,
            *initial,
            direction="bidirectional" if len(cells) == 2 else direction,
            **attributes(*cells),
        )
        if alive and self._given:
            # ONNX says nothing of rows without a valid step.
            pairs = zip(finals, initial, strict=True)
            finals = [self._node("Where", alive, after, before) for after, before in pairs]
        if self._layer.return_state:
            for name, value in zip(states, finals, strict=True):
                for place, side in enumerate(sides):
                    self._part(value, place, 0, output=f"{prefix}{side}{name}")
        if not flipped:
            return sequence, finals[0]
        back = self._constant([1, 0])
        return self._node("Gather", sequence, back, axis=1), self._node("Gather", finals[0], back)

    def _initial(self, prefix: str, sides: Sequence[str], name: str) -> str:
        """Return an initial state, (directions, batch, units)."""
        if not self._given:
            return ""
        axis = self._constant([0])
        parts = [self._node("Unsqueeze", f"initial_{prefix}{s}{name}", axis) for s in sides]
        return parts[0] if len(parts) == 1 else self._node("Concat", *parts, axis=0)

    def _return_sequence(self, level: Level, sequence: str, turned: bool) -> None:
        if self._lengths:
            zero = self._held("zero", np.zeros((), self._dtype))
            sequence = self._node("Where", self._valid(), sequence, zero)
        values = self._parts(level, sequence, 1)
        if turned:
            bounds = [self._constant([number]) for number in (-1, -_PAST_END, 0, -1)]
            values = [self._node("Slice", value, *bounds) for value in values]
        for name, value in zip(output_names(self._layer), values, strict=False):
            self._node("Transpose", value, output=name, perm=[1, 0, 2])

    def _return_step(self, level: Level, final: str) -> None:
        values = self._parts(level, final, 0)
        for name, value in zip(output_names(self._layer), values, strict=False):
            self._node("Identity", value, output=name)

    def _parts(self, level: Level, value: str, axis: int) -> list[str]:
        """Return the merged output, or both, of a node's output with its axis of directions."""
        if level.merge_mode == "none" and len(level.cells) == 2:
            return [self._part(value, place, axis) for place in range(2)]
        return [self._merged(level, value, axis)]

    def _merged(self, level: Level, value: str, axis: int = 1) -> str:
        if len(level.cells) == 1:
            return self._node("Squeeze", value, self._constant([axis]))
        match level.merge_mode:
            case "sum":
                return self._node("ReduceSum", value, self._constant([axis]), keepdims=0)
            case "mul":
                return self._node("ReduceProd", value, axes=[axis], keepdims=0)
            case "ave":
                return self._node("ReduceMean", value, axes=[axis], keepdims=0)
        # The directions go behind the batch, and then join the units.
        perm = [*range(axis), axis + 1, axis, axis + 2]
        behind = self._node("Transpose", value, perm=perm)
        return self._node("Reshape", behind, self._constant([0] * (axis + 1) + [-1]))

    def _part(self, value: str, place: int, axis: int, **more: Any) -> str:
        """Return one direction."""
        return self._node("Gather", value, self._constant(place), axis=axis, **more)

    def _valid(self) -> str:
        """Return which steps are valid, booleans (time, 1, batch, 1)."""
        time = self._node("Squeeze", self._node("Shape", "x", start=1, end=2))
        steps = self._node("Range", self._constant(0), time, self._constant(1))
        before = self._node("Less", self._node("Unsqueeze", steps, self._constant([1])), "lengths")
        return self._node("Unsqueeze", before, self._constant([1, 3]))

    def _constant(self, numbers: Any) -> str:
        array = np.asarray(numbers, np.int64)
        words = ["int64", *array.ravel(), *array.shape]
        return self._held("_".join(map(str, words)), array)

    def _held(self, name: str, values: NDArray[Any]) -> str:
        self._tensors[name] = values
        return name

    def _node(self, operator: str, *inputs: str, output: str = "", **more: Any) -> str:
        return self._several(operator, 1, *inputs, output=output, **more)[0]

    def _several(
        self, operator: str, count: int, *inputs: str, output: str = "", **more: Any
    ) -> tuple[str, ...]:
        from onnx import helper

        number = len(self._nodes)
        names = [output or f"{operator.lower()}_{number}_{index}" for index in range(count)]
        self._nodes.append(helper.make_node(operator, inputs, names, **more))
        return tuple(names)


def _needed(nodes: Sequence[Any], outputs: Iterable[str]) -> list[Any]:
    """Return the nodes that the outputs depend on."""
    wanted, needed = set(outputs), []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.output):
            needed.append(node)
            wanted.update(node.input)
    return needed[::-1]
