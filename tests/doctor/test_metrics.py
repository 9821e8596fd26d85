"""Metric points: chunks, summaries, and spools whose points have not reached the record."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from doctor.conftest import Clinic
from windlass.specs import spool
from windlassd.store.base import Series
from windlassd.store.sql import SqlStore


def series(clinic: Clinic, name: str) -> Series:
    store = SqlStore.open(str(clinic.dir))
    try:
        (found,) = store.read(lambda tx: tx.series(clinic.good, name))
        return found
    finally:
        store.close()


def summary(clinic: Clinic, name: str) -> tuple[object, ...]:
    ((*row,),) = clinic.sql("SELECT type, length, last_step, last, minimum, maximum FROM series WHERE name = ?", name)
    return tuple(row)


@pytest.mark.parametrize(
    ("damage", "deep"),
    [
        ("UPDATE series SET length = 7, last = '0' WHERE name = 'loss'", False),
        ("UPDATE series SET last = NULL WHERE name = 'loss'", False),
        ("UPDATE series SET minimum = -4 WHERE name = 'loss'", True),
        ("UPDATE series SET maximum = NULL WHERE name = 'loss'", True),
    ],
)
def test_a_wrong_summary_is_made_anew_from_the_points(clinic: Clinic, damage: str, deep: bool) -> None:
    before = summary(clinic, "loss")
    clinic.sql(damage)
    assert "loss" in clinic.only("summary_wrong", deep=deep).where
    clinic.repaired("summary_wrong", deep=deep)
    assert summary(clinic, "loss") == before


@pytest.mark.parametrize("name", ["loss", "step", "note"])
def test_every_kind_of_summary_is_made_as_it_was(clinic: Clinic, name: str) -> None:
    before = summary(clinic, name)
    clinic.sql("UPDATE series SET length = 9999 WHERE name = ?", name)
    clinic.repaired("summary_wrong")
    assert summary(clinic, name) == before


def test_a_chunk_of_wrong_length_is_kept_aside_and_its_points_count_as_lost(clinic: Clinic) -> None:
    clinic.sql(
        "UPDATE chunks SET points = x'0102' WHERE id = (SELECT min(c.id) FROM chunks c JOIN series s"
        " ON s.id = c.series_id WHERE s.name = 'loss')"
    )
    ((length,),) = clinic.sql("SELECT length FROM chunks WHERE length(points) = 2")
    assert "loss" in clinic.only("chunk_damaged").where
    clinic.repaired("chunk_damaged")
    assert clinic.sql("SELECT lost_points FROM runs WHERE id = ?", clinic.good) == [(length,)]
    ((left,),) = clinic.sql("SELECT length FROM series WHERE name = 'loss'")
    assert left == 300 - length
    assert '"base64"' in clinic.index()


def test_two_damaged_chunks_of_one_series_go_one_after_the_other(clinic: Clinic) -> None:
    columns = "series_id, spool_id, sealed, length, kind, steps, points"
    clinic.sql(f"INSERT INTO chunks ({columns}, times) SELECT {columns}, '' FROM chunks")
    clinic.sql("UPDATE chunks SET times = x'0102' WHERE series_id = (SELECT id FROM series WHERE name = 'loss')")
    clinic.sql("DELETE FROM chunks WHERE times = ''")
    found = clinic.doctor(repair=True)
    assert len(found) > 1 and {(f.code, f.state) for f in found} == {("chunk_damaged", "repaired")}, found
    assert clinic.doctor(deep=True) == []


def test_a_chunk_that_does_not_unpack_is_found_by_deep(clinic: Clinic) -> None:
    clinic.sql("UPDATE chunks SET points = CAST('[\"a text' AS BLOB) WHERE kind = ?", spool.JSON)
    assert clinic.doctor() == []
    assert "note" in clinic.only("chunk_damaged", deep=True).where
    clinic.repaired("chunk_damaged", deep=True)


@pytest.mark.parametrize(
    ("damage", "deep"),
    [
        ("UPDATE outlines SET length = 7", False),
        ("UPDATE outlines SET points = x'0102'", False),
        ("UPDATE outlines SET kind = 3", False),
        ("UPDATE outlines SET steps = times", False),
        ("UPDATE outlines SET points = zeroblob(8 * length)", True),
    ],
)
def test_an_outline_that_is_not_of_its_points_is_made_anew(clinic: Clinic, damage: str, deep: bool) -> None:
    columns = "length, kind, times, steps, points"
    clinic.sql("UPDATE chunks SET sealed = 1")
    clinic.sql(f"INSERT INTO outlines (chunk_id, {columns}) SELECT id, {columns} FROM chunks WHERE kind = 2")
    assert clinic.doctor(deep=True) == []
    before = clinic.sql("SELECT count(*) FROM outlines")
    clinic.sql(f"{damage} WHERE chunk_id = (SELECT min(chunk_id) FROM outlines)")
    assert "loss" in clinic.only("outline_wrong", deep=deep).where
    clinic.repaired("outline_wrong", deep=deep)
    assert clinic.sql("SELECT count(*) FROM outlines") == before


def test_points_of_a_killed_client_are_brought_in(clinic: Clinic) -> None:
    folder = clinic.dir / "clients" / clinic.good
    folder.mkdir(parents=True)
    path = folder / f"{dead_pid()}-0.spool"
    path.write_bytes(
        spool.seal(spool.SERIES_BODY.pack(spool.SERIES, 0) + json.dumps({"name": "late"}).encode())
        + spool.seal(spool.FLOAT_BODY.pack(spool.FLOAT, 0, 1, spool.NO_STEP, 0.5))
        + b"\x01\x02"  # a frame that was being written
    )
    assert clinic.only("client_points").where == f"clients/{clinic.good}/{path.name}"
    clinic.repaired("client_points")
    assert list(series(clinic, "late").values) == [0.5] and not path.exists()


def test_points_for_a_run_that_is_gone_move_to_lost_and_found(clinic: Clinic) -> None:
    folder = clinic.dir / "clients" / "gone_1"
    folder.mkdir(parents=True)
    (folder / f"{dead_pid()}-0.spool").write_bytes(b"points")
    assert "no record" in clinic.only("client_points").detail
    clinic.repaired("client_points")
    assert len(clinic.lost()) == 1 and "gone_1" in clinic.lost()[0]


def test_a_client_that_lives_sends_its_points_itself(clinic: Clinic) -> None:
    folder = clinic.dir / "clients" / clinic.good
    folder.mkdir(parents=True)
    (folder / f"{os.getpid()}-0.spool").write_bytes(spool.lost_frame(1))
    assert clinic.doctor() == []


def test_points_left_in_the_folder_of_an_ended_run_are_brought_in(clinic: Clinic) -> None:
    clinic.run("spool").mkdir()
    clinic.run("spool", "1-0.spool").write_bytes(
        spool.seal(spool.SERIES_BODY.pack(spool.SERIES, 0) + json.dumps({"name": "late"}).encode())
        + spool.seal(spool.INT_BODY.pack(spool.INT, 0, 1, 3, 17))
    )
    assert {f.code for f in clinic.doctor()} == {"spool_unshipped", "run_not_cleared"}
    clinic.repaired("spool_unshipped", "run_not_cleared")
    assert list(series(clinic, "late").values) == [17]


def test_a_spool_that_was_cut_is_told_of(clinic: Clinic) -> None:
    clinic.sql("UPDATE runs SET status = 'Running', ended = NULL WHERE id = ?", clinic.good)
    clinic.sql("DELETE FROM run_history WHERE run_seq = 1 AND status IN ('Finalizing', 'Completed')")
    ((name, acked),) = clinic.sql("SELECT name, acked FROM spools WHERE run_seq = 1")
    clinic.run("spool").mkdir()
    clinic.run("spool", name).write_bytes(b"\0" * (acked - 1))
    found = {f.code: f for f in clinic.doctor()}
    assert set(found) == {"spool_cut", "run_waits"} and str(acked) in found["spool_cut"].detail


def dead_pid() -> int:
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    return int(done.stdout)
