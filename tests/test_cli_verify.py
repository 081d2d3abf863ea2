"""`seqcore verify`: files and Python objects, botched ports with their cause, what is not run."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from command_line import Result, Shell, process, shell_fixture  # noqa: F401 - found by its name
from helpers import random_weights
from seqcore.cli import progress
from seqcore.interchange import write

torch: Any = pytest.importorskip("torch", reason="torch, in which most ports here are")

SEQ: Any = {"return_sequences": True}
LSTM = sc.LSTM(3, **SEQ)
GRU = sc.GRU(3, **SEQ)
BOTH = sc.Bidirectional(LSTM)
LEVELS = sc.Stack((BOTH, BOTH), **SEQ)

Module = Callable[[str], str]
"""Writes a Python module and returns its name."""

_NAMES = (f"port_{number}" for number in itertools.count())


@pytest.fixture(name="module")
def module_fixture(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Module:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))

    def written(text: str) -> str:
        name = next(_NAMES)
        shell.write(f"{name}.py", text)
        return name

    return written


def weights_of(layer: Any, dtype: str = "float64") -> Any:
    return random_weights(layer, np.random.default_rng(7), dtype)


def saved(layer: Any = LSTM, dtype: str = "float64") -> Any:
    """A model in a file, and its weights as a porter gets them: arrays by name."""
    weights = weights_of(layer, dtype)
    sc.save("model.safetensors", layer, weights)
    np.savez("weights.npz", **weights)
    return weights


def draw(features: int = 4) -> Any:
    return np.random.default_rng(3).standard_normal((3, 6, features))


# --- models that compute the same ----------------------------------------------------------------


def test_two_files(shell: Shell) -> None:
    write("model.pt", LEVELS, saved(LEVELS))
    result = shell.ok("verify", "model.safetensors", "model.pt")
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert lines[0] == f"{LEVELS}, float64"
    (own,) = [line for line in lines if line.startswith("model.pt in torch on seqcore ")]
    (both,) = [line for line in lines if line.startswith("model.safetensors model.pt ")]
    assert own.endswith(" within")
    assert both.endswith(" within")
    assert lines[-1] == "the same"
    assert result.err == ""
    shell.ok("verify", "model.pt", "model.pt")


OBJECTS = """
import numpy as np
import torch
import seqcore as sc

weights = dict(np.load("weights.npz"))
layer = sc.LSTM(3, return_sequences=True)
model = layer, weights
tensors = layer, {name: torch.tensor(value) for name, value in reversed(weights.items())}

class Holder:
    @staticmethod
    def forward(x, lengths):
        return layer.replace(return_state=True).apply(weights, x, lengths=lengths)

