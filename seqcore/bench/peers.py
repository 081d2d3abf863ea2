"""The frameworks' own layers, with the same weights, each as its documentation says to use it.

A framework is imported when its peer is set up, in the worker; this module imports none. Each
peer gets its input in the axis order that it likes best, and compiles where it can.
"""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from seqcore.bench.sides import Side, SideSpec
from seqcore.bench.workloads import Data, Workload
from seqcore.spec.layers import GRU, LSTM, AnyCell, Bidirectional, Recurrent, SimpleRNN
from seqcore.spec.weights import attach, extract

_SEEN_BY_NO_PEER = frozenset(
    {"kernel_initializer", "recurrent_initializer", "bias_initializer", "unit_forget_bias"}
)


Weights = Mapping[str, NDArray[Any]]


class Peer(Side):
    """A framework's own layer of one cell, in one direction or both."""

    name: ClassVar[str]
    cells: ClassVar[tuple[type[AnyCell], ...]] = (SimpleRNN, LSTM, GRU)
    lengths: ClassVar[str] = "ignored"
    """What it makes of lengths: `"ignored"`, `"taken"`, or `"required"` where it is for them."""

    @classmethod
    def refuses(cls, workload: Workload) -> str | None:
        """Return why this workload is not taken, or None if it is."""
        layer = workload.layer
        if isinstance(layer, Bidirectional):
            if layer.merge_mode != "concat" or layer.backward_layer is not None:
                return "runs both directions alike, concatenated"
            layer = layer.forward
        if not isinstance(layer, cls.cells):
            names = ", ".join(cell.__name__ for cell in cls.cells)
            return f"runs one layer of {names}"
        plain = type(layer)(layer.units, return_sequences=True, return_state=True)
        for field in layer.__struct_fields__:
            value, default = getattr(layer, field), getattr(plain, field)
            if field not in _SEEN_BY_NO_PEER and value != default:
                return f"has {field}={default!r} only"
        if cls.lengths == "required" and not workload.lengths:
            return "is for lengths"
        return None

    @classmethod
    def spec(cls) -> SideSpec:
        """Return how a worker makes it."""
        return SideSpec(
            name=cls.name,
            factory=f"{cls.__module__}:{cls.__qualname__}",
            environment=dict(cls.environment),
            modes=cls.modes,
            padded=cls.lengths == "ignored",
        )

    def setup(self, workload: Workload, threads: int) -> dict[str, str]:
        """Take a workload, and build the layer."""
        layer = workload.layer
        self.both = isinstance(layer, Bidirectional)
        forward = layer.forward if isinstance(layer, Bidirectional) else layer
        assert isinstance(forward, Recurrent)
        self.cell = forward
        self.workload = workload
        self.stream = workload.stream
        self.threads = threads
        self.state: Any = None
        data = workload.data()
        if self.lengths == "ignored":
            data = Data(data.weights, data.x, None)
        weights = data.weights if self.both else attach(data.weights, "forward.")
        directions = ("forward.", "backward.") if self.both else ("forward.",)
        self.build(data, [extract(weights, prefix) for prefix in directions])
        versions = (f"{name} {_module(name).__version__}" for name in self.requires)
        return {"version": ", ".join(versions)}

    @abstractmethod
    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the layer, with the canonical weights of each direction."""

    @abstractmethod
    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the layer from a state, None for zeros; return the sequence and the final state."""

    def inference(self) -> object:
        """Run the layer once."""
        sequence, state = self.forward(self.state)
        if self.stream:
            self.state = state
        return sequence

    def train(self) -> object:
        """Refuse, as peers do that only run trained layers."""
        raise NotImplementedError(f"{self.name} does not train")

    def output(self) -> NDArray[Any]:
        """Return the sequence, (batch, time, units)."""
        sequence, _ = self.forward(None)
        return np.asarray(sequence)


