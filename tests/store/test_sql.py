"""SqlStore against the conformance suite, and what only it promises: one file, commits in groups, crashes."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from windlass.specs.status import RunStatus
from windlassd.store.base import MetricFilter, StoreError, StoreFull, Writer
from windlassd.store.sql import FILE, SqlStore
from windlassd.testing.lists_suite import ListConformance
from windlassd.testing.store_suite import StoreConformance, append, create, named, one_series, point, raises, spec_of


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], SqlStore]]:
    """Opens the store of one folder, again and again; closes all at the end."""
    stores: list[SqlStore] = []

    def open_store() -> SqlStore:
        for store in stores:
            store.close()
        stores.append(SqlStore.open(str(tmp_path)))
        return stores[-1]

    yield open_store
    for store in stores:
        store.close()


class TestSqlStore(StoreConformance, ListConformance):
    @pytest.fixture
    def store(self, opened: Callable[[], SqlStore]) -> Iterator[SqlStore]:
        yield opened()

    @pytest.fixture
    def reopen(self, store: SqlStore, opened: Callable[[], SqlStore]) -> Callable[[], SqlStore]:
        return opened


@pytest.fixture
def store(opened: Callable[[], SqlStore]) -> SqlStore:
    return opened()


def test_writes_that_wait_share_one_commit(store: SqlStore, tmp_path: Path) -> None:
    watcher = sqlite3.connect(tmp_path / FILE)
    gate = threading.Event()
    store.write(lambda w: gate.wait(30))
    wal = tmp_path / (FILE + "-wal")
    before = wal.stat().st_size
    futures = [store.write(lambda w, n=n: w.set_meta(f"k{n}", "v")) for n in range(100)]  # type: ignore[misc]
    gate.set()
    for future in futures:
        future.result(30)
    assert watcher.execute("SELECT count(*) FROM meta").fetchone() == (100,)
    watcher.close()
    assert wal.stat().st_size - before < 20 * 4096  # 100 commits of their own write at least 100 pages


def test_the_file_is_safe_against_power_loss(store: SqlStore) -> None:
    modes = store.write(
        lambda w: [
            w._db.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")
        ]
    ).result(30)  # type: ignore[attr-defined]
    assert modes == ["wal", 2, 1]


def test_a_reader_cannot_write(store: SqlStore) -> None:
    with raises(StoreError, "readonly"):
        store.read(lambda r: Writer.set_meta and r._db.exec_driver_sql("DELETE FROM meta"))  # type: ignore[attr-defined]


_CRASHER = """
import sys
from windlassd.store.sql import SqlStore
from windlassd.testing.store_suite import named, point, spec_of
store = SqlStore.open(sys.argv[1])
start = store.read(lambda r: r.acked("r", "a"))
if not start:
    store.write(lambda w: w.create_run("r", spec_of(), now=1.0)).result()
    start = store.write(lambda w: w.append("r", "a", 0, 1, named("loss"))).result()
while True:
    frames = [point(0, start + n, start + n) for n in range(3)]
    batch = store.write(lambda w: w.append("r", "a", start, start + 3, frames))
    store.write(lambda w: w.set_meta("seen", str(start)))
    start = batch.result()
    print(start, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path, opened: Callable[[], SqlStore]) -> None:
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", _CRASHER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(50):
            line = process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = int((line + process.stdout.read()).split()[-1])
        process.wait(30)
        process.stdout.close()
        found = opened()
        held = found.read(lambda r: r.acked("r", "a"))
        assert held >= acknowledged
        assert one_series(found).values == list(range(1, held))
        found.close()


_FILLER = """
import resource, sys
from windlassd.store.base import StoreFull
from windlassd.store.sql import SqlStore
from windlassd.testing.store_suite import spec_of
store = SqlStore.open(sys.argv[1])
store.write(lambda w: w.create_run("before", spec_of(), now=1.0)).result()
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
try:
    store.write(lambda w: w.set_meta("big", "x" * (4 << 20))).result()
except StoreFull as problem:
    print(problem.transient, problem)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
store.write(lambda w: w.create_run("after", spec_of(), now=2.0)).result()
print([run.id for run in store.read(lambda r: r.list_runs())], store.read(lambda r: r.get_meta("big")))
store.close()
"""


