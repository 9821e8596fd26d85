"""What a killed agent left on disk."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from windlass.specs._codec import to_wire
from windlass.specs.launch import LaunchSpec
from windlass.specs.run import Reason
from windlassd.agent import leftovers
from windlassd.agent.nursery import Nursery
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


def test_an_exit_that_nobody_can_write_is_not_waited_for(folder: RunFolder) -> None:
    assert leftovers.read_exit(folder, timeout_s=1e9, may_come=lambda: False) is None


def test_a_launch_of_another_boot_is_known(folder: RunFolder) -> None:
    assert not leftovers.was_another_boot(folder)
    for boot, another in ((leftovers.this_boot(), False), ("another", True)):
        Path(folder.agent, "launch.json").write_text(json.dumps({**to_wire(LAUNCH), "boot": boot}))
        assert leftovers.was_another_boot(folder) is another and leftovers.read_launch(folder) == LAUNCH
    Path(folder.agent, "launch.json").write_text(json.dumps(to_wire(LAUNCH)))  # the first version's
    assert not leftovers.was_another_boot(folder)


def test_a_launch_without_sense_is_as_none(folder: RunFolder) -> None:
    Path(folder.agent, "launch.json").write_text('{"attempt": 1}')
    assert leftovers.read_launch(folder) is None


def test_the_reason_of_a_stop_is_read_back(folder: RunFolder) -> None:
    assert leftovers.read_stop(folder) is None
    leftovers.remember_stop(folder, Reason("time_limit", "It took too long."))
    assert leftovers.read_stop(folder) == Reason("time_limit", "It took too long.")


def test_a_stop_before_the_folder_is_there_is_no_error(home: Path) -> None:
    folder = RunFolder(str(home / "workspaces" / "ws"), "not_made")
    leftovers.remember_stop(folder, Reason("canceled", "The run was canceled."))
    assert leftovers.read_stop(folder) is None


def test_keepers_are_told_apart_by_their_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "agents").mkdir()
    monkeypatch.chdir(tmp_path / "agents")
    nursery = Nursery()
    assert leftovers.others_keep(str(tmp_path), None) and not leftovers.others_keep(str(tmp_path), nursery.pid)
    assert not leftovers.others_keep(str(tmp_path / "other"), None)
    nursery.close()
    assert nursery._process is not None
    nursery._process.wait(30)
    assert not leftovers.others_keep(str(tmp_path), None)


def test_nobody_carries_an_unknown_id() -> None:
    assert leftovers.processes_of("no_such_run") == []
    leftovers.kill_processes_of("no_such_run")
