"""Kept files of runs: upload, find, and checksums that follow the end of a run."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from windlass.errors import UserErrorException
from windlass.specs.run import INTERACTIVE
from windlassd.blobs.run_folder import SYSTEM, sha256_of
from windlassd.control._receive import receive
from windlassd.control.core import Core
from windlassd.control.views import LocatedFile
from windlassd.store.base import Writer

log = logging.getLogger(__name__)


class Files:
    """Questions may be asked on any thread; ``upload`` and ``verify`` belong to the loop's."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._verifying: set[asyncio.Task[None]] = set()

    def list(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        """``{"path", "size", "sha256"}`` by path; while a run goes, what lies there now."""
        record = self._core.read(lambda tx: tx.get_run(run_id))
        known = {f["path"]: f for f in self._core.read(lambda tx: tx.files_of(run_id))}
        found = []
        folder = self._core.folder(run_id)
        for file in folder.list():
            if record.spec.kind == INTERACTIVE and folder.left_from_before(file["path"], record.created):
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
        known = next((f for f in self._core.read(lambda tx: tx.files_of(run_id)) if f["path"] == path), None)
        return LocatedFile(full, size, known["sha256"] if known and known["size"] == size else None)

    async def upload(self, run_id: str, path: str, chunks: AsyncIterator[bytes]) -> Mapping[str, Any]:
        """Keep what arrives under ``path``; a file of that name is replaced in one step."""
        self._core.read(lambda tx: tx.get_run(run_id))
        if path.startswith(SYSTEM):
            raise UserErrorException(f"{path!r} is a system log's name; upload under another, such as 'outputs/…'.")
        target = self._core.folder(run_id).log(path)
        size, sha256 = await receive(target, chunks)
        kept = {"path": path, "size": size, "sha256": sha256}
        await self._core.write(lambda tx: tx.keep_files(run_id, [kept]))
        self._core.bus.touch(run_id, "files")
        return kept

    def verify(self, run_id: str) -> None:
        """Compute the checksums that an ended run's files still lack, in the background."""
        task = asyncio.get_running_loop().create_task(self._verify(run_id), name=f"verify {run_id}")
        self._verifying.add(task)
        task.add_done_callback(self._verifying.discard)

    def verifying(self) -> int:
        """How many runs are being verified."""
        return len(self._verifying)

    async def _verify(self, run_id: str) -> None:
        try:
            kept = await asyncio.to_thread(self._checksums, run_id)
            await self._core.write(lambda tx: _keep_verified(tx, run_id, kept))
        except OSError as problem:
            log.error("the files of %s could not be verified: %s", run_id, problem)
            return
        self._core.bus.touch(run_id, "files")

    def _checksums(self, run_id: str) -> Sequence[Mapping[str, Any]]:
        folder, kept = self._core.folder(run_id), []
        for file in self.list(run_id):
            full = folder.find(file["path"])
            if file["sha256"] is None and full is not None and stat.S_ISREG(os.stat(full).st_mode):
                kept.append({**file, "sha256": sha256_of(full)})
        return kept


def _keep_verified(tx: Writer, run_id: str, kept: Sequence[Mapping[str, Any]]) -> None:
    tx.keep_files(run_id, kept)
    tx.update_run(run_id, verified=True)
