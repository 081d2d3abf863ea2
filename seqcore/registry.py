"""Which backends there are: discovery, lazy and one by one.

A backend registers through an entry point in the group `seqcore.backends`, or in this process
with `Registry.register`. Nothing is imported before it is needed, and nothing that is broken takes
the rest down:

- The entry named like the wanted backend is loaded first, the others only when no entry of that
  name gives it. A slow or broken neighbour costs nothing.
- An entry's name is a claim. A module may give a backend of another name, but not take the name
  that another distribution's entry claims: that is listed as a problem, and the backend stays.
- A registration that fails is kept with its distribution and its reason, and raised when a backend
  of that name is asked for. Ctrl-C is never kept: `KeyboardInterrupt` always propagates.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pluggy

from seqcore.errors import (
    BackendBroken,
    BackendError,
    BackendNotFound,
    BackendNotInstalled,
    DuplicateBackend,
    reason_of,
)
from seqcore.spec.naming import nearest
from seqcore.spi import hookspecs
from seqcore.spi.registration import ENTRY_POINT_GROUP, PROJECT_NAME, BackendSpec, Option
from seqcore.spi.version import SPI_VERSION, refusal

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from seqcore.spi.backend import Backend

COMMON_OPTIONS: Mapping[str, Option] = {
    "matmul_precision": Option(
        default="highest",
        choices=("highest", "tf32", "bfloat16"),
        help="how the inputs of float32 products are rounded",
    ),
    "implementation": Option(help="the implementation to run; none lets the planner choose"),
}
"""The options that every backend takes beside its own."""

SLOW_SECONDS = 1.0
"""A registration that takes longer is remarked upon; without a framework it takes milliseconds."""

_THIS_PROCESS = "this process"
_KEPT_CHARACTERS = 200
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_OPTION_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_FACTORY = re.compile(r"\w+(\.\w+)*:\w+(\.\w+)*")
_OPTION_TYPES = {"str": str, "int": int, "bool": bool}


@dataclass(frozen=True, slots=True)
class Problem:
    """A registration that cannot be used.

    Attributes:
        name: The backend's name or, where the whole module failed, its entry's name.
        distribution: Who registered it.
        reason: What is wrong.
        error: The exception behind it, if there was one.
    """

    name: str
    distribution: str
    reason: str
    error: BaseException | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Remark:
    """What a registration did that it should not do; its backends can be used all the same.

    Attributes:
        name: The entry's name.
        distribution: Who registered it.
        reason: What it did, and what to do.
    """

    name: str
    distribution: str
    reason: str


@dataclass(frozen=True, slots=True)
class Claim:
    """One description of a backend, and who gave it."""

    spec: BackendSpec
    distribution: str
    factory: Callable[[], Backend] | None = None


class _Overheard(io.TextIOBase):
    """Standard error in the place of standard output; it keeps the beginning of what is written.

    What other threads print meanwhile is passed on, and is not the registration's.
    """

    def __init__(self) -> None:
        self.text = ""
        self._thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self._thread:
            self.text += text[: _KEPT_CHARACTERS - len(self.text)]
        return len(text) if sys.stderr is None else sys.stderr.write(text)

    def flush(self) -> None:
        if sys.stderr is not None:
            sys.stderr.flush()


@dataclass(slots=True)
class Source:
    """An entry point, or a registration in this process, and what came of it.

    Attributes:
        name: The entry's name.
        distribution: Whose it is.
        entry: The entry, until it is loaded.
        claims: The backends that it gives.
        problems: What makes it, or a backend of it, unusable.
        seconds: How long its registration took.
        printed: The beginning of what that printed.
    """

    name: str
    distribution: str
    entry: EntryPoint | None = None
    claims: list[Claim] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    seconds: float = 0.0
    printed: str = ""

    def load(self) -> None:
        """Ask the entry's module for its backends, once."""
        if self.entry is None:
            return
        entry, self.entry = self.entry, None
        # What a module prints would spoil the output of a command that a machine reads.
        overheard = _Overheard()
        start = time.perf_counter()
        try:
            with contextlib.redirect_stdout(overheard):
                judged = [(spec, _fault(spec)) for spec in _announced(entry)]
        except KeyboardInterrupt:
            self.entry = entry
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin may raise anything, SystemExit too
            judged = []
            self.problems.append(Problem(self.name, self.distribution, reason_of(error), error))
        self.seconds = time.perf_counter() - start
        self.printed = overheard.text
        for spec, fault in judged:
            if fault is None:
                self.claims.append(Claim(spec, self.distribution))
            else:
                self.problems.append(Problem(str(spec.name), self.distribution, fault))

    def remarks(self) -> list[Remark]:
        """Return what its registration did that it should not do."""
        reasons = []
        if self.seconds > SLOW_SECONDS:
            reasons.append(
                f"its registration took {self.seconds:.1f} s, expected less than {SLOW_SECONDS:g} "
                "s; it may import no framework"
            )
        if self.printed:
            reasons.append(
                f"its registration printed {self.printed!r}, expected nothing; remove what prints"
            )
        return [Remark(self.name, self.distribution, reason) for reason in reasons]


