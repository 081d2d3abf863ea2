"""One framework a process, and none before it is asked for."""

from __future__ import annotations

import subprocess
import sys

from engines import environment


def run(code: str, **variables: str) -> str:
    """Return what the code prints, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment() | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


CALL = """
import numpy as np
import seqcore as sc

layer = sc.LSTM(2)
weights = layer.init(3)
x = np.ones((1, 4, 3), np.float32)


def apply(backend):
    return layer.apply(weights, x, backend=backend)
"""


def test_registration_loads_no_framework() -> None:
    code = """
import sys
from seqcore.registry import registry

names = [name for name in registry.names() if name.startswith("keras-")]
print(names, {"keras", "torch", "jax", "tensorflow"} & set(sys.modules))
"""
    expected = "['keras-jax', 'keras-numpy', 'keras-tensorflow', 'keras-torch'] set()"
    assert run(code).strip() == expected


def test_each_backend_is_announced_with_what_it_requires() -> None:
    code = """
from seqcore.registry import registry

for name in ("numpy", "torch", "jax", "tensorflow"):
    spec = registry.spec(f"keras-{name}")
    print(spec.requires, dict(spec.options)["unroll"].default, spec.install_hint)
"""
    assert run(code).splitlines() == [
        "('keras', 'jax') False pip install 'seqcore-keras[numpy]'",
        "('keras', 'torch') False pip install 'seqcore-keras[torch]'",
        "('keras', 'jax') False pip install 'seqcore-keras[jax]'",
        "('keras', 'tensorflow') False pip install 'seqcore-keras[tensorflow]'",
    ]


def test_a_second_framework_in_one_process_is_an_error_that_says_what_to_do() -> None:
    code = f"""{CALL}
apply("keras-numpy")
try:
    apply("keras-torch")
except sc.BackendError as error:
    print(error)
print(apply("keras-numpy").shape)
"""
    message, shape = run(code).splitlines()
    assert "Keras runs on numpy in this process, expected torch" in message
    assert "use backend 'keras-torch' in a process of its own" in message
    assert shape == "(1, 2)"


def test_a_keras_that_a_program_has_imported_is_used() -> None:
    code = f"""import keras
{CALL}
print(keras.backend.backend(), apply("keras-numpy").shape)
try:
    apply("keras-torch")
except sc.BackendError as error:
    print("refused")
"""
    assert run(code, KERAS_BACKEND="numpy").splitlines() == ["numpy (1, 2)", "refused"]


def test_the_choice_is_not_left_to_programs_that_are_started_later() -> None:
    code = f"""import os
{CALL}
apply("keras-numpy")
print(os.environ.get("KERAS_BACKEND"))
"""
    assert run(code).strip() == "None"
    assert run(code, KERAS_BACKEND="torch").strip() == "torch"
