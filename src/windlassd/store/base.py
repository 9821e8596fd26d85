"""The contract of a store: the records of one workspace, in SQL (DESIGN decisions 3 and 6).

Only the server opens it. Promises every implementation keeps:

- *Threads.* ``write`` and ``read`` may be called from any thread. Writes run one after the other on the store's own
  thread, in the order asked for, and must not wait for another write; reads run on the caller's and never wait for a
  write. All questions of one ``read`` see one moment of the store.
- *Durability.* When the future of ``write`` resolves, what it did survives power loss. Several writes may share one
  commit (group commit); each still succeeds or fails alone.
- *Failure.* An exception in ``work`` rolls back that work only and comes out of the future. ``StoreFull`` means that
  the disk is full: nothing was done, later writes may succeed. A commit that fails fails all that shared it; no work
  is ever run twice.
- *Ownership.* Records that come out are frozen and owned by the caller.

All times are Unix seconds (float) outside and microseconds (int) in the database.
"""

# ruff: noqa: D102 - the short methods say it in a comment beside them

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.spool import Frame
from windlass.specs.status import RunStatus

T = TypeVar("T")


class StoreError(AzureMLException):
    """The store failed; ``transient`` when trying again may help."""

    error_code = "service_unavailable"


class StoreFull(StoreError):
    """The disk that holds the workspace is full."""

    transient = True


class Conflict(UserErrorException):
    """The change does not fit what is there, such as a transition that is not allowed."""

    error_code = "conflict"


@dataclass(frozen=True)
class SeriesSummary:
    """A metric series in one row. ``minimum`` and ``maximum`` ignore NaN and are None for a ``json`` series."""

    name: str
    type: str
    """``float``, ``int`` or ``json``. A series that gets mixed kinds becomes the wider one: int < float < json."""
    count: int
    last: Any
    last_step: int | None
    minimum: float | None
    maximum: float | None


@dataclass(frozen=True)
class MetricFilter:
    """Runs by what a metric came to. A value that is NaN, or no number, fits no comparison."""

    name: str
    statistic: str
    """``last``, ``min`` or ``max`` of the series."""
    comparison: str
    """``<``, ``<=``, ``>``, ``>=``, ``=`` or ``!=``."""
    value: float


@dataclass(frozen=True)
class RunLine:
    """A run in a list that goes over the wire as it is."""

    id: str
    status: str
    placed: bool
    """True once it has nodes."""
    text: str
    """Its record as JSON, without history."""


@dataclass(frozen=True)
class Series:
    """The points of a metric series in the order of their times; those of one process keep the order logged.

    In a ``float`` series integers are floats, except those that no float is equal to: they stay integers.
    """

    name: str
    type: str
    count: int
    """Points in the store; more than ``len(values)`` when downsampled."""
    times: Sequence[float]
    steps: Sequence[int | None]
    values: Sequence[Any]


@dataclass(frozen=True)
class ModelRecord:
    """One version of a model."""

    name: str
    version: int
    created: float
    run_id: str | None = None
    path: str = ""
    tags: Mapping[str, str] | None = None
    properties: Mapping[str, str] | None = None
    description: str | None = None
    framework: str | None = None
    framework_version: str | None = None
    size: int = 0
    sha256: str = ""
    snapshot_id: str | None = None
    environment_key: str | None = None
    files: Sequence[Mapping[str, Any]] = ()
    created_by: str | None = None
    datasets: Sequence[Mapping[str, Any]] = ()
    """``{"name": what it was used for, "id": the dataset's}``."""
    sample_input: str | None = None
    """Id of a dataset."""
    sample_output: str | None = None
    resources: Mapping[str, Any] | None = None
    """What it needs to be served: ``cpu``, ``memory_in_gb``, ``gpu``."""
    request_id: str | None = None
    """A registration sent again under it gives the version it gave before."""


@dataclass(frozen=True)
class EnvironmentRecord:
    """One version of a registered environment."""

    name: str
    version: str
    created: float
    definition: Mapping[str, Any]
    """As the client wrote it."""
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class DatastoreRecord:
    """A folder of data that somebody registered."""

    name: str
    path: str
    """Absolute."""
    created: float
    kind: str = "local"


@dataclass(frozen=True)
class DatasetRecord:
    """A dataset: one version of a registered one, or one that a run read without it being registered (no name)."""

    id: str
    kind: str
    """``File`` or ``Tabular``."""
    definition: Mapping[str, Any]
    """``places``, ``read`` (how a table is read) and ``steps``; made and understood by the SDK."""
    created: float
    name: str | None = None
    version: int | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    run_id: str | None = None
    """The run that made it."""
    modified: float = 0.0


RUN, SNAPSHOT, BLOBS = "run", "snapshot", "blobs"
"""Kinds of ``Deletion``: ``what`` is a run's id, a snapshot's id, or a JSON list of hashes."""


@dataclass(frozen=True)
class Deletion:
    """Something that was deleted and may still take room: a folder, a list of files, contents."""

    number: int
    kind: str
    what: str


