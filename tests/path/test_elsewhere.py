"""Runs on nodes that are apart: own homes, TLS, tickets, no folder shared with the server (engine ``apart``)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import end_processes_of
from path.conftest import stop
from windlass.specs.status import RunStatus
from windlassd.testing.apart import lose_place
from windlassd.testing.harness import TRAINS_UNTIL_TOLD, WAIT_S, Workspace, kill


class Apart:
    """A workspace with the cluster ``far`` of three nodes that are apart."""

    def __init__(self, homes: Path) -> None:
        self.homes = homes
        self.workspace = Workspace()
        asked = {"engine": "apart", "max_nodes": 3, "options": {"homes": str(homes)}}
        self.workspace.client.put("/v1/computes/far", asked)

    def submit(self, text: str, *arguments: str) -> str:
        return self.workspace.submit(text, *arguments, target="far")

    def agent(self, run_id: str) -> int:
        """Process of the run's agent."""
        return int((self.homes / "places" / f"{run_id}.1.0" / "agent").read_text())

    def parts(self) -> list[str]:
        """Folders of parts that lie on any node."""
        return [path.name for path in self.homes.glob("far-*/nodes/*/parts/*")]

    def script(self, run_id: str) -> int:
        """Process of the run's script."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                told = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
                words = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if f"AZUREML_RUN_ID={run_id}".encode() in told and b"train.py" in words:
                return int(name)
        raise AssertionError(f"no script of {run_id}")

    def wait_until(self, reached: object) -> None:
        """Return once ``reached()``: what agents do after their end was told."""
        deadline = time.monotonic() + WAIT_S
        while not reached():  # type: ignore[operator]
            assert time.monotonic() < deadline
            time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """False once the process has ended, whether anybody has noticed or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def apart(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Apart]:
    monkeypatch.setenv("WINDLASS_AGENTS_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("WINDLASS_HEARTBEAT_TIMEOUT_S", "2")  # of an agent that is gone, not of one that is slow
    made = Apart(tmp_path / "homes")
    yield made
    stop(made.workspace)
    for place in (made.homes / "places").glob("*"):
        lose_place(str(place))
    for node in made.homes.glob("far-*"):
        end_processes_of(node)


def test_a_run_on_a_node_is_as_one_here_and_nothing_of_it_stays_there(apart: Apart) -> None:
    run_id = apart.submit("""
        import os, sys
        from azureml.core import Run, Workspace
        from windlass import settings
        run = Run.get_context()
        for i in range(100):
            run.log("loss", i)
        open("outputs/model.bin", "wb").write(b"m" * 100_000)
        run.upload_file("outputs/up.py", __file__)
        print(run.get_metrics()["loss"][-1], settings.elsewhere(), settings.home())
        assert Workspace.get("test") == run.experiment.workspace
    """)
    record = apart.workspace.wait(run_id)
    assert (record.status, record.nodes) == (RunStatus.COMPLETED, ("far-0",)), record.reason
    assert apart.workspace.log(run_id) == f"99 True {apart.homes}/far-0\n"
    assert apart.workspace.values(run_id, "loss") == list(range(100))
    assert apart.workspace.read(run_id, "outputs/model.bin") == b"m" * 100_000
    assert b"run.upload_file" in apart.workspace.read(run_id, "outputs/up.py")
    apart.wait_until(lambda: apart.parts() == [])
    apart.wait_until(lambda: sorted(os.listdir(Path(apart.workspace.dir, "runs", run_id))) == ["files"])


def test_children_of_a_script_elsewhere_bring_what_they_logged(apart: Apart) -> None:
    run_id = apart.submit("""
        import os, signal
        from azureml.core import Run
        run = Run.get_context()
        well = run.child_run()
        well.log("x", 1)
        well.log_confusion_matrix("matrix", {
            "schema_type": "confusion_matrix", "schema_version": "1.0.0",
            "data": {"class_labels": ["a", "b"], "matrix": [[1, 2], [3, 4]]},
        })
        well.upload_file("notes.txt", __file__)
        well.complete()
        assert well.get_metrics()["x"] == 1
        if os.fork() == 0:
            killed = run.child_run()
            for i in range(1000):
                killed.log("y", i)
            os.kill(os.getpid(), signal.SIGKILL)
        os.wait()
    """)
    record = apart.workspace.wait(run_id)
    assert record.status is RunStatus.COMPLETED, record.reason
    well, killed = apart.workspace.get(f"{run_id}_0"), apart.workspace.wait(f"{run_id}_1")
    assert well.status is RunStatus.COMPLETED
    kept = apart.workspace.files(well.id)
    assert "notes.txt" in kept
    assert any(name.startswith("matrix") for name in kept)
    assert (killed.status, killed.reason and killed.reason.code) == (RunStatus.FAILED, "client_process_ended")
    assert apart.workspace.values(killed.id, "y") == list(range(1000))


def test_a_killed_server_costs_nothing_and_the_jobs_calls_wait(apart: Apart) -> None:
    run_id = apart.submit("""
        import os, signal
        from azureml.core import Run
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        run = Run.get_context()
        run.log("x", 1)
        print("ready", flush=True)
        signal.sigwait([signal.SIGUSR1])
        run.log("x", 2)
        run.tag("after", "it")
        print(run.get_metrics(), flush=True)
    """)
    workspace = apart.workspace
    workspace.wait_for_text(run_id, "ready")
    script, agent, server = apart.script(run_id), workspace.agent_pid(), workspace.server_pid()
    os.kill(agent, signal.SIGSTOP)  # nobody else starts the next one
    kill(server)
    os.kill(script, signal.SIGUSR1)
    time.sleep(0.2)  # the script is about to call; when exactly is nothing that could be waited for
    os.kill(agent, signal.SIGCONT)
    record = workspace.wait(run_id)
    assert record.status is RunStatus.COMPLETED, record.reason
    assert record.tags == {"after": "it"}
    assert "[1, 2]" in workspace.log(run_id)


def test_a_place_that_is_lost_ends_the_processes_and_keeps_what_there_is(apart: Apart) -> None:
    run_id = apart.submit(TRAINS_UNTIL_TOLD)
    apart.workspace.wait_for_text(run_id, "trained")
    script = apart.script(run_id)
    lose_place(str(apart.homes / "places" / f"{run_id}.1.0"))
    record = apart.workspace.wait(run_id)
    assert record.reason is not None
    assert (record.status, record.reason.code) == (RunStatus.FAILED, "place_lost")
    assert "far-0" in record.reason.message
    assert apart.workspace.values(run_id, "loss") == list(range(200))
    assert apart.workspace.read(run_id, "outputs/checkpoint.txt") == b"kept"
    apart.wait_until(lambda: apart.parts() == [])
    assert not is_alive(script)


def test_what_a_killed_agent_left_goes_with_the_next_one_on_its_node(apart: Apart) -> None:
    run_id = apart.submit(TRAINS_UNTIL_TOLD)
    apart.workspace.wait_for_text(run_id, "trained")
    script = apart.script(run_id)
    kill(apart.agent(run_id))
    apart.wait_until(lambda: not is_alive(script))
    record = apart.workspace.wait(run_id)
    assert record.reason is not None
    assert (record.status, record.reason.code) == (RunStatus.FAILED, "node_lost")
    assert apart.parts() == [f"{run_id}.1.0"]
    again = apart.workspace.wait(apart.submit("print('hello')"))
    assert again.nodes == ("far-0",)
    apart.wait_until(lambda: apart.parts() == [])


def test_a_run_elsewhere_is_canceled_like_any(apart: Apart) -> None:
    run_id = apart.submit(TRAINS_UNTIL_TOLD)
    apart.workspace.wait_for_text(run_id, "trained")
    apart.workspace.client.post(f"/v1/runs/{run_id}/cancel")
    record = apart.workspace.wait(run_id)
    assert record.status is RunStatus.CANCELED
    assert apart.workspace.values(run_id, "loss") == list(range(200))
