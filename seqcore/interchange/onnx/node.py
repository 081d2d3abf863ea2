"""A cell, or two of them in opposite directions, as one of ONNX's recurrent nodes.

With `gates` blocks and an axis of directions first, a node has `W` (directions, gates*units,
features), `R` (directions, gates*units, units) and `B` (directions, 2*gates*units), which is the
bias of `W`, then that of `R`. Its gates are i o f c (our i o f g) and z r h (our z r n).

Source: https://onnx.ai/onnx/operators/onnx__LSTM.html, GRU and RNN beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.errors import ConversionError
from seqcore.interchange.arrays import added, shaped
from seqcore.interchange.gates import canonical, reordered
from seqcore.interchange.levels import Weights
from seqcore.spec.dtypes import numpy_dtype
from seqcore.spec.layers import GRU, LSTM, AnyCell, SimpleRNN

OPERATORS: Mapping[type[AnyCell], str] = {SimpleRNN: "RNN", LSTM: "LSTM", GRU: "GRU"}
CELLS: Mapping[str, type[AnyCell]] = {name: cell for cell, name in OPERATORS.items()}
ORDERS: Mapping[type[AnyCell], str] = {SimpleRNN: "", LSTM: "iofg", GRU: "zrn"}
"""The order of ONNX's blocks, in our names."""

ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...], tuple[float, ...]]] = {
    "tanh": ("Tanh", (), ()),
    "sigmoid": ("Sigmoid", (), ()),
    "relu": ("Relu", (), ()),
    "linear": ("Affine", (1.0,), (0.0,)),
    "hard_sigmoid": ("HardSigmoid", (1 / 6,), (0.5,)),
}
"""Each activation as ONNX calls it, with its alpha and its beta where it takes them."""

_DEFAULTS: Mapping[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0),
    "hardsigmoid": (0.2, 0.5),
    "scaledtanh": (1.0, 1.0),
    "elu": (1.0,),
    "leakyrelu": (0.01,),
    "thresholdedrelu": (1.0,),
}
"""ONNX's functions that take alpha, or alpha and beta, with their defaults."""

_KNOWN = frozenset(
    {
        "activations",
        "activation_alpha",
        "activation_beta",
        "clip",
        "direction",
        "hidden_size",
        "input_forget",
        "layout",
        "linear_before_reset",
        "output_sequence",  # of versions before 7; says nothing
    }
)
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


# --- out -----------------------------------------------------------------------------------------


def attributes(*cells: AnyCell) -> dict[str, Any]:
    """Return what a node has to know beyond its direction.

    Args:
        *cells: The cell, or the one of each direction; their units and `reset_after` are equal.
    """
    found: dict[str, Any] = {"hidden_size": cells[0].units}
    if isinstance(cells[0], GRU):
        found["linear_before_reset"] = int(cells[0].reset_after)
    functions = [name for cell in cells for name in _functions(cell)]
    if functions == [name for cell in cells for name in _functions(type(cell)(cell.units))]:
        return found  # our defaults are the operators' own
    named = [ACTIVATIONS[name] for name in functions]
    found["activations"] = [name for name, _, _ in named]
    alphas = [alpha for _, values, _ in named for alpha in values]
    betas = [beta for _, _, values in named for beta in values]
    if alphas:
        found |= {"activation_alpha": alphas, "activation_beta": betas}
    return found


