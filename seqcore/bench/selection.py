"""Which sides can take a workload here, and why the others can't."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import NamedTuple

from seqcore.bench.peers import PEERS
from seqcore.bench.sides import SideSpec, backend_sides
from seqcore.bench.workloads import Workload
from seqcore.errors import ArgumentError
from seqcore.registry import registry
from seqcore.spec.naming import nearest


class Candidate(NamedTuple):
    """A side, and why it can't be measured; None where it can."""

    side: SideSpec
    refusal: str | None


def check_names(
    backends: Sequence[str] | None, peers: Sequence[str] | None, baselines: Sequence[str] | None
) -> None:
    """Check the names that a user gave.

    Raises:
        BackendError: if there is no such backend.
        ArgumentError: if there is no such peer, or no side of that name to be a baseline.
    """
    for name in backends or ():
        registry.spec(name)
    for name in peers or ():
        if name not in PEERS:
            raise ArgumentError(
                f"peer {name!r}{nearest(name, PEERS)}: expected one of {', '.join(PEERS)}"
            )
    sides = [*registry.names(), *PEERS]
    for name in baselines or ():
        if name.removesuffix(".padded") not in sides:
            raise ArgumentError(
                f"--baseline: {name!r} is no side{nearest(name, sides)}; expected one of "
                f"{', '.join(sides)}"
            )


def candidates(
    workload: Workload, backends: Sequence[str] | None, peers: Sequence[str] | None
) -> list[Candidate]:
    """Return the sides for a workload.

    Args:
        workload: What they shall run.
        backends: The backends by name, or None for all that are registered.
        peers: The peers by name; nothing in it for all, or None for none.
    """
    found: list[Candidate] = []
    for name in registry.names() if backends is None else backends:
        refusal = _not_installed(registry.missing(name), registry.spec(name).install_hint)
        sides = backend_sides(name, lengths=workload.lengths)
        found += [Candidate(side, refusal) for side in sides]
    for name in () if peers is None else peers or PEERS:
        peer = PEERS[name]
        if not peers and peer.lengths == "required" and not workload.lengths:
            continue  # nobody asked for it, and it has nothing to do
        missing = tuple(module for module in peer.requires if find_spec(module) is None)
        refusal = peer.refuses(workload) or _not_installed(missing, "")
        found.append(Candidate(peer.spec(), refusal))
    return found


def _not_installed(missing: Sequence[str], hint: str) -> str | None:
    if not missing:
        return None
    return f"not installed: {', '.join(missing)}" + (f"; {hint}" if hint else "")