lstm = torch.nn.LSTM(4, 3, batch_first=True, dtype=torch.float64)
lstm.load_state_dict({
    name: torch.tensor(value) for name, value in sc.interchange.to_torch(layer, weights).items()
})
cell = torch.nn.LSTMCell(4, 3, dtype=torch.float64)
cell.load_state_dict({name.removesuffix("_l0"): v for name, v in lstm.state_dict().items()})
"""


@pytest.mark.parametrize("attribute", ["model", "tensors", "Holder.forward", "lstm", "cell"])
def test_objects_of_a_module(shell: Shell, module: Module, attribute: str) -> None:
    saved()
    name = f"{module(OBJECTS)}:{attribute}"
    result = shell.ok("verify", "model.safetensors", name)
    assert (f"{name} in torch" in result.out) == (attribute in ("lstm", "cell"))
    assert result.err == ""
    shell.ok("verify", name, "model.safetensors")


@pytest.mark.parametrize("kind", ["tanh", "relu"])
def test_a_torch_module_that_says_its_activation(shell: Shell, module: Module, kind: str) -> None:
    layer = sc.SimpleRNN(3, activation=kind, **SEQ)
    write("rnn.pt", layer, saved(layer))
    name = module(
        "import torch\n"
        f"rnn = torch.nn.RNN(4, 3, batch_first=True, nonlinearity='{kind}', dtype=torch.float64)\n"
        "rnn.load_state_dict(torch.load('rnn.pt', weights_only=True))\n"
    )
    shell.ok("verify", "model.safetensors", f"{name}:rnn")
    shell.ok("verify", f"{name}:rnn", "rnn.pt", "--with", f"activation={kind}")
    other = {"tanh": "relu", "relu": "tanh"}[kind]
    result = shell("verify", f"{name}:rnn", "rnn.pt", "--with", f"activation={other}")
    assert result.code == 1
    assert f"likely cause: activation: activation is {other}" in result.out
    assert (
        "leave it out"
        in shell("verify", f"{name}:rnn", "rnn.pt", "--set", f"activation={other}").error
    )


def test_the_configuration_changes_nothing(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    write("model.pt", LSTM, saved(LSTM, "float32"))
    shell.write("seqcore.toml", 'backend = "torch"\n[numpy]\nmatmul_precision = "bfloat16"\n')
    monkeypatch.setenv("SEQCORE_NUMPY__MATMUL_PRECISION", "bfloat16")
    shell.ok("verify", "model.safetensors", "model.pt")


def test_the_seed_draws_the_input(shell: Shell) -> None:
    write("model.pt", LSTM, saved())
    out = [
        shell.ok("verify", "model.safetensors", "model.pt", "--seed", seed, "--json").out
        for seed in ("1", "1", "2")
    ]
    assert out[0] == out[1] != out[2]


def test_a_dtype_in_which_little_shows_is_said(shell: Shell) -> None:
    write("model.pt", LSTM, saved(LSTM, "bfloat16"))
    result = shell.ok("verify", "model.safetensors", "model.pt")
    assert "warning: in bfloat16 a difference of 0." in result.err
    assert "cast to float32" in result.err


# --- ports as they are botched -------------------------------------------------------------------

LOADED = """
import numpy as np
import torch

w = {name: torch.tensor(value) for name, value in np.load("weights.npz").items()}

def module(kind, layers=1, both=False, batch_first=True):
    return kind(4, 3, layers, batch_first=batch_first, bidirectional=both, dtype=torch.float64)

def fill(rnn, suffix="_l0", prefix=""):
    with torch.no_grad():
        getattr(rnn, "weight_ih" + suffix).copy_(w[prefix + "kernel"].T)
        getattr(rnn, "weight_hh" + suffix).copy_(w[prefix + "recurrent_kernel"].T)
        getattr(rnn, "bias_ih" + suffix).copy_(w[prefix + "bias"])
        other = w.get(prefix + "recurrent_bias", torch.zeros_like(w[prefix + "bias"]))
        getattr(rnn, "bias_hh" + suffix).copy_(other)

def fill_both(rnn, level=""):
    fill(rnn, "_l" + (level[7:8] or "0"), level + "forward.")
    fill(rnn, "_l" + (level[7:8] or "0") + "_reverse", level + "backward.")

def packed(rnn, x, lengths):
    rnn_utils = torch.nn.utils.rnn
    out, state = rnn(rnn_utils.pack_padded_sequence(
        torch.tensor(x), torch.tensor(lengths), batch_first=True, enforce_sorted=False))
    return rnn_utils.pad_packed_sequence(out, batch_first=True)[0], state
"""

BOTCHED: dict[str, tuple[Any, str, str]] = {
    "gate order": (
        GRU,
        """
rnn = module(torch.nn.GRU)
fill(rnn)  # as in Keras: z r n

def forward(x, lengths):
    return packed(rnn, x, lengths)[0]
""",
        "z r n (Keras's, ONNX's) where r z n (torch's, cuDNN's) is read",
    ),
    "forget bias of 1": (
        LSTM,
        """
rnn = module(torch.nn.LSTM)
w["bias"][3:6] -= 1  # "unit_forget_bias adds it"
fill(rnn)

def forward(x, lengths):
    out, (h, c) = packed(rnn, x, lengths)
    return out, h[0], c[0]
""",
        "the forget gate's bias lacks 1",
    ),
    "summed GRU biases": (
        GRU,
        """
rnn = module(torch.nn.GRU)
z, r, n = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5]), torch.tensor([6, 7, 8])
order = torch.cat([z + 3, z, n])
w = {name: value[..., order] for name, value in w.items()}
w["bias"] += w.pop("recurrent_bias")  # "torch adds the two anyway"
fill(rnn)

def forward(x, lengths):
    return packed(rnn, x, lengths)[1][0]
