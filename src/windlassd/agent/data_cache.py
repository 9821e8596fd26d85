"""Files of datastores on a node that does not see the datastores' folders: fetched once, shared by all parts, capped.

A file is known by its datastore, path, size and time, and what arrives is held against the server's checksum before it
is used. Its time in the cache is the datastore's, so that one which a script changed in place is seen and fetched anew.
As in ``sources.py``, who takes files out holds the cache's door open, and only while nobody does, what was not used for
longest is removed. What broke off goes on where it stopped.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import http.client
import json
import logging
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

from windlass import settings
from windlass._transport.client import Client, quote
from windlass.errors import ServiceUnavailable, UserErrorException
from windlassd.agent.sources import Wanted, door, exactly, patiently
from windlassd.blobs.datastore_folder import parts_of
from windlassd.blobs.room import bytes_on_disk

log = logging.getLogger(__name__)
_HEADER_BYTES = 40
_CHUNK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
"""Files up to this size come many at a time."""
_TOGETHER, _TOGETHER_BYTES = 1000, 32 << 20
_NOT_SENT = (1 << 64) - 1
_TRIES = 3
_SPOILED = 20
"""How often a file that scripts change in the cache at this moment is fetched anew."""
_LOWER = 0.9
_LOOK_AGAIN_S = 0.05
_PART = ".part"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a datastore as the server lists it."""

    store: str
    path: str
    size: int
    modified: float

    @property
    def key(self) -> str:
        """What tells it from all others, and from itself before a change."""
        return hashlib.sha256(json.dumps([self.store, self.path, self.size, self.modified]).encode()).hexdigest()


class Changed(Exception):
    """A file is not what the server listed, or is gone: ask again what there is."""


