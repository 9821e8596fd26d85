"""The server is away for a minute and for an hour while jobs run, log and end: the record has it all afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.evidence import Witnessed, left_over
from faults.hour import FastClock, Gate, HeldRun, appears, gone, stopped
from windlass._transport.places import socket_path
from windlass.specs.status import RunStatus
from windlassd.agent.leftovers import processes_of
from windlassd.testing.harness import Workspace, kill

HOUR = 3600.0

LOGS_AND_ENDS_WHEN_TOLD = """
import time
diary.log(run, 100); diary.say(20); diary.keep(1)
print("ready", flush=True)
open(os.environ["TOLD"]).read()
diary.log(run, 500); diary.say(50); diary.keep(3)
with open(os.environ["TOLD"] + ".ended", "w") as f:
    f.write(repr(time.time()))
sys.exit(int(os.environ["CODE"]))
"""
LEARNS_FROM_THE_SERVER = """
diary.log(run, 100)
print("ready", flush=True)
open(os.environ["TOLD"]).read()
diary.log(run, 100)
run.tag("stage", "late")
run.upload_file("outputs/report.txt", "train.py")
assert run.get_metrics("loss")["loss"] == list(range(200))
run.complete()
"""
NOTEBOOK = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from diary import Diary
from azureml.core import Experiment, Workspace
diary = Diary(sys.argv[1])
run = Experiment(Workspace.get("test"), "faults").start_logging(snapshot_directory=None)
diary.log(run, 100)
run.flush()
print(run.id, flush=True)
sys.stdin.readline()
diary.log(run, 500); diary.keep(3)
print(repr(time.time()), flush=True)
run.complete()
print("over", flush=True)
sys.stdin.readline()
"""
WAITS = """
import sys
from azureml.core import Run, Workspace
run = Run.get(Workspace.get("test"), sys.argv[1])
details = run.wait_for_completion(show_output=True)
print("it was", details["status"])
"""


@pytest.fixture
def gate(home: Path, tmp_path: Path) -> Gate:
    return Gate(home, tmp_path)


class Job(Witnessed):
    """A job that waits in the middle until it is told to go on."""

    def __init__(self, workspace: Workspace, folder: Path, text: str, code: int = 0) -> None:
        super().__init__(workspace, folder, text)
        self.told = str(folder / f"{self.request_id}.told")
        os.mkfifo(self.told)
        self._spec["environment_variables"] = {"TOLD": self.told, "CODE": str(code)}

    def go_on(self) -> None:
        """Let it go on; returns at once."""
        with open(self.told, "w") as told:
            told.write("go on")

    def ended(self) -> float:
        """When the script ended, by its own clock."""
        return float(Path(self.told + ".ended").read_text())


def begun(workspace: Workspace, folder: Path, text: str, code: int = 0) -> Job:
    job = Job(workspace, folder, text, code)
    job.submit()
    workspace.wait_for_text(job.id, "ready")
    return job


def back(workspace: Workspace, gate: Gate) -> None:
    """Open the gate and wait until a server is there, without calling it: the agent must bring it."""
    gate.open()
    appears(socket_path(workspace.dir))


@pytest.mark.parametrize(
    "away_s", [60.0, pytest.param(HOUR, marks=pytest.mark.faults)], ids=["a minute", "an hour"]
)  # fmt: skip
def test_a_job_that_ends_while_the_server_is_away(
    workspace: Workspace, tmp_path: Path, home: Path, clock: FastClock, gate: Gate, away_s: float
) -> None:
    job = begun(workspace, tmp_path, LOGS_AND_ENDS_WHEN_TOLD)
    gate.shut()
    kill(workspace.server_pid())
    script = processes_of(job.id)
    job.go_on()
    gone(*script)
    clock.pass_by(away_s)
    assert gate.tries() > (30 if away_s == HOUR else 0), "nobody tried to start a server"
    back(workspace, gate)
    record = job.check(status="Completed", reason="completed")
    assert record.ended == pytest.approx(job.ended(), abs=10)
    assert clock.time() - record.ended > 0.8 * away_s
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
@pytest.mark.parametrize("word", ["windlassd: The disk is full.", "No module named windlassd"])
def test_an_hour_in_which_jobs_fail_and_wait_and_others_stay_in_line(
    workspace: Workspace, tmp_path: Path, home: Path, clock: FastClock, gate: Gate, word: str
) -> None:
    """Whatever keeps the server from starting, and whoever is waiting for it."""
    workspace.client.put("/v1/computes/small", {"name": "small", "max_nodes": 1})
    failing = begun(workspace, tmp_path, LOGS_AND_ENDS_WHEN_TOLD, code=3)
    asking = begun(workspace, tmp_path, LEARNS_FROM_THE_SERVER)
    waiting = Job(workspace, tmp_path, "diary.log(run, 10)")
    holding = Job(workspace, tmp_path, LOGS_AND_ENDS_WHEN_TOLD)
    holding._spec["target"] = waiting._spec["target"] = "small"
    holding.submit()
    workspace.wait_for_text(holding.id, "ready")
    waiting.submit()
    workspace.wait_for(waiting.id, lambda run: run.status is RunStatus.QUEUED)
    gate.shut(word)
    kill(workspace.server_pid())
    scripts = [*processes_of(failing.id), *processes_of(holding.id)]
    for job in (failing, asking, holding):
        job.go_on()
    gone(*scripts)
    clock.pass_by(HOUR)
    assert processes_of(asking.id), "a job must wait for the server, not fail"
    back(workspace, gate)
    record = failing.check(status="Failed", reason="exit_code")
    assert record.exit_code == 3 and record.ended == pytest.approx(failing.ended(), abs=10)
    asking.check(status="Completed")
    assert workspace.get(asking.id).tags == {"stage": "late"}
    assert "outputs/report.txt" in workspace.files(asking.id)
    assert "waits for the server" in workspace.log(asking.id)
    assert holding.check(status="Completed").ended == pytest.approx(holding.ended(), abs=10)
    waiting.check(status="Completed")
    stopped(workspace)
    assert not left_over(home)


