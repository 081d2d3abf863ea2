"""What the installed distribution holds, and what the project's files promise about it."""

import re
import subprocess
from importlib.metadata import Distribution, distribution
from importlib.resources import files
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import seqcore

PROJECT = Path(__file__).resolve().parent.parent
FRAMEWORKS = {"flax", "jax", "keras", "onnxruntime", "tensorflow", "torch"}
COMMANDS = {
    "Run it": (".venv", "pip install .", "seqcore demo"),
    "Test it": (".venv-test", "-c constraints.txt", "pytest"),
}


@pytest.fixture(scope="module")
def installed() -> Distribution:
    return distribution("seqcore")


def requirements(installed: Distribution) -> list[Requirement]:
    return [Requirement(line) for line in installed.requires or ()]


def pins() -> dict[str, str]:
    lines = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pinned}


def readme_block(heading: str, language: str) -> str:
    """The first code block in that language under that heading of the README."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    found = re.search(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} block under '## {heading}'"
    return found[1]


def test_the_backends_are_registered_by_entry_points(installed: Distribution) -> None:
    registered = installed.entry_points.select(group="seqcore.backends")
    assert {entry.name: entry.value for entry in registered} == {
        name: f"seqcore_{name}.registration" for name in ("numpy", "torch", "tensorflow", "jax")
    }


def test_the_command_is_installed(installed: Distribution) -> None:
    (script,) = installed.entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("seqcore", "seqcore.cli:main")
    assert callable(script.load())


def test_the_package_and_its_metadata_state_one_version(installed: Distribution) -> None:
    assert seqcore.__version__ == installed.version


def test_the_types_are_shipped() -> None:
    assert files("seqcore").joinpath("py.typed").is_file()


def test_the_core_requires_no_framework(installed: Distribution) -> None:
    core = {r.name for r in requirements(installed) if r.marker is None}
    assert "numpy" in core
    assert core.isdisjoint(FRAMEWORKS)


def test_the_extra_all_is_every_framework(installed: Distribution) -> None:
    frameworks = {
        r.name
        for r in requirements(installed)
        if r.marker and r.marker.evaluate({"extra": r.name}) and r.name in FRAMEWORKS
    }
    assert frameworks == {"jax", "tensorflow", "torch"}
    everything = [r for r in requirements(installed) if str(r.marker) == 'extra == "all"']
    assert set.union(*(r.extras or {r.name} for r in everything)) == frameworks


def test_every_requirement_is_pinned_within_its_range(installed: Distribution) -> None:
    pinned = pins()
    for requirement in requirements(installed):
        name = canonicalize_name(requirement.name)
        if name == "seqcore":
            continue
        assert name in pinned, f"constraints.txt does not pin {name}"
        assert requirement.specifier.contains(pinned[name]), f"{requirement}, not {pinned[name]}"


@pytest.mark.parametrize("heading", COMMANDS)
def test_ci_runs_the_commands_of_the_readme(heading: str) -> None:
    stated = readme_block(heading, "sh")
    for part in COMMANDS[heading]:
        assert part in stated
    run = subprocess.run(
        ["bash", PROJECT / ".ci" / "run", "readme", heading],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == stated


def test_ci_refuses_a_heading_that_the_readme_does_not_have() -> None:
    run = subprocess.run(
        ["bash", PROJECT / ".ci" / "run", "readme", "No such heading"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert "No such heading" in run.stderr


def test_the_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(readme_block("Use it", "python"), "README.md", "exec"), names)
    assert (tmp_path / "model.safetensors").is_file()
    assert capsys.readouterr().out
    assert getattr(names["y"], "shape", None) == (3, 4)
