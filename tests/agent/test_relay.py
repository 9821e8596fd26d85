"""A job's calls, passed on from a socket to a server that speaks TLS."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.tls_listener import Answer, Asked, Listener, said, stream
from windlass import settings
from windlass._transport import autostart
from windlass._transport.client import STOPPING, Client
from windlass._transport.places import server_dir, socket_path
from windlass.errors import UserErrorException
from windlassd.agent.relay import Relay
from windlassd.agent.uplink import Uplink

END = b"\r\n\r\n"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "server").start()
    yield made
    made.stop()


@pytest.fixture
def place(home: Path) -> str:
    folder = home / "nodes" / "w1" / "parts" / "run_1.1.0" / "ws"
    folder.mkdir(parents=True)
    return str(folder)


@pytest.fixture
def relay(listener: Listener, place: str) -> Iterator[Relay]:
    made = Relay(Uplink(listener.ticket()), place)
    made.start()
    made.use("job's")
    yield made
    made.close()


def talk(place: str, call: bytes) -> bytes:
    """All that comes back for what is said on the socket."""
    with autostart.connect(place) as sock:
        sock.settimeout(20)
        sock.sendall(call)
        said_back = b""
        while piece := sock.recv(65536):
            said_back += piece
        return said_back


def test_calls_are_passed_on_with_the_jobs_token(relay: Relay, listener: Listener, place: str) -> None:
    listener.answers = lambda asked: said({"path": asked.path, "size": len(asked.body)})
    client = Client(place, start=False)
    body = os.urandom(8 << 20)
    assert client.call("PUT", "/v1/runs/r/files/a", body=body) == {"path": "/v1/runs/r/files/a", "size": len(body)}
    assert client.get("/v1/workspace", x=1)["path"] == "/v1/workspace?x=1"
    assert listener.asked[0].body == body
    assert [asked.headers["Authorization"] for asked in listener.asked] == ["Bearer job's"] * 2
    assert listener.asked[0].headers["Host"] == f"127.0.0.1:{listener.port}"
    client.close()


def test_a_job_cannot_speak_in_anothers_name(relay: Relay, listener: Listener, place: str) -> None:
    call = b"GET /x HTTP/1.1\r\nauthorization: Bearer another\r\nAUTHORIZATION:Bearer b\r\nConnection: close" + END
    assert b" 200 " in talk(place, call)
    assert [v for k, v in listener.asked[0].headers.items() if k.lower() == "authorization"] == ["Bearer job's"]


def test_a_stream_comes_as_it_is_written(relay: Relay, listener: Listener, place: str) -> None:
    go_on = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"event: one\ndata: 1\n\n"
        assert go_on.wait(20)
        yield b"event: two\ndata: 2\n\n"

    listener.answers = lambda asked: stream(chunks())
    events = Client(place, start=False).events("/v1/runs/r/stream")
    assert next(events).name == "one"
    go_on.set()
    assert [event.data for event in events] == [2]


def test_the_server_learns_at_once_that_a_job_hung_up(relay: Relay, listener: Listener, place: str) -> None:
    gone = threading.Event()

    def pings() -> Iterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            gone.set()

    listener.answers = lambda asked: stream(pings())
    sock = autostart.connect(place)
    sock.sendall(b"GET /x HTTP/1.1" + END)
    assert sock.recv(10)
    sock.close()
    assert gone.wait(20)


def test_while_the_server_is_away_it_is_told_as_by_one_that_ends(
    relay: Relay, listener: Listener, place: str
) -> None:  # fmt: skip
    listener.stop()
    assert STOPPING.encode() in talk(place, b"GET /x HTTP/1.1" + END)


def test_a_job_waits_for_a_server_that_is_away(
    relay: Relay, listener: Listener, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.stop()
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 8:
            listener.start()

    monkeypatch.setattr("time.sleep", pause)
    for name, value in (
        (settings.RUN_ID_VARIABLE, "run_1"), (settings.WORKSPACE_DIR_VARIABLE, place),
        (settings.SPOOL_DIR_VARIABLE, place), (settings.ELSEWHERE_VARIABLE, "1"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("windlass._transport.client.PATIENCE_S", 0.0)
    assert Client(place).patch("/v1/runs/run_1", {"tags": {}}) == {}
    assert len(pauses) == 8


def test_a_server_that_dies_over_a_call_is_told_as_one_that_ends(
    relay: Relay, listener: Listener, place: str
) -> None:  # fmt: skip
    def die(asked: Asked) -> Answer:
        listener.stop()
        raise ConnectionResetError

    listener.answers = die
    assert STOPPING.encode() in talk(place, b"GET /x HTTP/1.1" + END)


def test_a_server_that_dies_within_an_answer_ends_it(relay: Relay, listener: Listener, place: str) -> None:
    listener.answers = lambda asked: (200, {"Content-Length": "100", "Connection": "close"}, [b"half"])
    said_back = talk(place, b"GET /x HTTP/1.1\r\nConnection: close" + END)
    assert said_back.endswith(b"half")
    assert STOPPING.encode() not in said_back


def test_another_server_hears_nothing(listener: Listener, place: str, tmp_path: Path) -> None:
    relay = Relay(Uplink(listener.ticket(certificate=Listener(tmp_path / "other").certificate.pinned)), place)
    relay.start()
    relay.use("job's")
    assert STOPPING.encode() in talk(place, b"GET /x HTTP/1.1" + END)
    assert listener.asked == []
    relay.close()


def test_before_there_is_a_token_nothing_is_passed_on(listener: Listener, place: str) -> None:
    relay = Relay(Uplink(listener.ticket()), place)
    relay.start()
    assert STOPPING.encode() in talk(place, b"GET /x HTTP/1.1" + END)
    assert listener.asked == []
    relay.close()


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (b"junk" + END, 400),
        (b"GET /x HTTP/1.0" + END, 400),
        (b"GET /x y HTTP/1.1" + END, 400),
        (b"GET /x HTTP/1.1\r\nno colon" + END, 400),
        (b"GET /x HTTP/1.1\r\n folded: x" + END, 400),
        (b"GET /x HTTP/1.1\r\nA: b\nAuthorization: Bearer c" + END, 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2" + END, 400),
        (b"POST /x HTTP/1.1\r\nContent-Length: -1" + END, 400),
        (b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked" + END, 411),
        (b"GET /x HTTP/1.1\r\nA: " + b"b" * 100_000 + END, 431),
        (b"GET /x HT", 400),
    ],
)
def test_junk_is_refused_and_not_passed_on(
    relay: Relay, listener: Listener, place: str, call: bytes, status: int
) -> None:  # fmt: skip
    with autostart.connect(place) as sock:
        sock.settimeout(20)
        try:
            sock.sendall(call)
            sock.shutdown(socket.SHUT_WR)
        except OSError:  # it hung up before all was said
            pass
        assert b" %d " % status in sock.recv(65536)
    assert listener.asked == []


def test_only_this_user_gets_in(relay: Relay, place: str) -> None:
    path = socket_path(place)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(server_dir(place)).st_mode) == 0o700


def test_nothing_is_left_of_it(relay: Relay, place: str) -> None:
    relay.close()
    assert not os.path.exists(socket_path(place))
    relay.close()


def test_it_takes_the_place_of_one_that_was_killed(listener: Listener, place: str) -> None:
    os.makedirs(server_dir(place), exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        os.makedirs(os.path.dirname(socket_path(place)), exist_ok=True)
        dead.bind(socket_path(place))
    relay = Relay(Uplink(listener.ticket()), place)
    relay.start()
    relay.use("t")
    assert b" 200 " in talk(place, b"GET /x HTTP/1.1\r\nConnection: close" + END)
    relay.close()


def test_a_socket_that_cannot_be_made_is_told_to_who_starts_it(
    listener: Listener, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short folder of sockets is where everybody can make names: here it is somebody's link."""
    (tmp_path / "trap").symlink_to(home)
    monkeypatch.setattr(settings, "runtime_dir", lambda: str(tmp_path / "trap"))
    deep = home / ("deep" * 20) / ("deeper" * 20)
    deep.mkdir(parents=True)
    relay = Relay(Uplink(listener.ticket()), str(deep))
    with pytest.raises(UserErrorException, match="is a link"):
        relay.start()
    relay.close()
