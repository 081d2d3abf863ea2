"""Whether what a third party hands over is what the SPI says, before anything relies on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from seqcore.errors import BackendBroken, reason_of
from seqcore.ops import Ops
from seqcore.spi.backend import Backend
from seqcore.spi.implementation import Implementation
from seqcore.spi.request import Capabilities
from seqcore.spi.transforms import Transforms


def backend_fault(backend: Backend) -> str | None:
    """Return what is wrong with a backend's attributes, or None; none of its methods is called."""
    try:
        return _attributes_fault(backend)
    except Exception as error:  # noqa: BLE001 - an attribute may be a property that fails
        return reason_of(error)


def _attributes_fault(backend: Backend) -> str | None:
    if not hasattr(backend, "name"):
        return "it has no name, expected that of its BackendSpec"
    name: object = backend.name
    if not isinstance(name, str):
        return f"its name is {name!r:.80}, expected that of its BackendSpec"
    for attribute, kind in (("ops", Ops), ("capabilities", Capabilities)):
        value = getattr(backend, attribute, None)
        if not isinstance(value, kind):
            return f"its {attribute} is {value!r:.80}, expected a seqcore.spi.{kind.__name__}"
    transforms: object = backend.transforms
    if not isinstance(transforms, Transforms | None):
        return f"its transforms is {transforms!r:.80}, expected a seqcore.spi.Transforms"
    return _implementations_fault(getattr(backend, "implementations", None))


def devices_of(backend: Backend) -> tuple[str, ...]:
    """Return the devices that a backend says are at hand, the default one first.

    Raises:
        BackendBroken: if that is no sequence of names, or an empty one.
    """
    found: object = backend.devices()
    if isinstance(found, Sequence) and not isinstance(found, str):
        names = [name for name in found if isinstance(name, str) and name]
        if names and len(names) == len(found):
            return tuple(names)
    raise BackendBroken(
        f"backend {backend.name!r}: devices() returned {found!r:.80}, expected a tuple of one "
        "name or more, such as ('cpu',)"
    )


def version_of(backend: Backend) -> str:
    """Return the version that a backend says its engine has.

    Raises:
        BackendBroken: if that is no text, or an empty one.
    """
    found: object = backend.version()
    if isinstance(found, str) and found.strip():
        return found
    raise BackendBroken(
        f"backend {backend.name!r}: version() returned {found!r:.80}, expected a text such as '1.0'"
    )


def _implementations_fault(implementations: object) -> str | None:
    if not (isinstance(implementations, Sequence) and implementations):
        return (
            f"its implementations are {implementations!r:.80}, expected a tuple of one "
            "seqcore.spi.Implementation or more"
        )
    for one in implementations:
        if not isinstance(one, Implementation):
            return f"its implementations hold {one!r:.80}, expected a seqcore.spi.Implementation"
        name = getattr(one, "name", None)
        if not (isinstance(name, str) and name):
            return f"the name of its {type(one).__name__} is {name!r:.80}, expected a text"
    name, count = Counter(one.name for one in implementations).most_common(1)[0]
    if count > 1:
        return f"{count} of its implementations are named {name!r}, expected a name for each"
    return None
