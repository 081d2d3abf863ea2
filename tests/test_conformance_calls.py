"""Calls of laws: their arrays, their parts, and how far their results may be apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seqcore.conformance import calls
from seqcore.conformance.agreement import require_alike, require_right, require_same
from seqcore.conformance.calls import MAIN, Call, draw, outputs_of, results_of
from seqcore.conformance.execute import execute
from seqcore.conformance.laws import Departure, NotJudged
from seqcore.conformance.levels import BOTH
from seqcore.conformance.model import LawCase, ValueCase, Verdict
from seqcore.conformance.subject import Subject
from seqcore.conformance.tolerance import KINDS, Kind, expectation, expected, limit
from seqcore.spec.layers import LSTM, Bidirectional

SUBJECT = Subject("numpy")
SENSITIVE = LSTM(2, activation="relu", recurrent_activation="linear", **BOTH)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each measurement of noise, whether it was one of gradients."""
    seen = []

    def counted(layer: Any, given: Any, cotangents: Any, **options: Any) -> Any:
        seen.append(cotangents is not None)
        return expectation(layer, given, cotangents, **options)

    monkeypatch.setattr(calls, "expectation", counted)
    return seen


def test_calls_are_the_same_for_a_label_and_others_for_another() -> None:
    one, same, other = (draw(SUBJECT, MAIN["lstm"], label) for label in ("a", "a", "b"))
    assert one.x.tobytes() == same.x.tobytes() != other.x.tobytes()
    assert one.cotangents[0].tobytes() == same.cotangents[0].tobytes()


def test_results_have_every_output_and_gradient() -> None:
    found = results_of(SUBJECT, draw(SUBJECT, MAIN["lstm"], "a"))
    arguments = ("kernel", "recurrent_kernel", "bias", "x", "initial_state.h", "initial_state.c")
    assert list(found) == [
        *("y", "h", "c"),
        *("vjp's y", "vjp's h", "vjp's c"),
        *(f"gradient of {name}" for name in arguments),
    ]


def test_a_call_without_a_state_has_zeros() -> None:
    call = draw(SUBJECT, MAIN["bidirectional"], "a", state=False)
    assert "initial_state" not in call.given
    assert [(h.shape, h.dtype.name, h.any()) for h in call.state] == [
        ((3, 2), "float32", False)
    ] * 4


def test_rows_and_steps_are_cut_from_everything() -> None:
    call = draw(SUBJECT, MAIN["lstm"], "a", mask="holes")
    whole = outputs_of(SUBJECT, call)
    part = call.row(1)
    assert part.cotangents[0].shape == (1, 5, 2)
    assert not np.shares_memory(part.x, call.x)
    alone = {name: value[1:2] for name, value in whole.items()}
    require_alike(outputs_of(SUBJECT, part), alone, part, "row 1")
    first = outputs_of(SUBJECT, call.steps(slice(2)))
    require_alike(first, {"y": whole["y"][:, :2]}, call, "two steps")
    lengths = draw(SUBJECT, MAIN["lstm"], "a", mask="lengths")
    assert lengths.rows(slice(2)).given["lengths"].tolist() == lengths.given["lengths"][:2].tolist()


def test_a_flipped_call_has_a_flipped_mask_if_any() -> None:
    plain, lengths = (draw(SUBJECT, MAIN["lstm"], "a", mask=mask) for mask in ("none", "lengths"))
    assert "mask" not in plain.flipped().given
    flipped = lengths.flipped()
    assert "lengths" not in flipped.given
    np.testing.assert_array_equal(flipped.given["mask"], lengths.valid[:, ::-1])
    np.testing.assert_array_equal(flipped.flipped().x, lengths.x)


