"""The clauses of the specification, read from the document that states them."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType

_HEADING = re.compile(r"^### ([A-Z]+-\d+) · (.+)$")


@dataclass(frozen=True, slots=True)
class Clause:
    """One rule.

    Attributes:
        id: As in `"MASK-4"`.
        title: Its heading.
        text: What it says.
    """

    id: str
    title: str
    text: str

    @property
    def group(self) -> str:
        """The part of the identifier before the number."""
        return self.id.partition("-")[0]


@functools.cache
def clauses() -> Mapping[str, Clause]:
    """Return every clause by identifier, in the order of the document."""
    found: dict[str, Clause] = {}
    heading: tuple[str, str] | None = None
    lines: list[str] = []

    def end() -> None:
        if heading is not None:
            found[heading[0]] = Clause(*heading, "\n".join(lines).strip())

    for line in specification().splitlines():
        if line.startswith("#"):
            end()
            match = _HEADING.match(line)
            heading, lines = (match[1], match[2]) if match else None, []
        else:
            lines.append(line)
    end()
    return MappingProxyType(found)


@functools.cache
def version() -> str:
    """Return the version of the specification."""
    first = specification().splitlines()[0]
    return first.rpartition(" ")[2]


@functools.cache
def specification() -> str:
    """Return the document: the wheel's copy or, in a source tree, the document itself."""
    shipped = resources.files("seqcore.conformance") / "spec.md"
    if not shipped.is_file():
        shipped = Path(__file__).parents[2] / "docs" / "spec.md"
    return shipped.read_text(encoding="utf-8")
