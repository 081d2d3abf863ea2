"""Wrong backends, each of which the suite must catch by the clause that it breaks.

A mutant is made for the length of a `with` block and may replace whatever it likes meanwhile. Most
are the NumPy backend's generic implementation with one thing changed (`seqcore.conformance.mutants.
wrong`); where the library itself carries out a clause, one of its functions is replaced.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from seqcore.conformance.clauses import clauses
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, Backend, BackendSpec

NAME = "mutant"
"""The name under which a mutant is registered."""


class Unavailable(Exception):
    """A mutant that cannot be made here, and why. It never leaves the suite."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong backend.

    Attributes:
        name: Unique, in words: `"gates in the order i o f g"`.
        clause: The clause whose cases must catch it.
        make: Returns the context in which it lives, and gives the backend.
    """

    name: str
    clause: str
    make: Callable[[], AbstractContextManager[Backend]]

    @contextmanager
    def registered(self) -> Iterator[str]:
        """Register the mutant, or put it in the place of what it is a copy of, and give its name.

        Raises:
            Unavailable: if what it is made from is not installed.
        """
        with self.make() as backend:
            if backend.name != NAME:
                with registry.standing_in(backend):
                    yield backend.name
                return
            spec = BackendSpec(name=NAME, factory="seqcore:mutant", spi=SPI_VERSION)
            with registry.temporarily(spec, lambda: backend):
                yield NAME


MUTANTS: list[Mutant] = []


def mutant(clause: str, name: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Make a mutant of a generator function that yields a wrong backend once."""

    def register(function: Callable[[], Any]) -> Callable[[], Any]:
        MUTANTS.append(Mutant(name, clause, contextmanager(function)))
        return function

    return register


def original(owner: Any, attribute: str) -> Any:
    """Return an attribute of a module, one that it imported included."""
    return getattr(owner, attribute)


@contextmanager
def replaced(owner: Any, attribute: str, value: Any) -> Iterator[None]:
    """Replace an attribute of a module or class for the length of a block."""
    before = getattr(owner, attribute)
    setattr(owner, attribute, value)
    try:
        yield
    finally:
        setattr(owner, attribute, before)


@functools.cache
def all_mutants() -> tuple[Mutant, ...]:
    """Return every mutant.

    Raises:
        ValueError: if a clause has none, a mutant names none, or two have one name.
    """
    for module in sorted(found.name for found in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
    names = [one.name for one in MUTANTS]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"mutants of one name: {', '.join(sorted(twice))}")
    aimed = {one.clause for one in MUTANTS}
    unknown, missing = aimed - clauses().keys(), clauses().keys() - aimed
    if unknown or missing:
        raise ValueError(
            f"clauses that no mutant breaks: {', '.join(sorted(missing)) or 'none'}; "
            f"clauses that do not exist: {', '.join(sorted(unknown)) or 'none'}"
        )
    return tuple(MUTANTS)
