"""The contract of an engine: it gives a job its nodes and starts an agent's work there.

An engine knows nodes and jobs, not runs: environments, logs, metrics and the final status are the agent's and
``control``'s. Promises every engine keeps:

- *Gang.* A job of n nodes starts on n nodes together or on none.
- *Idempotence.* ``cancel`` may be called for a job that has ended or never was. ``submit`` of a plan whose job the
  engine already holds returns its native id and starts nothing.
- *Threads.* All methods may be called from any thread and return soon (no waiting for a job).
- *Nothing silent.* What an engine cannot do stands in ``unsupported``, never half-done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Protocol

from windlass.errors import UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason


class Feature(StrEnum):
    """What a job may ask for and an engine may lack."""

    NODES = "node_count"
    PROCESSES = "process_count_per_node"


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


@dataclass(frozen=True)
class Capacity:
    """Nodes of a cluster. ``target`` is what it may have now, ``current`` what it has; current = idle + busy."""

    target: int
    current: int
    idle: int
    busy: int


class AgentLink(Protocol):
    """How an engine reaches agents; the control implements it over the agents' order streams."""

    def start(self, agent: str, launch: LaunchSpec) -> None:
        """Give one node's part to an agent. Delivered at least once, also to an agent that connects later."""
        ...

    def adopt(self, agent: str, launch: LaunchSpec, started: bool) -> None:
        """An earlier server process gave this part to the agent; ``started`` when the agent has said that it runs."""
        ...

    def stop(self, agent: str, run_id: str, attempt: int, reason: Reason) -> None:
        """Tell an agent to end its part: SIGTERM, then SIGKILL after the launch's grace."""
        ...

    def ensure(self, agent: str) -> None:
        """Make sure that an agent of that name runs or is being started on this machine."""
        ...


class Engine(Protocol):
    """Gives jobs their nodes; see the module for what it promises."""

    name: str

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
        """The cluster's nodes now."""
        ...


def on_node(launch: LaunchSpec, node: str, rank: int, variables: Mapping[str, str]) -> LaunchSpec:
    """``launch`` for one node of the gang."""
    return replace(launch, node=node, node_rank=rank, node_variables=dict(variables))
