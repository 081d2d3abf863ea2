"""What a backend author imports: the service provider interface.

A registration module imports `seqcore.spi.registration` instead, which is frozen for good.
"""

from seqcore.ops import Array, Arrays, Ops, Step
from seqcore.spi.backend import Backend
from seqcore.spi.buckets import Buckets
from seqcore.spi.generic import Generic
from seqcore.spi.host import HostBackend, HostOps
from seqcore.spi.implementation import GradientParts, Implementation, Sequence
from seqcore.spi.registration import BackendSpec, Option, hookimpl
from seqcore.spi.request import FEATURES, ArrayInfo, Capabilities, Request
from seqcore.spi.transforms import Transforms
from seqcore.spi.version import SPI_VERSION

__all__ = [
    "FEATURES",
    "SPI_VERSION",
    "Array",
    "ArrayInfo",
    "Arrays",
    "Backend",
    "BackendSpec",
    "Buckets",
    "Capabilities",
    "Generic",
    "GradientParts",
    "HostBackend",
    "HostOps",
    "Implementation",
    "Ops",
    "Option",
    "Request",
    "Sequence",
    "Step",
    "Transforms",
    "hookimpl",
]
