"""`docs/write-a-backend.md` is a road that was walked: this test walks it as it stands.

It starts with a virtual environment that has seqcore and nothing of the plugin, and does what the
page says, block by block, in one folder:

- `sh` runs in bash, and fails where the command fails; `# exits with 1` at the end of a command
  says that it must. `cd` holds for the blocks that follow.
- `python` with the first line `# path/to/file.py` is that file, whole. With `# in path/to/file.py`
  it is put in place in it: what has a name that the file has replaces that, anything else is added
  behind the others. Any other block is run in a process of its own.
- `toml` with the first line `# file.toml` is that file; with `# add to file.toml` it is appended.
- `text` is what the command before it printed: each of its lines occurs there, `...` being any.

pip is kept from the network. The plugin is built and installed by it all the same.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import stat
import subprocess
import sys
import sysconfig
import venv
from importlib.resources import files
from pathlib import Path

import pytest

from seqcore import spi
from seqcore.spi import FEATURES, SPI_VERSION, hookspecs

PAGE = Path(__file__).resolve().parent.parent / "docs" / "write-a-backend.md"
FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
WHOLE_FILE = re.compile(r"# (?P<name>[\w./-]+\.\w+)\n")
IN_FILE = re.compile(r"# in (?P<name>[\w./-]+\.\w+)\n")
APPENDED = re.compile(r"# add to (?P<name>[\w./-]+\.\w+)\n")
FAILS = "# exits with 1"


def text_of_page() -> str:
    return PAGE.read_text(encoding="utf-8")


class Walker:
    """Somebody who follows the page, in a folder and an environment of their own."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "work"
        self.folder.mkdir()
        self.output = ""
        self._home = home
        commands = make_environment(home / "venv")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SEQCORE_", "PIP_"))}
        self._env = {
            **inherited,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def read(self, language: str, code: str) -> None:
        match language:
            case "sh":
                self._run(code)
            case "text":
                for line in code.splitlines():
                    parts = map(re.escape, line.strip().split("..."))
                    assert re.search(".*".join(parts), self.output), f"{line}\nin\n{self.output}"
            case "python" | "toml":
                self._write(language, code)
            case _:
                pytest.fail(f"a block in {language!r} is never checked")

    def _write(self, language: str, code: str) -> None:
        if whole := WHOLE_FILE.match(code):
            (self.folder / whole["name"]).write_text(code[whole.end() :], encoding="utf-8")
        elif inside := IN_FILE.match(code):
            path = self.folder / inside["name"]
            text = put_in_place(path.read_text(encoding="utf-8"), code[inside.end() :])
            path.write_text(text, encoding="utf-8")
        elif appended := APPENDED.match(code):
            with (self.folder / appended["name"]).open("a", encoding="utf-8") as file:
                file.write("\n" + code[appended.end() :])
        else:
            assert language == "python", "a table that is no file is never read"
            self._check(["python", "-c", code], code)

    def _run(self, code: str) -> None:
        # The build tools are there, and pip need not fetch them.
        offline = re.sub(r"(pip (?:install|wheel)) ", r"\1 --no-build-isolation ", code)
        # The one command that must fail is turned round.
        lines = [f"! {line}" if line.endswith(FAILS) else line for line in offline.splitlines()]
        assert len(lines) == 1 or FAILS not in code, "its exit code would go unseen"
        where = self._home / "where"
        script = "\n".join([*lines, f"pwd > {where}"]) if FAILS not in code else lines[0]
        self._check(["bash", "-euo", "pipefail", "-c", script], code)
        if FAILS not in code:
            self.folder = Path(where.read_text(encoding="utf-8").strip())

    def _check(self, command: list[str], code: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        self.output = done.stdout
        assert done.returncode == 0, f"{code}\n{self.output}"


def make_environment(folder: Path) -> Path:
    """Make a virtual environment that sees what this one does; return where its commands are."""
    venv.create(folder, symlinks=True)
    commands = folder / "bin"
    python = commands / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    target = subprocess.check_output([python, "-c", ask], text=True).strip()
    seen = [path for path in sys.path if path and Path(path).is_dir() and "site-packages" in path]
    lines = [f"import site; site.addsitedir({path!r})" for path in seen]
    Path(target, "parent.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in ("seqcore", "mypy"):
        command = commands / name
        command.write_text(f'#!/bin/sh\nexec "{python}" -m {name} "$@"\n', encoding="utf-8")
        command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (commands / "ruff").symlink_to(Path(sysconfig.get_path("scripts"), "ruff"))
    return commands


# ---- putting a piece of code into a file ---------------------------------------------------------


def put_in_place(text: str, piece: str) -> str:
    """Return a module's source with the definitions, imports and assignments of a piece in it."""
    for node in ast.parse(piece).body:
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                text = _placed(text, piece, member, node.name)
        else:
            text = _placed(text, piece, node, None)
    return text


def _placed(text: str, piece: str, node: ast.stmt, owner: str | None) -> str:
    """Return a source with one statement in it, in a class of it or at its top level."""
    tree = ast.parse(text)
    body = tree.body
    if owner is not None:
        (body,) = (x.body for x in tree.body if isinstance(x, ast.ClassDef) and x.name == owner)
    lines, new = text.splitlines(), _lines(piece, node)
    for old in body:
        if _name(node) is not None and _name(old) == _name(node):
            first, last = _extent(old)
            return "\n".join([*lines[: first - 1], *new, *lines[last:]]) + "\n"
    imports = isinstance(node, ast.Import | ast.ImportFrom)
    before = [x for x in body if isinstance(x, ast.Import | ast.ImportFrom)] if imports else body
    end = _extent(before[-1])[1]
    gap = [] if imports else [""] if owner else ["", ""]
    return "\n".join([*lines[:end], *gap, *new, *lines[end:]]) + "\n"


def _name(node: ast.stmt) -> str | None:
    match node:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
            return name
        case ast.ImportFrom(module=module):
            return f"from {module}"
    return None


def _extent(node: ast.stmt) -> tuple[int, int]:
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    assert node.end_lineno is not None
    return first, node.end_lineno


def _lines(source: str, node: ast.stmt) -> list[str]:
    first, last = _extent(node)
    return source.splitlines()[first - 1 : last]


# ---- the road ------------------------------------------------------------------------------------


def test_the_road_can_be_walked(tmp_path: Path) -> None:
    walker = Walker(tmp_path)
    blocks = list(FENCE.finditer(text_of_page()))
    assert blocks
    for block in blocks:
        walker.read(block["language"], block["code"])


# ---- the reference -------------------------------------------------------------------------------


HOOKS = [name for name in vars(hookspecs) if name.startswith("seqcore_")]


@pytest.mark.parametrize("hook", HOOKS)
def test_each_hook_is_documented_and_answered_on_the_road(hook: str) -> None:
    """What the road defines is installed and run there; the first of them `plugin new` writes."""
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"| `{hook}({arguments})` |" in text_of_page()
    template = files("seqcore.cli.plugin").joinpath("template", "registration.py.txt")
    code = [block["code"] for block in FENCE.finditer(text_of_page())]
    assert any(f"def {hook}(" in text for text in [*code, template.read_text("utf-8")])


def test_every_feature_and_every_public_name_of_the_spi_is_there() -> None:
    page = text_of_page()
    for feature, what in FEATURES.items():
        assert f"| `{feature}` | {what} |" in page
    missing = [name for name in spi.__all__ if f"`{name}`" not in page]
    assert not missing
    assert f"now `{SPI_VERSION}`" in page
