"""The four backends, and the environment in which a test starts a process for one."""

from __future__ import annotations

import os

FRAMEWORKS = ("numpy", "torch", "jax", "tensorflow")


def environment() -> dict[str, str]:
    """Return this process's variables without those that choose a backend or its options."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SEQCORE_", "KERAS_"))
    }
