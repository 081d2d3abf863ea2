"""Which level and which direction each cell of a tree is, by its path or by what the caller says.

In a path, numbers are levels (`layers_0`, `layers/0`, `lstm_1`; none is 0) and `forward_rnn`,
`backward_rnn`, `forward` and `backward` are directions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import SEPARATOR, leaves

Places = list[tuple[str, ...]]
"""The cells' paths: for each level one, or the forward and the backward one."""

_COMPONENT = re.compile(r"(?P<stem>.*?)_?(?P<number>\d{1,9})?", re.DOTALL)
_DIRECTIONS = {"forward_rnn": 0, "backward_rnn": 1, "forward": 0, "backward": 1}


def by_path(subject: str, tree: Mapping[Any, Any]) -> dict[str, Any]:
    """Return what a tree holds by path, also where its keys are paths, joined with `/` or `.`.

    Raises:
        ConversionError: if it is no model's tree.
    """
    found: dict[str, Any] = {}
    for key, value in leaves(subject, tree).items():
        path = key.replace(".", SEPARATOR)
        if path in found:
            raise ConversionError(f"{subject}: holds {path} twice, expected one; rename one")
        found[path] = value
    return found


def arranged(subject: str, cells: Collection[str], levels: Any = None) -> Places:
    """Return the places of the cells at these paths.

    Args:
        subject: What is read, for messages.
        cells: The paths of all cells.
        levels: What the caller says: for each level a path, or a forward and a backward one.

    Raises:
        ConversionError: if the paths leave open which level or direction a cell is, or `levels`
            names no cell, or leaves one out.
    """
    if levels is not None:
        return _said(subject, cells, levels)
    kinds: dict[tuple[str, ...], list[tuple[tuple[int, ...], int | None, str]]] = {}
    for path in cells:
        stems, numbers, direction = _parsed(path)
        kinds.setdefault(stems, []).append((numbers, direction, path))
    if len(kinds) != 1:
        ask_levels(subject, cells, "their names do not say which comes first")
    ((_, places),) = kinds.items()
    columns = list(zip(*(numbers for numbers, _, _ in places), strict=True))
    varying = [column for column in columns if len(set(column)) > 1]
    constant = [column for column in columns if len(set(column)) == 1]
    if len(varying) > 1 or any(column[0] for column in constant):
        ask_levels(subject, cells, "their numbers do not run from 0")
    ranks = varying[0] if varying else (0,) * len(places)
    found: dict[int, dict[int | None, str]] = {}
    for rank, (_, direction, path) in zip(ranks, places, strict=True):
        found.setdefault(rank, {})[direction] = path
    if sorted(found) != list(range(len(found))):
        ask_levels(subject, cells, "their numbers do not run from 0")
    if sum(map(len, found.values())) != len(places) or any(
        set(level) not in ({None}, {0, 1}) for level in found.values()
    ):
        ask_levels(subject, cells, "a level has a forward and a backward cell, or one")
    return [
        tuple(level[key] for key in sorted(level, key=_order)) for _, level in sorted(found.items())
    ]


def ask_levels(subject: str, cells: Collection[str], why: str) -> NoReturn:
    """Raise the error that asks which level each cell is.

    Raises:
        ConversionError: always.
    """
    names = list(cells)
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    first, second = [*names, *names][:2]
    raise ConversionError(
        f"{subject}: found cells at {shown}, and {why}; say it with levels=, such as "
        f"[{first!r}, {second!r}] for two levels, or [({first!r}, {second!r})] for a forward and a "
        "backward cell, or give the part of the tree with one layer"
    )


def _parsed(path: str) -> tuple[tuple[str, ...], tuple[int, ...], int | None]:
    """Return a path's stems, its numbers, and its direction."""
    direction: int | None = None
    stems, numbers = [], []
    for component in path.split(SEPARATOR):
        if component in _DIRECTIONS:
            direction = _DIRECTIONS[component]
            continue
        found = _COMPONENT.fullmatch(component)
        assert found is not None
        stems.append(found["stem"])
        numbers.append(int(found["number"] or 0))
    return tuple(stems), tuple(numbers), direction


def _order(direction: int | None) -> int:
    return direction or 0


def _said(subject: str, cells: Collection[str], levels: Any) -> Places:
    if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
        raise ConversionError(
            f"{subject}: levels is {levels!r}, expected a list with a path, or a pair of paths, "
            "for each level"
        )
    places: Places = []
    for level in levels:
        names = (level,) if isinstance(level, str) else level
        if not isinstance(names, tuple | list) or len(names) not in (1, 2):
            raise ConversionError(
                f"{subject}: levels holds {level!r}, expected a path, or a forward and a "
                "backward one"
            )
        places.append(tuple(_found(subject, cells, name) for name in names))
    used = [path for level in places for path in level]
    for path in cells:
        if used.count(path) != 1:
            what = "leaves out" if path not in used else "names twice"
            raise ConversionError(
                f"{subject}: levels {what} the cell at {path}, expected every cell once"
            )
    return places


def _found(subject: str, cells: Collection[str], name: Any) -> str:
    """Return the path of the one cell at or below a name."""
    asked = str(name).replace(".", SEPARATOR).strip(SEPARATOR)
    found = [path for path in cells if f"{path}/".startswith(f"{asked}/")]
    if len(found) != 1:
        raise ConversionError(
            f"{subject}: levels names {name!r}, where {len(found)} cells are, expected one; cells "
            f"are at {', '.join(cells)}"
        )
    return found[0]
