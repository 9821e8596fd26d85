"""A database that no server can open: told apart, and saved as far as it can be read."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from contextlib import closing

import pytest
from alembic import command
from alembic.config import Config

from doctor.conftest import Clinic
from windlassd.store._migrate import MIGRATIONS
from windlassd.store._sqlite import writer_engine
from windlassd.store.base import StoreError
from windlassd.store.schema import REVISION
from windlassd.store.sql import SqlStore


def test_a_database_that_is_gone_while_its_runs_are_there(clinic: Clinic) -> None:
    (clinic.dir / "windlass.db").unlink()
    found = clinic.left("database_missing")
    assert "2 runs" in found.detail and "backup" in found.advice
    assert not (clinic.dir / "windlass.db").exists(), "nothing is made in its place"


def test_one_that_is_gone_is_told_so_after_a_server_tried_to_start_on_it(clinic: Clinic) -> None:
    (clinic.dir / "windlass.db").unlink()
    with pytest.raises(StoreError, match="is missing or empty, but 2 runs lie in"):
        SqlStore.open(str(clinic.dir))
    assert "2 runs" in clinic.left("database_missing").detail


def test_a_workspace_that_never_had_one_is_healthy(clinic: Clinic) -> None:
    for name in os.listdir(clinic.dir):
        if name.startswith("windlass.db"):
            (clinic.dir / name).unlink()
    (clinic.dir / "runs").rename(clinic.home / "elsewhere")
    assert clinic.doctor(deep=True) == []
    assert not (clinic.dir / "windlass.db").exists()


def test_the_copy_from_before_an_upgrade_is_no_finding_in_its_week(clinic: Clinic) -> None:
    copy = clinic.dir / "windlass.db.before-0009"
    shutil.copy(clinic.dir / "windlass.db", copy)
    assert clinic.doctor(deep=True) == []
    os.utime(copy, (1.0, 1.0))
    clinic.repaired("database_copy")
    assert not copy.exists()
    (clinic.dir / "windlass.db.before-0009.part").write_bytes(b"begun")
    clinic.repaired("database_copy")


def test_a_database_of_something_else(clinic: Clinic) -> None:
    (clinic.dir / "windlass.db").unlink()
    clinic.sql("CREATE TABLE songs (title TEXT)")
    assert clinic.left("database_foreign").is_problem


def test_a_database_of_a_newer_version(clinic: Clinic) -> None:
    clinic.sql("UPDATE alembic_version SET version_num = '9999'")
    found = clinic.left("database_newer")
    assert "'9999'" in found.detail and "pip install --upgrade" in found.advice
    assert clinic.sql("SELECT version_num FROM alembic_version") == [("9999",)]


def test_a_database_of_an_older_version_is_brought_up_to_date(clinic: Clinic) -> None:
    shutil.rmtree(clinic.dir / "runs")
    for name in ("windlass.db", "windlass.db-wal", "windlass.db-shm"):
        (clinic.dir / name).unlink(missing_ok=True)
    config = Config()
    config.set_main_option("script_location", MIGRATIONS)
    with writer_engine(str(clinic.dir / "windlass.db")).connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    assert not clinic.only("database_older").is_problem
    clinic.repaired("database_older")
    assert clinic.sql("SELECT version_num FROM alembic_version") == [(REVISION,)]


def test_a_locked_database_is_no_damaged_one(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("windlassd.doctor.database._BUSY_MS", 1)
    with closing(sqlite3.connect(clinic.dir / "windlass.db", isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode=DELETE")
        other.execute("BEGIN EXCLUSIVE")
        assert clinic.left("database_locked").state == "open"
    assert clinic.doctor() == []


def test_a_database_that_may_not_be_written(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith(".db") and may(path, mode))
    assert "windlass.db" in clinic.left("database_closed").detail


def test_a_header_that_is_none_cannot_be_saved(clinic: Clinic) -> None:
    with open(clinic.dir / "windlass.db", "r+b") as db:
        db.write(b"not a database at all" * 10)
    found = clinic.left("database_damaged")
    assert "could not be repaired" in found.detail and "backup" in found.advice
    assert (clinic.dir / "windlass.db").read_bytes().startswith(b"not a database"), "it stays where it is"


def test_an_index_that_differs_from_its_table_is_found_by_deep_and_made_anew(clinic: Clinic) -> None:
    before = clinic.sql("SELECT id, status FROM runs ORDER BY seq")
    with closing(sqlite3.connect(clinic.dir / "windlass.db", isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema=ON")
        change = "UPDATE sqlite_master SET sql = replace(sql, '(parent_id, seq)', '(created, seq)') WHERE name = ?"
        db.execute(change, ("ix_runs_parent_id_seq",))
    found = clinic.doctor(repair=True, deep=True)
    assert [(f.code, f.state) for f in found] == [("database_damaged", "repaired")]
    assert clinic.sql("SELECT id, status FROM runs ORDER BY seq") == before
    assert clinic.doctor(deep=True) == []


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.faults) for seed in range(1, 6))])
def test_what_can_be_read_of_a_damaged_database_is_saved(clinic: Clinic, seed: int) -> None:
    many_rows(clinic)
    before = {row[0] for row in clinic.sql("SELECT key FROM meta")}
    damage_pages(clinic, random.Random(seed))
    damaged = (clinic.dir / "windlass.db").read_bytes()
    assert [f.code for f in clinic.doctor()][:1] == ["database_damaged"]
    found = clinic.doctor(repair=True)
    assert found[0].code == "database_damaged" and found[0].state == "repaired", found
    saved = {row[0] for row in clinic.sql("SELECT key FROM meta")}
    assert saved <= before and len(saved) >= 0.9 * len(before), f"{len(saved)} of {len(before)}"
    (kept,) = [name for name in clinic.lost() if name.endswith("windlass.db")]
    assert (clinic.dir / "lost+found" / kept).read_bytes() == damaged, "the damaged one is kept"
    SqlStore.open(str(clinic.dir)).close()
    assert not [f for f in clinic.doctor(repair=True) if f.code == "database_damaged"]


@pytest.mark.parametrize("left", [0.95, 0.6])
def test_what_is_left_of_a_database_that_was_cut_short_is_saved(clinic: Clinic, left: float) -> None:
    many_rows(clinic)
    runs = clinic.sql("SELECT id, status FROM runs ORDER BY seq")
    before = {row[0] for row in clinic.sql("SELECT key FROM meta")}
    path = clinic.dir / "windlass.db"
    os.truncate(path, int(path.stat().st_size * left) // 4096 * 4096)
    assert [f.code for f in clinic.doctor()][:1] == ["database_damaged"]
    found = clinic.doctor(repair=True)
    assert found[0].code == "database_damaged" and found[0].state == "repaired", found
    assert clinic.sql("SELECT id, status FROM runs ORDER BY seq") == runs
    saved = {row[0] for row in clinic.sql("SELECT key FROM meta")}
    assert saved <= before and len(saved) >= (left - 0.1) * len(before), f"{len(saved)} of {len(before)}"


def many_rows(clinic: Clinic) -> None:
    clinic.sql(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO meta SELECT 'key' || i, hex(randomblob(100)) FROM n"
    )
    clinic.sql("PRAGMA wal_checkpoint(TRUNCATE)")


def damage_pages(clinic: Clinic, chance: random.Random) -> None:
    """Overwrite three pages of rows."""
    ((size,),) = clinic.sql("PRAGMA page_size")
    ((root,),) = clinic.sql("SELECT rootpage FROM sqlite_master WHERE name = 'meta' AND type = 'table'")
    with open(clinic.dir / "windlass.db", "r+b") as db:
        leaves = []
        for page in range(root, os.path.getsize(db.name) // size):
            db.seek(page * size)
            if db.read(1) == b"\x0d":
                leaves.append(page)
        for page in chance.sample(leaves, 3):
            db.seek(page * size)
            db.write(chance.randbytes(size))
