"""Connections that bring files: a thread each, so that bulk neither goes through the loop nor holds it up.

They are told by a protocol name in their first octets (ALPN), come over the same port, and speak the same HTTP/1.1 with
the same routes: the application behind the guard runs in the loop as ever, and asks the thread for the body. What is
written goes from the buffer that it was decrypted into to the disk, while the next one is filled.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import socket
import ssl
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar, cast

from starlette.types import ASGIApp, Message

from windlassd.blobs.shipped import STREAM_BYTES
from windlassd.control.shipped import Incoming
from windlassd.server.api.shipping import BODY

log = logging.getLogger(__name__)
_MOST = 32
"""Connections served like this at once; what comes beside them goes through the loop."""
_HANDSHAKE_S, _HEAD_S, _IDLE_S, _BODY_S = 10.0, 15.0, 120.0, 60.0
_HEAD_BYTES = 64 << 10
_READ_BYTES = 1 << 20
_BLOCK_BYTES, _BLOCKS = 512 << 10, 3
_SOME_BYTES = 256 << 10
_RECORD_BYTES = 256 << 10
T = TypeVar("T")


class Bulk:
    """Belongs to the loop's thread.

    Args:
        app: Serves the calls, on the loop.
        context: The certificate's.
    """

    def __init__(self, app: ASGIApp, context: ssl.SSLContext) -> None:
        self._app = app
        self._context = context
        self._connections: set[_Connection] = set()

    def has_room(self) -> bool:
        """True when another connection can be taken."""
        return len(self._connections) < _MOST

    def take(self, sock: socket.socket) -> None:
        """Serve a connection that was accepted, until it or this ends."""
        loop = asyncio.get_running_loop()
        connection = _Connection(self._app, loop, sock, self._context)
        self._connections.add(connection)

        def serve() -> None:
            try:
                connection.serve()
            finally:
                connection.close()
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._connections.discard, connection)

        threading.Thread(target=serve, name="files from an agent", daemon=True).start()

    def close(self) -> None:
        """Cut all connections; what came of files is held."""
        for connection in self._connections:
            connection.cut()


@dataclass(frozen=True)
class _Request:
    method: str
    target: str
    headers: tuple[tuple[bytes, bytes], ...]
    length: int


@dataclass
class _Answer:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)


class _Connection:
    def __init__(
        self, app: ASGIApp, loop: asyncio.AbstractEventLoop, sock: socket.socket, context: ssl.SSLContext
    ) -> None:  # fmt: skip
        self._app = app
        self._loop = loop
        self._sock = sock
        self._context = context
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="write files")
        self._buffers: list[memoryview] = []
        self._large = bytearray()

    def cut(self) -> None:
        """Any thread: nothing more comes over it."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # cut already
            return

    def close(self) -> None:
        self._writer.shutdown()
        self._sock.close()

    def serve(self) -> None:
        """Serve calls until the connection ends."""
        try:
            line = _Tls(self._sock, self._context)
            patience = _HEAD_S
            while (head := line.head(patience)) is not None:
                if not self._call(line, _parsed(head)):
                    return
                patience = _IDLE_S
        except (OSError, ValueError, CancelledError, RuntimeError) as problem:  # RuntimeError: the server has ended
            log.info("a connection for files has ended: %s", problem)

    def _call(self, line: _Tls, request: _Request) -> bool:
        """Serve one call; True when another may follow."""
        body = _Body(self, line, self._loop, request.length)
        if any(name == b"expect" for name, _ in request.headers):
            raise ValueError("it expects an answer before its body")
        running = asyncio.run_coroutine_threadsafe(_run(self._app, request, body), self._loop)
        body.obey()
        answer = running.result()
        ends = any(name == b"connection" and value == b"close" for name, value in answer.headers)
        body.discard(_SOME_BYTES if ends else STREAM_BYTES)
        line.send(_octets(answer))
        return not ends and not body.left

    def buffers(self) -> list[memoryview]:
        """To receive into by turns."""
        if not self._buffers:
            self._buffers = [memoryview(bytearray(_BLOCK_BYTES)) for _ in range(_BLOCKS)]
        return self._buffers

    def large(self, size: int) -> memoryview:
        """Room for a whole body; the same one for each."""
        if len(self._large) < size:
            self._large = bytearray(size)
        return memoryview(self._large)[:size]

    def write(self, work: Callable[[memoryview], None], data: memoryview) -> Future[None]:
        """Have the writing thread do it."""
        return self._writer.submit(work, data)


