"""Where the cache keeps what, and its small JSON files, which are whole or absent.

::

    <root>/
      requests/<request key>.json   which lock the request got, and when
      resolved/<lock key>.json      the lock
      building/<key>.<pid>.<random> work in progress, owned by whoever holds that key's lock file
      built/<lock key>/             the environment; usable when its ``windlass.json`` is there
      locks/<key>.lock              lock files (flock); never deleted, since somebody may be waiting on one
      interpreters.json             versions of the interpreters on this machine
"""

from __future__ import annotations

import errno
import functools
import json
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from windlass.specs._codec import known_fields, to_wire
from windlassd.envs.base import Lock

FORMAT = 1
STATE_FILE = "windlass.json"
SETTLED_FILE = "windlass.settled"
_KINDS: Mapping[str, Any] = {"str": str, "int": int, "float": (int, float)}
_KEY = re.compile(r"[0-9a-f]{32}\Z")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestRecord:
    """Which lock a request got."""

    lock: str
    made: float
    """Unix seconds."""
    notes: tuple[str, ...]
    format: int = FORMAT


@dataclass(frozen=True)
class State:
    """That an environment is whole, and what lists need to know of it."""

    builder: str
    python: str
    """Path of its interpreter inside its folder."""
    python_version: str
    packages: int
    bytes: int
    created: float
    """Unix seconds."""
    boot: str
    """The boot of the machine in which it was built."""
    format: int = FORMAT


_T = TypeVar("_T", RequestRecord, State, Lock)


class Layout:
    """The folders under ``root``, made when missing."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        for name in ("requests", "resolved", "building", "built", "locks"):
            os.makedirs(os.path.join(self.root, name), mode=0o700, exist_ok=True)

    def lock_file(self, key: str) -> str:
        """The file to flock for a request key or a lock key."""
        return os.path.join(self.root, "locks", key + ".lock")

    def prefix(self, key: str) -> str:
        """The folder of the finished environment ``key``."""
        return os.path.join(self.root, "built", key)

    def built_keys(self) -> Iterator[str]:
        """Keys that have a folder, finished or not."""
        return (name for name in sorted(os.listdir(os.path.join(self.root, "built"))) if _KEY.match(name))

    def new_building(self, key: str) -> str:
        """A fresh folder to build in. The caller holds the lock of ``key``."""
        path = self._building(key)
        os.mkdir(path, 0o700)
        return path

    def leftovers(self) -> Iterator[tuple[str, str]]:
        """(key, path) of everything in ``building``, live builds included."""
        folder = os.path.join(self.root, "building")
        for name in os.listdir(folder):
            yield name.split(".")[0], os.path.join(folder, name)

    def clear_leftovers(self, key: str) -> None:
        """Delete what dead builds of ``key`` left. The caller holds the lock of ``key``, so none is alive."""
        for owner, path in self.leftovers():
            if owner == key:
                _delete(path)

    def discard(self, key: str) -> None:
        """Take the environment away in one step, then delete its files. The caller holds the lock of ``key``."""
        aside = self._building(key)
        try:
            os.replace(self.prefix(key), aside)
        except FileNotFoundError:
            return
        _delete(aside)

    def request(self, key: str) -> RequestRecord | None:
        """What the request got; None when absent, corrupt or of another format."""
        return _record(RequestRecord, read_json(os.path.join(self.root, "requests", key + ".json")))

    def write_request(self, key: str, lock: Lock, made: float) -> None:
        """Keep ``lock`` and that the request got it. The caller holds the lock of ``key``."""
        beside = self._building(key)
        write_json(os.path.join(self.root, "resolved", lock.key + ".json"), to_wire(lock), beside)
        record = RequestRecord(lock=lock.key, made=made, notes=tuple(lock.notes))
        write_json(os.path.join(self.root, "requests", key + ".json"), to_wire(record), beside)

    def forget_request(self, key: str) -> None:
        """The next one who asks resolves anew."""
        try:
            os.unlink(os.path.join(self.root, "requests", key + ".json"))
        except FileNotFoundError:
            pass

    def lock(self, key: str) -> Lock | None:
        """The lock of that key; None when absent or not what was written."""
        lock = _record(Lock, read_json(os.path.join(self.root, "resolved", key + ".json")))
        return lock if lock and lock.key == key else None

    def state(self, key: str) -> State | None:
        """The state of a usable environment, else None."""
        folder = self.prefix(key)
        state = _record(State, read_json(os.path.join(folder, STATE_FILE)))
        if state is None or not os.access(os.path.join(folder, state.python), os.X_OK):
            return None
        if state.boot != boot_id() and not self.is_settled(key):
            return None  # the machine went down before its files were surely on disk
        return state

    def write_state(self, key: str, state: State) -> None:
        """Declare the environment usable. The caller holds the lock of ``key``."""
        write_json(os.path.join(self.prefix(key), STATE_FILE), to_wire(state), self._building(key))

    def touch(self, key: str) -> None:
        """Note that the environment is used now; a disk that takes no notes does not keep it from being used."""
        try:
            os.utime(os.path.join(self.prefix(key), STATE_FILE))
        except OSError as problem:
            if problem.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise

    def used(self, key: str) -> float:
        """When the environment was last asked for, Unix seconds."""
        return os.stat(os.path.join(self.prefix(key), STATE_FILE)).st_mtime

    def is_settled(self, key: str) -> bool:
        """True when its bytecode is compiled and its files are on disk."""
        return os.path.exists(os.path.join(self.prefix(key), SETTLED_FILE))

    def _building(self, key: str) -> str:
        return os.path.join(self.root, "building", f"{key}.{os.getpid()}.{secrets.token_hex(6)}")


def read_json(path: str) -> Mapping[str, Any] | None:
    """The object in the file; None when it is absent or corrupt."""
    try:
        with open(path, encoding="utf-8") as f:
            value = json.load(f)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as e:
        _logger.warning("%s is unreadable and is made anew: %s", path, e)
        return None
    return value if isinstance(value, dict) else None


def write_json(path: str, value: Mapping[str, Any], beside: str) -> None:
    """Write the file so that readers, and a power loss, see the old content or the new.

    Args:
        beside: A path on the same file system for the unfinished file; a folder, or a file name to use.
    """
    if os.path.isdir(beside):
        beside = os.path.join(beside, f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    with open(beside, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        f.flush()
        os.fsync(f.fileno())
    os.replace(beside, path)
    sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make the names in the folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def tree_bytes(folder: str) -> int:
    """Sum of the sizes of the files under ``folder``; links count nothing."""
    total = 0
    pending = [folder]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                elif not entry.is_symlink():
                    total += entry.stat(follow_symlinks=False).st_size
    return total


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """What tells this boot of the machine from any other."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as f:
        return f.read().strip()


def _record(kind: type[_T], data: Mapping[str, Any] | None) -> _T | None:
    """``data`` as that dataclass; None when it does not fit or has another format."""
    if data is None or data.get("format", FORMAT) != FORMAT:
        return None
    values = known_fields(kind, data)
    for field in fields(kind):
        if field.name in values and not _is_kind(values[field.name], str(field.type)):
            return None
    try:
        return kind(**values)
    except TypeError:
        return None  # a field is missing


def _is_kind(value: object, kind: str) -> bool:
    if kind in _KINDS:
        return isinstance(value, _KINDS[kind])
    return isinstance(value, tuple) and all(isinstance(item, str) for item in value)


def _delete(path: str) -> None:
    # A watched program may still be dying in there; what cannot go now goes at the next sweep.
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
