"""SIGKILL each part at the main steps of a run: nothing logged is lost, the status has its reason, nothing is left."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import TRAINS_UNTIL_TOLD, Workspace, kill


def keeper_of(workspace: Workspace, run_id: str) -> int:
    """The keeper: the parent of the script's process."""
    with open(f"/proc/{script_of(run_id)}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def script_of(run_id: str) -> int:
    """The script's process: the oldest that carries the run's id."""
    return min(processes_of(run_id))


def go_on(run_id: str) -> None:
    os.kill(script_of(run_id), signal.SIGUSR1)


@pytest.fixture
def training(workspace: Workspace) -> str:
    """A run that has logged 200 points and waits for SIGUSR1 to log 200 more."""
    run_id = workspace.submit(TRAINS_UNTIL_TOLD)
    workspace.wait_for_text(run_id, "trained")
    return run_id


def test_kill_the_script(workspace: Workspace, training: str) -> None:
    kill(script_of(training))
    run = workspace.wait(training)
    assert (run.status, run.exit_signal, run.reason.code) == (RunStatus.FAILED, "SIGKILL", "signal")
    assert_kept(workspace, training, 200)


def test_kill_the_keeper(workspace: Workspace, training: str) -> None:
    kill(keeper_of(workspace, training))
    run = workspace.wait(training)
    assert (run.status, run.reason.code) == (RunStatus.FAILED, "keeper_lost")
    assert "local-0" in run.reason.message
    assert_kept(workspace, training, 200)
    assert_works(workspace)


def test_kill_the_agent(workspace: Workspace) -> None:
    _small(workspace)
    training = workspace.submit(TRAINS_UNTIL_TOLD, target="small")
    workspace.wait_for_text(training, "trained")
    waiting = [workspace.submit("print('after')", target="small") for _ in range(2)]
    for run_id in waiting:
        workspace.wait_for(run_id, lambda run: run.status is RunStatus.QUEUED)
    before = workspace.agent_pid()
    kill(before)
    run = workspace.wait(training)
    assert (run.status, run.reason.code) == (RunStatus.FAILED, "agent_lost")
    assert_kept(workspace, training, 200)
    for run_id in waiting:
        assert workspace.wait(run_id).status is RunStatus.COMPLETED
    assert workspace.agent_pid() != before


@pytest.mark.faults
def test_kill_agent_and_keeper_at_once(workspace: Workspace, training: str) -> None:
    keeper, agent = keeper_of(workspace, training), workspace.agent_pid()
    kill(keeper)
    kill(agent)
    assert workspace.wait(training).status is RunStatus.FAILED
    assert_kept(workspace, training, 200)
    assert_works(workspace)


def test_kill_the_server_while_a_run_goes(workspace: Workspace, training: str) -> None:
    kill(workspace.server_pid())
    go_on(training)
    run = workspace.wait(training)
    assert run.status is RunStatus.COMPLETED
    assert workspace.log(training) == "trained\ndone\n"
    assert_kept(workspace, training, 400)


@pytest.mark.faults
def test_kill_server_and_agent_at_once(workspace: Workspace, training: str) -> None:
    server, agent = workspace.server_pid(), workspace.agent_pid()
    kill(server)
    kill(agent)
    assert workspace.wait(training).status is RunStatus.FAILED
    assert_kept(workspace, training, 200)


def test_queued_runs_go_on_without_anyone_calling(workspace: Workspace) -> None:
    _small(workspace)
    first = workspace.submit(TRAINS_UNTIL_TOLD, target="small")
    workspace.wait_for_text(first, "trained")
    mark = os.path.join(workspace.dir, "second-ran")
    second = workspace.submit(f"open({mark!r}, 'w').write('yes')", target="small")
    workspace.wait_for(second, lambda run: run.status is RunStatus.QUEUED)
    kill(workspace.server_pid())
    go_on(first)
    wait_for_file(mark)  # looks at the disk only: no call of ours may wake the server
    assert workspace.wait(second).status is RunStatus.COMPLETED
    assert workspace.wait(first).status is RunStatus.COMPLETED


def test_kill_the_server_right_after_submit(workspace: Workspace) -> None:
    for _ in range(2):
        run_id = workspace.submit("print('ran')")
        kill(workspace.server_pid())
        assert workspace.wait(run_id).status is RunStatus.COMPLETED
        assert workspace.log(run_id) == "ran\n"


@pytest.mark.faults
@pytest.mark.parametrize("deleted_first", [False, True], ids=["announced, deleted", "deleted, announced"])
def test_code_that_was_promised_outlives_its_last_run_and_the_server(workspace: Workspace, deleted_first: bool) -> None:
    code = {"train.py": b"print('ran')"}
    run_id = workspace.submit("print('ran')")
    workspace.wait(run_id)
    if deleted_first:
        workspace.snapshot(code)  # so that it stays, noted as going
        workspace.client.delete(f"/v1/runs/{run_id}")
        kill(workspace.server_pid())
    snapshot_id = workspace.snapshot(code)
    if not deleted_first:
        workspace.client.delete(f"/v1/runs/{run_id}")
    kill(workspace.server_pid())
    other = workspace.submit("print('other')")
    workspace.wait(other)
    workspace.client.delete(f"/v1/runs/{other}")  # returns when all that was deleted before is freed, too
    spec = {
        "experiment": "test", "script": "train.py", "snapshot_id": snapshot_id,
        "environment": {"user_managed": True, "interpreter": sys.executable},
    }  # fmt: skip
    again = workspace.client.post("/v1/runs", {"request_id": "again", "spec": spec})["id"]
    assert workspace.wait(again).status is RunStatus.COMPLETED and workspace.log(again) == "ran\n"


def test_a_stopped_agent_is_not_responding_and_then_back(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDLASS_HEARTBEAT_S", "0.1")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "1")
    run_id = workspace.submit(TRAINS_UNTIL_TOLD)
    workspace.wait_for_text(run_id, "trained")
    agent = workspace.agent_pid()
    os.kill(agent, signal.SIGSTOP)
    run = workspace.wait_for(run_id, lambda run: run.status is RunStatus.NOT_RESPONDING)
    assert run.reason.code == "heartbeat_lost"
    os.kill(agent, signal.SIGCONT)
    workspace.wait_for(run_id, lambda run: run.status is RunStatus.RUNNING)
    go_on(run_id)
    assert workspace.wait(run_id).status is RunStatus.COMPLETED
    assert_kept(workspace, run_id, 400)


def assert_kept(workspace: Workspace, run_id: str, points: int) -> None:
    """Every point once and in order, the output and the log; and no process."""
    assert workspace.values(run_id, "loss") == list(range(points))
    assert workspace.read(run_id, "outputs/checkpoint.txt") == b"kept"
    assert workspace.log(run_id).startswith("trained\n")
    assert processes_of(run_id) == []


def assert_works(workspace: Workspace) -> None:
    assert workspace.wait(workspace.submit("print('next')")).status is RunStatus.COMPLETED


def wait_for_file(path: str) -> None:
    """Until ``path`` exists, by inotify on its folder."""
    from inotify_simple import INotify, flags

    with INotify() as watcher:
        watcher.add_watch(os.path.dirname(path), flags.CREATE | flags.MOVED_TO)
        while not os.path.exists(path):
            assert watcher.read(timeout=60_000), f"{path} did not appear"


def _small(workspace: Workspace) -> None:
    workspace.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
