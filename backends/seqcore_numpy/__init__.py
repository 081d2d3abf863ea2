"""The NumPy backend: the embedded default."""
