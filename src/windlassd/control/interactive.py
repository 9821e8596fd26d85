"""Runs that no agent carries out: a client's process logs into them and says when they are over.

Interactive runs (``experiment.start_logging``) and children (``run.child_run``) are such runs. The process that began
one holds it through an open line, one line for all it holds. When the line closes and the process is gone, what it
logged and wrote is brought in from the run's folder and the run is Failed; after a restart every such run is looked at
again. A process that is alive without a line (it is about to connect again, or was stopped) is waited for.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from windlass import settings
from windlass._spools import frames_at, lost_points, read_end, spool_files
from windlass.errors import AzureMLException, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.run import INTERACTIVE, Reason, RunRecord, RunSpec
from windlass.specs.status import RunStatus, may_follow
from windlassd.blobs.run_folder import LIVE, RunFolder
from windlassd.control import submit
from windlassd.control.conductor import CANCELED, mover
from windlassd.control.core import Core
from windlassd.control.kinds import refuse_misfits
from windlassd.store.base import Conflict, Writer

log = logging.getLogger(__name__)
PING_S = 5.0
ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)
LOST = Reason("client_process_ended", "client process ended: it is gone and had not called run.complete().")
_OWNER_FILE = "owner.json"
_FAILED_BY_SCRIPT = "failed_by_script:"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_BEGIN_S = 60.0
"""How long a client may take to repeat the call that began a run, where a killed server had not noted the owner."""
_LOOK_AGAIN_S, _LONGEST_PAUSE_S = 0.02, 1.0
_GONE_STATES = ("Z", "X")
_ENDED, _TAKEN = "ended ", "taken "


@dataclass
class _Line:
    """What one client process holds, and how many connections of it are open (two for a moment, when it reconnects)."""

    runs: set[str] = field(default_factory=set)
    open: int = 0


class Interactive:
    """Begins, holds and ends such runs. Belongs to the loop's thread.

    Args:
        ingest: ``Events.ingest``.
        verify: ``Files.verify``.
    """

    def __init__(
        self, core: Core, ingest: Callable[[str, str, int, bytes, bool], Awaitable[int]], verify: Callable[[str], None]
    ) -> None:
        self._core = core
        self._ingest = ingest
        self._verify = verify
        self._lines: dict[str, _Line] = {}
        self._watching: dict[str, asyncio.Task[None]] = {}

    def resume(self) -> None:
        """After a start: look after every such run that has not ended; their clients connect again, if they live."""
        for record in self._core.read(lambda tx: tx.active_runs()):
            if record.spec.kind == INTERACTIVE:
                self._watch(record.id)

    def looked_after(self) -> set[str]:
        """Runs that a line holds, or whose processes are watched."""
        return set(self._watching).union(*(line.runs for line in self._lines.values()))

    def close(self) -> None:
        """Stop looking."""
        for task in self._watching.values():
            task.cancel()

    async def begin(self, asked: Mapping[str, Any]) -> tuple[RunRecord, str]:
        """A new run that is Running, and the folder for its spools. The same ``request_id`` gives the same run.

        Args:
            asked: ``request_id``, ``spec``, and optionally ``run_id``, ``line``, ``owner`` and ``folder`` (the client's
                working folder, whose ``outputs`` and ``logs`` are shown while the run goes).

        Raises:
            UserErrorException: a name or the parent cannot be; Conflict when there is a run of that id.
        """
        refuse_misfits(RunSpec, asked["spec"], "spec")
        spec = replace(RunSpec.from_wire(asked["spec"]), kind=INTERACTIVE)
        submit.check_experiment(spec.experiment)
        wanted = _checked_id(asked.get("run_id"))
        record = await self._core.write(lambda tx: _create(tx, spec, wanted, asked["request_id"]))
        folder = self._core.folder(record.id)
        await asyncio.to_thread(_make_folder, folder, asked.get("owner"), asked.get("folder"))
        line = asked.get("line")
        if line and not record.status.final:
            self._lines.setdefault(line, _Line()).runs.add(record.id)
            if not self._lines[line].open:
                self._watch(record.id)
        self._core.bus.touch(record.id, "run")
        return record, folder.spool

    async def hold(self, line_id: str, runs: Sequence[str], owner: Any) -> AsyncIterator[Mapping[str, Any]]:
        """A client process's open line: pings, ``{"ended": run id}`` and ``{"taken": run id}`` for what others did.

        It ends with ``{"exit": {}}`` when the process holds nothing any more.
        """
        line = self._lines.setdefault(line_id, _Line())
        line.open += 1
        with self._core.bus.subscribe(_topic(line_id)) as subscription:
            try:
                for run_id in [*line.runs, *(r for r in runs if r not in line.runs)]:
                    if not await self._claim(line, run_id, owner):
                        yield {"ended": run_id}
                while line.runs:
                    for run_id in line.runs:
                        if self._left(run_id):
                            self._watch(run_id)
                    changed = await subscription.wait(PING_S)
                    if subscription.closed:
                        return
                    for _, what in changed:
                        word, _, run_id = what.partition(" ")
                        yield {word: run_id}
                    if not changed:
                        yield {}
                yield {"exit": {}}
            finally:
                line.open -= 1
                if not line.open:
                    self._let_go(line_id, line, subscription.closed)

    async def take_over(self, line_id: str, run_id: str, owner: Any) -> str:
        """Hold by this line a run that another process began; the folder for its spools.

        Raises:
            Conflict: it is over, or a submitted script's.
        """
        record = self._core.read(lambda tx: tx.get_run(run_id))
        line = self._lines.setdefault(line_id, _Line())
        if record.spec.kind != INTERACTIVE or not await self._claim(line, run_id, owner):
            raise Conflict(f"{run_id} cannot be taken over: it is a submitted script's run, or over ({record.status}).")
        if not line.open:
            self._watch(run_id)
        return self._core.folder(run_id).spool

    async def end(self, run_id: str, status: RunStatus, reason: Reason | None = None) -> RunRecord:
        """End a run, with everything that its processes logged; one that is over is returned as it is.

        Of a submitted script's run only Failed is taken: it decides how the run will have ended.
        """
        if status not in ENDS:
            raise UserErrorException(f"A run ends as {', '.join(map(str, ENDS))}, not as {status}.")
        record = self._core.read(lambda tx: tx.get_run(run_id))
        if record.spec.kind != INTERACTIVE:
            return await self._say_of_job(record, status, reason)
        if record.status.final:
            return record
        await self._bring_in(run_id)
        return await self._end(run_id, status, reason or Reason(str(status).lower(), _words(status)))

    async def _say_of_job(self, record: RunRecord, status: RunStatus, reason: Reason | None) -> RunRecord:
        if status is not RunStatus.FAILED:
            raise UserErrorException(
                f"{record.id} is a submitted script's run: it ends with its script. Cancel ends it."
            )
        if not record.status.final:
            why = json.dumps(to_wire(reason or Reason("failed_by_script", "The script called run.fail().")))
            await self._core.write(lambda tx: tx.set_meta(_FAILED_BY_SCRIPT + record.id, why))
        return record

    async def cancel(self, run_id: str) -> RunRecord:
        """End it as Canceled; its process goes on, and is told."""
        return await self.end(run_id, RunStatus.CANCELED, CANCELED)

    async def _claim(self, line: _Line, run_id: str, owner: Any) -> bool:
        """Hold a run by a line, and by no other: its process took it over. False when it is over or gone."""
        record = self._core.read(lambda tx: tx.find_run(run_id))
        if record is None or record.status.final:
            line.runs.discard(run_id)
            return False
        for other_id, other in self._lines.items():
            if other is not line and run_id in other.runs:
                other.runs.discard(run_id)
                self._core.bus.touch(_topic(other_id), _TAKEN + run_id)
        line.runs.add(run_id)
        folder = self._core.folder(run_id)
        if _read_owner(folder) != owner:
            _write_owner(folder, owner)
        if task := self._watching.pop(run_id, None):
            task.cancel()
        if record.status is RunStatus.NOT_RESPONDING:
            await self._move(run_id, RunStatus.RUNNING, Reason("running", "Its client process is back."))
        return True

    def _let_go(self, line_id: str, line: _Line, closing: bool) -> None:
        """The line closed: unless this server is ending, look what became of the process."""
        if self._lines.get(line_id) is line:
            del self._lines[line_id]
        if not closing:
            for run_id in line.runs:
                self._watch(run_id)

    def _watch(self, run_id: str) -> None:
        if run_id not in self._watching:
            task = asyncio.get_running_loop().create_task(self._look_after(run_id), name=f"watch {run_id}")
            self._watching[run_id] = task
            task.add_done_callback(lambda t: self._watching.get(run_id) is t and self._watching.pop(run_id))

    def _left(self, run_id: str) -> Mapping[str, Any] | None:
        """How its process ended the run while no server could be had; None when it did not."""
        return read_end(self._core.folder(run_id).spool)

    async def _look_after(self, run_id: str) -> None:
        """Until a line claims the run: end it when its process is gone, say so when that is silent for long.

        A run whose process has left word of its end is ended whether the process is gone or not.
        """
        folder = self._core.folder(run_id)
        patience_s = settings.steady("heartbeat_timeout_s")
        began, told, pause_s = time.monotonic(), False, _LOOK_AGAIN_S
        try:
            while not self._left(run_id) and (
                self._lives(owner := _read_owner(folder), time.monotonic() - began < patience_s)
                or (owner is None and time.monotonic() - began < _BEGIN_S)
            ):
                if not told and time.monotonic() - began > patience_s:
                    told = True
                    words = f"Its client process has had no line to the server for {patience_s:g} s; it may still work."
                    await self._move(run_id, RunStatus.NOT_RESPONDING, Reason("heartbeat_lost", words))
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
            await self._lost(run_id)
        except (AzureMLException, OSError):  # such as a full disk: the next start takes it up again
            log.exception("%s, whose client process has no line, could not be looked after", run_id)

    def _lives(self, owner: Mapping[str, Any] | None, patient: bool) -> bool:
        """True while the owner's process may still come back with a line.

        One on another machine cannot be looked at. It is part of the job ``run``, whose agent passes its calls on and
        hangs up for it when it ends: so once the job is over, or answers while the process does not, it is gone.
        """
        if owner is None or "run" not in owner:
            return _lives(owner)
        job = self._core.read(lambda tx: tx.find_run(str(owner["run"])))
        if job is None or job.status.final:
            return False
        return patient or job.status is RunStatus.NOT_RESPONDING

    async def _lost(self, run_id: str) -> None:
        record = self._core.read(lambda tx: tx.find_run(run_id))
        if record is None or record.status.final:
            return
        if (left := self._left(run_id)) is not None:
            await self._end_as_left(record, left)
            return
        await self._move(run_id, RunStatus.NOT_RESPONDING, LOST)
        await self._bring_in(run_id, last=True)
        await asyncio.to_thread(_keep_written, self._core.folder(run_id), record.created)
        parent = self._core.read(lambda tx: tx.find_run(record.parent_id or ""))
        if parent and parent.status in (RunStatus.CANCELED, RunStatus.CANCEL_REQUESTED):
            await self._end(run_id, RunStatus.CANCELED, Reason("canceled", f"Its parent {parent.id} was canceled."))
        else:
            await self._end(run_id, RunStatus.FAILED, LOST)

    async def _end_as_left(self, record: RunRecord, left: Mapping[str, Any]) -> None:
        """Carry out what ``write_end`` left: the run ended then, not now."""
        try:
            status, reason = RunStatus(left["status"]), Reason.from_wire(left.get("reason"))
            at, files = float(left["time"]), [(str(name), str(path)) for name, path in left.get("files", ())]
        except (KeyError, TypeError, ValueError) as problem:
            log.error("%s was ended in a way that makes no sense (%r): %s", record.id, left, problem)
            status, reason, at, files = RunStatus.FAILED, LOST, time.time(), []
        await self._bring_in(record.id, last=True)
        await asyncio.to_thread(_copy, self._core.folder(record.id), files)
        await self._end(record.id, status, reason or Reason(str(status).lower(), _words(status)), at)

    async def _bring_in(self, run_id: str, last: bool = False) -> None:
        """Add to the history what still lies in the run's spools; ``last`` when nobody writes to them any more."""
        for name, path in spool_files(self._core.folder(run_id).spool):
            start = self._core.read(lambda tx, n=name: tx.acked(run_id, n))  # type: ignore[misc]
            while True:
                data, whole = await asyncio.to_thread(frames_at, path, start, last)
                if not whole:
                    break
                start = await self._ingest(run_id, name, start, data[:whole], last)

    async def _end(self, run_id: str, status: RunStatus, reason: Reason, at: float | None = None) -> RunRecord:
        folder = self._core.folder(run_id)
        lost = lost_points(folder.spool)
        record = await self._core.write(lambda tx: _finish(tx, run_id, status, reason, lost, at))
        for line_id, line in self._lines.items():
            if run_id in line.runs:
                line.runs.discard(run_id)
                self._core.bus.touch(_topic(line_id), _ENDED + run_id)
        if (task := self._watching.get(run_id)) and task is not asyncio.current_task():
            task.cancel()
        await asyncio.to_thread(folder.seal)
        self._verify(run_id)
        self._core.bus.touch(run_id, "metrics")
        self._core.bus.touch(run_id, "run")
        return record

    async def _move(self, run_id: str, status: RunStatus, reason: Reason) -> None:
        await self._core.write(mover(run_id, status, reason, {}))
        self._core.bus.touch(run_id, "run")


