"""The agent's process on a node, against a server that this test is."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.tls_listener import Answer, Asked, Listener, said, stream
from windlass import settings
from windlass.errors import UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec, Ticket
from windlassd.agent import elsewhere
from windlassd.agent.elsewhere import DISMISSED, USAGE
from windlassd.agent.node_folder import NodeFolder
from windlassd.agent.uplink import Uplink

WAIT_S = 60.0
SLEEPS = "import os, signal; print('ready', flush=True); os.fork(); signal.pause()"


class Server:
    """Gives orders, and notes what it is told. While ``deaf`` nobody is answered."""

    def __init__(self, folder: Path) -> None:
        self.listener = Listener(folder, answers=self.answer).start()
        self.orders: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self.events: list[Mapping[str, Any]] = []
        self.heard = threading.Condition()
        self.hearing = threading.Event()
        self.hearing.set()
        self.refusing = False
        self.hellos: list[Any] = []

    def answer(self, asked: Asked) -> Answer:
        self.hearing.wait(WAIT_S)
        if self.refusing:
            return said({"error": {"code": "authentication", "message": "no"}}, 401)
        what = asked.path.partition("/agent/v1/run_1.1.0/")[2].partition("?")[0]
        if what == "orders":
            self.hellos.append(asked.json)
            return stream(self._given())
        if what == "events":
            with self.heard:
                self.events += asked.json["events"]
                self.heard.notify_all()
        if what.startswith("snapshots/"):
            return said({"files": []})
        if what == "spool":
            return said({"acked": int(asked.path.partition("offset=")[2].partition("&")[0]) + len(asked.body)})
        if what == "files/settled":
            return said({"lacking": []})
        if what == "files":
            offset = asked.path.partition("offset=")[2].partition("&")[0]
            return said({"held": int(offset or 0) + len(asked.body)})
        return said({})

    def _given(self) -> Iterator[bytes]:
        own = len(self.hellos)
        while own == len(self.hellos):  # the agent has no newer line
            try:
                order = self.orders.get(timeout=0.05)
            except queue.Empty:
                order = {}
            if order != {} and own != len(self.hellos):  # it is for the newer line
                self.orders.put(order)
                return
            if order is None:
                return
            yield (order if isinstance(order, bytes) else json.dumps(order).encode()) + b"\n"

    def told(self, kind: str) -> Mapping[str, Any]:
        """The first event of that kind, waited for."""
        with self.heard:
            found: list[Mapping[str, Any]] = []

            def there() -> bool:
                found[:] = [event for event in self.events if event["kind"] == kind]
                return bool(found)

            assert self.heard.wait_for(there, WAIT_S), (kind, self.events)
            return found[0]


class Node:
    """An agent's process with a home of its own."""

    def __init__(self, home: Path, ticket: Ticket | None, log: Path) -> None:
        self.home, self.log = home, log
        environment = {**os.environ, settings.HOME_VARIABLE: str(home)}
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "windlassd.agent", "--elsewhere"], stdin=subprocess.PIPE, stdout=output,
                stderr=output, env=environment,
            )  # fmt: skip
        if ticket is not None:
            self.say(json.dumps(to_wire(ticket)).encode() + b"\n")

    def say(self, words: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def lose_place(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(WAIT_S)

    @property
    def part(self) -> Path:
        return self.home / "nodes" / "w1" / "parts" / "run_1.1.0"

    def processes(self) -> list[int]:
        """Live processes of the script."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                if b"AZUREML_RUN_ID=run_1" in Path(f"/proc/{name}/environ").read_bytes().split(b"\0") and (
                    Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
                ):
                    found.append(int(name))
            except OSError:
                continue
        return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path / "server")
    yield made
    made.orders.put(None)
    made.hearing.set()
    made.listener.stop()


@pytest.fixture
def start(server: Server, tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def begin(ticket: Ticket | None = None, log: str = "agent.log") -> Node:
        nodes.append(Node(tmp_path / "node", ticket or server.listener.ticket(), tmp_path / log))
        return nodes[-1]

    yield begin
    for node in nodes:
        if node.process.poll() is None:
            node.process.kill()
        node.process.wait()
        assert node.process.stdin is not None
        try:
            node.process.stdin.close()
        except BrokenPipeError:
            pass
        for pid in node.processes():
            os.kill(pid, signal.SIGKILL)


def launch(command: str = SLEEPS, **changed: Any) -> Mapping[str, Any]:
    """The order to start ``run_1``, a Python text."""
    spec = LaunchSpec(
        "run_1", 1, "far-0", 0, "", (), "s" * 64, sys.executable, command=(sys.executable, "-c", command),
        stop_grace_s=0.2,
    )  # fmt: skip
    return {"start": to_wire(replace(spec, **changed)), "job_token": "job's"}


def wait_until(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_part_from_its_order_to_the_order_to_exit(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    node.say(b"what an engine may say later\n")
    server.orders.put(launch("print('hello')"))
    ended = server.told("ended")
    assert ended["outcome"]["reason_code"] == "completed"
    assert server.told("started")["node"] == "far-0"
    assert server.hellos[0]["runs"] == []
    server.orders.put({"exit": {}})
    assert node.ended() == 0
    assert not node.part.exists()
    assert all(asked.headers["Authorization"] == "Bearer secret" for asked in server.listener.asked)
    assert "secret" not in node.log.read_text()


def test_it_goes_by_itself_when_nobody_says_so(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    server.orders.put(launch("pass"))
    server.told("ended")
    node.lose_place()  # the engine frees the node
    assert node.ended() == 0
    assert [event["outcome"]["reason_code"] for event in server.events if event["kind"] == "ended"] == ["completed"]


def test_how_often_it_gives_a_sign_of_life_comes_with_the_ticket(
    server: Server, start: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "3600")  # what is set on the node
    node = start(server.listener.ticket(heartbeat_s=0.05))
    server.orders.put(launch())
    server.told("heartbeat")
    node.lose_place()
    assert node.ended() == 0


@pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
def test_a_lost_place_ends_the_processes_and_is_told(server: Server, start: Callable[..., Node], how: str) -> None:
    node = start()
    server.orders.put(launch())
    server.told("started")
    wait_until(lambda: len(node.processes()) == 2)
    node.lose_place() if how == "stdin" else node.process.terminate()
    outcome = server.told("ended")["outcome"]
    assert outcome["reason_code"] == "place_lost"
    assert "far-0" in outcome["message"]
    assert node.processes() == []
    assert node.ended() == 0
    assert not node.part.exists()


def test_a_place_that_is_lost_before_there_is_a_part(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    wait_until(lambda: server.hellos)
    node.lose_place()
    assert node.ended() == 0
    assert not node.part.exists()


def test_what_ends_its_parents_group_does_not_take_it_along(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    wait_until(lambda: server.hellos)
    assert os.getsid(node.process.pid) == node.process.pid != os.getsid(0)


def test_without_word_from_the_server_the_lease_lapses(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    server.orders.put(launch("import signal; signal.signal(15, signal.SIG_IGN);" + SLEEPS, lease_s=2.0))
    server.told("started")
    wait_until(lambda: len(node.processes()) == 2)
    beats = len(server.events)
    with server.heard:  # heartbeats that are answered keep it
        assert server.heard.wait_for(lambda: len(server.events) > beats + 4, WAIT_S)
    assert len(node.processes()) == 2
    server.hearing.clear()
    wait_until(lambda: node.processes() == [])
    assert not [event for event in server.events if event["kind"] == "ended"]
    server.hearing.set()
    outcome = server.told("ended")["outcome"]
    assert outcome["reason_code"] == "lease_lapsed"
    assert "far-0" in outcome["message"]


def test_an_agent_that_the_server_does_not_know_ends_its_processes(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    server.orders.put(launch())
    server.told("started")
    wait_until(lambda: len(node.processes()) == 2)
    server.refusing = True
    server.orders.put(None)  # the line breaks, and the next call is refused
    assert node.ended() == DISMISSED
    assert node.processes() == []
    assert not node.part.exists()
    assert "the server does not know this agent's token" in node.log.read_text()


def test_a_token_that_was_never_good(server: Server, start: Callable[..., Node]) -> None:
    server.refusing = True
    assert start().ended() == DISMISSED


def test_junk_from_the_server_does_no_harm(server: Server, start: Callable[..., Node]) -> None:
    start()
    wait_until(lambda: server.hellos)
    hellos = 1
    for junk in (b"junk", b"[1]"):  # the agent hangs up and calls again
        server.orders.put(junk)  # type: ignore[arg-type]
        hellos += 1
        wait_until(lambda wanted=hellos: len(server.hellos) == wanted)  # type: ignore[misc]
    for junk in (b'{"start": 1}', b'{"start": {"run_id": "x"}}', b'{"known": [[1]]}', b'{"stop": {}}', b'{"x": 1}'):
        server.orders.put(junk)  # type: ignore[arg-type]
    server.orders.put(launch("print('hello')"))
    assert server.told("ended")["outcome"]["reason_code"] == "completed"


def test_a_killed_agents_processes_end_and_the_next_one_clears_up(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    server.orders.put(launch())
    server.told("started")
    wait_until(lambda: len(node.processes()) == 2)
    node.process.kill()
    node.ended()
    wait_until(lambda: node.processes() == [])
    assert node.part.exists()
    server.orders.put(None)
    other = start(server.listener.ticket(agent="run_2.1.0"), "other.log")
    wait_until(lambda: not node.part.exists())
    other.lose_place()
    assert other.ended() == 0


def test_an_agent_of_the_same_name_finishes_what_a_killed_one_had(server: Server, start: Callable[..., Node]) -> None:
    node = start()
    server.orders.put(launch())
    server.told("started")
    node.process.kill()
    node.ended()
    start(log="other.log")
    wait_until(lambda: len(server.hellos) == 2)
    server.orders.put({"known": [["run_1", 1, 0]]})
    assert server.told("ended")["outcome"]["reason_code"] == "agent_lost"


@pytest.mark.parametrize("in_its_way", ["nodes", "sdk", "nodes/w1/blobs/tmp", "nodes/w1/parts/run_1.1.0/ws/server"])
def test_a_node_where_nothing_can_be_written_says_so(
    server: Server, start: Callable[..., Node], tmp_path: Path, in_its_way: str
) -> None:
    path = tmp_path / "node" / in_its_way
    path.parent.mkdir(parents=True)
    path.write_text("a file")
    node = start()
    server.orders.put(launch())
    outcome = server.told("ended")["outcome"]
    assert outcome["reason_code"] == "node_unusable"
    assert "could not be started on far-0: nothing can be kept there" in outcome["message"]
    node.lose_place()
    assert node.ended() == 0


@pytest.mark.parametrize(
    "line",
    [
        b"", b"\n", b"junk\n", b"[]\n", b"1\n", b"{}\n", b'{"agent": "a"}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": [], "token": "t"}\n',
        b'{"agent": "../a", "workspace": "w", "workspace_id": "i", "servers": ["https://h:1"], "token": "t"}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": "https://h:1", "token": "t"}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": null, "token": "t"}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": [1], "token": 5}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": ["https://h:1"], "token": "t", '
        b'"certificate": 1}\n',
        b'{"agent": "a", "workspace": "w", "workspace_id": "i", "servers": ["https://h:1"], "token": "t", '
        b'"heartbeat_s": 0}\n',
    ],
)  # fmt: skip
def test_a_ticket_that_is_none(home: Path, line: bytes) -> None:
    read, write = os.pipe()
    os.write(write, line)
    os.close(write)
    with pytest.raises(UserErrorException, match=r"ticket|address of a server"):
        found = elsewhere.read_ticket(read)
        NodeFolder(found)
        Uplink(found)
    os.close(read)


def test_a_process_with_a_bad_ticket_says_so(server: Server, start: Callable[..., Node], tmp_path: Path) -> None:
    node = Node(tmp_path / "node", None, tmp_path / "agent.log")
    node.say(b"junk\n")
    assert node.ended() == USAGE
    assert "has no ticket" in (tmp_path / "agent.log").read_text()
    node.lose_place()
