"""Runs of several nodes on this machine: each node runs the script, and together they are one run."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

import pytest

from windlass.specs.run import RunRecord
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill

TRAINS = """
    import os, signal, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    from azureml.core import Run
    run = Run.get_context()
    rank = int(os.environ["AZ_BATCHAI_TASK_INDEX"])
    print("rank", rank, "of", len(os.environ["AZ_BATCH_HOST_LIST"].split(",")), "in", os.getcwd())
    for step in range(100):
        run.log("loss_%d" % rank, step)
    os.makedirs("outputs/own")
    open("outputs/model.txt", "w").write("model %d" % rank)
    open("outputs/own/%d.txt" % rank, "w").write("own %d" % rank)
    print("trained", flush=True)
    signal.sigwait([signal.SIGUSR1])
    if sys.argv[1:] == [str(rank)]:
        sys.exit(7)
    print("done", flush=True)
"""


@pytest.fixture
def cluster(workspace: Workspace) -> str:
    """A target of three nodes."""
    workspace.client.put("/v1/computes/three", {"name": "three", "max_nodes": 3})
    return "three"


def log_of(rank: int) -> str:
    return f"azureml-logs/70_driver_log_{rank}.txt"


def submit(workspace: Workspace, cluster: str, *arguments: str, nodes: int = 3, text: str = TRAINS) -> str:
    return workspace.submit(text, *arguments, target=cluster, node_count=nodes)


def trained(workspace: Workspace, run_id: str, nodes: int = 3) -> RunRecord:
    """The record once each node has trained."""
    seen: dict[str, str] = {}
    for event in workspace.client.events(f"/v1/runs/{run_id}/stream", logs=1):
        if event.name == "log":
            seen[event.data["file"]] = seen.get(event.data["file"], "") + event.data["text"]
            if sum("trained\n" in text for text in seen.values()) == nodes:
                return workspace.get(run_id)
        assert event.name != "end", seen
    raise AssertionError("the stream ended")


def script_of(run_id: str, rank: int) -> int:
    """The script's process on that node."""
    (found,) = [pid for pid in processes_of(run_id) if variable(pid, "AZ_BATCHAI_TASK_INDEX") == str(rank)]
    return found


def variable(pid: int, name: str) -> str | None:
    with open(f"/proc/{pid}/environ", "rb") as f:
        found = dict(entry.partition(b"=")[::2] for entry in f.read().split(b"\0"))
    return found[name.encode()].decode() if name.encode() in found else None


def go_on(run_id: str, ranks: Sequence[int] = (0, 1, 2)) -> None:
    for rank in ranks:
        os.kill(script_of(run_id, rank), signal.SIGUSR1)


def parts_of(run: RunRecord) -> list[tuple[str, str]]:
    return [(str(part["node"]), str(part["status"])) for part in run.parts]


def assert_clean(workspace: Workspace, run_id: str, cluster: str) -> None:
    """No process is left, no node is held, and the folder has the kept files alone."""
    assert processes_of(run_id) == []
    assert workspace.client.get(f"/v1/computes/{cluster}")["capacity"]["busy"] == 0
    folder, deadline = os.path.join(workspace.dir, "runs", run_id), time.monotonic() + 30
    while os.listdir(folder) != ["files"]:  # the agent clears up once it knows that the end is recorded
        assert time.monotonic() < deadline, os.listdir(folder)
        time.sleep(0.01)


def test_outputs_logs_and_metrics_of_all_nodes_are_one_runs(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster)
    run = trained(workspace, run_id)
    assert run.status is RunStatus.RUNNING and list(run.nodes) == ["three-0", "three-1", "three-2"]
    assert parts_of(run) == [(f"three-{rank}", "running") for rank in range(3)]
    logs = ["azureml-logs/20_image_build_log.txt", *(log_of(rank) for rank in range(3))]
    outputs = [
        "outputs/model.txt", *(f"outputs/own/{rank}.txt" for rank in range(3)),
        *(f"outputs/three-{rank}/model.txt" for rank in (1, 2)),
    ]  # fmt: skip
    assert workspace.files(run_id) == [*logs, *outputs], "while it goes they are shown as they will be"
    go_on(run_id)
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert parts_of(run) == [(f"three-{rank}", "ended") for rank in range(3)]
    assert workspace.files(run_id) == [*logs, *outputs]
    for rank in range(3):
        lines = workspace.read(run_id, log_of(rank)).decode().splitlines()
        assert lines[0].startswith(f"rank {rank} of 3 in ") and lines[1:] == ["trained", "done"]
        place = "" if rank == 0 else f"three-{rank}/"
        assert workspace.read(run_id, f"outputs/{place}model.txt") == f"model {rank}".encode()
        assert workspace.values(run_id, f"loss_{rank}") == list(range(100))
    assert_clean(workspace, run_id, cluster)
    assert workspace.files(run_id) == [*logs, *outputs]


