"""Where the files of one part arrive that runs on another machine: logs by appended bytes, other files whole.

What arrives of a file before it is whole lies in ``agent/arriving`` of the part, named by the file's name and version,
and is resumed there by whichever server comes next: its length is what is held. It takes its name by a rename, once as
many bytes are there as were told and their SHA-256 fits. Nothing here is synced: ``settle`` does that at the end.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import struct
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from windlass.errors import UserErrorException
from windlassd.blobs.datastore_folder import PART
from windlassd.blobs.run_folder import RunFolder, sha256_of

PIECE_BYTES = 8 << 20
"""The most that one piece, or one batch of small files, may have, packed and unpacked."""
STREAM_BYTES = 64 << 20
"""The most that one piece of a whole file may have that is not packed: it is in memory at neither end."""
FILES_PROTOCOL = "windlass-files"
"""Offered (as ALPN) by connections that bring files; the listener gives them a thread each."""
ZEROS_BYTES = 256 << 20
"""The most that one piece of a sparse file's hole may stand for."""
_ARRIVING = "arriving"
_VERSION = re.compile(r"[0-9A-Za-z.-]{1,80}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME, _LONGEST_PATH = 255, 3000
_HEAD = struct.Struct("<I")
_LONGEST_HEAD = 64 << 10
_HASHED = 1 << 20
_MOST_KNOWN = 200_000
_HOPELESS = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ENXIO, errno.EINVAL, errno.EILSEQ)


class Unpacker:
    """Turns a body back into the bytes it stands for, as it comes; at most ``most`` of them.

    Raises:
        UserErrorException: it is packed in another way than was said, or stands for more.
    """

    def __init__(self, encoding: str, most: int = PIECE_BYTES) -> None:
        if encoding not in ("", "deflate"):
            raise UserErrorException(f"Files come as they are or with encoding=deflate, not {encoding!r}.")
        self._inflate = zlib.decompressobj() if encoding else None
        self._most = self._left = most

    def feed(self, data: bytes | memoryview) -> bytes | memoryview:
        """What more is known."""
        if self._inflate is not None:
            try:
                data = self._inflate.decompress(data, self._left + 1)
            except zlib.error as problem:
                raise UserErrorException(f"A piece of a file was not packed as it says: {problem}.") from problem
        self._left -= len(data)
        if self._left < 0:
            raise UserErrorException(f"A piece of a file has at most {self._most} bytes; send it as several.")
        return data

    def end(self) -> None:
        """Nothing more comes."""
        if self._inflate is not None and (not self._inflate.eof or self._inflate.unused_data):
            raise UserErrorException("A piece of a file was not packed as it says: it has no end, or more than one.")


