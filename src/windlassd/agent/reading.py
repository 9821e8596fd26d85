"""Read a big file in the pieces that are sent of it, a little ahead of what is on its way, and hash it meanwhile."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from windlassd.agent.kept_tree import Seen
from windlassd.agent.sending import PROBED, Body, Line, Packed
from windlassd.blobs.shipped import ZEROS_BYTES

BLOCK_BYTES = 1 << 20
_AHEAD = 4
_HOLE = 64 << 10


class Changed(Exception):
    """The file is not what it was when it was looked at."""


@dataclass(frozen=True)
class Prepared:
    """A piece."""

    start: int
    end: int
    body: Body
    encoding: str | None = None
    zeros: int | None = None
    sha256: str | None = None
    """Of the whole file, with its last piece."""
    packed: Packed | None = None


class Reading:
    """Reads on a thread. A piece is in memory, the next one too; or it is long and is read while it is sent.

    Args:
        reader: Of one thread.
        line: How quick the line is.
        fd: The file.
        seen: What it was when it was looked at.

    Raises:
        Changed: it is not that any more. So do the methods, and the reading of a piece.
    """

    def __init__(self, reader: ThreadPoolExecutor, line: Line, fd: int, seen: Seen) -> None:
        self._reader = reader
        self._line = line
        self._fd = fd
        self._seen = seen
        self._sum = hashlib.sha256()
        self._hashed = 0
        self._ahead: Future[Prepared] | None = None
        self._streamed: Streamed | None = None
        self.check()

    def __enter__(self) -> Reading:
        return self

    def __exit__(self, *problem: object) -> None:
        self._rest()  # it reads from a number that is about to be another file's

    def next(self) -> Prepared:
        """The next piece."""
        ahead = self._ahead or self._reader.submit(self._prepare, self._hashed)
        self._ahead = None
        piece = ahead.result()
        if isinstance(piece.body, Streamed):
            self._streamed = piece.body
        elif piece.end < self._seen.size:
            self._ahead = self._reader.submit(self._prepare, piece.end)
        return piece

    def go_to(self, offset: int) -> None:
        """Go on somewhere else, where the server holds other than what was sent."""
        self._rest()
        self._sum, self._hashed = hashlib.sha256(), 0
        while self._hashed < offset:
            self.read(self._hashed, min(BLOCK_BYTES, offset - self._hashed))

    def check(self) -> None:
        """Raise Changed unless it is still what was seen, or has only grown."""
        state = os.fstat(self._fd)
        now = Seen.of(self._seen.name, self._seen.path, state)
        same = now.identity == self._seen.identity
        grown = now.inode == self._seen.inode and now.size > self._seen.size
        if not (same or grown) or not state.st_nlink:
            raise Changed("it was written to, or removed, meanwhile")

    def read(self, start: int, size: int) -> bytes:
        """So many bytes; they go into the sum once, however often they are read."""
        data = os.pread(self._fd, size, start)
        if len(data) < size:
            raise Changed("it is shorter now")
        if start + size > self._hashed:
            self._sum.update(memoryview(data)[self._hashed - start :])
            self._hashed = start + size
        return data

    def _rest(self) -> None:
        """Return when nothing is read any more."""
        if self._ahead is not None:
            self._ahead.exception()
            self._ahead = None
        if self._streamed is not None:
            self._streamed.rest()
            self._streamed = None

    def _prepare(self, start: int) -> Prepared:
        size = self._seen.size
        if hole := self._hole(start):
            zeros = bytes(BLOCK_BYTES)
            for at in range(0, hole, BLOCK_BYTES):
                self._sum.update(memoryview(zeros)[: min(BLOCK_BYTES, hole - at)])
            self._hashed += hole
            return Prepared(start, start + hole, b"", "zeros", hole, self._whole())
        if end := self._end_of_stream(start):
            return Prepared(start, end, Streamed(self, self._reader, start, end - start))
        data = self.read(start, min(self._line.piece_bytes, size - start))
        began = time.monotonic()
        body, encoding = self._line.pack(data)
        packed = Packed(len(data), time.monotonic() - began) if encoding else None
        return Prepared(start, start + len(data), body, encoding, None, self._whole(), packed)

    def _whole(self) -> str | None:
        return self._sum.hexdigest() if self._hashed == self._seen.size else None

    def _end_of_stream(self, start: int) -> int | None:
        """Where a long piece ends that is sent as it is; the last bytes go with the sum of all before them."""
        end = min(start + self._line.stream_bytes, self._seen.size - BLOCK_BYTES)
        if self._seen.sparse or end - start < self._line.piece_bytes:
            return None
        probe = os.pread(self._fd, PROBED, (start + end) // 2)
        return None if self._line.packs(probe) else end

    def _hole(self, start: int) -> int:
        """How many bytes from ``start`` on are a hole; 0 when too few are to be worth a call."""
        if not self._seen.sparse:
            return 0
        try:
            data = os.lseek(self._fd, start, os.SEEK_DATA)
        except OSError:  # nothing but a hole follows, or the file system does not tell
            data = self._seen.size if self._tells_holes() else start
        hole = min(data, self._seen.size) - start
        return min(hole, ZEROS_BYTES) if hole >= _HOLE or (hole and start + hole == self._seen.size) else 0

    def _tells_holes(self) -> bool:
        try:
            return os.lseek(self._fd, 0, os.SEEK_HOLE) < self._seen.size
        except OSError:
            return False


class Streamed:
    """A piece that is read while it is sent, block by block; as a file it may be read again from its beginning."""

    def __init__(self, reading: Reading, reader: ThreadPoolExecutor, start: int, size: int) -> None:
        self._reading = reading
        self._reader = reader
        self._start = start
        self._size = size
        self._at = self._asked = 0
        self._blocks: deque[Future[bytes]] = deque()

    def __len__(self) -> int:
        return self._size

    def read(self, size: int = -1) -> bytes:
        """The next block, whatever ``size`` says; none at the end."""
        while len(self._blocks) < _AHEAD and self._asked < self._size:
            count = min(BLOCK_BYTES, self._size - self._asked)
            self._blocks.append(self._reader.submit(self._reading.read, self._start + self._asked, count))
            self._asked += count
        if not self._blocks:
            return b""
        data = self._blocks.popleft().result()
        self._at += len(data)
        return data

    def tell(self) -> int:
        """Where ``read`` goes on."""
        return self._at

    def seek(self, to: int) -> None:
        """Read from there on, again."""
        self.rest()
        self._at = self._asked = to

    def rest(self) -> None:
        """Return when nothing is read any more."""
        while self._blocks:
            self._blocks.popleft().exception()
