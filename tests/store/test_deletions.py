"""Deleting runs and models in the store: what goes, what is noted to be freed, and the file that gets smaller."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass.specs import spool
from windlass.specs.container import ContainerSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.run import RunSpec
from windlass.specs.status import RunStatus
from windlassd.store.base import BLOBS, RUN, SNAPSHOT, Conflict, ModelRecord
from windlassd.store.sql import FILE, SqlStore

CODE, OTHER, CONTEXT = "a" * 64, "b" * 64, "c" * 64


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    opened = SqlStore.open(str(tmp_path))
    yield opened
    opened.close()


def do(store: SqlStore, work: Any) -> Any:
    return store.write(work).result(60)


def add(store: SqlStore, run_id: str, *, parent: str | None = None, ended: bool = True, points: int = 0) -> None:
    spec = RunSpec(experiment="exp", script="train.py", snapshot_id=CODE, target="c", parent_id=parent)

    def work(tx: Any) -> None:
        tx.create_run(run_id, spec, now=1.0)
        named = spool.Frame(spool.SERIES, 0, 0, None, {"name": "loss"})
        tx.append(run_id, "1.spool", 0, 10, [named, *(spool.Frame(spool.FLOAT, 0, i + 1, None, float(i % 7))
                                                      for i in range(points))])  # fmt: skip
        if ended:
            tx.transition(run_id, RunStatus.FAILED, now=2.0)

    do(store, work)


def rows(store: SqlStore) -> dict[str, int]:
    with sqlite3.connect(store._path) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


def test_a_deleted_run_leaves_no_row_but_the_notes(store: SqlStore) -> None:
    add(store, "other")
    before = rows(store)
    add(store, "r", points=10_000)
    do(store, lambda tx: tx.tag("r", {"a": "b"}))
    do(store, lambda tx: tx.keep_files("r", [{"path": "x", "size": 1, "sha256": None}]))
    assert do(store, lambda tx: tx.delete_runs(["r", "absent"], 3.0)) == ("r",)
    assert rows(store) == {**before, "deletions": 2}
    assert [(d.kind, d.what) for d in store.read(lambda tx: tx.deletions())] == [(RUN, "r"), (SNAPSHOT, CODE)]
    assert store.read(lambda tx: tx.count_runs())["exp"]["runs"] == 1


def test_a_run_that_goes_on_stays_and_so_does_one_with_such_a_child(store: SqlStore) -> None:
    add(store, "r")
    add(store, "r_0", parent="r", ended=False)
    for run_ids in (["r_0"], ["r"], ["r", "r_0"]):
        with pytest.raises(Conflict):
            do(store, lambda tx, ids=run_ids: tx.delete_runs(ids, 3.0))
    assert {stub.id for stub in store.read(lambda tx: tx.run_stubs())} == {"r", "r_0"}


def test_stubs_of_some_runs_come_with_all_below_them(store: SqlStore) -> None:
    for run_id, parent in (("p", None), ("other", None), ("p_0", "p"), ("p_0_0", "p_0"), ("q", None)):
        add(store, run_id, parent=parent)

    def ids(*of: str) -> list[str]:
        return [stub.id for stub in store.read(lambda tx: tx.run_stubs(of))]

    assert ids("q", "p", "absent") == ["p", "p_0", "p_0_0", "q"], "in the order they were created"
    assert ids("p_0") == ["p_0", "p_0_0"] and ids() == []
    assert len(store.read(lambda tx: tx.run_stubs(experiment="exp"))) == 5
    assert store.read(lambda tx: tx.run_stubs(experiment="none")) == ()


def test_an_id_is_not_given_again_while_its_folder_may_lie_there(store: SqlStore) -> None:
    add(store, "r")
    add(store, "r_0", parent="r")
    do(store, lambda tx: tx.delete_runs(["r_0"], 3.0))
    with pytest.raises(Conflict, match="deleted a moment ago"):
        add(store, "r_0", parent="r")
    assert do(store, lambda tx: tx.next_child_id("r")) == "r_1"
    do(store, lambda tx: tx.forget_deletions([d.number for d in tx.deletions()]))
    assert do(store, lambda tx: tx.next_child_id("r")) == "r_0"


def test_a_snapshot_stays_as_long_as_a_run_or_a_model_has_it(store: SqlStore) -> None:
    files = [{"path": "train.py", "sha256": OTHER, "size": 3, "mode": 0o644}]
    do(store, lambda tx: tx.add_snapshot(CODE, files, 1.0))
    add(store, "r")
    add(store, "second")
    assert store.read(lambda tx: tx.unused_snapshots({CODE}))[0] == set()
    do(store, lambda tx: tx.delete_runs(["r", "second"], 3.0))
    unused, newest = store.read(lambda tx: tx.unused_snapshots({CODE}))
    assert unused == {CODE}
    add(store, "third")  # in the moment between the two
    assert do(store, lambda tx: tx.drop_snapshot(CODE, newest, 4.0)) is False
    do(store, lambda tx: tx.delete_runs(["third"], 5.0))
    do(store, lambda tx: tx.add_model(ModelRecord("m", 0, 1.0, snapshot_id=CODE)))
    assert store.read(lambda tx: tx.unused_snapshots({CODE}))[0] == set()
    do(store, lambda tx: tx.delete_model("m", 1, 6.0))
    unused, newest = store.read(lambda tx: tx.unused_snapshots({CODE}))
    assert do(store, lambda tx: tx.drop_snapshot(CODE, newest, 7.0)) is True
    assert store.read(lambda tx: tx.find_snapshot(CODE)) is None
    noted = [json.loads(d.what) for d in store.read(lambda tx: tx.deletions()) if d.kind == BLOBS]
    assert noted == [[OTHER]]


def test_the_files_beside_a_dockerfile_stay_as_long_as_a_run_or_a_registered_environment_has_them(
    store: SqlStore,
) -> None:
    do(store, lambda tx: tx.add_snapshot(CONTEXT, [{"path": "Dockerfile", "sha256": OTHER, "size": 3, "mode": 1}], 1.0))
    environment = EnvironmentSpec(container=ContainerSpec(dockerfile="FROM x", context=CONTEXT))
    spec = RunSpec(experiment="exp", script="train.py", snapshot_id=CODE, environment=environment)
    do(store, lambda tx: tx.create_run("boxed", spec, now=1.0))
    do(store, lambda tx: tx.transition("boxed", RunStatus.FAILED, now=2.0))
    assert store.read(lambda tx: tx.snapshots_of(["boxed"])) == {"boxed": CODE}
    assert store.read(lambda tx: tx.unused_snapshots({CONTEXT}))[0] == set()
    do(store, lambda tx: tx.delete_runs(["boxed"], 3.0))
    assert {d.what for d in store.read(lambda tx: tx.deletions()) if d.kind == SNAPSHOT} == {CODE, CONTEXT}
    unused, newest = store.read(lambda tx: tx.unused_snapshots({CONTEXT}))
    assert unused == {CONTEXT}
    definition = {"docker": {"buildContext": {"location": CONTEXT}}}
    do(store, lambda tx: tx.add_environment("boxed", definition, 4.0))  # in the moment between the two
    assert do(store, lambda tx: tx.drop_snapshot(CONTEXT, newest, 5.0)) is False
    assert store.read(lambda tx: tx.unused_snapshots({CONTEXT}))[0] == set()


def test_the_file_gets_smaller_step_by_step_and_so_does_its_log(store: SqlStore, tmp_path: Path) -> None:
    add(store, "r", points=300_000)
    add(store, "stays", points=1000)
    big = store.space().bytes
    assert big > 4 << 20
    do(store, lambda tx: tx.delete_runs(["r"], 3.0))
    steps = 1
    while store.shrink().result(60):
        steps += 1
        do(store, lambda tx: tx.set_meta("written", "in between"))
    assert steps > 1, "others wait for as long as one step takes"
    assert store.space().free_bytes == 0 and not store.space().rewrites
    assert os.path.getsize(tmp_path / f"{FILE}-wal") == 0
    assert store.space().bytes < big / 10
    assert store.read(lambda tx: tx.series("stays", "loss"))[0].count == 1000
    assert sqlite3.connect(tmp_path / FILE).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_database_from_before_is_rewritten_once_it_is_worth_it(tmp_path: Path) -> None:
    SqlStore.open(str(tmp_path)).close()
    with sqlite3.connect(tmp_path / FILE, isolation_level=None) as db:
        db.execute("PRAGMA journal_mode=DELETE")
        db.execute("PRAGMA auto_vacuum=NONE")
        db.execute("VACUUM")
    db.close()
    store = SqlStore.open(str(tmp_path))
    add(store, "r", points=300_000)
    do(store, lambda tx: tx.delete_runs(["r"], 3.0))
    assert store.space().rewrites
    assert store.shrink().result(60) is False
    assert store.space().bytes < 1 << 20 and not store.space().rewrites
    store.close()


def test_a_copy_shows_one_moment_and_is_one_file(store: SqlStore, tmp_path: Path) -> None:
    add(store, "r", points=100)
    copy = store.copy(str(tmp_path / "copy"))
    add(store, "later")
    do(copy, lambda tx: tx.update_run("r", verified=True))
    assert [stub.id for stub in copy.read(lambda tx: tx.run_stubs())] == ["r"]
    assert not store.read(lambda tx: tx.get_run("r")).verified
    copy.close()
    assert os.listdir(tmp_path / "copy") == [FILE]
