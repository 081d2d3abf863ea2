"""The walk-through that `seqcore demo` shows: what is computed, apart from how it is drawn.

It follows two published tutorials on the LSTM (the seeds). Both run the same layers on the same
input, and print figures 1.5e-4 apart where the weights are constant: the second one's came from a
device that rounds the inputs of products to TF32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqcore.config import resolve
from seqcore.errors import UnsupportedFeature
from seqcore.registry import registry
from seqcore.spec.description import to_data
from seqcore.spec.initializers import Constant, Zeros
from seqcore.spec.layers import LSTM, AnyLayer, Bidirectional, SimpleRNN
from seqcore.spec.outputs import output_names
from seqcore.spi.soundness import version_of

UNITS = 3
TOLERANCE = 2e-7
X = np.array(
    [
        [
            [0.1, 4.2, 1.5, 1.1, 2.8],
            [1.0, 3.1, 2.5, 0.7, 1.1],
            [0.3, 2.1, 1.5, 2.1, 0.1],
            [2.2, 1.4, 0.5, 0.9, 1.1],
        ]
    ],
    np.float32,
)
"""The tutorials' input: one sequence of 4 steps with 5 features each."""

FORMS = ((False, False), (True, False), (False, True), (True, True))
"""`return_sequences` and `return_state`, in the order in which they are shown."""

MEANINGS = {
    "i": "input gate: how much of the new is let in",
    "f": "forget gate: how much of the old cell state is kept",
    "g": "candidate: what is new at this step",
    "o": "output gate: how much of the cell state is shown",
    "c": "cell state: f * c + i * g",
    "h": "hidden state: o * tanh(c)",
}


@dataclass(frozen=True, slots=True)
class Printed:
    """A tutorial's table for the bidirectional LSTM whose kernels are 0.1 everywhere.

    Attributes:
        tutorial: Which one.
        precision: The `matmul_precision` that it ran at.
        forward: The forward half of the output at each step; its units are alike.
        backward: The backward half.
    """

    tutorial: str
    precision: str
    forward: tuple[float, ...]
    backward: tuple[float, ...]


PRINTED = (
    Printed(
        "first",
        "highest",
        (0.3590648, 0.5511133, 0.5911575, 0.6303139),
        (0.70387346, 0.5886358, 0.39516988, 0.21942243),
    ),
    Printed(
        "second",
        "tf32",
        (0.35896602, 0.5509713, 0.5910032, 0.6301636),
        (0.7037439, 0.5884772, 0.39501813, 0.21932526),
    ),
)


@dataclass(frozen=True, slots=True)
class Shown:
    """One layer in one output form, with what it returns by name."""

    layer: AnyLayer
    title: str
    form: tuple[bool, bool]
    outputs: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Gates:
    """A layer's gates and states by name, each (time, units), or why there are none."""

    layer: AnyLayer
    values: Mapping[str, NDArray[Any]]
    unsupported: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """One output beside the printed one."""

    name: str
    printed: NDArray[np.float32]
    computed: NDArray[Any]

    @property
    def difference(self) -> float:
        """The largest difference between the two."""
        return float(np.abs(self.computed.astype(np.float64) - self.printed).max())


@dataclass(frozen=True, slots=True)
class Table:
    """A tutorial's table beside the same computed here, or why it cannot be.

    Attributes:
        printed: What the tutorial printed.
        forms: What was compared, by `return_sequences`.
        unsupported: Why the backend does not compute at that precision; None where it does.
    """

    printed: Printed
    forms: Mapping[bool, tuple[Compared, ...]]
    unsupported: str | None = None

    @property
    def difference(self) -> float:
        """The largest difference of all outputs."""
        every = (output for outputs in self.forms.values() for output in outputs)
        return max((output.difference for output in every), default=0.0)

    @property
    def agrees(self) -> bool:
        """Whether everything that was computed is what was printed."""
        return self.difference <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Walkthrough:
    """Everything that is shown."""

    backend: str
    version: str
    options: Mapping[str, Any]
    layers: tuple[Shown, ...]
    gates: Gates
    directions: Gates
    tables: tuple[Table, ...]


def walk(backend: str | None, options: Mapping[str, Any]) -> Walkthrough:
    """Compute the walk-through on a backend.

    Args:
        backend: Its name, or None for the configured one.
        options: Its options.
    """
    name = resolve(backend, options).backend
    both = Bidirectional(LSTM(UNITS, return_sequences=True, return_state=True))
    return Walkthrough(
        backend=name,
        version=version_of(registry.get(name)),
        options=options,
        layers=tuple(_layers(name, options)),
        gates=_gates(LSTM(UNITS), name, options),
        directions=_gates(both, name, options),
        tables=tuple(_table(printed, name, options) for printed in PRINTED),
    )


