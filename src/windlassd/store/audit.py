"""The doctor's questions to the database, and its repairs. Functions on a Connection; ``SqlStore.audit`` gives one.

What is asked here, the rest of this room promises by construction; the answers are empty unless the file was damaged,
changed by hand, or written by a version with a fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, groupby, pairwise
from typing import Any, NamedTuple

from sqlalchemy import bindparam, delete, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from windlass.specs._codec import to_wire
from windlass.specs.run import RunSpec
from windlass.specs.spool import FLOAT, INT, JSON
from windlass.specs.status import FINAL, RunStatus, may_follow
from windlassd.store import deletions, schema
from windlassd.store._chunks import Chunk, as_float, decode_steps, decode_times, decode_values, outline
from windlassd.store._columns import clean, to_json
from windlassd.store.base import BLOBS, RUN
from windlassd.store.schema import chunks, experiments, outlines, run_history, run_specs, run_tags, runs, series

_LISTED, _DICTIONARY = "[]", "{}"
_EMPTY = {
    "runs": {
        "tags": _DICTIONARY,
        "properties": _DICTIONARY,
        "environment": _DICTIONARY,
        "nodes": _LISTED,
        "parts": _LISTED,
    },
    "experiments": {"tags": _DICTIONARY},
    "models": {"tags": _DICTIONARY, "properties": _DICTIONARY, "datasets": _LISTED, "resources": _DICTIONARY},
    "datasets": {"tags": _DICTIONARY},
}
_NEEDED = {
    "run_specs": ("spec",), "snapshots": ("files",), "models": ("files",), "clusters": ("spec",),
    "environments": ("definition",), "datasets": ("definition",),
}  # fmt: skip
"""Columns of JSON: those where an empty value can stand in, and those without which the row says nothing."""
_NAMED = {
    "runs": "id", "experiments": "name", "models": "name", "datasets": "id", "snapshots": "id", "clusters": "name",
    "environments": "name", "run_specs": "run_seq",
}  # fmt: skip


class Unreadable(NamedTuple):
    """A column of a row that cannot be read; ``empty`` is what can stand in, None when nothing can."""

    table: str
    row: int
    name: str
    column: str
    text: str
    empty: str | None


def orphan_rows(db: Connection) -> Iterator[tuple[str, int, str, Mapping[str, Any]]]:
    """``(table, rowid, table of the missing owner, the row)`` of each row whose owner is gone."""
    for table, rowid, parent, _ in db.exec_driver_sql("PRAGMA foreign_key_check").all():
        if rowid is not None:
            row = db.exec_driver_sql(f"SELECT * FROM {table} WHERE rowid = {int(rowid)}").mappings().first()
            yield table, int(rowid), parent, dict(row or {})


def drop_row(db: Connection, table: str, rowid: int) -> None:
    """Delete a row that ``orphan_rows`` named."""
    db.exec_driver_sql(f"DELETE FROM {schema.metadata.tables[table].name} WHERE rowid = {int(rowid)}")


def unreadable(db: Connection, deep: bool) -> Iterator[Unreadable]:
    """Columns of JSON, and statuses, that cannot be read; ``deep`` makes a RunSpec of each definition, too."""
    for table in sorted({*_EMPTY, *_NEEDED}):
        columns = {**dict.fromkeys(_NEEDED.get(table, ())), **_EMPTY.get(table, {})}
        names = ", ".join(columns)
        for row in db.exec_driver_sql(f"SELECT rowid, {_NAMED[table]}, {names} FROM {table}"):
            for place, (column, empty) in enumerate(columns.items()):
                kind = None if empty is None else type(json.loads(empty))
                if not _reads(row[place + 2], kind, table == "run_specs" and deep):
                    yield Unreadable(table, row[0], str(row[1]), column, str(row[place + 2]), empty)
    known = [str(status) for status in RunStatus]
    for run in db.execute(select(runs.c.seq, runs.c.id, runs.c.status).where(runs.c.status.not_in(known))):
        yield Unreadable("runs", run.seq, run.id, "status", run.status, None)


def put_text(db: Connection, found: Unreadable) -> None:
    """Put the empty value where the unreadable one is."""
    db.exec_driver_sql(f"UPDATE {found.table} SET {found.column} = ? WHERE rowid = ?", (found.empty, found.row))


def runs_without_spec(db: Connection) -> Sequence[str]:
    """Ids of runs that no list shows because their definition is gone."""
    missing = select(runs.c.id).outerjoin(run_specs, run_specs.c.run_seq == runs.c.seq)
    return tuple(db.execute(missing.where(run_specs.c.run_seq.is_(None))).scalars())


def give_empty_spec(db: Connection, run_id: str) -> None:
    """Give a run a definition that says nothing but its experiment."""
    query = select(runs.c.seq, experiments.c.name, runs.c.parent_id)
    row = db.execute(query.join(experiments, experiments.c.id == runs.c.experiment_id).where(runs.c.id == run_id)).one()
    spec = RunSpec(experiment=row.name, script="", snapshot_id="", parent_id=row.parent_id)
    db.execute(insert(run_specs), {"run_seq": row.seq, "spec": to_json(spec)})


def miscounted_experiments(db: Connection) -> Sequence[tuple[str, int, int]]:
    """``(name, counter, highest number of its runs)`` where a new run would get a number that is taken."""
    highest = func.max(runs.c.number)
    query = select(experiments.c.name, experiments.c.runs, highest.label("highest"))
    query = query.join(runs, runs.c.experiment_id == experiments.c.id).group_by(experiments.c.id)
    return [(row.name, row.runs, row.highest) for row in db.execute(query.having(highest > experiments.c.runs))]


def recount_experiment(db: Connection, name: str, highest: int) -> None:
    """Let the experiment go on counting after ``highest``."""
    db.execute(update(experiments).where(experiments.c.name == name).values(runs=highest))


def untagged_runs(db: Connection) -> Iterator[str]:
    """Ids of the runs whose index of tags is not what the record says."""
    index = {
        seq: {row.key: row.value for row in rows}
        for seq, rows in groupby(db.execute(select(run_tags).order_by(run_tags.c.run_seq)), lambda row: row.run_seq)
    }
    for row in db.execute(select(runs.c.seq, runs.c.id, runs.c.tags)):
        if (row.seq in index or row.tags != "{}") and _tags(row.tags) != index.get(row.seq, {}):
            yield row.id


def index_tags(db: Connection, run_id: str) -> None:
    """Make the run's index of tags anew."""
    row = db.execute(select(runs.c.seq, runs.c.tags).where(runs.c.id == run_id)).one()
    db.execute(delete(run_tags).where(run_tags.c.run_seq == row.seq))
    if found := _tags(row.tags):
        db.execute(insert(run_tags), [{"run_seq": row.seq, "key": k, "value": v} for k, v in found.items()])


