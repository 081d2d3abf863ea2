"""Value cases in which everything that a call may vary meets everything else, two by two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from seqcore.conformance.coverage import Row, covering
from seqcore.conformance.derived import value_case
from seqcore.conformance.levels import (
    ACTIVATIONS,
    CELLS,
    DIRECTIONS,
    FORMS,
    KINKED,
    MASKS,
    NUMBERS,
    scale_of,
)
from seqcore.conformance.model import ValueCase
from seqcore.spec.dtypes import HALF_DTYPES
from seqcore.spec.layers import (
    MASK_OUTPUTS,
    MERGE_MODES,
    AnyCell,
    AnyLayer,
    AnyMember,
    Bidirectional,
    Stack,
)

STANDARD_ROWS = 52
"""How many rows the standard tier takes. They hold three pairs of four."""

_SIZES = {
    "usual": (3, 5, 4, 3),
    "batch-1": (1, 5, 4, 3),
    "time-1": (3, 1, 4, 3),
    "features-1": (3, 5, 1, 3),
    "units-1": (3, 5, 4, 1),
    "other": (5, 7, 6, 2),
}

FACTORS: dict[str, tuple[str, ...]] = {
    "shape": (
        "rnn",
        "lstm",
        "gru",
        "gru-before",
        "rnn/keep-order",
        "lstm/backwards",
        "gru/backwards",
        "gru-before/keep-order",
        "bi/rnn",
        "bi/lstm",
        "bi/gru",
        "bi/gru-before",
        "bi/mixed",
        "bi/unequal",
        "stack/one",
        "stack/two",
        "stack/three",
        "stack/backwards",
        "stack/bidirectional",
    ),
    "merge": MERGE_MODES,
    "activation": ACTIVATIONS,
    "gates": ("sigmoid", "hard_sigmoid", "tanh", "linear", "relu"),
    "bias": ("bias", "no-bias"),
    "mask_output": MASK_OUTPUTS,
    "number": tuple(NUMBERS),
    "mask": (*MASKS, "valid", "lengths"),
    "state": ("zeros", "state"),
    "form": tuple(FORMS),
    "size": tuple(_SIZES),
}
"""What the pairwise covering varies. The first level of each is the usual one."""


def possible(row: Row) -> bool:
    """Return whether levels go together: no merge and no gates where the layer has none."""
    shape = row.get("shape", "bi/mixed")
    merge, gates = row.get("merge", "concat"), row.get("gates", "sigmoid")
    if merge != "concat" and not shape.startswith("bi/") and shape != "stack/bidirectional":
        return False
    if shape == "bi/unequal" and merge not in ("concat", "none"):
        return False
    return gates == "sigmoid" or (shape != "bi/rnn" and not shape.startswith("rnn"))


def pairwise_cases() -> Iterator[ValueCase]:
    """Yield rows in which every two levels of `FACTORS` meet three times in all."""
    rows = covering(FACTORS, possible, times=3)
    for index, row in enumerate(rows):
        dtype, precision = NUMBERS[row["number"]]
        batch, time, features, _ = _SIZES[row["size"]]
        activations = (row["activation"], row["gates"])
        standard = index < STANDARD_ROWS
        forms = {"sequences-state"} if standard else {"sequences-state", "last"}
        # The rounding of a half type can put a value on the other side of a kink, where the
        # derivative is another one.
        kinked = dtype in HALF_DTYPES and not KINKED.isdisjoint(activations)
        yield value_case(
            f"values/pairwise/{_name(row)}",
            _layer(row),
            dtype=dtype,
            precision=precision,
            batch=batch,
            time=time,
            features=features,
            mask=row["mask"],
            state=row["state"] == "state",
            gradients=row["form"] in forms and not kinked,
            scale=scale_of(*activations),
            tier="standard" if standard else "full",
        )


def _name(row: Row) -> str:
    """Return the shape and all levels that are not the usual ones."""
    special = [level for name, level in row.items() if level != FACTORS[name][0]]
    return "-".join([row["shape"], *(level for level in special if level != row["shape"])])


def _layer(row: Row) -> AnyLayer:
    """Return the layer of a row."""
    units = int(_SIZES[row["size"]][3])
    common: dict[str, Any] = {
        "activation": row["activation"],
        "use_bias": row["bias"] == "bias",
        "mask_output": row["mask_output"],
    }

    def cell(name: str, more: int = 0, **fields: Any) -> AnyCell:
        gates = {} if name == "rnn" else {"recurrent_activation": row["gates"]}
        return CELLS[name](units + more, **common, **gates, **fields)

    def both(name: str, other: str = "", more: int = 0, **fields: Any) -> Bidirectional:
        behind = cell(other, more, **fields) if other else None
        return Bidirectional(cell(name, **fields), row["merge"], behind)

    form, inner = FORMS[row["form"]], {"return_sequences": True}
    stacks: dict[str, Callable[[], list[AnyMember]]] = {
        "one": lambda: [cell("lstm")],
        "two": lambda: [cell("gru", 1, **inner), cell("lstm")],
        "three": lambda: [cell("rnn", 1, **inner), cell("gru-before", **inner), cell("lstm")],
        "backwards": lambda: [
            cell("lstm", go_backwards=True, **inner),
            cell("gru", 1, **inner),
            cell("rnn", go_backwards=True),
        ],
        "bidirectional": lambda: [
            Bidirectional(cell("rnn", **inner), "ave"),
            cell("gru", 1, go_backwards=True, keep_order=True, **inner),
            both("gru-before"),
        ],
    }
    kind, _, rest = row["shape"].partition("/")
    match kind, rest:
        case "stack", _:
            return Stack(tuple(stacks[rest]()), **form)
        case "bi", "mixed":
            return both("lstm", "gru", **form)
        case "bi", "unequal":
            return both("gru-before", "rnn", 1, **form)
        case "bi", _:
            return both(rest, **form)
    return cell(kind, **DIRECTIONS[rest or "forward"], **form)