class Arriving:
    """A file that grows by pieces. One thread at a time.

    Args:
        path: Where it lies; made when absent.
        hashed: Whether its SHA-256 will be asked for. What lies there is read for it first.
    """

    def __init__(self, path: str, hashed: bool) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._fd = os.open(path, flags, 0o600)
        self._sum = hashlib.sha256() if hashed else None
        try:
            state = os.fstat(self._fd)
            if not stat.S_ISREG(state.st_mode):
                raise UserErrorException(f"{path} is no file: nothing can be added to it.")
            self.held = state.st_size
            if self._sum is not None:
                for piece in _read(self._fd, self.held):
                    self._sum.update(piece)
        except BaseException:
            os.close(self._fd)
            raise

    def is_gone(self) -> bool:
        """True when nothing has this file's name any more: what is added would be lost."""
        return os.fstat(self._fd).st_nlink == 0

    def add(self, data: bytes | memoryview) -> None:
        """Append."""
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, self.held)
            if self._sum is not None:
                self._sum.update(view[:count])
            self.held += count
            view = view[count:]

    def add_zeros(self, count: int) -> None:
        """Append that many zeros, which take no room on the disk."""
        os.ftruncate(self._fd, self.held + count)
        if self._sum is not None:
            zeros = bytes(_HASHED)
            for start in range(0, count, _HASHED):
                self._sum.update(memoryview(zeros)[: min(_HASHED, count - start)])
        self.held += count

    def cut(self, size: int) -> None:
        """Take away what is behind ``size``. What has a checksum is to be opened anew afterwards."""
        os.ftruncate(self._fd, size)
        self.held = size

    def sha256(self) -> str:
        """Of all that is held."""
        assert self._sum is not None
        return self._sum.hexdigest()

    def set_mode(self, mode: int) -> None:
        """Its rights from now on."""
        os.fchmod(self._fd, mode)

    def close(self) -> None:
        """Let go of it; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ShippedFiles:
    """The kept files of one part, as its agent sends them. Different names may be handled by different threads."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self._arriving = os.path.join(folder.agent, _ARRIVING)
        self._known: dict[str, tuple[tuple[int, ...], str]] = {}
        self._lock = threading.Lock()

    def open_log(self, name: str) -> Arriving:
        """A log, to be appended to."""
        with _refusing(name):
            place = self._place(name)
            try:
                return Arriving(place, hashed=False)
            except PermissionError:  # sealed at the end of its run, and a late agent brings more
                os.chmod(place, 0o600)
                return Arriving(place, hashed=False)

    def open_whole(self, name: str, version: str) -> Arriving:
        """What is here of a version of a file; what other versions left is removed."""
        _check(name)
        if not _VERSION.fullmatch(version):
            raise UserErrorException(f"{version!r} is not the version of a file: 1 to 80 letters, digits, '.' and '-'.")
        os.makedirs(self._arriving, mode=0o700, exist_ok=True)
        stem = hashlib.sha256(name.encode()).hexdigest()[:32]
        own = f"{stem}.{version}{PART}"
        for entry in os.listdir(self._arriving):
            if entry.startswith(stem) and entry != own:
                os.unlink(os.path.join(self._arriving, entry))
        return Arriving(os.path.join(self._arriving, own), hashed=True)

    def finish(self, name: str, whole: Arriving, sha256: str, mode: int) -> bool:
        """Give a file that is all here its name; False, and all of it gone, when its content is another."""
        whole.close()
        if whole.sha256() != sha256:
            os.unlink(whole.path)
            return False
        with _refusing(name):
            self._publish(name, whole.path, sha256, mode, set())
        return True

    def put(self, content: Iterable[tuple[Mapping[str, Any], memoryview]]) -> Sequence[Mapping[str, str]]:
        """Keep small files, and remove those of which ``gone`` is told; returns which could not be, and why."""
        refused, made = [], set[str]()
        os.makedirs(self._arriving, mode=0o700, exist_ok=True)
        for head, data in content:
            name = str(head["path"])
            try:
                if head.get("gone"):
                    self.remove(name)
                    made.clear()
                    continue
                with _refusing(name):
                    self._put(name, data, str(head["sha256"]), int(head["mode"]), made)
            except UserErrorException as problem:
                refused.append({"path": name, "why": problem.message})
        return refused

    def remove(self, name: str) -> None:
        """Take a file away that is not there any more, and the folders that are empty then."""
        _check(name)
        path = os.path.join(self.folder.files, *name.split("/"))
        self._known.pop(name, None)
        try:
            self._walk_to(name, make=False)
            os.unlink(path)
            while (path := os.path.dirname(path)) != self.folder.files:
                os.rmdir(path)
        except (OSError, UserErrorException):  # gone before, a folder or link by now, or a folder with more in it
            return

    def has(self, name: str, size: int, sha256: str) -> bool:
        """True when exactly this content is kept under the name."""
        _check(name)
        path = os.path.join(self.folder.files, *name.split("/"))
        try:
            self._walk_to(name, make=False)
            state = os.lstat(path)
        except (OSError, UserErrorException):
            return False
        if not stat.S_ISREG(state.st_mode) or state.st_size != size:
            return False
        known = self._known.get(name)
        if known is None or known[0] != _identity(state):
            known = self._known[name] = (_identity(state), sha256_of(path))
        return known[1] == sha256

    def is_as_finished(self, name: str) -> bool:
        """True when a file that got its name here has not been touched since."""
        known = self._known.get(name)
        try:
            return known is not None and known[0] == _identity(os.lstat(os.path.join(self.folder.files, name)))
        except OSError:
            return False

    def clear(self) -> None:
        """Remove what arrived in part only: nothing more of it will come."""
        try:
            for name in os.listdir(self._arriving):
                os.unlink(os.path.join(self._arriving, name))
        except FileNotFoundError:  # the run has ended, and its folder is being cleared this moment
            pass

    def _put(self, name: str, data: memoryview, sha256: str, mode: int, made: set[str]) -> None:
        _check(name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UserErrorException(f"{name!r} arrived with another SHA-256 than {sha256}: send it again.")
        part = os.path.join(self._arriving, f"{hashlib.sha256(name.encode()).hexdigest()[:32]}{PART}")
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            left = data
            while left:
                left = left[os.write(fd, left) :]
        finally:
            os.close(fd)
        self._publish(name, part, sha256, mode, made)

    def _publish(self, name: str, part: str, sha256: str, mode: int, made: set[str]) -> None:
        place = self._place(name, made)
        os.chmod(part, 0o500 if mode & 0o100 else 0o400)
        try:
            os.replace(part, place)
        except IsADirectoryError:
            _put_aside(place)
            os.replace(part, place)
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        self._known[name] = (_identity(os.lstat(place)), sha256)

    def _place(self, name: str, made: set[str] | None = None) -> str:
        """Where a file is kept; its folders exist afterwards. ``made``: folders known to."""
        _check(name)
        folder = name.rpartition("/")[0]
        if made is None or folder not in made:
            self._walk_to(name, make=True)
            if made is not None:
                made.add(folder)
        return os.path.join(self.folder.files, *name.split("/"))

    def _walk_to(self, name: str, make: bool) -> None:
        """Go down to the folder of a file, through real folders only."""
        path = self.folder.files
        if make:
            os.makedirs(path, mode=0o700, exist_ok=True)
        for part in ["", *name.split("/")[:-1]]:
            path = os.path.join(path, part) if part else path
            try:
                state = os.lstat(path)
            except FileNotFoundError:
                if not make:
                    raise
                with suppress(FileExistsError):  # another thread's batch has a file there, too
                    os.mkdir(path, 0o700)
                state = os.lstat(path)
            if stat.S_ISLNK(state.st_mode):
                raise UserErrorException(f"{name!r} cannot be kept: {path} is a link, which may lead outside.")
            if not stat.S_ISDIR(state.st_mode):
                if not make:
                    raise NotADirectoryError(path)
                _put_aside(path)
                os.mkdir(path, 0o700)


def entries(body: bytes | memoryview) -> Iterator[tuple[Mapping[str, Any], memoryview]]:
    """The files in the body of a batch: ``length of head u32, head as JSON, content`` each.

    Raises:
        UserErrorException: it is not one.
    """
    view, at = memoryview(body), 0
    while at < len(view):
        try:
            (length,) = _HEAD.unpack_from(view, at)
            if length > _LONGEST_HEAD:
                raise ValueError(f"a head of {length} bytes")
            at += _HEAD.size
            head = json.loads(bytes(view[at : at + length]))
            at += length
            size = 0 if head.get("gone") else int(head["size"])
            if size < 0 or at + size > len(view):
                raise ValueError(f"a file of {size} bytes in {len(view) - at}")
        except (struct.error, ValueError, KeyError, TypeError, AttributeError) as problem:
            raise UserErrorException(f"This is no batch of files: {problem!r} at byte {at}.") from problem
        yield head, view[at : at + size]
        at += size


def entry(head: Mapping[str, Any]) -> bytes:
    """What begins a file in a batch."""
    told = json.dumps(head).encode()
    return _HEAD.pack(len(told)) + told


def is_sha256(text: str) -> bool:
    """True for 64 lower-case hexadecimal digits."""
    return bool(_SHA256.fullmatch(text))


def _check(name: str) -> None:
    """Refuse what is not the name of a kept file. A name may have a backslash in it, as scripts give them."""
    parts = name.split("/")
    outside = any(part in ("", ".") or ".." in part.split("\\") for part in parts) or "\0" in name
    if outside or name.endswith(PART):
        raise UserErrorException(f"{name[:200]!r} is not the name of a run's file: it must be relative, without '..'.")
    try:
        told = [part.encode() for part in parts]
    except UnicodeEncodeError as problem:
        raise UserErrorException(f"{name[:200]!r} is not the name of a run's file: it is no UTF-8.") from problem
    if len(name.encode()) > _LONGEST_PATH or any(len(part) > _LONGEST_NAME for part in told):
        raise UserErrorException(
            f"The file name {name[:60]!r}… is too long: at most {_LONGEST_NAME} bytes a part, {_LONGEST_PATH} in all."
        )


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Refuse the file for what no other try would change; else the agent would send it again and again."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _HOPELESS:
            raise
        raise UserErrorException(f"{name[:200]!r} cannot be kept: {problem.strerror}.") from problem


def _put_aside(path: str) -> None:
    """Make way for a script's own: what was uploaded under the name while the run went."""
    os.rename(path, f"{path}.uploaded")


def _identity(state: os.stat_result) -> tuple[int, ...]:
    return state.st_ino, state.st_size, state.st_mtime_ns


def _read(fd: int, size: int) -> Iterator[bytes]:
    at = 0
    while at < size and (piece := os.pread(fd, min(_HASHED, size - at), at)):
        yield piece
        at += len(piece)
