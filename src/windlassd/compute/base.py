"""The contract of an engine: it gives a job its nodes and starts an agent's work there.

An engine knows nodes and jobs, not runs: environments, logs, metrics and the final status are the agent's and
``control``'s. Promises every engine keeps:

- *Gang.* A job of n nodes starts on n nodes together or on none.
- *Idempotence.* ``cancel`` may be called for a job that has ended or never was. ``submit`` of a plan whose job the
  engine already holds returns its native id and starts nothing.
- *Threads.* All methods may be called from any thread and return soon (no waiting for a job).
- *Nothing silent.* What an engine cannot do stands in ``unsupported``, never half-done.
- *Told, not asked.* What changes by itself (a node is lost, nodes have come) an engine says by ``AgentLink.changed``;
  ``poll``, ``capacity`` and ``nodes`` answer from what it knows, without asking anybody.
- *Elsewhere.* An engine whose nodes are other machines starts one agent per part there, with the ticket that
  ``AgentLink.enlist`` gave for it on standard input, and sees to it that the agent, and what keeps its place on the
  node, are gone once the job has ``ended``. The agent ends its processes when its standard input closes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from windlass.errors import UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec, Ticket
from windlass.specs.run import Reason


class Feature(StrEnum):
    """What a job may ask for and an engine may lack."""

    NODES = "node_count"
    PROCESSES = "process_count_per_node"


_LAUNCHERS = {
    "mpi": "MPI", "openmpi": "MPI", "intelmpi": "MPI", "gloo": "PyTorch", "nccl": "PyTorch",
    "parameterserver": "TensorFlow", "ps": "TensorFlow",
}  # fmt: skip
"""v1's communicators, lower case, whose processes on several nodes a launcher must bring together."""


class Phase(StrEnum):
    """Where a job is in the engine's eyes."""

    PENDING = "pending"
    RUNNING = "running"
    ENDED = "ended"
    LOST = "lost"


class NoCapacity(UserErrorException):
    """The nodes of the plan are not free together now; nothing was started."""

    error_code = "no_capacity"


@dataclass(frozen=True)
class JobSpec:
    """One attempt at a run, as an engine needs it. ``launch`` is the part of node 0 with an empty node name."""

    cluster: ClusterSpec
    launch: LaunchSpec
    node_count: int = 1
    wants_gpu: bool = False
    """The user asked for GPUs in so many words; to be told where there are none."""
    gpus: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """For ``reattach``: the GPUs that were handed out on each node."""

    @property
    def native_id(self) -> str:
        """The id under which engines of our own know the job."""
        return f"{self.launch.run_id}.{self.launch.attempt}"


@dataclass(frozen=True)
class Plan:
    """What ``submit`` would do: pure, printable (``submit --dry-run``)."""

    engine: str
    job: JobSpec
    steps: Sequence[str]
    """Sentences in the order they would happen."""

    def __str__(self) -> str:
        return "\n".join(self.steps)


@dataclass(frozen=True)
class JobState:
    """A job as the engine sees it. ``nodes`` is empty until it has some."""

    phase: Phase
    nodes: Sequence[str] = ()
    message: str = ""
    notes: Sequence[str] = field(default_factory=tuple)
    """What the user should know, such as a GPU asked for that is not there."""
    gpus: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Indices of those that are handed out on each node; a later ``reattach`` is told them."""


@dataclass(frozen=True)
class Capacity:
    """Nodes of a cluster. ``target`` is what it is to have now, ``current`` what it has.

    current = idle + busy + preparing + leaving + unusable. A job gets nodes as long as there are ``idle`` ones; in an
    elastic cluster also while ``current`` is below its maximum, and then waits, PENDING, until they have come.
    """

    target: int
    current: int
    idle: int
    busy: int
    preparing: int = 0
    leaving: int = 0
    unusable: int = 0


class NodeStatus(StrEnum):
    """What a node of a cluster does; v1's names."""

    IDLE = "idle"
    RUNNING = "running"
    PREPARING = "preparing"
    LEAVING = "leaving"
    UNUSABLE = "unusable"


@dataclass(frozen=True)
class Node:
    """A node of a cluster, for ``list_nodes`` and the pages."""

    name: str
    status: NodeStatus
    address: str | None = None
    run_id: str | None = None
    gpus: Sequence[int] = ()
    """Indices of the GPUs that are handed out there."""
    resources: Mapping[str, float] = field(default_factory=dict)
    since: float | None = None
    """Unix seconds at which it came to this status, where the engine knows."""
    message: str = ""


@dataclass(frozen=True)
class Target:
    """What the nodes of a cluster are, for whoever makes environments for them."""

    platform: str
    """Such as ``linux-x86_64-glibc2.36``; of several kinds the one whose packages run on all."""
    pythons: Mapping[str, str] = field(default_factory=dict)
    """``major.minor.micro`` → path, of interpreters that every node has."""
    gpus: bool = False
    """True when a node of a job has a GPU."""


