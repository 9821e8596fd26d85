"""What environments take on disk, where a file may have names in several of them and in uv's cache."""

from __future__ import annotations

import os
import threading
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from windlassd.envs._layout import Layout

_BLOCK = 512
_Stamp = tuple[float, bool]


@dataclass(frozen=True)
class Measured:
    """The room of one environment, each of its files once."""

    alone: int
    """Bytes of what has one name only, folders included: what removing it gives back in any case."""
    inodes: array[int] = field(repr=False)
    """Of the files with several names, here, in other environments or in uv's cache."""
    sizes: array[int] = field(repr=False)
    """Theirs, in the same order."""

    @property
    def shared(self) -> int:
        """Bytes of the files with several names."""
        return sum(self.sizes)

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.alone + self.shared


class Sizes:
    """Measures each environment once, and again when it has changed. Methods may be called from any thread."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._known: dict[str, tuple[_Stamp, Measured]] = {}
        self._lock = threading.Lock()

    def of(self, key: str, anew: bool = False) -> Measured:
        """What the environment takes; ``anew``: also when it is known, as uv's cache may have changed since."""
        stamp = self._stamp(key)
        with self._lock:
            known = self._known.get(key)
        if known and known[0] == stamp and not anew:
            return known[1]
        found = measured(self._layout.prefix(key))
        with self._lock:
            self._known[key] = stamp, found
        return found

    def all(self, keys: Iterable[str]) -> Mapping[str, Measured]:
        """Those of ``keys``; what is gone meanwhile takes nothing. The others are forgotten."""
        found = {key: self.of(key) for key in keys}
        with self._lock:
            self._known = {key: known for key, known in self._known.items() if key in found}
        return found

    def _stamp(self, key: str) -> _Stamp:
        state = self._layout.whole(key)
        return (state.created if state else 0.0, self._layout.is_settled(key))


class Whole:
    """Several environments together: a file that some of them share counts once, and goes with the last of them."""

    def __init__(self, parts: Mapping[str, Measured], outside: Mapping[str, int]) -> None:
        self._parts = dict(parts)
        self._outside = outside
        self._names = Counter(inode for part in self._parts.values() for inode in part.inodes)
        shared = dict(pair for part in self._parts.values() for pair in zip(part.inodes, part.sizes, strict=True))
        self.bytes = sum(part.alone for part in self._parts.values()) + sum(shared.values()) + sum(outside.values())

    def without(self, key: str) -> int:
        """Bytes that go when the environment does; it is no part any more."""
        part = self._parts.pop(key)
        gone = part.alone + self._outside.get(key, 0)
        for inode, size in zip(part.inodes, part.sizes, strict=True):
            self._names[inode] -= 1
            if not self._names[inode]:
                gone += size
        self.bytes -= gone
        return gone


def measured(folder: str) -> Measured:
    """What lies under ``folder``; what is gone meanwhile, or closed to us, counts nothing."""
    alone, several = 0, dict[int, int]()
    pending = [folder]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            try:
                state = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            if state.st_nlink > 1 and not entry.is_dir(follow_symlinks=False):
                several[state.st_ino] = state.st_blocks * _BLOCK
            else:
                alone += state.st_blocks * _BLOCK
    return Measured(alone, array("Q", several.keys()), array("Q", several.values()))
