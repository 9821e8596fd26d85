"""The server is upgraded under a running agent of the released version: the run, its SDK and the history go on."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import processes_of
from faults.evidence import Witnessed
from faults.fuses import lies_about, wait_until_dead
from windlass.specs.launch import PROTOCOL
from windlassd.store.schema import REVISION
from windlassd.testing.harness import Workspace, kill

RELEASED = "dbaf4d2"
BEFORE_PARTS = "ca0f9e7"
"""The last code whose agents tell no ranks (protocol 3)."""
ROOT = Path(__file__).parents[2]
TRAINS = """
    diary.log(run, 300); diary.say(20); diary.keep(3)
    run.tag("version", "one")
    print("trained", flush=True)
    open(os.environ["GO"]).read()
    diary.log(run, 300); diary.say(20); diary.keep(3)
    assert len(run.get_metrics()["loss"]) == 600
    run.tag("version", "two")
    run.upload_file("outputs/uploaded.txt", "train.py")
    child = run.child_run("part")
    child.log("inner", 7)
    child.complete()
    print("over", flush=True)
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The code of the last release, as it was."""
    return code_of(RELEASED, tmp_path_factory)


def code_of(commit: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()  # fmt: skip
    if shallow == "true":
        pytest.skip(f"UPGRADES ARE NOT TESTED: this clone is shallow and lacks {commit} (git fetch --unshallow)")
    folder = tmp_path_factory.mktemp("released")
    archive = folder / "code.tar"
    subprocess.run(["git", "archive", "-o", str(archive), commit, "src", "sdk/src"], cwd=ROOT, check=True)
    subprocess.run(["tar", "-xf", str(archive), "-C", str(folder)], check=True)
    return folder


def environment(released: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{released}/src:{released}/sdk/src"}


def start_released(released: Path, workspace: Workspace, *, log: Path) -> subprocess.Popen[bytes]:
    """A server of the released code; returned once it accepts calls, or has ended."""
    read, write = os.pipe()
    os.makedirs(workspace.dir, mode=0o700, exist_ok=True)
    with open(log, "ab") as out:
        server = subprocess.Popen(
            [sys.executable, "-m", "windlassd", "serve", "--workspace-dir", workspace.dir, "--ready-fd", str(write)],
            env=environment(released), pass_fds=(write,), stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    os.close(write)
    assert select.select([read], [], [], 60)[0], log.read_text()
    os.close(read)
    return server


@pytest.fixture
def old_server(released: Path, workspace: Workspace, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    server = start_released(released, workspace, log=tmp_path / "old-server.log")
    yield server
    server.kill()
    server.wait()


@pytest.fixture
def go(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "go")
    return tmp_path / "go"


def training(workspace: Workspace, tmp_path: Path, go: Path) -> Witnessed:
    run = Witnessed(workspace, tmp_path, TRAINS, environment_variables={"GO": str(go)}).submit()
    workspace.wait_for_text(run.id, "trained")
    return run


def protocol_of_agent(workspace: Workspace) -> object:
    workspace.agent_pid()
    return workspace.client.get("/v1/server")["agents"][0].get("protocol")


@pytest.mark.faults
def test_a_run_goes_on_under_a_newer_server(
    old_server: subprocess.Popen[bytes], workspace: Workspace, home: Path, tmp_path: Path, go: Path
) -> None:
    run = training(workspace, tmp_path, go)
    old_agent = workspace.agent_pid()
    assert protocol_of_agent(workspace) is None, "this is no released server"
    old_server.kill()
    old_server.wait()
    assert protocol_of_agent(workspace) == 1 and workspace.agent_pid() == old_agent
    meanwhile = Witnessed(workspace, tmp_path, "diary.log(run, 30); diary.say(3); diary.keep(1)").submit()
    meanwhile.check(status="Completed")  # the last version's agent is given runs as long as it is needed
    assert workspace.agent_pid() == old_agent
    go.write_text("")
    record = run.check(status="Completed")
    assert record.tags["version"] == "two" and workspace.log(run.id).endswith("over\n")
    assert "outputs/uploaded.txt" in workspace.files(run.id)
    children = workspace.client.get("/v1/runs", parent=run.id)["runs"]
    assert [child["status"] for child in children] == ["Completed"]
    assert workspace.values(children[0]["id"], "inner") == [7]
    wait_until_dead(old_agent)
    assert protocol_of_agent(workspace) == PROTOCOL
    Witnessed(workspace, tmp_path, "diary.log(run, 30); diary.say(3); diary.keep(1)").submit().check(status="Completed")
    assert lies_about(workspace, home) == []


@pytest.mark.faults
def test_an_agent_that_knows_no_parts_goes_on_and_makes_room_for_a_gang(
    tmp_path_factory: pytest.TempPathFactory, workspace: Workspace, home: Path, tmp_path: Path, go: Path
) -> None:
    released = code_of(BEFORE_PARTS, tmp_path_factory)
    old_server = start_released(released, workspace, log=tmp_path / "old-server.log")
    run = training(workspace, tmp_path, go)
    old_agent = workspace.agent_pid()
    old_server.kill()
    old_server.wait()
    assert protocol_of_agent(workspace) == 3 and workspace.agent_pid() == old_agent
    workspace.client.put("/v1/computes/two", {"name": "two", "max_nodes": 2})
    gang = workspace.submit("print('together')", node_count=2, target="two")
    waits = workspace.wait_for(gang, lambda record: bool(record.reason and record.reason.code == "waits_for_agent"))
    assert waits.reason is not None and "several nodes" in waits.reason.message
    go.write_text("")
    run.check(status="Completed")
    assert workspace.wait(gang).status.value == "Completed"
    assert workspace.read(gang, "azureml-logs/70_driver_log_1.txt") == b"together\n"
    assert protocol_of_agent(workspace) == PROTOCOL and lies_about(workspace, home) == []


@pytest.mark.faults
def test_cancel_reaches_the_older_agent(
    old_server: subprocess.Popen[bytes], workspace: Workspace, tmp_path: Path, go: Path
) -> None:
    run = training(workspace, tmp_path, go)
    old_server.kill()
    old_server.wait()
    workspace.client.post(f"/v1/runs/{run.id}/cancel")
    run.check(status="Canceled", reason="canceled")


@pytest.mark.faults
def test_an_agent_that_is_too_old_brings_its_run_to_the_end(
    old_server: subprocess.Popen[bytes], workspace: Workspace, home: Path, tmp_path: Path, go: Path
) -> None:
    """As if the server were two protocols further."""
    run = training(workspace, tmp_path, go)
    old_agent = workspace.agent_pid()
    accept_only_the_own_protocol(home, tmp_path)
    old_server.kill()
    old_server.wait()
    assert workspace.agent_pid() == old_agent
    note = workspace.client.get("/v1/server")["agents"][0]["note"]
    assert "of an older Windlass" in note and "cancel what it runs" in note
    shown = subprocess.run(
        [sys.executable, "-c", "from windlass.cli import main; main()", "-w", "test", "server", "status"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert note in shown
    waiting = Witnessed(workspace, tmp_path, "diary.log(run, 30); diary.say(3); diary.keep(1)").submit()
    workspace.wait_for(waiting.id, lambda record: bool(record.nodes))
    go.write_text("")
    run.check(status="Completed")
    assert not workspace.get(waiting.id).started, "a refused agent was given a run"
    waiting.check(status="Completed")
    wait_until_dead(old_agent)
    assert protocol_of_agent(workspace) == PROTOCOL


def accept_only_the_own_protocol(home: Path, folder: Path) -> None:
    """For the home's next server."""
    (folder / "strict").mkdir()
    (folder / "strict" / "sitecustomize.py").write_text(
        "from windlass.specs import launch\nlaunch.ACCEPTED_PROTOCOLS = (launch.PROTOCOL,)\n"
    )
    python = folder / "strict" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}/strict" exec "{sys.executable}" "$@"\n')
    python.chmod(0o700)
    (home / "interpreter.json").write_text(json.dumps({"python": str(python)}))


