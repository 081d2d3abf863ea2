"""The activations that a cell may name (clauses ACT)."""

from __future__ import annotations

ACTIVATIONS = ("tanh", "sigmoid", "relu", "linear", "hard_sigmoid")
