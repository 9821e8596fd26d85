"""Runs that have had their time, and what deleting really frees: measured on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Sequence, Set
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World
from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs import spool
from windlass.specs.run import RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.room import bytes_on_disk
from windlassd.blobs.snapshots import snapshot_id
from windlassd.control import retention
from windlassd.control.deletions import Deletions
from windlassd.control.retention import DAY_S, Old, Retention, choose
from windlassd.store.base import Conflict, ModelRecord, RunStub, StoreFull, StoreSpace
from windlassd.store.sql import SqlReader

NOW = 1_700_000_000.0
BIG = 1 << 20


def stub(run_id: str, ended: float | None = 1.0, parent: str | None = None, **more: Any) -> RunStub:
    values: dict[str, Any] = {"experiment": "exp", "status": "Completed", "tags": (), **more}
    return RunStub(run_id, parent, ended=ended, **values)


@pytest.mark.parametrize(
    ("stubs", "goes"),
    [
        ([stub("old"), stub("new", 100.0)], [["old"]]),
        ([stub("goes on", None)], []),
        ([stub("p"), stub("p_0", parent="p"), stub("p_0_0", parent="p_0")], [["p", "p_0", "p_0_0"]]),
        ([stub("p"), stub("p_0", None, parent="p")], []),
        ([stub("p"), stub("p_0", 100.0, parent="p")], []),
        ([stub("p", 100.0), stub("p_0", parent="p")], []),  # a child is its parent's
        ([stub("tagged", tags=("keep",)), stub("other", tags=("kept",))], [["other"]]),
        ([stub("model's"), stub("p"), stub("model's child", parent="p")], []),
        ([stub("e", experiment="other"), stub("f", status="Failed"), stub("g")], [["e"], ["f"], ["g"]]),
    ],
)
def test_which_runs_go_by_age(stubs: Sequence[RunStub], goes: list[list[str]]) -> None:
    assert choose(stubs, {"model's", "model's child"}, Old(50.0), "keep")[0] == goes


def test_an_experiment_and_a_status_narrow_it() -> None:
    stubs = [stub("e", experiment="other"), stub("f", status="Failed"), stub("g")]
    assert choose(stubs, set(), Old(50.0, "other"), "keep")[0] == [["e"]]
    assert choose(stubs, set(), Old(50.0, None, ("Failed", "Canceled")), "keep")[0] == [["f"]]


class Keeper:
    """A world with what deletes, and a disk that is measured."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now = NOW
        self.deletions = Deletions(world.core)
        self.retention = Retention(world.core, self.deletions, now=lambda: self.now, wait=self.rest)
        self.rested: list[float] = []

    async def rest(self, seconds: float) -> None:
        self.rested.append(seconds)
        self.now += seconds
        if len(self.rested) > 60:
            raise asyncio.CancelledError

    async def run(self, run_id: str, code: bytes = b"code", *, size: int = BIG, points: int = 0,
                  ended: float = NOW - 10 * DAY_S, parent: str | None = None) -> None:  # fmt: skip
        """An ended run with code, an output of that size, and points."""
        core, sha256 = self.world.core, hashlib.sha256(code).hexdigest()
        core.blobs.put([code], sha256)
        files = [{"path": "train.py", "sha256": sha256, "size": len(code), "mode": 0o644}]
        snapshot = snapshot_id(files)
        spec = RunSpec(experiment="exp", script="train.py", snapshot_id=snapshot, target="c", parent_id=parent)
        frames = [spool.Frame(spool.SERIES, 0, 0, None, {"name": "loss"})]
        frames += [spool.Frame(spool.FLOAT, 0, i + 1, None, float(i % 9)) for i in range(points)]

        def work(tx: Any) -> None:
            tx.add_snapshot(snapshot, files, 1.0)
            tx.create_run(run_id, spec, now=ended)
            tx.append(run_id, "1.spool", 0, 100, frames)
            tx.transition(run_id, RunStatus.FAILED, now=ended)

        await core.write(work)
        folder = core.folder(run_id)
        folder.make()
        Path(folder.log("outputs/x.bin")).write_bytes(os.urandom(size))

    def ids(self) -> list[str]:
        return [stub.id for stub in self.world.core.read(lambda tx: tx.run_stubs())]

    def measured(self) -> int:
        return bytes_on_disk(self.world.dir)


