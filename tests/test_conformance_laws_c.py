"""The laws of cells, outputs, composites, states, degenerate sizes, initial weights and files."""

from __future__ import annotations

import functools
import importlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np
import pytest

from seqcore.conformance.cases import check_cases, descriptions
from seqcore.conformance.clauses import clauses
from seqcore.conformance.execute import execute
from seqcore.conformance.laws import LAWS
from seqcore.conformance.model import LawCase, Verdict
from seqcore.conformance.mutants import NAME
from seqcore.conformance.mutants.wrong import Twisted, WrongBackend, columns
from seqcore.conformance.stream import Stream, key, written
from seqcore.conformance.subject import Subject
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, BackendSpec

MODULES = (
    "cells",
    "outputs",
    "bidirectional",
    "backwards",
    "stacks",
    "states",
    "degenerate",
    "initial_weights",
    "descriptions",
)

GROUPS = ("ACT", "RNN", "LSTM", "GRU", "BIAS", "OUT", "BI", "BACK", "STACK", "STATE", "DEG")
GROUPS += ("INIT", "NAME", "DESC")


def laws() -> list[LawCase]:
    names = {f"seqcore.conformance.cases.{name}" for name in MODULES}
    for name in names:
        importlib.import_module(name)
    return [case for case in LAWS if home(case) in names]


def home(case: LawCase) -> str:
    check: Any = case.check
    return check.args[0].__module__ if isinstance(check, functools.partial) else check.__module__


def verdicts(cases: list[LawCase], name: str, seed: int = 0) -> dict[str, Verdict]:
    subject = Subject(name, seed)
    found = {}
    for case in cases:
        if all(subject.supports(feature) for feature in case.needs):
            verdict = execute(case, subject)
            assert isinstance(verdict, Verdict)
            found[case.id] = verdict
    return found


def departures(cases: list[LawCase], name: str, seed: int = 0) -> dict[str, str]:
    return {
        identifier: verdict.findings[0].message
        for identifier, verdict in verdicts(cases, name, seed).items()
        if verdict.status != "pass"
    }


@contextmanager
def registered(backend: WrongBackend) -> Iterator[str]:
    spec = BackendSpec(name=NAME, factory="seqcore:mutant", spi=SPI_VERSION)
    with registry.temporarily(spec, lambda: backend):
        yield NAME


def test_every_clause_of_these_groups_has_a_law() -> None:
    cited = {clause for case in laws() for clause in case.clauses}
    assert [
        name for name, clause in clauses().items() if clause.group in GROUPS and name not in cited
    ] == []


def test_laws_are_well_formed() -> None:
    check_cases(laws())
    assert all(len(case.clauses) <= 2 for case in laws())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_numpy_keeps_every_law(seed: int) -> None:
    assert departures(laws(), "numpy", seed) == {}


def test_torch_keeps_every_law() -> None:
    pytest.importorskip("torch")
    assert departures([case for case in laws() if case.tier != "full"], "torch") == {}


def test_an_honest_backend_behind_the_same_border_keeps_every_law() -> None:
    with registered(WrongBackend(Twisted())) as name:
        assert departures(laws(), name) == {}


def caught(backend: WrongBackend, clause: str) -> list[str]:
    cases = [case for case in laws() if clause in case.clauses]
    with registered(backend) as name:
        return list(departures(cases, name))


def reordered(units_gates: int, order: tuple[int, ...]) -> Twisted:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if len(request.layer.gate_names) == units_gates:
            weights = columns(weights, units_gates, order)
        return weights, x, mask, state

    return Twisted(before=before)


@pytest.mark.parametrize(
    ("gates", "order"), [(4, (0, 1, 3, 2)), (4, (1, 0, 2, 3)), (3, (1, 0, 2)), (3, (0, 2, 1))]
)
def test_another_gate_order_is_caught(gates: int, order: tuple[int, ...]) -> None:
    assert caught(WrongBackend(reordered(gates, order)), "NAME-3")


def twisted_weights(name: str, change: Any) -> Twisted:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if name in weights:
            weights = weights | {name: change(weights[name], request.layer.units)}
        return weights, x, mask, state

    return Twisted(before=before)


def test_a_forget_bias_added_twice_is_caught() -> None:
    def change(bias: Any, units: int) -> Any:
        return bias + (np.arange(bias.size) // units == 1) if bias.size == 4 * units else bias

    assert caught(WrongBackend(twisted_weights("bias", change)), "LSTM-5")


def test_a_recurrent_bias_outside_the_reset_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if "recurrent_bias" in weights:
            other = weights["recurrent_bias"]
            weights = weights | {"bias": weights["bias"] + other, "recurrent_bias": other * 0}
        return weights, x, mask, state

    backend = WrongBackend(Twisted(before=before))
    assert caught(backend, "GRU-2")
    assert caught(backend, "GRU-1") == ["GRU-1/whole-numbers-of-a-gru/after"]
    assert caught(backend, "BIAS-1") == []


def test_a_dropped_recurrent_row_is_caught() -> None:
    def change(kernel: Any, units: int) -> Any:
        return np.roll(kernel, 1, 0)

    backend = WrongBackend(twisted_weights("recurrent_kernel", change))
    assert caught(backend, "NAME-2")
    assert caught(backend, "RNN-1")


def test_a_state_after_the_wrong_step_is_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence, (sequence[:, 0], *final[1:])

    backend = WrongBackend(Twisted(after=after))
    for clause in ("OUT-3", "STATE-3", "BACK-3"):
        assert caught(backend, clause), clause


def test_a_gradient_at_a_kink_is_caught() -> None:
    def gradients(request: Any, parts: Any) -> Any:
        d_weights, d_x, d_state = parts
        return d_weights, d_x + np.float32(1e-3), d_state

    assert caught(WrongBackend(Twisted(gradients=gradients)), "ACT-2")


def test_the_trap_springs_where_it_is_unpickled() -> None:
    pickle.loads(pickle.dumps(descriptions.Trap()))
    assert descriptions.EXECUTED == ["unpickled"]
    descriptions.EXECUTED.clear()


def test_the_stream_is_pcg64() -> None:
    for number in (0, 1, 2**32, key(0, "kernel", (5, 12), "zeros", {})):
        raw = np.random.PCG64(number).random_raw(8) >> np.uint64(11)
        assert Stream(number).uniform(8) == (raw * 2.0**-53).tolist()


@pytest.mark.parametrize(
    "value", [0.0, 1e-5, -1e-5, 1.25e-5, 9.9e-6, 1e-7, 1.5e300, 5e-324, 1e15, 1e16, -0.1, 3.0]
)
def test_parameters_are_written_as_the_library_writes_them(value: float) -> None:
    assert written(value) == msgspec.json.encode(value).decode()
