"""Metric series as they are read: summaries, whole series, series thinned for a chart. Functions on a Connection."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from windlass.specs.spool import NO_STEP
from windlassd.store._chunks import Chunk, as_float, decode_steps, decode_times, decode_values
from windlassd.store._downsample import picked
from windlassd.store.base import Series, SeriesSummary
from windlassd.store.schema import chunks, runs, spools
from windlassd.store.schema import series as table

_SUMMARIES = (
    select(table)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id == bindparam("run_id"), table.c.length > 0)
    .order_by(table.c.id)
)
_POINTS = (
    select(
        table.c.id, chunks.c.spool_id, chunks.c.length, chunks.c.kind, chunks.c.times, chunks.c.steps, chunks.c.points
    )
    .join(chunks, chunks.c.series_id == table.c.id)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id == bindparam("run_id"))
    .order_by(table.c.name, chunks.c.spool_id, chunks.c.id)  # walks down indexes: points are never sorted on disk
)
_ACKED = (
    select(spools.c.acked)
    .join(runs, runs.c.seq == spools.c.run_seq)
    .where(runs.c.id == bindparam("run_id"), spools.c.name == bindparam("spool"))
)


def series_of(db: Connection, run_id: str) -> Sequence[SeriesSummary]:
    """A summary of each series of the run, in the order they were first logged."""
    return tuple(map(_summary, db.execute(_SUMMARIES, {"run_id": run_id})))


def read_series(db: Connection, run_id: str, name: str | None = None, points: int | None = None) -> Sequence[Series]:
    """The series of the run, or the one called ``name``; numeric ones thinned to about ``points``."""
    known, query = _SUMMARIES, _POINTS
    if name is not None:
        known, query = known.where(table.c.name == name), query.where(table.c.name == name)
    heads = {row.id: row for row in db.execute(known, {"run_id": run_id})}
    rows = db.execute(query, {"run_id": run_id})
    found = {key: _series(heads[key], group, points) for key, group in groupby(rows, attrgetter("id"))}
    return tuple(found[key] for key in heads if key in found)


def acked(db: Connection, run_id: str, spool: str) -> int:
    """Bytes of the spool file whose frames are in the store; 0 when it is unknown."""
    return db.execute(_ACKED, {"run_id": run_id, "spool": spool}).scalar() or 0


def _summary(row: Any) -> SeriesSummary:
    last = json.loads(row.last)
    return SeriesSummary(
        name=row.name,
        type=row.type,
        count=row.length,
        last=as_float(last) if row.type == "float" else last,
        last_step=row.last_step,
        minimum=row.minimum,
        maximum=row.maximum,
    )


def _series(head: Any, rows: Iterable[Any], points: int | None) -> Series:
    times, steps, values = _in_order([_of_process(group) for _, group in groupby(rows, attrgetter("spool_id"))])
    values = _shown(head.type, values)
    count = len(values)
    chosen: Iterable[int] = range(count)
    if points is not None and head.type != "json":
        chosen = picked(values, points)
    return Series(
        name=head.name,
        type=head.type,
        count=count,
        times=[times[i] / 1_000_000 for i in chosen],
        steps=[None if steps[i] == NO_STEP else steps[i] for i in chosen],
        values=[values[i] for i in chosen],
    )


_Points: TypeAlias = "tuple[array[int], array[int], Sequence[Any]]"


def _of_process(rows: Iterable[Any]) -> _Points:
    """Times, steps and values of one spool, in the order they were logged."""
    times, steps, parts = array("q"), array("q"), []
    for row in rows:
        chunk = Chunk(row.length, row.kind, row.times, row.steps, row.points)
        times += decode_times(chunk)
        steps += decode_steps(chunk) or array("q", [NO_STEP]) * chunk.length
        parts.append(decode_values(chunk))
    return times, steps, _concatenated(parts)


def _in_order(processes: Sequence[_Points]) -> _Points:
    """Points of all processes by time, those of one in the order it logged them even when its clock was set back."""
    if len(processes) == 1:
        return processes[0]
    keys: list[int] = []
    times, steps = array("q"), array("q")
    for own_times, own_steps, _ in processes:
        keys.extend(accumulate(own_times, max))
        times += own_times
        steps += own_steps
    values = _concatenated([values for _, _, values in processes])
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return array("q", _at(times, order)), array("q", _at(steps, order)), list(_at(values, order))


def _at(items: Sequence[Any], places: Iterable[int]) -> Iterator[Any]:
    return map(items.__getitem__, places)


def _concatenated(parts: Sequence[Sequence[Any]]) -> Sequence[Any]:
    """One sequence; an array where all parts are arrays of one kind, which keeps long series small."""
    arrays = [part for part in parts if isinstance(part, array)]
    if len(arrays) < len(parts) or len({part.typecode for part in arrays}) > 1:
        return [value for part in parts for value in part]
    whole: array[Any] = array(arrays[0].typecode)
    for part in arrays:
        whole += part
    return whole


def _shown(kind: str, values: Sequence[Any]) -> Sequence[Any]:
    if kind != "float" or (isinstance(values, array) and values.typecode == "d"):
        return values
    return [as_float(value) for value in values]
