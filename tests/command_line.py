"""Running the command line in a test: in this process, or in one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from seqcore.cli import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one message of a command that failed as it should."""
        assert self.code == 1, (self.out, self.err)
        lines = [line for line in self.err.splitlines() if "warning" not in line]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("seqcore: error: ")
        return lines[0].removeprefix("seqcore: error: ")


class Shell:
    """Runs commands in a folder of the test's own, away from any configuration."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Result:
        self._capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        return Result(code, captured.out, captured.err)

    def ok(self, *arguments: str | Path) -> Result:
        result = self(*arguments)
        assert result.code == 0, result.err
        return result

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}


@pytest.fixture(name="shell")
def shell_fixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Shell:
    monkeypatch.chdir(tmp_path)
    for variable in [name for name in os.environ if name.startswith("SEQCORE_")]:
        monkeypatch.delenv(variable)
    return Shell(tmp_path, capsys)


def process(*arguments: str | Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own."""
    command = [sys.executable, "-m", "seqcore", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **changes)
