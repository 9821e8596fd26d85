"""The line in front of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import EnvironmentLaunch
from windlassd.compute.base import Capacity, JobSpec, JobState, NoCapacity, Phase, Plan
from windlassd.compute.fake import FakeEngine
from windlassd.control.queue import Line
from windlassd.control.waits import ordinal
from windlassd.testing.engine_suite import job_of

TWO = ClusterSpec("two", max_nodes=2)


class Place:
    """A line in front of a fake engine."""

    def __init__(self) -> None:
        self.engine: FakeEngine = FakeEngine()
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
        assert place.reason("b") == "1st in line on two, waits for 2 nodes, 1 free; a has 1 node without a time limit"
        reserved = "1 free; reserved for b, which is first in line"
        assert place.reason("c") == f"2nd in line on two, waits for 1 node, {reserved}"
        assert place.reason("d") == f"3rd in line on two, waits for 1 node, {reserved}"
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
    assert ordinal(number) == word


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


def test_priority_goes_before_arrival_and_may_change_while_it_waits() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        first, second = await place.ask("first", 2, 2), await place.ask("second", 3, 2)
        urgent = asyncio.create_task(place.line.place(job_of("urgent", TWO, 2), 4, 5))
        await settle()
        assert [entry["run_id"] for entry in place.line.listed("two", 10)] == ["urgent", "first", "second"]
        place.line.prefer("two", "second", 9)
        place.line.prefer("two", "nobody", 9)
        listed = place.line.listed("two", 2)
        assert [(entry["run_id"], entry["place"], entry["priority"]) for entry in listed] == [
            ("second", 1, 9), ("urgent", 2, 5)
        ]  # fmt: skip
        for run_id, task in (("a", second), ("second", urgent), ("urgent", first)):
            await place.end(run_id)
            await task
        assert place.engine.submitted == ["a.1", "second.1", "urgent.1", "first.1"]

    placed(work)


def test_a_run_with_a_limit_passes_one_that_waits_for_longer() -> None:
    async def work(place: Place) -> None:
        await place.line.place(_limited(job_of("a", TWO), 1000), 1)
        big = await place.ask("big", 2, 2)
        short = asyncio.create_task(place.line.place(_limited(job_of("short", TWO), 900), 3))
        long = asyncio.create_task(place.line.place(_limited(job_of("long", TWO), 1100), 4))
        await settle()
        assert place.engine.submitted == ["a.1", "short.1"] and short.done() and not long.done()
        message = place.reason("big")
        assert message is not None and "a has 1 node until " in message and "short has 1 node until " in message
        assert message.count("UTC at the latest") == 2
        await place.end("short")
        assert not long.done() and not big.done()
        await place.end("a")
        assert big.done() and not long.done()
        long.cancel()

    placed(work)


def test_a_run_larger_than_its_shrunk_cluster_says_so_and_is_passed() -> None:
    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        big, small = await place.ask("big", 2, 2), await place.ask("small", 3)
        place.line.changed(replace(TWO, max_nodes=1))
        await place.end("a", replace(TWO, max_nodes=1))
        assert small.done() and not big.done()
        assert place.reason("big") == (
            "1st in line on two, waits for 2 nodes, 0 free; two has at most 1 node now: update max_nodes "
            "(`windlass compute update two --max-nodes 2`) or cancel it"
        )
        place.line.changed(TWO)
        await place.end("small")
        assert await big == "big.1"

    placed(work)


def test_what_an_earlier_server_placed_is_known() -> None:
    async def work(place: Place) -> None:
        going = _limited(job_of("going", TWO), 600)
        place.engine.reattach(going, ["two-0"], True)
        place.line.hold(going, ran_s=500.0)
        await place.ask("big", 1, 2)
        passes = asyncio.create_task(place.line.place(_limited(job_of("passes", TWO), 90), 2))
        late = asyncio.create_task(place.line.place(_limited(job_of("late", TWO), 110), 3))
        await settle()
        assert passes.done() and not late.done(), "going ends within 100 s and its grace"
        late.cancel()

    placed(work)


class Elastic(FakeEngine):
    """A cluster whose nodes come when ``grow`` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.there = 0
        self.pending: dict[str, JobSpec] = {}

    def submit(self, plan: Plan) -> str:
        job = plan.job
        busy = super().capacity(job.cluster).busy
        if self.there - busy >= job.node_count:
            return super().submit(plan)
        if job.node_count + busy + sum(other.node_count for other in self.pending.values()) > job.cluster.max_nodes:
            raise NoCapacity("full")
        self.pending[job.native_id] = job
        self.submitted.append(job.native_id)
        return job.native_id

    def grow(self, nodes: int) -> None:
        self.there += nodes
        for native_id, job in list(self.pending.items()):
            if self.there - super().capacity(job.cluster).busy >= job.node_count:
                del self.pending[native_id]
                super().submit(self.plan(job))

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        pending = {i: JobState(Phase.PENDING, message="asked of the autoscaler") for i in ids if i in self.pending}
        return {**super().poll(ids), **pending}

    def ended(self, native_id: str) -> None:
        self.pending.pop(native_id, None)
        super().ended(native_id)

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        busy = super().capacity(cluster).busy
        return Capacity(target=self.there, current=self.there, idle=self.there - busy, busy=busy)


