"""Runs in the store: made, moved, changed, found and listed. Functions on a Connection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, select, union, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.sql import ColumnElement

from windlass.errors import UserErrorException
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.status import ALLOWED, RunStatus, may_follow
from windlassd.store._columns import clean, to_json, to_s, to_us
from windlassd.store._listing import Wanted, chosen_runs, rarest_first
from windlassd.store._run_lines import line_of
from windlassd.store.base import RUN, Conflict, MetricFilter, RunLine
from windlassd.store.deletions import is_pending
from windlassd.store.schema import UNVERIFIED, experiments, run_history, run_specs, run_tags, runs

_RECORD = (
    select(runs, experiments.c.name.label("experiment"), run_specs.c.spec)
    .join(experiments, experiments.c.id == runs.c.experiment_id)
    .join(run_specs, run_specs.c.run_seq == runs.c.seq)
)
_BY_ID = _RECORD.where(runs.c.id == bindparam("run_id"))
_BY_IDS = _RECORD.where(runs.c.id.in_(bindparam("run_ids", expanding=True)))
_BY_REQUEST = _RECORD.where(runs.c.request_id == bindparam("request_id"))
_ACTIVE = _RECORD.where(runs.c.ended.is_(None)).order_by(runs.c.seq)
_PLACED = _ACTIVE.where(runs.c.nodes != "[]")
_COUNT_ACTIVE = select(func.count()).select_from(runs).where(runs.c.ended.is_(None))
_UNVERIFIED = select(runs.c.id).where(UNVERIFIED).order_by(runs.c.seq)
_SEQ = select(runs.c.seq).where(runs.c.id == bindparam("run_id"))
_CHILDREN = select(func.count()).select_from(runs).where(runs.c.parent_id == bindparam("parent"))
_HISTORY = (
    select(run_history.c.time, run_history.c.status, run_history.c.reason_code, run_history.c.reason_message)
    .join(runs, runs.c.seq == run_history.c.run_seq)
    .where(runs.c.id == bindparam("run_id"))
    .order_by(run_history.c.id)
)
_COUNTS = select(
    experiments.c.name, experiments.c.runs, experiments.c.deleted, experiments.c.created, experiments.c.last,
    experiments.c.tags, experiments.c.archived,
)  # fmt: skip
_NEXT_NUMBER = (
    update(experiments)
    .where(experiments.c.name == bindparam("of"))
    .values(runs=experiments.c.runs + 1, last=bindparam("now"), archived=None)  # a new run brings it back
    .returning(experiments.c.id, experiments.c.runs)
)
_LATEST = select(func.max(run_history.c.time)).join(runs, runs.c.seq == run_history.c.run_seq).where(
    runs.c.id == bindparam("run_id")
)  # fmt: skip
_SET = update(runs).where(runs.c.id == bindparam("of"))
_SET_SPEC = update(run_specs).where(run_specs.c.run_seq == bindparam("of"))
_DROP_TAGS = delete(run_tags).where(run_tags.c.run_seq == bindparam("of"), run_tags.c.key == bindparam("name"))

_SPECS = 256  # kept decoded
_PLAIN = frozenset({"display_name", "description", "exit_code", "exit_signal", "lost_points", "verified", "attempt"})
_AS_JSON = frozenset({"environment", "nodes", "parts"})


def find_run(db: Connection, run_id: str, history: bool = False) -> RunRecord | None:
    """The run, with its history when asked for; None when absent."""
    row = db.execute(_BY_ID, {"run_id": run_id}).first()
    if row is None:
        return None
    record = _record(row)
    return replace(record, history=_history(db, run_id)) if history else record


def get_run(db: Connection, run_id: str, history: bool = False) -> RunRecord:
    """The run; raises UserErrorException when absent."""
    record = find_run(db, run_id, history)
    if record is None:
        raise _absent(run_id)
    return record


def find_runs(db: Connection, run_ids: Sequence[str]) -> Sequence[RunRecord]:
    """The runs of these ids in this order, each once; absent ones are left out."""
    return tuple(map(_record, _found(db, run_ids)))


def find_lines(db: Connection, run_ids: Sequence[str]) -> Sequence[RunLine]:
    """As ``find_runs``, ready to be sent."""
    return tuple(map(line_of, _found(db, run_ids)))


def _found(db: Connection, run_ids: Sequence[str]) -> Sequence[Any]:
    found = {row.id: row for row in db.execute(_BY_IDS, {"run_ids": list(run_ids)})}
    return [found[run_id] for run_id in dict.fromkeys(run_ids) if run_id in found]


def run_of_request(db: Connection, request_id: str) -> RunRecord | None:
    """The run that was made for the request, if any."""
    row = db.execute(_BY_REQUEST, {"request_id": request_id}).first()
    return None if row is None else _record(row)


def run_ids_like(db: Connection, text: str, limit: int) -> Sequence[str]:
    """Ids that begin with ``text`` or end with it after a ``_``, the newest first; at most ``limit`` of each kind."""
    begins = select(runs.c.seq).where(runs.c.id >= text, runs.c.id < text + "\U0010ffff")
    ends = select(runs.c.seq).where(func.substr(runs.c.id, -len(text) - 1) == "_" + text)  # walks over all ids: no more
    either = union(*(select(part.limit(limit if text else 0).subquery().c.seq) for part in (begins, ends)))
    found = select(runs.c.id).where(runs.c.seq.in_(either)).order_by(runs.c.seq.desc())
    return tuple(db.execute(found.limit(limit)).scalars())


def active_runs(db: Connection, placed: bool = False) -> Sequence[RunRecord]:
    """Runs that are not final, in the order they were created; ``placed``: only those that have nodes."""
    return tuple(map(_record, db.execute(_PLACED if placed else _ACTIVE)))


def count_active(db: Connection) -> int:
    """How many runs are not final."""
    return int(db.execute(_COUNT_ACTIVE).scalar_one())


def unverified_runs(db: Connection) -> Sequence[str]:
    """Ids of the ended runs whose files still lack checksums."""
    return tuple(db.execute(_UNVERIFIED).scalars())


def count_runs(db: Connection) -> Mapping[str, Mapping[str, Any]]:
    """For each experiment by name: how many runs, when made, when its newest run was, tags, when it was archived."""
    rows = db.execute(_COUNTS.order_by(experiments.c.name))
    return {
        row.name: {
            "runs": row.runs - row.deleted, "created": to_s(row.created), "last": to_s(row.last) if row.runs else None,
            "tags": json.loads(row.tags), "archived": to_s(row.archived),
        }
        for row in rows
    }  # fmt: skip


def list_runs(db: Connection, **filters: Any) -> Sequence[RunRecord]:
    """Runs that fit all filters, newest first: at most ``limit``, those older than the run ``before`` only.

    ``statuses`` are alternatives; of ``tags`` each must be there, with the value when it has one; of ``metrics`` each
    must hold. With ``parent`` only that run's children; else runs that are nobody's, unless ``include_children``.
    """
    return tuple(map(_record, _listed(db, **filters)))


def list_lines(db: Connection, **filters: Any) -> Sequence[RunLine]:
    """As ``list_runs``, ready to be sent."""
    return tuple(map(line_of, _listed(db, **filters)))


def _listed(
    db: Connection,
    *,
    experiment: str | None = None,
    statuses: Sequence[RunStatus] = (),
    tags: Sequence[tuple[str, str | None]] = (),
    metrics: Sequence[MetricFilter] = (),
    limit: int = 100,
    before: str | None = None,
    parent: str | None = None,
    include_children: bool = False,
) -> Iterable[Any]:
    where: list[ColumnElement[bool]] = []
    if parent is not None:
        where.append(runs.c.parent_id == parent)
    elif not include_children:
        where.append(runs.c.parent_id.is_(None))
    if experiment is not None:
        number = db.execute(select(experiments.c.id).where(experiments.c.name == experiment)).scalar()
        if number is None:
            return ()
        where.append(runs.c.experiment_id == number)
    older = None if before is None else run_seq(db, before)
    named = tuple(dict.fromkeys(map(str, statuses)))
    wanted = Wanted(where, older, named, rarest_first(db, tags), metrics)
    chosen = chosen_runs(wanted, max(limit, 0))
    return db.execute(_RECORD.where(runs.c.seq.in_(chosen)).order_by(runs.c.seq.desc()))


def run_seq(db: Connection, run_id: str) -> int:
    """The number of the run inside the database; raises UserErrorException when absent."""
    seq: int | None = db.execute(_SEQ, {"run_id": run_id}).scalar()
    if seq is None:
        raise _absent(run_id)
    return seq


def create_run(db: Connection, run_id: str, spec: RunSpec, *, now: float, request_id: str | None = None) -> RunRecord:
    """Add a run in status NotStarted, and its experiment when it is the first; raises Conflict when it exists."""
    if is_pending(db, RUN, run_id):
        raise Conflict(f"The run {run_id!r} was deleted a moment ago and is being cleared away. Choose another id.")
    time = to_us(now)
    experiment_id, number = _next_number(db, spec.experiment, time)
    row = {
        "id": run_id, "experiment_id": experiment_id, "number": number, "status": str(RunStatus.NOT_STARTED),
        "created": time, "request_id": request_id, "display_name": spec.display_name, "tags": to_json(spec.tags),
        "properties": to_json(spec.properties), "parent_id": spec.parent_id, "environment": "{}", "nodes": "[]",
        "lost_points": 0, "verified": False, "attempt": 1, "parts": "[]",
    }  # fmt: skip
    try:
        key = db.execute(insert(runs), row).inserted_primary_key
    except IntegrityError as problem:
        raise Conflict(
            f"There is already a run {run_id!r}, or one for the request {request_id!r}. Ask for the run of that"
            " request, or submit under a new id."
        ) from problem
    assert key is not None
    db.execute(insert(run_specs), {"run_seq": key[0], "spec": to_json(spec)})
    _add_history(db, key[0], time, RunStatus.NOT_STARTED, None)
    _add_tags(db, key[0], spec.tags)
    return RunRecord(
        id=run_id, experiment=spec.experiment, number=number, status=RunStatus.NOT_STARTED, spec=spec,
        created=time / 1_000_000, parent_id=spec.parent_id, display_name=spec.display_name, tags=dict(spec.tags),
        properties=dict(spec.properties),
    )  # fmt: skip


def next_child_id(db: Connection, parent_id: str) -> str:
    """The id that the next child of a run gets: ``<parent>_<n>``, counting from 0; raises when there is no parent."""
    run_seq(db, parent_id)
    number: int = db.execute(_CHILDREN, {"parent": parent_id}).scalar() or 0
    while _is_taken(db, f"{parent_id}_{number}"):  # an id the user chose, or that of a deleted run
        number += 1
    return f"{parent_id}_{number}"


def transition(
    db: Connection, run_id: str, status: RunStatus, *, now: float, reason: Reason | None = None
) -> RunRecord:
    """Move a run to ``status``; the same status again only changes the reason. Raises Conflict when not allowed.

    A ``now`` from before the run's last change (a clock was set back) counts as the time of that change.
    """
    record = get_run(db, run_id)
    time = max(to_us(now), db.execute(_LATEST, {"run_id": run_id}).scalar() or 0)
    if record.status is status:
        return _change_reason(db, record, reason, time)
    if not may_follow(record.status, status):
        then = ", ".join(sorted(map(str, ALLOWED[record.status]))) or "nothing: it is final"
        raise Conflict(f"Run {run_id!r} is {record.status} and cannot become {status}. Allowed next: {then}.")
    columns: dict[str, Any] = {"status": str(status), **_reason_columns(reason)}
    if status is RunStatus.RUNNING and record.started is None:
        columns["started"] = time
    if status.final:
        columns["ended"] = time
    db.execute(_SET, {"of": run_id, **columns})
    _add_history(db, run_seq(db, run_id), time, status, reason)
    times = {name: columns[name] / 1_000_000 for name in ("started", "ended") if name in columns}
    return replace(record, status=status, reason=reason, **times)


def update_run(db: Connection, run_id: str, **changes: Any) -> RunRecord:
    """Set columns of a run; raises UserErrorException for one that cannot be set this way."""
    if unknown := set(changes) - _PLAIN - _AS_JSON:
        raise UserErrorException(
            f"{', '.join(sorted(unknown))} of a run cannot be set. Allowed: {', '.join(sorted(_PLAIN | _AS_JSON))}."
        )
    if changes:
        columns = {name: to_json(value) if name in _AS_JSON else value for name, value in changes.items()}
        db.execute(_SET, {"of": run_id, **columns})
    return get_run(db, run_id)


def prioritize(db: Connection, run_id: str, priority: int) -> RunRecord:
    """Set the priority of a run, the one thing of its spec that may change."""
    spec = replace(get_run(db, run_id).spec, priority=priority)
    db.execute(_SET_SPEC.values(spec=to_json(spec)), {"of": run_seq(db, run_id)})
    return get_run(db, run_id)


def tag(db: Connection, run_id: str, tags: Mapping[str, str], remove: Iterable[str] = ()) -> None:
    """Set and remove tags; a tag in both is set."""
    record, seq = get_run(db, run_id), run_seq(db, run_id)
    gone = set(remove)
    kept = {key: value for key, value in record.tags.items() if key not in gone} | dict(tags)
    db.execute(_SET, {"of": run_id, "tags": to_json(kept)})
    if old := [{"of": seq, "name": clean(key)} for key in gone | set(tags)]:
        db.execute(_DROP_TAGS, old)
    _add_tags(db, seq, tags)


def add_properties(db: Connection, run_id: str, properties: Mapping[str, str]) -> None:
    """Add properties; they never change: Conflict when one already has another value."""
    held = dict(get_run(db, run_id).properties)
    for key, value in properties.items():
        if held.setdefault(key, value) != value:
            raise Conflict(
                f"Property {key!r} of run {run_id!r} is {held[key]!r} and cannot become {value!r}: properties never"
                " change. Use a tag, or another name."
            )
    db.execute(_SET, {"of": run_id, "properties": to_json(held)})


def _is_taken(db: Connection, run_id: str) -> bool:
    return db.execute(_SEQ, {"run_id": run_id}).first() is not None or is_pending(db, RUN, run_id)


def _absent(run_id: str) -> UserErrorException:
    return UserErrorException(f"No run {run_id!r} in this workspace. `windlass ps --all` lists the runs there are.")


def _record(row: Any) -> RunRecord:
    columns = f"[{row.tags},{row.properties},{row.environment},{row.nodes},{row.parts}]"  # one call for all
    tags, properties, environment, nodes, parts = json.loads(columns)
    return RunRecord(
        id=row.id,
        experiment=row.experiment,
        number=row.number,
        status=RunStatus(row.status),
        spec=_spec(row.spec),
        created=row.created / 1_000_000,
        reason=_reason(row),
        started=to_s(row.started),
        ended=to_s(row.ended),
        parent_id=row.parent_id,
        display_name=row.display_name,
        description=row.description,
        tags=tags,
        properties=properties,
        environment=environment,
        nodes=tuple(nodes),
        exit_code=row.exit_code,
        exit_signal=row.exit_signal,
        lost_points=row.lost_points,
        verified=row.verified,
        attempt=row.attempt,
        parts=tuple(parts),
    )


@lru_cache(maxsize=_SPECS)
def _spec(text: str) -> RunSpec:
    """A run's spec never changes, and a run at work is asked for again and again."""
    return RunSpec.from_wire(json.loads(text))