def failed_by_script(tx: Writer, run_id: str) -> Reason | None:
    """What a submitted script said with ``run.fail``; None when it did not."""
    text = tx.get_meta(_FAILED_BY_SCRIPT + run_id)
    return Reason.from_wire(json.loads(text)) if text else None


def _create(tx: Writer, spec: RunSpec, wanted: str | None, request_id: str) -> RunRecord:
    seen = tx.run_of_request(request_id)
    if seen is not None:
        return seen
    if spec.parent_id is not None:
        free = tx.next_child_id(spec.parent_id)
        experiment = tx.get_run(spec.parent_id).experiment
        if experiment != spec.experiment:
            raise UserErrorException(f"{spec.parent_id!r} belongs to the experiment {experiment!r}; so must its child.")
    else:
        free = str(uuid.uuid4())
    if wanted is not None and tx.find_run(wanted) is not None:
        raise Conflict(f"There is a run {wanted!r} already; give another run_id, or none.")
    now = time.time()
    record = tx.create_run(wanted or free, spec, now=now, request_id=request_id)
    return tx.transition(
        record.id, RunStatus.RUNNING, now=now, reason=Reason("running", "A client process logs into it.")
    )


def _finish(
    tx: Writer, run_id: str, status: RunStatus, reason: Reason, lost: int, at: float | None
) -> RunRecord:  # fmt: skip
    record = tx.get_run(run_id)
    if record.status.final:
        return record
    if lost > record.lost_points:
        record = tx.update_run(run_id, lost_points=lost)
    between = RunStatus.CANCEL_REQUESTED if status is RunStatus.CANCELED else RunStatus.FINALIZING
    now = time.time() if at is None else min(at, time.time())
    if may_follow(record.status, between):
        tx.transition(run_id, between, now=now, reason=reason if status is RunStatus.CANCELED else None)
    return tx.transition(run_id, status, now=now, reason=reason)