class TorchLayer(Peer):
    """`torch.nn.LSTM`, `GRU` or `RNN`; with lengths, padded and unaware of them."""

    name = "torch.nn"
    requires = ("torch",)

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the module, batch first, and its leaves."""
        self.torch = torch = _module("torch")
        torch.set_num_threads(self.threads)
        kind = {"SimpleRNN": "RNN"}.get(type(self.cell).__name__, type(self.cell).__name__)
        self.module = getattr(torch.nn, kind)(
            data.x.shape[-1], self.cell.units, batch_first=True, bidirectional=self.both
        )
        order = "rzn" if isinstance(self.cell, GRU) else "".join(self.cell.gate_names)
        for suffix, weights in zip(("", "_reverse"), directions, strict=False):
            for ours, theirs in (
                ("kernel", "weight_ih"),
                ("recurrent_kernel", "weight_hh"),
                ("bias", "bias_ih"),
                ("recurrent_bias", "bias_hh"),
            ):
                value = _in_order(self.cell, _of(weights, ours), order).T
                with torch.no_grad():
                    getattr(self.module, f"{theirs}_l0{suffix}").copy_(torch.tensor(value))
        self.x = torch.tensor(data.x)
        self.leaf = self.x.clone().requires_grad_()
        self.lengths_given = None if data.lengths is None else torch.tensor(data.lengths)
        # The sequence, and the states as PyTorch shapes them.
        shape = (len(directions), self.workload.batch, self.cell.units)
        self.ones = [torch.ones(self.workload.output_shapes()[0])]
        self.ones += [torch.ones(shape) for _ in self.cell.state_names]

    def call(self, x: Any, state: Any) -> tuple[Any, Any]:
        """Call the module."""
        sequence, state = self.module(x, state)
        return sequence, state

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Call the module as for evaluation."""
        self.module.train(False)
        with self.torch.no_grad():
            return self.call(self.x, state)

    def train(self) -> object:
        """Call the module as for training, and its backward pass."""
        self.module.train(True)
        outputs = _leaves(self.call(self.leaf, None))
        wanted = [*self.module.parameters(), self.leaf]
        return self.torch.autograd.grad(outputs, wanted, self.ones)


class TorchPacked(TorchLayer):
    """The same on a `PackedSequence`, which is PyTorch's own way to have lengths."""

    name = "torch.packed"
    lengths = "required"

    def call(self, x: Any, state: Any) -> tuple[Any, Any]:
        """Pack, call the module, unpack."""
        rnn = self.torch.nn.utils.rnn
        options = {"batch_first": True, "enforce_sorted": False}
        packed = rnn.pack_padded_sequence(x, self.lengths_given, **options)
        sequence, state = self.module(packed, state)
        time = self.workload.time
        return rnn.pad_packed_sequence(sequence, batch_first=True, total_length=time)[0], state


