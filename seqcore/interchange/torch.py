"""`torch.nn.RNN`, `LSTM` and `GRU`, and their cells: a `state_dict`, in and out.

A level has `weight_ih_l0` (gates*units, features), `weight_hh_l0` (gates*units, units), and with a
bias `bias_ih_l0` and `bias_hh_l0` (gates*units) each; `_reverse` marks the backward direction, and
a `...Cell` has no `_l0`. Its gates are i f g o and r z n. Its GRU resets after the recurrent
product.

Source: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html, GRU and RNN beside it.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import added, array, shaped
from seqcore.interchange.gates import CELLS, canonical, reordered
from seqcore.interchange.levels import Converted, Level, Weights, assemble, disassemble
from seqcore.interchange.modules import from_module
from seqcore.interchange.terms import refuse, require, require_alike
from seqcore.spec.dtypes import DTYPES
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

ORDERS: Mapping[type[AnyCell], str] = {SimpleRNN: "", LSTM: "ifgo", GRU: "rzn"}

_PARAMETER = re.compile(
    r"(?P<prefix>(?:.*\.)?)"
    r"(?P<name>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"(?:_l(?P<level>0|[1-9][0-9]{0,8})(?P<reverse>_reverse)?)?"
)

_Place = tuple[int, bool]
"""A level and whether it is the backward direction."""


def from_torch(
    source: Any,
    *,
    prefix: str | None = None,
    activation: str | None = None,
    return_sequences: bool | None = None,
    return_state: bool | None = None,
) -> Converted:
    """Return the layer and the canonical weights of a torch module or its `state_dict`.

    Several levels become a `Stack`. LSTM, SimpleRNN: the bias is the sum of torch's two. Dropout
    between levels is not converted; in evaluation there is none. A module of `seqcore.to_torch`
    gives its own layer, with the weights as they are now.

    Args:
        source: An `nn.RNN`, `nn.LSTM`, `nn.GRU` or one of their cells, a module that has such a one
            inside, or a state_dict, with tensors or NumPy arrays.
        prefix: Where it is, such as `"encoder."`, if the source holds more than it.
        activation: `"tanh"` or `"relu"`, of an `nn.RNN` that is given as a state_dict, which does
            not say it.
        return_sequences: Of the layer returned, True if not given; torch returns both always.
        return_state: Of the layer returned, False if not given.

    Raises:
        ConversionError: if the source holds none, more than one, other parameters beside it, a
            projection, or leaves open what it means.
    """
    said = {"prefix": prefix, "activation": activation}
    own = from_module("from torch", source, said, return_sequences, return_state)
    if own is not None:
        return own
    return_sequences = return_sequences is not False
    module = source if _is_module(source) else None
    state = source.state_dict() if module is not None else source
    if not isinstance(state, Mapping):
        raise ConversionError(
            f"from torch: received {type(source).__name__}, expected an nn.RNN, nn.LSTM or nn.GRU, "
            "or a state_dict"
        )
    prefix, parameters = _chosen(state, prefix)
    if module is not None:
        activation = _activation(module, prefix, activation)
    places = _placed(prefix, parameters)
    levels = []
    bidirectional = any(reverse for _, reverse in places)
    for index in range(1 + max(level for level, _ in places)):
        directions = [
            _read(_subject(prefix, index, reverse), places.get((index, reverse), {}), activation)
            for reverse in ((False, True) if bidirectional else (False,))
        ]
        cells, weights = zip(*directions, strict=True)
        levels.append(Level(cells, weights))
    _check_alike(prefix, levels)
    return assemble(levels, return_sequences=return_sequences, return_state=bool(return_state))


def to_torch(layer: Any, weights: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the `state_dict` of an `nn.RNN`, `nn.LSTM` or `nn.GRU`, as NumPy arrays by name.

    The module to load it into has `batch_first=True`, `num_layers` and `bidirectional` as the layer
    has, and an `nn.RNN` the layer's activation as `nonlinearity`. `bias_hh` is zero but for a GRU.

    Raises:
        ConversionError: if torch's module cannot hold the layer, naming the term.
        WeightsError: if the weights are not the layer's.
    """
    levels = disassemble("torch", layer, weights)
    require_alike("torch", levels)
    biased = any(cell.use_bias for level in levels for cell in level.cells)
    state: dict[str, NDArray[Any]] = {}
    for index, level in enumerate(levels):
        if level.merge_mode != "concat":
            refuse("torch", layer, f"merge_mode is {level.merge_mode!r}", "expected 'concat'")
        for suffix, cell, mine in zip(("", "_reverse"), level.cells, level.weights, strict=False):
            for name, value in _written(cell, mine, biased).items():
                state[f"{name}_l{index}{suffix}"] = value
    return state


