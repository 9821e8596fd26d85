"""The folder of a part on a node: who has it, and what becomes of what a killed agent left."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from windlass import settings
from windlass._transport.places import server_dir, socket_path
from windlass.errors import UserErrorException
from windlass.specs.launch import Ticket
from windlassd.agent.node_folder import KEPT_FOR_S, NOT_KEPT, NodeFolder


def ticket(**changed: Any) -> Ticket:
    values = {"agent": "run_1.1.0", "workspace": "ws", "workspace_id": "w1", "servers": ("https://h:1",), "token": "t"}
    return Ticket(**{**values, **changed})


@pytest.fixture
def folder(home: Path) -> Iterator[NodeFolder]:
    made = NodeFolder(ticket())
    assert made.enter(lambda: True, 0)
    yield made
    made.leave()


def killed(agent: str = "run_9.1.0") -> NodeFolder:
    """The folder of an agent that was killed with a run under way."""
    made = NodeFolder(ticket(agent=agent))
    assert made.enter(lambda: True, 0)
    os.makedirs(os.path.join(made.workspace, "runs", agent.split(".")[0], "work"))
    assert made._lock is not None
    made._lock.close()
    return made


def test_it_lies_in_the_home_and_goes_with_its_agent(folder: NodeFolder, home: Path) -> None:
    assert folder.workspace == str(home / "nodes" / "w1" / "parts" / "run_1.1.0" / "ws")
    for place in (folder.root, folder.blobs, folder.data, folder.part, folder.workspace):
        assert os.stat(place).st_mode & 0o077 == 0
    Path(folder.workspace, "file").write_text("x")
    folder.leave()
    assert os.listdir(home / "nodes" / "w1" / "parts") == []
    assert os.path.isdir(folder.blobs)


def test_a_second_agent_of_the_name_waits_for_the_first(folder: NodeFolder) -> None:
    other = NodeFolder(ticket())
    assert not other.enter(lambda: True, 0)
    asked: list[int] = []

    def wanted() -> bool:
        asked.append(1)
        folder.leave()
        return True

    assert other.enter(wanted, 60)
    assert asked
    other.leave()


def test_it_no_longer_waits_once_its_place_is_lost(folder: NodeFolder) -> None:
    assert not NodeFolder(ticket()).enter(lambda: False, 60)


def test_what_a_killed_agent_left_is_cleared_away_with_its_processes(folder: NodeFolder) -> None:
    left = killed()
    spool = os.path.join(left.workspace, "runs", "run_9", "spool")
    os.makedirs(server_dir(left.workspace))
    os.makedirs(os.path.dirname(socket_path(left.workspace)), exist_ok=True)
    Path(socket_path(left.workspace)).write_text("")
    environment = {**os.environ, settings.RUN_ID_VARIABLE: "run_9"}
    words = [sys.executable, "-c", "import signal; signal.pause()"]
    of_it = subprocess.Popen(words, env={**environment, settings.SPOOL_DIR_VARIABLE: spool})
    of_another = subprocess.Popen(words, env={**environment, settings.SPOOL_DIR_VARIABLE: "/another/attempt"})
    try:
        wait_for_environment(of_it.pid)
        folder.sweep()
        assert of_it.wait(20) == -9
        assert of_another.poll() is None
        assert not os.path.exists(left.part)
        assert not os.path.exists(socket_path(left.workspace))
        assert os.path.isdir(folder.workspace)
    finally:
        of_another.kill()
        of_another.wait()


def wait_for_environment(pid: int) -> None:
    """Return once the process is what it was started as."""
    deadline = time.monotonic() + 20
    while settings.SPOOL_DIR_VARIABLE.encode() not in Path(f"/proc/{pid}/environ").read_bytes():
        assert time.monotonic() < deadline


def test_an_agent_that_lives_is_left_alone(folder: NodeFolder) -> None:
    other = NodeFolder(ticket(agent="run_2.1.0"))
    assert other.enter(lambda: True, 0)
    folder.sweep()
    assert os.path.isdir(other.workspace)
    other.leave()


def test_what_the_server_does_not_have_stays_for_a_week(folder: NodeFolder) -> None:
    folder.note_not_kept()
    folder.leave()
    assert os.path.isdir(folder.workspace)
    sweeper = NodeFolder(ticket(agent="run_2.1.0"))
    assert sweeper.enter(lambda: True, 0)
    sweeper.sweep()
    assert os.path.isdir(folder.workspace)
    long_ago = time.time() - KEPT_FOR_S - 1
    os.utime(os.path.join(folder.part, NOT_KEPT), (long_ago, long_ago))
    sweeper.sweep()
    assert not os.path.exists(folder.part)
    sweeper.leave()


@pytest.mark.parametrize("name", ["agent", "workspace", "workspace_id"])
@pytest.mark.parametrize("value", ["..", "a/b", "", ".x", "a\0", "x" * 300, None])
def test_names_that_lead_out_are_refused(home: Path, name: str, value: Any) -> None:
    with pytest.raises(UserErrorException, match="cannot be the name of a folder"):
        NodeFolder(ticket(**{name: value}))
