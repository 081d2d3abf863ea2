"""How much of the tolerance honest backends use: `python -m seqcore.conformance.calibration`."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seqcore.conformance.execute import execute
from seqcore.conformance.judge import comparisons
from seqcore.conformance.model import MaskPattern, Observed, ValueCase
from seqcore.conformance.subject import Subject, generator
from seqcore.conformance.tolerance import KINDS, Expected, Kind, expected
from seqcore.spec.activations import ACTIVATIONS
from seqcore.spec.dtypes import DTYPES
from seqcore.spec.layers import GRU, LSTM, AnyCell, AnyLayer, Bidirectional, SimpleRNN, Stack

LEVELS = (*DTYPES, "tf32", "bfloat16 products")
"""The data types, and float32 with products of less precision."""

_MASKS: tuple[MaskPattern, ...] = ("none", "holes", "dead_row", "right")


@dataclass(slots=True)
class Line:
    """What was measured for one level, kind and backend.

    Attributes:
        cases: How many there were.
        admitted: How many of them are judged by value.
        arrays: How many arrays of those were compared.
        alarms: How many of the arrays were beyond the limit.
        worst: The largest share of a limit that was used.
        of: The case that used it.
    """

    level: str
    kind: Kind
    backend: str
    cases: int = 0
    admitted: int = 0
    arrays: int = 0
    alarms: int = 0
    worst: float = 0.0
    of: str = ""


def calibrate(
    seeds: Iterable[int], cases: Iterable[ValueCase], backends: Sequence[str]
) -> list[Line]:
    """Compare honest backends with the oracle.

    Args:
        seeds: Each gives every case other arrays.
        cases: The cases.
        backends: Names of backends that are known to be right.

    Returns:
        A line for each level, kind and backend that was met.

    Raises:
        RuntimeError: if a backend fails on a case.
    """
    lines: dict[tuple[str, Kind, str], Line] = {}
    ordered = list(cases)
    for seed in seeds:
        subjects = [Subject(name, seed) for name in backends]
        for case in ordered:
            known = expected(case, seed)
            for subject in subjects:
                if not all(map(subject.supports, case.needs)):
                    continue
                observed = execute(case, subject)
                if not isinstance(observed, Observed):
                    raise RuntimeError(f"{subject.name}: {observed.findings[0].message}")
                for kind in KINDS:
                    key = (level(case), kind, subject.name)
                    line = lines.setdefault(key, Line(*key))
                    _add(line, case, seed, known, observed)
    return [lines[key] for key in sorted(lines, key=lambda key: (LEVELS.index(key[0]), *key[1:]))]


def level(case: ValueCase) -> str:
    """Return the data type, or the precision of products where it is less."""
    names = {"highest": case.dtype, "tf32": "tf32", "bfloat16": "bfloat16 products"}
    return names[case.precision]


def random_cases(count: int, *, seed: int = 0, levels: Sequence[str] = LEVELS) -> list[ValueCase]:
    """Return random cases: every cell, direction, stacks, masks, activations and levels."""
    random = generator(seed, "calibration")
    return [_random_case(random, index, levels) for index in range(count)]


def table(lines: Iterable[Line]) -> str:
    """Return the measurement as a Markdown table."""
    rows = ["| level | kind | backend | cases | admitted | arrays | worst share | false alarms |"]
    rows.append("|---|---|---|---|---|---|---|---|")
    rows += [
        f"| {line.level} | {line.kind} | {line.backend} | {line.cases} | "
        f"{line.admitted / line.cases:.1%} | {line.arrays} | {line.worst:.2f} | {line.alarms} |"
        for line in lines
    ]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table for the arguments of the command line."""
    parser = argparse.ArgumentParser(prog="python -m seqcore.conformance.calibration")
    parser.add_argument("--cases", type=int, default=240, help="layers, each with its own shapes")
    parser.add_argument("--seeds", type=int, default=2, help="arrays for each of them")
    parser.add_argument("--backends", nargs="+", default=["numpy"], help="right ones")
    parser.add_argument("--levels", nargs="+", choices=LEVELS, default=LEVELS)
    parser.add_argument("--worst", action="store_true", help="also print the worst cases")
    chosen = parser.parse_args(arguments)
    cases = random_cases(chosen.cases, levels=chosen.levels)
    lines = calibrate(range(chosen.seeds), cases, chosen.backends)
    sys.stdout.write(table(lines) + "\n")
    if chosen.worst:
        details = [f"{line.level}, {line.kind}, {line.backend}: {line.of}" for line in lines]
        sys.stdout.write("\n".join(["", *details, ""]))


