"""The hooks that a plugin may answer.

A hook that is not here is an error in a plugin, unless it is marked
`hookimpl(optionalhook=True)`: a misspelt name must not pass for silence.
"""

from __future__ import annotations

from seqcore.spi.registration import BackendSpec, hookspec


@hookspec(firstresult=True)
def seqcore_backends() -> list[BackendSpec]:
    """Announce backends; answered by the module that an entry point in `seqcore.backends` names.

    Called once, when a backend of that module may be wanted. The module is called alone, in a
    plugin manager of its own, so no other plugin can answer before it or wrap it. Answering
    imports no framework and prints nothing (standard output goes to standard error meanwhile).

    Returns:
        At least one description; several backends may come from one module.
    """
    raise NotImplementedError
