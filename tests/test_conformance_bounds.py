"""What is judged where rounding decides: finite numbers, within what activations allow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from seqcore.conformance.bounds import ROUNDING, bounds
from seqcore.conformance.cases.values import value_cases
from seqcore.conformance.deviations import unit_eps
from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge
from seqcore.conformance.model import Observed, Packed, ValueCase
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import ADMITTED, expected
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}
CHAOTIC = next(case for case in value_cases() if case.id == "values/wild/chaotic/gru")


def case(layer: Any, **fields: Any) -> ValueCase:
    return ValueCase(id="one", clauses=("ACT-3",), layer=layer, gradients=False, **fields)


@pytest.mark.parametrize(
    ("layer", "expected_bounds"),
    [
        (SimpleRNN(2, **BOTH), {"y": 1, "h": 1}),
        (SimpleRNN(2, activation="relu", **BOTH), {"y": math.inf, "h": math.inf}),
        (LSTM(2, **BOTH), {"y": 1, "h": 1, "c": math.inf}),
        (LSTM(2, recurrent_activation="linear"), {"y": math.inf}),
        (GRU(2, **BOTH), {"y": 1, "h": 1}),
        (GRU(2, recurrent_activation="tanh"), {"y": math.inf}),
        (Bidirectional(GRU(2), "sum"), {"y": 2}),
        (Bidirectional(GRU(2), "mul"), {"y": 1}),
        (Bidirectional(GRU(2), "ave"), {"y": 1}),
        (Bidirectional(LSTM(2), "none", GRU(2)), {"forward_y": 1, "backward_y": 1}),
        (Bidirectional(LSTM(2, activation="linear"), "concat", GRU(2)), {"y": math.inf}),
        (
            Stack((SimpleRNN(2, activation="relu", return_sequences=True), LSTM(2)), **BOTH),
            {"y": 1, "layers_0_h": math.inf, "layers_1_h": 1, "layers_1_c": math.inf},
        ),
    ],
)
def test_what_activations_allow(layer: Any, expected_bounds: dict[str, float]) -> None:
    wide = 1 + ROUNDING * unit_eps("float32")
    assert bounds(case(layer), 0) == {
        name: pytest.approx(wide * bound) for name, bound in expected_bounds.items()
    }


def test_an_initial_state_may_be_kept() -> None:
    known = bounds(case(GRU(2, **BOTH), state=True), 0)
    assert known["y"] > 1.2


@pytest.mark.parametrize("seed", range(3))
def test_the_oracle_is_within_them(seed: int) -> None:
    for one in value_cases():
        if one.tier == "full":
            continue
        known, limits = expected(one, seed), bounds(one, seed)
        for name, array in known.outputs.items():
            assert float(np.max(np.abs(array.reference), initial=0)) <= limits[name], one.id


def test_wild_cases_are_not_judged_by_value() -> None:
    known = {one.id: expected(one, 0) for one in value_cases() if one.wild}
    assert not any(one.admitted("outputs") for one in known.values())
    chaotic = [one for name, one in known.items() if "chaotic" in name]
    assert len(chaotic) == 5
    assert all(one.noise["outputs"] > ADMITTED["outputs"] for one in chaotic)


def test_chaos_passes_and_its_bounds_are_judged() -> None:
    observed = execute(CHAOTIC, Subject("numpy"))
    assert isinstance(observed, Observed)
    verdict = judge(CHAOTIC, observed, 0)
    assert (verdict.status, verdict.worst) == ("pass", {})
    (run,) = observed.runs
    for value, message in ((1.5, "magnitudes of at most"), (np.nan, "finite numbers")):
        y = run.outputs["y"].array().copy()
        y[np.unravel_index(np.argmax(y), y.shape)] = value
        run.outputs["y"] = Packed.of(y)
        (finding,) = judge(CHAOTIC, observed, 0).findings
        assert message in finding.message
