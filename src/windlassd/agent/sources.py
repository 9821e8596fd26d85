"""Where an agent has its snapshots from: the workspace's own store, or on another machine a cache filled by the server.

Several agents on a node share the cache. Who lays a snapshot out holds its door open to others who do; only while
nobody does, what was not used for longest is removed. So nothing goes that somebody is about to copy.
"""

from __future__ import annotations

import fcntl
import http.client
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from windlass import settings
from windlass._transport.client import Client, quote
from windlass.errors import ServiceUnavailable
from windlassd.agent.materialize import make_work_folder
from windlassd.blobs.base import BlobMismatch
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.run_folder import RunFolder

log = logging.getLogger(__name__)
_ASK_AGAIN_S = (0.1, 0.5, 1.0, 2.0, 5.0)
_KNOWN = 64
_TOGETHER = 4096
_HEADER_BYTES = 40
_CHUNK_BYTES = 1 << 20
_TRIES = 3
"""How often a snapshot is laid out anew because the cache had a damaged content."""
_LOWER = 0.9
"""Once it is too big, the cache is brought to this part of its size, so that this is not done at every part's end."""
Files = list[Mapping[str, Any]]
Wanted = Callable[[], bool]


class Sources(Protocol):
    """Where snapshots come from."""

    def lay_out(self, snapshot_id: str, folder: RunFolder, wanted: Wanted) -> None:
        """Put the snapshot into the folder's ``work``.

        Raises:
            ServiceUnavailable: the server was away until ``wanted`` gave False; nothing is laid out.
        """
        ...

    def close(self) -> None:
        """No part is left that needs it."""
        ...


class OwnStore:
    """The workspace's own folder, on the server's machine."""

    def __init__(self, client: Client, blobs: str) -> None:
        self._client = client
        self._blobs = FileBlobStore(blobs)
        self._known: dict[str, Files] = {}

    def lay_out(self, snapshot_id: str, folder: RunFolder, wanted: Wanted) -> None:
        """See ``Sources.lay_out``."""
        files = self._known.get(snapshot_id)
        if files is None:
            files = patiently(lambda: self._client.get(f"/v1/snapshots/{snapshot_id}"), wanted)["files"]
            if len(self._known) > _KNOWN:
                self._known.clear()
            self._known[snapshot_id] = files
        make_work_folder(self._blobs, files, folder)

    def close(self) -> None:
        """Let go of the store."""
        self._blobs.close()


