"""Runs on machines that are really apart, from submit to the last file."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.testing.harness import TRAINS_UNTIL_TOLD, Workspace, kill
from windlassd.testing.netns import Machine

pytestmark = pytest.mark.nodes
SPEAKS = """
    import os, socket
    from azureml.core import Run
    run = Run.get_context()
    rank = int(os.environ["AZ_BATCHAI_TASK_INDEX"])
    run.log("rank", rank)
    open("outputs/both.txt", "w").write(socket.gethostname())
    open(f"outputs/only{rank}.txt", "w").write("x" * 1000 * (rank + 1))
    print("I am", rank, "on", socket.gethostname(), flush=True)
"""


def test_a_run_on_one_machine(workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
    run_id = workspace.submit(SPEAKS, target=cluster)
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert "I am 0 on one" in workspace.log(run_id)
    assert workspace.read(run_id, "outputs/both.txt") == b"one"
    assert workspace.values(run_id, "rank") == [0]


def test_a_run_on_two_machines_is_one_run(workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
    run_id = workspace.submit(SPEAKS, target=cluster, node_count=2)
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert [(part["node"], part["status"]) for part in run.parts] == [("one", "ended"), ("two", "ended")]
    for rank, name in enumerate(["one", "two"]):
        log = workspace.read(run_id, f"azureml-logs/70_driver_log_{rank}.txt").decode()
        assert f"I am {rank} on {name}" in log
        assert workspace.read(run_id, f"outputs/only{rank}.txt") == b"x" * 1000 * (rank + 1)
    assert workspace.read(run_id, "outputs/both.txt") == b"one"
    assert workspace.read(run_id, "outputs/two/both.txt") == b"two"
    assert sorted(workspace.values(run_id, "rank")) == [0, 1]
    nothing_left(machines)


def test_what_happens_is_seen_while_it_does_and_cancel_ends_it_everywhere(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = workspace.submit(TRAINS_UNTIL_TOLD, target=cluster, node_count=3)
    workspace.wait_for(run_id, lambda run: run.status is RunStatus.RUNNING)
    for rank in range(3):
        wait_for_line(workspace, run_id, rank, "trained")
    until(lambda: len(workspace.values(run_id, "loss")) == 600)
    until(lambda: "outputs/checkpoint.txt" in workspace.files(run_id))
    workspace.client.post(f"/v1/runs/{run_id}/cancel")
    assert workspace.wait(run_id).status is RunStatus.CANCELED
    nothing_left(machines)
    assert workspace.read(run_id, "outputs/two/checkpoint.txt") == b"kept"


def test_the_first_to_fail_ends_the_others_and_is_named(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = workspace.submit(
        """
        import os, signal, sys
        if os.environ["AZ_BATCHAI_TASK_INDEX"] == "1":
            sys.exit("the disk is on fire")
        signal.pause()
        """,
        target=cluster, node_count=2,
    )  # fmt: skip
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and "two" in words(run) and "fire" in words(run)
    nothing_left(machines)


def test_the_server_is_killed_and_finds_its_run_again(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = workspace.submit(TRAINS_UNTIL_TOLD, target=cluster, node_count=2)
    for rank in range(2):
        wait_for_line(workspace, run_id, rank, "trained")
    kill(workspace.server_pid())
    tell(machines)
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert len(workspace.values(run_id, "loss")) == 800
    nothing_left(machines)
    capacity = workspace.client.get("/v1/computes/three")["capacity"]
    assert (capacity["idle"], capacity["busy"]) == (3, 0)


class TestLosses:
    @pytest.fixture(autouse=True)
    def impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "1.5")
        monkeypatch.setenv("WINDLASS_NODE_LOST_AFTER_S", "8")
        monkeypatch.setenv("WINDLASS_LEASE_S", "2")

    @pytest.fixture
    def cluster(self, impatient: None, cluster: str) -> str:
        return cluster

    def test_a_machine_dies(self, workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
        run_id = self.start(workspace, cluster)
        machines[1].kill()
        run = workspace.wait(run_id)
        assert run.status is RunStatus.FAILED and run.reason is not None
        assert code(run) == "node_lost" and "two" in words(run), run.reason
        nothing_left(machines)
        assert workspace.read(run_id, "outputs/checkpoint.txt") == b"kept"

    def test_an_agent_is_killed(self, workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
        run_id = self.start(workspace, cluster)
        for process in machines[1].processes():
            if "--elsewhere" in process.cmdline():
                process.kill()
        run = workspace.wait(run_id)
        assert run.status is RunStatus.FAILED and "two" in words(run), run.reason
        until(lambda: all(machine.processes() == [] for machine in machines))
        workspace.wait(workspace.submit("print('next')", target=cluster, node_count=3))
        nothing_left(machines)  # the next agent there cleared away what the killed one had left

    def test_a_keeper_is_killed(self, workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
        run_id = self.start(workspace, cluster)
        ranks = [p for p in machines[1].processes() if "train.py" in " ".join(p.cmdline())]
        ranks[0].parent().kill()
        run = workspace.wait(run_id)
        assert run.status is RunStatus.FAILED and "two" in words(run), run.reason
        nothing_left(machines)

    def test_a_short_cut_is_only_seen(self, workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
        run_id = self.start(workspace, cluster)
        machines[1].cut()
        workspace.wait_for(run_id, lambda run: run.status is RunStatus.NOT_RESPONDING)
        machines[1].heal()
        workspace.wait_for(run_id, lambda run: run.status is RunStatus.RUNNING)
        tell(machines)
        assert workspace.wait(run_id).status is RunStatus.COMPLETED
        assert len(workspace.values(run_id, "loss")) == 800
        nothing_left(machines)

    def test_a_long_cut_fails_the_run_and_what_comes_late_is_kept(
        self, workspace: Workspace, cluster: str, machines: Sequence[Machine]
    ) -> None:
        run_id = self.start(workspace, cluster)
        machines[1].cut()
        tell(machines[1:2])
        run = workspace.wait(run_id)
        assert run.status is RunStatus.FAILED and code(run) == "node_lost", run.reason
        until(lambda: machines[0].processes() == [])
        machines[1].heal()
        until(lambda: "done" in log_of(workspace, run_id, 1))
        until(lambda: len(workspace.values(run_id, "loss")) == 600)
        assert workspace.get(run_id).status is RunStatus.FAILED
        nothing_left(machines)

    def test_another_attempt_is_begun_elsewhere_once_the_first_is_fenced(
        self, workspace: Workspace, cluster: str, machines: Sequence[Machine]
    ) -> None:
        run_id = self.start(workspace, cluster, max_retries=1)
        machines[1].cut()
        run = workspace.wait_for(run_id, lambda run: run.attempt == 2 and run.status is RunStatus.RUNNING)
        assert "two" not in run.nodes
        assert [p for p in machines[1].processes() if "train.py" in " ".join(p.cmdline())] == []
        for rank in range(2):
            wait_for_line(workspace, run_id, rank, "trained")
        tell([machines[0], machines[2]])
        assert workspace.wait(run_id).status is RunStatus.COMPLETED
        machines[1].heal()
        nothing_left(machines)

    def start(self, workspace: Workspace, cluster: str, **spec: Any) -> str:
        """A run on two machines that has come half-way."""
        run_id = workspace.submit(TRAINS_UNTIL_TOLD, target=cluster, node_count=2, **spec)
        for rank in range(2):
            wait_for_line(workspace, run_id, rank, "trained")
        until(lambda: len(workspace.values(run_id, "loss")) == 400)
        return run_id


def words(run: RunRecord) -> str:
    return run.reason.message if run.reason else ""


def code(run: RunRecord) -> str:
    return run.reason.code if run.reason else ""


def tell(machines: Sequence[Machine]) -> None:
    """Let TRAINS_UNTIL_TOLD go on there."""
    for machine in machines:
        for process in machine.processes():
            if process.name().startswith("python") and "train.py" in " ".join(process.cmdline()):
                process.send_signal(signal.SIGUSR1)


def log_of(workspace: Workspace, run_id: str, rank: int) -> str:
    name = f"azureml-logs/70_driver_log_{rank}.txt"
    return workspace.read(run_id, name).decode() if name in workspace.files(run_id) else ""


def wait_for_line(workspace: Workspace, run_id: str, rank: int, text: str) -> None:
    until(lambda: text in log_of(workspace, run_id, rank))


def until(reached: Callable[[], bool]) -> None:
    """Return once it is so; for what nothing tells of."""
    deadline = time.monotonic() + 40
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def nothing_left(machines: Sequence[Machine]) -> None:
    """Return once no process of a run, agent or keeper is on any machine."""
    until(lambda: all(machine.processes() == [] for machine in machines))
    for machine in machines:
        if machine.up:
            left = machine.run("sh", "-c", f"find {machine.home}/nodes -path '*/parts/*' || true")
            assert left == "", left
