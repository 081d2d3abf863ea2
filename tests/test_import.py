"""What an import costs: no framework is loaded before a backend that needs it is used."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint, entry_points

import pytest

FRAMEWORKS = ("flax", "jax", "jaxlib", "keras", "onnx", "onnxruntime", "tensorflow", "torch")

REPORT = """
import json, sys
print()
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(code: str) -> set[str]:
    """The names of all modules that a new interpreter holds after running `code`."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code + REPORT], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def frameworks_in(modules: set[str]) -> set[str]:
    return modules.intersection(FRAMEWORKS)


def first_party() -> list[EntryPoint]:
    registered = entry_points(group="seqcore.backends")
    return [entry for entry in registered if entry.dist and entry.dist.name == "seqcore"]


def test_the_probe_sees_what_is_loaded() -> None:
    assert {"json", "colorsys"} <= modules_after("import colorsys")


def test_import_seqcore_loads_no_framework() -> None:
    modules = modules_after("import seqcore")
    assert "seqcore" in modules
    assert frameworks_in(modules) == set()


@pytest.mark.parametrize("entry", first_party(), ids=lambda entry: entry.name)
def test_a_registration_module_loads_no_framework(entry: EntryPoint) -> None:
    modules = modules_after(f"import {entry.module}")
    assert entry.module in modules
    assert frameworks_in(modules) == set()


def test_listing_the_backends_loads_no_framework() -> None:
    modules = modules_after(
        "import runpy, sys\n"
        "sys.argv = ['seqcore', 'backends']\n"
        "try:\n"
        "    runpy.run_module('seqcore', run_name='__main__')\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
    )
    assert "seqcore.registry" in modules
    assert frameworks_in(modules) == set()
