"""The end of runs, models and snapshots in the store, with a note of what of them still lies on disk."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence, Set

from sqlalchemy import bindparam, delete, func, insert, select, update
from sqlalchemy.engine import Connection

from windlassd.store._columns import to_s, to_us
from windlassd.store.base import BLOBS, RUN, SNAPSHOT, Conflict, Deletion, RunStub
from windlassd.store.schema import (
    chunks,
    deletions,
    environments,
    experiments,
    meta,
    models,
    run_specs,
    runs,
    series,
    snapshots,
    spool_series,
    spools,
)

_AT_ONCE = 500
_STUBS = (
    select(runs.c.seq, runs.c.id, runs.c.parent_id, runs.c.status, runs.c.ended, runs.c.tags, experiments.c.name)
    .join(experiments, experiments.c.id == runs.c.experiment_id)
    .order_by(runs.c.seq)
)  # fmt: skip
_PENDING = select(deletions.c.id).where(deletions.c.kind == bindparam("kind"), deletions.c.what == bindparam("what"))
_OF_RUN = (runs.c.seq, runs.c.id, runs.c.ended, runs.c.experiment_id, run_specs.c.spec)
_SNAPSHOT_ID = re.compile('"snapshot_id":"([0-9a-f]{64})"')
"""In a spec's JSON, which SQL cannot take apart where it holds a NaN."""
_HELD = re.compile('"(?:snapshot_id|context)":"([0-9a-f]{64})"')
"""A run's source, and the files beside the Dockerfile of its environment."""
_CONTEXT = re.compile('"location": ?"([0-9a-f]{64})"')
"""The same files, in the definition of a registered environment."""


def run_stubs(db: Connection, of: Iterable[str] | None = None, experiment: str | None = None) -> Sequence[RunStub]:
    """Runs in the order they were created: all, those ``of`` these ids with all below them, or an experiment's."""
    queries = [_STUBS] if experiment is None else [_STUBS.where(experiments.c.name == experiment)]
    if of is not None:
        queries = [query.where(runs.c.id.in_(part)) for query in queries for part in _parts(_with_all_below(db, of))]
    rows = [row for query in queries for row in db.execute(query)]
    return tuple(
        RunStub(row.id, row.parent_id, row.name, row.status, to_s(row.ended), tuple(json.loads(row.tags)))
        for row in (rows if of is None else sorted(rows, key=lambda row: row.seq))
    )


def pending(db: Connection) -> Sequence[Deletion]:
    """What was deleted and is not freed yet, oldest first."""
    rows = db.execute(select(deletions).order_by(deletions.c.id))
    return tuple(Deletion(row.id, row.kind, row.what) for row in rows)


def is_pending(db: Connection, kind: str, what: str) -> bool:
    """True while that was deleted and is not freed yet."""
    return db.execute(_PENDING, {"kind": kind, "what": what}).first() is not None


def forget(db: Connection, numbers: Iterable[int]) -> None:
    """Those are freed."""
    for number in numbers:
        db.execute(delete(deletions).where(deletions.c.id == number))


def delete_runs(db: Connection, run_ids: Iterable[str], now: float) -> Sequence[str]:
    """Forget ended runs with all that hangs on them; returns the ids of those that were there.

    Raises:
        Conflict: one has not ended, or has a child that is not among them.
    """
    wanted = list(dict.fromkeys(run_ids))
    query = select(*_OF_RUN).join(run_specs, run_specs.c.run_seq == runs.c.seq)
    found = [row for part in _parts(wanted) for row in db.execute(query.where(runs.c.id.in_(part)))]
    there = {row.id for row in found}
    for row in found:
        if row.ended is None:
            raise Conflict(f"The run {row.id!r} has not ended. Cancel it or wait, then delete it.")
    for part in _parts(sorted(there)):
        for child in db.execute(select(runs.c.id).where(runs.c.parent_id.in_(part))).scalars():
            if child not in there:
                raise Conflict(f"The run {child!r} belongs to one that is to be deleted and goes on. Try again.")
    for row in found:
        _delete_run(db, row.seq)
        db.execute(delete(meta).where(meta.c.key == f"failed_by_script:{row.id}"))
        counted = update(experiments).where(experiments.c.id == row.experiment_id)
        db.execute(counted.values(deleted=experiments.c.deleted + 1))
        _note(db, RUN, row.id, now)
    for snapshot_id in sorted({name for row in found for name in _HELD.findall(row.spec)}):
        _note(db, SNAPSHOT, snapshot_id, now)
    return tuple(row.id for row in found)


def model_is_gone(db: Connection, hashes: Sequence[str], snapshot_id: str | None, now: float) -> None:
    """Note what a deleted model held."""
    if hashes:
        _note(db, BLOBS, json.dumps(sorted(set(hashes))), now)
    if snapshot_id:
        _note(db, SNAPSHOT, snapshot_id, now)


