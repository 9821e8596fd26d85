"""Metric series as they are read: summaries, whole series, series thinned for a chart. Functions on a Connection."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, groupby
from operator import attrgetter
from typing import Any, TypeAlias

from sqlalchemy import bindparam, case, select
from sqlalchemy.engine import Connection

from windlass.specs.spool import NO_STEP
from windlassd.store._chunks import (
    OUTLINE_SHARE,
    Chunk,
    as_float,
    decode_steps,
    decode_times,
    decode_values,
    join,
    outline,
)
from windlassd.store._downsample import picked
from windlassd.store.base import Series, SeriesSummary, StoreError
from windlassd.store.schema import chunks, outlines, runs, spools
from windlassd.store.schema import series as table

_SUMMARIES = (
    select(table)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id == bindparam("run_id"), table.c.length > 0)
    .order_by(table.c.id)
)
_SUMMARY = [table.c[name] for name in ("name", "type", "length", "last", "last_step", "minimum", "maximum")]
_SUMMARIES_OF_RUNS = (
    select(runs.c.id.label("run_id"), *_SUMMARY)
    .join(runs, runs.c.seq == table.c.run_seq)
    .where(runs.c.id.in_(bindparam("run_ids", expanding=True)), table.c.length > 0)
    .order_by(table.c.run_seq, table.c.id)
)
_POINTS = (
    select(
        chunks.c.series_id, chunks.c.spool_id, chunks.c.length, chunks.c.kind, chunks.c.times, chunks.c.steps,
        chunks.c.points,
    )
    .where(chunks.c.series_id.in_(bindparam("series_ids", expanding=True)))
    .order_by(chunks.c.series_id, chunks.c.spool_id, chunks.c.id)  # down an index: points are never sorted on disk
)  # fmt: skip
_WHOLE = outlines.c.chunk_id.is_(None)
_OUTLINED = _POINTS.with_only_columns(
    chunks.c.series_id, chunks.c.spool_id, _WHOLE.label("whole"),
    *(
        case((_WHOLE, chunks.c[name]), else_=outlines.c[name]).label(name)
        for name in ("length", "kind", "times", "steps", "points")
    ),
).select_from(chunks.outerjoin(outlines, outlines.c.chunk_id == chunks.c.id))  # fmt: skip
_SERIES_AT_ONCE = 500
_AT_ONCE = 32_768
_ACKED = (
    select(spools.c.acked)
    .join(runs, runs.c.seq == spools.c.run_seq)
    .where(runs.c.id == bindparam("run_id"), spools.c.name == bindparam("spool"))
)


def series_of(db: Connection, run_id: str) -> Sequence[SeriesSummary]:
    """A summary of each series of the run, in the order they were first logged."""
    return tuple(map(_summary, db.execute(_SUMMARIES, {"run_id": run_id})))


def series_of_runs(db: Connection, run_ids: Sequence[str]) -> Mapping[str, Sequence[SeriesSummary]]:
    """The summaries of each run that has any, as ``series_of`` gives them."""
    rows = db.execute(_SUMMARIES_OF_RUNS, {"run_ids": list(run_ids)}).all()
    return {run_id: tuple(map(_summary, group)) for run_id, group in groupby(rows, attrgetter("run_id"))}


def read_series(db: Connection, run_id: str, name: str | None = None, points: int | None = None) -> Sequence[Series]:
    """The series of the run, or the one called ``name``; numeric ones thinned to about ``points``."""
    known = _SUMMARIES if name is None else _SUMMARIES.where(table.c.name == name)
    heads = {row.id: row for row in db.execute(known, {"run_id": run_id})}
    found: dict[int, Series] = {}
    for rough in (False, True):
        ids = [key for key, head in heads.items() if _is_long(head, points) is rough]
        for place in range(0, len(ids), _SERIES_AT_ONCE):
            asked = {"series_ids": ids[place : place + _SERIES_AT_ONCE]}
            for key, rows in groupby(db.execute(_OUTLINED if rough else _POINTS, asked), attrgetter("series_id")):
                try:
                    found[key] = _series(heads[key], rows, points, rough)
                except (ValueError, KeyError, OverflowError) as problem:
                    raise _damaged(run_id, heads[key].name, problem) from problem
    return tuple(found[key] for key in heads if key in found)


def _damaged(run_id: str, name: str, problem: Exception) -> StoreError:
    return StoreError(
        f"Points of the series {name!r} of {run_id} are damaged in the database ({problem}). `windlass doctor --deep`"
        " tells how many; with `--repair` it takes them out and counts them as lost, so that the others are shown"
        " again. Other series can be asked for by their names."
    )


def acked(db: Connection, run_id: str, spool: str) -> int:
    """Bytes of the spool file whose frames are in the store; 0 when it is unknown."""
    return db.execute(_ACKED, {"run_id": run_id, "spool": spool}).scalar() or 0


def _summary(row: Any) -> SeriesSummary:
    return SeriesSummary(row.name, row.type, row.length, _last(row), row.last_step, row.minimum, row.maximum)


def _last(row: Any) -> Any:
    """The last value, which lies there as JSON; of numbers, which most are, without the detour over a decoder."""
    if row.type == "int":
        return int(row.last)
    if row.type == "float":
        return as_float(int(row.last)) if row.last.lstrip("-").isdigit() else float(row.last)
    return json.loads(row.last)


def _is_long(head: Any, points: int | None) -> bool:
    """True when the outlines of its chunks have points enough for the chart that is asked for."""
    return points is not None and head.type != "json" and head.length >= points * OUTLINE_SHARE


def _series(head: Any, rows: Iterable[Any], points: int | None, rough: bool) -> Series:
    processes = [_of_process(group, rough) for _, group in groupby(rows, attrgetter("spool_id"))]
    whole: tuple[Sequence[int], Sequence[int], Sequence[Any]] = _in_order(processes)
    times, steps, values = whole
    values = _shown(head.type, values)
    if points is not None and head.type != "json":
        chosen = picked(values, points)
        times, steps, values = (list(_at(column, chosen)) for column in (times, steps, values))
    return Series(
        name=head.name,
        type=head.type,
        count=head.length,
        times=[time / 1_000_000 for time in times],
        steps=[None if step == NO_STEP else step for step in steps],
        values=list(values),
    )


_Points: TypeAlias = "tuple[array[int], array[int], Sequence[Any]]"


def _of_process(rows: Iterable[Any], rough: bool) -> _Points:
    """Times, steps and values of one spool, in the order they were logged; when ``rough`` those of outlines."""
    times, steps, parts = array("q"), array("q"), []
    for chunk in _outlined(rows) if rough else map(_chunk, rows):
        own_times, values = decode_times(chunk), decode_values(chunk)
        own_steps = decode_steps(chunk) or array("q", [NO_STEP]) * chunk.length
        if not len(own_times) == len(own_steps) == len(values) == chunk.length:
            raise ValueError(f"{len(own_times)} times and {len(values)} values where {chunk.length} should be")
        times += own_times
        steps += own_steps
        parts.append(values)
    return times, steps, _concatenated(parts)


def _chunk(row: Any) -> Chunk:
    return Chunk(row.length, row.kind, row.times, row.steps, row.points)


def _outlined(rows: Iterable[Any]) -> Iterator[Chunk]:
    """Outlines, made here of what has none: chunks that are open, or were sealed before there were any.

    All points of the series must be thinned alike, or a chart would spend its width on those that are not.
    """
    for whole, group in groupby(rows, attrgetter("whole")):
        part: list[Chunk] = []
        for chunk in map(_chunk, group):
            if not whole:
                yield chunk
                continue
            part.append(chunk)
            if sum(one.length for one in part) >= _AT_ONCE:
                yield _rough(part)
                part = []
        if part:
            yield _rough(part)


def _rough(part: Sequence[Chunk]) -> Chunk:
    whole = join(part)
    return outline(whole) or whole


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
