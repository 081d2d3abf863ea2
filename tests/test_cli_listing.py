"""`seqcore backends`, `config`, `explain` and `init`: what they say, to a reader and a program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, process, shell_fixture  # noqa: F401 - found by its name
from seqcore.cli.config import shown
from seqcore.spec.dtypes import DTYPES
from seqcore.spi.request import FEATURES

ANNOUNCES = """
from seqcore.spi.registration import BackendSpec, Option, hookimpl

@hookimpl
def seqcore_backends():
    return [BackendSpec(name="{name}", factory="{factory}", spi="1.0", {more})]
"""


def plugins(folder: Path, duplicate: bool = True) -> dict[str, str]:
    """Install plugins that miss something or are broken; return the environment with them."""
    modules = {
        "fine": ANNOUNCES.format(name="fine", factory="seqcore_numpy.backend:Absent", more=""),
        "lacking": ANNOUNCES.format(
            name="lacking",
            factory="nowhere:make",
            more=(
                "requires=('framework_nobody_has',), install_hint='pip install framework', "
                "options={'threads': Option(type='int', default=2, help='how many')}"
            ),
        ),
        "raising": "raise RuntimeError('no such device')",
        "silent": "",
        "numpy": ANNOUNCES.format(name="numpy", factory="nowhere:make", more=""),
    }
    if not duplicate:
        del modules["numpy"]
    for name, source in modules.items():
        info = folder / f"plugin_{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[seqcore.backends]\n{name} = plugin_{name}\n")
        (folder / f"plugin_{name}.py").write_text(source)
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_the_backends_and_what_they_can_do(shell: Shell) -> None:
    (numpy,) = (b for b in shell.ok("backends", "--json").json["backends"] if b["name"] == "numpy")
    assert numpy["installed"] is True
    assert numpy["version"] == np.__version__
    assert numpy["devices"] == ["cpu"]
    assert numpy["dtypes"] == list(DTYPES)
    assert set(numpy["features"]) == set(FEATURES) - set(DTYPES)
    assert numpy["features"]["tf32"]["support"] == "supported"
    assert numpy["features"]["vmap"]["support"] == "unsupported"
    assert numpy["features"]["vmap"]["reason"]
    assert numpy["options"]["matmul_precision"]["default"] == "highest"
    out = shell.ok("backends").out
    assert f"numpy: installed, version {np.__version__}\n" in out
    assert "unsupported     vmap: " in out
    assert "option matmul_precision = highest: " in out


def test_broken_and_missing_ones_are_named_and_stop_no_other(tmp_path: Path) -> None:
    env = plugins(tmp_path)
    done = process("backends", "--load", "--json", env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    problems = {p["distribution"]: p["reason"] for p in data["problems"]}
    assert "RuntimeError: no such device" in problems["plugin-raising"]
    assert "plugin-silent" in problems
    assert {p["name"] for p in data["problems"]} >= {"raising", "silent", "numpy"}
    assert "registered by" in problems["plugin-numpy"]
    backends = {backend["name"]: backend for backend in data["backends"]}
    assert "AttributeError" in backends["fine"]["problem"]
    assert backends["fine"]["version"] is None
    lacking = backends["lacking"]
    assert lacking["installed"] is False
    assert lacking["missing"] == ["framework_nobody_has"]
    assert lacking["install"] == "pip install framework"
    assert lacking["options"]["threads"]["default"] == 2

    out = process("backends", "--load", env=env, cwd=tmp_path).stdout
    assert "lacking: not installed, missing framework_nobody_has; install it: pip install" in out
    assert "raising: BROKEN, from plugin-raising: RuntimeError: no such device" in out
    assert "numpy: BROKEN, from plugin-numpy: the name is registered by" in out
    assert "fine: BROKEN: backend 'fine': its factory" in out
    assert "option threads = 2: how many" in out


def test_a_broken_neighbour_does_not_stop_a_backend(tmp_path: Path) -> None:
    env = plugins(tmp_path, duplicate=False)
    done = process("demo", env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_framework_is_not_loaded_unasked(shell: Shell) -> None:
    """Of a backend whose framework is not imported, only its announcement is shown."""
    from seqcore.registry import registry
    from seqcore.spi.registration import BackendSpec

    def load() -> Any:
        raise RuntimeError("loaded")

    # Part of every Python, and imported by nothing here.
    spec = BackendSpec(name="slow", factory="nowhere:make", spi="1.0", requires=("antigravity",))
    with registry.temporarily(spec, load):
        plain, loaded = (
            next(b for b in shell.ok("backends", "--json", *flag).json["backends"]
                 if b["name"] == "slow")
            for flag in ([], ["--load"])
        )  # fmt: skip
        out = shell.ok("backends").out
    assert plain["installed"] is True
    assert plain["problem"] is None
    assert plain["loaded"] is False
    assert "RuntimeError: loaded" in loaded["problem"]
    assert "slow: installed (seqcore backends --load shows what it can do)" in out


def test_every_setting_with_its_origin(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = shell.write("seqcore.toml", '[numpy]\nmatmul_precision = "tf32"\n')
    monkeypatch.setenv("SEQCORE_NUMPY__IMPLEMENTATION", "generic")
    settings = {s["key"]: s for s in shell.ok("config", "--json").json}
    assert settings["backend"] == {"key": "backend", "value": "numpy", "origin": "default"}
    precision = settings["numpy.matmul_precision"]
    assert precision["value"] == "tf32"
    assert precision["origin"].startswith(str(path))
    assert "SEQCORE_NUMPY__IMPLEMENTATION" in settings["numpy.implementation"]["origin"]
    out = shell.ok("config").out
    for setting in settings.values():
        assert any(
            setting["key"] in line and shown(setting["value"]) in line and setting["origin"] in line
            for line in out.splitlines()
        )


def test_a_wrong_setting_is_an_error_with_its_place(shell: Shell) -> None:
    shell.write("seqcore.toml", '[numpy]\nmatmul_precison = "tf32"\n')
    error = shell("config").error
    assert "seqcore.toml: numpy" in error
    assert "did you mean 'matmul_precision'" in error


def test_the_plan_of_a_layer(shell: Shell) -> None:
    layer = sc.Stack([sc.Bidirectional(sc.LSTM(4, return_sequences=True)), sc.GRU(3)])
    shell.write("layer.toml", layer.to_toml())
    questions = {"dtype": "float64", "mask": "any", "gradient": "yes"}
    arguments = [word for name, value in questions.items() for word in (f"--{name}", value)]
    arguments += ["--option", "implementation=generic"]
    expected = layer.explain(dtype="float64", mask="any", gradient="yes", implementation="generic")
    assert shell.ok("explain", "layer.toml", *arguments).out == f"{expected}\n"
    data = shell.ok("explain", "layer.toml", *arguments, "--json").json
    assert data == expected.to_data()
    assert {name: data[name] for name in questions} == questions


@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_weights_are_those_of_the_layer(shell: Shell, dtype: str) -> None:
    layer = sc.Bidirectional(sc.GRU(3))
    shell.write("layer.json", layer.to_json())
    arguments = ["--features", "5", "--seed", "9", "--dtype", dtype]
    out = shell.ok("init", "layer.json", *arguments, "--output", "model.safetensors").out
    loaded, weights = sc.load("model.safetensors")
    assert loaded == layer
    expected = layer.init(5, seed=9, dtype=dtype)
    assert list(weights) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(weights[name], value)
        assert weights[name].dtype == value.dtype
        assert name in out


def test_init_replaces_no_file(shell: Shell) -> None:
    shell.write("layer.toml", sc.LSTM(3).to_toml())
    shell.write("model.safetensors", "trained for a week")
    arguments = ("init", "layer.toml", "--features", "2", "--output")
    assert "exists, and init replaces nothing" in shell(*arguments, "model.safetensors").error
    assert Path("model.safetensors").read_text() == "trained for a week"
    assert "suffix .npz, expected .safetensors" in shell(*arguments, "model.npz").error
    assert "expected one of float64" in shell(*arguments, "m.safetensors", "--dtype", "int8").error
    assert shell.files() == {"layer.toml", "model.safetensors"}
