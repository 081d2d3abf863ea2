"""Mistakes in the two biases of a torch module, of which an LSTM or SimpleRNN layer has the sum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from seqcore.interchange.formats import FORMATS
from seqcore.interchange.levels import disassemble
from seqcore.interchange.models import Model
from seqcore.spec.layers import GRU
from seqcore.spec.weights import cells
from seqcore.verify.mistakes import Mistake

_LOST, _TWICE = "one of the two biases lost", "bias counted twice"
_MISTAKES = (
    (_LOST, "bias_hh is missing", "add it to bias_ih", {"bias_ih": 1, "bias_hh": 0}),
    (_LOST, "bias_ih is missing", "add it to bias_hh", {"bias_ih": 0, "bias_hh": 1}),
    (_TWICE, "bias_hh was added to bias_ih, and handed on as well", "hand it on once",
     {"bias_ih": 1, "bias_hh": 2}),
    (_TWICE, "bias_ih stands for bias_hh, too", "add bias_hh to it", {"bias_ih": 2, "bias_hh": 0}),
)  # fmt: skip
"""Each with how often either bias is counted."""


def two_biases(model: Model) -> Iterator[Mistake]:
    """Yield a model from torch with each mistake in its two biases, if its layer has only one.

    A GRU layer has both, so that `mistakes` makes these in it.
    """
    if model.format != "torch" or any(isinstance(c, GRU) for _, c, _ in cells(model.layer, 1)):
        return
    if not any("bias_hh" in name for name in model.structure):
        return
    for name, cause, remedy, counts in _MISTAKES:
        structure = {key: _counted(key, value, counts) for key, value in model.structure.items()}
        layer, weights = FORMATS["torch"].read(structure, model.words)
        yield Mistake(name, cause, remedy, tuple(disassemble("verify", layer, weights)))


def _counted(name: str, value: Any, counts: Mapping[str, int]) -> Any:
    return next((value * count for bias, count in counts.items() if bias in name), value)
