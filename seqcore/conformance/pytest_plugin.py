"""The options of `pytest --pyargs seqcore.conformance`, registered by an entry point.

Loaded in every run of pytest, so it imports nothing but what it is handed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("seqcore", "conformance of a seqcore backend")
    group.addoption(
        "--seqcore-backend",
        metavar="NAME",
        help="with --pyargs seqcore.conformance: the backend, or module:factory",
    )
    group.addoption(
        "--seqcore-tier",
        metavar="TIER",
        choices=("smoke", "standard", "full"),
        default="standard",
        help="smoke, standard or full (default: standard)",
    )