def _add(line: Line, case: ValueCase, seed: int, known: Expected, observed: Observed) -> None:
    line.cases += 1
    if not known.admitted(line.kind):
        return
    line.admitted += 1
    call = "apply" if line.kind == "outputs" else "vjp"
    for run in observed.runs:
        if run.call != call:
            continue
        for one in comparisons(known, run, line.kind):
            share = one.eps / one.limit
            line.arrays += 1
            line.alarms += share > 1
            if share > line.worst:
                line.worst = share
                line.of = f"{one.name} {one.eps:.3g} of {one.limit:.3g} eps, seed {seed}, {case}"


def _random_case(random: np.random.Generator, index: int, levels: Sequence[str]) -> ValueCase:
    chosen = levels[index % len(levels)]
    dtype = chosen if chosen in DTYPES else "float32"
    precision = {"tf32": "tf32", "bfloat16 products": "bfloat16"}.get(chosen, "highest")
    needs = {"tf32": "tf32", "bfloat16 products": "bfloat16_products"}.get(chosen, dtype)
    return ValueCase(
        id=f"calibration/{index}",
        clauses=("GRAD-3",),
        needs=(needs,),
        layer=_random_layer(random),
        dtype=dtype,
        precision=precision,
        batch=int(random.integers(1, 5)),
        time=int(math.exp(random.uniform(0, math.log(24)))),
        features=int(random.integers(1, 7)),
        mask=_pick(random, _MASKS),
        state=bool(random.integers(2)),
        scale=_pick(random, (0.3, 0.6, 1.0)),
    )


def _random_layer(random: np.random.Generator) -> AnyLayer:
    returns: dict[str, Any] = {"return_sequences": True, "return_state": True}
    kind = random.integers(4)
    if kind == 0:
        return _random_cell(random, **returns)
    if kind == 1:
        return _random_cell(random, go_backwards=True, keep_order=_flag(random), **returns)
    units = int(random.integers(1, 6))
    mode = _pick(random, ("concat", "sum", "mul", "ave"))
    outputs = _pick(random, ("zero", "carry"))
    if kind == 2:
        pair = [_random_cell(random, units, mask_output=outputs, **returns) for _ in range(2)]
        return Bidirectional(pair[0], mode, pair[1])
    inner: dict[str, Any] = {"return_sequences": True}
    both = Bidirectional(_random_cell(random, units, **inner), mode)
    return Stack((_random_cell(random, **inner), both, _random_cell(random, **inner)), **returns)


def _random_cell(random: np.random.Generator, units: int = 0, **fields: Any) -> AnyCell:
    fields = {
        "units": units or int(random.integers(1, 6)),
        "use_bias": bool(random.random() < 0.8),
        "mask_output": _pick(random, ("zero", "carry")),
        "activation": _pick(random, ("tanh", *ACTIVATIONS)),
        **fields,
    }
    match random.integers(3):
        case 0:
            return SimpleRNN(**fields)
        case 1:
            return LSTM(recurrent_activation=_gate(random), **fields)
        case _:
            return GRU(recurrent_activation=_gate(random), reset_after=_flag(random), **fields)


def _gate(random: np.random.Generator) -> str:
    return str(_pick(random, ("sigmoid", "sigmoid", "hard_sigmoid")))


def _flag(random: np.random.Generator) -> bool:
    return bool(random.integers(2))


def _pick(random: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(random.integers(len(choices)))]


if __name__ == "__main__":
    main()
