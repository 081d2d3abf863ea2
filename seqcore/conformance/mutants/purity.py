"""Calls with side effects, and memory taken for what it is not: PURE and LAYOUT."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from seqcore.conformance.mutants import mutant, replaced
from seqcore.conformance.mutants.wrong import Call, Twisted, WrongBackend, twisted, wrong
from seqcore.ops import Array, Arrays
from seqcore.runtime import inputs, planned_call
from seqcore.spi import Backend, GradientParts, Request

# PURE-1: arguments.


def _writable(array: Array) -> bool:
    return bool(array.flags.writeable)


class _Writes(Twisted):
    """Writes into what it is given, before the honest run or after it."""

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> Any:
        found = super().run(request, prepared, x, mask, initial_state)
        self.write(prepared, x, mask, initial_state)
        return found

    def write(self, weights: Any, x: Array, mask: Array | None, state: Arrays) -> None:
        raise NotImplementedError


class _WritesWeights(_Writes):
    def write(self, weights: Any, x: Array, mask: Array | None, state: Arrays) -> None:
        kernel = weights["recurrent_kernel"]
        if _writable(kernel):
            kernel *= 1.5


class _WritesX(_Writes):
    def write(self, weights: Any, x: Array, mask: Array | None, state: Arrays) -> None:
        if _writable(x):
            x *= 0.5


class _CleansX(_Writes):
    """Zeroes masked input where it lies."""

    def write(self, weights: Any, x: Array, mask: Array | None, state: Arrays) -> None:
        if mask is not None and _writable(x):
            x[~mask] = 0


class _WritesMask(_Writes):
    def write(self, weights: Any, x: Array, mask: Array | None, state: Arrays) -> None:
        if mask is not None and _writable(mask):
            mask[:] = True


class _WritesState(_Writes):
    """Leaves the last state in the memory of the first."""

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> Any:
        sequence, final = Twisted.run(self, request, prepared, x, mask, initial_state)
        for first, last in zip(initial_state, final, strict=True):
            if _writable(first):
                first[:] = last
        return sequence, final


class _WritesCotangents(Twisted):
    """Adds up in the cotangent of the final state."""

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> GradientParts:
        parts = super().pullback(request, prepared, residuals, d_sequence, d_state)
        for d in (d_sequence, *d_state):
            if d is not None and _writable(d):
                d *= 2
        return parts


wrong("PURE-1", "weights changed in place", lambda: WrongBackend(_WritesWeights()))
wrong("PURE-1", "x changed in place", lambda: WrongBackend(_WritesX()))
wrong("PURE-1", "masked x set to 0 in place", lambda: WrongBackend(_CleansX()))
wrong("PURE-1", "the mask changed in place", lambda: WrongBackend(_WritesMask()))
wrong("PURE-1", "the initial state overwritten by the last", lambda: WrongBackend(_WritesState()))
wrong("PURE-1", "cotangents changed in place", lambda: WrongBackend(_WritesCotangents()))


class _NoCopy(WrongBackend):
    def copy(self, array: Array) -> Array:
        return array


wrong("PURE-1", "a bound layer that sees later changes of its weights", _NoCopy)


# PURE-2: results are the caller's.


class _Buffered(Twisted):
    """Returns sequences in memory that the next call of that shape uses again."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: dict[Any, Array] = {}

    def run(self, *arguments: Any) -> Any:
        y, final = super().run(*arguments)
        assert not isinstance(y, tuple)
        return self.put("y", y), tuple(self.put(f"state {k}", h) for k, h in enumerate(final))

    def put(self, name: str, value: Array) -> Array:
        key = (name, value.shape, value.dtype)
        buffer = self.buffers.setdefault(key, np.empty_like(value))
        buffer[...] = value
        return buffer


class _BufferedGradients(_Buffered):
    """The same for the gradients of the weights alone."""

    def run(self, *arguments: Any) -> Any:
        return Twisted.run(self, *arguments)

    def pullback(self, *arguments: Any) -> GradientParts:
        d_weights, d_x, d_initial = super().pullback(*arguments)
        return {name: self.put(name, d) for name, d in d_weights.items()}, d_x, d_initial


wrong("PURE-2", "results in a buffer that is used again", lambda: WrongBackend(_Buffered()))
wrong(
    "PURE-2", "gradients in a buffer that is used again", lambda: WrongBackend(_BufferedGradients())
)


