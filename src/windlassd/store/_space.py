"""A database's room on disk: how much it takes, giving back what is free, and a copy of it. On the driver's connection.

A database that is made with ``auto_vacuum=INCREMENTAL`` can give free pages back a few at a time, moving pages from its
end. One from before cannot: it is rewritten once, with the room of a second copy, when that is worth it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import cast

from sqlalchemy.engine import Connection

from windlassd.store._errors import translate
from windlassd.store.base import StoreSpace

_STEP_PAGES = 1024  # 4 MiB: some tens of milliseconds
_INCREMENTAL = 2
_WORTH_BYTES, _WORTH_SHARE = 4 << 20, 0.25


def driver_of(connection: Connection) -> sqlite3.Connection:
    """The driver's own connection, for what must not be inside a transaction."""
    return cast(sqlite3.Connection, connection.connection.dbapi_connection)


def copy_database(source: sqlite3.Connection, path: str) -> None:
    """Write what ``source`` holds at one moment to a new file; the write-ahead log grows meanwhile, nobody waits."""
    with _translated(path), closing(sqlite3.connect(path)) as target:
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")


def space_of(db: sqlite3.Connection, path: str) -> StoreSpace:
    """What the database at ``path`` takes, its log included, and how much of that holds nothing."""
    with _translated(path):
        free = _number(db, "freelist_count") * _number(db, "page_size")
        rewrites = _rewrites(db, path)
    return StoreSpace(sum(_on_disk(path + end) for end in ("", "-wal", "-shm")), free, rewrites)


def give_back(db: sqlite3.Connection, path: str) -> bool:
    """Free some pages of the file's end; True while more is left. Outside of any transaction.

    Raises:
        StoreFull: moving pages needs room in the log first.
    """
    with _translated(path):
        free = _number(db, "freelist_count")
        if free and _number(db, "auto_vacuum") == _INCREMENTAL:
            db.executescript(f"PRAGMA incremental_vacuum({_STEP_PAGES})")  # execute would stop after one page
            if free > _STEP_PAGES:
                return True
        elif _rewrites(db, path):
            _rewrite(db)
        _empty_log(db)
    return False


def _rewrites(db: sqlite3.Connection, path: str) -> bool:
    free = _number(db, "freelist_count") * _number(db, "page_size")
    worth = free > max(_WORTH_BYTES, _WORTH_SHARE * os.path.getsize(path))
    return worth and _number(db, "auto_vacuum") != _INCREMENTAL


def _rewrite(db: sqlite3.Connection) -> None:
    """Once in the life of an old database; afterwards it gives back in steps."""
    db.execute("PRAGMA temp_store=FILE")  # not a second database in memory
    try:
        db.execute("PRAGMA auto_vacuum=INCREMENTAL")
        db.execute("VACUUM")
    finally:
        db.execute("PRAGMA temp_store=MEMORY")


def _empty_log(db: sqlite3.Connection) -> None:
    """Bring the log into the file, which becomes shorter by it, and cut it; left for later while a reader needs it."""
    patience = _number(db, "busy_timeout")
    db.execute("PRAGMA busy_timeout=0")
    try:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        db.execute(f"PRAGMA busy_timeout={patience}")


def _number(db: sqlite3.Connection, pragma: str) -> int:
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])


def _on_disk(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except FileNotFoundError:
        return 0


@contextmanager
def _translated(path: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as problem:
        known = translate(problem, path)
        if known is None:
            raise
        raise known from problem
