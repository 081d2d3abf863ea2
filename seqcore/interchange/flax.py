"""Flax's cells: the `params` of `flax.linen`, the modules and states of `flax.nnx`, in and out.

Every array is used as `x @ kernel`. A cell has a product for the input and one for the state, for
each gate alone, or for all of them side by side in the order given here:

| cell | products | biases on |
|---|---|---|
| linen `LSTMCell`, `OptimizedLSTMCell` | `ii if ig io`, `hi hf hg ho` | all `h*` |
| linen `GRUCell` | `ir iz in`, `hr hz hn` | `ir iz in`, `hn` |
| linen `SimpleCell` | `i`, `h` | `i` |
| nnx `LSTMCell` | `ii if_ ig io`, `hi hf hg ho` | all `h*` |
| nnx `OptimizedLSTMCell` | `dense_i`, `dense_h`: i f g o | `dense_h` |
| nnx `GRUCell` | `dense_i`, `dense_h`: r z n | `dense_i` |
| nnx `SimpleCell` | `dense_i`, `dense_h` | `dense_i` |

The GRU resets after the product; that of nnx has no recurrent bias. `RNN` holds its cell as `cell`,
`Bidirectional` two of them as `forward_rnn` and `backward_rnn`, `Sequential` its members as
`layers_0` (linen) or `layers` and a number (nnx).

Source: https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/recurrent.html and
https://flax-linen.readthedocs.io/en/latest/api_reference/flax.linen/layers.html
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import array, nested, shaped
from seqcore.interchange.gates import CELLS, canonical, new_gate_apart, reordered
from seqcore.interchange.levels import Converted, Level, Weights, assemble, disassemble
from seqcore.interchange.modules import from_module
from seqcore.interchange.places import arranged, ask_levels, by_path
from seqcore.interchange.terms import refuse, require, require_zero
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

ORDERS: Mapping[type[AnyCell], str] = {SimpleRNN: "", LSTM: "ifgo", GRU: "rzn"}


@dataclass(frozen=True, slots=True)
class _Layout:
    """One way in which a cell holds its arrays.

    Attributes:
        kind: The cell; None where the sizes of the arrays tell it.
        inputs: The products with the input, one a gate in the order of the gates, or one for all.
        states: The products with the state.
        biased: The products that have a bias.
    """

    kind: type[AnyCell] | None
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    biased: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """The names of its arrays."""
        kernels = (f"{dense}/kernel" for dense in (*self.inputs, *self.states))
        return frozenset((*kernels, *(f"{dense}/bias" for dense in self.biased)))


_LSTM_STATES = ("hi", "hf", "hg", "ho")
_LINEN = {
    LSTM: _Layout(LSTM, ("ii", "if", "ig", "io"), _LSTM_STATES, _LSTM_STATES),
    GRU: _Layout(GRU, ("ir", "iz", "in"), ("hr", "hz", "hn"), ("ir", "iz", "in", "hn")),
    SimpleRNN: _Layout(SimpleRNN, ("i",), ("h",), ("i",)),
}
_NNX_LSTM = _Layout(LSTM, ("ii", "if_", "ig", "io"), _LSTM_STATES, _LSTM_STATES)
_FUSED_LSTM = _Layout(LSTM, ("dense_i",), ("dense_h",), ("dense_h",))
_FUSED = _Layout(None, ("dense_i",), ("dense_h",), ("dense_i",))
_LAYOUTS = (*_LINEN.values(), _NNX_LSTM, _FUSED_LSTM, _FUSED)
_PRODUCTS = frozenset(dense for one in _LAYOUTS for dense in (*one.inputs, *one.states))
_NUMBERED = frozenset(("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell"))
"""The stems of the names that linen gives to cells that are made inside a compact method."""


def from_flax(
    source: Any,
    *,
    activation: str | None = None,
    recurrent_activation: str | None = None,
    levels: Sequence[str | Sequence[str]] | None = None,
    return_sequences: bool | None = None,
    return_state: bool | None = None,
) -> Converted:
    """Return the layer and the canonical weights of Flax's recurrent cells.

    A module of `seqcore.to_flax` gives its own layer, with the weights as they are now.

    Arrays alone say neither the functions of a cell, nor `residual`, nor `reverse`: they are read
    as Flax's defaults, or with the activations given here. A live nnx module says it all.

    Args:
        source: A live `nnx` cell, `RNN`, `Bidirectional`, or `Sequential` or list of these; or the
            arrays, native or NumPy, by name: what linen's `init` returns, its `params`, an
            `nnx.state`, or its pure dict.
        activation: A cell's `activation_fn`, by our name, of arrays alone; tanh if not given.
        recurrent_activation: Its `gate_fn`; sigmoid if not given.
        levels: Where names leave it open, the path of each level's cell, or a pair of paths, of
            the forward and the backward cell.
        return_sequences: Of the layer returned, True if not given.
        return_state: Of the layer returned, False if not given.

    Raises:
        ConversionError: if the source holds no cell, other arrays beside them, a function or an
            option that no layer has, or leaves open what it means.
    """
    given = {
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "levels": levels,
    }
    own = from_module("from flax", source, given, return_sequences, return_state)
    if own is not None:
        return own
    flags = {
        "return_sequences": return_sequences is not False,
        "return_state": bool(return_state),
    }
    if _is_live(source):
        for name, value in given.items():
            if value is not None:
                raise ConversionError(
                    f"from flax: {name}={value!r} was given for a live module, which says it "
                    "itself; leave it out"
                )
        return assemble(_live_levels(source), **flags)
    if not isinstance(source, Mapping):
        raise ConversionError(
            f"from flax: received {type(source).__name__}, expected a live nnx module, or arrays "
            "by name; a module of flax.linen holds none, so give what its init returned"
        )
    cells = _cells(source)
    names = [path.rpartition("/")[2].rpartition("_")[0] for path in cells]
    if len(cells) > 1 and levels is None and not _NUMBERED.isdisjoint(names):
        ask_levels(
            "from flax",
            cells,
            "such names, given in a compact method, do not say how they are used",
        )
    words = {"activation": activation, "recurrent_activation": recurrent_activation}
    found = []
    for place in arranged("from flax", cells, levels):
        read = [_read(f"from flax: {path or 'the cell'}", cells[path], words) for path in place]
        both, weights = zip(*read, strict=True)
        found.append(Level(both, weights))
    if recurrent_activation is not None and all(
        isinstance(cell, SimpleRNN) for level in found for cell in level.cells
    ):
        raise ConversionError(
            f"from flax: recurrent_activation={recurrent_activation!r} was given for a SimpleCell, "
            "which has none; leave it out"
        )
    return assemble(found, **flags)


def to_flax(
    layer: Any, weights: Mapping[str, Any], *, api: str = "linen", optimized: bool = True
) -> dict[str, Any]:
    """Return the arrays as Flax's `RNN`, `Bidirectional` and `Sequential` hold them.

    For linen what `module.apply` takes, `{"params": ...}`; for nnx a pure dict, which
    `nnx.update(module, ...)` takes. The cells of the module have the layer's activations as
    `activation_fn` and `gate_fn`, one for all cells. A bias that the layer has not is zeros; where
    Flax has one bias for two of ours it is their sum.

    Args:
        layer: The layer.
        weights: Its canonical weights.
        api: `"linen"` or `"nnx"`.
        optimized: Whether nnx's LSTM is an `OptimizedLSTMCell`, or an `LSTMCell`; in linen both
            hold the same.

    Raises:
        ConversionError: if Flax's cells cannot hold the layer, naming the term: a GRU that resets
            before the product, a recurrent bias of the new gate in nnx, another `merge_mode`.
        WeightsError: if the weights are not the layer's.
    """
    if api not in ("linen", "nnx"):
        raise ConversionError(f"to flax: api is {api!r}, expected 'linen' or 'nnx'")
    found: dict[str, NDArray[Any]] = {}
    levels = disassemble("flax", layer, weights)
    _require_one_activation(levels)
    for index, level in enumerate(levels):
        if level.merge_mode != "concat":
            refuse("flax", layer, f"merge_mode is {level.merge_mode!r}", "expected 'concat'")
        place = "" if len(levels) == 1 else f"layers{'_' if api == 'linen' else '/'}{index}/"
        names = ("",) if len(level.cells) == 1 else ("forward_rnn/", "backward_rnn/")
        for name, cell, mine in zip(names, level.cells, level.weights, strict=True):
            for key, value in _written(cell, mine, api, optimized).items():
                found[f"{place}{name}cell/{key}"] = value
    tree = nested(found)
    if api == "linen":
        return {"params": tree}
    if len(levels) > 1:
        tree["layers"] = {int(index): member for index, member in tree["layers"].items()}
    return tree


def recognises(names: Collection[str]) -> bool:
    """Return whether arrays with these names are Flax's cells."""
    paths = [name.replace(".", "/").split("/") for name in names]
    return bool(paths) and all(
        _is_parameter(path) or path[-2:] in (["rngs", "count"], ["rngs", "key"]) for path in paths
    )


