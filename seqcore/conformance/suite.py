"""The suite as a class of tests, for pytest."""

from __future__ import annotations

import datetime
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from seqcore.conformance.cases import of_tier
from seqcore.conformance.explanation import explained
from seqcore.conformance.model import TIERS, Case, Tier, Verdict
from seqcore.conformance.plugins import collect, require_extra
from seqcore.conformance.report.model import Row
from seqcore.conformance.runner import EngineFailed, Runner, Settings
from seqcore.conformance.session import judged
from seqcore.conformance.waivers import Waiver, from_plugins, read, reason, uses
from seqcore.errors import ArgumentError, SeqcoreError
from seqcore.spec.naming import nearest

if TYPE_CHECKING:
    import pytest


class Suite:
    """The conformance suite, one test for each case.

        class TestMine(Suite):
            backend = "mine"

    The backend runs in a process of its own: where it crashes, that test fails.

    Attributes:
        backend: A registered name, or `"module:factory"`.
        tier: `"smoke"`, `"standard"` or `"full"`.
        seed: From which every random array follows.
        timeout: Seconds that a case may take.
        memory: Bytes that the process may take.
        options: The backend's options.
        waivers: A TOML file with waivers; a waived failure is an expected one.
    """

    backend: ClassVar[str] = ""
    tier: ClassVar[Tier] = "standard"
    seed: ClassVar[int] = 0
    timeout: ClassVar[float] = Settings.timeout
    memory: ClassVar[int] = Settings.memory
    options: ClassVar[dict[str, str]] = {}
    waivers: ClassVar[str | Path | None] = None

    _runner: ClassVar[Runner | None] = None
    _verdicts: ClassVar[dict[str, Verdict]]
    _name: ClassVar[str]
    _explained: ClassVar[bool]

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Make a test of each case."""
        if "case" not in metafunc.fixturenames:
            return
        require_extra("pytest", "hypothesis")
        cls._choose(metafunc.config)
        check_attributes(cls)
        cases = of_tier(collect(), cls.tier)
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])

    @classmethod
    def setup_class(cls) -> None:
        """Start afresh; the process begins with the first test."""
        settings = Settings(
            seed=cls.seed,
            timeout=cls.timeout,
            memory=int(cls.memory),
            options=dict(cls.options),
        )
        cls._runner = Runner(cls.backend, settings)
        cls._verdicts = {}
        cls._name = cls.backend
        cls._explained = False

    @classmethod
    def teardown_class(cls) -> None:
        """End the process."""
        if cls._runner is not None:
            cls._runner.close()

    def test_case(self, case: Case) -> None:
        """The backend does what the clauses of a case say."""
        import pytest

        verdict = self._run(case)
        first = verdict.findings[0].message if verdict.findings else ""
        if verdict.status in ("unsupported", "not-implemented"):
            pytest.skip(f"{verdict.status}: {first}")
        waived = reason(self._all_waivers(), self._name, case, datetime.date.today())
        if verdict.status != "pass" and waived:
            pytest.xfail(f"waived: {waived}")
        if verdict.status != "pass":
            pytest.fail(explained(Row.of(case, verdict), self.backend), pytrace=False)

    def test_waivers_hold(self) -> None:
        """No waiver has expired, and each still covers a failure."""
        import pytest

        verdicts = {self._name: self._verdicts}
        used = uses(self._all_waivers(), collect(), verdicts, datetime.date.today())
        spoiled = [one for one in used if one.spoiled and one.backend == self._name]
        if spoiled:
            lines = [f"the waiver of {one.case or one.clause} is {one.state}" for one in spoiled]
            pytest.fail("\n".join(lines), pytrace=False)

    @classmethod
    def _choose(cls, config: pytest.Config) -> None:
        """Take from the command line what is tested; here all is in the class."""

    def _run(self, case: Case) -> Verdict:
        import pytest

        cls = type(self)
        assert cls._runner is not None
        failed: EngineFailed | None = None
        try:
            cls._name = cls._runner.start().name
            verdict = judged(case, cls._runner.run(case), self.seed)
        except EngineFailed as error:
            failed = error
        if failed is not None:  # outside, for what is raised inside shows its context, too
            details = "" if cls._explained else f"\n{failed.details}"
            cls._explained = True  # once is enough
            pytest.fail(f"backend {self.backend!r}: {failed}{details}", pytrace=False)
        cls._verdicts[case.id] = verdict
        return verdict

    @classmethod
    def _all_waivers(cls) -> Sequence[Waiver]:
        known = collect()
        path = cls.waivers
        return [
            *([] if path is None else read(Path(path), known)),
            *from_plugins(known),
        ]


_EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "backend": ("a name, or module:factory", lambda value: isinstance(value, str) and value != ""),
    "tier": (f"one of {', '.join(TIERS)}", lambda value: value in TIERS),
    "seed": ("an integer of 0 or more", lambda value: _is_integer(value) and value >= 0),
    "timeout": ("seconds above 0", lambda value: _is_number(value) and value > 0),
    "memory": ("bytes above 0", lambda value: _is_number(value) and value > 0),
    "options": (
        "texts by name",
        lambda value: (
            isinstance(value, Mapping)
            and all(isinstance(text, str) for item in value.items() for text in item)
        ),
    ),
    "waivers": ("a path, or None", lambda value: isinstance(value, str | Path | None)),
}
"""What each attribute of a suite has to be, in words and as a test."""


def check_attributes(suite: type[Suite]) -> None:
    """Check a suite's attributes, before any case; nothing of the backend is loaded.

    One that looks misspelt is warned of: a class may have attributes of its own.

    Raises:
        pytest.Collector.CollectError: if one cannot be.
    """
    import pytest

    for message in _misspelt(suite):
        warnings.warn(pytest.PytestWarning(f"{suite.__name__}: {message}"), stacklevel=2)
    try:
        for message in _faults(suite):
            raise ArgumentError(message)
        suite._all_waivers()
    except SeqcoreError as error:
        raise pytest.Collector.CollectError(f"{suite.__name__}: {error}") from None


def _misspelt(suite: type[Suite]) -> Iterator[str]:
    own = suite.__mro__[: suite.__mro__.index(Suite)]
    data = {
        name: value
        for one in own
        for name, value in vars(one).items()
        if not (name.startswith("_") or callable(value) or hasattr(value, "__get__"))
    }
    for name in data:
        meant = "" if name in _EXPECTED else nearest(name, _EXPECTED)
        if meant:
            yield f"the suite has no attribute {name!r}{meant}"


def _faults(suite: type[Suite]) -> Iterator[str]:
    for name, (expected, holds) in _EXPECTED.items():
        value = getattr(suite, name)
        if not holds(value):
            yield f"{name}: received {value!r:.80}, expected {expected}"


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))