class Registry:
    """The backends that can be had, by name.

    Safe to use from several threads: one lock guards what changes, and what is already known is
    read without it.

    Args:
        group: The entry-point group to discover, or None for registrations in this process only.
    """

    def __init__(self, group: str | None = ENTRY_POINT_GROUP) -> None:
        self._group = group
        self._lock = threading.RLock()
        self._discovered: list[Source] | None = None
        self._registered: dict[str, Source] = {}
        self._claims: dict[str, Claim] = {}
        self._backends: dict[str, Backend] = {}
        self._owners: dict[type, str | None] = {}

    def get(self, name: str) -> Backend:
        """Return the backend of that name; it is created on first use and kept.

        Raises:
            BackendNotFound: if nothing registers the name.
            DuplicateBackend: if two distributions claim it.
            BackendNotInstalled: if a module that it requires is not installed.
            BackendBroken: if its registration or its factory failed.
        """
        backend = self._backends.get(name)
        if backend is None:
            with self._lock:
                backend = self._backends.get(name)
                if backend is None:
                    backend = self._backends[name] = create(self._claim(name))
        return backend

    def spec(self, name: str) -> BackendSpec:
        """Return what the backend's distribution announces, without importing its framework.

        Raises:
            BackendNotFound: if nothing registers the name.
            DuplicateBackend: if two distributions claim it.
            BackendBroken: if its registration failed.
        """
        return self._claim(name).spec

    def knows(self, name: str) -> bool:
        """Return whether something registers the name, be it usable or not."""
        with self._lock:
            if any(source.name == name for source in self._sources()):
                return True
            sources = self._loaded()
            return any(
                name in (problem.name for problem in source.problems)
                or name in (claim.spec.name for claim in source.claims)
                for source in sources
            )

    def names(self) -> list[str]:
        """Return the names of all backends whose registration is sound, sorted.

        What a backend requires need not be installed: see `missing`.
        """
        with self._lock:
            claimed = {claim.spec.name for source in self._loaded() for claim in source.claims}
            return sorted(name for name in claimed if self._is_sound(name))

    def missing(self, name: str) -> tuple[str, ...]:
        """Return the modules that the backend requires and that are not installed."""
        return missing_modules(self.spec(name))

    def distribution(self, name: str) -> str:
        """Return the name of the distribution that registers the backend."""
        return self._claim(name).distribution

    def problems(self) -> list[Problem]:
        """Return every registration that cannot be used, duplicates included, by name."""
        with self._lock:
            sources = self._loaded()
            found = [problem for source in sources for problem in source.problems]
            for name in {claim.spec.name for source in sources for claim in source.claims}:
                found += _disputes(name, sources)
        return sorted(found, key=lambda problem: (problem.name, problem.distribution))

    def remarks(self) -> list[Remark]:
        """Return what registrations did that they should not do, by name; they may be usable."""
        with self._lock:
            found = [remark for source in self._loaded() for remark in source.remarks()]
        return sorted(found, key=lambda remark: (remark.name, remark.distribution))

    def for_array(self, value: object) -> str | None:
        """Return the backend whose own array `value` is, or None for a neutral value.

        An array is recognised by the top-level module of its type or of a base of its type. NumPy
        arrays, Python sequences and what no backend claims are neutral. Where several backends
        declare the same module, the one named like it is the owner, else the first by name.

        Raises:
            BackendError: if the entry named like the array's framework cannot be used.
        """
        kind = type(value)
        try:
            return self._owners[kind]
        except KeyError:
            with self._lock:
                owner = self._owners[kind] = self._owner(kind)
            return owner

    def takes_arrays_of(self, name: str, owner: str) -> bool:
        """Return whether a backend takes the arrays of `owner` (see `for_array`) as its own.

        The one rule for every call, `apply` and bound layers alike: it takes the arrays that it
        owns, and those of a backend with which it has one of `array_roots` in common. Where one of
        the two cannot be used, it does not.
        """
        if name == owner:
            return True
        try:
            mine, theirs = self.spec(name), self.spec(owner)
        except BackendError:  # not this question's business: it is said when that one is used
            return False
        return not set(theirs.array_roots).isdisjoint(mine.array_roots)

    def register(self, spec: BackendSpec, factory: Callable[[], Backend] | None = None) -> None:
        """Register a backend in this process.

        Args:
            spec: Its description.
            factory: Called instead of what `spec.factory` names.

        Raises:
            BackendBroken: if the description is not sound.
            DuplicateBackend: if the name is taken.
        """
        fault = _fault(spec)
        if fault is not None:
            raise BackendBroken(f"backend {spec.name!r}: {fault}")
        with self._lock:
            for source in self._sources():
                if source.name == spec.name:
                    raise DuplicateBackend(
                        f"backend {spec.name!r}: already registered by {source.distribution}; "
                        "choose another name"
                    )
            claim = Claim(spec, _THIS_PROCESS, factory)
            self._registered[spec.name] = Source(spec.name, _THIS_PROCESS, claims=[claim])
            self._forget(spec.name)

    @contextlib.contextmanager
    def temporarily(
        self, spec: BackendSpec, factory: Callable[[], Backend] | None = None
    ) -> Iterator[None]:
        """Register a backend in this process for the length of a `with` block.

        Takes and raises what `register` does.
        """
        self.register(spec, factory)
        try:
            yield
        finally:
            with self._lock:
                del self._registered[spec.name]
                self._forget(spec.name)

    @contextlib.contextmanager
    def standing_in(self, backend: Backend) -> Iterator[None]:
        """Put a backend in the place of the one of its name for the length of a `with` block."""
        before = self.get(backend.name)
        with self._lock:
            self._backends[backend.name] = backend
        try:
            yield
        finally:
            with self._lock:
                self._backends[backend.name] = before

    def _forget(self, name: str) -> None:
        self._claims.pop(name, None)
        self._backends.pop(name, None)
        self._owners.clear()

    def _sources(self) -> list[Source]:
        if self._discovered is None:
            self._discovered = [] if self._group is None else discover(self._group)
        return [*self._registered.values(), *self._discovered]

    def _loaded(self) -> list[Source]:
        sources = self._sources()
        for source in sources:
            source.load()
        return sources

    def _is_sound(self, name: str) -> bool:
        try:
            self._claim(name)
        except BackendError:
            return False
        return True

    def _claim(self, name: str) -> Claim:
        """Return the one sound claim on the name, loading as few modules as that takes."""
        claim = self._claims.get(name)
        if claim is None:
            with self._lock:
                claim = self._claims[name] = self._decide(name)
        return claim

    def _decide(self, name: str) -> Claim:
        sources = self._sources()
        for named_like_it in (True, False):
            circle = [source for source in sources if (source.name == name) is named_like_it]
            for source in circle:
                source.load()
            claims = _claims_on(name, circle)
            if len(claims) == 1:
                return claims[0]
            if claims:
                owners = " and ".join(claim.distribution for claim in claims)
                raise DuplicateBackend(
                    f"backend {name!r}: registered by {owners}, expected one distribution; "
                    "uninstall all but one"
                )
            faults = [p for source in circle for p in source.problems if p.name == name]
            if faults:
                reasons = "; ".join(f"{fault.distribution}: {fault.reason}" for fault in faults)
                owners = " and ".join(fault.distribution for fault in faults)
                raise BackendBroken(
                    f"backend {name!r}: its registration failed ({reasons}); "
                    f"repair or uninstall {owners}"
                ) from faults[0].error
        raise BackendNotFound(self._not_found(name))

    def _not_found(self, name: str) -> str:
        names = self.names()
        message = (
            f"backend {name!r}: not registered{nearest(name, names)}; "
            f"expected one of {', '.join(names) or '(none is registered)'}"
        )
        faults = [f"{p.name} of {p.distribution}: {p.reason}" for p in self.problems()]
        if faults:
            message += f"; these registrations failed: {'; '.join(faults)}"
        return message

    def _owner(self, kind: type) -> str | None:
        if issubclass(kind, np.ndarray | np.generic):
            return None
        roots = dict.fromkeys(str(base.__module__).partition(".")[0] for base in kind.__mro__)
        del roots["builtins"]  # of `object`
        roots.pop("numpy", None)  # of its operators, which other libraries' arrays may inherit
        named = {source.name for source in self._sources()}
        for root in roots:
            if root in named and self._takes(root, root):
                return root
        for root in roots:
            for name in self.names():
                if self._takes(name, root):
                    return name
        return None

    def _takes(self, name: str, root: str) -> bool:
        try:
            return root in self._claim(name).spec.array_roots
        except BackendNotFound:  # an entry of that name that gives backends of other names
            return False


