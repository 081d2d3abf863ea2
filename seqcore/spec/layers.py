"""The layers: frozen, hashable descriptions of what is computed.

A layer holds no weights and no state. What it does is in its methods, and each of them is one
line: the work is in `seqcore.spec.weights` (initial weights), `seqcore.spec.description` (JSON
and TOML) and `seqcore.runtime` (everything that runs).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

import msgspec
from msgspec.structs import force_setattr

from seqcore.errors import SpecError
from seqcore.spec import initializers
from seqcore.spec.activations import ACTIVATIONS
from seqcore.spec.foreign import explain_unknown
from seqcore.spec.initializers import AnyInitializer
from seqcore.spec.naming import nearest

if TYPE_CHECKING:
    import numpy as np

    from seqcore.runtime import BoundLayer, Explanation, Gradients

MERGE_MODES = ("concat", "sum", "mul", "ave", "none")
MASK_OUTPUTS = ("zero", "carry")

Weights = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


def as_written(method: F) -> F:
    """Mark a method that a framework's tracer shall call and not rewrite.

    Inside `tf.function`, AutoGraph turns Python control flow into graph operations, in whatever is
    called. Nothing in here depends on traced values, and rewriting it takes seconds and ends in
    warnings. It leaves alone what has this attribute, which is also what its own decorator sets.
    Of an object that is called it asks the object, not its `__call__`: the class has the attribute.
    """
    method.autograph_info__ = {}  # type: ignore[attr-defined]
    return method


class _LayerMeta(msgspec.StructMeta):
    """Gives the constructors errors of our own for arguments that are not theirs."""

    if not TYPE_CHECKING:  # the type checker shall see the fields as the signature

        def __call__(cls, *args, **kwargs):
            if not issubclass(cls, AnyLayer):
                raise SpecError(
                    f"{cls.__name__} is the base of layers and none itself; make a SimpleRNN, "
                    "LSTM, GRU, Bidirectional or Stack"
                )
            for name in kwargs:
                if name not in cls.__struct_fields__:
                    raise SpecError(explain_unknown(cls.__name__, name, cls.__struct_fields__))
            try:
                return super().__call__(*args, **kwargs)
            except TypeError as error:
                raise SpecError(f"{cls.__name__}: {error}") from None


class Layer(
    msgspec.Struct,
    metaclass=_LayerMeta,
    frozen=True,
    tag_field="type",
    tag=True,
    forbid_unknown_fields=True,
):
    """Base of all layers; not to be instantiated."""

    autograph_info__: ClassVar[Mapping[str, Any]] = {}  # for `layer(x)`; see `as_written`

    def weight_shapes(self, features: int) -> dict[str, tuple[int, ...]]:
        """Return the canonical weights' shapes by name, for inputs of `features` features."""
        from seqcore.spec.weights import weight_shapes

        return weight_shapes(_known(self), features)

    def init(
        self, features: int, *, seed: int = 0, dtype: str = "float32"
    ) -> dict[str, np.ndarray[Any, Any]]:
        """Return initial weights as a plain dict of NumPy arrays, by canonical name.

        Args:
            features: The size of the last axis of the input.
            seed: Any integer from 0 to 2**64 - 1. The same seed gives the same bits everywhere.
            dtype: `"float64"`, `"float32"`, `"float16"` or `"bfloat16"`.

        Raises:
            SpecError: if `features` is not positive or the seed is out of range.
            DtypeError: if the dtype is none of the four.
        """
        from seqcore.spec.weights import initial_weights

        return initial_weights(_known(self), features, seed, dtype)

    @as_written
    def apply(
        self,
        weights: Weights,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        backend: str | None = None,
        **options: Any,
    ) -> Any:
        """Run the layer: pure, nothing is kept and no argument is changed.

        Args:
            weights: Arrays by canonical name, as `init` gives them.
            x: The input, (batch, time, features): a NumPy array, a nested sequence of numbers,
                or an array of the backend's own framework.
            mask: Booleans (batch, time), True at valid steps; holes are allowed.
            lengths: Integers (batch,), the valid steps from the start of each row; instead of
                `mask`.
            initial_state: Arrays (batch, units) in the order of the returned state; zeros if None.
            backend: The backend's name; else the configuration chooses.
            **options: The backend's options, and `matmul_precision` and `implementation`.

        Returns:
            One array, or a named tuple of several in the order of the output contract: NumPy
            arrays, or the framework's own if one was given.

        Raises:
            InputError: if an argument does not fit the layer, before any work.
            WeightsError: if weights are missing, extra or misshapen.
            BackendError: if the backend cannot be used.
            UnsupportedFeature: if the backend declares that it does not do this.
        """
        from seqcore.runtime import apply

        return apply(self, weights, x, mask, lengths, initial_state, backend, options)

    @as_written
    def bind(self, weights: Weights, *, backend: str | None = None, **options: Any) -> BoundLayer:
        """Return the layer with a snapshot of the weights in the backend's own form.

        The fast way to run one set of weights many times. Later changes of the arrays in
        `weights` have no effect on the bound layer.

        Raises:
            WeightsError: if weights are missing, extra or misshapen.
            BackendError: if the backend cannot be used.
        """
        from seqcore.runtime import bind

        return bind(self, weights, backend, options)

    @as_written
    def vjp(
        self,
        weights: Weights,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        backend: str | None = None,
        **options: Any,
    ) -> tuple[Any, Callable[[Any], Gradients]]:
        """Run the layer and return `(outputs, pullback)`.

        `pullback` takes cotangents in the structure of the outputs and returns
        `Gradients(weights, x, initial_state)`. With no initial state given, zeros are
        differentiated. Arguments and errors are those of `apply`.
        """
        from seqcore.runtime import vjp

        return vjp(self, weights, x, mask, lengths, initial_state, backend, options)

    @as_written
    def gates(
        self,
        weights: Weights,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        backend: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Return every gate and state at every step, by name, each (batch, time, units).

        Names are `i f g o c h` (LSTM), `z r n h` (GRU) and `h` (SimpleRNN), prefixed as the
        weights are; steps are in original time. At a masked step the gates are NaN, for no gate
        acted, and the states are the carried ones. Runs on the backend's generic implementation.
        Arguments and errors are those of `apply`.
        """
        from seqcore.runtime import gates

        return gates(self, weights, x, mask, lengths, initial_state, backend, options)

    def explain(
        self,
        *,
        dtype: str = "float32",
        mask: Literal["none", "lengths", "any"] = "none",
        gradient: Literal["no", "yes", "unknown"] = "no",
        backend: str | None = None,
        **options: Any,
    ) -> Explanation:
        """Return the plan: which implementation runs which part, and why others refused.

        Args:
            dtype: The input's data type.
            mask: What masking the call would have.
            gradient: Whether the call would be differentiated: `apply` on NumPy arrays is
                `"no"`, `vjp` is `"yes"`.
            backend: The backend's name; else the configuration chooses.
            **options: As for `apply`.
        """
        from seqcore.runtime import explain

        return explain(self, dtype, mask, gradient, backend, options)

    @as_written
    def __call__(
        self,
        x: Any,
        *,
        mask: Any = None,
        lengths: Any = None,
        initial_state: Any = None,
        backend: str | None = None,
        **options: Any,
    ) -> Any:
        """Run the layer WITH FRESH, UNTRAINED WEIGHTS: `apply(init(features), x, ...)`.

        For a first look at shapes and outputs. The weights are those of `init` with seed 0 in
        x's dtype, the same at every call; to use trained weights call `apply` or `bind`.
        """
        from seqcore.runtime import call

        return call(self, x, mask, lengths, initial_state, backend, options)

    def replace(self, **changes: Any) -> Self:
        """Return the layer with some fields changed, checked anew."""
        for name in changes:
            if name not in self.__struct_fields__:
                raise SpecError(explain_unknown(type(self).__name__, name, self.__struct_fields__))
        return msgspec.structs.replace(self, **changes)

    def to_json(self) -> str:
        """Return the description as JSON; `seqcore.from_json` reads it."""
        from seqcore.spec.description import to_json

        return to_json(_known(self))

    def to_toml(self) -> str:
        """Return the description as TOML; `seqcore.from_toml` reads it."""
        from seqcore.spec.description import to_toml

        return to_toml(_known(self))


class _Units(Layer, frozen=True):
    """The one field that is given by position; msgspec sets that per class."""

    units: int


class Recurrent(_Units, frozen=True, kw_only=True):
    """One cell run over time in one direction; base of `SimpleRNN`, `LSTM` and `GRU`."""

    gate_names: ClassVar[tuple[str, ...]]
    state_names: ClassVar[tuple[str, ...]]
    blocks: ClassVar[int]
    """How many blocks of `units` columns the kernels have."""

    activation: str = "tanh"
    use_bias: bool = True
    kernel_initializer: AnyInitializer | str = "glorot_uniform"
    recurrent_initializer: AnyInitializer | str = "orthogonal"
    bias_initializer: AnyInitializer | str = "zeros"
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    keep_order: bool = False
    mask_output: str = "zero"

    def __post_init__(self) -> None:
        force_setattr(self, "units", _positive(f"{type(self).__name__}: units", self.units))
        subject = str(self)
        for field in ("activation", "recurrent_activation"):
            if field in self.__struct_fields__:
                _check_choice(f"{subject}: {field}", getattr(self, field), ACTIVATIONS)
        _check_choice(f"{subject}: mask_output", self.mask_output, MASK_OUTPUTS)
        _check_flags(self, subject)
        for field in ("kernel_initializer", "recurrent_initializer", "bias_initializer"):
            resolved = initializers.resolve(f"{subject}: {field}", getattr(self, field))
            force_setattr(self, field, resolved)
        if self.use_bias and isinstance(self.bias_initializer, initializers.Orthogonal):
            raise SpecError(
                f"{subject}: bias_initializer is orthogonal, which needs a matrix, and a bias is "
                "none; use 'zeros' or another one"
            )
        if self.keep_order and not self.go_backwards:
            raise SpecError(
                f"{subject}: keep_order=True was given without go_backwards=True; it says in "
                "which order a reversed layer returns its steps, so set both or neither"
            )

    def __str__(self) -> str:
        return f"{type(self).__name__}(units={self.units})"


class SimpleRNN(Recurrent, frozen=True, kw_only=True):
    """The fully connected recurrent layer: `h = activation(x K + h R + b)` (clauses RNN).

    Weights: kernel (features, units), recurrent_kernel (units, units), bias (units).

    Source: Elman, "Finding structure in time", Cognitive Science 14, 1990.
    """

    blocks: ClassVar[int] = 1
    gate_names: ClassVar[tuple[str, ...]] = ()
    state_names: ClassVar[tuple[str, ...]] = ("h",)


class LSTM(Recurrent, frozen=True, kw_only=True):
    """The long short-term memory layer (clauses LSTM).

    Weights: kernel (features, 4*units), recurrent_kernel (units, 4*units), bias (4*units), with
    the gates in the order i f g o.

    Source: Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 9, 1997, with
    the forget gate of Gers, Schmidhuber and Cummins, "Learning to forget", 2000.
    """

    blocks: ClassVar[int] = 4
    gate_names: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    recurrent_activation: str = "sigmoid"
    unit_forget_bias: bool = True


class GRU(Recurrent, frozen=True, kw_only=True):
    """The gated recurrent unit (clauses GRU), resetting after or before the recurrent product.

    Weights: kernel (features, 3*units), recurrent_kernel (units, 3*units), bias (3*units), with
    `reset_after=True` also recurrent_bias (3*units), with the gates in the order z r n.

    Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014
    (reset before); the form of cuDNN (reset after).
    """

    blocks: ClassVar[int] = 3
    gate_names: ClassVar[tuple[str, ...]] = ("z", "r", "n")
    state_names: ClassVar[tuple[str, ...]] = ("h",)

    recurrent_activation: str = "sigmoid"
    reset_after: bool = True


AnyCell = SimpleRNN | LSTM | GRU


class Bidirectional(Layer, frozen=True):
    """A layer run in both directions, the outputs merged (clauses BI).

    Args:
        layer: The forward layer. Its return flags are those of the whole.
        merge_mode: `"concat"`, `"sum"`, `"mul"`, `"ave"`, or `"none"` (also None) for the two
            outputs unmerged.
        backward_layer: The backward layer where it differs; it shares the return flags and
            `mask_output`.

    Source: Schuster and Paliwal, "Bidirectional recurrent neural networks", IEEE Transactions on
    Signal Processing 45, 1997.
    """

    layer: AnyCell
    merge_mode: str | None = "concat"
    backward_layer: AnyCell | None = None

    def __post_init__(self) -> None:
        if self.merge_mode is None:
            force_setattr(self, "merge_mode", "none")
        _check_choice("Bidirectional: merge_mode", self.merge_mode, MERGE_MODES)
        _check_member("Bidirectional: layer", self.layer)
        if self.backward_layer is not None:
            _check_member("Bidirectional: backward_layer", self.backward_layer)
            for field in ("return_sequences", "return_state", "mask_output"):
                mine, other = getattr(self.layer, field), getattr(self.backward_layer, field)
                if mine != other:
                    raise SpecError(
                        f"Bidirectional: backward_layer has {field}={other!r} and layer has "
                        f"{mine!r}, expected the same; set both alike"
                    )
            if self.backward_layer == self.layer:
                # One spelling of one layer, so that equal layers compare equal.
                force_setattr(self, "backward_layer", None)
        units = (self.forward.units, self.backward.units)
        if self.merge_mode in ("sum", "mul", "ave") and units[0] != units[1]:
            raise SpecError(
                f"Bidirectional: merge_mode={self.merge_mode!r} needs equal units, received "
                f"{units[0]} forward and {units[1]} backward; use 'concat' or 'none'"
            )

    def __str__(self) -> str:
        other = f", backward_layer={self.backward_layer}" if self.backward_layer else ""
        return f"Bidirectional({self.layer}{other}, merge_mode={self.merge_mode!r})"

    @property
    def forward(self) -> AnyCell:
        """The layer that reads from the first step to the last."""
        return self.layer

    @property
    def backward(self) -> AnyCell:
        """The layer that reads from the last step to the first, written as a forward one."""
        return self.layer if self.backward_layer is None else self.backward_layer

    @property
    def return_sequences(self) -> bool:
        """The members' flag."""
        return self.layer.return_sequences

    @property
    def return_state(self) -> bool:
        """The members' flag."""
        return self.layer.return_state


AnyMember = SimpleRNN | LSTM | GRU | Bidirectional


class Stack(Layer, frozen=True):
    """Layers fed one into the next, the mask going along (clauses STACK).

    Args:
        layers: The members. Every one but the last sets `return_sequences=True` and merges.
        return_sequences: Whether the last member's output is returned at every step.
        return_state: Whether all members' states follow, in order.
    """

    layers: tuple[AnyMember, ...]
    return_sequences: bool = False
    return_state: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.layers, Layer | str) or not isinstance(self.layers, Sequence):
            raise SpecError(f"Stack: layers is {self.layers!r}, expected a list of layers")
        force_setattr(self, "layers", tuple(self.layers))
        _check_flags(self, "Stack")
        if not self.layers:
            raise SpecError("Stack: layers is empty, expected at least one layer")
        for index, member in enumerate(self.layers):
            self._check_member(index, member)

    def _check_member(self, index: int, member: Any) -> None:
        subject = f"Stack: layers[{index}]"
        if not isinstance(member, AnyMember):
            raise SpecError(
                f"{subject} is {member!r}, expected a SimpleRNN, LSTM, GRU or Bidirectional"
            )
        if member.return_state:
            raise SpecError(
                f"{subject} sets return_state=True; the flag belongs to the stack: "
                "Stack([...], return_state=True) returns every member's state"
            )
        if index == len(self.layers) - 1:
            if member.return_sequences and not self.return_sequences:
                raise SpecError(
                    f"{subject} sets return_sequences=True and the stack does not; for the last "
                    "member the flag belongs to the stack: Stack([...], return_sequences=True)"
                )
            return
        if not member.return_sequences:
            raise SpecError(
                f"{subject} returns one step and layers[{index + 1}] needs all of them; "
                "set return_sequences=True on every member but the last"
            )
        if isinstance(member, Bidirectional) and member.merge_mode == "none":
            raise SpecError(
                f"{subject} has merge_mode='none', so there is no single output for "
                f"layers[{index + 1}]; choose another merge_mode"
            )

    def __str__(self) -> str:
        return f"Stack([{', '.join(str(member) for member in self.layers)}])"


