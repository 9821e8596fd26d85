"""The container engine of this machine: where its API listens, Docker's or Podman's, and talking to it."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from windlass import settings
from windlassd.envs._flock import held
from windlassd.envs.base import EnvironmentFailed

_QUICK_S = 5.0
_ASKED_S = 2.0
"""Longest wait of a run for whether its image is there; one that is not answered is prepared, which waits longer."""
_SILENT_S = 15.0
"""For so long an engine that did not answer such a question is not asked another one."""
_PODMAN_START_S = 20.0
_PODMAN_IDLE_S = "600"
_LONGEST_SOCKET_PATH = 100
_SYSTEM_SOCKETS = {"docker": "/var/run/docker.sock", "podman": "/run/podman/podman.sock"}
_LOOPBACK = ("localhost", "127.0.0.1")  # as those who run jobs have it
_START = (
    "Start Docker (`sudo systemctl start docker`) or Podman (`systemctl --user start podman.socket`), or set "
    "container_engine (WINDLASS_CONTAINER_ENGINE) to the address of an engine."
)
_GROUP = (
    "To be let in, become a member of the group that owns it (`sudo usermod -aG docker $USER`, then log in anew and "
    "restart the server: `windlass server stop`), or use Podman, which needs no rights."
)


class EngineUnavailable(EnvironmentFailed):
    """No container engine can be used. The message says what was tried, and how to get one."""

    error_code = "container_engine_unavailable"

    def __init__(self, exception_message: str = "", next_step: str | None = None) -> None:
        super().__init__(exception_message, next_step, transient=True)


def address(*, start: bool = True) -> str:
    """Address of the API of the engine to use, which answers; Podman's service is started if need be.

    Args:
        start: False where nothing may be started. Jobs are children of Podman's service and have the priority of the
            thread that started it.

    Raises:
        EngineUnavailable: there is none.
    """
    tried: list[str] = []
    denied = False
    for place in _places():
        trouble = _trouble(place)
        if trouble is None:
            return place
        tried.append(f"{place} ({trouble})")
        denied = denied or trouble == _DENIED
    if settings.get("container_engine") in (None, "podman") and not _named():
        program = shutil.which("podman", path=settings.child_environment().get("PATH")) if start else None
        if program:
            return _podman_service(program)
        tried.append("the program podman (not on PATH)" if start else "Podman's own service (not started for this)")
    raise EngineUnavailable(
        f"No container engine can be reached. Tried: {'; '.join(tried)}.", _GROUP if denied else _START
    )


def wake(engine: str) -> bool:
    """True when ``engine`` is Podman's service of this home, which ends when unused, and answers again.

    Raises:
        EngineUnavailable: it does not start.
    """
    program = shutil.which("podman", path=settings.child_environment().get("PATH"))
    return bool(program) and engine == f"unix://{_own_socket()}" and bool(_podman_service(str(program)))


def has_image(engine: str, image: str) -> bool:
    """Whether the engine is the one in use and has the image. Costs a millisecond or two."""
    try:
        return engine in _places(engine) and _soon(engine, f"/images/{quote(image)}/json") is not None
    except (OSError, EngineUnavailable):
        return False


def images_of(engine: str) -> Collection[str] | None:
    """Ids of the images that the engine has; None when it does not answer soon, or is not the one in use."""
    try:
        found = _soon(engine, "/images/json?all=1") if engine in _places(engine) else None
    except (OSError, EngineUnavailable):
        return None
    return None if found is None else {f"sha256:{str(image['Id']).removeprefix('sha256:')}" for image in found}


def get(engine: str, path: str, timeout_s: float = _QUICK_S) -> Any:
    """What the engine answers to a question, as JSON; None when it knows no such thing.

    Raises:
        OSError: it does not answer, or with an error.
    """
    with contextlib.closing(Connection(engine, timeout_s)) as line:
        try:
            line.request("GET", path)
            answer = line.getresponse()
            body = answer.read()
        except http.client.HTTPException as e:
            raise ConnectionError(f"{engine} does not speak HTTP: {e!r}") from e
    if answer.status == 404:
        return None
    if answer.status >= 400:
        raise OSError(f"{engine} answers {answer.status}: {body[:500].decode(errors='replace')}")
    return json.loads(body)


def open_stream(engine: str, path: str, body: Mapping[str, object]) -> socket.socket:
    """A connection that the engine has turned into a stream of frames in answer to a POST; the caller closes it.

    Raises:
        OSError: it did not.
    """
    content = json.dumps(body).encode()
    line = _connected(engine, _QUICK_S)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nConnection: Upgrade\r\n"
        f"Upgrade: tcp\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    try:
        line.sendall(head.encode() + content)
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):  # byte by byte: what follows is the stream's
            part = line.recv(1)
            if not part:
                raise ConnectionError(f"{engine} closed the connection")
            answer += part
        status = answer.split(b" ", 2)[1]
        if status not in (b"101", b"200"):
            raise OSError(f"{engine} answers {status.decode()} to {path}: {line.recv(4096).decode(errors='replace')}")
    except BaseException:
        line.close()
        raise
    line.settimeout(None)
    return line


class Connection(http.client.HTTPConnection):
    """HTTP over the engine's socket.

    Args:
        engine: Its address.
        timeout_s: Longest silence while it answers; None: any.
    """

    def __init__(self, engine: str, timeout_s: float | None) -> None:
        super().__init__("engine")
        self._engine = engine
        self._timeout_s = timeout_s

    def connect(self) -> None:
        """Reach the engine; raises OSError when it is not there."""
        self.sock = _connected(self._engine, min(_QUICK_S, self._timeout_s or _QUICK_S))
        self.sock.settimeout(self._timeout_s)


_DENIED = "permission denied"
_silent_until: dict[str, float] = {}


def _soon(engine: str, path: str) -> Any:
    """As ``get``, for those who must not wait: one that hangs holds up whoever asks first, and not each run anew."""
    if time.monotonic() < _silent_until.get(engine, 0.0):
        raise TimeoutError(f"{engine} did not answer a moment ago")
    try:
        return get(engine, path, _ASKED_S)
    except TimeoutError:
        _silent_until[engine] = time.monotonic() + _SILENT_S
        raise


def _places(known: str | None = None) -> Sequence[str]:
    """Addresses to try in order: the one that is set, or the usual ones that exist; ``known`` is one from before."""
    named = _named()
    if named:
        return [_checked(named)]
    asked = settings.get("container_engine")
    places = [f"unix://{path}" for path in _sockets(asked) if os.path.exists(path)]
    if asked != "docker" and (own := f"unix://{_own_socket()}") == known:
        places.append(own)
    return places or [f"unix://{path}" for path in list(_sockets(asked))[:1]]


def _named() -> str | None:
    """The address that the setting or the engines' own variables name."""
    asked = settings.get("container_engine")
    if asked not in (None, "docker", "podman"):
        return str(asked)
    env = settings.child_environment()
    names = {None: ("DOCKER_HOST", "CONTAINER_HOST"), "docker": ("DOCKER_HOST",), "podman": ("CONTAINER_HOST",)}[asked]
    return next((env[name] for name in names if env.get(name)), None)


