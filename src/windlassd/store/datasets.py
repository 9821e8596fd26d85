"""Datastores and datasets with their versions. On a Connection."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.engine import Connection

from windlassd.store._columns import to_json, to_us
from windlassd.store.base import Conflict, DatasetRecord, DatastoreRecord
from windlassd.store.schema import datasets, datastores


def all_datastores(db: Connection) -> Sequence[DatastoreRecord]:
    """The registered datastores, by name."""
    return tuple(map(_datastore, db.execute(select(datastores).order_by(datastores.c.name))))


def find_datastore(db: Connection, name: str) -> DatastoreRecord | None:
    """A registered datastore; None when absent."""
    row = db.execute(select(datastores).where(datastores.c.name == name)).first()
    return None if row is None else _datastore(row)


def put_datastore(db: Connection, store: DatastoreRecord) -> None:
    """Register a datastore or change the one of that name."""
    columns = {"kind": store.kind, "path": store.path}
    if not db.execute(update(datastores).where(datastores.c.name == store.name).values(columns)).rowcount:
        db.execute(insert(datastores), {"name": store.name, "created": to_us(store.created), **columns})


def delete_datastore(db: Connection, name: str) -> None:
    """Forget a datastore; nothing happens when there is none of that name."""
    db.execute(delete(datastores).where(datastores.c.name == name))


def find_datasets(db: Connection, name: str | None = None) -> Sequence[DatasetRecord]:
    """Registered versions, newest first: all, or those called ``name``."""
    query = select(datasets).where(datasets.c.name.is_not(None)).order_by(datasets.c.seq.desc())
    if name is not None:
        query = query.where(datasets.c.name == name)
    return tuple(map(_dataset, db.execute(query)))


def find_dataset(db: Connection, name: str, version: int | None = None) -> DatasetRecord | None:
    """A version of a dataset, or its latest; None when absent."""
    query = select(datasets).where(datasets.c.name == name).order_by(datasets.c.version.desc()).limit(1)
    if version is not None:
        query = query.where(datasets.c.version == version)
    row = db.execute(query).first()
    return None if row is None else _dataset(row)


def find_dataset_by_id(db: Connection, dataset_id: str) -> DatasetRecord | None:
    """A dataset by its id, registered or not; None when absent."""
    row = db.execute(select(datasets).where(datasets.c.id == dataset_id)).first()
    return None if row is None else _dataset(row)


def add_dataset(db: Connection, dataset: DatasetRecord) -> DatasetRecord:
    """Keep a dataset; one with a name becomes its next version. One whose id is known stays as it is."""
    known = find_dataset_by_id(db, dataset.id)
    if known is not None:
        return known
    if dataset.name is not None:
        last = db.execute(select(func.max(datasets.c.version)).where(datasets.c.name == dataset.name)).scalar()
        dataset = replace(dataset, version=(last or 0) + 1)
    db.execute(
        insert(datasets),
        {
            "id": dataset.id, "name": dataset.name, "version": dataset.version, "kind": dataset.kind,
            "definition": to_json(dataset.definition), "description": dataset.description,
            "tags": to_json(dataset.tags), "run_id": dataset.run_id, "created": to_us(dataset.created),
            "modified": to_us(dataset.created),
        },
    )  # fmt: skip
    return replace(dataset, modified=dataset.created)


def update_dataset(db: Connection, dataset_id: str, now: float, **changes: Any) -> DatasetRecord:
    """Set ``description`` and ``tags`` of a dataset.

    Raises:
        Conflict: there is none of that id.
    """
    columns = {name: to_json(value) if name == "tags" else value for name, value in changes.items()}
    columns["modified"] = to_us(now)
    db.execute(update(datasets).where(datasets.c.id == dataset_id).values(columns))
    found = find_dataset_by_id(db, dataset_id)
    if found is None:
        raise Conflict(f"There is no dataset {dataset_id!r}.")
    return found


def unregister_dataset(db: Connection, name: str) -> int:
    """Take the name from all versions, which stay known by their ids to the runs that read them; how many there were.

    Returns:
        Number of versions.
    """
    gone = update(datasets).where(datasets.c.name == name).values(name=None, version=None)
    return int(db.execute(gone).rowcount)


def _datastore(row: Any) -> DatastoreRecord:
    return DatastoreRecord(name=row.name, kind=row.kind, path=row.path, created=row.created / 1_000_000)


def _dataset(row: Any) -> DatasetRecord:
    definition: Mapping[str, Any] = json.loads(row.definition)
    return DatasetRecord(
        id=row.id, kind=row.kind, definition=definition, created=row.created / 1_000_000, name=row.name,
        version=row.version, description=row.description, tags=json.loads(row.tags), run_id=row.run_id,
        modified=row.modified / 1_000_000,
    )  # fmt: skip
