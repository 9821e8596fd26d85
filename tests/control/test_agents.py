"""The agents' hub: what an agent is told when it connects, which versions it may have, and when another is started."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from windlass.specs.container import ContainerLaunch
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.launch import PROTOCOL, EnvironmentLaunch, LaunchSpec, PartKey
from windlass.specs.run import Reason
from windlassd.control import agents
from windlassd.control.agents import AgentHub, Hello

CANCELED = Reason("canceled", "The run was canceled.")
MADE_THERE = EnvironmentLaunch(EnvironmentSpec(), {})


def part(run_id: str) -> LaunchSpec:
    return LaunchSpec(run_id, 1, "local-0", 0, "train.py", (), "5" * 64, "/usr/bin/python3")


class Hub(AgentHub):
    """A hub that counts the agents it would start."""

    ensured = 0

    def _ensure(self, name: str) -> None:
        self.ensured += 1


class Connected:
    """An agent's line as the agent sees it."""

    def __init__(self, hub: AgentHub, hello: Hello, given_up: Any = ()) -> None:
        self._orders = hub.orders("local", hello, given_up)

    async def next(self) -> Mapping[str, Any]:
        """The next order that is no ping."""
        for _ in range(200):
            if found := await asyncio.wait_for(self._orders.__anext__(), 20):
                return found
        raise AssertionError("nothing but pings")

    async def hangs_up(self) -> None:
        assert isinstance(self._orders, AsyncIterator)
        await self._orders.aclose()  # type: ignore[attr-defined]

    async def ended(self) -> bool:
        try:
            await self.next()
        except StopAsyncIteration:
            return True
        return False


Work = Callable[[Hub], Awaitable[None]]


@pytest.fixture
def with_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Work], None]:
    monkeypatch.setattr(agents, "PING_S", 0.02)

    def run(work: Work) -> None:
        async def main() -> None:
            await work(Hub(str(tmp_path), asyncio.get_running_loop()))

        asyncio.run(main())

    return run


