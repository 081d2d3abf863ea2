"""The JAX backend: scans with a written backward pass, compiled by XLA."""
