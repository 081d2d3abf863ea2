"""The version of the SPI, and which versions of it this seqcore runs."""

from __future__ import annotations

import re

SPI_VERSION = "1.0"
"""`"major.minor"`: minor rises when something is added, major when something is changed."""


def refusal(spi: str) -> str | None:
    """Return why a backend written for SPI version `spi` cannot run here, or None if it can.

    The rule: the same major version, and a minor version that is not newer than ours.
    """
    if not re.fullmatch(r"\d+\.\d+", spi):
        return f"SPI version {spi!r}, expected 'major.minor' such as {SPI_VERSION!r}"
    wanted, ours = (tuple(map(int, version.split("."))) for version in (spi, SPI_VERSION))
    if wanted > ours:
        return f"it needs SPI {spi} and this seqcore has {SPI_VERSION}; upgrade seqcore"
    if wanted[0] < ours[0]:
        return f"it was written for SPI {spi} and this seqcore has {SPI_VERSION}; upgrade it"
    return None