def mistimed_runs(db: Connection) -> Sequence[tuple[str, str, bool]]:
    """``(id, status, whether an end is recorded)`` of the runs where the two do not agree."""
    final = runs.c.status.in_([str(status) for status in FINAL])
    wrong = or_(final & runs.c.ended.is_(None), ~final & runs.c.ended.is_not(None))
    return [(row.id, row.status, row.ended is not None) for row in db.execute(select(runs).where(wrong))]


def set_end(db: Connection, run_id: str) -> None:
    """Record the end of a run by its history when its status is final, else that it has none."""
    row = db.execute(select(runs.c.seq, runs.c.status, runs.c.created).where(runs.c.id == run_id)).one()
    last = db.execute(select(func.max(run_history.c.time)).where(run_history.c.run_seq == row.seq)).scalar()
    ended = (last or row.created) if RunStatus(row.status).final else None
    db.execute(update(runs).where(runs.c.id == run_id).values(ended=ended))


def broken_histories(db: Connection) -> Iterator[tuple[str, Sequence[str], str]]:
    """``(id, history, status)`` where the history has a step that is not allowed or does not end at the status."""
    query = select(runs.c.id, runs.c.status, run_history.c.status.label("step"))
    query = query.outerjoin(run_history, run_history.c.run_seq == runs.c.seq).order_by(runs.c.seq, run_history.c.id)
    for (run_id, status), rows in groupby(db.execute(query), lambda row: (row.id, row.status)):
        steps = [row.step for row in rows if row.step is not None]
        if not steps or steps[-1] != status or any(not _may_follow(a, b) for a, b in pairwise(steps)):
            yield run_id, steps, status


