"""Small frozen answers of the control that are no records of the store."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LocatedFile:
    """A kept file of a run or model: where its bytes lie now and what is known of them."""

    path: str
    """Absolute path on this machine, already checked to lie inside its folder."""
    size: int
    sha256: str | None
