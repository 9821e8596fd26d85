"""The workspace's socket on a machine that is not the server's: it passes a job's calls on, with the job's token.

What the job sends is read as HTTP/1.1, as each call needs the token; what the server answers is passed on as it comes,
streams and all. Nothing is held but a piece of a body in each direction. While the server is away a call is answered
as a server that is ending does, and the SDK in the job waits and asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from windlass._transport.client import STOPPING
from windlass._transport.places import private_dir, server_dir, socket_path
from windlassd.agent.uplink import CONNECT_S, Uplink, check, notice_a_cut

log = logging.getLogger(__name__)
_PIECE_BYTES = 256 << 10
_HEAD_BYTES = 64 << 10
_MOST_CONNECTIONS = 256
_LAST_WORD_S = 5.0
"""How long a job may take to read an answer whose call is over."""
_DROPPED = (b"authorization", b"host", b"proxy-authorization")
"""Headers that are ours to set; the job must not speak in another's name."""


class Refused(Exception):
    """A call that cannot be passed on: ``status`` and why."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


@dataclass
class _Call:
    """What a connection waits for."""

    unanswered: bool = False
    """True from the first octet of a call until the first of its answer."""
    server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    answers: asyncio.Task[None] | None = field(default=None)


class Relay:
    """Listens from ``start`` on, on a thread of its own; until it has a token it answers as while the server is away.

    Args:
        uplink: The agent's way to the server.
        workspace_dir: What stands for the workspace's folder here.
    """

    def __init__(self, uplink: Uplink, workspace_dir: str) -> None:
        self._uplink = uplink
        self._workspace_dir = workspace_dir
        self._token: str | None = None
        self._open = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._problem: OSError | None = None
        self._path = ""
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def start(self) -> None:
        """Return when it listens.

        Raises:
            OSError: the socket cannot be made.
            UserErrorException: the folder for it is somebody else's.
        """
        private_dir(server_dir(self._workspace_dir))
        self._path = socket_path(self._workspace_dir)
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            raise self._problem

    def use(self, token: str) -> None:
        """Pass calls on with this token from now on."""
        self._token = token

    def close(self) -> None:
        """Hang up on everybody and remove the socket. May be repeated."""
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        path, loop = self._path, asyncio.new_event_loop()
        try:
            server = loop.run_until_complete(asyncio.start_unix_server(self._serve, path, limit=_HEAD_BYTES))
            os.chmod(path, 0o600)
        except OSError as problem:
            self._problem = problem
            loop.close()
            self._ready.set()
            return
        self._loop = loop
        self._ready.set()
        try:
            loop.run_forever()
            server.close()
            loop.run_until_complete(_end_all())
        finally:
            loop.close()
            with contextlib.suppress(OSError):
                os.unlink(path)

    async def _serve(self, job: asyncio.StreamReader, to_job: asyncio.StreamWriter) -> None:
        """One connection of a job, until either end closes it."""
        call = _Call()
        self._open += 1
        try:
            if self._open > _MOST_CONNECTIONS:
                raise Refused(503, "Too many connections of this job are open.")
            while await self._pass_on_a_call(call, job, to_job):
                pass
        except asyncio.CancelledError:  # the relay ends
            pass
        except Refused as refusal:
            _say(to_job, refusal)
        except (OSError, EOFError, ssl.SSLError) as problem:
            log.info("a call of the job could not be passed on: %s", problem)
            if call.server is None or call.unanswered:
                _say(to_job, Refused(503, "The server is away."))
        finally:
            self._open -= 1
            await _hang_up(call, to_job)

    async def _pass_on_a_call(self, call: _Call, job: asyncio.StreamReader, to_job: asyncio.StreamWriter) -> bool:
        """Pass the next call of a connection on; False when none comes any more."""
        head = await _head(job, call.answers)
        if head is None:
            return False
        token = self._token
        if token is None:
            raise Refused(503, "The part is not begun yet.")
        host, port = self._uplink.addresses[0]
        lines, body = _checked(head)
        lines[1:1] = [b"Host: %s:%d" % (host.encode(), port), b"Authorization: Bearer " + token.encode()]
        if call.server is None:
            call.server = await self._connect()
            call.answers = asyncio.create_task(_pass_answers(call, call.server[0], to_job))
        to_server = call.server[1]
        call.unanswered = True
        to_server.write(b"\r\n".join(lines) + b"\r\n\r\n")
        while body:
            piece = await job.read(min(body, _PIECE_BYTES))
            if not piece:
                raise ConnectionResetError("the job hung up within a call")
            body -= len(piece)
            to_server.write(piece)
            await to_server.drain()
        await to_server.drain()
        return True

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        problem: OSError = ConnectionRefusedError("no address")
        for host, port in self._uplink.addresses:
            try:
                opening = asyncio.open_connection(
                    host, port, ssl=self._uplink.context, server_hostname=host, limit=_PIECE_BYTES
                )
                from_server, to_server = await asyncio.wait_for(opening, CONNECT_S)
            except OSError as failed:  # a TimeoutError is one, too
                problem = failed
                continue
            try:
                check(self._uplink.pinned, to_server.get_extra_info("ssl_object").getpeercert(True))
            except OSError as another:
                to_server.transport.abort()
                problem = another
                continue
            notice_a_cut(to_server.get_extra_info("socket"))
            return from_server, to_server
        raise problem


async def _end_all() -> None:
    """Hang up on everybody."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _head(job: asyncio.StreamReader, answers: asyncio.Task[None] | None) -> bytes | None:
    """The head of the next call; None when the job hung up, or the server did while none was under way."""
    reading = asyncio.ensure_future(job.readuntil(b"\r\n\r\n"))
    try:
        await asyncio.wait([reading, *([answers] if answers else [])], return_when=asyncio.FIRST_COMPLETED)
        if answers is not None and answers.done() and not reading.done():
            answers.result()
            return None
        return await reading
    except asyncio.IncompleteReadError as cut:
        if cut.partial:
            raise Refused(400, "The call ends within its head.") from None
        return None
    except asyncio.LimitOverrunError:
        raise Refused(431, f"The head of the call is longer than {_HEAD_BYTES} octets.") from None
    finally:
        reading.cancel()


