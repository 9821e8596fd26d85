"""Silent agents: shown, and back; never ended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from control.conftest import InWorld
from control.world import World, statuses
from windlass import settings
from windlass.specs.status import RunStatus
from windlassd.store.base import StoreFull

S = RunStatus


async def going(world: World, run_id: str = "r") -> None:
    await world.run(run_id, S.QUEUED, S.RUNNING, target="local")
    await world.update(run_id, nodes=["local-0"])


def test_silence_and_back(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await going(world)
        await world.monitor.look()
        assert world.get("r").status is S.RUNNING
        world.hub.silence = lambda key: 31.0
        for _ in range(2):
            await world.monitor.look()
        run = world.get("r")
        assert run.status is S.NOT_RESPONDING and run.reason is not None
        assert run.reason.code == "heartbeat_lost" and "for 30 s" in run.reason.message
        world.hub.silence = lambda key: 0.1
        await world.monitor.look()
        run = world.get("r")
        assert run.status is S.RUNNING and run.reason is not None and "local-0" in run.reason.message
        assert statuses(run) == ["NotStarted", "Queued", "Running", "NotResponding", "Running"]

    in_world(work)


def test_only_running_runs_can_be_silent(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await world.run("queued", S.QUEUED, target="local")
        await world.run("starting", S.QUEUED, target="local")
        await world.update("starting", nodes=["local-0"])
        await world.run("finalizing", S.RUNNING, S.FINALIZING, target="local")
        await world.update("finalizing", nodes=["local-1"])
        world.hub.silence = lambda key: 1000.0
        await world.monitor.look()
        found = [world.get(run_id).status for run_id in ("queued", "starting", "finalizing")]
        assert found == [S.QUEUED, S.QUEUED, S.FINALIZING]

    in_world(work)


def test_a_run_that_ends_while_it_is_looked_at_stays_ended(in_world: InWorld) -> None:
    async def work(world: World) -> None:
        await going(world)
        await going(world, "other")

        def ends_now(key: tuple[str, int]) -> float:
            if key[0] == "r":
                end = world.core.store.write(lambda tx: tx.transition("r", S.COMPLETED, now=9.0))
                end.result(20)
            return 1000.0

        world.hub.silence = ends_now
        await world.monitor.look()
        assert (world.get("r").status, world.get("other").status) == (S.COMPLETED, S.NOT_RESPONDING)

    in_world(work)


def test_it_goes_on_after_a_full_disk(in_world: InWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.02")

    async def work(world: World) -> None:
        await going(world)
        full = [StoreFull("no space")]
        write = world.core.write

        async def failing(work):  # type: ignore[no-untyped-def]
            if full:
                raise full.pop()
            return await write(work)

        monkeypatch.setattr(world.core, "write", failing)
        world.hub.silence = lambda key: 1000.0
        watching = asyncio.create_task(world.monitor.run())
        await world.until("r", lambda run: run.status is S.NOT_RESPONDING)
        watching.cancel()

    in_world(work)


def test_a_settings_file_half_written_keeps_the_limits_from_before(in_world: InWorld, home: Path) -> None:
    file = home / "settings.json"
    file.write_text('{"heartbeat_s": 0.02, "heartbeat_timeout_s": 7}')
    settings.check()  # as a server does when it starts

    async def work(world: World) -> None:
        await going(world)
        file.write_text('{"heartbeat_s": 0.02, "heartbeat_tim')
        watching = asyncio.create_task(world.monitor.run())
        world.hub.silence = lambda key: 8.0
        run = await world.until("r", lambda run: run.status is S.NOT_RESPONDING)
        assert run.reason is not None and "for 7 s" in run.reason.message
        file.write_text('{"heartbeat_s": 0.02, "heartbeat_timeout_s": 9}')
        await world.until("r", lambda run: run.status is S.RUNNING)
        watching.cancel()

    in_world(work)
