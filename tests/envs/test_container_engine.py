"""Which engine is taken, and what is said when there is none. The engines here are sockets that answer one question."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from windlassd.envs import container_engine, registry
from windlassd.envs.container_engine import EngineUnavailable

IMAGE = "sha256:" + "a" * 64


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"Id": IMAGE}).encode()
        self.send_response(200 if IMAGE in self.path.replace("%3A", ":") else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def address_string(self) -> str:
        return "unix"


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


Listen = Callable[[Path], str]


@pytest.fixture
def listen() -> Iterator[Listen]:
    servers: list[_Server] = []

    def start(path: Path) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        server = _Server(str(path), _Answers)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"unix://{path}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No engine of this machine is seen."""
    for name in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "r"))
    monkeypatch.setenv("HOME", str(tmp_path / "h"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(container_engine, "_SYSTEM_SOCKETS", {"docker": str(tmp_path / "d.sock"), "podman": "/nowhere"})


def test_the_setting_wins_over_the_engines_own_variables(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = listen(tmp_path / "mine.sock"), listen(tmp_path / "theirs.sock")
    monkeypatch.setenv("DOCKER_HOST", theirs)
    assert container_engine.address() == theirs
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", mine)
    assert container_engine.address() == mine


def test_the_kind_that_is_set_is_taken(listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker, podman = listen(tmp_path / "d.sock"), listen(tmp_path / "r" / "podman" / "podman.sock")
    assert container_engine.address() == docker
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", "podman")
    assert container_engine.address() == podman
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", "docker")
    assert container_engine.address() == docker


def test_a_socket_that_nobody_listens_on_is_passed_over(listen: Listen, tmp_path: Path) -> None:
    (tmp_path / "d.sock").touch()
    rootless = listen(tmp_path / "r" / "docker.sock")
    assert container_engine.address() == rootless


def test_without_any_the_message_says_what_was_tried(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "docker").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "docker").chmod(0o755)  # a client is no engine
    with pytest.raises(EngineUnavailable, match=r"d\.sock \(no such socket\); the program podman") as caught:
        container_engine.address()
    assert "Start Docker" in str(caught.value) and "container_engine" in str(caught.value)


def test_a_socket_of_others_tells_how_to_get_in(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listen(tmp_path / "d.sock")

    def refuse(engine: str, timeout_s: float) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(container_engine, "_connected", refuse)  # this test may be run by root, who may do all
    with pytest.raises(EngineUnavailable, match=r"d\.sock \(permission denied\)") as caught:
        container_engine.address()
    assert "usermod -aG docker" in str(caught.value)


@pytest.mark.parametrize(
    "place", ["ssh://host", "tcp://10.0.0.1:2375", "tcp://[::1]:2375", "tcp://localhost", "unix://relative", "junk"]
)
def test_an_engine_elsewhere_is_refused(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", place)
    with pytest.raises(EngineUnavailable, match="has to run here"):
        container_engine.address()
    assert not container_engine.has_image(f"unix://{place}", IMAGE)


def test_only_the_engine_in_use_is_asked_for_an_image(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = listen(tmp_path / "one.sock"), listen(tmp_path / "two.sock")
    monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", one)
    assert container_engine.has_image(one, IMAGE)
    assert not container_engine.has_image(one, "sha256:other")
    assert not container_engine.has_image(two, IMAGE)


def test_an_engine_that_hangs_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container_engine, "_ASKED_S", 0.05)
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as hanging:
        hanging.bind(str(tmp_path / "hung.sock"))
        hanging.listen()  # the kernel takes connections for it, and nobody answers
        hanging.setblocking(False)
        engine = f"unix://{tmp_path}/hung.sock"
        monkeypatch.setenv("WINDLASS_CONTAINER_ENGINE", engine)
        assert not any(container_engine.has_image(engine, IMAGE) for _ in range(5))
        assert container_engine.images_of(engine) is None
        hanging.accept()[0].close()
        with pytest.raises(BlockingIOError):
            hanging.accept()  # the other calls have not even asked


def test_an_engine_that_answers_again_is_asked_again(
    listen: Listen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = listen(tmp_path / "d.sock")
    monkeypatch.setitem(container_engine._silent_until, engine, time.monotonic() + 1000)
    assert not container_engine.has_image(engine, IMAGE)
    monkeypatch.setitem(container_engine._silent_until, engine, time.monotonic())
    assert container_engine.has_image(engine, IMAGE)


def test_podmans_service_is_started_when_there_is_only_the_program(tmp_path: Path, home: Path) -> None:
    python = shutil.which("python3", path="/usr/bin:/usr/local/bin") or os.environ["_"]
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "podman"
    program.write_text(
        f"#!{python}\nimport socket, sys\nassert sys.argv[1:3] == ['system', 'service'], sys.argv\n"
        "s = socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[-1].removeprefix('unix://'))\ns.listen()\n"
        "while True: s.accept()\n"
    )
    program.chmod(0o755)
    first = container_engine.address()
    assert first.startswith("unix://") and container_engine.address() == first


def test_tidying_up_starts_no_engine_whose_jobs_would_get_its_low_priority(tmp_path: Path, home: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "podman").write_text(f"#!/bin/sh\n: > {tmp_path}/started\nexit 1\n")
    (tmp_path / "bin" / "podman").chmod(0o755)
    left = home / "containers" / ("0" * 32)  # of a build whose server was killed
    left.mkdir(parents=True)
    with pytest.raises(EngineUnavailable, match="not started for this"):
        registry.sweep(str(home / "environments"))
    assert left.is_dir() and not (tmp_path / "started").exists()


def test_podman_that_does_not_start_shows_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "podman").write_text("#!/bin/sh\necho no storage here >&2\nexit 1\n")
    (tmp_path / "bin" / "podman").chmod(0o755)
    with pytest.raises(EngineUnavailable, match="no storage here"):
        container_engine.address()
