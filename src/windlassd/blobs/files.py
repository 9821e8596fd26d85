"""Blobs as plain files: ``ab/cdef…`` below one folder, read-only, each written beside and renamed.

Durability: content reaches the disk before the name that shows it, so a name never leads to half a file. Files are
synced one by one, then renamed, then their folders are synced. ``put_many`` does each step for all its files together,
and for more than 64 asks for one sync of the whole file system instead (Linux ``syncfs``): a thousand small files then
cost two waits for the disk. For a few it does not, as that waits for what every other program has written too.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from windlass.errors import SnapshotException
from windlassd.blobs.base import BlobMismatch, BlobMissing, BlobStoreError, BlobStoreFull
from windlassd.blobs.handed import Copied, Handed, copy_open
from windlassd.blobs.syncing import sync_all, sync_path

_CHUNK_BYTES = 1 << 20
_HASH = re.compile("[0-9a-f]{64}")
_FOLDER = re.compile("[0-9a-f]{2}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TEMPORARY = "tmp"
_AT_ONCE = 4096  # files of put_many that wait for one sync


class FileBlobStore:
    """A ``BlobStore`` in a folder of this machine.

    Args:
        root: The folder; made when there is none.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)
        self._names = itertools.count()
        self._settled: set[str] = set()
        with _translated(self._root):
            os.makedirs(os.path.join(self._root, _TEMPORARY), mode=0o700, exist_ok=True)
            sync_path(os.path.dirname(self._root))
            self._own, self._lock = _claim(os.path.join(self._root, _TEMPORARY))

    def put(self, chunks: Iterable[bytes], sha256: str) -> int:
        """Store content; see ``BlobStore``."""
        place = self._place(sha256)
        if os.path.exists(place):
            size = _checked(chunks, sha256)
            self._settle([place])
        else:
            temporary, size = self._write(chunks, sha256)
            self._publish({place: temporary})
        return size

    def put_many(self, objects: Iterable[tuple[str, Iterable[bytes]]]) -> int:
        """Store several; see ``BlobStore``."""
        written: dict[str, str] = {}
        there: list[str] = []
        count = 0
        try:
            for sha256, chunks in objects:
                place = self._place(sha256)
                if place in written or os.path.exists(place):
                    _checked(chunks, sha256)
                    there.append(place)
                else:
                    written[place] = self._write(chunks, sha256)[0]
                count += 1
                if len(written) >= _AT_ONCE:
                    self._publish(written)
                    written = {}
        finally:
            self._publish(written)
        self._settle(there)
        return count

    def put_file(self, path: str) -> tuple[str, int]:
        """Store a copy of a file; see ``BlobStore``."""
        temporary, sha256, size = self._copy(_read(path))
        self._publish({self._place(sha256): temporary})
        return sha256, size

    def put_handed(self, files: Iterable[Handed]) -> Mapping[int, Copied]:
        """Store copies of a client's files; see ``BlobStore``."""
        copies: dict[int, Copied] = {}
        written: dict[str, str] = {}
        there: list[str] = []
        try:
            for number, file in enumerate(files):
                with file.opened() as source:
                    if source is None:
                        continue
                    temporary = f"{self._own}/{next(self._names)}"
                    with _translated(self._root):
                        copies[number] = copy_open(file, source, temporary, 0o444)
                place = self._place(copies[number].sha256)
                if place in written or os.path.exists(place):
                    os.unlink(temporary)
                    there.append(place)
                else:
                    written[place] = temporary
        finally:
            self._publish(written)
        self._settle(there)
        return copies

    def missing(self, hashes: Iterable[str]) -> Sequence[str]:
        """Those not there, each once, in their order."""
        places = {sha256: self._place(sha256) for sha256 in hashes}
        absent = [sha256 for sha256, place in places.items() if not os.path.exists(place)]
        lacking = set(absent)
        self._settle(place for sha256, place in places.items() if sha256 not in lacking)
        return absent

    def open(self, sha256: str) -> BinaryIO:
        """The object, to be read and closed by the caller; raises BlobMissing."""
        try:
            return open(self._place(sha256), "rb")
        except FileNotFoundError as problem:
            raise BlobMissing(
                f"The workspace holds no file with the content {sha256}. It was removed or never arrived; send the"
                " snapshot again."
            ) from problem

    def path(self, sha256: str) -> str | None:
        """The object's file; None when it is not there. Nobody may write to it."""
        place = self._place(sha256)
        return place if os.path.exists(place) else None

    def delete(self, sha256: str) -> None:
        """Remove the object if it is there."""
        try:
            os.unlink(self._place(sha256))
        except FileNotFoundError:
            pass

    def hashes(self) -> Iterator[str]:
        """The hashes of all objects, in no order."""
        for folder in os.listdir(self._root):
            if _FOLDER.fullmatch(folder):
                for name in os.listdir(os.path.join(self._root, folder)):
                    if _HASH.fullmatch(folder + name):
                        yield folder + name

    def close(self) -> None:
        """Let go of the folder for unfinished files; may be called again."""
        shutil.rmtree(self._own, ignore_errors=True)
        self._lock.close()

    def _place(self, sha256: str) -> str:
        if not isinstance(sha256, str) or not _HASH.fullmatch(sha256):
            raise SnapshotException(f"{sha256!r} is not a SHA-256: 64 lower-case hexadecimal digits are.")
        return f"{self._root}/{sha256[:2]}/{sha256[2:]}"

    def _write(self, chunks: Iterable[bytes], sha256: str) -> tuple[str, int]:
        temporary, found, size = self._copy(chunks)
        if found != sha256:
            os.unlink(temporary)
            raise _mismatch(sha256, found, size)
        return temporary, size

    def _copy(self, chunks: Iterable[bytes]) -> tuple[str, str, int]:
        """Write ``chunks`` to a file of our own; returns its path, hash and size."""
        temporary = f"{self._own}/{next(self._names)}"
        digest, size = hashlib.sha256(), 0
        with _translated(self._root):
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            for chunk in chunks:  # what reading them raises is not ours to translate
                digest.update(chunk)
                size += len(chunk)
                with _translated(self._root):
                    _write_all(descriptor, chunk)
        except BaseException:
            os.unlink(temporary)
            raise
        finally:
            os.close(descriptor)
        return temporary, digest.hexdigest(), size

    def _publish(self, written: dict[str, str]) -> None:
        """Give the files at the values their places, the keys; durable on return."""
        if not written:
            return
        with _translated(self._root):
            sync_all(list(written.values()))
            folders = {os.path.dirname(place) for place in written}
            for place, temporary in written.items():
                _rename(temporary, place)
            new = folders - self._settled
            sync_all(folders | {self._root} if new else folders)
            self._settled |= new

    def _settle(self, places: Iterable[str]) -> None:
        """Sync the names of files that are there: who was killed putting them may not have."""
        if new := {os.path.dirname(place) for place in places} - self._settled:
            with _translated(self._root):
                sync_all(new | {self._root})
            self._settled |= new


