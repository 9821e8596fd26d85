"""Who is woken by what."""

from __future__ import annotations

import asyncio

from windlassd.control.bus import Bus


def test_a_watcher_of_a_run_hears_all_of_it_and_nothing_else() -> None:
    async def work() -> None:
        bus = Bus()
        with bus.subscribe("a") as one, bus.subscribe(None) as every:
            for run_id, kind in (("a", "log"), ("b", "run"), ("a", "run"), ("a", "log")):
                bus.touch(run_id, kind)
            assert await one.wait(10) == {("a", "log"), ("a", "run")}
            assert await every.wait(10) == {("a", "run"), ("b", "run")}
            assert await one.wait(0) == set()

    asyncio.run(work())


def test_a_change_while_nobody_waits_is_kept_and_one_while_waiting_wakes() -> None:
    async def work() -> None:
        bus = Bus()
        with bus.subscribe("a") as watcher:
            waiting = asyncio.create_task(watcher.wait(10))
            await asyncio.sleep(0)
            bus.touch("a", "metrics")
            assert await waiting == {("a", "metrics")}
            bus.touch("a", "files")
            assert await watcher.wait(0.0001) == {("a", "files")}

    asyncio.run(work())


def test_who_left_is_forgotten() -> None:
    async def work() -> None:
        bus = Bus()
        with bus.subscribe("a"), bus.subscribe("a"):
            assert bus.subscribers == 2
        assert bus.subscribers == 0 and not bus._of_run
        bus.touch("a", "run")

    asyncio.run(work())
