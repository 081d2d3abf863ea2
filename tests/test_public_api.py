"""The one public door: its names, their documentation, and the tree of errors."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any

import pytest

import seqcore as sc
from seqcore import errors

NAMES = [
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


def test_the_public_names() -> None:
    assert sc.__all__ == NAMES
    for name in NAMES:
        assert getattr(sc, name) is not None
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", sc.__version__)


def test_star_import_gives_those_names() -> None:
    found: dict[str, Any] = {}
    exec("from seqcore import *", found)
    assert set(found) - {"__builtins__"} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_documented(name: str) -> None:
    value = getattr(sc, name)
    own = value.__doc__ if not inspect.isclass(value) else value.__dict__.get("__doc__")
    assert own, f"{name} has no docstring of its own"
    assert own.strip()
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if attribute.startswith("_"):
                continue
            if inspect.isfunction(member) or isinstance(member, property):
                assert inspect.getdoc(member), f"{name}.{attribute} has no docstring"


def test_the_calls_on_a_layer() -> None:
    """The methods that users write, and their parameters."""
    shared = ["mask", "lengths", "initial_state", "backend", "options"]
    expected = {
        "apply": ["self", "weights", "x", *shared],
        "vjp": ["self", "weights", "x", *shared],
        "gates": ["self", "weights", "x", *shared],
        "__call__": ["self", "x", *shared],
        "bind": ["self", "weights", "backend", "options"],
        "init": ["self", "features", "seed", "dtype"],
        "explain": ["self", "dtype", "mask", "gradient", "backend", "options"],
    }
    for name, parameters in expected.items():
        assert list(inspect.signature(getattr(sc.Layer, name)).parameters) == parameters
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    for name in ("apply", "vjp", "gates", "__call__"):
        found = inspect.signature(getattr(sc.Layer, name)).parameters
        assert {found[one].kind for one in shared[:-1]} == {keyword_only}


def test_the_fresh_weights_are_said_loudly() -> None:
    assert "FRESH, UNTRAINED WEIGHTS" in (sc.Layer.__call__.__doc__ or "")


def drawn_tree() -> dict[str, str]:
    """Each error and its base, as the docstring draws them."""
    lines = re.findall(r"^    ([│├└─ ]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    path: list[str] = []
    tree: dict[str, str] = {}
    for branch, name in lines:
        depth = len(branch) // 4
        path[depth:] = [name]
        tree[name] = path[depth - 1] if depth else "Exception"
    return tree


def test_the_drawn_tree_is_the_real_one() -> None:
    real = {
        name: value.__base__.__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value)
    }
    assert drawn_tree() == real
    assert len(real) == 19


@pytest.mark.parametrize("name", drawn_tree())
def test_errors_are_exceptions_with_one_message_and_nothing_else(name: str) -> None:
    """A framework may rebuild one from its message alone, and must get the same type."""
    kind = getattr(errors, name)
    assert getattr(sc, name) is kind
    assert "__init__" not in vars(kind)
    assert "__new__" not in vars(kind)
    assert issubclass(kind, errors.SeqcoreError)
    assert kind.__mro__[-3:] == (Exception, BaseException, object)
    assert len(kind.__bases__) == 1
    assert str(kind("what is wrong")) == "what is wrong"


@pytest.mark.parametrize("module", ["seqcore.spi", "seqcore.runtime"])
def test_what_other_modules_export_exists_and_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    assert loaded.__doc__
    for name in loaded.__all__:
        value = getattr(loaded, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), f"{module}.{name}"