def _rename(temporary: str, place: str) -> None:
    """Move the file to its place; its folder is made for it when it is the first."""
    try:
        os.replace(temporary, place)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        os.replace(temporary, place)


def leftovers(root: str) -> Sequence[str]:
    """Folders for unfinished files below a store's ``root`` whose owners are gone; the next store removes them."""
    folder = os.path.join(root, _TEMPORARY)
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else ()
    return [path for name in names if name != ".lock" and not _is_owned(path := os.path.join(folder, name))]


def _is_owned(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # being made this moment, or already half removed
        return not os.path.isdir(folder)
    return False


def _claim(folder: str) -> tuple[str, BinaryIO]:
    """A new folder for unfinished files and the lock that says its owner lives; those of the dead are removed."""
    with open(os.path.join(folder, ".lock"), "wb") as door:
        fcntl.flock(door, fcntl.LOCK_EX)  # nobody else makes or sweeps one meanwhile
        for name in os.listdir(folder):
            if name != ".lock":
                _sweep(os.path.join(folder, name))
        own = os.path.join(folder, uuid.uuid4().hex)
        os.mkdir(own, 0o700)
        lock = open(os.path.join(own, "lock"), "wb")  # noqa: SIM115 - held as long as the store lives
        fcntl.flock(lock, fcntl.LOCK_EX)
        return own, lock


def _sweep(folder: str) -> None:
    try:
        with open(os.path.join(folder, "lock"), "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # its writer lives
    except FileNotFoundError:
        pass
    shutil.rmtree(folder, ignore_errors=True)  # its owner may be closing it this moment; else the next open tries again


def _read(path: str) -> Iterator[bytes]:
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as problem:
        raise SnapshotException(f"Cannot read {path}: {problem.strerror}.") from problem


def _checked(chunks: Iterable[bytes], sha256: str) -> int:
    digest, size = hashlib.sha256(), 0
    for chunk in chunks:
        digest.update(chunk)
        size += len(chunk)
    if digest.hexdigest() != sha256:
        raise _mismatch(sha256, digest.hexdigest(), size)
    return size


def _mismatch(sha256: str, found: str, size: int) -> BlobMismatch:
    return BlobMismatch(
        f"The {size} bytes that arrived have the SHA-256 {found}, not {sha256}: the file changed while it was sent, or"
        " was damaged on its way. Submit again."
    )


def _write_all(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


@contextmanager
def _translated(root: str) -> Iterator[None]:
    """Raise what the disk says as errors of this room."""
    try:
        yield
    except OSError as problem:
        if problem.errno in _FULL:
            raise BlobStoreFull(
                f"No room for another file under {root} ({problem.strerror}). Free some space and try again."
            ) from problem
        raise BlobStoreError(
            f"Cannot write under {root}: {problem}. Check its owner, permissions and disk."
        ) from problem
