"""`pytest --pyargs seqcore.conformance --seqcore-backend NAME`."""

from __future__ import annotations

import pytest

from seqcore.conformance.suite import Suite


class TestBackend(Suite):
    """The suite on the backend that the command line names."""

    @classmethod
    def _choose(cls, config: pytest.Config) -> None:
        name = config.getoption("seqcore_backend")
        if not name:
            raise pytest.Collector.CollectError(
                "--seqcore-backend: missing, expected the name of a backend or module:factory"
            )
        cls.backend = name
        cls.tier = config.getoption("seqcore_tier")
