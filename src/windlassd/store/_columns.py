"""Values as they lie in columns: microseconds, JSON text, text without what a database refuses."""

from __future__ import annotations

import json
from typing import Any

from windlass.specs._codec import to_wire

_encode = json.JSONEncoder(separators=(",", ":")).encode


def to_us(seconds: float) -> int:
    """Unix seconds as whole microseconds."""
    return round(seconds * 1_000_000)


def to_s(microseconds: int | None) -> float | None:
    """Microseconds as Unix seconds."""
    return None if microseconds is None else microseconds / 1_000_000


def to_json(value: Any) -> str:
    """``value`` as JSON text; dataclasses become objects, NaN and infinities stay."""
    return _encode(to_wire(value))


def clean(text: str) -> str:
    """``text`` with half surrogates, which JSON from outside may carry, as question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
