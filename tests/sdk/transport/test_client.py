"""The client against a server that answers what the test says, connection by connection."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass._transport import autostart, places
from windlass._transport import client as client_module
from windlass._transport.client import Client, quote
from windlass.errors import ComputeTargetException, ServiceUnavailable, UserErrorException


def answer(body: Any, status: str = "200 OK", close: bool = False) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{'Connection: close' if close else 'X-A: b'}\r\n\r\n"
    return head.encode() + data


class Scripted:
    """Listens on the workspace's socket; each connection gets the next turn. ``requests`` is what was asked."""

    def __init__(self, workspace: str) -> None:
        self.turns: list[list[bytes]] = []
        self.requests: list[bytes] = []
        self.connections = 0
        path = places.socket_path(workspace)
        os.makedirs(os.path.dirname(path), mode=0o700)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(8)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                for reply in self.turns.pop(0) if self.turns else []:
                    self.requests.append(_request(connection))
                    if reply:
                        connection.sendall(reply)


def _request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    sizes = [line.split(b":")[1] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
    while sizes and len(body) < int(sizes[0]):
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def workspace(home: Path) -> str:
    return places.workspace_dir("ws")


@pytest.fixture
def server(workspace: str) -> Iterator[Scripted]:
    made = Scripted(workspace)
    yield made
    made.close()


@pytest.fixture
def client(workspace: str) -> Iterator[Client]:
    made = Client(workspace, start=False)
    yield made
    made.close()


def test_calls_share_a_connection(server: Scripted, client: Client) -> None:
    server.turns = [[answer({"a": 1}), answer(b""), answer([2])]]
    assert client.get("/v1/x", name="a b", tag=["x", "y"], none=None) == {"a": 1}
    assert client.delete("/v1/y") is None
    assert client.post("/v1/z", {"ä": 1}) == [2]
    assert server.connections == 1
    assert server.requests[0].startswith(b"GET /v1/x?name=a+b&tag=x&tag=y HTTP/1.1\r\n")
    assert server.requests[1].startswith(b"DELETE /v1/y HTTP/1.1\r\n")
    assert server.requests[2].endswith(b'{"\\u00e4": 1}') and b"Content-Type: application/json" in server.requests[2]


def test_a_broken_connection_is_tried_again_with_the_same_body(
    server: Scripted, client: Client, tmp_path: Path
) -> None:
    server.turns = [[answer(1), b""], [answer({"ok": True})]]
    assert client.get("/v1/first") == 1
    (tmp_path / "f").write_bytes(b"x" * 1000)
    with open(tmp_path / "f", "rb") as body:
        body.seek(10)
        assert client.call("POST", "/v1/upload", body=body) == {"ok": True}
    assert [r.rpartition(b"\r\n\r\n")[2] for r in server.requests[1:]] == [b"x" * 990] * 2


def test_a_server_that_breaks_again_and_again_is_unavailable(
    server: Scripted, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.02)
    server.turns = [[b""], *([[b"HTTP/1.1 nonsense"]] * 50)]
    with pytest.raises(ServiceUnavailable, match=r"again and again at GET /v1/x.*server\.log"):
        client.get("/v1/x")
    assert server.connections > 1


def test_a_server_that_ends_sends_the_caller_to_the_next(server: Scripted, workspace: str) -> None:
    client = Client(workspace)
    ending = b"HTTP/1.1 503 Busy\r\nX-Windlass-Stopping: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    server.turns = [[ending], [], [answer({"next": 1})]]  # in between it is looked whether one listens
    assert client.get("/v1/x") == {"next": 1}
    client.close()


def test_a_body_is_sent_whole_again_when_the_answer_breaks_off(
    server: Scripted, workspace: str, tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    client = Client(workspace)
    server.turns = [[b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"], [answer({"ok": True})]]
    with open(tmp_path / "f", "rb") as body:
        assert client.call("PUT", "/v1/upload", body=body) == {"ok": True}
    assert [r.rpartition(b"\r\n\r\n")[2] for r in server.requests] == [b"x" * 1000] * 2
    client.close()


def test_an_answer_that_breaks_off_is_not_taken_for_whole(server: Scripted, client: Client) -> None:
    server.turns = [[b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"]]
    with pytest.raises(ServiceUnavailable, match="broke off"):
        client.get("/v1/x")


def test_silence_is_not_tried_again(workspace: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    path = places.socket_path(workspace)
    os.makedirs(os.path.dirname(path), mode=0o700)
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen(8)
        with pytest.raises(ServiceUnavailable, match="does not answer GET /v1/x"):
            client.open("GET", "/v1/x", timeout_s=0.01)
        deaf.accept()[0].close()
        deaf.setblocking(False)
        with pytest.raises(BlockingIOError):
            deaf.accept()


def test_no_server_and_no_leave_to_start_one(client: Client, workspace: str) -> None:
    with pytest.raises(ServiceUnavailable, match="No server runs for the workspace"):
        client.get("/v1/x")


def test_a_server_is_started_once_when_none_listens(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Scripted] = []

    def start(asked: str) -> None:
        started.append(Scripted(asked))
        started[-1].turns = [[answer({"pid": 1})]]

    monkeypatch.setattr(autostart, "ensure_server", start)
    client = Client(workspace)
    assert client.get("/v1/server") == {"pid": 1} and len(started) == 1
    client.close()
    started[0].close()


def test_a_server_that_will_not_listen_is_not_started_for_ever(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(autostart, "ensure_server", started.append)
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.02)
    with pytest.raises(ServiceUnavailable, match="again and again"):
        Client(workspace).get("/v1/server")
    assert 0 < len(started) < 10


def test_a_jobs_call_waits_for_the_server_as_long_as_it_takes_and_says_so_once(
    workspace: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("AZUREML_RUN_ID", "r"), ("WINDLASS_WORKSPACE_DIR", workspace), ("WINDLASS_SPOOL_DIR", "/x")):
        monkeypatch.setenv(name, value)
    tries: list[Scripted | None] = []

    def start(asked: str) -> None:
        if len(tries) < 30:
            tries.append(None)
            raise ServiceUnavailable("The disk is full.", transient=len(tries) % 2 == 0)
        tries.append(Scripted(asked))
        tries[-1].turns = [[b""], [answer({"tags": {}})]]  # type: ignore[union-attr]

    monkeypatch.setattr(autostart, "ensure_server", start)
    monkeypatch.setattr(client_module, "PATIENCE_S", 0.0)
    monkeypatch.setattr(client_module, "_PAUSES_S", (0.0,))
    client = Client(workspace)
    assert client.patch("/v1/runs/r", {"tags": {"a": "b"}}) == {"tags": {}} and len(tries) == 31
    assert capsys.readouterr().err == "windlass: PATCH /v1/runs/r waits for the server. The disk is full.\n"
    client.close()
    tries[-1].close()  # type: ignore[union-attr]


def test_a_server_that_was_stopped_is_named_with_the_way_to_continue_it(
    server: Scripted, client: Client, workspace: str
) -> None:
    with subprocess.Popen(["sleep", "600"]) as stopped:
        stopped.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        Path(places.server_dir(workspace), "server.json").write_text(json.dumps({"pid": stopped.pid}))
        assert autostart.why_silent(workspace).endswith(f"continue it with `kill -CONT {stopped.pid}`.")
        stopped.kill()
    assert autostart.why_silent(workspace) == " See `windlass server status`."
    Path(places.server_dir(workspace), "server.json").write_text(json.dumps({"pid": os.getpid()}))
    assert f"Its process is {os.getpid()}; see its log" in autostart.why_silent(workspace)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (
            "404 Not Found",
            {"error": {"code": "compute_target", "message": "No 'x'."}},
            ComputeTargetException,
            "No 'x'.",
        ),
        ("409 Conflict", {"error": {"code": "conflict", "message": "It is so."}}, UserErrorException, "It is so."),
        (
            "404 Not Found",
            {"error": {"code": "user_error", "message": "GET /v1/x: Not Found"}},
            UserErrorException,
            "of another version of Windlass and does not know GET /v1/x.",
        ),
        ("503 Busy", {"error": {"code": "service_unavailable", "message": "full"}}, ServiceUnavailable, "full"),
        ("500 Oops", b"<html>Oops</html>", ServiceUnavailable, "answered 500: <html>Oops"),
        ("502 Oops", {"error": "text"}, ServiceUnavailable, "answered 502"),
        ("200 OK", b"<html>", ServiceUnavailable, "something else than JSON"),
    ],
)
def test_each_answer_is_its_error(
    server: Scripted, client: Client, status: str, body: Any, kind: type[Exception], words: str
) -> None:
    server.turns = [[answer(body, status), answer({"next": 1})]]
    with pytest.raises(kind, match=words):
        client.get("/v1/x")
    assert client.get("/v1/y") == {"next": 1} and server.connections == 1


def test_proxies_are_for_others(server: Scripted, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.turns = [[answer(1)]]
    assert client.get("/v1/x") == 1


def test_events(server: Scripted, client: Client) -> None:
    stream = (
        b'event: run\ndata: {"a": 1}\n\n: keep-alive\n\nevent: log\r\ndata: {"text":\ndata: "x"}\r\n\r\ndata: 3\n\n'
    )
    server.turns = [[answer(stream, close=True)]]
    assert [tuple(e) for e in client.events("/s")] == [("run", {"a": 1}), ("log", {"text": "x"}), ("message", 3)]


def test_a_stream_beside_other_calls(server: Scripted, client: Client) -> None:
    server.turns = [[answer(b"event: end\ndata: {}\n\n", close=True)], [answer(1)]]
    stream = client.events("/s")
    assert next(stream).name == "end"
    assert client.get("/v1/x") == 1
    assert list(stream) == [] and server.connections == 2


def test_threads_have_connections_of_their_own(server: Scripted, client: Client) -> None:
    server.turns = [[answer(1)], [answer(2)]]
    found = [client.get("/v1/x")]
    thread = threading.Thread(target=lambda: (found.append(client.get("/v1/y")), client.close()))
    client.close()
    thread.start()
    thread.join(20)
    assert found == [1, 2]


def test_a_path_is_quoted_but_for_its_slashes() -> None:
    assert quote("outputs/a b?#ä.txt") == "outputs/a%20b%3F%23%C3%A4.txt"