def _nnx() -> Any:
    return sys.modules.get("flax.nnx")


def _is_live(source: Any) -> bool:
    nnx = _nnx()
    if nnx is None:
        return False
    return isinstance(source, nnx.Module | nnx.List) or (
        isinstance(source, list)
        and bool(source)
        and all(isinstance(one, nnx.Module) for one in source)
    )


def _is_parameter(path: Sequence[str]) -> bool:
    return len(path) > 1 and path[-2] in _PRODUCTS and path[-1] in ("kernel", "bias")


def _cells(source: Mapping[Any, Any]) -> dict[str, dict[str, NDArray[Any]]]:
    """Return the arrays of every cell in a tree, by the cell's path and their own name.

    Raises:
        ConversionError: if there is no cell, or anything else.
    """
    nnx = _nnx()
    cells: dict[str, dict[str, NDArray[Any]]] = defaultdict(dict)
    streams, others = [], []
    for path, leaf in by_path("from flax", source).items():
        parts = path.removeprefix("params/").split("/")
        if _is_parameter(parts):
            variable = nnx is not None and isinstance(leaf, nnx.Variable)
            value = array(f"from flax: {path}", leaf[...] if variable else leaf)
            cells["/".join(parts[:-2])]["/".join(parts[-2:])] = value
        elif parts[-2:] in (["rngs", "count"], ["rngs", "key"]):
            streams.append(parts)
        else:
            others.append(path)
    # The random numbers that an RNN may draw its first state with; anything else's are a dropout's.
    others += [
        "/".join(parts)
        for parts in streams
        if not any(
            f"{cell}/".startswith("".join(f"{one}/" for one in parts[:-2])) for cell in cells
        )
    ]
    if others or not cells:
        shown = ", ".join(others[:4]) or "nothing"
        raise ConversionError(
            f"from flax: received {shown}, expected the arrays of an LSTMCell, OptimizedLSTMCell, "
            "GRUCell or SimpleCell"
            + (" and nothing beside them; give the part of the tree with them alone" * bool(cells))
        )
    return cells


