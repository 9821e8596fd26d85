"""A run's way on the server: environment, line, nodes. From then on its agent's events move it (``events.py``).

Every step may be repeated: after a restart ``resume`` takes each unfinished run up where its record says it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from windlass.errors import AzureMLException, ComputeTargetException
from windlass.specs.run import INTERACTIVE, Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus, may_follow
from windlassd.blobs.run_folder import BUILD_LOG, RunFolder
from windlassd.compute.base import JobSpec, Phase
from windlassd.control import parts, retries
from windlassd.control.core import Core
from windlassd.control.elsewhere import Elsewhere
from windlassd.control.queue import Line
from windlassd.control.submit import container_of, job_of, unused_options, unused_retries
from windlassd.envs.base import EnvironmentFailed, Ready
from windlassd.store.base import StoreError

log = logging.getLogger(__name__)
_STORE_AGAIN_S = 2.0
_ON_ITS_WAY = (RunStatus.PREPARING, RunStatus.QUEUED)
_LOOKING = 32
"""Runs whose environment is looked for at once: after a restart thousands may come together, and others call, too."""
CANCELED = Reason("canceled", "The run was canceled.")
COMING = Reason("waits_for_nodes", "Nodes are being added for it.")


class Conductor:
    """One task per run that is not on a node yet. Belongs to the loop's thread.

    Args:
        core: The workspace.
        line: Where runs wait for nodes.
        verify: Called with the id of a run that ended before it started, whose files need checksums.
    """

    def __init__(self, core: Core, line: Line, verify: Callable[[str], None]) -> None:
        self._core = core
        self._line = line
        self._elsewhere = Elsewhere(core)
        self._verify = verify
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = itertools.count()
        self._looking = asyncio.Semaphore(_LOOKING)

    def begin(self, record: RunRecord) -> None:
        """Take a new run on its way; returns at once. Its place in line goes by the order of these calls."""
        if record.id not in self._tasks:
            conducting = self._conduct(record, next(self._turns))
            task = asyncio.get_running_loop().create_task(conducting, name=_task_name(record))
            self._tasks[record.id] = task
            task.add_done_callback(lambda t: self._tasks.get(record.id) is t and self._tasks.pop(record.id))

    def begin_anew(self, record: RunRecord) -> None:
        """Take a run whose node was lost on its way to its next attempt."""
        task = self._tasks.get(record.id)
        if task is not None and task.get_name() != _task_name(record):
            self._tasks.pop(record.id).cancel()
        self.begin(record)

    async def resume(self) -> None:
        """After a start: take up every run that has not ended."""
        active = [r for r in self._core.read(lambda tx: tx.active_runs()) if r.spec.kind != INTERACTIVE]
        for record in active:  # all of these first: who waits must find their nodes taken
            if record.nodes:
                self._try_to_reattach(record)
        for record in active:
            if record.nodes:
                continue
            if record.status is RunStatus.CANCEL_REQUESTED:
                await self._end_before_start(record.id, RunStatus.CANCELED, CANCELED)
            else:
                self.begin(record)

    async def cancel(self, run_id: str, reason: Reason = CANCELED) -> RunRecord:
        """Ask for a run's end; returns its record, unchanged when it has ended already."""
        asked = Reason("cancel_requested", "Its cancellation was asked for.")
        record = await self._core.write(mover(run_id, RunStatus.CANCEL_REQUESTED, asked, {}))
        self._core.bus.touch(run_id, "run")
        if record.status.final:
            return record
        native_id = f"{run_id}.{record.attempt}"
        if record.nodes:
            engine = self._core.engine(self._core.cluster(record.spec.target))
            engine.cancel(native_id, reason)
            return record
        if task := self._tasks.get(run_id):
            task.cancel()
            await asyncio.wait([task])
        cluster = self._core.cluster_or_none(record.spec.target)
        if cluster is not None and (state := self._core.engine(cluster).poll([native_id]).get(native_id)):
            self._core.engine(cluster).cancel(native_id, reason)
            if state.phase is not Phase.PENDING:
                return record  # placed in the same moment: its agent will tell of its end
            self._core.engine(cluster).ended(native_id)  # no agent has it yet
            self._line.pump(cluster)
        return await self._end_before_start(run_id, RunStatus.CANCELED, reason)

    def drop(self, run_id: str) -> None:
        """The run needs no more conducting: an agent has it, or it has ended."""
        if task := self._tasks.get(run_id):
            task.cancel()

    def conducted(self) -> set[str]:
        """Runs that are on their way to a node."""
        return set(self._tasks)

    def active(self) -> int:
        """How many runs are on their way to a node."""
        return len(self._tasks)

    def close(self) -> None:
        """Stop all tasks; the runs are taken up again at the next start."""
        for task in self._tasks.values():
            task.cancel()

    async def _conduct(self, record: RunRecord, turn: int) -> None:
        while True:
            try:
                return await self._to_a_node(record, turn)
            except StoreError as problem:  # such as a full disk: every step may be repeated
                log.warning("%s cannot be recorded, trying again: %s", record.id, problem)
                await asyncio.sleep(_STORE_AGAIN_S)

    async def _to_a_node(self, record: RunRecord, turn: int) -> None:
        try:
            if record.attempt > 1:
                await asyncio.to_thread(retries.put_aside, self._core.folder(record.id), record.attempt - 1)
            ready = await self._prepare(record)
            await self._queue(record, ready, turn)
        except (asyncio.CancelledError, StoreError):
            raise
        except EnvironmentFailed as problem:
            await self._end_before_start(record.id, RunStatus.FAILED, Reason("environment_failed", problem.message))
        except AzureMLException as problem:
            await self._end_before_start(record.id, RunStatus.FAILED, Reason(problem.error_code, problem.message))
        except OSError as problem:
            message = f"The run's folder could not be used: {problem}. Free space or mend the disk, then submit again."
            await self._end_before_start(record.id, RunStatus.FAILED, Reason("disk", message))
        except Exception as problem:  # the edge: a bug of ours must not leave the run waiting for ever
            log.exception("conducting %s failed", record.id)
            message = f"Windlass failed while preparing the run: {problem!r}. Please report it with server.log."
            await self._end_before_start(record.id, RunStatus.FAILED, Reason("internal_error", message))

    async def _prepare(self, record: RunRecord) -> Ready:
        """Its environment, which stays until the run has ended (see ``Environments.release``)."""
        spec, use, envs = record.spec.environment, self._core.use(record.id), self._core.envs
        engine = self._core.engine(self._core.cluster(record.spec.target))
        if engine.elsewhere:
            resolving = functools.partial(self._preparing, record.id, "Its packages are being resolved.")
            return await self._elsewhere.resolved(record, engine, resolving)
        async with self._looking:
            ready = await asyncio.to_thread(envs.find, spec, use)
        if ready is not None:
            return ready
        async with self._preparing(record.id, "Its environment is being built.") as say:
            while True:
                ready = await self._core.builds.prepare(spec, say, use)
                if ready.in_place or await asyncio.to_thread(envs.hold, ready.key, use):
                    return ready  # else it was removed between the end of the build and now

    @contextlib.asynccontextmanager
    async def _preparing(self, run_id: str, why: str) -> AsyncIterator[Callable[[str], None]]:
        """Make the run Preparing; gives what takes the lines of its build log."""
        await self._move(run_id, RunStatus.PREPARING, Reason("environment", why))
        folder = self._core.folder(run_id)
        await asyncio.to_thread(folder.make)
        with open(folder.log(BUILD_LOG), "a", encoding="utf-8") as out:

            def say(line: str) -> None:
                out.write(line + "\n")
                out.flush()
                self._core.bus.touch(run_id, "log")

            try:
                yield say
            except EnvironmentFailed as problem:
                say(problem.message)
                raise

    async def _queue(self, record: RunRecord, ready: Ready, turn: int) -> None:
        environment = _describe(ready, record.spec, self._core.engine(self._core.cluster(record.spec.target)).elsewhere)
        job = self._job(record, environment)
        if self._line.would_wait(job) and not _is_queued_with(record, environment):
            waits = Reason("waits_for_nodes", "It waits for nodes.")
            await self._move(record.id, RunStatus.QUEUED, waits, environment=environment)
        native_id = await self._line.place(job, turn, record.spec.priority)
        engine = self._core.engine(job.cluster)
        state = engine.poll([native_id])[native_id]
        if state.phase is Phase.PENDING:
            coming = self._line.reason(record.spec.target, record.id)
            await self._move(record.id, RunStatus.QUEUED, coming or COMING, environment=environment)
            try:
                state = await self._line.arrived(job)
            except ComputeTargetException:
                engine.ended(native_id)  # no agent has it: nobody else would say so
                self._line.pump(job.cluster)
                raise
        starts = Reason("starting", " ".join([f"It starts on {', '.join(state.nodes)}.", *state.notes]))
        if engine.elsewhere:
            await asyncio.to_thread(self._name_nodes, record.id, state.nodes)
        if state.gpus:
            environment = {**environment, "gpus": {node: list(gpus) for node, gpus in state.gpus.items()}}
        await self._core.write(_placed(record.id, starts, environment, state.nodes, job.launch.lease_s))
        self._core.bus.touch(record.id, "run")

    def _name_nodes(self, run_id: str, nodes: Sequence[str]) -> None:
        """Note whose files are coming: agents elsewhere send them, and no names."""
        for rank, node in enumerate(nodes):
            if rank:
                RunFolder(self._core.workspace_dir, run_id, rank).make(node)

    def _try_to_reattach(self, record: RunRecord) -> None:
        try:
            self._reattach(record)
        except AzureMLException:  # such as an engine of a package that was removed: the server must start all the same
            log.exception("the nodes of %s cannot be had again", record.id)

    def _reattach(self, record: RunRecord) -> None:
        starting = record.reason is not None and record.reason.code == "starting"  # at a further attempt, too
        started = record.status is not RunStatus.QUEUED and not starting
        job = replace(self._job(record, record.environment), gpus=record.environment.get("gpus") or {})
        lease_s = next((part["lease_s"] for part in record.parts if "lease_s" in part), job.launch.lease_s)
        job = replace(job, launch=replace(job.launch, lease_s=lease_s))
        engine = self._core.engine(job.cluster)
        native_id = engine.reattach(job, record.nodes, started)
        self._line.hold(job, None if record.started is None else time.time() - record.started)
        if record.status is RunStatus.CANCEL_REQUESTED:
            engine.cancel(native_id, CANCELED)
        elif (first := parts.first_failed(record.parts)) is not None and len(record.parts) > 1:
            engine.cancel(native_id, parts.why_ended(first))

    def _job(self, record: RunRecord, environment: Mapping[str, Any]) -> JobSpec:
        python, container = str(environment.get("python", "")), container_of(record.spec, environment)
        return job_of(
            self._core, record.id, record.spec, python=python, attempt=record.attempt, container=container,
            environment=self._elsewhere.launch(record.spec.environment, environment),
        )  # fmt: skip

    async def _move(self, run_id: str, status: RunStatus, reason: Reason, **changes: Any) -> None:
        await self._core.write(mover(run_id, status, reason, changes))
        self._core.bus.touch(run_id, "run")

    async def _end_before_start(self, run_id: str, status: RunStatus, reason: Reason) -> RunRecord:
        record = await self._core.write(mover(run_id, status, reason, {}))
        self._core.folder(run_id).seal()
        if record.status.final:
            self._verify(run_id)
        self._core.bus.touch(run_id, "run")
        return record


