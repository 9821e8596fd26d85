"""A copy of the database as it was before its tables changed: the way back to an older version of Windlass.

A migration is one transaction, so whatever cuts it short leaves the old tables, and the next start does it again. The
copy is for the user who wants the older version back. It is made where the disk has room for it, and removed by the
first start a week later.
"""

from __future__ import annotations

import glob
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable

from sqlalchemy.engine import Connection

from windlassd.store._migrate import revisions
from windlassd.store._space import copy_database, driver_of
from windlassd.store.schema import REVISION

log = logging.getLogger(__name__)
KEPT_S = 7 * 86400
"""How long the copy stays."""
_SPARE = 2  # the migration itself may write as much again into its log


def keep_copy(connection: Connection, path: str, about_to: Callable[[], None]) -> None:
    """Copy the database to ``<path>.before-<new revision>`` when it is about to be migrated; outside of transactions.

    Args:
        connection: To the database.
        path: Of its file.
        about_to: Called first when there is something to migrate.

    Raises:
        StoreError: The database cannot be read.
    """
    db = driver_of(connection)
    found = _revision(db)
    if found == REVISION:
        _drop_old_copies(path)
    if found in (None, REVISION) or found not in revisions():
        return
    about_to()
    place = f"{path}.before-{REVISION}"
    if os.path.exists(place):  # a start that was cut short made it
        return
    beside = place + ".part"
    if os.path.exists(beside):  # of a start that was killed; it takes the room that is looked at next
        os.unlink(beside)
    size = os.path.getsize(path)
    if shutil.disk_usage(os.path.dirname(path)).free < _SPARE * size:
        log.warning("no room for a copy of %s (%d bytes) before its tables change; going on without", path, size)
        return
    copy_database(db, beside)
    _sync(beside)
    os.replace(beside, place)
    _sync(os.path.dirname(path))
    log.info("the database as revision %s had it is kept as %s", found, place)


def _revision(db: sqlite3.Connection) -> str | None:
    """The revision of the database; None when it has none yet or cannot be asked: opening it tells the user why."""
    try:
        row = db.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return None
    return row[0] if row else None


def old_copies(path: str) -> list[str]:
    """Copies of the database at ``path`` that have had their time, and what killed starts left of some."""
    found = sorted(glob.glob(glob.escape(path) + ".before-*"))
    return [copy for copy in found if copy.endswith(".part") or time.time() - os.path.getmtime(copy) > KEPT_S]


def _drop_old_copies(path: str) -> None:
    for copy in old_copies(path):
        os.unlink(copy)
        log.info("removed %s", copy)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