class OnnxRuntime(Peer):
    """ONNX Runtime on one standard operator, between the transposes that make it batch first."""

    name = "onnxruntime.session"
    requires = ("onnxruntime", "onnx")
    modes = ("inference",)
    lengths = "taken"

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the graph, with the weights as initializers, and the session."""
        onnxruntime = _module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(
            self.graph(data, directions), options, providers=["CPUExecutionProvider"]
        )
        self.inputs = {"x": data.x}
        if data.lengths is not None:
            self.inputs["sequence_lens"] = data.lengths.astype(np.int32)

    def graph(self, data: Data, directions: list[Weights]) -> bytes:
        """Return the serialized model."""
        onnx = _module("onnx")
        helper, kind = onnx.helper, onnx.TensorProto.FLOAT
        order = {"LSTM": "iofg", "GRU": "zrn"}.get(type(self.cell).__name__, "")

        def stacked(name: str) -> NDArray[Any]:
            values = [_in_order(self.cell, _of(one, name), order).T for one in directions]
            return np.ascontiguousarray(np.stack(values))

        batch, time, features = data.x.shape
        y_shape = (batch, time, len(directions) * self.cell.units)
        constants = {
            "W": stacked("kernel"),
            "R": stacked("recurrent_kernel"),
            "B": np.concatenate([stacked("bias"), stacked("recurrent_bias")], axis=1),
            "y_shape": np.array(y_shape),
        }
        state = (len(directions), batch, self.cell.units)
        shapes: dict[str, tuple[int, ...]] = {"x": (batch, time, features)}
        if self.stream:
            shapes |= {f"initial_{name}": state for name in self.cell.state_names}
        inputs = [helper.make_tensor_value_info(name, kind, shapes[name]) for name in shapes]
        if data.lengths is not None:
            lengths = ("sequence_lens", onnx.TensorProto.INT32, (batch,))
            inputs.append(helper.make_tensor_value_info(*lengths))
        given = {value.name for value in inputs} | {"X", *constants}
        states = [f"Y_{name}" for name in self.cell.state_names]
        attributes = {"linear_before_reset": 1} if isinstance(self.cell, GRU) else {}
        recurrent = helper.make_node(
            {"SimpleRNN": "RNN"}.get(type(self.cell).__name__, type(self.cell).__name__),
            [
                name if name in given else ""
                for name in ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c")
            ][: 6 + len(states) - 1],
            ["Y", *states],
            hidden_size=self.cell.units,
            direction="bidirectional" if self.both else "forward",
            **attributes,
        )
        graph = helper.make_graph(
            [
                helper.make_node("Transpose", ["x"], ["X"], perm=[1, 0, 2]),
                recurrent,
                helper.make_node("Transpose", ["Y"], ["Y_batch_first"], perm=[2, 0, 1, 3]),
                helper.make_node("Reshape", ["Y_batch_first", "y_shape"], ["y"]),
            ],
            "layer",
            inputs,
            [helper.make_tensor_value_info("y", kind, y_shape)]
            + [helper.make_tensor_value_info(name, kind, state) for name in states],
            [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        # Versions from before the oldest runtime that the extra `bench` allows.
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=8)
        serialized: bytes = model.SerializeToString()
        return serialized

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the session."""
        inputs = self.inputs
        if self.stream:
            zeros = np.zeros((1, self.workload.batch, self.cell.units), np.float32)
            names = self.cell.state_names
            values = state or [zeros] * len(names)
            given = {f"initial_{name}": value for name, value in zip(names, values, strict=True)}
            inputs = {**inputs, **given}
        sequence, *state = self.session.run(None, inputs)
        return sequence, state


class Keras(Peer):
    """Keras 3 on NumPy, called as it is: it has nothing to compile there, and no gradients."""

    name = "keras.numpy"
    requires: ClassVar[tuple[str, ...]] = ("keras",)
    environment: ClassVar[Mapping[str, str]] = {"KERAS_BACKEND": "numpy"}
    modes: ClassVar[tuple[str, ...]] = ("inference",)
    lengths = "taken"

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the layer; Keras's gate orders are ours."""
        keras = _module("keras")
        self.layer = getattr(keras.layers, type(self.cell).__name__)(
            self.cell.units, return_sequences=True, return_state=True, zero_output_for_mask=True
        )
        if self.both:
            self.layer = keras.layers.Bidirectional(self.layer)
        self.layer.build(data.x.shape)
        values = []
        for weights in directions:
            values += [weights["kernel"], weights["recurrent_kernel"]]
            if isinstance(self.cell, GRU):
                values.append(np.stack([weights["bias"], weights["recurrent_bias"]]))
            else:
                values.append(weights["bias"])
        self.layer.set_weights(values)
        self.x = keras.ops.convert_to_tensor(data.x)
        self.mask = None
        if data.lengths is not None:
            steps = np.arange(self.workload.time)
            self.mask = keras.ops.convert_to_tensor(steps < data.lengths[:, None])

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Call the layer."""
        sequence, *state = self.layer(self.x, mask=self.mask, initial_state=state)
        return sequence, state


class JaxCall:
    """What peers on JAX have in common: a pure function, compiled, and its compiled vjp."""

    def __init__(self, function: Any, parameters: Any, x: Any) -> None:
        """Take `function(parameters, x, state) -> (sequence, state)`."""
        self.jax = jax = _module("jax")
        self.parameters, self.x = jax.device_put((parameters, x))
        self.compiled = jax.jit(function)

        def step(parameters: Any, x: Any) -> Any:
            outputs, pullback = jax.vjp(lambda p, x: function(p, x, None), parameters, x)
            return outputs, pullback(jax.tree.map(jax.numpy.ones_like, outputs))

        self.step = jax.jit(step)

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run forward."""
        sequence, state = self.jax.block_until_ready(self.compiled(self.parameters, self.x, state))
        return sequence, state

    def train(self) -> object:
        """Run forward and back."""
        done: object = self.jax.block_until_ready(self.step(self.parameters, self.x))
        return done