def _checked(place: str) -> str:
    parts = urlsplit(place)
    if parts.scheme == "unix" and os.path.isabs(parts.path):
        return place
    if parts.scheme in ("tcp", "http") and parts.hostname in _LOOPBACK and parts.port:
        return place
    raise EngineUnavailable(
        f"The container engine {place!r} cannot be used: folders of this machine are mounted into its containers, so "
        "it has to run here.",
        "Set container_engine (WINDLASS_CONTAINER_ENGINE), or DOCKER_HOST, to docker, podman, unix:///path/to/socket "
        "or tcp://127.0.0.1:port.",
    )


def _sockets(asked: str | None) -> Iterator[str]:
    env = settings.child_environment()
    runtime = env.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    user = env.get("HOME") or os.path.expanduser("~")
    if asked != "podman":
        yield from (_SYSTEM_SOCKETS["docker"], os.path.join(runtime, "docker.sock"))
        yield from (
            os.path.join(user, ".docker", "run", "docker.sock"),
            os.path.join(user, ".docker/desktop/docker.sock"),
        )
    if asked != "docker":
        yield from (os.path.join(runtime, "podman", "podman.sock"), _SYSTEM_SOCKETS["podman"])


def _trouble(place: str) -> str | None:
    """Why nobody answers at that address; None when somebody does."""
    try:
        _connected(place, _QUICK_S).close()
    except OSError as e:
        if e.errno == errno.EACCES:
            return _DENIED
        return {errno.ENOENT: "no such socket", errno.ECONNREFUSED: "nobody listens"}.get(e.errno or 0, str(e))
    return None


def _connected(engine: str, timeout_s: float) -> socket.socket:
    parts = urlsplit(engine)
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname or "localhost", parts.port or 2375), timeout_s)
    line = socket.socket(socket.AF_UNIX)
    line.settimeout(timeout_s)
    try:
        line.connect(parts.path)
    except BaseException:
        line.close()
        raise
    return line


def _podman_service(program: str) -> str:
    """Address of a service of Podman's API that ends itself when nobody has used it for a while."""
    path = _own_socket()
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with held(f"{path}.lock", threading.Event(), lambda: None):
        if _trouble(f"unix://{path}") is None:
            return f"unix://{path}"
        log = f"{path}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(
                [program, "system", "service", "--time", _PODMAN_IDLE_S, f"unix://{path}"],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, cwd="/",
            )  # fmt: skip
        deadline = time.monotonic() + _PODMAN_START_S
        while _trouble(f"unix://{path}") is not None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineUnavailable(f"Podman's service does not start: {_end_of(log)}", _START)
            time.sleep(0.02)
    threading.Thread(target=process.wait, name="windlass-podman", daemon=True).start()  # so that it is no zombie
    return f"unix://{path}"


@functools.lru_cache(maxsize=8)
def _socket_in(home: str) -> str:
    path = os.path.join(home, "containers", "podman.sock")
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    return os.path.join(settings.runtime_dir(), f"podman-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}.sock")


def _own_socket() -> str:
    return _socket_in(settings.home())


def _end_of(log: str) -> str:
    with open(log, encoding="utf-8", errors="replace") as f:
        return f.read().strip()[-500:] or "it says nothing."