class _Body(Incoming):
    """What the loop asks for is done by the connection's thread."""

    def __init__(self, connection: _Connection, line: _Tls, loop: asyncio.AbstractEventLoop, length: int) -> None:
        self.left = length
        self._connection = connection
        self._line = line
        self._loop = loop
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()

    async def whole(self) -> memoryview:
        return await self._have(self._whole)

    async def into(self, add: Callable[[memoryview], None]) -> None:
        await self._have(lambda: self._into(add))

    def cut(self) -> None:
        self._connection.cut()

    async def some(self) -> bytes:
        """The next bytes; none at the end."""
        return await self._have(self._some)

    def obey(self) -> None:
        """Do what is asked until the call has ended."""
        while (order := self._orders.get()) is not None:
            order()

    def end(self) -> None:
        """The call has ended."""
        self._orders.put(None)

    def discard(self, most: int) -> None:
        """Take off the line what nobody read, or some of it."""
        while self.left and most > 0:
            most -= len(self._some())

    async def _have(self, work: Callable[[], T]) -> T:
        done: asyncio.Future[T] = self._loop.create_future()

        def order() -> None:
            try:
                result = work()
            except Exception as problem:  # noqa: BLE001  # the edge: it is raised where it was asked for
                self._loop.call_soon_threadsafe(_fail, done, problem)
            else:
                self._loop.call_soon_threadsafe(_succeed, done, result)

        self._orders.put(order)
        try:
            return await done
        except (ConnectionError, TimeoutError, ssl.SSLError) as problem:
            raise EOFError(str(problem)) from problem

    def _fill(self, view: memoryview) -> int:
        """How much came of it; less when the connection broke off."""
        at = 0
        try:
            while at < len(view):
                at += self._line.into(view[at:], _BODY_S)
        except (ConnectionError, TimeoutError, ssl.SSLError) as problem:
            log.info("a piece of a file broke off: %s", problem)
        self.left -= at
        return at

    def _some(self) -> bytes:
        view = memoryview(bytearray(min(_SOME_BYTES, self.left)))
        if not view:
            return b""
        count = self._line.into(view, _BODY_S)
        self.left -= count
        return bytes(view[:count])

    def _whole(self) -> memoryview:
        view = self._connection.large(self.left)
        if self._fill(view) < len(view):
            raise ConnectionResetError("the body broke off")
        return view

    def _into(self, add: Callable[[memoryview], None]) -> None:
        """A buffer is written while another is filled; what came of a body that breaks off is written, too."""
        under_way: deque[Future[None]] = deque()
        number, buffers = 0, self._connection.buffers()
        try:
            while self.left:
                view = buffers[number % _BLOCKS][: min(self.left, _BLOCK_BYTES)]
                number += 1
                if (count := self._fill(view)) > 0:
                    under_way.append(self._connection.write(add, view[:count]))
                if count < len(view):
                    raise ConnectionResetError("the body broke off")
                if len(under_way) == _BLOCKS:
                    under_way.popleft().result()
            while under_way:
                under_way.popleft().result()
        finally:
            for writing in under_way:
                writing.exception()