class AgentLink(Protocol):
    """How an engine reaches agents; the control implements it over the agents' order streams."""

    def start(self, agent: str, launch: LaunchSpec) -> None:
        """Give one node's part to an agent. Delivered at least once, also to an agent that connects later."""
        ...

    def adopt(self, agent: str, launch: LaunchSpec, started: bool) -> None:
        """An earlier server process gave this part to the agent; ``started`` when the agent has said that it runs."""
        ...

    def stop(self, agent: str, run_id: str, attempt: int, reason: Reason) -> None:
        """Tell an agent to end all it has of the attempt: SIGTERM, then SIGKILL after the launch's grace."""
        ...

    def ensure(self, agent: str) -> None:
        """Make sure that an agent of that name runs or is being started on this machine."""
        ...

    def enlist(self, agent: str, run_id: str, towards: str | None = None) -> Ticket:
        """A ticket for an agent elsewhere, good until ``dismiss``; asked again, another that replaces it.

        Args:
            agent: Its name, by ``agent_of``.
            run_id: The run of its part.
            towards: Address of its node, where that is known: it is told first what that node sees of this machine.

        Raises:
            ComputeTargetException: this server has no listener that nodes could reach, and why.
        """
        ...

    def dismiss(self, agent: str) -> None:
        """Its tickets are good no more."""
        ...

    def workspace_id(self) -> str:
        """Tells the workspace from all others, by whatever name and on whatever machine.

        Raises:
            ComputeTargetException: this server has no listener that nodes could reach, and why.
        """
        ...

    def secret(self, cluster: str) -> str | None:
        """What the owner of a cluster gave to be let in by its machines, such as a token; None without any."""
        ...

    def changed(self, engine: str) -> None:
        """Something that the engine's ``poll``, ``capacity`` or ``nodes`` told before is different now."""
        ...


class Engine(Protocol):
    """Gives jobs their nodes; see the module for what it promises."""

    name: str
    elsewhere: bool
    """True when its nodes are other machines: agents need tickets, environments are made on the node."""

    def unsupported(self, job: JobSpec) -> Mapping[Feature, str]:
        """Feature → reason; empty when the job can run here."""
        ...

    def plan(self, job: JobSpec) -> Plan:
        """What ``submit`` would do. Pure: asks nobody, changes nothing."""
        ...

    def submit(self, plan: Plan) -> str:
        """Start the job on its nodes and return its native id.

        Raises:
            NoCapacity: the nodes are not free together; nothing was started.
        """
        ...

    def reattach(self, job: JobSpec, nodes: Sequence[str], started: bool) -> str:
        """Take over a job that an earlier server process submitted; returns its native id."""
        ...

    def poll(self, ids: Sequence[str]) -> Mapping[str, JobState]:
        """States of many jobs in one call; an unknown job is absent."""
        ...

    def cancel(self, native_id: str, reason: Reason) -> None:
        """Ask for the job's end; returns soon, may be repeated."""
        ...

    def ended(self, native_id: str) -> None:
        """The agents of the job say that all of it has ended: its nodes are free again."""
        ...

    def capacity(self, cluster: ClusterSpec) -> Capacity:
        """The cluster's nodes now, by number."""
        ...

    def nodes(self, cluster: ClusterSpec) -> Sequence[Node]:
        """The cluster's nodes now, by name."""
        ...

    def pool(self, cluster: ClusterSpec) -> str:
        """Equal for clusters whose nodes are the same machines, which so take them from each other."""
        ...

    def target(self, cluster: ClusterSpec) -> Target | None:
        """What the nodes are; None when they are this machine.

        Raises:
            ComputeTargetException: no node is there to be asked, and why.
        """
        ...

    def adopt(self, cluster: ClusterSpec) -> None:
        """Know of a cluster, at the start of a server and after each change: reach its machines, keep ``min_nodes``.

        Raises:
            ComputeTargetException: its options are wrong, or what they name cannot be reached or used.
        """
        ...

    def discard(self, cluster: ClusterSpec) -> None:
        """The cluster was deleted: give its nodes back."""
        ...

    def close(self) -> None:
        """This server process ends; jobs and their agents go on."""
        ...


def lacks_launcher(job: JobSpec) -> Mapping[Feature, str]:
    """What no engine offers as long as there are no launchers for distributed training; see ``Engine.unsupported``."""
    launch, missing = job.launch, {}
    launcher = _LAUNCHERS.get(launch.communicator.lower())
    if job.node_count > 1 and launcher:
        missing[Feature.NODES] = (
            f"node_count={job.node_count} with the communicator {launch.communicator!r}: the launcher of {launcher} "
            "for several nodes comes with a later version. Use node_count=1, or leave the distributed settings out: "
            "the script is then started once on each node, with its number in AZ_BATCHAI_TASK_INDEX and the addresses "
            "of all nodes in AZ_BATCH_HOST_LIST."
        )
    if launch.process_count > 1:
        missing[Feature.PROCESSES] = (
            f"process_count_per_node={launch.process_count}: several processes are not offered yet; use 1."
        )
    return missing


def agent_of(launch: LaunchSpec, rank: int) -> str:
    """Name of the agent that an engine elsewhere starts for the part of that rank."""
    return f"{launch.run_id}.{launch.attempt}.{rank}"


def on_node(
    launch: LaunchSpec, nodes: Sequence[str], rank: int, variables: Mapping[str, str], addresses: Sequence[str] = ()
) -> LaunchSpec:
    """``launch`` for one node of the gang ``nodes``."""
    return replace(
        launch, node=nodes[rank], node_rank=rank, node_variables=dict(variables), nodes=tuple(nodes),
        addresses=tuple(addresses),
    )  # fmt: skip
