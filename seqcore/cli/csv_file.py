"""Sequences in a `.csv` file: a header, then a step a row."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import FileError
from seqcore.padding import pad
from seqcore.spec.naming import nearest


@dataclass(frozen=True, slots=True)
class Table:
    """The sequences of a file.

    Attributes:
        x: The input, (batch, time, features).
        lengths: The lengths, where a column says which sequence a row belongs to.
        sequences: There, each sequence's name and steps, in order of first appearance.
    """

    x: NDArray[Any]
    lengths: NDArray[np.int64] | None
    sequences: tuple[tuple[str, int], ...]


def read_csv(path: Path, dtype: np.dtype[Any], sequence_column: str | None) -> Table:
    """Read a file: every column is a feature, but for the one that names the sequence.

    Raises:
        FileError: if the file is no such table, with the line and the column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = _header(path, next(reader, []))
            key = _key(path, header, sequence_column)
            values, owners = _cells(path, header, key, reader)
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not UTF-8 text: {error.reason}") from error
    except csv.Error as error:
        raise FileError(f"{path}: not a .csv file: {error}") from error
    features = len(header) - (key is not None)
    if not features:
        raise FileError(f"{path}: has no column beside {sequence_column!r}, expected features")
    steps = _rounded(path, np.frombuffer(values, np.float64), dtype).reshape(-1, features)
    if key is None:
        return Table(steps[None], None, ())
    return _grouped(steps, owners)


def _header(path: Path, header: list[str]) -> list[str]:
    if not header:
        raise FileError(f"{path}: is empty, expected a header line with the columns' names")
    # Names that count from 0 are a habit of some writers; other numbers are a first step.
    counted = [str(index) for index in range(len(header))]
    if header != counted and all(_number(cell) is not None for cell in header):
        raise FileError(
            f"{path}: line 1 holds numbers only, expected a header with the columns' names; "
            "add one, or the first step would be lost"
        )
    return header


def _key(path: Path, header: list[str], sequence_column: str | None) -> int | None:
    if sequence_column is None:
        return None
    count = header.count(sequence_column)
    if count != 1:
        found = "several columns" if count else "no column"
        hint = "" if count else nearest(sequence_column, header)
        raise FileError(
            f"{path}: {found} {sequence_column!r}{hint}, expected one; the columns are "
            f"{', '.join(header)}"
        )
    return header.index(sequence_column)


def _cells(
    path: Path, header: list[str], key: int | None, reader: Any
) -> tuple[array[float], list[str]]:
    """Return the numbers row by row and, where a column says it, each row's sequence."""
    values: array[float] = array("d")
    owners: list[str] = []
    for cells in reader:
        if not cells:  # an empty line
            continue
        line = reader.line_num
        if len(cells) != len(header):
            raise FileError(
                f"{path}: line {line} has {len(cells)} cells, expected {len(header)}, as many as "
                "the header"
            )
        if key is not None:
            owners.append(cells.pop(key))
        values.extend(_numbers(path, header, key, line, cells))
    return values, owners


def _numbers(
    path: Path, header: list[str], key: int | None, line: int, cells: list[str]
) -> Iterator[float]:
    for index, cell in enumerate(cells):
        number = _number(cell)
        if number is None:
            column = header[index + (key is not None and index >= key)]
            shown = repr(cell) if cell.strip() else "nothing"
            raise FileError(
                f"{path}: line {line}, column {column!r}: {shown}, expected a number; "
                "encode or remove the column, or name it with --sequence-column"
            )
        yield number


def _number(cell: str) -> float | None:
    try:
        # Python takes 1_000; nobody else does.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def _rounded(path: Path, values: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    lost = np.isfinite(values) & ~np.isfinite(rounded)
    if lost.any():
        raise FileError(
            f"{path}: {values[lost.argmax()]} is beyond {dtype.name}; use weights of a wider "
            "dtype or scale the column"
        )
    return rounded


def _grouped(steps: NDArray[Any], owners: list[str]) -> Table:
    rows: dict[str, list[int]] = {}
    for index, owner in enumerate(owners):
        rows.setdefault(owner, []).append(index)
    if not rows:
        x = np.zeros((0, 0, steps.shape[1]), steps.dtype)
        return Table(x, np.zeros(0, np.int64), ())
    x, lengths = pad([steps[indices] for indices in rows.values()])
    return Table(x, lengths, tuple((name, len(found)) for name, found in rows.items()))
