"""The machine that this process runs on, for reports."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np

Facts = dict[str, str | int | float]


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts() -> Facts:
    """Return what the times depend on, as far as it can be known without more packages."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    found: Facts = {
        "processor": _processor(),
        "processors": processors(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "seqcore": version("seqcore"),
        "numpy": np.__version__,
        "blas": f"{blas['name']} {blas['version']}",
    }
    if hasattr(os, "getloadavg"):
        # What else ran in the minute before: more than a little, and the times are not to be used.
        found["load"] = round(os.getloadavg()[0], 2)
    return found


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