def _read(
    subject: str, found: Mapping[str, NDArray[Any]], words: Mapping[str, str | None]
) -> tuple[AnyCell, Weights]:
    """Return one cell."""
    layout = next((one for one in _LAYOUTS if one.names == set(found)), None)
    if layout is None:
        near = max(_LAYOUTS, key=lambda one: len(one.names & set(found)))
        missing = [f"{name} missing" for name in sorted(near.names - set(found))]
        extra = [f"{name} unknown" for name in sorted(set(found) - near.names)]
        raise ConversionError(
            f"{subject}: {', '.join((missing + extra)[:4])}; expected the arrays of an LSTMCell, "
            "OptimizedLSTMCell, GRUCell or SimpleCell, all of them"
        )
    dtypes = sorted({value.dtype.name for value in found.values()})
    if len(dtypes) > 1:
        raise ConversionError(
            f"{subject}: its arrays are {' and '.join(dtypes)}, expected one dtype; cast them"
        )
    first = found[f"{layout.states[0]}/kernel"]
    units, columns = first.shape if first.ndim == 2 else (0, 0)
    fused = columns // units if units and not columns % units else 0
    kind = layout.kind or CELLS.get(fused)
    if not units or kind is None or fused * len(layout.states) != kind.blocks:
        raise ConversionError(
            f"{subject}: {layout.states[0]}/kernel has shape {first.shape}, expected "
            "(units, units), or (units, gates*units) with 4 gates (LSTM), 3 (GRU) or 1 (SimpleCell)"
        )
    taken: dict[str, Any] = {
        name: word
        for name, word in words.items()
        if word is not None and name in kind.__struct_fields__
    }
    rows = found[f"{layout.inputs[0]}/kernel"].shape[:1]
    for dense in (*layout.inputs, *layout.states):
        expected = (*(rows if dense in layout.inputs else (units,)), columns)
        shaped(subject, f"{dense}/kernel", found[f"{dense}/kernel"], expected, "(inputs, columns)")
    for dense in layout.biased:
        shaped(subject, f"{dense}/bias", found[f"{dense}/bias"], (columns,), "(columns,)")
    order = ORDERS[kind], canonical(kind)

    def side_by_side(products: tuple[str, ...], name: str) -> NDArray[Any]:
        values = [
            found.get(f"{dense}/{name}", np.zeros(columns, first.dtype)) for dense in products
        ]
        return np.ascontiguousarray(reordered(np.concatenate(values, axis=-1), *order))

    weights = {
        "kernel": side_by_side(layout.inputs, "kernel"),
        "recurrent_kernel": side_by_side(layout.states, "kernel"),
        "bias": side_by_side(layout.states if kind is LSTM else layout.inputs, "bias"),
    }
    if kind is GRU:
        weights["recurrent_bias"] = side_by_side(layout.states, "bias")
    return kind(units, **taken), weights


