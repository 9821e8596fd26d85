"""Files that a client of this machine hands over by their paths: copied by the kernel, hashed, synced together.

The client says which file it has at a path (device, inode, size, time of change); a file that is another here, as it is
for a client in a container or behind a forwarded socket, is left to be sent as octets.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from windlass.errors import UserErrorException
from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.syncing import sync_all

_SMALL_BYTES = 1 << 20
_STEP_BYTES = 64 << 20
_HASHED_BYTES = 1 << 20
_NO_KERNEL_COPY = (errno.EXDEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM)


@dataclass(frozen=True)
class Handed:
    """A file of a client: the name it is to get, and what the client sees at ``place``."""

    path: str
    place: str
    state: tuple[int, int, int, int]
    """Device, inode, size in bytes, time of the last change in nanoseconds."""

    @classmethod
    def from_wire(cls, data: Mapping[str, Any]) -> Handed:
        """What ``data`` says; raises UserErrorException when the place is no absolute path."""
        place = str(data["from"])
        if not os.path.isabs(place) or "\0" in place:
            raise UserErrorException(f"{place!r} cannot be handed over: give an absolute path.")
        known = (int(data["device"]), int(data["inode"]), int(data["size"]), int(data["modified_ns"]))
        return cls(str(data["path"]), place, known)

    @contextmanager
    def opened(self) -> Iterator[int | None]:
        """The file, open for reading; None when it cannot be had here, or is another than the client's."""
        try:
            source = os.open(self.place, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            yield None
            return
        try:
            yield source if _state(source) == self.state else None
        finally:
            os.close(source)


@dataclass(frozen=True)
class Copied:
    """What a file came to."""

    size: int
    sha256: str


def copy_handed(files: Iterable[tuple[Handed, str]]) -> Mapping[int, Copied]:
    """Copy each file to its target, all durable and each in one step; returns what came of it, by its place in line.

    Those that cannot be had here are left out. Nothing is under its target before all are on the disk.

    Raises:
        UserErrorException: a file changed while it was copied.
    """
    copies: dict[int, Copied] = {}
    beside: dict[str, str] = {}
    try:
        for number, (file, target) in enumerate(files):
            with file.opened() as source:
                if source is not None:
                    part = f"{target}.{secrets.token_hex(4)}{PART}"
                    copies[number] = copy_open(file, source, part)
                    beside[part] = target
        publish(beside)
    finally:
        for part in beside:
            if os.path.lexists(part):
                os.unlink(part)
    return copies


def kept_copies(files: Sequence[Handed], targets: Sequence[str]) -> Sequence[Mapping[str, Any] | None]:
    """Copy each file to its target; what each became as the wire has it, None for those that cannot be had here."""
    copies = copy_handed(zip(files, targets, strict=True))
    return [shown(file, copies.get(number)) for number, file in enumerate(files)]


def shown(file: Handed, copied: Copied | None) -> Mapping[str, Any] | None:
    """What a file became, as the wire has it."""
    return None if copied is None else {"path": file.path, "size": copied.size, "sha256": copied.sha256}


def publish(beside: Mapping[str, str]) -> None:
    """Move finished files (the keys) to where they belong, in one step each; durable on return."""
    sync_all(list(beside))
    for part, target in beside.items():
        os.replace(part, target)
    sync_all({os.path.dirname(target) for target in beside.values()})


def copy_open(file: Handed, source: int, part: str, mode: int = 0o666) -> Copied:
    """Copy an open file to ``part``, a new one with the rights ``mode``; nothing is left of it when this raises.

    Raises:
        UserErrorException: it changed meanwhile.
    """
    size = file.state[2]
    target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        copied = _small(source, target) if size <= _SMALL_BYTES else _large(source, target, size)
        if copied.size != size or _state(source) != file.state:
            raise UserErrorException(f"{file.place} changed while it was uploaded. Try again.")
    except BaseException:
        os.unlink(part)
        raise
    finally:
        os.close(target)
    return copied


def _small(source: int, target: int) -> Copied:
    content = b"".join(iter(lambda: os.read(source, _SMALL_BYTES), b""))
    left = memoryview(content)
    while left:
        left = left[os.write(target, left) :]
    return Copied(len(content), hashlib.sha256(content).hexdigest())


def _large(source: int, target: int, size: int) -> Copied:
    """Step by step, and each step on its way to the disk while it is hashed in another thread: of the copy's bytes."""
    digest, buffer = hashlib.sha256(), bytearray(_HASHED_BYTES)
    with ThreadPoolExecutor(1) as hasher:
        steps, done = [], 0
        while done < size:
            count = _step(source, target, done, min(_STEP_BYTES, size - done))
            if not count:
                break
            steps.append(hasher.submit(_hash, digest, buffer, target, done, count))
            done += count
            os.fdatasync(target)
        for step in steps:
            step.result()
    return Copied(done, digest.hexdigest())


def _step(source: int, target: int, offset: int, size: int) -> int:
    """Copy some bytes, as a shared extent where the file system can; returns how many, 0 at the end."""
    try:
        return os.copy_file_range(source, target, size, offset, offset)
    except OSError as problem:
        if problem.errno not in _NO_KERNEL_COPY:
            raise
    content = os.pread(source, size, offset)
    return os.pwrite(target, content, offset)


def _hash(digest: Any, buffer: bytearray, target: int, offset: int, size: int) -> None:
    end = offset + size
    while offset < end:
        count = os.preadv(target, [memoryview(buffer)[: min(len(buffer), end - offset)]], offset)
        if not count:
            raise OSError(errno.EIO, "the copy is shorter than what was written")
        digest.update(memoryview(buffer)[:count])
        offset += count


def _state(source: int) -> tuple[int, int, int, int]:
    known = os.fstat(source)
    return known.st_dev, known.st_ino, known.st_size, known.st_mtime_ns


def wanted(files: Sequence[Mapping[str, Any]]) -> list[Handed]:
    """What a request asks to be copied."""
    return [Handed.from_wire(file) for file in files]
