"""`pytest --pyargs seqcore.conformance --seqcore-backend NAME`."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqcore.conformance import engines
from seqcore.conformance.suite import Suite
from seqcore.errors import SeqcoreError


class TestBackend(Suite):
    """The suite on the backend that the command line names."""

    @classmethod
    def _choose(cls, config: pytest.Config) -> None:
        name = config.getoption("seqcore_backend")
        if not name:
            raise pytest.Collector.CollectError(
                "--seqcore-backend: missing, expected the name of a backend or module:factory"
            )
        try:
            engines.check(name, {}, str(Path.cwd()))
        except SeqcoreError as error:
            raise pytest.Collector.CollectError(f"--seqcore-backend: {error}") from None
        cls.backend = name
        cls.tier = config.getoption("seqcore_tier")
