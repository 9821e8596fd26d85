"""Whole runs on Ray: server, listener, real agents on the machines, and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from windlass.specs.status import RunStatus
from windlassd.testing.harness import Workspace
from windlassd.testing.ray_bed import TOKEN, RayBed, command, until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]
SHORT = int(os.environ.get("RAY_SHORT_JOBS", "24"))
"""Runs in a row; more by hand."""
_SCRIPT = """
    import os, socket
    from azureml.core import Run
    run = Run.get_context()
    rank = int(os.environ["AZ_BATCHAI_TASK_INDEX"])
    run.log("rank", rank)
    open(f"outputs/{rank}.txt", "w").write(socket.gethostname())
    print("on", socket.gethostname(), "gpus", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
"""


def test_a_run_of_two_nodes(workspace: Workspace, bed: RayBed) -> None:
    run_id = workspace.submit(_SCRIPT, target="lab", node_count=2)
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert len(set(run.nodes)) == 2
    said = {workspace.read(run_id, f"outputs/{rank}.txt").decode() for rank in (0, 1)}
    assert said == set(run.nodes)
    assert sorted(workspace.values(run_id, "rank")) == [0, 1]
    until(lambda: not bed.left(), lambda: f"something was left: {bed.left()}")


def test_the_token_is_kept_in_a_protected_file_only(workspace: Workspace) -> None:
    path = Path(workspace.dir, "server", "secrets", "lab")
    assert path.read_text() == TOKEN and path.stat().st_mode & 0o777 == 0o600
    assert TOKEN not in str(workspace.client.get("/v1/computes/lab"))
    for file in Path(workspace.dir, "server").rglob("*"):
        if file.is_file() and file != path:
            assert TOKEN.encode() not in file.read_bytes()


_WAITS = """
    import os, socket, sys, time
    print("on", socket.gethostname(), "has", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    while not os.path.exists("/tmp/go-" + sys.argv[1]):
        time.sleep(0.05)
"""


def test_a_cluster_on_the_machines_of_an_attached_one(workspace: Workspace, bed: RayBed) -> None:
    """As ``default_engine`` makes them: six nodes with a GPU each, on three machines."""
    workspace.client.put("/v1/computes/pool", {"max_nodes": 6, "node_resources": {"CPU": 1, "GPU": 1}})
    assert workspace.client.get("/v1/computes/pool")["spec"]["engine"] == "ray"
    holders = [workspace.submit(_WAITS, f"h{n}", target="pool") for n in range(6)]
    has = {workspace.wait_for_text(run_id, "has").strip() for run_id in holders}
    assert has == {f"on {machine.name} has {gpu}" for machine in bed.workers for gpu in (0, 1)}

    gang = workspace.submit("print('gang')", target="pool", node_count=3)
    small = workspace.submit("print('small')", target="pool")
    urgent = workspace.submit("print('urgent')", target="pool", priority=5)
    workspace.wait_for(urgent, lambda run: run.status is RunStatus.QUEUED)
    go(bed, "h0")
    assert workspace.wait(urgent).status is RunStatus.COMPLETED
    assert [workspace.get(run_id).status for run_id in (gang, small)] == [RunStatus.QUEUED] * 2
    go(bed, "h1")
    assert workspace.wait(holders[1]).status is RunStatus.COMPLETED
    until(lambda: idle(workspace) > 0, lambda: "the node of a run that has ended is not free")
    assert [workspace.get(run_id).status for run_id in (gang, small)] == [RunStatus.QUEUED] * 2  # nobody passes it
    for number in range(2, 6):
        go(bed, f"h{number}")
    ended = [workspace.wait(run_id) for run_id in (*holders, gang, small)]
    assert [run.status for run in ended] == [RunStatus.COMPLETED] * 8

    short = [workspace.submit(f"print({n})", target="pool") for n in range(SHORT)]
    assert [workspace.wait(run_id).status for run_id in short] == [RunStatus.COMPLETED] * SHORT
    assert [workspace.log(run_id).strip() for run_id in short] == [str(n) for n in range(SHORT)]
    until(lambda: not bed.left(), lambda: f"something was left: {bed.left()}")
    left = [p for machine in bed.workers for p in machine.processes() if "windlassd.agent" in command(p)]
    assert left == []
    assert idle(workspace) == 6


def go(bed: RayBed, name: str) -> None:
    """Let the scripts that wait for it end."""
    for machine in bed.workers:
        machine.path(f"/tmp/go-{name}").touch()


def idle(workspace: Workspace) -> int:
    """How many nodes of the cluster are free."""
    return int(workspace.client.get("/v1/computes/pool")["capacity"]["idle"])
