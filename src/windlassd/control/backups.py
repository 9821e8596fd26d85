"""A backup of a workspace while its runs go on.

It shows one moment: that of a copy of the records. What those refer to is there by then, and is not freed before the
backup is done (``Core.freeing``). Runs that go on are taken as far as they are: the points in their spools are copied
before the records and added to the copy, their logs and outputs are read where they lie. In the copy they are Failed,
so that a restored workspace says what became of them. What the records say of files is made true of those taken.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from threading import Event
from typing import Any

import windlassd
from windlass import settings
from windlass._spools import frames_at, lost_points, spool_files
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException
from windlass.specs import spool as spool_format
from windlass.specs.backup import FORMAT, HOME, WORKSPACE, Entry, Manifest
from windlass.specs.run import INTERACTIVE, Reason, RunRecord
from windlass.specs.status import RunStatus
from windlassd.blobs.backup_folder import BackupFolder, DamagedSource
from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.room import remove_tree
from windlassd.blobs.run_folder import NODES
from windlassd.control.core import Core
from windlassd.control.data import FOLDER as DATASTORES
from windlassd.store.base import RunStub, Store, Writer

log = logging.getLogger(__name__)
RESTORED = "restored"
_STAGE = "backup-"
_PING_S, _TELL_S = 5.0, 0.2
_TOLD_LOST = 20
_SEALED_S = 60.0
_TRANSIENT = ("spool", "agent")
"""Folders of an ended run that only its agent needed."""
Say = Callable[[Mapping[str, Any]], None]


class Backups:
    """Makes backups. Belongs to the loop's thread."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def sweep(self) -> None:
        """After a start: remove copies of the records that a killed server was making."""
        for entry in os.scandir(self._stages()):
            if entry.name.startswith(_STAGE):
                remove_tree(entry.path)

    async def make(self, folder: str, keep: int | None) -> AsyncIterator[Mapping[str, Any]]:
        """Make a backup in ``folder``, which may hold earlier ones; who stops listening stops it.

        Args:
            folder: Absolute; outside of the workspace.
            keep: How many backups of this workspace to leave there, the new one among them; None for all.

        Yields:
            ``{"phase", "done", "total", "bytes"}`` now and then, ``{}`` when there is nothing new, and last
            ``{"backup": path, "manifest": …, "removed": […]}`` or ``{"error": {"code", "message"}}``.
        """
        _check(self._core, folder, keep)
        told: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        stop = Event()

        def say(line: Mapping[str, Any]) -> None:
            self._core.loop.call_soon_threadsafe(told.put_nowait, line)

        work = asyncio.create_task(self._make(folder, keep, say, stop.is_set), name="backup")
        work.add_done_callback(lambda _: told.put_nowait(_END))
        try:
            while True:
                try:
                    line = await asyncio.wait_for(told.get(), _PING_S)
                except TimeoutError:
                    line = {}
                if line is _END:
                    break
                yield line
            yield _outcome(work, folder)
        finally:
            stop.set()

    async def _make(self, folder: str, keep: int | None, say: Say, stop: Callable[[], bool]) -> Mapping[str, Any]:
        async with self._core.freeing:
            making = asyncio.ensure_future(asyncio.to_thread(self._work, folder, keep, say, stop))
            try:
                return await asyncio.shield(making)
            except asyncio.CancelledError:  # the server ends: the thread sees it by `stop`
                await asyncio.wait([making])
                raise

    def _work(self, folder: str, keep: int | None, say: Say, stop: Callable[[], bool]) -> Mapping[str, Any]:
        made = time.time()
        into = BackupFolder(folder, self._core.name, made, stop)
        into.begin()
        try:
            manifest = self._staged(into, made, say)
        except BaseException:
            into.abandon()
            raise
        removed = into.keep_only(keep) if keep else []
        return {"backup": into.path, "manifest": manifest, "removed": removed}

    def _staged(self, into: BackupFolder, made: float, say: Say) -> Manifest:
        stage = tempfile.mkdtemp(prefix=_STAGE, dir=self._stages())
        try:
            return _Backup(self._core, into, stage, made, say).make()
        finally:
            remove_tree(stage)

    def _stages(self) -> str:
        folder = os.path.join(self._core.workspace_dir, "server")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        return folder


