"""Mistakes that a newcomer makes, each with a clear error and nothing lost."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from seqcore.cli import main

LAYER = sc.LSTM(3)
WEIGHTS = LAYER.init(2)
X = np.ones((2, 4, 2), np.float32)
MASKED = np.ma.masked_array(X[0], mask=np.eye(4, 2, dtype=bool))

MISTAKES: dict[str, tuple[Callable[[], Any], type[sc.SeqcoreError], str]] = {
    "a list of masked arrays": (
        lambda: LAYER.apply(WEIGHTS, [MASKED, MASKED]), sc.DtypeError, "masked",
    ),
    "a mask of masked arrays": (
        lambda: LAYER.apply(WEIGHTS, X, mask=[np.ma.masked_array([True] * 4)] * 2),
        sc.DtypeError, "masked",
    ),
    "padding masked arrays": (lambda: sc.pad([MASKED]), sc.DtypeError, "MaskedArray"),
    "a list of float64 arrays": (
        lambda: LAYER.apply(WEIGHTS, [np.ones((4, 2))] * 2), sc.DtypeError, "float64",
    ),
    "a number beyond float32": (
        lambda: LAYER.apply(WEIGHTS, [[[1e300, 2.0]]]), sc.DtypeError, "beyond float32",
    ),
    "more units than memory": (lambda: sc.LSTM(2**62).init(2), sc.SpecError, "fewer units"),
    "a block without a name": (
        lambda: sc.use_backend(None).__enter__(), sc.ArgumentError, "name of a backend",
    ),
    "an array where a word is asked": (
        lambda: LAYER.explain(mask=np.ones((2, 4), bool)), sc.ArgumentError, "none, lengths, any",
    ),
    "no path": (lambda: sc.load(None), sc.FileError, "path"),
    "no text": (lambda: sc.from_json(3), sc.SpecError, "JSON"),
    "pickling what is bound": (
        lambda: pickle.dumps(LAYER.bind(WEIGHTS)), sc.ArgumentError, "bind them again",
    ),
    "a field of the layer in a call": (
        lambda: LAYER.apply(WEIGHTS, X, return_sequences=True), sc.ArgumentError, "layer.replace",
    ),
    "a misspelt field of an initializer": (
        lambda: sc.from_json(
            '{"type":"LSTM","units":3,"kernel_initializer":{"type":"constant","val":1}}'
        ),
        sc.SpecError, "'value'",
    ),
    "the base of layers": (lambda: sc.Layer(), sc.SpecError, "SimpleRNN"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named(name: str) -> None:
    call, error, words = MISTAKES[name]
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)


def test_a_bound_layer_copies_as_itself() -> None:
    bound = LAYER.bind(WEIGHTS)
    assert copy.deepcopy([bound])[0] is bound


@pytest.mark.parametrize(
    "words",
    [
        ["demo", "--html", "model.npy"],
        ["bench", "layer.toml", "--features", "4", "--output", "layer.toml"],
        ["bench", "--workload", "stream", "--baseline", "nobody"],
    ],
)
def test_a_slip_replaces_no_file(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.npy").write_bytes(b"numbers")
    Path("layer.toml").write_text('type = "LSTM"\nunits = 3\n')
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("seqcore: error: ")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