def _same_state(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Return the initial state itself where no step is valid."""
    mask, state = call[2], call[3]
    return y, state if mask is not None and not mask.any() else final


class _HandsOn(Twisted):
    """Returns the cotangent of the final state as the gradient of the initial one."""

    def pullback(
        self, request: Any, prepared: Any, residuals: Any, d_sequence: Any, d_state: Any
    ) -> GradientParts:
        d_weights, d_x, d_initial = super().pullback(
            request, prepared, residuals, d_sequence, d_state
        )
        same = (np.array_equal(a, b) for a, b in zip(d_initial, d_state, strict=True))
        return d_weights, d_x, tuple(d_state) if all(same) else d_initial


twisted("PURE-2", "a final state that is the initial state's own array", after=_same_state)
wrong("PURE-2", "a gradient that is the cotangent's own array", lambda: WrongBackend(_HandsOn()))


class _SeesX(Twisted):
    """Keeps x for the pullback where it lies."""

    def _own(self, value: Array, dtype: str) -> Array:
        return value


wrong("PURE-2", "a pullback that sees later changes of x", lambda: WrongBackend(_SeesX()))

# PURE-3: repetition.


def _noise(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Add one eps here and there, as sums in the order of arrival do."""
    random = np.random.default_rng()
    up = random.integers(0, 2, y.shape) * np.spacing(y)
    return (y + up).astype(y.dtype), final


twisted("PURE-3", "noise of one eps", after=_noise)


class _Counts(Twisted):
    """Is right for the first call and a little off for every later one."""

    def __init__(self) -> None:
        super().__init__(after=self.later)
        self.calls = 0

    def later(self, request: Request, call: Call, y: Array, final: Arrays) -> Any:
        self.calls += 1
        if self.calls == 1:
            return y, final
        return (y * (1 + np.finfo(np.float32).eps)).astype(y.dtype), final


wrong("PURE-3", "a first call that is not like the later ones", lambda: WrongBackend(_Counts()))


class _Remembers(Twisted):
    """Keeps results and finds them again by a key that lacks something."""

    def __init__(self, lacking: str) -> None:
        super().__init__()
        self.lacking = lacking
        self.kept: dict[Any, Any] = {}

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> Any:
        parts = {
            "weights": tuple(value.tobytes() for value in prepared.values()),
            "x": (x.tobytes(), x.shape),
            "mask": None if mask is None else mask.tobytes(),
            "state": tuple(value.tobytes() for value in initial_state),
        }
        if self.lacking == "kind":
            parts["mask"] = mask is not None
        parts.pop(self.lacking, None)
        asked = replace(request, mask="none") if self.lacking == "mask" else request
        key = (asked, *parts.values())
        if key not in self.kept:
            self.kept[key] = super().run(request, prepared, x, mask, initial_state)
        y, final = self.kept[key]
        return y.copy(), tuple(h.copy() for h in final)


wrong("PURE-3", "a cache keyed without the mask", lambda: WrongBackend(_Remembers("mask")))
wrong(
    "PURE-3", "a cache keyed by whether there is a mask", lambda: WrongBackend(_Remembers("kind"))
)
wrong("PURE-3", "a cache keyed without the state", lambda: WrongBackend(_Remembers("state")))
wrong("PURE-3", "a cache keyed without the weights", lambda: WrongBackend(_Remembers("weights")))


class _ScratchByUnits(Twisted):
    """Keeps the first batch's scratch memory and cuts what does not fit into it."""

    def __init__(self) -> None:
        super().__init__(after=self.fit)
        self.most: dict[Any, int] = {}

    def fit(self, request: Request, call: Call, y: Array, final: Arrays) -> Any:
        first = self.most.setdefault(request, len(y))
        if len(y) <= first:
            return y, final
        y = y.copy()
        y[first:] = 0
        return y, final


wrong("PURE-3", "a cache keyed without the shape", lambda: WrongBackend(_ScratchByUnits()))


class _Unlocked(_Buffered):
    """Computes in one buffer for all threads and copies the result out of it afterwards."""

    def run(self, *arguments: Any) -> Any:
        y, final = Twisted.run(self, *arguments)
        assert not isinstance(y, tuple)
        shared = self.put("y", y)
        time.sleep(0.0005)
        return shared.copy(), final


wrong("PURE-3", "one buffer for all threads", lambda: WrongBackend(_Unlocked()))

# PURE-4: rows.


def _leaking(request: Request, call: Call, y: Array, final: Arrays) -> Any:
    """Let a NaN or an infinity reach every row."""
    with np.errstate(invalid="ignore"):
        nothing = 0 * y.sum(0, keepdims=True)
    return (y + nothing).astype(y.dtype), final


def _quantised(request: Request, call: Call) -> Call:
    """Cut the input into 4096 levels between zero and the largest value of all rows."""
    weights, x, mask, state = call
    known = np.abs(x[np.isfinite(x)])
    level = np.asarray(known.max() if known.size else 1, x.dtype) / 4096
    return weights, (np.round(x / level) * level).astype(x.dtype), mask, state


def _centred(request: Request, call: Call) -> Call:
    """Move the input by a thousandth of the rows' mean."""
    weights, x, mask, state = call
    known = np.where(np.isfinite(x), x, 0)
    return weights, (x - known.mean(0) / 1000).astype(x.dtype), mask, state


def _gradients_leaking(request: Request, parts: GradientParts) -> GradientParts:
    d_weights, d_x, d_initial = parts
    with np.errstate(invalid="ignore"):
        return d_weights, (d_x + 0 * d_x.sum(0, keepdims=True)).astype(d_x.dtype), d_initial


twisted("PURE-4", "NaN of one row in every row", after=_leaking)
twisted("PURE-4", "input cut into levels that depend on the largest row", before=_quantised)
twisted("PURE-4", "input that is moved by the mean of the rows", before=_centred)
twisted("PURE-4", "NaN of one row in the gradient of every row of x", gradients=_gradients_leaking)

# LAYOUT: memory layout.


def _as_it_lies(array: Array) -> Array:
    """Read an array's memory in row-major order, whatever its strides are."""
    return np.asarray(array.ravel(order="K")).reshape(array.shape)


def _x_as_it_lies(request: Request, call: Call) -> Call:
    weights, x, mask, state = call
    return weights, _as_it_lies(x), mask, state


def _weights_as_they_lie(request: Request, call: Call) -> Call:
    return {name: _as_it_lies(value) for name, value in call[0].items()}, *call[1:]


def _mask_as_it_lies(request: Request, call: Call) -> Call:
    weights, x, mask, state = call
    return weights, x, None if mask is None else _as_it_lies(mask), state


def _state_as_it_lies(request: Request, call: Call) -> Call:
    weights, x, mask, state = call
    return weights, x, mask, tuple(_as_it_lies(value) for value in state)


twisted("LAYOUT-1", "x read as it lies in memory", before=_x_as_it_lies)
twisted("LAYOUT-1", "weights read as they lie in memory", before=_weights_as_they_lie)
twisted("LAYOUT-1", "the mask read as it lies in memory", before=_mask_as_it_lies)
twisted("LAYOUT-1", "the initial state read as it lies in memory", before=_state_as_it_lies)


@mutant("LAYOUT-1", "cotangents read as they lie in memory")
def _cotangents_as_they_lie() -> Iterator[Backend]:
    honest = inputs.read_cotangents

    def read(*arguments: Any) -> Arrays:
        return tuple(_as_it_lies(value) for value in honest(*arguments))

    with replaced(planned_call, "read_cotangents", read):
        yield WrongBackend()


def _strides_positive(request: Request, call: Call) -> Call:
    """Read an array of negative strides from its lowest address on."""
    weights, x, mask, state = call
    turned = tuple(slice(None, None, -1 if stride < 0 else 1) for stride in x.strides)
    return weights, x[turned], mask, state


twisted("LAYOUT-1", "negative strides read as positive ones", before=_strides_positive)


class _Refuses(WrongBackend):
    """Takes no array that it cannot write to."""

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        if isinstance(value, np.ndarray) and not value.flags.writeable:
            raise ValueError("buffer source array is read-only")
        return super().asarray(value, dtype, device)


class _Contiguous(WrongBackend):
    """Takes contiguous arrays only."""

    def asarray(self, value: Any, dtype: str, device: str) -> Array:
        if isinstance(value, np.ndarray) and not value.flags.c_contiguous:
            raise ValueError("array is not contiguous")
        return super().asarray(value, dtype, device)


wrong("LAYOUT-1", "read-only arrays refused", _Refuses)
wrong("LAYOUT-1", "arrays that are not contiguous refused", _Contiguous)
