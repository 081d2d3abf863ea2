"""Reading a call's arguments: checked once, before any work, then handed on as arrays.

What is checked here no backend checks again. Values that a trace hides are not looked at.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.config import DEFAULT_BACKEND, Resolved, resolve
from seqcore.errors import (
    ArgumentError,
    DtypeError,
    MaskError,
    ShapeError,
    StateError,
    UnsupportedFeature,
    WeightsError,
)
from seqcore.ops import Array, Arrays
from seqcore.registry import registry
from seqcore.runtime.planning import implementation_named
from seqcore.spec.dtypes import DTYPES, dtype_name, numpy_dtype
from seqcore.spec.layers import AnyLayer
from seqcore.spec.naming import nearest
from seqcore.spec.outputs import state_names, state_units
from seqcore.spec.weights import cells, weight_axes, weight_shapes
from seqcore.spi import ArrayInfo, Backend
from seqcore.spi.request import MaskKind
from seqcore.spi.soundness import devices_of


@dataclass(frozen=True, slots=True)
class Engine:
    """The backend that a call runs on, its options, and whether native arrays were given."""

    backend: Backend
    settings: Resolved
    native: bool
    placed_on: str | None = None
    """Where a bound layer's weights are."""

    @property
    def device(self) -> str:
        """Where bound weights are, else the device asked for, else the backend's first."""
        if self.placed_on is not None:
            return self.placed_on
        chosen = self.settings.options.get("device")
        if chosen is None:
            return devices_of(self.backend)[0]
        return self.backend.device(str(chosen))

    @property
    def forced(self) -> str | None:
        """The implementation asked for, if any."""
        name = self.settings.options.get("implementation")
        return None if name is None else str(name)

    def info(self, value: Any) -> ArrayInfo | None:
        """Return what is known of an array, or None for what is no array at all."""
        if isinstance(value, np.ndarray):
            if isinstance(value, np.ma.MaskedArray):
                return None
            return ArrayInfo(value.shape, dtype_name(value.dtype), "")
        return self.backend.describe(value) if registry.for_array(value) else None


@dataclass(frozen=True, slots=True)
class Inputs:
    """One call's arrays, of the backend and on its device, and what the planner asks about."""

    x: Array
    mask: Array | None
    state: Arrays
    state_given: bool
    dtype: str
    device: str
    mask_kind: MaskKind
    traced: bool
    recorded: bool

    @property
    def empty(self) -> bool:
        """Whether there is no row or no step."""
        return 0 in tuple(self.x.shape)[:2]


def choose_engine(
    subject: str, backend: str | None, options: Mapping[str, Any], values: Iterable[Any] = ()
) -> Engine:
    """Return the engine for a call: a native array's own, else the configuration's.

    Args:
        subject: The layer, for messages.
        backend: The name given in the call.
        options: The options given in the call.
        values: What may be arrays of a framework; see `possible_arrays`.

    Raises:
        ArgumentError: if arrays of two frameworks are given, an argument contradicts them, or
            there is no such implementation.
        BackendError: if the backend cannot be used.
    """
    native = framework(subject, values)
    settings = resolve(backend, options, native)
    engine = Engine(registry.get(settings.backend), settings, native is not None)
    if engine.forced is not None:
        implementation_named(engine.backend, engine.forced)
    return engine


def reading_engine(subject: str, values: Iterable[Any] = ()) -> Engine:
    """Return an engine to read arrays with, whatever the configuration says of running.

    Raises:
        ArgumentError: if arrays of two frameworks are given.
        BackendError: if the arrays' own backend cannot be used.
    """
    native = framework(subject, values)
    name = native or DEFAULT_BACKEND
    return Engine(registry.get(name), Resolved(name, "", {}, {}), native is not None)


def framework(subject: object, values: Iterable[Any]) -> str | None:
    """Return the backend whose arrays are among the values, if there are any.

    Args:
        subject: The layer, or its text, for messages.
        values: What may be arrays of a framework; see `possible_arrays`.

    Raises:
        ArgumentError: if arrays of two frameworks are given.
        BackendError: if the arrays' own backend cannot be used.
    """
    native: str | None = None
    for value in values:
        owner = registry.for_array(value)
        if owner is None or owner == native:
            continue
        if native is not None:
            raise ArgumentError(
                f"{subject}: received arrays of {native} and of {owner} in one call, expected one "
                "framework; convert one side to NumPy first"
            )
        native = owner
    return native