AnyLayer = SimpleRNN | LSTM | GRU | Bidirectional | Stack


LAYER_FIELDS = frozenset(
    field
    for layer in (SimpleRNN, LSTM, GRU, Bidirectional, Stack)
    for field in layer.__struct_fields__
)
"""The names of all fields of all layers, for messages."""


def _known(layer: Layer) -> AnyLayer:
    assert isinstance(layer, AnyLayer)
    return layer


def _positive(subject: str, value: Any) -> int:
    if isinstance(value, bool):
        raise SpecError(f"{subject} is {value!r}, expected a positive integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise SpecError(f"{subject} is {value!r}, expected a positive integer") from None
    if number < 1:
        raise SpecError(f"{subject} is {number}, expected a positive integer")
    return number


def _check_choice(subject: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        hint = nearest(value, choices) if isinstance(value, str) else ""
        raise SpecError(f"{subject} is {value!r}{hint}, expected one of {', '.join(choices)}")


def _check_flags(layer: Layer, subject: str) -> None:
    for field in layer.__struct_fields__:
        value = getattr(layer, field)
        if field in _FLAGS and not isinstance(value, bool):
            raise SpecError(f"{subject}: {field} is {value!r}, expected True or False")


_FLAGS = frozenset(
    {
        "use_bias",
        "unit_forget_bias",
        "reset_after",
        "return_sequences",
        "return_state",
        "go_backwards",
        "keep_order",
    }
)


def _check_member(subject: str, member: Any) -> None:
    if not isinstance(member, AnyCell):
        raise SpecError(f"{subject} is {member!r}, expected a SimpleRNN, LSTM or GRU")
    if member.go_backwards:
        raise SpecError(
            f"{subject} sets go_backwards=True; Bidirectional reverses its backward layer "
            "itself, so leave the flag out"
        )
