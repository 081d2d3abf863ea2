"""Which backends are tested: registered ones by name, any other as `module:factory`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from seqcore.config import configuration
from seqcore.errors import ArgumentError, BackendBroken, BackendNotInstalled
from seqcore.registry import COMMON_OPTIONS, is_factory_path, registry
from seqcore.spec.foreign import explain_unknown
from seqcore.spi import SPI_VERSION, Backend, BackendSpec
from seqcore.spi.soundness import backend_fault


def installed() -> list[str]:
    """Return the names of the registered backends whose requirements are installed."""
    return [name for name in registry.names() if not registry.missing(name)]


def is_factory(engine: str) -> bool:
    """Return whether an engine is given as `module:factory`."""
    return ":" in engine


def check(engine: str, options: Mapping[str, str], folder: str = "") -> None:
    """Check, before any work, that an engine can be had and takes the options.

    A `module:factory` is not imported here: a framework belongs into the worker.

    Raises:
        BackendError: if nothing registers the name, or what it requires is missing.
        ArgumentError: if an option is not taken, `module:factory` is not of that form, or the
            module is nowhere.
    """
    if "matmul_precision" in options:
        raise ArgumentError(
            "--option matmul_precision: is set by each case of the suite; leave it out, and choose "
            "cases with --clause 'PREC-*'"
        )
    declared = dict(COMMON_OPTIONS)
    if not is_factory(engine):
        spec = registry.spec(engine)
        missing = registry.missing(engine)
        if missing:
            hint = f"; install it: {spec.install_hint}" if spec.install_hint else ""
            raise BackendNotInstalled(
                f"backend {engine!r}: it requires {', '.join(missing)}, which is not installed"
                f"{hint}"
            )
        declared.update(spec.options)
    elif not is_factory_path(engine):
        raise ArgumentError(
            f"engine {engine!r}: expected module:factory, such as mypackage.engine:MyBackend"
        )
    elif not _is_somewhere(engine.partition(":")[0].partition(".")[0], folder):
        raise ArgumentError(
            f"engine {engine!r}: expected module:factory, and no module is called "
            f"{engine.partition(':')[0]!r} in {folder} or among what is installed"
        )
    for key in options:
        if key not in declared:
            raise ArgumentError(explain_unknown(f"backend {engine!r}", key, declared))


def _is_somewhere(module: str, folder: str) -> bool:
    """Return whether a top-level module could be imported; it is not."""
    if PathFinder.find_spec(module, [folder]) is not None:
        return True
    try:
        return find_spec(module) is not None  # also by the finders of editable installations
    except ValueError:  # a module in memory has no spec
        return True


def load(engine: str, folder: str = "") -> Backend:
    """Return a backend, registered in this process under its own name.

    Args:
        engine: A registered name, or `module:factory`: a `Backend` class or a function that
            returns a `Backend`.
        folder: Where a `module:factory` may be, beside what is importable anyway.

    Raises:
        BackendError: if it cannot be had.
    """
    if not is_factory(engine):
        return registry.get(engine)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    backend = _make(engine)
    spec = BackendSpec(name=backend.name, factory=engine, spi=SPI_VERSION)
    registry.register(spec, lambda: backend)
    return registry.get(backend.name)


def ignore_configuration() -> None:
    """Let nothing that a user has configured change what is tested, in this process, for good."""
    for variable in [name for name in os.environ if name.startswith("SEQCORE_")]:
        del os.environ[variable]
    configuration.ignore_files()


def set_options(name: str, options: Mapping[str, str]) -> None:
    """Set options of a backend in this process, for good.

    Raises:
        SeqcoreError: if one is not taken.
    """
    for key, value in options.items():
        os.environ[f"SEQCORE_{name.replace('-', '_')}__{key}".upper()] = value
    configuration.resolve(name)


def _make(engine: str) -> Backend:
    try:
        factory: Any = resolve_name(engine)
    except ValueError:
        raise BackendBroken(f"engine {engine!r}: expected the form module:factory") from None
    except Exception as error:
        raise BackendBroken(
            f"engine {engine!r}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    try:
        backend = factory()
    except Exception as error:
        raise BackendBroken(
            f"engine {engine!r}: its factory failed: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(backend, Backend):
        raise BackendBroken(
            f"engine {engine!r}: its factory returned {type(backend).__name__}, expected a "
            "seqcore.spi.Backend"
        )
    fault = backend_fault(backend)
    if fault is not None:
        raise BackendBroken(f"engine {engine!r}: its factory returned an unsound backend: {fault}")
    return backend