def recognises(names: Collection[str]) -> bool:
    """Return whether arrays with these names are a `state_dict` with a recurrent module in it.

    A cell is told from Equinox's, of nearly the same names, by its biases.
    """
    modules: dict[str, set[str]] = defaultdict(set)
    for name in names:
        prefix, _, leaf = name.replace("/", ".").rpartition(".")
        modules[prefix].add(leaf)
    return any(
        "weight_hh_l0" in leaves or ("weight_hh" in leaves and not leaves & {"bias", "bias_n"})
        for leaves in modules.values()
    )


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _chosen(state: Mapping[Any, Any], prefix: str | None) -> tuple[str, dict[str, Any]]:
    """Return the prefix of the one recurrent module, and its parameters without it."""
    modules: dict[str, dict[str, Any]] = defaultdict(dict)
    others: list[str] = []
    for key, value in state.items():
        found = _PARAMETER.fullmatch(key) if isinstance(key, str) else None
        if found is None:
            others.append(str(key))
        else:
            modules[found["prefix"]][key.removeprefix(found["prefix"])] = value
    if not isinstance(prefix, str | None):
        raise ConversionError(f"from torch: prefix is {prefix!r}, expected a text or None")
    if any("parametrizations." in name for name in others):
        raise ConversionError(
            f"from torch: the state_dict holds {', '.join(others[:2])}, from which a "
            "parametrization such as weight_norm makes the weights, expected the weights "
            "themselves; call torch.nn.utils.parametrize.remove_parametrizations first"
        )
    if prefix is not None:
        prefix = prefix if prefix.endswith(".") or not prefix else f"{prefix}."
    elif len(modules) > 1:
        raise ConversionError(
            f"from torch: the state_dict holds several recurrent modules, at "
            f"{', '.join(map(repr, modules))}; choose one with prefix="
        )
    elif modules:
        (prefix,) = modules
        if others:
            raise ConversionError(
                f"from torch: the state_dict holds {', '.join(others[:3])} beside the recurrent "
                f"module, which would be lost; prefix={prefix!r} converts that module alone"
            )
    if prefix in modules:
        lost = [name for name in others if _belongs(name, prefix)]
        if lost:
            raise ConversionError(
                f"from torch: the module at {prefix!r} has {', '.join(lost[:3])}, too, which would "
                "be lost; expected an nn.RNN, nn.LSTM or nn.GRU with nothing of its own"
            )
    if prefix not in modules:
        at = "" if prefix is None else f" at {prefix!r}"
        names = ", ".join(str(key) for key in list(state)[:4]) or "nothing"
        inner = next((key for key, value in state.items() if isinstance(value, Mapping)), None)
        hint = ""
        if any(str(key).endswith("recurrent_kernel") for key in state):
            hint = "; these are a layer's canonical weights: seqcore.save(path, layer, weights)"
        elif inner is not None:
            hint = f"; give what is below {inner!r}"
        raise ConversionError(
            f"from torch: no parameters of an nn.RNN, nn.LSTM or nn.GRU{at}: received {names}; "
            f"expected weight_ih_l0, weight_hh_l0 and so on{hint}"
        )
    return prefix, modules[prefix]


def _belongs(name: str, prefix: str) -> bool:
    """Return whether a parameter is below a prefix, or at the top if that is empty."""
    return name.startswith(prefix) if prefix else "." not in name


def _placed(
    prefix: str, parameters: Mapping[str, Any]
) -> Mapping[_Place, Mapping[str, NDArray[Any]]]:
    """Return the parameters of each direction of each level, as arrays without a suffix."""
    places: dict[_Place, dict[str, NDArray[Any]]] = defaultdict(dict)
    for key, value in parameters.items():
        found = _PARAMETER.fullmatch(key)
        assert found is not None
        place = places[int(found["level"] or 0), found["reverse"] is not None]
        if found["name"] in place:
            raise ConversionError(
                f"from torch: {prefix}{found['name']} is there with and without _l0, expected a "
                "cell's or a module's; leave one out"
            )
        place[found["name"]] = array(f"from torch: {prefix}{key}", value)
    return places


def _activation(module: Any, prefix: str, given: str | None) -> str | None:
    """Return the activation of a module's own recurrent module, checked against what is given."""
    nn = sys.modules["torch"].nn
    inner = module.get_submodule(prefix.removesuffix("."))
    if not isinstance(inner, nn.RNNBase | nn.RNNCellBase):
        raise ConversionError(
            f"from torch: {type(inner).__name__} has parameters named as those of an nn.LSTM, "
            "and is no nn.RNN, nn.LSTM or nn.GRU; if it computes the same, give its state_dict()"
        )
    if type(inner).forward not in {
        kind.forward for kind in (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)
    }:
        raise ConversionError(
            f"from torch: {type(inner).__name__} has a forward of its own, so that its equations "
            "are not known here, expected an nn.RNN, nn.LSTM or nn.GRU itself; if it computes the "
            "same, give its state_dict()"
        )
    if isinstance(inner, nn.RNNBase) and inner.dropout and inner.training and inner.num_layers > 1:
        raise ConversionError(
            f"from torch: dropout={inner.dropout} acts in training, and layers have none; call "
            "module.eval() to convert what it computes in evaluation"
        )
    if not isinstance(inner, nn.RNN | nn.RNNCell):
        return given
    if given in (None, inner.nonlinearity):
        return str(inner.nonlinearity)
    raise ConversionError(
        f"from torch: activation={given!r} was given for a module with "
        f"nonlinearity={inner.nonlinearity!r}; leave it out"
    )


