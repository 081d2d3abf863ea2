"""The process in which `seqcore plugin check` loads a plugin, which may do anything.

It takes lines of JSON and answers each with one; see `seqcore.workers`.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from seqcore.errors import reason_of
from seqcore.registry import Claim, Source, create, discover, missing_modules
from seqcore.spec.dtypes import DTYPES, numpy_dtype
from seqcore.spi import ArrayInfo, Backend
from seqcore.spi.registration import ENTRY_POINT_GROUP
from seqcore.spi.soundness import devices_of, version_of
from seqcore.workers import START_MEMORY, WorkerEnded, WorkerProcess, environment, serve

FROZEN = "seqcore.spi.registration"
"""All of seqcore that a registration module imports."""


class Load(msgspec.Struct, tag=True, frozen=True):
    """Load one entry point; answered by `Loaded`."""

    distribution: str
    entry: str


class Make(msgspec.Struct, tag=True, frozen=True):
    """Make a backend of the entry that was loaded; answered by `Made`."""

    backend: str


class Collect(msgspec.Struct, tag=True, frozen=True):
    """Collect the conformance suite with what plugins add to it; answered by `Collected`."""


class Announced(msgspec.Struct, frozen=True, kw_only=True):
    """A sound description of a backend; see `seqcore.spi.BackendSpec`."""

    name: str
    spi: str
    requires: list[str]
    missing: list[str]
    array_roots: list[str]
    install_hint: str


class Loaded(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What came of loading an entry.

    Attributes:
        seconds: How long it took.
        printed: The beginning of what it wrote to standard output.
        file: Where the module is; "" if it could not be imported.
        imported: What it imported beside its own package, Python and seqcore, by top-level name.
        of_seqcore: The modules of seqcore that it imports beside `seqcore.spi.registration`.
        backends: The backends that it gives.
        unsound: Names and reasons of those that it gives and that cannot be used.
        reason: Why it gives none at all; "" if it does.
    """

    seconds: float
    printed: str
    file: str
    imported: list[str]
    of_seqcore: list[str]
    backends: list[Announced]
    unsound: dict[str, str]
    reason: str

    def names(self) -> list[str]:
        """Return the names of all backends that it gives, usable or not."""
        return [*(one.name for one in self.backends), *self.unsound]


class Made(msgspec.Struct, tag=True, frozen=True, kw_only=True):
    """What a backend says of itself, and what its border does.

    Attributes:
        seconds: How long it took to make.
        version: Of its engine.
        devices: The devices at hand.
        dtypes: The data types declared supported.
        unsupported: By feature, the reason.
        not_implemented: The same.
        border: What arrays that go in and out again do wrong.
    """

    seconds: float
    version: str
    devices: list[str]
    dtypes: list[str]
    unsupported: dict[str, str]
    not_implemented: dict[str, str]
    border: list[str]


class Collected(msgspec.Struct, tag=True, frozen=True):
    """The suite can be collected."""

    cases: int


class Failed(msgspec.Struct, tag=True, frozen=True):
    """What was asked could not be done."""

    reason: str


Command = Load | Make | Collect
Reply = Loaded | Made | Collected | Failed


class Prober:
    """The process as its parent sees it; every answer takes `timeout` seconds at most."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._process = WorkerProcess(__name__, environment(2))
        self._process.limit_memory(START_MEMORY)

    def ask(self, command: Command) -> Reply:
        """Return the answer. A process that ends, or takes too long, has failed."""
        try:
            line = self._process.exchange(msgspec.json.encode(command), self._timeout)
        except WorkerEnded as error:
            return Failed(str(error))
        reply: Reply = msgspec.json.decode(line, type=Reply)
        return reply

    def close(self) -> None:
        """End the process."""
        self._process.close()


class Probe:
    """What the process knows of the entry under test."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}

    def answer(self, command: Command) -> Reply:
        """Do what the parent asks."""
        match command:
            case Load(distribution, entry):
                return self._load(distribution, entry)
            case Make(backend):
                return _made(self._claims[backend])
            case Collect():
                from seqcore.conformance.plugins import collect

                return Collected(len(collect()))

    def _load(self, distribution: str, entry: str) -> Loaded:
        (source,) = (
            one
            for one in discover(ENTRY_POINT_GROUP)
            if (one.distribution, one.name) == (distribution, entry)
        )
        if source.entry is None:
            return _loaded(source, "", set(), "")
        module = source.entry.module
        before = set(sys.modules)
        with _captured_output() as written:
            source.load()
        self._claims = {claim.spec.name: claim for claim in source.claims}
        return _loaded(source, module, set(sys.modules) - before, written[0])


def _loaded(source: Source, module: str, new: set[str], written: str) -> Loaded:
    faults = {problem.name: problem.reason for problem in source.problems}
    nothing = not source.claims and any(p.error is not None for p in source.problems)
    own = {"seqcore", module.partition(".")[0]}
    roots = {name.partition(".")[0] for name in new} - own - sys.stdlib_module_names
    found = sys.modules.get(module)
    return Loaded(
        seconds=source.seconds,
        printed=source.printed or written,
        file="" if found is None else str(getattr(found, "__file__", None) or ""),
        imported=sorted(root for root in roots if not root.startswith("__")),
        of_seqcore=[] if found is None else sorted(_of_seqcore(module)),
        backends=[_announced(claim) for claim in source.claims],
        unsound={} if nothing else faults,
        reason="; ".join(faults.values()) if nothing else "",
    )