def test_a_deleted_run_gives_its_bytes_back(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("stays")
        await keeper.deletions.free()
        small = keeper.measured()
        await keeper.run("goes", os.urandom(BIG), points=300_000)
        os.chmod(world.core.folder("goes").files, 0o500)
        big = keeper.measured()
        assert big - small > 6 * BIG
        answer = await keeper.deletions.runs(["goes"])
        assert answer["runs"] == ["goes"] and not os.path.exists(world.core.folder("goes").root)
        assert keeper.measured() <= small + (64 << 10)  # empty folders, and room inside the last pages
        assert abs(answer["freed_bytes"] - (big - keeper.measured())) < 128 << 10
        assert world.core.read(lambda tx: tx.deletions()) == ()

    in_world(work)


def test_code_that_another_run_or_a_model_has_stays(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        shared, held = b"shared", b"a model's"
        await keeper.run("one", shared)
        await keeper.run("two", shared)
        await keeper.run("three", held)
        sha256 = hashlib.sha256(held).hexdigest()
        model = ModelRecord("m", 0, 1.0, run_id="three", files=({"path": "x", "sha256": sha256, "size": 9},))
        await world.core.write(lambda tx: tx.add_model(model))
        await keeper.deletions.runs(["one", "three"])
        assert world.core.blobs.path(hashlib.sha256(shared).hexdigest())
        assert world.core.blobs.path(sha256)
        await keeper.deletions.runs(["two"])
        assert not world.core.blobs.path(hashlib.sha256(shared).hexdigest())
        await keeper.deletions.model("m", 1)
        assert not world.core.blobs.path(sha256)

    in_world(work)


def test_nothing_of_a_family_goes_while_one_of_it_goes_on(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("p")
        await world.run("p_0", RunStatus.RUNNING, parent_id="p", experiment="exp")
        with pytest.raises(Conflict, match=r"'p_0', which belongs to the run 'p', is Running.*windlass stop p_0"):
            await keeper.deletions.runs(["p"])
        assert keeper.ids() == ["p", "p_0"]

    in_world(work)


def test_what_a_client_was_told_is_here_stays_until_it_has_used_it(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r", b"wanted again")
        snapshot = world.core.read(lambda tx: tx.snapshots_of(["r"]))["r"]
        expected = {snapshot}
        deletions = Deletions(world.core, expected=lambda: expected)
        await deletions.runs(["r"])
        assert world.core.read(lambda tx: tx.find_snapshot(snapshot)) is not None
        expected.clear()
        await deletions.free()
        assert world.core.read(lambda tx: tx.find_snapshot(snapshot)) is None

    in_world(work)


def test_submits_wait_for_no_look_at_all_snapshots_and_what_they_bring_in_meanwhile_stays(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[bool, bool]] = []

    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r", b"wanted again")
        sha256, look = hashlib.sha256(b"wanted again").hexdigest(), SqlReader.used_blobs

        def used_blobs(tx: SqlReader, hashes: Iterable[str], known: Set[str] = frozenset()) -> set[str]:
            looked.append((world.core.keeping.locked(), bool(known)))
            found = look(tx, hashes, known)
            if len(looked) == 1:
                files = [{"path": "same.py", "sha256": sha256, "size": 12, "mode": 0o644}]
                world.core.store.write(lambda w: w.add_snapshot(snapshot_id(files), files, 1.0)).result(60)
            return found

        await keeper.run("stays", b"other")
        monkeypatch.setattr(SqlReader, "used_blobs", used_blobs)
        await keeper.deletions.runs(["r"])
        assert world.core.blobs.path(sha256), "a snapshot has it since a moment ago"

    in_world(work)
    assert looked == [(False, False), (True, True)]


def test_what_came_into_an_experiment_while_it_was_deleted_is_freed_too(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r")
        delete, late = keeper.deletions._delete, world.core.folder("late").root

        async def and_one_more(wanted: Any) -> Any:
            answer = await delete(wanted)
            await keeper.run("late")
            return answer

        keeper.deletions._delete = and_one_more  # type: ignore[method-assign]
        answer = await keeper.deletions.experiment("exp")
        assert answer["runs"] == ["r", "late"] and keeper.deletions.busy()
        await keeper.deletions.free()
        assert not os.path.exists(late)

    in_world(work)


def test_runs_say_why_they_wait_while_an_old_database_is_written_anew(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(world: World) -> None:
        keeper, store, said = Keeper(world), world.core.store, []
        await keeper.run("r")
        monkeypatch.setattr(store, "space", lambda: StoreSpace(1, 1, rewrites=True))
        shrink = store.shrink

        def told() -> Future[bool]:
            assert world.core.trouble
            said.append(world.core.trouble.reason().message)
            return shrink()

        monkeypatch.setattr(store, "shrink", told)
        await keeper.deletions.runs(["r"])
        assert "older version of Windlass" in said[0] and said[0].endswith("as soon as this is done.")
        assert world.core.trouble is None

    in_world(work)


def test_a_plan_measures_folders_when_it_has_read_the_records(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A read holds the log of writes: it grows until the read ends."""

    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r")
        reading, read = [0], world.core.store.read

        def counted(work: Any) -> Any:
            reading[0] += 1
            try:
                return read(work)
            finally:
                reading[0] -= 1

        def measure(*paths: str) -> int:
            assert not reading[0]
            return bytes_on_disk(*paths)

        monkeypatch.setattr(world.core.store, "read", counted)
        monkeypatch.setattr(retention, "bytes_on_disk", measure)
        assert (await keeper.retention.plan(Old(NOW)))["bytes"] >= BIG

    in_world(work)


def test_the_doctor_is_told_that_nothing_is_freed_beside_a_backup(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        deletions = Deletions(world.core)
        async with world.core.freeing:
            with pytest.raises(ServiceUnavailable, match="While a backup is made"):
                await deletions.contents(["0" * 64])
        await deletions.contents(["0" * 64])

    in_world(work)


def test_a_deletion_on_a_full_disk_gives_up_the_room_set_aside(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(world: World) -> None:
        keeper, store = Keeper(world), world.core.store
        for name in ("p", "q"):
            await keeper.run(name, name.encode())
        os.makedirs(os.path.join(world.dir, "server"), exist_ok=True)
        keeper.deletions.resume()
        reserve, write, seen = os.path.join(world.dir, "server", "reserve"), store.write, []

        def full(work: Any) -> Any:
            seen.append(os.path.exists(reserve))
            if seen[-1]:
                raise StoreFull("the disk is full")
            return write(work)

        monkeypatch.setattr(store, "write", full)
        with pytest.raises(StoreFull):
            await world.core.write(lambda tx: tx.set_meta("x", "y"))
        assert (await keeper.deletions.runs(["p"]))["runs"] == ["p"]
        assert seen[:3] == [True, True, False] and keeper.ids() == ["q"]
        assert os.path.exists(reserve), "there is room again"
        monkeypatch.setattr(store, "write", write)

    in_world(work)


def test_a_restarted_server_goes_on_freeing(in_world: InWorld) -> None:
    places: list[str] = []

    async def delete_only(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r", b"the code")
        await world.core.write(lambda tx: tx.delete_runs(["r"], 1.0))
        code = world.core.blobs.path(hashlib.sha256(b"the code").hexdigest())
        places.extend([world.core.folder("r").root, str(code)])
        assert all(map(os.path.exists, places))

    async def go_on(world: World) -> None:
        deletions = Deletions(world.core)
        deletions.resume()
        assert deletions.busy()
        await deletions.free()
        assert not any(map(os.path.exists, places))

    in_world(delete_only)
    in_world(go_on)


def test_nothing_is_freed_while_a_backup_counts_on_it(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("r")
        async with world.core.freeing:
            answer = await keeper.deletions.runs(["r"])
            assert answer == {"runs": ["r"], "freed_bytes": None}
            for _ in range(300):  # time enough to free it
                await world.core.write(lambda tx: tx.get_meta("x"))
            assert keeper.ids() == [] and os.path.exists(world.core.folder("r").root)
            assert keeper.deletions.busy(), "the server must not stop before it is freed"
        await keeper.deletions.free()
        assert not os.path.exists(world.core.folder("r").root)

    in_world(work)


def test_a_plan_tells_what_pruning_frees(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.deletions.free()
        await keeper.run("old", os.urandom(BIG), points=200_000)
        await keeper.run("old_0", parent="old")
        await keeper.run("new", ended=NOW)
        old, before = Old(NOW - 5 * DAY_S), keeper.measured()
        plan = await keeper.retention.plan(old)
        assert [(run["id"], run["children"]) for run in plan["runs"]] == [("old", 1)]
        assert keeper.ids() == ["old", "old_0", "new"], "a plan deletes nothing"
        assert (await keeper.retention.prune(old))["runs"] == ["old", "old_0"]
        freed = before - keeper.measured()
        assert 0.8 * plan["bytes"] < freed < 1.5 * plan["bytes"]  # pages and the log of writes come to it

    in_world(work)


def test_an_experiment_that_is_not_there_is_no_empty_answer(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        await keeper.run("old", ended=1.0)
        name = world.get("old").experiment
        for ask in (keeper.retention.plan, keeper.retention.prune):
            with pytest.raises(UserErrorException, match=f"no experiment '{name}s'.*Did you mean '{name}'"):
                await ask(Old(NOW, f"{name}s"))

    in_world(work)


def test_the_settings_are_applied_at_the_start_and_every_day(
    in_world: InWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(world: World) -> None:
        keeper = Keeper(world)
        for day in range(-10, 3):
            await keeper.run(f"r{day}", size=10, ended=NOW + day * DAY_S)
        assert await keeper.retention.look() == [], "off by default"
        monkeypatch.setenv("WINDLASS_RETENTION_DAYS", "3.5")
        with pytest.raises(asyncio.CancelledError):
            await keeper.retention.run()
        assert keeper.now - NOW > 2 * DAY_S
        assert keeper.ids() == [f"r{day}" for day in range(-1, 3)]

    in_world(work)
