"""The door to modules of a framework: who offers them, and what is said where nobody does."""

from __future__ import annotations

import importlib.metadata
import sys
from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace

import pytest

import seqcore as sc
from seqcore.errors import BackendError, BackendNotInstalled, ConversionError
from seqcore.interchange.modules import ENTRY_POINT_GROUP, to_module

LSTM = sc.LSTM(2)
WEIGHTS = LSTM.init(3)


def offering(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Let distributions offer modules: names, and after `__` what tells two of one name apart."""
    offers = EntryPoints(
        EntryPoint(name.partition("__")[0], value, ENTRY_POINT_GROUP)
        for name, value in values.items()
    )

    def entry_points(*, group: str) -> EntryPoints:
        assert group == ENTRY_POINT_GROUP
        return offers

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_who_offers_it_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, mine="their_module:make")
    monkeypatch.setitem(sys.modules, "their_module", SimpleNamespace(make=lambda *given: given))
    assert to_module("mine", LSTM, WEIGHTS) == (LSTM, WEIGHTS)


def test_the_first_party_offers_them() -> None:
    offers = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    assert {"torch", "keras", "flax"} <= offers.names


def test_a_name_that_nobody_offers(monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, torch="a:b", keras="c:d")
    with pytest.raises(BackendError, match=r"did you mean 'torch'.*nothing offers them, expected"):
        to_module("toch", LSTM, WEIGHTS)


def test_a_name_that_two_offer(monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, torch="a:b", torch__again="c:d")
    with pytest.raises(BackendError, match="a:b and c:d both offer them"):
        to_module("torch", LSTM, WEIGHTS)
    # Installed twice, as an editable checkout beside a wheel, it is one.
    offering(monkeypatch, mine="no_such_module:f", mine__again="no_such_module:f")
    with pytest.raises(BackendNotInstalled):
        to_module("mine", LSTM, WEIGHTS)


def test_a_framework_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, mine="no_such_framework.module:make")
    with pytest.raises(
        BackendNotInstalled,
        match="modules of mine: no_such_framework is not installed; pip install no_such_framework",
    ):
        to_module("mine", LSTM, WEIGHTS)


def test_what_is_no_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    offering(monkeypatch, mine="no_such_module:f")
    with pytest.raises(ConversionError, match="to a module of mine: the first argument is dict"):
        to_module("mine", WEIGHTS, LSTM)
