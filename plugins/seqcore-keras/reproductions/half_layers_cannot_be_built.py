"""A recurrent layer in a half type cannot be built with its default initializers.

The default of the recurrent kernel is orthogonal, which asks for a QR decomposition in the layer's
own type, and the framework has none.

Usage: KERAS_BACKEND=torch python half_layers_cannot_be_built.py
Exits with 1 while it is so on that backend.
"""

import sys

import keras

wrong = 0
print(f"Keras {keras.__version__}, KERAS_BACKEND={keras.backend.backend()}")
for dtype in ("float16", "bfloat16"):
    layer = keras.layers.GRU(2, dtype=dtype)
    try:
        layer.build((None, None, 3))
        received = f"{len(layer.weights)} weights"
    except Exception as error:
        received = f"{type(error).__name__}: {error}"
    right = received == "3 weights"
    wrong += not right
    print(f"dtype={dtype}: {'right' if right else 'WRONG'}")
    print("  expected 3 weights")
    print(f"  received {received}")
sys.exit(wrong > 0)
