"""The float64 reference and what rounding noise makes of it.

The equations run in float64 on NumPy once as they are, and a few times with every product,
activation and state multiplied by `1 +- eps / 2` at random, where eps is that of the dtype compared
(or of `matmul_precision`, if that is coarser). With `n` the worst deviation of the noisy runs, one
engine may be `4 n + 8` eps from the reference in an output and `8 n + 8` in a gradient. So what is
allowed follows from the computation and not from the engines. A mistake in the equations that
all of them share does not show here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore.runtime.calls import read_call
from seqcore.runtime.inputs import Engine, reading_engine
from seqcore.runtime.planned_call import Gradients, plan_call
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import AnyLayer
from seqcore.spec.outputs import output_names, state_names
from seqcore.spi import ArrayInfo, Backend, Generic

Named = dict[str, NDArray[Any]]

NOISY_RUNS = 4
_PRECISION_EPS = {"highest": 0.0, "tf32": 2.0**-10, "bfloat16": 2.0**-7}


class Reference:
    """A layer's outputs and gradients in float64, with what is allowed beside them.

    Attributes:
        dtype: The dtype that is compared.
        names: The names of the outputs.
        outputs: The outputs by name.
        gradients: The gradients of weights, `x` and `initial_state.h` and so on, by name, if asked
            for.
        cotangents: The standard-normal cotangents that gave them.
        limits: By name, how far one engine may be from the reference, in eps.
    """

    def __init__(
        self,
        layer: AnyLayer,
        weights: Mapping[str, Any],
        x: Any,
        given: Mapping[str, Any],
        *,
        precision: str,
        seed: int,
        gradients: bool = True,
    ) -> None:
        reader = reading_engine(str(layer))
        numpy = reader.backend
        # Reads and checks everything once; what follows works on sound arrays.
        arrays, inputs = read_call(layer, reader, weights, x, **given)
        self.dtype = inputs.dtype
        self.eps = eps_of(inputs.dtype)
        self.names = output_names(layer)
        random = np.random.default_rng(seed)
        self.cotangents: tuple[NDArray[Any], ...] = ()

        def run(ops: Ops) -> tuple[Named, Named]:
            engine = Engine(_Equations(numpy, ops), reader.settings, native=False)
            wide, wide_inputs = read_call(
                layer,
                engine,
                {name: _wide(value) for name, value in arrays.items()},
                _wide(inputs.x),
                inputs.mask,
                None,
                tuple(_wide(value) for value in inputs.state),
            )
            planned = plan_call(layer, engine, wide_inputs, "yes" if gradients else "no")
            prepared = planned.program.prepare(wide)
            if not gradients:
                return dict(zip(self.names, planned.run(prepared), strict=True)), {}
            outputs, pullback = planned.vjp(prepared)
            if not self.cotangents:
                drawn = (random.standard_normal(y.shape) for y in outputs)
                # In the compared dtype from the start, so that all engines get the same.
                self.cotangents = tuple(y.astype(numpy_dtype(self.dtype)) for y in drawn)
            found = pullback(tuple(_wide(y) for y in self.cotangents))
            return dict(zip(self.names, outputs, strict=True)), by_name(layer, found)

        self.outputs, self.gradients = run(numpy.ops)
        noise = max(self.eps, _PRECISION_EPS[precision])
        noisy = [run(_Noisy(numpy.ops, noise, random)) for _ in range(NOISY_RUNS)]
        self.limits = {
            name: 4 * max(self.distance(name, one[name], ref) for one, _ in noisy) + 8
            for name, ref in self.outputs.items()
        }
        apart = [
            self.distance(name, one[name], ref)
            for _, one in noisy
            for name, ref in self.gradients.items()
        ]
        self.limits |= dict.fromkeys(self.gradients, 8 * max(apart, default=0.0) + 8)

    def steps(self, name: str, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
        """Return the worst difference of an output at every step, in eps; time is axis 1."""
        return np.asarray(np.fmax.reduce(_apart(a, b), (0, 2)) / self._unit(name))

    def distance(self, name: str, a: NDArray[Any], b: NDArray[Any]) -> float:
        """Return the worst difference of two arrays called `name`, in eps."""
        return float(np.fmax.reduce(_apart(a, b), None, initial=0.0)) / self._unit(name)

    def _unit(self, name: str) -> float:
        known = self.outputs.get(name, self.gradients.get(name))
        largest = 0.0 if known is None else float(np.abs(known).max(initial=0.0))
        return self.eps * max(1.0, largest)


def by_name(layer: AnyLayer, gradients: Gradients) -> Named:
    """Return gradients as one mapping of arrays by name."""
    states = zip(state_names(layer), gradients.initial_state, strict=True)
    named = {f"initial_state.{name}": d for name, d in states}
    return {**gradients.weights, "x": gradients.x, **named}


def eps_of(dtype: str) -> float:
    """Return the distance from 1 to the next number of a dtype of the spec."""
    if dtype == "bfloat16":
        return 2.0**-7
    return float(np.finfo(dtype).eps)


def _wide(value: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(value, np.float64)


def _apart(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    """Return the differences; infinite where one side alone is NaN, NaN where both are."""
    a, b = _wide(a), _wide(b)
    with np.errstate(invalid="ignore"):  # inf - inf, which is no difference
        apart = np.where(a == b, 0.0, np.abs(a - b))
    return np.where(np.isnan(a) ^ np.isnan(b), np.inf, apart)


class _Equations(Backend):
    """NumPy's array border with other functions behind the equations, and no other way to run."""

    def __init__(self, numpy: Backend, ops: Ops) -> None:
        self.name = numpy.name
        self._numpy = numpy
        self.ops = ops
        self.implementations = (Generic(ops),)

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        return self._numpy.asarray(value, dtype, device)

    def to_numpy(self, array: Array) -> Any:
        return self._numpy.to_numpy(array)

    def describe(self, array: Array) -> ArrayInfo:
        return self._numpy.describe(array)

    def version(self) -> str:
        return self._numpy.version()

    def devices(self) -> tuple[str, ...]:
        return self._numpy.devices()


