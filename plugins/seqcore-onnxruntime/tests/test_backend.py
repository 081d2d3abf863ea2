"""What the backend announces, plans, declares and refuses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import seqcore as sc
from helpers import ACTIVATIONS, ALL, arguments
from seqcore.registry import registry


def plan(layer: Any, **question: Any) -> tuple[str, ...]:
    return layer.explain(backend="onnxruntime", **question).implementations()


def test_announcing_the_backend_imports_no_engine_and_no_numpy() -> None:
    code = """
import sys
import seqcore.spi.registration  # with it comes seqcore, which has its own tests
before = set(sys.modules)
from seqcore_onnxruntime.registration import seqcore_backends
(spec,) = seqcore_backends()
assert spec.name == "onnxruntime"
loaded = set(sys.modules) - before
assert loaded == {"seqcore_onnxruntime", "seqcore_onnxruntime.registration"}, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("mask", ["none", "lengths", "any"])
def test_whole_layers_of_lstms_and_grus_are_one_call_of_the_operators(mask: Any) -> None:
    both = sc.Bidirectional(sc.LSTM(3, return_sequences=True), "sum")
    back = sc.GRU(2, go_backwards=True, return_sequences=True, reset_after=False)
    assert plan(sc.Stack([both, back, sc.LSTM(4)]), mask=mask) == ("operators",)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_data_types_are_one_call_of_scan(dtype: str) -> None:
    assert plan(
        sc.Stack([sc.Bidirectional(sc.LSTM(3, return_sequences=True)), sc.GRU(2)]), dtype=dtype
    ) == ("scan",)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (sc.SimpleRNN(2), "leaves SimpleRNN to scan"),
        (sc.LSTM(2, activation="relu"), "takes bounded activations, not relu"),
        (sc.GRU(2, recurrent_activation="linear"), "takes bounded activations, not linear"),
        (sc.Stack([sc.LSTM(2, return_sequences=True), sc.SimpleRNN(2)]), "leaves SimpleRNN"),
    ],
    ids=str,
)
def test_what_operators_refuse_scan_takes(layer: Any, reason: str) -> None:
    assert plan(layer) == ("scan",)
    assert reason in str(layer.explain(backend="onnxruntime"))
    with pytest.raises(sc.PlanError, match=reason):
        plan(layer, implementation="operators")


def test_bounded_activations_are_the_operators() -> None:
    for activation in ACTIVATIONS:
        expected = "scan" if activation in ("relu", "linear") else "operators"
        assert plan(sc.LSTM(2, activation=activation)) == (expected,)
        assert plan(sc.GRU(2, recurrent_activation=activation)) == (expected,)


def test_products_in_bfloat16_are_scans() -> None:
    layer = sc.LSTM(2, **ALL)
    assert plan(layer, matmul_precision="bfloat16") == ("scan",)
    with pytest.raises(sc.UnsupportedFeature, match="tf32"):
        plan(layer, matmul_precision="tf32")


def test_there_are_no_gradients_and_no_gates() -> None:
    layer = sc.LSTM(2)
    weights, x, _ = arguments(layer)
    with pytest.raises(sc.UnsupportedFeature, match=r"gradients .* 'onnxruntime'"):
        layer.vjp(weights, x, backend="onnxruntime")
    with pytest.raises(sc.UnsupportedFeature, match=r"gates .* 'onnxruntime'"):
        layer.gates(weights, x, backend="onnxruntime")


def test_every_reason_is_a_phrase() -> None:
    declared = registry.get("onnxruntime").capabilities
    assert not declared.not_implemented
    for feature, reason in declared.unsupported.items():
        assert len(reason) > 20, feature
        assert not reason.endswith("."), feature


def test_threads_are_an_option_and_change_no_result() -> None:
    layer = sc.LSTM(32, **ALL)
    weights, x, _ = arguments(layer, features=16)
    found = [
        layer.apply(weights, x, backend="onnxruntime", threads=threads) for threads in (None, 1, 2)
    ]
    for outputs in found[1:]:
        for one, other in zip(outputs, found[0], strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("threads", [0, -1, 10**6])
def test_there_are_so_many_processors(threads: int) -> None:
    layer = sc.LSTM(2)
    weights, x, _ = arguments(layer)
    with pytest.raises(sc.ArgumentError, match=f"threads is {threads}, expected 1 to "):
        layer.apply(weights, x, backend="onnxruntime", threads=threads)


def test_the_engines_own_log_stays_silent(capfd: pytest.CaptureFixture[str]) -> None:
    layer = sc.Stack([sc.Bidirectional(sc.GRU(3, return_sequences=True)), sc.SimpleRNN(2)], **ALL)
    weights, x, _ = arguments(layer)
    for mask in (None, np.ones(x.shape[:2], np.bool_)):
        layer.apply(weights, x, backend="onnxruntime", mask=mask)
    assert capfd.readouterr() == ("", "")
