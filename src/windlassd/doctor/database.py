"""The database's file: there, readable, whole, and of this version."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from urllib.parse import quote

from windlassd.doctor.patient import Patient, Problem, age_s, entries
from windlassd.store._before import old_copies
from windlassd.store._migrate import revisions
from windlassd.store.base import StoreError
from windlassd.store.salvage import salvage
from windlassd.store.schema import REVISION
from windlassd.store.sql import SqlStore

UNUSABLE = frozenset(
    {"database_missing", "database_closed", "database_foreign", "database_newer", "database_older", "database_locked",
     "database_damaged"}
)  # fmt: skip
"""Findings after which the records cannot be looked at."""
SALVAGED = ".salvaged"
"""Ends the name of a new database in the making."""
_BUSY_MS = 2000
_PART, _COPYING_S = ".part", 600.0
_SHOWN = 3


def file(patient: Patient) -> Iterator[Problem]:
    """The database's file, without the store: also for one that no server can open."""
    path, name = patient.database, os.path.basename(patient.database)
    runs = [entry.name for entry in entries(patient.path("runs"))]
    detail = f"{name} is missing or empty, and the files of {len(runs)} runs lie in {patient.path('runs')}."
    missing = Problem("database_missing", name, detail)
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        if runs:
            yield missing
        return
    if not os.access(path, os.R_OK | os.W_OK):
        yield Problem("database_closed", name, f"{path} may not be read and written by this user.")
        return
    mend = partial(_salvage, patient) if patient.alone and patient.live is None else None
    try:
        with closing(_read_only(path)) as db:
            if runs and not _tables(db):  # what a server leaves that could not start on a missing one
                yield missing
                return
            yield from _kind(patient, db, name)
            said = _damage(db, patient.deep)
    except sqlite3.OperationalError as problem:
        locked = (getattr(problem, "sqlite_errorname", "") or "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        yield Problem("database_locked" if locked else "database_closed", name, f"{path} cannot be read: {problem}.")
        return
    except sqlite3.DatabaseError as problem:
        yield Problem("database_damaged", name, f"{path} is damaged or no database: {problem}.", mend)
        return
    if said:
        more = f" (and {len(said) - _SHOWN} more)" if len(said) > _SHOWN else ""
        yield Problem("database_damaged", name, f"SQLite finds damage: {'; '.join(said[:_SHOWN])}{more}.", mend)


def copies(patient: Patient) -> Iterator[Problem]:
    """Copies from before the tables changed: they are there for a week, and no finding until then."""
    for path in old_copies(patient.database):
        if path.endswith(_PART) and not (patient.alone or age_s(path) > _COPYING_S):
            continue  # it is being made
        where = patient.shown(path)
        yield Problem("database_copy", where, f"{where} is not needed any more.", partial(os.unlink, path))


def _kind(patient: Patient, db: sqlite3.Connection, name: str) -> Iterator[Problem]:
    tables = _tables(db)
    if "alembic_version" not in tables:
        if tables:
            yield Problem("database_foreign", name, f"{name} is a database of something else than Windlass.")
        return
    row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    found = str(row[0]) if row else ""
    if found not in revisions():
        detail = f"{name} has the revision {found!r}; this version of Windlass knows those up to {REVISION}."
        yield Problem("database_newer", name, detail)
    elif found != REVISION:
        mend = partial(_migrate, patient) if patient.alone else None
        detail = f"{name} has the revision {found}; this version works with {REVISION}."
        yield Problem("database_older", name, detail, mend)


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def _migrate(patient: Patient) -> None:
    SqlStore.open(patient.workspace_dir).close()


def _damage(db: sqlite3.Connection, deep: bool) -> list[str]:
    """What SQLite itself finds wrong with the file; ``deep`` compares indexes with tables, too."""
    said = db.execute(f"PRAGMA {'integrity_check' if deep else 'quick_check'}(20)").fetchall()
    return [str(line).replace("\n", " ") for (line,) in said if line != "ok"]


def _read_only(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True, isolation_level=None)
    db.execute(f"PRAGMA busy_timeout={_BUSY_MS}")
    return db


def _salvage(patient: Patient) -> None:
    """Put a new database in the place of the damaged one, with every row that can be read."""
    beside = patient.database + SALVAGED
    _remove(beside)
    rows = salvage(patient.database, beside)
    if not rows:
        _remove(beside)
        raise StoreError("No row of it could be read. Restore a backup of the workspace.")
    there = [path for path in (patient.database + suffix for suffix in ("", "-wal", "-shm")) if os.path.exists(path)]
    for path in there:
        patient.lost.link(path, "database_damaged")
    patient.lost.keep("database_damaged", {"rows": rows})
    for path in there[1:]:  # the old log would be played into the new database
        os.unlink(path)
    os.replace(beside, patient.database)


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
