"""Where the cache keeps what, and its small JSON files, which are whole or absent.

::

    <root>/
      requests/<request key>.json   what was asked for, which lock it got, and when
      resolved/<lock key>.json      the lock
      building/<key>.<pid>.<random> work in progress, owned by whoever holds that key's lock file
      building/<key>.log            the lines of that work so far, for whoever waits for it
      built/<lock key>/             the environment; usable when its ``windlass.json`` is there, and complete, bytecode
                                    too, when ``windlass.settled`` is
      conda/                        packages that conda channels gave, and what they have; to be had again
      uses/                         which runs need which environment, see ``_uses.py``
      locks/<key>.lock              lock files (flock); never deleted, since somebody may be waiting on one
      interpreters.json             versions of the interpreters on this machine
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import logging
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from windlass.specs._codec import known_fields, to_wire
from windlassd.envs.base import EnvironmentFailed, Lock

FORMAT = 1
STATE_FILE = "windlass.json"
SETTLED_FILE = "windlass.settled"
_KINDS: Mapping[str, Any] = {"str": str, "int": int, "float": (int, float), "Mapping[str, Any]": dict}
_KEY = re.compile(r"[0-9a-f]{32}\Z")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestRecord:
    """Which lock a request got."""

    lock: str
    made: float
    """Unix seconds."""
    notes: tuple[str, ...]
    spec: Mapping[str, Any] | None = None
    """What was asked for, as ``EnvironmentSpec`` on the wire; None in records of older versions."""
    platform: str | None = None
    """Of the machines elsewhere that it was resolved for; None: this machine."""
    format: int = FORMAT


@dataclass(frozen=True)
class State:
    """That an environment is whole, and what lists need to know of it."""

    builder: str
    python: str
    """Path of its interpreter inside its folder."""
    python_version: str
    packages: int
    created: float
    """Unix seconds."""
    boot: str
    """The boot of the machine in which it was built."""
    image: str | None = None
    """Id of the image that it is; its interpreter is then an absolute path inside of that, and none of its folder."""
    engine: str | None = None
    """Address of the API of the container engine that has the image."""
    stamp: str | None = None
    """Tells the interpreter outside that it was built on from another one behind the same path; None: there is none."""
    place: str | None = None
    """The only folder that it works in, since its files have that path in them; None: it survives a move."""
    bytes: int | None = None
    """Written by older versions; see ``_sizes.py``."""
    format: int = FORMAT


_T = TypeVar("_T", RequestRecord, State, Lock)


class Layout:
    """The folders under ``root``, made when missing."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self._folders = [
            os.path.join(self.root, name) for name in ("requests", "resolved", "building", "built", "locks")
        ]
        self._make()

    def lock_file(self, key: str) -> str:
        """The file to flock for a request key or a lock key. Folders that were deleted since are made again."""
        self._make()
        return os.path.join(self.root, "locks", key + ".lock")

    def prefix(self, key: str) -> str:
        """The folder of the finished environment ``key``."""
        return built_prefix(self.root, key)

    def built_keys(self) -> Iterator[str]:
        """Keys that have a folder, finished or not."""
        return (name for name in sorted(_names(os.path.join(self.root, "built"))) if _KEY.match(name))

    def log_file(self, key: str) -> str:
        """Where whoever holds the lock of ``key`` tells what it does."""
        return os.path.join(self.root, "building", key + ".log")

    def new_building(self, key: str) -> str:
        """A fresh folder to build in. The caller holds the lock of ``key``."""
        path = self._building(key)
        os.mkdir(path, 0o700)
        return path

    def leftovers(self) -> Iterator[tuple[str, str]]:
        """(key, path) of everything in ``building``, live builds included."""
        folder = os.path.join(self.root, "building")
        for name in _names(folder):
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
        # Else a power loss might bring the folder back with some of its files gone.
        sync_folder(os.path.dirname(self.prefix(key)))
        _delete(aside)

    def request(self, key: str) -> RequestRecord | None:
        """What the request got; None when absent, corrupt or of another format."""
        return _record(RequestRecord, read_json(self.record_file("requests", key)))

    def requests(self) -> Iterator[tuple[str, RequestRecord]]:
        """All requests that got a lock, by key."""
        for key in self.record_keys("requests"):
            if record := self.request(key):
                yield key, record

    def record_file(self, kind: str, key: str) -> str:
        """The file of a record; ``kind`` is ``requests`` or ``resolved``."""
        return os.path.join(self.root, kind, key + ".json")

    def record_keys(self, kind: str) -> Sequence[str]:
        """Keys of the records of that kind, also of those that cannot be read."""
        names = (os.path.splitext(name) for name in _names(os.path.join(self.root, kind)))
        return sorted(key for key, suffix in names if suffix == ".json")

    def record_time(self, kind: str, key: str) -> float:
        """When a record was written, Unix seconds; infinite for one that is gone."""
        try:
            return os.stat(self.record_file(kind, key)).st_mtime
        except FileNotFoundError:
            return math.inf

    def write_lock(self, key: str, lock: Lock) -> None:
        """Keep ``lock``. The caller holds the lock of ``key``, which may be a request's."""
        if (kept := self.lock(lock.key)) is None or kept.notes != lock.notes:
            write_json(self.record_file("resolved", lock.key), to_wire(lock), self._building(key))

    def write_request(
        self, key: str, lock: Lock, made: float, spec: Mapping[str, Any], platform: str | None = None
    ) -> None:
        """Keep ``lock`` and that the request got it, for machines elsewhere of that platform if one is given.

        The caller holds the lock of ``key``.
        """
        beside = self._building(key)
        self.write_lock(key, lock)
        record = RequestRecord(lock=lock.key, made=made, notes=tuple(lock.notes), spec=spec, platform=platform)
        write_json(self.record_file("requests", key), to_wire(record), beside)

    def forget_request(self, key: str) -> None:
        """The next one who asks resolves anew."""
        try:
            os.unlink(self.record_file("requests", key))
        except FileNotFoundError:
            pass

    def lock(self, key: str) -> Lock | None:
        """The lock of that key; None when absent or not what was written."""
        lock = _record(Lock, read_json(self.record_file("resolved", key)))
        return lock if lock and lock.key == key else None

    def state(self, key: str) -> State | None:
        """The state of a usable environment, else None."""
        state = self.whole(key)
        return state if state and self.fault(key, state) is None else None

    def whole(self, key: str) -> State | None:
        """The state of an environment that was finished and is all there but, perhaps, the interpreter outside."""
        folder = self.prefix(key)
        state = _record(State, read_json(os.path.join(folder, STATE_FILE)))
        if state is None or state.image:
            return state
        return state if state.place in (None, folder) and self._is_on_disk(key, state) else None

    def fault(self, key: str, state: State) -> str | None:
        """Why an environment that is whole cannot be used as it is; None when it can. Costs microseconds."""
        if state.image:
            return None
        python = os.path.join(self.prefix(key), state.python)
        now = stamp(python)
        if now is None:
            return f"its interpreter {os.path.realpath(python)} is gone"
        if state.stamp not in (None, now):
            return f"its interpreter {os.path.realpath(python)} was replaced after it was built"
        return None

    def write_state(self, key: str, state: State, *, durable: bool = True) -> None:
        """Declare the environment usable. The caller holds the lock of ``key``.

        Args:
            key: Of the environment.
            state: What to say of it.
            durable: False for one that is not settled, which no later boot trusts: settling makes its files durable.
        """
        beside = self._building(key)
        write_json(os.path.join(self.prefix(key), STATE_FILE), to_wire(state), beside, durable=durable)

    def touch(self, key: str) -> bool:
        """Note that the environment is used now; False when it is gone.

        A disk that takes no notes does not keep it from being used.
        """
        try:
            os.utime(os.path.join(self.prefix(key), STATE_FILE))
        except FileNotFoundError:
            return False
        except OSError as problem:
            if problem.errno not in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise
        return True

    def used(self, key: str) -> float | None:
        """When the environment was last asked for, Unix seconds; None for one that is gone."""
        try:
            return os.stat(os.path.join(self.prefix(key), STATE_FILE)).st_mtime
        except FileNotFoundError:
            return None

    def is_settled(self, key: str) -> bool:
        """True when its bytecode is compiled and its files are on disk."""
        return os.path.exists(os.path.join(self.prefix(key), SETTLED_FILE))

    def is_unfinished(self, key: str) -> bool:
        """True for a folder whose making was cut, by a kill or with the machine. Ask with the lock of ``key`` held."""
        folder = self.prefix(key)
        path = os.path.join(folder, STATE_FILE)
        if not os.path.exists(path):
            return os.path.isdir(folder)
        state = _record(State, read_json(path))
        return _is_cut(path) if state is None else not self._is_on_disk(key, state)

    def _is_on_disk(self, key: str, state: State) -> bool:
        """False when the machine went down before its files were surely there."""
        return bool(state.image) or state.boot == boot_id() or self.is_settled(key)

    def _make(self) -> None:
        for folder in self._folders:
            if not os.path.isdir(folder):
                os.makedirs(folder, mode=0o700, exist_ok=True)

    def _building(self, key: str) -> str:
        return os.path.join(self.root, "building", f"{key}.{os.getpid()}.{secrets.token_hex(6)}")


