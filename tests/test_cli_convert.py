"""`seqcore convert`: from file to file, as a whole or not at all, and nothing is replaced."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Shell, shell_fixture  # noqa: F401 - found by its name
from helpers import assert_same_bits, random_weights
from seqcore.interchange import read, write

SEQ: Any = {"return_sequences": True}
LSTM = sc.LSTM(2, **SEQ)
LEVELS = sc.Stack((sc.Bidirectional(LSTM), sc.Bidirectional(LSTM)), **SEQ)
RELU = sc.SimpleRNN(2, activation="relu", **SEQ)


def weights_of(layer: Any, dtype: str = "float32") -> Any:
    return random_weights(layer, np.random.default_rng(7), dtype)


def written(name: str, layer: Any = LSTM, format: str | None = None) -> Path:
    path = Path(name)
    write(path, layer, weights_of(layer), format=format)
    return path


def test_a_chain_through_every_kind_of_file(shell: Shell) -> None:
    weights = weights_of(LEVELS)
    written("torch.pt", LEVELS)
    chain: list[Any] = [
        ("model.keras", []),
        ("model.weights.h5", []),
        ("model.onnx", []),
        ("flax.safetensors", ["--to", "flax-nnx"]),
        ("linen.safetensors", ["--to", "flax-linen", "--with", "optimized=true"]),
        ("equinox.safetensors", ["--to", "equinox"]),
        ("blob.safetensors", ["--to", "jax-blob"]),
        ("own.safetensors", []),
    ]
    source = "torch.pt"
    for target, options in chain:
        result = shell.ok("convert", source, target, *options)
        assert result.err == ""
        assert f"to see that both compute the same: seqcore verify {source} {target}" in result.out
        source = target
    layer, found = sc.load("own.safetensors")
    x = np.random.default_rng(0).standard_normal((3, 5, 4)).astype("float32")
    lengths = [5, 1, 3]
    assert_same_bits(
        layer.apply(found, x, lengths=lengths), LEVELS.apply(weights, x, lengths=lengths)
    )
    assert list(found) == list(weights)
    for name, value in weights.items():
        assert_same_bits(found[name], value)


def test_what_is_said(shell: Shell) -> None:
    written("a.pt")
    result = shell.ok("convert", "a.pt", "b c.onnx")
    assert result.out.splitlines() == [
        "a.pt: torch, LSTM(units=2), 56 numbers",
        "b c.onnx: onnx",
        "to see that both compute the same: seqcore verify a.pt 'b c.onnx'",
    ]


def test_words_of_source_and_target(shell: Shell) -> None:
    written("rnn.pt", RELU)
    error = shell("convert", "rnn.pt", "rnn.onnx").error
    assert error.startswith("rnn.pt: from torch: level 0: ")
    assert "give activation='tanh' or activation='relu'" in error
    result = shell.ok(
        *("convert", "rnn.pt", "rnn.onnx", "--set", "activation=relu", "--from", "torch"),
    )
    assert read("rnn.onnx").layer == RELU
    assert "verify rnn.pt rnn.onnx --from torch --set activation=relu" in result.out
    result = shell.ok("convert", "rnn.onnx", "again.pt")
    assert "seqcore verify rnn.onnx again.pt --with activation=relu" in result.out
    pytest.importorskip("torch", reason="torch, which runs the one")
    pytest.importorskip("onnxruntime", reason="onnxruntime, which runs the other")
    shell.ok(*result.out.splitlines()[-1].partition("seqcore ")[2].split())


def test_every_kind_of_value(shell: Shell) -> None:
    written("blob.safetensors", LSTM, "jax-blob")
    structure = read("blob.safetensors").structure
    sc.weights.write_arrays("bare.safetensors", structure, {})
    error = shell("convert", "bare.safetensors", "a.pt").error
    assert "from jax-blob: the arrays leave open features and units; give features=" in error
    said = ("--set", "features=4", "--set", "units=2", "--set", "bidirectional=FALSE")
    shell.ok("convert", "bare.safetensors", "a.pt", *said)
    layer = sc.Bidirectional(LSTM)
    written("haiku.safetensors", layer, "haiku")
    tree = read("haiku.safetensors").structure
    flat = {f"{a}/linear/{c}": v for a, b in tree.items() for c, v in b["linear"].items()}
    sc.weights.write_arrays("h.safetensors", flat, {})
    assert "say it with levels=" in shell("convert", "h.safetensors", "b.pt").error
    result = shell.ok("convert", "h.safetensors", "b.pt", "--set", 'levels=[["lstm","lstm_1"]]')
    assert """verify h.safetensors b.pt --set 'levels=[["lstm", "lstm_1"]]'""" in result.out
    assert read("b.pt").layer == layer


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--set", "activation"], "'activation', expected KEY=VALUE"),
        (["--set", "=relu"], "'=relu', expected KEY=VALUE"),
        (["--with", "optimized"], "'optimized', expected KEY=VALUE"),
        (["--set", "levels=[1,"], "expected a list as JSON"),
        (["--set", "levels=" + "[" * 100_000], "expected a list as JSON"),
        (["extra"], "unrecognized arguments: extra"),
    ],
)
def test_wrong_usage(shell: Shell, option: list[str], message: str) -> None:
    written("a.pt")
    result = shell("convert", "a.pt", "b.keras", *option)
    assert result.code == 2
    assert message in result.err
    assert shell.files() == {"a.pt"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.pt", "b.dat"], "b.dat: suffix .dat, expected one of .safetensors, .pt"),
        (["a.pt", "b"], "b: suffix (none), expected one of"),
        (["absent.pt", "b.onnx"], "absent.pt: cannot be read: No such file"),
        (["a.dat", "b.onnx"], "a.dat: suffix .dat, expected one of"),
        (["a.pt", "absent/b.onnx"], "absent/b.onnx: cannot be written: No such file"),
        (["a.pt", "b.onnx", "--to", "keras"], "expected a file .keras"),
        (["a.pt", "b.keras", "--to", "kears"], "'kears' (did you mean 'keras'?), expected one of"),
        (["a.pt", "b.keras", "--from", "toch"], "'toch' (did you mean 'torch'?)"),
        (["a.pt", "b.keras", "--from", "keras"], "a.pt: expected a file .keras"),
        (["a.pt", "b.keras", "--set", "activaton=relu"], "(did you mean 'activation'?)"),
        (["a.pt", "b.keras", "--set", "prefix=5"], "prefix is 5: Expected `str | null`"),
        (["a.pt", "b.keras", "--with", "lengths=true"], "to keras: 'lengths' is not taken"),
        (["a.pt", "b.safetensors", "--with", "lengths=true"], "takes no lengths"),
        (["own.safetensors", "b.pt", "--set", "activation=relu"], "takes no activation"),
        (["own.safetensors", "b.pt", "--from", "haiku"], "says that it is in format seqcore"),
        (["a.pt", "b.safetensors", "--to", "haiku"], "activation is 'relu'"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    shell: Shell, arguments: list[str], message: str
) -> None:
    written("a.pt", LSTM.replace(units=3))
    sc.save("own.safetensors", LSTM, weights_of(LSTM))
    if "haiku" in arguments and arguments[0] == "a.pt":
        relu = sc.LSTM(2, activation="relu")
        arguments = ["relu.keras", *arguments[1:]]
        write("relu.keras", relu, weights_of(relu))
    before = shell.files()
    assert message in shell("convert", *arguments).error
    assert shell.files() == before


def test_a_truncated_source(shell: Shell) -> None:
    for name in ("a.pt", "a.keras", "a.onnx", "a.safetensors"):
        path = written(name)
        path.write_bytes(path.read_bytes()[:-50])
        before = shell.files()
        assert name in shell("convert", name, "b.weights.h5").error
        assert shell.files() == before


@pytest.mark.parametrize("target", ["b.pt", "a.pt", "b.onnx", "folder.keras"])
def test_nothing_is_replaced(shell: Shell, target: str) -> None:
    written("a.pt")
    shell.write("b.pt", "precious")
    shell.write("b.onnx", "")
    Path("folder.keras").mkdir()
    before, content = shell.files(), Path("a.pt").read_bytes()
    error = shell("convert", "a.pt", target).error
    assert error == (
        f"{target}: exists, and convert replaces nothing; remove it or name another file"
    )
    assert shell.files() == before
    assert Path("a.pt").read_bytes() == content
    assert Path("b.pt").read_text() == "precious"


def test_weights_that_are_not_numbers_of_the_spec(shell: Shell) -> None:
    from seqcore.interchange.pt_file import write_pt

    state = {name: v.astype("int32") for name, v in read(written("a.pt")).structure.items()}
    write_pt("int.pt", state)
    assert (
        "int.pt: from torch: level 0: its dtypes are int32"
        in shell("convert", "int.pt", "b.onnx").error
    )
    assert "b.onnx" not in shell.files()


def test_ctrl_c_while_the_target_is_written(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    written("a.pt")

    def interrupted(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    for target in ("b.pt", "b.keras", "b.onnx", "b.safetensors", "b.weights.h5"):
        result = shell("convert", "a.pt", target)
        assert (result.code, result.out, result.err) == (130, "", "seqcore: interrupted\n")
        assert shell.files() == {"a.pt"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no SIGINT to one process")
def test_ctrl_c_in_a_process_of_its_own(shell: Shell) -> None:
    written("a.pt")
    # A job in the background of a script inherits that SIGINT is ignored.
    code = (
        "import pathlib, signal, sys, time; from seqcore.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def waiting(self, target):\n"
        "    print('written', flush=True)\n"
        "    time.sleep(60)\n"
        "pathlib.Path.replace = waiting\n"
        "sys.exit(main(['convert', 'a.pt', 'b.onnx']))\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        assert len(shell.files()) == 2
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (130, "seqcore: interrupted\n")
    assert shell.files() == {"a.pt"}


def test_no_framework_is_loaded(shell: Shell) -> None:
    written("a.pt")
    code = (
        "import sys; from seqcore.cli import main\n"
        "assert main(['convert', 'a.pt', 'b.keras']) == 0\n"
        "assert main(['convert', 'b.keras', 'c.onnx']) == 0\n"
        "assert main(['convert', 'c.onnx', 'd.safetensors', '--to', 'flax-nnx']) == 0\n"
        "frameworks = {'torch', 'tensorflow', 'keras', 'jax', 'flax', 'onnxruntime'}\n"
        "assert not frameworks & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["convert", "verify"])
def test_help_has_examples(shell: Shell, command: str) -> None:
    result = shell(command, "--help")
    assert result.code == 0
    assert f"examples:\n  seqcore {command} torch.pt model.keras" in result.out