def to_json_data(walkthrough: Walkthrough) -> dict[str, Any]:
    """Return everything as plain dicts and lists."""
    return {
        "backend": walkthrough.backend,
        "version": walkthrough.version,
        "options": dict(walkthrough.options),
        "input": _array_data(X),
        "layers": [
            {
                "title": shown.title,
                "layer": to_data(shown.layer),
                "weights": "init, seed 0",
                "outputs": {name: _array_data(value) for name, value in shown.outputs.items()},
            }
            for shown in walkthrough.layers
        ],
        "gates": _gates_data(walkthrough.gates),
        "bidirectional_gates": _gates_data(walkthrough.directions),
        "tables": [_table_data(table) for table in walkthrough.tables],
    }


def code_lines(shown: Shown) -> tuple[str, str]:
    """Return the lines of Python that do what is shown."""
    flags = [
        f"{flag}=True"
        for flag, value in zip(("return_sequences", "return_state"), shown.form, strict=True)
        if value
    ]
    cell = shown.layer.layer if isinstance(shown.layer, Bidirectional) else shown.layer
    made = f"sc.{type(cell).__name__}({', '.join([str(UNITS), *flags])})"
    if isinstance(shown.layer, Bidirectional):
        made = f"sc.Bidirectional({made})"
    return f"layer = {made}", f"{', '.join(shown.outputs)} = layer(x)"


def shortest(value: float) -> str:
    """Return the fewest digits that give the float32 back, as NumPy prints it."""
    return str(np.float32(value))


def _layers(backend: str, options: Mapping[str, Any]) -> Iterable[Shown]:
    kinds: tuple[tuple[str, type[SimpleRNN] | type[LSTM], bool], ...] = (
        ("SimpleRNN", SimpleRNN, False),
        ("LSTM", LSTM, False),
        ("Bidirectional LSTM", LSTM, True),
    )
    for title, cell, both in kinds:
        for form in FORMS:
            inner = cell(UNITS, return_sequences=form[0], return_state=form[1])
            layer = Bidirectional(inner) if both else inner
            yield Shown(layer, title, form, _outputs(layer, backend, options))


def _outputs(layer: AnyLayer, backend: str, options: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    returned = layer(X, backend=backend, **options)
    names = output_names(layer)
    return dict(zip(names, (returned,) if len(names) == 1 else returned, strict=True))


def _gates(layer: AnyLayer, backend: str, options: Mapping[str, Any]) -> Gates:
    try:
        values = layer.gates(layer.init(X.shape[-1]), X, backend=backend, **options)
    except UnsupportedFeature as error:
        return Gates(layer, {}, str(error))
    return Gates(layer, {name: value[0] for name, value in values.items()})


def _table(printed: Printed, backend: str, options: Mapping[str, Any]) -> Table:
    options = {**options, "matmul_precision": printed.precision}
    forms: dict[bool, tuple[Compared, ...]] = {}
    for return_sequences in (False, True):
        layer = Bidirectional(
            LSTM(
                UNITS,
                return_sequences=return_sequences,
                return_state=True,
                kernel_initializer=Constant(0.1),
                recurrent_initializer=Constant(0.1),
                bias_initializer=Zeros(),
            )
        )
        try:
            outputs = _outputs(layer, backend, options)
        except UnsupportedFeature as error:
            return Table(printed, {}, str(error))
        forms[return_sequences] = tuple(
            Compared(name, value, outputs[name])
            for name, value in _expected(printed, return_sequences).items()
        )
    return Table(printed, forms)


def _expected(printed: Printed, return_sequences: bool) -> dict[str, NDArray[np.float32]]:
    """Return what the tutorial printed; it left the cell states out."""
    halves = np.array([printed.forward, printed.backward], np.float32)
    sequence = np.repeat(halves.T, UNITS, axis=1)[None]
    last = np.repeat(np.array([printed.forward[-1], printed.backward[0]], np.float32), UNITS)
    return {
        "y": sequence if return_sequences else last[None],
        "forward_h": last[None, :UNITS],
        "backward_h": last[None, UNITS:],
    }


def _table_data(table: Table) -> dict[str, Any]:
    return {
        "tutorial": table.printed.tutorial,
        "matmul_precision": table.printed.precision,
        "unsupported": table.unsupported,
        "tolerance": TOLERANCE,
        "largest_difference": None if table.unsupported else table.difference,
        "agrees": None if table.unsupported else table.agrees,
        "forms": [
            {
                "return_sequences": return_sequences,
                "return_state": True,
                "outputs": {
                    output.name: {
                        "shape": list(output.computed.shape),
                        "printed": _numbers(output.printed),
                        "computed": _numbers(output.computed),
                        "largest_difference": output.difference,
                    }
                    for output in outputs
                },
            }
            for return_sequences, outputs in table.forms.items()
        ],
    }


def _gates_data(gates: Gates) -> dict[str, Any]:
    return {
        "layer": to_data(gates.layer),
        "weights": "init, seed 0",
        "unsupported": gates.unsupported,
        "values": {name: _numbers(value) for name, value in gates.values.items()},
    }


def _array_data(array: NDArray[Any]) -> dict[str, Any]:
    return {"shape": list(array.shape), "values": _numbers(array)}


def _numbers(array: NDArray[Any]) -> Any:
    """Return nested lists of numbers, each with no more digits than it has."""
    if array.ndim == 0:
        return float(shortest(float(array)))
    return [_numbers(part) for part in array]
