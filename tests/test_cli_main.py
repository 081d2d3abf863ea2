"""The command line as a whole: help, exit codes, and where output goes."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Shell, process, shell_fixture  # noqa: F401 - found by its name
from seqcore import __version__
from seqcore.cli import COMMANDS, common
from seqcore.registry import registry
from seqcore.spi.registration import BackendSpec, Option
from seqcore_numpy.backend import NumpyBackend


def test_help_names_every_command_and_the_exit_codes(shell: Shell) -> None:
    out = shell.ok("--help").out
    assert all(f"\n    {command} " in out for command in COMMANDS)
    assert "exit codes: 0 " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(shell: Shell, command: str) -> None:
    out = shell.ok(command, "--help").out
    assert out.startswith(f"usage: seqcore {command} ")
    assert f"  seqcore {command}" in out.split("examples:")[1]


def test_version(shell: Shell) -> None:
    assert shell.ok("--version").out == f"seqcore {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["demo", "--nonsense"],
        ["demo", "--option", "matmul_precision"],
        ["run", "layer.toml"],
        ["run", "layer.toml", "--input", "x.npy", "--output", "y.npy", "--batch-size", "0"],
        ["run", "layer.toml", "--input", "x.npy", "--output", "y.npy", "--seed", "one"],
        ["init", "layer.toml", "--features", "0", "--output", "m.safetensors"],
        ["explain", "layer.toml", "--mask", "some"],
    ],
)
def test_wrong_usage_is_exit_code_2(shell: Shell, arguments: list[str]) -> None:
    result = shell(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert "usage: seqcore" in result.err


def test_an_error_of_ours_is_one_line_and_exit_code_1(shell: Shell) -> None:
    result = shell("demo", "--backend", "nunpy")
    assert "'nunpy'" in result.error
    assert "did you mean 'numpy'" in result.error
    assert result.out == ""


def test_an_error_nobody_expected_keeps_its_traceback(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise RuntimeError("not ours")

    monkeypatch.setattr("seqcore.config.configuration.effective", fail)
    with pytest.raises(RuntimeError, match="not ours"):
        shell("config")


def test_ctrl_c_is_one_line_and_exit_code_130(
    shell: Shell,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("seqcore.config.configuration.effective", interrupt)
    result = shell("config")
    assert (result.code, result.out, result.err) == (130, "", "seqcore: interrupted\n")


class Typed(NumpyBackend):
    """NumPy with an option of every type."""

    name = "typed"


TYPED = BackendSpec(
    name="typed",
    factory="nowhere:make",
    spi="1.0",
    options={
        "threads": Option(type="int", default=1),
        "fast": Option(type="bool", default=False),
        "mode": Option(type="str", default="a"),
    },
)


def test_options_are_read_as_the_type_that_they_declare(shell: Shell) -> None:
    given = {"threads": "4", "fast": "true", "mode": "4", "matmul_precision": "tf32"}
    args = argparse.Namespace(backend="typed", option=list(given.items()))
    with registry.temporarily(TYPED, Typed):
        assert common.options(args) == given | {"threads": 4, "fast": True}
        for option, message in {
            "threads=four": "option 'threads': received 'four', expected an integer",
            "fast=perhaps": "option 'fast': received 'perhaps', expected true or false",
            "speed=1": "'speed' is not taken",
        }.items():
            assert message in shell("demo", "--backend", "typed", "--option", option).error


def test_an_option_with_a_value_that_is_near(shell: Shell) -> None:
    error = shell("demo", "--option", "matmul_precision=tf23").error
    assert "'tf23' (did you mean 'tf32'?), expected one of highest, tf32, bfloat16" in error


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)  # before anything is written
    with os.fdopen(write, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "seqcore", "demo", "--json"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            check=False,
        )
    assert (done.returncode, done.stderr) == (141, "")


def test_help_loads_no_more_than_it_needs() -> None:
    code = (
        "import json, sys; from seqcore.cli import main; main(['run', '--help']);"
        "print(json.dumps([*sys.modules]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(json.loads(done.stderr))
    assert "seqcore.cli.run" in modules
    assert modules.isdisjoint({"seqcore.cli.bench", "seqcore.cli.demo", "rich", "safetensors"})


def test_python_m_seqcore_is_the_same_command(tmp_path: Path) -> None:
    done = process("config", "--nonsense", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: seqcore config ")
