"""The HTTP client of a workspace: a kept-alive connection per thread; starts the server where none runs.

Which server that is, and what to do where it cannot be reached, a ``Way`` knows: the local one by its socket here, an
agent on another machine has its own.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
import threading
import time
import urllib.parse
from typing import Any, BinaryIO, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Type, Union

from windlass import settings
from windlass._transport import autostart
from windlass.errors import AzureMLException, ServiceUnavailable, UserErrorException, from_code

TIMEOUT_S = 120.0
PATIENCE_S = 20.0
"""How long a call is sent again while servers come and go. A job's call waits as long as it takes."""
STOPPING = "X-Windlass-Stopping"
"""Header of an ending server's answer: ask the next one."""
_ANOTHER_OUTAGE_S = 300.0
_NO_DEADLINE = float("inf")
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)
_BROKEN = (http.client.HTTPException, ConnectionError, BlockingIOError, socket.timeout)
Body = Union[bytes, BinaryIO, None]
"""A file, or what reads, tells and seeks as one and knows its length."""


class Event(NamedTuple):
    """One server-sent event: its name and its decoded JSON."""

    name: str
    data: Any


class Connection(http.client.HTTPConnection):
    """A connection whose socket goes with it, even while an answer over it is still being read."""

    def __del__(self) -> None:
        sock = getattr(self, "sock", None)
        if sock is not None:
            sock.close()  # the socket only: an answer that is still being read keeps it open until its own end


class _ToSocket(Connection):
    """HTTP over the workspace's Unix socket. A socket never goes through a proxy."""

    def __init__(self, workspace: str, timeout_s: float) -> None:
        super().__init__("windlass", timeout=timeout_s)
        self._workspace = workspace

    def connect(self) -> None:
        self.sock = autostart.connect(self._workspace)
        self.sock.settimeout(self.timeout)


class Way:
    """How a client reaches its server; this one by the Unix socket of a workspace of this machine.

    Args:
        workspace_dir: Absolute path of the workspace's folder.
    """

    absent: "Tuple[Type[BaseException], ...]" = (FileNotFoundError, ConnectionRefusedError)
    """What shows that no server is there; everything else is a server's silence or death."""
    advice = " See its log, server/server.log."
    """What to do about a server that breaks off again and again, as the end of a message."""

    def __init__(self, workspace_dir: str) -> None:
        self._workspace_dir = workspace_dir

    @property
    def server(self) -> str:
        """The server's name in messages."""
        return "server of %s" % self._workspace_dir

    def connection(self, timeout_s: float) -> Connection:
        """A new connection, opened by the first call over it."""
        return _ToSocket(self._workspace_dir, timeout_s)

    def ensure(self) -> None:
        """Start the server where none runs, or wait for who does; one that cannot be started from here may stay away.

        Raises:
            ServiceUnavailable: none is there, and none could be started.
        """
        autostart.ensure_server(self._workspace_dir)

    def why_silent(self) -> str:
        """What to do about a server that takes connections and does not answer, as the end of a message."""
        return autostart.why_silent(self._workspace_dir)