def end_history(db: Connection, run_id: str) -> None:
    """Add the status of the run to the end of its history unless it stands there."""
    row = db.execute(select(runs).where(runs.c.id == run_id)).one()
    newest = select(run_history.c.status).where(run_history.c.run_seq == row.seq).order_by(run_history.c.id.desc())
    if db.execute(newest.limit(1)).scalar() != row.status:
        entry = {"run_seq": row.seq, "time": row.ended or row.started or row.created, "status": row.status}
        reason = {"reason_code": row.reason_code, "reason_message": row.reason_message}
        db.execute(insert(run_history), {**entry, **reason})


def damaged_chunks(db: Connection, deep: bool) -> Iterator[tuple[int, str, str, str]]:
    """``(chunk, run id, series, what is wrong)``: columns of wrong lengths; ``deep`` unpacks all of them."""
    eight = 8 * chunks.c.length
    wrong = or_(
        func.length(chunks.c.times) != eight,
        chunks.c.steps.is_not(None) & (func.length(chunks.c.steps) != eight),
        chunks.c.kind.in_([FLOAT, INT]) & (func.length(chunks.c.points) != eight),
        chunks.c.kind.not_in([FLOAT, INT, JSON]),
    )
    query = select(chunks.c.id, runs.c.id.label("run"), series.c.name).select_from(
        chunks.join(series, series.c.id == chunks.c.series_id).join(runs, runs.c.seq == series.c.run_seq)
    )
    bad = {row.id for row in db.execute(query.where(wrong))}
    for row in db.execute(query.where(wrong)):
        yield row.id, row.run, row.name, "its columns do not have the lengths that its count of points needs"
    if deep:
        for row in db.execute(query.add_columns(chunks)):
            if row.id not in bad and (problem := _unpacking_fails(row)):
                yield row.id, row.run, row.name, problem


def wrong_outlines(db: Connection, deep: bool) -> Iterator[tuple[int, str, str]]:
    """``(chunk, run id, series)`` where the outline is not of its chunk: by its shape, with ``deep`` point by point."""
    eight = 8 * outlines.c.length
    wrong = or_(
        outlines.c.length < 1,
        outlines.c.length > chunks.c.length,
        outlines.c.kind != chunks.c.kind,
        func.length(outlines.c.times) != eight,
        func.length(outlines.c.points) != eight,
        outlines.c.steps.is_(None) != chunks.c.steps.is_(None),
        outlines.c.steps.is_not(None) & (func.length(outlines.c.steps) != eight),
    )
    query = select(outlines.c.chunk_id, runs.c.id.label("run"), series.c.name).select_from(
        outlines.join(chunks, chunks.c.id == outlines.c.chunk_id)
        .join(series, series.c.id == chunks.c.series_id)
        .join(runs, runs.c.seq == series.c.run_seq)
    )
    bad = set()
    for row in db.execute(query.where(wrong)):
        bad.add(row.chunk_id)
        yield row.chunk_id, row.run, row.name
    packed = [table.c[name] for table in (outlines, chunks) for name in ("times", "steps", "points")]
    for row in db.execute(query.add_columns(*packed)) if deep else ():
        told, held = _points_of(row[3:6]), _points_of(row[6:9])
        if row.chunk_id not in bad and not told <= held:
            yield row.chunk_id, row.run, row.name


def outline_anew(db: Connection, chunk_id: int) -> None:
    """Make the outline of a chunk anew; of one that does not unpack there is none, as of any before 0.2."""
    db.execute(delete(outlines).where(outlines.c.chunk_id == chunk_id))
    row = db.execute(select(chunks).where(chunks.c.id == chunk_id)).first()
    shape = outline(_chunk(row)) if row is not None and row.sealed and not _unpacking_fails(row) else None
    if shape is not None:
        db.execute(insert(outlines), {"chunk_id": chunk_id, **shape._asdict()})


def chunk_row(db: Connection, chunk_id: int) -> Mapping[str, Any] | None:
    """The columns of a chunk, or None."""
    row = db.execute(select(chunks).where(chunks.c.id == chunk_id)).mappings().first()
    return None if row is None else dict(row)


def drop_chunk(db: Connection, chunk_id: int) -> None:
    """Take a chunk out of its series, and count its points as lost."""
    query = select(chunks.c.length, chunks.c.series_id, series.c.run_seq).join(
        series, series.c.id == chunks.c.series_id
    )
    row = db.execute(query.where(chunks.c.id == chunk_id)).first()
    if row is None:
        return
    db.execute(delete(chunks).where(chunks.c.id == chunk_id))
    lost = max(0, int(row.length))
    db.execute(update(runs).where(runs.c.seq == row.run_seq).values(lost_points=runs.c.lost_points + lost))
    summarize(db, row.series_id)


