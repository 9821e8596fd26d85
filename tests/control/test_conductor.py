"""A run's way to its nodes, with a fake engine and a fake builder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import pytest

from control.conftest import InWorld
from control.world import PACKAGED, World, statuses
from windlass.errors import AzureMLException
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.status import RunStatus
from windlassd.blobs.run_folder import BUILD_LOG
from windlassd.compute.base import JobState, Phase
from windlassd.compute.fake import FakeEngine
from windlassd.control import conductor
from windlassd.envs.base import Work
from windlassd.store.base import StoreFull, Writer

S = RunStatus


def test_environment_line_nodes(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        run = await world.on_nodes("r")
        assert statuses(run) == ["NotStarted", "Preparing", "Queued"] and run.nodes == ("c-0",)
        assert run.reason is not None and run.reason.message == "It starts on c-0."
        assert run.environment["builder"] == "fake" and run.environment["cached"] is False
        assert world.engine.submitted == ["r.1"]
        assert os.path.isfile(world.core.folder("r").log(BUILD_LOG))

    in_world(work)


def test_a_cached_environment_is_not_prepared(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster(nodes=2)
        for run_id in ("a", "b"):
            world.conductor.begin(await world.run(run_id, environment=PACKAGED))
            await world.on_nodes(run_id)
        assert "Preparing" not in statuses(world.get("b")) and world.get("b").environment["cached"] is True

    in_world(work)


def test_a_failed_environment_never_holds_a_node(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        cluster = await world.cluster()
        world.conductor.begin(await world.run("r", environment=EnvironmentSpec(pip_packages=("nosuch",))))
        run = await world.until("r", lambda run: run.status.final)
        assert (run.status, run.started, run.nodes) == (S.FAILED, None, ())
        assert run.reason is not None and run.reason.code == "environment_failed" and "'nosuch'" in run.reason.message
        assert world.engine.submitted == [] and world.engine.capacity(cluster).busy == 0
        assert world.verified == ["r"], "its build log gets a checksum like any kept file"

    in_world(work)


def test_a_full_disk_delays_a_run_and_does_not_lose_it(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "_STORE_AGAIN_S", 0.01)

    async def work(world: World) -> None:
        await world.cluster()
        record = await world.run("r", environment=PACKAGED)
        write, refusals = world.core.store.write, iter([True, True, True])

        def full_at_first(change: Callable[[Writer], Any]) -> Future[Any]:
            if not next(refusals, False):
                return write(change)
            refused: Future[Any] = Future()
            refused.set_exception(StoreFull("The disk is full."))
            return refused

        monkeypatch.setattr(world.core.store, "write", full_at_first)
        world.conductor.begin(record)
        assert (await world.on_nodes("r")).nodes == ("c-0",)
        assert world.engine.submitted == ["r.1"] and next(refusals, None) is None

    in_world(work)


@pytest.mark.parametrize("problem", [AzureMLException("no route to c-0"), RuntimeError("a bug")])
def test_an_engine_that_fails_ends_the_run_with_its_words(in_world: InWorld, problem: Exception) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        world.engine.fail_next = problem
        world.conductor.begin(await world.run("r"))
        run = await world.until("r", lambda run: run.status.final)
        assert run.status is S.FAILED and run.reason is not None and str(problem) in run.reason.message
        world.conductor.begin(await world.run("next"))
        await world.on_nodes("next")

    in_world(work)


def test_cancel_while_preparing_stops_the_build(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        building, stopped = threading.Event(), threading.Event()

        def hold(work: Work) -> None:
            building.set()
            if work.stop.wait(20):
                stopped.set()
            work.give_up()

        world.builder.before_build = hold
        await world.cluster()
        world.conductor.begin(await world.run("r", environment=PACKAGED))
        assert await asyncio.to_thread(building.wait, 20)
        run = await world.conductor.cancel("r")
        assert run.status is S.CANCELED and await asyncio.to_thread(stopped.wait, 20)
        assert statuses(world.get("r")) == ["NotStarted", "Preparing", "CancelRequested", "Canceled"]
        assert world.engine.submitted == [] and (await world.conductor.cancel("r")).status is S.CANCELED

    in_world(work)


def test_cancel_while_queued_leaves_the_line(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        cluster = await world.cluster()
        for created, run_id in enumerate(("a", "b", "c")):
            world.conductor.begin(await world.run(run_id, created=created))
            await world.until(run_id, lambda run: run.status is S.QUEUED)
        assert world.line.length("c") == 2
        assert (await world.conductor.cancel("b")).status is S.CANCELED
        world.engine.ended("a.1")
        world.line.pump(cluster)
        await world.on_nodes("c")
        assert world.engine.submitted == ["a.1", "c.1"] and world.engine.canceled == []

    in_world(work)


def test_cancel_on_a_node_is_the_engines(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.cluster()
        world.conductor.begin(await world.run("r"))
        await world.on_nodes("r")
        for _ in range(2):
            assert (await world.conductor.cancel("r")).status is S.CANCEL_REQUESTED
        assert world.engine.canceled == ["r.1", "r.1"]

    in_world(work)


def test_cancel_while_the_nodes_are_given_ends_the_job(in_world: InWorld) -> None:
    """The call arrives first, the nodes come free while it is being written down: nobody may run on unseen."""

    async def work(world: World) -> None:
        cluster = await world.cluster()
        world.conductor.begin(await world.run("first"))
        await world.on_nodes("first")
        world.conductor.begin(await world.run("r", created=11))
        await world.until("r", lambda run: run.status is S.QUEUED)
        writing, go = threading.Event(), threading.Event()
        world.core.store.write(lambda tx: (writing.set(), go.wait(20)))
        assert await asyncio.to_thread(writing.wait, 20)
        canceling = asyncio.ensure_future(world.conductor.cancel("r"))
        await asyncio.sleep(0)
        world.engine.ended("first.1")
        world.line.pump(cluster)
        assert world.engine.submitted[-1] == "r.1"
        go.set()
        run = await canceling
        assert run.status is S.CANCEL_REQUESTED and world.engine.canceled == ["r.1"]
        await world.tell("r", "ended", outcome={"canceled": True, "reason_code": "canceled"})
        assert world.get("r").status is S.CANCELED and world.engine.capacity(cluster).busy == 0

    in_world(work)


@pytest.mark.parametrize("reached", [(), (S.PREPARING,), (S.QUEUED,), (S.STARTING, S.PREPARING, S.QUEUED)])
def test_a_restart_takes_up_what_has_no_nodes(in_world: InWorld, reached: tuple[RunStatus, ...]) -> None:
    async def before(world: World) -> None:
        await world.cluster()
        await world.run("r", *reached)

    async def after(world: World) -> None:
        await world.conductor.resume()
        await world.on_nodes("r")
        assert world.engine.submitted == ["r.1"]

    in_world(before)
    in_world(after)


@pytest.mark.parametrize(
    ("reached", "started"),
    [((S.QUEUED,), False), ((S.RUNNING,), True), ((S.FINALIZING,), True), ((S.RUNNING, S.NOT_RESPONDING), True)],
)
def test_a_restart_reattaches_what_has_nodes(
    in_world: InWorld, reached: tuple[RunStatus, ...], started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def before(world: World) -> None:
        await world.cluster(nodes=2)
        await world.run("r", *reached)
        await world.update("r", nodes=["c-1"])

    async def after(world: World) -> None:
        told: list[bool] = []
        reattach = world.engine.reattach
        monkeypatch.setattr(
            world.engine, "reattach", lambda job, nodes, s: (told.append(s), reattach(job, nodes, s))[1]
        )
        await world.conductor.resume()
        assert told == [started] and world.engine.poll(["r.1"])["r.1"].nodes == ("c-1",)
        assert world.engine.submitted == [] and world.get("r").status is reached[-1] and world.conductor.active() == 0

    in_world(before)
    in_world(after)


def test_a_restart_finishes_a_cancel(in_world: InWorld) -> None:
    async def before(world: World) -> None:
        await world.cluster()
        await world.run("waiting", S.QUEUED, S.CANCEL_REQUESTED)
        await world.run("going", S.RUNNING, S.CANCEL_REQUESTED)
        await world.update("going", nodes=["c-0"])
        await world.run("over", S.RUNNING, S.COMPLETED)

    async def after(world: World) -> None:
        await world.conductor.resume()
        assert world.get("waiting").status is S.CANCELED
        assert world.engine.canceled == ["going.1"] and world.get("going").status is S.CANCEL_REQUESTED
        assert world.get("over").status is S.COMPLETED

    in_world(before)
    in_world(after)


def test_the_line_keeps_its_order_over_a_restart_whatever_the_clock_said(in_world: InWorld) -> None:
    async def before(world: World) -> None:
        await world.cluster()
        await world.run("going", S.RUNNING)
        await world.update("going", nodes=["c-0"])
        for created, run_id in ((30.0, "first"), (10.0, "second"), (20.0, "third")):
            await world.run(run_id, S.QUEUED, created=created)

    async def after(world: World) -> None:
        await world.conductor.resume()
        for run_id in ("first", "second", "third"):
            await world.until(run_id, lambda run: bool(run.environment))
        for before, run_id in (("going", "first"), ("first", "second"), ("second", "third")):
            await world.tell(before, "ended", outcome={"reason_code": "completed"})
            await world.on_nodes(run_id)
        assert world.engine.submitted == ["first.1", "second.1", "third.1"]

    in_world(before)
    in_world(after)


def test_priority_decides_who_is_next_also_after_a_restart(in_world: InWorld) -> None:
    async def before(world: World) -> None:
        await world.cluster()
        await world.run("going", S.RUNNING)
        await world.update("going", nodes=["c-0"])
        await world.run("usual", S.QUEUED)
        await world.run("urgent", S.QUEUED)
        await world.core.write(lambda tx: tx.prioritize("urgent", 4))
        assert world.get("urgent").spec.priority == 4 and world.get("usual").spec.priority == 0

    async def after(world: World) -> None:
        await world.conductor.resume()
        while world.line.length("c") < 2:
            await asyncio.sleep(0)
        await world.tell("going", "ended", outcome={"reason_code": "completed"})
        await world.on_nodes("urgent")
        assert world.engine.submitted == ["urgent.1"] and world.line.length("c") == 1

    in_world(before)
    in_world(after)


def test_a_restart_knows_who_holds_nodes_before_anybody_is_placed(in_world: InWorld) -> None:
    async def before(world: World) -> None:
        await world.cluster()
        await world.run("waiting", S.QUEUED)
        await world.run("stopping", S.QUEUED, S.CANCEL_REQUESTED)
        await world.run("going", S.RUNNING)
        await world.update("going", nodes=["c-0"])

    async def after(world: World) -> None:
        await world.conductor.resume()
        while world.line.length("c") < 1:
            await asyncio.sleep(0)
        assert world.engine.submitted == []
        reason = world.line.reason("c", "waiting")
        assert reason is not None and "going has 1 node" in reason.message

    in_world(before)
    in_world(after)


class _Slow(FakeEngine):
    """Takes every job, and has no nodes for it before ``come``."""

    come = False

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        found = super().poll(ids)
        return found if self.come else {i: JobState(Phase.PENDING) for i in found}


def test_a_run_whose_nodes_are_added_waits_for_them_and_says_so(in_world: InWorld) -> None:
    engine = _Slow()

    async def work(world: World) -> None:
        await world.cluster()
        world.conductor.begin(await world.run("r"))
        run = await world.until("r", lambda run: run.status is S.QUEUED)
        assert run.nodes == () and run.reason is not None and run.reason.message == "1 node is being added by local"
        engine.come = True
        world.line.engine_changed("local")
        assert (await world.on_nodes("r")).nodes == ("c-0",)

    in_world(work, engine)


def test_cancel_of_a_run_whose_nodes_are_added_gives_them_up_at_once(in_world: InWorld) -> None:
    engine = _Slow()

    async def work(world: World) -> None:
        await world.cluster()
        world.conductor.begin(await world.run("r"))
        await world.until("r", lambda run: run.status is S.QUEUED)
        assert (await world.conductor.cancel("r")).status is S.CANCELED
        assert engine.canceled == ["r.1"] and engine.poll(["r.1"]) == {}
        engine.come = True
        world.conductor.begin(await world.run("next"))
        await world.on_nodes("next")

    in_world(work, engine)


class _GivesUp(_Slow):
    """Loses what waits for its nodes, when told to; it has it until it is told of its end."""

    gives_up = False

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        lost = JobState(Phase.LOST, message="no machine came within 30 minutes")
        return {i: lost if self.gives_up else state for i, state in super().poll(ids).items()}


def test_a_run_whose_nodes_never_come_fails_with_words_and_holds_up_nobody(in_world: InWorld) -> None:
    engine = _GivesUp()

    async def work(world: World) -> None:
        await world.cluster()
        world.conductor.begin(await world.run("r"))
        await world.until("r", lambda run: run.status is S.QUEUED)
        engine.gives_up = True
        world.line.engine_changed("local")
        run = await world.until("r", lambda run: run.status is S.FAILED)
        assert run.reason is not None and "no machine came within 30 minutes" in run.reason.message
        assert engine.poll(["r.1"]) == {}
        engine.gives_up, engine.come = False, True
        world.conductor.begin(await world.run("next"))
        await world.on_nodes("next")

    in_world(work, engine)
