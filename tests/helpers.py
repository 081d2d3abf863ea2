"""What several test modules share: layers, masks, random arguments, comparison, implementations."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import seqcore as sc
from oracle import state_sizes
from seqcore.registry import registry

BATCH, TIME, FEATURES, UNITS = 3, 5, 4, 2

DTYPES: dict[str, Any] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}

CELLS: dict[str, Callable[..., Any]] = {
    "rnn": functools.partial(sc.SimpleRNN, UNITS),
    "lstm": functools.partial(sc.LSTM, UNITS),
    "gru": functools.partial(sc.GRU, UNITS),
    "gru_before": functools.partial(sc.GRU, UNITS, reset_after=False),
}

LENGTHS = np.array([5, 2, 3])

MASKS: dict[str, np.ndarray | None] = {
    "none": None,
    "right": np.arange(TIME) < LENGTHS[:, None],
    "left": np.arange(TIME) >= TIME - LENGTHS[:, None],
    "holes": np.array([[1, 0, 1, 1, 0], [0, 1, 0, 0, 1], [1, 1, 0, 1, 1]], bool),
    "dead_row": np.array([[1, 1, 1, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 1]], bool),
    "all": np.zeros((BATCH, TIME), bool),
}

MERGES = ("concat", "sum", "mul", "ave", "none")
ACTIVATIONS = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid")
BOTH = {"return_sequences": True, "return_state": True}


@dataclass(frozen=True)
class Case:
    """A layer, how it is masked, and whether an initial state is given."""

    id: str
    layer: Any
    mask: str = "none"
    state: bool = False
    scale: float = 0.6
    """Of the weights."""

    def arguments(self, dtype: str = "float64") -> tuple[dict[str, Any], Any, dict[str, Any]]:
        """Random weights and input, and the call's other arguments; the same at every call."""
        rng = np.random.default_rng(zlib.crc32(self.id.encode()))
        weights = random_weights(self.layer, rng, dtype, scale=self.scale)
        x = rng.normal(size=(BATCH, TIME, FEATURES)).astype(DTYPES[dtype])
        others: dict[str, Any] = {"mask": MASKS[self.mask]}
        if self.state:
            others["initial_state"] = random_state(self.layer, rng, dtype)
        return weights, x, others


def random_weights(
    layer: Any,
    rng: np.random.Generator,
    dtype: str = "float64",
    features: int = FEATURES,
    scale: float = 0.6,
) -> dict[str, Any]:
    """Normal numbers of moderate size for every weight, biases included."""
    return {
        name: (scale * rng.normal(size=shape)).astype(DTYPES[dtype])
        for name, shape in layer.weight_shapes(features).items()
    }


def random_state(
    layer: Any, rng: np.random.Generator, dtype: str = "float64", batch: int = BATCH
) -> tuple[Any, ...]:
    """An initial state of normal numbers."""
    return tuple(
        rng.normal(size=(batch, units)).astype(DTYPES[dtype]) for units in state_sizes(layer)
    )


def random_cotangents(outputs: Any, rng: np.random.Generator) -> Any:
    """Normal numbers in the structure of the outputs."""
    drawn = [rng.normal(size=y.shape).astype(y.dtype) for y in flat(outputs)]
    return drawn[0] if isinstance(outputs, np.ndarray) else tuple(drawn)


def flat(outputs: Any) -> tuple[Any, ...]:
    """All outputs of a call, whether it has one or several."""
    return outputs if isinstance(outputs, tuple) else (outputs,)


def gradient_arrays(gradients: Any) -> dict[str, Any]:
    """All arrays of a `Gradients`, by name."""
    states = {f"initial_state[{i}]": value for i, value in enumerate(gradients.initial_state)}
    return {**gradients.weights, "x": gradients.x, **states}


