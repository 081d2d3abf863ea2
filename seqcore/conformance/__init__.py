"""The conformance suite: proof that a backend does what the specification says."""
