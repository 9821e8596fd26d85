"""The listener itself: its certificate, its port, its addresses, and visitors that are no agents."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import socket
import ssl
import stat
import struct
from pathlib import Path

import pytest

from windlass.errors import ComputeTargetException
from windlass.specs.status import RunStatus
from windlassd.server.agents import address, certificate, listener

from .conftest import BIG, BIG_SNAPSHOT, CONTENT, SHA256, SNAPSHOT, Served


def raw(served: Served) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port), 20)


def test_an_agent_reaches_it_with_what_its_ticket_says(served: Served) -> None:
    ticket = served.hub.enlist("mine.1.1", "mine")
    assert ticket.servers == (f"https://127.0.0.1:{served.port}",)
    assert (ticket.agent, ticket.workspace, len(ticket.workspace_id)) == ("mine.1.1", "ws", 32)
    assert "PRIVATE" not in str(ticket.certificate)
    answer = served.call(ticket.token, "GET", f"/agent/v1/mine.1.1/snapshots/{SNAPSHOT}")
    assert answer.json["files"][0]["path"] == "train.py"


def test_the_certificate_is_the_workspaces_own_and_its_key_nobody_elses(served: Served) -> None:
    path = served.server_folder / "agents.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = ssl.get_server_certificate(("127.0.0.1", served.port))
    assert ssl.PEM_cert_to_DER_cert(shown) == ssl.PEM_cert_to_DER_cert(served.listener.certificate or "")
    assert certificate.load(str(served.server_folder)).pinned == served.listener.certificate


def test_who_trusts_another_certificate_does_not_speak_to_it(served: Served, tmp_path: Path) -> None:
    other = certificate.load(str(tmp_path)).pinned
    context = ssl.create_default_context(cadata=other)
    context.check_hostname = False
    connection = http.client.HTTPSConnection("127.0.0.1", served.port, context=context)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/v1/runs/mine")


def test_old_tls_plain_http_and_noise_are_turned_away(served: Served, agent: str) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    with pytest.warns(DeprecationWarning):
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    with raw(served) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        old.wrap_socket(plain)
    for noise in (b"GET /v1/runs/mine HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 4096, os.urandom(4096)):
        with raw(served) as plain, contextlib.suppress(ConnectionError):
            plain.sendall(noise)
            said = plain.recv(4096)
            assert b"HTTP" not in said
    with served.context.wrap_socket(raw(served)) as inside:
        inside.sendall(b"\x00\x01nonsense\r\n\r\n")
        assert b" 400 " in inside.recv(4096)
    assert served.call(agent, "GET", f"/agent/v1/mine.1.0/snapshots/{SNAPSHOT}").status == 200


def test_who_takes_too_long_to_say_what_it_wants_is_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_HEAD_S", 0.1)
    with served.context.wrap_socket(raw(served)) as slow:
        slow.sendall(b"GET /v1/runs/mine HTTP/1.1\r\nHost:")
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert slow.recv(1) == b""


def test_too_many_who_say_nothing_are_hung_up_on(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_STRANGERS", 2)
    with contextlib.ExitStack() as stack:
        quiet = [stack.enter_context(served.context.wrap_socket(raw(served))) for _ in range(3)]
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            assert quiet[2].recv(1) == b""
        quiet[0].sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 401 " in quiet[0].recv(4096)


def test_a_head_without_end_is_refused(served: Served) -> None:
    with served.context.wrap_socket(raw(served)) as long, contextlib.suppress(ConnectionError, ssl.SSLError):
        long.sendall(b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(100)))
        assert b" 400 " in long.recv(4096)


def test_contents_come_in_one_stream_big_ones_too(served: Served) -> None:
    served.run("big", RunStatus.RUNNING, snapshot_id=BIG_SNAPSHOT)
    token = served.hub.enlist("big.1.0", "big").token
    hashes = [SHA256, hashlib.sha256(BIG).hexdigest(), SHA256]
    body = served.call(token, "POST", "/agent/v1/big.1.0/blobs", {"hashes": hashes}).body
    expected = [(CONTENT, hashes[0]), (BIG, hashes[1]), (CONTENT, hashes[2])]
    assert body == b"".join(struct.pack("<Q32s", len(c), bytes.fromhex(h)) + c for c, h in expected)


def test_a_start_order_brings_the_script_a_token_of_its_own(served: Served) -> None:
    from windlass.specs.launch import LaunchSpec

    served.run("started", RunStatus.RUNNING)
    token = served.hub.enlist("started.1.0", "started").token
    served.hub.start("started.1.0", LaunchSpec("started", 1, "n0", 0, "train.py", (), SNAPSHOT, ""))
    connection = served.connection()
    connection.request("POST", "/agent/v1/started.1.0/orders", b'{"pid": 1, "protocol": 4, "version": "0", "runs": []}',
                       {"Authorization": f"Bearer {token}"})  # fmt: skip
    answer = connection.getresponse()

    orders = [json.loads(answer.readline()) for _ in range(2)]
    connection.close()
    order = next(order for order in orders if "start" in order)
    assert order["start"]["run_id"] == "started"
    assert served.call(order["job_token"], "GET", "/v1/runs/started").json["id"] == "started"


def test_nothing_of_this_machine_is_copied_for_a_job(served: Served, job: str) -> None:
    state = os.stat(__file__)
    file = {"path": "outputs/secret", "from": __file__, "device": state.st_dev, "inode": state.st_ino,
            "size": state.st_size, "modified_ns": state.st_mtime_ns}  # fmt: skip
    for path in ("/v1/runs/mine/copies", "/v1/blob-copies", "/v1/datastores/workspaceblobstore/copies"):
        assert served.call(job, "POST", path, {"files": [file, file]}).json == {"files": [None, None]}
    assert served.call(job, "GET", "/v1/runs/mine/files/outputs/secret").status == 404


def test_a_jobs_child_names_no_folder_and_no_line_of_the_server(served: Served, job: str, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "secret").write_text("x")
    spec = {"experiment": "exp", "script": "", "snapshot_id": "", "parent_id": "mine"}
    asked = {"spec": spec, "request_id": "folder", "line": "l", "folder": str(tmp_path), "owner": {"pid": os.getpid()}}
    made = served.call(job, "POST", "/v1/interactive", asked).json
    assert made["spool"] is None
    child = made["run"]["id"]
    assert not os.path.lexists(served.core.folder(child).work)
    assert served.call(job, "GET", f"/v1/runs/{child}/files").json["files"] == []


def test_a_job_may_follow_what_it_submitted(served: Served, job: str) -> None:
    spec = {"experiment": "exp", "script": "train.py", "snapshot_id": SNAPSHOT, "environment": {"user_managed": True}}
    made = served.call(job, "POST", "/v1/runs", {"spec": spec, "request_id": "further"}).json
    assert served.call(job, "GET", f"/v1/runs/{made['id']}").json["id"] == made["id"]
    assert served.call(job, "POST", "/v1/runs", {"spec": spec, "request_id": "further"}).json["id"] == made["id"]
    served.call(job, "POST", f"/v1/runs/{made['id']}/cancel", {})


def test_a_restart_keeps_port_certificate_and_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    first = Served(tmp_path / "ws")
    first.run("r", RunStatus.RUNNING)
    ticket = first.hub.enlist("r.1.0", "r")
    port, shown = first.port, first.listener.certificate
    first.close()
    second = Served(tmp_path / "ws")
    try:
        assert (second.port, second.listener.certificate) == (port, shown)
        assert second.call(ticket.token, "GET", f"/agent/v1/r.1.0/snapshots/{SNAPSHOT}").status == 200
        assert second.hub.enlist("r.1.1", "r").workspace_id == ticket.workspace_id
    finally:
        second.close()


def test_a_port_that_somebody_else_has_is_told_in_words_and_taken_once_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_WAIT_S", 0.0)
    monkeypatch.setattr(listener, "_AGAIN_S", 0.01)
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    first = Served(tmp_path / "ws")
    port = first.port
    first.close()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(ComputeTargetException, match=f"Another process listens on port {port}"):
            address.bound(str(first.server_folder))

        async def resumed() -> None:
            core = first.core
            door = listener.AgentsListener(core, str(first.server_folder), lambda: None)  # type: ignore[arg-type, return-value]
            door.workspace_id = "w"
            await door.prepare()
            await door.resume()
            while door.trouble is None:
                await asyncio.sleep(0.01)
            assert "cannot reach it" in door.trouble
            assert door.addresses() == (f"https://127.0.0.1:{port}",)  # agents may be told all the same
            blocked.close()
            while door.trouble is not None:
                await asyncio.sleep(0.01)
            await door.close()

    blocked = socket.create_server(("127.0.0.1", port))
    asyncio.run(asyncio.wait_for(resumed(), 20))


@pytest.mark.parametrize("text", ["nohost:1", "127.0.0.1:x", "127.0.0.1:99999", "192.0.2.77:0", "127.0.0.1:-1"])
def test_an_address_that_cannot_be_listened_on_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", text)
    with pytest.raises(ComputeTargetException, match="agents_listen"):
        address.bound(str(tmp_path))


def test_which_addresses_agents_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert address.told(7, "127.0.0.1")[0] == "https://127.0.0.1:7"
    assert len(address.told(7, None)) == len(set(address.told(7, None)))
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "[::1]:0")
    assert address.told(7, None) == ("https://[::1]:7",)
    monkeypatch.setenv("WINDLASS_AGENTS_ADDRESS", "front.lab:443")
    assert address.told(7, "10.0.0.1") == ("https://front.lab:443",)
    monkeypatch.setenv("WINDLASS_AGENTS_ADDRESS", "front.lab")
    assert address.told(7, None) == ("https://front.lab:7",)


@pytest.mark.parametrize("wrong", ["https://front.lab", "front lab", ":443", "[::1", "front.lab:x", "front.lab:70000"])
def test_an_address_that_no_node_could_call_is_refused(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_AGENTS_ADDRESS", wrong)
    with pytest.raises(ComputeTargetException, match="agents_address"):
        address.told(7, None)
