"""A torch `state_dict` run by torch's own module, which its shapes and names describe."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import BackendNotInstalled, ConversionError

Named = dict[str, NDArray[Any]]

_KINDS = {4: "LSTM", 3: "GRU", 1: "RNN"}
"""The modules by how many blocks of rows their weights have."""

_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def run(
    structure: Mapping[str, NDArray[Any]],
    words: Mapping[str, Any],
    x: NDArray[Any],
    lengths: NDArray[Any] | None,
) -> Named:
    """Return the sequence and the final states, as the module of a `state_dict` computes them.

    Args:
        structure: As `from_torch` takes it, the arrays being NumPy's.
        words: Its keyword arguments; `prefix` and `activation` matter here.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if torch is not installed.
        ConversionError: if the structure is no module's.
    """
    try:
        torch: Any = importlib.import_module("torch")
    except ModuleNotFoundError as error:
        raise BackendNotInstalled("torch is not installed; pip install torch") from error
    state = _part(structure, words.get("prefix"))
    tensors = {name: _tensor(torch, value) for name, value in state.items()}
    cell = "weight_hh" in tensors
    module = _module(torch, tensors, words.get("activation"), cell)
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ConversionError(f"torch: {error}") from error
    given = _tensor(torch, x)
    with torch.no_grad():
        if cell:
            return _by_rows(torch, module, given, lengths)
        return _whole(torch, module, given, lengths)


def _part(structure: Mapping[str, NDArray[Any]], prefix: str | None) -> Named:
    """Return the entries of the module, without its prefix."""
    if prefix is None:
        prefix = next(iter(structure)).rpartition(".")[0]
    prefix = f"{prefix.removesuffix('.')}." if prefix else ""
    found = {
        name.removeprefix(prefix): value
        for name, value in structure.items()
        if name.startswith(prefix)
    }
    return {name: value for name, value in found.items() if name.startswith(_NAMES)}


def _module(torch: Any, state: Mapping[str, Any], activation: str | None, cell: bool) -> Any:
    """Return the module, without weights of its own."""
    suffix = "" if cell else "_l0"
    rows, units = state[f"weight_hh{suffix}"].shape
    kind = _KINDS[rows // units]
    options: dict[str, Any] = {"bias": f"bias_ih{suffix}" in state}
    options["dtype"] = state[f"weight_hh{suffix}"].dtype
    if kind == "RNN":
        options["nonlinearity"] = activation
    if not cell:
        options["batch_first"] = True
        options["bidirectional"] = "weight_hh_l0_reverse" in state
        directions = 1 + options["bidirectional"]
        options["num_layers"] = sum(name.startswith("weight_hh_l") for name in state) // directions
    make = getattr(torch.nn, f"{kind}Cell" if cell else kind)
    return make(state[f"weight_ih{suffix}"].shape[1], units, **options).eval()


def _whole(torch: Any, module: Any, x: Any, lengths: NDArray[Any] | None) -> Named:
    """Run an `nn.RNN`, `nn.LSTM` or `nn.GRU` on a packed sequence."""
    rnn = torch.nn.utils.rnn
    if lengths is None:
        y, states = module(x)
    else:
        counts = torch.as_tensor(np.asarray(lengths, np.int64))
        options = {"batch_first": True, "enforce_sorted": False}
        packed, states = module(rnn.pack_padded_sequence(x, counts, **options))
        y, _ = rnn.pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    outputs = {"y": _array(torch, y)}
    for name, state in zip("hc", states if isinstance(states, tuple) else (states,), strict=False):
        for index, value in enumerate(state):  # level by level, forward before backward
            level, backward = divmod(index, 2 if module.bidirectional else 1)
            prefix = f"layers_{level}_" if module.num_layers > 1 else ""
            if module.bidirectional:
                prefix += "backward_" if backward else "forward_"
            outputs[prefix + name] = _array(torch, value)
    return outputs


def _by_rows(torch: Any, module: Any, x: Any, lengths: NDArray[Any] | None) -> Named:
    """Run a cell over each row alone, up to its length."""
    batch, time, _ = x.shape
    y = x.new_zeros((batch, time, module.hidden_size))
    finals = []
    for row in range(batch):
        states: Any = None
        for step in range(time if lengths is None else int(lengths[row])):
            states = module(x[row : row + 1, step], states)
            y[row, step] = (states[0] if isinstance(states, tuple) else states)[0]
        finals.append(states if isinstance(states, tuple) else (states,))
    named = zip("hc", zip(*finals, strict=True), strict=False)
    return {"y": _array(torch, y)} | {
        name: _array(torch, torch.cat(values)) for name, values in named
    }


def _tensor(torch: Any, value: NDArray[Any]) -> Any:
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(value))


def _array(torch: Any, value: Any) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16 as float32, which holds it."""
    narrow = value.dtype == torch.bfloat16
    found: NDArray[Any] = (value.float() if narrow else value).numpy()
    return found
