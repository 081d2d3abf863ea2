"""The main job on real data: handwritten digits through a trained-size model, equal to torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, shell_fixture  # noqa: F401 - found by its name

UNITS = 16


def model() -> tuple[sc.Stack, dict[str, Any]]:
    """Return two bidirectional LSTM layers with random weights, the biases included."""
    member = sc.Bidirectional(sc.LSTM(UNITS, return_sequences=True))
    layer = sc.Stack([member, member], return_sequences=True, return_state=True)
    rng = np.random.default_rng(4)
    return layer, {
        name: rng.uniform(-0.5, 0.5, shape).astype(np.float32)
        for name, shape in layer.weight_shapes(8).items()
    }


def torch_outputs(weights: dict[str, Any], x: Any) -> tuple[Any, Any, Any]:
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    reference = torch.nn.LSTM(8, UNITS, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for index in range(2):
            for direction, suffix in (("forward", ""), ("backward", "_reverse")):
                # torch has the gates in the same order, the matrices transposed, and two biases.
                mine = {
                    f"weight_ih_l{index}{suffix}": weights[f"layers.{index}.{direction}.kernel"].T,
                    f"weight_hh_l{index}{suffix}": weights[
                        f"layers.{index}.{direction}.recurrent_kernel"
                    ].T,
                    f"bias_ih_l{index}{suffix}": weights[f"layers.{index}.{direction}.bias"],
                }
                for name, value in mine.items():
                    getattr(reference, name).copy_(torch.from_numpy(value.copy()))
                getattr(reference, f"bias_hh_l{index}{suffix}").zero_()
        y, (h, c) = reference(torch.from_numpy(x))
    return y.numpy(), h.numpy(), c.numpy()


def test_digits_by_the_command_line_equal_torch(shell: Shell) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x = (datasets.load_digits().images / 16).astype(np.float32)
    assert x.shape == (1797, 8, 8)
    layer, weights = model()
    sc.save("digits.safetensors", layer, weights)
    np.save("digits.npy", x)
    shell.ok(
        *("run", "digits.safetensors", "--input", "digits.npy", "--output", "y.npz"),
        *("--batch-size", "500"),
    )
    y, h, c = torch_outputs(weights, x)
    with np.load("y.npz", allow_pickle=False) as written:
        assert written["y"].shape == (1797, 8, 2 * UNITS)
        expected = {"y": y}
        for index in range(2):
            for direction, name in enumerate(("forward", "backward")):
                expected[f"layers_{index}_{name}_h"] = h[2 * index + direction]
                expected[f"layers_{index}_{name}_c"] = c[2 * index + direction]
        assert list(written) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(written[name], value, rtol=0, atol=3e-6, err_msg=name)
