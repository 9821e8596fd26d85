"""An engine without machines, for tests of the queue and of the control: jobs move only when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason
from windlassd.compute.base import (
    AgentLink,
    Capacity,
    Feature,
    JobSpec,
    JobState,
    NoCapacity,
    Node,
    NodeStatus,
    Phase,
    Plan,
    Target,
)


class FakeEngine:
    """The engine ``fake``: honours capacity and gangs, starts nothing.

    ``submitted`` and ``canceled`` list native ids in order; ``fail_next`` makes the next ``submit`` raise.
    """

    name = "fake"
    elsewhere = False

    def __init__(self, link: AgentLink | None = None) -> None:
        self.submitted: list[str] = []
        self.canceled: list[str] = []
        self.fail_next: Exception | None = None
        self._jobs: dict[str, tuple[JobSpec, tuple[str, ...]]] = {}
        self._lock = threading.Lock()

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """It can do everything, since it does nothing."""
        return {}

    def plan(self, job: JobSpec) -> Plan:
        """One sentence."""
        return Plan(self.name, job, (f"pretend to run {job.launch.run_id} on {job.node_count} nodes",))

    def submit(self, plan: Plan) -> str:
        """Take nodes of the cluster."""
        if self.fail_next:
            problem, self.fail_next = self.fail_next, None
            raise problem
        job = plan.job
        with self._lock:
            if job.native_id not in self._jobs:
                free = self._free(job.cluster)
                if len(free) < job.node_count:
                    raise NoCapacity(f"{job.cluster.name} has {len(free)} of {job.node_count} nodes free.")
                self._jobs[job.native_id] = (job, tuple(free[: job.node_count]))
                self.submitted.append(job.native_id)
        return job.native_id

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Hold the nodes again."""
        with self._lock:
            self._jobs[job.native_id] = (job, tuple(nodes))
        return job.native_id

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Every held job runs."""
        with self._lock:
            return {i: JobState(Phase.RUNNING, self._jobs[i][1]) for i in ids if i in self._jobs}

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Remember that it was asked."""
        if native_id in self._jobs:
            self.canceled.append(native_id)

    def ended(self, native_id: str) -> None:
        """Free the job's nodes."""
        with self._lock:
            self._jobs.pop(native_id, None)

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """As many nodes as the cluster may have."""
        with self._lock:
            idle = len(self._free(cluster))
        return Capacity(cluster.max_nodes, cluster.max_nodes, idle, cluster.max_nodes - idle)

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """Those that jobs have, then the free ones."""
        with self._lock:
            jobs = [(j, nodes) for j, nodes in self._jobs.values() if j.cluster.name == cluster.name]
            busy = [Node(name, NodeStatus.RUNNING, run_id=j.launch.run_id) for j, nodes in jobs for name in nodes]
            return [*busy, *(Node(name, NodeStatus.IDLE) for name in self._free(cluster))]

    def pool(self, cluster: ClusterSpec) -> str:
        """Every cluster has nodes of its own."""
        return f"{self.name}:{cluster.name}"

    def target(self, cluster: ClusterSpec) -> Target | None:
        """This machine."""
        return None

    def adopt(self, cluster: ClusterSpec) -> None:
        """Nothing is to be reached."""

    def discard(self, cluster: ClusterSpec) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""

    def _free(self, cluster: ClusterSpec) -> list[str]:
        taken = {n for job, nodes in self._jobs.values() if job.cluster.name == cluster.name for n in nodes}
        return [n for n in (f"{cluster.name}-{i}" for i in range(cluster.max_nodes)) if n not in taken]