async def _run(app: ASGIApp, request: _Request, body: _Body) -> _Answer:
    """Have the application serve a call."""
    path, _, query = request.target.partition("?")
    scope: Mapping[str, Any] = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": request.method, "scheme": "https", "path": urllib.parse.unquote(path), "raw_path": path.encode(),
        "query_string": query.encode(), "root_path": "", "headers": list(request.headers), "client": None,
        "server": None, BODY: body,
    }  # fmt: skip
    answer = _Answer()

    async def receive() -> Message:
        try:
            data = await body.some()
        except EOFError:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": data, "more_body": body.left > 0}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], list(message.get("headers", ()))
        else:
            answer.body += message.get("body", b"")

    try:
        await app(dict(scope), receive, send)
    except Exception:  # the edge: as uvicorn does
        log.exception("%s %s failed", request.method, path)
        return _Answer(500, [(b"content-length", b"0")])
    finally:
        body.end()
    return answer


class _Tls:
    """TLS over a blocking socket. What is read is decrypted from large reads, not record by record."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._octets = memoryview(bytearray(_READ_BYTES))
        self._over = b""
        until = time.monotonic() + _HANDSHAKE_S
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                self._more(until)
            else:
                self._flush()
                return

    def head(self, patience_s: float) -> bytes | None:
        """The head of the next request; None when the other end closed the connection before one."""
        until, head = time.monotonic() + patience_s, bytearray(self._over)
        self._over = b""
        view = memoryview(bytearray(_HEAD_BYTES))
        while (end := head.find(b"\r\n\r\n")) < 0:
            if len(head) > _HEAD_BYTES:
                raise ValueError("a request's head is too long")
            try:
                head += view[: self._read(view, until)]
            except ConnectionError:
                if head:
                    raise
                return None
        self._over = bytes(head[end + 4 :])
        return bytes(head[:end])

    def into(self, view: memoryview, patience_s: float) -> int:
        """Receive into it; how much came, at least one."""
        if self._over:
            count = min(len(view), len(self._over))
            view[:count], self._over = self._over[:count], self._over[count:]
            return count
        return self._read(view, time.monotonic() + patience_s)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        for at in range(0, len(data), _RECORD_BYTES):
            self._tls.write(data[at : at + _RECORD_BYTES])
            self._flush()

    def _read(self, view: memoryview, until: float) -> int:
        while True:
            try:
                count = cast(int, self._tls.read(len(view), view))
            except ssl.SSLWantReadError:
                self._flush()
                self._more(until)
                continue
            except ssl.SSLZeroReturnError as end:
                raise ConnectionResetError("the other end closed the connection") from end
            if not count:
                raise ConnectionResetError("the other end closed the connection")
            return count

    def _more(self, until: float) -> None:
        self._sock.settimeout(max(0.001, until - time.monotonic()))
        count = self._sock.recv_into(self._octets)
        if not count:
            raise ConnectionResetError("the other end closed the connection")
        self._in.write(self._octets[:count])

    def _flush(self) -> None:
        if self._out.pending:
            self._sock.settimeout(_BODY_S)
            self._sock.sendall(self._out.read())


def _parsed(head: bytes) -> _Request:
    """The request of this head; ValueError when it is none that agents make."""
    first, *lines = head.split(b"\r\n")
    method, target, version = first.decode("ascii").split(" ")
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or name != name.strip() or not name:
            raise ValueError("a header cannot be read")
        headers.append((name.lower(), value.strip()))
    lengths = [value for name, value in headers if name == b"content-length"]
    coded = any(name == b"transfer-encoding" for name, _ in headers)
    if version != "HTTP/1.1" or coded or len(lengths) > 1 or not all(v.isdigit() and len(v) < 16 for v in lengths):
        raise ValueError("the request is not HTTP/1.1 with a length")
    return _Request(method, target, tuple(headers), int(lengths[0]) if lengths else 0)


def _octets(answer: _Answer) -> bytes:
    phrase = HTTPStatus(answer.status).phrase
    lines = [b"HTTP/1.1 %d %s" % (answer.status, phrase.encode())]
    lines += [b"%s: %s" % header for header in answer.headers if header[0].lower() != b"content-length"]
    lines += [b"content-length: %d" % len(answer.body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)


def _succeed(done: asyncio.Future[T], result: T) -> None:
    if not done.done():
        done.set_result(result)


def _fail(done: asyncio.Future[Any], problem: BaseException) -> None:
    if not done.done():
        done.set_exception(problem)
