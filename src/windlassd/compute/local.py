"""This machine as a cluster: nodes are slots, all served by one resident agent.

A ``vm_size`` is a label here (SPEC section 4): ``max_nodes`` slots always exist, CPUs and memory are shared, GPUs are
handed out when there are any.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from windlass.errors import ComputeTargetException
from windlass.specs import vm_sizes
from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.compute import _gpus
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
    lacks_launcher,
    on_node,
)

AGENT = "local"
"""Name of the one agent of this machine."""


@dataclass
class _Job:
    spec: JobSpec
    nodes: tuple[str, ...]
    notes: tuple[str, ...]
    phase: Phase = Phase.RUNNING


class LocalEngine:
    """The engine ``local``. It holds only what can be told again after a restart (``reattach``)."""

    name = "local"
    elsewhere = False

    def __init__(self, link: AgentLink, gpus: Sequence[int] | None = None) -> None:
        self._link = link
        self._gpus = _gpus.GpuPool(_gpus.installed() if gpus is None else gpus)
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """What needs a launcher for distributed training."""
        return lacks_launcher(job)

    def plan(self, job: JobSpec) -> Plan:
        """Name what happens on this machine, without choosing the slot yet."""
        launch, each = job.launch, ", for each node" if job.node_count > 1 else ""
        steps = [
            f"take {job.node_count} of {job.cluster.max_nodes} slots of '{job.cluster.name}' on this machine",
            f"copy snapshot {launch.snapshot_id[:12]} into the run's folder{each}",
            " ".join(["start", *_words(launch)]) + each,
        ]
        wanted = _gpus_of(job.cluster, len(self._gpus))
        if wanted:
            steps.insert(1, f"hand out up to {wanted} GPU(s) through CUDA_VISIBLE_DEVICES{each}")
        return Plan(self.name, job, tuple(steps))

    def submit(self, plan: Plan) -> str:
        """Take the slots and give the parts to the machine's agent."""
        job = plan.job
        with self._lock:
            if job.native_id in self._jobs:
                return job.native_id
            free = self._free(job.cluster)
            if len(free) < job.node_count:
                raise NoCapacity(f"{job.cluster.name} has {len(free)} of {job.node_count} nodes free.")
            nodes = tuple(free[: job.node_count])
            parts = self._hold(job, nodes)
        self._link.ensure(AGENT)
        for launch in parts:
            self._link.start(AGENT, launch)
        return job.native_id

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Hold the slots again that the job had; its processes are the agent's and went on meanwhile."""
        with self._lock:
            parts = self._hold(job, nodes)
        for launch in parts:
            self._link.adopt(AGENT, launch, started)
        self._link.ensure(AGENT)
        return job.native_id

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """States of the jobs that hold slots."""
        with self._lock:
            found = {i: self._jobs[i] for i in ids if i in self._jobs}
            return {
                i: JobState(job.phase, job.nodes, notes=job.notes, gpus=self._gpus_by_node(i, job.nodes))
                for i, job in found.items()
            }

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Tell the agent to end the job; its slots stay taken until ``ended``."""
        with self._lock:
            job = self._jobs.get(native_id)
        if job:
            self._link.stop(AGENT, job.spec.launch.run_id, job.spec.launch.attempt, reason)

    def ended(self, native_id: str) -> None:
        """Free the job's slots and GPUs."""
        with self._lock:
            job = self._jobs.pop(native_id, None)
            for node in job.nodes if job else ():
                self._gpus.release(_owner(native_id, node))

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """Slots always exist, so the target is the maximum."""
        with self._lock:
            idle = len(self._free(cluster))
            busy = sum(len(job.nodes) for job in self._jobs.values() if job.spec.cluster.name == cluster.name)
        return Capacity(target=cluster.max_nodes, current=idle + busy, idle=idle, busy=busy)

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """Its slots: those that runs have, then the free ones."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.spec.cluster.name == cluster.name]
            busy = [
                Node(name, NodeStatus.RUNNING, run_id=j.spec.launch.run_id,
                     gpus=tuple(self._gpus.of(_owner(j.spec.native_id, name))))
                for j in jobs for name in j.nodes
            ]  # fmt: skip
            return [*busy, *(Node(name, NodeStatus.IDLE) for name in self._free(cluster))]

    def pool(self, cluster: ClusterSpec) -> str:
        """Every cluster has slots of its own."""
        return f"{self.name}:{cluster.name}"

    def target(self, cluster: ClusterSpec) -> Target | None:
        """This machine."""
        return None

    def adopt(self, cluster: ClusterSpec) -> None:
        """Slots always exist; what else could be asked of nodes is nothing that slots have."""
        for name, given in (("node_resources", cluster.node_resources), ("options", cluster.options)):
            if given:
                raise ComputeTargetException(
                    f"{name}={dict(given)!r}: the engine 'local' takes none; its nodes are slots of this machine. "
                    "Leave it out, or name another engine."
                )

    def discard(self, cluster: ClusterSpec) -> None:
        """Slots are nothing that could be given back."""

    def close(self) -> None:
        """Nothing is held."""

    def _free(self, cluster: ClusterSpec) -> list[str]:
        taken = {n for job in self._jobs.values() if job.spec.cluster.name == cluster.name for n in job.nodes}
        return [n for n in (f"{cluster.name}-{i}" for i in range(cluster.max_nodes)) if n not in taken]

    def _hold(self, job: JobSpec, nodes: Sequence[str]) -> Sequence[LaunchSpec]:
        """Take the slots, and GPUs for each; the parts for the agent."""
        wanted, gpus, notes = _gpus_of(job.cluster, len(self._gpus)), [], _without_gpus(job)
        if job.wants_gpu and job.cluster.gpus is None and not job.cluster.vm_size:
            wanted = max(wanted, 1)
        for node in nodes:
            taken, note = self._taken(_owner(job.native_id, node), wanted, job.gpus.get(node))
            gpus.append(taken)
            notes += [f"{node}: {note}" if len(nodes) > 1 else note] if note else []
        self._jobs[job.native_id] = _Job(job, tuple(nodes), tuple(notes))
        variables = [self._variables(taken) for taken in gpus]
        return [on_node(job.launch, nodes, rank, variables[rank]) for rank in range(len(nodes))]

    def _taken(self, owner: str, wanted: int, before: Sequence[int] | None) -> tuple[Sequence[int], str | None]:
        """GPUs of one node; ``before``: those that it got from an earlier server process, and still uses."""
        if before is None:
            return self._gpus.take(owner, wanted)
        self._gpus.hold(owner, before)
        return self._gpus.of(owner), None

    def _gpus_by_node(self, native_id: str, nodes: Sequence[str]) -> dict[str, Sequence[int]]:
        found = {node: self._gpus.of(_owner(native_id, node)) for node in nodes}
        return {node: gpus for node, gpus in found.items() if gpus}

    def _variables(self, gpus: Sequence[int]) -> dict[str, str]:
        busy = sum(len(job.nodes) for job in self._jobs.values())
        variables = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // busy))}
        if len(self._gpus):  # a run that asked for none sees none, so that it cannot take another's memory
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, gpus))
        return variables


def _without_gpus(job: JobSpec) -> list[str]:
    """A note for who asks for GPUs on a size that has none."""
    if not job.wants_gpu or not job.cluster.vm_size or _gpus_of(job.cluster, 0):
        return []
    return [f"A GPU was asked for, and a {job.cluster.vm_size} has none: it runs on the CPU."]


def _owner(native_id: str, node: str) -> str:
    return f"{native_id} {node}"


def _words(launch: LaunchSpec) -> tuple[str, ...]:
    """What is started, for people."""
    return (*(launch.command or (launch.python or "<the environment's python>", launch.script)), *launch.arguments)


def _gpus_of(cluster: ClusterSpec, installed: int) -> int:
    """GPUs that a node of the cluster stands for; without a size it is one when this machine has any."""
    if cluster.gpus is not None:
        return cluster.gpus
    size = vm_sizes.find(cluster.vm_size) if cluster.vm_size else None
    return size.gpus if size else min(installed, 1)
