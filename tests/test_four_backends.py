"""NumPy, PyTorch, TensorFlow and JAX in one process: the same numbers, whatever is asked."""

from __future__ import annotations

import itertools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from seqcore.cli import main
from seqcore.registry import registry

BACKENDS = ("numpy", "torch", "tensorflow", "jax")
BATCH, TIME, FEATURES, UNITS = 4, 6, 3, 5
DTYPE = "float64"
NEAR = 100 * np.finfo(DTYPE).eps

CELLS = {
    "rnn": sc.SimpleRNN(UNITS),
    "lstm": sc.LSTM(UNITS),
    "gru": sc.GRU(UNITS),
}
DIRECTIONS = ("forward", "backward", "both")
RETURNS = tuple(itertools.product((False, True), (False, True)))
MASKS = ("none", "right", "left", "holes", "one row fully masked")
STATES = (False, True)

pytestmark = [
    pytest.mark.skipif(
        bool(missing := [name for name in BACKENDS if registry.missing(name)]),
        reason=f"not installed: {', '.join(missing)}",
    )
]


def layer_of(cell: str, direction: str, *, sequences: bool, state: bool) -> Any:
    layer = CELLS[cell].replace(return_sequences=sequences, return_state=state)
    if direction == "both":
        return sc.Bidirectional(layer)
    return layer.replace(go_backwards=direction == "backward")


def mask_of(kind: str) -> Any:
    steps = np.arange(TIME)
    lengths = np.array([6, 3, 1, 4])[:, None]
    masks = {
        "none": None,
        "right": steps < lengths,
        "left": steps >= TIME - lengths,
        "holes": np.random.default_rng(2).random((BATCH, TIME)) > 0.4,
        "one row fully masked": (steps < lengths) & (np.arange(BATCH) != 2)[:, None],
    }
    return masks[kind]


def test_the_matrix_is_whole() -> None:
    count = len(CELLS) * len(DIRECTIONS) * len(RETURNS) * len(STATES) * len(MASKS)
    assert count == 360


@pytest.mark.parametrize(("sequences", "state"), RETURNS)
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("cell", CELLS)
def test_every_configuration_agrees(cell: str, direction: str, sequences: bool, state: bool):
    """A tenth of the matrix each: every mask, with and without an initial state."""
    layer = layer_of(cell, direction, sequences=sequences, state=state)
    random = np.random.default_rng(1)
    weights = {n: random.standard_normal(s) for n, s in layer.weight_shapes(FEATURES).items()}
    x = random.standard_normal((BATCH, TIME, FEATURES))
    names = layer.replace(return_state=True) if direction != "both" else None
    count = len(CELLS[cell].state_names) * (1 if names is not None else 2)
    initial = tuple(random.standard_normal((BATCH, UNITS)) for _ in range(count))
    for kind, given in itertools.product(MASKS, STATES):
        call = {"mask": mask_of(kind), "initial_state": initial if given else None}
        results = {name: layer.apply(weights, x, backend=name, **call) for name in BACKENDS}
        expected = results.pop("numpy")
        for name, found in results.items():
            pairs = zip(*((o,) if isinstance(o, np.ndarray) else o for o in (expected, found)),
                        strict=True)  # fmt: skip
            for one, other in pairs:
                np.testing.assert_allclose(
                    other, one, rtol=0, atol=NEAR, err_msg=f"{name}, mask {kind}, state {given}"
                )


def test_a_model_trained_by_torch_predicts_the_same_everywhere() -> None:
    torch = pytest.importorskip("torch")
    layer = sc.Stack([sc.Bidirectional(sc.LSTM(8, return_sequences=True)), sc.GRU(1)])
    random = np.random.default_rng(0)
    x = random.standard_normal((32, 7, 3)).astype(np.float32)
    lengths = random.integers(1, 8, 32)
    wanted = np.array([row[:n, 0].sum() for row, n in zip(x, lengths, strict=True)], np.float32)

    weights = {
        name: torch.nn.Parameter(torch.from_numpy(value))
        for name, value in layer.init(3, seed=1).items()
    }
    optimizer = torch.optim.Adam(weights.values(), lr=0.02)
    inputs, target = torch.from_numpy(x), torch.from_numpy(np.tanh(wanted))
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        y = layer.apply(weights, inputs, lengths=torch.from_numpy(lengths))
        loss = ((y[:, 0] - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]

    trained = {name: value.detach().numpy() for name, value in weights.items()}
    predictions = {
        name: layer.apply(trained, x, lengths=lengths, backend=name) for name in BACKENDS
    }
    for name in BACKENDS[1:]:
        np.testing.assert_allclose(predictions[name], predictions["numpy"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("order", [BACKENDS, BACKENDS[::-1]])
def test_any_order_of_first_use_works_in_one_process(order: tuple[str, ...]) -> None:
    code = f"""
import numpy as np, seqcore as sc
layer = sc.LSTM(3)
weights, x = layer.init(2), np.ones((2, 4, 2), np.float32)
ys = [layer.apply(weights, x, backend=name) for name in {order!r}]
assert all(np.allclose(y, ys[0], atol=1e-6) for y in ys)
print("equal")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "equal\n", ran.stderr


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_the_demo_reproduces_its_tables(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    # Its exit code says so: 1 if a table that the backend supports comes out otherwise.
    assert main(["demo", "--backend", backend]) == 0
    assert "not supported" not in capsys.readouterr().out
