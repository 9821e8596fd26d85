"""Connections that bring files have threads of their own, and keep every promise of the others."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from windlass.specs.launch import Ticket
from windlass.specs.status import RunStatus
from windlassd.agent.ship_files import FileShipper
from windlassd.agent.uplink import Uplink
from windlassd.blobs.run_folder import RunFolder
from windlassd.blobs.shipped import FILES_PROTOCOL, STREAM_BYTES
from windlassd.server.agents import bulk

from .conftest import Answer, Served

_NUMBERS = itertools.count()


class Part:
    """A run with one part and its agent's token."""

    def __init__(self, served: Served) -> None:
        self.run_id = f"bulk{next(_NUMBERS)}"
        self.agent = f"{self.run_id}.1.0"
        served.run(self.run_id, RunStatus.RUNNING)
        self.token = str(served.hub.enlist(self.agent, self.run_id).token)
        self.files = Path(RunFolder(served.core.workspace_dir, self.run_id).files)

    def path(self, total: int, offset: int, more: str = "") -> str:
        """Of a piece."""
        part = f"run_id={self.run_id}&attempt=1&rank=0&path=outputs/a&version=v"
        return f"/agent/v1/{self.agent}/files?{part}&total={total}&offset={offset}{more}"


@pytest.fixture
def part(served: Served) -> Part:
    return Part(served)


@contextmanager
def line(served: Served) -> Iterator[http.client.HTTPSConnection]:
    """A connection that says that it brings files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([FILES_PROTOCOL])
    with closing(http.client.HTTPSConnection("127.0.0.1", served.port, context=context, timeout=20)) as made:
        yield made


def post(made: http.client.HTTPSConnection, token: str, path: str, body: bytes) -> Answer:
    made.request("POST", path, body, {"Authorization": f"Bearer {token}"})
    return Answer(made.getresponse())


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Connections that were given a thread."""
    made: list[str] = []
    take = bulk.Bulk.take

    def noted(self: bulk.Bulk, sock: socket.socket) -> None:
        made.append("taken")
        take(self, sock)

    monkeypatch.setattr(bulk.Bulk, "take", noted)
    return made


def test_pieces_over_one_line_become_a_file(served: Served, part: Part, taken: list[str]) -> None:
    content = os.urandom(3_000_001)
    with line(served) as made:
        assert post(made, part.token, part.path(len(content), 0), content[:2_000_000]).json == {"held": 2_000_000}
        assert post(made, part.token, part.path(len(content), 5), b"elsewhere").json == {"held": 2_000_000}
        end = part.path(len(content), 2_000_000, f"&sha256={hashlib.sha256(content).hexdigest()}")
        assert post(made, part.token, end, content[2_000_000:]).json["kept"]
    assert taken == ["taken"]
    assert (part.files / "outputs/a").read_bytes() == content


def test_what_came_of_a_piece_that_broke_off_is_held(served: Served, part: Part) -> None:
    with line(served) as made:
        made.putrequest("POST", part.path(2000000, 0))
        made.putheader("Authorization", f"Bearer {part.token}")
        made.putheader("Content-Length", "2000000")
        made.endheaders(bytes(1_300_000))
        arriving = part.files.parent / "agent" / "arriving"
        for _ in range(1000):
            if any(file.stat().st_size >= 1 << 20 for file in arriving.glob("*")):
                break
            threading.Event().wait(0.01)
    with line(served) as made:
        assert post(made, part.token, part.path(2_000_000, 1), b"").json["held"] >= 1 << 20


def test_who_sends_it_again_need_not_wait_for_a_line_that_is_silent(served: Served, part: Part) -> None:
    with line(served) as silent, line(served) as made:
        silent.putrequest("POST", part.path(2000000, 0))
        silent.putheader("Authorization", f"Bearer {part.token}")
        silent.putheader("Content-Length", "2000000")
        silent.endheaders(bytes(1000))
        content, held = bytes(2_000_000), 0
        for _ in range(5):
            held = post(made, part.token, part.path(2_000_000, held), content[held:1_000_000]).json["held"]
    assert held == 1_000_000


def test_nobody_comes_in_without_a_token_or_for_another(served: Served, part: Part) -> None:
    with line(served) as made:
        answer = post(made, "x" * 43, part.path(1, 0), b"x")
        assert answer.status == 401 and answer.headers["Connection"] == "close"
    with line(served) as made:
        assert post(made, part.token, Part(served).path(1, 0), b"x").status == 403
    with line(served) as made:
        assert post(made, part.token, part.path(STREAM_BYTES * 2, 0), bytes(STREAM_BYTES + 1)).status == 400


@pytest.mark.parametrize("junk", [b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"POST /x HTTP/1.1\r\nX" + b"y" * 70_000])
def test_junk_is_hung_up_on_and_others_go_on(served: Served, part: Part, junk: bytes) -> None:
    with line(served) as made, line(served) as other:
        made.connect()
        made.sock.sendall(junk)
        with pytest.raises((ConnectionError, ssl.SSLError)):
            if not made.sock.recv(1):
                raise ConnectionError
        assert post(other, part.token, part.path(3, 0), b"x").json == {"held": 1}


def test_when_all_threads_are_taken_the_loop_serves(
    served: Served, part: Part, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_MOST", 0)
    with line(served) as made:
        assert post(made, part.token, part.path(3, 0), b"x").json == {"held": 1}
    assert not taken


def test_a_shipper_brings_all_home(served: Served, part: Part, taken: list[str], tmp_path: Path) -> None:
    from windlass._transport.client import Client

    big = os.urandom(30 << 20)
    folder = RunFolder(str(tmp_path), part.run_id)
    folder.make()
    outputs = Path(folder.work, "outputs")
    outputs.mkdir(parents=True)
    (outputs / "big").write_bytes(big)
    (outputs / "text").write_bytes(b"the same again\n" * 2_000_000)
    (outputs / "small").write_bytes(b"small")
    pem: Any = served.listener.certificate
    ticket = Ticket(part.agent, "ws", "id", (f"https://127.0.0.1:{served.port}",), part.token, pem)
    shipper = FileShipper(Client(str(tmp_path), way=Uplink(ticket).for_files()), part.agent)
    folder.keep_live()
    key = (part.run_id, 1, 0)
    shipper.open(key, folder)
    shipper.ended(key)
    brought = shipper.bring_home(key)
    shipper.close(key)
    assert not brought.notes and len(brought.files) == 3 and taken
    assert (part.files / "outputs/big").read_bytes() == big
