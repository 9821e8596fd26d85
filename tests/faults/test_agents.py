"""The agent, its nursery and its keepers are killed or stopped at each step of a run."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from faults.evidence import Witnessed
from faults.fuses import (
    Fused,
    fuse_home,
    lies_about,
    wait_for_file,
    wait_for_one_of_each,
    wait_until_dead,
    wait_until_sealed,
)
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill

AGENT_STEPS = {
    "order received": "agent.py:_start:call",
    "folder made": "run_folder.py:make:return",
    "snapshot materialising": "snapshots.py:materialize:call",
    "snapshot materialised": "materialize.py:make_work_folder:return",
    "data ready": "data.py:prepare:return",
    "keeper about to be asked": "nursery.py:start:call",
    "keeper asked": "nursery.py:start:return",
    "script ended, not told": "outcome.py:judge:call",
    "finalizing": "node_run.py:finish:call",
    "points shipped": "ship.py:drain:return",
    "outputs being moved": "run_folder.py:_settle_links:call",
    "outputs moved": "run_folder.py:keep_live:return",
    "outcome queued": "ship.py:wait:call",
    "outcome acknowledged": "ship.py:wait:return",
    "being sealed": "run_folder.py:seal:call",
    "sealed": "run_folder.py:seal:return",
}
NEVER_STARTED = ("order received", "folder made", "snapshot materialising", "snapshot materialised", "data ready")
UNDER_WAY = ("keeper about to be asked", "keeper asked")


@pytest.fixture
def fused(home: Path, workspace: Workspace) -> Workspace:
    fuse_home(home)
    return workspace


@pytest.mark.parametrize(
    ("role", "at", "code"),
    [
        ("agent", AGENT_STEPS["snapshot materialising"], "completed"),
        ("keeper", "keeper.py:_leave:return", "completed"),
        ("keeper", "keeper.py:_watch:call", "keeper_lost"),
    ],
)
def test_killed_at_a_step(fused: Workspace, home: Path, tmp_path: Path, role: str, at: str, code: str) -> None:
    """Three of the steps below, in the default run."""
    run = Fused(fused, tmp_path, role=role, at=at, victims=(role,)).submit()
    record = run.settle(home)
    assert run.blown_file.exists() and record.reason is not None and record.reason.code == code


@pytest.mark.faults
def test_the_agent_killed_at_each_step(fused: Workspace, home: Path, tmp_path: Path) -> None:
    for step, at in AGENT_STEPS.items():
        run = Fused(fused, tmp_path, at=at).submit()
        record = run.settle(home)
        assert run.blown_file.exists(), f"{step}: nothing was killed"
        assert record.reason is not None
        expected = "agent_lost" if step in UNDER_WAY else "completed"
        assert record.reason.code == expected, (step, record.reason)
    wait_for_one_of_each(fused, home)


KEEPER_STEPS = {
    "forked": "keeper.py:keep:call",
    "script about to be started": "keeper.py:_start_rank:call",
    "script started": "keeper.py:_start_rank:return",
    "watching": "keeper.py:_watch:call",
    "script ended": "keeper.py:_drain:call",
    "script reaped, told": "keeper.py:_watch:return",
    "others being killed": "keeper.py:_kill_all:call",
    "others killed": "keeper.py:_kill_all:return",
    "report being left": "keeper.py:_leave:call",
    "report left": "keeper.py:_leave:return",
    "done": "keeper.py:keep:return",
}
STARTED_NOTHING = ("forked",)
ENDED_WELL = ("script reaped, told", "others being killed", "others killed", "report being left", "report left", "done")


@pytest.mark.faults
def test_the_keeper_killed_at_each_step(fused: Workspace, home: Path, tmp_path: Path) -> None:
    for step, at in KEEPER_STEPS.items():
        run = Fused(fused, tmp_path, role="keeper", at=at, victims=("keeper",)).submit()
        record = run.settle(home)
        assert run.blown_file.exists(), f"{step}: nothing was killed"
        assert record.reason is not None
        expected = "completed" if step in STARTED_NOTHING or step in ENDED_WELL else "keeper_lost"
        assert record.reason.code == expected, (step, record.reason)
    wait_for_one_of_each(fused, home)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("role", "victims"),
    [
        ("agent", ("agent",)),
        ("keeper", ("keeper",)),
        ("agent", ("nursery",)),
        ("agent", ("keeper", "agent")),
        ("agent", ("nursery", "agent")),
        ("agent", ("server", "agent")),
        ("agent", ("server", "nursery", "keeper", "script", "agent")),
    ],
)
def test_killed_anywhere(
    fused: Workspace, home: Path, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range],
    role: str, victims: tuple[str, ...],
) -> None:  # fmt: skip
    whole = Fused(fused, tmp_path, role=role, at="nowhere", victims=victims).submit()
    assert whole.settle(home).status.value == "Completed"
    lines = int(whole.report_file.read_text())
    for _ in rounds(5):
        run = Fused(fused, tmp_path, role=role, line=chance.randint(1, lines), victims=victims)
        print(run.name)
        record = run.submit().settle(home)
        assert record.reason is not None
        assert record.reason.code in ("completed", *LOSSES[victims[-1]]), record.reason
    wait_for_one_of_each(fused, home)


@pytest.mark.faults
def test_several_runs_under_one_agent_that_is_killed(
    fused: Workspace, home: Path, tmp_path: Path, chance: random.Random, rounds: Callable[[int], range]
) -> None:
    for _ in rounds(3):
        runs = [Fused(fused, tmp_path, at="nowhere").submit() for _ in range(2)]
        runs.append(Fused(fused, tmp_path, line=chance.randint(1, 800)).submit())
        runs += [Fused(fused, tmp_path, at="nowhere").submit() for _ in range(2)]
        for run in runs:
            record = run.workspace.wait(run.id)
            assert record.reason is not None and record.reason.code in ("completed", "agent_lost"), record.reason
        for run in runs:  # now that all have ended, nothing may be left of any
            run.settle(home)
    wait_for_one_of_each(fused, home)


LOSSES = {"agent": ("agent_lost",), "keeper": ("keeper_lost",), "nursery": ()}
"""How a run may end when that one was killed; without its nursery it goes on."""


WAITS = """
    import signal, subprocess
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    diary.log(run, 200); diary.say(10); diary.keep(2)
    print("trained", flush=True)
    signal.sigwait([signal.SIGUSR1])
    diary.log(run, 200); diary.say(10); diary.keep(2)
