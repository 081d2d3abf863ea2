"""Running one case again: in this process, or by a script that stands alone."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from pprint import pformat
from typing import Any

import numpy as np

from seqcore.conformance import engines
from seqcore.conformance.arrays import arguments, cotangents_of
from seqcore.conformance.bounds import bounds
from seqcore.conformance.execute import execute
from seqcore.conformance.model import Case, Packed, ValueCase, Verdict
from seqcore.conformance.plugins import collect
from seqcore.conformance.runner import refused
from seqcore.conformance.session import judged
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import Array, Kind, expected
from seqcore.errors import ArgumentError

MARK = "# Written by seqcore conform, which replaces it at the next run into this folder."
"""The first line of every script."""

_USAGE = '''\
"""The case {id} ({clauses}) alone.

Usage: python {file} NAME

NAME is a backend's name, or module:factory. Exits with 1 while the case fails.
"""
'''

_LAW = """
import sys

from seqcore.conformance import run_case

if len(sys.argv) != 2:
    sys.exit(f"usage: python {{sys.argv[0]}} NAME")
verdict = run_case(sys.argv[1], {id!r}, seed={seed}, options={options!r})
print({id!r} + ":", verdict.status)
for finding in verdict.findings:
    print(finding.message)
    for label in ("expected", "received", "step", "eps", "limit", "traceback"):
        value = getattr(finding, label)
        if value not in ("", None):
            print(f"{{label}}: {{value}}")
sys.exit(verdict.status in ("fail", "error"))
"""


def run_case(
    name: str, case: str, seed: int = 0, options: Mapping[str, str] | None = None
) -> Verdict:
    """Run one case in this process, whose configuration is ignored from then on.

    Args:
        name: A backend's name, or `module:factory`.
        case: The case's identifier.
        seed: From which every random array follows.
        options: The backend's options.

    Raises:
        SeqcoreError: if there is no such backend or case.
    """
    found = next((one for one in collect() if one.id == case), None)
    if found is None:
        raise ArgumentError(f"case: received {case!r}, which no case is called")
    engines.ignore_configuration()
    backend = engines.load(name, str(Path.cwd()))
    engines.set_options(backend.name, options or {})
    declared = backend.capabilities
    refusal = refused(found, declared.unsupported, declared.not_implemented)
    if refusal is not None:
        return refusal
    return judged(found, execute(found, Subject(backend.name, seed)), seed)


def script(case: Case, file: str, seed: int, options: Mapping[str, str]) -> str:
    """Return a script that reproduces a case alone, with the backend's name as its argument.

    Of a `ValueCase` it holds everything, arrays and limits included; a law it runs by name.

    Args:
        case: The case.
        file: What the script is called.
        seed: From which every random array follows.
        options: The backend's options.
    """
    usage = f"{MARK}\n" + _USAGE.format(id=case.id, clauses=", ".join(case.clauses), file=file)
    if not isinstance(case, ValueCase):
        return usage + _LAW.format(id=case.id, seed=seed, options=dict(options))
    body = files("seqcore.conformance").joinpath("reproduce_values.txt").read_text("utf-8")
    data = "".join(_data(case, seed, options))
    imports = "import ml_dtypes  # noqa: F401 - tells NumPy of bfloat16\n"
    head, _, rest = body.partition("# DATA\n")
    return (
        usage
        + head.replace("# IMPORTS\n", imports if case.dtype == "bfloat16" else "")
        + (data + rest)
    )


def _data(case: ValueCase, seed: int, options: Mapping[str, str]) -> Iterator[str]:
    """Yield the assignments that a script begins with."""
    known, given = expected(case, seed), arguments(case, seed)
    drawn = cotangents_of(case, seed) if case.gradients else ()
    layer = json.dumps(json.loads(case.layer.to_json()), indent=2)
    yield f"LAYER = seqcore.from_json(r'''{layer}''')\n"
    yield f"CASE = {case.id!r}\n"
    yield f"DTYPE = {case.dtype!r}\n"
    yield f"PRECISION = {case.precision!r}\n"
    yield f"OPTIONS = {dict(options)!r}\n"
    yield f"EVERY_IMPLEMENTATION = {case.everywhere!r}\n"
    yield f"EPS = {known.eps!r}\n"
    yield "# (dtype, shape, row-major bytes in base64)\n"
    yield _assigned("WEIGHTS", {name: _packed(value) for name, value in given.weights.items()})
    yield _assigned("X", _packed(given.x))
    yield _assigned("GIVEN", {name: _nested(value) for name, value in given.given.items()})
    yield _assigned("COTANGENTS", [_packed(value) for value in drawn])
    yield (
        "# By name: what is expected; the limit in eps; where it is exact; for each element the\n"
        "# index of the first that is the same number; and the largest magnitude. Without a limit\n"
        "# values are not judged, but by that magnitude.\n"
    )
    kinds: tuple[tuple[Kind, dict[str, Array]], ...] = (
        ("outputs", known.outputs),
        ("gradients", known.gradients),
    )
    for kind, arrays in kinds:
        admitted = bool(arrays) and known.admitted(kind)
        largest = {} if admitted or kind == "gradients" else bounds(case, seed)
        shown = {
            name: _expected(array, largest.get(name, math.inf), admitted=admitted)
            for name, array in arrays.items()
        }
        yield _assigned(kind.upper(), shown)


def _assigned(name: str, value: Any) -> str:
    return f"{name} = {pformat(value, width=96, sort_dicts=False)}\n"


def _expected(array: Array, largest: float, *, admitted: bool) -> tuple[Any, ...]:
    _, first, inverse = np.unique(array.identities, return_index=True, return_inverse=True)
    origin = first[inverse].reshape(-1)
    return (
        _packed(array.reference),
        array.limit if admitted else None,
        _packed(array.exact),
        _packed(origin),
        None if math.isinf(largest) else largest,
    )


def _nested(value: Any) -> Any:
    return list(map(_packed, value)) if isinstance(value, tuple) else _packed(value)


def _packed(value: Any) -> tuple[str, tuple[int, ...], str]:
    packed = Packed.of(value)
    return packed.dtype, packed.shape, base64.b64encode(packed.data).decode()
