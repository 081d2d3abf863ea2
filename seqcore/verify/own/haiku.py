"""Haiku's params run by Haiku's own cores under `hk.dynamic_unroll`, rows cut at their lengths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from seqcore.interchange.places import by_path
from seqcore.verify.own.jax_levels import Array, Named, by_length, library, run_levels


def run(structure: Any, words: Mapping[str, Any], x: Array, lengths: Array | None) -> Named:
    """Return the sequence and the final states, as Haiku's cores compute them.

    Args:
        structure: As `from_haiku` takes it, the arrays being NumPy's.
        words: Its keyword arguments.
        x: The input, (batch, time, features).
        lengths: The lengths (batch,), each at least 1, or None.

    Raises:
        BackendNotInstalled: if Haiku is not installed.
    """
    hk = library("haiku", "dm-haiku")
    cores: dict[str, dict[str, Array]] = {}
    for path, value in by_path("haiku", structure).items():
        core, name = re.fullmatch(r"(.*?)/((?:linear(?:_1)?/)?\w+)", path).groups()  # type: ignore[union-attr]
        cores.setdefault(core, {})[name] = value
    said = words.get("levels") or sorted(cores, key=_number)
    levels = [[level] if isinstance(level, str) else level for level in said]

    def run_core(name: str, x: Array, lengths: Array | None, backward: bool) -> Any:
        found = cores[name]

        def unrolled(x: Any) -> Any:
            core = _core(hk, found)
            options = {"time_major": False, "reverse": backward}
            start = core.initial_state(x.shape[0])
            return hk.dynamic_unroll(core, x, start, **options)

        params: dict[str, dict[str, Array]] = {}
        for path, value in found.items():
            module, _, leaf = f"core/{path}".rpartition("/")
            params.setdefault(module, {})[leaf] = value
        y, state = hk.transform(unrolled).apply(params, None, x)
        # The LSTM's state is (hidden, cell).
        return y, tuple(state) if isinstance(state, tuple) else (state,)

    return run_levels(levels, by_length(run_core), x, lengths)


def _core(hk: Any, found: Mapping[str, Array]) -> Any:
    """Return the core that has such arrays."""
    if "w_h" in found:
        return hk.GRU(found["w_h"].shape[0], name="core")
    if "linear_1/w" in found:
        double = "linear_1/b" in found
        return hk.VanillaRNN(found["linear_1/w"].shape[0], double_bias=double, name="core")
    return hk.LSTM(found["linear/b"].size // 4, name="core")


def _number(name: str) -> int:
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0