def wrong_summaries(db: Connection, deep: bool) -> Iterator[tuple[int, str, str, str]]:
    """``(series, run id, name, what is wrong)`` where a summary is not what its points are."""
    held = func.coalesce(func.sum(chunks.c.length), 0)
    query = select(series.c.id, series.c.name, series.c.length, runs.c.id.label("run"), held.label("held"))
    query = query.join(runs, runs.c.seq == series.c.run_seq).outerjoin(chunks, chunks.c.series_id == series.c.id)
    bad = set()
    for row in db.execute(query.group_by(series.c.id).having(held != series.c.length)):
        bad.add(row.id)
        yield row.id, row.run, row.name, f"its summary counts {row.length} points, its chunks hold {row.held}"
    unsaid = series.c.length > 0, or_(series.c.last.is_(None), series.c.type == "none")
    for row in db.execute(select(series, runs.c.id.label("run")).join(runs).where(*unsaid)):
        if row.id not in bad:
            bad.add(row.id)
            yield row.id, row.run, row.name, "its summary lacks the last value or the type"
    for head, rows in _with_chunks(db) if deep else ():
        if head.series_id not in bad and (found := _bounds(rows, head.type)) != (head.minimum, head.maximum):
            told = f"its summary tells of {head.minimum} to {head.maximum}, its points are {found[0]} to {found[1]}"
            yield head.series_id, head.run, head.name, told


def summarize(db: Connection, series_id: int) -> None:
    """Make the summary of a series anew from its chunks; of damaged ones only their length counts."""
    head = db.execute(select(series).where(series.c.id == series_id)).one()
    kind, length, last, last_us, last_step = head.type, 0, None, 0, None
    for row in _chunks_of(db, series_id):
        chunk = _chunk(row)
        length += chunk.length
        if _unpacking_fails(row):
            continue  # told of by itself, and dropped in its turn
        times, values, steps = decode_times(chunk), decode_values(chunk), decode_steps(chunk)
        kind = "json" if kind == "none" and chunk.kind == JSON else "float" if kind == "none" else kind
        if chunk.length and max(times) >= last_us:
            last_us, last = max(times), values[-1]
            last_step = None if steps is None else steps[-1]
    low, high = _bounds(_chunks_of(db, series_id), kind)
    columns = {
        "type": kind, "length": length, "last_us": last_us, "last": None if not length else to_json(last),
        "last_step": None if last_step is None or last_step < -(1 << 62) else last_step,
        "minimum": low, "maximum": high,
    }  # fmt: skip
    db.execute(update(series).where(series.c.id == series_id).values(columns))


def final_runs(db: Connection) -> Mapping[str, tuple[bool, float, str, str]]:
    """``id: (verified, ended, reason code, reason message)`` of the runs that have ended."""
    rows = db.execute(select(runs).where(runs.c.ended.is_not(None)))
    return {
        row.id: (row.verified, row.ended / 1_000_000, row.reason_code or "", row.reason_message or "") for row in rows
    }


def kept_files(db: Connection) -> Iterator[tuple[str, Sequence[Any]]]:
    """``(run id, its files)`` of every ended run that kept files."""
    files = schema.run_files
    query = select(runs.c.id, files.c.path, files.c.size, files.c.sha256).join(runs, runs.c.seq == files.c.run_seq)
    rows = db.execute(query.where(runs.c.ended.is_not(None)).order_by(files.c.run_seq, files.c.path))
    for run_id, group in groupby(rows, lambda row: row.id):
        yield run_id, list(group)


def run_ids(db: Connection) -> set[str]:
    """Ids of all runs, and of those whose deletion is under way."""
    noted = {deletion.what for deletion in deletions.pending(db) if deletion.kind == RUN}
    return noted.union(db.execute(select(runs.c.id)).scalars())


def freed_soon(db: Connection) -> set[str]:
    """Hashes of the contents whose deletion is under way."""
    noted = (deletion.what for deletion in deletions.pending(db) if deletion.kind == BLOBS)
    return {sha256 for hashes in noted for sha256 in json.loads(hashes)}


def newest_us(db: Connection) -> int:
    """When the newest run was made or ended, in microseconds; 0 without runs."""
    return max(db.execute(select(func.max(column))).scalar() or 0 for column in (runs.c.created, runs.c.ended))


