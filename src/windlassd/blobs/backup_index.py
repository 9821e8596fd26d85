"""What an earlier backup has, looked up in its index where that lies: there may be millions of files."""

from __future__ import annotations

import hashlib
import os
from bisect import bisect_left

from windlass.specs.backup import INDEX_FILE, Entry

_PLACE_BITS = 48


def digest(path: str) -> bytes:
    """Stands for a path, in 16 bytes that are no other's."""
    return hashlib.blake2b(os.fsencode(path), digest_size=16).digest()


class BackupIndex:
    """The files of a backup by path.

    Args:
        root: The backup's folder.

    Raises:
        OSError, ValueError, TypeError: its index cannot be read.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._file = open(os.path.join(root, INDEX_FILE), "rb")  # noqa: SIM115 - closed by ``close``
        self._places: list[int] = []
        """Sorted: half a digest, and then where the entry begins."""
        try:
            place = 0
            for line in self._file:
                self._places.append(_half(Entry.from_line(line).path) << _PLACE_BITS | place)
                place += len(line)
        except BaseException:
            self._file.close()
            raise
        self._places.sort()

    def find(self, path: str) -> Entry | None:
        """The entry of that path; None when there is none."""
        half = _half(path)
        for number in range(bisect_left(self._places, half << _PLACE_BITS), len(self._places)):
            if self._places[number] >> _PLACE_BITS != half:
                break
            self._file.seek(self._places[number] & ((1 << _PLACE_BITS) - 1))
            entry = Entry.from_line(self._file.readline())
            if entry.path == path:
                return entry
        return None

    def close(self) -> None:
        """Let go of the file; may be called again."""
        self._file.close()


def _half(path: str) -> int:
    return int.from_bytes(digest(path)[:8], "big")
