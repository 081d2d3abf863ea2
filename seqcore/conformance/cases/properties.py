"""Layers of any description against the oracle: drawn at random, and shrunk where one is wrong.

This needs Hypothesis, of the extra `conformance`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import msgspec

from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge
from seqcore.conformance.laws import Departure, law
from seqcore.conformance.levels import (
    ACTIVATIONS,
    CELLS,
    FORMS,
    KINKED,
    MASKS,
    NUMBERS,
    scale_of,
)
from seqcore.conformance.model import Finding, MaskPattern, Observed, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.spec.dtypes import HALF_DTYPES
from seqcore.spec.layers import (
    MASK_OUTPUTS,
    MERGE_MODES,
    AnyCell,
    AnyLayer,
    Bidirectional,
    Layer,
    Recurrent,
    Stack,
)

SHRINKS = 100
"""How many more cases are tried after the first that fails, to find a smaller one."""

FEW, MANY = {"few": 6}, {"many": 200}
"""How many layers are drawn. A few have the usual sizes, for a compiling engine pays for others."""


@law("BI-1", "STACK-1", tier="full", needs=("float32",), over=MANY)
@law("BI-1", "STACK-1", needs=("float32",), over=FEW)
def any_layer_gives_what_the_equations_say(subject: Subject, count: int) -> None:
    """Outputs and gradients of any layer are those of its description."""
    search(subject, count, ("none",))


@law("MASK-1", "MASK-3", tier="full", needs=("float32", "masks"), over=MANY)
@law("MASK-1", "MASK-3", needs=("float32", "masks"), over=FEW)
def any_layer_skips_what_a_mask_leaves_out(subject: Subject, count: int) -> None:
    """The same under any mask; what is wrong without a mask is left to the other property."""
    search(subject, count, ("lengths", *MASKS[1:]))


def search(subject: Subject, count: int, masks: tuple[MaskPattern, ...]) -> None:
    """Depart with the smallest of some drawn cases, if there is one that fails.

    Args:
        subject: The backend; the draws follow from its seed.
        count: How many cases are drawn.
        masks: The patterns of masks to choose from.
    """
    hypothesis = _hypothesis()
    judged: dict[str, Finding | None] = {}
    after = 0

    def holds(case: ValueCase) -> None:
        nonlocal after
        text = as_python(case)
        failed = any(finding is not None for finding in judged.values())
        if text not in judged:
            after += failed
            if after > SHRINKS:
                return
            judged[text] = _finding(case, subject)
        finding = judged[text]
        if finding is not None:
            details = msgspec.structs.asdict(finding)
            details["message"] = f"{finding.message}; with the seed {subject.seed}:\n{text}"
            raise Departure(**details)

    settings = hypothesis.settings(
        max_examples=count,
        phases=(hypothesis.Phase.generate, hypothesis.Phase.shrink),
        suppress_health_check=list(hypothesis.HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
        derandomize=False,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
    )
    drawn = _cases(hypothesis.strategies, subject, masks, usual=count <= FEW["few"])
    hypothesis.seed(subject.seed)(settings(hypothesis.given(drawn)(holds)))()


def as_python(value: Any) -> str:
    """Return a case or a layer as Python text, without what has its default."""
    if isinstance(value, Layer):
        fields = {field.name: field.default for field in msgspec.structs.fields(type(value))}
        if isinstance(value, Recurrent):  # whose initializers are resolved
            usual = type(value)(value.units)
            fields = {name: getattr(usual, name) for name in fields} | {"units": None}
    elif isinstance(value, ValueCase):
        fields = {field.name: field.default for field in dataclasses.fields(value)}
    elif isinstance(value, tuple):
        texts = [as_python(item) for item in value]
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"
    else:
        return repr(value)
    given = {name: getattr(value, name) for name in fields}
    texts = [f"{name}={as_python(it)}" for name, it in given.items() if it != fields[name]]
    return f"{type(value).__name__}({', '.join(texts)})"


def _finding(case: ValueCase, subject: Subject) -> Finding | None:
    verdict = execute(case, subject)
    if isinstance(verdict, Observed):
        verdict = judge(case, verdict, subject.seed)
    if not verdict.findings or (case.mask != "none" and _finding(_unmasked(case), subject)):
        return None
    return verdict.findings[0]


def _unmasked(case: ValueCase) -> ValueCase:
    return dataclasses.replace(case, mask="none")


def _hypothesis() -> ModuleType:
    try:
        import hypothesis
        import hypothesis.strategies
    except ImportError as error:
        raise ImportError(
            "properties: Hypothesis is not installed; pip install hypothesis"
        ) from error
    return hypothesis


def _cases(st: ModuleType, subject: Subject, masks: tuple[MaskPattern, ...], *, usual: bool) -> Any:
    """Return what draws cases; the first of a choice is the simplest."""
    numbers = {"float32": NUMBERS["float32"]} if usual else _numbers(subject)

    @st.composite  # type: ignore[untyped-decorator]
    def cases(draw: Any) -> ValueCase:
        def one_of(choices: Iterable[Any]) -> Any:
            # By booleans alone: among the integers that Hypothesis draws are those it finds in
            # the modules that happen to be loaded, and it writes these into a folder.
            known = list(choices)
            bits = [draw(st.booleans()) for _ in range(len(known).bit_length())]
            return known[sum(bit << place for place, bit in enumerate(bits)) % len(known)]

        def size(usually: int, least: int, most: int) -> int:
            return usually if usual else one_of(range(least, most + 1))

        activation, gates = one_of(ACTIVATIONS), one_of(ACTIVATIONS[1::-1] + ACTIVATIONS[2:])
        dtype, precision = numbers[one_of(numbers)]
        kinked = dtype in HALF_DTYPES and not KINKED.isdisjoint((activation, gates))
        return ValueCase(
            id="property",
            clauses=(),
            layer=_layer(one_of, size, {"activation": activation}, gates),
            dtype=dtype,
            precision=precision,
            batch=size(3, 1, 4),
            time=size(5, 1, 7),
            features=size(4, 1, 5),
            mask=one_of(masks),
            state=one_of((False, True)),
            gradients=not kinked and one_of((False, True)),
            scale=scale_of(activation, gates),
        )

    return cases()


def _numbers(subject: Subject) -> dict[str, tuple[str, str]]:
    """Return the data types and precisions that the subject supports."""
    features = {"tf32": "tf32", "bfloat16": "bfloat16_products"}
    return {
        name: (dtype, precision)
        for name, (dtype, precision) in NUMBERS.items()
        if subject.supports(dtype)
        and (precision == "highest" or subject.supports(features[precision]))
    }


def _layer(one_of: Any, size: Any, fields: dict[str, Any], gates: str) -> AnyLayer:
    """Draw a cell, a bidirectional layer or a stack."""
    form = FORMS[one_of(FORMS)]
    fields = {**fields, "use_bias": one_of((True, False)), "mask_output": one_of(MASK_OUTPUTS)}

    def cell(*directions: str, units: int = 0, **flags: Any) -> AnyCell:
        kind = one_of(CELLS)
        more = {} if kind == "rnn" else {"recurrent_activation": gates}
        turned: dict[str, bool] = {
            "forward": {},
            "backwards": {"go_backwards": True},
            "keep-order": {"go_backwards": True, "keep_order": True},
        }[one_of(directions)]
        return CELLS[kind](units or size(2, 1, 3), **fields, **more, **turned, **flags)

    def member(merges: tuple[str, ...], **flags: Any) -> AnyCell | Bidirectional:
        if one_of(("cell", "bidirectional")) == "cell":
            return cell("forward", "backwards", "keep-order", **flags)
        merge, forward = one_of(merges), cell("forward", **flags)
        alike = forward.units if merge in ("sum", "mul", "ave") else 0
        behind = cell("forward", units=alike, **flags) if one_of((False, True)) else None
        return Bidirectional(forward, merge, behind)

    depth = one_of((0, 1, 2, 3))
    if depth == 0:
        return member(MERGE_MODES, **form)
    inner = [member(MERGE_MODES[:-1], return_sequences=True) for _ in range(depth - 1)]
    return Stack((*inner, member(MERGE_MODES)), **form)
