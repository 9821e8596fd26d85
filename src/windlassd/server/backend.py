"""What the routes need of the workspace; ``windlassd.control`` is behind it, a fake in the pages' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.control.views import LocatedFile as LocatedFile
from windlassd.store.base import DatasetRecord, MetricFilter, ModelRecord, SeriesSummary


class Backend(Protocol):
    """Questions are plain functions (the routes call them in a worker thread); streams are asynchronous.

    Absent things raise UserErrorException (or its v1 kin) whose message a user can act on; routes turn that into 404.
    """

    def workspace(self) -> Mapping[str, Any]: ...  # GET /v1/workspace
    def experiments(self) -> Sequence[Mapping[str, Any]]: ...  # GET /v1/experiments
    def computes(self) -> Sequence[Mapping[str, Any]]: ...  # GET /v1/computes
    def nodes(self, name: str) -> Sequence[Mapping[str, Any]]: ...  # as in GET /v1/computes/NAME/nodes
    def queue(self, name: str, limit: int) -> Mapping[str, Any]: ...  # GET /v1/computes/NAME/queue
    def list_runs(
        self, *, experiment: str | None = None, statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (), metrics: Sequence[MetricFilter] = (), limit: int = 100,
        before: str | None = None, parent: str | None = None, include_children: bool = False,
    ) -> tuple[Sequence[RunRecord], bool]: ...  # (newest first, whether there are more)  # fmt: skip
    def get_run(self, run_id: str) -> RunRecord: ...  # with history
    def summaries(self, run_id: str) -> Sequence[SeriesSummary]: ...
    def metrics(self, run_id: str, name: str | None = None, points: int | None = None) -> Mapping[str, Any]:
        """``{NAME: {"type", "count", "times", "steps", "values"}}``, as inside the wire's ``metrics``."""
        ...

    def files(self, run_id: str) -> Sequence[Mapping[str, Any]]: ...  # {"path","size","sha256"}
    def locate(self, run_id: str, path: str) -> LocatedFile: ...
    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]: ...
    def datastores(self) -> Sequence[Mapping[str, Any]]: ...  # as in GET /v1/datastores
    def datasets(self) -> Sequence[DatasetRecord]: ...  # registered versions, newest first
    def run_stream(
        self, run_id: str, *, logs: bool, offsets: Mapping[str, int]
    ) -> AsyncIterator[tuple[str, Any]]: ...  # (event name, data) as docs/dev/wire.md lists them; None data: keep-alive
    def runs_stream(self, experiment: str | None) -> AsyncIterator[tuple[str, Any]]: ...
    async def cancel(self, run_id: str) -> RunRecord: ...
    def redeem(self, code: str) -> str | None: ...  # the path a single-use login code leads to, once; else None
