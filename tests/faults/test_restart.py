"""The machine goes down under its runs and comes up again: stale files, emptied folders, and pids that are others' now.

Everything of the home is killed at once; then what a restart changes is changed: the boot in the files that name one is
another than now, the pids in them are a stranger's, sockets and the folders in memory are gone or stale.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of, processes_of
from faults.diary import Diary
from faults.evidence import Witnessed
from faults.fuses import lies_about, wait_for_file, wait_for_one_of_each, wait_until_dead, wait_until_sealed
from windlass._transport.places import socket_path
from windlass.specs.status import RunStatus
from windlassd.blobs.run_folder import RunFolder
from windlassd.testing.harness import Workspace

TRAINS = """
    import signal, subprocess
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    diary.log(run, 300); diary.say(20); diary.keep(4)
    print("trained", flush=True)
    signal.pause()
"""
NOTEBOOK = """
import os, signal, sys
sys.path.insert(0, os.environ["DIARY_FOLDER"])
from diary import Diary
from azureml.core import Experiment, Workspace
run = Experiment(Workspace.get("test"), "notebook").start_logging(snapshot_directory=None)
Diary(os.environ["DIARY"]).log(run, 300)
with open("outputs/model.txt", "w") as f:
    f.write("weights")
print(run.id, flush=True)
signal.pause()
"""


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A live process of somebody else."""
    process = subprocess.Popen(["sleep", "1000"], env={}, cwd=tmp_path)
    yield process
    alive = process.poll() is None
    process.kill()
    process.wait()
    assert alive, "a stranger was killed"


class Notebook:
    """A client process with an interactive run that logs 300 points and writes a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "outputs").mkdir()
        self.diary = Diary.create(str(folder / "diary"))
        places = {"DIARY": self.diary.path, "DIARY_FOLDER": str(Path(__file__).parent)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK], stdout=subprocess.PIPE, cwd=folder, text=True,
            env={**os.environ, **places},
        )  # fmt: skip
        assert self.process.stdout is not None
        self.run_id = self.process.stdout.readline().strip()

    def reap(self) -> None:
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def go_down(home: Path) -> None:
    """Everything ends at once: stopped first, so that nobody sees another's end."""
    processes = processes_of(home)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            process.send_signal(number)
    for process in processes:
        wait_until_dead(process.pid)
    end_processes_of(home)


def come_up(workspace: Workspace, home: Path, pid: int) -> int:
    """Change what a restart changes; how many files named the boot or a pid."""
    changed = 0
    for path in home.rglob("*.json"):
        said = json.loads(path.read_text())
        if isinstance(said, dict) and {"boot", "pid"} & set(said):
            said |= {"boot": "another-boot"} if "boot" in said else {}
            said |= {"pid": pid} if "pid" in said else {}
            path.write_text(json.dumps(said))
            changed += 1
    workspace.client.close()
    return changed


@pytest.mark.faults
@pytest.mark.parametrize("socket_gone", [False, True])
def test_the_machine_restarts_under_its_runs(
    workspace: Workspace, home: Path, tmp_path: Path, stranger: subprocess.Popen[bytes], socket_gone: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "emptied"))
    workspace.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    running = Witnessed(workspace, tmp_path, TRAINS, target="small").submit()
    workspace.wait_for_text(running.id, "trained")
    waiting = Witnessed(workspace, tmp_path, "diary.log(run, 50); diary.say(5); diary.keep(2)", target="small").submit()
    workspace.wait_for(waiting.id, lambda run: run.status is RunStatus.QUEUED)
    notebook = Notebook(tmp_path / "notebook")

    go_down(home)
    notebook.reap()
    assert come_up(workspace, home, stranger.pid) >= 3, "launch.json, owner.json and server.json name boot or pid"
    if socket_gone:
        os.unlink(socket_path(workspace.dir))

    record = running.check(status="Failed", reason="machine_restarted")
    assert record.reason is not None and "was restarted" in record.reason.message
    waiting.check(status="Completed", reason="completed")
    ended = workspace.wait(notebook.run_id)
    assert ended.status is RunStatus.FAILED and ended.reason is not None
    assert ended.reason.code == "client_process_ended"
    assert workspace.values(notebook.run_id, "loss") == list(range(300)) and notebook.diary.done() == 300
    assert workspace.read(notebook.run_id, "outputs/model.txt") == b"weights"
    for run_id in (running.id, waiting.id, notebook.run_id):
        wait_until_sealed(workspace, run_id)
    assert lies_about(workspace, home) == []
    wait_for_one_of_each(workspace, home)


@pytest.mark.faults
def test_a_script_that_had_ended_before_has_ended_well(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    """Its keeper had left word, its agent had not told the server."""
    text = "diary.log(run, 50); diary.say(5); diary.keep(2)\nopen(os.environ['GO']).read()"
    os.mkfifo(tmp_path / "go")
    run = Witnessed(workspace, tmp_path, text, environment_variables={"GO": str(tmp_path / "go")}).submit()
    workspace.wait_for(run.id, lambda record: record.status is RunStatus.RUNNING)
    server, agent = workspace.server_pid(), workspace.agent_pid()
    for pid in (server, agent):
        os.kill(pid, signal.SIGSTOP)
    (tmp_path / "go").write_text("")
    wait_for_file(os.path.join(RunFolder(workspace.dir, run.id).agent, "exit.json"))
    go_down(home)
    come_up(workspace, home, 1)
    run.check(status="Completed", reason="completed")


@pytest.mark.faults
def test_a_stranger_in_the_working_folder_is_left_alone(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    """Such as a user's shell: only processes that carry the run's id are the run's."""
    run = Witnessed(workspace, tmp_path, TRAINS).submit()
    workspace.wait_for_text(run.id, "trained")
    folder = RunFolder(workspace.dir, run.id)
    with subprocess.Popen(["sleep", "1000"], env={}, cwd=folder.work) as shell:
        try:
            go_down(home)
            come_up(workspace, home, shell.pid)
            run.check(status="Failed", reason="machine_restarted")
            wait_until_sealed(workspace, run.id)
            assert shell.poll() is None, "a stranger was killed"
        finally:
            shell.kill()


@pytest.mark.faults
def test_restarted_again_and_again_while_it_comes_up(workspace: Workspace, home: Path, tmp_path: Path) -> None:
    runs = [Witnessed(workspace, tmp_path, TRAINS).submit() for _ in range(2)]
    for run in runs:
        workspace.wait_for_text(run.id, "trained")
    for _ in range(3):
        go_down(home)
        come_up(workspace, home, 1)
        workspace.client.get("/v1/server")  # it is up, and its agent on the way: down again
    for run in runs:
        run.check(status="Failed", reason="machine_restarted")
        wait_until_sealed(workspace, run.id)
    assert lies_about(workspace, home) == []