def _check_alike(prefix: str, levels: list[Level]) -> None:
    """Check that all cells are those of one module.

    Raises:
        ConversionError: if two differ in kind, size or having a bias.
    """
    first = levels[0].cells[0]
    for index, level in enumerate(levels):
        for cell, reverse in zip(level.cells, (False, True), strict=False):
            if cell != first:
                raise ConversionError(
                    f"{_subject(prefix, index, reverse)}: is {_shown(cell)} and level 0 is "
                    f"{_shown(first)}, expected cells alike, as one module has them"
                )


def _shown(cell: AnyCell) -> str:
    return f"{cell} with{'' if cell.use_bias else 'out'} a bias"


def _subject(prefix: str, index: int, reverse: bool) -> str:
    return f"from torch: {prefix}level {index}{', backward' if reverse else ''}"


def _read(
    subject: str, found: Mapping[str, NDArray[Any]], activation: str | None
) -> tuple[AnyCell, Weights]:
    """Return one direction of one level."""
    if "weight_hr" in found:
        raise ConversionError(
            f"{subject}: weight_hr is a projection (proj_size), which layers have not; expected an "
            "LSTM without one"
        )
    missing = [name for name in ("weight_ih", "weight_hh") if name not in found]
    if missing or ("bias_ih" in found) != ("bias_hh" in found):
        missing = missing or [n for n in ("bias_ih", "bias_hh") if n not in found]
        raise ConversionError(
            f"{subject}: {' and '.join(missing)} missing; expected weight_ih and weight_hh, and "
            "both biases or none"
        )
    dtypes = {value.dtype.name for value in found.values()}
    if len(dtypes) > 1 or not dtypes <= set(DTYPES):
        raise ConversionError(
            f"{subject}: its dtypes are {', '.join(sorted(dtypes))}, expected one of "
            f"{', '.join(DTYPES)} for all; cast them"
        )
    recurrent = found["weight_hh"]
    rows, units = recurrent.shape if recurrent.ndim == 2 else (0, 0)
    if not units or rows % units or rows // units not in CELLS:
        raise ConversionError(
            f"{subject}: weight_hh has shape {recurrent.shape}, expected (gates*units, units) with "
            "4 gates (LSTM), 3 (GRU) or 1 (RNN)"
        )
    kind = CELLS[rows // units]
    if found["weight_ih"].ndim != 2 or len(found["weight_ih"]) != rows:
        raise ConversionError(
            f"{subject}: weight_ih has shape {found['weight_ih'].shape}, expected ({rows}, "
            "features) = (gates*units, features)"
        )
    for name in ("bias_ih", "bias_hh"):
        if name in found:
            shaped(subject, name, found[name], (rows,), "(gates*units,)")
    options: dict[str, Any] = {"use_bias": "bias_ih" in found}
    if kind is SimpleRNN:
        if activation not in ("tanh", "relu"):
            given = "" if activation is None else f"activation={activation!r} was given for "
            raise ConversionError(
                f"{subject}: {given}an nn.RNN, whose state_dict does not say its nonlinearity; "
                "give activation='tanh' or activation='relu'"
            )
        options["activation"] = activation
    elif activation not in (None, "tanh"):
        raise ConversionError(
            f"{subject}: activation={activation!r} was given for {kind.__name__}, which has tanh "
            "in torch; leave it out"
        )
    cell = kind(units, **options)
    theirs, ours = ORDERS[kind], canonical(kind)
    weights = {
        "kernel": reordered(found["weight_ih"].T, theirs, ours),
        "recurrent_kernel": reordered(recurrent.T, theirs, ours),
    }
    if cell.use_bias:
        biases = [reordered(found[name], theirs, ours) for name in ("bias_ih", "bias_hh")]
        if isinstance(cell, GRU):
            weights["bias"], weights["recurrent_bias"] = biases
        else:
            weights["bias"] = added(subject, *biases)
    return cell, {name: np.array(value, order="C") for name, value in weights.items()}


def _written(cell: AnyCell, weights: Weights, biased: bool) -> Weights:
    """Return the parameters of one direction of one level, without a suffix."""
    require("torch", cell, "torch's GRU resets after the product", reset_after=(True,))
    activations = ("tanh", "relu") if isinstance(cell, SimpleRNN) else ("tanh",)
    require("torch", cell, activation=activations, recurrent_activation=("sigmoid",))
    require("torch", cell, "reverse the input instead", go_backwards=(False,))
    order = canonical(cell), ORDERS[type(cell)]
    found = {
        "weight_ih": reordered(weights["kernel"], *order).T,
        "weight_hh": reordered(weights["recurrent_kernel"], *order).T,
    }
    if biased:
        columns = weights["kernel"].shape[1:]
        zeros = np.zeros(columns, weights["kernel"].dtype)
        found["bias_ih"] = reordered(weights.get("bias", zeros), *order)
        found["bias_hh"] = reordered(weights.get("recurrent_bias", zeros), *order)
    # Copies, so that what is done to the state_dict leaves the caller's weights alone.
    return {name: np.array(value, order="C") for name, value in found.items()}
