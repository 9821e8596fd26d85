"""Kept files of runs: upload, find, and checksums that follow the end of a run."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.run import INTERACTIVE, RunRecord
from windlassd.blobs.handed import kept_copies, wanted
from windlassd.blobs.room import remove_tree
from windlassd.blobs.run_folder import ATTEMPTS, SYSTEM
from windlassd.blobs.syncing import sync_file_system
from windlassd.control._receive import receive
from windlassd.control.core import Core
from windlassd.control.parts import ENDED
from windlassd.control.views import LocatedFile
from windlassd.store.base import Writer

log = logging.getLogger(__name__)
_TASK = "verify "


class Files:
    """Questions may be asked on any thread; ``upload``, ``copy`` and ``verify`` belong to the loop's."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._verifying: set[asyncio.Task[None]] = set()
        self._closed = threading.Event()
        self._syncing = asyncio.Lock()
        self._next_sync: asyncio.Task[None] | None = None

    def list(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """``{"path", "size", "sha256"}`` by path; while a run goes, what lies there now."""
        record = self._core.read(lambda tx: tx.get_run(run_id))
        known = {f["path"]: f for f in self._core.read(lambda tx: tx.files_of(run_id))}
        found = []
        folder = self._core.folder(run_id)
        was_there = folder.from_before(record.created) if record.spec.kind == INTERACTIVE else None
        for file in folder.list():
            if was_there is not None and was_there(file["path"]):
                continue
            recorded = known.get(file["path"])
            fits = recorded is not None and recorded["size"] == file["size"]
            found.append({**file, "sha256": recorded["sha256"] if recorded and fits else None})
        return found

    def locate(self, run_id: str, path: str) -> LocatedFile:
        """Where a kept file's bytes lie now."""
        self._core.read(lambda tx: tx.get_run(run_id))
        full = self._core.folder(run_id).get(path)
        size = os.path.getsize(full)
        known = self._core.read(lambda tx: tx.find_file(run_id, path))
        return LocatedFile(full, size, known["sha256"] if known and known["size"] == size else None)

    async def upload(self, run_id: str, path: str, chunks: AsyncIterator[bytes]) -> Mapping[str, Any]:
        """Keep what arrives under ``path``; a file of that name is replaced in one step."""
        self._core.read(lambda tx: tx.get_run(run_id))
        size, sha256 = await receive(self._target(run_id, path), chunks)
        kept = {"path": path, "size": size, "sha256": sha256}
        await self._keep(run_id, [kept])
        return kept

    async def copy(self, run_id: str, files: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any] | None]:
        """Keep copies of files of a client of this machine; returns what each became, None where it is not here."""
        self._core.read(lambda tx: tx.get_run(run_id))

        def work() -> Sequence[Mapping[str, Any] | None]:
            handed = wanted(files)
            return kept_copies(handed, [self._target(run_id, file.path) for file in handed])

        found = await asyncio.to_thread(work)
        await self._keep(run_id, [kept for kept in found if kept is not None])
        return found

    def _target(self, run_id: str, path: str) -> str:
        if path.startswith(SYSTEM):
            raise UserErrorException(f"{path!r} is a system log's name; upload under another, such as 'outputs/…'.")
        if path.startswith(f"{ATTEMPTS}/") and self._core.read(lambda tx: tx.get_run(run_id)).attempt > 1:
            raise UserErrorException(
                f"{path!r} would be a file of an earlier attempt, which can only be read; upload under another name, "
                "such as 'outputs/…'."
            )
        return self._core.folder(run_id).log(path)

    async def _keep(self, run_id: str, kept: Sequence[Mapping[str, Any]]) -> None:
        try:
            await self._core.write(lambda tx: tx.keep_files(run_id, kept))
        except UserErrorException:  # the run was deleted meanwhile; its folder must not come back
            if self._core.read(lambda tx: tx.find_run(run_id)) is None:
                await asyncio.to_thread(remove_tree, self._core.folder(run_id).root)
            raise
        self._core.bus.touch(run_id, "files")

    def verify(self, run_id: str) -> None:
        """Compute the checksums that an ended run's files still lack and bring all to the disk, in the background."""
        task = asyncio.get_running_loop().create_task(self._verify(run_id), name=_TASK + run_id)
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    def close(self) -> None:
        """Stop to compute checksums, which takes minutes for big files: the next server begins them again."""
        self._closed.set()

    def verifying(self) -> set[str]:
        """Runs that are being verified."""
        return {task.get_name().removeprefix(_TASK) for task in self._verifying}

    async def _verify(self, run_id: str) -> None:
        try:
            record = self._core.read(lambda tx: tx.get_run(run_id))
            if record.spec.kind == INTERACTIVE or record.started is None:  # a server ended it, and may have been killed
                await asyncio.to_thread(self._core.folder(run_id).seal)
            else:
                await asyncio.to_thread(self._put_in_order, record)
            await self._sync()
            verified = self._core.read(lambda tx: tx.get_run(run_id)).verified
            if verified and not self._is_elsewhere(record):  # from there files may come late
                return
            kept = await asyncio.to_thread(self._checksums, run_id)
            await self._core.write(lambda tx: _keep_verified(tx, run_id, kept))
        except InterruptedError:  # this server is ending
            return
        except (OSError, AzureMLException) as problem:  # such as that the run was deleted meanwhile
            log.error("the files of %s could not be verified: %s", run_id, problem)
            return
        self._core.bus.touch(run_id, "files")

    def _put_in_order(self, record: RunRecord) -> None:
        """Bring the files of all nodes together, unless one that was lost may yet bring its own.

        An agent here clears up what only the job needed; what those elsewhere sent is cleared up here.
        """
        folder, ours = self._core.folder(record.id), self._is_elsewhere(record)
        if all(part["status"] == ENDED for part in record.parts):
            (folder.seal if ours else folder.merge_parts)()
        elif ours:
            folder.seal_parts()

    def _is_elsewhere(self, record: RunRecord) -> bool:
        """True when its agents are on other machines."""
        cluster = self._core.cluster_or_none(record.spec.target)
        return cluster is not None and self._core.engine(cluster).elsewhere

    async def _sync(self) -> None:
        """Return once what is written by now would survive a power loss; who asks meanwhile shares the next sync."""
        if self._next_sync is None:
            self._next_sync = asyncio.get_running_loop().create_task(self._sync_next(), name="sync")
        await asyncio.shield(self._next_sync)

    async def _sync_next(self) -> None:
        async with self._syncing:
            self._next_sync = None
            await asyncio.to_thread(sync_file_system, self._core.workspace_dir)  # a run may have no folder

    def _checksums(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        lacking = {file["path"]: file for file in self.list(run_id) if file["sha256"] is None}
        known = self._core.folder(run_id).checksums(lacking, lambda: not self._closed.is_set())
        return [{**lacking[path], "sha256": sha256} for path, sha256 in known.items()]


def _keep_verified(tx: Writer, run_id: str, kept: Sequence[Mapping[str, Any]]) -> None:
    tx.keep_files(run_id, kept)
    tx.update_run(run_id, verified=True)
