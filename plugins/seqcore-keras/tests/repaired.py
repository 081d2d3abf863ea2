"""Keras with the README's defects repaired in memory: what then still fails would be ours.

In this folder, `seqcore conform repaired:on_torch` runs the suite on it. Keras's loops over time
give way to one, and with them what Keras does with a mask, a state or `unroll`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from seqcore.spi import Backend

from seqcore_keras import factories


def on_numpy() -> Backend:
    return _repaired(factories.on_numpy())


def on_torch() -> Backend:
    return _repaired(factories.on_torch())


def on_jax() -> Backend:
    return _repaired(factories.on_jax())


def on_tensorflow() -> Backend:
    return _repaired(factories.on_tensorflow())


def _repaired(backend: Backend) -> Backend:
    import keras
    from keras.src import backend as framework
    from keras.src.backend.common import dtypes

    framework.rnn = _loop
    framework.lstm = framework.gru = _no_other_way
    dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"
    recurrent, bidirectional = keras.layers.RNN, keras.layers.Bidirectional
    recurrent.__call__ = _with_attached_mask(recurrent.__call__)
    recurrent.compute_mask = _turned_mask(recurrent.compute_mask)
    bidirectional.__call__ = _with_attached_mask(bidirectional.__call__)
    bidirectional.call = _states_by_count(bidirectional.call)
    backend.name = f"repaired-{backend.name}"
    return backend


def _no_other_way(*_: Any, **__: Any) -> Any:
    raise NotImplementedError


def _loop(
    step: Callable[[Any, Any], Any],
    inputs: Any,
    states: Sequence[Any],
    *,
    go_backwards: bool,
    mask: Any,
    zero_output_for_mask: bool,
    **_: Any,
) -> tuple[Any, Any, Any]:
    """Return the last output, all outputs and the final states."""
    from keras import ops

    time = range(inputs.shape[1])
    outputs = []
    if mask is not None:
        inputs = ops.where(mask[:, :, None], inputs, ops.zeros_like(inputs))
    for index in reversed(time) if go_backwards else time:
        output, after = step(inputs[:, index], states)
        if mask is not None:
            valid = mask[:, index, None]
            instead = ops.zeros_like(output) if zero_output_for_mask else states[0]
            output = ops.where(valid, output, instead)
            after = [ops.where(valid, new, old) for new, old in zip(after, states, strict=True)]
        states = after
        outputs.append(output)
    return states[0], ops.stack(outputs, 1), states


def _with_attached_mask(call: Callable[..., Any]) -> Callable[..., Any]:
    from keras.src.backend.common.masking import get_keras_mask

    def called(self: Any, sequences: Any, *, mask: Any = None, **given: Any) -> Any:
        return call(
            self, sequences, mask=get_keras_mask(sequences) if mask is None else mask, **given
        )

    return called


def _turned_mask(compute_mask: Callable[..., Any]) -> Callable[..., Any]:
    from keras import ops

    def computed(self: Any, sequences: Any, mask: Any) -> Any:
        turned = ops.flip(mask, 1) if mask is not None and self.go_backwards else mask
        return compute_mask(self, sequences, turned)

    return computed


def _states_by_count(call: Callable[..., Any]) -> Callable[..., Any]:
    from keras import ops

    def called(self: Any, sequences: Any, initial_state: Any, mask: Any = None, **_: Any) -> Any:
        split = len(self.forward_layer.state_size)
        if split * 2 == len(initial_state):
            return call(self, sequences, initial_state=initial_state, mask=mask)
        y, *ahead = self.forward_layer(sequences, initial_state=initial_state[:split], mask=mask)
        z, *behind = self.backward_layer(sequences, initial_state=initial_state[split:], mask=mask)
        z = ops.flip(z, 1)
        match self.merge_mode:
            case "concat":
                return (ops.concatenate([y, z], -1), *ahead, *behind)
            case "sum":
                return (y + z, *ahead, *behind)
            case "mul":
                return (y * z, *ahead, *behind)
            case "ave":
                return ((y + z) / 2, *ahead, *behind)
        return (y, z, *ahead, *behind)

    return called
