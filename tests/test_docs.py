"""The documentation's examples run as they stand.

Each page's code blocks run from the first to the last in one folder:

- a block whose first line is `# name.suffix` is also written to that file, without the line; one
  of `python` is only that;
- `toml` and `json` blocks with a `type` must describe a layer; others need such a first line;
- `python` blocks run in one namespace, `sh` blocks in bash with `seqcore` on the path.
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import seqcore as sc

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGES = ("command-line.md", "configuration.md", "formats.md", "move-a-model.md")
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
FILE_NAME = re.compile(r"# (?P<name>[\w.-]+\.\w+)\n")


class Reader:
    """Does what a reader of one page would do, block by block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._names: dict[str, Any] = {"__name__": "__example__"}
        commands = folder.parent / "commands"
        commands.mkdir()
        seqcore = commands / "seqcore"
        seqcore.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m seqcore "$@"\n')
        seqcore.chmod(seqcore.stat().st_mode | stat.S_IXUSR)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SEQCORE_")}
        self._env = {**inherited, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}

    def read(self, language: str, code: str) -> None:
        named = FILE_NAME.match(code)
        if named is not None:
            code = code[named.end() :]
            (self.folder / named["name"]).write_text(code, encoding="utf-8")
        match language:
            case "toml" | "json":
                data = tomllib.loads(code) if language == "toml" else json.loads(code)
                if "type" in data:
                    (sc.from_toml if language == "toml" else sc.from_json)(code)
                else:
                    assert named is not None, "neither a layer nor a file"
            case "csv":
                assert named is not None, "a table that is no file is never read"
            case "python" if named is not None:
                pass
            case "python":
                exec(compile(code, "<example>", "exec"), self._names)
            case "sh":
                self._run(code)
            case _:
                pytest.fail(f"a block in {language!r} is never checked")

    def _run(self, code: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"


# What Keras does with its own variables, and NumPy deprecates.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "page"
    folder.mkdir()
    monkeypatch.chdir(folder)
    reader = Reader(folder)
    blocks = list(FENCE.finditer((DOCS / page).read_text(encoding="utf-8")))
    assert blocks
    for block in blocks:
        reader.read(block["language"], block["code"])


def test_every_command_is_documented() -> None:
    from seqcore.cli import COMMANDS

    text = (DOCS / "command-line.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert re.search(rf"^\| \[?`{command}`", text, re.MULTILINE), command
        if command != "bench":  # which has a page of its own
            assert re.search(rf"^## {command}$", text, re.MULTILINE), command


def test_every_common_option_is_documented() -> None:
    from seqcore.registry import COMMON_OPTIONS

    text = (DOCS / "configuration.md").read_text(encoding="utf-8")
    for name, option in COMMON_OPTIONS.items():
        (row,) = re.findall(rf"^\| `{name}` \|.*$", text, re.MULTILINE)
        assert all(f"`{choice}`" in row for choice in option.choices)
