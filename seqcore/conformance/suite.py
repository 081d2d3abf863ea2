"""The suite as a class of tests, for pytest."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from seqcore.conformance.cases import of_tier
from seqcore.conformance.explanation import explained
from seqcore.conformance.model import Case, Tier, Verdict
from seqcore.conformance.plugins import collect, require_extra
from seqcore.conformance.report.model import Row
from seqcore.conformance.runner import EngineFailed, Runner, Settings
from seqcore.conformance.session import judged
from seqcore.conformance.waivers import Waiver, from_plugins, read, reason, uses

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

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        """Make a test of each case."""
        if "case" not in metafunc.fixturenames:
            return
        require_extra("pytest", "hypothesis")
        cls._choose(metafunc.config)
        cases = of_tier(collect(), cls.tier)
        metafunc.parametrize("case", cases, ids=[case.id for case in cases])

    @classmethod
    def setup_class(cls) -> None:
        """Start afresh; the process begins with the first test."""
        settings = Settings(
            seed=cls.seed, timeout=cls.timeout, memory=cls.memory, options=dict(cls.options)
        )
        cls._runner = Runner(cls.backend, settings)
        cls._verdicts = {}
        cls._name = cls.backend

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
        """Check which backend is tested."""
        import pytest

        if not cls.backend:
            raise pytest.Collector.CollectError(
                f"{cls.__name__}: backend is empty, expected its name or module:factory"
            )

    def _run(self, case: Case) -> Verdict:
        import pytest

        cls = type(self)
        assert cls._runner is not None
        try:
            cls._name = cls._runner.start().name
            verdict = judged(case, cls._runner.run(case), self.seed)
        except EngineFailed as error:
            pytest.fail(f"backend {self.backend!r}: {error}\n{error.details}", pytrace=False)
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
