"""Big contents that arrive in pieces: resumable, checked, and a blob once whole."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

from windlass.errors import SnapshotException, UserErrorException
from windlassd.blobs.base import BlobMismatch
from windlassd.control.core import Core

_PIECE_BYTES = 64 << 20
_CHUNK_BYTES = 1 << 20
_KEPT_S = 7 * 86400.0


class Uploads:
    """Unfinished contents lie in ``uploads/`` of the workspace, each named by its hash."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._folder = os.path.join(core.workspace_dir, "uploads")
        self._locks: dict[str, asyncio.Lock] = {}

    async def add(self, sha256: str, offset: int, size: int, piece: bytes) -> Mapping[str, Any]:
        """Append a piece that begins at ``offset``; returns how much is held, and whether the content is whole.

        A piece that does not begin where the held part ends changes nothing: the answer says where to go on. Several
        clients may send one content at the same time.

        Raises:
            SnapshotException: what arrived does not have the hash; it is thrown away.
        """
        if self._core.blobs.path(sha256) is not None:  # also refuses what is no hash
            return {"offset": size, "stored": True}
        if len(piece) > _PIECE_BYTES or offset < 0 or size < 0:
            raise UserErrorException(f"A piece has at most {_PIECE_BYTES} bytes, and offset and size are not negative.")
        lock = self._locks.setdefault(sha256, asyncio.Lock())
        async with lock:
            held = await asyncio.to_thread(self._append, sha256, offset, size, piece)
            if held == size:
                await self._finish(sha256)
                self._locks.pop(sha256, None)
        return {"offset": held, "stored": held == size}

    def sweep(self) -> None:
        """Remove what nobody went on sending for a week."""
        if os.path.isdir(self._folder):
            for entry in os.scandir(self._folder):
                if time.time() - entry.stat().st_mtime > _KEPT_S:
                    os.unlink(entry.path)

    def _append(self, sha256: str, offset: int, size: int, piece: bytes) -> int:
        if self._core.blobs.path(sha256) is not None:
            return size
        os.makedirs(self._folder, mode=0o700, exist_ok=True)
        with open(self._part(sha256), "ab") as part:
            held = part.tell()
            if held == offset and held + len(piece) <= size:
                part.write(piece)
                held += len(piece)
        if held > size:
            os.unlink(self._part(sha256))
            raise SnapshotException(f"More than {size} bytes of {sha256} are here: it was sent with two sizes. Repeat.")
        return held

    async def _finish(self, sha256: str) -> None:
        part = self._part(sha256)
        if not os.path.exists(part):  # somebody else's pieces made it whole
            return
        try:
            await asyncio.to_thread(lambda: self._core.blobs.put(_chunks(part), sha256))
        except BlobMismatch:
            os.unlink(part)
            raise
        os.unlink(part)

    def _part(self, sha256: str) -> str:
        return os.path.join(self._folder, sha256)


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as part:
        while chunk := part.read(_CHUNK_BYTES):
            yield chunk
