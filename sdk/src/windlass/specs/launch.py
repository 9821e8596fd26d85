"""What an agent is told to run on one node, and what it tells of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from windlass.specs._codec import known_fields
from windlass.specs.container import ContainerLaunch
from windlass.specs.data import DataSpec
from windlass.specs.environment import EnvironmentSpec

PROTOCOL = 4
"""Version of what an agent and its server say to each other; an agent that names none has 1."""
ACCEPTED_PROTOCOLS = (1, 2, 3, 4)
"""A server works with an agent of any of these; one older than 3 gets no run in a container, one older than 4 none of
several nodes."""


PartKey = Tuple[str, int, int]
"""Run id, attempt and rank of the node."""


@dataclass(frozen=True)
class LaunchSpec:
    """One node's part of one attempt at a run. An agent that is sent the same one twice starts it once."""

    run_id: str
    attempt: int
    node: str
    """Name of the node, such as ``cpucluster-0``."""
    node_rank: int
    script: str
    arguments: Tuple[str, ...]
    snapshot_id: str
    python: str
    """Absolute path of the interpreter."""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    """The user's; they win over what the agent sets, but for the names Windlass itself needs."""
    node_variables: Mapping[str, str] = field(default_factory=dict)
    """The engine's, such as ``CUDA_VISIBLE_DEVICES`` or ``OMP_NUM_THREADS``; the user's win."""
    process_count: int = 1
    max_run_duration_s: Optional[int] = None
    stop_grace_s: float = 10.0
    """Between SIGTERM and SIGKILL when the run is canceled."""
    experiment: str = ""
    data: Tuple[DataSpec, ...] = ()
    """With the folders of their datastores filled in."""
    command: Tuple[str, ...] = ()
    """What to run instead of ``script``: words, or with ``shell`` one text for a shell."""
    shell: bool = False
    communicator: str = "None"
    """v1's name of how processes talk, such as ``Gloo``: decides which variables they get."""
    container: Optional[ContainerLaunch] = None
    """The container to run in; ``python`` is then a path inside of it."""
    nodes: Tuple[str, ...] = ()
    """Names of all nodes of the attempt, by rank; empty means this one alone."""
    addresses: Tuple[str, ...] = ()
    """Their addresses in the network that they share, by rank; empty when all are this machine."""
    lease_s: Optional[float] = None
    """Seconds without a word from the server after which the agent ends its processes, because another attempt may
    start elsewhere by then. None: never."""
    environment: Optional["EnvironmentLaunch"] = None
    """The environment to make ready on the node before it starts; ``python`` is empty then."""

    @property
    def key(self) -> "PartKey":
        """What tells this part from all others."""
        return (self.run_id, self.attempt, self.node_rank)

    @property
    def node_count(self) -> int:
        """Nodes of the attempt."""
        return len(self.nodes) or 1

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "LaunchSpec":
        """The spec that ``to_wire`` made ``data`` from; unknown keys are left out."""
        values = known_fields(cls, data)
        values["data"] = tuple(DataSpec.from_wire(entry) for entry in values.get("data") or ())
        values["container"] = ContainerLaunch.from_wire(values.get("container"))
        values["environment"] = EnvironmentLaunch.from_wire(values.get("environment"))
        return cls(**values)


@dataclass(frozen=True)
class EnvironmentLaunch:
    """What a node needs to make an environment that was resolved for it elsewhere."""

    spec: EnvironmentSpec
    lock: Mapping[str, Any]
    """A ``Lock`` of ``windlassd.envs.base``, as JSON; empty: it could not be resolved elsewhere, so the node does."""

    @classmethod
    def from_wire(cls, data: Optional[Mapping[str, Any]]) -> "Optional[EnvironmentLaunch]":
        """What ``to_wire`` made ``data`` from; None for None."""
        if data is None:
            return None
        return cls(EnvironmentSpec.from_wire(data["spec"]), data["lock"])


@dataclass(frozen=True)
class Ticket:
    """What an agent elsewhere must know to reach its server; it holds a secret, so it goes by standard input."""

    agent: str
    """Its name, under which the server knows it."""
    workspace: str
    """Name of the workspace."""
    workspace_id: str
    """Tells workspaces of one name apart on a node that serves several."""
    servers: Tuple[str, ...]
    """Addresses of the listener for agents, such as ``https://10.0.0.1:40123``; tried in turn."""
    token: str = field(repr=False)
    """Lets it act for its own parts, and for nothing else."""
    certificate: Optional[str] = None
    """The one certificate (PEM) that the server may show; None: one that the node's own authorities vouch for."""
    heartbeat_s: Optional[float] = None
    """How often the server wants a word from it; None: as often as the node's own settings say."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "Ticket":
        """The ticket that ``to_wire`` made ``data`` from; unknown keys are left out."""
        return cls(**known_fields(cls, data))


@dataclass(frozen=True)
class Outcome:
    """How one node's part ended, told by its agent once everything before it was shipped."""

    canceled: bool = False
    rank: Optional[int] = None
    """The first process that failed; None when all ended well."""
    exit_code: Optional[int] = None
    exit_signal: Optional[str] = None
    reason_code: str = "completed"
    message: str = ""
    lost_points: int = 0
    peak_memory_bytes: Optional[int] = None
    files: Tuple[Mapping[str, Any], ...] = ()
    """``{"path", "size"}`` of what the run keeps."""

    @property
    def ok(self) -> bool:
        """True when every process exited with 0 and nobody canceled."""
        return self.reason_code == "completed"

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "Outcome":
        """The outcome that ``to_wire`` made ``data`` from; unknown keys are left out."""
        return cls(**known_fields(cls, data))
