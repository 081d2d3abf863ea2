"""Outputs and gradients against Keras, whose GRU has the reset before the product, in float64.

Keras runs on torch, so that gradients can be had, and in an interpreter of its own, because the
backend of a process is chosen before its first import. All comparisons share the one interpreter.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    FEATURES,
    MASKS,
    TIME,
    UNITS,
    Case,
    assert_close,
    flat,
    gradient_arrays,
    implementations,
    needs,
    random_cotangents,
)

for needed in ("keras", "torch"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed; it is compared with", allow_module_level=True)

EPS = 400

# Reads the calls from a file and writes outputs and gradients to another.
KERAS = """
import sys
import keras
import numpy as np
import torch

from keras.src.backend.common import dtypes

assert keras.backend.backend() == "torch"
keras.config.set_floatx("float64")
# Except on TensorFlow, Keras computes products of float64 in float32; this table says so.
assert dtypes.BIT64_TO_BIT32_DTYPE["float64"] == "float32"
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
given = dict(np.load(sys.argv[1]))
made = {
    "gru_before": lambda **o: keras.layers.GRU(UNITS, reset_after=False, **o),
    "gru": lambda **o: keras.layers.GRU(UNITS, reset_after=True, **o),
    "lstm": lambda **o: keras.layers.LSTM(UNITS, **o),
    "rnn": lambda **o: keras.layers.SimpleRNN(UNITS, **o),
}
names = sorted({key.split("/")[0] for key in given})
results = {}
for name in names:
    own = {k.split("/", 1)[1]: v for k, v in given.items() if k.split("/")[0] == name}
    cell, form = name.split("-")
    layer = made[cell](
        return_sequences=True, return_state=True, dtype="float64",
        go_backwards=form == "backwards",
    )
    layer.build(own["x"].shape)
    weights = [own["kernel"], own["recurrent_kernel"], own["bias"]]
    if "recurrent_bias" in own:
        weights[2] = np.stack([own["bias"], own["recurrent_bias"]])
    layer.set_weights(weights)
    def tensor(value):
        # On the device of the layer's own variables, wherever this machine puts them.
        return torch.tensor(value, device=layer.trainable_weights[0].value.device)
    leaf = lambda value: tensor(value).requires_grad_()
    x = leaf(own["x"])
    state = [leaf(own[key]) for key in ("state0", "state1") if key in own]
    mask = tensor(own["mask"]) if "mask" in own else None
    outputs = layer(x, initial_state=state, mask=mask)
    loss = sum((y * tensor(own[f"d{i}"])).sum() for i, y in enumerate(outputs))
    loss.backward()
    for i, y in enumerate(outputs):
        results[f"{name}/y{i}"] = y.detach().cpu().numpy()
    found = [variable.value.grad.cpu().numpy() for variable in layer.trainable_weights]
    results[f"{name}/kernel"], results[f"{name}/recurrent_kernel"] = found[:2]
    if "recurrent_bias" in own:
        results[f"{name}/bias"], results[f"{name}/recurrent_bias"] = found[2]
    else:
        results[f"{name}/bias"] = found[2]
    results[f"{name}/x"] = x.grad.cpu().numpy()
    for i, value in enumerate(state):
        results[f"{name}/initial_state[{i}]"] = value.grad.cpu().numpy()
np.savez(sys.argv[2], **results)
"""

CELLS: dict[str, Any] = {
    "gru_before": sc.GRU(UNITS, reset_after=False, **BOTH),
    "gru": sc.GRU(UNITS, **BOTH),
    "lstm": sc.LSTM(UNITS, **BOTH),
    "rnn": sc.SimpleRNN(UNITS, **BOTH),
}
FORMS = {
    "plain": {},
    "backwards": {"go_backwards": True},
    # Keras carries the output over masked steps.
    "masked": {"mask_output": "carry"},
}


def call(cell: str, form: str) -> tuple[Any, dict[str, Any], Any, dict[str, Any], list[Any]]:
    layer = CELLS[cell].replace(**FORMS[form])
    case = Case(f"{cell}-{form}", layer, "right" if form == "masked" else "none", True)
    weights, x, others = case.arguments()
    shapes = [(BATCH, TIME, UNITS)] + [(BATCH, UNITS)] * len(others["initial_state"])
    drawn = random_cotangents(tuple(map(np.zeros, shapes)), np.random.default_rng(3))
    return layer, weights, x, others, list(drawn)


@pytest.fixture(scope="module")
def keras(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder: Path = tmp_path_factory.mktemp("keras")
    given = {}
    for cell in CELLS:
        for form in FORMS:
            _, weights, x, others, cotangents = call(cell, form)
            arrays = {**weights, "x": x}
            arrays |= {f"state{i}": value for i, value in enumerate(others["initial_state"])}
            arrays |= {f"d{i}": value for i, value in enumerate(cotangents)}
            if form == "masked":
                arrays["mask"] = MASKS["right"]
            given |= {f"{cell}-{form}/{name}": value for name, value in arrays.items()}
    np.savez(folder / "given.npz", **given)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KERAS.replace("UNITS", str(UNITS)),
            str(folder / "given.npz"),
            str(folder / "results.npz"),
        ],
        env={**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "results.npz"))


@pytest.mark.clause("GRU-3")
@pytest.mark.clause("GRAD-3")
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_equal_keras(
    cell: str, form: str, implementation: str, keras: dict[str, Any]
) -> None:
    layer, weights, x, others, cotangents = call(cell, form)
    mask = "any" if form == "masked" else "none"
    needs(implementation, layer, dtype="float64", mask=mask, gradient="yes")
    outputs, pullback = layer.vjp(weights, x, implementation=implementation, **others)
    found = gradient_arrays(pullback(cotangents))
    found |= {f"y{i}": value for i, value in enumerate(flat(outputs))}
    prefix = f"{cell}-{form}/"
    expected = {k.removeprefix(prefix): v for k, v in keras.items() if k.startswith(prefix)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, EPS, name)
    assert x.shape[-1] == FEATURES