class DataCache:
    """The cache of one workspace on this node.

    Args:
        client: To the server.
        agent: Name of the agent whose token the client sends.
        folder: ``data`` of the node's folder.
        beside: Folders that count towards the same cap.
    """

    def __init__(self, client: Client, agent: str, folder: str, beside: Sequence[str] = ()) -> None:
        self._client = client
        self._base = f"/agent/v1/{quote(agent)}/datastores"
        self._folder = folder
        self._beside = beside

    def listed(self, store: str, prefix: str, wanted: Wanted) -> Sequence[RemoteFile]:
        """The files of a datastore whose paths begin with ``prefix``, by path.

        Raises:
            UserErrorException: the server has no such datastore, or its folder is gone.
        """
        asked = {"prefix": prefix} if prefix else {}
        answer = patiently(lambda: self._client.get(f"{self._base}/{quote(store)}/files", **asked), wanted)
        found = [RemoteFile(store, str(f["path"]), int(f["size"]), float(f["modified"])) for f in answer["files"]]
        for file in found:
            if not parts_of(file.path, f"the datastore {store!r}") or os.path.isabs(file.path):
                raise UserErrorException(f"The server lists {file.path!r} in {store!r}, which is no file of it.")
        return sorted(found, key=lambda file: file.path)

    def put_out(self, files: Sequence[tuple[RemoteFile, str]], wanted: Wanted) -> None:
        """Lay the files out at paths of this node, without a copy where the file system can.

        Raises:
            Changed: one is not there any more as it was listed.
            ServiceUnavailable: the server was away, or the part was told to end, before all were there.
            UserErrorException: they do not fit on the disk.
        """
        self._make_room(sum(f.size for f in {f.key: f for f, _ in files}.values() if not self._has(f)))
        with door(self._folder, fcntl.LOCK_SH):
            try:
                self._fetch([file for file, _ in files], wanted)
                for file, target in files:
                    self._lay_out_whole(file, target, wanted)
            except OSError as problem:
                if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise self._no_room(sum(file.size for file, _ in files)) from problem
        self.shrink()

    def shrink(self, spare: int = 0) -> None:
        """Remove what was not used for longest while there is too much, or less than ``spare`` bytes are free."""
        try:
            with door(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                self._shrink(spare)
        except BlockingIOError:  # whoever is at it looks when it is done
            pass
        except OSError as problem:
            log.warning("the cache %s cannot be made smaller: %s", self._folder, problem)

    def _shrink(self, spare: int) -> None:
        most = int(settings.steady("node_cache_max_gb")) - bytes_on_disk(*self._beside)
        entries = sorted((entry.stat().st_atime, entry.stat().st_size, entry.path) for entry in self._entries())
        size = sum(size for _, size, _ in entries)
        keep = size if size <= most else most * _LOWER
        for _, size_there, path in entries:
            if size <= keep and (not spare or self._free() >= spare):
                return
            os.unlink(path)
            size -= size_there

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        for sub in os.scandir(self._folder):
            if sub.is_dir(follow_symlinks=False):
                yield from (entry for entry in os.scandir(sub.path) if entry.is_file(follow_symlinks=False))

    def _place(self, file: RemoteFile) -> str:
        return os.path.join(self._folder, file.key[:2], file.key)

    def _has(self, file: RemoteFile) -> bool:
        """Whether it is there as it came; one that was changed meanwhile is removed."""
        place = self._place(file)
        try:
            state = os.stat(place)
        except FileNotFoundError:
            return False
        if state.st_size == file.size and abs(state.st_mtime - file.modified) < 1e-5:
            return True
        log.warning("a script changed %s of the datastore %s in the cache: it is fetched anew", file.path, file.store)
        with suppress(FileNotFoundError):  # another agent of this node saw it, too
            os.unlink(place)
        return False

    def _fetch(self, files: Sequence[RemoteFile], wanted: Wanted) -> None:
        missing = list({file.key: file for file in files if not self._has(file)}.values())
        for batch in _batches([file for file in missing if file.size <= SMALL_BYTES]):
            patiently(lambda some=batch: self._fetch_together(some, wanted), wanted)  # type: ignore[misc]
        for file in missing:
            if not self._has(file):
                self._fetch_one(file, wanted)

    def _fetch_together(self, files: Sequence[RemoteFile], wanted: Wanted) -> None:
        """Small files in one answer; those that the server leaves out are asked for alone."""
        files = [file for file in files if not self._has(file)]
        if not files:
            return
        address = f"{self._base}/{quote(files[0].store)}/contents"
        body = json.dumps({"paths": [file.path for file in files]}).encode()
        with self._answer("POST", address, body=body, content_type="application/json") as answer:
            for file in files:
                header = exactly(answer, _HEADER_BYTES)
                size = int.from_bytes(header[:8], "little")
                if size == _NOT_SENT:
                    continue
                content = exactly(answer, size)
                if size == file.size and hashlib.sha256(content).digest() == header[8:]:
                    self._keep_small(file, content)
                _stop_unless(wanted)

    def _keep_small(self, file: RemoteFile, content: bytes) -> None:
        beside = f"{self._place(file)}.{secrets.token_hex(8)}{_PART}"  # nodes may share a home, and have the same pids
        os.makedirs(os.path.dirname(beside), mode=0o700, exist_ok=True)
        try:
            with open(beside, "wb") as out:
                out.write(content)
            self._publish(beside, file)
        finally:
            if os.path.exists(beside):
                os.unlink(beside)

    def _fetch_one(self, file: RemoteFile, wanted: Wanted) -> None:
        """One file, from where an earlier try stopped; only one agent of this node fetches it."""
        beside = self._place(file) + _PART
        os.makedirs(os.path.dirname(beside), mode=0o700, exist_ok=True)
        for _ in range(_TRIES):
            with _held(beside, wanted) as out:
                if self._has(file):
                    return
                patiently(lambda out=out: self._go_on(file, out, wanted), wanted)  # type: ignore[misc]
                told = patiently(lambda: self._checksum(file), wanted)
                if told["sha256"] == _sha256(beside):
                    self._publish(beside, file)
                    return
                os.unlink(beside)
                if (told["size"], told["modified"]) != (file.size, file.modified):
                    raise Changed(f"{file.path!r} of the datastore {file.store!r} was changed while it was fetched.")
                log.error("%s of the datastore %s arrived damaged, trying again", file.path, file.store)
        raise UserErrorException(
            f"The file {file.path!r} of the datastore {file.store!r} arrived damaged {_TRIES} times: its checksum is "
            "not the server's. Something between this node and the server changes what is sent, or a disk is broken."
        )

    def _go_on(self, file: RemoteFile, out: BinaryIO, wanted: Wanted) -> None:
        out.seek(0, os.SEEK_END)
        if out.tell() > file.size:
            out.truncate(0)
            out.seek(0)
        there = out.tell()
        if there == file.size:
            return
        address = f"{self._base}/{quote(file.store)}/files/{quote(file.path)}"
        with self._answer("GET", address, headers={"Range": f"bytes={there}-"} if there else {}) as answer:
            if there and answer.status != http.client.PARTIAL_CONTENT:
                out.truncate(0)
                out.seek(0)
            while chunk := answer.read(_CHUNK_BYTES):
                if out.tell() + len(chunk) > file.size:
                    raise Changed(f"{file.path!r} of the datastore {file.store!r} was changed while it was fetched.")
                out.write(chunk)
                _stop_unless(wanted)
            out.flush()
        if out.tell() < file.size:
            raise ServiceUnavailable(f"{file.path!r} of the datastore {file.store!r} did not arrive whole.")

    def _checksum(self, file: RemoteFile) -> Any:
        return self._client.get(f"{self._base}/{quote(file.store)}/checksums/{quote(file.path)}")

    @contextmanager
    def _answer(self, method: str, address: str, **asked: Any) -> Iterator[http.client.HTTPResponse]:
        """What the server sends; when it breaks off, ServiceUnavailable; Changed when the file is gone."""
        try:
            answer = self._client.open(method, address, own_connection=True, **asked)
        except ServiceUnavailable:
            raise
        except UserErrorException as problem:
            raise Changed(problem.message) from problem
        try:
            yield answer
        except (http.client.HTTPException, ConnectionError, TimeoutError) as problem:
            raise ServiceUnavailable(f"{address} did not arrive whole: {problem!r}") from problem
        finally:
            answer.close()

    def _publish(self, beside: str, file: RemoteFile) -> None:
        os.chmod(beside, 0o644)
        os.utime(beside, (time.time(), file.modified))
        os.rename(beside, self._place(file))

    def _lay_out_whole(self, file: RemoteFile, target: str, wanted: Wanted) -> None:
        """Lay a file out; one that a script has changed since it was fetched, or that is gone therefore, is fetched."""
        for left in reversed(range(_SPOILED)):
            try:
                self._lay_out(file, target)
                return
            except FileNotFoundError:
                if not left:
                    raise
                self._fetch([file], wanted)

    def _lay_out(self, file: RemoteFile, target: str) -> None:
        place = self._place(file)
        state = os.stat(place)
        os.utime(place, ns=(time.time_ns(), state.st_mtime_ns))  # its own time stays: it tells whether it was changed
        if not self._has(file):
            raise FileNotFoundError(errno.ENOENT, "a script has changed it", place)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        beside = target + ".windlass-part"
        try:
            os.link(place, beside)
        except OSError as problem:
            if problem.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            shutil.copy2(place, beside)
        os.replace(beside, target)

    def _make_room(self, needed: int) -> None:
        if needed and self._free() < needed:
            self.shrink(needed)
            if self._free() < needed:
                raise self._no_room(needed)

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _no_room(self, needed: int) -> UserErrorException:
        return UserErrorException(
            f"The disk of this node has no room for the run's data: it takes {needed / 1e9:.2f} GB, and "
            f"{self._free() / 1e9:.2f} GB are free in {self._folder}. Free some, set WINDLASS_HOME to a larger disk "
            "there, or name less data."
        )


def _batches(files: Sequence[RemoteFile]) -> Iterator[Sequence[RemoteFile]]:
    """Files of one datastore each, not too many and not too much at a time."""
    batch: list[RemoteFile] = []
    size = 0
    for file in files:
        full = len(batch) == _TOGETHER or size + file.size > _TOGETHER_BYTES
        if batch and (full or batch[0].store != file.store):
            yield batch
            batch, size = [], 0
        batch.append(file)
        size += file.size
    if batch:
        yield batch


@contextmanager
def _held(path: str, wanted: Wanted) -> Iterator[BinaryIO]:
    """The file, open at its end and held against other agents of this node."""
    while True:
        with open(path, "ab") as out:
            if _is_ours(out, path):
                yield out
                return
        _stop_unless(wanted)
        time.sleep(_LOOK_AGAIN_S)


def _is_ours(file: BinaryIO, path: str) -> bool:
    """Whether this process holds it now, and it is still the one of that path: another may just have finished it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False


def _stop_unless(wanted: Wanted) -> None:
    if not wanted():
        raise ServiceUnavailable("The run was told to end while its data was fetched.")


def _sha256(path: str) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()
