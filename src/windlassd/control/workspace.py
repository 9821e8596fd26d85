"""One workspace, whole: what the routes of the server call. It implements ``server.backend.Backend``."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from windlass import settings
from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.launch import Outcome, PartKey
from windlass.specs.run import INTERACTIVE, RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.blobs import snapshots
from windlassd.compute.base import Plan
from windlassd.control import carried, metrics, parts, streams, submit
from windlassd.control.agents import AgentHub
from windlassd.control.announced import Announced
from windlassd.control.backups import Backups
from windlassd.control.clusters import Clusters
from windlassd.control.conductor import Conductor
from windlassd.control.core import LOCAL, Core
from windlassd.control.data import Data
from windlassd.control.deletions import Deletions
from windlassd.control.environments import Environments
from windlassd.control.events import Events
from windlassd.control.experiments import Experiments
from windlassd.control.files import Files
from windlassd.control.interactive import Interactive
from windlassd.control.logins import LoginCodes
from windlassd.control.models import Models
from windlassd.control.monitor import Monitor
from windlassd.control.queue import Line
from windlassd.control.registry_logins import Logins
from windlassd.control.retention import Retention
from windlassd.control.uploads import Uploads
from windlassd.control.views import LocatedFile
from windlassd.envs.registry_logins import logins_of
from windlassd.store.base import DatasetRecord, MetricFilter, ModelRecord, RunLine, Series, SeriesSummary, Writer

log = logging.getLogger(__name__)
_PROMISE_S = 600.0
_MOVED_S = 0.2
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
        self.line.moved = self._line_moved
        hub.watchers.append(self.line.engine_changed)
        self.clusters = Clusters(core, self.line)
        self.run_files = Files(core)
        self.environments = Environments(core)
        self.conductor = Conductor(core, self.line, self._run_ended)
        self.run_models = Models(core)
        self.deletions = Deletions(core, self._awaited, self._expected, self._keep_promises)
        self.retention = Retention(core, self.deletions)
        self.backups = Backups(core)
        self.experiment_facts = Experiments(core)
        self.uploads = Uploads(core)
        self.data = Data(core)
        self.logins = LoginCodes()
        self.registry_logins = Logins(logins_of(core.envs.root))
        hub.recorded = lambda key: parts.status_of(core.read(lambda tx: tx.find_run(key[0])), key)
        self.events = Events(core, self.line, hub, self.conductor, self._run_ended)
        hub.unfit = self._unfit
        self.monitor = Monitor(core, hub, self.events.lose)
        self.interactive = Interactive(core, self.events.ingest, self.run_files.verify)
        self._ending: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None
        self._retain: asyncio.Task[None] | None = None
        self._announced = Announced(core.workspace_dir)
        self._promised: dict[str, list[float]] = {}
        self._moving = False

    async def start(self) -> None:
        """Take up what an earlier server left, and begin to watch."""
        if self.core.read(lambda tx: tx.get_meta("created")) is None:
            await self.core.write(lambda tx: tx.set_meta("created", str(time.time())))
        self.uploads.sweep()
        await carried.bring_in(self.core, self.events.ingest)
        await self.environments.start()
        await self.clusters.start()
        await self.conductor.resume()
        if self.hub.enlisting is not None:
            self.hub.enlisting.tokens.retain(self._is_awaited)
        self.interactive.resume()
        for run_id in self.core.read(lambda tx: tx.unverified_runs()):
            self.run_files.verify(run_id)
        self.backups.sweep()
        self._watch = asyncio.get_running_loop().create_task(self.monitor.run(), name="monitor")
        self._retain = asyncio.get_running_loop().create_task(self.retention.run(), name="retention")

    def close(self) -> None:
        """Stop the loops; runs go on under their agents."""
        for task in (self._watch, self._retain):
            if task:
                task.cancel()
        self.deletions.close()
        self.conductor.close()
        self.clusters.close()
        self.environments.close()
        self.interactive.close()
        self.run_files.close()

    def _line_moved(self) -> None:
        """Soon tell whoever watches a run that waits that its place may be another."""
        if not self._moving:
            self._moving = True
            self.core.loop.call_later(_MOVED_S, self._tell_places)

    def _tell_places(self) -> None:
        self._moving = False
        for run_id in self.core.bus.watched():
            if self.line.waits(run_id):
                self.core.bus.touch(run_id, "run")

    def _is_awaited(self, key: PartKey) -> bool | None:
        """Whether a part is still to be heard of; None when its run is gone."""
        record = self.core.read(lambda tx: tx.find_run(key[0]))
        return None if record is None else record.attempt == key[1] and not record.status.final

    def _run_ended(self, run_id: str) -> None:
        self.run_files.verify(run_id)
        self.environments.release(run_id)
        if self.hub.enlisting is not None:
            self.hub.enlisting.tokens.end_jobs(run_id)

    def _unfit(self, key: PartKey, why: str) -> None:
        """A part will never be begun on its node."""
        ends = self.events.lose(key, Outcome(reason_code="node_unusable", message=why))
        task = self.core.loop.create_task(ends, name=f"end {key}")
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def active(self) -> int:
        """Runs that have not ended."""
        return self.core.read(lambda tx: tx.count_active())

    def moved(self) -> set[str]:
        """Runs that some task, agent or client of this moment moves. Loop thread."""
        return self.conductor.conducted() | self.hub.given() | self.interactive.looked_after()

    def idle(self) -> bool:
        """True when nothing is left to do: no run, no stream, no checksum, nothing to free."""
        if self.environments.building() or self.deletions.busy():
            return False
        return not (self.core.bus.subscribers or self.run_files.verifying() or self.conductor.active() or self.active())

    # Questions

    def workspace(self) -> Mapping[str, Any]:
        """Name, what an Azure config said of it, and what its users say of it."""
        values: dict[str, Any] = self.core.read(lambda tx: {key: tx.get_meta(key) for key in _META})
        tags = json.loads(values["tags"] or "{}")
        return {"name": self.core.name, **values, "created": float(values["created"] or 0), "tags": tags}

    def experiments(self) -> Sequence[Mapping[str, Any]]:
        """Experiments by name, with how many runs they have and when the last was made."""
        return [{"name": name, **found} for name, found in sorted(self.core.read(lambda tx: tx.count_runs()).items())]

    def computes(self) -> Sequence[Mapping[str, Any]]:
        """Clusters with their capacity, this machine first."""
        found = self.clusters.list()
        return found if any(entry["spec"]["name"] == LOCAL for entry in found) else [self.clusters.get(LOCAL), *found]

    def nodes(self, name: str) -> Sequence[Mapping[str, Any]]:
        """The nodes of a cluster."""
        return self.clusters.nodes(name)

    def queue(self, name: str, limit: int) -> Mapping[str, Any]:
        """Who waits for a cluster."""
        return self.clusters.queue(name, limit)

    def list_runs(
        self, *, experiment: str | None = None, statuses: Sequence[RunStatus] = (),
        tags: Sequence[tuple[str, str | None]] = (), metrics: Sequence[MetricFilter] = (), limit: int = 100,
        before: str | None = None, parent: str | None = None, include_children: bool = False,
    ) -> tuple[Sequence[RunRecord], bool]:  # fmt: skip
        """Newest first, and whether there are more."""
        found = self.core.read(
            lambda tx: tx.list_runs(
                experiment=experiment,
                statuses=statuses,
                tags=tags,
                metrics=metrics,
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

    def list_lines(self, *, limit: int, **filters: Any) -> tuple[Sequence[str], bool]:
        """As ``list_runs``, each run as the JSON text of its record."""
        found = self.core.read(lambda tx: tx.list_lines(limit=limit + 1, **filters))
        return [self._told(line) for line in found[:limit]], len(found) > limit

    def compare(self, run_ids: Sequence[str]) -> tuple[Sequence[str], Mapping[str, Sequence[SeriesSummary]]]:
        """The JSON text of these runs' records in this order, and the summaries of their metrics by run id.

        Raises:
            UserErrorException: one is absent.
        """
        found, summaries = self.core.read(lambda tx: (tx.find_lines(run_ids), tx.series_of_runs(run_ids)))
        if len(found) < len(set(run_ids)):
            known = {line.id for line in found}
            absent = next(run_id for run_id in run_ids if run_id not in known)
            self.core.read(lambda tx: tx.get_run(absent))  # says so
        return [self._told(line) for line in found], summaries

    def summaries(self, run_id: str) -> Sequence[SeriesSummary]:
        """One row per metric series."""
        return self.core.read(lambda tx: tx.series_of(run_id))

    def metrics(self, run_id: str, name: str | None = None, points: int | None = None) -> Mapping[str, Any]:
        """Series by name, as the wire has them."""
        return metrics.to_wire(self._series(run_id, name, points))

    def metrics_json(self, run_id: str, name: str | None, points: int | None) -> Iterator[str]:
        """The JSON text of ``metrics``, piece by piece."""
        return metrics.to_json(self._series(run_id, name, points))

    def _series(self, run_id: str, name: str | None, points: int | None) -> Sequence[Series]:
        self.core.read(lambda tx: tx.get_run(run_id))
        return self.core.read(lambda tx: tx.series(run_id, name, points))

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
        self._kept_word(spec.snapshot_id)
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
        deadline = time.monotonic() + settings.steady("stop_grace_s") + _CANCEL_MARGIN_S
        with self.core.bus.subscribe(None) as subscription:
            for run_id in run_ids:
                await self.cancel(run_id)
            while self.active() and time.monotonic() < deadline:
                await subscription.wait(deadline - time.monotonic())

    async def patch(self, run_id: str, changes: Mapping[str, Any]) -> RunRecord:
        """Change tags, properties, display name, description and priority in one step."""

        if changes.get("priority") is not None:
            submit.check_priority(changes["priority"])
        _check_names("tag", changes.get("tags") or {})
        _check_names("property", changes.get("properties") or {})

        def work(tx: Any) -> RunRecord:
            record = tx.get_run(run_id)
            if changes.get("priority") is not None:
                _refuse_late(record)
                tx.prioritize(run_id, changes["priority"])
            if changes.get("tags") or changes.get("remove_tags"):
                tx.tag(run_id, changes.get("tags") or {}, changes.get("remove_tags") or ())
            if changes.get("properties"):
                tx.add_properties(run_id, changes["properties"])
            plain = {name: changes[name] for name in ("display_name", "description") if name in changes}
            if plain:
                tx.update_run(run_id, **plain)
            return tx.get_run(run_id)  # type: ignore[no-any-return]

        record = await self.core.write(work)
        if changes.get("priority") is not None:
            self.line.prefer(record.spec.target, run_id, record.spec.priority)
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
        self._promised.setdefault(snapshot_id, []).append(time.monotonic())
        found, going = self.core.read(lambda tx: (tx.find_snapshot(snapshot_id), tx.deletions()))
        known = found is not None
        if not known or going:  # else it stays, at least until somebody deletes what has it: see _keep_promises
            self._announced.add(snapshot_id, files)
        # Asked of a known one, too: a damaged content that the doctor took away is so sent anew.
        missing = await asyncio.to_thread(self.core.blobs.missing, sorted({f["sha256"] for f in files}))
        if not missing and not known:
            await self._complete_snapshot(snapshot_id)
        elif not known or going:
            await asyncio.to_thread(self._announced.keep, snapshot_id)
        return {"id": snapshot_id, "missing": list(missing)}

    async def _complete_snapshot(self, snapshot_id: str) -> None:
        """Write down an announced snapshot whose contents are all here by now."""
        files = self._announced.find(snapshot_id)
        if files is None:
            return
        async with self.core.keeping:
            if not await asyncio.to_thread(self.core.blobs.missing, sorted({f["sha256"] for f in files})):
                await self.core.write(lambda tx: tx.add_snapshot(snapshot_id, files, time.time()))
                self._announced.remove(snapshot_id)

    def _awaited(self) -> set[str]:
        """Contents of snapshots that clients have announced and not used yet."""
        return self._announced.contents()

    def _expected(self) -> set[str]:
        """Snapshots that clients were told are here (or on their way) and have not used yet."""
        oldest = time.monotonic() - _PROMISE_S
        self._promised = {
            name: left for name, times in self._promised.items() if (left := [t for t in times if t > oldest])
        }
        return set(self._promised)

    async def _keep_promises(self) -> None:
        """Before something is deleted: announce what clients have yet to use, which holds over a restart as well."""
        for snapshot_id in self._expected():
            files = self.core.read(lambda tx, name=snapshot_id: tx.find_snapshot(name))  # type: ignore[misc]
            if files is not None:
                self._announced.add(snapshot_id, files)
                try:
                    await asyncio.to_thread(self._announced.keep, snapshot_id)
                except OSError as problem:  # such as a full disk, which the deletion is about to mend
                    log.warning("the promise of %s holds for this server only: %s", snapshot_id, problem)

    def _kept_word(self, snapshot_id: str) -> None:
        if times := self._promised.pop(snapshot_id, [])[1:]:
            self._promised[snapshot_id] = times

    def _with_reason(self, record: RunRecord) -> RunRecord:
        if self.core.trouble is not None and not record.status.final:
            return replace(record, reason=self.core.trouble.reason())
        if record.status is RunStatus.QUEUED or (record.status is RunStatus.NOT_RESPONDING and not record.nodes):
            placed = bool(record.nodes)
            reason = self.hub.why_waits(record.id) if placed else self.line.reason(record.spec.target, record.id)
            if reason:
                return replace(record, reason=reason)
        return record

    def _told(self, line: RunLine) -> str:
        """The record as JSON; where ``_with_reason`` may have something to say, with that."""
        waits = line.status == RunStatus.QUEUED and (not line.placed or self.hub.why_waits(line.id))
        if not waits and (self.core.trouble is None or RunStatus(line.status).final):
            return line.text
        if self.core.trouble is not None or line.placed:
            return json.dumps(to_wire(self._brief(line.id)), allow_nan=False)
        record = json.loads(line.text)
        if reason := self.line.reason(record["spec"]["target"], line.id):
            record["reason"] = to_wire(reason)
        return json.dumps(record, allow_nan=False)

    def _brief(self, run_id: str) -> RunRecord:
        return self._with_reason(self.core.read(lambda tx: tx.get_run(run_id)))


def _refuse_late(record: RunRecord) -> None:
    if record.nodes or record.status.final or record.spec.kind == INTERACTIVE:
        raise UserErrorException(
            f"{record.id} is {record.status.value}: its priority says when it gets nodes, and may change until then."
        )


def _check_names(what: str, given: Mapping[str, Any]) -> None:
    for key, value in given.items():
        if not key or len(key) > _LONGEST_KEY or len(str(value)) > _LONGEST_VALUE:
            raise UserErrorException(
                f"The {what} {key[:60]!r} cannot be kept: its name needs 1 to {_LONGEST_KEY} characters, its value at "
                f"most {_LONGEST_VALUE}."
            )
