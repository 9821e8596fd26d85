"""Which points of a long series a chart needs."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan


def picked(values: Sequence[float], points: int) -> list[int]:
    """Positions of about ``points`` values that show the whole: all of them when there are no more.

    The values are cut into buckets of equal count; each gives its minimum and its maximum, and its first NaN when it
    has one. The first and the last value are always there. So a spike, however short, is never hidden.
    """
    count = len(values)
    if count <= max(points, 2):
        return list(range(count))
    holes = any(map(isnan, values))
    buckets = max(1, (points - 2) // (3 if holes else 2))
    chosen = {0, count - 1}
    for bucket in range(buckets):
        start, end = count * bucket // buckets, count * (bucket + 1) // buckets
        chosen.update(_extremes(values, start, end, holes))
    return sorted(chosen)


def _extremes(values: Sequence[float], start: int, end: int, holes: bool) -> list[int]:
    part = values[start:end]
    if not holes:
        return [start + part.index(min(part)), start + part.index(max(part))]
    numbers = [place for place, value in enumerate(part) if not isnan(value)]
    found = (
        [start + next(place for place, value in enumerate(part) if isnan(value))] if len(numbers) < len(part) else []
    )
    if numbers:
        found.append(start + min(numbers, key=part.__getitem__))
        found.append(start + max(numbers, key=part.__getitem__))
    return found
