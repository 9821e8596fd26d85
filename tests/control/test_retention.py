"""Runs that have had their time, and what deleting really frees: measured on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World
from windlass.specs import spool
from windlass.specs.run import RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.room import bytes_on_disk
from windlassd.blobs.snapshots import snapshot_id
from windlassd.control.deletions import Deletions
from windlassd.control.retention import DAY_S, Old, Retention, choose
from windlassd.store.base import Conflict, ModelRecord, RunStub

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
