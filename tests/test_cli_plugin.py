"""`seqcore plugin`: what `new` writes, and what `check` says of plugins that break their contract.

The road from one to the other, with real installs, is walked in `test_write_a_backend.py`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

import pytest

from seqcore.cli import main
from seqcore.cli.plugin import new
from seqcore.errors import ArgumentError, FileError
from seqcore.spi.version import SPI_VERSION

REGISTRATION = """
from seqcore.spi.registration import BackendSpec, hookimpl
{above}

@hookimpl
def seqcore_backends():
    {before}
    return [BackendSpec(name="{name}", factory="{factory}", spi="{spi}")]
"""

NAMED = """
from seqcore.spi.registration import BackendSpec, hookimpl

@hookimpl
def seqcore_backends():
    return [BackendSpec(name="{name}", factory="nowhere:make", spi="1.0")]
"""


def install(
    site: Path,
    name: str,
    *,
    above: str = "",
    before: str = "pass",
    spi: str = SPI_VERSION,
    factory: str = "seqcore.conformance.mutants.wrong:WrongBackend",
    source: str | None = None,
) -> None:
    """Install a distribution with one registration module into a folder of the path."""
    module = f"plugin_{name}"
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[seqcore.backends]\n{name} = {module}\n")
    (info / "RECORD").write_text("")
    text = REGISTRATION.format(above=above, before=before, name=name, factory=factory, spi=spi)
    (site / f"{module}.py").write_text(text if source is None else source)


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "seqcore", *arguments],
        env={**os.environ, "PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def check(site: Path, name: str, *options: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the exit code, the answer, and its steps by name."""
    done = run(site, "plugin", "check", name, "--json", *options)
    assert "Traceback" not in done.stderr, done.stderr
    answer = json.loads(done.stdout)
    return done.returncode, answer, {step["name"]: step for step in answer["steps"]}


# ---- new -----------------------------------------------------------------------------------------


def test_what_is_written_is_short_and_clean(tmp_path: Path) -> None:
    folder = tmp_path / "seqcore-my-chip"
    written = new.create("my-chip", folder)
    assert sorted(written) == sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
    )
    assert not any("__" in path.replace("__init__", "") for path in written)
    text = "".join(path.read_text() for path in folder.rglob("*") if path.is_file())
    assert "__NAME__" not in text
    assert "__PACKAGE__" not in text
    code = [*(folder / "seqcore_my_chip").glob("*.py"), *(folder / "tests").glob("*.py")]
    lines = [line for path in code for line in path.read_text().splitlines() if line.strip()]
    assert len(lines) < 160, "five minutes to read"
    scripts = Path(sysconfig.get_path("scripts"))
    environment = {**os.environ, "MYPYPATH": str(folder)}
    for command in (
        [scripts / "ruff", "check", "--no-cache", "."],
        [scripts / "ruff", "format", "--no-cache", "--check", "."],
        [scripts / "mypy", "--cache-dir", tmp_path / "cache"],
    ):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_says_what_is_there_and_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["plugin", "new", "tiny"]) == 0
    shown = capsys.readouterr().out
    assert "seqcore_tiny/backend.py" in shown
    assert "seqcore plugin check" in shown
    assert (tmp_path / "seqcore-tiny" / "pyproject.toml").is_file()
    assert main(["plugin", "new", "tiny"]) == 1
    assert "is not empty, and nothing is replaced" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Chip", "My_Chip"),
        ("9lives", "9lives"),
        ("", "''"),
        ("../up", "up"),
        ("numpy", "taken"),
        ("torch", "taken"),
        ("diff", "a word of `seqcore conform`"),
        ("x" * 41, "41 characters, expected 40 at most"),
    ],
)
def test_a_name_that_cannot_be_is_refused(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="plugin new") as caught:
        new.create(name, tmp_path / "there")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_filled_and_a_file_is_not_replaced(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert new.create("tiny", empty)
    assert (empty / ".github" / "workflows" / "ci.yml").is_file()
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(FileError, match="is a file"):
        new.create("tiny", file)
    with pytest.raises(FileError, match="there is no folder"):
        new.create("tiny", tmp_path / "no" / "where")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_an_attempt_that_ends(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugin"
    if there:
        folder.mkdir()
    write = Path.write_text
    written: list[Path] = []

    def interrupted(path: Path, *given: Any, **more: Any) -> int:
        written.append(path)
        if len(written) == 4:
            raise KeyboardInterrupt
        return write(path, *given, **more)

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        new.create("tiny", folder)
    assert list(tmp_path.rglob("*")) == ([folder] if there else [])


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("0.1.0", "seqcore>=0.1,<0.2"),
        ("1.3.2", "seqcore>=1.3,<2"),
        ("0.9.dev1", "seqcore>=0.9,<0.10"),
    ],
)
def test_a_plugin_pins_to_the_releases_that_keep_the_spi(version: str, wanted: str) -> None:
    assert new.seqcore_range(version) == wanted


