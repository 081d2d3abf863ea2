"""`seqcore run`: every kind of input, in batches, written as a whole or not at all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, shell_fixture  # noqa: F401 - found by its name
from seqcore.cli import run

LAYER = sc.Stack(
    [
        sc.Bidirectional(sc.LSTM(4, return_sequences=True)),
        sc.GRU(3, return_sequences=True),
    ],
    return_sequences=True,
    return_state=True,
)
SINGLE = sc.LSTM(3, return_sequences=True)
FEATURES = 2


def sequences(batch: int = 7, time_steps: int = 5, dtype: str = "float32") -> Any:
    rng = np.random.default_rng(0)
    return rng.standard_normal((batch, time_steps, FEATURES)).astype(dtype)


def saved(shell: Shell, layer: Any = LAYER, dtype: str = "float32") -> Any:
    weights = layer.init(FEATURES, seed=3, dtype=dtype)
    sc.save("model.safetensors", layer, weights)
    return weights


def outputs(path: str) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def assert_same(written: dict[str, Any], expected: Any) -> None:
    assert list(written) == list(expected._fields)
    for name, value in written.items():
        assert value.dtype == getattr(expected, name).dtype
        # How many rows go through one matrix product may change its last bit.
        np.testing.assert_allclose(value, getattr(expected, name), rtol=0, atol=2e-7)


@pytest.mark.parametrize("size", [None, 1, 3, 7, 100])
def test_a_memory_mapped_array_in_batches_is_the_whole(shell: Shell, size: int | None) -> None:
    weights, x = saved(shell), sequences()
    np.save("x.npy", x)
    batches = [] if size is None else ["--batch-size", str(size)]
    result = shell.ok("run", "model.safetensors", "--input", "x.npy", "--output", "y.npz", *batches)
    assert_same(outputs("y.npz"), LAYER.apply(weights, x))
    assert "layers_0_backward_c" in result.out
    assert result.err == ""


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_archive_with_lengths_and_states(shell: Shell, write: Any, order: Any) -> None:
    weights, x = saved(shell), np.asarray(sequences(), order=order)
    lengths = np.array([5, 0, 3, 1, 5, 2, 4])
    names = ("forward_h", "forward_c", "backward_h", "backward_c")
    units = {f"layers_0_{name}": 4 for name in names} | {"layers_1_h": 3}
    rng = np.random.default_rng(1)
    states = {name: rng.standard_normal((7, n), dtype=np.float32) for name, n in units.items()}
    keys = {f"initial_state.{name}": state for name, state in states.items()}
    write("x.npz", x=x, lengths=lengths, **keys)
    shell.ok(
        *("run", "model.safetensors", "--input", "x.npz", "--output", "y.npz"),
        *("--batch-size", "2"),
    )
    expected = LAYER.apply(weights, x, lengths=lengths, initial_state=tuple(states.values()))
    assert_same(outputs("y.npz"), expected)


def test_an_archive_with_a_mask(shell: Shell) -> None:
    weights, x = saved(shell), sequences()
    mask = np.random.default_rng(2).random(x.shape[:2]) < 0.5
    np.savez("x.npz", x=x, mask=mask)
    shell.ok(
        *("run", "model.safetensors", "--input", "x.npz", "--output", "y.npz"),
        *("--batch-size", "4"),
    )
    assert_same(outputs("y.npz"), LAYER.apply(weights, x, mask=mask))


def test_one_output_may_be_an_npy_file(shell: Shell) -> None:
    weights, x = saved(shell, SINGLE), sequences()
    np.save("x.npy", x)
    for output in ("y.npy", "y.npz"):
        shell.ok(
            *("run", "model.safetensors", "--input", "x.npy", "--output", output),
            *("--batch-size", "3"),
        )
    y = np.load("y.npy", allow_pickle=False)
    np.testing.assert_allclose(y, SINGLE.apply(weights, x), rtol=0, atol=2e-7)
    np.testing.assert_array_equal(outputs("y.npz")["y"], y)


@pytest.mark.parametrize("shape", [(0, 5, FEATURES), (3, 0, FEATURES)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_no_rows_and_no_steps(shell: Shell, shape: Any, suffix: str) -> None:
    weights, x = saved(shell), np.zeros(shape, np.float32)
    np.save("x.npy", x)
    np.savez("x.npz", x=x)
    shell.ok("run", "model.safetensors", "--input", f"x.{suffix}", "--output", "y.npz")
    assert_same(outputs("y.npz"), LAYER.apply(weights, x))


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_the_output_has_the_input_s_dtype(shell: Shell, dtype: str) -> None:
    weights, x = saved(shell, SINGLE, dtype), sequences(dtype=dtype)
    np.save("x.npy", x)
    np.savez("x.npz", x=x)
    for suffix in ("npy", "npz"):
        shell.ok("run", "model.safetensors", "--input", f"x.{suffix}", "--output", "y.npy")
        y = np.load("y.npy", allow_pickle=False)
        if dtype == "bfloat16":  # two bytes without a name in this format
            y = y.view(ml_dtypes.bfloat16)
        np.testing.assert_array_equal(y, SINGLE.apply(weights, x))


def test_a_column_groups_rows_into_sequences(shell: Shell) -> None:
    weights = saved(shell)
    # The second sequence begins first, and the rows of each lie apart.
    shell.write("x.csv", "a,name,b\n1,z,2\n\n3,k,4.5\n-5e-1,z,6\n7,k,8\n9,z,nan\n")
    result = shell.ok(
        *("run", "model.safetensors", "--input", "x.csv", "--output", "y.npz"),
        *("--sequence-column", "name", "--json"),
    )
    parts: list[Any] = [[[1, 2], [-0.5, 6], [9, float("nan")]], [[3, 4.5], [7, 8]]]
    x, lengths = sc.pad([np.array(part, np.float32) for part in parts])
    assert_same(outputs("y.npz"), LAYER.apply(weights, x, lengths=lengths))
    assert result.json["sequences"] == [{"name": "z", "steps": 3}, {"name": "k", "steps": 2}]


def test_a_table_without_that_column_is_one_sequence(shell: Shell) -> None:
    weights = saved(shell, dtype="float64")
    shell.write("x.csv", "\ufeff0,1\r\n0.1,2\r\n3,4\r\n")
    shell.ok("run", "model.safetensors", "--input", "x.csv", "--output", "y.npz")
    x = np.array([[[0.1, 2], [3, 4]]])
    assert_same(outputs("y.npz"), LAYER.apply(weights, x))


@pytest.mark.parametrize(("option", "shape"), [([], (1, 0, 3)), (["id"], (0, 0, 3))])
def test_a_table_of_a_header_alone(shell: Shell, option: list[str], shape: Any) -> None:
    shell.write("layer.toml", SINGLE.to_toml())
    shell.write("x.csv", "a,b,id\n")
    column = ["--sequence-column", *option] if option else []
    shell.ok("run", "layer.toml", "--input", "x.csv", "--output", "y.npy", *column)
    assert np.load("y.npy").shape == shape


def test_fresh_weights_are_said_loudly_and_follow_the_seed(shell: Shell) -> None:
    shell.write("layer.json", SINGLE.to_json())
    x = sequences(dtype="float64")
    np.save("x.npy", x)
    for seed, option in ((0, []), (5, ["--seed", "5"])):
        result = shell.ok(*("run", "layer.json", "--input", "x.npy", "--output", "y.npy", *option))
        assert "warning: no weights were given" in result.err
        assert f"FRESH, UNTRAINED weights (seed {seed})" in result.err
        expected = SINGLE.apply(SINGLE.init(FEATURES, seed=seed, dtype="float64"), x)
        np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_weights_beside_a_description_that_returns_more(shell: Shell) -> None:
    saved(shell, SINGLE)
    shell.write("layer.toml", SINGLE.replace(return_state=True).to_toml())
    x = sequences()
    np.save("x.npy", x)
    result = shell.ok(
        *("run", "layer.toml", "--weights", "model.safetensors"),
        *("--input", "x.npy", "--output", "y.npz"),
    )
    assert result.err == ""
    expected = SINGLE.replace(return_state=True).apply(SINGLE.init(FEATURES, seed=3), x)
    assert_same(outputs("y.npz"), expected)


def test_weights_of_a_layer_that_computes_something_else(shell: Shell) -> None:
    saved(shell)
    other = sc.GRU(3, return_sequences=True, reset_after=True, activation="relu")
    shell.write("layer.toml", LAYER.replace(layers=(LAYER.layers[0], other)).to_toml())
    np.save("x.npy", sequences())
    error = shell(
        *("run", "layer.toml", "--weights", "model.safetensors"),
        *("--input", "x.npy", "--output", "y.npz"),
    ).error
    assert "layers[1].activation is 'relu' there and 'tanh' in the weights file" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.safetensors", "--weights", "model.safetensors"], "--weights: received"),
        (["model.safetensors", "--seed", "1"], "--seed: received 1 with saved weights"),
        (["model.safetensors", "--sequence-column", "a"], "--sequence-column was given"),
        (["model.safetensors", "--option", "precision=tf32"], "'precision' is not taken"),
        (["model.safetensors", "--option", "implementation=best"], "has none of that name"),
        (["model.safetensors", "--backend", "nowhere"], "'nowhere': not registered"),
    ],
)
def test_arguments_that_would_be_ignored_are_refused(
    shell: Shell, arguments: list[str], message: str
) -> None:
    saved(shell)
    np.save("x.npy", sequences())
    before = shell.files()
    result = shell("run", *arguments, "--input", "x.npy", "--output", "y.npz")
    assert message in result.error
    assert shell.files() == before


def test_an_option_reaches_the_layer(shell: Shell) -> None:
    weights, x = saved(shell, SINGLE), sequences()
    np.save("x.npy", x)
    shell.ok(
        *("run", "model.safetensors", "--input", "x.npy", "--output", "y.npy"),
        *("--option", "matmul_precision=bfloat16"),
    )
    y = np.load("y.npy")
    np.testing.assert_array_equal(y, SINGLE.apply(weights, x, matmul_precision="bfloat16"))
    assert np.abs(y - SINGLE.apply(weights, x)).max() > 1e-4


def test_the_output_is_the_same_bytes_every_time(shell: Shell) -> None:
    saved(shell)
    np.save("x.npy", sequences())
    for output in ("y.npz", "again.npz"):
        shell.ok("run", "model.safetensors", "--input", "x.npy", "--output", output)
    assert Path("y.npz").read_bytes() == Path("again.npz").read_bytes()


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_memory_does_not_grow_with_the_input(shell: Shell, suffix: str) -> None:
    layer = sc.SimpleRNN(4)
    sc.save("model.safetensors", layer, layer.init(64))
    x = np.lib.format.open_memmap(
        "x.npy", mode="w+", dtype=np.float32, shape=(4096, 32, 64)
    )  # 32 MiB
    np.savez_compressed("x.npz", x=x)
    del x
    arguments = ["--input", f"x.{suffix}", "--output", "y.npy", "--batch-size", "64"]
    shell.ok("run", "model.safetensors", *arguments)  # what is imported and kept is not counted
    tracemalloc.start()
    try:
        shell.ok("run", "model.safetensors", *arguments)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


def test_the_batch_is_as_large_as_the_memory_for_it_allows(shell: Shell) -> None:
    saved(shell, SINGLE)

    def size(batch: int, steps: int) -> int:
        shape = (batch, steps, FEATURES)
        x = np.lib.format.open_memmap("x.npy", mode="w+", dtype=np.float32, shape=shape)
        del x
        arguments = ("--input", "x.npy", "--output", "y.npy", "--json")
        return int(shell.ok("run", "model.safetensors", *arguments).json["batch_size"])

    short, long = size(2, 10), size(2, 20_000)
    assert 1 <= long < short <= 4096


def test_a_long_run_shows_its_progress_on_standard_error(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(shell)
    np.save("x.npy", sequences())
    arguments = ("run", "model.safetensors", "--input", "x.npy", "--output", "y.npz")
    assert shell.ok(*arguments, "--batch-size", "2").err == ""
    monkeypatch.setattr(run, "_PATIENCE", 0.0)
    result = shell.ok(*arguments, "--batch-size", "2")
    assert "7/7" in result.err
    assert "7/7" not in result.out


@pytest.mark.parametrize("output", ["y.npy", "y.npz"])
def test_a_failure_on_the_way_leaves_what_was_there(shell: Shell, output: str) -> None:
    saved(shell, SINGLE)
    lengths = np.array([1, 2, 3, 4, 5, 1, 99])
    np.savez("x.npz", x=sequences(), lengths=lengths)
    shell.write(output, "precious")
    before = shell.files()
    error = shell(
        *("run", "model.safetensors", "--input", "x.npz", "--output", output),
        *("--batch-size", "1"),
    ).error
    assert "lengths go from 99 to 99" in error
    assert shell.files() == before
    assert Path(output).read_text() == "precious"


@pytest.mark.parametrize("output", ["y.npy", "y.npz"])
def test_ctrl_c_leaves_nothing_half_written(shell: Shell, output: str) -> None:
    layer = sc.LSTM(32, return_sequences=True)
    sc.save("model.safetensors", layer, layer.init(8))
    shape = (400_000, 50, 8)
    x = np.lib.format.open_memmap("x.npy", mode="w+", dtype=np.float32, shape=shape)
    del x
    before = shell.files()
    # Started from a shell's background job, a process would ignore the signal.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from seqcore.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["run", "model.safetensors", "--input", "x.npy", "--output", output]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments, "--batch-size", "50"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        deadline = time.monotonic() + 60
        while shell.files() == before and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert shell.files() > before, "nothing was begun"
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert out == ""
    assert err.strip().splitlines()[-1] == "seqcore: interrupted"
    assert "Traceback" not in err
    assert shell.files() == before
