"""The server process of one workspace: one lock, one database, two listeners, gone when idle."""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import uvicorn
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

import windlassd
from windlass import settings
from windlass._transport.autostart import PATIENCE, READY, is_running
from windlass._transport.client import STOPPING
from windlass._transport.places import private_dir, server_dir, socket_path
from windlass.errors import UserErrorException
from windlassd.blobs.files import FileBlobStore
from windlassd.compute.local import AGENT
from windlassd.control.agents import AgentHub
from windlassd.control.bus import Bus
from windlassd.control.core import Core
from windlassd.control.enlisting import Enlisting
from windlassd.control.tokens import Tokens
from windlassd.control.workspace import WorkspaceControl
from windlassd.doctor.alone import examined_by
from windlassd.envs.cache import EnvironmentCache
from windlassd.server.agents.listener import AgentsListener
from windlassd.server.api.app import create_api_app
from windlassd.server.web.app import create_web_app
from windlassd.store.filesystem import refuse_network
from windlassd.store.sql import SqlStore

log = logging.getLogger(__name__)
PROTOCOL = 1
_LOCK_WAIT_S = 15.0
_SHUTDOWN_S = 3


class AnotherServer(UserErrorException):
    """Another process has the workspace; a client that wanted one tries that, or again."""


class _Listener(uvicorn.Server):
    """uvicorn without its signal handlers: the process has one owner, ``WorkspaceServer``."""

    def capture_signals(self) -> Any:
        """Leave the process's signals alone."""
        return nullcontext()