class KerasJax(Keras):
    """Keras 3 on JAX, `stateless_call` under `jax.jit`."""

    name = "keras.jax"
    requires = ("keras", "jax")
    environment: ClassVar[Mapping[str, str]] = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    modes = Peer.modes

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the layer and the compiled calls."""
        super().build(data, directions)
        fixed = [variable.value for variable in self.layer.non_trainable_variables]

        def function(parameters: Any, x: Any, state: Any) -> tuple[Any, Any]:
            (sequence, *final), _ = self.layer.stateless_call(
                parameters, fixed, x, mask=self.mask, initial_state=state
            )
            return sequence, final

        parameters = [variable.value for variable in self.layer.trainable_variables]
        self.calls = JaxCall(function, parameters, self.x)

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the compiled call."""
        return self.calls.forward(state)

    def train(self) -> object:
        """Run the compiled vjp."""
        return self.calls.train()


class FlaxNnx(Peer):
    """`flax.nnx.RNN` of `OptimizedLSTMCell`, `GRUCell` or `SimpleCell` under `jax.jit`."""

    name = "flax.nnx"
    requires = ("flax", "jax")
    environment: ClassVar[Mapping[str, str]] = {"JAX_PLATFORMS": "cpu"}
    lengths = "taken"

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the module and the compiled calls."""
        nnx, jnp = _module("flax.nnx"), _module("jax.numpy")
        kind = {"LSTM": "OptimizedLSTMCell", "GRU": "GRUCell", "SimpleRNN": "SimpleCell"}
        cell = getattr(nnx, kind[type(self.cell).__name__])
        features, units = data.x.shape[-1], self.cell.units
        runs = [nnx.RNN(cell(features, units, rngs=nnx.Rngs(0))) for _ in directions]
        order = "rzn" if isinstance(self.cell, GRU) else "".join(self.cell.gate_names)
        for run, weights in zip(runs, directions, strict=True):
            bias = weights["bias"] + _of(weights, "recurrent_bias")
            # Only one of the two products has a bias, in each cell another one.
            biased = run.cell.dense_h if isinstance(self.cell, LSTM) else run.cell.dense_i
            for parameter, value in (
                (run.cell.dense_i.kernel, weights["kernel"]),
                (run.cell.dense_h.kernel, weights["recurrent_kernel"]),
                (biased.bias, bias),
            ):
                parameter[...] = jnp.asarray(_in_order(self.cell, value, order))
        module = nnx.Bidirectional(*runs) if self.both else runs[0]
        graph, parameters, rest = nnx.split(module, nnx.Param, ...)
        zeros = jnp.zeros((self.workload.batch, units))
        start = (zeros, zeros) if isinstance(self.cell, LSTM) else zeros
        if self.both:
            start = (start, start)
        lengths = None if data.lengths is None else jnp.asarray(data.lengths)

        def function(parameters: Any, x: Any, state: Any) -> tuple[Any, Any]:
            carry, sequence = nnx.merge(graph, parameters, rest)(
                x,
                initial_carry=start if state is None else state,
                seq_lengths=lengths,
                return_carry=True,
            )
            return sequence, carry

        self.calls = JaxCall(function, parameters, jnp.asarray(data.x))

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the compiled call."""
        return self.calls.forward(state)

    def train(self) -> object:
        """Run the compiled vjp."""
        return self.calls.train()


_TENSORFLOW = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}


