"""Making one backup in a folder: copies with checksums, hard links to what did not change; whole, or not there."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import IO

from windlass.errors import AzureMLException, UserErrorException
from windlass.specs.backup import INDEX_FILE, MANIFEST_FILE, PART, Entry, Manifest
from windlassd.blobs.backup_index import BackupIndex, digest
from windlassd.blobs.room import remove_tree
from windlassd.blobs.syncing import sync_file_system

log = logging.getLogger(__name__)
_CHUNK = 1 << 20
_RACY_NS = 2_000_000_000
"""A file that changed so short a time ago may change again without its times telling."""
_COARSE_NS = 2_000_000_000
"""File systems keep times this coarsely."""
_LOCK = "lock"
_YOUNG_S = 60.0
_CANNOT_BE_TAKEN = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


class BackupStopped(AzureMLException):
    """Whoever asked for the backup has gone."""

    error_code = "backup_stopped"


class BackupFolder:
    """One backup in the making, from ``begin`` to ``finish`` or ``abandon``. Belongs to one thread.

    Args:
        folder: Where backups lie; made when absent.
        workspace: Name of the workspace.
        made: The moment of the backup, Unix seconds.
        stop: Asked between pieces: True ends the work.
    """

    def __init__(self, folder: str, workspace: str, made: float, stop: Callable[[], bool]) -> None:
        self.folder = os.path.abspath(folder)
        moment = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime(made))
        self.name = f"{workspace}-{moment}"
        self.files = self.bytes = self.new_bytes = 0
        self._workspace, self._stop = workspace, stop
        self._entries: set[bytes] = set()
        self._before: BackupIndex | None = None
        self._folders: set[str] = set()

    def begin(self) -> None:
        """Make the unfinished folder; what dead ones left is removed first.

        Raises:
            UserErrorException: there can be no folder.
        """
        try:
            os.makedirs(self.folder, mode=0o700, exist_ok=True)
            self._sweep()
            first, number = self.name, 1
            while os.path.lexists(self.path):  # one of the same second
                number += 1
                self.name = f"{first}-{number}"
            self._part = os.path.join(self.folder, f".{self.name}.{secrets.token_hex(4)}{PART}")
            os.mkdir(self._part, 0o700)
        except (FileExistsError, NotADirectoryError) as problem:
            raise UserErrorException(f"{self.folder} is not a folder; a backup goes into one.") from problem
        self._lock: IO[str] = open(os.path.join(self._part, _LOCK), "w")  # noqa: SIM115 - held to the end
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._index = open(os.path.join(self._part, INDEX_FILE), "wb")  # noqa: SIM115 - closed at the end
        self._before = self._previous()

    @property
    def path(self) -> str:
        """Where the backup will lie."""
        return os.path.join(self.folder, self.name)

    def file(self, path: str, source: str, sha256: str | None = None) -> Entry | None:
        """Take a file as ``path``; None when it is gone, or closed to us.

        Args:
            path: Below the backup.
            source: The file; what is written to it meanwhile may be in the backup or not.
            sha256: What never changes under its name; then a link will do, and a copy is checked.

        Raises:
            DamagedSource: the copy does not have the checksum.
        """
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as problem:
            if problem.errno in _CANNOT_BE_TAKEN:
                return None
            raise
        with open(descriptor, "rb") as content:
            state = os.fstat(descriptor)
            if not stat.S_ISREG(state.st_mode):
                return None
            entry = _described(path, state)
            known = self._before.find(path) if self._before else None
            if self._before and known and _unchanged(known, entry, sha256) and self._link(self._before.root, known):
                return self._note(known)
            entry = self._copied(content, entry)
        if sha256 is not None and entry.sha256 != sha256:
            os.unlink(self._place(path))
            raise DamagedSource(f"{source} is damaged: its SHA-256 is {entry.sha256}, not {sha256}.")
        self.new_bytes += entry.size
        return self._note(entry)

    def tree(self, path: str, source: str, skip: Callable[[str], bool] = lambda name: False) -> Iterator[Entry]:
        """Take a folder as it is, with its links and empty folders; what ``skip`` says of a name is left out."""
        pending = [(path, source)]
        while pending:
            below, folder = pending.pop()
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
            except OSError as problem:
                if problem.errno in _CANNOT_BE_TAKEN:
                    continue
                raise
            if not entries:
                yield self._note(Entry(below))
            for entry in entries:
                name = f"{below}/{entry.name}"
                if skip(entry.name):
                    continue
                if entry.is_symlink():
                    yield self._note(Entry(name, link=os.readlink(entry.path)))
                elif entry.is_dir():
                    pending.append((name, entry.path))
                elif taken := self.file(name, entry.path):
                    yield taken

    def finish(self, manifest: Callable[[str], Manifest]) -> Manifest:
        """Write index and manifest, bring all to the disk, and give the backup its name.

        Args:
            manifest: Makes it of the index's checksum.
        """
        self._let_go()
        self._index.close()
        with open(self._index.name, "rb") as index:
            made = manifest(hashlib.file_digest(index, "sha256").hexdigest())
        with open(os.path.join(self._part, MANIFEST_FILE), "w", encoding="utf-8") as out:
            out.write(made.to_text())
        os.unlink(self._lock.name)
        if not sync_file_system(self._part):
            os.sync()
        os.rename(self._part, self.path)
        sync_file_system(self.folder)
        self._lock.close()
        return made

    def abandon(self) -> None:
        """Remove what there is of it."""
        self._let_go()
        try:
            self._index.close()
        except OSError as problem:  # the disk is full: its last lines have no room
            log.debug("%s: %s", self._index.name, problem)
        remove_tree(self._part)
        self._lock.close()

    def keep_only(self, count: int) -> list[str]:
        """Remove all but the newest backups of this workspace; names of those that are gone."""
        gone = []
        for name, _ in backups_in(self.folder, self._workspace)[:-count]:
            aside = os.path.join(self.folder, f".{name}.{secrets.token_hex(4)}{PART}")
            try:
                os.rename(os.path.join(self.folder, name), aside)  # half of one must not look like one
                gone.append(name)
                remove_tree(aside)
            except OSError as problem:  # the new one is made all the same; the next tries again
                log.warning("the backup %s could not be removed: %s", os.path.join(self.folder, name), problem)
        return gone

    def _let_go(self) -> None:
        if self._before:
            self._before.close()

    def _sweep(self) -> None:
        for entry in os.scandir(self.folder):
            if entry.name.startswith(f".{self._workspace}-") and entry.name.endswith(PART) and not _lives(entry.path):
                log.info("removing %s, which a backup that was cut short left", entry.path)
                remove_tree(entry.path)

    def _previous(self) -> BackupIndex | None:
        """The files of the newest backup of this workspace; one that cannot be read is as good as none."""
        for name, _ in reversed(backups_in(self.folder, self._workspace)):
            root = os.path.join(self.folder, name)
            try:
                return BackupIndex(root)
            except (OSError, ValueError, TypeError) as problem:
                log.warning("the backup %s cannot be built upon: %s", root, problem)
        return None

    def _link(self, root: str, known: Entry) -> bool:
        before = os.path.join(root, known.path)
        try:
            state = os.lstat(before)
            if state.st_size != known.size or abs(state.st_mtime_ns - known.mtime_ns) > _COARSE_NS:
                log.warning("%s was changed since it was backed up; it is copied anew", before)
                return False
            os.link(before, self._place(known.path), follow_symlinks=False)
        except OSError:  # a file system without links, too many of them, or the file is gone: copy
            return False
        return True

    def _copied(self, source: IO[bytes], entry: Entry) -> Entry:
        digest, size = hashlib.sha256(), 0
        place = self._place(entry.path)
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as out:
            while chunk := source.read(min(_CHUNK, entry.size - size)) if size < entry.size else b"":
                self._look_up()
                digest.update(chunk)
                size += len(chunk)
                out.write(chunk)
        os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns))
        os.chmod(place, 0o400)  # later backups share it
        return replace(entry, size=size, sha256=digest.hexdigest())

    def _place(self, path: str) -> str:
        place = os.path.join(self._part, path)
        folder = os.path.dirname(place)
        if folder not in self._folders:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._folders.add(folder)
        return place

    def _note(self, entry: Entry) -> Entry:
        self._look_up()
        noted = digest(entry.path)
        if noted not in self._entries:
            self._entries.add(noted)
            self._index.write(entry.to_line())
            self.files += 1
            self.bytes += entry.size
        return entry

    def _look_up(self) -> None:
        if self._stop():
            raise BackupStopped("The backup was stopped; nothing of it is left.")


class DamagedSource(AzureMLException):
    """A file of the workspace does not have the checksum on record."""

    error_code = "damaged"


def backups_in(folder: str, workspace: str | None = None) -> list[tuple[str, Manifest]]:
    """Whole backups in a folder, oldest first: those of the workspace, or all."""
    found = []
    for entry in os.scandir(folder):
        if not entry.name.startswith(".") and os.path.isfile(os.path.join(entry.path, MANIFEST_FILE)):
            try:
                with open(os.path.join(entry.path, MANIFEST_FILE), encoding="utf-8") as f:
                    found.append((entry.name, Manifest.from_text(f.read(), entry.path)))
            except (OSError, ValueError) as problem:
                log.warning("%s is left alone: %s", entry.path, problem)
    fitting = [pair for pair in found if workspace in (None, pair[1].workspace)]
    return sorted(fitting, key=lambda pair: (pair[1].made, pair[0]))


def _described(path: str, state: os.stat_result) -> Entry:
    identity = None
    if time.time_ns() - max(state.st_ctime_ns, state.st_mtime_ns) > _RACY_NS:
        identity = (state.st_dev, state.st_ino, state.st_ctime_ns)
    return Entry(path, state.st_size, None, stat.S_IMODE(state.st_mode), state.st_mtime_ns, identity)


def _unchanged(known: Entry, now: Entry, sha256: str | None) -> bool:
    if known.sha256 is None:
        return False
    if sha256 is not None:
        return known.sha256 == sha256
    same = known.identity is not None and known.identity == now.identity
    return same and (known.size, known.mtime_ns) == (now.size, now.mtime_ns)


def _lives(part: str) -> bool:
    """True while somebody is making it."""
    try:
        with open(os.path.join(part, _LOCK)) as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # not locked yet, or not any more
        return time.time() - os.stat(part).st_mtime < _YOUNG_S
    return False
