"""Engines side by side, in eps."""

from seqcore.compare.comparison import Comparison, Difference, Divergence, compare

__all__ = ["Comparison", "Difference", "Divergence", "compare"]
