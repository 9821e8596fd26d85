"""What a script really did, counted where only the machine's end can take it: what a record is held against.

A job imports this file (it travels in its snapshot), so it stands on the Python 3.7 standard library. Each act is
counted twice in a shared mapping: ``begun`` before it, ``done`` once the call returned. The kernel keeps a mapping
whoever dies, so afterwards at least ``done`` acts must be in the record, at most ``begun``, and in order.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from typing import Any

CHANNELS = 64
_SLOT = struct.Struct("<qq")


class Diary:
    """Counts of acts, by channel. One process writes a channel; any may read."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 0)

    @classmethod
    def create(cls, path: str) -> Diary:
        """An empty one."""
        with open(path, "wb") as f:
            f.write(bytes(CHANNELS * _SLOT.size))
        return cls(path)

    def begun(self, channel: int = 0) -> int:
        """Acts that were begun."""
        return int(_SLOT.unpack_from(self._map, channel * _SLOT.size)[0])

    def done(self, channel: int = 0) -> int:
        """Acts whose call had returned."""
        return int(_SLOT.unpack_from(self._map, channel * _SLOT.size)[1])

    def note(self, channel: int, value: int) -> None:
        """Leave a number, such as a process's id, where acts of a channel would be counted."""
        _SLOT.pack_into(self._map, channel * _SLOT.size, value, value)

    def log(self, run: Any, count: int, name: str = "loss", channel: int = 0, base: int = 0) -> None:
        """Log the next ``count`` points of a series; the i-th point's value is ``base`` + i."""
        put, view, place = struct.pack_into, self._map, channel * _SLOT.size
        log = run.log
        for i in range(self.done(channel), self.done(channel) + count):
            put("<q", view, place, i + 1)
            log(name, base + i)
            put("<q", view, place + 8, i + 1)

    def say(self, count: int, channel: int = 1) -> None:
        """Print the next ``count`` lines, each by one unbuffered write."""
        for i in range(self.done(channel), self.done(channel) + count):
            struct.pack_into("<q", self._map, channel * _SLOT.size, i + 1)
            os.write(1, line(i))
            struct.pack_into("<q", self._map, channel * _SLOT.size + 8, i + 1)

    def keep(self, count: int, size: int = 1000, folder: str = "outputs", channel: int = 2) -> None:
        """Write the next ``count`` files of ``size`` bytes."""
        for i in range(self.done(channel), self.done(channel) + count):
            struct.pack_into("<q", self._map, channel * _SLOT.size, i + 1)
            with open(os.path.join(folder, file_name(i)), "wb") as f:
                f.write(content(i, size))
            struct.pack_into("<q", self._map, channel * _SLOT.size + 8, i + 1)


def line(i: int) -> bytes:
    """The i-th line that ``say`` prints."""
    return b"line %09d %s\n" % (i, hashlib.md5(b"%d" % i).hexdigest().encode())


def file_name(i: int) -> str:
    """The name of the i-th file that ``keep`` writes."""
    return f"file-{i:06d}.bin"


def content(i: int, size: int) -> bytes:
    """Its content."""
    seed = hashlib.sha256(b"%d" % i).digest()
    return (seed * (size // len(seed) + 1))[:size]