def contents(db: Connection) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """``(kind, name, files)`` of each snapshot and model version."""
    for row in db.execute(select(schema.snapshots.c.id, schema.snapshots.c.files)):
        yield "snapshot", row.id, _files(row.files)
    for model in db.execute(select(schema.models.c.name, schema.models.c.version, schema.models.c.files)):
        yield "model", f"{model.name}:{model.version}", _files(model.files)


def places_of(db: Connection, hashes: Iterable[str]) -> Mapping[str, Sequence[tuple[str, str]]]:
    """``sha256: (run id, path) …`` of the kept files with one of those contents."""
    files, wanted = schema.run_files, sorted(hashes)
    found: dict[str, list[tuple[str, str]]] = {}
    query = select(files.c.sha256, files.c.path, runs.c.id).join(runs, runs.c.seq == files.c.run_seq)
    query = query.where(files.c.sha256.in_(bindparam("hashes", expanding=True)))
    for place in range(0, len(wanted), 500):
        for row in db.execute(query, {"hashes": wanted[place : place + 500]}):
            found.setdefault(row.sha256, []).append((row.id, row.path))
    return found


def _reads(text: Any, kind: type | None, as_spec: bool) -> bool:
    try:
        value = json.loads(text)
        if as_spec:
            to_wire(RunSpec.from_wire(value))
    except (TypeError, ValueError, KeyError, AttributeError):
        return False
    return value is None or isinstance(value, kind) if kind else isinstance(value, (dict, list))


def _tags(text: str) -> dict[str, str]:
    try:
        return {clean(key): clean(str(value)) for key, value in json.loads(text).items()}
    except (ValueError, AttributeError):
        return {}


def _files(text: str) -> Sequence[Mapping[str, Any]]:
    try:
        return [file for file in json.loads(text) if isinstance(file, dict) and isinstance(file.get("sha256"), str)]
    except (ValueError, TypeError):
        return ()


def _may_follow(before: str, after: str) -> bool:
    try:
        return before == after or may_follow(RunStatus(before), RunStatus(after))
    except ValueError:
        return False


def _chunk(row: Any) -> Chunk:
    return Chunk(row.length, row.kind, row.times, row.steps, row.points)


def _chunks_of(db: Connection, series_id: int) -> Iterator[Any]:
    query = select(chunks).where(chunks.c.series_id == series_id)
    yield from db.execute(query.order_by(chunks.c.spool_id, chunks.c.id))


def _unpacking_fails(row: Any) -> str | None:
    try:
        chunk = _chunk(row)
        steps = decode_steps(chunk)
        counts = [len(decode_values(chunk)), len(decode_times(chunk)), row.length if steps is None else len(steps)]
    except (ValueError, TypeError, KeyError) as problem:
        return f"it does not unpack: {problem}"
    wrong = next((count for count in counts if count != row.length), None)
    return None if wrong is None else f"it should have {row.length} points and has {wrong}"


def _points_of(columns: Sequence[bytes | None]) -> set[tuple[bytes, ...]]:
    """The packed points of columns of eight bytes each."""
    there = [column for column in columns if column is not None]
    return {tuple(column[at : at + 8] for column in there) for at in range(0, len(there[0]), 8)}


def _with_chunks(db: Connection) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Each series that has points, and its chunks: one walk over all of them."""
    query = select(chunks, series.c.type, series.c.name, series.c.minimum, series.c.maximum, runs.c.id.label("run"))
    query = query.select_from(chunks.join(series, series.c.id == chunks.c.series_id).join(runs))
    for _, group in groupby(db.execute(query.order_by(chunks.c.series_id)), lambda row: row.series_id):
        rows = iter(group)
        first = next(rows)
        yield first, chain([first], rows)


def _bounds(rows: Iterable[Any], kind: str) -> tuple[float | None, float | None]:
    """Least and greatest value of a series, without NaN; None for one that has texts or tables."""
    if kind == "json":
        return None, None
    low: float | None = None
    high: float | None = None
    for row in rows:
        try:
            numbers = [float(as_float(value)) for value in decode_values(_chunk(row)) if value == value]
        except (ValueError, TypeError, OverflowError):
            continue  # a damaged chunk is told of by itself
        if numbers:
            low = min(numbers) if low is None else min(low, min(numbers))
            high = max(numbers) if high is None else max(high, max(numbers))
    return low, high
