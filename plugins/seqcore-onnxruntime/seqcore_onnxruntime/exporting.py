"""Layers as ONNX files, each checked by running it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import seqcore
from numpy.typing import NDArray
from seqcore.compare.reference import Reference
from seqcore.errors import ArgumentError, FileError, UnsupportedFeature, WeightsError
from seqcore.files import replacing
from seqcore.spec.layers import AnyLayer, Bidirectional
from seqcore.spec.outputs import output_names, state_names, state_units
from seqcore.spec.weights import cells

from seqcore_onnxruntime.graph import model
from seqcore_onnxruntime.layers import lower
from seqcore_onnxruntime.operators import Operators
from seqcore_onnxruntime.steps import Steps

_MOST_BYTES = 2**31 - 2**20
"""A message of protobuf ends at 2 GiB; the nodes need little of it."""

_BATCH, _TIME = 3, 7
"""The sizes of what a file is checked with."""


def export(
    layer: AnyLayer,
    weights: Mapping[str, NDArray[Any]],
    path: str | os.PathLike[str],
    *,
    lengths: bool = False,
    initial_state: bool = False,
) -> None:
    """Write a layer with its weights to an ONNX file that any engine runs without seqcore.

    The file holds standard operators only: ONNX's `LSTM`, `GRU` and `RNN`, in float64 `Scan`. Its
    input is `x` (batch, time, features), of any batch and time from 1 on; its outputs are what the
    layer's return flags say, by their names in the output contract: `y`, `forward_h` and so on. Its
    metadata holds the layer's description (`seqcore.spec`, as in files of `seqcore.save`) and
    seqcore's version (`seqcore.version`).

    Once written the file is run in ONNX Runtime, beside `layer.apply` on NumPy. It appears as a
    whole, and only if the two agree.

    Args:
        layer: The layer.
        weights: Its weights by canonical name, NumPy arrays of float64, float32 or float16.
        path: The file; by custom it ends in `.onnx`. One that is there is replaced.
        lengths: Whether the file has an input `lengths`, int64 (batch,): the valid steps of each
            row, counted from its first.
        initial_state: Whether the file has an input for each initial state, (batch, units), called
            `initial_h`, `initial_c`, `initial_forward_h` and so on; else they are zeros.

    Raises:
        ArgumentError: if `layer` is none, or `lengths` or `initial_state` is no bool.
        WeightsError: if the weights are not the layer's, or not finite.
        UnsupportedFeature: if the layer cannot be in such a file, with the reason.
        FileError: if the file cannot be written, or does not compute what the layer does.
    """
    if not isinstance(layer, AnyLayer):
        raise ArgumentError(
            f"export: the first argument is {type(layer).__name__}, expected a layer: "
            "export(layer, weights, path)"
        )
    for name, given in (("lengths", lengths), ("initial_state", initial_state)):
        if not isinstance(given, bool):
            raise ArgumentError(
                f"export: {name} is {given!r}, expected True or False: whether the file has it as "
                "an input"
            )
    checked = layer.bind(weights, backend="numpy").weights
    _check(layer, checked)
    dtype = next(iter(checked.values())).dtype.name
    form = Steps(dtype) if dtype == "float64" else Operators(dtype, portable=True)
    graph = lower(
        layer,
        checked,
        form,
        "lengths" if lengths else "none",
        initial_state=initial_state,
        zeros=True,
    )
    made = model(graph.proto("layer", inline=True), producer_name="seqcore-onnxruntime")
    metadata = {"seqcore.spec": layer.to_json(), "seqcore.version": seqcore.__version__}
    onnx.helper.set_model_props(made, metadata)
    with replacing(path) as file:
        file.write(made.SerializeToString())
        file.flush()
        with np.errstate(over="ignore", invalid="ignore"):  # looked for in the results
            _prove(path, Path(file.name).read_bytes(), layer, checked, lengths, initial_state)


def _check(layer: AnyLayer, weights: Mapping[str, NDArray[Any]]) -> None:
    """Check that the weights can be in a file.

    Raises:
        WeightsError: if they are not finite.
        UnsupportedFeature: if their data type or their size is not possible.
    """
    dtype = next(iter(weights.values())).dtype.name
    if dtype == "bfloat16":
        raise UnsupportedFeature(
            f"{layer}: export: the weights are bfloat16, which ONNX Runtime's Python interface "
            "takes in no array, so that the file could not be checked; cast them to float32"
        )
    size = sum(value.nbytes for value in weights.values())
    if size > _MOST_BYTES:
        raise UnsupportedFeature(
            f"{layer}: export: the weights have {size} bytes, expected at most {_MOST_BYTES}, what "
            "one ONNX file holds; export the members one by one"
        )
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise WeightsError(
                f"{layer}: export: {name} holds NaN or infinity, with which engines differ, "
                "expected finite numbers"
            )


def _prove(
    path: str | os.PathLike[str],
    content: bytes,
    layer: AnyLayer,
    weights: Mapping[str, NDArray[Any]],
    lengths: bool,
    initial_state: bool,
) -> None:
    """Check what was written: its form, and its results.

    Raises:
        FileError: if they are not what they must be.
        UnsupportedFeature: if the layer's own results are not finite, so that nothing is shown.
    """
    inputs, given = _example(layer, weights, lengths, initial_state)
    names = output_names(layer)
    try:
        onnx.checker.check_model(content, full_check=True)
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = session.run(list(names), inputs)
    except Exception as error:  # theirs have no common class
        raise FileError(
            f"{path}: not written: expected a model that ONNX's checker and ONNX Runtime "
            f"{onnxruntime.__version__} take, received {type(error).__name__}: {error}; please "
            "report it"
        ) from error
    expected = layer.apply(weights, inputs["x"], backend="numpy", **given)
    if len(names) == 1:
        expected = (expected,)
    if not all(np.isfinite(value).all() for value in expected):
        raise UnsupportedFeature(
            f"{layer}: export: on NumPy the layer overflows {inputs['x'].dtype} within {_TIME} "
            "steps of standard normal input, so that the file could not be checked; give smaller "
            "weights"
        )
    full = _returning_state(layer)  # a reference has several outputs
    nothing = {"mask": None, "lengths": None, "initial_state": None}
    reference = Reference(
        full,
        weights,
        inputs["x"],
        nothing | given,
        precision="highest",
        seed=0,
        gradients=False,
    )
    for name, one, other in zip(names, found, expected, strict=True):
        eps, limit = reference.distance(name, one, other), 2 * reference.limits[name]
        if one.shape != other.shape or one.dtype != other.dtype or not eps <= limit:
            raise FileError(
                f"{path}: not written: ONNX Runtime {onnxruntime.__version__} computes from it "
                f"{name} {one.dtype} {one.shape}, {eps:.3g} eps from layer.apply on NumPy, "
                f"expected {other.dtype} {other.shape} within {limit:.3g} eps; please report it"
            )


def _example(
    layer: AnyLayer, weights: Mapping[str, NDArray[Any]], lengths: bool, initial_state: bool
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Return inputs for the file by name, and the same as `layer.apply` takes them beside x."""
    random = np.random.default_rng(0)
    prefix, _, _ = next(cells(layer, 1))
    kernel = weights[f"{prefix}kernel"]
    x = random.standard_normal((_BATCH, _TIME, len(kernel))).astype(kernel.dtype)
    inputs: dict[str, NDArray[Any]] = {"x": x}
    given: dict[str, Any] = {}
    if lengths:
        inputs["lengths"] = given["lengths"] = np.array([_TIME, 0, _TIME // 2])
    if initial_state:
        shapes = [(_BATCH, units) for units in state_units(layer)]
        given["initial_state"] = [
            random.standard_normal(shape).astype(kernel.dtype) for shape in shapes
        ]
        names = (f"initial_{name}" for name in state_names(layer))
        inputs |= zip(names, given["initial_state"], strict=True)
    return inputs, given


def _returning_state(layer: AnyLayer) -> AnyLayer:
    if not isinstance(layer, Bidirectional):
        return layer.replace(return_state=True)
    return layer.replace(
        layer=layer.forward.replace(return_state=True),
        backward_layer=layer.backward.replace(return_state=True),
    )
