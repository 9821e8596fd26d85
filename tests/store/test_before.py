"""A database that is about to change is copied first, where there is room."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from windlassd.store._migrate import MIGRATIONS
from windlassd.store._sqlite import writer_engine
from windlassd.store.schema import REVISION
from windlassd.store.sql import FILE, SqlStore

COPY = f"{FILE}.before-{REVISION}"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The folder of a workspace of the first version."""
    engine = writer_engine(str(tmp_path / FILE))
    with engine.connect() as connection, connection.begin():
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.exec_driver_sql("INSERT INTO meta VALUES ('a', 'b')")
    engine.dispose()
    return tmp_path


def _revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT value FROM meta WHERE key = 'a'").fetchone() == ("b",)
        return str(db.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def test_the_old_database_is_kept_beside(old: Path) -> None:
    SqlStore.open(str(old)).close()
    assert (_revision(old / COPY), _revision(old / FILE)) == ("0001", REVISION)


def test_a_new_one_needs_none(tmp_path: Path) -> None:
    SqlStore.open(str(tmp_path)).close()
    SqlStore.open(str(tmp_path)).close()
    assert os.listdir(tmp_path) == [FILE]


def test_without_room_the_tables_change_all_the_same(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(old)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    SqlStore.open(str(old)).close()
    assert _revision(old / FILE) == REVISION and os.listdir(old) == [FILE]


def test_a_copy_that_was_cut_short_is_made_anew(old: Path) -> None:
    (old / f"{COPY}.part").write_bytes(b"half a copy")
    SqlStore.open(str(old)).close()
    assert _revision(old / COPY) == "0001" and not (old / f"{COPY}.part").exists()


def test_who_opens_it_is_told_before_it_changes(old: Path) -> None:
    told: list[str] = []
    SqlStore.open(str(old), lambda: told.append(_revision(old / FILE))).close()
    SqlStore.open(str(old), lambda: told.append("again")).close()
    assert told == ["0001"]
