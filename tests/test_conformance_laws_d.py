"""The laws of masks, gradients, gates, purity, layout, data types and precision."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from seqcore.conformance.calls import MAIN, draw, results_of
from seqcore.conformance.cases import check_cases, precision
from seqcore.conformance.clauses import clauses
from seqcore.conformance.execute import execute
from seqcore.conformance.laws import LAWS
from seqcore.conformance.model import LawCase, Verdict
from seqcore.conformance.mutants import NAME
from seqcore.conformance.mutants.wrong import SameOps, Twisted, WrongBackend
from seqcore.conformance.subject import Subject
from seqcore.registry import registry
from seqcore.spi import SPI_VERSION, BackendSpec

MODULES = ("masks", "gradients", "gates", "purity", "layout", "dtypes", "precision")
GROUPS = ("MASK", "GRAD", "GATES", "PURE", "LAYOUT", "DTYPE", "PREC")


def laws() -> list[LawCase]:
    names = {f"seqcore.conformance.cases.{name}" for name in MODULES}
    for name in names:
        importlib.import_module(name)
    return [case for case in LAWS if home(case) in names]


def home(case: LawCase) -> str:
    check: Any = case.check
    return check.args[0].__module__ if isinstance(check, functools.partial) else check.__module__


def departures(cases: list[LawCase], name: str, seed: int = 0) -> dict[str, str]:
    subject = Subject(name, seed)
    found = {}
    for case in cases:
        if all(subject.supports(feature) for feature in case.needs):
            verdict = execute(case, subject)
            assert isinstance(verdict, Verdict)
            if verdict.status != "pass":
                found[case.id] = verdict.findings[0].message
    return found


@contextmanager
def registered(backend: WrongBackend) -> Iterator[str]:
    spec = BackendSpec(name=NAME, factory="seqcore:mutant", spi=SPI_VERSION)
    with registry.temporarily(spec, lambda: backend):
        yield NAME


def caught(backend: WrongBackend, clause: str) -> list[str]:
    """The cases of a clause that fail on a backend."""
    cases = [case for case in laws() if clause in case.clauses and case.tier != "full"]
    with registered(backend) as name:
        return list(departures(cases, name))


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
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads that wait for each other take minutes
    try:
        assert departures([case for case in laws() if case.tier != "full"], "torch") == {}
    finally:
        torch.set_num_threads(threads)


def test_an_honest_backend_behind_the_same_border_keeps_every_law() -> None:
    with registered(WrongBackend(Twisted())) as name:
        assert departures(laws(), name) == {}


def test_calls_are_the_same_for_a_label_and_others_for_another() -> None:
    subject = Subject("numpy")
    one, same, other = (draw(subject, MAIN["lstm"], label) for label in ("a", "a", "b"))
    assert one.x.tobytes() == same.x.tobytes() != other.x.tobytes()
    assert one.cotangents[0].tobytes() == same.cotangents[0].tobytes()


def test_results_have_every_output_and_gradient() -> None:
    subject = Subject("numpy")
    found = results_of(subject, draw(subject, MAIN["lstm"], "a"))
    arguments = ("kernel", "recurrent_kernel", "bias", "x", "initial_state.h", "initial_state.c")
    assert list(found) == [
        *("y", "h", "c"),
        *("vjp's y", "vjp's h", "vjp's c"),
        *(f"gradient of {name}" for name in arguments),
    ]


def test_a_mask_off_by_one_only_backwards_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if mask is not None and request.layer.go_backwards:
            mask = np.roll(mask, 1, 1)
        return weights, x, mask, state

    found = caught(WrongBackend(Twisted(before=before)), "MASK-1")
    assert "MASK-1/masked-steps-may-lie-anywhere/bidirectional" in found
    assert "MASK-1/masked-steps-may-lie-anywhere/lstm" not in found


def test_nan_that_spreads_from_under_the_mask_is_caught() -> None:
    class Multiplied(SameOps):
        def where(self, condition: Any, a: Any, b: Any) -> Any:
            return (
                a * condition.astype(a.dtype) if np.ndim(b) == 0 else super().where(condition, a, b)
            )

    assert caught(WrongBackend(ops=Multiplied()), "MASK-6")


def test_a_carried_state_that_arithmetic_has_touched_is_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence, tuple(value + np.float32(0) for value in final)  # -0 becomes 0

    assert caught(WrongBackend(Twisted(after=after)), "MASK-3")


def test_cotangents_that_fade_are_caught() -> None:
    def gradients(request: Any, parts: Any) -> Any:
        d_weights, d_x, d_state = parts
        return d_weights, d_x, tuple(d * d.dtype.type(1 - 1e-3) for d in d_state)

    backend = WrongBackend(Twisted(gradients=gradients))
    assert caught(backend, "MASK-8")
    assert caught(backend, "GRAD-3")
    assert caught(backend, "DTYPE-4")
    assert caught(backend, "GRAD-2") == []


def test_a_backend_that_writes_into_its_input_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        x = call[1]
        if x.flags.writeable:
            x += 0.5
        return call

    assert caught(WrongBackend(Twisted(before=before)), "PURE-1")


def test_rows_that_share_are_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence + 0 * call[1].sum(dtype=sequence.dtype), final

    backend = WrongBackend(Twisted(after=after))
    with np.errstate(invalid="ignore"):
        assert caught(backend, "PURE-4")


def test_states_that_are_rounded_late_are_caught() -> None:
    class Lazy(SameOps):
        def cast(self, x: Any, dtype: str) -> Any:
            down = dtype == "bfloat16" and x.dtype == np.float32 and x.ndim == 2
            return x if down else super().cast(x, dtype)

    assert "DTYPE-4/states-are-rounded-at-each-step/bfloat16/lstm" in caught(
        WrongBackend(ops=Lazy()), "DTYPE-4"
    )


def test_products_summed_in_a_half_type_are_caught() -> None:
    class Narrow(SameOps):
        def matmul(self, a: Any, b: Any) -> Any:
            if a.shape[-1] != 64:
                return super().matmul(a, b)
            whole = super().matmul(a[..., ::2], b[::2]).astype(np.float16)
            rest = super().matmul(a[..., 1::2], b[1::2]).astype(np.float16)
            return (whole + rest).astype(a.dtype)

    assert "DTYPE-5/sums-of-products-are-wide/float16" in caught(
        WrongBackend(ops=Narrow()), "DTYPE-5"
    )


def test_tf32_that_is_always_on_is_caught() -> None:
    class Lossy(SameOps):
        def matmul(self, a: Any, b: Any) -> Any:
            a, b = (precision.rounded(v, "tf32") if v.dtype == np.float32 else v for v in (a, b))
            return super().matmul(a, b)

    assert len(caught(WrongBackend(ops=Lossy()), "PREC-1")) == 2


def test_the_roundings_are_those_of_ml_dtypes() -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    with np.errstate(over="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(precision.rounded(numbers, "bfloat16"), expected)
