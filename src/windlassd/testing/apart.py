"""An engine whose nodes are apart as far as one machine without privileges can be: each has a home of its own.

A node of it is a folder below the cluster's option ``homes``; its agent gets a ticket, speaks TLS on 127.0.0.1 and sees
nothing of the server's folders but by looking where it should not. The place of an agent is held by a process that
does nothing (``sleep``) and outlives the server, as a real engine's would; killing it takes the place away.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from windlass import settings
from windlass.errors import ComputeTargetException
from windlass.specs._codec import to_wire
from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec
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
    agent_of,
    on_node,
)
from windlassd.envs.target import platform_name

_GRACE_S = 20.0
"""For an agent to bring home what there is once its place was taken away."""
_VARIABLES = ("WINDLASS_", "AZUREML_")
"""Of the server's own life; a node has none of them."""


@dataclass
class _Job:
    spec: JobSpec
    nodes: tuple[str, ...]
    gone: set[int] = field(default_factory=set)
    """Ranks whose agents have exited."""


class ApartEngine:
    """The engine ``apart``. Option ``homes``: the folder of its nodes' homes; ``variables``: for the agents."""

    name = "apart"
    elsewhere = True

    def __init__(self, link: AgentLink) -> None:
        self._link = link
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """All that the agent can do is fine."""
        return {}

    def plan(self, job: JobSpec) -> Plan:
        """One sentence."""
        return Plan(self.name, job, (f"start an agent for each of {job.node_count} homes in {_homes(job.cluster)}",))

    def submit(self, plan: Plan) -> str:
        """Take nodes and start an agent on each."""
        job = plan.job
        with self._lock:
            if job.native_id in self._jobs:
                return job.native_id
            free = self._free(job.cluster)
            if len(free) < job.node_count:
                raise NoCapacity(f"{job.cluster.name} has {len(free)} of {job.node_count} nodes free.")
            held = self._jobs[job.native_id] = _Job(job, tuple(free[: job.node_count]))
        for rank in range(job.node_count):
            agent = agent_of(job.launch, rank)
            ticket = json.dumps(to_wire(self._link.enlist(agent, job.launch.run_id)))
            self._link.start(agent, _part(held, rank))
            _begin(held, rank, ticket)
            self._follow(held, rank)
        return job.native_id

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Know of the agents again, by what was noted of them."""
        with self._lock:
            held = self._jobs[job.native_id] = _Job(job, tuple(nodes))
        for rank in range(len(nodes)):
            self._link.adopt(agent_of(job.launch, rank), _part(held, rank), started)
            self._follow(held, rank)
        return job.native_id

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """Running, or lost once an agent is gone."""
        with self._lock:
            held = {i: self._jobs[i] for i in ids if i in self._jobs}
            return {i: _state(job) for i, job in held.items()}

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Tell the agents over their lines."""
        with self._lock:
            held = self._jobs.get(native_id)
        for rank in range(len(held.nodes)) if held else ():
            assert held is not None
            launch = held.spec.launch
            self._link.stop(agent_of(launch, rank), launch.run_id, launch.attempt, reason)

    def ended(self, native_id: str) -> None:
        """Take the places away; agents that do not go by themselves are killed."""
        with self._lock:
            held = self._jobs.pop(native_id, None)
        for rank in range(len(held.nodes)) if held else ():
            assert held is not None
            threading.Thread(target=self._clear, args=(held, rank), daemon=True).start()

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """As many nodes as it may have."""
        with self._lock:
            idle = len(self._free(cluster))
        return Capacity(cluster.max_nodes, cluster.max_nodes, idle, cluster.max_nodes - idle)

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """Those that jobs have, then the free ones."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.spec.cluster.name == cluster.name]
            busy = [Node(n, NodeStatus.RUNNING, "127.0.0.1", j.spec.launch.run_id) for j in jobs for n in j.nodes]
            return [*busy, *(Node(name, NodeStatus.IDLE, "127.0.0.1") for name in self._free(cluster))]

    def pool(self, cluster: ClusterSpec) -> str:
        """Every cluster has nodes of its own."""
        return f"{self.name}:{cluster.name}"

    def target(self, cluster: ClusterSpec) -> Target | None:
        """What this machine is, with the interpreter of these tests."""
        return Target(platform_name(), {".".join(map(str, sys.version_info[:3])): sys.executable})

    def adopt(self, cluster: ClusterSpec) -> None:
        """See that the option is there."""
        _homes(cluster)

    def discard(self, cluster: ClusterSpec) -> None:
        """The folders are the test's."""

    def close(self) -> None:
        """Agents go on."""

    def _free(self, cluster: ClusterSpec) -> list[str]:
        taken = {n for job in self._jobs.values() if job.spec.cluster.name == cluster.name for n in job.nodes}
        return [n for n in (f"{cluster.name}-{i}" for i in range(cluster.max_nodes)) if n not in taken]

    def _follow(self, held: _Job, rank: int) -> None:
        """Notice when the agent of that rank exits."""
        agent = _process(held, rank, "agent")

        def wait() -> None:
            _wait(agent)
            held.gone.add(rank)
            self._link.changed(self.name)

        threading.Thread(target=wait, daemon=True).start()

    def _clear(self, held: _Job, rank: int) -> None:
        agent = _process(held, rank, "agent")
        lose_place(_place(held, rank))
        if not _wait(agent, _GRACE_S) and agent is not None:
            signal.pidfd_send_signal(agent, signal.SIGKILL)
        self._link.dismiss(agent_of(held.spec.launch, rank))