"""
"""A script that stops half-way until SIGUSR1 comes, and takes no notice of SIGTERM."""


@pytest.fixture
def training(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Witnessed:
    """A run half-way, under short timers."""
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.1")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "1")
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "0.2")
    run = Witnessed(workspace, tmp_path, WAITS).submit()
    workspace.wait_for_text(run.id, "trained")
    return run


def script_of(run: Witnessed) -> int:
    return min(processes_of(run.id))


def keeper_of(run: Witnessed) -> int:
    return psutil.Process(script_of(run)).ppid()


def nursery_of(workspace: Workspace) -> int:
    return workspace.children_of(workspace.agent_pid())[0]


@pytest.mark.faults
def test_a_stopped_agent_is_shown_and_loses_nothing(workspace: Workspace, training: Witnessed, home: Path) -> None:
    agent = workspace.agent_pid()
    os.kill(agent, signal.SIGSTOP)
    os.kill(script_of(training), signal.SIGUSR1)  # the script goes on and ends meanwhile
    silent = workspace.wait_for(training.id, lambda run: run.status is RunStatus.NOT_RESPONDING)
    assert silent.reason is not None and silent.reason.code == "heartbeat_lost"
    os.kill(agent, signal.SIGCONT)
    record = training.check(status="Completed", reason="completed")
    assert "NotResponding" in [entry["status"] for entry in record.history]
    assert workspace.agent_pid() == agent
    wait_until_sealed(workspace, training.id)
    assert lies_about(workspace, home) == []


@pytest.mark.faults
def test_a_stopped_agent_is_back_before_the_script_ends(workspace: Workspace, training: Witnessed) -> None:
    agent = workspace.agent_pid()
    for _ in range(2):
        os.kill(agent, signal.SIGSTOP)
        workspace.wait_for(training.id, lambda run: run.status is RunStatus.NOT_RESPONDING)
        os.kill(agent, signal.SIGCONT)
        workspace.wait_for(training.id, lambda run: run.status is RunStatus.RUNNING)
    os.kill(script_of(training), signal.SIGUSR1)
    training.check(status="Completed", reason="completed")


@pytest.mark.faults
def test_a_stopped_agent_that_is_killed_is_replaced(workspace: Workspace, training: Witnessed) -> None:
    agent = workspace.agent_pid()
    os.kill(agent, signal.SIGSTOP)
    workspace.wait_for(training.id, lambda run: run.status is RunStatus.NOT_RESPONDING)
    kill(agent)
    training.check(status="Failed", reason="agent_lost")
    assert workspace.agent_pid() != agent


@pytest.mark.faults
def test_a_stopped_keeper_goes_on_where_it_was(workspace: Workspace, training: Witnessed) -> None:
    keeper, script = keeper_of(training), script_of(training)
    os.kill(keeper, signal.SIGSTOP)
    os.kill(script, signal.SIGUSR1)
    wait_until_dead(script)
    os.kill(keeper, signal.SIGCONT)
    training.check(status="Completed", reason="completed")


@pytest.mark.faults
@pytest.mark.parametrize("who", ["script", "keeper", "nursery", "agent's line"])
def test_cancel_gets_through_whoever_is_stopped(
    workspace: Workspace, training: Witnessed, home: Path, who: str
) -> None:
    stopped = {"script": script_of, "keeper": keeper_of, "nursery": lambda run: nursery_of(workspace)}
    if who in stopped:
        os.kill(stopped[who](training), signal.SIGSTOP)
    else:
        kill(workspace.server_pid())  # the order has to reach the agent over the next server's line
    workspace.client.post(f"/v1/runs/{training.id}/cancel")
    training.check(status="Canceled", reason="canceled")
    wait_until_sealed(workspace, training.id)
    if who == "nursery":
        os.kill(nursery_of(workspace), signal.SIGCONT)
    after = Witnessed(workspace, Path(training.diary.path).parent, "diary.log(run, 10); diary.say(1)").submit()
    after.check(status="Completed")
    wait_for_one_of_each(workspace, home)


@pytest.mark.faults
def test_a_start_over_a_stopped_nursery_can_be_canceled(
    workspace: Workspace, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "0.2")
    Witnessed(workspace, tmp_path, "pass").submit().check(status="Completed")
    os.kill(stopped := nursery_of(workspace), signal.SIGSTOP)
    run = Fused(workspace, tmp_path, at="nowhere").submit()
    for part in (".", "agent", "agent/launch.json"):  # then the nursery is asked, in the same moment
        wait_for_file(os.path.normpath(os.path.join(workspace.dir, "runs", run.id, part)))
    workspace.client.post(f"/v1/runs/{run.id}/cancel")
    assert run.settle(home).status is RunStatus.CANCELED and run.starts == 0
    if workspace.children_of(workspace.agent_pid()) == [stopped]:  # the cancel overtook it, and nobody asked
        os.kill(stopped, signal.SIGCONT)
    Witnessed(workspace, tmp_path, "diary.log(run, 10); diary.say(1)").submit().check(status="Completed")
    wait_for_one_of_each(workspace, home)


@pytest.mark.faults
def test_a_stopped_keeper_does_not_outlive_its_agent(workspace: Workspace, training: Witnessed, home: Path) -> None:
    os.kill(keeper_of(training), signal.SIGSTOP)
    kill(workspace.agent_pid())
    training.check(status="Failed", reason="agent_lost")
    wait_for_one_of_each(workspace, home)


@pytest.mark.faults
def test_a_stopped_server_loses_nothing(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.1")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "0.5")
    runs = [Witnessed(workspace, tmp_path, WAITS).submit() for _ in range(2)]
    for run in runs:
        workspace.wait_for_text(run.id, "trained")
    server, agent = workspace.server_pid(), workspace.agent_pid()
    os.kill(server, signal.SIGSTOP)
    for run in runs:
        script = script_of(run)
        os.kill(script, signal.SIGUSR1)
        wait_until_dead(script)
    os.kill(server, signal.SIGCONT)
    for run in runs:
        run.check(status="Completed", reason="completed")
    assert (workspace.server_pid(), workspace.agent_pid()) == (server, agent)


@pytest.mark.faults
def test_the_time_limit_stands_when_the_agent_is_killed_over_it(
    fused: Workspace, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_STOP_GRACE_S", "30")
    run = Fused(fused, tmp_path, at="nursery.py:terminate:return", text=WAITS)
    run.limit_s(1)
    record = run.submit().settle(home)
    assert record.reason is not None and record.reason.code == "time_limit" and run.blown_file.exists()
