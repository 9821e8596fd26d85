"""Calls that bring files to a server elsewhere: repeated until answered, packed where that is quicker."""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, cast

from windlass._transport.client import Client
from windlass.errors import ServiceUnavailable
from windlass.specs.launch import PartKey
from windlassd.blobs.shipped import PIECE_BYTES, STREAM_BYTES

log = logging.getLogger(__name__)
_RETRY_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_SAID_AGAIN = 12
_LEVEL = 1
_GAIN = 0.7
"""Packing takes time from the job, and unpacking from the server: it must be worth it."""
PROBED = 64 << 10
_WORTH_PACKING = 16 << 10
_MEASURED = 256 << 10
_SMALLEST_PIECE = 256 << 10
_PIECE_S = 0.25
"""A piece takes about this long: on a slow line none holds up what comes after it."""
_HIGHER, _LOWER = 0.7, 0.3
_SURE_BYTES, _SURE_S = 8 << 20, 0.1
"""So much must have been sent as it is before anything is packed: the first piece also opens the connection."""
_QUICK, _LOOK_AGAIN = 32 << 20, 32
"""On a line this quick the way that seems slower is tried again now and then; on others that would take long."""
OCTETS = "application/octet-stream"


class Readable(Protocol):
    """A body that is read while it is sent; see ``windlass._transport.client.Body``."""

    def __len__(self) -> int: ...

    def read(self, size: int = -1) -> bytes:
        """Some of it."""

    def tell(self) -> int:
        """Where it goes on."""

    def seek(self, to: int) -> None:
        """Go on there."""


Body = bytes | Readable


class Line:
    """How quick the line to the server is, and what it makes of that. Thread-safe enough: its numbers are guesses."""

    def __init__(self) -> None:
        self._plain: float | None = None
        self._packed: float | None = None
        self._sure_of = self._took_s = 0.0
        self._asked = 0

    @property
    def piece_bytes(self) -> int:
        """How much to send at once."""
        return int(min(PIECE_BYTES, max(_SMALLEST_PIECE, self._in_a_piece)))

    @property
    def stream_bytes(self) -> int:
        """How much of a big file to send at once, read while it is sent; 0 on a line where pieces are small anyway."""
        return int(min(STREAM_BYTES, self._in_a_piece)) if self._in_a_piece > PIECE_BYTES else 0

    def took(self, size: int, seconds: float, body: int | None = None) -> None:
        """So many bytes were packed, on their way, and written there, for so long; ``body``: packed into so many."""
        if size < _MEASURED or seconds <= 0:
            return
        if body is None:
            self._plain = _blend(self._plain, size / seconds)
            self._sure_of += size
            self._took_s += seconds
        else:
            self._packed = _blend(self._packed, size / seconds)
            self._plain = max(self._plain or 0.0, body / seconds)

    def packs(self, probe: bytes) -> bool:
        """True when bytes such as these take less time packed, by a try on them and by what packed ones took."""
        rate = self._plain
        if rate is None or (self._sure_of < _SURE_BYTES and self._took_s < _SURE_S):
            return False
        self._asked += 1
        again = rate > _QUICK and not self._asked % _LOOK_AGAIN
        if self._packed is not None and (self._packed < rate) != again:
            return False
        began = time.thread_time()  # what a busy machine makes of it shows in what packed pieces take
        share = len(zlib.compress(probe, _LEVEL)) / len(probe)
        speed = len(probe) / max(time.thread_time() - began, 1e-6)
        return rate < _GAIN * speed * (1 - share)

    def pack(self, data: bytes) -> tuple[bytes, str | None]:
        """The bytes to send, and their encoding."""
        if len(data) < _WORTH_PACKING:
            return data, None
        middle = max(0, len(data) // 2 - PROBED // 2)
        if not self.packs(data[middle : middle + PROBED]):
            return data, None
        return zlib.compress(data, _LEVEL), "deflate"

    @property
    def _in_a_piece(self) -> float:
        return _PIECE_S * max(self._plain or 0.0, self._packed or 0.0)


def _blend(known: float | None, now: float) -> float:
    """A rate that was just seen counts more when it is higher: what holds up a call is not always the line."""
    if known is None:
        return now
    weight = _HIGHER if now > known else _LOWER
    return weight * now + (1 - weight) * known


class Packed(NamedTuple):
    """What a packed body was made of."""

    size: int
    seconds: float


class Sender:
    """Calls for the files of one part. Thread-safe; each thread has a connection of its own.

    A call is sent again until the server answered; one that it refuses raises, as repeating would not help.
    """

    def __init__(self, client: Client, agent: str, key: PartKey) -> None:
        self.line = Line()
        self.waited_s = 0.0
        """Seconds for which no server could be had, or had no room."""
        self._client = client
        self._path = f"/agent/v1/{agent}/files"
        self._part = {"run_id": key[0], "attempt": key[1], "rank": key[2]}
        self._over = threading.Event()

    def close(self) -> None:
        """No call is repeated any more."""
        self._over.set()

    def piece(
        self, path: str, offset: int, body: Body, packed: Packed | None = None, **more: Any
    ) -> Mapping[str, Any]:  # fmt: skip
        """Send a piece; the server's answer. Of one that is packed tell from what, for the line's sake."""
        return self._send("", {"path": path, "offset": offset, **more}, body, packed)

    def batch(self, body: bytes) -> Mapping[str, Any]:
        """Send small files; the server's answer."""
        began = time.monotonic()
        sent, encoding = self.line.pack(body)
        packed = Packed(len(body), time.monotonic() - began) if encoding else None
        return self._send("/batch", {"encoding": encoding}, sent, packed)

    def settled(self, files: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """Names of those that the server does not have as told."""
        body = {"files": list(files)}
        answer = self._persist(lambda: self._client.post(f"{self._path}/settled", body, **self._part))
        return list(answer["lacking"])

    def sync(self) -> None:
        """Return when what the server has is on its disk.

        Raises:
            AzureMLException: it could not say so now; this is not repeated.
        """
        self._client.post(f"{self._path}/settled", {"files": [], "last": True}, **self._part)

    def _send(
        self, path: str, query: Mapping[str, Any], body: Body, packed: Packed | None = None
    ) -> Mapping[str, Any]:  # fmt: skip
        def send() -> Any:
            began = time.monotonic()
            answer = self._client.call(
                "POST", self._path + path, query={**self._part, **query}, body=cast(Any, body), content_type=OCTETS
            )
            seconds = time.monotonic() - began
            if packed is None:
                self.line.took(len(body), seconds)
            else:  # the next one is packed meanwhile
                self.line.took(packed.size, max(seconds, packed.seconds), len(body))
            return answer

        try:
            answer: Mapping[str, Any] = self._persist(send)
        except BaseException:
            self._client.close()  # a body that ended early: what comes next must not be taken for the rest of it
            raise
        return answer

    def _persist(self, call: Callable[[], Any]) -> Any:
        tries = 0
        while True:
            began = time.monotonic()
            try:
                return call()
            except ServiceUnavailable as problem:
                if self._over.wait(_RETRY_S[min(tries, len(_RETRY_S) - 1)]):
                    raise
                if tries % _SAID_AGAIN == 0:
                    log.warning("the server did not take a file, trying again: %s", problem)
            self.waited_s += time.monotonic() - began
            tries += 1
