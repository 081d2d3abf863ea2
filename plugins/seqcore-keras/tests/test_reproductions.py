"""Each script shows its defect on exactly the backends that the README names.

Written for the release below: where a newer Keras differs, the test says in what, and README and
table are to be brought up to date.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from engines import FRAMEWORKS, environment

KERAS = "3.15.1"
FOLDER = Path(__file__).parents[1] / "reproductions"

ROLLED, UNROLLED = "unroll=False", "unroll=True"
BOTH = {ROLLED, UNROLLED}
FLOAT64, FLOAT16, BFLOAT16 = "dtype=float64", "dtype=float16", "dtype=bfloat16"

# What is wrong, by script and framework; what is not here is right.
WRONG: dict[str, dict[str, set[str]]] = {
    "bidirectional_splits_states_in_the_middle": dict.fromkeys(FRAMEWORKS, BOTH),
    "float64_hard_sigmoid_has_a_float32_slope": {"torch": {FLOAT64}},
    "float64_is_computed_in_float32": {"numpy": BOTH, "torch": BOTH, "jax": BOTH},
    "half_gradients_are_summed_in_half": {"torch": BOTH, "jax": BOTH, "tensorflow": BOTH},
    "half_gru_without_bias_crashes": {"jax": {ROLLED}},
    "half_layers_cannot_be_built": {
        "numpy": {FLOAT16},
        "torch": {FLOAT16, BFLOAT16},
        "jax": {FLOAT16, BFLOAT16},
        "tensorflow": {BFLOAT16},
    },
    "initial_state_drops_the_mask": dict.fromkeys(FRAMEWORKS, BOTH),
    "mask_is_not_reversed_for_the_next_layer": dict.fromkeys(FRAMEWORKS, BOTH),
    "masked_nan_reaches_the_gradients": {"torch": BOTH, "jax": BOTH, "tensorflow": BOTH},
    "masked_row_gives_zeros_as_last_output": {
        "numpy": {UNROLLED},
        "torch": BOTH,
        "jax": {UNROLLED},
        "tensorflow": BOTH,
    },
    "masked_start_emits_zeros_in_a_sequence": {
        "numpy": {UNROLLED},
        "torch": BOTH,
        "jax": {UNROLLED},
        "tensorflow": BOTH,
    },
    "unroll_backwards_with_a_mask_crashes": {"torch": {UNROLLED}},
    "unroll_ignores_zero_output_for_mask": {"numpy": {UNROLLED}, "jax": {UNROLLED}},
    # On torch it crashes, which is the defect two lines up.
    "unroll_zeroes_valid_steps_backwards": {"torch": {UNROLLED}, "tensorflow": {UNROLLED}},
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("script", WRONG)
def test_the_script_shows_its_defect_where_it_is(script: str, framework: str) -> None:
    done = subprocess.run(
        [sys.executable, str(FOLDER / f"{script}.py")],
        env=environment() | {"KERAS_BACKEND": framework},
        capture_output=True,
        text=True,
        check=False,
    )
    found = dict(re.findall(r"^(\w+=\w+): (right|WRONG)$", done.stdout, re.MULTILINE))
    wrong = {variant for variant, verdict in found.items() if verdict == "WRONG"}
    expected = WRONG[script].get(framework, set())
    told = f"Keras {version('keras')}, the table is for {KERAS}\n{done.stdout}\n{done.stderr}"
    assert wrong == expected, told
    assert done.returncode == (1 if expected else 0), told
    if expected:
        assert f"KERAS_BACKEND={framework}" in done.stdout
        assert "expected" in done.stdout
        assert "received" in done.stdout


def test_every_script_is_in_the_table_and_in_the_readme() -> None:
    scripts = {path.stem for path in FOLDER.glob("*.py")}
    readme = (FOLDER.parent / "README.md").read_text("utf-8")
    assert set(WRONG) == scripts
    assert set(re.findall(r"\]\(reproductions/(\w+)\.py\)", readme)) == scripts
