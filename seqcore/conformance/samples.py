"""What laws call with: the shared sizes, and random arrays that follow from a label."""

from __future__ import annotations

from typing import Any

import numpy as np

from seqcore.conformance.arrays import Arguments, arguments
from seqcore.conformance.model import MaskPattern, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import AnyLayer

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2
"""All different, so that no axis can stand for another."""

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}

FEW = 96.0
"""Eps that two results may be apart which the specification makes equal by different operations.

Each may be `4n + 8` from the exact one. For layers of the shared sizes with weights of the usual
scale, stacks of three included, `n` stays below 10; a wrong formula is off by thousands.
"""

FEW_IN_GRADIENTS = 192.0
"""The same for gradients, which may each be `8n + 8` from the exact ones, with `n` below 11."""


def sample(
    subject: Subject,
    layer: AnyLayer,
    label: str,
    *,
    mask: MaskPattern = "none",
    state: bool = True,
    batch: int = BATCH,
    time: int = TIME,
    scale: float = 0.6,
) -> Arguments:
    """Return the arrays of one call in float32; the same label and sizes, the same arrays."""
    case = ValueCase(
        id=label,
        clauses=(),
        layer=layer,
        mask=mask,
        state=state,
        batch=batch,
        time=time,
        features=FEATURES,
        scale=scale,
    )
    return arguments(case, subject.seed)


def outputs_of(result: Any) -> tuple[Any, ...]:
    """Return all outputs of a call, one or several."""
    return result if isinstance(result, tuple) else (result,)


def zero_weights(layer: AnyLayer) -> dict[str, Any]:
    """Return weights of zeros in float32."""
    return {
        name: np.zeros(shape, np.float32) for name, shape in layer.weight_shapes(FEATURES).items()
    }
