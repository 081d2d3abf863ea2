"""seqcore: one specification of recurrent layers, many engines that run it.

import seqcore as sc

layer = sc.LSTM(64, return_sequences=True)
weights = layer.init(features=8)
y = layer.apply(weights, x)
"""

from seqcore import interchange
from seqcore.config import use_backend
from seqcore.errors import (
    ArgumentError,
    BackendBroken,
    BackendError,
    BackendNotFound,
    BackendNotInstalled,
    ConfigError,
    ConversionError,
    DtypeError,
    DuplicateBackend,
    FileError,
    InputError,
    MaskError,
    PlanError,
    SeqcoreError,
    ShapeError,
    SpecError,
    StateError,
    UnsupportedFeature,
    WeightsError,
)
from seqcore.interchange.modules import to_flax, to_keras, to_torch
from seqcore.padding import pad
from seqcore.runtime import BoundLayer, Explanation, Gradients
from seqcore.spec.description import from_json, from_toml, json_schema
from seqcore.spec.initializers import (
    Constant,
    GlorotUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Zeros,
)
from seqcore.spec.layers import GRU, LSTM, Bidirectional, Layer, SimpleRNN, Stack
from seqcore.weights import load, save

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "ArgumentError",
    "BackendBroken",
    "BackendError",
    "BackendNotFound",
    "BackendNotInstalled",
    "Bidirectional",
    "BoundLayer",
    "ConfigError",
    "Constant",
    "ConversionError",
    "DtypeError",
    "DuplicateBackend",
    "Explanation",
    "FileError",
    "GlorotUniform",
    "Gradients",
    "InputError",
    "Layer",
    "MaskError",
    "Ones",
    "Orthogonal",
    "PlanError",
    "RandomNormal",
    "RandomUniform",
    "SeqcoreError",
    "ShapeError",
    "SimpleRNN",
    "SpecError",
    "Stack",
    "StateError",
    "UnsupportedFeature",
    "WeightsError",
    "Zeros",
    "from_json",
    "from_toml",
    "interchange",
    "json_schema",
    "load",
    "pad",
    "save",
    "to_flax",
    "to_keras",
    "to_torch",
    "use_backend",
]
