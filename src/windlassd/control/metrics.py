"""Metric series as they go over the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from windlassd.store.base import Series, SeriesSummary

_PIECE = 8192
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def to_wire(series: Sequence[Series]) -> Mapping[str, Any]:
    """Series by name. JSON has no NaN and no infinities: they travel as strings.

    In a ``json`` series such a string could be the user's own text; where there was one of these numbers, ``exact`` has
    the values once more, in Python's JSON.
    """
    return {s.name: _whole(s) for s in series}


def _whole(s: Series) -> Mapping[str, Any]:
    told: dict[str, Any] = {"type": s.type, "count": s.count, "times": list(s.times), "steps": list(s.steps)}
    if s.type == "float":
        return {**told, "values": [_finite(v) for v in s.values]}
    values = list(s.values)
    plain = [_plain(v) for v in values] if s.type == "json" else values
    return {**told, "values": plain, **({} if plain == values else {"exact": json.dumps(values)})}


def to_json(series: Sequence[Series]) -> Iterator[str]:
    """The JSON text of ``to_wire`` piece by piece.

    A million points are 40 MB of text; made in one go it would lie in memory twice, and nothing else of the server
    would move meanwhile: the encoder does not let go of the interpreter.
    """
    yield "{"
    for place, s in enumerate(series):
        yield f"{',' if place else ''}{_encode(s.name)}:"
        if s.type == "json":
            yield _encode(_whole(s))
            continue
        yield f'{{"type":"{s.type}","count":{s.count},"times":'
        yield from _numbers(s.times)
        yield ',"steps":'
        yield from _numbers(s.steps)
        yield ',"values":'
        yield from _numbers(s.values)
        yield "}"
    yield "}"


def _numbers(values: Sequence[float | None]) -> Iterator[str]:
    yield "["
    for start in range(0, len(values), _PIECE):
        part = values[start : start + _PIECE]
        try:
            text = _encode(part)
        except ValueError:  # NaN or an infinity, which are rare
            text = _encode([_finite(value) for value in part])
        yield f"{',' if start else ''}{text[1:-1]}"
    yield "]"


def _plain(value: Any) -> Any:
    """``value`` (of JSON's kinds), NaN and infinities in it as strings."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def of_run(summaries: Sequence[SeriesSummary]) -> Mapping[str, Any]:
    """What the metrics of a run came to, by name; of tables, lists and images only how many there are."""
    return {s.name: _summary(s) for s in summaries}


def _summary(s: SeriesSummary) -> Mapping[str, Any]:
    return {
        "type": s.type,
        "count": s.count,
        "last": s.last if isinstance(s.last, str | bool) else _finite(s.last) if s.type != "json" else None,
        "last_step": s.last_step,
        "minimum": _finite(s.minimum),
        "maximum": _finite(s.maximum),
    }


def _finite(value: float | None) -> float | str | None:
    if value is None:
        return None
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