# ---- check ---------------------------------------------------------------------------------------


def test_a_backend_that_keeps_its_contract_passes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seqcore", "plugin", "check", "numpy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith(("pass  ", "next: ")) for line in lines), done.stdout
    assert "pass  numpy: conformance: smoke tier: PASSED" in done.stdout
    assert lines[-1] == "next: the whole proof: seqcore conform numpy"


@pytest.mark.parametrize(
    ("name", "given", "step", "message"),
    [
        ("raises", {"above": "raise RuntimeError('no such device')"}, "registration", "no such"),
        ("exits", {"above": "raise SystemExit(3)"}, "registration", "SystemExit"),
        ("aborts", {"above": "import os; os.abort()"}, "registration", "SIGABRT"),
        ("hangs", {"above": "import time; time.sleep(600)"}, "registration", "5 s"),
        ("silent", {"source": ""}, "registration", "does not answer the hook"),
        ("newer", {"spi": "99.0"}, "description", "99.0"),
        ("prints", {"above": "print('hello')"}, "output", "hello"),
        ("sleeps", {"before": "import time; time.sleep(1.5)"}, "time", "ms"),
        ("heavy", {"above": "import scipy"}, "imports", "scipy"),
        ("absent", {"factory": "nowhere:make"}, "factory", "nowhere"),
        ("aborting", {"factory": "plugin_aborting:stop"}, "factory", "SIGABRT"),
        (
            "misnamed",
            {"source": NAMED.format(name="other")},
            "name",
            "expected a backend",
        ),
        ("garbled", {"source": "def broken(:"}, "registration", "plugin_garbled.py, line 1"),
        pytest.param(
            "greedy",
            {"above": "held = []\nwhile True: held.append(b'x' * 2**26)"},
            "registration",
            "more than 4 GiB of memory",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="watched on Linux only"),
        ),
    ],
)
def test_what_breaks_the_contract_is_one_clear_line(
    name: str, given: dict[str, str], step: str, message: str, tmp_path: Path
) -> None:
    if name == "aborting":
        given = given | {"above": "import os\ndef stop(): os.abort()"}
    install(tmp_path, name, **given)
    seconds = "120" if name == "greedy" else "5"  # a busy machine is slow to give 4 GiB
    code, answer, steps = check(tmp_path, name, "--timeout", seconds)
    assert code == 1
    assert answer["passed"] is False
    assert steps[step]["status"] == "fail"
    assert message in steps[step]["message"]
    assert steps[step]["advice"]
    assert answer["next"].endswith(f"seqcore plugin check {name}")


def test_a_backend_that_ends_its_process_is_not_the_next_one_s_fault(tmp_path: Path) -> None:
    source = """
import os
from seqcore.conformance.mutants.wrong import WrongBackend
from seqcore.spi.registration import BackendSpec, hookimpl

@hookimpl
def seqcore_backends():
    return [
        BackendSpec(name=name, factory=f"plugin_first:{name}", spi="1.0")
        for name in ("first", "second")
    ]

def first():
    os.abort()

def second():
    backend = WrongBackend()
    backend.name = "second"
    return backend
"""
    install(tmp_path, "first", source=source)
    entries = "[seqcore.backends]\nfirst = plugin_first\nsecond = plugin_first\n"
    (tmp_path / "plugin_first-1.0.dist-info" / "entry_points.txt").write_text(entries)
    done = run(tmp_path, "plugin", "check", "first")
    assert "fail  first: factory: the process ended with signal SIGABRT" in done.stdout
    done = run(tmp_path, "plugin", "check", "second")
    assert "pass  second: factory: " in done.stdout, done.stdout
    # Two entries may name one module, of which each gives the same backends.
    code = "from seqcore.registry import registry as r; print(r.names(), r.problems())"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    shown = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert "'first'" in shown
    assert "'second'" in shown
    assert shown.endswith("[]\n"), shown