def assert_close(found: Any, expected: Any, eps: float, what: str = "") -> None:
    """Compare in units of float64's eps times the largest expected number, at least 1."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, what
    scale = max(1.0, float(np.abs(expected).max(initial=0.0)))
    np.testing.assert_allclose(
        found, expected, rtol=0, atol=eps * np.finfo(np.float64).eps * scale, err_msg=what
    )


def assert_same_bits(found: Any, expected: Any) -> None:
    """The same shape, dtype and bits."""
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    assert np.ascontiguousarray(found).tobytes() == np.ascontiguousarray(expected).tobytes()


def composites() -> list[Case]:
    """Stacks, and bidirectional layers of unlike members."""
    seq = {"return_sequences": True}
    lstm, gru = functools.partial(sc.LSTM, 2, **seq), functools.partial(sc.GRU, 3, **seq)
    unlike = sc.Bidirectional(
        sc.LSTM(2, **BOTH), backward_layer=sc.GRU(3, reset_after=False, **BOTH)
    )
    layers: dict[str, Any] = {
        "unlike_concat": unlike,
        "unlike_none": unlike.replace(merge_mode="none"),
        "stack_one": sc.Stack([sc.GRU(3)], **BOTH),
        "stack_two": sc.Stack([lstm(), gru()], **BOTH),
        "stack_last": sc.Stack([lstm(), sc.GRU(3)], return_state=True),
        "stack_two_bidirectional": sc.Stack(
            [sc.Bidirectional(lstm()), sc.Bidirectional(lstm())], **BOTH
        ),
        "stack_unmerged_end": sc.Stack(
            [gru(), sc.Bidirectional(lstm(), merge_mode="none")], return_sequences=True
        ),
        "stack_reversing": sc.Stack([lstm(go_backwards=True), gru()], **BOTH),
        "stack_reversing_last": sc.Stack([lstm(), gru(go_backwards=True)], **BOTH),
        "stack_reversing_twice": sc.Stack(
            [lstm(go_backwards=True), gru(go_backwards=True, mask_output="carry")], **BOTH
        ),
        "stack_reversing_bidirectional": sc.Stack(
            [gru(go_backwards=True), sc.Bidirectional(lstm(), merge_mode="mul")], **BOTH
        ),
        "stack_reversing_kept": sc.Stack(
            [gru(go_backwards=True, keep_order=True), lstm(mask_output="carry")], **BOTH
        ),
        "stack_reversing_end": sc.Stack([lstm(go_backwards=True), sc.SimpleRNN(2)]),
    }
    return [
        Case(f"{name}-{mask}", layer, mask, mask != "none")
        for name, layer in layers.items()
        for mask in ("none", "holes", "dead_row")
    ]


def equation_cases() -> list[Case]:
    """Every cell with everything that changes a number."""
    cases = []
    for name, cell in CELLS.items():
        for mask in MASKS:
            for output in ("zero", "carry"):
                layer = cell(mask_output=output, **BOTH)
                cases.append(Case(f"{name}-{mask}-{output}", layer, mask, state=True))
        cases += [
            Case(f"{name}-zero_state", cell(**BOTH)),
            Case(f"{name}-no_bias", cell(use_bias=False, **BOTH), state=True),
            Case(f"{name}-last", cell(), "left"),
            Case(f"{name}-last_state", cell(return_state=True), "holes", state=True),
            Case(f"{name}-sequence", cell(return_sequences=True), "holes", state=True),
        ]
        for kept in (False, True):
            layer = cell(go_backwards=True, keep_order=kept, **BOTH)
            cases.append(Case(f"{name}-backwards-{kept}", layer, state=True))
            cases.append(Case(f"{name}-backwards-{kept}-right", layer, "right", state=True))
            carry = layer.replace(mask_output="carry")
            cases.append(Case(f"{name}-backwards-{kept}-carry", carry, "holes", state=True))
        for merge in MERGES:
            whole = sc.Bidirectional(cell(**BOTH), merge_mode=merge)
            last = sc.Bidirectional(cell(mask_output="carry", return_state=True), merge_mode=merge)
            carry = sc.Bidirectional(cell(mask_output="carry", **BOTH), merge_mode=merge)
            cases += [
                Case(f"{name}-{merge}", whole, state=True),
                Case(f"{name}-{merge}-right", whole, "right"),
                Case(f"{name}-{merge}-dead_row", whole, "dead_row", state=True),
                Case(f"{name}-{merge}-carry", carry, "holes", state=True),
                Case(f"{name}-{merge}-last", last, "holes", state=True),
            ]
    return cases + composites()


def activation_cases() -> list[Case]:
    """Every activation, and every pair of activations."""
    cases = [Case(f"rnn-{act}", CELLS["rnn"](activation=act, **BOTH)) for act in ACTIVATIONS]
    for name in ("lstm", "gru", "gru_before"):
        for act in ACTIVATIONS:
            for ract in ACTIVATIONS:
                layer = CELLS[name](activation=act, recurrent_activation=ract, **BOTH)
                # Small weights, for without a saturating function the numbers explode.
                cases.append(Case(f"{name}-{act}-{ract}", layer, state=True, scale=0.25))
    return cases


def implementations() -> list[str]:
    """The names of the NumPy backend's implementations, in order of preference."""
    return [implementation.name for implementation in registry.get("numpy").implementations]


def takes(name: str, layer: Any, **question: Any) -> bool:
    """Whether a layer, all parts of it, can be run by one implementation alone."""
    try:
        layer.explain(backend="numpy", implementation=name, **question)
    except sc.PlanError:
        return False
    return True


def needs(name: str, layer: Any, **question: Any) -> None:
    """Skip the test where an implementation refuses the layer, and say why."""
    try:
        layer.explain(backend="numpy", implementation=name, **question)
    except sc.PlanError as error:
        pytest.skip(str(error).partition("(")[2].rpartition(");")[0].rpartition("(")[2])


def each_implementation(cases: Iterable[Case], gradient: str = "no") -> list[Any]:
    """The cases once for each implementation that takes them; who takes what is asked up front."""
    return [
        pytest.param(case, name, id=f"{case.id}-{name}")
        for name in implementations()
        for case in cases
        if takes(
            name,
            case.layer,
            dtype="float64",
            mask="none" if MASKS[case.mask] is None else "any",
            gradient=gradient,
        )
    ]