class WorkspaceServer:
    """Serves one workspace until it is told to stop or nothing is left to do.

    Args:
        workspace_dir: The workspace's folder; made when absent.
        ready_fd: Written to once connections are accepted.
    """

    def __init__(self, workspace_dir: str, ready_fd: int | None = None) -> None:
        self._dir = os.path.abspath(workspace_dir)
        self._ready_fd = ready_fd
        self._started = time.time()
        self._stop = asyncio.Event()
        self._lively = time.monotonic()
        self._inode = 0
        self._under_way = 0
        self._ending = False
        self._listeners: list[_Listener] = []
        self._web = ""

    async def serve(self) -> None:
        """Run until stopped.

        Raises:
            AnotherServer: another server has the workspace.
            UserErrorException: the folder cannot hold one.
        """
        settings.check()
        refuse_network(self._dir)
        private_dir(self._dir)
        private_dir(server_dir(self._dir))
        folder = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with open(os.path.join(server_dir(self._dir), "server.lock"), "a+") as lock:
                await _take(lock.fileno(), self._dir)
                await _take(folder, self._dir)  # whoever deletes the lock's file has not let in a second server
                _refuse_replaced(folder, self._dir)
                await self._serve_locked()
        finally:
            os.close(folder)

    async def _serve_locked(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        store = SqlStore.open(self._dir, lambda: self._tell_starter(PATIENCE))
        hub = AgentHub(self._dir, loop)
        core = Core(
            workspace_dir=self._dir, store=store, blobs=FileBlobStore(os.path.join(self._dir, "blobs")),
            envs=EnvironmentCache(os.path.join(settings.home(), "environments")), bus=Bus(), link=hub, loop=loop,
        )  # fmt: skip
        control = WorkspaceControl(core, hub)
        tokens = Tokens(server_dir(self._dir))
        hub.enlisting = Enlisting(self._dir, tokens)
        self._door = AgentsListener(core, server_dir(self._dir), lambda: self._agents_app(control, tokens))
        hub.enlisting.door = core.door = self._door
        hub.ensure(AGENT)
        try:
            await self._listen(control)
        finally:
            control.close()
            core.envs.close()
            store.close()
            core.blobs.close()

    async def _listen(self, control: WorkspaceControl) -> None:
        tcp, unix = _loopback(self._dir), _unix(self._dir)
        self._inode = os.stat(socket_path(self._dir)).st_ino
        self._web = f"http://127.0.0.1:{tcp.getsockname()[1]}"
        host = self._web.removeprefix("http://")
        api = create_api_app(control, self._describe, self._stop.set)
        web = create_web_app(control, hosts=[host, host.replace("127.0.0.1", "localhost")])
        elsewhere = control.clusters.elsewhere()
        if elsewhere:
            await self._door.prepare()
        await control.start()
        if elsewhere:
            await self._door.resume()
        serving = [self._start(self._watched(api), unix), self._start(self._watched(web), tcp)]
        await asyncio.gather(*(_started(listener) for listener in self._listeners))
        self._write_address()
        self._tell_starter(READY)
        log.info("workspace %s is served by pid %d at %s", self._dir, os.getpid(), self._web)
        self._lively = time.monotonic()  # whoever started this server has not called yet
        idle = asyncio.create_task(self._stop_when_idle(control))
        failed = asyncio.wait(serving, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([asyncio.create_task(self._stop.wait()), asyncio.ensure_future(failed)],
                           return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
        idle.cancel()
        self._ending = True
        self._leave_socket()  # from here on a client starts the next server, which waits for our lock
        gone = not os.path.isdir(self._dir)
        (control.hub.close if gone or control.active() == 0 else control.hub.detach)()
        await asyncio.sleep(0)
        web.state.streams.close()  # uvicorn would wait for open pages and streams
        control.core.bus.close()
        for listener in self._listeners:
            listener.should_exit = True
        await asyncio.gather(*serving, self._door.close())
        log.info("the server of %s ends", self._dir)

    def _tell_starter(self, word: bytes) -> None:
        if self._ready_fd is None:
            return
        try:
            os.write(self._ready_fd, word)
        except BrokenPipeError:  # it was interrupted; others will call
            log.info("whoever started this server has gone")
        if word == READY:
            os.close(self._ready_fd)

    def _start(self, app: Any, sock: socket.socket) -> asyncio.Task[None]:
        listener = _Listener(
            uvicorn.Config(
                app, log_config=None, access_log=False, lifespan="off", http="httptools", ws="none",
                timeout_graceful_shutdown=_SHUTDOWN_S, timeout_keep_alive=120,
            )
        )  # fmt: skip
        self._listeners.append(listener)
        return asyncio.create_task(listener.serve(sockets=[sock]))

    def _agents_app(self, control: WorkspaceControl, tokens: Tokens) -> ASGIApp:
        from windlassd.server.agents.app import create_agents_app  # only here: most servers never need it

        return self._watched(create_agents_app(control, tokens, self._describe)[0])

    def _watched(self, app: ASGIApp) -> ASGIApp:
        """``app``, with its calls counted: a server that answers somebody is not idle. Agents' lines are not counted.

        Once this server is ending, a call over a connection that was kept alive is sent to the next server: answered
        with 503 and ``STOPPING``, which every client takes for "nobody listens here".
        """

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"].startswith("/agent/"):
                await app(scope, receive, send)
                return
            if self._ending:
                await Response(status_code=503, headers={STOPPING: "1", "Connection": "close"})(scope, receive, send)
                return
            self._under_way += 1
            try:
                await app(scope, receive, send)
            finally:
                self._under_way -= 1
                self._lively = time.monotonic()

        return watched

    def _can_be_found(self) -> bool:
        """False when the socket's name is gone or another's: nobody can call any more, and nobody could start."""
        try:
            return os.stat(socket_path(self._dir)).st_ino == self._inode
        except OSError:
            return False

    def _leave_socket(self) -> None:
        if self._can_be_found():
            os.unlink(socket_path(self._dir))

    async def _stop_when_idle(self, control: WorkspaceControl) -> None:
        while True:
            limit_s = settings.steady("server_idle_s")
            if not self._can_be_found():
                log.error("the socket of %s is gone: this server ends, so that another can be found", self._dir)
                self._stop.set()
                return
            if self._under_way or not control.idle():
                self._lively = time.monotonic()
            left = self._lively + limit_s - time.monotonic()
            if left <= 0:
                log.info("nothing to do for %g s", limit_s)
                self._ending = True  # in the same step: no call can come in between
                self._stop.set()
                return
            await asyncio.sleep(min(max(left, 0.05), 5.0))

    def _describe(self) -> Mapping[str, Any]:
        return {
            "pid": os.getpid(),
            "version": windlassd.__version__,
            "protocol": PROTOCOL,
            "workspace": os.path.basename(self._dir),
            "workspace_dir": self._dir,
            "home": settings.home(),
            "web": self._web,
            "socket": socket_path(self._dir),
            "started": self._started,
            "agents_at": self._door.described(),
            "agents_trouble": self._door.trouble,
        }

    def _write_address(self) -> None:
        path = os.path.join(server_dir(self._dir), "server.json")
        try:
            with open(path + ".tmp", "w", encoding="utf-8") as f:
                json.dump(dict(self._describe()), f)
            os.replace(path + ".tmp", path)
        except OSError as problem:  # such as a full disk: what is there can still be read and deleted
            log.error("the server's address could not be written to %s: %s", path, problem)


async def _take(fd: int, workspace_dir: str) -> None:
    """Hold a lock of the workspace for the life of this process; that of an ending server is waited for.

    A server that ends has left its socket: one that can be called is not ending, and nothing is waited for.
    """
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if is_running(workspace_dir) or time.monotonic() > deadline:
                raise AnotherServer(_taken(workspace_dir)) from None
            await asyncio.sleep(0.02)


def _refuse_replaced(folder: int, workspace_dir: str) -> None:
    """Not to serve a folder that was put aside, or restored anew, while its lock was waited for."""
    try:
        same = os.path.samestat(os.fstat(folder), os.stat(workspace_dir))
    except FileNotFoundError:
        same = False
    if not same:
        raise AnotherServer(f"The workspace {workspace_dir} was moved away or replaced while its server started.")


def _taken(workspace_dir: str) -> str:
    if doctor := examined_by(workspace_dir):
        return f"The doctor (pid {doctor}) examines the workspace {workspace_dir}. Try again when it has ended."
    return f"Another server{_holder(workspace_dir)} has the workspace {workspace_dir}. See `windlass server status`."


def _holder(workspace_dir: str) -> str:
    """Which process that is, as far as it has told."""
    try:
        with open(os.path.join(server_dir(workspace_dir), "server.json"), encoding="utf-8") as f:
            pid = int(json.load(f)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" (pid {pid})" if os.path.isdir(f"/proc/{pid}") else ""


async def _started(listener: uvicorn.Server) -> None:
    while not listener.started:
        await asyncio.sleep(0.001)


def _unix(workspace_dir: str) -> socket.socket:
    path = socket_path(workspace_dir)
    if os.path.exists(path):  # we hold the lock, so nobody listens there
        os.unlink(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)
    sock.listen(512)
    return sock


def _loopback(workspace_dir: str) -> socket.socket:
    """A listener on 127.0.0.1, on the port it had last time where that is free: Web View addresses stay good."""
    path = os.path.join(server_dir(workspace_dir), "port")
    try:
        with open(path, encoding="utf-8") as f:
            wanted = int(f.read())
    except (OSError, ValueError):
        wanted = 0
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(("127.0.0.1", wanted))
    except (OSError, OverflowError):
        sock.bind(("127.0.0.1", 0))
    sock.listen(128)
    try:
        with open(path, "w", encoding="utf-8") as f:
            f.write(str(sock.getsockname()[1]))
    except OSError as problem:
        log.error("the port could not be written to %s: %s", path, problem)
    return sock
