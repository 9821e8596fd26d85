"""The way of an agent elsewhere: one certificate, one token, no proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.tls_listener import Answer, Asked, Listener, free_port, said
from windlass._transport import client as transport
from windlass._transport.client import Client
from windlass.errors import AuthenticationException, ServiceUnavailable, UserErrorException
from windlassd.agent import uplink
from windlassd.agent.uplink import Uplink


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "server").start()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "PATIENCE_S", 0.0)


def test_a_call_has_the_token_and_is_noted_from_when_it_was_begun(listener: Listener) -> None:
    seen: list[float] = []
    answered: list[float] = []

    def answer(asked: Asked) -> Answer:
        seen.append(uplink.now())
        return said({"ok": 1})

    listener.answers = answer
    client = Client("/ws", way=Uplink(listener.ticket(), answered=answered.append))
    assert client.post("/agent/v1/a/events", {"events": []}) == {"ok": 1}
    assert listener.asked[0].headers["Authorization"] == "Bearer secret"
    assert answered[0] < seen[0]


def test_no_other_certificate_will_do_and_no_other_server_hears_the_token(
    listener: Listener, tmp_path: Path
) -> None:  # fmt: skip
    other = Listener(tmp_path / "other")
    client = Client("/ws", way=Uplink(listener.ticket(certificate=other.certificate.pinned)))
    with pytest.raises(ServiceUnavailable, match="another certificate"):
        client.get("/x")
    assert listener.asked == []


def test_without_a_pinned_certificate_the_machines_authorities_decide(listener: Listener) -> None:
    with pytest.raises(ServiceUnavailable, match="certificate verify failed"):
        Client("/ws", way=Uplink(listener.ticket(certificate=None))).get("/x")
    assert listener.asked == []


def test_a_token_that_is_good_no_more_is_told_once(listener: Listener) -> None:
    refused: list[int] = []
    answered: list[float] = []
    listener.answers = lambda asked: said({"error": {"code": "authentication", "message": "no"}}, 401)
    way = Uplink(listener.ticket(), refused=lambda: refused.append(1), answered=answered.append)
    for _ in range(2):
        with pytest.raises(AuthenticationException, match="does not know"):
            Client("/ws", way=way).get("/x")
    assert refused == [1]
    assert not answered


def test_a_server_that_fails_has_not_answered(listener: Listener) -> None:
    answered: list[float] = []
    listener.answers = lambda asked: said({"error": {"code": "service_unavailable", "message": "full"}}, 503)
    with pytest.raises(ServiceUnavailable):
        Client("/ws", way=Uplink(listener.ticket(), answered=answered.append)).get("/x")
    assert not answered


def test_the_next_address_is_tried_and_kept(listener: Listener) -> None:
    dead = f"https://127.0.0.1:{free_port()}"
    way = Uplink(listener.ticket(servers=(dead, *listener.ticket().servers)))
    assert Client("/ws", way=way).get("/x") == {}
    assert way.addresses[0] == ("127.0.0.1", listener.port)


def test_no_proxy_is_used(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert Client("/ws", way=Uplink(listener.ticket())).get("/x") == {}


def test_a_server_that_is_away_is_not_started_but_waited_for(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    listener.stop()
    client = Client("/ws", way=Uplink(listener.ticket()))
    with pytest.raises(ServiceUnavailable, match=f"server of ws at https://127.0.0.1:{listener.port}"):
        client.get("/x")
    monkeypatch.setattr(transport, "PATIENCE_S", 60.0)
    monkeypatch.setattr("time.sleep", lambda s: listener.start() if not listener.asked else None)
    assert client.get("/x") == {}


@pytest.mark.parametrize("server", ["http://h:1", "https://h", "https://h:x", "https://:1", "h:1", "", "https://[h:1"])
def test_an_address_that_is_none(listener: Listener, server: str) -> None:
    with pytest.raises(UserErrorException, match="no address of a server"):
        Uplink(listener.ticket(servers=(server,)))


def test_a_ticket_without_server_or_with_junk_for_a_certificate(listener: Listener) -> None:
    with pytest.raises(UserErrorException, match="names no server"):
        Uplink(listener.ticket(servers=()))
    with pytest.raises(UserErrorException, match="certificate cannot be read"):
        Uplink(listener.ticket(certificate="junk"))