def tensors(
    cells: Sequence[AnyCell], weights: Sequence[Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[Any]]:
    """Return W, R and, with a bias, B, in memory of their own.

    Args:
        cells: The cell, or the one of each direction.
        weights: The canonical weights of each, without a prefix.
    """
    each = [_direction(cell, mine) for cell, mine in zip(cells, weights, strict=True)]
    return {name: np.array([one[name] for one in each], order="C") for name in each[0]}


def _direction(cell: AnyCell, weights: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return W, R and B without the axis of directions."""
    order = canonical(cell), ORDERS[type(cell)]
    found = {
        "W": reordered(weights["kernel"], *order).T,
        "R": reordered(weights["recurrent_kernel"], *order).T,
    }
    if cell.use_bias:
        bias = weights["bias"]
        recurrent = weights.get("recurrent_bias", np.zeros_like(bias))
        found["B"] = np.concatenate([reordered(values, *order) for values in (bias, recurrent)])
    return found


def _functions(cell: AnyCell) -> list[str]:
    """Return the activations in the order in which a node takes them."""
    match cell:
        case LSTM():
            return [cell.recurrent_activation, cell.activation, cell.activation]
        case GRU():
            return [cell.recurrent_activation, cell.activation]
        case SimpleRNN():
            return [cell.activation]


# --- in ------------------------------------------------------------------------------------------


def directions(subject: str, attributes: Mapping[str, Any]) -> tuple[bool, ...]:
    """Return for each of the node's directions whether it reads from the last step to the first.

    Raises:
        ConversionError: if there is no such direction.
    """
    given = _text(attributes.get("direction", "forward"))
    if given not in _DIRECTIONS:
        raise ConversionError(
            f"{subject}: direction is {given[:40]!r}, expected {', '.join(_DIRECTIONS)}"
        )
    return _DIRECTIONS[given]


def cells_of(
    subject: str,
    operator: str,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
) -> tuple[tuple[AnyCell, Weights], ...]:
    """Return the cell of each of a node's directions, with its canonical weights.

    Args:
        subject: What messages begin with.
        operator: `"RNN"`, `"GRU"` or `"LSTM"`.
        attributes: The node's attributes by name.
        arrays: W, R and, where the node has them, B and P.

    Raises:
        ConversionError: if a cell has not what the node has, naming it, or a shape does not fit.
    """
    _check(subject, attributes, arrays)
    kind = CELLS[operator]
    count = len(directions(subject, attributes))
    units = _units(subject, attributes, arrays["R"])
    rows = kind.blocks * units
    kernel = arrays["W"]
    features = kernel.shape[-1] if kernel.ndim == 3 and kernel.shape[-1] else 1
    axes = f"(directions, {kind.blocks}*units, "
    shaped(subject, "W", kernel, (count, rows, features), f"{axes}features)")
    shaped(subject, "R", arrays["R"], (count, rows, units), f"{axes}units)")
    if "B" in arrays:
        expected = (count, 2 * rows)
        shaped(subject, "B", arrays["B"], expected, f"(directions, 2*{kind.blocks}*units)")
    if np.any(arrays.get("P", 0)):
        raise ConversionError(
            f"{subject}: P holds peepholes that are not zero, which layers have not; expected an "
            "LSTM without them"
        )
    options: dict[str, Any] = {"use_bias": "B" in arrays}
    if kind is GRU:
        options["reset_after"] = bool(attributes.get("linear_before_reset", 0))
    named = _activations(subject, kind, attributes, count)
    if arrays["W"].dtype == np.float64 and any("hard_sigmoid" in one.values() for one in named):
        raise ConversionError(
            f"{subject}: HardSigmoid's alpha is a float32, whose 1/6 is another than that of "
            "layers in float64; expected weights of float32 or float16"
        )
    return tuple(
        _cell(
            subject,
            kind(units, **{**options, **named[index]}),
            {k: v[index] for k, v in arrays.items()},
        )
        for index in range(count)
    )


def _cell(
    subject: str, cell: AnyCell, arrays: Mapping[str, NDArray[Any]]
) -> tuple[AnyCell, Weights]:
    order = ORDERS[type(cell)], canonical(cell)
    weights = {
        "kernel": reordered(arrays["W"].T, *order),
        "recurrent_kernel": reordered(arrays["R"].T, *order),
    }
    if cell.use_bias:
        bias, recurrent = (reordered(part, *order) for part in np.split(arrays["B"], 2))
        if isinstance(cell, GRU) and cell.reset_after:
            weights |= {"bias": bias, "recurrent_bias": recurrent}
        else:
            # A recurrent bias of zeros leaves the other as it is, the sign of its zeros included.
            weights["bias"] = added(subject, bias, recurrent) if np.any(recurrent) else bias
    return cell, {name: np.array(value, order="C") for name, value in weights.items()}


def _check(subject: str, attributes: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check for what no cell has, and for one data type."""
    for name in attributes:
        if name not in _KNOWN:
            raise ConversionError(
                f"{subject}: the attribute {name[:40]!r} is unknown, expected those of ONNX's "
                "recurrent operators"
            )
    if "clip" in attributes:
        raise ConversionError(
            f"{subject}: clip={attributes['clip']} bounds what goes into activations, which layers "
            "do not; expected a node without it"
        )
    if attributes.get("input_forget"):
        raise ConversionError(
            f"{subject}: input_forget=1 couples the gates i and f, which are free in layers; "
            "expected 0"
        )
    dtypes = {name: value.dtype for name, value in arrays.items()}
    allowed = [numpy_dtype(name) for name in ("float64", "float32", "float16", "bfloat16")]
    if len(set(dtypes.values())) > 1 or dtypes["W"] not in allowed:
        received = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise ConversionError(
            f"{subject}: received {received}, expected all of one of float64, float32, float16, "
            "bfloat16"
        )


def _units(subject: str, attributes: Mapping[str, Any], recurrent: NDArray[Any]) -> int:
    units = recurrent.shape[-1] if recurrent.ndim == 3 else 0
    if not units:
        raise ConversionError(
            f"{subject}: R has shape {recurrent.shape}, expected (directions, gates*units, units)"
        )
    given = attributes.get("hidden_size", units)
    if given != units:
        raise ConversionError(
            f"{subject}: hidden_size is {given}, and R has {units} units; expected the same"
        )
    return units


def _activations(
    subject: str, kind: type[AnyCell], attributes: Mapping[str, Any], count: int
) -> list[dict[str, str]]:
    """Return the activations of each direction, as fields of its cell."""
    usual = _functions(kind(1))
    given = attributes.get("activations")
    if not given:
        names = [ACTIVATIONS[name][0] for name in usual] * count
    else:
        names = [_text(name) for name in given[: 3 * count + 1]]
    if len(names) != count * len(usual):
        raise ConversionError(
            f"{subject}: activations holds {len(given or ())} names, expected "
            f"{count * len(usual)}: {len(usual)} for each direction"
        )
    parameters = [list(attributes.get(f"activation_{name}", ())) for name in ("alpha", "beta")]
    left = [iter(values) for values in parameters]
    ours = [_ours(subject, name, left) for name in names]
    if any(True for values in left for _ in values):
        raise ConversionError(
            f"{subject}: activation_alpha or activation_beta holds more numbers than the "
            f"activations {', '.join(names)} take; expected one for each that takes it"
        )
    found = []
    for index in range(count):
        mine = ours[index * len(usual) : (index + 1) * len(usual)]
        if kind is LSTM and mine[1] != mine[2]:
            raise ConversionError(
                f"{subject}: activations has {mine[1]} for the candidate and {mine[2]} for the "
                "output, which are one in an LSTM layer; expected the same"
            )
        fields = ("activation",) if kind is SimpleRNN else ("recurrent_activation", "activation")
        found.append(dict(zip(fields, mine, strict=False)))
    return found


def _ours(subject: str, name: str, left: Sequence[Iterator[float]]) -> str:
    """Return our name of an activation, which takes its parameters from what is left of them."""
    defaults = _DEFAULTS.get(name.lower(), ())
    # Attributes are float32.
    received = [np.float32(next(it, default)) for it, default in zip(left, defaults, strict=False)]
    for ours, (theirs, *expected) in ACTIVATIONS.items():
        numbers = [np.float32(value) for values in expected for value in values]
        if theirs.lower() == name.lower() and numbers == received:
            return ours
    words = zip(("alpha", "beta"), received, strict=False)
    with_ = " with " + " and ".join(f"{word}={value:.7g}" for word, value in words)
    raise ConversionError(
        f"{subject}: the activation {name[:40]!r}{with_ if received else ''} is none of layers; "
        "expected Tanh, Sigmoid, Relu, Affine with alpha=1 and beta=0 (linear), or HardSigmoid "
        "with alpha=1/6 and beta=0.5"
    )


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
