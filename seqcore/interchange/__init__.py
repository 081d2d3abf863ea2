"""Other frameworks' weights, in and out, on plain arrays and files; no framework is imported.

Each `from_...` returns `(layer, weights)`, ready to run anywhere; each `to_...` takes them and
returns the framework's own weight structure. `read` and `write` do the same with files. What the
other side cannot hold is an error that names it; nothing is approximated.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqcore.interchange.equinox import from_equinox, to_equinox
    from seqcore.interchange.flax import from_flax, to_flax
    from seqcore.interchange.haiku import from_haiku, to_haiku
    from seqcore.interchange.jax_blob import from_jax_blob, to_jax_blob
    from seqcore.interchange.keras import from_keras, keras_config, to_keras
    from seqcore.interchange.models import Model, read, write
    from seqcore.interchange.onnx import from_onnx, to_onnx
    from seqcore.interchange.torch import from_torch, to_torch

_FORMATS = ("equinox", "flax", "haiku", "jax_blob", "keras", "onnx", "torch")
_OWNERS = {
    **{f"{way}_{name}": name for name in _FORMATS for way in ("from", "to")},
    "keras_config": "keras",
    "Model": "models",
    "read": "models",
    "write": "models",
}
"""The module of each name; it is imported when the name is first used."""

__all__ = [
    "Model",
    "from_equinox",
    "from_flax",
    "from_haiku",
    "from_jax_blob",
    "from_keras",
    "from_onnx",
    "from_torch",
    "keras_config",
    "read",
    "to_equinox",
    "to_flax",
    "to_haiku",
    "to_jax_blob",
    "to_keras",
    "to_onnx",
    "to_torch",
    "write",
]


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_OWNERS[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
