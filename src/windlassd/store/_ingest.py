"""Metric points on their way into chunks (DESIGN decision 3).

A batch adds one small open chunk to each series it has points for; every 32nd batch of a spool joins the open chunks of
each of its series into one, which is sealed at 4,096 points and then gets an outline, all that charts of long series
read. Rewriting the tail with each batch instead would write about a hundred times the bytes that came in. Points,
summaries and the acknowledged offset change in one transaction, and nothing is remembered between batches: the database
alone says where a spool stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from windlass.errors import UserErrorException
from windlass.specs.spool import LOST, MOST_LOST, SERIES, Frame
from windlassd.store._chunks import TYPES, Chunk, encode, join, outline, wider
from windlassd.store._columns import clean, to_json
from windlassd.store.runs import run_seq
from windlassd.store.schema import OPEN, chunks, outlines, runs, series, spool_series, spools

SEAL_POINTS = 4096
_SEAL_BYTES = 256 << 10  # tables and images reach this long before 4,096 points
_JOIN_EVERY = 32
_NAMES_AT_ONCE = 500

_SPOOL = select(spools).where(spools.c.run_seq == bindparam("run_seq"), spools.c.name == bindparam("name"))
_ADVANCE = (
    update(spools)
    .where(spools.c.id == bindparam("of"))
    .values(acked=bindparam("end"), batches=spools.c.batches + 1, last_us=bindparam("latest"))
)
_NAMED = select(series.c.id, series.c.name).where(
    series.c.run_seq == bindparam("run_seq"), series.c.name.in_(bindparam("names", expanding=True))
)
_NUMBERED = (
    select(spool_series.c.number, series)
    .join(series, series.c.id == spool_series.c.series_id)
    .where(
        spool_series.c.spool_id == bindparam("spool_id"),
        spool_series.c.number.in_(bindparam("numbers", expanding=True)),
    )
)
_UNNAME = delete(spool_series).where(
    spool_series.c.spool_id == bindparam("of"), spool_series.c.number == bindparam("at")
)
_ADD_LOST = update(runs).where(runs.c.seq == bindparam("of")).values(lost_points=runs.c.lost_points + bindparam("lost"))
_ADD_CHUNK = insert(chunks)
_SUMMARIZE = (
    update(series)
    .where(series.c.id == bindparam("of"))
    .values(
        {name: bindparam(name) for name in ("type", "length", "last_us", "last_step", "last", "minimum", "maximum")}
    )
)
_OPEN = select(chunks).where(chunks.c.spool_id == bindparam("spool_id"), OPEN).order_by(chunks.c.series_id, chunks.c.id)
_REWRITE = (
    update(chunks)
    .where(chunks.c.id == bindparam("of"))
    .values({name: bindparam(name) for name in ("sealed", "length", "kind", "times", "steps", "points")})
)
_ADD_OUTLINE = insert(outlines)
_DROP = delete(chunks).where(chunks.c.id == bindparam("of"))


@dataclass(slots=True)
class _Points:
    """Points of one series in a batch."""

    times: list[int] = field(default_factory=list)
    steps: list[int | None] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)
    kinds: set[int] = field(default_factory=set)


def append(db: Connection, run_id: str, spool: str, start: int, end: int, frames: Sequence[Frame]) -> int:
    """Add the frames at bytes ``start`` to ``end`` of the spool; returns the offset now held.

    Raises:
        UserErrorException: No such run; or a point of a series that the spool never named.
    """
    seq = run_seq(db, run_id)
    row = db.execute(_SPOOL, {"run_seq": seq, "name": spool}).first()
    held: int = row.acked if row else 0
    if start != held or end <= start:
        return held
    if row is None:
        db.execute(insert(spools), {"run_seq": seq, "name": spool, "acked": 0, "batches": 0, "last_us": 0})
        row = db.execute(_SPOOL, {"run_seq": seq, "name": spool}).one()
    names, points, lost = _sorted_out(frames)
    if names:
        _name(db, seq, row.id, names)
    latest = _add_points(db, row, spool, points) if points else row.last_us
    if lost:
        db.execute(_ADD_LOST, {"of": seq, "lost": lost})
    db.execute(_ADVANCE, {"of": row.id, "end": end, "latest": latest})
    if (row.batches + 1 + row.id * 7) % _JOIN_EVERY == 0:  # spools that started together join at different times
        _join_open(db, row.id)
    return end


def _sorted_out(frames: Sequence[Frame]) -> tuple[dict[int, str], dict[int, _Points], int]:
    """Names of series, points by the spool's number of the series, and the count of lost points."""
    names: dict[int, str] = {}
    points: dict[int, _Points] = {}
    lost = 0
    for kind, number, time_us, step, value in frames:
        if kind == SERIES:
            names[number] = clean(str(value["name"]))
        elif kind == LOST:
            lost += min(value, MOST_LOST)
        else:
            own = points.get(number)
            if own is None:
                own = points[number] = _Points()
            own.times.append(time_us)
            own.steps.append(step)
            own.values.append(value)
            own.kinds.add(kind)
    return names, points, lost


def _name(db: Connection, seq: int, spool_id: int, names: Mapping[int, str]) -> None:
    """Remember which series the spool's numbers stand for, so that a restarted server goes on."""
    wanted = list(dict.fromkeys(names.values()))
    ids = _ids(db, seq, wanted)
    if new := [{"run_seq": seq, "name": n, "type": "none", "length": 0, "last_us": 0} for n in wanted if n not in ids]:
        db.execute(insert(series), new)
        ids = _ids(db, seq, wanted)
    db.execute(_UNNAME, [{"of": spool_id, "at": number} for number in names])
    db.execute(
        insert(spool_series),
        [{"spool_id": spool_id, "number": number, "series_id": ids[name]} for number, name in names.items()],
    )


