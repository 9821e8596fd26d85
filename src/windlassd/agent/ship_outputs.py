"""Bring what a part writes to ``outputs`` and ``logs`` to a server elsewhere: whole files, while the run goes.

A file is sent once it has been left alone for a moment, and again when it changed; one that never is left alone now and
then as it is. Small ones go many at a time. What is gone here is taken away there. At the end all of it is brought up
to date, and the server says that it has each file with the size and the checksum that it has here.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from windlass.errors import AzureMLException, ServiceUnavailable
from windlassd.agent.kept_tree import Seen, live
from windlassd.agent.reading import Changed, Reading
from windlassd.agent.sending import Sender
from windlassd.agent.shipped_memory import Memory, Sent
from windlassd.blobs.run_folder import RunFolder
from windlassd.blobs.shipped import entry

log = logging.getLogger(__name__)
QUIET_S = 0.3
"""A file that did not change for so long is taken for whole."""
_NEVER_QUIET_S = 30.0
"""One that changes all the time is sent as it is this often: a node may be lost at any time."""
_SMALL, _LARGEST_SMALL = 1 << 20, 4 << 20
_BATCH_BYTES, _BATCH_FILES = 4 << 20, 1000
_REST = 20
"""Times as long as it took to send a file, or to look at all of them, it is left alone afterwards."""
_SHORTEST_REST_S = 1.0
_LOOK_S = 2.0
"""While a big file is sent, this often small ones go in between."""
_YOUNG_S = 60.0
_TRIES = 4
_CONNECTIONS = 2


class Outputs:
    """One thread at a time.

    Args:
        sender: To the server.
        folder: The part's.
    """

    def __init__(self, sender: Sender, folder: RunFolder) -> None:
        self._sender = sender
        self._folder = folder
        self._memory = Memory(folder)
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="read outputs")
        self._senders = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="ship small files")
        self._looking = threading.Lock()
        self._ended = False
        self._unchanged: dict[str, tuple[tuple[int, int, int], float]] = {}
        self._waits_since: dict[str, float] = {}
        self._not_before: dict[str, float] = {}
        self.rest_s = 0.0
        """How long not to look again: looking must not cost a core while a script writes much."""
        self.refused: dict[str, str] = {}
        """Why the server will not have a file, by name."""

    def end(self) -> None:
        """Any thread: the working folder is about to change hands; once this returns nobody looks into it any more."""
        with self._looking:
            self._ended = True

    def close(self) -> None:
        """Nothing more is sent."""
        self._reader.shutdown(wait=False)
        self._senders.shutdown(wait=False)

    def look(self) -> float | None:
        """Send what is whole; returns the seconds until it is worth to look again, None: when something changed."""
        began = time.monotonic()
        files = self._live()
        if files is None:
            return None
        self.rest_s = (time.monotonic() - began) * _REST
        self._remove_gone(name for name in self._memory.names() - set(files) if not self._is_there(name))
        due, later = self._due(files)
        self._send_all(due, between=self._look_at_small)
        return later

    def bring(self, files: Mapping[str, Seen]) -> None:
        """Bring everything up to date: nothing writes to these files any more."""
        self._remove_gone(self._memory.names() - set(files))
        self.refused.clear()
        lacking = [seen for seen in files.values() if not self._is_held(seen)]
        self._send_all(lacking, ended=True)

    def checksum(self, name: str) -> str | None:
        """Of a file as the server has it; None when it does not."""
        sent = self._memory.get(name)
        return sent.sha256 if sent else None

    def forget(self, names: Iterable[str]) -> None:
        """The server does not have these as it is known."""
        self._memory.remove(names)

    @property
    def _small(self) -> int:
        """The most that a file has which goes with others; more where the line is quick enough for such batches."""
        return min(_LARGEST_SMALL, max(_SMALL, self._sender.line.piece_bytes // 2))

    def _due(self, files: Mapping[str, Seen]) -> tuple[list[Seen], float | None]:
        """Files that should be sent now, and the seconds until others may be."""
        now, due, later = time.monotonic(), [], []
        for name, seen in files.items():
            sent = self._memory.get(name)
            if (sent and sent.identity == seen.identity) or name in self.refused:
                self._waits_since.pop(name, None)
                self._unchanged.pop(name, None)
                continue
            same, since = self._unchanged.get(name, (None, now))
            if same != seen.identity:
                since = now
                self._unchanged[name] = (seen.identity, now)
            waits = self._waits_since.setdefault(name, now)
            at = max(min(since + QUIET_S, waits + _NEVER_QUIET_S), self._not_before.get(name, 0.0))
            if at <= now:
                due.append(seen)
            else:
                later.append(at - now)
        return due, min(later, default=None)

    def _live(self) -> Mapping[str, Seen] | None:
        with self._looking:
            return None if self._ended else live(self._folder)

    def _is_there(self, name: str) -> bool:
        """What a look has missed may have been on its way from one folder to another."""
        return os.path.isfile(os.path.join(self._folder.work, name))

    def _look_at_small(self) -> None:
        files = self._live() or {}
        self._send_small([seen for seen in self._due(files)[0] if seen.size <= self._small])

    def _remove_gone(self, names: Iterable[str]) -> None:
        gone = sorted(names)
        for known in (self._unchanged, self._waits_since, self._not_before, self.refused):
            for name in gone:
                known.pop(name, None)
        for start in range(0, len(gone), _BATCH_FILES):
            some = gone[start : start + _BATCH_FILES]
            self._send_batch([entry({"path": name, "gone": True}) for name in some], some)
            self._memory.remove(some)

    def _is_held(self, seen: Seen) -> bool:
        """True when the server has exactly this; what was sent while young is read again, for it may be mapped."""
        sent = self._memory.get(seen.name)
        if sent is None or sent.identity != seen.identity:
            return False
        if not sent.young:
            return True
        if _sum_of(seen.path) != sent.sha256:
            return False
        self._memory.add([sent._replace(young=False)])
        return True

    def _send_all(
        self, files: Iterable[Seen], ended: bool = False, between: Callable[[], None] | None = None
    ) -> None:  # fmt: skip
        """Small ones first. How quick the line is shows while the first are sent."""
        left = deque(sorted(files, key=lambda seen: seen.size))
        while left:
            small, most = list[Seen](), self._small
            while left and left[0].size <= most:
                small.append(left.popleft())
            self._send_small(small, ended)
            if left:
                self._send_big(left.popleft(), ended, between)

    def _send_small(self, files: Sequence[Seen], ended: bool = False) -> None:
        """Send these many at a time; while the server writes some, the next ones are on their way."""
        under_way: deque[tuple[Future[set[str]], list[Sent]]] = deque()
        parts: list[bytes] = []
        sent: list[Sent] = []
        size, most = 0, min(_BATCH_BYTES, self._sender.line.piece_bytes)
        for seen in files:
            content = _content(seen)
            if content is None:
                continue
            sha256 = hashlib.sha256(content).hexdigest()
            parts += [entry({"path": seen.name, "size": seen.size, "mode": seen.mode, "sha256": sha256}), content]
            sent.append(_sent(seen, sha256, ended))
            size += len(content)
            if size >= most or len(sent) >= _BATCH_FILES:
                under_way.append((self._send_soon(parts, sent), sent))
                parts, sent, size, most = [], [], 0, min(_BATCH_BYTES, self._sender.line.piece_bytes)
                if len(under_way) > _CONNECTIONS:
                    self._take_note(*under_way.popleft())
        if sent:
            under_way.append((self._send_soon(parts, sent), sent))
        while under_way:
            self._take_note(*under_way.popleft())

    def _send_soon(self, parts: Sequence[bytes], sent: Sequence[Sent]) -> Future[set[str]]:
        return self._senders.submit(self._send_batch, parts, [file.name for file in sent])

    def _take_note(self, answer: Future[set[str]], sent: Sequence[Sent]) -> None:
        refused = answer.result()
        self._memory.add(file for file in sent if file.name not in refused)
        for file in sent:
            self._rest(file.name, 0.0)

    def _send_batch(self, parts: Sequence[bytes], names: Sequence[str]) -> set[str]:
        """Names that the server refused."""
        try:
            answer = self._sender.batch(b"".join(parts))
        except ServiceUnavailable:
            raise
        except AzureMLException as problem:  # such as that the run was deleted
            log.error("the server refuses %d files: %s", len(names), problem)
            self.refused.update((name, problem.message) for name in names)
            return set(names)
        refused = {str(told["path"]): str(told["why"]) for told in answer.get("refused") or ()}
        self.refused.update(refused)
        return set(refused)

    def _send_big(self, seen: Seen, ended: bool = False, between: Callable[[], None] | None = None) -> None:
        began = time.monotonic()
        try:
            sha256 = self._send_whole(seen, between)
            self._memory.add([_sent(seen, sha256, ended)])
        except (Changed, OSError) as problem:  # looked at again, at the latest at the end
            log.info("%s was not sent as it was: %s", seen.name, problem)
        except ServiceUnavailable:
            raise
        except AzureMLException as problem:
            log.error("the server refuses %s: %s", seen.name, problem)
            self.refused[seen.name] = problem.message
        self._rest(seen.name, time.monotonic() - began)

    def _rest(self, name: str, took_s: float) -> None:
        self._not_before[name] = time.monotonic() + max(_SHORTEST_REST_S, took_s * _REST)
        self._waits_since.pop(name, None)

    def _send_whole(self, seen: Seen, between: Callable[[], None] | None) -> str:
        """Send a file piece by piece, the next one read while one is on its way; returns its SHA-256."""
        fd = os.open(seen.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with Reading(self._reader, self._sender.line, fd, seen) as reading:
                return self._send_pieces(seen, reading, between)
        finally:
            os.close(fd)

    def _send_pieces(self, seen: Seen, reading: Reading, between: Callable[[], None] | None) -> str:
        version = "-".join(f"{number:x}" for number in seen.identity)
        tries, furthest, looked = 0, 0, time.monotonic()
        while tries < _TRIES:
            piece = reading.next()
            reading.check()
            answer = self._sender.piece(
                seen.name, piece.start, piece.body, total=seen.size, version=version, mode=seen.mode,
                sha256=piece.sha256, encoding=piece.encoding, zeros=piece.zeros, packed=piece.packed,
            )  # fmt: skip
            if answer.get("kept"):
                return piece.sha256 or _sum_of(seen.path)
            held = int(answer["held"])
            if held != piece.end:
                reading.go_to(held)
            tries = 0 if held > furthest else tries + 1
            furthest = max(furthest, held)
            if between is not None and time.monotonic() - looked > _LOOK_S:
                between()
                looked = time.monotonic()
        raise Changed("what arrives is not what was read")


def _content(seen: Seen) -> bytes | None:
    """Of a small file; None when it is another one by now, or cannot be read: it is looked at again."""
    try:
        fd = os.open(seen.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.pread(fd, seen.size + 1, 0)
        now = Seen.of(seen.name, seen.path, os.fstat(fd))
    except OSError as problem:
        log.info("%s cannot be read: %s", seen.name, problem)
        return None
    finally:
        os.close(fd)
    return data if len(data) == seen.size and now.identity == seen.identity else None


def _sent(seen: Seen, sha256: str, ended: bool) -> Sent:
    young = not ended and time.time() - seen.modified_ns / 1e9 < _YOUNG_S
    return Sent(seen.name, *seen.identity, sha256, young)


def _sum_of(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
