"""A graph in ONNX Runtime, ready to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import onnxruntime
from numpy.typing import NDArray
from onnxruntime import OrtValue
from seqcore.errors import ArgumentError

from seqcore_onnxruntime.graph import Graph, model


class Session:
    """A graph with its weights, which the engine brings into a form of its own.

    Several threads may run one session at the same time.

    Attributes:
        inputs: The names of the inputs.
    """

    def __init__(self, graph: Graph, threads: int | None) -> None:
        """Make the session.

        Args:
            graph: The graph.
            threads: Threads of one run; None for as many as the engine takes by itself.

        Raises:
            ArgumentError: if there are not so many processors.
        """
        options = onnxruntime.SessionOptions()
        if threads is not None:
            most = os.cpu_count() or 1
            if not 1 <= threads <= most:
                # With many more than processors the engine's threads wait for one another.
                raise ArgumentError(
                    f"backend 'onnxruntime': threads is {threads}, expected 1 to {most}, the "
                    "processors of this machine; leave it out and the engine decides"
                )
            options.intra_op_num_threads = threads
        # The weights are handed over beside the model: a message of protobuf ends at 2 GiB, and
        # two copies are saved. The engine reads this memory, so it is kept.
        self._weights = [OrtValue.ortvalue_from_numpy(value) for value in graph.weights.values()]
        options.add_external_initializers(list(graph.weights), self._weights)
        self._session = onnxruntime.InferenceSession(
            model(graph.proto("layer")).SerializeToString(),
            options,
            providers=["CPUExecutionProvider"],
        )
        self.inputs = tuple(graph.inputs)
        self._outputs = list(graph.outputs)

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs, in memory of their own."""
        outputs: list[NDArray[Any]] = self._session.run(self._outputs, inputs)
        return outputs