@dataclass(frozen=True)
class RunStub:
    """As much of a run as is needed to decide whether it is kept."""

    id: str
    parent_id: str | None
    experiment: str
    status: str
    ended: float | None
    tags: Sequence[str]
    """Names only."""


@dataclass(frozen=True)
class StoreSpace:
    """What the records take on disk."""

    bytes: int
    free_bytes: int
    """Of those, how many hold nothing and can be given back."""
    rewrites: bool = False
    """True when ``shrink`` writes the whole anew, once, which takes long; nothing is written meanwhile."""


class Reader(Protocol):
    """Questions to the store. ``get_*`` raises UserErrorException when absent, ``find_*`` returns None."""

    def find_run(self, run_id: str, history: bool = False) -> RunRecord | None: ...
    def get_run(self, run_id: str, history: bool = False) -> RunRecord: ...
    def list_runs(
        self, *, experiment: str | None = None, statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (), metrics: Sequence[MetricFilter] = (), limit: int = 100,
        before: str | None = None, parent: str | None = None, include_children: bool = False,
    ) -> Sequence[RunRecord]: ...  # newest first; at most ``limit``; children only when asked for  # fmt: skip
    def list_lines(self, **filters: Any) -> Sequence[RunLine]: ...  # what ``list_runs`` gives, ready to be sent
    def find_lines(self, run_ids: Sequence[str]) -> Sequence[RunLine]: ...  # what ``find_runs`` gives
    def find_runs(self, run_ids: Sequence[str]) -> Sequence[RunRecord]: ...  # in this order, without the absent
    def run_ids_like(self, text: str, limit: int = 20) -> Sequence[str]: ...  # begin with it, or end with _it
    def active_runs(self, placed: bool = False) -> Sequence[RunRecord]:
        """Those that are not final, in the order they were created; ``placed``: only those that have nodes."""
        ...

    def count_active(self) -> int: ...  # how many ``active_runs`` would return
    def unverified_runs(self) -> Sequence[str]: ...  # ids of ended runs whose files lack checksums
    def run_of_request(self, request_id: str) -> RunRecord | None: ...
    def count_runs(self) -> Mapping[str, Mapping[str, Any]]: ...  # experiment -> {"runs", "created", "last"}
    def series_of(self, run_id: str) -> Sequence[SeriesSummary]: ...
    def series_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, Sequence[SeriesSummary]]: ...  # by run, one query
    def series(self, run_id: str, name: str | None = None, points: int | None = None) -> Sequence[Series]: ...
    def acked(self, run_id: str, spool: str) -> int: ...  # bytes of the spool file in the store; 0 when unknown
    def files_of(self, run_id: str) -> Sequence[Mapping[str, Any]]: ...  # {"path","size","sha256"} kept at the end
    def find_file(self, run_id: str, path: str) -> Mapping[str, Any] | None: ...  # one of them
    def find_snapshot(self, snapshot_id: str) -> Sequence[Mapping[str, Any]] | None: ...
    def clusters(self) -> Sequence[tuple[ClusterSpec, float, float]]: ...  # (spec, created, modified) by name
    def find_cluster(self, name: str) -> tuple[ClusterSpec, float, float] | None: ...
    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]: ...  # newest first
    def find_model(self, name: str, version: int | None = None) -> ModelRecord | None: ...  # None: the latest
    def model_of_request(self, request_id: str) -> ModelRecord | None: ...
    def used_blobs(self, hashes: Iterable[str], known: Set[str] = frozenset()) -> set[str]:
        """Those that a model holds, or a snapshot that is not among the ``known`` ones."""
        ...

    def snapshot_ids(self) -> set[str]: ...  # all
    def environments(self, name: str | None = None) -> Sequence[EnvironmentRecord]: ...  # newest version first
    def find_environment(
        self, name: str, version: str | None = None, label: str | None = None
    ) -> EnvironmentRecord | None: ...  # without version and label the newest
    def find_experiment(self, name: str) -> Mapping[str, Any] | None: ...  # as an entry of ``count_runs``
    def datastores(self) -> Sequence[DatastoreRecord]: ...  # registered ones, by name
    def find_datastore(self, name: str) -> DatastoreRecord | None: ...
    def datasets(self, name: str | None = None) -> Sequence[DatasetRecord]: ...  # registered versions, newest first
    def find_dataset(self, name: str, version: int | None = None) -> DatasetRecord | None: ...  # None: the latest
    def find_dataset_by_id(self, dataset_id: str) -> DatasetRecord | None: ...
    def get_meta(self, key: str) -> str | None: ...
    def run_stubs(self, of: Iterable[str] | None = None, experiment: str | None = None) -> Sequence[RunStub]:
        """All runs; those ``of`` these ids with all below them; an experiment's. In the order they were created."""
        ...

    def deletions(self) -> Sequence[Deletion]: ...  # what is deleted and not freed yet, oldest first
    def held_blobs(self) -> Mapping[str, int]: ...  # size by hash of all that models and snapshots have
    def snapshots_of(self, run_ids: Iterable[str]) -> Mapping[str, str]: ...  # by run, where it has one
    def metric_bytes(self, run_ids: Iterable[str]) -> Mapping[str, int]: ...  # about; by run, where it has points
    def unused_snapshots(self, snapshot_ids: Set[str]) -> tuple[set[str], int]: ...  # and the newest run looked at


