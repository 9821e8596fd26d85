"""How points lie in the database: few rows, sealed once they are long, whole after every join."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.specs.status import RunStatus
from windlassd.store._ingest import SEAL_POINTS
from windlassd.store.sql import SqlStore
from windlassd.testing.store_suite import append, create, named, one_series, point, summary


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = SqlStore.open(str(tmp_path))
    create(opened, "r")
    yield opened
    opened.close()


def _chunks(store: SqlStore) -> list[Any]:
    query = "SELECT length, sealed FROM chunks ORDER BY id"
    return store.read(lambda r: [tuple(row) for row in r._db.exec_driver_sql(query)])  # type: ignore[attr-defined]


def test_small_batches_do_not_leave_many_rows(store: SqlStore) -> None:
    append(store, 0, 1, named("loss"))
    for n in range(500):
        append(store, n + 1, n + 2, [point(0, n, float(n))])
        assert len(_chunks(store)) <= 33
    assert one_series(store).values == [float(n) for n in range(500)]


def test_long_chunks_are_sealed_and_never_written_again(store: SqlStore) -> None:
    append(store, 0, 1, named("loss"))
    count = 0
    for n in range(200):
        append(store, n + 1, n + 2, [point(0, count + i, count + i) for i in range(100)])
        count += 100
    sealed = [length for length, is_sealed in _chunks(store) if is_sealed]
    assert len(sealed) == 4
    assert all(SEAL_POINTS <= length < SEAL_POINTS + 200 for length in sealed)
    assert one_series(store).values == list(range(count))


def _long_series(store: SqlStore) -> None:
    append(store, 0, 1, named("loss"))
    for n in range(200):
        part = range(n * 100, n * 100 + 100)
        append(store, n + 1, n + 2, [point(0, i, 7.0 if i == 5_000 else i / 1e6, i) for i in part])


def test_a_chart_of_a_long_series_reads_no_sealed_chunk(store: SqlStore) -> None:
    _long_series(store)
    before = one_series(store, points=100)
    store.write(lambda w: _run(w, "UPDATE chunks SET times = '', steps = '', points = '' WHERE sealed")).result(60)
    assert one_series(store, points=100) == before
    assert 7.0 in before.values and len(before.values) > 50


def test_a_chart_of_a_series_from_before_there_were_outlines_is_the_same(store: SqlStore) -> None:
    _long_series(store)
    before = one_series(store, points=100)
    store.write(lambda w: _run(w, "DELETE FROM outlines")).result(60)
    after = one_series(store, points=100)
    assert 7.0 in after.values and len(after.values) > 50
    assert (after.count, after.times[0], after.times[-1]) == (before.count, before.times[0], before.times[-1])


def test_outlines_go_with_their_run(store: SqlStore) -> None:
    _long_series(store)
    store.write(lambda w: w.transition("r", RunStatus.FAILED, now=2.0)).result(60)
    store.write(lambda w: w.delete_experiment("exp")).result(60)
    assert store.read(lambda r: _run(r, "SELECT count(*) FROM outlines").scalar()) == 0


def _run(tx: Any, statement: str) -> Any:
    return tx._db.exec_driver_sql(statement)


def test_big_values_are_sealed_by_their_bytes_and_stay_in_order(store: SqlStore) -> None:
    append(store, 0, 1, named("table"))
    values = [("x" * 300_000 if n % 5 == 3 else "small") + str(n) for n in range(70)]
    for n, value in enumerate(values):
        append(store, n + 1, n + 2, [point(0, n, value)])
    assert one_series(store, "table").values == values
    assert max(length for length, _ in _chunks(store)) <= 5
    assert sum(is_sealed for _, is_sealed in _chunks(store)) >= 10


def test_two_numbers_of_one_name_are_one_series(store: SqlStore) -> None:
    append(store, 0, 1, [*named("loss", "loss"), point(0, 1, 1.0), point(1, 2, 2.0), point(0, 3, 3.0)])
    append(store, 1, 2, [point(1, 4, 4.0)])
    assert sorted(one_series(store).values) == [1.0, 2.0, 3.0, 4.0]
    assert (summary(store).count, summary(store).minimum, summary(store).maximum) == (4, 1.0, 4.0)


def test_a_run_with_more_series_than_one_question_can_hold(store: SqlStore) -> None:
    names = [f"metric {n}" for n in range(1_200)]
    append(store, 0, 1, [*named(*names), *(point(n, n, n) for n in range(1_200))])
    append(store, 1, 2, [point(n, 2_000, -n) for n in range(1_200)])
    found = store.read(lambda r: r.series_of("r"))
    assert [(s.name, s.count, s.last) for s in found] == [(f"metric {n}", 2, -n) for n in range(1_200)]


def test_the_last_value_is_that_of_the_process_whose_clock_is_ahead(store: SqlStore) -> None:
    append(store, 0, 1, [*named("loss"), point(0, 100, 1.0)], spool="ahead")
    append(store, 0, 1, [*named("loss"), point(0, 50, 2.0)], spool="behind")
    assert (summary(store).last, one_series(store).values[-1]) == (1.0, 1.0)
    append(store, 1, 2, [point(0, 60, 3.0)], spool="ahead")
    assert (summary(store).last, one_series(store).values[-1]) == (3.0, 3.0)


def test_a_batch_costs_the_same_however_much_is_stored(store: SqlStore) -> None:
    append(store, 0, 1, [*named("loss"), point(0, 0, 0.0)], spool="old")
    append(store, 0, 1, named("loss"))
    first = _steps_of_batches(store, 1)
    copies = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
        " INSERT INTO chunks (series_id, spool_id, sealed, length, kind, times, points)"
        " SELECT series_id, spool_id, true, length, kind, times, points FROM chunks, n WHERE chunks.id = 1"
    )
    store.write(lambda w: w._db.exec_driver_sql(copies)).result(60)  # type: ignore[attr-defined]
    assert len(one_series(store).values) > 20_000
    assert _steps_of_batches(store, 41) <= first * 1.5


def _steps_of_batches(store: SqlStore, start: int) -> int:
    """Steps that SQLite's machine takes for 40 batches, one of which joins the open chunks."""
    counted = 0

    def tick() -> int:
        nonlocal counted
        counted += 1
        return 0

    watch = store.write(lambda w: w._db.connection.dbapi_connection).result(60)  # type: ignore[attr-defined]
    watch.set_progress_handler(tick, 1)
    for n in range(start, start + 40):
        append(store, n, n + 1, [point(0, n, float(n))])
    watch.set_progress_handler(None, 0)
    return counted
