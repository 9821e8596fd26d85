"""A server that speaks TLS as the listener for agents does, and answers as a test says."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from windlass.specs.launch import Ticket
from windlassd.server.agents import certificate

Answer = tuple[int, Mapping[str, str], Iterable[bytes]]


@dataclass
class Asked:
    """One call."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Listener:
    """Answers by ``answers``; what was asked stands in ``asked``."""

    folder: Path
    port: int = 0
    answers: Callable[[Asked], Answer] = lambda asked: said({})
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.certificate = certificate.load(str(self.folder))
        self._connections: list[socket.socket] = []

    def start(self) -> Listener:
        """Listen, on the port of before when there was one."""
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                outer._connections.append(self.request)
                super().setup()

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length", 0))
                call = Asked(self.command, self.path, dict(self.headers), self.rfile.read(length))
                outer.asked.append(call)
                status, headers, chunks = outer.answers(call)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Connection", "close")
                    self.close_connection = True
                self.end_headers()
                for chunk in chunks:
                    self.wfile.write(chunk)
                    self.wfile.flush()

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """Clients that hang up are what these tests are about."""

            def shutdown_request(self, request: Any) -> None:
                if request in outer._connections:
                    outer._connections.remove(request)
                super().shutdown_request(request)

        self._server = Server(("127.0.0.1", self.port), Handler)
        self._server.socket = self.certificate.context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Hang up on everybody, as a killed server does."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def ticket(self, **changed: Any) -> Ticket:
        """One for ``run_1.1.0``."""
        values = {
            "agent": "run_1.1.0", "workspace": "ws", "workspace_id": "w1", "token": "secret",
            "servers": (f"https://127.0.0.1:{self.port}",), "certificate": self.certificate.pinned, **changed,
        }  # fmt: skip
        return Ticket(**values)


def said(data: Any, status: int = 200) -> Answer:
    """An answer of JSON."""
    body = json.dumps(data).encode()
    return status, {"Content-Type": "application/json", "Content-Length": str(len(body))}, [body]


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def stream(chunks: Iterator[bytes]) -> Answer:
    """An answer without a length, which ends when the connection does."""
    return 200, {}, chunks
