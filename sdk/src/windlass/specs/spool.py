"""The spool: how a script's metric points lie on disk until they are in the run history (DESIGN decision 2).

A process appends to one file of its own (a new one after fork). The file is a sequence of frames::

    length  u32   bytes of the body
    crc     u32   CRC-32 of the body
    body          kind u8, then by kind:
        SERIES    series u32, then JSON {"name": …}      before the first point of a series
        FLOAT     series u32, time i64, step i64, value f64
        INT       series u32, time i64, step i64, value i64
        JSON      series u32, time i64, step i64, then JSON  anything else: text, bool, None, rows, big integers
        LOST      count u64                              points that did not fit on a full disk before this frame

All numbers are little-endian; time is microseconds since 1970 UTC; step is NO_STEP when the caller gave none.
A frame is written by one ``write``; a torn frame at the end (power loss) is cut by its length or CRC. The same bytes
travel to the server, which answers with the offset up to which they are in the database: sent twice, counted once.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Iterator, NamedTuple, Tuple

from windlass.specs._codec import whole_text

SERIES, FLOAT, INT, JSON, LOST = 1, 2, 3, 4, 5
NO_STEP = -(1 << 63)
MAX_BODY_BYTES = 64 << 20
HEADER = struct.Struct("<II")
FLOAT_BODY = struct.Struct("<BIqqd")
INT_BODY = struct.Struct("<BIqqq")
JSON_BODY = struct.Struct("<BIqq")
SERIES_BODY = struct.Struct("<BI")
LOST_BODY = struct.Struct("<BQ")
SUFFIX = ".spool"
LOST_SUFFIX = ".lost"
LOST_BYTES = 8
"""Beside each spool file lies one of its name with LOST_SUFFIX: a little-endian count of the points that could not be
written, made with the spool file and overwritten in place, which works on a full disk too."""


class Frame(NamedTuple):
    """One decoded frame. ``value`` is the number, the decoded JSON, the series' description or the lost count."""

    kind: int
    series: int
    time_us: int
    step: "int | None"
    value: Any


def seal(body: bytes) -> bytes:
    """The frame around ``body``."""
    return HEADER.pack(len(body), zlib.crc32(body)) + body


def series_frame(series: int, description: "dict[str, Any]") -> bytes:
    """The frame that names a series before its first point."""
    return seal(SERIES_BODY.pack(SERIES, series) + json.dumps(description).encode())


def json_frame(series: int, time_us: int, step: int, value: Any) -> bytes:
    """The frame of a point that is neither a float nor a 64-bit integer. NaN and infinities are kept."""
    return seal(JSON_BODY.pack(JSON, series, time_us, step) + json.dumps(value).encode())


def lost_frame(count: int) -> bytes:
    """The frame that says how many points are missing before it."""
    return seal(LOST_BODY.pack(LOST, count))


class TornFrame(ValueError):
    """A whole frame is there and its CRC does not fit: the file is damaged, not merely unfinished."""


def whole_frames(data: bytes) -> int:
    """Length of the longest prefix of ``data`` made of whole frames (CRCs are not looked at)."""
    end, size = 0, len(data)
    while end + HEADER.size <= size:
        length = HEADER.unpack_from(data, end)[0]
        if length > MAX_BODY_BYTES or end + HEADER.size + length > size:
            break
        end += HEADER.size + length
    return end


def after(data: bytes, place: int) -> int:
    """Where the frame that begins at ``place`` ends: the way past a damaged one."""
    return place + HEADER.size + int(HEADER.unpack_from(data, place)[0])


def decode(data: bytes, place: int = 0) -> "Iterator[Tuple[int, Frame]]":
    """Yield ``(end offset, frame)`` for each whole frame of ``data`` from ``place`` on.

    Raises:
        TornFrame: a frame's CRC does not fit its body, or its kind is unknown.
    """
    size = len(data)
    while place + HEADER.size <= size:
        length, crc = HEADER.unpack_from(data, place)
        start = place + HEADER.size
        if length > MAX_BODY_BYTES:
            raise TornFrame("frame at %d claims %d bytes" % (place, length))
        if start + length > size:
            return
        body = data[start : start + length]
        if zlib.crc32(body) != crc:
            raise TornFrame("frame at %d has a wrong CRC" % place)
        place = start + length
        yield place, _frame(body)


def _frame(body: bytes) -> Frame:
    try:
        kind = body[0]
        if kind == FLOAT or kind == INT:
            _, series, time_us, step, value = (FLOAT_BODY if kind == FLOAT else INT_BODY).unpack(body)
            return Frame(kind, series, time_us, None if step == NO_STEP else step, value)
        if kind == JSON:
            _, series, time_us, step = JSON_BODY.unpack_from(body)
            value = whole_text(json.loads(body[JSON_BODY.size :].decode()))
            return Frame(kind, series, time_us, None if step == NO_STEP else step, value)
        if kind == SERIES:
            _, series = SERIES_BODY.unpack_from(body)
            return Frame(kind, series, 0, None, whole_text(json.loads(body[SERIES_BODY.size :].decode())))
        if kind == LOST:
            return Frame(kind, 0, 0, None, LOST_BODY.unpack(body)[1])
    except (struct.error, IndexError, ValueError) as problem:
        raise TornFrame("frame does not decode: %s" % problem) from problem
    raise TornFrame("frame of unknown kind %d" % kind)
