"""A disk that turns read-only, fails or fills while everything runs: each place in turn, each way in turn."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from faults.evidence import Witnessed
from faults.shim import Shim
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace

GOES_ON = """
    import signal
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    diary.log(run, 100); diary.keep(2)
    run.flush()
    print("paused", flush=True)
    signal.sigwait([signal.SIGUSR1])
    diary.log(run, 100); diary.say(20)
"""
DATABASE = ["workspaces/test/windlass.db", "workspaces/test/windlass.db-wal", "workspaces/test/windlass.db-shm"]
WAYS = {"read-only": errno.EROFS, "failing": errno.EIO, "full": errno.ENOSPC, "quota": errno.EDQUOT}


@pytest.fixture
def cut(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Shim]:
    """Faults below every process of the home, for files under the place that the test's parameter names."""
    shim = Shim(tmp_path, *(home / place for place in request.param))
    for name, value in shim.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.5")
    yield shim
    shim.mend()
    end_processes_of(home)


@pytest.mark.faults
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [DATABASE, ["workspaces/test/blobs"]], ids=["database", "blobs"], indirect=True)
def test_a_run_outlives_a_disk_that_takes_nothing(workspace: Workspace, cut: Shim, way: str, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, GOES_ON).submit()
    workspace.wait_for_text(run.id, "paused")
    cut.fail(WAYS[way])
    os.kill(min(processes_of(run.id)), signal.SIGUSR1)
    if "windlass.db" in cut.variables["CUT_PREFIX"]:
        told = workspace.wait_for(run.id, lambda record: bool(record.reason and record.reason.code == "not_recorded"))
        words = {"read-only": "read-only", "failing": "failing", "full": "disk is full", "quota": "quota"}[way]
        assert told.reason and words in told.reason.message, told.reason
    cut.mend()
    run.check(status="Completed", reason="completed")


@pytest.mark.faults
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("cut", [["workspaces/test/runs"]], ids=["runs"], indirect=True)
def test_points_that_no_disk_took_are_counted(workspace: Workspace, cut: Shim, way: str, tmp_path: Path) -> None:
    run = Witnessed(workspace, tmp_path, GOES_ON.replace("diary.say(20)", "")).submit()
    workspace.wait_for_text(run.id, "paused")
    cut.fail(WAYS[way])
    os.kill(min(processes_of(run.id)), signal.SIGUSR1)
    record = workspace.wait(run.id)
    values = workspace.values(run.id, "loss")
    assert record.status.value in ("Completed", "Failed") and record.reason
    assert values == list(range(len(values))) and len(values) >= 100
    assert len(values) + record.lost_points == 200 or "could not" in record.reason.message, record
    cut.mend()
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")
