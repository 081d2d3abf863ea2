"""What the planner asks an implementation, and what a backend tells of an array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from seqcore.spec.layers import AnyLayer

MaskKind = Literal["none", "lengths", "any"]
GradientKind = Literal["no", "yes", "unknown"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question: can you run this layer, so?

    Attributes:
        layer: The bare computation: initializers are at their defaults and both return flags are
            set. A backward member of a `Bidirectional` has `go_backwards` and `keep_order`.
        dtype: The dtype of the input, the weights and the state.
        device: The device, in the backend's own words.
        precision: `matmul_precision`: `"highest"`, `"tf32"` or `"bfloat16"`.
        mask: `"none"`; `"lengths"`, right padding; or `"any"`, where holes are possible. An
            implementation receives a boolean mask in both of the latter cases.
        gradient: `"no"`; `"yes"`, through `vjp` and `pullback`; or `"unknown"`, where the
            framework's own autodiff may pass through `run`.
        traced: Whether values are hidden by a compiler's trace.
        options: The backend's options in force, sorted by name.
    """

    layer: AnyLayer
    dtype: str
    device: str
    precision: str = "highest"
    mask: MaskKind = "none"
    gradient: GradientKind = "no"
    traced: bool = False
    options: tuple[tuple[str, str | int | bool | None], ...] = ()

    def option(self, name: str) -> str | int | bool | None:
        """Return the value of one of the backend's options."""
        return dict(self.options).get(name)


@dataclass(frozen=True, slots=True)
class ArrayInfo:
    """What the runtime needs to know of a backend's array without looking at its values.

    A bound layer takes two calls whose arrays have the same for the same, and plans them once.

    Attributes:
        shape: The shape; None for a batch or a time that a compiler's trace does not know.
        dtype: The dtype's name; also of those that no layer takes, such as `"int64"`.
        device: The device, in the backend's own words; "" for an array that goes to any.
        traced: Whether the values are hidden by a compiler's trace.
        gradient: Whether the framework's autodiff may be recording it.
    """

    shape: tuple[int | None, ...]
    dtype: str
    device: str
    traced: bool = False
    gradient: bool = False


Support = Literal["supported", "unsupported", "not-implemented"]

FEATURES: Mapping[str, str] = MappingProxyType(
    {
        "float64": "layers in float64",
        "float32": "layers in float32",
        "float16": "layers in float16",
        "bfloat16": "layers in bfloat16",
        "tf32": "matmul_precision='tf32'",
        "bfloat16_products": "matmul_precision='bfloat16'",
        "masks": "masks with holes",
        "gradients": "vjp and pullback",
        "gates": "gates at every step, by the generic implementation",
        "native_autodiff": "the framework's own autodiff through apply",
        "second_order": "gradients of gradients",
        "vmap": "vectorising maps over apply",
        "forward_mode": "forward-mode differentiation",
        "compile": "apply inside the framework's own compiler",
    }
)
"""Every feature that a backend declares, with what it is."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend declares, feature by feature; what is not named is supported.

    Attributes:
        unsupported: What the engine cannot do, with the reason.
        not_implemented: What it could do and this backend does not yet, with the reason.
    """

    unsupported: Mapping[str, str] = field(default_factory=dict)
    not_implemented: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for declared in (self.unsupported, self.not_implemented):
            if not isinstance(declared, Mapping):
                raise ValueError(f"received {declared!r:.80}, expected reasons by feature")
        for name, reason in (*self.unsupported.items(), *self.not_implemented.items()):
            if name not in FEATURES:
                raise ValueError(f"no feature is called {name!r}, expected one of {[*FEATURES]}")
            if not isinstance(reason, str):
                raise ValueError(
                    f"feature {name!r}: received {reason!r:.80}, expected the reason as a text"
                )
        both = [name for name in self.unsupported if name in self.not_implemented]
        if both:
            raise ValueError(
                f"declared both unsupported and not implemented: {', '.join(both)}; expected one"
            )

    def support(self, feature: str) -> Support:
        """Return what is declared of a feature."""
        if feature in self.unsupported:
            return "unsupported"
        return "not-implemented" if feature in self.not_implemented else "supported"

    def reason(self, feature: str) -> str | None:
        """Return why a feature is not supported; None where it is."""
        return self.unsupported.get(feature, self.not_implemented.get(feature))
