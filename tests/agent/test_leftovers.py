"""What a killed agent left on disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec
from windlassd.agent import leftovers
from windlassd.blobs.run_folder import RunFolder

LAUNCH = LaunchSpec("run_1", 1, "local-0", 0, "train.py", ("--a", "1"), "5" * 64, "/usr/bin/python3")


def test_the_launch_is_read_back(folder: RunFolder) -> None:
    assert leftovers.read_launch(folder) is None
    Path(folder.agent, "launch.json").write_text(json.dumps({**to_wire(LAUNCH), "newer": 1}))
    assert leftovers.read_launch(folder) == LAUNCH


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "\xff"])
def test_a_torn_file_is_as_none(folder: RunFolder, content: str) -> None:
    for name in ("launch.json", "exit.json"):
        Path(folder.agent, name).write_text(content, encoding="latin-1")
    assert leftovers.read_launch(folder) is None
    assert leftovers.read_exit(folder, timeout_s=0) is None


def test_an_exit_that_is_being_written_is_waited_for(folder: RunFolder) -> None:
    report = {"ended": [], "agent_lost": True}
    writer = threading.Timer(0.05, Path(folder.agent, "exit.json").write_text, [json.dumps(report)])
    writer.start()
    assert leftovers.read_exit(folder, timeout_s=30) == report
    writer.join()


def test_nobody_carries_an_unknown_id() -> None:
    assert leftovers.processes_of("no_such_run") == []
    leftovers.kill_processes_of("no_such_run")
