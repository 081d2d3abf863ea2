"""Wrong array borders, declarations and errors (clauses ARR, CAP, ERR)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from seqcore.conformance.mutants import Unavailable, mutant, original, replaced
from seqcore.conformance.mutants.wrong import Call, Given, Twisted, WrongBackend, misread
from seqcore.errors import InputError, ShapeError
from seqcore.ops import Array, Arrays
from seqcore.registry import registry
from seqcore.runtime import calls, inputs, planned_call
from seqcore.spec import layers
from seqcore.spi import Backend, Capabilities, Generic, Request


def _native() -> Backend:
    """Return a copy of an installed backend with arrays of its own; any will do.

    Raises:
        Unavailable: if none is installed.
    """
    for name in reversed(registry.names()):
        if not registry.missing(name) and registry.get(name).transforms is not None:
            found = copy.copy(registry.get(name))
            # What has been planned for the honest backend stays with it.
            found.__dict__.pop("programs", None)
            return found
    raise Unavailable("no backend with arrays of its own is installed")


@mutant("ARR-1", "NumPy arrays come back as lists")
def _lists() -> Iterator[Backend]:
    wrong = WrongBackend()
    with replaced(wrong, "to_numpy", lambda array: np.asarray(array).tolist()):
        yield wrong


@mutant("DTYPE-1", "float64 comes back as float32")
def _narrowed() -> Iterator[Backend]:
    wrong = WrongBackend()
    with replaced(wrong, "to_numpy", lambda array: np.asarray(array, np.float32)):
        yield wrong


@mutant("ARR-2", "native arrays come back as NumPy's")
def _not_native() -> Iterator[Backend]:
    def converter(engine: Any) -> Callable[[Array], Any]:
        return engine.backend.to_numpy  # type: ignore[no-any-return]

    with replaced(planned_call, "converter", converter):
        yield _native()


@mutant("ARR-3", "beside a native array a backend argument is ignored")
def _argument_ignored() -> Iterator[Backend]:
    honest = original(inputs, "resolve")

    def resolve(backend: str | None, options: Any, native: str | None) -> Any:
        return honest(None if native else backend, options, native)

    with replaced(inputs, "resolve", resolve):
        yield _native()


@mutant("ARR-4", "arrays lose their connection to the framework's differentiation")
def _cut_off() -> Iterator[Backend]:
    wrong = _native()
    honest = wrong.asarray

    def asarray(value: Any, dtype: str, device: str) -> Array:
        return honest(np.array(wrong.to_numpy(honest(value, dtype, device))), dtype, device)

    with replaced(wrong, "asarray", asarray):
        yield wrong


class _Scaled(Generic):
    """The generic implementation, off by a thousandth where values are hidden by a trace."""

    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Array, Arrays]:
        sequence: Array
        sequence, final = super().run(request, prepared, x, mask, initial_state)
        return (sequence * 1.001 if request.traced else sequence), final


@mutant("ARR-5", "inside a transformation sequences are a thousandth too large")
def _wrong_when_traced() -> Iterator[Backend]:
    wrong = _native()
    with replaced(wrong, "implementations", (_Scaled(wrong.ops),)):
        yield wrong


class _NoHalves(Generic):
    """The generic implementation without float16."""

    def refuses(self, request: Request) -> str | None:
        return "has no float16" if request.dtype == "float16" else super().refuses(request)


@mutant("CAP-1", "float16 is declared supported, and no implementation takes it")
def _over_claim() -> Iterator[Backend]:
    wrong = WrongBackend()
    with replaced(wrong, "implementations", (_NoHalves(wrong.ops),)):
        yield wrong


@mutant("CAP-1", "gradients are declared supported, and there are none")
def _no_gradients() -> Iterator[Backend]:
    class Forward(Generic):
        def vjp(self, *arguments: Any) -> Any:
            raise NotImplementedError("no gradients")

    wrong = WrongBackend()
    with replaced(wrong, "implementations", (Forward(wrong.ops),)):
        yield wrong


@mutant("CAP-2", "float16 is declared unsupported, and works")
def _under_claim() -> Iterator[Backend]:
    capabilities = Capabilities(
        unsupported={**registry.get("numpy").capabilities.unsupported, "float16": "too short"}
    )
    yield WrongBackend(capabilities=capabilities)


@mutant("CAP-2", "what is declared unsupported is run all the same, and wrong")
def _gate_open() -> Iterator[Backend]:
    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        return (sequence * 2 if call[2] is not None else sequence), final

    capabilities = Capabilities(
        unsupported={**registry.get("numpy").capabilities.unsupported, "masks": "it has none"}
    )
    with (
        replaced(inputs, "require", lambda *_: None),
        replaced(calls, "require", lambda *_: None),
    ):
        yield WrongBackend(Twisted(after=after), capabilities=capabilities)


@mutant("ERR-1", "messages do not say what was received")
def _silent() -> Iterator[Backend]:
    class Terse(ShapeError):
        def __str__(self) -> str:
            return "invalid argument"

    with replaced(inputs, "ShapeError", Terse):
        yield WrongBackend()


@mutant("ERR-2", "after an error results are wrong")
def _shaken() -> Iterator[Backend]:
    honest = inputs.read_inputs
    failed = False

    def read(*arguments: Any, **others: Any) -> Any:
        nonlocal failed
        try:
            return honest(*arguments, **others)
        except InputError:
            failed = True
            raise

    def after(request: Request, call: Call, sequence: Array, final: Arrays) -> tuple[Array, Arrays]:
        if failed:
            return sequence * 1.001, tuple(value * 1.001 for value in final)
        return sequence, final

    with replaced(calls, "read_inputs", read):
        yield WrongBackend(Twisted(after=after))


@mutant("ERR-3", "any activation is taken, and tanh computed")
def _any_choice() -> Iterator[Backend]:
    with replaced(layers, "_check_choice", lambda *_: None):
        yield WrongBackend()


@mutant("ERR-4", "a wrong shape is a ValueError")
def _other_shape_error() -> Iterator[Backend]:
    with replaced(inputs, "ShapeError", ValueError):
        yield WrongBackend()


@mutant("ERR-4", "a wrong data type is a TypeError")
def _other_dtype_error() -> Iterator[Backend]:
    with replaced(inputs, "DtypeError", TypeError):
        yield WrongBackend()


@mutant("ERR-5", "integers are taken for a mask")
def _integer_mask() -> Iterator[Backend]:
    def bend(layer: Any, given: Given) -> Given:
        if isinstance(given.mask, np.ndarray) and given.mask.dtype.kind == "i":
            return given._replace(mask=given.mask != 0)
        return given

    with misread(bend):
        yield WrongBackend()


@mutant("ERR-5", "a wrong mask is a ShapeError")
def _other_mask_error() -> Iterator[Backend]:
    with replaced(inputs, "MaskError", ShapeError):
        yield WrongBackend()


@mutant("ERR-6", "a wrong state is a ShapeError")
def _other_state_error() -> Iterator[Backend]:
    with replaced(inputs, "StateError", ShapeError):
        yield WrongBackend()


@mutant("ERR-7", "a wrong weight is a KeyError")
def _other_weights_error() -> Iterator[Backend]:
    with replaced(inputs, "WeightsError", KeyError):
        yield WrongBackend()


@mutant("ERR-7", "an extra weight is ignored")
def _extra_weight() -> Iterator[Backend]:
    honest = inputs.read_weights

    def read(layer: Any, engine: Any, weights: Any) -> Any:
        known = inputs.canonical_shapes(layer, 1)
        return honest(layer, engine, {n: v for n, v in weights.items() if n in known})

    with replaced(calls, "read_weights", read):
        yield WrongBackend()


@mutant("ERR-8", "unknown options are ignored")
def _any_option() -> Iterator[Backend]:
    honest = original(inputs, "resolve")

    def resolve(backend: Any, options: Any, native: Any) -> Any:
        known = ("matmul_precision", "implementation")
        return honest(backend, {n: v for n, v in options.items() if n in known}, native)

    with replaced(inputs, "resolve", resolve):
        yield WrongBackend()


@mutant("ERR-8", "matmul_precision is accepted and ignored")
def _deaf() -> Iterator[Backend]:
    wrong = WrongBackend()
    ops = copy.copy(wrong.ops)
    with replaced(ops, "at", lambda precision: ops):
        yield WrongBackend(ops=ops)
