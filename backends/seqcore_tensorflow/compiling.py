"""Functions as graphs: traced once for any batch and time, and called with flat lists of arrays."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from seqcore_tensorflow.ops import FOR_XLA
from seqcore_tensorflow.precision import rounds_to_tf32

FEWEST_STEPS = 32
MOST_SHAPES = 8


class Eager:
    """A function run op by op on a device."""

    def __init__(self, function: Callable[..., Any], device: str) -> None:
        """Take the function and the device of its ops."""
        self._function = function
        self._device = device

    def __call__(self, *arguments: Any) -> Any:
        if not tf.executing_eagerly():
            return self._function(*arguments)
        with tf.device(self._device):
            return self._function(*arguments)


class Compiled:
    """A function of nested arrays as a graph, or compiled by XLA.

    The first argument holds the weights. A graph is made for their shapes and for the last axes of
    the other arrays; batch and time are read when it runs, so that new ones don't make a new graph.
    XLA compiles for each of them anew, in a second or more, and gets a graph of its own.

    With `"auto"`, XLA takes calls of at least `FEWEST_STEPS` steps (what it saves is time between
    ops), and the first `MOST_SHAPES` such shapes (input of ever new shapes would be compiled and
    not run). A call of the same shapes is thus run in the same way for good.

    Inside the trace of a caller the function is run as it stands: its ops become part of the
    caller's graph, which knows the static shapes and is compiled as the caller wants.
    """

    def __init__(self, function: Callable[..., Any], device: str, how: str) -> None:
        """Take the function, the device of its ops, and `"auto"`, `"graph"` or `"xla"`."""
        self._function = function
        self._device = device
        self._how = how
        self._known: dict[Any, tuple[Callable[..., Any], Any]] = {}
        self._graphs: dict[Any, tuple[Callable[..., Any], Any]] = {}
        self._by_xla = 0
        self._lock = threading.Lock()

    @property
    def graphs(self) -> int:
        """How many graphs have been made."""
        return len(self._graphs)

    @property
    def compilations(self) -> int:
        """How many shapes XLA has compiled."""
        return self._by_xla

    def __call__(self, *arguments: Any) -> Any:
        if not tf.executing_eagerly():
            return self._function(*arguments)
        if len(arguments) == 1:  # weights made ready: nothing, or a cast each
            with tf.device(self._device):
                return self._function(*arguments)
        flat = tf.nest.flatten(arguments)
        arrays = [leaf for leaf in flat if leaf is not None]
        # With the user's switch for TF32, for which products are made differently.
        switch = rounds_to_tf32()
        key = (switch, *[tuple(array.shape) for array in arrays])
        found = self._known.get(key)
        if found is None:
            with self._lock:
                found = self._known.get(key)
                if found is None:
                    found = self._known[key] = self._graph(arguments, flat, switch)
        graph, structure = found
        results = iter(graph(*arrays))
        leaves = [None if leaf is None else next(results) for leaf in tf.nest.flatten(structure)]
        return tf.nest.pack_sequence_as(structure, leaves)

    def _graph(
        self, arguments: Any, flat: list[Any], switch: bool
    ) -> tuple[Callable[..., Any], Any]:
        fixed = len(tf.nest.flatten(arguments[0]))
        jit = self._how == "xla" or (
            self._how == "auto" and self._by_xla < MOST_SHAPES and worth_compiling(flat[fixed:])
        )
        self._by_xla += jit
        exact = len(flat) if jit else fixed
        shapes = tuple(tuple(leaf.shape) for leaf in flat[:exact] if leaf is not None)
        key = (switch, jit, shapes)
        if key not in self._graphs:
            self._graphs[key] = self._trace(arguments, flat, exact, jit)
        return self._graphs[key]

    def _trace(
        self, arguments: Any, flat: list[Any], exact: int, jit: bool
    ) -> tuple[Callable[..., Any], Any]:
        specs = [
            tf.TensorSpec(leaf.shape if index < exact else _relaxed(leaf), leaf.dtype)
            for index, leaf in enumerate(flat)
            if leaf is not None
        ]
        present = [leaf is not None for leaf in flat]
        structure: list[Any] = []

        def graph(*arrays: Any) -> Any:
            given = iter(arrays)
            leaves = [next(given) if there else None for there in present]
            with tf.device(self._device):
                result = self._function(*tf.nest.pack_sequence_as(arguments, leaves))
            structure[:] = [tf.nest.map_structure(lambda leaf: leaf is not None or None, result)]
            return [leaf for leaf in tf.nest.flatten(result) if leaf is not None]

        compiled = tf.function(
            graph, input_signature=specs, autograph=False, jit_compile=jit or None
        )
        token = FOR_XLA.set(jit)
        try:
            traced = compiled.get_concrete_function()
        finally:
            FOR_XLA.reset(token)
        return traced, structure[0]


def worth_compiling(arrays: list[Any]) -> bool:
    """Return whether XLA is worth its time for a call with these arrays; see `Compiled`."""
    floats = [array for array in arrays if array is not None and array.dtype.is_floating]
    # States are always among them, (batch, units), and sequences, in either order of the axes.
    batch = next(array.shape[0] for array in floats if len(array.shape) == 2)
    both = next(array.shape[0] * array.shape[1] for array in floats if len(array.shape) == 3)
    return bool(both and both >= FEWEST_STEPS * batch)


def _relaxed(array: Any) -> Any:
    """Return the shape with nothing fixed but features or units: floats' last axis."""
    shape: list[int | None] = [None] * len(array.shape)
    if array.dtype.is_floating:
        shape[-1] = array.shape[-1]
    elif len(shape) == 3:
        shape[-1] = 1  # the mask of one step, as it is kept for the pullback
    return shape
