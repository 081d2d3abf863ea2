"""The conformance suite: proof that a backend does what the specification says.

For a plugin's own tests, in one of its test modules:

    from seqcore.conformance import Suite

    class TestMine(Suite):
        backend = "mine"
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqcore.conformance.laws import law, require, require_bits, require_close, require_error
    from seqcore.conformance.model import LawCase, ValueCase
    from seqcore.conformance.reproduction import run_case
    from seqcore.conformance.subject import Subject
    from seqcore.conformance.suite import Suite
    from seqcore.conformance.waivers import Waiver

_HOMES = {
    "LawCase": "model",
    "Subject": "subject",
    "Suite": "suite",
    "ValueCase": "model",
    "Waiver": "waivers",
    "law": "laws",
    "require": "laws",
    "require_bits": "laws",
    "require_close": "laws",
    "require_error": "laws",
    "run_case": "reproduction",
}

__all__ = [
    "LawCase",
    "Subject",
    "Suite",
    "ValueCase",
    "Waiver",
    "law",
    "require",
    "require_bits",
    "require_close",
    "require_error",
    "run_case",
]


def __getattr__(name: str) -> Any:
    # Only when asked for: pytest loads this package for its options in every run.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