def _announced(claim: Claim) -> Announced:
    spec = claim.spec
    return Announced(
        name=spec.name,
        spi=spec.spi,
        requires=list(spec.requires),
        missing=list(missing_modules(spec)),
        array_roots=list(spec.array_roots),
        install_hint=spec.install_hint,
    )


def _of_seqcore(module: str) -> set[str]:
    """Return what of seqcore a module and the packages above it import at their top level."""
    parts = module.split(".")
    found: set[str] = set()
    for end in range(1, len(parts) + 1):
        try:
            source = inspect.getsource(sys.modules[".".join(parts[:end])])
        except (OSError, TypeError):  # an empty file, or a module without a source
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found |= _imported_from(node.module, [alias.name for alias in node.names])
    return {name for name in found if name.partition(".")[0] == "seqcore"} - {FROZEN}


def _imported_from(module: str, names: list[str]) -> set[str]:
    """Return the modules of `from module import names`, where a name may be a module's."""
    return {FROZEN if f"{module}.{name}" == FROZEN else module for name in names}


def _made(claim: Claim) -> Made:
    start = time.perf_counter()
    backend = create(claim)
    seconds = time.perf_counter() - start
    declared = backend.capabilities
    dtypes = [dtype for dtype in DTYPES if declared.reason(dtype) is None]
    return Made(
        seconds=seconds,
        version=version_of(backend),
        devices=list(devices_of(backend)),
        dtypes=dtypes,
        unsupported=dict(declared.unsupported),
        not_implemented=dict(declared.not_implemented),
        border=[fault for dtype in (*dtypes, "int64", "bool") for fault in _border(backend, dtype)],
    )


def _border(backend: Backend, dtype: str) -> Iterator[str]:
    """Yield what is wrong with an array that goes into a backend and comes out again."""
    device = devices_of(backend)[0]
    kind = numpy_dtype(dtype) if dtype in DTYPES else np.dtype(dtype)
    value = _telling(kind).T  # which lies in memory column by column
    try:
        array = backend.asarray(value, dtype, device)
        # The runtime asks only of arrays that are the library's own.
        own = not isinstance(array, np.ndarray)
        info: object = backend.describe(array) if own else None
        back: Any = backend.to_numpy(backend.copy(array))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        yield f"{dtype}: {reason_of(error)}"
        return
    if own and not isinstance(info, ArrayInfo):
        yield f"{dtype}: describe returned {type(info).__name__}, expected a seqcore.spi.ArrayInfo"
    elif isinstance(info, ArrayInfo):
        # A library may have narrower integers.
        same = info.dtype.startswith("int") if dtype == "int64" else info.dtype == dtype
        if tuple(info.shape) != value.shape or not same:
            yield (
                f"{dtype}: describe says {info.dtype} {tuple(info.shape)}, expected {dtype} "
                f"{value.shape}"
            )
        if info.device not in ("", device):
            yield f"{dtype}: describe says device {info.device!r}, expected {device!r} as asked for"
    if not isinstance(back, np.ndarray):
        yield f"{dtype}: to_numpy returned {type(back).__name__}, expected a NumPy array"
    elif (dtype in DTYPES and back.dtype != kind) or not _same(back, value):
        yield f"{dtype}: to_numpy returned {back.dtype} {back.tolist()}, expected {value.tolist()}"


def _telling(kind: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return (2, 3) numbers of which a narrower data type would make others."""
    if kind == np.bool_:
        return np.array([[True, False, True], [False, True, True]])
    if kind == np.int64:
        return np.array([[0, 1, -1], [2, 3, 30000]])  # a library may have narrower integers
    return np.array([[1 / 3, -0.0, 1.0], [-1 / 3, np.inf, np.nan]]).astype(kind)


def _same(found: np.ndarray[Any, Any], value: np.ndarray[Any, Any]) -> bool:
    """Return whether two arrays hold the same numbers: NaN is one, and -0.0 is not 0.0."""
    if found.shape != value.shape:
        return False
    if value.dtype.kind in "bi":
        return bool(np.array_equal(found, value))
    a, b = found.astype(np.float64), value.astype(np.float64)
    alike = (a == b) & (np.signbit(a) == np.signbit(b))
    return bool(np.all(alike | (np.isnan(a) & np.isnan(b))))


@contextlib.contextmanager
def _captured_output() -> Iterator[list[str]]:
    """Catch what is written to standard output below Python; filled when the block ends."""
    written: list[str] = []
    with tempfile.TemporaryFile() as file:
        kept = os.dup(1)
        os.dup2(file.fileno(), 1)
        try:
            yield written
        finally:
            os.dup2(kept, 1)
            os.close(kept)
            file.seek(0)
            written.append(file.read(200).decode(errors="replace"))


def main() -> None:
    """Serve the parent."""
    probe = Probe()
    decoder: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)

    def answer(line: bytes) -> bytes:
        try:
            reply = probe.answer(decoder.decode(line))
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            reply = Failed(reason_of(error))
        return msgspec.json.encode(reply)

    serve(answer)


if __name__ == "__main__":
    main()
