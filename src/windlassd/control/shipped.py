"""What agents on other machines send of their parts' files: pieces, batches of small ones, and the check at the end.

A piece goes on from what is held or changes nothing, so all of it may come twice. Pieces are written while they come;
what a connection that breaks off left of one is held as well. Of two that write to one file the later takes over: the
earlier's connection is one that its agent has given up.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs.launch import PartKey
from windlassd.blobs.run_folder import RunFolder
from windlassd.blobs.shipped import (
    PIECE_BYTES,
    STREAM_BYTES,
    ZEROS_BYTES,
    Arriving,
    ShippedFiles,
    Unpacker,
    entries,
    is_sha256,
)
from windlassd.blobs.syncing import sync_file_system
from windlassd.control.core import Core

_GATHERED = 512 << 10
"""Bytes that are handed to a thread at once; fewer are written at once by the loop's own."""
_MOST_OPEN = 64
_MOST_PARTS = 4096
_FINISHED = 1024
Chunks = AsyncIterator[bytes]
Name = tuple[PartKey, str]


@dataclass(frozen=True)
class Piece:
    """What is told of a piece besides its bytes."""

    path: str
    offset: int
    total: int | None = None
    """Size of the whole file; None for a log, which only grows."""
    version: str = ""
    """Tells this content of the file from others that it had or will have."""
    mode: int = 0o600
    sha256: str = ""
    """Of the whole file; with the last piece."""
    encoding: str = ""
    """``deflate``, or ``zeros``: the body is empty and the piece is ``zeros`` bytes of a hole."""
    zeros: int = 0
    anew: bool = False
    """The log was truncated, or is another file now."""

    def __post_init__(self) -> None:
        if self.offset < 0 or not 0 <= self.zeros <= ZEROS_BYTES or (self.total is not None and self.total < 0):
            raise UserErrorException(
                f"A piece of {self.path!r} cannot be at {self.offset} of {self.total} (holes: at most {ZEROS_BYTES})."
            )
        if self.sha256 and not is_sha256(self.sha256):
            raise UserErrorException(f"{self.sha256!r} is not a SHA-256: 64 lower-case hexadecimal digits are.")


class Incoming(ABC):
    """A body that another thread takes off its line, when asked. EOFError says that the line broke off."""

    left: int
    """Bytes that were not asked for yet."""

    @abstractmethod
    async def whole(self) -> memoryview:
        """All of it; good until the next body comes over the same line."""

    @abstractmethod
    async def into(self, add: Callable[[memoryview], None]) -> None:
        """Have all that comes added by a thread, piece by piece, while more comes; what came of it if it breaks off."""

    @abstractmethod
    def cut(self) -> None:
        """Break its line off."""


Body = Chunks | Incoming


class _Open:
    """A file that pieces go to: who writes to it, one thread at a time."""

    def __init__(self, file: Arriving, version: str) -> None:
        self.file = file
        self.version = version
        self.lock = asyncio.Lock()
        self.turn: object = None
        self.calls = 0
        self._cut: Callable[[], None] | None = None

    def take_over(self, body: Body | None = None) -> object:
        """A turn to write; whoever has it so far must not go on, and does not wait for what may never come."""
        if self._cut is not None:
            self._cut()
        self.turn = turn = object()
        self._cut = body.cut if isinstance(body, Incoming) else None
        return turn

    def has_come(self, turn: object) -> None:
        """The body of this turn is over."""
        if self.turn is turn:
            self._cut = None


