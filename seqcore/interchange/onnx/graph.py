"""An ONNX graph read as recurrent nodes and rearrangements; nothing of it is run.

Every value is followed from the inputs and the constants on as `seqcore.interchange.onnx.values`
describes it. What computes something other than a recurrent node, or a merge of two directions,
makes a `Computed` value, and it is an error if that reaches a recurrent node or an output.

Source: https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.levels import Weights
from seqcore.interchange.onnx import values
from seqcore.interchange.onnx.node import CELLS, cells_of, directions
from seqcore.interchange.onnx.operators import OPERATORS, Call, is_zero, names_of, stored
from seqcore.interchange.onnx.tensor import DTYPES, kind_named
from seqcore.interchange.onnx.values import (
    JOINED,
    ONE,
    PIECES,
    ROWS,
    UNITS,
    Computed,
    Constant,
    Given,
    Marks,
    Output,
    Piece,
    Source,
    Tensor,
    Value,
    Zeros,
)
from seqcore.spec.layers import LSTM, AnyCell

FIRST_OPSET = 7
"""The operators of 2017; those before mean other things by the same names."""

_INTEGERS = {"INT32", "INT64"}
_STATES = ("h", "c")
_FLOATS = {"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"}
_KNOWN = {*CELLS, *OPERATORS}

_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("activation_alpha", "activation_beta", "value_floats"), "FLOATS"),
    **dict.fromkeys(("activations",), "STRINGS"),
    **dict.fromkeys(("axes", "ends", "perm", "split", "starts", "value_ints"), "INTS"),
    **dict.fromkeys(("clip", "value_float"), "FLOAT"),
    **dict.fromkeys(("direction",), "STRING"),
    **dict.fromkeys(("value",), "TENSOR"),
    **dict.fromkeys(
        (
            "allowzero",
            "axis",
            "end",
            "hidden_size",
            "input_forget",
            "keepdims",
            "layout",
            "linear_before_reset",
            "output_sequence",
            "start",
            "to",
            "value_int",
        ),
        "INT",
    ),
}
"""The type of every attribute that is looked at."""


@dataclass(frozen=True, slots=True)
class Node:
    """A recurrent node.

    Attributes:
        subject: What it is called in messages.
        cells: The cell of each direction, with its weights.
        reverse: Whether each reads from the last step of the graph's input to the first.
        pieces: What it reads.
        masked: Whether it takes lengths.
        initial: The names of the values that are the initial h and, of an LSTM, c; `""` for zeros.
    """

    subject: str
    cells: tuple[tuple[AnyCell, Weights], ...]
    reverse: tuple[bool, ...]
    pieces: tuple[Piece, ...]
    masked: bool
    initial: tuple[str, ...]


@dataclass(slots=True)
class Graph:
    """What was read.

    Attributes:
        nodes: The recurrent nodes, in order.
        outputs: The graph's outputs by name.
        x: The name of the input sequence.
        axes: What each of its axes is: `"batch"`, `"time"`, `"features"`.
        fixed: The sizes that its axes are declared to have.
        lengths: The name of the input that has the lengths, None if none has.
        states: The names of the inputs that have initial states.
        time: The name of the axis of time; reversed, it has a minus before it.
        batch: The name of the axis of the batch.
    """

    nodes: list[Node] = field(default_factory=list)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    x: str = ""
    axes: tuple[str, ...] = ()
    fixed: dict[str, int] = field(default_factory=dict)
    lengths: str | None = None
    states: list[str] = field(default_factory=list)
    time: str = ""
    batch: str = ""


def read(model: Any) -> Graph:
    """Return what a `ModelProto` holds.

    Raises:
        ConversionError: if that is more than recurrent nodes and rearrangements, naming it.
    """
    return _Reader(model).read()


def short(name: str) -> str:
    """Return a name from a file for a message, which may be of any length."""
    return repr(name if len(name) <= 60 else f"{name[:57]}...")


class _Reader:
    """Follows the values of one graph."""

    def __init__(self, model: Any) -> None:
        self._proto = model.graph
        _check_opset(model)
        self._graph = Graph()
        self._known: dict[str, int] = {}  # sizes of axes of inputs
        self._values: dict[str, Value] = {}
        self._unsqueezed: dict[str, str] = {}  # what each result of an Unsqueeze was before
        self._stored = {tensor.name: tensor for tensor in self._proto.initializer}
        # What is folded costs no more memory and time than a few copies of the whole model.
        self._budget = 16 * model.ByteSize() + 2**20

    def read(self) -> Graph:
        for sparse in self._proto.sparse_initializer:
            name = sparse.values.name
            self._values[name] = Computed(f"the sparse tensor {short(name)}")
        for info in self._proto.input:
            if info.name not in self._stored:
                self._values[info.name] = self._input(info)
        for number, proto in self._needed():
            self._node(number, proto)
        if not self._graph.nodes:
            self._nothing()
        for info in self._proto.output:
            self._graph.outputs[info.name] = self._output(info.name)
        if not self._graph.outputs:
            raise ConversionError("from onnx: the graph has no outputs; the file is damaged")
        return self._graph

    def _needed(self) -> list[tuple[int, Any]]:
        """Return the nodes that the outputs depend on, with their numbers."""
        wanted = {info.name for info in self._proto.output}
        needed = []
        for number, proto in reversed(list(enumerate(self._proto.node))):
            if not wanted.isdisjoint(proto.output):
                needed.append((number, proto))
                wanted.update(filter(None, proto.input))
        return needed[::-1]

    def _nothing(self) -> None:
        types = dict.fromkeys(short(proto.op_type) for _, proto in self._needed())
        loops = [name for name in types if name in ("'If'", "'Loop'", "'Scan'")]
        if loops:
            raise ConversionError(
                f"from onnx: the graph holds {', '.join(loops)}, in which a recurrent layer may "
                "be, step by step, and no RNN, GRU or LSTM node; export it with an exporter that "
                "writes these, or convert the model that it was made of"
            )
        raise ConversionError(
            f"from onnx: the graph holds {', '.join(list(types)[:8]) or 'no nodes'}, expected RNN, "
            "GRU or LSTM nodes"
        )

    def _input(self, info: Any) -> Value:
        tensor = info.type.tensor_type
        if not info.type.HasField("tensor_type") or not tensor.HasField("shape"):
            return Computed(f"the input {short(info.name)}, which has no declared shape")
        kind, rank = kind_named(tensor.elem_type), len(tensor.shape.dim)
        if kind in _INTEGERS and rank == 1:
            return Marks("lengths", (ROWS,), info.name)
        if kind not in _FLOATS or rank > 4:
            return Computed(f"the input {short(info.name)}, {kind} with {rank} axes,")
        axes = tuple(values.axis_of(info.name, index) for index in range(rank))
        for axis, dim in zip(axes, tensor.shape.dim, strict=True):
            if dim.dim_value > 0:
                self._known[axis] = dim.dim_value
        return Tensor((Source(info.name, tensor.elem_type),), axes)

    def _output(self, name: str) -> Tensor:
        value = self._value(name)
        if isinstance(value, Tensor) and values.outputs(value):
            return value
        raise ConversionError(
            f"from onnx: the output {short(name)} is {_described(value)}, which the layer would "
            "lose; expected what RNN, GRU and LSTM nodes return, rearranged at most. Cut the graph "
            "there with onnx.utils.extract_model"
        )

    def _value(self, name: str) -> Value:
        if name not in self._values:
            if name not in self._stored:
                raise ConversionError(
                    f"from onnx: {short(name)} is read before any node makes it; expected nodes in "
                    "order, without a cycle"
                )
            self._values[name] = stored(f"the tensor {short(name)}", self._stored[name])
        return self._values[name]

    def _node(self, number: int, proto: Any) -> None:
        name = f", {short(proto.name)}" if proto.name else ""
        subject = f"{proto.op_type[:40]} (node {number}{name})"
        inputs = [self._value(name) if name else None for name in proto.input]
        known = proto.op_type in _KNOWN and proto.domain in ("", "ai.onnx")
        made: Sequence[Value] | Value | None = None
        if known:
            attributes = _attributes(subject, proto)
            if proto.op_type in CELLS:
                made = self._recurrent(subject, proto, attributes, inputs)
            else:
                call = Call(subject, self._known, attributes, inputs, len(proto.output))
                made = self._where(call, proto) or OPERATORS[proto.op_type](call)
        if made is None:
            made = next((v for v in inputs if isinstance(v, Computed)), Computed(subject))
        several = made if isinstance(made, list | tuple) else [made] * len(proto.output)
        for name, value in zip(proto.output, several, strict=False):
            if name in self._values or name in self._stored:
                raise ConversionError(
                    f"from onnx: {subject} makes {short(name)}, which is there already; the file "
                    "is damaged"
                )
            if name:
                self._values[name] = self._paid(value)
        if proto.op_type == "Unsqueeze" and known and proto.input:
            self._unsqueezed[proto.output[0]] = proto.input[0]

    def _paid(self, value: Value) -> Value:
        if isinstance(value, Constant):
            self._pay(value.array.nbytes)
        return value

    def _pay(self, size: int) -> None:
        self._budget -= size
        if self._budget < 0:
            raise ConversionError(
                "from onnx: the graph makes more of its constants than 16 times what the file "
                "holds; fold them with the exporter"
            )

    # --- recurrent nodes -------------------------------------------------------------------------

    def _recurrent(
        self,
        subject: str,
        proto: Any,
        attributes: Mapping[str, Any],
        inputs: Sequence[Value | None],
    ) -> list[Value]:
        subject, operator = f"from onnx: {subject}", proto.op_type
        names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
        given = {n: v for n, v in zip(names, inputs, strict=False) if v is not None}
        arrays = {
            name: self._array(subject, name, given.get(name))
            for name in ("W", "R", "B", "P")
            if name in given or name in "WR"
        }
        self._pay(sum(value.nbytes for value in arrays.values()))  # each node's are copied
        reverse = directions(subject, attributes)
        cells = cells_of(subject, operator, attributes, arrays)
        features, kind = arrays["W"].shape[-1], arrays["W"].dtype.name
        x = given.get("X")
        if not isinstance(x, Tensor):
            raise ConversionError(
                f"{subject}: reads {_described(x)}, which the layer would lose; expected the "
                "graph's input or what another RNN, GRU or LSTM returns. Cut the graph there with "
                "onnx.utils.extract_model"
            )
        batch_first = bool(attributes.get("layout", 0))
        time, batch = self._oriented(subject, x, batch_first, features, kind)
        masked = self._lengths(subject, given.get("sequence_lens"))
        if masked and time.startswith("-"):
            raise ConversionError(
                f"{subject}: reads the steps in reverse order, the padding first, and takes "
                "lengths; expected the order of the input, and direction='reverse'"
            )
        states = _STATES if CELLS[operator] is LSTM else _STATES[:1]
        places = [names.index(f"initial_{name}") for name in states]
        initial = [
            proto.input[place]
            if self._starts(subject, names[place], given.get(names[place]))
            else ""
            for place in places
        ]
        number, units = len(self._graph.nodes), cells[0][0].units
        turned = time.startswith("-")
        read = tuple(one != turned for one in reverse)
        self._graph.nodes.append(Node(subject, cells, read, x.pieces, masked, tuple(initial)))

        def made(name: str, *axes: str) -> Tensor:
            each = range(len(cells))
            pieces = (Output(number, index, name, units, x.pieces[0].kind) for index in each)
            return Tensor(tuple(pieces), axes)

        side = PIECES if len(cells) == 2 else ONE
        if batch_first:
            y = made("y", batch, time, side, UNITS)
            return [y, *(made(name, batch, side, UNITS) for name in states)]
        y = made("y", time, side, batch, UNITS)
        return [y, *(made(name, side, batch, UNITS) for name in states)]

    def _array(self, subject: str, name: str, value: Value | None) -> NDArray[Any]:
        if not isinstance(value, Constant):
            raise ConversionError(
                f"{subject}: {name} is {_described(value)}, expected an initializer or a Constant, "
                "transposed at most"
            )
        return value.array

    def _oriented(
        self, subject: str, x: Tensor, batch_first: bool, features: int, kind: str
    ) -> tuple[str, str]:
        """Return the axes of time and batch of what a node reads."""
        if len(x.axes) != 3:
            raise ConversionError(
                f"{subject}: reads something with {len(x.axes)} axes, expected 3: time, batch and "
                "features"
            )
        time, batch = x.axes[:2] if not batch_first else x.axes[1::-1]
        graph, last = self._graph, x.axes[2]
        if isinstance(x.pieces[0], Source):
            self._begins(subject, x.pieces[0], (time.removeprefix("-"), batch, last), kind)
            found: int | str = self._known.get(last, features)
        else:
            found = values.size_of(x, last, {}) if last in (UNITS, JOINED) else 0
        if (time.removeprefix("-"), batch) != (graph.time, graph.batch):
            raise ConversionError(
                f"{subject}: reads time and batch along other axes than the first node; layers "
                "have the same for all"
            )
        if found != features:
            raise ConversionError(
                f"{subject}: W is for {features} features, and what it reads has {found}; expected "
                "the same"
            )
        return time, batch

    def _begins(self, subject: str, source: Source, axes: tuple[str, str, str], kind: str) -> None:
        """Take an input as x, with these axes for time, batch and features."""
        graph, own_kind = self._graph, DTYPES[kind_named(source.kind)].name
        if own_kind != kind:
            raise ConversionError(
                f"{subject}: W is {kind} and the input {short(source.name)} {own_kind}, expected "
                "the same"
            )
        own = [values.axis_of(source.name, index) for index in range(3)]
        if sorted(axes) != sorted(own):
            raise ConversionError(
                f"{subject}: reads the input {short(source.name)}, which has not three axes, "
                "or not in their order but for transposing; expected time, batch and features"
            )
        if not graph.x:
            graph.x, (graph.time, graph.batch, _) = source.name, axes
            words = dict(zip(axes, ("time", "batch", "features"), strict=True))
            graph.axes = tuple(words[axis] for axis in own)
            graph.fixed = {words[axis]: self._known[axis] for axis in own if axis in self._known}
        elif graph.x != source.name:
            raise ConversionError(
                f"{subject}: reads the input {short(source.name)} and another node "
                f"{short(graph.x)}, expected one input for all; cut the graph with "
                "onnx.utils.extract_model"
            )

    def _lengths(self, subject: str, value: Value | None) -> bool:
        graph = self._graph
        if value is None:
            name = None
        elif isinstance(value, Marks) and value.meaning == "lengths" and value.axes == (ROWS,):
            name = value.name
        else:
            raise ConversionError(
                f"{subject}: sequence_lens is {_described(value)}, expected an input of the graph; "
                "layers take lengths with each call"
            )
        if graph.nodes and graph.lengths != name:
            raise ConversionError(
                f"{subject}: sequence_lens is {name and short(name)}, and that of the first node "
                f"{graph.lengths and short(graph.lengths)}; layers have one for all"
            )
        graph.lengths = name
        return name is not None

    def _starts(self, subject: str, name: str, value: Value | None) -> bool:
        """Return whether an initial state is given by inputs of the graph; else it is zeros."""
        instead = "layers start from zeros, or from the initial_state of the call"
        if value is None or is_zero(value):
            return False
        if isinstance(value, Constant):
            most = np.abs(value.array.astype(np.float64)).max()
            raise ConversionError(
                f"{subject}: {name} is a constant of up to {most:.3g}; {instead}. Make it an input "
                "of the graph, and give it as initial_state"
            )
        sources = names_of(value)
        if sources is None or self._graph.x in sources:
            raise ConversionError(f"{subject}: {name} is {_described(value)}; {instead}")
        self._graph.states += sorted(sources - set(self._graph.states))
        return True

    # --- what is invalid -------------------------------------------------------------------------

    def _where(self, call: Call, proto: Any) -> Value | None:
        """Return what a `Where` makes of outputs, at steps and in rows that are not valid."""
        mark, kept, other = (call.input(index) for index in range(3))
        if proto.op_type != "Where" or not isinstance(mark, Marks) or not isinstance(kept, Tensor):
            return None
        if other is None:
            return None
        held = values.outputs(kept)
        nodes = {output.node for output in held}
        if not held or mark.name != self._graph.lengths or not self._aligned(mark, kept):
            return None
        if mark.meaning == "alive" and len(nodes) == 1:
            # Rows without a valid step: ONNX says nothing of them.
            before = self._initial_of(held, kept)
            return kept if before is not None and self._same(before, proto.input[2]) else None
        if mark.meaning != "valid" or any(output.name != "y" for output in held):
            return None
        if isinstance(other, Constant) and other.array.size == 1 and is_zero(other):
            # As engines do by themselves.
            return kept if other.array.ndim <= len(kept.axes) else None
        return self._carried(kept, other, proto.input[2])

    def _carried(self, kept: Tensor, other: Value | None, name: str) -> Value | None:
        """Return outputs that hold the state at steps that are not valid."""
        batch = self._graph.batch
        if kept.axes != (self._graph.time, batch, UNITS):
            return None
        match kept.pieces:
            case (Output(node=node, direction=direction) as output,):
                state = Tensor((replace(output, name="h"),), (batch, UNITS))
                if self._graph.nodes[node].reverse[direction]:
                    # Its invalid steps come before all valid ones.
                    before = self._initial_of(values.outputs(state), state)
                    same = before is not None and self._same(before, name)
                else:
                    same = other == state
                return Tensor((replace(output, carried=True),), kept.axes) if same else None
        return None

    def _initial_of(self, held: Sequence[Output], kept: Tensor) -> str | None:
        """Return the name of the value that states of one node are before it; `""` for zeros."""
        node, batch = self._graph.nodes[held[0].node], self._graph.batch
        state = held[0].name
        if state not in _STATES or any(output.name != state for output in held):
            return None
        name = node.initial[_STATES.index(state)]
        if not name:
            return ""
        if [output.direction for output in held] != list(range(len(node.cells))):
            return None
        if kept.axes in ((PIECES, batch, UNITS), (ONE, batch, UNITS)):
            return name
        if len(held) == 1 and kept.axes == (batch, UNITS):
            return self._unsqueezed.get(name)
        return None

    def _same(self, before: str, name: str) -> bool:
        """Return whether a value is the one of that name, or zeros if it has none."""
        return name == before if before else is_zero(self._value(name))

    def _aligned(self, mark: Marks, kept: Tensor) -> bool:
        """Return whether the axes of a mark are those of a tensor."""
        if len(mark.axes) > len(kept.axes):
            return False
        pairs = zip(reversed(mark.axes), reversed(kept.axes), strict=False)
        return all(
            one == ONE or (self._graph.batch if one == ROWS else one) == other
            for one, other in pairs
        )


def _check_opset(model: Any) -> None:
    versions = [e.version for e in model.opset_import if e.domain in ("", "ai.onnx")]
    if not versions:
        raise ConversionError(
            "from onnx: the model imports no standard operators; the file is truncated, or none"
        )
    if versions[0] < FIRST_OPSET:
        raise ConversionError(
            f"from onnx: the model is of opset {versions[0]}, expected {FIRST_OPSET} or later; "
            "convert it with onnx.version_converter"
        )


def _attributes(subject: str, proto: Any) -> dict[str, Any]:
    """Return a node's attributes by name; a type that is not the operator's is an error."""
    from onnx import AttributeProto, helper

    found = {}
    for attribute in proto.attribute:
        expected = _TYPES.get(attribute.name)
        if expected is None and proto.op_type not in CELLS:
            continue
        if attribute.type != AttributeProto.AttributeType.Value(expected or "UNDEFINED"):
            raise ConversionError(
                f"from onnx: {subject}: the attribute {short(attribute.name)} is unknown or of "
                f"another type, expected {expected or 'an attribute of the operator'}"
            )
        found[attribute.name] = helper.get_attribute_value(attribute)
    return found


def _described(value: Value | None) -> str:
    match value:
        case None:
            return "absent"
        case Computed(origin=origin):
            return f"computed by {origin}" if "(node" in origin else origin
        case Tensor() if values.outputs(value):
            return "what a recurrent node returns"
        case Tensor(pieces=(Source(name=name), *_)) | Marks(name=name):
            return f"the input {short(name)}"
        case Given(names=names):
            return f"the input {', '.join(map(short, sorted(names)[:3]))}, rearranged"
        case Constant() | Zeros():
            return "a constant"
        case _:
            return "made of sizes"
