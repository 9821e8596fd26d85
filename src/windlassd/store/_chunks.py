"""Points of a metric series packed into the columns of one row, and back.

A chunk has ``times`` (i64 microseconds), ``steps`` (i64, NO_STEP where a point has none, or None when no point has one)
and ``points``: f64 for kind FLOAT, i64 for INT, a JSON array for JSON. All packed numbers are little-endian.

Nothing is lost by widening: chunks keep the kind they came with, and where int and float must share a row they become
FLOAT only when every integer is exactly a double, else JSON (whose numbers are exact). A series of type ``float`` shows
its integers as floats, except those beyond 2**53 that no double holds: they stay Python integers.
"""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from windlass.specs.spool import FLOAT, INT, JSON, NO_STEP
from windlassd.store._downsample import picked

OUTLINE_SHARE = 128
"""A sealed chunk's outline has one of so many points: of 4,096 the extremes of 16 stretches, the first and the last."""
_SWAP = sys.byteorder == "big"
_CODES = {FLOAT: "d", INT: "q"}
_EXACT = 1 << 53
TYPES = {INT: "int", FLOAT: "float", JSON: "json"}
_WIDTH = {"none": 0, "int": 1, "float": 2, "json": 3}


class Chunk(NamedTuple):
    """The packed columns of one row."""

    length: int
    kind: int
    times: bytes
    steps: bytes | None
    points: bytes


def wider(one: str, other: str) -> str:
    """The type that holds both: none < int < float < json."""
    return one if _WIDTH[one] >= _WIDTH[other] else other


def encode(kinds: set[int], times: Sequence[int], steps: Sequence[int | None], values: Sequence[Any]) -> Chunk:
    """One chunk of points of the given kinds, in their order."""
    kind = _common(kinds, values)
    return Chunk(len(times), kind, _pack("q", times), _encode_steps(steps), _encode_values(kind, values))


def decode_times(chunk: Chunk) -> array[int]:
    """Times of the chunk in microseconds."""
    return _unpack("q", chunk.times)


def decode_steps(chunk: Chunk) -> array[int] | None:
    """Steps of the chunk with NO_STEP for none, or None when no point has a step."""
    return None if chunk.steps is None else _unpack("q", chunk.steps)


def decode_values(chunk: Chunk) -> Sequence[Any]:
    """Values of the chunk: an array of numbers or a list."""
    if chunk.kind == JSON:
        values: list[Any] = json.loads(chunk.points)
        return values
    return _unpack(_CODES[chunk.kind], chunk.points)


def join(chunks: Sequence[Chunk]) -> Chunk:
    """One chunk with the points of all, in their order. Those of one kind are joined as bytes."""
    kinds = {chunk.kind for chunk in chunks}
    if len(kinds) == 1 and JSON not in kinds:
        kind, points = chunks[0].kind, b"".join(chunk.points for chunk in chunks)
    else:
        values = list(chain.from_iterable(decode_values(chunk) for chunk in chunks))
        kind = _common(kinds, values)
        points = _encode_values(kind, values)
    steps = None
    if any(chunk.steps is not None for chunk in chunks):
        steps = b"".join(chunk.steps or _pack("q", [NO_STEP] * chunk.length) for chunk in chunks)
    return Chunk(sum(c.length for c in chunks), kind, b"".join(c.times for c in chunks), steps, points)


def outline(chunk: Chunk) -> Chunk | None:
    """Those of its points that show the chunk in a chart, as a chunk of their own; None for kind JSON.

    They are its first and last point and the extremes (and first NaN) of each of some stretches between.
    """
    if chunk.kind == JSON:
        return None
    values, steps = decode_values(chunk), decode_steps(chunk)
    places = picked(values, 2 + chunk.length // OUTLINE_SHARE)
    return Chunk(
        len(places),
        chunk.kind,
        _pack("q", _at(decode_times(chunk), places)),
        None if steps is None else _pack("q", _at(steps, places)),
        _pack(_CODES[chunk.kind], _at(values, places)),
    )


def as_float(value: Any) -> Any:
    """``value`` as a float, or as the integer it is when no float is equal to it."""
    return (
        value if isinstance(value, int) and not -_EXACT <= value <= _EXACT and float(value) != value else float(value)
    )


def _at(numbers: Sequence[Any], places: Sequence[int]) -> list[Any]:
    return [numbers[place] for place in places]


def _common(kinds: set[int], values: Sequence[Any]) -> int:
    if len(kinds) == 1:
        return next(iter(kinds))
    if JSON in kinds or any(isinstance(v, int) and not -_EXACT <= v <= _EXACT for v in values):
        return JSON
    return FLOAT


def _encode_steps(steps: Sequence[int | None]) -> bytes | None:
    if steps.count(None) == len(steps):
        return None
    return _pack("q", [NO_STEP if step is None else step for step in steps])


def _encode_values(kind: int, values: Sequence[Any]) -> bytes:
    return json.dumps(values).encode() if kind == JSON else _pack(_CODES[kind], values)


def _pack(code: str, numbers: Sequence[Any]) -> bytes:
    packed = array(code, numbers)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def _unpack(code: str, data: bytes) -> array[Any]:
    numbers = array(code)
    numbers.frombytes(data)
    if _SWAP:
        numbers.byteswap()
    return numbers