def test_nodes_are_added_for_the_first_only_and_it_waits_for_them() -> None:
    async def work(place: Place) -> None:
        engine = place.engine = Elastic()
        four = replace(TWO, max_nodes=4)
        big, small = await place.ask("big", 1, 3, four), await place.ask("small", 2, 2, four)
        assert big.done() and not small.done() and list(engine.pending) == ["big.1"]
        assert place.reason("big") == "3 nodes are being added by local: asked of the autoscaler"
        assert place.reason("small") == "1st in line on two, waits for 2 nodes, 0 free; big has 3 nodes coming"
        assert place.line.waits("big") and place.line.waits("small")
        arriving = asyncio.create_task(place.line.arrived(job_of("big", four, 3)))
        await settle()
        engine.grow(2)
        place.line.engine_changed("fake")
        place.line.engine_changed("local")
        await settle()
        assert not arriving.done() and not small.done(), "the idle nodes are promised"
        engine.grow(2)
        place.line.engine_changed("local")
        assert len((await arriving).nodes) == 3 and not place.line.waits("big")
        await place.end("big", four)
        assert await small == "small.1"

    placed(work)


def test_an_engine_that_gives_up_a_run_it_took_says_so() -> None:
    async def work(place: Place) -> None:
        engine = place.engine = Elastic()
        await place.ask("a", 1, 2)
        arriving = asyncio.create_task(place.line.arrived(job_of("a", TWO, 2)))
        await settle()
        engine.ended("a.1")
        place.line.engine_changed("local")
        with pytest.raises(ComputeTargetException, match="local could not get nodes"):
            await arriving

    placed(work)


class Apart(FakeEngine):
    """Has nodes free, and not on machines of their own."""

    def submit(self, plan: Plan) -> str:
        if plan.job.node_count > 1:
            raise NoCapacity("two has 1 of 2 machines free")
        return super().submit(plan)


def test_what_an_engine_says_against_the_numbers_is_told() -> None:
    async def work(place: Place) -> None:
        place.engine = Apart()
        gang = await place.ask("gang", 1, 2)
        assert not gang.done()
        assert place.reason("gang") == "1st in line on two, waits for 2 nodes, 2 free; two has 1 of 2 machines free"

    placed(work)


class Shared(FakeEngine):
    """Every cluster is on the same three machines."""

    def pool(self, cluster: ClusterSpec) -> str:
        return "machines"

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        idle, busy = len(self._free(cluster)), cluster.max_nodes - len(super()._free(cluster))
        return Capacity(cluster.max_nodes, busy + idle, idle, busy)

    def _free(self, cluster: ClusterSpec) -> list[str]:
        return super()._free(cluster)[: 3 - sum(len(nodes) for _, nodes in self._jobs.values())]


def test_clusters_on_the_same_machines_take_turns_and_say_who_is_first() -> None:
    async def work(place: Place) -> None:
        place.engine = Shared()
        low = replace(TWO, name="low", vm_priority="lowpriority", max_nodes=3)
        three = replace(TWO, max_nodes=3)
        await place.ask("a", 1, 3, low)
        cheap, dear = await place.ask("cheap", 2, 3, low), await place.ask("dear", 3, 3, three)
        assert place.line.reason("low", "cheap").message == (  # type: ignore[union-attr]
            "1st in line on low, waits for 3 nodes, 0 free; dear is first in line (on two, which shares the machines)"
        )
        await place.end("a", low)
        assert dear.done() and not cheap.done()
        await place.end("dear", three)
        assert await cheap == "cheap.1"

    placed(work)


def test_a_long_line_is_left_in_any_order_and_the_loop_is_not_held_up() -> None:
    """The cost of one leaving must not grow with the line: 5,000 that leave would take very long."""

    async def work(place: Place) -> None:
        await place.ask("a", 1, 2)
        tasks = [asyncio.create_task(place.line.place(job_of(f"r{n}", TWO), n + 2)) for n in range(5_000)]
        await asyncio.sleep(0)
        assert place.line.length("two") == 5_000
        assert place.reason("r4999") == "5000th in line on two, waits for 1 node, 0 free; r0 is first in line"
        for task in tasks[::-1]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert place.line.length("two") == 0 and not place.line.waits("r7")

    placed(work)


def _limited(job: JobSpec, seconds: int) -> JobSpec:
    return replace(job, launch=replace(job.launch, max_run_duration_s=seconds))


def test_where_the_environment_is_made_on_the_node_a_limit_counts_from_the_start_of_the_script() -> None:
    async def work(place: Place) -> None:
        launch = EnvironmentLaunch(EnvironmentSpec(), {})
        made_there = _limited(job_of("a", TWO), 100)
        made_there = replace(made_there, launch=replace(made_there.launch, environment=launch))
        await place.line.place(made_there, 1)
        await place.ask("big", 2, 2)
        short = asyncio.create_task(place.line.place(_limited(job_of("short", TWO), 50), 3))
        await settle()
        assert not short.done() and "a has 1 node without a time limit" in str(place.reason("big"))
        place.line.started(TWO, "a.1")
        place.line.pump(TWO)
        await settle()
        assert short.done() and "a has 1 node until" in str(place.reason("big"))

    placed(work)


def test_the_end_of_an_earlier_attempt_takes_nothing_from_the_next() -> None:
    async def work(place: Place) -> None:
        first, again = (_limited(job_of("a", TWO, attempt=attempt), 100) for attempt in (1, 2))
        await place.line.place(first, 1)
        await place.line.place(again, 1)
        await place.ask("big", 2, 2)
        await place.end("a")
        assert "a has 1 node until" in str(place.reason("big"))
        place.engine.ended("a.2")
        place.line.pump(TWO)
        assert place.engine.submitted[-1] == "big.1"

    placed(work)
