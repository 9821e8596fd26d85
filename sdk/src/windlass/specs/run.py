"""What a run is asked to be (``RunSpec``) and what is known of it (``RunRecord``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping, Optional, Tuple

from windlass.specs._codec import known_fields
from windlass.specs.container import ContainerOptions
from windlass.specs.data import DataSpec
from windlass.specs.environment import EnvironmentSpec
from windlass.specs.status import RunStatus

JOB, INTERACTIVE = "job", "interactive"
"""What moves a run: an agent that runs its script, or a client's process that says when it is over."""


@dataclass(frozen=True)
class RunSpec:
    """Everything a run needs, complete before it is queued: nothing is looked up on the client later."""

    experiment: str
    script: str
    """Entry script, relative to the snapshot, with forward slashes."""
    snapshot_id: str
    target: str = "local"
    """Name of a compute target of the workspace."""
    arguments: Tuple[str, ...] = ()
    """Passed to the script in this order; ``$NAME`` is expanded on the node."""
    environment: EnvironmentSpec = field(default_factory=EnvironmentSpec)
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    node_count: int = 1
    process_count_per_node: int = 1
    max_run_duration_s: Optional[int] = None
    framework: str = "Python"
    communicator: str = "None"
    display_name: Optional[str] = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    source_directory: Optional[str] = None
    """Where the snapshot was taken, on the submitting machine; shown, never read."""
    git: Mapping[str, str] = field(default_factory=dict)
    """``commit``, ``branch``, ``dirty`` ("true"/"false") when the folder is a git working tree."""
    submitted_by: Optional[str] = None
    kind: str = JOB
    parent_id: Optional[str] = None
    """Id of the run it is a child of."""
    data: Tuple[DataSpec, ...] = ()
    """Data references, dataset inputs and outputs."""
    command: Tuple[str, ...] = ()
    """What to run instead of a script; ``script`` is empty then."""
    shell: bool = False
    """True: ``command`` is one text, for a shell."""
    definition: Mapping[str, Any] = field(default_factory=dict)
    """More for v1's ``runDefinition``: shown, never read."""
    container: ContainerOptions = field(default_factory=ContainerOptions)
    """How its container runs, where the environment has one."""
    priority: int = 0
    """Among the runs that wait for the same cluster, higher ones are first; then the order of submission."""
    use_gpu: bool = False
    """The user asked for GPUs in so many words: where there are none the record says so."""
    max_retries: int = 0
    """How often it is begun anew, elsewhere, when a node of it is lost; never for what the script did itself."""

    @property
    def snapshots(self) -> "Tuple[str, ...]":
        """Ids of what its nodes need: its folder, and the files that a Dockerfile of its environment copies."""
        container = self.environment.container
        return (self.snapshot_id, container.context) if container and container.context else (self.snapshot_id,)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "RunSpec":
        """The spec that ``to_wire`` made ``data`` from; unknown keys are left out."""
        values = known_fields(cls, data)
        values["environment"] = EnvironmentSpec.from_wire(values.get("environment") or {})
        values["data"] = tuple(DataSpec.from_wire(entry) for entry in values.get("data") or ())
        values["container"] = ContainerOptions.from_wire(values.get("container"))
        return cls(**values)


@dataclass(frozen=True)
class Reason:
    """Why a run is where it is: ``code`` for machines (snake_case), ``message`` a sentence for people."""

    code: str
    message: str

    @classmethod
    def from_wire(cls, data: Optional[Mapping[str, Any]]) -> "Optional[Reason]":
        """The reason in ``data``, or None."""
        return cls(code=data["code"], message=data["message"]) if data else None


@dataclass(frozen=True)
class RunRecord:
    """A run as the server knows it at one moment; it can change nothing. Times are Unix seconds, UTC."""

    id: str
    experiment: str
    number: int
    """1 for the first run of the experiment, counting up."""
    status: RunStatus
    spec: RunSpec
    created: float
    reason: Optional[Reason] = None
    started: Optional[float] = None
    ended: Optional[float] = None
    parent_id: Optional[str] = None
    display_name: Optional[str] = None
    description: Optional[str] = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen for it: ``key``, ``builder``, ``python`` (path), ``python_version``, ``prefix``, ``cached``,
    ``seconds``, ``notes``."""
    nodes: Tuple[str, ...] = ()
    exit_code: Optional[int] = None
    """Of the first process that failed; None when it was ended by a signal or has not ended."""
    exit_signal: Optional[str] = None
    """Name of the signal, such as ``SIGKILL``."""
    lost_points: int = 0
    """Metric points that could not be written because the disk was full, or whose spool was damaged."""
    verified: bool = False
    """True once every kept file has a checksum."""
    attempt: int = 1
    """Which attempt is under way, or was the last."""
    parts: Tuple[Mapping[str, Any], ...] = ()
    """Of the nodes of the attempt, by rank: ``rank``, ``node``, ``status`` (``given``, ``running``, ``ended``,
    ``lost``) and, once ended, its ``outcome``. Empty before it has nodes, and for runs from before there were parts."""
    history: Tuple[Mapping[str, Any], ...] = ()
    """One entry per change: ``time``, ``status``, ``reason`` (code and message); filled for one run, not in lists."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> "RunRecord":
        """The record that ``to_wire`` made ``data`` from; unknown keys are left out."""
        values = known_fields(cls, data)
        values["status"] = RunStatus(values["status"])
        values["spec"] = RunSpec.from_wire(values["spec"])
        values["reason"] = Reason.from_wire(values.get("reason"))
        return cls(**values)