def possible_arrays(
    x: Any, mask: Any, lengths: Any, initial_state: Any, weights: Any = None
) -> Iterator[Any]:
    """Yield what may be arrays in a call: the arguments, the states and the weights."""
    yield from (x, mask, lengths)
    yield from given_states(initial_state)
    if isinstance(weights, Mapping):
        yield from weights.values()


def given_states(initial_state: Any) -> tuple[Any, ...]:
    """Return the states of a call, none where it gives no initial state."""
    if initial_state is None:
        return ()
    return tuple(initial_state) if isinstance(initial_state, tuple | list) else (initial_state,)


def read_weights(
    layer: AnyLayer, engine: Engine, weights: Any
) -> tuple[dict[str, Any], str, int, list[ArrayInfo]]:
    """Check the canonical weights.

    Returns:
        The weights in canonical order, their dtype, the features that they take, and what is
        known of each.

    Raises:
        WeightsError: if one is missing, extra, misshapen or no array.
        DtypeError: if they are not all of one of the spec's dtypes.
    """
    if not isinstance(weights, Mapping):
        raise WeightsError(
            f"{layer}: weights is {type(weights).__name__}, expected a mapping of arrays by "
            "name as layer.init(features) gives it"
        )
    known = canonical_shapes(layer, 1)
    missing = [name for name in known if name not in weights]
    extra = [str(name) for name in weights if name not in known]
    if missing or extra:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"unknown {name}{nearest(name, known)}" for name in extra]
        raise WeightsError(f"{layer}: weights: {'; '.join(parts)}; expected {', '.join(known)}")
    # Sequences of numbers follow the arrays among the weights.
    known_infos = (engine.info(value) for value in weights.values())
    dtype = next((info.dtype for info in known_infos if info is not None), None)
    arrays: dict[str, Any] = {}
    infos: list[ArrayInfo] = []
    for name in known:
        value = weights[name]
        if isinstance(value, tuple | list):
            value, info = _as_array(str(layer), name, value, engine, dtype)
        else:
            found = engine.info(value)
            if found is None:
                raise WeightsError(f"{layer}: {name} is {type(value).__name__}, expected an array")
            info = found
        arrays[name] = value
        infos.append(info)
    first = infos[0].shape
    features = first[0] or 1 if len(first) == 2 else 1
    for (name, shape), info in zip(canonical_shapes(layer, features).items(), infos, strict=True):
        if info.shape != shape:
            raise WeightsError(
                f"{layer}: {name} has shape {info.shape}, expected {shape} = {_axes(layer, name)}"
            )
        if info.dtype != infos[0].dtype:
            raise DtypeError(
                f"{layer}: {name} is {info.dtype} and {next(iter(known))} is {infos[0].dtype}, "
                "expected one dtype for all weights; cast them"
            )
    _check_dtype(f"{layer}: {next(iter(known))}", infos[0].dtype)
    return arrays, infos[0].dtype, features, infos


def neutral_weights(layer: AnyLayer, weights: Any) -> dict[str, NDArray[Any]]:
    """Return the canonical weights, of whatever framework, as NumPy arrays in row-major order.

    Raises:
        WeightsError: if they are not the layer's.
        DtypeError: if they are not all of one of the spec's dtypes.
    """
    engine = reading_engine(str(layer), possible_arrays(None, None, None, None, weights))
    checked, _, _, _ = read_weights(layer, engine, weights)
    return {
        name: np.ascontiguousarray(
            value if isinstance(value, np.ndarray) else engine.backend.to_numpy(value)
        )
        for name, value in checked.items()
    }


