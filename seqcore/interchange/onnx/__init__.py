"""ONNX models of recurrent nodes: a `ModelProto`, in and out.

A model is read where it is a chain of `RNN`, `GRU` and `LSTM` nodes, forward, reverse or
bidirectional, with nothing but rearrangements and merges between and around them, as
`torch.onnx.export`, tf2onnx and seqcore's own exports write it. What a node holds is in
`seqcore.interchange.onnx.node`.

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, GRU and RNN beside it.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from seqcore.errors import ConversionError
from seqcore.interchange.levels import Converted, assemble, disassemble
from seqcore.interchange.onnx.chain import chain_of, levels_of
from seqcore.interchange.onnx.description import described, named
from seqcore.interchange.onnx.graph import read
from seqcore.interchange.onnx.writing import written


def from_onnx(
    source: Any,
    *,
    return_sequences: bool | None = None,
    return_state: bool | None = None,
) -> Converted:
    """Return the layer and the canonical weights of an ONNX model.

    Several levels become a `Stack`. LSTM, SimpleRNN and a GRU that resets before: the bias is the
    sum of the node's two. Initial states that are inputs of the graph are the `initial_state` of
    the call, lengths the `lengths`; the axes of x and of what is returned may be in any order. A
    model that seqcore exported has the layer's description in its metadata, and gives that layer.

    Args:
        source: The bytes of a model's file, or an `onnx.ModelProto`, with its weights inside.
        return_sequences: Of the layer returned; None for the description's, else True.
        return_state: Of the layer returned; None for the description's, else False.

    Raises:
        ConversionError: if the source is no model, is damaged, or computes what a layer does not,
            naming it; if onnx is not installed.
    """
    model = model_of(source)
    chain = chain_of(read(model))
    known = described(model, chain)
    flags = {"return_sequences": return_sequences, "return_state": return_state}
    if known is None:
        given = {name: value for name, value in flags.items() if value is not None}
        return assemble(levels_of(chain), **given)
    layer, chain = known
    weights = named(layer, chain)
    own = {name: getattr(layer, name) for name in flags}
    wanted = {name: own[name] if value is None else value for name, value in flags.items()}
    if wanted == own:
        return layer, weights
    return assemble(disassemble("onnx", layer, weights), **wanted)


def to_onnx(
    layer: Any, weights: Mapping[str, Any], *, lengths: bool = True, initial_state: bool = True
) -> Any:
    """Return an `onnx.ModelProto` of standard operators, one recurrent node a level.

    Its input is `x` (batch, time, features), of any batch and time from 1 on; its outputs are what
    the layer's return flags say, by their names in the output contract. Its metadata holds the
    layer's description.

    Args:
        layer: The layer.
        weights: Its canonical weights.
        lengths: Whether there is an input `lengths`, int64 (batch,): the valid steps of each row.
            The graph then returns zeros at the others, as `mask_output="zero"` says.
        initial_state: Whether there is an input for each initial state, (batch, units), called
            `initial_h`, `initial_c`, `initial_forward_h` and so on; else they are zeros.

    Raises:
        ConversionError: if a node cannot hold the layer, naming the term; if onnx is not installed.
        WeightsError: if the weights are not the layer's.
    """
    for name, given in (("lengths", lengths), ("initial_state", initial_state)):
        if not isinstance(given, bool):
            raise ConversionError(f"to onnx: {name} is {given!r}, expected True or False")
    levels = disassemble("onnx", layer, weights)
    library()
    return written(layer, levels, lengths=lengths, initial_state=initial_state)


def library() -> Any:
    """Return the package onnx.

    Raises:
        ConversionError: if it is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise ConversionError("onnx models: onnx is not installed; pip install onnx") from error
    return onnx


def model_of(source: Any) -> Any:
    """Return a `ModelProto` from itself or its bytes.

    Raises:
        ConversionError: if it is neither.
    """
    onnx = library()
    if isinstance(source, onnx.ModelProto):
        return source
    if not isinstance(source, bytes | bytearray | memoryview):
        hint = "; read a file with seqcore.interchange.read(path)"
        raise ConversionError(
            f"from onnx: received {type(source).__name__}, expected an onnx.ModelProto or the "
            f"bytes of one{hint if isinstance(source, str | os.PathLike) else ''}"
        )
    protobuf = importlib.import_module("google.protobuf.message")  # has no types
    try:
        model = onnx.ModelProto.FromString(bytes(source))
    except protobuf.DecodeError as error:
        raise ConversionError(f"from onnx: no ONNX model, or a truncated one: {error}") from None
    if not model.HasField("graph"):
        raise ConversionError("from onnx: no ONNX model, or a truncated one: it has no graph")
    return model
