"""What a disk may hold after the power went: built from a trace of operations (``faults.shim``).

The model is stricter than the usual file systems. Of what was written since a file's last fsync each sector of 512
bytes may be there or not, whatever the order; a size may be there without its content (zeros). Of what happened to the
names in a folder since its last fsync each change may be there or not; fsync of a file does not keep its name. A
rename is whole or not at all. What was synced stays.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from pathlib import Path

from faults.shim import (
    CREATE,
    LINK,
    MKDIR,
    RENAME,
    RMDIR,
    SYMLINK,
    SYNC,
    TRUNCATE,
    UNLINK,
    WHOLE_DISK,
    WRITE,
    Operation,
)

SECTOR = 512
_Names = dict[int, dict[str, int]]


class Disk:
    """A folder of a disk, as operations change it.

    Args:
        root: The watched folder; all that it holds now is on the disk for good.
    """

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._files: dict[int, _File] = {}
        self._links: dict[int, str] = {}
        self._next = 1
        self._now: _Names = {0: {}}
        self._safe: _Names = {0: {}}
        self._changes: list[list[tuple[int, str, int | None]]] = []
        self._load(root, 0)

    def apply(self, operation: Operation) -> None:
        """Let it happen."""
        if not (operation.path + "/").startswith(self._root + "/"):
            return
        kind, (folder, name) = operation.kind, self._place(operation.path)
        if kind in (CREATE, MKDIR, SYMLINK):
            self._change((folder, name, self._new(kind, operation.second)))
        elif kind in (UNLINK, RMDIR):
            self._change((folder, name, None))
        elif kind in (RENAME, LINK):
            to_folder, to_name = self._place(operation.second)
            number = self._now[folder][name]
            gone = [(folder, name, None)] if kind == RENAME else []
            self._change(*gone, (to_folder, to_name, number))
        elif kind == SYNC and operation.offset == WHOLE_DISK:
            for number in [*self._now, *self._files]:
                self._sync(number)
        elif kind == SYNC:
            self._sync(self._number(operation.path))
        elif kind == TRUNCATE:
            self._files[self._number(operation.path)].truncate(operation.offset)
        elif kind == WRITE:
            self._files[self._number(operation.path)].write(operation.offset, operation.data)

    def save(self, target: Path, kept: float | random.Random) -> None:
        """Write what may be left to ``target``: of the unsynced nothing (0.0), all (1.0) or what chance keeps."""
        chance = kept if isinstance(kept, random.Random) else random.Random(0)
        share = chance.choice([0.1, 0.5, 0.9]) if isinstance(kept, random.Random) else kept
        names = {folder: dict(entries) for folder, entries in self._safe.items()}
        for change in self._changes:
            if chance.random() < share:
                _make(names, change)
        self._write(names, 0, target, chance, share)

    def _write(self, names: _Names, folder: int, target: Path, chance: random.Random, share: float) -> None:
        target.mkdir(exist_ok=True)
        for name, number in names[folder].items():
            place = target / name
            if number in names:
                self._write(names, number, place, chance, share)
            elif number in self._links:
                place.symlink_to(self._links[number])
            else:
                place.write_bytes(self._files[number].after_power_loss(chance, share))

    def _load(self, path: Path, folder: int) -> None:
        for entry in path.iterdir():
            if not entry.is_dir() and not entry.is_file():  # a socket
                continue
            number = self._new(MKDIR if entry.is_dir() else CREATE, "")
            self._now[folder][entry.name] = self._safe[folder][entry.name] = number
            if entry.is_dir():
                self._load(entry, number)
            else:
                self._files[number].write(0, entry.read_bytes())
                self._files[number].sync()

    def _new(self, kind: int, target: str) -> int:
        number, self._next = self._next, self._next + 1
        if kind == MKDIR:
            self._now[number], self._safe[number] = {}, {}
        elif kind == SYMLINK:
            self._links[number] = target
        else:
            self._files[number] = _File()
        return number

    def _place(self, path: str) -> tuple[int, str]:
        inside = path[len(self._root) :].strip("/").split("/")
        folder = 0
        for part in inside[:-1]:
            folder = self._now[folder][part]
        return folder, inside[-1]

    def _number(self, path: str) -> int:
        folder, name = self._place(path)
        return self._now[folder][name] if name else 0

    def _change(self, *change: tuple[int, str, int | None]) -> None:
        _make(self._now, change)
        self._changes.append(list(change))

    def _sync(self, number: int) -> None:
        if number in self._files:
            self._files[number].sync()
        for change in [c for c in self._changes if any(folder == number for folder, _, _ in c)]:
            _make(self._safe, change)
            self._changes.remove(change)


class _File:
    def __init__(self) -> None:
        self.now = bytearray()
        self._safe = b""
        self._since: list[tuple[int, bytes | None]] = []

    def write(self, at: int, data: bytes) -> None:
        _put(self.now, at, data)
        self._since.append((at, data))

    def truncate(self, size: int) -> None:
        _resize(self.now, size)
        self._since.append((size, None))

    def sync(self) -> None:
        self._safe, self._since = bytes(self.now), []

    def after_power_loss(self, chance: random.Random, share: float) -> bytes:
        left = bytearray(self._safe)
        for at, data in self._since:
            if data is None:
                if chance.random() < share:
                    _resize(left, at)
                continue
            for start, part in _sectors(at, data):
                if chance.random() < share:
                    _put(left, start, part)
        if self._since and chance.random() < share / 3 and len(left) < len(self.now):
            _resize(left, len(self.now))
        return bytes(left)


def _make(names: _Names, change: Iterable[tuple[int, str, int | None]]) -> None:
    for folder, name, number in change:
        if number is None:
            names[folder].pop(name, None)
        else:
            names[folder][name] = number


def _put(content: bytearray, at: int, data: bytes) -> None:
    if len(content) < at:
        _resize(content, at)
    content[at : at + len(data)] = data


def _resize(content: bytearray, size: int) -> None:
    if size < len(content):
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _sectors(at: int, data: bytes) -> Iterable[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        end = min(len(data), (at + place) // SECTOR * SECTOR + SECTOR - at)
        yield at + place, data[place:end]
        place = end


def holds(path: Path) -> list[str]:
    """What lies below a folder, for a failure's message."""
    return [os.path.relpath(os.path.join(folder, name), path) for folder, _, names in os.walk(path) for name in names]