@pytest.mark.faults
def test_agent_and_server_are_upgraded_at_once(
    old_server: subprocess.Popen[bytes], workspace: Workspace, home: Path, tmp_path: Path, go: Path
) -> None:
    """Everything of the old version is killed: the new one finishes what it left."""
    run = training(workspace, tmp_path, go)
    for pid in (old_server.pid, workspace.agent_pid()):
        kill(pid)
    old_server.wait()
    run.check(status="Failed", reason="agent_lost")
    assert protocol_of_agent(workspace) == PROTOCOL
    assert lies_about(workspace, home) == []


@pytest.mark.faults
def test_the_older_server_refuses_the_newer_history_in_words(
    released: Path, workspace: Workspace, home: Path, tmp_path: Path
) -> None:
    if REVISION == "0001":
        pytest.skip("the tables are still those of the release")
    run = Witnessed(workspace, tmp_path, "diary.log(run, 10)").submit()
    run.check(status="Completed")
    kill(workspace.server_pid())
    for process in processes_of(home):
        process.kill()
    log = tmp_path / "old.log"
    server = start_released(released, workspace, log=log)
    assert server.wait(60) != 0
    assert "written by another version of Windlass" in log.read_text() and "Upgrade Windlass" in log.read_text()
    run.check(status="Completed")