class Writer(Reader, Protocol):
    """Changes to the store, inside one ``write``; it reads what it wrote."""

    def create_run(self, run_id: str, spec: RunSpec, *, now: float, request_id: str | None = None) -> RunRecord: ...
    def next_child_id(self, parent_id: str) -> str: ...  # <parent>_<n>, free in this write
    def transition(self, run_id: str, status: RunStatus, *, now: float, reason: Reason | None = None) -> RunRecord:
        """Move a run to ``status``, sets ``started``/``ended`` where due and adds to its history.

        The same status again only changes the reason. Times never go back: a ``now`` before the run's last change
        counts as the time of that change. Raises Conflict when the table of transitions forbids it.
        """
        ...

    def update_run(self, run_id: str, **changes: Any) -> RunRecord:
        """Set ``display_name, description, environment, nodes, exit_code, exit_signal, lost_points, verified``."""
        ...

    def prioritize(self, run_id: str, priority: int) -> RunRecord: ...  # the one thing of a spec that may change
    def tag(self, run_id: str, tags: Mapping[str, str], remove: Iterable[str] = ()) -> None: ...
    def add_properties(self, run_id: str, properties: Mapping[str, str]) -> None: ...  # Conflict: has another value
    def append(self, run_id: str, spool: str, start: int, end: int, frames: Sequence[Frame]) -> int:
        """Add the frames that lie at bytes ``start`` to ``end`` of a spool file; returns the offset now held.

        Nothing is added when ``start`` is not that offset (a repeated or early batch): the caller sends from the
        returned one. Frames of kind LOST add to the run's ``lost_points``.
        """
        ...

    def keep_files(self, run_id: str, files: Iterable[Mapping[str, Any]]) -> None: ...  # replaces those of equal path
    def drop_files(self, run_id: str) -> None: ...  # they are the run's no more, such as an earlier attempt's
    def add_snapshot(self, snapshot_id: str, files: Sequence[Mapping[str, Any]], now: float) -> None: ...
    def put_cluster(self, spec: ClusterSpec, now: float) -> None: ...
    def delete_cluster(self, name: str) -> None: ...
    def add_model(self, model: ModelRecord) -> ModelRecord: ...  # ``version`` is given by the store: last + 1
    def update_model(self, name: str, version: int, **changes: Any) -> ModelRecord:
        """Set ``tags, properties, description, datasets, sample_input, sample_output, resources`` of a version."""
        ...

    def delete_model(self, name: str, version: int, now: float = 0.0) -> ModelRecord | None:
        """Forget a version; returns what it was. Its number is used up; its contents are noted to be freed."""
        ...

    def delete_runs(self, run_ids: Iterable[str], now: float) -> Sequence[str]:
        """Forget ended runs with all that hangs on them; returns those that were there. Notes what is to be freed.

        Raises Conflict when one has not ended or has a child that is not among them. As long as the note stands no
        run gets the id again.
        """
        ...

    def drop_snapshot(self, snapshot_id: str, newest: int, now: float) -> bool:
        """Forget a snapshot that ``unused_snapshots`` named, and note its contents; False when a later run has it."""
        ...

    def forget_deletions(self, numbers: Iterable[int]) -> None: ...  # they are freed
    def add_environment(
        self, name: str, definition: Mapping[str, Any], now: float, version: str | None = None
    ) -> EnvironmentRecord:
        """The newest version when it has this definition, else a new one, numbered one higher unless given.

        Raises Conflict when ``version`` is there with another definition.
        """
        ...

    def label_environment(self, name: str, version: str, labels: Iterable[str]) -> None: ...  # moves them to it
    def update_experiment(self, name: str, now: float, **changes: Any) -> Mapping[str, Any]:
        """Set ``tags`` (all of them) or ``archived`` (seconds, or None); one that is not there is made."""
        ...

    def delete_experiment(self, name: str, now: float = 0.0) -> Sequence[str]: ...  # with its runs; returns their ids
    def put_datastore(self, store: DatastoreRecord) -> None: ...
    def delete_datastore(self, name: str) -> None: ...
    def add_dataset(self, dataset: DatasetRecord) -> DatasetRecord: ...  # ``version`` as a model's; a known id stays
    def update_dataset(self, dataset_id: str, now: float, **changes: Any) -> DatasetRecord: ...  # description, tags
    def unregister_dataset(self, name: str) -> int: ...  # all versions lose the name and stay known by id
    def set_meta(self, key: str, value: str) -> None: ...


class Store(Protocol):
    """The records of one workspace; see the module for what it promises."""

    def write(self, work: Callable[[Writer], T]) -> Future[T]: ...
    def read(self, work: Callable[[Reader], T]) -> T: ...
    def copy(self, folder: str) -> Store:
        """This store as it is at one moment, opened in ``folder``; writes go on meanwhile."""
        ...

    def space(self) -> StoreSpace: ...
    def shrink(self) -> Future[bool]: ...  # give a little of the free room back to the disk; True while more is left
    def close(self) -> None: ...  # waits for writes under way
