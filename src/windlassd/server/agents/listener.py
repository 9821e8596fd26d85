"""The server's listener for agents on other machines. It is there once a compute target has some, and stays."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from windlass.errors import ComputeTargetException
from windlassd.blobs.shipped import FILES_PROTOCOL
from windlassd.control.core import Core
from windlassd.server.agents import address
from windlassd.server.agents.bulk import Bulk
from windlassd.server.agents.certificate import Certificate, load
from windlassd.server.agents.identity import own_id

log = logging.getLogger(__name__)
_WAIT_S = 5.0
"""How long a taken port is waited for before that is called trouble; it is tried again in any case."""
_AGAIN_S = 0.5
_HANDSHAKE_S = 10.0
_HEAD_S = 15.0
_HEAD_BYTES = 64 << 10
_STRANGERS = 256
_SHUTDOWN_S = 3
_BACKLOG = 2048
_HELLO_BYTES = 4096
_FILES = bytes([len(FILES_PROTOCOL)]) + FILES_PROTOCOL.encode()
"""As it stands in the first octets of a TLS connection that offers it."""


class AgentsListener:
    """Implements ``Door``. Belongs to the loop's thread, but for ``addresses``.

    Args:
        core: The workspace.
        folder: The workspace's ``server`` folder.
        make_app: Makes the application, when it is first needed.
    """

    def __init__(self, core: Core, folder: str, make_app: Callable[[], ASGIApp]) -> None:
        self._core = core
        self._folder = folder
        self._make_app = make_app
        self._opening = asyncio.Lock()
        self._shown: Certificate | None = None
        self._host: str | None = None
        self._port = 0
        self._server: _TlsServer | None = None
        self._serving: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None
        self.workspace_id = ""
        self.trouble: str | None = None

    @property
    def certificate(self) -> str | None:
        """What agents pin."""
        return self._shown.pinned if self._shown else None

    def addresses(self, towards: str | None = None) -> Sequence[str]:
        """See ``Door.addresses``. While its port is taken they are told, too: agents call until they are answered."""
        if self._shown is None or not self._port:
            raise ComputeTargetException(self.trouble or "The server does not listen for agents on other machines yet.")
        return address.told(self._port, towards, self._host)

    def described(self) -> Sequence[str] | None:
        """The addresses, None as long as it does not listen."""
        return self.addresses() if self._server is not None else None

    async def open(self) -> None:
        """See ``Door.open``. A port that agents know and somebody else has is waited for, first here, then beside."""
        async with self._opening:
            if self._server is not None:
                return
            try:
                await self._prepare()
                await self._listen_soon(_WAIT_S)
            except ComputeTargetException as problem:
                self._in_trouble(problem.message)
                raise

    async def prepare(self) -> None:
        """At a start, before runs are taken up: be able to give tickets; what keeps it from that is ``trouble``."""
        try:
            async with self._opening:
                await self._prepare()
        except ComputeTargetException as problem:
            self._in_trouble(problem.message)

    async def resume(self) -> None:
        """After ``prepare``: listen again; a port that another has is waited for beside."""
        if self.trouble is not None:
            return
        try:
            async with self._opening:
                await self._listen_soon(0.0)
        except address.PortTaken:
            self._again = asyncio.get_running_loop().create_task(self._try_again(), name="agents' port")
        except ComputeTargetException as problem:
            self._in_trouble(problem.message)

    async def close(self) -> None:
        """End all connections."""
        if self._again is not None:
            self._again.cancel()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving

    async def _prepare(self) -> None:
        self._port = self._port or address.kept_port(self._folder)
        if self._shown is None:
            self._shown = await asyncio.to_thread(load, self._folder)
        if not self.workspace_id:
            self.workspace_id = await asyncio.to_thread(own_id, self._folder)

    async def _listen_soon(self, wait_s: float) -> None:
        until = asyncio.get_running_loop().time() + wait_s
        while True:
            try:
                return await self._listen()
            except address.PortTaken:
                if asyncio.get_running_loop().time() >= until:
                    raise
                await asyncio.sleep(_AGAIN_S)

    async def _listen(self) -> None:
        assert self._shown is not None
        sock = address.bound(self._folder)
        self._host, self._port = sock.getsockname()[:2]
        self._server = _TlsServer(self._make_app(), self._shown)
        self._serving = asyncio.get_running_loop().create_task(self._server.serve(sockets=[sock]), name="agents")
        self.trouble = None
        log.info("agents on other machines find this server at %s", ", ".join(self.addresses()))

    async def _try_again(self) -> None:
        while self._server is None:
            try:
                async with self._opening:
                    await self._listen_soon(_WAIT_S)
            except ComputeTargetException as problem:
                self._in_trouble(problem.message)
                await asyncio.sleep(_AGAIN_S)

    def _in_trouble(self, words: str) -> None:
        if self.trouble != words:
            log.error("%s", words)
        self.trouble = words


class _TlsServer(uvicorn.Server):
    """uvicorn over TLS, without its signal handlers, and with little patience for who does not say what it wants."""

    def __init__(self, app: ASGIApp, shown: Certificate) -> None:
        super().__init__(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", http=_Connection, ws="none",
                timeout_graceful_shutdown=_SHUTDOWN_S, timeout_keep_alive=120, proxy_headers=False,
                server_header=False, ssl_context_factory=lambda config, default: shown.context,
            )
        )  # fmt: skip

    def capture_signals(self) -> Any:
        """Leave the process's signals alone."""
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but a handshake has an end."""
        assert sockets is not None and self.config.ssl is not None
        await self.lifespan.startup()
        loop, strangers = asyncio.get_running_loop(), _Strangers()

        def connection() -> asyncio.Protocol:
            return _Connection(self.config, self.server_state, self.lifespan.state, loop, strangers)

        bulk = Bulk(self.config.loaded_app, self.config.ssl)
        self.servers = [_Entrance(sock, self.config.ssl, connection, bulk) for sock in sockets]  # type: ignore[misc]
        self.started = True


class _Entrance:
    """Accepts connections; by how a connection begins it is given a thread or the loop's protocol.

    Args:
        sock: Listens.
        context: The certificate's.
        protocol: Makes the loop's.
        bulk: Has the threads.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, protocol: Callable[[], asyncio.Protocol], bulk: Bulk
    ) -> None:  # fmt: skip
        self.sockets = (sock,)
        self._sock = sock
        self._context = context
        self._protocol = protocol
        self._bulk = bulk
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[None]] = set()
        sock.listen(_BACKLOG)
        sock.setblocking(False)
        self._accepting = self._loop.create_task(self._accept(), name="agents' entrance")

    def close(self) -> None:
        """Nobody comes in any more, and who brings files is cut off."""
        for task in (self._accepting, *self._entering):
            task.cancel()
        self._bulk.close()

    async def wait_closed(self) -> None:
        """Return when it is."""
        await asyncio.gather(self._accepting, *self._entering, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._sock)
            except OSError as problem:  # such as too many open files
                log.warning("no connection of an agent can be accepted: %s", problem)
                await asyncio.sleep(_AGAIN_S)
                continue
            if len(self._entering) >= _STRANGERS:
                sock.close()
                continue
            task = self._loop.create_task(self._let_in(sock))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    async def _let_in(self, sock: socket.socket) -> None:
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            hello = await asyncio.wait_for(self._beginning(sock), _HANDSHAKE_S)
            if _FILES in hello and self._bulk.has_room():
                self._bulk.take(sock)
            elif hello:
                await self._loop.connect_accepted_socket(
                    self._protocol, sock, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_S
                )  # fmt: skip
            else:
                sock.close()
        except (OSError, TimeoutError) as problem:  # who speaks no TLS, or nothing
            log.debug("a connection was not let in: %s", problem)
            sock.close()
        except BaseException:
            sock.close()
            raise

    async def _beginning(self, sock: socket.socket) -> bytes:
        """What it says first; that is still to be read."""
        begun = asyncio.Event()
        self._loop.add_reader(sock, begun.set)
        try:
            await begun.wait()
        finally:
            self._loop.remove_reader(sock)
        return sock.recv(_HELLO_BYTES, socket.MSG_PEEK)


class _Strangers:
    """Connections that have not said what they want."""

    def __init__(self) -> None:
        self.count = 0


class _Connection(HttpToolsProtocol):
    """One connection; the head of its first request must come soon, and no head may be long."""

    def __init__(
        self, config: uvicorn.Config, server_state: Any, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None, strangers: _Strangers | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self._strangers = strangers or _Strangers()
        self._impatient: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """One more stranger; when there are too many it has to go."""
        super().connection_made(transport)
        self._strangers.count += 1
        self._impatient = self.loop.call_later(_HEAD_S, transport.abort)
        if self._strangers.count > _STRANGERS:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._known()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of its address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """It said what it wants."""
        self._known()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of what it brings; it is not copied while it is the only one that waits, which is most of them."""
        if not self.cycle.body:
            self.cycle.body = b""  # type: ignore[assignment]  # bytes that are added to none stay the same object
        super().on_body(body)

    def _count(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > _HEAD_BYTES:
            raise ValueError("a request's head is too long")  # the parser makes a 400 of it

    def _known(self) -> None:
        if self._impatient is not None:
            self._impatient.cancel()
            self._impatient = None
            self._strangers.count -= 1
