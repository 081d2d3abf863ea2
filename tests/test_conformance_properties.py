from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seqcore.conformance.cases import properties
from seqcore.conformance.cases.properties import as_python, search
from seqcore.conformance.cases.values import value_cases
from seqcore.conformance.execute import execute
from seqcore.conformance.judge import judge
from seqcore.conformance.laws import LAWS, Departure
from seqcore.conformance.model import ValueCase
from seqcore.conformance.mutants import Mutant
from seqcore.conformance.mutants.wrong import Twisted, WrongBackend
from seqcore.conformance.subject import Subject
from seqcore.spec.layers import GRU, LSTM, Bidirectional, SimpleRNN, Stack

NAMES = {one.__name__: one for one in (ValueCase, SimpleRNN, LSTM, GRU, Bidirectional, Stack)}


def mutant(**hooks: Any) -> Any:
    return Mutant("wrong", "BI-1", lambda: nullcontext(WrongBackend(Twisted(**hooks)))).registered()


def test_an_honest_backend_passes() -> None:
    search(Subject("numpy", 3), 30, ("none", "holes", "lengths"))


def test_a_departure_is_small_and_can_be_run_again() -> None:
    def doubled(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if isinstance(request.layer, LSTM):
            state = tuple(2 * value for value in state)
        return weights, x, mask, state

    with mutant(before=doubled) as name:
        subject = Subject(name)
        with pytest.raises(Departure) as caught:
            search(subject, 200, ("none",))
        finding = caught.value.finding
        assert finding.eps is not None
        assert finding.limit is not None
        message, _, text = finding.message.partition(" with the seed 0:\n")
        assert "expected within" in message
        case = eval(text, NAMES)
        assert "LSTM" in text
        assert case.state
        assert case.batch == 1
        # At most one layer beside the one that is wrong: shrinking ends after SHRINKS cases.
        assert text.count("units") <= 2
        assert judge(case, execute(case, subject), 0).findings[0].eps == finding.eps


def test_the_same_seed_finds_the_same() -> None:
    def turned(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        return weights, x[:, ::-1] if isinstance(request.layer, GRU) else x, mask, state

    messages = []
    for _ in range(2):
        with mutant(before=turned) as name, pytest.raises(Departure) as caught:
            search(Subject(name, 5), 200, ("none",))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_what_is_wrong_without_a_mask_is_not_put_on_the_mask() -> None:
    def doubled(_: Any, call: Any) -> Any:
        weights, x, mask, state = call
        return weights, 2 * x, mask, state

    def lost(_: Any, call: Any) -> Any:
        weights, x, mask, state = call
        return weights, x, None if mask is None else np.ones_like(mask), state

    with mutant(before=doubled) as name:
        search(Subject(name), 20, ("holes",))
    with mutant(before=lost) as name, pytest.raises(Departure, match="mask='holes'"):
        search(Subject(name), 20, ("holes",))


def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    search(Subject("numpy"), 5, ("none",))
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_without_hypothesis_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    verdict = execute(next(one for one in LAWS if "any-layer" in one.id), Subject("numpy"))
    assert verdict.status == "error"
    assert "pip install hypothesis" in verdict.findings[0].message


def test_python_text_rebuilds_every_layer() -> None:
    for case in value_cases()[::7]:
        assert eval(as_python(case.layer), NAMES) == case.layer
        assert eval(as_python(case), NAMES) == case
    assert as_python(LSTM(2)) == "LSTM(units=2)"


def test_few_have_the_usual_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[ValueCase] = []

    def note(case: ValueCase, subject: Subject) -> None:
        tried.append(case)

    monkeypatch.setattr(properties, "_finding", note)
    search(Subject("numpy"), properties.FEW["few"], ("none",))
    assert {(case.batch, case.time, case.features, case.dtype) for case in tried} == {
        (3, 5, 4, "float32")
    }
    tried.clear()
    search(Subject("numpy"), properties.MANY["many"], ("none",))
    assert len({(case.batch, case.time, case.features) for case in tried}) > 20
    assert len({(case.dtype, case.precision) for case in tried}) == 6
    assert {type(case.layer) for case in tried} == {SimpleRNN, LSTM, GRU, Bidirectional, Stack}