class NodeCache:
    """Contents of snapshots on a node, fetched when they are missing.

    Args:
        client: To the server.
        agent: Name of the agent whose token the client sends.
        folder: ``blobs`` of the node's folder.
    """

    def __init__(self, client: Client, agent: str, folder: str) -> None:
        self._client = client
        self._base = f"/agent/v1/{quote(agent)}"
        self._folder = folder
        self._blobs = FileBlobStore(folder)

    def lay_out(self, snapshot_id: str, folder: RunFolder, wanted: Wanted) -> None:
        """See ``Sources.lay_out``; a content that is damaged here is fetched again."""
        files = patiently(lambda: self._client.get(f"{self._base}/snapshots/{quote(snapshot_id)}"), wanted)["files"]
        with door(self._folder, fcntl.LOCK_SH):
            hashes = list(dict.fromkeys(str(file["sha256"]) for file in files))
            for tries in range(_TRIES):
                try:
                    self._fetch(hashes, wanted)
                    make_work_folder(self._blobs, files, folder)
                    break
                except BlobMismatch as problem:
                    log.error("a content is damaged, here or on its way: %s", problem)
                    if tries + 1 == _TRIES:
                        raise
                    self._drop_damaged(hashes)
        self.shrink()

    def close(self) -> None:
        """Keep to the size that is allowed, and let go of the store."""
        self.shrink()
        self._blobs.close()

    def shrink(self) -> None:
        """Remove what was not used for longest while the cache is too big; not while somebody lays a snapshot out."""
        most = settings.steady("node_cache_max_gb")
        try:
            with door(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                entries = sorted(self._entries())
                size = sum(size for _, size, _ in entries)
                keep = size if size <= most else most * _LOWER
                for _, bytes_there, sha256 in entries:
                    if size <= keep:
                        break
                    self._blobs.delete(sha256)
                    size -= bytes_there
        except BlockingIOError:  # whoever is at it looks when it is done
            pass
        except OSError as problem:
            log.warning("the cache %s cannot be made smaller: %s", self._folder, problem)

    def _entries(self) -> Iterator[tuple[float, int, str]]:
        """(Last used, bytes, hash) of each content."""
        for sha256 in self._blobs.hashes():
            try:
                state = os.stat(self._blobs.path(sha256) or "")
            except FileNotFoundError:
                continue
            yield state.st_mtime, state.st_size, sha256

    def _fetch(self, hashes: Sequence[str], wanted: Wanted) -> None:
        """Have all of these; return once they are there and marked as used now."""
        missing = self._blobs.missing(hashes)
        for sha256 in set(hashes).difference(missing):
            if place := self._blobs.path(sha256):
                os.utime(place)
        for first in range(0, len(missing), _TOGETHER):
            asked = missing[first : first + _TOGETHER]
            patiently(lambda some=asked: self._ask_for(self._blobs.missing(some)), wanted)  # type: ignore[misc]

    def _ask_for(self, hashes: Sequence[str]) -> None:
        """Store what the server sends of these, as it comes; what has arrived stays when the rest does not."""
        if not hashes:
            return
        import json

        answer = self._client.open(
            "POST", f"{self._base}/blobs", body=json.dumps({"hashes": list(hashes)}).encode(),
            content_type="application/json", own_connection=True,
        )  # fmt: skip
        try:
            self._blobs.put_many(_objects(answer))
        except (http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            raise ServiceUnavailable(f"The contents of a snapshot did not all arrive: {problem!r}") from problem
        finally:
            answer.close()
        if left := self._blobs.missing(hashes):
            raise ServiceUnavailable(f"{len(left)} contents of a snapshot did not arrive.")

    def _drop_damaged(self, hashes: Sequence[str]) -> None:
        import hashlib

        for sha256 in set(hashes).difference(self._blobs.missing(hashes)):
            with open(self._blobs.path(sha256) or os.devnull, "rb") as f:
                if hashlib.file_digest(f, "sha256").hexdigest() != sha256:
                    self._blobs.delete(sha256)


def patiently(ask: Callable[[], Any], wanted: Wanted) -> Any:
    """What ``ask`` gives, however long the server is away; its ServiceUnavailable once ``wanted`` gives False."""
    tries = 0
    while True:
        try:
            return ask()
        except ServiceUnavailable as problem:
            if not wanted():
                raise
            log.warning("asking again: %s", problem)
        time.sleep(_ASK_AGAIN_S[min(tries, len(_ASK_AGAIN_S) - 1)])
        tries += 1


def _objects(answer: BinaryIO | http.client.HTTPResponse) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The objects that an answer brings: ``size u64 LE, sha256 (32), content``, …; each is to be read to its end."""
    while header := exactly(answer, _HEADER_BYTES, may_end=True):
        yield header[8:].hex(), _content(answer, int.from_bytes(header[:8], "little"))


def _content(answer: BinaryIO | http.client.HTTPResponse, size: int) -> Iterator[bytes]:
    while size:
        chunk = answer.read(min(size, _CHUNK_BYTES))
        if not chunk:
            raise ConnectionError(f"the answer ended {size} bytes too early")
        size -= len(chunk)
        yield chunk


def exactly(answer: BinaryIO | http.client.HTTPResponse, size: int, may_end: bool = False) -> bytes:
    """The next ``size`` bytes of an answer; with ``may_end`` none, when it has ended here.

    Raises:
        ConnectionError: it ended before.
    """
    pieces: list[bytes] = []
    left = size
    while left:
        more = answer.read(min(left, _CHUNK_BYTES))
        if not more:
            if may_end and not pieces:
                return b""
            raise ConnectionError(f"the answer ended {left} bytes too early")
        pieces.append(more)
        left -= len(more)
    return b"".join(pieces)


@contextmanager
def door(folder: str, how: int) -> Iterator[None]:
    """Hold the lock of a cache's folder; raises BlockingIOError when that would have to be waited for and must not."""
    with open(os.path.join(folder, "cache.lock"), "ab") as held:
        fcntl.flock(held, how)
        yield
