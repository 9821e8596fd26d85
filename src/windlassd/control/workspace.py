"""One workspace, whole: what the routes of the server call. It implements ``server.backend.Backend``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass import settings
from windlass.errors import UserErrorException
from windlass.specs.run import INTERACTIVE, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs import snapshots
from windlassd.compute.base import Plan
from windlassd.control import carried, metrics, streams, submit
from windlassd.control.agents import AgentHub
from windlassd.control.clusters import Clusters
from windlassd.control.conductor import Conductor
from windlassd.control.core import Core
from windlassd.control.data import Data
from windlassd.control.environments import Environments
from windlassd.control.events import Events
from windlassd.control.experiments import Experiments
from windlassd.control.files import Files
from windlassd.control.interactive import Interactive
from windlassd.control.logins import LoginCodes
from windlassd.control.models import Models
from windlassd.control.monitor import Monitor
from windlassd.control.queue import Line
from windlassd.control.uploads import Uploads
from windlassd.control.views import LocatedFile
from windlassd.store.base import DatasetRecord, ModelRecord, SeriesSummary, Writer

_ANNOUNCED = 256
_LONGEST_KEY, _LONGEST_VALUE = 255, 65_536
_CANCEL_MARGIN_S = 20.0
_META = ("subscription_id", "resource_group", "location", "created", "friendly_name", "description", "tags")
_SAID = ("subscription_id", "resource_group", "location", "friendly_name", "description")


class WorkspaceControl:
    """The use cases of a workspace. Coroutines belong to the server's loop; plain questions to any thread."""

    def __init__(self, core: Core, hub: AgentHub) -> None:
        self.core = core
        self.hub = hub
        self.line = Line(core.engine)
        self.clusters = Clusters(core, self.line)
        self.conductor = Conductor(core, self.line)
        self.run_files = Files(core)
        self.run_models = Models(core, self._awaited)
        self.environments = Environments(core)
        self.experiment_facts = Experiments(core)
        self.uploads = Uploads(core)
        self.data = Data(core)
        self.logins = LoginCodes()
        self.monitor = Monitor(core, hub)
        self.events = Events(core, self.line, hub, self.conductor, self.run_files.verify)
        self.interactive = Interactive(core, self.events.ingest, self.run_files.verify)
        self._watch: asyncio.Task[None] | None = None
        self._announced: dict[str, Sequence[Mapping[str, Any]]] = {}

    async def start(self) -> None:
        """Take up what an earlier server left, and begin to watch."""
        if self.core.read(lambda tx: tx.get_meta("created")) is None:
            await self.core.write(lambda tx: tx.set_meta("created", str(time.time())))
        self.uploads.sweep()
        await carried.bring_in(self.core, self.events.ingest)
        await self.conductor.resume()
        self.interactive.resume()
        for run_id in self.core.read(lambda tx: tx.unverified_runs()):
            self.run_files.verify(run_id)
        self._watch = asyncio.get_running_loop().create_task(self.monitor.run(), name="monitor")

    def close(self) -> None:
        """Stop the loops; runs go on under their agents."""
        if self._watch:
            self._watch.cancel()
        self.conductor.close()
        self.environments.close()
        self.interactive.close()

    def active(self) -> int:
        """Runs that have not ended."""
        return len(self.core.read(lambda tx: tx.active_runs()))

    def idle(self) -> bool:
        """True when nothing is left to do: no run, no stream, no checksum."""
        if self.environments.building():
            return False
        return not (self.core.bus.subscribers or self.run_files.verifying() or self.conductor.active() or self.active())

    # Questions

    def workspace(self) -> Mapping[str, Any]:
        """Name, what an Azure config said of it, and what its users say of it."""
        values: dict[str, Any] = {key: self.core.read(lambda tx, k=key: tx.get_meta(k)) for key in _META}  # type: ignore[misc]
        tags = json.loads(values["tags"] or "{}")
        return {"name": self.core.name, **values, "created": float(values["created"] or 0), "tags": tags}

    def experiments(self) -> Sequence[Mapping[str, Any]]:
        """Experiments by name, with how many runs they have and when the last was made."""
        return [{"name": name, **found} for name, found in sorted(self.core.read(lambda tx: tx.count_runs()).items())]

    def computes(self) -> Sequence[Mapping[str, Any]]:
        """Clusters with their capacity."""
        return self.clusters.list()

    def list_runs(
        self, *, experiment: str | None = None, statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (), limit: int = 100, before: str | None = None,
        parent: str | None = None, include_children: bool = False,
    ) -> tuple[Sequence[RunRecord], bool]:  # fmt: skip
        """Newest first, and whether there are more."""
        found = self.core.read(
            lambda tx: tx.list_runs(
                experiment=experiment,
                statuses=statuses,
                tags=tags,
                limit=limit + 1,
                before=before,
                parent=parent,
                include_children=include_children,
            )
        )
        return [self._with_reason(r) for r in found[:limit]], len(found) > limit

    def get_run(self, run_id: str) -> RunRecord:
        """A run with its history."""
        return self._with_reason(self.core.read(lambda tx: tx.get_run(run_id, history=True)))

    def summaries(self, run_id: str) -> Sequence[SeriesSummary]:
        """One row per metric series."""
        return self.core.read(lambda tx: tx.series_of(run_id))

    def metrics(self, run_id: str, name: str | None = None, points: int | None = None) -> Mapping[str, Any]:
        """Series by name, as the wire has them."""
        self.core.read(lambda tx: tx.get_run(run_id))
        return metrics.to_wire(self.core.read(lambda tx: tx.series(run_id, name, points)))

    def files(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """Kept files of a run."""
        return self.run_files.list(run_id)

    def locate(self, run_id: str, path: str) -> LocatedFile:
        """Where a kept file lies."""
        return self.run_files.locate(run_id, path)

    def models(self, name: str | None = None, run_id: str | None = None) -> Sequence[ModelRecord]:
        """Model versions, newest first."""
        return self.core.read(lambda tx: tx.models(name, run_id))

    def datastores(self) -> Sequence[Mapping[str, Any]]:
        """Datastores, the workspace's own first."""
        found: Sequence[Mapping[str, Any]] = self.data.stores()["datastores"]
        return found

    def datasets(self) -> Sequence[DatasetRecord]:
        """Registered versions of datasets, newest first."""
        return self.data.datasets()

    def run_stream(self, run_id: str, *, logs: bool, offsets: Mapping[str, int]) -> AsyncIterator[tuple[str, Any]]:
        """Events of one run to its end."""
        self.core.read(lambda tx: tx.get_run(run_id))
        return streams.of_run(self.core, lambda: self._brief(run_id), run_id, logs=logs, offsets=offsets)

    def runs_stream(self, experiment: str | None) -> AsyncIterator[tuple[str, Any]]:
        """Records as they change."""
        return streams.of_runs(self.core, experiment, self._brief)

    def redeem(self, code: str) -> str | None:
        """Where a login code leads, once."""
        return self.logins.redeem(code)

    # Changes

    async def submit(self, spec: RunSpec, request_id: str | None) -> RunRecord:
        """Take a run; it is durable when this returns, and on its way."""
        await self._complete_snapshot(spec.snapshot_id)
        record, is_new = await submit.create(self.core, spec, request_id)
        if is_new:
            self.conductor.begin(record)
            self.core.bus.touch(record.id, "run")
        return record

    async def plan(self, spec: RunSpec) -> Plan:
        """What submitting ``spec`` would do."""
        await self._complete_snapshot(spec.snapshot_id)
        return submit.plan(self.core, spec)

    async def cancel(self, run_id: str) -> RunRecord:
        """Ask for a run's end."""
        if self.core.read(lambda tx: tx.get_run(run_id)).spec.kind == INTERACTIVE:
            return await self.interactive.cancel(run_id)
        return await self.conductor.cancel(run_id)

    async def begin_interactive(self, asked: Mapping[str, Any]) -> tuple[RunRecord, str]:
        """Begin a run that a client's process holds; see ``Interactive.begin``."""
        if snapshot_id := asked["spec"].get("snapshot_id"):
            await self._complete_snapshot(snapshot_id)
        return await self.interactive.begin(asked)

    async def cancel_all(self, run_ids: Sequence[str]) -> None:
        """Cancel runs and wait until they have ended, as long as their grace allows (and a little more)."""
        deadline = time.monotonic() + settings.get("stop_grace_s") + _CANCEL_MARGIN_S
        with self.core.bus.subscribe(None) as subscription:
            for run_id in run_ids:
                await self.cancel(run_id)
            while self.active() and time.monotonic() < deadline:
                await subscription.wait(deadline - time.monotonic())

    async def patch(self, run_id: str, changes: Mapping[str, Any]) -> RunRecord:
        """Change tags, properties, display name and description in one step."""

        _check_names("tag", changes.get("tags") or {})
        _check_names("property", changes.get("properties") or {})

        def work(tx: Any) -> RunRecord:
            tx.get_run(run_id)
            if changes.get("tags") or changes.get("remove_tags"):
                tx.tag(run_id, changes.get("tags") or {}, changes.get("remove_tags") or ())
            if changes.get("properties"):
                tx.add_properties(run_id, changes["properties"])
            plain = {name: changes[name] for name in ("display_name", "description") if name in changes}
            if plain:
                tx.update_run(run_id, **plain)
            return tx.get_run(run_id)  # type: ignore[no-any-return]

        record = await self.core.write(work)
        self.core.bus.touch(run_id, "run")
        return record

    async def describe_workspace(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """Keep what an Azure config or a user said of the workspace; ``tags`` replace all there are."""
        values = {k: str(given[k]) for k in _SAID if given.get(k)}
        if given.get("tags") is not None:
            _check_names("tag", given["tags"])
            values["tags"] = json.dumps({str(key): str(value) for key, value in given["tags"].items()})

        def work(tx: Writer) -> None:
            for key, value in values.items():
                tx.set_meta(key, value)

        await self.core.write(work)
        return self.workspace()

    async def take_snapshot(self, files: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Know a snapshot; ``missing`` are the contents still to be sent before it can be used."""
        snapshots.check_manifest(files)
        snapshot_id = snapshots.snapshot_id(files)
        if self.core.read(lambda tx: tx.find_snapshot(snapshot_id)) is not None:
            return {"id": snapshot_id, "missing": []}
        self._announced[snapshot_id] = files
        while len(self._announced) > _ANNOUNCED:  # clients that never came back
            del self._announced[next(iter(self._announced))]
        missing = await asyncio.to_thread(self.core.blobs.missing, sorted({f["sha256"] for f in files}))
        if not missing:
            await self._complete_snapshot(snapshot_id)
        return {"id": snapshot_id, "missing": list(missing)}

    async def _complete_snapshot(self, snapshot_id: str) -> None:
        """Write down an announced snapshot whose contents are all here by now."""
        files = self._announced.get(snapshot_id)
        if files is None:
            return
        async with self.core.keeping:
            if not await asyncio.to_thread(self.core.blobs.missing, sorted({f["sha256"] for f in files})):
                await self.core.write(lambda tx: tx.add_snapshot(snapshot_id, files, time.time()))
                self._announced.pop(snapshot_id, None)

    def _awaited(self) -> set[str]:
        """Contents of snapshots that clients have announced and not used yet."""
        return {f["sha256"] for files in self._announced.values() for f in files}

    def _with_reason(self, record: RunRecord) -> RunRecord:
        if self.core.trouble is not None and not record.status.final:
            return replace(record, reason=self.core.trouble.reason())
        if record.status is RunStatus.QUEUED and not record.nodes:
            reason = self.line.reason(record.spec.target, record.id)
            if reason:
                return replace(record, reason=reason)
        return record

    def _brief(self, run_id: str) -> RunRecord:
        return self._with_reason(self.core.read(lambda tx: tx.get_run(run_id)))


def _check_names(what: str, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if not key or len(key) > _LONGEST_KEY or len(str(value)) > _LONGEST_VALUE:
            raise UserErrorException(
                f"The {what} {key[:60]!r} cannot be kept: its name needs 1 to {_LONGEST_KEY} characters, its value at "
                f"most {_LONGEST_VALUE}."
            )
