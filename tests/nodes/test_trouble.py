"""What users and clusters do wrong, on machines that are really apart: told in words, and nothing is left anywhere.

The rest of that list: ``test_runs.py`` (killed machines, agents and keepers, cuts), ``test_data.py`` (no disk),
``tests/path/test_elsewhere_environments.py`` (no environment), ``tests/server/agents/test_guard.py`` (tokens).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodes import test_runs
from nodes.test_runs import code, nothing_left, tell, until, wait_for_line, words
from windlass.errors import ComputeTargetException
from windlass.specs.status import RunStatus
from windlassd.testing.harness import TRAINS_UNTIL_TOLD, Workspace, kill
from windlassd.testing.netns import Machine, Network

pytestmark = pytest.mark.nodes
OF_ANOTHER_VERSION = """
import sys
from windlass.specs import launch
launch.PROTOCOL = {protocol}
from windlassd.agent import elsewhere
sys.exit(elsewhere.main())
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("HEARTBEAT_TIMEOUT_S", "1.5"), ("NODE_LOST_AFTER_S", "6"), ("LEASE_S", "2")):
        monkeypatch.setenv(f"WINDLASS_{name}", value)


def freed(workspace: Workspace, machines: Sequence[Machine]) -> None:
    """Return once nothing is on any machine, and no node and no token is held."""
    nothing_left(machines)
    tokens = Path(workspace.dir, "server", "agents.json")
    until(lambda: not [e for e in json.loads(tokens.read_text()).values() if e["jobs"]])
    until(lambda: workspace.client.get("/v1/computes/three")["capacity"]["busy"] == 0)


def test_a_run_larger_than_the_cluster_is_refused(workspace: Workspace, cluster: str) -> None:
    with pytest.raises(ComputeTargetException, match="node_count is 4, but 'three' has at most 3 nodes"):
        workspace.submit("print()", target=cluster, node_count=4)


def test_a_full_cluster_is_waited_for_in_words(workspace: Workspace, cluster: str, machines: Sequence[Machine]) -> None:
    first = workspace.submit(TRAINS_UNTIL_TOLD, target=cluster, node_count=2)
    wait_for_line(workspace, first, 1, "trained")
    second = workspace.submit("print('mine')", target=cluster, node_count=2)
    run = workspace.wait_for(second, lambda run: "1st in line" in words(run))
    assert "waits for 2 nodes, 1 free" in words(run)
    tell(machines)
    assert workspace.wait(second).status is RunStatus.COMPLETED
    freed(workspace, machines)


