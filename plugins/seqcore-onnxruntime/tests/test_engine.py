"""What ONNX Runtime's recurrent operators get wrong, in ONNX Runtime alone.

Each is a reason for something in this package. When a test fails here, the engine has been mended,
and the package can do with less.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def run(operator: str, kernel: list[float], **inputs: Any) -> list[NDArray[Any]]:
    """Run one operator with one unit and one feature, and return Y, Y_h and so on.

    Args:
        operator: Its name.
        kernel: A number for each gate; the recurrent kernel is 0.
        **inputs: `X` (time, batch, 1) and others by name; what is no array is an attribute.
    """
    dtype = inputs["X"].dtype
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    feed = {name: value for name, value in inputs.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in inputs.items() if name not in feed}
    constants = {
        "W": np.array(kernel, dtype).reshape(1, -1, 1),
        "R": np.zeros((1, len(kernel), 1), dtype),
    }
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c"]
    names = [name if name in feed or name in constants else "" for name in order]
    outputs = ["Y", "Y_h", "Y_c"] if operator == "LSTM" else ["Y", "Y_h"]
    graph = helper.make_graph(
        [
            helper.make_node(
                operator, names[: 4 + len(outputs)], outputs, hidden_size=1, **attributes
            )
        ],
        "one",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
            )
            for name, value in feed.items()
        ],
        [helper.make_tensor_value_info(name, kind, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))


def rows(*values: float, dtype: str = "float32") -> NDArray[Any]:
    """Return one step of one feature in as many rows as there are values."""
    return np.array(values, dtype).reshape(1, -1, 1)


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_beside_a_bias_nan_becomes_a_plausible_number(operator: str) -> None:
    gates = GATES[operator]
    bias = np.zeros((1, 2 * gates), np.float32)
    y, *_ = run(operator, [1.0] * gates, X=rows(np.nan, 1.0), B=bias)
    assert np.isfinite(y).all()


@pytest.mark.parametrize("activation", ["Relu", "HardSigmoid"])
def test_relu_and_hard_sigmoid_make_0_of_nan(activation: str) -> None:
    y, _ = run("RNN", [1.0], X=rows(np.nan, 1.0), activations=[activation])
    assert y[0, 0, 0, 0] == 0


def test_the_reset_gate_of_gru_is_not_0_where_it_is_shut() -> None:
    # h = n / 2 with n = tanh(r * 1e4) and r = sigmoid(-1e4), which is 0.
    given: dict[str, Any] = {
        "X": rows(-1e4),
        "B": np.array([[0, 0, 0, 0, 0, 1e4]], np.float32),
        "linear_before_reset": 1,
    }
    y, _ = run("GRU", [0.0, 1.0, 0.0], **given)
    assert abs(y.item()) > 1e-3
    y, _ = run("GRU", [0.0, 1.0, 0.0], **given, clip=18.0)
    assert y.item() == 0


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_there_is_no_float64(operator: str) -> None:
    with pytest.raises(RuntimeException, match="does not support double"):
        run(operator, [1.0] * GATES[operator], X=rows(1.0, dtype="float64"))


def test_float16_states_are_not_rounded_at_each_step() -> None:
    # h = h + 1/4096, which float16 rounds back to 1 at every step.
    steps = np.full((16, 1, 1), 2.0**-12, np.float16)
    linear: dict[str, Any] = {
        "activations": ["Sigmoid", "Affine", "Affine"],
        "activation_alpha": [1.0, 1.0],
        "activation_beta": [0.0, 0.0],
    }
    one = np.ones((1, 1, 1), np.float16)
    bias = np.array([[30, 30, 30, 0, 0, 0, 0, 0]], np.float16)  # i, o and f are 1
    _, _, c = run("LSTM", [0, 0, 0, 1], X=steps, B=bias, initial_h=one, initial_c=one, **linear)
    assert c.item() > 1


def test_batch_first_is_refused() -> None:
    with pytest.raises((Fail, RuntimeException), match="not supported"):
        run("LSTM", [1.0] * 4, X=rows(1.0), layout=1)


def test_a_row_of_length_0_has_zeros_for_its_final_state() -> None:
    lengths = np.array([1, 0], np.int32)
    state = rows(0.5, 0.5)
    _, h, c = run(
        "LSTM", [1.0] * 4, X=rows(1, 1), sequence_lens=lengths, initial_h=state, initial_c=state
    )
    assert h[0, 1] == c[0, 1] == 0


def test_a_batch_of_0_ends_the_process() -> None:
    code = "from test_engine import rows, run; run('LSTM', [1.0] * 4, X=rows()); print('survived')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "survived" not in done.stdout
