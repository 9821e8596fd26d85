"""The store in SQL: one writer thread with group commit, readers beside it (DESIGN decision 6)."""

# ruff: noqa: D102 - what each method promises is said in base.py

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy.engine import Connection, Engine

from windlass.specs.cluster import ClusterSpec
from windlass.specs.run import Reason, RunRecord, RunSpec
from windlass.specs.spool import Frame
from windlass.specs.status import RunStatus
from windlassd.store import _ingest, datasets, deletions, models, registered, runs, series
from windlassd.store._before import keep_copy
from windlassd.store._migrate import bring_up_to_date
from windlassd.store._space import copy_database, driver_of, give_back, space_of
from windlassd.store._sqlite import reader_engine, writer_engine
from windlassd.store._writer_thread import WriterThread
from windlassd.store.base import (
    DatasetRecord,
    DatastoreRecord,
    Deletion,
    EnvironmentRecord,
    MetricFilter,
    ModelRecord,
    Reader,
    RunLine,
    RunStub,
    Series,
    SeriesSummary,
    StoreSpace,
    Writer,
)
from windlassd.store.filesystem import make_durable_folder, refuse_network

T = TypeVar("T")

FILE = "windlass.db"


class SqlStore:
    """A ``Store`` in the file ``windlass.db`` of the workspace's folder."""

    def __init__(self, writer: Engine, readers: Engine, path: str, upgrading: Callable[[], None]) -> None:
        connection = writer.connect()
        try:
            keep_copy(connection, path, upgrading)
            with connection.begin():
                bring_up_to_date(connection, path)
        except BaseException:
            connection.close()
            raise
        self._path = path
        self._readers = readers
        self._writer = WriterThread(connection)

    @classmethod
    def open(cls, workspace_dir: str, upgrading: Callable[[], None] = lambda: None) -> SqlStore:
        """The store of a workspace, made when there is none.

        Args:
            workspace_dir: Its folder.
            upgrading: Called when the database is of an older version, before that is changed, which takes a while.

        Raises:
            UserErrorException: The folder lies on a network file system.
            StoreError: The file is damaged, from a newer version, or locked; StoreFull when the disk is full.
        """
        refuse_network(workspace_dir)
        path = os.path.join(os.path.abspath(workspace_dir), FILE)
        if not os.path.exists(path):
            make_durable_folder(workspace_dir)
        return cls(writer_engine(path), reader_engine(path), path, upgrading)

    def write(self, work: Callable[[Writer], T]) -> Future[T]:
        """Run ``work`` on the writer thread; the future resolves once it is durable."""
        return self._writer.submit(lambda connection: work(SqlWriter(connection)))

    def read(self, work: Callable[[Reader], T]) -> T:
        """Run ``work`` here and return what it returns; all its questions see one moment of the store."""
        with self._readers.connect() as connection:
            return work(SqlReader(connection))

    def audit(self, work: Callable[[Connection], T]) -> T:
        """As ``read``, with the bare connection: for the doctor, whose questions stand in ``audit.py``."""
        with self._readers.connect() as connection:
            return work(connection)

    def mend(self, work: Callable[[Connection], T]) -> Future[T]:
        """As ``write``, with the bare connection: for the doctor's repairs."""
        return self._writer.submit(work)

    def copy(self, folder: str) -> SqlStore:
        """This store at one moment, opened in ``folder``. Takes a while; neither reads nor writes wait for it."""
        os.makedirs(folder, mode=0o700, exist_ok=True)
        with self._readers.connect() as connection:
            copy_database(driver_of(connection), os.path.join(folder, FILE))
        return self.open(folder)

    def space(self) -> StoreSpace:
        """What the database takes on disk, its log of writes included."""
        with self._readers.connect() as connection:
            return space_of(driver_of(connection), self._path)

    def shrink(self) -> Future[bool]:
        """Give a little of the free room back to the disk; True while more is left."""
        return self._writer.submit_alone(lambda connection: give_back(driver_of(connection), self._path))

    def close(self) -> None:
        """Finish the writes that were asked for, then let go of the file; may be called again."""
        self._readers.dispose()  # the last to close brings the log into the database, which readers could not
        self._writer.close()


