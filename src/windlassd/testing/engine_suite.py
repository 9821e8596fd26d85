"""What every engine must do; an engine's test is a subclass with its fixture."""

# ruff: noqa: D102 - the names of the tests say it

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec, Ticket
from windlass.specs.run import Reason
from windlassd.compute.base import Engine, Feature, JobSpec, NoCapacity, NodeStatus, Phase, Plan

CANCEL = Reason("canceled", "The run was canceled.")


@dataclass
class RecordingLink:
    """An ``AgentLink`` that writes down what it was told; everything may be read as plain lists."""

    started: list[tuple[str, LaunchSpec]] = field(default_factory=list)
    adopted: list[tuple[str, LaunchSpec, bool]] = field(default_factory=list)
    stopped: list[tuple[str, str, int, Reason]] = field(default_factory=list)
    ensured: list[str] = field(default_factory=list)
    enlisted: list[tuple[str, str]] = field(default_factory=list)
    dismissed: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def start(self, agent: str, launch: LaunchSpec) -> None:
        """Note it."""
        self.started.append((agent, launch))

    def adopt(self, agent: str, launch: LaunchSpec, started: bool) -> None:
        """Note it."""
        self.adopted.append((agent, launch, started))

    def stop(self, agent: str, run_id: str, attempt: int, reason: Reason) -> None:
        """Note it."""
        self.stopped.append((agent, run_id, attempt, reason))

    def ensure(self, agent: str) -> None:
        """Note it."""
        self.ensured.append(agent)

    def enlist(self, agent: str, run_id: str, towards: str | None = None) -> Ticket:
        """A ticket to nowhere."""
        self.enlisted.append((agent, run_id))
        return Ticket(agent, "test", "0" * 8, ("https://192.0.2.1:1",), "token")

    def dismiss(self, agent: str) -> None:
        """Note it."""
        self.dismissed.append(agent)

    def workspace_id(self) -> str:
        """Always the same."""
        return "0" * 8

    def secret(self, cluster: str) -> str | None:
        """What stands in ``secrets``."""
        return self.secrets.get(cluster)

    def changed(self, engine: str) -> None:
        """Note it."""
        self.changes.append(engine)


def job_of(run_id: str, cluster: ClusterSpec, nodes: int = 1, attempt: int = 1, processes: int = 1) -> JobSpec:
    """A job with what the tests do not care for filled in."""
    launch = LaunchSpec(
        run_id, attempt, "", 0, "train.py", ("--rate", "0.1"), "5" * 64, "/usr/bin/python3", process_count=processes
    )
    return JobSpec(cluster, launch, nodes)


