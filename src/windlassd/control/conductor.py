"""A run's way on the server: environment, line, nodes. From then on its agent's events move it (``events.py``).

Every step may be repeated: after a restart ``resume`` takes each unfinished run up where its record says it is.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from windlass.errors import AzureMLException
from windlass.specs.run import INTERACTIVE, Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus, may_follow
from windlassd.blobs.run_folder import BUILD_LOG
from windlassd.compute.base import JobSpec
from windlassd.control.core import Core
from windlassd.control.queue import Line
from windlassd.control.submit import container_of, job_of, unused_options
from windlassd.envs.base import EnvironmentFailed, Ready
from windlassd.store.base import StoreError

log = logging.getLogger(__name__)
ATTEMPT = 1
_STORE_AGAIN_S = 2.0
CANCELED = Reason("canceled", "The run was canceled.")


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
        self._verify = verify
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._turns = itertools.count()

    def begin(self, record: RunRecord) -> None:
        """Take a new run on its way; returns at once. Its place in line goes by the order of these calls."""
        if record.id not in self._tasks:
            conducting = self._conduct(record, next(self._turns))
            task = asyncio.get_running_loop().create_task(conducting, name=f"conduct {record.id}")
            self._tasks[record.id] = task
            task.add_done_callback(lambda _: self._tasks.pop(record.id, None))

    async def resume(self) -> None:
        """After a start: take up every run that has not ended."""
        for record in self._core.read(lambda tx: tx.active_runs()):
            if record.spec.kind == INTERACTIVE:
                continue  # a client's process moves it
            if record.nodes:
                self._reattach(record)
            elif record.status is RunStatus.CANCEL_REQUESTED:
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
        if record.nodes:
            engine = self._core.engine(self._core.cluster(record.spec.target))
            engine.cancel(f"{run_id}.{ATTEMPT}", reason)
            return record
        if task := self._tasks.get(run_id):
            task.cancel()
            await asyncio.wait([task])
        native_id = f"{run_id}.{ATTEMPT}"
        cluster = self._core.cluster_or_none(record.spec.target)
        if cluster is not None and native_id in (engine := self._core.engine(cluster)).poll([native_id]):
            engine.cancel(native_id, reason)  # placed in the same moment: its agent will tell of its end
            return record
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
        ready = await asyncio.to_thread(envs.find, spec, use)
        if ready is not None:
            return ready
        await self._move(record.id, RunStatus.PREPARING, Reason("environment", "Its environment is being built."))
        folder = self._core.folder(record.id)
        await asyncio.to_thread(folder.make)
        with open(folder.log(BUILD_LOG), "a", encoding="utf-8") as out:

            def say(line: str) -> None:
                out.write(line + "\n")
                out.flush()
                self._core.bus.touch(record.id, "log")

            try:
                while True:
                    ready = await self._core.builds.prepare(spec, say, use)
                    if ready.in_place or await asyncio.to_thread(envs.hold, ready.key, use):
                        return ready  # else it was removed between the end of the build and now
            except EnvironmentFailed as problem:
                say(problem.message)
                raise

    async def _queue(self, record: RunRecord, ready: Ready, turn: int) -> None:
        environment = _describe(ready, record.spec)
        job = self._job(record, environment)
        if self._line.would_wait(job):
            waits = Reason("waits_for_nodes", "It waits for nodes.")
            await self._move(record.id, RunStatus.QUEUED, waits, environment=environment)
        placing = asyncio.ensure_future(self._line.place(job, turn))
        await asyncio.sleep(0)
        self._core.bus.touch(record.id, "run")  # from now on its place in line can be told
        try:
            native_id = await asyncio.shield(placing)
        except asyncio.CancelledError:
            placing.cancel()
            await asyncio.wait([placing])
            raise
        engine = self._core.engine(job.cluster)
        state = engine.poll([native_id])[native_id]
        starts = Reason("starting", " ".join([f"It starts on {', '.join(state.nodes)}.", *state.notes]))
        await self._move(record.id, RunStatus.QUEUED, starts, environment=environment, nodes=list(state.nodes))

    def _reattach(self, record: RunRecord) -> None:
        started = record.status is not RunStatus.QUEUED
        job = self._job(record, record.environment)
        engine = self._core.engine(job.cluster)
        native_id = engine.reattach(job, record.nodes, started)
        if record.status is RunStatus.CANCEL_REQUESTED:
            engine.cancel(native_id, CANCELED)

    def _job(self, record: RunRecord, environment: Mapping[str, Any]) -> JobSpec:
        python, container = str(environment.get("python", "")), container_of(record.spec, environment)
        return job_of(
            self._core, record.id, record.spec, python=python, attempt=ATTEMPT, container=container
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
        return record

    return work


def _describe(ready: Ready, spec: RunSpec) -> dict[str, Any]:
    described = asdict(ready)
    unused = None if ready.image else unused_options(spec)
    described["notes"] = [*ready.notes, *([unused] if unused else [])]
    return described
