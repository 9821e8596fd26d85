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

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
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


class Reader(Protocol):
    """Questions to the store. ``get_*`` raises UserErrorException when absent, ``find_*`` returns None."""

    def find_run(self, run_id: str, history: bool = False) -> RunRecord | None: ...
    def get_run(self, run_id: str, history: bool = False) -> RunRecord: ...
    def list_runs(
        self, *, experiment: str | None = None, statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (), limit: int = 100, before: str | None = None,
    ) -> Sequence[RunRecord]: ...  # newest first; at most ``limit``  # fmt: skip
    def active_runs(self) -> Sequence[RunRecord]: ...  # not final, in the order they were created
    def unverified_runs(self) -> Sequence[str]: ...  # ids of ended runs whose files lack checksums
    def run_of_request(self, request_id: str) -> RunRecord | None: ...
    def count_runs(self) -> Mapping[str, Mapping[str, Any]]: ...  # experiment -> {"runs", "created", "last"}
    def series_of(self, run_id: str) -> Sequence[SeriesSummary]: ...
    def series(self, run_id: str, name: str | None = None, points: int | None = None) -> Sequence[Series]: ...
    def acked(self, run_id: str, spool: str) -> int: ...  # bytes of the spool file in the store; 0 when unknown
    def files_of(self, run_id: str) -> Sequence[Mapping[str, Any]]: ...  # {"path","size","sha256"} kept at the end
    def find_snapshot(self, snapshot_id: str) -> Sequence[Mapping[str, Any]] | None: ...
    def clusters(self) -> Sequence[tuple[ClusterSpec, float, float]]: ...  # (spec, created, modified) by name
    def find_cluster(self, name: str) -> tuple[ClusterSpec, float, float] | None: ...
    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]: ...  # newest first
    def find_model(self, name: str, version: int | None = None) -> ModelRecord | None: ...  # None: the latest
    def get_meta(self, key: str) -> str | None: ...


class Writer(Reader, Protocol):
    """Changes to the store, inside one ``write``; it reads what it wrote."""

    def create_run(self, run_id: str, spec: RunSpec, *, now: float, request_id: str | None = None) -> RunRecord: ...
    def transition(self, run_id: str, status: RunStatus, *, now: float, reason: Reason | None = None) -> RunRecord:
        """Move a run to ``status``, sets ``started``/``ended`` where due and adds to its history.

        The same status again only changes the reason. Raises Conflict when the table of transitions forbids it.
        """
        ...

    def update_run(self, run_id: str, **changes: Any) -> RunRecord:
        """Set columns: ``display_name, environment, nodes, exit_code, exit_signal, lost_points, verified``."""
        ...

    def tag(self, run_id: str, tags: Mapping[str, str], remove: Iterable[str] = ()) -> None: ...
    def add_properties(self, run_id: str, properties: Mapping[str, str]) -> None: ...  # Conflict: has another value
    def append(self, run_id: str, spool: str, start: int, end: int, frames: Sequence[Frame]) -> int:
        """Add the frames that lie at bytes ``start`` to ``end`` of a spool file; returns the offset now held.

        Nothing is added when ``start`` is not that offset (a repeated or early batch): the caller sends from the
        returned one. Frames of kind LOST add to the run's ``lost_points``.
        """
        ...

    def keep_files(self, run_id: str, files: Iterable[Mapping[str, Any]]) -> None: ...  # replaces those of equal path
    def add_snapshot(self, snapshot_id: str, files: Sequence[Mapping[str, Any]], now: float) -> None: ...
    def put_cluster(self, spec: ClusterSpec, now: float) -> None: ...
    def delete_cluster(self, name: str) -> None: ...
    def add_model(self, model: ModelRecord) -> ModelRecord: ...  # ``version`` is given by the store: last + 1
    def set_meta(self, key: str, value: str) -> None: ...


class Store(Protocol):
    """The records of one workspace; see the module for what it promises."""

    def write(self, work: Callable[[Writer], T]) -> Future[T]: ...
    def read(self, work: Callable[[Reader], T]) -> T: ...
    def close(self) -> None: ...  # waits for writes under way
