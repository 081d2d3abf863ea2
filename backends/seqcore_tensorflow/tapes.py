"""What TensorFlow's autodiff is doing with an array.

TensorFlow has no public way to ask. Where its own modules lack the answer, every call is taken for
recorded, which is as right, and slower, for it keeps what a pullback would need.
"""

from __future__ import annotations

from typing import Any

from seqcore.errors import UnsupportedFeature
from seqcore.ops import Array

try:
    from tensorflow.python.eager.record import could_possibly_record
except ImportError:

    def could_possibly_record() -> bool:
        """Return that it may be so."""
        return True


try:
    from tensorflow.python.eager.forwardprop_util import pack_tangents
except ImportError:
    pack_tangents = None

FORWARD_MODE = (
    "TensorFlow's forward mode fails on the loops of a graph, and gives wrong numbers through a "
    "custom gradient in one"
)


def recording() -> bool:
    """Return whether a tape or a forward accumulator may be recording in this thread."""
    return bool(could_possibly_record())


def refuse_tangents(array: Array) -> None:
    """Check that no forward accumulator watches a tensor.

    Raises:
        UnsupportedFeature: if one does; what it gave would be wrong without a word.
    """
    pack: Any = pack_tangents
    if pack is not None and recording() and pack([array]).indices:
        raise UnsupportedFeature(
            f"an array is watched by a tf.autodiff.ForwardAccumulator: {FORWARD_MODE}; use "
            "tf.GradientTape or layer.vjp"
        )