def _reason(row: Any) -> Reason | None:
    return None if row.reason_code is None else Reason(row.reason_code, row.reason_message)


def _reason_columns(reason: Reason | None) -> dict[str, str | None]:
    if reason is None:
        return {"reason_code": None, "reason_message": None}
    return {"reason_code": reason.code, "reason_message": clean(reason.message)}


def _history(db: Connection, run_id: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {"time": to_s(row.time), "status": row.status, "reason": _wire_reason(row)}
        for row in db.execute(_HISTORY, {"run_id": run_id})
    )


def _wire_reason(row: Any) -> dict[str, str] | None:
    return None if row.reason_code is None else {"code": row.reason_code, "message": row.reason_message}


def _add_history(db: Connection, seq: int, time: int, status: RunStatus, reason: Reason | None) -> None:
    db.execute(insert(run_history), {"run_seq": seq, "time": time, "status": str(status), **_reason_columns(reason)})


def _change_reason(db: Connection, record: RunRecord, reason: Reason | None, time: int) -> RunRecord:
    if reason is None or reason == record.reason:
        return record
    db.execute(_SET, {"of": record.id, **_reason_columns(reason)})
    if record.reason is None or reason.code != record.reason.code:
        _add_history(db, run_seq(db, record.id), time, record.status, reason)
    return replace(record, reason=reason)


def _next_number(db: Connection, experiment: str, time: int) -> tuple[int, int]:
    row = db.execute(_NEXT_NUMBER, {"of": experiment, "now": time}).first()
    if row is not None:
        return row.id, row.runs
    key = db.execute(
        insert(experiments), {"name": experiment, "created": time, "last": time, "runs": 1}
    ).inserted_primary_key
    assert key is not None
    return key[0], 1


def _add_tags(db: Connection, seq: int, tags: Mapping[str, str]) -> None:
    if rows := [{"run_seq": seq, "key": clean(key), "value": clean(str(value))} for key, value in tags.items()]:
        db.execute(insert(run_tags), rows)