async def settled() -> None:
    """Until what other threads asked for was done on the loop."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def ids(found: Mapping[str, Any]) -> Any:
    return found["start"]["run_id"] if "start" in found else found["stop"]["run_id"]


def test_an_agent_is_given_what_waited_for_it(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        hub.start("local", part("a"))
        hub.adopt("local", part("b"), started=True)
        hub.adopt("local", part("c"), started=True)
        hub.start("local", part("d"))
        hub.stop("local", "d", 1, CANCELED)
        await settled()
        line = Connected(hub, Hello(1, {("c", 1, 0), ("z", 1, 0)}), [("z", 1, 0)])
        assert await line.next() == {"known": [["b", 1, 0]]}  # started, and not held: a killed predecessor's
        told = [await line.next() for _ in range(4)]
        assert [(*o, ids(o)) for o in told] == [("stop", "z"), ("start", "a"), ("start", "d"), ("stop", "d")]
        assert told[0]["stop"]["reason_code"] == "given_up"
        hub.start("local", part("e"))
        assert ids(await line.next()) == "e"
        json.dumps(told)

    with_hub(work)


def test_a_part_is_sent_again_until_it_has_started(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        hub.start("local", part("a"))
        await settled()
        for _ in range(2):
            line = Connected(hub, Hello(1))
            assert await line.next() == {"known": []} and ids(await line.next()) == "a"
            await line.hangs_up()
        hub.heard("local", ("a", 1, 0), started=True)
        line = Connected(hub, Hello(2))
        assert await line.next() == {"known": [["a", 1, 0]]}
        assert hub.ensured == 2  # another agent after each line that closed

    with_hub(work)


def test_a_part_that_has_ended_is_forgotten(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        hub.start("local", part("a"))
        await settled()
        hub.forget(("a", 1, 0))
        hub.stop("local", "a", 1, CANCELED)
        await settled()
        line = Connected(hub, Hello(1))
        assert await line.next() == {"known": []}
        hub.close()
        assert await line.next() == {"exit": {}} and await line.ended()
        assert hub.ensured == 0

    with_hub(work)


def test_an_agent_that_comes_while_the_server_ends_does_not_hold_it_up(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        hub.close()
        line = Connected(hub, Hello(1))
        assert await line.next() == {"known": []}
        assert await line.next() == {"exit": {}} and await line.ended()
        hub.detach()
        line = Connected(hub, Hello(1))
        assert await line.next() == {"known": []} and await line.ended()

    with_hub(work)


def test_an_ending_server_hangs_up_without_a_word(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        line = Connected(hub, Hello(1, {("a", 1, 0)}))
        await line.next()
        hub.detach()
        assert await line.ended() and hub.ensured == 0

    with_hub(work)


@pytest.mark.parametrize(
    "old", [Hello(7, {("a", 1, 0)}, protocol=PROTOCOL - 1, version="0.0.1"), Hello(7, {("a", 1, 0)}, version="0.0.1")]
)
def test_the_last_version_works_on_and_is_replaced_once_it_holds_nothing(
    with_hub: Callable[[Work], None], old: Hello
) -> None:
    async def work(hub: Hub) -> None:
        assert old.refusal is None and old.outdated
        line = Connected(hub, old)
        assert await line.next() == {"known": []}
        hub.start("local", part("b"))
        assert ids(await line.next()) == "b"
        hub.forget(("a", 1, 0))
        hub.start("local", part("c"))
        assert ids(await line.next()) == "c"
        for run_id in ("b", "c"):
            hub.forget((run_id, 1, 0))
        assert await line.next() == {"exit": {}} and await line.ended()
        assert hub.ensured == 1
        assert hub.connected() == []

    with_hub(work)


def test_an_agent_of_this_version_stays(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        orders = hub.orders("local", Hello(1), [])
        assert await orders.__anext__() == {"known": []}
        for _ in range(5):
            assert await orders.__anext__() == {}

    with_hub(work)


@pytest.mark.parametrize(("protocol", "age"), [(0, "an older"), (PROTOCOL + 1, "a newer")])
def test_a_part_elsewhere_whose_agent_is_of_another_version_is_told_at_once(
    with_hub: Callable[[Work], None], protocol: int, age: str
) -> None:
    async def work(hub: Hub) -> None:
        told: list[tuple[PartKey, str]] = []
        hub.unfit = lambda key, why: told.append((key, why))
        hub._note_elsewhere("local")
        hub.start("local", part("a"))
        await settled()
        line = Connected(hub, Hello(7, protocol=protocol, version="9.9"))
        assert "refused" in await line.next()
        hub.start("local", part("b"))  # it was here first
        await settled()
        assert [key[0] for key, _ in told] == ["a", "b"]
        assert all(age in why and "9.9" in why and "Install windlass" in why for _, why in told)

    with_hub(work)


@pytest.mark.parametrize(("protocol", "age"), [(0, "an older"), (PROTOCOL + 1, "a newer")])
def test_other_versions_are_refused_in_words_and_bring_their_runs_to_an_end(
    with_hub: Callable[[Work], None], protocol: int, age: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(hub: Hub) -> None:
        hub.adopt("local", part("a"), started=True)
        hub.adopt("local", part("b"), started=True)  # its own, from before; one it knows nothing of is not its business
        hub.start("local", part("c"))
        await settled()
        line = Connected(hub, Hello(7, {("a", 1, 0)}, protocol=protocol, version="9.9"))
        words = (await line.next())["refused"]
        for said in (age, "9.9", f"protocol {protocol}", "pid 7", "cancel what it runs"):
            assert said in words
        assert hub.connected()[0]["note"] == words
        hub.start("local", part("d"))
        hub.stop("local", "a", 1, CANCELED)
        assert ids(await line.next()) == "a"  # a stop gets through, a start does not
        hub.forget(("a", 1, 0))
        assert await line.next() == {"exit": {}} and await line.ended()
        successor = Connected(hub, Hello(8))
        assert await successor.next() == {"known": [["b", 1, 0]]}
        assert [ids(await successor.next()) for _ in range(2)] == ["c", "d"]

    with caplog.at_level(logging.ERROR):
        with_hub(work)
    assert "can give runs to" in caplog.text


def test_an_agent_that_knows_no_containers_gets_none(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        inside = replace(part("inside"), container=ContainerLaunch("sha256:abc", "unix:///e.sock"))
        hub.start("local", inside)
        await settled()
        old = Connected(hub, Hello(7, protocol=2, version="0.2"))
        assert await old.next() == {"known": []}
        hub.start("local", part("plain"))
        assert (await old.next())["start"]["run_id"] == "plain"
        waits = hub.why_waits("inside")
        assert waits and waits.code == "waits_for_agent" and "pid 7" in waits.message and "0.2" in waits.message
        assert hub.why_waits("plain") is None
        hub.forget(("plain", 1, 0))
        assert await old.next() == {"exit": {}}, "it holds nothing: one of this version is to take its place"
        await old.hangs_up()
        new = Connected(hub, Hello(8))
        await new.next()
        assert (await new.next())["start"]["container"]["image"] == "sha256:abc"
        assert hub.why_waits("inside") is None

    with_hub(work)


def ranks_of(run_id: str, count: int) -> list[LaunchSpec]:
    nodes = tuple(f"local-{rank}" for rank in range(count))
    return [replace(part(run_id), node=nodes[rank], node_rank=rank, nodes=nodes) for rank in range(count)]


def test_a_stop_reaches_every_part_of_the_attempt(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        for launch in [*ranks_of("a", 2), replace(part("a"), attempt=2)]:
            hub.start("local", launch)
        await settled()
        line = Connected(hub, Hello(1))
        assert [(await line.next()).keys() for _ in range(4)] == [{"known"}, {"start"}, {"start"}, {"start"}]
        hub.stop("local", "a", 1, CANCELED)
        stops = [(await line.next())["stop"] for _ in range(2)]
        assert [(stop["attempt"], stop["rank"]) for stop in stops] == [(1, 0), (1, 1)]

    with_hub(work)


def test_after_a_restart_each_part_is_where_the_record_has_it(with_hub: Callable[[Work], None]) -> None:
    async def work(hub: Hub) -> None:
        hub.recorded = {("a", 1, 0): "ended", ("a", 1, 1): "running", ("a", 1, 2): "given"}.get
        for launch in ranks_of("a", 3):
            hub.adopt("local", launch, started=True)
        await settled()
        line = Connected(hub, Hello(1))
        assert await line.next() == {"known": [["a", 1, 1]]}
        assert (await line.next())["start"]["node_rank"] == 2
        assert hub.given() == {"a"}

    with_hub(work)


@pytest.mark.parametrize("asks", ["nodes", "lease", "environment"])
def test_an_agent_that_knows_no_parts_is_given_none(with_hub: Callable[[Work], None], asks: str) -> None:
    async def work(hub: Hub) -> None:
        launch = ranks_of("a", 2)[1]
        if asks != "nodes":
            launch = replace(part("a"), **{"lease_s": 30.0} if asks == "lease" else {"environment": MADE_THERE})
        hub.start("local", launch)
        hub.adopt("local", part("b"), started=True)
        await settled()
        old = Connected(hub, Hello(7, {("c", 1, 0)}, protocol=3, version="0.3"))
        assert await old.next() == {"known": [["b", 1]]}, "it is told of pairs"
        hub.start("local", part("plain"))
        assert ids(await old.next()) == "plain"
        waits = hub.why_waits("a")
        assert waits is not None and waits.code == "waits_for_agent" and "0.3" in waits.message
        assert {"nodes": "several nodes", "lease": "a lease", "environment": "an environment"}[asks] in waits.message

    with_hub(work)
