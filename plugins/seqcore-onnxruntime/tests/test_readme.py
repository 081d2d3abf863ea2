"""The examples in README.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import seqcore as sc

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(), re.DOTALL)


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert names["y"].shape == (3, 4)
    assert (tmp_path / "layer.onnx").is_file()


def test_one_line_of_configuration_chooses_the_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (line,) = blocks("toml")
    assert len(line.splitlines()) == 1
    (tmp_path / "seqcore.toml").write_text(line)
    monkeypatch.chdir(tmp_path)
    assert sc.LSTM(2).explain().backend == "onnxruntime"
