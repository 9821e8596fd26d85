"""The migrations make the same tables as schema.py, from nothing and from an older database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from windlassd.store._migrate import MIGRATIONS, bring_up_to_date, upgrade
from windlassd.store._sqlite import writer_engine
from windlassd.store.base import StoreError
from windlassd.store.schema import REVISION, metadata
from windlassd.store.sql import FILE, SqlStore
from windlassd.testing.store_suite import create


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Connection]:
    """A transaction on an empty database."""
    with writer_engine(str(tmp_path / FILE)).connect() as connection, connection.begin():
        yield connection


def _indexes(connection: Connection) -> set[Any]:
    rows = connection.exec_driver_sql("SELECT name, tbl_name, sql IS NULL FROM sqlite_master WHERE type = 'index'")
    return {tuple(row) for row in rows}


def test_the_revision_of_the_tables_is_the_last_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_migrations_from_nothing_make_the_tables_of_the_schema(database: Connection, tmp_path: Path) -> None:
    upgrade(database, "x.db")
    assert compare_metadata(MigrationContext.configure(database), metadata) == []
    with writer_engine(str(tmp_path / "new.db")).connect() as new, new.begin():
        bring_up_to_date(new, "new.db")
        assert _indexes(database) == _indexes(new)
        assert compare_metadata(MigrationContext.configure(new), metadata) == []


def test_an_up_to_date_database_is_left_alone(database: Connection) -> None:
    bring_up_to_date(database, "x.db")
    before = database.exec_driver_sql("PRAGMA schema_version").scalar()
    bring_up_to_date(database, "x.db")
    assert database.exec_driver_sql("PRAGMA schema_version").scalar() == before


def test_a_database_whose_migrations_were_cut_short_is_migrated(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    raw.close()
    store = SqlStore.open(str(tmp_path))
    assert create(store, "r").number == 1
    store.close()


def test_a_database_of_a_newer_version_is_not_touched(tmp_path: Path) -> None:
    SqlStore.open(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    raw.close()
    with pytest.raises(StoreError, match="another version of Windlass") as caught:
        SqlStore.open(str(tmp_path))
    assert "9999" in str(caught.value) and "pip install --upgrade windlass" in str(caught.value)


def test_somebody_elses_database_is_not_touched(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / FILE) as raw:
        raw.execute("CREATE TABLE cookies (name)")
    raw.close()
    with pytest.raises(StoreError, match="not one of Windlass"):
        SqlStore.open(str(tmp_path))