def _require_one_activation(levels: Sequence[Level]) -> None:
    """Check that one word says the activations of all cells, as from_flax takes one."""
    for field in ("activation", "recurrent_activation"):
        cells = [cell for level in levels for cell in level.cells]
        found = {getattr(cell, field) for cell in cells if field in cell.__struct_fields__}
        if len(found) > 1:
            refuse(
                "flax",
                "the layer",
                f"{field} is {' and '.join(map(repr, sorted(found)))}",
                "expected one for all cells; convert the members one by one",
            )


def _written(cell: AnyCell, weights: Weights, api: str, optimized: bool) -> Weights:
    """Return the arrays of one cell by name."""
    require("flax", cell, "Flax's GRU resets after the product", reset_after=(True,))
    require("flax", cell, "reverse the input instead", go_backwards=(False,))
    kind = type(cell)
    layout = _LINEN[kind]
    if api == "nnx":
        layout = _FUSED
        if kind is LSTM:
            layout = _FUSED_LSTM if optimized else _NNX_LSTM
    zeros = np.zeros(weights["kernel"].shape[1:], weights["kernel"].dtype)
    bias = weights.get("bias", zeros)
    values = {"i/kernel": weights["kernel"], "h/kernel": weights["recurrent_kernel"]}
    values["i/bias"] = values["h/bias"] = bias
    if isinstance(cell, GRU):
        values["h/bias"] = weights.get("recurrent_bias", zeros)
        values["i/bias"], new = new_gate_apart(bias, values["h/bias"])
        if api == "nnx":
            require_zero("flax.nnx.GRUCell", cell, "recurrent_bias", new, "n")
    order = canonical(cell), ORDERS[kind]
    found: Weights = {}
    for products, side in ((layout.inputs, "i"), (layout.states, "h")):
        for name in ("kernel", "bias"):
            blocks = np.split(reordered(values[f"{side}/{name}"], *order), len(products), axis=-1)
            for dense, block in zip(products, blocks, strict=True):
                if f"{dense}/{name}" in layout.names:
                    found[f"{dense}/{name}"] = np.ascontiguousarray(block)
    return found


