"""Engines on the SQLite file of a workspace: one for its only writer, one for all readers."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.event import listens_for
from sqlalchemy.pool import NullPool, QueuePool

from windlassd.store._errors import translate_errors

_BUSY_MS = 5000
_SETTINGS = (
    f"PRAGMA busy_timeout={_BUSY_MS}",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA cache_size=-32768",  # 32 MiB
)
_WRITER_SETTINGS: tuple[str, ...] = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA wal_autocheckpoint=4000",  # pages, 16 MiB: each checkpoint syncs the whole file
    "PRAGMA journal_size_limit=67108864",
)
_OF_A_NEW_FILE = "PRAGMA auto_vacuum=INCREMENTAL"
"""Counts while there is no table yet (see _space.py). Said again it would write, which a full disk does not let it."""


def writer_engine(path: str) -> Engine:
    """An engine whose transactions hold the write lock from their first statement."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=256)
        own = _WRITER_SETTINGS if os.path.getsize(path) else (_OF_A_NEW_FILE, *_WRITER_SETTINGS)
        return _set(connection, _SETTINGS + own)

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)
    _begin_with(engine, "BEGIN IMMEDIATE")
    translate_errors(engine, path)
    return engine


def reader_engine(path: str) -> Engine:
    """An engine for any number of threads: each takes an idle connection or opens one; none can write."""
    uri = f"file:{quote(path)}?mode=ro"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        return _set(connection, _SETTINGS)

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, pool_size=8, max_overflow=-1)
    _begin_with(engine, "BEGIN")  # one moment of the database for all questions of a read
    translate_errors(engine, path)
    return engine


def _set(connection: sqlite3.Connection, settings: tuple[str, ...]) -> sqlite3.Connection:
    try:
        for setting in settings:
            connection.execute(setting)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _begin_with(engine: Engine, statement: str) -> None:
    @listens_for(engine, "begin")
    def _(connection: Connection) -> None:
        connection.exec_driver_sql(statement)