class TensorFlowCall:
    """What peers on TensorFlow have in common: a function and its gradient, as graphs."""

    def __init__(self, function: Any, variables: Any, x: Any) -> None:
        """Take `function(x, state) -> (sequence, state)`."""
        self.tf = tf = _module("tensorflow")
        self.x = tf.constant(x)
        self.compiled = tf.function(function)

        def step(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                outputs = tf.nest.flatten(function(x, None))
            ones = [tf.ones_like(output) for output in outputs]
            return outputs, tape.gradient(outputs, [*variables, x], output_gradients=ones)

        self.step = tf.function(step)

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run forward."""
        sequence, state = self.compiled(self.x, state)
        return sequence, state

    def train(self) -> object:
        """Run forward and back."""
        done: object = self.step(self.x)
        return done


class KerasTensorFlow(Keras):
    """Keras 3 on TensorFlow, the layer under `tf.function`."""

    name = "keras.tensorflow"
    requires = ("keras", "tensorflow")
    environment: ClassVar[Mapping[str, str]] = {"KERAS_BACKEND": "tensorflow", **_TENSORFLOW}
    modes = Peer.modes

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the layer and the graphs."""
        super().build(data, directions)

        def function(x: Any, state: Any) -> tuple[Any, Any]:
            sequence, *final = self.layer(x, mask=self.mask, initial_state=state)
            return sequence, final

        variables = [variable.value for variable in self.layer.trainable_variables]
        self.calls = TensorFlowCall(function, variables, data.x)

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the graph."""
        return self.calls.forward(state)

    def train(self) -> object:
        """Run the graph with its gradient."""
        return self.calls.train()


class BlockLstm(Peer):
    """TensorFlow's `BlockLSTMV2`, one operation for all steps, time first."""

    name = "tensorflow.block"
    requires = ("tensorflow",)
    environment: ClassVar[Mapping[str, str]] = _TENSORFLOW
    cells = (LSTM,)

    def build(self, data: Data, directions: list[Weights]) -> None:
        """Make the variables and the graphs."""
        tf = _module("tensorflow")
        units = self.cell.units
        variables = [
            (
                tf.Variable(np.concatenate([weights["kernel"], weights["recurrent_kernel"]])),
                tf.Variable(weights["bias"]),
            )
            for weights in directions
        ]
        zeros = tf.zeros((self.workload.batch, units))
        peephole = tf.zeros((units,))

        def direction(x: Any, pair: Any, state: Any) -> tuple[Any, Any]:
            h, c = (zeros, zeros) if state is None else state
            done = tf.raw_ops.BlockLSTMV2(
                seq_len_max=tf.constant(self.workload.time, tf.int64),
                x=x,
                cs_prev=c,
                h_prev=h,
                w=pair[0],
                wci=peephole,
                wcf=peephole,
                wco=peephole,
                b=pair[1],
                cell_clip=0.0,
            )
            return done.h, [done.h[-1], done.cs[-1]]

        def function(x: Any, state: Any) -> tuple[Any, Any]:
            sequence, final = direction(x, variables[0], state)
            if not self.both:
                return sequence, final
            reverse, last = direction(tf.reverse(x, [0]), variables[1], state)
            return tf.concat([sequence, tf.reverse(reverse, [0])], -1), final + last

        x = np.ascontiguousarray(data.x.swapaxes(0, 1))
        self.calls = TensorFlowCall(function, tf.nest.flatten(variables), x)

    def forward(self, state: Any) -> tuple[Any, Any]:
        """Run the graph."""
        return self.calls.forward(state)

    def train(self) -> object:
        """Run the graph with its gradient."""
        return self.calls.train()

    def output(self) -> NDArray[Any]:
        """Return the sequence, batch first."""
        return super().output().swapaxes(0, 1)


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        TorchLayer,
        TorchPacked,
        OnnxRuntime,
        Keras,
        KerasJax,
        FlaxNnx,
        KerasTensorFlow,
        BlockLstm,
    )
}
"""Every peer by name; the first that is measured is the baseline unless another is named."""


def _module(name: str) -> Any:
    return importlib.import_module(name)


def _of(weights: Weights, name: str) -> NDArray[Any]:
    """Return a weight; zeros for the second bias of a layer that has one."""
    return weights[name] if name in weights else np.zeros_like(weights["bias"])


def _in_order(cell: AnyCell, value: NDArray[Any], order: str) -> NDArray[Any]:
    """Return a weight with the blocks of its last axis in another order of the gates."""
    if not order:
        return value
    blocks = np.split(value, len(order), axis=-1)
    gates = dict(zip(cell.gate_names, blocks, strict=True))
    return np.concatenate([gates[name] for name in order], axis=-1)


def _leaves(outputs: tuple[Any, Any]) -> list[Any]:
    """Return the sequence and the states as one list."""
    sequence, state = outputs
    return [sequence, *(state if isinstance(state, tuple | list) else (state,))]