def read_inputs(
    layer: AnyLayer,
    engine: Engine,
    x: Any,
    mask: Any,
    lengths: Any,
    initial_state: Any,
    *,
    dtype: str | None,
    features: int | None,
    weight_infos: list[ArrayInfo] | None = None,
) -> Inputs:
    """Check everything but the weights and return it as arrays of the backend.

    Args:
        layer: The layer that is called.
        engine: Where it runs.
        x: As in `Layer.apply`.
        mask: As in `Layer.apply`.
        lengths: As in `Layer.apply`.
        initial_state: As in `Layer.apply`.
        dtype: The weights' dtype, or None where none are given.
        features: The features that the weights take, or None where none are given.
        weight_infos: What is known of the weights given in the same call.
    """
    subject = str(layer)
    x, info = _as_array(subject, "x", x, engine, dtype)
    if len(info.shape) != 3:
        hint = "; add the batch axis: x[None]" if len(info.shape) == 2 else ""
        raise ShapeError(
            f"{subject}: x has shape {info.shape}, expected (batch, time, features){hint}"
        )
    _check_dtype(f"{subject}: x", info.dtype)
    batch, time, size = info.shape
    if not size:
        raise ShapeError(f"{subject}: x has shape {info.shape}, expected at least one feature")
    if features is not None and size != features:
        raise ShapeError(
            f"{subject}: x has {size} features (shape {info.shape}), expected {features}, which "
            "the weights take"
        )
    if dtype is not None and info.dtype != dtype:
        raise DtypeError(
            f"{subject}: x is {info.dtype} and the weights are {dtype}, expected one dtype; "
            "cast one of them"
        )
    check_supported(subject, engine, info.dtype)
    if mask is not None or lengths is not None:
        require(subject, engine.backend, "masks")
    seen = [info, *(weight_infos or ())]
    states = _read_state(layer, engine, initial_state, info, seen)
    valid, kind, clean = _read_mask(subject, engine, mask, lengths, (batch, time), seen)

    device = choose_device(subject, engine, seen)
    take = engine.backend.asarray
    array = take(x, info.dtype, device)
    if clean is not None:
        mask_array = take(clean, "bool", device)
    elif valid is not None:
        count = take(valid, "int64", device)
        ops = engine.backend.ops
        mask_array = ops.arange(ops.size(array, 1), count)[None, :] < count[:, None]
    else:
        mask_array = None
    if states is None:
        zeros = engine.backend.ops.zeros
        state = tuple(zeros((batch, units), array) for units in state_units(layer))
    else:
        state = tuple(take(value, info.dtype, device) for value in states)
    return Inputs(
        x=array,
        mask=mask_array,
        state=state,
        state_given=states is not None,
        dtype=info.dtype,
        device=device,
        mask_kind=kind,
        traced=any(one.traced for one in seen),
        recorded=any(one.gradient for one in seen),
    )


def check_supported(subject: str, engine: Engine, dtype: str) -> None:
    """Check dtype and precision against what the backend declares.

    Raises:
        UnsupportedFeature: if it does not support one of them.
    """
    precision = engine.settings.options.get("matmul_precision", "highest")
    if precision != "highest":
        if dtype != "float32":
            raise UnsupportedFeature(
                f"{subject}: matmul_precision={precision!r} was asked for in {dtype}, expected "
                "float32; leave the option out"
            )
        require(subject, engine.backend, _PRECISION_FEATURES[str(precision)])
    require(subject, engine.backend, dtype)


_PRECISION_FEATURES = {"tf32": "tf32", "bfloat16": "bfloat16_products"}


def require(subject: str, backend: Backend, feature: str) -> None:
    """Check that the backend supports a feature.

    Raises:
        UnsupportedFeature: if it does not, with its reason.
    """
    reason = backend.capabilities.reason(feature)
    if reason is not None:
        support = backend.capabilities.support(feature).replace("-", " ")
        raise UnsupportedFeature(
            f"{subject}: {feature} is {support} on backend {backend.name!r}: {reason}; "
            "choose another backend"
        )


def read_cotangents(
    subject: str,
    engine: Engine,
    cotangents: Any,
    names: tuple[str, ...],
    outputs: Iterable[ArrayInfo | None],
    device: str,
) -> Arrays:
    """Check cotangents against the outputs of those names, and return them as arrays."""
    if len(names) == 1:
        given: tuple[Any, ...] = (cotangents,)
    elif isinstance(cotangents, tuple | list) and len(cotangents) == len(names):
        given = tuple(cotangents)
    else:
        count = len(cotangents) if isinstance(cotangents, tuple | list) else 1
        raise ShapeError(
            f"{subject}: the pullback received {count} cotangents, expected {len(names)}: one for "
            f"each of {', '.join(names)}"
        )
    arrays = []
    for name, value, want in zip(names, given, outputs, strict=True):
        assert want is not None
        value, info = _as_array(subject, f"cotangent of {name}", value, engine, want.dtype)
        if not _fits(info.shape, want.shape):
            raise ShapeError(
                f"{subject}: cotangent of {name} has shape {info.shape}, expected {want.shape}"
            )
        if info.dtype != want.dtype:
            raise DtypeError(
                f"{subject}: cotangent of {name} is {info.dtype}, expected {want.dtype}; cast it"
            )
        arrays.append(engine.backend.asarray(value, want.dtype, device))
    return tuple(arrays)