class EngineConformance:
    """Subclass it and define the fixture ``engine``; ``cluster`` may be overridden, it must have three nodes."""

    @pytest.fixture
    def engine(self) -> Engine:
        """A new engine on which nothing runs."""
        raise NotImplementedError

    @pytest.fixture
    def cluster(self) -> ClusterSpec:
        """A cluster of three nodes."""
        return ClusterSpec(name="three", max_nodes=3)

    @pytest.fixture
    def other(self, cluster: ClusterSpec) -> ClusterSpec:
        """Another cluster of three nodes, which are none of the first's."""
        return replace(cluster, name="other")

    def test_plan_is_pure_and_prints(self, engine: Engine, cluster: ClusterSpec) -> None:
        job = job_of("a", cluster)
        planned = engine.plan(job)
        assert planned == engine.plan(job) and planned.engine == engine.name and planned.job == job
        assert str(planned).splitlines() == list(planned.steps) != []
        assert engine.poll([job.native_id]) == {} and self.busy(engine, cluster) == 0

    def test_submit_gives_nodes(self, engine: Engine, cluster: ClusterSpec) -> None:
        native_id = self.submit(engine, job_of("a", cluster, 2))
        state = engine.poll([native_id])[native_id]
        assert len(set(state.nodes)) == 2 and state.phase is Phase.RUNNING
        assert self.busy(engine, cluster) == 2

    def test_two_jobs_never_share_a_node(self, engine: Engine, cluster: ClusterSpec) -> None:
        ids = [self.submit(engine, job_of("a", cluster, 2)), self.submit(engine, job_of("b", cluster, 1))]
        nodes = [node for state in engine.poll(ids).values() for node in state.nodes]
        assert len(nodes) == len(set(nodes)) == 3

    def test_all_nodes_of_a_gang_or_none(self, engine: Engine, cluster: ClusterSpec) -> None:
        self.submit(engine, job_of("a", cluster, 2))
        with pytest.raises(NoCapacity):
            self.submit(engine, job_of("b", cluster, 2))
        assert engine.poll(["b.1"]) == {} and self.busy(engine, cluster) == 2
        self.submit(engine, job_of("c", cluster, 1))
        assert self.busy(engine, cluster) == 3

    def test_the_same_plan_twice_starts_once(self, engine: Engine, cluster: ClusterSpec) -> None:
        planned = engine.plan(job_of("a", cluster, 2))
        assert engine.submit(planned) == engine.submit(planned)
        assert self.busy(engine, cluster) == 2

    def test_another_attempt_is_another_job(self, engine: Engine, cluster: ClusterSpec) -> None:
        first, second = (self.submit(engine, job_of("a", cluster, attempt=n)) for n in (1, 2))
        assert first != second and self.busy(engine, cluster) == 2

    def test_poll_leaves_unknown_ids_out(self, engine: Engine, cluster: ClusterSpec) -> None:
        native_id = self.submit(engine, job_of("a", cluster))
        assert set(engine.poll(["nobody", native_id, ""])) == {native_id}
        assert engine.poll([]) == {}

    def test_cancel_may_be_repeated_and_frees_nothing_before_the_end(
        self, engine: Engine, cluster: ClusterSpec
    ) -> None:
        native_id = self.submit(engine, job_of("a", cluster, 2))
        for _ in range(3):
            engine.cancel(native_id, CANCEL)
        assert self.busy(engine, cluster) == 2

    def test_cancel_of_unknown_and_ended_jobs_does_nothing(self, engine: Engine, cluster: ClusterSpec) -> None:
        engine.cancel("nobody", CANCEL)
        native_id = self.submit(engine, job_of("a", cluster))
        engine.ended(native_id)
        engine.cancel(native_id, CANCEL)
        assert engine.poll([native_id, "nobody"]) == {} and self.busy(engine, cluster) == 0

    def test_ended_frees_the_nodes_for_the_next(self, engine: Engine, cluster: ClusterSpec) -> None:
        native_id = self.submit(engine, job_of("a", cluster, 3))
        engine.ended(native_id)
        engine.ended(native_id)
        engine.ended("nobody")
        assert self.busy(engine, cluster) == 0
        self.submit(engine, job_of("b", cluster, 3))
        assert self.busy(engine, cluster) == 3

    def test_clusters_have_nodes_of_their_own(self, engine: Engine, cluster: ClusterSpec, other: ClusterSpec) -> None:
        self.submit(engine, job_of("a", cluster, 3))
        assert self.busy(engine, other) == 0
        self.submit(engine, job_of("b", other, 3))

    def test_a_shrunk_cluster_adds_up_and_takes_no_more(self, engine: Engine, cluster: ClusterSpec) -> None:
        ids = [self.submit(engine, job_of(name, cluster)) for name in "abc"]
        small = replace(cluster, max_nodes=1)
        self.adds_up(engine, small)
        with pytest.raises(NoCapacity):
            self.submit(engine, job_of("d", small))
        for native_id in ids:
            engine.ended(native_id)
            self.adds_up(engine, small)
        self.submit(engine, job_of("d", small))

    def test_reattach_holds_the_nodes_again(self, engine: Engine, cluster: ClusterSpec) -> None:
        job = job_of("a", cluster, 2)
        nodes = self.nodes_of(engine, self.submit(engine, job))
        engine.ended(job.native_id)
        native_id = engine.reattach(job, nodes, True)
        assert native_id == job.native_id and self.nodes_of(engine, native_id) == nodes
        assert self.busy(engine, cluster) == 2
        other = self.submit(engine, job_of("b", cluster))
        assert not set(self.nodes_of(engine, other)) & set(nodes)
        engine.ended(native_id)
        assert self.busy(engine, cluster) == 1

    def test_nodes_tell_who_has_them(self, engine: Engine, cluster: ClusterSpec) -> None:
        native_id = self.submit(engine, job_of("a", cluster, 2))
        held = {node.name for node in engine.nodes(cluster) if node.run_id == "a"}
        assert held == set(self.nodes_of(engine, native_id))
        assert all(node.status is NodeStatus.RUNNING for node in engine.nodes(cluster) if node.run_id)
        engine.ended(native_id)
        assert [node.name for node in engine.nodes(cluster) if node.run_id] == []

    def test_a_pool_is_the_same_for_the_same_cluster(self, engine: Engine, cluster: ClusterSpec) -> None:
        assert engine.pool(cluster) == engine.pool(replace(cluster, max_nodes=1)) != ""

    def test_a_cluster_may_be_made_known_and_discarded_again_and_again(
        self, engine: Engine, cluster: ClusterSpec
    ) -> None:
        for _ in range(2):
            engine.adopt(cluster)
        native_id = self.submit(engine, job_of("a", cluster))
        engine.ended(native_id)
        for _ in range(2):
            engine.discard(cluster)

    def test_every_node_of_a_gang_has_its_part_once(self, engine: Engine, cluster: ClusterSpec) -> None:
        job = job_of("a", cluster, 3)
        if engine.unsupported(job):
            pytest.skip("runs of several nodes are refused here")
        nodes = self.nodes_of(engine, self.submit(engine, job))
        parts = self.parts_of(engine, job)
        if parts is None:
            pytest.skip("its parts are not to be seen")
        assert [part.key for part in parts] == [("a", 1, rank) for rank in range(3)]
        assert [part.node for part in parts] == list(nodes)
        assert {part.nodes for part in parts} == {tuple(nodes)} and {part.node_count for part in parts} == {3}
        assert {len(part.addresses) for part in parts} <= {0, 3}, "all addresses, or none where there is one machine"

    def test_unsupported_names_a_feature_and_a_reason(self, engine: Engine, cluster: ClusterSpec) -> None:
        assert engine.unsupported(job_of("a", cluster)) == {}
        for job in (job_of("a", cluster, 2), job_of("a", cluster, processes=4)):
            for feature, reason in engine.unsupported(job).items():
                assert isinstance(feature, Feature) and feature.value in reason and reason.endswith(".")

    def test_eight_threads_for_three_nodes(self, engine: Engine, cluster: ClusterSpec) -> None:
        got: list[str] = []
        refused: list[Exception] = []
        together = threading.Barrier(8)

        def ask(number: int) -> None:
            together.wait()
            try:
                got.append(self.submit(engine, job_of(f"run{number}", cluster)))
            except NoCapacity as problem:
                refused.append(problem)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert (len(got), len(refused)) == (3, 5)
        assert len({node for state in engine.poll(got).values() for node in state.nodes}) == 3

    def submit(self, engine: Engine, job: JobSpec) -> str:
        """The native id of ``job``, submitted; the capacity adds up before and after."""
        self.adds_up(engine, job.cluster)
        planned: Plan = engine.plan(job)
        native_id = engine.submit(planned)
        self.adds_up(engine, job.cluster)
        return native_id

    def parts_of(self, engine: Engine, job: JobSpec) -> Sequence[LaunchSpec] | None:
        """What the agents of a submitted job were given, by rank; None where a test cannot see that."""
        link = getattr(engine, "_link", None)
        if not isinstance(link, RecordingLink) or not link.started:
            return None
        given = (launch for _, launch in link.started if launch.run_id == job.launch.run_id)
        return sorted(given, key=lambda launch: launch.node_rank)

    def busy(self, engine: Engine, cluster: ClusterSpec) -> int:
        """How many of the cluster's nodes are taken."""
        self.adds_up(engine, cluster)
        return engine.capacity(cluster).busy

    def nodes_of(self, engine: Engine, native_id: str) -> Sequence[str]:
        """The nodes of a held job."""
        return engine.poll([native_id])[native_id].nodes

    def adds_up(self, engine: Engine, cluster: ClusterSpec) -> None:
        """All its nodes do something, and nothing is negative."""
        there = engine.capacity(cluster)
        on_the_way = there.preparing + there.leaving + there.unusable
        assert there.current == there.idle + there.busy + on_the_way
        assert min(there.target, there.idle, there.busy, there.preparing, there.leaving, there.unusable) >= 0