def _ids(db: Connection, seq: int, names: Sequence[str]) -> dict[str, int]:
    found = {}
    for part in _parts(names):
        found.update({row.name: row.id for row in db.execute(_NAMED, {"run_seq": seq, "names": part})})
    return found


def _parts(items: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (items[place : place + _NAMES_AT_ONCE] for place in range(0, len(items), _NAMES_AT_ONCE))


def _add_points(db: Connection, spool: Any, file: str, points: Mapping[int, _Points]) -> int:
    """Add a chunk and bring the summary up to date for each series; returns the latest time of the spool."""
    heads = _heads(db, spool.id, list(points))
    if missing := points.keys() - heads.keys():
        raise UserErrorException(
            f"Spool {file!r} has points of series number {min(missing)}, which it never named: its start is missing."
            " Send it from the offset the server holds; if that fails too, the file is damaged."
        )
    rows: list[dict[str, Any]] = []
    latest: int = spool.last_us
    summaries: dict[int, dict[str, Any]] = {}
    for number, own in points.items():
        of = heads[number]["id"]
        summaries[of] = _summary(summaries.get(of, heads[number]), own, spool.last_us)
        rows.append(_columns(encode(own.kinds, own.times, own.steps, own.values), of, spool.id))
        latest = max(latest, max(own.times))
    _add_chunks(db, spool.id, rows)
    db.execute(_SUMMARIZE, [{"of": head.pop("id"), **head} for head in summaries.values()])
    return latest


def _add_chunks(db: Connection, spool_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add chunks; one that is big enough by itself is sealed at once, and those before it with it: order is by id."""
    big = [row for row in rows if row["length"] >= SEAL_POINTS]
    if big:
        _join_open(db, spool_id, seal_all=True)
    for row in big:
        key = db.execute(_ADD_CHUNK, {**row, "sealed": True}).inserted_primary_key
        assert key is not None
        _outline(db, {key[0]: Chunk(*(row[name] for name in Chunk._fields))})
    if small := [row for row in rows if row["length"] < SEAL_POINTS]:
        db.execute(_ADD_CHUNK, small)


def _outline(db: Connection, sealed: Mapping[int, Chunk]) -> None:
    shapes = ((chunk_id, outline(chunk)) for chunk_id, chunk in sealed.items())
    if rows := [{"chunk_id": chunk_id, **shape._asdict()} for chunk_id, shape in shapes if shape is not None]:
        db.execute(_ADD_OUTLINE, rows)


def _heads(db: Connection, spool_id: int, numbers: Sequence[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for part in _parts(numbers):
        rows = db.execute(_NUMBERED, {"spool_id": spool_id, "numbers": part}).mappings()
        found.update((row["number"], row) for row in rows)
    return found


def _summary(head: Mapping[str, Any], own: _Points, spool_us: int) -> dict[str, Any]:
    """The summary row of a series after the points of ``own``."""
    kind = wider(head["type"], max((TYPES[k] for k in own.kinds), key=_WIDTHS.__getitem__))
    latest = max(spool_us, max(own.times))
    newer = latest >= head["last_us"]
    low, high = (None, None) if kind == "json" else _bounds(head, own)
    return {
        "id": head["id"],
        "type": kind,
        "length": head["length"] + len(own.values),
        "last_us": latest if newer else head["last_us"],
        "last_step": own.steps[-1] if newer else head["last_step"],
        "last": to_json(own.values[-1]) if newer else head["last"],
        "minimum": low,
        "maximum": high,
    }


_WIDTHS = {"int": 1, "float": 2, "json": 3}


def _bounds(head: Mapping[str, Any], own: _Points) -> tuple[float | None, float | None]:
    numbers = [value for value in own.values if value == value]  # NaN is not equal to itself
    low, high = head["minimum"], head["maximum"]
    if numbers:
        least, most = float(min(numbers)), float(max(numbers))
        low = least if low is None else min(low, least)
        high = most if high is None else max(high, most)
    return low, high


def _columns(chunk: Chunk, series_id: int, spool_id: int) -> dict[str, Any]:
    return {"series_id": series_id, "spool_id": spool_id, "sealed": False, **chunk._asdict()}


def _join_open(db: Connection, spool_id: int, seal_all: bool = False) -> None:
    """Join the open chunks of each series of the spool, and seal what is big enough, or all.

    A joined chunk takes the place (the id) of its first part, which keeps the order of what the process logged.
    """
    rewritten, dropped, sealed = [], [], {}
    for _, rows in groupby(db.execute(_OPEN, {"spool_id": spool_id}), attrgetter("series_id")):
        for part in _to_join(rows):
            whole = join([Chunk(r.length, r.kind, r.times, r.steps, r.points) for r in part])
            seal = seal_all or _full(whole)
            if len(part) > 1 or seal:
                rewritten.append({"of": part[0].id, "sealed": seal, **whole._asdict()})
                dropped += [{"of": row.id} for row in part[1:]]
            if seal:
                sealed[part[0].id] = whole
    if rewritten:
        db.execute(_REWRITE, rewritten)
    if dropped:
        db.execute(_DROP, dropped)
    _outline(db, sealed)


def _to_join(rows: Iterable[Any]) -> Iterable[Sequence[Any]]:
    """Runs of neighbours, each just big enough to be sealed; the last one may stay open."""
    part: list[Any] = []
    points = size = 0
    for row in rows:
        part.append(row)
        points += row.length
        size += len(row.points)
        if points >= SEAL_POINTS or size >= _SEAL_BYTES:
            yield part
            part, points, size = [], 0, 0
    if part:
        yield part


def _full(chunk: Chunk) -> bool:
    return chunk.length >= SEAL_POINTS or len(chunk.points) >= _SEAL_BYTES