def test_a_disk_without_room_fails_one_write_and_later_ones_work(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", _FILLER, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    full, rest = done.stdout.splitlines()
    assert full.startswith("True No room to write") and str(tmp_path) in full and "free some space" in full
    assert rest == "['after', 'before'] None"


def test_opening_a_store_writes_nothing(opened: Callable[[], SqlStore], tmp_path: Path) -> None:
    """On a disk that is full to the last byte it could not, and what there is could not be seen or deleted."""
    opened().close()
    before = (tmp_path / FILE).read_bytes()
    opened().close()
    assert (tmp_path / FILE).read_bytes() == before


def test_a_full_database_fails_those_it_undid_and_no_others(store: SqlStore) -> None:
    create(store, "r")
    pages = store.write(lambda w: w._db.exec_driver_sql("PRAGMA page_count").scalar()).result(30)  # type: ignore[attr-defined]
    store.write(lambda w: w._db.exec_driver_sql(f"PRAGMA max_page_count={pages + 5}").scalar()).result(30)  # type: ignore[attr-defined]
    gate = threading.Event()
    store.write(lambda w: gate.wait(30))
    small, big, later = (store.write(lambda w, n=n: w.set_meta(f"k{n}", "x" * n)) for n in (10, 1 << 20, 20))  # type: ignore[misc]
    gate.set()
    with raises(StoreFull, "full"):
        big.result(30)
    later.result(30)
    kept = store.read(lambda r: [r.get_meta(f"k{n}") is not None for n in (10, 1 << 20, 20)])
    assert kept == [small.exception(30) is None, False, True]


def test_a_locked_database_says_who_to_look_for(store: SqlStore, tmp_path: Path) -> None:
    store.write(lambda w: w._db.exec_driver_sql("PRAGMA busy_timeout=10").scalar()).result(30)  # type: ignore[attr-defined]
    other = sqlite3.connect(tmp_path / FILE, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    first, second = (store.write(lambda w, n=n: w.set_meta("a", n)) for n in "12")  # type: ignore[misc]
    for future in (first, second):
        with pytest.raises(StoreError, match="locked by another program") as caught:
            future.result(30)
        assert caught.value.transient
    other.execute("ROLLBACK")
    other.close()
    store.write(lambda w: w.set_meta("a", "3")).result(30)
    assert store.read(lambda r: r.get_meta("a")) == "3"


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"this is not a database" * 1000)
    with raises(StoreError, str(tmp_path / FILE), "damaged", "backup", "windlass doctor"):
        SqlStore.open(str(tmp_path))


def test_damage_found_while_reading_is_named_too(store: SqlStore, opened: Any, tmp_path: Path) -> None:
    for n in range(300):
        store.write(lambda w, n=n: w.create_run(f"r{n}", spec_of(), now=1.0))  # type: ignore[misc]
    store.close()
    with open(tmp_path / FILE, "r+b") as file:
        file.seek(4096 * 8)
        file.write(os.urandom((tmp_path / FILE).stat().st_size - 4096 * 8))
    with raises(StoreError, str(tmp_path / FILE), "damaged"):
        opened().read(lambda r: r.list_runs(limit=1000))


def test_lists_stay_quick_with_many_runs(store: SqlStore) -> None:
    def fill(writer: Writer) -> None:
        db = writer._db  # type: ignore[attr-defined]
        writer.create_run("r0", spec_of(tags={"t": "0", "all": "1"}), now=1.0)
        db.exec_driver_sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            " INSERT INTO runs (seq, id, experiment_id, number, status, created, tags, properties, environment, nodes,"
            " lost_points, verified, ended)"
            " SELECT i + 1, 'r' || i, 1, i, 'Completed', i, '{}', '{}', '{}', '[]', 0, 0, i FROM n"
        )
        db.exec_driver_sql("INSERT INTO run_specs SELECT seq, (SELECT spec FROM run_specs) FROM runs WHERE seq > 1")
        db.exec_driver_sql("INSERT INTO run_tags SELECT seq, 'all', '1' FROM runs WHERE seq > 1")
        db.exec_driver_sql("INSERT INTO run_tags SELECT seq, 't', number % 1000 FROM runs WHERE seq > 1")
        db.exec_driver_sql(
            "INSERT INTO series (run_seq, name, type, length, last_us, last, minimum, maximum)"
            " SELECT seq, 'loss', 'float', 1, 1, number / 20000.0, 0, 1 FROM runs WHERE seq > 1"
        )

    store.write(fill).result(60)
    one_page = {"limit": 50}
    for filters in (
        {}, {"experiment": "exp"}, {"before": "r10000"}, {"statuses": [RunStatus.COMPLETED]},
        {"statuses": [RunStatus.RUNNING, RunStatus.FAILED]}, {"experiment": "exp", "statuses": [RunStatus.FAILED]},
        {"tags": [("t", "7")]}, {"tags": [("all", None)]}, {"tags": [("all", "1"), ("t", "7")]},
        {"tags": [("all", None)], "before": "r200"}, {"metrics": [_loss(">", 0.5)]}, {"metrics": [_loss("<", 2.0)]},
        {"metrics": [_loss("<", 0.02)], "before": "r300"}, {"metrics": [_loss("<", 2.0)], "experiment": "exp"},
        {"metrics": [_loss("<", 2.0)], "tags": [("t", "7")]},
    ):  # fmt: skip
        steps = _steps_of(store, lambda r, f=filters: r.list_runs(**one_page, **f))
        assert steps < 60_000, f"{filters} takes {steps} steps of SQLite's machine"


