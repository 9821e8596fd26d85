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
        NOTES…    anything                               kinds from 128 on, kept for later versions: no points

All numbers are little-endian; time is microseconds since 1970 UTC; step is NO_STEP when the caller gave none.
A frame is written by one ``write``. What a power loss or another program damaged is left behind up to the next frame
that is sound, and counted as lost. The same bytes travel to the server, which answers with the offset up to which they
are in the database: sent twice, counted once.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any, Iterator, List, NamedTuple, Tuple

from windlass.specs._codec import whole_text

SERIES, FLOAT, INT, JSON, LOST = 1, 2, 3, 4, 5
NOTES = 128
"""Frames of this kind and above say something about the file and hold no point: who does not know them skips them. One
of an unknown kind below is a point that cannot be read, and is counted as lost (docs/dev/formats.md)."""
NO_STEP = -(1 << 63)
MAX_BODY_BYTES = 64 << 20
HEADER = struct.Struct("<II")
FLOAT_BODY = struct.Struct("<BIqqd")
INT_BODY = struct.Struct("<BIqqq")
JSON_BODY = struct.Struct("<BIqq")
SERIES_BODY = struct.Struct("<BI")
LOST_BODY = struct.Struct("<BQ")
_LEAST_BODIES = {SERIES: SERIES_BODY.size, FLOAT: FLOAT_BODY.size, INT: INT_BODY.size, JSON: JSON_BODY.size,
                 LOST: LOST_BODY.size}  # fmt: skip
_LEAST_BODY = min(_LEAST_BODIES.values())
_SEARCH_BYTES = 64 << 20
MOST_LOST = 1 << 40
"""What a count of lost points is cut to: a damaged one may say anything, and the database has 63 bits."""
SUFFIX = ".spool"
LOST_SUFFIX = ".lost"
LOST_BYTES = 8
"""Beside each spool file lies one of its name with LOST_SUFFIX: a little-endian count of the points that could not be
written, made with the spool file and overwritten in place, which works on a full disk too."""


class Frame(NamedTuple):
    """One decoded frame. ``value`` is the number, the decoded JSON, the series' description, the lost count or, for one
    of the NOTES, its bytes."""

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


def whole_frames(data: bytes, last: bool = False) -> int:
    """Length of the longest prefix of ``data`` made of whole frames, with the damage between them.

    Args:
        data: Bytes of a spool from where a frame begins.
        last: True when nothing will be appended any more: then an unfinished frame is damage, too.
    """
    end, size = 0, len(data)
    header, unpack, crc32 = HEADER.size, HEADER.unpack_from, zlib.crc32  # looked up once: each point comes through here
    while end + header <= size:
        length, crc = unpack(data, end)
        stop = end + header + length
        if _LEAST_BODY <= length <= MAX_BODY_BYTES:
            if stop <= size and crc32(data[end + header : stop]) == crc:
                end = stop
                continue
            if stop > size and not last:
                return end
        end = past_damage(data, end)
    return size if last else end


def past_damage(data: bytes, place: int) -> int:
    """Where reading goes on after the damaged frame at ``place``.

    That is the next sound frame, else where the damaged one says that it ends, else the end of ``data``.
    """
    size, budget = len(data), _SEARCH_BYTES
    for start in range(place + 1, size - HEADER.size):
        length, crc = HEADER.unpack_from(data, start)
        body = start + HEADER.size
        if not _may_be_frame(data, body, length):
            continue
        budget -= length
        if budget < 0:  # made to be searched for ever
            break
        if zlib.crc32(data[body : body + length]) == crc:
            return start
    claimed = after(data, place) if place + HEADER.size <= size else size
    return claimed if place + HEADER.size + _LEAST_BODY <= claimed <= size else size


def _may_be_frame(data: bytes, body: int, length: int) -> bool:
    if length < _LEAST_BODY or length > MAX_BODY_BYTES or body + length > len(data):
        return False
    least = _LEAST_BODIES.get(data[body])
    return least is not None and (length == least or (length > least and data[body] in (SERIES, JSON)))


def after(data: bytes, place: int) -> int:
    """Where the frame that begins at ``place`` ends: the way past a damaged one."""
    return place + HEADER.size + int(HEADER.unpack_from(data, place)[0])


def decode(data: bytes, place: int = 0) -> "Iterator[Tuple[int, Frame]]":
    """Yield ``(end offset, frame)`` for each whole frame of ``data`` from ``place`` on.

    Raises:
        TornFrame: a frame's CRC does not fit its body, or its kind is unknown.
    """
    size = len(data)
    header, unpack, crc32 = HEADER.size, HEADER.unpack_from, zlib.crc32
    while place + header <= size:
        length, crc = unpack(data, place)
        start = place + header
        if length > MAX_BODY_BYTES:
            raise TornFrame("frame at %d claims %d bytes" % (place, length))
        if start + length > size:
            return
        body = data[start : start + length]
        if crc32(body) != crc:
            raise TornFrame("frame at %d has a wrong CRC" % place)
        place = start + length
        yield place, _frame(body)


def sound_frames(data: bytes) -> "Tuple[List[Frame], List[str]]":
    """The frames of ``data``, which ends with one, and what is wrong with the damage in between.

    A damaged frame counts as one lost point; damage without frames as the points of its length.
    """
    frames, damage, place = [], [], 0
    while place < len(data):
        try:
            for reached, frame in decode(data, place):
                if frame.kind < NOTES:
                    frames.append(frame)
                place = reached
            words = "frame at %d is unfinished" % place
        except TornFrame as torn:  # never block what comes after it
            words = str(torn)
        if place < len(data):
            damage.append(words)
            reached = _end_of_damage(data, place)
            frames.append(Frame(LOST, 0, 0, None, _points_in(data, place, reached)))
            place = reached
    return frames, damage


def _end_of_damage(data: bytes, place: int) -> int:
    if place + HEADER.size + _LEAST_BODY <= len(data):
        length, crc = HEADER.unpack_from(data, place)
        stop = place + HEADER.size + length
        if _LEAST_BODY <= length and stop <= len(data) and zlib.crc32(data[place + HEADER.size : stop]) == crc:
            return int(stop)  # just as it was sent: only what it says makes no sense
    return past_damage(data, place)


def _points_in(data: bytes, place: int, end: int) -> int:
    if place + HEADER.size <= end and after(data, place) == end:
        return 1
    return max(1, (end - place) // (HEADER.size + FLOAT_BODY.size))


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
            about = whole_text(json.loads(body[SERIES_BODY.size :].decode()))
            if not isinstance(about, dict) or not isinstance(about.get("name"), str):
                raise ValueError("a series without a name")
            return Frame(kind, series, 0, None, about)
        if kind == LOST:
            return Frame(kind, 0, 0, None, LOST_BODY.unpack(body)[1])
        if kind >= NOTES:
            return Frame(kind, 0, 0, None, body[1:])
    except (struct.error, IndexError, ValueError) as problem:
        raise TornFrame("frame does not decode: %s" % problem) from problem
    raise TornFrame("frame of unknown kind %d" % kind)
