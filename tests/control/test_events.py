"""What agents tell, once, twice, late and damaged."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World, event, statuses
from windlass.errors import UserErrorException
from windlass.specs import spool as spool_format
from windlass.specs.status import RunStatus

S = RunStatus
FILE = {"path": "outputs/model.bin", "size": 3, "sha256": "b" * 64}
WELL: dict[str, Any] = {"reason_code": "completed", "files": [FILE]}
ILL: dict[str, Any] = {"reason_code": "exit_code", "exit_code": 3, "rank": 0, "message": "It exited with code 3."}


async def on_a_node(world: World) -> None:
    await world.cluster()
    world.conductor.begin(await world.run("r"))
    await world.on_nodes("r")


def test_a_runs_life_with_every_event_twice(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        for kind, more in (("started", {"node": "c-0"}), ("finalizing", {}), ("ended", {"outcome": WELL})):
            for _ in range(2):
                await world.tell("r", kind, **more)
        run = world.get("r")
        assert statuses(run) == ["NotStarted", "Preparing", "Queued", "Running", "Finalizing", "Completed"]
        assert [e["status"] for e in run.history].count("Running") == 1 and run.verified
        assert list(world.core.read(lambda tx: tx.files_of("r"))) == [FILE] and world.verified == ["r"] * 2
        assert world.engine.poll(["r.1"]) == {} and world.hub.forgotten == [("r", 1, 0)] * 2

    in_world(work)


def test_an_end_that_the_server_hears_of_late_keeps_its_time(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        on_node = world.get("r").history[-1]["time"]
        await world.tell("r", "started", node="c-0", time=on_node + 1e-3)
        await world.tell("r", "finalizing", time=on_node + 2e-3)
        await world.tell("r", "ended", outcome=WELL, time=on_node + 3e-3)
        run = world.get("r")
        assert run.started == pytest.approx(on_node + 1e-3, abs=1e-5)
        assert run.ended == pytest.approx(on_node + 3e-3, abs=1e-5)

    in_world(work)


def test_a_clock_that_is_wrong_makes_no_impossible_times(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        await world.tell("r", "started", node="c-0", time=5.0)  # the node's clock is decades behind
        await world.tell("r", "ended", outcome=WELL, time=9e12)  # and now ahead
        run = world.get("r")
        times = [entry["time"] for entry in run.history]
        assert times == sorted(times) and run.created <= run.started <= run.ended < 9e12

    in_world(work)


def test_one_batch_is_applied_in_its_order(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        batch = [event("r", "started", node="c-0"), event("r", "heartbeat"), event("r", "ended", outcome=ILL)]
        await world.events.take("local", batch)
        run = world.get("r")
        assert (run.status, run.exit_code) == (S.FAILED, 3) and world.hub.keys == [("r", 1, 0)] * 3
        assert run.reason is not None and (run.reason.code, run.reason.message) == ("exit_code", ILL["message"])

    in_world(work)


def test_an_end_frees_the_node_for_the_next(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        world.conductor.begin(await world.run("next", created=11))
        await world.until("next", lambda run: run.status is S.QUEUED)
        await world.tell("r", "ended", outcome=WELL)
        await world.on_nodes("next")

    in_world(work)


def test_a_late_end_keeps_files_and_the_status_stands(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        await world.run("r", S.RUNNING, S.FAILED)
        before = world.get("r")
        await world.tell("r", "started", node="c-0")
        await world.tell("r", "ended", outcome=WELL)
        after = world.get("r")
        assert (after.status, after.reason, after.ended) == (S.FAILED, before.reason, before.ended)
        assert list(world.core.read(lambda tx: tx.files_of("r"))) == [FILE]
        assert world.engine.poll(["r.1"]) == {}

    in_world(work)


@pytest.mark.parametrize(("outcome", "status"), [(WELL, S.COMPLETED), (ILL, S.CANCELED)])
def test_what_a_cancel_becomes(in_world: InWorld, outcome: dict[str, Any], status: RunStatus) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        await world.tell("r", "started", node="c-0")
        await world.conductor.cancel("r")
        await world.tell("r", "finalizing")
        await world.tell("r", "ended", outcome=outcome)
        assert world.get("r").status is status

    in_world(work)


def test_a_start_tells_of_nodes_that_were_not_written_down(in_world: InWorld) -> None:
    async def before(world: World) -> None:
        await world.cluster(nodes=2)
        await world.run("r", S.QUEUED)

    async def after(world: World) -> None:
        await world.tell("r", "started", node="c-1")
        run = await world.on_nodes("r")
        assert (run.status, run.nodes) == (S.RUNNING, ("c-1",))
        assert world.engine.poll(["r.1"])["r.1"].nodes == ("c-1",)

    in_world(before)
    in_world(after)


def test_files_without_checksums_are_verified_later(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        await world.tell("r", "ended", outcome={**WELL, "files": [{"path": "outputs/big", "size": 9, "sha256": None}]})
        assert world.verified == ["r"] and not world.get("r").verified

    in_world(work)


def test_news_of_unknown_runs_and_junk_do_not_stop_the_others(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        junk = [event("nobody", "started", node="c-0"), event("r", "ended", outcome={}), event("r", "ended")]
        await world.events.take(
            "local", [event("r", "started", node="c-0"), junk[0], event("r", "ended", outcome=WELL)]
        )
        assert world.get("r").status is S.COMPLETED
        await world.events.take("local", junk[1:])
        assert world.get("r").status is S.COMPLETED

    in_world(work)


def points(count: int) -> list[bytes]:
    named = spool_format.series_frame(0, {"name": "loss"})
    return [named, *(spool_format.json_frame(0, i, i, f"v{i}") for i in range(count))]


def values(world: World) -> list[Any]:
    return [v for series in world.core.read(lambda tx: tx.series("r")) for v in series.values]


def test_a_batch_twice_counts_once_and_a_gap_is_answered(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", target="local")
        data = b"".join(points(5))
        for _ in range(2):
            assert await world.events.ingest("r", "a.spool", 0, data) == len(data)
        assert await world.events.ingest("r", "a.spool", len(data) + 10, b"".join(points(1))) == len(data)
        assert values(world) == [f"v{i}" for i in range(5)]

    in_world(work)


def test_a_damaged_frame_is_counted_as_lost_and_only_that(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", target="local")
        frames = points(6)
        for place in (2, 5):
            frames[place] = frames[place][:-1] + b"\0"
        data = b"".join(frames)
        assert await world.events.ingest("r", "a.spool", 0, data) == len(data)
        assert values(world) == ["v0", "v2", "v3", "v5"] and world.get("r").lost_points == 2

    in_world(work)


def test_points_of_a_series_whose_name_was_damaged(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", target="local")
        frames = points(2)
        frames[0] = frames[0][:-1] + b"\0"
        data = b"".join(frames)
        assert await world.events.ingest("r", "a.spool", 0, data) == len(data)
        assert world.get("r").lost_points >= 1
        more = b"".join(points(2))
        assert await world.events.ingest("r", "a.spool", len(data), more) == len(data + more)
        assert values(world) == ["v0", "v1"]

    in_world(work)


def test_an_unfinished_frame_is_left_to_the_next_batch(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("r", target="local")
        data, whole = b"".join(points(3)), len(b"".join(points(2)))
        assert await world.events.ingest("r", "a.spool", 0, data[:-3]) == whole
        assert await world.events.ingest("r", "a.spool", whole, data[whole:]) == len(data)
        assert values(world) == ["v0", "v1", "v2"] and world.get("r").lost_points == 0

    in_world(work)


def test_points_of_an_unknown_run_are_refused(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        with pytest.raises(UserErrorException, match="no run 'nobody'"):
            await world.events.ingest("nobody", "a.spool", 0, points(1)[0])

    in_world(work)


def test_a_full_piece_of_a_spool_is_taken_while_others_are_served(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await on_a_node(world)
        data = b"".join(points(20_000))
        turns, at_write, ended, write = 0, 0, asyncio.Event(), world.core.write

        async def others() -> None:
            nonlocal turns
            while not ended.is_set():
                turns += 1
                await asyncio.sleep(0)

        async def noting(change: Any) -> Any:
            nonlocal at_write
            at_write = turns
            return await write(change)

        world.core.write = noting  # type: ignore[method-assign]
        beside = asyncio.create_task(others())
        assert await world.events.ingest("r", "a.spool", 0, data + b"torn") == len(data)
        ended.set()
        await beside
        assert world.core.read(lambda tx: tx.series_of("r"))[0].count == 20_000
        assert at_write > 10, "the loop stood still while the piece was decoded"

    in_world(work)


def test_an_end_frees_its_node_while_the_settings_file_is_half_written(in_world: InWorld, home: Path) -> None:
    async def work(world: World) -> None:
        world.conductor.begin(await world.run("r", target="local"))
        await world.on_nodes("r")
        (home / "settings.json").write_text('{"local_slots"')
        await world.tell("r", "started", node="local-0")
        await world.tell("r", "ended", outcome=WELL)
        assert world.get("r").status is S.COMPLETED and world.engine.poll(["r.1"]) == {}
        assert world.hub.forgotten == [("r", 1, 0)]

    in_world(work)


def test_the_end_of_a_deleted_run_is_forgotten(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.tell("gone", "ended", outcome=WELL)
        assert world.hub.forgotten == [("gone", 1, 0)]

    in_world(work)
