"""`compare`: pairs in eps, limits from noise, and where a divergence begins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

import seqcore as sc
from fakes import Fake, registered
from seqcore.cli import main
from seqcore.compare import compare
from seqcore.ops import Array
from seqcore.registry import registry
from seqcore.spi import Capabilities, Generic

RANDOM = np.random.default_rng(5)
X = RANDOM.standard_normal((3, 6, 4)).astype(np.float32)
MASK = RANDOM.random((3, 6)) > 0.3
LAYER = sc.Stack(
    [sc.Bidirectional(sc.GRU(5, return_sequences=True)), sc.LSTM(3)], return_sequences=True
)
WEIGHTS = {
    name: RANDOM.standard_normal(shape).astype(np.float32)
    for name, shape in LAYER.weight_shapes(4).items()
}


class Wrong(Generic):
    """The generic implementation, spoilt from one step on, for some cells."""

    name = "wrong"

    def __init__(self, ops, spoil, cells=("LSTM",)):
        super().__init__(ops)
        self.spoil, self.cells = spoil, cells

    def run(self, request, prepared, x, mask, initial_state):
        sequence, final = super().run(request, prepared, x, mask, initial_state)
        if type(request.layer).__name__ in self.cells:
            sequence = self.spoil(np.array(sequence))
        return sequence, final

    def vjp(self, request, prepared, x, mask, initial_state):
        sequence, final, kept = super().vjp(request, prepared, x, mask, initial_state)
        if type(request.layer).__name__ in self.cells:
            sequence = self.spoil(np.array(sequence))
        return sequence, final, kept


@contextmanager
def engine(name: str, implementations, **capabilities) -> Iterator[None]:
    ops = registry.get("numpy").ops
    fake = Fake(*implementations(ops), capabilities=Capabilities(**capabilities))
    fake.name = name
    with registered(fake):
        yield


def test_two_ways_to_run_agree_within_noise() -> None:
    with engine("plain", lambda ops: (Generic(ops),)):
        found = compare(LAYER, WEIGHTS, X, backends=["numpy", "plain"], mask=MASK)
    assert found.agree
    assert {d.kind for d in found.differences} == {"outputs", "gradients"}
    assert found.implementations == {"numpy": ("fused",), "plain": ("generic",)}
    assert found.divergences == ()
    # Two implementations that round differently: a limit that no difference could reach, or a
    # comparison of an array with itself, would show here.
    assert all(0 < d.eps < d.limit < 1000 for d in found.differences)


def test_half_types_and_rounded_products_have_limits_of_their_own() -> None:
    half = {name: value.astype(np.float16) for name, value in WEIGHTS.items()}
    with engine("plain", lambda ops: (Generic(ops),)):
        assert compare(LAYER, half, X.astype(np.float16), backends=["numpy", "plain"]).agree
        rounded = compare(
            LAYER, WEIGHTS, X, backends=["numpy", "plain"], precision="tf32", gradients=False
        )
    assert rounded.agree
    exact = compare_limits("highest")
    assert compare_limits("tf32") > 100 * exact


def compare_limits(precision: str) -> float:
    with engine("plain", lambda ops: (Generic(ops),)):
        found = compare(
            LAYER, WEIGHTS, X, backends=["numpy", "plain"], precision=precision, gradients=False
        )
    return max(d.limit for d in found.differences)


def test_a_wrong_implementation_is_named_with_its_first_step() -> None:
    def spoil(sequence: Array) -> Array:
        sequence[1, 4] += 1e-2
        return sequence

    with engine("odd", lambda ops: (Wrong(ops, spoil), Generic(ops))):
        # The gates come from the first generic implementation that a backend has, so the gates
        # here are right and the sequence is not.
        found = compare(LAYER, WEIGHTS, X, backends=["numpy", "odd"])
    assert not found.agree
    (divergence,) = found.divergences
    assert divergence.step == 4
    assert "odd's wrong" in divergence.where
    (worst,) = (d for d in found.differences if d.kind == "outputs")
    assert worst.array == "y"
    assert worst.eps == pytest.approx(1e-2 / np.finfo(np.float32).eps, rel=0.1)


@pytest.mark.parametrize(("member", "step"), [("forward", 3), ("backward", 5)])
def test_a_wrong_gate_is_named_with_the_step_in_processing_order(member: str, step: int) -> None:
    class Spoilt(Generic):
        def gates(self, request, prepared, x, mask, initial_state):
            named, sequence, final = super().gates(request, prepared, x, mask, initial_state)
            if request.layer.go_backwards == (member == "backward") and "z" in named:
                named["r"] = np.array(named["r"])
                named["r"][:, [3, 5]] += 1e-2
            return named, sequence, final

        def run(self, request, prepared, x, mask, initial_state):
            sequence, final = super().run(request, prepared, x, mask, initial_state)
            return sequence + np.float32(1e-2), final

    with engine("odd", lambda ops: (Spoilt(ops),), not_implemented={"gradients": "left out"}):
        found = compare(LAYER, WEIGHTS, X, backends=["numpy", "odd"])
    (divergence,) = found.divergences
    assert divergence.where == f"layers.0.{member}.r"
    assert divergence.step == step
    assert found.without_gradients == {"odd": "left out"}


def test_a_nan_on_one_side_is_never_within() -> None:
    def spoil(sequence: Array) -> Array:
        sequence[0, 2, 0] = np.nan
        return sequence

    with engine("odd", lambda ops: (Wrong(ops, spoil),)):
        found = compare(LAYER, WEIGHTS, X, backends=["numpy", "odd"], gradients=False)
    assert not found.agree
    assert found.differences[0].eps == np.inf


def test_one_backend_is_nothing_to_compare() -> None:
    with pytest.raises(sc.ArgumentError, match="at least two"):
        compare(LAYER, WEIGHTS, X, backends=["numpy", "numpy"])


def test_the_command(tmp_path, capsys) -> None:
    np.savez(tmp_path / "x.npz", x=X, mask=MASK)
    sc.save(tmp_path / "model.safetensors", LAYER, WEIGHTS)
    words = ["compare", str(tmp_path / "model.safetensors"), "--input", str(tmp_path / "x.npz")]

    def spoil(sequence: Array) -> Array:
        sequence[1, 4] = np.nan
        return sequence

    with engine("plain", lambda ops: (Generic(ops),)):
        assert main([*words, "--backends", "numpy", "plain"]) == 0
        text = capsys.readouterr().out
        assert "numpy / plain" in text
        assert "all pairs agree" in text
    with engine("odd", lambda ops: (Wrong(ops, spoil), Generic(ops))):
        assert main([*words, "--backends", "numpy", "odd", "--json"]) == 1
        data = json.loads(capsys.readouterr().out)
    assert data["agree"] is False
    assert data["differences"][0]["eps"] is None
    assert data["divergences"][0]["step"] == 4
