"""Calls on a container engine that may take long: they end when the work is given up, and fail in our words."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from windlass.errors import AzureMLException
from windlassd.envs.base import EnvironmentFailed, Work
from windlassd.envs.container_engine import Connection, EngineUnavailable, open_stream

FULL = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)
FREE_SPACE = "Free some space (`docker system df` shows what takes it) and submit again."
_POLL_S = 0.05
_LOOK_S = 3.0
_STDOUT = 1


class EngineRefused(EnvironmentFailed):
    """The engine answered with an error.

    Attributes:
        status: HTTP's number; 0 for one in the middle of an answer.
        said: What the engine says.
    """

    def __init__(self, said: str, status: int = 0) -> None:
        full = FULL.search(said) is not None
        what = "The disk of the container engine is full. It" if full else "The container engine"
        super().__init__(f"{what} says: {said}", FREE_SPACE if full else None, transient=full)
        self.said = said
        self.status = status


@dataclass(frozen=True)
class Done:
    """How a program in a container ended, and what it wrote."""

    code: int
    out: str
    err: str


class Api:
    """The API of the engine at that address, for one piece of work."""

    def __init__(self, engine: str, work: Work) -> None:
        self.engine = engine
        self.work = work

    def find(self, path: str) -> Any:
        """What a GET answers; None when there is no such thing."""
        try:
            return self.call("GET", path)
        except EngineRefused as e:
            if e.status == 404:
                return None
            raise

    def call(self, method: str, path: str, body: Mapping[str, object] | None = None, **query: object) -> Any:
        """The answer as JSON, or None when it is empty.

        Raises:
            EngineRefused, EngineUnavailable, EnvironmentStopped, EnvironmentFailed: it was refused, the engine is gone,
                or the work was given up.
        """
        content = None if body is None else json.dumps(body).encode()
        with self._answer(method, path, query, content, {"Content-Type": "application/json"}) as answer:
            text = answer.read()
            return json.loads(text) if text.strip() else None

    def messages(
        self,
        path: str,
        content: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        **query: object,
    ) -> Iterator[Mapping[str, Any]]:
        """The JSON messages that the engine sends while it does what a POST asks for; raises as ``call``."""
        with self._answer("POST", path, query, content, headers or {}) as answer:
            while line := answer.readline():
                if line.strip():
                    message = json.loads(line)
                    if message.get("error"):
                        raise EngineRefused(str(message["error"]))
                    yield message

    def run(self, container: str, argv: list[str], *, user: str, env: Mapping[str, str], on_line: Any = None) -> Done:
        """Run a program in a container that runs, and return how it ended; raises as ``call``.

        Args:
            container: Its id.
            argv: The program and its arguments.
            user: ``uid:gid`` of the process.
            env: Variables beside the container's own; they stay out of its configuration.
            on_line: Takes each line of standard error as it comes.
        """
        asked = {
            "AttachStdout": True, "AttachStderr": True, "Cmd": argv, "User": user, "WorkingDir": "/",
            "Env": [f"{name}={value}" for name, value in env.items()],
        }  # fmt: skip
        handle = self.call("POST", f"/containers/{container}/exec", asked)["Id"]
        look = self._now_and_then(container)
        try:
            with contextlib.closing(open_stream(self.engine, f"/exec/{handle}/start", {"Detach": False})) as line:
                out, err = self._frames(line, on_line, look)
        except OSError as e:
            raise self._gone(e) from e
        ended = self.call("GET", f"/exec/{handle}/json")
        while ended["Running"]:
            self.work.give_up()
            look()
            self.work.stop.wait(_POLL_S)
            ended = self.call("GET", f"/exec/{handle}/json")
        return Done(int(ended["ExitCode"]), out, err)

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        content: bytes | Iterable[bytes] | None,
        headers: Mapping[str, str],
    ) -> Iterator[http.client.HTTPResponse]:
        self.work.give_up()
        line = Connection(self.engine, None)
        address = f"{path}?{urlencode(query, doseq=True)}" if query else path
        try:
            with contextlib.closing(line), self._cut_when_given_up(line):
                line.request(
                    method, address, content, dict(headers), encode_chunked=not isinstance(content, bytes | None)
                )
                answer = line.getresponse()
                if answer.status >= 400:
                    raise EngineRefused(_message(answer.read()), answer.status)
                yield answer
        except (OSError, http.client.HTTPException, ValueError) as e:
            self.work.give_up()
            raise self._gone(e) from e

    @contextlib.contextmanager
    def _cut_when_given_up(self, line: Connection) -> Iterator[None]:
        """While the block reads from ``line``, the line is cut as soon as the work is given up."""
        line.connect()
        cut, over = line.sock, threading.Event()

        def watch() -> None:
            while not over.wait(_POLL_S):
                try:
                    self.work.give_up()
                except AzureMLException:  # the reader says it, once its line is cut
                    with contextlib.suppress(OSError):
                        cut.shutdown(socket.SHUT_RDWR)
                    return

        watcher = threading.Thread(target=watch, name="windlass-engine", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()

    def _now_and_then(self, container: str) -> Callable[[], None]:
        """What to call often: it asks at times whether the container lives, and raises EngineRefused when it is dead.

        A program's stream stays open for ever when the engine loses the container under it.
        """
        asked = time.monotonic()

        def look() -> None:
            nonlocal asked
            if time.monotonic() - asked < _LOOK_S:
                return
            asked = time.monotonic()
            state = (self.find(f"/containers/{container}/json") or {}).get("State") or {}
            if not state.get("Running"):
                raise EngineRefused("the container has ended, or was lost, while a program ran in it")

        return look

    def _frames(self, line: socket.socket, on_line: Any, look: Callable[[], None]) -> tuple[str, str]:
        """Standard output and error out of the frames of ``line``, read until its end; ``look`` is called in pauses."""
        data, taken, told = b"", {True: b"", False: b""}, 0
        with selectors.DefaultSelector() as selector:
            selector.register(line, selectors.EVENT_READ)
            while True:
                self.work.give_up()
                if not selector.select(_POLL_S):
                    look()
                    continue
                part = line.recv(65536)
                if not part:
                    break
                data += part
                while len(data) >= 8 and len(data) >= 8 + (size := struct.unpack(">I", data[4:8])[0]):
                    taken[data[0] == _STDOUT] += data[8 : 8 + size]
                    data = data[8 + size :]
                end = taken[False].rfind(b"\n") + 1
                for text in taken[False][told:end].splitlines() if on_line else ():
                    on_line(text.decode(errors="replace"))
                told = max(told, end)
        return taken[True].decode(errors="replace"), taken[False].decode(errors="replace")

    def _gone(self, cause: Exception) -> EngineUnavailable:
        return EngineUnavailable(
            f"The container engine at {self.engine} went away: {cause}.",
            "See that it runs (`docker info`, `podman info`), then submit again.",
        )


def _message(body: bytes) -> str:
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
        return str(said.get("message") or said.get("cause") or text)
    except (ValueError, AttributeError):
        return text
