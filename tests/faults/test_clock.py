"""The machine's clock is set back, or far ahead: order, durations and timers stay what they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faults.evidence import Witnessed, left_over
from faults.hour import FastClock, gone, stopped
from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill

DAY = 86_400.0
TWO_TURNS = """
diary.log(run, 100); diary.say(10); diary.keep(1)
print("ready", flush=True)
open(os.environ["TOLD"]).read()
diary.log(run, 100); diary.say(10); diary.keep(1)
print("again", flush=True)
open(os.environ["TOLD"]).read()
diary.log(run, 100); diary.say(10); diary.keep(1)
"""
HOLDS_A_SLOT = "print('ready', flush=True); open(os.environ['TOLD']).read()"


@pytest.fixture
def told(tmp_path: Path) -> Path:
    path = tmp_path / "told"
    os.mkfifo(path)
    return path


def held(workspace: Workspace, folder: Path, told: Path, text: str, **spec: object) -> Witnessed:
    run = Witnessed(workspace, folder, text, environment_variables={"TOLD": str(told)}, **spec).submit()
    workspace.wait_for_text(run.id, "ready")
    return run


def assert_sensible(run: RunRecord) -> None:
    """Nothing happens before what came before it."""
    times = [float(entry["time"]) for entry in run.history]
    assert times == sorted(times), times
    assert run.started is not None and run.ended is not None
    assert run.created <= run.started <= run.ended


@pytest.mark.faults
@pytest.mark.parametrize("kills", [False, True], ids=["", "and the server is killed"])
def test_a_clock_that_jumps_while_a_run_goes(
    workspace: Workspace, tmp_path: Path, home: Path, clock: FastClock, told: Path, kills: bool
) -> None:
    run = held(workspace, tmp_path, told, TWO_TURNS)
    clock.set_back(DAY)
    if kills:
        kill(workspace.server_pid())
    told.write_text("go on")
    workspace.wait_for_text(run.id, "again")
    clock.set_back(-3 * DAY)
    if kills:
        kill(workspace.server_pid())
    told.write_text("go on")
    record = run.check(status="Completed", reason="completed")
    assert_sensible(record)
    clock.set_back(5 * DAY)
    before = Witnessed(workspace, tmp_path, "diary.log(run, 10)").submit()
    assert_sensible(before.check(status="Completed"))
    assert [r["id"] for r in workspace.client.get("/v1/runs")["runs"]] == [before.id, run.id], "newest first"
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
def test_a_run_that_ends_on_a_clock_set_back_has_no_negative_duration(
    workspace: Workspace, tmp_path: Path, clock: FastClock, told: Path
) -> None:
    run = held(workspace, tmp_path, told, HOLDS_A_SLOT)
    clock.set_back(DAY)
    told.write_text("go on")
    record = run.check(status="Completed")
    assert_sensible(record)
    assert record.ended is not None and record.started is not None and record.ended - record.started < 60


@pytest.mark.faults
def test_nobody_overtakes_in_line_because_the_clock_was_set_back(
    workspace: Workspace, tmp_path: Path, clock: FastClock, told: Path
) -> None:
    workspace.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    first = held(workspace, tmp_path, told, HOLDS_A_SLOT, target="small")
    waiting = []
    for _ in range(3):
        waiting.append(Witnessed(workspace, tmp_path, "diary.log(run, 3)", target="small").submit())
        workspace.wait_for(waiting[-1].id, lambda run: run.status is RunStatus.QUEUED)
        clock.set_back(DAY)
    kill(workspace.server_pid())  # the line is rebuilt from the records
    waiting.append(Witnessed(workspace, tmp_path, "diary.log(run, 3)", target="small").submit())
    for run in waiting:
        workspace.wait_for(run.id, lambda run: "in line" in str(run.reason))
    reasons = [workspace.get(run.id).reason for run in waiting]
    assert [reason.message.split()[0] for reason in reasons if reason] == ["1st", "2nd", "3rd", "4th"]
    told.write_text("go on")
    for run in (first, *waiting):
        assert_sensible(run.check(status="Completed"))


@pytest.mark.faults
@pytest.mark.parametrize("back_s", [DAY, -DAY], ids=["back", "ahead"])
def test_timers_go_by_time_that_passes(
    workspace: Workspace, tmp_path: Path, clock: FastClock, monkeypatch: pytest.MonkeyPatch, back_s: float
) -> None:
    """Time limits, heartbeats and the idle stop neither wait a day nor strike at once."""
    monkeypatch.setenv("WINDLASS_SERVER_IDLE_S", "2")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.2")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "2")
    endless = "print('ready', flush=True); import signal; signal.pause()"
    run = Witnessed(workspace, tmp_path, endless, max_run_duration_s=3).submit()
    workspace.wait_for_text(run.id, "ready")
    clock.set_back(back_s)
    record = run.check(status="Failed", reason="time_limit")
    assert_sensible(record)
    assert "NotResponding" not in [entry["status"] for entry in record.history]
    assert not processes_of(run.id)
    server = workspace.server_pid()
    clock.set_back(back_s)
    gone(server)
    again = Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit()
    again.check(status="Completed")
    assert workspace.server_pid() != server
