"""The agent without a server: orders go in, events come out, and what a predecessor left is cleared up."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from windlass.errors import ServiceUnavailable, UserErrorException
from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import RunRecord, RunSpec
from windlass.specs.status import RunStatus
from windlassd.agent import agent as agent_module
from windlassd.agent import data
from windlassd.agent.agent import Agent
from windlassd.blobs.files import FileBlobStore
from windlassd.blobs.run_folder import DRIVER_LOG, RunFolder

SCRIPT = b"print('ran')\nopen('outputs/model.txt', 'w').write('weights')\n"
SNAPSHOT = "5" * 64


class FakeServer:
    """Takes events and answers questions; ``trouble`` is raised before it does, once for each."""

    def __init__(self, workspace_dir: str) -> None:
        self.workspace_dir = workspace_dir
        self.ends: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self.records: dict[str, RunStatus] = {}
        self.trouble: list[Exception] = []
        self.asked: list[str] = []

    def get(self, path: str) -> Any:
        self.asked.append(path)
        if self.trouble:
            raise self.trouble.pop()
        if path.startswith("/v1/snapshots/"):
            digest = hashlib.sha256(SCRIPT).hexdigest()
            return {"files": [{"path": "train.py", "sha256": digest, "size": len(SCRIPT), "mode": 0o644}]}
        run_id = path.rpartition("/")[2]
        if run_id not in self.records:
            raise UserErrorException(f"There is no run {run_id!r}.")
        spec = RunSpec("exp", "train.py", SNAPSHOT)
        return to_wire(RunRecord(run_id, "exp", 1, self.records[run_id], spec, 1.0))

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        for event in body["events"]:
            if event["kind"] == "ended":
                self.ends.put(event)

    def call(self, method: str, path: str, *, query: Mapping[str, Any], body: bytes, content_type: str) -> Any:
        return {"acked": query["offset"] + len(body)}


class NoLine:
    """Stands in for the order line: the test gives the orders."""

    def __init__(self, *told: Any) -> None:
        pass


@pytest.fixture
def workspace_dir(home: Path) -> str:
    return str(home / "workspaces" / "ws")


@pytest.fixture
def server(workspace_dir: str) -> FakeServer:
    return FakeServer(workspace_dir)


@pytest.fixture
def begin(server: FakeServer, workspace_dir: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Agent]]:
    """Start an agent on the workspace."""
    monkeypatch.setattr(agent_module, "Client", lambda folder: server)
    monkeypatch.setattr(agent_module, "OrderLine", NoLine)
    monkeypatch.setattr(agent_module, "_ASK_AGAIN_S", 0.0)
    begun: list[Agent] = []

    def start() -> Agent:
        begun.append(Agent(workspace_dir, "local"))
        return begun[-1]

    blobs = FileBlobStore(f"{workspace_dir}/blobs")
    blobs.put([SCRIPT], hashlib.sha256(SCRIPT).hexdigest())
    yield start
    blobs.close()
    for made in begun:
        made._tools.nursery.close()
        made._tools.nursery._process.wait(30)  # type: ignore[union-attr]
        made._tools.sources.close()


def launch(run_id: str = "run_1") -> LaunchSpec:
    return LaunchSpec(run_id, 1, "local-0", 0, "train.py", (), SNAPSHOT, sys.executable)


def held(workspace_dir: str) -> list[str]:
    return os.listdir(f"{workspace_dir}/agents/local/held")


def wait_for_end(agent: Agent, server: FakeServer) -> Mapping[str, Any]:
    """The told end, once its run is cleared up."""
    event = server.ends.get(timeout=30)
    for thread in [*agent._runs.values()]:
        thread.join(30)
    return event


def test_the_snapshot_is_asked_for_until_the_server_is_back(
    begin: Callable[[], Agent], server: FakeServer, workspace_dir: str
) -> None:
    agent = begin()
    server.trouble = [ServiceUnavailable("away"), ServiceUnavailable("away")]
    agent.obey({"start": to_wire(launch())})
    event = wait_for_end(agent, server)
    assert event["outcome"]["reason_code"] == "completed", event
    assert server.asked == [f"/v1/snapshots/{SNAPSHOT}"] * 3
    folder = RunFolder(workspace_dir, "run_1")
    assert Path(folder.get(DRIVER_LOG)).read_text() == "ran\n"
    assert os.listdir(folder.root) == ["files"] and held(workspace_dir) == []
    agent.obey({"start": to_wire(launch("run_2"))})
    wait_for_end(agent, server)
    assert len(server.asked) == 3, "what was answered is remembered"


def test_a_snapshot_that_is_gone_ends_the_run(begin: Callable[[], Agent], server: FakeServer) -> None:
    agent = begin()
    server.trouble = [UserErrorException("There is no snapshot of that id.")]
    agent.obey({"start": to_wire(launch())})
    outcome = wait_for_end(agent, server)["outcome"]
    assert outcome["reason_code"] == "start_failed" and "no snapshot of that id" in outcome["message"]


def test_a_start_that_cannot_be_read_ends_the_run(begin: Callable[[], Agent], server: FakeServer) -> None:
    agent = begin()
    with pytest.raises(TypeError):
        agent.obey({"start": {"run_id": "run_1", "attempt": 1}})
    event = server.ends.get(timeout=30)
    assert (event["run_id"], event["outcome"]["reason_code"]) == ("run_1", "start_failed")
    assert agent._held() == []


@pytest.mark.parametrize("order", [{"stop": {}}, {"known": [1]}, {"start": {}}])
def test_orders_without_sense_raise_and_change_nothing(begin: Callable[[], Agent], order: Any) -> None:
    agent = begin()
    with pytest.raises((KeyError, TypeError)):
        agent.obey(order)
    assert agent._held() == []


def test_orders_of_a_later_version_are_passed_over(
    begin: Callable[[], Agent], caplog: pytest.LogCaptureFixture
) -> None:
    agent = begin()
    agent.obey({"drain": {}})
    agent.obey({"refused": "The agent is of an older Windlass."})
    assert agent._held() == [] and "of an older Windlass" in caplog.text


def left_behind(workspace_dir: str, run_id: str) -> RunFolder:
    """What an agent leaves that was killed after the end was acknowledged."""
    folder = RunFolder(workspace_dir, run_id)
    folder.make()
    os.makedirs(os.path.join(folder.work, "outputs"))
    Path(folder.work, "outputs", "model.txt").write_text("weights")
    Path(folder.agent, "launch.json").write_text(json.dumps(to_wire(launch(run_id))))
    Path(folder.agent, "exit.json").write_text(json.dumps({"ended": [{"rank": 0, "status": 0}], "agent_lost": False}))
    os.makedirs(f"{workspace_dir}/agents/local/held", exist_ok=True)
    Path(workspace_dir, "agents", "local", "held", run_id).touch()
    return folder


def test_a_run_whose_end_is_recorded_is_cleared_up(
    begin: Callable[[], Agent], server: FakeServer, workspace_dir: str
) -> None:
    over, going = left_behind(workspace_dir, "over"), left_behind(workspace_dir, "going")
    left_behind(workspace_dir, "deleted")
    server.records = {"over": RunStatus.COMPLETED, "going": RunStatus.RUNNING}
    agent = begin()
    assert server.asked == []
    agent.obey({"known": []})
    agent.obey({"known": []})  # the next line: it is not done again
    event = server.ends.get(timeout=30)
    assert event["run_id"] == "over" and event["outcome"]["reason_code"] == "completed"
    agent.obey({"known": [["going", 1, 0]]})
    assert server.ends.get(timeout=30)["run_id"] == "going"
    for thread in list(agent_threads()):
        thread.join(30)
    assert os.listdir(over.root) == ["files"] and os.listdir(going.root) == ["files"]
    assert Path(over.get("outputs/model.txt")).read_text() == "weights"
    assert held(workspace_dir) == [] and len(server.asked) == 3


def failing_once(call: Callable[..., Any], *about: Any) -> Callable[..., Any]:
    """``call``, but for the first one that begins with these arguments."""
    failed: list[Any] = []

    def called(*given: Any, **more: Any) -> Any:
        if not failed and given[: len(about)] == about:
            failed.append(given)
            raise TypeError("no such thing")
        return call(*given, **more)

    return called


@pytest.mark.parametrize("broken", ["finalizing", "outcome", "ledger"])
@pytest.mark.parametrize("lost", [False, True], ids=["held", "lost"])
def test_a_bug_at_the_very_end_is_told_and_leaves_no_run_hanging(
    begin: Callable[[], Agent], server: FakeServer, workspace_dir: str, monkeypatch: pytest.MonkeyPatch, broken: str,
    lost: bool,
) -> None:  # fmt: skip
    if lost:
        left_behind(workspace_dir, "run_1")
        server.records["run_1"] = RunStatus.RUNNING
    agent = begin()
    shipper, ledger = agent._tools.shipper, agent._tools.ledger
    if broken == "finalizing":
        monkeypatch.setattr(shipper, "event", failing_once(shipper.event, ("run_1", 1, 0), "finalizing"))
    elif broken == "outcome":
        files = agent._tools.files
        brought = files.bring_home
        odd = [{"path": b"no text", "size": 1}]
        monkeypatch.setattr(files, "bring_home", lambda key: replace(brought(key), files=odd))
    else:
        monkeypatch.setattr(data, "copy_back", lambda *_: ["1 file was not sent."])
        monkeypatch.setattr(ledger, "remove", failing_once(ledger.remove, ("run_1", 1, 0)))
    agent.obey({"known": [["run_1", 1, 0]]} if lost else {"start": to_wire(launch())})
    outcome = wait_for_end(agent, server)["outcome"]
    assert outcome["reason_code"] == "internal_error" and "Please report it" in outcome["message"], outcome
    assert RunFolder(workspace_dir, "run_1").root in outcome["message"]
    for thread in list(agent_threads()):
        thread.join(30)
    assert agent._held() == [] and held(workspace_dir) == []
    found = RunFolder(workspace_dir, "run_1").get("outputs/model.txt")
    assert Path(found).read_text() == "weights", "what the script wrote is still there"


def agent_threads() -> Iterator[Any]:
    yield from (t for t in threading.enumerate() if t.name.startswith(("recover", "clear up")))