def _live_levels(source: Any) -> list[Level]:
    nnx = _nnx()
    if type(source) is nnx.Sequential:
        source = source.layers
    members = list(source) if isinstance(source, nnx.List | list) else [source]
    if not members:
        raise ConversionError("from flax: received no members, expected at least one")
    return [_live_level(f"from flax: member {i}", member) for i, member in enumerate(members)]


def _live_level(subject: str, member: Any) -> Level:
    nnx = _nnx()
    if type(member) is not nnx.Bidirectional:
        cell, weights = _live_cell(subject, member)
        return Level((cell,), (weights,))
    if member.merge_fn is not nnx.Bidirectional.merge_fn:
        _refuse_function(subject, "merge_fn", member.merge_fn, "the default, which concatenates")
    both = []
    for name, run in (("forward_rnn", member.forward_rnn), ("backward_rnn", member.backward_rnn)):
        # Bidirectional sets the direction at the call, whatever its members say.
        cell = run.cell if type(run) is nnx.RNN else run
        both.append(_live_cell(f"{subject}: {name}", cell))
    cells, found = zip(*both, strict=True)
    return Level(cells, found)


def _live_cell(subject: str, member: Any) -> tuple[AnyCell, Weights]:
    """Return a cell, or an RNN of one."""
    nnx = _nnx()
    direction: dict[str, bool] = {}
    if type(member) is nnx.RNN:
        if member.reverse and not member.keep_order:
            raise ConversionError(
                f"{subject}: reverse=True without keep_order=True returns a padded row's steps "
                "first, where go_backwards returns them last; set keep_order=True, and reverse the "
                "outputs where you need it"
            )
        if member.reverse:
            direction = {"go_backwards": True, "keep_order": True}
        member = member.cell
    if type(member) not in (nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell, nnx.SimpleCell):
        raise ConversionError(
            f"{subject}: is {type(member).__qualname__}, expected an nnx RNN, Bidirectional, "
            "LSTMCell, OptimizedLSTMCell, GRUCell or SimpleCell itself; give that part of the "
            "module alone"
        )
    if member.carry_init is not None:
        _refuse_function(subject, "carry_init", member.carry_init, "None, and an initial_state")
    words: dict[str, str | None] = {
        "activation": _function(subject, "activation_fn", member.activation_fn)
    }
    if type(member) is nnx.SimpleCell:
        if member.residual:
            raise ConversionError(
                f"{subject}: residual=True adds the state once more, which layers have not; "
                "expected residual=False"
            )
    else:
        words["recurrent_activation"] = _function(subject, "gate_fn", member.gate_fn)
    ((_, found),) = _cells(nnx.state(member)).items()
    cell, weights = _read(subject, found, words)
    return cell.replace(**direction), weights


def _function(subject: str, attribute: str, value: Any) -> str:
    """Return our name of a function of JAX."""
    jax = sys.modules["jax"]
    known = {
        "tanh": (jax.nn.tanh, jax.lax.tanh),
        "sigmoid": (jax.nn.sigmoid, jax.lax.logistic),
        "relu": (jax.nn.relu,),
        "linear": (jax.nn.identity,),
        "hard_sigmoid": (jax.nn.hard_sigmoid,),
    }
    found = [name for name in known if any(value is function for function in known[name])]
    if not found:
        _refuse_function(subject, attribute, value, f"one of jax.nn's {', '.join(known)}")
    return found[0]


def _refuse_function(subject: str, attribute: str, value: Any, expected: str) -> NoReturn:
    name = getattr(value, "__name__", None) or repr(value)
    raise ConversionError(
        f"{subject}: {attribute} is {name}, which layers have not; expected {expected}"
    )