def _read_state(
    layer: AnyLayer, engine: Engine, given: Any, x: ArrayInfo, seen: list[ArrayInfo]
) -> tuple[Any, ...] | None:
    if given is None:
        return None
    names = state_names(layer)
    values = given_states(given)
    if len(values) != len(names):
        raise StateError(
            f"{layer}: initial_state has {len(values)} arrays, expected {len(names)}: "
            f"({', '.join(names)}{',' if len(names) == 1 else ''})"
        )
    arrays = []
    for name, units, value in zip(names, state_units(layer), values, strict=True):
        if value is None:
            raise StateError(
                f"{layer}: initial_state {name} is None, expected an array; give zeros, or leave "
                "out the whole initial_state"
            )
        value, info = _as_array(str(layer), f"initial_state {name}", value, engine, x.dtype)
        expected = (x.shape[0], units)
        if not _fits(info.shape, expected):
            raise StateError(
                f"{layer}: initial_state {name} has shape {info.shape}, expected {expected} = "
                "(batch, units)"
            )
        if info.dtype != x.dtype:
            raise DtypeError(
                f"{layer}: initial_state {name} is {info.dtype} and x is {x.dtype}, expected one "
                "dtype; cast one of them"
            )
        seen.append(info)
        arrays.append(value)
    return tuple(arrays)


def _read_mask(
    subject: str,
    engine: Engine,
    mask: Any,
    lengths: Any,
    shape: tuple[int | None, int | None],
    seen: list[ArrayInfo],
) -> tuple[Any, MaskKind, Any]:
    """Return `(lengths, kind, mask)`, at most one of the arrays given."""
    if mask is None and lengths is None:
        return None, "none", None
    if mask is not None and lengths is not None:
        raise MaskError(
            f"{subject}: received mask and lengths, expected one of them; lengths is the short "
            "form of a mask that pads on the right"
        )
    if mask is not None:
        mask = _mask_array(subject, "mask", mask)
        info = engine.info(mask)
        if info is None or info.dtype != "bool":
            found = type(mask).__name__ if info is None else info.dtype
            instead = "compare it: mask != 0"
            if found == "MaskedArray":
                instead = "fill it: mask.filled(False)"
            elif info is not None and len(info.shape) == 1:
                instead = "the rows' lengths are given as lengths="
            raise MaskError(
                f"{subject}: mask is {found}, expected booleans, True at valid steps; {instead}"
            )
        if not _fits(info.shape, shape):
            raise MaskError(
                f"{subject}: mask has shape {info.shape}, expected {shape} = (batch, time)"
            )
        seen.append(info)
        return None, "any", mask
    lengths = _mask_array(subject, "lengths", lengths)
    info = engine.info(lengths)
    if info is None or not info.dtype.startswith(("int", "uint")):
        found = type(lengths).__name__ if info is None else info.dtype
        raise MaskError(f"{subject}: lengths is {found}, expected integers")
    if not _fits(info.shape, shape[:1]):
        raise MaskError(
            f"{subject}: lengths has shape {info.shape}, expected {shape[:1]} = (batch,)"
        )
    if not info.traced and shape[0] and shape[1] is not None:
        values = np.asarray(
            lengths if isinstance(lengths, np.ndarray) else engine.backend.to_numpy(lengths)
        )
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > shape[1]:
            raise MaskError(
                f"{subject}: lengths go from {low} to {high}, expected 0 to {shape[1]}, the time "
                "of x"
            )
    seen.append(info)
    return lengths, "lengths", None


def _mask_array(subject: str, name: str, value: Any) -> Any:
    if not isinstance(value, tuple | list):
        return value
    _check_plain(subject, name, value)
    try:
        array = np.asarray(value)
    except ValueError:
        raise MaskError(f"{subject}: {name} has rows of different lengths") from None
    if array.size == 0:  # NumPy sees no element to take a dtype from
        return array.astype(np.bool_ if name == "mask" else np.int64)
    return array


