"""Proof of a move: two models side by side, each in its own framework and on seqcore."""

from seqcore.verify.verification import Cause, Function, Verification, verify

__all__ = ["Cause", "Function", "Verification", "verify"]
