"""The line in front of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from windlass.specs.cluster import ClusterSpec
from windlassd.compute.fake import FakeEngine
from windlassd.control.queue import Line, _ordinal
from windlassd.testing.engine_suite import job_of

TWO = ClusterSpec("two", max_nodes=2)


class Place:
    """A line in front of a fake engine."""

    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.line = Line(lambda cluster: self.engine)

    async def ask(self, run_id: str, created: float, nodes: int = 1, cluster: ClusterSpec = TWO) -> asyncio.Task[str]:
        """A run that has taken its place in line (or its nodes)."""
        task = asyncio.create_task(self.line.place(job_of(run_id, cluster, nodes), created))
        await settle()
        return task

    async def end(self, run_id: str, cluster: ClusterSpec = TWO) -> None:
        """The run's nodes are free again."""
        self.engine.ended(f"{run_id}.1")
        self.line.pump(cluster)
        await settle()

    def reason(self, run_id: str) -> str | None:
        """Why a run waits."""
        found = self.line.reason("two", run_id)
        return found.message if found else None


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def placed(work: Callable[[Place], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(Place()), 20))


def test_first_come_first_served_by_the_time_of_the_submit() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        late, early = await place.ask("late", 9), await place.ask("early", 5)
        await place.end("a")
        assert (await late, await early) == ("late.1", "early.1")
        assert place.engine.submitted == ["a.1", "early.1", "late.1"]

    placed(work)


def test_nobody_overtakes_the_head() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1)
        big, small = await place.ask("big", 2, 2), await place.ask("small", 3, 1)
        assert not big.done() and not small.done()  # one node is free, and it is the head's
        assert place.line.would_wait(job_of("other", TWO))
        await place.end("a")
        assert await big == "big.1" and not small.done()
        await place.end("big")
        assert await small == "small.1"

    placed(work)


def test_each_can_say_why_it_waits() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1)
        assert place.reason("a") is None
        tasks = [await place.ask("b", 2, 2), await place.ask("c", 3), await place.ask("d", 4)]
        assert place.reason("b") == "1st in line on two, waits for 2 nodes, 1 free"
        assert place.reason("c") == "2nd in line on two, waits for 1 node, 1 free"
        assert place.reason("d") == "3rd in line on two, waits for 1 node, 1 free"
        assert place.line.length("two") == 3
        for task in tasks:
            task.cancel()

    placed(work)


@pytest.mark.parametrize(
    ("number", "word"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (12, "12th"), (13, "13th"), (21, "21st"),
     (22, "22nd"), (101, "101st"), (111, "111th"), (113, "113th")],
)  # fmt: skip
def test_ordinals(number: int, word: str) -> None:
    assert _ordinal(number) == word


def test_who_cancels_leaves_the_line_and_lets_the_next_go() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1)
        big, small = await place.ask("big", 2, 2), await place.ask("small", 3)
        big.cancel()
        assert await small == "small.1"
        assert place.engine.submitted == ["a.1", "small.1"] and place.line.length("two") == 0
        with pytest.raises(asyncio.CancelledError):
            await big

    placed(work)


def test_a_grown_cluster_is_used_at_once() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        waiting = await place.ask("b", 2, 2)
        place.line.changed(replace(TWO, max_nodes=4))
        assert await waiting == "b.1"

    placed(work)


def test_an_engine_that_fails_for_one_job_serves_the_next() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        broken, good = await place.ask("broken", 2), await place.ask("good", 3)
        place.engine.fail_next = OSError("no route")
        await place.end("a")
        assert await good == "good.1"
        with pytest.raises(OSError, match="no route"):
            await broken

    placed(work)


def test_clusters_do_not_wait_for_each_other() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        waiting = await place.ask("b", 2)
        assert await (await place.ask("c", 3, 2, replace(TWO, name="other"))) == "c.1"
        assert place.line.reason("other", "b") is None and place.reason("b") is not None
        waiting.cancel()

    placed(work)
