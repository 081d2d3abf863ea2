"""What a form is: one way to write cells in ONNX."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray
from seqcore.spec.layers import AnyCell

from seqcore_onnxruntime.graph import Graph
from seqcore_onnxruntime.lengths import Lengths

Weights = Mapping[str, NDArray[Any]]


class Form(ABC):
    """One way to write cells in ONNX.

    Attributes:
        dtype: The data type of the graph's inputs, outputs and computations.
    """

    dtype: str

    @abstractmethod
    def cell(
        self,
        graph: Graph,
        cell: AnyCell,
        weights: Weights,
        prefix: str,
        x: str,
        initial: tuple[str, ...],
        *,
        reverse: bool,
        lengths: Lengths | None,
    ) -> tuple[str, tuple[str, ...]]:
        """Add a cell to a graph.

        Args:
            graph: The graph.
            cell: The cell; the direction that it names does not count.
            weights: Its canonical weights, without prefix.
            prefix: What the names of its constants begin with.
            x: Its input, (time, batch, features), each row's valid steps before all others.
            initial: Its initial state, each (batch, units).
            reverse: Whether it reads from a row's last valid step to the first.
            lengths: How many steps of each row are valid; None for all.

        Returns:
            `h` after every step, (time, batch, units), at steps that are not valid any finite
            number; and the final state, each (batch, units), in rows without a valid step the
            initial one.
        """

    def rounded(self, graph: Graph, value: str) -> str:
        """Return a merged output with no more digits than the layer's data type has."""
        return value