class Notebook:
    """A client's process that holds an interactive run and ends it when told."""

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.witness = HeldRun(workspace, folder, "")
        self.process = subprocess.Popen(
            [sys.executable, "-c", NOTEBOOK, self.witness.diary.path, os.path.dirname(__file__)], text=True, cwd=folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.witness.id = self.says()

    def says(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Let it end; what it wrote to stderr."""
        said = self.process.communicate("go on\n", timeout=60)[1]
        assert self.process.returncode == 0, said
        return said


@pytest.fixture
def notebook(workspace: Workspace, tmp_path: Path, clock: FastClock, gate: Gate) -> Iterator[Notebook]:
    workspace.client.get("/v1/server")
    (tmp_path / "notebook").mkdir()
    made = Notebook(workspace, tmp_path / "notebook")
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.mark.faults
@pytest.mark.parametrize("lives_on", [True, False], ids=["a kernel that lives on", "a process that ends"])
def test_an_interactive_run_that_is_completed_while_the_server_is_away(
    workspace: Workspace, home: Path, clock: FastClock, gate: Gate, notebook: Notebook, lives_on: bool
) -> None:
    gate.shut()
    server = workspace.server_pid()
    kill(server)
    clock.go(600)
    notebook.go_on()
    ended = float(notebook.says())
    assert notebook.says() == "over", "complete() must come back without a server"
    clock.go(1)
    if not lives_on:
        assert "waits" not in notebook.end()
    clock.pass_by(HOUR)
    gate.open()
    run = notebook.witness
    record = run.check(status="Completed", reason="completed")
    assert record.ended == pytest.approx(ended, abs=60) and clock.time() - record.ended > 0.9 * HOUR
    if lives_on:
        assert "is over as Completed all the same" in notebook.end()
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
def test_a_run_that_goes_on_through_an_outage_and_ends_later(
    workspace: Workspace, home: Path, clock: FastClock, gate: Gate, notebook: Notebook
) -> None:
    gate.shut()
    kill(workspace.server_pid())
    clock.pass_by(HOUR)
    gate.open()
    notebook.go_on()
    ended = float(notebook.says())
    record = notebook.witness.check(status="Completed", reason="completed")
    assert record.ended == pytest.approx(ended, abs=30)
    said = notebook.end().splitlines()
    assert not [line for line in said if not line.startswith("windlass: waiting for the server of")], said
    assert [entry["status"] for entry in record.history].count("NotResponding") == 0
    stopped(workspace)
    assert not left_over(home)


@pytest.mark.faults
def test_who_waits_for_a_run_goes_on_waiting_and_says_so(
    workspace: Workspace, tmp_path: Path, clock: FastClock, gate: Gate
) -> None:
    job = begun(workspace, tmp_path, LOGS_AND_ENDS_WHEN_TOLD)
    waiting = subprocess.Popen(
        [sys.executable, "-u", "-c", WAITS, job.id], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stdout is not None and waiting.stderr is not None
    while "ready" not in waiting.stdout.readline():
        pass
    gate.shut()
    kill(workspace.server_pid())
    clock.go(600)
    said = waiting.stderr.readline()
    assert "The disk is full" in said and job.id in said and "Ctrl-C ends the waiting" in said
    while "min by now" not in (said := waiting.stderr.readline()):
        assert "another process is starting" in said  # under a clock this fast the agent's own try counts as long
    job.go_on()
    clock.pass_by(HOUR)
    gate.open()
    out, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and out.rstrip().endswith("it was Completed") and "the server is back" in said
    assert out.count("line 000000049") == 1 and out.count("line 000000020") == 1
    job.check(status="Completed")


@pytest.mark.faults
def test_an_agent_without_runs_gives_up_and_the_next_run_gets_another(
    workspace: Workspace, tmp_path: Path, clock: FastClock, gate: Gate
) -> None:
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")
    agent = workspace.agent_pid()
    gate.shut()
    kill(workspace.server_pid())
    clock.go(600)
    gone(agent)
    clock.go(1)
    gate.open()
    Witnessed(workspace, tmp_path, "diary.log(run, 3)").submit().check(status="Completed")