def test_a_member_has_its_weights_and_its_states() -> None:
    layer = Bidirectional(LSTM(2, **BOTH))
    call = draw(SUBJECT, layer, "a")
    member = call.member(layer.backward, "backward.", slice(2, None))
    assert member.weights.keys() == {"kernel", "recurrent_kernel", "bias"}
    assert member.weights["kernel"] is call.weights["backward.kernel"]
    assert member.state == call.state[2:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_is_the_budget_of_a_value_case_with_the_same_arrays(kind: Kind) -> None:
    layer = MAIN["gru"]
    known = expected(ValueCase(id="a", clauses=(), layer=layer, state=True), SUBJECT.seed)
    call = draw(SUBJECT, layer, "a")
    assert call.limit(kind) == limit(kind, known.noise[kind])
    assert call.limit(kind, 3) == 3 * call.limit(kind)


def test_an_output_has_a_limit_of_its_own() -> None:
    layer = MAIN["bidirectional"]
    known = expected(ValueCase(id="a", clauses=(), layer=layer, state=True), SUBJECT.seed)
    call = draw(SUBJECT, layer, "a")
    own = {name: array.limit for name, array in known.outputs.items()}
    assert len(set(own.values())) > 1
    assert {name: call.limit("outputs", name=name) for name in own} == own
    assert call.limit("outputs", name="of no name") == max(own.values())


def test_a_law_of_unlucky_arrays_passes_unjudged() -> None:
    def unlucky(subject: Subject) -> None:
        draw(subject, SENSITIVE, "wild", scale=2.0).limit("outputs")

    verdict = execute(LawCase(id="a", clauses=("LSTM-1",), check=unlucky), SUBJECT)
    assert isinstance(verdict, Verdict)
    assert (verdict.status, verdict.judged) == ("pass", False)


def test_noise_is_measured_once_and_only_what_is_compared(measured: list[bool]) -> None:
    call = draw(SUBJECT, MAIN["lstm"], "a")
    assert measured == []
    for _ in range(2):
        call.limit("outputs")
    assert measured == [False]
    for kind in (*KINDS, *KINDS):
        call.limit(kind)
    assert measured == [False, True]
    call.giving(implementation="generic").limit("outputs")
    assert measured == [False, True, False]
    results = results_of(SUBJECT, call)
    other = call.but(x=call.x)
    require_alike(
        results, results, other, "gradients first, whose noise is that of the outputs, too"
    )
    assert measured == [False, True, False, True]


def test_noise_is_that_of_the_arrays_as_a_law_has_changed_them() -> None:
    call = draw(SUBJECT, MAIN["lstm"], "a")
    quiet = call.but(weights={name: value * 0 for name, value in call.weights.items()})
    assert quiet.limit("outputs") < call.limit("outputs")


def test_a_call_that_is_too_sensitive_is_not_compared() -> None:
    call = draw(SUBJECT, SENSITIVE, "wild", scale=2.0)
    found = outputs_of(SUBJECT, call)
    with pytest.raises(NotJudged, match=r"LSTM\(units=2\), call 'wild': its outputs have a noise"):
        require_alike(found, found, call, "nothing")


def bent(call: Call, name: str, share: float, results: int) -> dict[str, np.ndarray]:
    """Results of which one is off by a share of what some results may be apart."""
    kind: Kind = "gradients" if name.startswith("gradient") else "outputs"
    found = results_of(SUBJECT, call)
    unit = np.finfo(np.float32).eps * max(1.0, float(np.abs(found[name]).max()))
    off = np.float32(share * call.limit(kind, results) * unit)
    return found | {name: found[name] + off}


@pytest.mark.parametrize("name", ["y", "vjp's c", "gradient of kernel"])
def test_two_results_may_be_apart_by_both_budgets(name: str) -> None:
    call = draw(SUBJECT, MAIN["lstm"], "a")
    right = results_of(SUBJECT, call)
    require_alike(bent(call, name, 0.9, 2), right, call, "this")
    with pytest.raises(Departure, match=f"this: {name}: expected within"):
        require_alike(bent(call, name, 1.1, 2), right, call, "this")
    require_right(bent(call, name, 0.9, 1), right, call, "this")
    with pytest.raises(Departure, match=f"this: {name}: expected within"):
        require_right(bent(call, name, 1.1, 1), right, call, "this")
    with pytest.raises(Departure, match=f"this: {name}: expected the same bits"):
        require_same(bent(call, name, 0.1, 1), right, "this")


def test_results_in_a_coarser_data_type_do_not_agree() -> None:
    call = draw(SUBJECT, MAIN["lstm"], "a")
    right = outputs_of(SUBJECT, call)
    coarse = {name: value.astype(np.float16) for name, value in right.items()}
    with pytest.raises(Departure, match="expected float32, received float16"):
        require_alike(coarse, right, call, "this")
    with pytest.raises(Departure, match="expected float32, received float16"):
        require_alike(coarse, coarse, call, "this")