def _words(status: RunStatus) -> str:
    return {
        RunStatus.COMPLETED: "Its client process completed it.",
        RunStatus.FAILED: "Its client process called run.fail().",
    }.get(status, "The run was canceled.")


def _checked_id(run_id: Any) -> str | None:
    if run_id is None:
        return None
    if not isinstance(run_id, str) or not _ID.match(run_id):
        raise UserErrorException(
            f"run_id={run_id!r} cannot be a run's id: up to 255 letters, digits, '_', '-' or '.', beginning with a "
            "letter or digit."
        )
    return run_id


def _make_folder(folder: RunFolder, owner: Any, working_folder: Any) -> None:
    folder.make()
    _write_owner(folder, owner)
    if isinstance(working_folder, str) and os.path.isdir(working_folder) and not os.path.lexists(folder.work):
        os.symlink(os.path.abspath(working_folder), folder.work)
        try:
            folder.note_before()
        except OSError as problem:  # then the times of the files decide
            log.warning("what lies in %s already cannot be noted: %s", working_folder, problem)


def _keep_written(folder: RunFolder, since: float) -> None:
    """Copy what the lost process wrote to ``outputs`` and ``logs`` of its working folder."""
    written, was_there = [], folder.from_before(since)
    for entry in folder.list():
        path = folder.find(entry["path"]) if entry["path"].split("/")[0] in LIVE else None
        if path is None or not path.startswith(folder.work + os.sep):
            continue
        if not was_there(entry["path"]):
            written.append((entry["path"], path))
    _copy(folder, written)


