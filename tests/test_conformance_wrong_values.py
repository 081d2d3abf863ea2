"""Backends whose numbers are wrong: laws of the clause that says so catch them, others do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from law_cases import caught
from seqcore.conformance.cases import precision
from seqcore.conformance.mutants.wrong import SameOps, Twisted, WrongBackend, columns


def reordered(units_gates: int, order: tuple[int, ...]) -> Twisted:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if len(request.layer.gate_names) == units_gates:
            weights = columns(weights, units_gates, order)
        return weights, x, mask, state

    return Twisted(before=before)


@pytest.mark.parametrize(
    ("gates", "order"), [(4, (0, 1, 3, 2)), (4, (1, 0, 2, 3)), (3, (1, 0, 2)), (3, (0, 2, 1))]
)
def test_another_gate_order_is_caught(gates: int, order: tuple[int, ...]) -> None:
    assert caught(WrongBackend(reordered(gates, order)), "NAME-3")


def twisted_weights(name: str, change: Any) -> Twisted:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if name in weights:
            weights = weights | {name: change(weights[name], request.layer.units)}
        return weights, x, mask, state

    return Twisted(before=before)


def test_a_forget_bias_added_twice_is_caught() -> None:
    def change(bias: Any, units: int) -> Any:
        return bias + (np.arange(bias.size) // units == 1) if bias.size == 4 * units else bias

    assert caught(WrongBackend(twisted_weights("bias", change)), "LSTM-5")


def test_a_recurrent_bias_outside_the_reset_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if "recurrent_bias" in weights:
            other = weights["recurrent_bias"]
            weights = weights | {"bias": weights["bias"] + other, "recurrent_bias": other * 0}
        return weights, x, mask, state

    backend = WrongBackend(Twisted(before=before))
    assert caught(backend, "GRU-2")
    assert caught(backend, "GRU-1") == ["GRU-1/whole-numbers-of-a-gru/after"]
    assert caught(backend, "BIAS-1") == []


def test_a_dropped_recurrent_row_is_caught() -> None:
    def change(kernel: Any, units: int) -> Any:
        return np.roll(kernel, 1, 0)

    backend = WrongBackend(twisted_weights("recurrent_kernel", change))
    assert caught(backend, "NAME-2")
    assert caught(backend, "RNN-1")


def test_a_state_after_the_wrong_step_is_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence, (sequence[:, 0], *final[1:])

    backend = WrongBackend(Twisted(after=after))
    for clause in ("OUT-3", "STATE-3", "BACK-3"):
        assert caught(backend, clause), clause


def test_a_gradient_at_a_kink_is_caught() -> None:
    def gradients(request: Any, parts: Any) -> Any:
        d_weights, d_x, d_state = parts
        return d_weights, d_x + np.float32(1e-3), d_state

    assert caught(WrongBackend(Twisted(gradients=gradients)), "ACT-2")


def test_a_mask_off_by_one_only_backwards_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        weights, x, mask, state = call
        if mask is not None and request.layer.go_backwards:
            mask = np.roll(mask, 1, 1)
        return weights, x, mask, state

    found = caught(WrongBackend(Twisted(before=before)), "MASK-1")
    assert "MASK-1/masked-steps-may-lie-anywhere/bidirectional" in found
    assert "MASK-1/masked-steps-may-lie-anywhere/lstm" not in found


def test_nan_that_spreads_from_under_the_mask_is_caught() -> None:
    class Multiplied(SameOps):
        def where(self, condition: Any, a: Any, b: Any) -> Any:
            return (
                a * condition.astype(a.dtype) if np.ndim(b) == 0 else super().where(condition, a, b)
            )

    assert caught(WrongBackend(ops=Multiplied()), "MASK-6")


def test_a_carried_state_that_arithmetic_has_touched_is_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence, tuple(value + np.float32(0) for value in final)  # -0 becomes 0

    assert caught(WrongBackend(Twisted(after=after)), "MASK-3")


def test_cotangents_that_fade_are_caught() -> None:
    def gradients(request: Any, parts: Any) -> Any:
        d_weights, d_x, d_state = parts
        return d_weights, d_x, tuple(d * d.dtype.type(1 - 1e-3) for d in d_state)

    backend = WrongBackend(Twisted(gradients=gradients))
    assert caught(backend, "MASK-8")
    assert caught(backend, "GRAD-3")
    assert caught(backend, "DTYPE-4")
    assert caught(backend, "GRAD-2") == []


def test_a_backend_that_writes_into_its_input_is_caught() -> None:
    def before(request: Any, call: Any) -> Any:
        x = call[1]
        if x.flags.writeable:
            x += 0.5
        return call

    assert caught(WrongBackend(Twisted(before=before)), "PURE-1")


def test_rows_that_share_are_caught() -> None:
    def after(request: Any, call: Any, sequence: Any, final: Any) -> Any:
        return sequence + 0 * call[1].sum(dtype=sequence.dtype), final

    backend = WrongBackend(Twisted(after=after))
    with np.errstate(invalid="ignore"):
        assert caught(backend, "PURE-4")


def test_states_that_are_rounded_late_are_caught() -> None:
    class Lazy(SameOps):
        def cast(self, x: Any, dtype: str) -> Any:
            down = dtype == "bfloat16" and x.dtype == np.float32 and x.ndim == 2
            return x if down else super().cast(x, dtype)

    assert "DTYPE-4/states-are-rounded-at-each-step/bfloat16/lstm" in caught(
        WrongBackend(ops=Lazy()), "DTYPE-4"
    )


def test_products_summed_in_a_half_type_are_caught() -> None:
    class Narrow(SameOps):
        def matmul(self, a: Any, b: Any) -> Any:
            if a.shape[-1] != 64:
                return super().matmul(a, b)
            whole = super().matmul(a[..., ::2], b[::2]).astype(np.float16)
            rest = super().matmul(a[..., 1::2], b[1::2]).astype(np.float16)
            return (whole + rest).astype(a.dtype)

    assert "DTYPE-5/sums-of-products-are-wide/float16" in caught(
        WrongBackend(ops=Narrow()), "DTYPE-5"
    )


def test_tf32_that_is_always_on_is_caught() -> None:
    class Lossy(SameOps):
        def matmul(self, a: Any, b: Any) -> Any:
            a, b = (precision.rounded(v, "tf32") if v.dtype == np.float32 else v for v in (a, b))
            return super().matmul(a, b)

    assert len(caught(WrongBackend(ops=Lossy()), "PREC-1")) == 2
