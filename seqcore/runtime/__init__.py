"""What runs a layer: validation, planning, and the calls behind the layers' methods."""

from seqcore.runtime.bound import BoundLayer, bind
from seqcore.runtime.calls import apply, call, explain, vjp
from seqcore.runtime.explanation import Explanation, PlannedPart
from seqcore.runtime.gates import gates
from seqcore.runtime.planned_call import Gradients

__all__ = [
    "BoundLayer",
    "Explanation",
    "Gradients",
    "PlannedPart",
    "apply",
    "bind",
    "call",
    "explain",
    "gates",
    "vjp",
]
