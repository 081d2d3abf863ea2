"""An implementation: one way in which a backend runs a layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from seqcore.errors import UnsupportedFeature
from seqcore.ops import Array, Arrays
from seqcore.spi.request import Request

Sequence = Array | tuple[Array, Array]
"""`h` at every step; a pair for a `Bidirectional` with merge_mode='none'."""

GradientParts = tuple[dict[str, Array], Array, Arrays]
"""The gradients of the weights by name, of x, and of the initial state."""


class Implementation(ABC):
    """One way to run a layer, chosen by what it declares in `refuses`.

    The runtime has checked everything before it calls: shapes fit, dtypes are equal, batch and
    time are at least 1, and the initial state is always given. An exception raised here
    propagates; it never makes the planner try the next one.

    A layer is offered whole first (a `Stack`, then a `Bidirectional`), then its parts, down to one
    cell in one direction. One that takes a whole takes its merges and reversals too.
    """

    name: str
    """Short and stable; users write it in `implementation=` and read it in `explain`."""

    @abstractmethod
    def refuses(self, request: Request) -> str | None:
        """Return why this request is not taken, as a phrase, or None if it is."""

    def prepare(self, request: Request, weights: Mapping[str, Array]) -> Any:
        """Return the canonical weights in the form that `run` wants; called once for a bound layer.

        The result may not share memory with `weights` unless the arrays are immutable or the
        caller's own autodiff has to see them.
        """
        return dict(weights)

    @abstractmethod
    def run(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays]:
        """Run the layer.

        Args:
            request: What `refuses` was asked.
            prepared: What `prepare` returned.
            x: The input, (batch, time, features). Values at masked steps may be NaN or inf and
                must not reach a result.
            mask: Booleans (batch, time), or None.
            initial_state: Arrays (batch, units), in the order of the contract.

        Returns:
            `h` after every step, (batch, time, units), and the final state in the order of the
            contract. At a masked step the former holds the carried `h` where the layer says
            `mask_output="carry"`, and any finite value where it says `"zero"`: the runtime writes
            the zeros.
        """

    def vjp(
        self, request: Request, prepared: Any, x: Array, mask: Array | None, initial_state: Arrays
    ) -> tuple[Sequence, Arrays, Any]:
        """Run the layer and also return what `pullback` needs.

        Between the two a caller may write into `x`, the weights and the results, and the pullback
        must not see it; `mask` and `initial_state` are the runtime's own copies.

        An implementation without gradients refuses requests whose `gradient` is `"yes"`.
        """
        raise UnsupportedFeature(f"{self.name}: has no gradients")

    def pullback(
        self,
        request: Request,
        prepared: Any,
        residuals: Any,
        d_sequence: Sequence | None,
        d_state: Arrays,
    ) -> GradientParts:
        """Return the gradients for given cotangents.

        Args:
            request: As in `vjp`.
            prepared: As in `vjp`.
            residuals: What `vjp` returned; not to be changed, for a pullback may be called again.
            d_sequence: The cotangent of the sequence, zero at masked steps where the layer says
                `mask_output="zero"`; None for zeros.
            d_state: The cotangents of the final state.

        Returns:
            The gradients of the canonical weights by name, of x, and of the initial state.
        """
        raise UnsupportedFeature(f"{self.name}: has no gradients")