def mover(run_id: str, status: RunStatus, reason: Reason, changes: Mapping[str, Any]) -> Callable[[Any], RunRecord]:
    """A write that moves a run if its status, by then, still allows it, and sets ``changes`` in any case."""

    def work(tx: Any) -> RunRecord:
        record: RunRecord = tx.get_run(run_id)
        if changes:
            record = tx.update_run(run_id, **changes)
        if status is record.status or may_follow(record.status, status):
            record = tx.transition(run_id, status, now=time.time(), reason=reason)
        elif status in _ON_ITS_WAY and record.status is RunStatus.NOT_RESPONDING:  # to a further attempt
            record = tx.transition(run_id, record.status, now=time.time(), reason=reason)
        return record

    return work


def _task_name(record: RunRecord) -> str:
    return f"conduct attempt {record.attempt} at {record.id}"


def _placed(
    run_id: str, starts: Reason, environment: Mapping[str, Any], nodes: Sequence[str], lease_s: float | None
) -> Callable[[Any], RunRecord]:
    """A write of the nodes that a run got; its agents may have told of its parts before."""

    def work(tx: Any) -> RunRecord:
        leased = {} if lease_s is None else {"lease_s": lease_s}  # it holds whatever the setting is later
        found = [{**part, **leased} for part in parts.of(tx.get_run(run_id), nodes)]
        changes = {"environment": environment, "nodes": list(nodes), "parts": found}
        return mover(run_id, RunStatus.QUEUED, starts, changes)(tx)

    return work


def _is_queued_with(record: RunRecord, environment: Mapping[str, Any]) -> bool:
    """True when an earlier server has written down that it waits, with this environment."""
    return record.status is RunStatus.QUEUED and record.environment.get("key") == environment["key"]


def _describe(ready: Ready, spec: RunSpec, elsewhere: bool) -> dict[str, Any]:
    described = asdict(ready)
    in_image = ready.image or (ready.platform and spec.environment.container)
    unused = (None if in_image else unused_options(spec), unused_retries(spec, elsewhere))
    described["notes"] = [*ready.notes, *(words for words in unused if words)]
    return described