class Shipped:
    """Belongs to the loop's thread; files are written by others when there is much.

    Args:
        core: The workspace's.
        folder: Where a part's files go; default by ``folder_of``.
    """

    def __init__(self, core: Core, folder: Callable[[Core, PartKey, int], RunFolder] | None = None) -> None:
        self._core = core
        self._folder = folder or folder_of
        self._parts: OrderedDict[PartKey, ShippedFiles] = OrderedDict()
        self._open: OrderedDict[Name, _Open] = OrderedDict()
        self._finished: OrderedDict[Name, str] = OrderedDict()

    async def add(self, key: PartKey, piece: Piece, chunks: Body) -> Mapping[str, Any]:
        """Add a piece to a file; ``{"held": bytes}`` afterwards, and ``kept`` once the file is whole and has its name.

        Raises:
            UserErrorException: there is no such run, the name leads outside, or the piece is not what it says.
        """
        files = self._files(key)
        if piece.total is None:
            return await self._add_to_log(key, files, piece, chunks)
        return await self._add_to_whole(key, files, piece, chunks)

    async def put(self, key: PartKey, encoding: str, chunks: Body) -> Mapping[str, Any]:
        """Keep a batch of small files; ``{"refused": [{"path", "why"}]}`` are those that cannot be."""
        files, unpack = self._files(key), Unpacker(encoding)
        packed = await _all(chunks)

        def work() -> Sequence[Mapping[str, str]]:
            body = unpack.feed(packed)
            unpack.end()
            return files.put(entries(body))

        refused = await asyncio.to_thread(work)
        self._core.bus.touch(key[0], "files")
        return {"refused": list(refused)}

    async def remove(self, key: PartKey, path: str) -> Mapping[str, Any]:
        """Take away a file that the part does not have any more."""
        files = self._files(key)
        await asyncio.to_thread(files.remove, path)
        self._core.bus.touch(key[0], "files")
        return {"held": 0}

    async def settle(self, key: PartKey, told: Sequence[Mapping[str, Any]], last: bool) -> Mapping[str, Any]:
        """``{"lacking": names}``: what of ``told`` is not kept exactly as told.

        With ``last`` all is on the disk when this returns, and what arrived in part only is given up.
        """
        files = self._files(key)
        wanted = [(str(file["path"]), int(file["size"]), str(file["sha256"])) for file in told]

        def work() -> Sequence[str]:
            lacking = [name for name, size, sha256 in wanted if not files.has(name, size, sha256)]
            if last:
                files.clear()
                sync_file_system(self._core.workspace_dir)  # the part's own folder may be gone: its files are the run's
            return lacking

        if last:
            await self._let_go(key)
        lacking = await asyncio.to_thread(work)
        for name in lacking:
            self._finished.pop((key, name), None)
        return {"lacking": list(lacking)}

    def close(self) -> None:
        """Let go of what is open: the next server goes on from there."""
        while self._open:
            self._open.popitem()[1].file.close()

    async def _add_to_log(self, key: PartKey, files: ShippedFiles, piece: Piece, chunks: Body) -> Mapping[str, Any]:
        name = (key, piece.path)
        opened = self._open.get(name)
        if opened is not None and opened.file.is_gone():
            await self._drop(name, opened)
            opened = self._open.get(name)
        if opened is None:
            opened = self._keep(name, _Open(files.open_log(piece.path), ""))
        if piece.anew:
            opened.take_over()
            async with opened.lock:
                opened.file.cut(0)
        with self._used(name, opened):
            try:
                await self._pour(opened, piece, chunks)
            finally:
                self._core.bus.touch(key[0], "log")
        return {"held": opened.file.held}

    async def _add_to_whole(self, key: PartKey, files: ShippedFiles, piece: Piece, chunks: Body) -> Mapping[str, Any]:
        assert piece.total is not None
        name, told = (key, piece.path), {"held": piece.total, "kept": True}
        if piece.offset and self._finished.get(name) == piece.version and files.is_as_finished(piece.path):
            return told  # the answer to its end was lost
        opened = await self._open_whole(name, files, piece)
        ended_before = not opened.file.held and bool(piece.offset and piece.sha256)  # a server that was killed had it
        if ended_before and await asyncio.to_thread(files.has, piece.path, piece.total, piece.sha256):
            return told
        with self._used(name, opened):
            try:
                await self._pour(opened, piece, chunks)
                if opened.file.held < piece.total or not piece.sha256:
                    return {"held": opened.file.held}
                async with opened.lock:
                    self._forget(name, opened)
                    kept = await asyncio.to_thread(files.finish, piece.path, opened.file, piece.sha256, piece.mode)
            except (OSError, UserErrorException):  # what its sum counted may not be what lies there
                await self._drop(name, opened)
                raise
        if not kept:
            return {"held": 0}
        self._finished[name] = piece.version
        if len(self._finished) > _FINISHED:
            self._finished.popitem(last=False)
        self._core.bus.touch(key[0], "files")
        return told

    async def _open_whole(self, name: Name, files: ShippedFiles, piece: Piece) -> _Open:
        """What is here of the piece's version of its file."""
        opened = self._open.get(name)
        if opened is not None and opened.version != piece.version:
            await self._drop(name, opened)
            opened = self._open.get(name)
        if opened is None:
            file = await asyncio.to_thread(files.open_whole, piece.path, piece.version)
            opened = self._open.get(name)
            if opened is None:
                return self._keep(name, _Open(file, piece.version))
            file.close()  # another call was quicker; nothing was written meanwhile
        return opened

    async def _pour(self, opened: _Open, piece: Piece, chunks: Body) -> None:
        """Write a piece that goes on from what is held; another changes nothing."""
        turn = opened.take_over(chunks)
        try:
            await self._pour_as(turn, opened, piece, chunks)
        finally:
            opened.has_come(turn)

    async def _pour_as(self, turn: object, opened: _Open, piece: Piece, chunks: Body) -> None:
        async with opened.lock:  # whoever writes this moment finishes that, and no more
            if opened.file.held != piece.offset or opened.turn is not turn:
                return
        if piece.encoding == "zeros":
            await self._write(opened, turn, lambda: opened.file.add_zeros(_within(piece, piece.zeros)))
            return
        most = STREAM_BYTES if piece.total is not None and not piece.encoding else PIECE_BYTES
        unpack = Unpacker(piece.encoding, most)

        def add(gathered: Sequence[bytes | memoryview]) -> None:
            for data in gathered:
                more = unpack.feed(data)
                _within(piece, opened.file.held - piece.offset + len(more))
                opened.file.add(more)

        try:
            if isinstance(chunks, Incoming):
                await self._have_added(opened, turn, _checked(most, chunks), lambda data: add([data]))
            else:
                await self._gather(opened, turn, _at_most(most, chunks), add)
            unpack.end()
        except UserErrorException:
            async with opened.lock:
                if opened.turn is turn:
                    opened.file.cut(piece.offset)
            raise

    async def _have_added(
        self, opened: _Open, turn: object, body: Incoming, add: Callable[[memoryview], None]
    ) -> None:  # fmt: skip
        def work(data: memoryview) -> None:
            _refuse_late(opened, turn)
            add(data)

        async with opened.lock:  # whoever takes over cuts the line
            _refuse_late(opened, turn)
            await body.into(work)

    async def _gather(
        self, opened: _Open, turn: object, chunks: Chunks, add: Callable[[Sequence[bytes | memoryview]], None]
    ) -> None:  # fmt: skip
        """Hand what comes to threads, while more comes; never more than two handfuls in memory."""
        writing: asyncio.Task[None] | None = None
        gathered: list[bytes | memoryview] = []
        size = taken = 0
        try:
            async for chunk in chunks:
                gathered.append(chunk)
                size += len(chunk)
                taken += len(chunk)
                if size >= _GATHERED:
                    if writing is not None:
                        await writing
                    writing = asyncio.create_task(self._write(opened, turn, partial(add, gathered)))
                    gathered, size = [], 0
        finally:
            if writing is not None:
                await writing
        if size and taken == size < _GATHERED // 8:  # little: a thread would take longer
            async with opened.lock:
                _refuse_late(opened, turn)
                add(gathered)
        elif size:
            await self._write(opened, turn, partial(add, gathered))

    async def _write(self, opened: _Open, turn: object, work: Callable[[], None]) -> None:
        async with opened.lock:
            _refuse_late(opened, turn)
            await asyncio.to_thread(work)

    def _files(self, key: PartKey) -> ShippedFiles:
        """Where the part's files go. A run that was deleted meanwhile must not come back."""
        record = self._core.read(lambda tx: tx.find_run(key[0]))
        if record is None or key[1] > record.attempt or key[1] < 1 or key[2] < 0:
            self._parts.pop(key, None)
            raise UserErrorException(f"There is no run {key[0]!r} with attempt {key[1]} and node {key[2]}.")
        folder = self._folder(self._core, key, record.attempt)
        found = self._parts.get(key)
        if found is None or found.folder.root != folder.root:  # by now it is an earlier attempt's
            found = self._parts[key] = ShippedFiles(folder)
            if key[1] == record.attempt and key[2] < len(record.nodes):
                folder.note_node(record.nodes[key[2]])
            if len(self._parts) > _MOST_PARTS:
                self._parts.popitem(last=False)
        self._parts.move_to_end(key)
        return found

    def _keep(self, name: Name, opened: _Open) -> _Open:
        self._open[name] = opened
        idle = [other for other, held in self._open.items() if not held.calls and other != name]
        for other in idle[: max(0, len(self._open) - _MOST_OPEN)]:
            self._open.pop(other).file.close()
        return opened

    @contextmanager
    def _used(self, name: Name, opened: _Open) -> Iterator[None]:
        """It stays open meanwhile, unless it is dropped on purpose."""
        opened.calls += 1
        if name in self._open:
            self._open.move_to_end(name)
        try:
            yield
        finally:
            opened.calls -= 1

    def _forget(self, name: Name, opened: _Open) -> None:
        """The next piece opens the file anew, and who writes to it still must not go on."""
        opened.take_over()
        if self._open.get(name) is opened:
            del self._open[name]

    async def _drop(self, name: Name, opened: _Open) -> None:
        self._forget(name, opened)
        async with opened.lock:  # not under a thread that writes: the number may be another file's by then
            opened.file.close()

    async def _let_go(self, key: PartKey) -> None:
        for name in [name for name in self._open if name[0] == key]:
            await self._drop(name, self._open[name])


