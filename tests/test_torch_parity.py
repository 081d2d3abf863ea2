"""Outputs and gradients against torch's own layers, in float64, with random weights and biases.

The weights are permuted by hand here: torch multiplies from the left, has two biases everywhere,
orders a GRU's gates r z n, and keeps a weight for each layer and direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import seqcore as sc
from helpers import (
    BATCH,
    BOTH,
    FEATURES,
    TIME,
    UNITS,
    assert_close,
    flat,
    gradient_arrays,
    implementations,
    needs,
)

torch = pytest.importorskip("torch", reason="torch, the engine that is compared with")

EPS = 400
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
MODULES = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
LAYERS: dict[str, Any] = {"rnn": sc.SimpleRNN, "lstm": sc.LSTM, "gru": sc.GRU}
LENGTHS = [5, 1, 3]


def our_columns(cell: str, units: int) -> np.ndarray:
    """Where torch keeps the rows of our gates: i f g o alike; our z r n are its second, first."""
    blocks = np.arange(GATES[cell] * units).reshape(GATES[cell], units)
    return (blocks[[1, 0, 2]] if cell == "gru" else blocks).ravel()


@dataclass
class Both:
    """One layer here and in torch, with the same weights."""

    cell: str
    layer: Any
    module: Any
    prefixes: list[tuple[str, str]]
    """Of our weights, and the ending of torch's."""

    def weights(self) -> dict[str, np.ndarray]:
        """Our weights, made from torch's."""
        weights = {}
        for ours, theirs in self.prefixes:
            mine = {
                name: self._theirs(f"{kind}_{theirs}", gradient=False)
                for name, kind in (
                    ("kernel", "weight_ih"),
                    ("recurrent_kernel", "weight_hh"),
                    ("bias", "bias_ih"),
                    ("recurrent_bias", "bias_hh"),
                )
            }
            if self.cell != "gru":
                mine["bias"] = mine["bias"] + mine.pop("recurrent_bias")
            weights |= {ours + name: value for name, value in mine.items()}
        return weights

    def gradients(self) -> dict[str, np.ndarray]:
        """Torch's gradients, by our names; both biases of an LSTM have the same one."""
        names = {
            "kernel": "weight_ih",
            "recurrent_kernel": "weight_hh",
            "bias": "bias_ih",
            "recurrent_bias": "bias_hh",
        }
        if self.cell != "gru":
            del names["recurrent_bias"]
        return {
            ours + name: self._theirs(f"{kind}_{theirs}", gradient=True)
            for ours, theirs in self.prefixes
            for name, kind in names.items()
        }

    def _theirs(self, name: str, *, gradient: bool) -> np.ndarray:
        parameter = getattr(self.module, name)
        value = (parameter.grad if gradient else parameter.detach()).numpy()
        return value[our_columns(self.cell, UNITS)].T.copy()


def make(cell: str, form: str) -> Both:
    torch.manual_seed(len(cell) + len(form))
    layers = 2 if form.startswith("stack") else 1
    both = form.endswith("bidirectional")
    module = MODULES[cell](
        FEATURES, UNITS, num_layers=layers, bidirectional=both, batch_first=True
    ).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0, 0.6)
    one = LAYERS[cell](UNITS, return_sequences=True)
    member = sc.Bidirectional(one) if both else one
    flagged = LAYERS[cell](UNITS, **BOTH)
    if layers == 2:
        layer = sc.Stack([member] * 2, **BOTH)
    else:
        layer = sc.Bidirectional(flagged) if both else flagged
    prefixes = [
        (("" if layers == 1 else f"layers.{k}.") + ours, f"l{k}{theirs}")
        for k in range(layers)
        for ours, theirs in ([("forward.", ""), ("backward.", "_reverse")] if both else [("", "")])
    ]
    return Both(cell, layer, module, prefixes)


