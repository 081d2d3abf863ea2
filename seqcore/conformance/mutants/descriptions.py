"""Wrong names, initial weights, descriptions and files (clauses NAME, INIT, DESC)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from seqcore import weights as weight_files
from seqcore.conformance.mutants import mutant, replaced
from seqcore.conformance.mutants.wrong import Call, Twisted, WrongBackend
from seqcore.errors import SpecError
from seqcore.runtime import inputs
from seqcore.spec import description, initializers, weights
from seqcore.spec.layers import GRU, LSTM, Recurrent
from seqcore.spi import Request


def _given(bend: Callable[[Any], Any]) -> Iterator[WrongBackend]:
    """Change the canonical weights that each cell gets."""

    def before(request: Request, call: Call) -> Call:
        given, x, mask, state = call
        return bend(given), x, mask, state

    yield WrongBackend(Twisted(before=before))


@contextmanager
def _shapes_anew() -> Iterator[None]:
    """Forget the shapes that the runtime keeps, before and after."""
    inputs.canonical_shapes.cache_clear()
    try:
        yield
    finally:
        inputs.canonical_shapes.cache_clear()


@mutant("NAME-1", "the input is read as (time, batch, features)")
def _time_first() -> Iterator[WrongBackend]:
    def before(request: Request, call: Call) -> Call:
        given, x, mask, state = call
        return given, np.swapaxes(x, 0, 1).reshape(x.shape), mask, state

    yield WrongBackend(Twisted(before=before))


@mutant("NAME-2", "the recurrent kernel multiplies from the left")
def _from_the_left() -> Iterator[WrongBackend]:
    def bend(given: Any) -> Any:
        recurrent = given["recurrent_kernel"]
        blocks = np.split(recurrent, recurrent.shape[1] // recurrent.shape[0], 1)
        return given | {"recurrent_kernel": np.concatenate([b.T for b in blocks], 1)}

    yield from _given(bend)


@mutant("NAME-2", "a GRU has no recurrent bias")
def _no_recurrent_bias() -> Iterator[WrongBackend]:
    honest = weights.cell_shapes

    def shapes(cell: Any, features: int) -> dict[str, tuple[int, ...]]:
        found = honest(cell, features)
        if isinstance(cell, GRU):
            found.pop("recurrent_bias", None)
        return found

    with _shapes_anew(), replaced(weights, "cell_shapes", shapes):
        yield WrongBackend()


@mutant("NAME-3", "the gates' columns alternate")
def _interleaved() -> Iterator[WrongBackend]:
    def bend(given: Any) -> Any:
        units = given["recurrent_kernel"].shape[0]
        return {
            name: value.reshape(*value.shape[:-1], units, -1).swapaxes(-1, -2).reshape(value.shape)
            for name, value in given.items()
        }

    yield from _given(bend)


@mutant("NAME-4", "a stack counts its members from 1")
def _from_one() -> Iterator[WrongBackend]:
    honest = weights.parts

    def parts(layer: Any) -> Any:
        return tuple(
            (f"layers.{index}.", part) if prefix.startswith("layers.") else (prefix, part)
            for index, (prefix, part) in enumerate(honest(layer), 1)
        )

    with _shapes_anew(), replaced(weights, "parts", parts):
        yield WrongBackend()


@mutant("INIT-1", "the two kernels exchange their initializers")
def _exchanged() -> Iterator[WrongBackend]:
    honest = weights.initial_weights

    def initial(layer: Any, features: int, seed: int, dtype: str) -> Any:
        if isinstance(layer, Recurrent):
            kernel, recurrent = layer.recurrent_initializer, layer.kernel_initializer
            layer = layer.replace(kernel_initializer=kernel, recurrent_initializer=recurrent)
        return honest(layer, features, seed, dtype)

    with replaced(weights, "initial_weights", initial):
        yield WrongBackend()


def _drawn(kind: Any, draw: Callable[..., Any]) -> Iterator[WrongBackend]:
    """Give an initializer other values; `draw` also gets the honest ones."""
    honest = initializers.Initializer.values

    def values(self: Any, seed: int, name: str, shape: Any) -> Any:
        found = honest(self, seed, name, shape)
        return draw(self, found, shape) if isinstance(self, kind) else found

    with replaced(initializers.Initializer, "values", values):
        yield WrongBackend()


@mutant("INIT-2", "the weight's name does not matter")
def _nameless() -> Iterator[WrongBackend]:
    honest = initializers.Initializer.values

    def values(self: Any, seed: int, name: str, shape: Any) -> Any:
        return honest(self, seed, "", shape)

    with replaced(initializers.Initializer, "values", values):
        yield WrongBackend()


@mutant("INIT-2", "the values depend on what was made before")
def _stateful() -> Iterator[WrongBackend]:
    honest = initializers.Initializer.values
    count = 0

    def values(self: Any, seed: int, name: str, shape: Any) -> Any:
        nonlocal count
        count += 1
        return honest(self, seed + count, name, shape)

    with replaced(initializers.Initializer, "values", values):
        yield WrongBackend()


@mutant("INIT-3", "stddev is taken for the variance")
def _variance() -> Iterator[WrongBackend]:
    yield from _drawn(
        initializers.RandomNormal,
        lambda self, value, _: self.mean + (value - self.mean) / np.sqrt(self.stddev or 1),
    )


@mutant("INIT-3", "random_uniform is symmetric about 0")
def _symmetric() -> Iterator[WrongBackend]:
    yield from _drawn(
        initializers.RandomUniform, lambda self, value, _: value - (self.minval + self.maxval) / 2
    )


@mutant("INIT-3", "constant is 0")
def _constant_zero() -> Iterator[WrongBackend]:
    yield from _drawn(initializers.Constant, lambda self, value, _: value * 0)


@mutant("INIT-4", "the limit of glorot_uniform counts one gate")
def _one_gate() -> Iterator[WrongBackend]:
    def draw(self: Any, value: Any, shape: Any) -> Any:
        return value * np.sqrt((shape[0] + shape[-1]) / (shape[0] + shape[-1] / 4))

    yield from _drawn(initializers.GlorotUniform, draw)


@mutant("INIT-5", "the signs of R's diagonal stay as they come")
def _signs() -> Iterator[WrongBackend]:
    def draw(self: Any, value: Any, shape: Any) -> Any:
        turned = np.ones(min(shape))
        turned[::2] = -1
        return value * (turned if shape[0] >= shape[1] else turned[:, None])

    yield from _drawn(initializers.Orthogonal, draw)


@mutant("INIT-5", "orthogonal ignores its gain")
def _no_gain() -> Iterator[WrongBackend]:
    yield from _drawn(initializers.Orthogonal, lambda self, value, _: value / (self.gain or 1))


def _initial(bend: Callable[[Any, Any], None]) -> Iterator[WrongBackend]:
    """Change an LSTM's initial bias in place, given its units."""
    honest = weights.initial_weights

    def initial(layer: Any, features: int, seed: int, dtype: str) -> Any:
        found = honest(layer, features, seed, dtype)
        for prefix, cell, _ in weights.cells(layer, features):
            if isinstance(cell, LSTM) and cell.use_bias and cell.unit_forget_bias:
                bend(found[prefix + "bias"], cell.units)
        return found

    with replaced(weights, "initial_weights", initial):
        yield WrongBackend()