class _Backup:
    """One backup, step by step. Runs on a thread of its own."""

    def __init__(self, core: Core, into: BackupFolder, stage: str, made: float, say: Say) -> None:
        self._core = core
        self._into = into
        self._stage = stage
        self._made = made
        self._say = say
        self._told = 0.0
        self._lost: list[str] = []

    def make(self) -> Manifest:
        """All of it; what the manifest says."""
        self._tell("records", 0, 1)
        self._take_spools()
        store = self._core.store.copy(os.path.join(self._stage, "records"))
        try:
            unfinished = store.read(lambda tx: tx.active_runs())
            for record in unfinished:
                self._bring_in(store, record)
            self._take_contents(store)
            runs = self._take_runs(store, {record.id: record for record in unfinished})
            self._take_folders()
        finally:
            store.close()
        self._into.file(f"{WORKSPACE}/windlass.db", os.path.join(self._stage, "records", "windlass.db"))
        self._tell("disk", 0, 1)
        return self._into.finish(lambda digest: self._manifest(digest, runs, [record.id for record in unfinished]))

    def _manifest(self, digest: str, runs: int, unfinished: Sequence[str]) -> Manifest:
        into, lost = self._into, self._lost
        shown = [*lost[:_TOLD_LOST], *([f"And {len(lost) - _TOLD_LOST} more."] if len(lost) > _TOLD_LOST else [])]
        return Manifest(
            format=FORMAT, version=windlassd.__version__, workspace=self._core.name, made=self._made, files=into.files,
            bytes=into.bytes, new_bytes=into.new_bytes, runs=runs, unfinished=unfinished, index_sha256=digest,
            incomplete=shown,
        )  # fmt: skip

    def _take_spools(self) -> None:
        """Copy the spools of runs that go on before the records: what a run logged until now is in one of the two."""
        for record in self._core.read(lambda tx: tx.active_runs()):
            for spool in self._core.folder(record.id).spools():
                _copy_spools(spool, os.path.join(self._stage, "spools", record.id))
        clients = os.path.join(self._core.workspace_dir, "clients")
        for run_id in sorted(os.listdir(clients)) if os.path.isdir(clients) else ():
            _copy_spools(os.path.join(clients, run_id), os.path.join(self._stage, "clients", run_id))

    def _bring_in(self, store: Store, record: RunRecord) -> None:
        folder = os.path.join(self._stage, "spools", record.id)
        for name, path in spool_files(folder):
            start = store.read(lambda tx, n=name: tx.acked(record.id, n))  # type: ignore[misc]
            while True:
                data, whole = frames_at(path, start)
                if not whole:
                    break
                held = store.write(_adder(record.id, name, start, data[:whole])).result()
                if held <= start:
                    break
                start = held
        lost = lost_points(folder)
        if lost > record.lost_points:
            store.write(lambda tx: tx.update_run(record.id, lost_points=lost)).result()

    def _take_contents(self, store: Store) -> None:
        held = store.read(lambda tx: tx.held_blobs())
        for done, sha256 in enumerate(sorted(held)):
            self._tell("contents", done, len(held))
            source = self._core.blobs.path(sha256)
            try:
                taken = source and self._into.file(f"{WORKSPACE}/blobs/{sha256[:2]}/{sha256[2:]}", source, sha256)
            except DamagedSource as problem:
                taken = None
                self._lost.append(problem.message)
            else:
                if not taken:
                    self._lost.append(f"The content {sha256}, which a snapshot or model has, is missing.")

    def _take_runs(self, store: Store, unfinished: Mapping[str, RunRecord]) -> int:
        stubs = store.read(lambda tx: tx.run_stubs())
        for done, stub in enumerate(stubs):
            self._tell("runs", done, len(stubs))
            if stub.id in unfinished:
                self._take_unfinished(store, unfinished[stub.id])
            else:
                self._take_ended(store, stub)
        return len(stubs)

    def _take_unfinished(self, store: Store, record: RunRecord) -> None:
        """Its files as they lie, where they will lie in the end, and what the copy says of it."""
        folder, kept = self._core.folder(record.id), []
        was_there = folder.from_before(record.created)
        for file in folder.list():
            path = file["path"]
            if record.spec.kind == INTERACTIVE and was_there(path):
                continue
            taken = None
            for _ in range(2):  # at its end a run's outputs move beside its other files
                if found := folder.find(path):
                    taken = taken or self._into.file(_kept_path(record.id, path), os.path.realpath(found))
            if taken:
                kept.append({"path": path, "size": taken.size, "sha256": taken.sha256})
        store.write(lambda tx: _end(tx, record, kept, self._made)).result()

    def _take_ended(self, store: Store, stub: RunStub) -> None:
        folder, before = self._core.folder(stub.id), self._into.new_bytes
        taken: dict[str, Entry] = {}
        start = len(_kept_path(stub.id, ""))
        for name in self._parts(store, stub):
            path, source = f"{WORKSPACE}/runs/{stub.id}/{name}", os.path.join(folder.root, name)
            if os.path.isfile(source):
                self._into.file(path, source)
                continue
            for entry in self._into.tree(path, source, lambda name: name.endswith(PART)):
                if name == "files":
                    taken[entry.path[start:]] = entry
        recorded = {f["path"]: f for f in store.read(lambda tx: tx.files_of(stub.id))}
        for path in recorded.keys() - taken.keys():
            if folder.find(path) is None:
                self._lost.append(f"{stub.id}: the file {path!r} is missing.")
        if self._into.new_bytes > before:  # else all are links to what was compared before
            self._compare(store, stub.id, recorded, taken)

    def _parts(self, store: Store, stub: RunStub) -> Sequence[str]:
        """What of an ended run is kept. Working folders stay only where they have what could not be kept."""
        folder = self._core.folder(stub.id)
        names = [name for name in _listed(folder.root) if name != NODES]
        for other in folder.others():
            place = os.path.relpath(other.root, folder.root)
            names += [f"{place}/{name}" for name in _listed(other.root)]
        left_out = set(_TRANSIENT)
        if stub.ended and self._made - stub.ended < _SEALED_S:  # its agents may be about to clear up
            reason = store.read(lambda tx: tx.get_run(stub.id)).reason
            if reason is None or folder.root not in reason.message:
                left_out.add("work")
        kept = (name for name in names if os.path.basename(name) not in left_out)
        return [name for name in kept if not os.path.islink(os.path.join(folder.root, name))]

    def _compare(
        self, store: Store, run_id: str, recorded: Mapping[str, Mapping[str, Any]], taken: Mapping[str, Entry]
    ) -> None:
        """Let the copy say of the files what was taken: somebody may have replaced one since its moment."""
        other = []
        for path, entry in taken.items():
            said = recorded.get(path)
            if said is None or entry.sha256 is None or said["sha256"] in (None, entry.sha256):
                continue
            other.append({"path": path, "size": entry.size, "sha256": entry.sha256})
            if entry.mtime_ns < self._made * 1e9:
                self._lost.append(f"{run_id}: the file {path!r} does not have the checksum on record.")
        if other:
            store.write(lambda tx: tx.keep_files(run_id, other)).result()

    def _take_folders(self) -> None:
        """Data of the workspace's own datastores, points on their way from clients, and what the home has."""
        root, home = self._core.workspace_dir, settings.home()
        places = [
            (f"{WORKSPACE}/{DATASTORES}", os.path.join(root, DATASTORES)),
            (f"{WORKSPACE}/clients", os.path.join(self._stage, "clients")),
            (f"{HOME}/offline", os.path.join(home, "offline")),
            (f"{HOME}/environments/requests", os.path.join(home, "environments", "requests")),
            (f"{HOME}/environments/resolved", os.path.join(home, "environments", "resolved")),
        ]
        done = 0
        for path, source in places:
            for _ in self._into.tree(path, source, lambda name: name.endswith(PART)) if os.path.isdir(source) else ():
                done += 1
                self._tell("data", done, None)
        self._into.file(f"{HOME}/{settings.USER_FILE}", os.path.join(home, settings.USER_FILE))

    def _tell(self, phase: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_S or not done:
            self._told = now
            self._say({"phase": phase, "done": done, "total": total, "bytes": self._into.bytes})


_END: Mapping[str, Any] = {"end": {}}


def _check(core: Core, folder: str, keep: Any) -> None:
    if not isinstance(folder, str) or not os.path.isabs(folder):
        raise UserErrorException(f"The folder of a backup must be an absolute path, not {folder!r}.")
    inside, root = os.path.realpath(folder), os.path.realpath(core.workspace_dir)
    if inside == root or inside.startswith(root + os.sep):
        raise UserErrorException(
            f"{folder} lies in the workspace itself and would be lost with it. Choose a folder elsewhere, best on "
            "another disk."
        )
    if inside == os.path.dirname(root):
        raise UserErrorException(
            f"{folder} is where the workspaces lie, and a backup there would be taken for one. Choose a folder "
            "elsewhere, best on another disk."
        )
    if keep is not None and (not isinstance(keep, int) or keep < 1):
        raise UserErrorException(f"keep is {keep!r}; it must be a number of backups, 1 or more.")


def _outcome(work: asyncio.Task[Mapping[str, Any]], folder: str) -> Mapping[str, Any]:
    if work.cancelled():
        return {"error": {"code": ServiceUnavailable.error_code, "message": "The server ended. Start it again."}}
    problem = work.exception()
    if problem is None:
        made = work.result()
        manifest: Manifest = made["manifest"]
        return {**made, "manifest": {name: getattr(manifest, name) for name in manifest.__dataclass_fields__}}
    if isinstance(problem, AzureMLException):
        return {"error": {"code": problem.error_code, "message": problem.message}}
    if isinstance(problem, OSError):
        return {"error": {"code": ServiceUnavailable.error_code, "message": _disk(problem, folder)}}
    raise problem


def _disk(problem: OSError, folder: str) -> str:
    left = ""
    if os.path.isdir(folder):
        left = f" {shutil.disk_usage(folder).free >> 20} MB are free there."
    return f"The backup could not be written to {folder}: {problem}. Nothing of it is left.{left}"


def _listed(folder: str) -> Sequence[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else ()


def _copy_spools(source: str, target: str) -> None:
    try:
        names = [entry.name for entry in os.scandir(source) if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return
    os.makedirs(target, mode=0o700, exist_ok=True)
    for name in names:
        try:
            shutil.copyfile(os.path.join(source, name), os.path.join(target, name), follow_symlinks=False)
        except FileNotFoundError:  # its run has ended in this moment: the points are in the records
            continue


def _adder(run_id: str, name: str, start: int, data: bytes) -> Callable[[Writer], int]:
    frames, _ = spool_format.sound_frames(data)
    return lambda tx: tx.append(run_id, name, start, start + len(data), frames)


def _kept_path(run_id: str, path: str) -> str:
    return f"{WORKSPACE}/runs/{run_id}/files/{path}"


def _end(tx: Writer, record: RunRecord, kept: Sequence[Mapping[str, Any]], made: float) -> None:
    moment = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(made))
    words = f"Restored from a backup of {moment}; it was {record.status} then."
    tx.keep_files(record.id, kept)
    tx.update_run(record.id, verified=True)
    tx.transition(record.id, RunStatus.FAILED, now=made, reason=Reason(RESTORED, words))
