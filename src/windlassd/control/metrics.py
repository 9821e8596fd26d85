"""Metric series as they go over the wire."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from windlassd.store.base import Series


def to_wire(series: Sequence[Series]) -> Mapping[str, Any]:
    """Series by name. JSON has no NaN and no infinities: those of a float series travel as strings."""
    return {
        s.name: {
            "type": s.type,
            "count": s.count,
            "times": list(s.times),
            "steps": list(s.steps),
            "values": [_finite(v) for v in s.values] if s.type == "float" else list(s.values),
        }
        for s in series
    }


def _finite(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