def _copy(folder: RunFolder, files: Iterable[tuple[str, str]]) -> None:
    """Keep files of a client's folder, each under its name."""
    for name, path in files:
        try:
            shutil.copyfile(path, folder.log(name))
        except (OSError, UserErrorException) as problem:
            log.warning("%s of a run without its process could not be kept: %s", path, problem)


def _write_owner(folder: RunFolder, owner: Any) -> None:
    path = os.path.join(folder.agent, _OWNER_FILE)
    with open(path + ".part", "w", encoding="utf-8") as f:
        json.dump(owner, f)
    os.replace(path + ".part", path)


def _read_owner(folder: RunFolder) -> Mapping[str, Any] | None:
    try:
        with open(os.path.join(folder.agent, _OWNER_FILE), encoding="utf-8") as f:
            owner = json.load(f)
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def _lives(owner: Mapping[str, Any] | None) -> bool:
    """True while the process that a client described with ``_interactive.owner`` has not ended."""
    if owner is None:
        return False
    try:
        with open("/proc/sys/kernel/random/boot_id") as f:
            boot = f.read().strip()
        with open(f"/proc/{_pid_here(owner)}/stat", "rb") as f:
            fields = f.read().rpartition(b")")[2].decode().split()
    except (OSError, KeyError, TypeError, ValueError):
        return False
    same = owner.get("boot") == boot and str(owner.get("started")) == fields[19]
    return same and fields[0] not in _GONE_STATES


def _pid_here(owner: Mapping[str, Any]) -> int | None:
    """The process's id as this process sees it; in a container it knows itself by another."""
    pid, namespace = int(owner["pid"]), owner.get("pid_namespace")
    if namespace is None or namespace == os.readlink("/proc/self/ns/pid"):
        return pid
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{name}/ns/pid") == namespace and _innermost_pid(name) == pid:
                return int(name)
        except (OSError, ValueError):  # gone meanwhile, or another user's
            continue
    return None


def _innermost_pid(pid: str) -> int:
    """The process's id in its own namespace."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return next((int(line.split()[-1]) for line in f if line.startswith("NSpid:")), int(pid))


def _topic(line_id: str) -> str:
    return f"line:{line_id}"
