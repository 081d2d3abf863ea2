"""Masks with holes, as indices that move each row's valid steps to the front and back again.

ONNX's recurrent operators know lengths only. A sequence whose valid steps come first has them.
"""

from __future__ import annotations

from collections.abc import Container

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def indices(mask: NDArray[np.bool_], names: Container[str]) -> dict[str, Indices]:
    """Return what a graph wants to know of a mask.

    A place is flat, in a sequence with time first: `step * batch + row`. One past the last step
    there is the initial state.

    Args:
        mask: Booleans (batch, time), True at valid steps.
        names: The inputs of the graph.

    Returns:
        Those of these arrays that are among the inputs:

        - `lengths` (batch,): how many valid steps each row has;
        - `order` (time, batch): which step, `row * time + step`, takes each place, so that each
          row's valid steps come first;
        - `places` (batch, time): the place of each step;
        - `places_ahead` (batch, time): the same, a masked step having the place of the valid step
          before it, or of the initial state;
        - `places_behind` (batch, time): the same with the valid step after it.
    """
    if "order" not in names:
        return {"lengths": mask.sum(1, dtype=np.int64)}
    batch, time = mask.shape
    rows, steps = np.arange(batch)[:, None], np.arange(time)
    until = mask.cumsum(1)
    lengths = until[:, -1]
    valid = until - 1
    step = np.where(mask, valid, lengths[:, None] + steps - until)
    order = np.empty((time, batch), np.int64)
    order[step, rows] = rows * time + steps
    found = {"lengths": lengths, "order": order}
    if "places" in names:
        found["places"] = step * batch + rows
    if "places_ahead" in names:
        found["places_ahead"] = np.where(until > 0, valid, time) * batch + rows
    if "places_behind" in names:
        after = np.where(until < lengths[:, None], until, time)
        found["places_behind"] = np.where(mask, valid, after) * batch + rows
    return found
