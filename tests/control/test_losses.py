"""Nodes that are lost: when, what becomes of their runs, and words that come late."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control.world import World, event, statuses
from windlass.specs._codec import to_wire
from windlass.specs.launch import Outcome
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.compute.base import JobState, Phase
from windlassd.compute.fake import FakeEngine
from windlassd.control.losses import Patience, Seen, Verdict, lease_of, verdict

SECONDS = st.floats(0, 1e5)
SEEN = st.builds(Seen, SECONDS, st.booleans(), st.none() | st.floats(0.5, 1e4))
PATIENCE = st.builds(Patience, st.floats(0.01, 1e4), st.floats(0.5, 1e4))
ORDER = (Verdict.HERE, Verdict.LOST, Verdict.OVER)


@given(SEEN, PATIENCE)
def test_no_attempt_begins_before_the_lease_of_the_last_one_has_lapsed(seen: Seen, patience: Patience) -> None:
    if verdict(seen, patience) is Verdict.OVER and seen.lease_s is not None:
        assert seen.silence_s > 2 * seen.lease_s


@given(SEEN, PATIENCE, SECONDS)
def test_more_silence_and_an_engines_word_never_bring_a_node_back(seen: Seen, patience: Patience, more: float) -> None:
    now = ORDER.index(verdict(seen, patience))
    later = Seen(seen.silence_s + more, seen.engine_lost, seen.lease_s)
    assert ORDER.index(verdict(later, patience)) >= now
    assert ORDER.index(verdict(Seen(seen.silence_s, True, seen.lease_s), patience)) >= now


@given(PATIENCE, st.none() | st.floats(0.5, 1e4), st.booleans())
def test_who_was_just_heard_is_here_and_nobody_is_waited_for_without_end(
    patience: Patience, lease_s: float | None, engine_lost: bool
) -> None:
    assert verdict(Seen(0.0, engine_lost, lease_s), patience) is Verdict.HERE
    longest = max(patience.node_lost_after_s, patience.heartbeat_timeout_s, 2 * (lease_s or 0))
    assert verdict(Seen(longest * 1.01 + 1, engine_lost, lease_s), patience) is Verdict.OVER


def test_each_rule_by_itself() -> None:
    patience = Patience(heartbeat_timeout_s=30, node_lost_after_s=300)
    assert verdict(Seen(31, engine_lost=False), patience) is Verdict.HERE  # silence alone only makes it NotResponding
    assert verdict(Seen(31, engine_lost=True), patience) is Verdict.OVER
    assert verdict(Seen(301), patience) is Verdict.OVER
    assert verdict(Seen(31, True, lease_s=60), patience) is Verdict.LOST
    assert verdict(Seen(119, True, lease_s=60), patience) is Verdict.LOST
    assert verdict(Seen(121, False, lease_s=60), patience) is Verdict.OVER
    assert verdict(Seen(301, False, lease_s=600), patience) is Verdict.LOST


def test_only_runs_that_may_be_begun_anew_elsewhere_have_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_LEASE_S", "7")
    assert [lease_of(2, True), lease_of(2, False), lease_of(0, True)] == [7.0, None, None]


class Apart(FakeEngine):
    """A fake engine whose nodes are other machines; the test says which jobs are lost."""

    elsewhere = True

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, str] = {}

    def poll(self, ids: Any) -> Any:
        found = dict(super().poll(ids))
        return {i: JobState(Phase.LOST, s.nodes, self.lost[i]) if i in self.lost else s for i, s in found.items()}


Work = Callable[[World, Apart], Awaitable[None]]


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    for name, value in (("LEASE_S", "10"), ("NODE_LOST_AFTER_S", "300"), ("HEARTBEAT_TIMEOUT_S", "30")):
        monkeypatch.setenv(f"WINDLASS_{name}", value)

    def run(work: Work) -> None:
        async def main() -> None:
            engine = Apart()
            async with World(str(tmp_path), engine) as world:
                await world.cluster(nodes=4)
                await work(world, engine)

        asyncio.run(main())

    return run


async def started(world: World, **spec: Any) -> RunRecord:
    """A run that was conducted to its nodes and has started on all of them."""
    record = await world.run("r", **spec)
    world.conductor.begin(record)
    return await start_again(world, 1)


async def start_again(world: World, attempt: int) -> RunRecord:
    record = await world.until("r", lambda run: bool(run.nodes) and run.attempt == attempt)
    for rank, node in enumerate(record.nodes):
        await tell(world, "started", rank, attempt, node=node, nodes=list(record.nodes))
        if (lease := lease_of(record.spec.max_retries, True)) is not None:
            world.hub.leases["r", attempt, rank] = lease
    return world.get("r")


async def tell(world: World, kind: str, rank: int, attempt: int, **more: Any) -> None:
    said = {**event("r", kind, **more), "attempt": attempt, "rank": rank}
    await world.events.take(f"r.{attempt}.{rank}", [said])


async def silent(world: World, seconds: float, *ranks: int) -> None:
    """Look once, while these ranks have been silent for so long."""
    world.hub.silence = lambda key: seconds if key[2] in ranks else 0.0
    await world.monitor.look()


def test_a_lost_node_fails_its_run_with_words_one_can_act_on(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world)
        await silent(world, 299, 0)
        assert world.get("r").status is RunStatus.NOT_RESPONDING
        await silent(world, 301, 0)
        record = world.get("r")
        assert (record.status, record.reason and record.reason.code) == (RunStatus.FAILED, "node_lost")
        words = record.reason.message if record.reason else ""
        assert "c-0" in words and "nothing was heard from it since 20" in words and "max_retries" in words
        assert record.parts[0]["status"] == "lost"
        assert engine.poll(["r.1"]) == {}  # its node is free

    apart(work)


def test_what_the_engine_says_shortens_the_wait_and_stands_in_the_words(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world)
        engine.lost["r.1"] = "the raylet died."
        await silent(world, 29, 0)
        assert world.get("r").status is RunStatus.RUNNING
        await silent(world, 31, 0)
        record = world.get("r")
        assert record.status is RunStatus.FAILED
        assert "(the raylet died)" in (record.reason.message if record.reason else "")

    apart(work)


def test_a_healed_link_changes_nothing_but_the_status_for_a_while(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world)
        await silent(world, 200, 0)
        await silent(world, 0)
        assert statuses(world.get("r"))[-2:] == ["NotResponding", "Running"]
        await tell(world, "ended", 0, 1, outcome=to_wire(Outcome()))
        assert world.get("r").status is RunStatus.COMPLETED

    apart(work)


def test_a_run_on_this_machine_is_never_lost(tmp_path: Path) -> None:
    async def main() -> None:
        async with World(str(tmp_path)) as world:
            await world.cluster()
            await started(world)
            await silent(world, 1e6, 0)
            assert world.get("r").status is RunStatus.NOT_RESPONDING

    asyncio.run(main())


def test_with_retries_it_waits_for_the_lease_and_begins_anew(
    apart: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "5")

    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        folder = world.core.folder("r")
        folder.make()
        with open(folder.log("outputs/first"), "w") as f:
            f.write("of the first attempt")
        (arriving := Path(folder.agent, "arriving")).mkdir()
        (arriving / "half.part").write_text("of the first attempt")
        uploaded = {"path": "outputs/first", "size": 20, "sha256": None}
        await world.core.write(lambda tx: tx.keep_files("r", [uploaded]))
        engine.lost["r.1"] = "gone"
        await silent(world, 19, 0)
        assert (world.get("r").attempt, engine.submitted) == (1, ["r.1"])
        assert "then attempt 2 begins" in str(world.get("r").reason)
        await silent(world, 21, 0)
        record = await world.until("r", lambda run: run.attempt == 2 and bool(run.nodes))
        assert engine.submitted == ["r.1", "r.2"]
        assert record.status is RunStatus.NOT_RESPONDING  # until it runs again
        assert os.path.exists(os.path.join(folder.root, "attempts", "1", "files", "outputs", "first"))
        assert not os.path.exists(os.path.join(folder.files, "outputs", "first"))
        assert not list(Path(folder.root).rglob("half.part"))
        assert world.core.read(lambda tx: tx.files_of("r")) == ()  # nobody promises what has been moved
        world.hub.silence = lambda key: 0.0
        await world.monitor.look()
        assert world.get("r").status is RunStatus.NOT_RESPONDING  # it has not started
        await start_again(world, 2)
        assert world.get("r").status is RunStatus.RUNNING
        await tell(world, "ended", 0, 1, outcome=to_wire(Outcome()))  # the first comes late
        assert world.get("r").status is RunStatus.RUNNING
        await tell(world, "ended", 0, 2, outcome=to_wire(Outcome()))
        assert world.get("r").status is RunStatus.COMPLETED
        assert not world.get("r").verified  # what the first attempt left is not in its list yet

    apart(work)


def test_the_last_attempt_fails_and_says_which_it_was(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        await silent(world, 21, 0)
        await start_again(world, 2)
        await silent(world, 21, 0)
        record = world.get("r")
        assert record.status is RunStatus.FAILED
        assert "attempt 2 of 2" in (record.reason.message if record.reason else "")

    apart(work)


def test_one_lost_node_of_several_ends_the_others_before_the_next_attempt(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=3, node_count=2)
        await silent(world, 21, 1)
        assert engine.canceled == ["r.1"]
        assert engine.submitted == ["r.1"]  # rank 0 has not ended
        await tell(
            world, "ended", 0, 1, outcome=to_wire(Outcome(canceled=True, reason_code="part_failed", message="x"))
        )
        record = await world.until("r", lambda run: run.attempt == 2 and len(run.nodes) == 2)
        assert {part["status"] for part in record.parts} == {"given"}

    apart(work)


def test_a_script_that_fails_because_another_node_is_gone_is_begun_anew_too(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1, node_count=2)
        failed = Outcome(rank=0, exit_code=1, reason_code="exit_code", message="NCCL: connection reset")
        await tell(world, "ended", 0, 1, outcome=to_wire(failed))
        assert world.get("r").attempt == 1
        await silent(world, 21, 1)
        assert world.get("r").attempt == 2

    apart(work)


def test_what_the_script_does_itself_is_never_repeated(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=5)
        failed = Outcome(rank=0, exit_code=1, reason_code="exit_code", message="it failed")
        await tell(world, "ended", 0, 1, outcome=to_wire(failed))
        assert (world.get("r").status, world.get("r").attempt) == (RunStatus.FAILED, 1)

    apart(work)


@pytest.mark.parametrize("code", ["place_lost", "lease_lapsed"])
def test_an_agent_that_says_that_it_lost_its_place_is_believed(apart: Callable[[Work], None], code: str) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        await tell(world, "ended", 0, 1, outcome=to_wire(Outcome(reason_code=code, message="It is gone.")))
        assert world.get("r").attempt == 2

    apart(work)


def test_a_canceled_run_is_not_begun_anew(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        await world.conductor.cancel("r")
        await silent(world, 21, 0)
        assert (world.get("r").status, world.get("r").attempt) == (RunStatus.CANCELED, 1)

    apart(work)


def test_a_run_between_two_attempts_can_be_canceled(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        blocker = await world.run("blocker", node_count=4)
        world.conductor.begin(blocker)
        await world.until("blocker", lambda run: run.status is RunStatus.QUEUED)
        while not world.line.waits("blocker"):  # it is in line before the next attempt is
            await asyncio.sleep(0)
        await silent(world, 21, 0)
        await world.on_nodes("blocker")
        await world.conductor.cancel("r")
        record = await world.until("r", lambda run: run.status.final)
        assert record.status is RunStatus.CANCELED

    apart(work)


def test_a_server_that_ends_between_two_attempts_goes_on_with_the_next(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("WINDLASS_LEASE_S", "10")

    async def main() -> None:
        engine = Apart()
        async with World(str(tmp_path), engine) as world:
            await world.cluster()
            await started(world, max_retries=1)
            monkeypatch.setattr(world.conductor, "begin_anew", lambda record: None)  # it is killed right here
            await silent(world, 21, 0)
            assert (world.get("r").attempt, world.get("r").nodes) == (2, ())
        async with World(str(tmp_path), Apart()) as world:
            await world.conductor.resume()
            record = await world.until("r", lambda run: bool(run.nodes))
            assert record.attempt == 2

    asyncio.run(main())


def test_late_words_for_a_final_run_are_kept_and_change_nothing(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        await started(world)
        await silent(world, 301, 0)
        files = ({"path": "outputs/late", "size": 1},)
        await tell(world, "ended", 0, 1, outcome=to_wire(Outcome(files=files)))
        record = world.get("r")
        assert (record.status, record.reason and record.reason.code) == (RunStatus.FAILED, "node_lost")
        assert [f["path"] for f in world.core.read(lambda tx: tx.files_of("r"))] == ["outputs/late"]

    apart(work)


def test_a_node_whose_clock_is_wrong_does_not_bend_the_history(apart: Callable[[Work], None]) -> None:
    async def work(world: World, engine: Apart) -> None:
        record = await world.run("r")
        world.conductor.begin(record)
        await world.on_nodes("r")
        world.hub.ahead = -3 * 86400.0
        began = time.time()
        await tell(world, "started", 0, 1, node="c-0", nodes=["c-0"], time=began + 0.25 - 3 * 86400.0)
        world.hub.ahead = 3600.0
        await tell(world, "ended", 0, 1, outcome=to_wire(Outcome()), time=began + 7200.0)
        found = world.get("r")
        assert found.started == pytest.approx(min(began + 0.25, time.time()), abs=0.3)
        assert found.ended is not None and found.started is not None
        assert found.started <= found.ended <= time.time()

    apart(work)


def test_a_lease_holds_whatever_the_setting_is_after_a_restart(tmp_path: Path, monkeypatch: Any) -> None:
    async def main() -> None:
        monkeypatch.setenv("WINDLASS_LEASE_S", "10")
        engine = Apart()
        async with World(str(tmp_path), engine) as world:
            await world.cluster()
            await started(world, max_retries=1)
        monkeypatch.setenv("WINDLASS_LEASE_S", "1")
        engine = Apart()
        async with World(str(tmp_path), engine) as world:
            await world.conductor.resume()
            assert engine._jobs["r.1"][0].launch.lease_s == 10

    asyncio.run(main())


def test_a_lease_counts_though_nothing_is_known_but_the_record(
    apart: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a restart in which the run's nodes could not be had again."""
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "5")

    async def work(world: World, engine: Apart) -> None:
        await started(world, max_retries=1)
        world.hub.leases.clear()
        engine.lost["r.1"] = "gone"
        await silent(world, 19, 0)
        assert world.get("r").attempt == 1
        await silent(world, 21, 0)
        assert world.get("r").attempt == 2

    apart(work)