def unused_snapshots(db: Connection, snapshot_ids: Set[str]) -> tuple[set[str], int]:
    """Those that no run, model or registered environment has, and the newest run that was looked at."""
    newest = db.execute(select(func.max(runs.c.seq))).scalar() or 0
    used = {name for text in db.execute(select(run_specs.c.spec)).scalars() for name in _HELD.findall(text)}
    used |= {n for text in db.execute(select(environments.c.definition)).scalars() for n in _CONTEXT.findall(text)}
    used |= set(db.execute(select(models.c.snapshot_id).distinct()).scalars())
    return set(snapshot_ids) - used, newest


def drop_snapshot(db: Connection, snapshot_id: str, newest: int, now: float) -> bool:
    """Forget a snapshot that no run up to ``newest`` has, noting its contents; False when a later run has it."""
    later = select(run_specs.c.run_seq).where(run_specs.c.run_seq > newest, run_specs.c.spec.contains(snapshot_id))
    model = select(models.c.id).where(models.c.snapshot_id == snapshot_id)
    registered = select(environments.c.id).where(environments.c.definition.contains(snapshot_id))
    if any(db.execute(query.limit(1)).first() for query in (later, model, registered)):
        return False
    text = db.execute(select(snapshots.c.files).where(snapshots.c.id == snapshot_id)).scalar()
    if text is not None:
        db.execute(delete(snapshots).where(snapshots.c.id == snapshot_id))
        if hashes := sorted({file["sha256"] for file in json.loads(text)}):
            _note(db, BLOBS, json.dumps(hashes), now)
    return True


def held_blobs(db: Connection) -> Mapping[str, int]:
    """Size by hash of all contents that snapshots and models have."""
    found: dict[str, int] = {}
    for table in (models, snapshots):
        for text in db.execute(select(table.c.files)).scalars():
            found.update((file["sha256"], file["size"]) for file in json.loads(text))
    return found


def snapshots_of(db: Connection, run_ids: Iterable[str]) -> Mapping[str, str]:
    """The snapshot of each of the runs that has one."""
    query = select(runs.c.id, run_specs.c.spec).join(run_specs, run_specs.c.run_seq == runs.c.seq)
    rows = [row for part in _parts(list(run_ids)) for row in db.execute(query.where(runs.c.id.in_(part)))]
    return {row.id: names[0] for row in rows if (names := _SNAPSHOT_ID.findall(row.spec))}


def metric_bytes(db: Connection, run_ids: Iterable[str]) -> Mapping[str, int]:
    """About how many bytes of the database the points of each of the runs take."""
    size = func.length(chunks.c.times) + func.coalesce(func.length(chunks.c.steps), 0) + func.length(chunks.c.points)
    query = (
        select(runs.c.id, func.sum(size).label("size"))
        .join(series, series.c.run_seq == runs.c.seq)
        .join(chunks, chunks.c.series_id == series.c.id)
        .group_by(runs.c.id)
    )
    rows = [row for part in _parts(list(run_ids)) for row in db.execute(query.where(runs.c.id.in_(part)))]
    return {row.id: int(row.size) for row in rows}


def _with_all_below(db: Connection, run_ids: Iterable[str]) -> Sequence[str]:
    found = dict.fromkeys(run_ids)
    newest: Sequence[str] = list(found)
    while newest:
        below = [select(runs.c.id).where(runs.c.parent_id.in_(part)) for part in _parts(newest)]
        newest = [run_id for query in below for run_id in db.execute(query).scalars() if run_id not in found]
        found.update(dict.fromkeys(newest))
    return list(found)


def _delete_run(db: Connection, seq: int) -> None:
    """Points first, by the index they have: what the constraints would find row by row goes in one step."""
    own_series = select(series.c.id).where(series.c.run_seq == seq).scalar_subquery()
    own_spools = select(spools.c.id).where(spools.c.run_seq == seq).scalar_subquery()
    db.execute(delete(chunks).where(chunks.c.series_id.in_(own_series)))
    db.execute(delete(spool_series).where(spool_series.c.spool_id.in_(own_spools)))
    db.execute(delete(runs).where(runs.c.seq == seq))  # what is left hangs on it and goes with it


def _note(db: Connection, kind: str, what: str, now: float) -> None:
    if not is_pending(db, kind, what):
        db.execute(insert(deletions), {"kind": kind, "what": what, "created": to_us(now)})


def _parts(wanted: Sequence[str]) -> Iterable[Sequence[str]]:
    """SQL takes only so many values at once."""
    return (wanted[place : place + _AT_ONCE] for place in range(0, len(wanted), _AT_ONCE))