def folder_of(core: Core, key: PartKey, attempt: int) -> RunFolder:
    """Where the files of a part are kept on this machine; ``attempt`` is the one that the run is at."""
    run_id, own, rank = key
    if own == attempt:
        return RunFolder(core.workspace_dir, run_id, rank)
    return RunFolder(core.workspace_dir, run_id, rank, earlier=own)


async def _all(chunks: Body) -> bytes | memoryview:
    """The whole body, which may have as much as one piece."""
    if isinstance(chunks, Incoming):
        return await _checked(PIECE_BYTES, chunks).whole()
    return b"".join([chunk async for chunk in _at_most(PIECE_BYTES, chunks)])


def _checked(most: int, body: Incoming) -> Incoming:
    if body.left > most:
        raise _too_much(most)
    return body


def _too_much(most: int) -> UserErrorException:
    return UserErrorException(f"A piece of a file has at most {most} bytes; send it as several.")


async def _at_most(most: int, chunks: Chunks) -> Chunks:
    taken = 0
    async for chunk in chunks:
        taken += len(chunk)
        if taken > most:
            raise _too_much(most)
        yield chunk


def _within(piece: Piece, size: int) -> int:
    """``size``, which the piece has by now."""
    if piece.total is not None and piece.offset + size > piece.total:
        raise UserErrorException(f"{piece.path!r} was said to have {piece.total} bytes, and more of them came.")
    return size


def _refuse_late(opened: _Open, turn: object) -> None:
    if opened.turn is not turn:
        raise ServiceUnavailable("Another call writes to this file by now; ask what is held.")