""",
        "the two biases were added up",
    ),
    "transposed recurrent kernel": (
        LSTM,
        """
def cell(x, h, c):
    z = x @ w["kernel"] + w["bias"]
    z = z + torch.cat([h @ gate.T for gate in w["recurrent_kernel"].split(3, -1)], -1)
    i, f, g, o = z.split(3, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c

def forward(x, lengths):
    h = c = torch.zeros(len(x), 3, dtype=torch.float64)
    steps = []
    for step in torch.tensor(x).unbind(1):
        h, c = cell(step, h, c)
        steps.append(h)
    return torch.stack(steps, 1)
""",
        "each gate's recurrent kernel is transposed",
    ),
    "unflipped backward direction": (
        BOTH,
        """
rnn = module(torch.nn.LSTM)
back = module(torch.nn.LSTM)
fill(rnn, "_l0", "forward.")
fill(back, "_l0", "backward.")

def forward(x, lengths):
    turned = x.copy()
    for row, length in zip(turned, lengths):
        row[:length] = row[:length][::-1]
    there, _ = rnn(torch.tensor(x))
    backwards, _ = back(torch.tensor(turned))
    return torch.cat([there, backwards], -1)
""",
        "within each row's length",
    ),
    "last step taken for the joined final state": (
        BOTH,
        """
rnn = module(torch.nn.LSTM, both=True)
fill_both(rnn)

def forward(x, lengths):
    return packed(rnn, x, lengths)[0][:, -1]
""",
        "out[:, -1] is returned",
    ),
    "lengths ignored": (
        BOTH,
        """
rnn = module(torch.nn.LSTM, both=True)
fill_both(rnn)

def forward(x, lengths):
    out, (h, c) = rnn(torch.tensor(x))
    return torch.cat([h[0], h[1]], -1)
""",
        "the padding is read like input",
    ),
    "h and c swapped": (
        LSTM,
        """
rnn = module(torch.nn.LSTM)
fill(rnn)

def forward(x, lengths):
    out, (c, h) = packed(rnn, x, lengths)
    return h[0]
""",
        "the cell state is taken for the hidden state",
    ),
    "batch and time swapped": (
        LSTM,
        """
rnn = module(torch.nn.LSTM, batch_first=False)
fill(rnn)

def forward(x, lengths):
    return rnn(torch.tensor(x))[0]
""",
        "set batch_first",
    ),
    "lost bias": (
        LEVELS,
        """
rnn = module(torch.nn.LSTM, 2, both=True)
fill_both(rnn, "layers.0.")
fill_both(rnn, "layers.1.")
torch.nn.init.zeros_(rnn.bias_ih_l1_reverse)  # one line too many

def forward(x, lengths):
    return packed(rnn, x, lengths)[0]
""",
        "(layers.1.backward alone)",
    ),
}


@pytest.mark.parametrize("name", BOTCHED)
def test_a_botched_port_is_told_its_mistake(shell: Shell, module: Module, name: str) -> None:
    layer, text, cause = BOTCHED[name]
    saved(layer)
    port = f"{module(LOADED + text)}:forward"
    result = shell("verify", "model.safetensors", port)
    assert result.code == 1, result.err
    # Nothing but what is told of a search that takes long.
    assert all(line.startswith("searching for") for line in result.err.splitlines())
    lines = result.out.splitlines()
    likely = [line for line in lines if line.startswith("likely cause: ")]
    assert likely, result.out
    assert all(line.startswith(f"likely cause: {name}: ") for line in likely)
    assert any(cause in line for line in likely)
    assert lines[-1] == "NOT the same"
    data = strict(shell("verify", "model.safetensors", port, "--json"))
    assert {one["name"] for one in data["causes"]} == {name}
    assert (data["agree"], data["proven"]) == (False, False)


def strict(result: Result) -> Any:
    """The answer as JSON, which has neither Infinity nor NaN."""

    def refused(constant: str) -> Any:
        raise AssertionError(constant)

    return json.loads(result.out, parse_constant=refused)


def test_a_botched_file(shell: Shell) -> None:
    weights = saved(LEVELS)
    i, f, g, o = np.split(weights["layers.1.forward.kernel"], 4, axis=1)
    weights["layers.1.forward.kernel"] = np.concatenate([i, o, f, g], axis=1)
    write("port.pt", LEVELS, weights)
    result = shell("verify", "model.safetensors", "port.pt")
    assert result.code == 1
    assert "first diverges at step 0" in result.out
    (line,) = [line for line in result.out.splitlines() if line.startswith("likely cause: ")]
    assert "gate order: the gates of the kernel stand as i o f g (ONNX's)" in line
    assert "(layers.1.forward alone)" in line
    data = strict(shell("verify", "model.safetensors", "port.pt", "--json"))
    assert [row["within"] for row in data["rows"]] == [True, False]
    assert data["step"] == 0
    assert data["dtype"] == "float64"


def test_a_difference_that_nothing_explains(shell: Shell) -> None:
    weights = saved()
    write("port.pt", LSTM, {**weights, "kernel": weights["kernel"] * 1.001})
    result = shell("verify", "model.safetensors", "port.pt")
    assert result.code == 1
    assert result.out.splitlines()[-2:] == [
        "no known mistake explains the difference",
        "NOT the same",
    ]


@pytest.mark.parametrize(
    "body", ["np.full((*x.shape[:2], 3), np.nan)", "np.zeros((*x.shape[:2], 2))"]
)
def test_json_has_no_infinity(shell: Shell, module: Module, body: str) -> None:
    saved()
    name = module(f"import numpy as np\ndef forward(x, lengths): return {body}\n")
    data = strict(shell("verify", "model.safetensors", f"{name}:forward", "--json"))
    assert data["rows"][0]["eps"] is None
    assert data["rows"][0]["within"] is False
    result = shell("verify", "model.safetensors", f"{name}:forward")
    assert result.code == 1
    assert f"y, not finite in {name}:forward" in result.out or "y: (4, 9, 3) and" in result.out


# --- the input -----------------------------------------------------------------------------------

RIGHT = """
import numpy as np
import seqcore as sc

seen = []

def forward(x, lengths):
    seen.append((x, lengths))
    weights = dict(np.load("weights.npz"))
    return sc.LSTM(3, return_sequences=True).apply(weights, x, lengths=lengths)
"""


def test_an_input_of_one_s_own(shell: Shell, module: Module) -> None:
    saved()
    name = module(RIGHT)
    x, lengths = draw(), np.array([6, 1, 4])
    np.save("x.npy", x)
    np.savez("x.npz", x=x.astype("float32"), lengths=lengths)
    shell.write("x.csv", "id,a,b,c,d\nk,1,2,3,4\nk,2,3,4,5\nz,6,7,8,9\n")
    for arguments in (
        ["x.npy"],
        ["x.npz"],
        ["x.csv", "--sequence-column", "id"],
    ):
        shell.ok("verify", "model.safetensors", f"{name}:forward", "--input", *arguments)
    (first, none), (second, given), (third, two) = sys.modules[name].seen
    np.testing.assert_array_equal(first, x)
    assert none.tolist() == [6, 6, 6]
    np.testing.assert_array_equal(second, x.astype("float32"))
    np.testing.assert_array_equal(given, lengths)
    np.testing.assert_array_equal(third, [[[1, 2, 3, 4], [2, 3, 4, 5]], [[6, 7, 8, 9], [0] * 4]])
    np.testing.assert_array_equal(two, [2, 1])
    assert {one.dtype.name for one in (first, second, third)} == {"float64"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": draw(), "lengths": [6, 0, 4]}, "lengths go down to 0, expected 1 or more"),
        ({"x": draw(), "lengths": [7, 1, 4]}, "lengths go from 1 to 7"),
        ({"x": draw(), "mask": np.ones((3, 6), bool)}, "x.npz: holds mask, which not every"),
        (
            {"x": draw(), "initial_state.h": np.ones((3, 3)), "initial_state.c": np.ones((3, 3))},
            "x.npz: holds initial_state",
        ),
        ({"x": draw(5)}, "model.safetensors takes 4 features"),
        ({"x": draw()[:0]}, "x has shape (0, 6, 4), expected a row and a step"),
        ({"x": draw()[0]}, "expected (batch, time, features)"),
        ({"x": draw().astype(int)}, "x is int64"),
        ({"y": draw()}, "unknown key 'y'"),
    ],
)
def test_inputs_that_are_not_taken(shell: Shell, arrays: Any, message: str) -> None:
    write("model.pt", LSTM, saved())
    np.savez("x.npz", **arrays)
    assert message in shell("verify", "model.safetensors", "model.pt", "--input", "x.npz").error


# --- what cannot be compared ---------------------------------------------------------------------

BROKEN = """
import numpy as np

layer = "LSTM"
number = 3

def raises(x, lengths):
    raise ValueError("no such thing")

def leaves(x, lengths):
    raise SystemExit(0)

def alone(x):
    return x

def nothing(x, lengths):
    pass

def flat(x, lengths):
    return x[0, 0]

def right(x, lengths):
    return np.zeros((*x.shape[:2], 3))
"""


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("raises", ", line 8): no such thing; expected a function of x (batch, time"),
        ("leaves", "): 0; expected a function of x"),
        ("alone", "raised TypeError: alone() takes 1 positional argument but 2 were given"),
        (
            "nothing",
            "returned NoneType in place 0, and arrays are what is compared; expected a function",
        ),
        ("flat", "returned final of shape (4,) for x (4, 9, 4); expected a function"),
        ("layer", "is str, expected a layer with its weights"),
        ("number", "is int, expected a layer with its weights"),
        ("rihgt", "cannot be imported: AttributeError: "),
    ],
)
def test_objects_that_are_no_models(
    shell: Shell, module: Module, attribute: str, message: str
) -> None:
    saved()
    name = f"{module(BROKEN)}:{attribute}"
    error = shell("verify", "model.safetensors", name).error
    assert error.startswith(f"{name}: ")
    assert message in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at"),
        ("def forward(x, lengths)", "SyntaxError: expected ':'"),
        ("import sys; sys.exit(0)", "SystemExit: 0"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_modules_that_cannot_be_imported(
    shell: Shell, module: Module, text: str, message: str
) -> None:
    saved()
    name = f"{module(text)}:forward"
    error = shell("verify", "model.safetensors", name).error
    assert error.startswith(f"{name}: cannot be imported: {message}")
    assert "expected module:attribute" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model.safetensors"], "expected two models A and B, or --formats"),
        ([], "expected two models A and B, or --formats"),
        (["model.safetensors", "absent.pt"], "absent.pt: cannot be read: No such file"),
        (["model.safetensors", "port"], "port: is no file, expected one of .safetensors"),
        (["model.safetensors", "x:y.pt"], "cannot be imported: ModuleNotFoundError"),
        (["model.safetensors", "./x:y.pt"], "x:y.pt: cannot be read: No such file"),
        (["model.safetensors", "model.pt", "--to", "toch"], "(did you mean 'torch'?)"),
        (["model.safetensors", "model.pt", "--with", "activaton=relu"], "'activaton' is not taken"),
        (["model.safetensors", "model.pt", "--set", "activation=relu"], "takes no activation"),
        (["model.safetensors", "PORT:right", "--to", "torch"], "is a function, and format torch"),
        (["model.safetensors", "PORT:right", "--with", "units=3"], "is a function, and units was"),
        (["PORT:right", "PORT:raises"], "are functions, expected a model to compare with"),
        (["PORT:right", "PORT:raises", "--input", "x.npy"], "are functions, expected a model"),
        (["other.pt", "model.pt"], "other.pt takes 5 and model.pt takes 4 features"),
        (["model.safetensors", "model.pt", "--input", "x.txt"], "x.txt: suffix .txt"),
        (["model.safetensors", "model.pt", "--input", "absent.npy"], "absent.npy: cannot be read"),
        (
            ["model.safetensors", "model.pt", "--input", "wide.npy"],
            "model.safetensors takes 4 feat",
        ),
        (["model.safetensors", "model.pt", "--input", "long.npy"], "expected at most 16777216"),
        (["model.safetensors", "model.pt", "--sequence-column", "id"], "goes with --input"),
        (["--formats", "model.pt"], "--formats: takes --seed and --json alone"),
        (["--formats", "--input", "x.npy"], "--formats: takes --seed and --json alone"),
        (["--formats", "--set", "units=3"], "--formats: takes --seed and --json alone"),
    ],
)
def test_arguments_that_would_be_ignored_or_cannot_be_met(
    shell: Shell, module: Module, arguments: list[str], message: str
) -> None:
    write("model.pt", LSTM, saved())
    write("other.pt", LSTM, random_weights(LSTM, np.random.default_rng(0), features=5))
    np.save("x.npy", draw())
    np.save("wide.npy", draw(features=5))
    np.lib.format.open_memmap("long.npy", "w+", np.float64, (2, 2**21 + 1, 4))  # all holes
    name = module(BROKEN)
    arguments = [argument.replace("PORT", name) for argument in arguments]
    assert message in shell("verify", *arguments).error


def test_ctrl_c(shell: Shell, module: Module) -> None:
    saved()
    name = module("def forward(x, lengths): raise KeyboardInterrupt\n")
    result = shell("verify", "model.safetensors", f"{name}:forward")
    assert (result.code, result.out, result.err) == (130, "", "seqcore: interrupted\n")


# --- what did not run, and how far it is ---------------------------------------------------------


def test_a_framework_that_is_not_installed_is_no_proof(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("model.pt", LSTM, saved())
    genuine = importlib.import_module

    def absent(name: str, package: str | None = None) -> Any:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return genuine(name, package)

    monkeypatch.setattr(importlib, "import_module", absent)
    result = shell("verify", "model.safetensors", "model.pt")
    assert result.code == 1
    assert result.err == (
        "seqcore: warning: model.pt ran on seqcore alone: torch is not installed; pip install "
        "torch\n"
    )
    assert result.out.splitlines()[-1] == (
        "the same on seqcore, NOT PROVEN: model.pt did not run itself"
    )
    data = strict(shell("verify", "model.safetensors", "model.pt", "--json"))
    assert (data["agree"], data["proven"]) == (True, False)
    assert data["not_run"] == {"model.pt": "torch is not installed; pip install torch"}


def test_a_file_is_read_where_its_framework_is_not_loaded(shell: Shell) -> None:
    write("model.pt", LSTM, saved())
    (shell.folder / "hidden").mkdir()
    (shell.folder / "hidden" / "torch.py").write_text("raise ModuleNotFoundError(name='torch')\n")
    environment = {**os.environ, "PYTHONPATH": str(shell.folder / "hidden")}
    done = process("verify", "model.safetensors", "model.pt", env=environment)
    assert done.returncode == 1
    assert "NOT PROVEN" in done.stdout
    assert "pip install torch" in done.stderr


def test_a_long_comparison_tells_what_it_does(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = saved()
    write("port.pt", LSTM, {**weights, "bias": 0 * weights["bias"]})
    arguments = ("verify", "model.safetensors", "port.pt")
    assert shell(*arguments).err == ""
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    result = shell(*arguments)
    assert result.err.splitlines()[:5] == [
        "reading model.safetensors and port.pt",
        "finding how much rounding may do",
        "running model.safetensors",
        "running port.pt",
        "searching for the mistake, 0 tried",
    ]
    assert "searching" not in result.out


def test_round_trips_of_a_format(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("seqcore.verify.round_trips")
    monkeypatch.setattr(module, "FORMATS", {"torch": module.FORMATS["torch"]})
    result = shell.ok("verify", "--formats")
    rows = [line.split() for line in result.out.splitlines() if line.startswith(" torch")]
    assert len(rows) == len(module.LAYERS)
    assert sum("refused:" in row for row in rows) == 1
    assert sum(row[-3:] == ["the", "same", "bits"] for row in rows) == len(rows) - 1
    data = strict(shell.ok("verify", "--formats", "--json", "--seed", "4"))
    assert {one["format"] for one in data} == {"torch"}
    assert all(one["sound"] for one in data)


def test_round_trips_that_do_not_run_are_not_sound(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("seqcore.verify.round_trips")
    monkeypatch.setattr(module, "FORMATS", {"torch": module.FORMATS["torch"]})
    own = importlib.import_module("seqcore.verify.own.torch")

    def absent(*arguments: Any) -> Any:
        raise sc.BackendNotInstalled("torch is not installed; pip install torch")

    monkeypatch.setattr(own, "run", absent)
    result = shell("verify", "--formats")
    assert result.code == 1
    assert result.out.count("not run: torch is not installed") == len(module.LAYERS) - 1
