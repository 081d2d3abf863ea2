"""Arguments that other libraries have and seqcore has not, each with what to do instead.

An argument that is accepted and ignored gives wrong results without a word, so none is.
"""

from __future__ import annotations

from collections.abc import Iterable

from seqcore.spec.naming import nearest

_RUN_OPTION = "it says how a layer runs, not what it is; give it to apply, bind or use_backend"
_NO_DROPOUT = "dropout is not in this version; apply it to the input or the output yourself"
_NO_PENALTY = "a layer has no losses; add the penalty of the weights to your own loss"
_NO_CONSTRAINT = "weights are plain arrays; constrain them after each update"
_BIDIRECTIONAL = "wrap the layer: Bidirectional(LSTM(units))"
_FEATURES = "the input's last axis says it: layer.init(features)"
_INITIAL_STATE = "it is called initial_state"
_LENGTHS = "it is called lengths"

FOREIGN_ARGUMENTS: dict[str, str] = {
    # Regularisation and training.
    "dropout": _NO_DROPOUT,
    "recurrent_dropout": "recurrent dropout is not in this version",
    "dropout_rate": _NO_DROPOUT,
    "zoneout": "zoneout is not in this version",
    "layer_norm": "layer normalisation is not in this version; normalise the input or the output",
    "training": "every layer computes the same in training and in inference; leave it out",
    "trainable": "which weights an optimizer updates is its own choice; leave it out",
    "kernel_regularizer": _NO_PENALTY,
    "recurrent_regularizer": _NO_PENALTY,
    "bias_regularizer": _NO_PENALTY,
    "activity_regularizer": _NO_PENALTY,
    "kernel_constraint": _NO_CONSTRAINT,
    "recurrent_constraint": _NO_CONSTRAINT,
    "bias_constraint": _NO_CONSTRAINT,
    # State and time.
    "stateful": "layers keep no state; feed the returned state back as initial_state",
    "unroll": "how the loop over time runs is the engine's decision; leave it out",
    "time_major": "arrays are (batch, time, features); swap the first two axes of the input",
    "batch_first": "arrays are always (batch, time, features); transpose another order yourself",
    "layout": "arrays are always (batch, time, features); transpose another order yourself",
    "hx": _INITIAL_STATE,
    "h0": _INITIAL_STATE,
    "c0": "initial_state takes the whole state: (h, c)",
    "initial_h": _INITIAL_STATE,
    "initial_c": "initial_state takes the whole state: (h, c)",
    "initial_carry": _INITIAL_STATE,
    "sequence_length": _LENGTHS,
    "sequence_lens": _LENGTHS,
    "seq_lengths": _LENGTHS,
    "enforce_sorted": "lengths may come in any order; leave it out",
    "zero_output_for_mask": "it is called mask_output: 'zero' or 'carry'",
    # Size and structure.
    "num_layers": "stack layers explicitly: Stack([LSTM(units, return_sequences=True), ...])",
    "bidirectional": _BIDIRECTIONAL,
    "direction": f"set go_backwards=True; for both directions {_BIDIRECTIONAL}",
    "hidden_size": "it is called units",
    "hidden_dim": "it is called units",
    "num_units": "it is called units",
    "input_size": _FEATURES,
    "input_dim": _FEATURES,
    "input_shape": _FEATURES,
    "batch_input_shape": _FEATURES,
    "proj_size": "projection of the state is not in this version; multiply the output yourself",
    "num_proj": "projection of the state is not in this version; multiply the output yourself",
    "use_peepholes": "peepholes are not in this version",
    "cell": "choose the layer itself: SimpleRNN, LSTM or GRU",
    # Equations.
    "nonlinearity": "it is called activation",
    "bias": "it is called use_bias; the array itself is in the weights",
    "linear_before_reset": "it is called reset_after",
    "input_forget": "coupled input and forget gates are not in this version",
    "clip": "clipping of the state is not in this version",
    "cell_clip": "clipping of the state is not in this version",
    # Where and how a layer runs.
    "backend": _RUN_OPTION,
    "device": _RUN_OPTION,
    "implementation": _RUN_OPTION,
    "matmul_precision": _RUN_OPTION,
    "use_cudnn": "the engine's plan decides; layer.explain() shows it, implementation= forces one",
    "precision": "it is called matmul_precision",
    "dtype": "the input and the weights have it: layer.init(features, dtype='float64')",
    "seed": "initial weights take it: layer.init(features, seed=1)",
    "weights": "a layer holds none; give them to apply or bind",
    "name": "layers have no names; call the variable that holds it what you like",
}


def explain_unknown(subject: str, name: str, allowed: Iterable[str]) -> str:
    """Return the message for an argument, field or option that is not taken.

    Args:
        subject: What was called or read, as the message's first words.
        name: What was received.
        allowed: What is taken.
    """
    instead = FOREIGN_ARGUMENTS.get(name)
    if instead is not None:
        return f"{subject}: {name!r} is not taken: {instead}"
    allowed = tuple(allowed)
    expected = f"one of {', '.join(allowed)}" if allowed else "nothing"
    return f"{subject}: {name!r} is not taken{nearest(name, allowed)}; expected {expected}"