def lose_place(place: str) -> None:
    """Take an agent's place away: ``place`` is ``<homes>/places/<agent>``. What an engine's death does."""
    holder = _open(os.path.join(place, "holder"))
    if holder is not None:
        signal.pidfd_send_signal(holder, signal.SIGKILL)
        _wait(holder)


def _begin(held: _Job, rank: int, ticket: str) -> None:
    place = _place(held, rank)
    os.makedirs(place, exist_ok=True)
    home = os.path.join(_homes(held.spec.cluster), held.nodes[rank])
    environment = {**settings.child_environment(_VARIABLES), settings.HOME_VARIABLE: home}
    environment.update(held.spec.cluster.options.get("variables", {}))
    read, write = os.pipe()
    with open(read, "rb") as theirs, open(write, "wb") as ours, open(f"{place}/agent.log", "ab") as log:
        ours.write(ticket.encode() + b"\n")
        ours.flush()
        agent = subprocess.Popen(
            [sys.executable, "-m", "windlassd.agent", "--elsewhere"], stdin=theirs, stdout=log, stderr=log, cwd="/",
            env=environment,
        )  # fmt: skip
        holder = subprocess.Popen(["sleep", "infinity"], stdout=ours, stderr=log, start_new_session=True)
    for name, process in (("agent", agent), ("holder", holder)):
        with open(os.path.join(place, name), "w", encoding="ascii") as f:
            f.write(str(process.pid))
        process.returncode = 0  # whoever waits for them is told by the kernel; subprocess need not warn


def _part(held: _Job, rank: int) -> LaunchSpec:
    return on_node(held.spec.launch, held.nodes, rank, {}, ["127.0.0.1"] * len(held.nodes))


def _state(held: _Job) -> JobState:
    if held.gone:
        names = ", ".join(held.nodes[rank] for rank in sorted(held.gone))
        return JobState(Phase.LOST, held.nodes, f"The agent on {names} is gone.")
    return JobState(Phase.RUNNING, held.nodes)


def _homes(cluster: ClusterSpec) -> str:
    given = cluster.options.get("homes")
    if not isinstance(given, str) or not os.path.isabs(given):
        raise ComputeTargetException(
            f"The cluster {cluster.name!r} of the engine apart needs the option homes: the folder of its nodes' homes."
        )
    return given


def _place(held: _Job, rank: int) -> str:
    return os.path.join(_homes(held.spec.cluster), "places", agent_of(held.spec.launch, rank))


def _process(held: _Job, rank: int, name: str) -> int | None:
    return _open(os.path.join(_place(held, rank), name))


def _open(path: str) -> int | None:
    """A descriptor of the process that is noted there; None when it is gone."""
    try:
        with open(path, encoding="ascii") as f:
            return os.pidfd_open(int(f.read()))
    except (OSError, ValueError):
        return None


def _wait(process: int | None, timeout_s: float | None = None) -> bool:
    """True once the process has ended, which is collected if it was a child; False after the time-out."""
    if process is None:
        return True
    if not select.select([process], [], [], timeout_s)[0]:
        return False
    try:
        os.waitid(os.P_PIDFD, process, os.WEXITED)
    except ChildProcessError:  # an earlier server's, or collected by another thread
        pass
    os.close(process)
    return True