def discover(group: str) -> list[Source]:
    """Return the installed entry points of the group, none of them loaded.

    Only files that mention the group are parsed: it is faster, and a malformed file of a
    distribution that has nothing to do with seqcore does no harm.
    """
    from importlib.metadata import distributions

    sources: list[Source] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            text = distribution.read_text("entry_points.txt")
            if text is None or group not in text:
                continue
            owner = _label(distribution)
            key = re.sub(r"[-_.]+", "-", owner).lower()
            if key in seen:  # shadowed by one that is earlier on the path, as its modules are
                continue
            seen.add(key)
            entries = distribution.entry_points.select(group=group)
            sources += [Source(entry.name, owner, entry) for entry in entries]
        except Exception as error:  # noqa: BLE001 - whatever a damaged installation may raise
            owner = _label(distribution)
            problem = Problem(owner, owner, f"its entry points: {reason_of(error)}", error)
            sources.append(Source(owner, owner, problems=[problem]))
    return sources


def _label(distribution: Distribution) -> str:
    try:
        name: str | None = distribution.name
    except Exception:  # noqa: BLE001 - as in discover
        name = None
    return name or "an unnamed distribution"


def _announced(entry: EntryPoint) -> list[BackendSpec]:
    """Return the answer of the entry's module, checked in a plugin manager of its own."""
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(hookspecs)
    manager.register(entry.load())
    if not manager.hook.seqcore_backends.get_hookimpls():
        manager.check_pending()  # says it better where the hook is only misspelt
        raise BackendBroken(f"module {entry.value} does not answer the hook seqcore_backends")
    specs = manager.hook.seqcore_backends()
    if not isinstance(specs, list):
        raise BackendBroken(
            f"seqcore_backends() returned {type(specs).__name__}, expected a list of BackendSpec"
        )
    if not specs:
        raise BackendBroken("seqcore_backends() returned no BackendSpec, expected at least one")
    for spec in specs:
        if not isinstance(spec, BackendSpec):
            raise BackendBroken(
                f"seqcore_backends() returned a list with {type(spec).__name__} in it, "
                "expected BackendSpec only"
            )
    # A module for a newer SPI may answer hooks that are not there yet: its version is the reason.
    if not any(isinstance(spec.spi, str) and refusal(spec.spi) for spec in specs):
        manager.check_pending()
    return specs


