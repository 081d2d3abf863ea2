"""With unroll=True and go_backwards, zeros are written at the wrong steps.

The steps are visited in reverse, but the zeros of zero_output_for_mask, which Bidirectional always
sets, are written by the mask in its original order: valid steps are lost, masked ones are not zero.

Usage: KERAS_BACKEND=torch python unroll_zeroes_valid_steps_backwards.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras
import numpy as np


def compare(unroll):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 4, 3)).astype("float32")
    mask = np.array([[True, True, True, False]])
    layer = keras.layers.Bidirectional(
        keras.layers.GRU(2, return_sequences=True, unroll=unroll), merge_mode=None
    )
    layer.build(x.shape)
    # What the backward layer computes from the three valid steps alone, in original order.
    alone = keras.ops.convert_to_numpy(layer.backward_layer(x[:, :3]))[:, ::-1]
    expected = np.pad(alone, ((0, 0), (0, 1), (0, 0)))
    try:
        received = keras.ops.convert_to_numpy(layer(x, mask=mask)[1])
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
    return expected, received


wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for unroll in (False, True):
    expected, received = compare(unroll)
    right = not isinstance(received, str) and np.allclose(received, expected, rtol=0, atol=1e-5)
    wrong += not right
    print(f"unroll={unroll}: {'right' if right else 'WRONG'}")
    print(f"  expected {np.asarray(expected).tolist()}")
    print(f"  received {received if isinstance(received, str) else np.asarray(received).tolist()}")
sys.exit(wrong > 0)
