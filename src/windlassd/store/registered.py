"""What users register by name beside models: environments, and what they say of experiments. On a Connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import delete, exists, insert, select, update
from sqlalchemy.engine import Connection

from windlass.errors import UserErrorException
from windlassd.store._columns import to_json, to_s, to_us
from windlassd.store.base import Conflict, EnvironmentRecord
from windlassd.store.deletions import delete_runs
from windlassd.store.schema import environment_labels, environments, experiments, runs

_EXPERIMENT_CHANGES = frozenset({"tags", "archived"})


def find_environments(db: Connection, name: str | None = None) -> Sequence[EnvironmentRecord]:
    """Versions of registered environments, newest first: all, or those called ``name``."""
    query = select(environments).order_by(environments.c.id.desc())
    if name is not None:
        query = query.where(environments.c.name == name)
    labels = _labels(db, name)
    return tuple(_environment(row, labels) for row in db.execute(query))


def find_environment(
    db: Connection, name: str, version: str | None = None, label: str | None = None
) -> EnvironmentRecord | None:
    """A version, the one a label stands on, or the newest; None when absent."""
    labels = _labels(db, name)
    if label is not None:
        version = next((v for (_, v), known in labels.items() if label in known), None)
        if version is None:
            return None
    query = select(environments).where(environments.c.name == name).order_by(environments.c.id.desc()).limit(1)
    if version is not None:
        query = query.where(environments.c.version == version)
    row = db.execute(query).first()
    return None if row is None else _environment(row, labels)


def add_environment(
    db: Connection, name: str, definition: Mapping[str, Any], now: float, version: str | None = None
) -> EnvironmentRecord:
    """The newest version when it has this definition, else a new one; see ``Writer``."""
    text = json.dumps(definition, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    newest = db.execute(
        select(environments.c.version, environments.c.sha256)
        .where(environments.c.name == name)
        .order_by(environments.c.id.desc())
    ).all()
    same = [row.version for row in newest if row.sha256 == digest]
    if version is not None and version in (row.version for row in newest):
        if version not in same:
            raise Conflict(
                f"The environment {name!r} has a version {version!r} of other content. Give another version."
            )
        found: str | None = version
    else:
        found = newest[0].version if version is None and newest and newest[0].sha256 == digest else None
    if found is None:
        numbers = [int(row.version) for row in newest if row.version.isdigit()]
        found = version if version is not None else str(max(numbers, default=0) + 1)
        db.execute(
            insert(environments),
            {"name": name, "version": found, "created": to_us(now), "definition": text, "sha256": digest},
        )
    record = find_environment(db, name, found)
    assert record is not None
    return record


def label_environment(db: Connection, name: str, version: str, labels: Iterable[str]) -> None:
    """Put labels on a version; one that stands on another version moves."""
    if find_environment(db, name, version) is None:
        raise UserErrorException(f"The environment {name!r} has no version {version!r}.")
    for label in dict.fromkeys(labels):
        where = (environment_labels.c.name == name, environment_labels.c.label == label)
        if not db.execute(update(environment_labels).where(*where).values(version=version)).rowcount:
            db.execute(insert(environment_labels), {"name": name, "label": label, "version": version})


def find_experiment(db: Connection, name: str) -> Mapping[str, Any] | None:
    """How many runs it has, its tags and times; None when absent."""
    row = db.execute(select(experiments).where(experiments.c.name == name)).first()
    if row is None:
        return None
    return {
        "runs": row.runs - row.deleted, "created": to_s(row.created), "last": to_s(row.last) if row.runs else None,
        "tags": json.loads(row.tags), "archived": to_s(row.archived),
    }  # fmt: skip


def update_experiment(db: Connection, name: str, now: float, **changes: Any) -> Mapping[str, Any]:
    """Set ``tags`` or ``archived``; makes the experiment when it is not there yet."""
    if unknown := set(changes) - _EXPERIMENT_CHANGES:
        raise UserErrorException(f"{', '.join(sorted(unknown))} of an experiment cannot be set.")
    if find_experiment(db, name) is None:
        db.execute(insert(experiments), {"name": name, "created": to_us(now), "last": to_us(now), "runs": 0})
    columns: dict[str, Any] = {}
    if "tags" in changes:
        columns["tags"] = to_json(changes["tags"])
    if "archived" in changes:
        columns["archived"] = None if changes["archived"] is None else to_us(changes["archived"])
    if columns:
        db.execute(update(experiments).where(experiments.c.name == name).values(columns))
    found = find_experiment(db, name)
    assert found is not None
    return found


def delete_experiment(db: Connection, name: str, now: float) -> Sequence[str]:
    """Forget an experiment with its runs; returns their ids. Raises Conflict while one has not ended."""
    number = db.execute(select(experiments.c.id).where(experiments.c.name == name)).scalar()
    if number is None:
        raise UserErrorException(f"There is no experiment {name!r}.")
    if db.execute(select(exists().where(runs.c.experiment_id == number, runs.c.ended.is_(None)))).scalar():
        raise Conflict(f"Runs of the experiment {name!r} have not ended. Cancel them or wait, then delete it.")
    ids = tuple(db.execute(select(runs.c.id).where(runs.c.experiment_id == number)).scalars())
    delete_runs(db, ids, now)
    db.execute(delete(experiments).where(experiments.c.id == number))
    return ids


def _labels(db: Connection, name: str | None) -> Mapping[tuple[str, str], Sequence[str]]:
    query = select(environment_labels).order_by(environment_labels.c.label)
    if name is not None:
        query = query.where(environment_labels.c.name == name)
    found: dict[tuple[str, str], list[str]] = {}
    for row in db.execute(query):
        found.setdefault((row.name, row.version), []).append(row.label)
    return found


def _environment(row: Any, labels: Mapping[tuple[str, str], Sequence[str]]) -> EnvironmentRecord:
    return EnvironmentRecord(
        name=row.name, version=row.version, created=row.created / 1_000_000, definition=json.loads(row.definition),
        labels=tuple(labels.get((row.name, row.version), ())),
    )  # fmt: skip
