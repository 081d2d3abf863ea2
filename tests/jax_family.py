"""What the tests of formats of JAX's libraries share: layers, input, and the proof by running."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

import seqcore as sc
from helpers import BOTH, FEATURES, assert_same_bits, random_weights

SEQUENCES = {"return_sequences": True}
LENGTHS = np.array([5, 2, 2])
X = np.random.default_rng(7).normal(size=(3, 5, FEATURES))
LIMIT = 1e-12


def forms(make: Any) -> dict[str, Any]:
    """A cell alone, in both directions, and in stacks; unlike units show a confusion of levels."""
    one, two = make(3, **SEQUENCES), make(2, **SEQUENCES)
    return {
        "cell": one,
        "bidirectional": sc.Bidirectional(one, backward_layer=two),
        "stack": sc.Stack([one, two, one], **SEQUENCES),
        "mixed": sc.Stack([two, sc.Bidirectional(one, backward_layer=two)], **SEQUENCES),
    }


def with_state(layer: Any) -> Any:
    """The layer with all that it can return."""
    if isinstance(layer, sc.Bidirectional):
        other = layer.backward_layer
        return layer.replace(
            layer=layer.layer.replace(**BOTH),
            backward_layer=None if other is None else other.replace(**BOTH),
        )
    return layer.replace(return_state=True)


def assert_runs_alike(
    format: str, structure: Any, layer: Any, weights: Any, lengths: Any = LENGTHS, **words: Any
) -> None:
    """Run a structure in its own library, and the layer on seqcore; compare every output."""
    run = import_module(f"seqcore.verify.own.{format}").run
    own = run(structure, words, X, lengths)
    expected = with_state(layer).apply(weights, X, lengths=lengths, backend="numpy")
    assert set(own) == set(expected._fields)
    valid = np.arange(X.shape[1]) < (np.inf if lengths is None else lengths[:, None])
    for name, value in expected._asdict().items():
        found = own[name]
        if name == "y":
            found, value = (np.where(valid[..., None], one, 0) for one in (found, value))
        assert np.abs(value).max() > 0.05
        np.testing.assert_allclose(found, value, rtol=0, atol=LIMIT, err_msg=name)


def assert_round_trip(write: Any, read: Any, layer: Any, rounded: tuple[str, ...] = ()) -> None:
    """Write and read random weights: the same layer, and every weight bit for bit but `rounded`."""
    weights = random_weights(layer, np.random.default_rng(3))
    again, found = read(write(layer, weights))
    assert again == layer
    assert list(found) == list(weights)
    for name, value in weights.items():
        if name.endswith(rounded):
            np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-15)
        else:
            assert_same_bits(found[name], value)
