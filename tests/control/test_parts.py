"""A run of several nodes on the record: what its parts tell, in whatever order, and what all of them mean."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import World
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, Outcome
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.control import parts

S = RunStatus
WELL: dict[str, Any] = {"reason_code": "completed", "files": []}
ILL: dict[str, Any] = {"reason_code": "exit_code", "exit_code": 3, "message": "Rank 1 on c-1 exited with code 3."}
ENDED_BY_US: dict[str, Any] = {"reason_code": "part_failed", "message": "It was ended because …"}


async def gang(world: World, nodes: int = 3) -> None:
    """A run that was given its nodes."""
    await world.cluster(nodes=nodes)
    world.conductor.begin(await world.run("r", node_count=nodes))
    await world.on_nodes("r")


def states(run: RunRecord) -> list[str]:
    return [str(part["status"]) for part in run.parts]


async def tell(world: World, kind: str, ranks: Sequence[int], **more: Any) -> RunRecord:
    for rank in ranks:
        await world.tell("r", kind, rank=rank, node=f"c-{rank}", **more)
    return world.get("r")


def test_it_runs_with_the_first_and_ends_with_the_last(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world)
        assert states(world.get("r")) == ["given"] * 3
        run = await tell(world, "started", [2])
        assert run.status is S.RUNNING and states(run) == ["given", "given", "running"]
        await tell(world, "started", [0, 1])
        run = await tell(world, "finalizing", [0, 1], outcome=WELL)
        assert run.status is S.RUNNING, "a process of it still runs"
        run = await tell(world, "ended", [0, 1], outcome=WELL)
        assert run.status is S.RUNNING and states(run) == ["ended", "ended", "running"]
        assert world.engine.poll(["r.1"]) and world.verified == [] and world.engine.canceled == []
        assert (await tell(world, "finalizing", [2], outcome=WELL)).status is S.FINALIZING
        run = await tell(world, "ended", [2], outcome={**WELL, "lost_points": 2})
        assert run.status is S.COMPLETED and states(run) == ["ended"] * 3 and run.lost_points == 2
        assert world.engine.poll(["r.1"]) == {} and world.verified == ["r"] and not run.verified
        assert world.hub.forgotten == [("r", 1, rank) for rank in range(3)]

    in_world(work)


def test_every_event_may_come_twice(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        for kind, more in (("started", {}), ("finalizing", {"outcome": ILL}), ("ended", {"outcome": ILL})):
            for _ in range(2):
                run = await tell(world, kind, [1], **more)
        assert states(run) == ["given", "ended"] and run.parts[1]["failed"] == 1
        run = await tell(world, "started", [1])
        assert states(run) == ["given", "ended"], "a late word does not bring it back"

    in_world(work)


def test_the_others_are_ended_before_the_files_of_the_first_are_home(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world)
        await tell(world, "started", range(3))
        run = await tell(world, "finalizing", [1], outcome=ILL)
        assert world.engine.canceled == ["r.1"] and run.status is S.RUNNING
        await tell(world, "finalizing", [0], outcome=ENDED_BY_US)
        await tell(world, "ended", [0, 2], outcome=ENDED_BY_US)
        run = await tell(world, "ended", [1], outcome=ILL)
        assert (run.status, run.exit_code) == (S.FAILED, 3) and run.reason is not None
        assert (run.reason.code, run.reason.message) == ("exit_code", ILL["message"])

    in_world(work)


@pytest.mark.parametrize("outcome", [WELL, ENDED_BY_US])
def test_a_cancel_of_which_one_part_knows_nothing(in_world: InWorld, outcome: dict[str, Any]) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        await tell(world, "started", range(2))
        await world.conductor.cancel("r")
        await tell(world, "ended", [0], outcome=WELL)
        run = await tell(world, "ended", [1], outcome=outcome)
        assert run.status is (S.COMPLETED if outcome is WELL else S.CANCELED)

    in_world(work)


def test_a_part_that_never_started_ends_the_gang(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        await tell(world, "started", [0])
        refused = {"reason_code": "start_failed", "message": "The run could not be started on c-1: no room."}
        await tell(world, "ended", [1], outcome=refused)
        assert world.engine.canceled == ["r.1"] and world.engine.poll(["r.1"])
        run = await tell(world, "ended", [0], outcome=ENDED_BY_US)
        assert run.status is S.FAILED and world.engine.poll(["r.1"]) == {} and run.reason is not None
        assert run.reason.message == "Rank 1 on c-1: The run could not be started on c-1: no room."

    in_world(work)


def test_a_server_that_comes_between_a_failure_and_the_end_tells_the_others(
    in_world: InWorld,
) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        await tell(world, "started", range(2))
        await tell(world, "finalizing", [1], outcome=ILL)
        world.engine.canceled.clear()
        world.engine.ended("r.1")  # the engine of a new server knows nothing
        await world.conductor.resume()
        assert world.engine.canceled == ["r.1"]

    in_world(work)


def test_parts_that_a_killed_server_did_not_come_to_give_are_given(in_world: InWorld) -> None:
    """It had given them to agents and written down nothing; one tells that it runs."""

    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        await world.run("r", S.QUEUED, node_count=2)
        told: list[tuple[str, Sequence[str]]] = []
        reattach = world.engine.reattach

        def note(job: Any, nodes: Sequence[str], started: bool) -> str:
            told.append((job.launch.python, nodes))
            return reattach(job, nodes, started)

        world.engine.reattach = note  # type: ignore[method-assign]
        launch = LaunchSpec("r", 1, "c-1", 1, "train.py", (), "5" * 64, "/p/python", nodes=("c-0", "c-1"))
        for _ in range(2):
            await world.tell("r", "started", rank=1, node="c-1", nodes=["c-0", "c-1"], launch=to_wire(launch))
        run = world.get("r")
        assert told == [("/p/python", ("c-0", "c-1"))] and run.nodes == ("c-0", "c-1")
        assert run.status is S.RUNNING and states(run) == ["given", "running"]
        assert run.environment == {"python": "/p/python"}
        assert [parts.status_of(run, ("r", 1, rank)) for rank in (0, 1, 2)] == ["given", "running", None]

    in_world(work)


def test_what_agents_tell_before_the_nodes_are_written_down_stands(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        world.conductor.begin(await world.run("r", node_count=2))
        while not world.engine.submitted:
            await asyncio.sleep(0)
        await world.tell("r", "started", rank=0, node="c-0", nodes=["c-0", "c-1"])
        run = await world.until("r", lambda run: not world.conductor.active())
        assert states(run) == ["running", "given"] and run.status is S.RUNNING

    in_world(work)


def test_a_lost_part_fails_the_run_and_what_it_brings_late_changes_nothing(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        await tell(world, "started", range(2))
        lost = Outcome(reason_code="node_lost", message="The node c-1 (rank 1) was lost.")
        await world.events.lose(("r", 1, 1), lost)
        assert world.engine.canceled == ["r.1"] and states(world.get("r")) == ["running", "lost"]
        run = await tell(world, "ended", [0], outcome=ENDED_BY_US)
        assert run.status is S.FAILED and run.reason is not None and run.reason.code == "node_lost"
        assert world.verified == ["r"]
        late = await tell(world, "ended", [1], outcome=WELL)
        assert (late.status, late.reason) == (run.status, run.reason) and states(late) == ["ended"] * 2
        assert world.verified == ["r", "r"], "its files are taken up"

    in_world(work)


def test_words_of_an_earlier_attempt_change_nothing(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await gang(world, 2)
        await world.update("r", attempt=2, parts=parts.given(["c-0", "c-1"]))
        before = world.get("r")
        for kind, more in (("started", {}), ("finalizing", {"outcome": ILL}), ("ended", {"outcome": ILL})):
            await tell(world, kind, [0, 1], **more)
        assert world.get("r") == before
        assert world.engine.poll(["r.1"]) == {}, "its nodes are free"
        await tell(world, "started", [0, 1])
        assert world.engine.poll(["r.1"]) == {}, "what was given up is not taken over"

    in_world(work)


def test_a_launch_that_an_agent_tells_of_is_its_own_runs(in_world: InWorld) -> None:
    """Whatever it says, no order for another run can come of it."""

    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        await world.run("r", S.QUEUED, node_count=2)
        keys: list[Any] = []
        reattach = world.engine.reattach

        def note(job: Any, nodes: Sequence[str], started: bool) -> str:
            keys.append((job.launch.key, job.native_id))
            return reattach(job, nodes, started)

        world.engine.reattach = note  # type: ignore[method-assign]
        launch = LaunchSpec("others", 7, "c-0", 0, "train.py", (), "5" * 64, "/p/python", nodes=("c-0", "c-1"))
        await world.tell("r", "started", rank=0, node="c-0", nodes=["c-0", "c-1"], launch=to_wire(launch))
        assert keys == [(("r", 1, 0), "r.1")]

    in_world(work)
