"""The database of an older version, cut while its tables are brought up to date: the next start completes it.

``--rounds`` is the share of all moments in percent: 100 tries every one.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from faults.cuts import Cutter, moments
from faults.power import holds
from faults.workloads import PLACE, steps
from windlassd.store._migrate import MIGRATIONS
from windlassd.store._sqlite import writer_engine
from windlassd.store.schema import REVISION
from windlassd.store.sql import FILE, SqlStore

OLD = "0001"
COPY = f"{FILE}.before-{REVISION}"


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace's database as the first version left it."""
    now, before = tmp_path_factory.mktemp("now"), tmp_path_factory.mktemp("old")
    store = SqlStore.open(str(now))
    for step in steps()[:-4]:
        store.write(step).result()
    store.close()
    folder = before / PLACE
    folder.mkdir(parents=True)
    engine = writer_engine(str(folder / FILE))
    with engine.connect() as connection, connection.begin():
        config = Config()
        config.set_main_option("script_location", MIGRATIONS)
        config.attributes["connection"] = connection
        command.upgrade(config, OLD)
    engine.dispose()
    with closing(sqlite3.connect(folder / FILE)) as db:
        db.execute("ATTACH ? AS now", [str(now / FILE)])
        for table in _tables(db):
            columns = ", ".join(row[1] for row in db.execute(f"PRAGMA main.table_info({table})"))
            db.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM now.{table}")
        db.commit()
    return before


@pytest.fixture
def cutter(tmp_path: Path, old: Path) -> Iterator[Cutter]:
    made = Cutter(tmp_path, "migrate", old)
    yield made
    made.close()


@pytest.mark.faults
def test_a_migration_killed_at_any_operation(
    cutter: Cutter, old: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    for number, when, torn in moments(chance, cutter.operations(), min(1.0, len(rounds(6)) / 100)):
        told = cutter.killed_at(number, when, torn)
        _check(cutter.at / PLACE, old / PLACE, told, f"killed at {number}, {when}, {torn}")


@pytest.mark.faults
def test_a_migration_that_loses_power(
    cutter: Cutter, old: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    for what, told, folder in cutter.powerless().cuts(chance, min(1.0, len(rounds(8)) / 100), tries=3):
        _check(folder / PLACE, old / PLACE, told, what)


def test_the_way_back_is_kept_for_a_week(old: Path, tmp_path: Path, cutter: Cutter) -> None:
    assert cutter.operations() > 0
    folder = cutter.at / PLACE
    assert _holds_all(folder / COPY, old / PLACE / FILE)
    SqlStore.open(str(folder)).close()
    assert (folder / COPY).exists()
    week_ago = os.path.getmtime(folder / COPY) - 8 * 86400
    os.utime(folder / COPY, (week_ago, week_ago))
    SqlStore.open(str(folder)).close()
    assert holds(folder) == [FILE]


def _check(folder: Path, old: Path, told: Sequence[str], what: str) -> None:
    what = f"{what}; acknowledged: {told}; left: {holds(folder)}"
    if (folder / COPY).exists():
        assert _holds_all(folder / COPY, old / FILE), f"{what}: the copy is not whole"
    for _ in range(2):
        store = SqlStore.open(str(folder))
        if "written" in told:
            assert store.read(lambda r: r.get_meta("migrated")) == "yes", what
        store.close()
        with closing(sqlite3.connect(folder / FILE)) as db:
            assert db.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)], what
            assert db.execute("PRAGMA foreign_key_check").fetchall() == [], what
        assert _holds_all(folder / FILE, old / FILE), what
        assert not [name for name in holds(folder) if name.endswith(".part")], what


def _holds_all(path: Path, old: Path) -> bool:
    """Every row of the old database is there, in a database that is sound."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("ATTACH ? AS old", [str(old)])
        sound = db.execute("PRAGMA main.integrity_check").fetchall() == [("ok",)]
        return sound and not any(_missing(db, table) for table in _tables(db, "old"))


def _missing(db: sqlite3.Connection, table: str) -> bool:
    columns = ", ".join(row[1] for row in db.execute(f"PRAGMA old.table_info({table})"))
    query = f"SELECT {columns} FROM old.{table} EXCEPT SELECT {columns} FROM main.{table}"
    return db.execute(query).fetchone() is not None


def _tables(db: sqlite3.Connection, schema: str = "main") -> list[str]:
    query = f"SELECT name FROM {schema}.sqlite_master WHERE type = 'table' AND name != 'alembic_version'"
    return [row[0] for row in db.execute(query)]