def test_machines_that_are_all_down_are_waited_for_and_the_wait_can_be_ended(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    for machine in machines:
        machine.kill()
    run_id, other = (workspace.submit("print('up')", target=cluster) for _ in range(2))
    run = workspace.wait_for(run_id, lambda run: "in line" in words(run))
    assert "0 free" in words(run), run.reason
    workspace.client.post(f"/v1/runs/{other}/cancel")
    assert workspace.wait(other).status is RunStatus.CANCELED
    machines[1].restart()
    assert workspace.wait(run_id).status is RunStatus.COMPLETED
    freed(workspace, machines)


def test_machines_that_cannot_be_reached_fail_the_run_within_the_time_out(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    for machine in machines:
        machine.cut()
    run = workspace.wait(workspace.submit("print('never')", target=cluster, node_count=3))
    assert run.status is RunStatus.FAILED and code(run) == "node_lost", run.reason
    assert "one" in words(run) and "reaches this one" in words(run)
    for machine in machines:
        machine.heal()
    freed(workspace, machines)
    assert workspace.wait(workspace.submit("print()", target=cluster, node_count=3)).status is RunStatus.COMPLETED


@pytest.mark.parametrize("retries", [0, 1])
def test_a_cluster_that_is_gone_for_good(
    workspace: Workspace, cluster: str, machines: Sequence[Machine], retries: int
) -> None:
    run_id = test_runs.TestLosses().start(workspace, cluster, max_retries=retries)
    for machine in machines:
        machine.kill()
    if retries:  # the next attempt is in line; that can be seen, and ended
        run = workspace.wait_for(run_id, lambda run: run.attempt == 2 and "0 free" in words(run))
        workspace.client.post(f"/v1/runs/{run_id}/cancel")
        assert workspace.wait(run_id).status is RunStatus.CANCELED
    else:
        run = workspace.wait(run_id)
        assert run.status is RunStatus.FAILED and code(run) == "node_lost" and "is gone" in words(run), run.reason
    assert len(workspace.values(run_id, "loss")) == 400
    for machine in machines:
        machine.restart()
    workspace.wait(workspace.submit("print('next')", target=cluster, node_count=3))
    freed(workspace, machines)


def test_a_short_cut_does_not_begin_a_run_anew(
    workspace: Workspace, cluster: str, machines: Sequence[Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDLASS_LEASE_S", "30")
    run_id = test_runs.TestLosses().start(workspace, cluster, max_retries=1)
    machines[1].cut()
    workspace.wait_for(run_id, lambda run: run.status is RunStatus.NOT_RESPONDING)
    machines[1].heal()
    workspace.wait_for(run_id, lambda run: run.status is RunStatus.RUNNING)
    tell(machines)
    run = workspace.wait(run_id)
    assert (run.status, run.attempt, len(workspace.values(run_id, "loss"))) == (RunStatus.COMPLETED, 1, 800)
    freed(workspace, machines)


def test_a_gang_that_loses_a_machine_while_it_starts_frees_the_others(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = workspace.submit("import signal; signal.pause()", target=cluster, node_count=3)
    workspace.wait_for(run_id, lambda run: bool(run.nodes))
    machines[2].kill()
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and "three" in words(run), run.reason
    nothing_left(machines)
    assert workspace.wait(workspace.submit("print()", target=cluster, node_count=2)).status is RunStatus.COMPLETED
    freed(workspace, machines)


def test_a_machine_with_a_full_disk_is_named(workspace: Workspace, network: Network) -> None:
    (machine,) = network.start("full", disk_bytes=1 << 20)
    machine.run("sh", "-c", "cat /dev/zero > /tmp/ballast || true")
    options = {"machines": str(network.control)}
    workspace.client.put("/v1/computes/full", {"name": "full", "engine": "netns", "options": options})
    run = workspace.wait(workspace.submit("print()", target="full"))
    assert run.status is RunStatus.FAILED
    assert code(run) == "node_unusable" and "full" in words(run) and "No space left" in words(run), run.reason
    until(lambda: machine.processes() == [])


@pytest.mark.parametrize(("protocol", "age"), [(0, "an older"), (99, "a newer")])
def test_an_agent_of_an_unknown_version_is_named_and_holds_nothing(
    workspace: Workspace, cluster: str, network: Network, machines: Sequence[Machine], protocol: int, age: str
) -> None:
    agent = [sys.executable, "-c", OF_ANOTHER_VERSION.format(protocol=protocol)]
    options = {"machines": str(network.control), "agent": agent}
    workspace.client.put("/v1/computes/three", {"name": "three", "engine": "netns", "max_nodes": 3, "options": options})
    run = workspace.wait(workspace.submit("print('never')", target=cluster, node_count=2))
    assert (
        run.status is RunStatus.FAILED
        and f"is of {age} version" in words(run)
        and ("on one" in words(run) or "on two" in words(run))
    )
    freed(workspace, machines)


def test_agents_whose_tokens_are_good_no_more_end_and_leave_nothing(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = test_runs.TestLosses().start(workspace, cluster)
    kill(workspace.server_pid())
    Path(workspace.dir, "server", "agents.json").unlink()
    run = workspace.wait(run_id)
    assert run.status is RunStatus.FAILED and code(run) == "node_lost", run.reason
    until(lambda: all(machine.processes() == [] for machine in machines))
    workspace.wait(workspace.submit("print('next')", target=cluster, node_count=3))
    freed(workspace, machines)


def test_nothing_leads_outside_from_a_machine(
    workspace: Workspace, cluster: str, machines: Sequence[Machine], home: Path
) -> None:
    machines[0].run("sh", "-c", "echo secret > /tmp/secret")
    run_id = workspace.submit(
        """
        import os
        from azureml.core import Run
        run = Run.get_context()
        os.symlink("/tmp/secret", "outputs/secret")
        os.symlink("/tmp", "outputs/folder")
        os.symlink("../../../../../../secret", "outputs/up")
        os.rename("logs", "put-away")
        os.symlink("/tmp", "logs")
        open("outputs/..\\\\..\\\\x", "w").write("odd")
        for name in ("../../../../escaped", "/escaped", "azureml-logs/../../escaped", "azureml-logs/forged"):
            try:
                run.upload_file(name, __file__)
            except Exception as problem:
                print("refused:", name)
        """,
        target=cluster,
    )
    run = workspace.wait(run_id)
    assert run.status is RunStatus.COMPLETED, run.reason
    assert workspace.log(run_id).count("refused:") == 4, workspace.log(run_id)
    assert all("out of the folder" in words(run) or "is a link" in words(run) for _ in (1,)), words(run)
    kept = [path for path in Path(workspace.dir).rglob("*") if path.is_symlink() or "escaped" in path.name]
    assert kept == []
    assert not [f for f in workspace.files(run_id) if workspace.read(run_id, f) == b"secret\n"]
    freed(workspace, machines)


def test_after_a_run_the_doctor_has_nothing_to_say(
    workspace: Workspace, cluster: str, machines: Sequence[Machine]
) -> None:
    run_id = test_runs.TestLosses().start(workspace, cluster, max_retries=1)
    machines[1].kill()
    workspace.wait_for(run_id, lambda run: run.attempt == 2 and run.status is RunStatus.RUNNING)
    for rank in range(2):
        wait_for_line(workspace, run_id, rank, "trained")
    tell([machines[0], machines[2]])
    assert workspace.wait(run_id).status is RunStatus.COMPLETED
    folder = Path(workspace.dir, "runs", run_id)
    until(lambda: sorted(path.name for path in folder.iterdir()) == ["attempts", "files"])
    promised = {file["path"]: file["size"] for file in workspace.client.get(f"/v1/runs/{run_id}/files")["files"]}
    assert {name: len(workspace.read(run_id, name)) for name in promised} == promised