def test_no_question_about_runs_reads_a_table_from_end_to_end(store: SqlStore) -> None:
    create(store, "r0", tags={"t": "0"})
    loss = _loss("<", 2.0)
    questions: list[Callable[[Any], object]] = [
        lambda r: r.list_runs(), lambda r: r.list_runs(experiment="exp", before="r0"),
        lambda r: r.list_runs(statuses=[RunStatus.RUNNING]), lambda r: r.list_runs(parent="r0"),
        lambda r: r.list_runs(statuses=[RunStatus.RUNNING, RunStatus.FAILED], experiment="exp"),
        lambda r: r.list_runs(tags=[("t", None)], experiment="exp", statuses=[RunStatus.RUNNING]),
        lambda r: r.list_runs(tags=[("t", "0"), ("u", None)], metrics=[loss]), lambda r: r.list_runs(metrics=[loss]),
        lambda r: r.list_runs(metrics=[loss, loss], experiment="exp", before="r0", statuses=[RunStatus.RUNNING]),
        lambda r: r.find_runs(["r0", "r1"]), lambda r: r.series_of_runs(["r0", "r1"]), lambda r: r.active_runs(),
        lambda r: r.series("r0", "loss", 100), lambda r: r.series("r0"), lambda r: r.files_of("r0"),
    ]  # fmt: skip
    for number, question in enumerate(questions):
        for statement, plan in _plans_of(store, question):
            steps = [step for step in plan if step.startswith("SCAN") and not _SMALL.search(step)]
            assert not steps, f"question {number}: {statement}: {steps}"


_SMALL = re.compile(
    r"^SCAN (anon_\d+|\d+-ROW VALUES|CONSTANT ROW|experiments|runs USING (COVERING )?INDEX ix_runs_active)"
)


def _plans_of(store: SqlStore, question: Callable[[Any], object]) -> list[tuple[str, list[str]]]:
    """Each statement of a read, with the steps of SQLite's plan for it."""
    plans = []

    def ask(reader: Any) -> None:
        asked: list[tuple[str, Any]] = []
        event.listen(reader._db, "before_cursor_execute", lambda c, u, text, values, *_: asked.append((text, values)))
        question(reader)
        for text, values in list(asked):
            plan = reader._db.exec_driver_sql("EXPLAIN QUERY PLAN " + text, values)
            plans.append((text, [row.detail for row in plan]))

    store.read(ask)
    return plans


def _loss(comparison: str, value: float) -> MetricFilter:
    return MetricFilter("loss", "last", comparison, value)


def test_unverified_runs_are_found_without_looking_at_the_others(store: SqlStore) -> None:
    def fill(writer: Writer) -> None:
        for n in range(2_000):
            writer.create_run(f"r{n}", spec_of(), now=1.0)
            if n != 5:
                writer.transition(f"r{n}", RunStatus.FAILED, now=2.0)
            if n != 1_234:
                writer.update_run(f"r{n}", verified=True)

    store.write(fill).result(60)
    assert store.read(lambda r: r.unverified_runs()) == ("r1234",)
    assert _steps_of(store, lambda r: r.unverified_runs()) <= 200


def _steps_of(store: SqlStore, work: Callable[[Any], object]) -> int:
    """Virtual machine steps of a read, in hundreds rounded up: what it costs on any machine."""
    counted = 0

    def tick() -> int:
        nonlocal counted
        counted += 100
        return 0

    def measured(reader: Any) -> None:
        raw = reader._db.connection.dbapi_connection
        raw.set_progress_handler(tick, 100)
        try:
            work(reader)
        finally:
            raw.set_progress_handler(None, 0)

    store.read(measured)
    return counted


def test_opening_an_up_to_date_store_does_not_load_alembic(opened: Any, tmp_path: Path) -> None:
    opened().close()
    code = (
        "import sys; from windlassd.store.sql import SqlStore; SqlStore.open(sys.argv[1]).close();"
        " print('alembic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from windlass.errors import UserErrorException
    from windlassd.store import filesystem

    line = f"30 1 0:1 / {tmp_path} rw - nfs4 server:/home rw"
    monkeypatch.setattr(filesystem, "_mountinfo", lambda: line)
    with raises(UserErrorException, "nfs4", "WINDLASS_HOME"):
        SqlStore.open(str(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_closing_waits_for_what_was_asked_for(opened: Any) -> None:
    store = opened()
    futures = [store.write(lambda w, n=n: w.set_meta(f"k{n}", "v")) for n in range(50)]
    store.close()
    store.close()
    assert all(future.done() and future.exception() is None for future in futures)
    assert opened().read(lambda r: r.get_meta("k49")) == "v"


def test_readers_of_many_threads_see_whole_commits(store: SqlStore) -> None:
    create(store, "r")
    append(store, 0, 1, named("a", "b"))
    wrong: list[Any] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            counts = store.read(lambda r: ([s.count for s in r.series_of("r")], [s.count for s in r.series("r")]))
            if len(set(counts[0] + counts[1])) > 1:
                wrong.append(counts)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(150):
        append(store, n + 1, n + 2, [point(0, n, 1.0), point(1, n, 2.0)])
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []
