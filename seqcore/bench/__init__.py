"""The benchmark: backends and the frameworks' own layers, called in turn, each in its own process.

How it measures is in `docs/benchmarks.md`. `workloads` says what is run, `sides` and `peers` who
runs it, `worker` and `session` how they are called, `report` what is made of the times.
"""
