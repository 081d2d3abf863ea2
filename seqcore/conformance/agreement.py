"""Whether results agree: bit for bit, or as near as the noise of their call explains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seqcore.conformance.calls import Call, Named, kind_of
from seqcore.conformance.laws import require_bits, require_close


def require_same(found: Named, expected: Named, what: str) -> None:
    """Depart unless all arrays have the same bits."""
    for name, value in expected.items():
        require_bits(found[name], value, f"{what}: {name}")


def require_alike(
    found: Mapping[str, Any],
    expected: Mapping[str, Any],
    call: Call,
    what: str,
    *,
    results: float = 2,
) -> None:
    """Depart unless arrays are equal within rounding: those of two results of one call.

    Args:
        found: By name; a gradient's begins with "gradient of".
        expected: The same; other arrays that were found are not looked at.
        call: The call whose noise tells how far each result may be from the exact one. Of a call
            and its parts it is the whole one.
        what: What is compared, for the message.
        results: How many results the two sides are sums of, each with its factor.
    """
    # Gradients first: what is measured for them holds for the outputs, too.
    for name in sorted(expected, key=lambda name: kind_of(name) != "gradients"):
        require_close(
            found[name],
            expected[name],
            call.limit(kind_of(name), results, name),
            f"{what}: {name}",
            dtype=call.dtype,
        )


def require_right(
    found: Mapping[str, Any], expected: Mapping[str, Any], call: Call, what: str
) -> None:
    """Depart unless the results of a call are those that a float64 reference has."""
    require_alike(found, expected, call, what, results=1)