def name_fault(name: object) -> str | None:
    """Return what is wrong with a backend's name, or None."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        return (
            f"name {name!r}, expected lower-case letters and digits, a letter first, in parts "
            "joined by '-'"
        )
    if name == "backend":
        return "name 'backend', which configuration files need as a key"
    return None


def is_factory_path(path: object) -> bool:
    """Return whether it has the form `module:attribute`."""
    return isinstance(path, str) and _FACTORY.fullmatch(path) is not None


def _fault(spec: Any) -> str | None:
    """Return what is wrong with a description, or None. Its fields may hold anything."""
    fault = name_fault(spec.name)
    if fault is not None:
        return fault
    if isinstance(spec.spi, str):
        refused = refusal(spec.spi)
    else:
        refused = f"SPI version {spec.spi!r}, expected a text such as {SPI_VERSION!r}"
    if refused is not None:
        return refused
    if not is_factory_path(spec.factory):
        return f"factory {spec.factory!r}, expected 'module:attribute'"
    for key, value in (("requires", spec.requires), ("array_roots", spec.array_roots)):
        if not (isinstance(value, tuple) and all(map(_is_module, value))):
            return f"{key} {value!r}, expected a tuple of module names"
    if not isinstance(spec.options, Mapping):
        return f"options {spec.options!r:.80}, expected a mapping of names to Option"
    for name, option in spec.options.items():
        fault = _option_fault(name, option)
        if fault is not None:
            return f"option {name!r}: {fault}"
    return None


def _is_module(name: object) -> bool:
    return isinstance(name, str) and all(part.isidentifier() for part in name.split("."))


def _option_fault(name: object, option: object) -> str | None:
    if not (isinstance(name, str) and _OPTION_NAME.fullmatch(name)):
        return "expected a name of lower-case letters and digits, joined by '_'"
    if name in COMMON_OPTIONS:
        return "every backend has it; leave it out"
    if not isinstance(option, Option):
        return f"received {option!r:.80}, expected an Option"
    kind = _OPTION_TYPES.get(option.type)
    if kind is None:
        return f"type {option.type!r}, expected one of {', '.join(_OPTION_TYPES)}"
    if option.choices and kind is not str:
        return f"choices with type {option.type!r}, expected type 'str'"
    if option.default is None:
        return None
    if type(option.default) is not kind:
        return f"default {option.default!r}, expected a value of type {option.type!r} or None"
    if option.choices and option.default not in option.choices:
        return f"default {option.default!r}, expected one of {', '.join(option.choices)}"
    return None


def _claims_on(name: str, sources: list[Source]) -> list[Claim]:
    return [claim for source in sources for claim in source.claims if claim.spec.name == name]


def _disputes(name: str, sources: list[Source]) -> list[Problem]:
    """Return a problem for every claim on the name that is not the only one or not the owner's."""
    own = [source for source in sources if source.name == name]
    others = [source for source in sources if source.name != name]
    rightful, foreign = _claims_on(name, own), _claims_on(name, others)
    owners = [source.distribution for source in own]
    if not rightful and not any(p.name == name for source in own for p in source.problems):
        rightful, foreign, owners = foreign, [], [claim.distribution for claim in foreign]
    found = [
        Problem(name, claim.distribution, f"the name belongs to an entry of {' and '.join(owners)}")
        for claim in foreign
        if claim.distribution not in owners  # else its entries name one module, as they may
    ]
    if len(rightful) > 1:
        claimants = " and ".join(claim.distribution for claim in rightful)
        reason = f"the name is registered by {claimants}; uninstall all but one"
        found += [Problem(name, claim.distribution, reason) for claim in rightful]
    return found


