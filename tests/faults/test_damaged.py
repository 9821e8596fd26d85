"""Damage to what lies on disk: told with the way out, counted, and nothing beside it is lost or hangs."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from windlass.errors import AzureMLException
from windlassd.store.base import StoreError
from windlassd.store.sql import FILE, SqlStore
from windlassd.testing.store_suite import append, create, named, point

RUNS = 40


def _filled(folder: Path) -> None:
    store = SqlStore.open(str(folder))
    for number in range(RUNS):
        create(store, f"r{number}", tags={"text": "x" * 3000})
        frames = [*named("loss"), *(point(0, i, i / 2) for i in range(200))]
        append(store, 0, 1000, frames, run_id=f"r{number}")
    store.close()


def _readable(store: SqlStore) -> tuple[int, list[str]]:
    """How many runs can be read with their points, and the words for the others."""
    whole, words = 0, []
    for number in range(RUNS):
        try:
            store.read(partial(_read_one, f"r{number}"))
            whole += 1
        except AzureMLException as problem:
            words.append(str(problem))
    return whole, words


def _read_one(run_id: str, reader: object) -> None:
    reader.get_run(run_id, history=True)  # type: ignore[attr-defined]
    (loss,) = reader.series(run_id)  # type: ignore[attr-defined]
    assert list(loss.values) == [i / 2 for i in range(200)]


def test_one_damaged_chunk_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    _filled(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE)) as db:
        db.execute("UPDATE chunks SET points = substr(points, 1, 99) WHERE id = 7")
        db.execute("UPDATE chunks SET times = x'' WHERE id = 9")
        db.commit()
    store = SqlStore.open(str(tmp_path))
    whole, words = _readable(store)
    store.close()
    assert whole == RUNS - 2
    for text in words:
        assert "'loss'" in text and "windlass doctor" in text


def test_a_file_cut_short_is_told_with_the_way_out(tmp_path: Path) -> None:
    _filled(tmp_path)
    size = (tmp_path / FILE).stat().st_size
    for left in (size // 2, 4096, 100):
        with open(tmp_path / FILE, "r+b") as file:
            file.truncate(left)
        with pytest.raises(StoreError, match=r"is damaged.*windlass doctor"):
            opened = SqlStore.open(str(tmp_path))
            try:
                opened.read(lambda r: r.list_runs(limit=RUNS))
            finally:
                opened.close()


def test_without_its_log_the_file_opens_with_what_was_checkpointed(tmp_path: Path) -> None:
    _filled(tmp_path)
    store = SqlStore.open(str(tmp_path))
    create(store, "late")
    for name in (FILE, f"{FILE}-wal"):
        (tmp_path / f"kept-{name}").write_bytes((tmp_path / name).read_bytes())
    store.close()
    other = tmp_path / "other"
    other.mkdir()
    (other / FILE).write_bytes((tmp_path / f"kept-{FILE}").read_bytes())
    opened = SqlStore.open(str(other))
    assert _readable(opened) == (RUNS, [])
    opened.close()


@pytest.mark.faults
def test_damaged_pages_never_give_wrong_points_or_hang(
    tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    """A page of zeros, of noise, or with a bit turned: an error with advice, or the right answer."""
    _filled(tmp_path)
    sound = (tmp_path / FILE).read_bytes()
    for _ in rounds(40):
        page = chance.randrange(len(sound) // 4096) * 4096
        damage = chance.choice([bytes(4096), chance.randbytes(4096), chance.randbytes(chance.randint(1, 64))])
        (tmp_path / FILE).write_bytes(sound[:page] + damage + sound[page + len(damage) :])
        try:
            store = SqlStore.open(str(tmp_path))
        except StoreError as problem:
            assert "windlass doctor" in str(problem) or "not one of Windlass" in str(problem), problem
            continue
        try:
            _readable(store)
        finally:
            store.close()
        for name in (f"{FILE}-wal", f"{FILE}-shm"):
            (tmp_path / name).unlink(missing_ok=True)
