"""A model run in its own framework from its own structure, without anything of ours between."""