def missing_modules(spec: BackendSpec) -> tuple[str, ...]:
    """Return the modules that a backend requires and that are not installed."""
    from importlib.util import find_spec

    def installed(module: str) -> bool:
        try:
            return find_spec(module) is not None
        except (ImportError, ValueError):  # a parent is missing; a module in memory has no spec
            return sys.modules.get(module) is not None

    return tuple(module for module in spec.requires if not installed(module))


def create(claim: Claim) -> Backend:
    """Return the backend that a claim describes, made by its factory.

    Raises:
        BackendNotInstalled: if a module that it requires is not installed.
        BackendError: as its factory raised it.
        BackendBroken: if its factory failed in any other way.
    """
    from pkgutil import resolve_name

    from seqcore.spi.backend import Backend
    from seqcore.spi.soundness import backend_fault

    spec = claim.spec
    maker = f"backend {spec.name!r}: its factory {spec.factory} of {claim.distribution}"
    absent = missing_modules(spec)
    if absent:
        hint = f"; install it: {spec.install_hint}" if spec.install_hint else ""
        raise BackendNotInstalled(
            f"backend {spec.name!r}: it requires {', '.join(absent)}, which is not installed{hint}"
        )
    try:
        backend: object = (claim.factory or resolve_name(spec.factory))()
    except (BackendError, KeyboardInterrupt):
        raise  # a factory that says itself what is wrong and what to do
    except BaseException as error:  # a factory may raise anything, SystemExit too
        raise BackendBroken(
            f"{maker} failed ({reason_of(error)}); repair or reinstall what it requires"
        ) from error
    if not isinstance(backend, Backend):
        raise BackendBroken(
            f"{maker} returned {type(backend).__name__}, expected a seqcore.spi.Backend"
        )
    fault = backend_fault(backend)
    if fault is not None:
        raise BackendBroken(f"{maker} returned an unsound backend: {fault}")
    if backend.name != spec.name:
        raise BackendBroken(
            f"{maker} returned a backend named {backend.name!r}, expected {spec.name!r}"
        )
    return backend


registry = Registry()
"""The process's own registry: everything outside tests uses it."""