def _check_range(subject: str, name: str, numbers: Any, cast: Any) -> None:
    if np.isinf(cast).any() and not np.array_equal(np.isinf(cast), np.isinf(numbers)):
        raise DtypeError(
            f"{subject}: {name} has numbers beyond {cast.dtype.name}, which it is read as; give a "
            "NumPy array of float64"
        )


def _check_plain(subject: str, name: str, values: Any) -> None:
    """Refuse a sequence of a framework's arrays: reading it would cut their differentiation."""
    for value in values:
        owner = registry.for_array(value)
        if isinstance(value, np.ma.MaskedArray):
            owner = "masked"
        if owner is not None:
            kind = type(values).__name__
            mend = "stack them"
            if kind == "PackedSequence":
                mend = "unpack it: torch.nn.utils.rnn.pad_packed_sequence gives x and lengths"
            raise DtypeError(
                f"{subject}: {name} is a {kind} of {owner} arrays, expected one array; {mend}"
            )


def _as_array(
    subject: str, name: str, value: Any, engine: Engine, dtype: str | None
) -> tuple[Any, ArrayInfo]:
    """Return an array as it is, a nested sequence of numbers as a NumPy array, and what it is."""
    if isinstance(value, tuple | list):
        _check_plain(subject, name, value)
        try:
            numbers = np.asarray(value)
        except ValueError:
            raise ShapeError(
                f"{subject}: {name} is a sequence of parts of different lengths; "
                "pad them: x, lengths = seqcore.pad(parts)"
            ) from None
        if numbers.dtype.kind not in "fiu" and numbers.dtype.name not in DTYPES and numbers.size:
            raise DtypeError(
                f"{subject}: {name} is a sequence of {numbers.dtype.name}, expected real numbers"
            )
        # Arrays in a sequence have a dtype of their own, which is not changed without a word.
        if not any(isinstance(part, np.ndarray) for part in value):
            with np.errstate(over="ignore"):
                value = numbers.astype(numpy_dtype(dtype or "float32"))
            _check_range(subject, name, numbers, value)
        else:
            value = numbers
    info = engine.info(value)
    if info is None:
        raise DtypeError(
            f"{subject}: {name} is {type(value).__name__}, expected a NumPy array, a nested "
            "sequence of numbers, or an array of an installed backend"
        )
    return value, info


def _fits(found: tuple[int | None, ...], expected: tuple[int | None, ...]) -> bool:
    """Return whether shapes are equal, as far as a trace knows their sizes."""
    return found == expected or (
        len(found) == len(expected)
        and all(None in (a, b) or a == b for a, b in zip(found, expected, strict=True))
    )


def _check_dtype(what: str, dtype: str) -> None:
    if dtype not in DTYPES:
        raise DtypeError(
            f"{what} is {dtype}, expected one of {', '.join(DTYPES)}; cast it, as in "
            "x.astype('float32')"
        )


def choose_device(subject: str, engine: Engine, seen: list[ArrayInfo]) -> str:
    """Return the device of the native arrays, which wins, else the one asked for."""
    # NumPy arrays among native ones follow them.
    devices = {info.device for info in seen if info.device}
    if engine.placed_on is not None:
        devices.add(engine.placed_on)
    if len(devices) > 1:
        raise ArgumentError(
            f"{subject}: received arrays on {' and '.join(sorted(devices))}, expected one device; "
            "move them to one"
        )
    device = next(iter(devices), engine.device)
    argument = engine.settings.origins.get("device") == "argument"
    if argument and engine.device != device:
        raise ArgumentError(
            f"{subject}: device={engine.device!r} was asked for and the arrays are on {device!r}; "
            "leave the argument out or move the arrays"
        )
    return device


@functools.lru_cache(maxsize=4096)
def canonical_shapes(layer: AnyLayer, features: int) -> dict[str, tuple[int, ...]]:
    """Return the canonical weights' shapes by name, in their order; not to be changed."""
    return weight_shapes(layer, features)


def _axes(layer: AnyLayer, weight: str) -> str:
    """Return what the axes of a weight mean, as the cell it belongs to names them."""
    for prefix, cell, _ in cells(layer, 1):
        name = weight.removeprefix(prefix)
        if weight.startswith(prefix) and name in weight_axes(cell):
            return weight_axes(cell)[name]
    raise AssertionError(weight)
