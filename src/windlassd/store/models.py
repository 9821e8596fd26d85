"""Beside runs and metrics: kept files, snapshots, clusters, models, settings. On a Connection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, replace
from itertools import chain
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.engine import Connection

from windlass.errors import ModelNotFoundException, UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlassd.store._columns import clean, to_json, to_us
from windlassd.store.base import ModelRecord
from windlassd.store.deletions import model_is_gone
from windlassd.store.runs import run_seq
from windlassd.store.schema import clusters, meta, model_names, models, run_files, runs, snapshots

_FILES = (
    select(run_files.c.path, run_files.c.size, run_files.c.sha256)
    .join(runs, runs.c.seq == run_files.c.run_seq)
    .where(runs.c.id == bindparam("run_id"))
    .order_by(run_files.c.path)
)
_FILE = _FILES.where(run_files.c.path == bindparam("path"))
_DROP_FILE = delete(run_files).where(run_files.c.run_seq == bindparam("of"), run_files.c.path == bindparam("at"))
_SNAPSHOT = select(snapshots.c.files).where(snapshots.c.id == bindparam("snapshot_id"))
_META = select(meta.c.value).where(meta.c.key == bindparam("name"))
_MODEL_JSON = ("tags", "properties", "files", "datasets", "resources")
_MODEL_CHANGES = frozenset({*_MODEL_JSON, "description", "sample_input", "sample_output"} - {"files"})
_MODEL_FIELDS = tuple(field.name for field in fields(ModelRecord))


def files_of(db: Connection, run_id: str) -> Sequence[Mapping[str, Any]]:
    """``{"path", "size", "sha256"}`` of each kept file of the run, by path."""
    return tuple(dict(row) for row in db.execute(_FILES, {"run_id": run_id}).mappings())


def find_file(db: Connection, run_id: str, path: str) -> Mapping[str, Any] | None:
    """As ``files_of``, the one file of that path; None when it is not among them."""
    row = db.execute(_FILE, {"run_id": run_id, "path": path}).mappings().first()
    return None if row is None else dict(row)


def keep_files(db: Connection, run_id: str, files: Iterable[Mapping[str, Any]]) -> None:
    """Add kept files of a run; one of an equal path is replaced."""
    seq = run_seq(db, run_id)
    rows = {
        path: {"run_seq": seq, "path": path, "size": file["size"], "sha256": file.get("sha256")}
        for file in files
        for path in [clean(file["path"])]
    }
    if rows:
        db.execute(_DROP_FILE, [{"of": seq, "at": path} for path in rows])
        db.execute(insert(run_files), list(rows.values()))


def drop_files(db: Connection, run_id: str) -> None:
    """Forget what files the run keeps."""
    db.execute(delete(run_files).where(run_files.c.run_seq == run_seq(db, run_id)))


def find_snapshot(db: Connection, snapshot_id: str) -> Sequence[Mapping[str, Any]] | None:
    """The files of a snapshot; None when it is unknown."""
    text = db.execute(_SNAPSHOT, {"snapshot_id": snapshot_id}).scalar()
    return None if text is None else tuple(json.loads(text))


def add_snapshot(db: Connection, snapshot_id: str, files: Sequence[Mapping[str, Any]], now: float) -> None:
    """Remember the files of a snapshot; its id says its content, so that one already known stays as it is."""
    if db.execute(_SNAPSHOT, {"snapshot_id": snapshot_id}).first() is None:
        db.execute(insert(snapshots), {"id": snapshot_id, "files": to_json(files), "created": to_us(now)})


def all_clusters(db: Connection) -> Sequence[tuple[ClusterSpec, float, float]]:
    """``(spec, created, modified)`` of each cluster, by name."""
    return tuple(map(_cluster, db.execute(select(clusters).order_by(clusters.c.name))))


def find_cluster(db: Connection, name: str) -> tuple[ClusterSpec, float, float] | None:
    """``(spec, created, modified)`` of a cluster; None when absent."""
    row = db.execute(select(clusters).where(clusters.c.name == name)).first()
    return None if row is None else _cluster(row)


def put_cluster(db: Connection, spec: ClusterSpec, now: float) -> None:
    """Make a cluster or change the one of that name."""
    columns = {"spec": to_json(spec), "modified": to_us(now)}
    if not db.execute(update(clusters).where(clusters.c.name == spec.name).values(columns)).rowcount:
        db.execute(insert(clusters), {"name": spec.name, "created": columns["modified"], **columns})


def delete_cluster(db: Connection, name: str) -> None:
    """Forget a cluster; nothing happens when there is none of that name."""
    db.execute(delete(clusters).where(clusters.c.name == name))


def find_models(db: Connection, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]:
    """Versions of models, newest first: all, those called ``name``, those of the run."""
    query = select(models).order_by(models.c.id.desc())
    if name is not None:
        query = query.where(models.c.name == name)
    if run_id is not None:
        query = query.where(models.c.run_id == run_id)
    return tuple(map(_model, db.execute(query)))


def find_model(db: Connection, name: str, version: int | None = None) -> ModelRecord | None:
    """A version of a model, or its latest; None when absent."""
    query = select(models).where(models.c.name == name).order_by(models.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(models.c.version == version)
    row = db.execute(query).first()
    return None if row is None else _model(row)


def model_of_request(db: Connection, request_id: str) -> ModelRecord | None:
    """The version that a registration made; None when it made none."""
    row = db.execute(select(models).where(models.c.request_id == request_id)).first()
    return None if row is None else _model(row)


def add_model(db: Connection, model: ModelRecord) -> ModelRecord:
    """Add the next version of a model; returns it with the version it was given.

    A version is never given twice, not even after it was deleted. A repeated request gets what it got before.
    """
    if model.request_id is not None and (seen := model_of_request(db, model.request_id)):
        return seen
    version = _next_version(db, model.name)
    model = replace(model, version=version, tags=model.tags or {}, properties=model.properties or {})
    columns = {name: getattr(model, name) for name in _MODEL_FIELDS}
    columns.update({name: to_json(columns[name]) for name in _MODEL_JSON}, created=to_us(model.created))
    db.execute(insert(models), columns)
    return model


def update_model(db: Connection, name: str, version: int, **changes: Any) -> ModelRecord:
    """Set columns of a version; raises ModelNotFoundException when there is none."""
    if unknown := set(changes) - _MODEL_CHANGES:
        raise UserErrorException(
            f"{', '.join(sorted(unknown))} of a model cannot be set. Allowed: {', '.join(sorted(_MODEL_CHANGES))}."
        )
    if changes:
        columns = {key: to_json(value) if key in _MODEL_JSON else value for key, value in changes.items()}
        db.execute(update(models).where(models.c.name == name, models.c.version == version).values(columns))
    found = find_model(db, name, version)
    if found is None:
        raise ModelNotFoundException(f"The model {name!r} has no version {version}.")
    return found


def delete_model(db: Connection, name: str, version: int, now: float = 0.0) -> ModelRecord | None:
    """Forget a version; returns what it was, None when there is none. Notes the contents that may be free now."""
    found = find_model(db, name, version)
    if found is not None:
        db.execute(delete(models).where(models.c.name == name, models.c.version == version))
        model_is_gone(db, [file["sha256"] for file in found.files], found.snapshot_id, now)
    return found


def used_blobs(db: Connection, hashes: Iterable[str], known: Set[str] = frozenset()) -> set[str]:
    """Those of ``hashes`` that a model or a snapshot has, but for the snapshots that are ``known``.

    Reads every other list of files: for rare questions.
    """
    wanted, used = set(hashes), set[str]()
    for files in chain(db.execute(select(models.c.files)).scalars(), _lists(db, known)):
        used |= {file["sha256"] for file in json.loads(files)} & wanted
        if used == wanted:
            break
    return used


def snapshot_ids(db: Connection) -> set[str]:
    """All there are."""
    return set(db.execute(select(snapshots.c.id)).scalars())


def _lists(db: Connection, known: Set[str]) -> Iterable[str]:
    """The JSON of the files of each snapshot but the ``known`` ones."""
    if not known:
        return db.execute(select(snapshots.c.files)).scalars()
    new = sorted(snapshot_ids(db) - known)
    return (db.execute(_SNAPSHOT, {"snapshot_id": name}).scalar_one() for name in new)


def _next_version(db: Connection, name: str) -> int:
    count = update(model_names).where(model_names.c.name == name).values(last=model_names.c.last + 1)
    version: int | None = db.execute(count.returning(model_names.c.last)).scalar()
    if version is None:
        version = 1
        db.execute(insert(model_names), {"name": name, "last": version})
    return version


def get_meta(db: Connection, key: str) -> str | None:
    """The value kept under ``key``; None when there is none."""
    value: str | None = db.execute(_META, {"name": key}).scalar()
    return value


def set_meta(db: Connection, key: str, value: str) -> None:
    """Keep ``value`` under ``key``."""
    if not db.execute(update(meta).where(meta.c.key == key).values(value=value)).rowcount:
        db.execute(insert(meta), {"key": key, "value": value})


def _cluster(row: Any) -> tuple[ClusterSpec, float, float]:
    return ClusterSpec.from_wire(json.loads(row.spec)), row.created / 1_000_000, row.modified / 1_000_000


def _model(row: Any) -> ModelRecord:
    values = {name: row._mapping[name] for name in _MODEL_FIELDS}
    values.update({name: json.loads(values[name]) for name in _MODEL_JSON}, created=row.created / 1_000_000)
    return ModelRecord(**{**values, "files": tuple(values["files"]), "datasets": tuple(values["datasets"])})