@contextlib.contextmanager
def written_under(root: str) -> Iterator[None]:
    """Say of a disk that takes nothing while an environment is made that it is so."""
    try:
        yield
    except OSError as e:
        full = e.errno in (errno.ENOSPC, errno.EDQUOT)
        raise EnvironmentFailed(
            f"The environment cannot be written under {root}: {e}.",
            "Free some space and submit again." if full else "Check the folder and its owner.",
            transient=full,
        ) from e


def built_prefix(root: str, key: str) -> str:
    """The folder of the finished environment ``key`` of the cache at ``root``."""
    return os.path.join(os.path.abspath(root), "built", key)


def containers_dir(root: str) -> str:
    """Where containers that are used for building find what they need, beside the cache's folder ``root``."""
    return os.path.join(os.path.dirname(os.path.abspath(root)), "containers")


def _names(folder: str) -> Sequence[str]:
    """What is in it; nothing when it was deleted."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return ()


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


def _is_cut(path: str) -> bool:
    """True when what is in the file is no JSON, as after a power loss; of what cannot be read nothing is known."""
    try:
        with open(path, "rb") as f:
            json.load(f)
    except ValueError:
        return True
    except OSError:
        return False
    return False


def write_json(path: str, value: Mapping[str, Any], beside: str, *, durable: bool = True) -> None:
    """Write the file so that readers, and a power loss, see the old content or the new.

    Args:
        path: The file.
        value: What goes into it.
        beside: A path on the same file system for the unfinished file; a folder, or a file name to use.
        durable: False: a power loss may leave anything.
    """
    if os.path.isdir(beside):
        beside = os.path.join(beside, f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    with open(beside, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1)
        if durable:
            f.flush()
            os.fsync(f.fileno())
    os.replace(beside, path)
    if durable:
        sync_folder(os.path.dirname(path))


def stamp(python: str) -> str | None:
    """What changes when another interpreter lies behind the path; None when none does."""
    try:
        state = os.stat(python)
    except OSError:
        return None
    return f"{state.st_mtime_ns}-{state.st_size}" if os.access(python, os.X_OK) else None


def settled_bytes(prefix: str) -> int | None:
    """What the environment took on disk when it was complete; None when it is not, or an older version made it."""
    path = os.path.join(prefix, SETTLED_FILE)
    if not os.path.exists(path) or not os.path.getsize(path):  # an older version left it empty
        return None
    value = (read_json(path) or {}).get("bytes")
    return value if isinstance(value, int) and value >= 0 else None


def sync_folder(path: str) -> None:
    """Make the names in the folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
    if kind.endswith(" | None"):
        return value is None or _is_kind(value, kind.removesuffix(" | None"))
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
