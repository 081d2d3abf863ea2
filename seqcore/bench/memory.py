"""How much memory a train step needs above its inputs and weights."""

from __future__ import annotations

import tracemalloc

import numpy as np

from seqcore.bench.workloads import Workload, make_workload


def trace(workload: Workload, backend: str) -> int:
    """Return the peak, in bytes, of what Python traces in one `vjp` and its pullback.

    NumPy reports its arrays to Python's tracing; other engines' memory is not seen.
    """
    # What the first call allocates once for all, imports and plans, shall not count. That call is
    # of another size: buffers that are kept for this one do count.
    shape = (1, 2, workload.features)
    _peak(make_workload("small", workload.layer, shape, lengths=workload.lengths), backend)
    return _peak(workload, backend)


def _peak(workload: Workload, backend: str) -> int:
    layer, data = workload.layer, workload.data()
    ones = tuple(np.ones(shape, np.float32) for shape in workload.output_shapes())
    tracemalloc.start()
    try:
        outputs, pullback = layer.vjp(data.weights, data.x, lengths=data.lengths, backend=backend)
        gradients = pullback(ones)
        _, peak = tracemalloc.get_traced_memory()
        del outputs, gradients  # as in training, both are alive until the weights are updated
        return peak
    finally:
        tracemalloc.stop()