class Client:
    """Calls on one workspace's server. Safe to share between threads and over fork.

    Every call is safe to repeat (the server knows a repeated submit by its ``request_id``), so a call whose connection
    broke is sent again for a while, after starting the server where none runs. In a job it is sent until it is
    answered: hours of training must not end because the server was away.

    Args:
        workspace_dir: Absolute path of the workspace's folder.
        start: Whether to start the server when none runs; without it such calls raise ServiceUnavailable.
        way: How it is reached; default: by the workspace's socket.
    """

    def __init__(self, workspace_dir: str, start: bool = True, way: "Optional[Way]" = None) -> None:
        self.workspace_dir = workspace_dir
        self.way = way or Way(workspace_dir)
        self._start = start
        self._local = threading.local()
        self._waits_since: "Optional[float]" = None

    def get(self, path: str, **query: Any) -> Any:
        """The decoded JSON at ``path``; query values of None are left out."""
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """The decoded JSON that answers ``body`` sent as JSON."""
        return self.call("POST", path, query=query, body=_encode(body))

    def put(self, path: str, body: Any = None) -> Any:
        """As ``post``, with PUT."""
        return self.call("PUT", path, body=_encode(body))

    def patch(self, path: str, body: Any) -> Any:
        """As ``post``, with PATCH."""
        return self.call("PATCH", path, body=_encode(body))

    def delete(self, path: str) -> Any:
        """The decoded JSON that answers a DELETE."""
        return self.call("DELETE", path)

    def call(
        self, method: str, path: str, *, query: "Optional[Mapping[str, Any]]" = None, body: Body = None,
        content_type: str = "application/json", timeout_s: float = TIMEOUT_S,
    ) -> Any:  # fmt: skip
        """The decoded JSON answer (None when empty).

        Raises:
            AzureMLException: the server refused; the class is that of the error's code.
            ServiceUnavailable: it could not be reached, or failed.
        """
        deadline = time.monotonic() + self._patience_s()
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        while True:
            answer = self.open(method, path, query=query, body=body, content_type=content_type, timeout_s=timeout_s)
            try:
                data = answer.read()
                break
            except _BROKEN as e:  # the server was killed while it answered: ask the next one
                silent = isinstance(e, socket.timeout) and deadline != _NO_DEADLINE
                if silent or time.monotonic() > deadline or not self._start:
                    raise ServiceUnavailable("The answer to %s %s broke off: %r" % (method, path, e)) from e
            if body is not None and not isinstance(body, bytes):
                body.seek(start)
        try:
            return json.loads(data.decode()) if data else None
        except ValueError as e:
            raise ServiceUnavailable("The server answered %s %s with something else than JSON." % (method, path)) from e

    def open(
        self, method: str, path: str, *, query: "Optional[Mapping[str, Any]]" = None, body: Body = None,
        content_type: str = "application/octet-stream", headers: "Optional[Mapping[str, str]]" = None,
        timeout_s: float = TIMEOUT_S, own_connection: bool = False, patience_s: "Optional[float]" = None,
    ) -> http.client.HTTPResponse:  # fmt: skip
        """The answer as a readable stream, its status already checked. Read it to the end, or close it.

        ``own_connection`` gives it a connection to itself, for streams that stay open beside other calls.
        ``patience_s`` is how long it is sent again; the default is the client's.
        """
        target = path + _query(query)
        sent: Dict[str, str] = dict(headers or {})
        if own_connection:
            sent["Connection"] = "close"  # then the socket goes with the answer
        if body is not None:
            sent["Content-Type"] = content_type
            if not isinstance(body, bytes):
                sent["Content-Length"] = str(_length(body))
        start = body.tell() if body is not None and not isinstance(body, bytes) else 0
        deadline = time.monotonic() + (self._patience_s() if patience_s is None else patience_s)
        tries = 0
        while True:
            connection = self._connection(timeout_s, own_connection)
            try:
                connection.request(method, target, body=body, headers=sent)
                answer = connection.getresponse()
                if answer.getheader(STOPPING):
                    raise ConnectionRefusedError("the server is ending")
                return _checked(answer, "%s %s" % (method, path))
            except (OSError, http.client.HTTPException) as e:
                connection.close()
                self._get_over(e, "%s %s" % (method, path), tries, deadline)
            tries += 1
            if body is not None and not isinstance(body, bytes):
                body.seek(start)

    def _get_over(self, problem: Exception, what: str, tries: int, deadline: float) -> None:
        """Return when a call that met ``problem`` may be sent again; raise ServiceUnavailable when it may not.

        A server that is being killed and started again shows as broken, refused and absent connections in any order.
        """
        absent = isinstance(problem, self.way.absent)
        if absent and not self._start:
            raise ServiceUnavailable("No server runs for the workspace %s." % self.workspace_dir) from problem
        if isinstance(problem, socket.timeout) and deadline == _NO_DEADLINE:
            return
        if isinstance(problem, socket.timeout) or not isinstance(problem, _BROKEN + self.way.absent):
            raise ServiceUnavailable(
                "The %s does not answer %s: %s.%s"
                % (self.way.server, what, problem or "time-out", self.way.why_silent()),
                transient=isinstance(problem, socket.timeout),
            ) from problem
        if time.monotonic() > deadline:
            raise ServiceUnavailable(
                "The %s breaks off again and again at %s: %r.%s" % (self.way.server, what, problem, self.way.advice)
            ) from problem
        time.sleep(_PAUSES_S[min(tries, len(_PAUSES_S) - 1)])
        if absent:
            try:
                self.way.ensure()
            except ServiceUnavailable as e:
                if self._in_job() and time.monotonic() < deadline:
                    self._tell_once(what, e)
                elif not e.transient or time.monotonic() > deadline:
                    raise

    def _in_job(self) -> bool:
        job = settings.job_context()
        return job is not None and os.path.abspath(job.workspace_dir) == os.path.abspath(self.workspace_dir)

    def _patience_s(self) -> float:
        return _NO_DEADLINE if self._in_job() else PATIENCE_S

    def _tell_once(self, what: str, problem: ServiceUnavailable) -> None:
        """In a job: say in its log that it waits for the server, once for each outage."""
        if self._waits_since is None or time.monotonic() - self._waits_since > _ANOTHER_OUTAGE_S:
            sys.stderr.write("windlass: %s waits for the server. %s\n" % (what, problem.message))
        self._waits_since = time.monotonic()

    def events(self, path: str, **query: Any) -> "Iterator[Event]":
        """Server-sent events until the server ends the stream.

        Raises:
            ServiceUnavailable: the stream broke off; call again with the offsets reached.
        """
        answer = self.open("GET", path, query=query, own_connection=True)
        try:
            yield from _events(answer)
        except _BROKEN as e:
            raise ServiceUnavailable("The stream of %s broke off: %r" % (path, e)) from e
        finally:
            answer.close()

    def close(self) -> None:
        """Close this thread's connection; the next call opens another."""
        kept = getattr(self._local, "kept", None)
        if kept is not None and kept[0] == os.getpid():
            kept[1].close()

    def _connection(self, timeout_s: float, own: bool) -> Connection:
        if own:
            return self.way.connection(timeout_s)
        kept = getattr(self._local, "kept", None)
        if kept is None or kept[0] != os.getpid():  # after fork the parent's socket is not ours to speak on
            kept = self._local.kept = (os.getpid(), self.way.connection(timeout_s))
        connection: Connection = kept[1]
        connection.timeout = timeout_s
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        return connection