class SqlReader:
    """A ``Reader`` on a connection, valid as long as the work that got it."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def find_run(self, run_id: str, history: bool = False) -> RunRecord | None:
        return runs.find_run(self._db, run_id, history)

    def get_run(self, run_id: str, history: bool = False) -> RunRecord:
        return runs.get_run(self._db, run_id, history)

    def list_runs(
        self,
        *,
        experiment: str | None = None,
        statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (),
        metrics: Sequence[MetricFilter] = (),
        limit: int = 100,
        before: str | None = None,
        parent: str | None = None,
        include_children: bool = False,
    ) -> Sequence[RunRecord]:
        return runs.list_runs(
            self._db, experiment=experiment, statuses=statuses, tags=tags, metrics=metrics, limit=limit, before=before,
            parent=parent, include_children=include_children,
        )  # fmt: skip

    def list_lines(self, **filters: Any) -> Sequence[RunLine]:
        return runs.list_lines(self._db, **filters)

    def find_lines(self, run_ids: Sequence[str]) -> Sequence[RunLine]:
        return runs.find_lines(self._db, run_ids)

    def find_runs(self, run_ids: Sequence[str]) -> Sequence[RunRecord]:
        return runs.find_runs(self._db, run_ids)

    def run_ids_like(self, text: str, limit: int = 20) -> Sequence[str]:
        return runs.run_ids_like(self._db, text, limit)

    def active_runs(self, placed: bool = False) -> Sequence[RunRecord]:
        return runs.active_runs(self._db, placed)

    def count_active(self) -> int:
        return runs.count_active(self._db)

    def unverified_runs(self) -> Sequence[str]:
        return runs.unverified_runs(self._db)

    def run_of_request(self, request_id: str) -> RunRecord | None:
        return runs.run_of_request(self._db, request_id)

    def count_runs(self) -> Mapping[str, Mapping[str, Any]]:
        return runs.count_runs(self._db)

    def series_of(self, run_id: str) -> Sequence[SeriesSummary]:
        return series.series_of(self._db, run_id)

    def series_of_runs(self, run_ids: Sequence[str]) -> Mapping[str, Sequence[SeriesSummary]]:
        return series.series_of_runs(self._db, run_ids)

    def series(self, run_id: str, name: str | None = None, points: int | None = None) -> Sequence[Series]:
        return series.read_series(self._db, run_id, name, points)

    def acked(self, run_id: str, spool: str) -> int:
        return series.acked(self._db, run_id, spool)

    def run_stubs(self, of: Iterable[str] | None = None, experiment: str | None = None) -> Sequence[RunStub]:
        return deletions.run_stubs(self._db, of, experiment)

    def deletions(self) -> Sequence[Deletion]:
        return deletions.pending(self._db)

    def held_blobs(self) -> Mapping[str, int]:
        return deletions.held_blobs(self._db)

    def snapshots_of(self, run_ids: Iterable[str]) -> Mapping[str, str]:
        return deletions.snapshots_of(self._db, run_ids)

    def metric_bytes(self, run_ids: Iterable[str]) -> Mapping[str, int]:
        return deletions.metric_bytes(self._db, run_ids)

    def unused_snapshots(self, snapshot_ids: Set[str]) -> tuple[set[str], int]:
        return deletions.unused_snapshots(self._db, snapshot_ids)

    def files_of(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        return models.files_of(self._db, run_id)

    def find_file(self, run_id: str, path: str) -> Mapping[str, Any] | None:
        return models.find_file(self._db, run_id, path)

    def find_snapshot(self, snapshot_id: str) -> Sequence[Mapping[str, Any]] | None:
        return models.find_snapshot(self._db, snapshot_id)

    def clusters(self) -> Sequence[tuple[ClusterSpec, float, float]]:
        return models.all_clusters(self._db)

    def find_cluster(self, name: str) -> tuple[ClusterSpec, float, float] | None:
        return models.find_cluster(self._db, name)

    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]:
        return models.find_models(self._db, name, run_id)

    def find_model(self, name: str, version: int | None = None) -> ModelRecord | None:
        return models.find_model(self._db, name, version)

    def datastores(self) -> Sequence[DatastoreRecord]:
        return datasets.all_datastores(self._db)

    def find_datastore(self, name: str) -> DatastoreRecord | None:
        return datasets.find_datastore(self._db, name)

    def datasets(self, name: str | None = None) -> Sequence[DatasetRecord]:
        return datasets.find_datasets(self._db, name)

    def find_dataset(self, name: str, version: int | None = None) -> DatasetRecord | None:
        return datasets.find_dataset(self._db, name, version)

    def find_dataset_by_id(self, dataset_id: str) -> DatasetRecord | None:
        return datasets.find_dataset_by_id(self._db, dataset_id)

    def get_meta(self, key: str) -> str | None:
        return models.get_meta(self._db, key)

    def model_of_request(self, request_id: str) -> ModelRecord | None:
        return models.model_of_request(self._db, request_id)

    def used_blobs(self, hashes: Iterable[str], known: Set[str] = frozenset()) -> set[str]:
        return models.used_blobs(self._db, hashes, known)

    def snapshot_ids(self) -> set[str]:
        return models.snapshot_ids(self._db)

    def environments(self, name: str | None = None) -> Sequence[EnvironmentRecord]:
        return registered.find_environments(self._db, name)

    def find_environment(
        self, name: str, version: str | None = None, label: str | None = None
    ) -> EnvironmentRecord | None:
        return registered.find_environment(self._db, name, version, label)

    def find_experiment(self, name: str) -> Mapping[str, Any] | None:
        return registered.find_experiment(self._db, name)


class SqlWriter(SqlReader):
    """A ``Writer`` on the writer's connection, valid as long as the work that got it."""

    def create_run(self, run_id: str, spec: RunSpec, *, now: float, request_id: str | None = None) -> RunRecord:
        return runs.create_run(self._db, run_id, spec, now=now, request_id=request_id)

    def next_child_id(self, parent_id: str) -> str:
        return runs.next_child_id(self._db, parent_id)

    def transition(self, run_id: str, status: RunStatus, *, now: float, reason: Reason | None = None) -> RunRecord:
        return runs.transition(self._db, run_id, status, now=now, reason=reason)

    def update_run(self, run_id: str, **changes: Any) -> RunRecord:
        return runs.update_run(self._db, run_id, **changes)

    def prioritize(self, run_id: str, priority: int) -> RunRecord:
        return runs.prioritize(self._db, run_id, priority)

    def tag(self, run_id: str, tags: Mapping[str, str], remove: Iterable[str] = ()) -> None:
        runs.tag(self._db, run_id, tags, remove)

    def add_properties(self, run_id: str, properties: Mapping[str, str]) -> None:
        runs.add_properties(self._db, run_id, properties)

    def append(self, run_id: str, spool: str, start: int, end: int, frames: Sequence[Frame]) -> int:
        return _ingest.append(self._db, run_id, spool, start, end, frames)

    def keep_files(self, run_id: str, files: Iterable[Mapping[str, Any]]) -> None:
        models.keep_files(self._db, run_id, files)

    def drop_files(self, run_id: str) -> None:
        models.drop_files(self._db, run_id)

    def add_snapshot(self, snapshot_id: str, files: Sequence[Mapping[str, Any]], now: float) -> None:
        models.add_snapshot(self._db, snapshot_id, files, now)

    def put_cluster(self, spec: ClusterSpec, now: float) -> None:
        models.put_cluster(self._db, spec, now)

    def delete_cluster(self, name: str) -> None:
        models.delete_cluster(self._db, name)

    def add_model(self, model: ModelRecord) -> ModelRecord:
        return models.add_model(self._db, model)

    def put_datastore(self, store: DatastoreRecord) -> None:
        datasets.put_datastore(self._db, store)

    def delete_datastore(self, name: str) -> None:
        datasets.delete_datastore(self._db, name)

    def add_dataset(self, dataset: DatasetRecord) -> DatasetRecord:
        return datasets.add_dataset(self._db, dataset)

    def update_dataset(self, dataset_id: str, now: float, **changes: Any) -> DatasetRecord:
        return datasets.update_dataset(self._db, dataset_id, now, **changes)

    def unregister_dataset(self, name: str) -> int:
        return datasets.unregister_dataset(self._db, name)

    def set_meta(self, key: str, value: str) -> None:
        models.set_meta(self._db, key, value)

    def update_model(self, name: str, version: int, **changes: Any) -> ModelRecord:
        return models.update_model(self._db, name, version, **changes)

    def delete_model(self, name: str, version: int, now: float = 0.0) -> ModelRecord | None:
        return models.delete_model(self._db, name, version, now)

    def add_environment(
        self, name: str, definition: Mapping[str, Any], now: float, version: str | None = None
    ) -> EnvironmentRecord:
        return registered.add_environment(self._db, name, definition, now, version)

    def label_environment(self, name: str, version: str, labels: Iterable[str]) -> None:
        registered.label_environment(self._db, name, version, labels)

    def update_experiment(self, name: str, now: float, **changes: Any) -> Mapping[str, Any]:
        return registered.update_experiment(self._db, name, now, **changes)

    def delete_experiment(self, name: str, now: float = 0.0) -> Sequence[str]:
        return registered.delete_experiment(self._db, name, now)

    def delete_runs(self, run_ids: Iterable[str], now: float) -> Sequence[str]:
        return deletions.delete_runs(self._db, run_ids, now)

    def drop_snapshot(self, snapshot_id: str, newest: int, now: float) -> bool:
        return deletions.drop_snapshot(self._db, snapshot_id, newest, now)

    def forget_deletions(self, numbers: Iterable[int]) -> None:
        deletions.forget(self._db, numbers)
