"""The laws on honest backends: they hold, and each asks for every feature that it uses.

That they hold on the other backends, too, is for `seqcore conform` to show, which `.ci/run` runs;
and with other seeds for `python -m seqcore.conformance.alarms`.
"""

from __future__ import annotations

import pytest

from law_cases import before_full, departures, laws, registered
from seqcore.conformance.cases import check_cases
from seqcore.conformance.clauses import clauses
from seqcore.conformance.mutants.wrong import Twisted, WrongBackend
from seqcore.spi import Capabilities

NATIVE = ("torch", "tensorflow", "jax")

pytestmark = [
    # PyTorch's decompositions use what PyTorch deprecates, and its compiler warns of what it lacks.
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Dynamo does not know:UserWarning"),
]


def test_every_clause_has_a_law() -> None:
    cited = {clause for case in laws() for clause in case.clauses}
    assert clauses().keys() - cited == set()


def test_laws_are_well_formed() -> None:
    check_cases(laws())


def test_numpy_keeps_every_law() -> None:
    assert departures("numpy", laws(), seed=0) == {}


@pytest.mark.clause("ARR-5")
def test_torch_transforms_calls() -> None:
    torch = pytest.importorskip("torch")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads that wait for each other take minutes
    try:
        cases = [case for case in before_full(laws()) if "ARR-5" in case.clauses]
        assert departures("torch", cases) == {}
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", NATIVE)
def test_what_is_not_declared_is_lacking(name: str) -> None:
    pytest.importorskip(name)
    assert departures(name, laws("CAP-2/what-is-not-supported-is-lacking")) == {}


def test_an_honest_backend_behind_the_same_border_keeps_every_law() -> None:
    with registered(WrongBackend(Twisted())) as name:
        assert departures(name, laws()) == {}


@pytest.mark.parametrize("feature", ["float32", "masks", "gradients", "gates"])
def test_laws_ask_for_what_they_use(feature: str) -> None:
    """Where a feature is lacking, no law that does not ask for it fails."""
    backend = WrongBackend()
    declared = backend.capabilities
    backend.capabilities = Capabilities(
        {**declared.unsupported, feature: "lacking"}, declared.not_implemented
    )
    # The gate is closed, but the backend can do it, which is what CAP-2 is there to find.
    cases = [case for case in before_full(laws()) if "CAP-2" not in case.clauses]
    with registered(backend) as name:
        assert departures(name, cases) == {}
