"""What the judge of the suite finds, and how far a result may be from the oracle's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from seqcore.conformance import calibration, tolerance
from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge, pairwise
from seqcore.conformance.model import Finding, Observed, Packed, ValueCase, Verdict
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import expected, limit
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack

BOTH: dict[str, Any] = {"return_sequences": True, "return_state": True}
CASE = ValueCase(
    id="judge/lstm", clauses=("LSTM-1",), layer=LSTM(2, **BOTH), mask="dead_row", state=True
)


def observed(case: ValueCase) -> Observed:
    """What the NumPy backend returns."""
    found = execute(case, Subject("numpy"))
    assert isinstance(found, Observed)
    return found


def with_change(
    case: ValueCase, kind: str, name: str, change: Callable[[np.ndarray], Any], call: str = "vjp"
) -> Verdict:
    """The verdict where one array of one call is another."""
    runs = []
    for run in observed(case).runs:
        arrays = dict(getattr(run, kind))
        if run.call == call:
            arrays[name] = Packed.of(change(arrays[name].array().copy()))
        runs.append(msgspec.structs.replace(run, **{kind: arrays}))
    return judge(case, Observed(runs), 0)


def only(verdict: Verdict) -> Finding:
    """The one finding of a verdict that failed."""
    assert verdict.status == "fail"
    (finding,) = verdict.findings
    return finding


def moved(amount: float, *index: int) -> Callable[[np.ndarray], np.ndarray]:
    """A change of one element."""

    def change(array: np.ndarray) -> np.ndarray:
        array[index] += array.dtype.type(amount)
        return array

    return change


@pytest.mark.parametrize(
    "layer",
    [
        LSTM(2),
        GRU(2, reset_after=False, go_backwards=True, mask_output="carry", **BOTH),
        Bidirectional(LSTM(2, **BOTH), "none", GRU(3, **BOTH)),
        Stack((SimpleRNN(3, return_sequences=True), Bidirectional(GRU(2), "mul"))),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_an_honest_backend_passes(layer: Any, dtype: str) -> None:
    case = replace(CASE, layer=layer, dtype=dtype, poison=True, everywhere=True)
    verdict = judge(case, observed(case), 0)
    assert (verdict.status, verdict.findings) == ("pass", [])
    assert set(verdict.worst) == {"outputs", "gradients"}
    assert "generic" in verdict.plans
    for eps, allowed in verdict.worst.values():
        assert 0 <= eps <= allowed


def test_a_wrong_output() -> None:
    valid = np.argwhere(expected(CASE, 0).outputs["y"].reference[1, :, 0])[0, 0]
    finding = only(with_change(CASE, "outputs", "y", moved(1e-4, 1, valid, 0)))
    assert finding.step == valid
    assert "vjp" in finding.message
    assert "y: expected within" in finding.message
    assert finding.eps == pytest.approx(1e-4 / 2**-23, rel=0.05)
    assert finding.limit is not None
    assert finding.limit < 30


def test_a_step_is_counted_in_original_time() -> None:
    case = replace(CASE, layer=LSTM(2, go_backwards=True, **BOTH), mask="none")
    finding = only(with_change(case, "outputs", "y", moved(1e-4, 1, 0, 0)))
    assert finding.step == case.time - 1


def test_of_wrong_gradients_the_worst_is_named() -> None:
    finding = only(with_change(CASE, "gradients", "recurrent_kernel", lambda array: array.T.copy()
                   .reshape(array.shape)))  # fmt: skip
    assert "the gradient of recurrent_kernel" in finding.message


def test_what_does_not_arrive_is_found() -> None:
    runs = [msgspec.structs.replace(run, gradients={}) for run in observed(CASE).runs]
    assert only(judge(CASE, Observed(runs), 0)).clause == "GRAD-2"


def test_a_wrong_shape() -> None:
    finding = only(with_change(CASE, "outputs", "h", lambda array: array[None]))
    assert "expected the shape (3, 2), received (1, 3, 2)" in finding.message


@pytest.mark.parametrize("kind", ["outputs", "gradients"])
def test_a_wrong_data_type(kind: str) -> None:
    name = "y" if kind == "outputs" else "kernel"
    finding = only(with_change(CASE, kind, name, lambda array: array.astype(np.float64)))
    assert finding.clause == "DTYPE-1"
    integers = with_change(CASE, kind, name, lambda array: array.astype(np.int32))
    assert "DTYPE-1" in [finding.clause for finding in integers.findings]


@pytest.mark.parametrize(
    ("kind", "name", "index", "clause"),
    [
        ("outputs", "y", (0, 2, 0), "MASK-4"),
        ("outputs", "c", (0, 1), "MASK-3"),
        ("gradients", "x", (0, 3, 1), "MASK-7"),
    ],
)
def test_what_is_exact_has_no_tolerance(
    kind: str, name: str, index: tuple[int, ...], clause: str
) -> None:
    assert only(with_change(CASE, kind, name, moved(2.0**-22, *index))).clause == clause


def test_a_carried_output_is_carried_bit_for_bit() -> None:
    case = replace(CASE, layer=GRU(2, mask_output="carry", **BOTH), mask="right")
    row, step = np.argwhere(~np.array(expected(case, 0).outputs["y"].exact[:, :, 0]))[-1]
    carried = expected(case, 0).outputs["y"].identities
    row, step = np.argwhere(carried[:, 1:, 0] == carried[:, :-1, 0])[0]
    change = moved(2.0**-22, row, step + 1, 0)
    assert only(with_change(case, "outputs", "y", change)).clause == "MASK-3"


def test_nan_is_wrong() -> None:
    finding = only(with_change(CASE, "outputs", "h", moved(math.nan, 1, 0), call="apply"))
    assert finding.eps == math.inf


def test_a_case_that_is_not_admitted_is_judged_by_finiteness() -> None:
    case = replace(CASE, layer=SimpleRNN(8, **BOTH), mask="none", time=60, scale=3.0)
    assert not expected(case, 0).admitted("outputs")
    y = expected(case, 0).outputs["y"].reference
    towards_zero = -0.5 * float(np.sign(y[0, 50, 0]))  # so that it stays within its bounds
    verdict = with_change(case, "outputs", "y", moved(towards_zero, 0, 50, 0))
    assert verdict.status == "pass"
    assert "outputs" not in verdict.worst
    assert "finite" in only(with_change(case, "outputs", "y", moved(math.inf, 0, 9, 0))).message


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_precision_that_is_ignored_is_found(precision: str) -> None:
    case = replace(CASE, precision=precision)
    assert judge(case, observed(case), 0).status == "pass"
    assert judge(case, observed(CASE), 0).status == "fail"


def test_a_factor_near_a_tie_is_not_judged_to_the_last_bit() -> None:
    reference = np.array([1 + 2.0**-11 + 2.0**-22])  # the tie is half of a tf32 step above 1
    clear = np.array([1 + 2.0**-13])
    near = tolerance.settled
    assert not near(reference, [reference], 11, 2.0**-23)
    assert near(clear, [clear], 11, 2.0**-23)
    assert not near(clear, [clear + 2.0**-12], 11, 2.0**-23)


def test_budget_of_the_specification() -> None:
    assert (limit("outputs", 2.5), limit("gradients", 2.5)) == (18, 28)
    known = expected(CASE, 0)
    assert known.eps == 2**-23
    assert max(one.limit for one in known.outputs.values()) == limit(
        "outputs", known.noise["outputs"]
    )
    assert {one.limit for one in known.gradients.values()} == {
        limit("gradients", known.noise["gradients"])
    }


def test_the_unit_grows_with_the_reference() -> None:
    assert tolerance.worst(np.array([8.0, 1.0]), np.array([8.0, 0.0]), 0.125) == 1.0
    assert tolerance.worst(np.array([0.5]), np.array([0.25]), 0.125) == 2.0


def test_an_overflowing_gradient_is_infinite() -> None:
    layer = SimpleRNN(2, activation="linear")
    case = replace(
        CASE, layer=layer, dtype="float16", mask="none", time=24, scale=2.5, label="overflow"
    )
    known = expected(case, 0)
    assert np.isinf(known.gradients["kernel"].reference).any()


def test_backends_are_compared_in_pairs() -> None:
    one = observed(CASE)
    runs = []
    for run in one.runs:
        y = run.outputs["y"].array().copy()
        y[1] += np.float32(2.0**-20)
        runs.append(msgspec.structs.replace(run, outputs={**run.outputs, "y": Packed.of(y)}))
    apart = pairwise(CASE, {"a": one, "b": Observed(runs), "c": one}, 0)
    assert list(apart) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert apart["a", "b"] == {"outputs": pytest.approx(8, abs=0.5), "gradients": 0}
    assert apart["a", "c"] == {"outputs": 0, "gradients": 0}


def test_honest_backends_keep_within_the_budget() -> None:
    cases = calibration.random_cases(12)
    lines = calibration.calibrate([0], cases, ["numpy"])
    assert {line.level for line in lines} == set(calibration.LEVELS)
    assert all(line.alarms == 0 and line.worst < 1 for line in lines)
    assert len(calibration.table(lines).splitlines()) == 2 + len(lines)


def test_calibration_counts_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tolerance.BUDGET, "outputs", (0.0, 1e-9))
    expected.cache_clear()
    lines = calibration.calibrate([0], calibration.random_cases(6), ["numpy"])
    expected.cache_clear()
    assert sum(line.alarms for line in lines if line.kind == "outputs") > 0
