"""What a format cannot hold, said by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.levels import Level
from seqcore.spec.layers import AnyCell


def refuse(target: str, subject: object, term: str, instead: str) -> NoReturn:
    """Raise the error for a term that a target cannot hold.

    Raises:
        ConversionError: always.
    """
    raise ConversionError(f"{subject} to {target}: {term}, which it cannot hold; {instead}")


def require(target: str, cell: AnyCell, instead: str = "", **allowed: tuple[Any, ...]) -> None:
    """Check that a cell's fields have values that a target has.

    Args:
        target: What is converted to.
        cell: The cell; fields that it has not are not looked at.
        instead: What to do otherwise.
        **allowed: For each field, what the target can hold.

    Raises:
        ConversionError: otherwise, naming the field.
    """
    for field, values in allowed.items():
        if field in cell.__struct_fields__ and getattr(cell, field) not in values:
            expected = " or ".join(map(repr, values))
            refuse(
                target,
                cell,
                f"{field} is {getattr(cell, field)!r}",
                f"expected {expected}{f'; {instead}' if instead else ''}",
            )


def require_alike(target: str, levels: Sequence[Level]) -> None:
    """Check that all cells are of one kind and size, as where one module holds them all.

    Raises:
        ConversionError: if one differs from the first, naming the field.
    """
    first = levels[0].cells[0]
    for index, level in enumerate(levels):
        if len(level.cells) != len(levels[0].cells):
            refuse(
                target,
                f"layers[{index}]",
                "is bidirectional, or not, unlike the first",
                "convert the members one by one",
            )
        for cell in level.cells:
            for field, mine, other in (
                ("its cell", type(first).__name__, type(cell).__name__),
                *(
                    (f, getattr(first, f), getattr(cell, f, None))
                    for f in ("units", "activation", "recurrent_activation", "reset_after")
                    if f in first.__struct_fields__
                ),
            ):
                if mine != other:
                    refuse(
                        target,
                        f"layers[{index}]",
                        f"{field} is {other!r} and the first's is {mine!r}",
                        "convert the members one by one",
                    )


def require_zero(
    target: str, cell: AnyCell, name: str, values: NDArray[Any], gate: str = ""
) -> None:
    """Check that a weight for which the target has no place is zero.

    Raises:
        ConversionError: otherwise, naming the weight and the gate.
    """
    if np.any(values):
        where = f" of gate {gate}" if gate else ""
        worst = np.abs(values.astype(np.float64)).max()
        refuse(
            target,
            cell,
            f"{name}{where} is up to {worst:.3g} and not zero",
            "choose a format that has it, such as torch or keras",
        )