def torch_outputs(
    pair: Both, x: Any, lengths: list[int] | None, state: list[Any]
) -> tuple[Any, ...]:
    """Torch's outputs in our order: y, then for each layer and direction h (and c)."""
    if pair.cell == "lstm":
        given: Any = (torch.stack(state[0::2]), torch.stack(state[1::2]))
    else:
        given = torch.stack(state)
    if lengths is None:
        y, final = pair.module(x, given)
    else:
        packed = torch.nn.utils.rnn.pack_padded_sequence(
            x, lengths, batch_first=True, enforce_sorted=False
        )
        y, final = pair.module(packed, given)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True, total_length=TIME)
    if pair.cell == "lstm":
        states = [value for h, c in zip(*final, strict=True) for value in (h, c)]
    else:
        states = list(final)
    return (y, *states)


FORMS = ["one", "bidirectional", "stack", "stack_bidirectional"]


@pytest.mark.clause("GRAD-3")
@pytest.mark.clause("MASK-2")
@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "lengths"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", GATES)
def test_outputs_and_gradients_equal_torch(
    cell: str, form: str, lengths: list[int] | None, implementation: str
) -> None:
    pair = make(cell, form)
    mask = "none" if lengths is None else "lengths"
    question = {"dtype": "float64", "mask": mask, "gradient": "yes"}
    needs(implementation, pair.layer, **question)
    rng = np.random.default_rng(7)
    x = rng.normal(size=(BATCH, TIME, FEATURES))
    count = len(pair.prefixes) * (2 if cell == "lstm" else 1)
    state = [rng.normal(size=(BATCH, UNITS)) for _ in range(count)]

    x_torch = torch.tensor(x, requires_grad=True)
    state_torch = [torch.tensor(value, requires_grad=True) for value in state]
    expected = torch_outputs(pair, x_torch, lengths, state_torch)
    cotangents = [rng.normal(size=tuple(value.shape)) for value in expected]
    loss = sum(
        (value * torch.tensor(d)).sum() for value, d in zip(expected, cotangents, strict=True)
    )
    loss.backward()

    outputs, pullback = pair.layer.vjp(
        pair.weights(),
        x,
        lengths=lengths,
        initial_state=state,
        backend="numpy",
        implementation=implementation,
    )
    for mine, torchs in zip(flat(outputs), expected, strict=True):
        assert_close(mine, torchs.detach().numpy(), EPS)
    found = gradient_arrays(pullback(cotangents))
    wanted = {
        **pair.gradients(),
        "x": x_torch.grad.numpy(),
        **{f"initial_state[{i}]": value.grad.numpy() for i, value in enumerate(state_torch)},
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert_close(found[name], value, EPS, name)


@pytest.mark.parametrize("implementation", implementations())
@pytest.mark.parametrize("cell", GATES)
def test_inference_equals_torch_too(cell: str, implementation: str) -> None:
    """`apply` and a bound layer, which may run other code than `vjp`."""
    pair = make(cell, "bidirectional")
    needs(implementation, pair.layer, dtype="float64", mask="lengths")
    x = np.random.default_rng(8).normal(size=(BATCH, TIME, FEATURES))
    zeros = [torch.zeros(BATCH, UNITS).double() for _ in range(4 if cell == "lstm" else 2)]
    with torch.no_grad():
        expected = torch_outputs(pair, torch.tensor(x), LENGTHS, zeros)
    weights = pair.weights()
    applied = pair.layer.apply(weights, x, lengths=LENGTHS, implementation=implementation)
    bound = pair.layer.bind(weights, implementation=implementation)(x, lengths=LENGTHS)
    for one, two, torchs in zip(applied, bound, expected, strict=True):
        assert_close(one, torchs.numpy(), EPS)
        assert_close(two, torchs.numpy(), EPS)


@pytest.mark.clause("NAME-3")
def test_the_comparison_sees_a_gate_order() -> None:
    """Exchanging any two gates' columns changes the result that is compared."""
    pair = make("lstm", "one")
    x = np.random.default_rng(9).normal(size=(BATCH, TIME, FEATURES))
    weights = pair.weights()
    right = pair.layer.apply(weights, x).y
    for one in range(4):
        for two in range(one + 1, 4):
            order = np.arange(4 * UNITS).reshape(4, UNITS)
            order[[one, two]] = order[[two, one]]
            swapped = {name: value[..., order.ravel()] for name, value in weights.items()}
            assert np.abs(pair.layer.apply(swapped, x).y - right).max() > 1e-3
