"""The engine ``netns`` keeps the contract, and says what became of its machines."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest

from windlass.errors import ComputeTargetException
from windlass.specs.cluster import ClusterSpec
from windlassd.compute.base import Engine, NodeStatus, Phase
from windlassd.testing.engine_suite import EngineConformance, RecordingLink, job_of
from windlassd.testing.netns import Machine, Network
from windlassd.testing.netns_engine import NetnsEngine

pytestmark = pytest.mark.nodes


class TestNetnsEngine(EngineConformance):
    @pytest.fixture
    def engine(self, machines: Sequence[Machine]) -> Iterator[Engine]:
        made = NetnsEngine(RecordingLink())
        yield made
        made.close()

    @pytest.fixture
    def cluster(self, network: Network) -> ClusterSpec:
        return cluster_of(network)

    @pytest.fixture
    def other(self) -> Iterator[ClusterSpec]:
        with Network() as another:
            another.start("four", "five", "six")
            yield cluster_of(another, "other")


class TestMachines:
    def test_a_killed_machine_is_lost_and_its_node_unusable(
        self, network: Network, machines: Sequence[Machine]
    ) -> None:
        with engine_of() as (engine, link):
            cluster = cluster_of(network)
            native_id = engine.submit(engine.plan(job_of("a", cluster, 2)))
            state = engine.poll([native_id])[native_id]
            assert state.nodes == ("one", "two") and state.phase is Phase.RUNNING
            machines[1].kill()
            wait(link, lambda: engine.poll([native_id])[native_id].phase is Phase.LOST)
            assert "two" in engine.poll([native_id])[native_id].message
            engine.ended(native_id)
            wait(link, lambda: len(link.dismissed) == 2)
            assert [(n.name, n.status) for n in engine.nodes(cluster)] == [
                ("one", NodeStatus.IDLE), ("three", NodeStatus.IDLE), ("two", NodeStatus.UNUSABLE),
            ]  # fmt: skip
            machines[1].restart()
            wait(link, lambda: engine.capacity(cluster).idle == 3)
            assert machines[0].processes() == []

    def test_a_killed_agent_is_lost(self, network: Network, machines: Sequence[Machine]) -> None:
        with engine_of() as (engine, link):
            native_id = engine.submit(engine.plan(job_of("a", cluster_of(network), 3)))
            until(lambda: len(machines[2].processes()) == 1)
            machines[2].processes()[0].kill()
            wait(link, lambda: engine.poll([native_id])[native_id].phase is Phase.LOST)
            assert "three" in engine.poll([native_id])[native_id].message

    def test_agents_outlive_the_engine_and_end_with_the_job(
        self, network: Network, machines: Sequence[Machine]
    ) -> None:
        cluster = cluster_of(network)
        with engine_of() as (engine, _):
            job = job_of("a", cluster, 2)
            engine.submit(engine.plan(job))
        until(lambda: len(machines[0].processes()) == len(machines[1].processes()) == 1)
        with engine_of() as (engine, link):
            engine.reattach(job, ["one", "two"], True)
            assert [(agent, launch.node, launch.addresses) for agent, launch, _ in link.adopted] == [
                (f"a.1.{rank}", name, (machines[0].address, machines[1].address))
                for rank, name in enumerate(["one", "two"])
            ]
            assert engine.poll(["a.1"])["a.1"].phase is Phase.RUNNING
            engine.ended("a.1")
            wait(link, lambda: sorted(link.dismissed) == ["a.1.0", "a.1.1"])
        assert [machine.processes() for machine in machines] == [[], [], []]

    def test_reattached_after_its_machine_died_a_job_is_lost(
        self, network: Network, machines: Sequence[Machine]
    ) -> None:
        job = job_of("a", cluster_of(network), 1)
        with engine_of() as (engine, _):
            engine.submit(engine.plan(job))
        machines[0].kill()
        machines[0].restart()
        with engine_of() as (engine, link):
            engine.reattach(job, ["one"], True)
            wait(link, lambda: engine.poll(["a.1"])["a.1"].phase is Phase.LOST)
            engine.ended("a.1")
            assert engine.capacity(job.cluster).idle == 3

    def test_a_machine_that_is_cut_off_is_freed_when_it_is_healed(
        self, network: Network, machines: Sequence[Machine]
    ) -> None:
        with engine_of() as (engine, link):
            cluster = cluster_of(network)
            native_id = engine.submit(engine.plan(job_of("a", cluster, 2)))
            until(lambda: len(machines[0].processes()) == len(machines[1].processes()) == 1)
            machines[0].cut()
            assert engine.poll([native_id])[native_id].phase is Phase.RUNNING
            wait(link, lambda: bool(link.changes))
            engine.ended(native_id)
            assert engine.nodes(cluster)[-1].name == "one" and engine.capacity(cluster).unusable == 1
            until(lambda: machines[1].processes() == [])
            assert len(machines[0].processes()) == 1
            machines[0].heal()
            wait(link, lambda: engine.capacity(cluster).idle == 3)
            until(lambda: machines[0].processes() == [])

    def test_gpus_go_by_index(self, network: Network) -> None:
        network.start("four", "five", gpus=4)
        with engine_of() as (engine, link):
            cluster = replace(cluster_of(network), max_nodes=2, node_resources={"GPU": 2})
            engine.submit(engine.plan(job_of("a", cluster, 2)))
            assert [launch.node_variables["CUDA_VISIBLE_DEVICES"] for _, launch in link.started] == ["0,1", "0,1"]
            assert [node.gpus for node in engine.nodes(cluster)] == [range(2), range(2)]

    def test_clusters_of_the_same_machines_share_them(self, network: Network, machines: Sequence[Machine]) -> None:
        with engine_of() as (engine, _):
            one, two = cluster_of(network), cluster_of(network, "two")
            assert engine.pool(one) == engine.pool(two)
            engine.submit(engine.plan(job_of("a", one, 2)))
            assert engine.capacity(two).idle == 1 and engine.capacity(two).busy == 0

    def test_wrong_options_are_named(self, network: Network) -> None:
        with engine_of() as (engine, _):
            with pytest.raises(ComputeTargetException, match="option machines"):
                engine.adopt(ClusterSpec("bare", "netns"))
            with pytest.raises(ComputeTargetException, match=r"machines='/nowhere.*No such file"):
                engine.adopt(ClusterSpec("gone", "netns", options={"machines": "/nowhere"}))


class Link(RecordingLink):
    """Lets a test wait for what the engine tells."""

    def __init__(self) -> None:
        super().__init__()
        self.told = threading.Condition()

    def changed(self, engine: str) -> None:
        with self.told:
            super().changed(engine)
            self.told.notify_all()

    def dismiss(self, agent: str) -> None:
        with self.told:
            super().dismiss(agent)
            self.told.notify_all()


@contextmanager
def engine_of() -> Iterator[tuple[NetnsEngine, Link]]:
    link = Link()
    engine = NetnsEngine(link)
    try:
        yield engine, link
    finally:
        engine.close()


def wait(link: Link, reached: Callable[[], bool]) -> None:
    """Return once it is so; looked at after each word of the engine."""
    with link.told:
        assert link.told.wait_for(reached, 20)


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def cluster_of(network: Network, name: str = "three") -> ClusterSpec:
    """Of all machines; ``cat`` stands in for the agent, as it ends when its standard input does."""
    options = {"machines": str(network.control), "agent": ["sh", "-c", "exec cat > /dev/null"]}
    return ClusterSpec(name, "netns", max_nodes=3, options=options)