def _checked(head: bytes) -> tuple[list[bytes], int]:
    """The lines of a call's head without those that are ours, and the length of its body."""
    first, *rest = head[:-4].split(b"\r\n")
    lines, lengths = [first], set()
    if len(first.split(b" ")) != 3 or not first.endswith(b" HTTP/1.1"):
        raise Refused(400, "The call is no HTTP/1.1.")
    for line in rest:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name != name.strip() or not name or b"\n" in line or b"\r" in line or b"\0" in line:
            raise Refused(400, "A header of the call cannot be read.")
        if name == b"transfer-encoding":
            raise Refused(411, "The call must say how long its body is (Content-Length).")
        if name == b"content-length":
            lengths.add(value.strip())
        if name not in _DROPPED:
            lines.append(line)
    length = lengths.pop() if lengths else b"0"
    if lengths or not length.isdigit() or len(length) > 18:
        raise Refused(400, "The Content-Length of the call cannot be read.")
    return lines, int(length)


async def _pass_answers(call: _Call, server: asyncio.StreamReader, to_job: asyncio.StreamWriter) -> None:
    """Pass on what the server answers until it hangs up.

    Raises:
        ConnectionResetError: it did so with a call unanswered.
    """
    while piece := await server.read(_PIECE_BYTES):
        call.unanswered = False
        to_job.write(piece)
        await to_job.drain()
    if call.unanswered:
        raise ConnectionResetError("the server hung up")


def _say(to_job: asyncio.StreamWriter, refusal: Refused) -> None:
    """Answer a call that was not passed on; 503 as an ending server says it."""
    words = {400: b"Bad Request", 411: b"Length Required", 431: b"Request Header Fields Too Large"}
    body = json.dumps({"error": {"code": "user_error", "message": str(refusal)}}).encode()
    lines: Sequence[bytes] = (
        b"HTTP/1.1 %d %s" % (refusal.status, words.get(refusal.status, b"Service Unavailable")),
        b"Content-Type: application/json", b"Content-Length: %d" % len(body), b"Connection: close",
        *([STOPPING.encode() + b": 1"] if refusal.status == 503 else ()),
    )  # fmt: skip
    to_job.write(b"\r\n".join(lines) + b"\r\n\r\n" + body)


async def _hang_up(call: _Call, to_job: asyncio.StreamWriter) -> None:
    if call.answers is not None:
        call.answers.cancel()
        await asyncio.gather(call.answers, return_exceptions=True)
    if call.server is not None:
        call.server[1].transport.abort()
    with contextlib.suppress(OSError):
        to_job.close()
        await asyncio.wait_for(to_job.wait_closed(), _LAST_WORD_S)
    to_job.transport.abort()