class _Noisy(Ops):
    """Another library's functions, with the noise of one rounding after those that round."""

    def __init__(self, inner: Ops, eps: float, random: np.random.Generator) -> None:
        self._inner, self._half, self._random = inner, eps / 2, random

    def _noise(self, value: Array) -> Array:
        signs = self._random.integers(0, 2, value.shape) * 2 - 1
        return value * (1 + self._half * signs)

    def matmul(self, a: Array, b: Array) -> Array:
        return self._noise(self._inner.matmul(a, b))

    def tanh(self, x: Array) -> Array:
        return self._noise(self._inner.tanh(x))

    def sigmoid(self, x: Array) -> Array:
        return self._noise(self._inner.sigmoid(x))

    def scan(
        self, step: Step, carry: Arrays, xs: Arrays, *, reverse: bool = False
    ) -> tuple[Arrays, Arrays]:
        def noisy(carry: Arrays, at: Arrays) -> tuple[Arrays, Arrays]:
            carry, emitted = step(carry, at)
            return tuple(self._noise(value) for value in carry), emitted

        return self._inner.scan(noisy, carry, xs, reverse=reverse)

    def where(self, condition: Array, a: Array, b: Array) -> Array:
        return self._inner.where(condition, a, b)

    def concat(self, arrays: Sequence[Array], axis: int) -> Array:
        return self._inner.concat(arrays, axis)

    def split(self, x: Array, parts: int) -> Sequence[Array]:
        return self._inner.split(x, parts)

    def swap(self, x: Array) -> Array:
        return self._inner.swap(x)

    def flip(self, x: Array, axis: int) -> Array:
        return self._inner.flip(x, axis)

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        return self._inner.reshape(x, shape)

    def sum(self, x: Array) -> Array:
        return self._inner.sum(x)

    def zeros(self, shape: tuple[int | None, ...], like: Array) -> Array:
        return self._inner.zeros(shape, like)

    def arange(self, stop: int, like: Array) -> Array:
        return self._inner.arange(stop, like)

    def cast(self, x: Array, dtype: str) -> Array:
        return self._inner.cast(x, dtype)
