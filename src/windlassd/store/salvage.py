"""Save what can be read of a damaged database into a new one, row by row past what cannot."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import quote

from sqlalchemy import Table

from windlassd.store._sqlite import writer_engine
from windlassd.store.schema import REVISION, metadata

_AT_ONCE = 200
_LARGEST_ID = (1 << 63) - 1


def salvage(damaged: str, target: str) -> Mapping[str, int]:
    """Make the database ``target`` with every row of ``damaged`` that can be read; how many rows of each table.

    Empty when not even the list of tables can be read; nothing is made then. Rows that break a constraint, because
    the row they belong to is lost, are kept: the doctor tells of them afterwards.
    """
    with closing(sqlite3.connect(f"file:{quote(damaged)}?mode=ro", uri=True)) as source:
        source.text_factory = lambda raw: raw.decode("utf-8", "replace")
        source.execute("PRAGMA writable_schema=ON")  # else SQLite refuses each page of a file that was cut short
        found = _tables(source)
        if not found:
            return {}
        engine = writer_engine(target)
        with engine.connect() as made, made.begin():
            metadata.create_all(made)
            made.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
            made.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{REVISION}')")
        engine.dispose()
        with closing(sqlite3.connect(target, isolation_level=None)) as into:
            into.execute("PRAGMA synchronous=FULL")
            into.execute("PRAGMA foreign_keys=OFF")
            into.execute("BEGIN IMMEDIATE")
            counts = {table.name: _copy(source, into, table) for table in metadata.sorted_tables if table.name in found}
            into.execute("COMMIT")
            into.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            into.execute("PRAGMA journal_mode=DELETE")  # one file, to be renamed; the store makes it WAL again
    return counts


def _tables(source: sqlite3.Connection) -> set[str]:
    try:
        return {str(row[0]) for row in source.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.DatabaseError:
        return set()


def _copy(source: sqlite3.Connection, into: sqlite3.Connection, table: Table) -> int:
    names = _shared_columns(source, table)
    if not names:
        return 0
    listed = ", ".join(f'"{name}"' for name in names)
    put = f"INSERT OR IGNORE INTO {table.name} (rowid, {listed}) VALUES ({', '.join('?' * (len(names) + 1))})"
    before = into.total_changes
    for row in _rows(source, table.name, listed):
        try:
            into.execute(put, row)
        except sqlite3.Error:
            continue  # a value that the column does not take: damaged
    return into.total_changes - before


def _shared_columns(source: sqlite3.Connection, table: Table) -> list[str]:
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table.name})")}
    except sqlite3.DatabaseError:
        return []
    return [column.name for column in table.columns if column.name in there]


def _rows(source: sqlite3.Connection, table: str, listed: str) -> Iterator[tuple[Any, ...]]:
    """Rows in the order of their ids from the front, then, past damage, from the back."""
    low, complete = 0, False
    for row in _walk(source, table, listed, "rowid > ?", "ASC", -1):
        if row is None:
            break
        low = row[0]
        yield row
    else:
        complete = True
    if complete:
        return
    high = _LARGEST_ID
    for row in _walk(source, table, listed, "rowid < ?", "DESC", _LARGEST_ID):
        if row is None or row[0] <= low:
            break
        high = row[0]
        yield row
    yield from _between(source, table, listed, low, high)


def _walk(
    source: sqlite3.Connection, table: str, listed: str, where: str, order: str, start: int
) -> Iterator[tuple[Any, ...] | None]:
    """Rows from ``start`` on; None at the first that cannot be reached, and nothing more."""
    place, at_once = start, _AT_ONCE
    while True:
        try:
            rows = source.execute(
                f"SELECT rowid, {listed} FROM {table} WHERE {where} ORDER BY rowid {order} LIMIT {at_once}", (place,)
            ).fetchall()
        except sqlite3.DatabaseError:
            if at_once == 1:
                yield None
                return
            at_once = 1
            continue
        yield from rows
        if not rows:
            return
        place = rows[-1][0]


def _between(source: sqlite3.Connection, table: str, listed: str, low: int, high: int) -> Iterator[tuple[Any, ...]]:
    """Rows whose ids lie between, each asked for by itself: those on the pages that can be reached."""
    known = high if high < _LARGEST_ID else _sequence(source, table) + 1
    if known - low > 10_000_000:
        return  # ids of a broken page; asking for each would take for ever
    for rowid in range(low + 1, known):
        try:
            row = source.execute(f"SELECT rowid, {listed} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        except sqlite3.DatabaseError:
            continue
        if row is not None:
            yield row


def _sequence(source: sqlite3.Connection, table: str) -> int:
    """The highest id that the table ever gave, as far as SQLite noted it; 0 when it did not."""
    try:
        row = source.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table,)).fetchone()
    except sqlite3.DatabaseError:
        return 0
    return int(row[0]) if row else 0