@pytest.mark.parametrize(
    "loss", ["np.float16(value).astype(kind)", "np.abs(value)", "value.T.copy()"]
)
def test_a_border_that_loses_something_is_named(loss: str, tmp_path: Path) -> None:
    source = f"""
import numpy as np
from seqcore.spi import HostBackend, Generic
from seqcore.spi.registration import BackendSpec, hookimpl

class Lossy(HostBackend):
    name = "lossy"
    implementations = (Generic(HostBackend.ops),)

    def version(self):
        return "1"

    def asarray(self, value, dtype, device):
        value = super().asarray(value, dtype, device)
        kind = value.dtype
        return {loss} if kind.kind == "f" else value

@hookimpl
def seqcore_backends():
    return [BackendSpec(name="lossy", factory="plugin_lossy:Lossy", spi="1.0")]
"""
    install(tmp_path, "lossy", source=source)
    code, _, steps = check(tmp_path, "lossy")
    assert code == 1
    assert steps["border"]["status"] == "fail"
    assert "float32: to_numpy returned" in steps["border"]["message"]


def test_an_unknown_hook_is_named(tmp_path: Path) -> None:
    more = "\n@hookimpl\ndef seqcore_backend(): pass\n"
    source = REGISTRATION.format(above="", before="pass", name="odd", factory="a:b", spi="1.0")
    install(tmp_path, "odd", source=source + more)
    code, _, steps = check(tmp_path, "odd")
    assert code == 1
    assert "seqcore_backend" in steps["registration"]["message"]


def test_a_name_that_belongs_to_another_distribution_is_not_its_own(tmp_path: Path) -> None:
    install(tmp_path, "thief", source=NAMED.format(name="numpy"))
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'plugin-thief'\n"
        "[project.entry-points.'seqcore.backends']\nthief = 'plugin_thief'\n"
    )
    code, _, steps = check(tmp_path, ".")
    assert code == 1
    assert steps["name"]["status"] == "fail"
    assert "it is claimed by an entry point of seqcore" in steps["name"]["message"]
    assert "conformance" not in steps


def test_what_is_no_plugin_is_refused(tmp_path: Path) -> None:
    for target, message in {
        "nimpy": "did you mean 'numpy'",
        ".": "there is no pyproject.toml",
        "no/where": "there is no pyproject.toml",
    }.items():
        done = run(tmp_path, "plugin", "check", target)
        assert done.returncode == 1
        assert message in done.stderr
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    done = run(tmp_path, "plugin", "check", ".")
    assert "declares none in the group seqcore.backends" in done.stdout
    (tmp_path / "pyproject.toml").write_text(
        "[project]\nname = 'mine'\n[project.entry-points.'seqcore.backends']\nmine = 'mine.r'\n"
    )
    done = run(tmp_path, "plugin", "check", ".")
    assert "mine is not installed" in done.stdout
    assert "next: python -m pip install -e ." in done.stdout
    (tmp_path / "pyproject.toml").write_text("[project\n")
    assert "expected TOML" in run(tmp_path, "plugin", "check", ".").stderr


# ---- what a plugin cannot do to others -----------------------------------------------------------


def test_a_slow_plugin_slows_neither_seqcore_nor_another_backend(tmp_path: Path) -> None:
    install(tmp_path, "slow", above="import time; time.sleep(5)")
    code = (
        "import numpy as np, seqcore as sc\n"
        "layer = sc.LSTM(2)\n"
        "x = np.ones((1, 2, 3), np.float32)\n"
        "print(layer.apply(layer.init(3), x, backend='numpy').shape)\n"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "(1, 2)\n", done.stderr
    assert time.monotonic() - start < 5, "it waited for the slow one"
    listed = json.loads(run(tmp_path, "backends", "--json").stdout)
    (remark,) = (one for one in listed["remarks"] if one["name"] == "slow")
    assert remark["distribution"] == "plugin-slow"
    assert "expected less than 1 s" in remark["reason"]