def answers(workspace_dir: str, timeout_s: float) -> bool:
    """True when the workspace's server answers in time; one that only takes connections does not."""
    try:
        with Client(workspace_dir, start=False).open(
            "GET", "/v1/server", timeout_s=timeout_s, own_connection=True
        ) as answer:
            answer.read()
    except (AzureMLException, OSError):
        return False
    return True


def _events(answer: http.client.HTTPResponse) -> "Iterator[Event]":
    name = "message"
    data: "List[str]" = []
    while True:
        raw = answer.readline()
        if not raw:
            return
        line = raw.decode().rstrip("\r\n")
        if not line and data:
            yield Event(name, json.loads("\n".join(data)))
            name, data = "message", []
        elif line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data.append(line[5:].lstrip())


def _encode(body: Any) -> "Optional[bytes]":
    return None if body is None else json.dumps(body).encode()


def _length(body: BinaryIO) -> int:
    """Bytes of a body; one that is no file has a length of its own."""
    return len(body) if hasattr(body, "__len__") else os.fstat(body.fileno()).st_size - body.tell()


def _query(query: "Optional[Mapping[str, Any]]") -> str:
    given = {key: value for key, value in (query or {}).items() if value is not None}
    return "?" + urllib.parse.urlencode(given, doseq=True) if given else ""


def quote(name: str) -> str:
    """``name`` as one or more path segments of an address."""
    return urllib.parse.quote(name, safe="/", errors="replace")


def _checked(answer: http.client.HTTPResponse, call: str) -> http.client.HTTPResponse:
    if answer.status < 400:
        return answer
    data = answer.read()
    try:
        error = json.loads(data.decode())["error"]
        problem: AzureMLException = from_code(error["code"], error["message"])
        if error["message"] in (call + ": Not Found", call + ": Method Not Allowed"):
            problem = UserErrorException(
                "The server that runs is of another version of Windlass and does not know %s. Run `windlass init` here "
                "and, once no run goes on, `windlass server stop`: the next command starts one of this version." % call
            )
    except (ValueError, KeyError, TypeError):
        said = data[:500].decode("utf-8", "replace")
        problem = ServiceUnavailable("The server answered %d: %s" % (answer.status, said))
    raise problem