@mutant("INIT-6", "the forget slice is not set to 1")
def _no_forget_bias() -> Iterator[WrongBackend]:
    def bend(bias: Any, units: int) -> None:
        bias[units : 2 * units] = bias[:units]

    yield from _initial(bend)


@mutant("INIT-6", "the slice set to 1 is the candidate's")
def _wrong_slice() -> Iterator[WrongBackend]:
    def bend(bias: Any, units: int) -> None:
        bias[2 * units : 3 * units], bias[units : 2 * units] = 1, bias[:units]

    yield from _initial(bend)


@mutant("INIT-7", "float32 weights are cut off, not rounded")
def _cut_off() -> Iterator[WrongBackend]:
    honest = weights.initial_weights

    def cut(found: Any, wide: Any) -> Any:
        return np.where(np.abs(found) > np.abs(wide), np.nextafter(found, np.float32(0)), found)

    def initial(layer: Any, features: int, seed: int, dtype: str) -> Any:
        found = honest(layer, features, seed, dtype)
        if dtype != "float32":
            return found
        wide = honest(layer, features, seed, "float64")
        return {name: cut(value, wide[name]) for name, value in found.items()}

    with replaced(weights, "initial_weights", initial):
        yield WrongBackend()


def _written(bend: Callable[[dict[str, Any]], None]) -> Iterator[WrongBackend]:
    """Change the plain data of a description, in place."""
    honest = description.to_data

    def to_data(layer: Any) -> dict[str, Any]:
        data = honest(layer)
        bend(data)
        return data

    with replaced(description, "to_data", to_data):
        yield WrongBackend()


@mutant("DESC-1", "the type is written in lower case")
def _lower_case() -> Iterator[WrongBackend]:
    def bend(data: dict[str, Any]) -> None:
        data["type"] = data["type"].lower()

    yield from _written(bend)


@mutant("DESC-2", "what is absent is written as null")
def _nulls() -> Iterator[WrongBackend]:
    def bend(data: dict[str, Any]) -> None:
        if data["type"] == "Bidirectional":
            data.setdefault("backward_layer", None)

    yield from _written(bend)


@mutant("DESC-3", "unknown fields are dropped")
def _lenient() -> Iterator[WrongBackend]:
    honest = description.from_data

    def from_data(data: Any, subject: str = "layer description") -> Any:
        try:
            return honest(data, subject)
        except SpecError:
            known = ("type", "units", "layer", "layers", "merge_mode")
            return honest({key: data[key] for key in known if key in data}, subject)

    with replaced(description, "from_data", from_data):
        yield WrongBackend()


@mutant("DESC-4", "mask_output is not written")
def _lossy() -> Iterator[WrongBackend]:
    yield from _written(lambda data: data.pop("mask_output", None))


@mutant("DESC-5", "a file's last number comes back changed")
def _changed_number() -> Iterator[WrongBackend]:
    honest = weight_files.load

    def load(path: Any) -> Any:
        layer, read = honest(path)
        found = {name: np.array(value) for name, value in read.items()}
        last = next(reversed(found.values()))
        last.reshape(-1)[-1:] += last.dtype.type(1)
        return layer, found

    with replaced(weight_files, "load", load):
        yield WrongBackend()


@mutant("DESC-5", "the format version is not looked at")
def _any_version() -> Iterator[WrongBackend]:
    honest = weight_files._described

    def described(path: Any, metadata: Any) -> Any:
        return honest(path, {**metadata, "seqcore.format": weight_files.FORMAT})

    with replaced(weight_files, "_described", described):
        yield WrongBackend()