def test_the_first_to_fail_ends_the_others_and_has_the_word(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster, "1")
    trained(workspace, run_id)
    go_on(run_id, [1])
    run = workspace.wait(run_id)
    assert (run.status, run.exit_code) == (RunStatus.FAILED, 7) and run.reason is not None
    assert run.reason.code == "exit_code" and run.reason.message.startswith("Rank 1 on three-1 exited with code 7.")
    assert [part["outcome"]["reason_code"] for part in run.parts] == ["part_failed", "exit_code", "part_failed"]
    assert "because rank 1 on three-1 had failed" in run.parts[0]["outcome"]["message"]
    assert workspace.read(run_id, "outputs/model.txt") == b"model 0", "what the others wrote is kept"
    assert_clean(workspace, run_id, cluster)


def test_cancel_ends_all(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster)
    trained(workspace, run_id)
    workspace.client.post(f"/v1/runs/{run_id}/cancel")
    run = workspace.wait(run_id)
    assert run.status is RunStatus.CANCELED and run.reason is not None and run.reason.code == "canceled"
    assert len(workspace.values(run_id, "loss_2")) == 100
    assert_clean(workspace, run_id, cluster)


def test_it_waits_until_all_its_nodes_are_free(workspace: Workspace, cluster: str) -> None:
    first = submit(workspace, cluster, nodes=2)
    trained(workspace, first, nodes=2)
    second = submit(workspace, cluster, nodes=2)
    waits = workspace.wait_for(second, lambda run: run.status is RunStatus.QUEUED)
    assert waits.nodes == () and waits.parts == ()
    go_on(first, [0])
    assert workspace.get(first).status is RunStatus.RUNNING, "one of its nodes still runs"
    go_on(first, [1])
    assert workspace.wait(first).status is RunStatus.COMPLETED
    trained(workspace, second, nodes=2)
    go_on(second, [0, 1])
    assert workspace.wait(second).status is RunStatus.COMPLETED


def test_the_server_is_killed(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster)
    trained(workspace, run_id)
    kill(workspace.server_pid())
    go_on(run_id, [1])
    workspace.wait_for(run_id, lambda run: parts_of(run)[1][1] == "ended")
    kill(workspace.server_pid())
    assert parts_of(workspace.get(run_id)) == [("three-0", "running"), ("three-1", "ended"), ("three-2", "running")]
    workspace.agent_pid()
    go_on(run_id, [0, 2])
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    for rank in range(3):
        assert workspace.values(run_id, f"loss_{rank}") == list(range(100))
        assert workspace.read(run_id, log_of(rank)).count(b"done") == 1
    assert_clean(workspace, run_id, cluster)


def test_the_server_is_killed_between_a_failure_and_the_end_of_the_others(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster, "1")
    trained(workspace, run_id)
    kill(workspace.server_pid())
    go_on(run_id, [1])
    run = workspace.wait(run_id)
    assert run.exit_code == 7 and run.reason is not None and run.reason.message.startswith("Rank 1 on three-1")
    assert_clean(workspace, run_id, cluster)


@pytest.mark.parametrize("what", ["script", "keeper"])
def test_one_part_is_killed(workspace: Workspace, cluster: str, what: str) -> None:
    run_id = submit(workspace, cluster)
    trained(workspace, run_id)
    script = script_of(run_id, 2)
    kill(script if what == "script" else parent_of(script))
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None and "three-2" in run.reason.message
    assert run.reason.code == {"script": "signal", "keeper": "keeper_lost"}[what]
    assert "ank 2 on three-2" in run.reason.message
    assert [part["outcome"]["reason_code"] for part in run.parts[:2]] == ["part_failed"] * 2
    assert workspace.read(run_id, "outputs/three-2/model.txt") == b"model 2"
    assert_clean(workspace, run_id, cluster)


def test_the_agent_is_killed(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster)
    trained(workspace, run_id)
    kill(workspace.agent_pid())
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and run.reason is not None and run.reason.code == "agent_lost"
    assert [len(workspace.values(run_id, f"loss_{rank}")) for rank in range(3)] == [100] * 3
    assert workspace.read(run_id, "outputs/three-1/model.txt") == b"model 1"
    assert_clean(workspace, run_id, cluster)
    after = submit(workspace, cluster, nodes=2)
    trained(workspace, after, nodes=2)
    go_on(after, [0, 1])
    assert workspace.wait(after).status is RunStatus.COMPLETED


def parent_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat") as f:
        return int(f.read().rpartition(")")[2].split()[1])


def test_all_fail_at_once(workspace: Workspace, cluster: str) -> None:
    run_id = submit(workspace, cluster, text="raise SystemExit(3)")
    run = workspace.wait(run_id)
    assert (run.status, run.exit_code) == (RunStatus.FAILED, 3)
    assert run.reason is not None and run.reason.message.startswith("Rank ")
    assert_clean(workspace, run_id, cluster)
