"""A package index on 127.0.0.1 that can be told to fail: logins, error answers, hangs, cut or exchanged files."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import html
import re
import ssl
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from windlassd.testing.packages import source, wheel, wheel_name


@dataclass
class _Trouble:
    """What happens to requests whose path matches ``pattern``."""

    pattern: str
    status: int | None
    cut_after: int | None
    hang: bool
    times: int | None
    """So many requests are left that it happens to; None: all."""


class PackageIndex:
    """Serves PEP 503 pages and files; a context manager that ends with all its threads.

    Args:
        certificate: (certificate file, key file): serve https.
    """

    def __init__(self, certificate: tuple[str, str] | None = None) -> None:
        self.files: dict[str, bytes] = {}
        """File name → content."""
        self.hashes: dict[str, str] = {}
        """File name → the SHA-256 that the index tells; by default the content's."""
        self.asked: list[tuple[str, int]] = []
        """(path, status) of each request; 0 for one that was left hanging."""
        self.login: tuple[str, str] | None = None
        """User and password without which every request gets 401."""
        self._troubles: list[_Trouble] = []
        self._certificate = certificate
        self._changed = threading.Condition()
        self._let_go = threading.Event()
        self._port = 0
        self._server: _Server | None = None

    def __enter__(self) -> PackageIndex:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def host(self) -> str:
        """``127.0.0.1:<port>``."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """The address of the simple API, without a login."""
        return f"{'https' if self._certificate else 'http'}://{self.host}/simple"

    def url_with(self, user: str, password: str) -> str:
        """That address with a login in it."""
        return self.url.replace("://", f"://{user}:{password}@")

    def start(self) -> None:
        """Listen, from the second time on at the same port."""
        self._let_go.clear()
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.index = self
        self._port = self._server.server_address[1]
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._certificate)
            self._server.tls = context
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="package-index", daemon=True).start()

    def stop(self) -> None:
        """Let what hangs go, and refuse connections from now on."""
        self._let_go.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def add(self, name: str, version: str = "1.0", *, requires: Sequence[str] = (), **more: object) -> str:
        """Offer a wheel (see ``packages.wheel``); returns its file name."""
        tag = str(more.get("tag", "py3-none-any"))
        file_name = wheel_name(name, version, tag)
        self.files[file_name] = wheel(name, version, requires=requires, **more)  # type: ignore[arg-type]
        return file_name

    def add_source(self, name: str, version: str = "1.0", *, before: str = "pass") -> str:
        """Offer a source package (see ``packages.source``); returns its file name."""
        self.files[f"{name}-{version}.tar.gz"] = source(name, version, before=before)
        return f"{name}-{version}.tar.gz"

    def answer(self, pattern: str, status: int, times: int | None = None) -> None:
        """Answer ``status`` for paths that match, such as ``/simple/tiny/`` or ``/files/*``."""
        self._troubles.append(_Trouble(pattern, status, None, False, times))

    def cut(self, pattern: str, after: int, times: int | None = None) -> None:
        """Close the connection after so many bytes of the content."""
        self._troubles.append(_Trouble(pattern, None, after, False, times))

    def hang(self, pattern: str) -> None:
        """Take requests and say nothing."""
        self._troubles.append(_Trouble(pattern, None, None, True, None))

    def mend(self) -> None:
        """Serve everything again."""
        self._troubles.clear()
        self._let_go.set()
        self._let_go = threading.Event()

    def wait_asked(self, pattern: str, seconds: float = 30.0) -> None:
        """Return when a matching path has been asked for."""
        with self._changed:
            if not self._changed.wait_for(lambda: any(fnmatch.fnmatch(p, pattern) for p, _ in self.asked), seconds):
                raise AssertionError(f"nobody asked for {pattern}; only for {self.asked}")

    def count(self, pattern: str) -> int:
        """How often matching paths have been asked for."""
        return sum(fnmatch.fnmatch(path, pattern) for path, _ in self.asked)

    def _note(self, path: str, status: int) -> None:
        with self._changed:
            self.asked.append((path, status))
            self._changed.notify_all()

    def _trouble(self, path: str) -> _Trouble | None:
        with self._changed:
            for trouble in self._troubles:
                if fnmatch.fnmatch(path, trouble.pattern) and trouble.times != 0:
                    if trouble.times is not None:
                        trouble.times -= 1
                    return trouble
        return None

    def _content(self, path: str) -> tuple[str, bytes] | None:
        """(kind, content) of what lies at ``path``; None when nothing does."""
        if page := re.fullmatch(r"/simple/([a-z0-9-]+)/", path):
            names = [name for name in self.files if _project(name) == page.group(1)]
            lines = [f'<a href="/files/{name}#sha256={self._hash(name)}">{html.escape(name)}</a>' for name in names]
            return ("text/html", "\n".join(["<!DOCTYPE html>", *lines]).encode()) if names else None
        name = path.removeprefix("/files/")
        return ("application/octet-stream", self.files[name]) if name in self.files else None

    def _hash(self, name: str) -> str:
        return self.hashes.get(name) or hashlib.sha256(self.files[name]).hexdigest()


def _project(file_name: str) -> str:
    """``made-up`` for ``made_up-1.0-py3-none-any.whl``."""
    name = re.split(r"-\d", file_name)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    index: PackageIndex
    tls: ssl.SSLContext | None = None

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away in the middle is what tests want."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        if self.server.tls:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True, do_handshake_on_connect=False)
        super().setup()

    def handle(self) -> None:
        try:
            if isinstance(self.request, ssl.SSLSocket):
                self.request.do_handshake()  # here, in the connection's own thread
            super().handle()
        finally:
            self.request.close()

    def do_GET(self) -> None:
        self._serve(body=True)

    def do_HEAD(self) -> None:
        self._serve(body=False)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self, body: bool) -> None:
        index, path = self.server.index, self.path
        if index.login and self.headers.get("Authorization") != _basic(*index.login):
            return self._say(401)
        trouble, let_go = index._trouble(path), index._let_go
        if trouble and trouble.hang:
            index._note(path, 0)
            let_go.wait()
            self.close_connection = True
            return
        if trouble and trouble.status:
            return self._say(trouble.status)
        found = index._content(path)
        if found is None:
            return self._say(404)
        index._note(path, 200)
        kind, content = found
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content[: trouble.cut_after] if trouble else content)
            self.close_connection = bool(trouble)

    def _say(self, status: int) -> None:
        self.server.index._note(self.path, status)
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Length", "0")
        self.end_headers()


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
