"""What the suite is made of: cases, and what comes of one case on one backend."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import AnyLayer

if TYPE_CHECKING:
    from seqcore.conformance.subject import Subject

Tier = Literal["smoke", "standard", "full"]
TIERS: tuple[Tier, ...] = ("smoke", "standard", "full")
"""Each tier runs its own cases and those of the tiers before it."""

MaskPattern = Literal["none", "valid", "right", "left", "holes", "dead_row", "all", "lengths"]
"""No mask; a mask that is True everywhere; padding; holes; holes and a row without a valid step;
no valid step at all; right padding given as `lengths`."""

Status = Literal["pass", "fail", "waived", "unsupported", "not-implemented", "error"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to try on a backend.

    Attributes:
        id: Unique and stable, `"group/what/which"`.
        clauses: The clauses that it shows to be broken when it fails.
        tier: The first tier that runs it.
        needs: Features (`seqcore.spi.FEATURES`) that it uses. Where one is not supported, the case
            is not run.
    """

    id: str
    clauses: tuple[str, ...]
    tier: Tier = "standard"
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ValueCase(Case):
    """One call with random arrays, whose results are compared with the oracle's.

    Attributes:
        layer: The layer; its return flags say what is returned.
        dtype: Of everything.
        precision: `matmul_precision`.
        batch: Rows.
        time: Steps.
        features: The input's last axis.
        mask: Which steps are valid.
        state: Whether an initial state is given.
        gradients: Whether the pullback is compared, too, on a backend that has gradients.
        scale: The standard deviation of the weights.
        poison: Whether `x` is NaN or infinite at masked steps.
        everywhere: Whether each implementation that takes the layer runs it, too.
        wild: Whether it is so sensitive to rounding that it is not judged by value: its results
            have to be finite and within their bounds.
        label: What tells its arrays from those of another case; the same label, the same arrays.
    """

    layer: AnyLayer
    dtype: str = "float32"
    precision: str = "highest"
    batch: int = 3
    time: int = 5
    features: int = 4
    mask: MaskPattern = "none"
    state: bool = False
    gradients: bool = True
    scale: float = 0.6
    poison: bool = False
    everywhere: bool = False
    wild: bool = False
    label: str = ""


@dataclass(frozen=True, kw_only=True)
class LawCase(Case):
    """A check that runs beside the backend and judges it there.

    Attributes:
        check: Called with the subject; raises `seqcore.conformance.laws.Departure`, or whatever
            the backend raises.
    """

    check: Callable[[Subject], None]


class Packed(msgspec.Struct, frozen=True):
    """An array on its way between processes, in row-major order."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes

    @classmethod
    def of(cls, array: NDArray[Any]) -> Packed:
        """Pack an array."""
        array = np.asarray(array)
        return cls(array.dtype.name, array.shape, array.tobytes())

    def array(self) -> NDArray[Any]:
        """Return the array."""
        kind = numpy_dtype(self.dtype) if self.dtype == "bfloat16" else np.dtype(self.dtype)
        return np.frombuffer(self.data, kind).reshape(self.shape)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a `ValueCase` on one way through a backend.

    Attributes:
        implementation: The one that was asked for; "" where the planner chose.
        call: `"apply"`, or `"vjp"`, whose outputs come with gradients.
        plan: The implementations that ran, each once.
        outputs: By field name (OUT-5).
        gradients: By canonical weight name, `"x"` and `"initial_state.h"`, `"initial_state.c"`...
    """

    implementation: str
    call: Literal["apply", "vjp"]
    plan: tuple[str, ...]
    outputs: dict[str, Packed]
    gradients: dict[str, Packed] = {}


class Observed(msgspec.Struct, frozen=True, tag=True):
    """A `ValueCase` that ran; not yet judged."""

    runs: list[Run]
    seconds: float = 0.0


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which a backend departs from the specification.

    Attributes:
        message: In one sentence: the subject, what was expected, what was received.
        clause: The clause, where it is narrower than the case's.
        expected: As text, shapes and a few values.
        received: The same.
        step: The first step, in original time, at which it shows.
        eps: The error in eps.
        limit: What is allowed, in eps.
        traceback: Where an exception came from.
    """

    message: str
    clause: str = ""
    expected: str = ""
    received: str = ""
    step: int | None = None
    eps: float | None = None
    limit: float | None = None
    traceback: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a case came to on one backend, before waivers.

    Attributes:
        status: Never `"waived"` here.
        findings: What is wrong, or for `"unsupported"` and `"not-implemented"` the reason.
        seconds: How long it ran.
        plans: The implementations that ran.
        worst: The largest error in eps and the limit there, for `"outputs"` and `"gradients"`.
        judged: Whether values were compared wherever they should be: with unlucky arrays a call may
            be too sensitive to rounding.
        tried: Whether it ran: it does not where its backend cannot be made, or ends too often.
    """

    status: Status
    findings: list[Finding] = []
    seconds: float = 0.0
    plans: list[str] = []
    worst: dict[str, tuple[float, float]] = {}
    judged: bool = True
    tried: bool = True
